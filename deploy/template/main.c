/*
 * @NAME@ -- counts the events of each key.  Replace this by what it is for.
 */
#include "migrations.h"
#include "service/service.h"

static const char sql_count[] =
    "INSERT INTO @IDENT@_counts (key) VALUES (?1)"
    " ON CONFLICT (key) DO UPDATE SET events = events + 1";
static const char sql_events[] = "SELECT sum(events) FROM @IDENT@_counts";
static const char sql_list[] = "SELECT key, events FROM @IDENT@_counts"
			       " ORDER BY events DESC, key LIMIT 100";

/*
 * What a record does to the rows, and what it emits (stream_emit_buffer).  It
 * must not ask for the time or for chance, and keeps nothing in memory.  -1
 * with REJECT makes the record a dead letter, with RETRY it is tried again.
 */
static int
apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{

	if (record->key == NULL)
		return (mr_error_set(err, MR_REJECT, "the record has no key"));
	return (store_run(stream_store(s), err, sql_count,
		    store_text_n(record->key, record->key_size)) == -1 ?
		-1 :
		0);
}

static void
get_counts(struct web_request *req, struct web_response *res)
{

	service_rows(req, res, "counts", sql_events, sql_list);
}

static const struct stream_service stream = {
    .name = "@NAME@",
    .inputs = (const char *const[]){"order-events", NULL},
    .migrations = migrations_@IDENT@,
    .apply = apply,
};

static const struct web_route routes[] = {
    {"GET", "/@NAME@", get_counts},
    {NULL, NULL, NULL},
};

static const struct service_gauge gauges[] = {
    {"@IDENT@_events", "Events counted.", sql_events},
    {NULL, NULL, NULL},
};

static const struct service service = {
    .summary = "Counts the events of each key in order-events.",
    .stream = &stream,
    .routes = routes,
    .gauges = gauges,
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &service));
}
