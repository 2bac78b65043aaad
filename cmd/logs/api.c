#include <stdio.h>
#include <string.h>

#include "service/service.h"

#include "logs.h"

#define MARK_BEGIN '\002' /* no message has these */
#define MARK_END '\003'

static const char sql_revision[] =
    "SELECT 2 * last_id - entries FROM logs_state";
static const char sql_last_id[] = "SELECT last_id FROM logs_state";

/*
 * Lines with ids between ?1 and ?2, newest or oldest first.  Which index is
 * looked in depends on what is asked for, so there is a statement for each.
 */
#define COLUMNS \
	"SELECT e.id, e.ts_ms, l.level, e.service, e.host, e.request_id,"
#define PLAIN COLUMNS " e.message, e.stack FROM entries AS e"
#define MARKED                                            \
	COLUMNS " highlight(words, 0, char(2), char(3))," \
		" highlight(words, 1, char(2), char(3))"  \
		" FROM words JOIN entries AS e ON e.id = words.rowid"
#define WHERE                                \
	" JOIN levels AS l USING (severity)" \
	" WHERE e.severity >= ?3 AND e.ts_ms >= ?4 AND e.ts_ms < ?5"
#define BETWEEN " AND e.id > ?1 AND e.id < ?2"
#define SERVICE " AND e.service = ?7"
#define REQUEST " AND e.request_id = ?8 AND e.request_id <> ''"
#define MATCH                                  \
	" AND (?7 = '' OR +e.service = ?7)"    \
	" AND (?8 = '' OR +e.request_id = ?8)" \
	" AND words MATCH ?9 AND words.rowid > ?1 AND words.rowid < ?2"
#define NEWEST " ORDER BY e.id DESC LIMIT ?6"
#define OLDEST " ORDER BY e.id LIMIT ?6"

enum index { BY_ID, BY_SERVICE, BY_REQUEST, BY_WORDS, INDEXES };
static const char *const sql_backwards[INDEXES] = {
    [BY_ID] = PLAIN WHERE BETWEEN NEWEST,
    [BY_SERVICE] = PLAIN WHERE BETWEEN SERVICE NEWEST,
    [BY_REQUEST] = PLAIN WHERE BETWEEN REQUEST
    " AND (?7 = '' OR +e.service = ?7)" NEWEST,
    [BY_WORDS] = MARKED WHERE MATCH " ORDER BY words.rowid DESC LIMIT ?6",
};
static const char *const sql_onwards[INDEXES] = {
    [BY_ID] = PLAIN WHERE BETWEEN OLDEST,
    [BY_SERVICE] = PLAIN WHERE BETWEEN SERVICE OLDEST,
    [BY_REQUEST] = PLAIN WHERE BETWEEN REQUEST
    " AND (?7 = '' OR +e.service = ?7)" OLDEST,
    [BY_WORDS] = MARKED WHERE MATCH " ORDER BY words.rowid LIMIT ?6",
};

/* One step of the index for each service, however many lines there are. */
static const char sql_services[] =
    "WITH RECURSIVE found (service) AS ("
    "  SELECT min(service) FROM entries"
    "  UNION ALL"
    "  SELECT (SELECT min(service) FROM entries WHERE service > found.service)"
    "  FROM found WHERE found.service IS NOT NULL)"
    " SELECT service FROM found WHERE service IS NOT NULL"
    " ORDER BY service LIMIT 1000";

struct asked {
	char q[512];
	char service[EVENT_NAME_SIZE];
	char request_id[EVENT_NAME_SIZE];
	int64_t level; /* this one and above */
	int64_t from_ms, to_ms;
	int64_t since, after; /* -1: not given */
	int64_t limit;
};

static int
read_level(struct web_request *req, struct web_response *res, int64_t *level)
{
	char text[8];
	int given;

	if ((given = web_query_text(req, res, "level", text, sizeof(text))) !=
	    1)
		return (given);
	if ((*level = log_event_level_find(text)) == -1)
		return (web_problem_field(res, "level",
		    "must be debug, info, warn, error or fatal"));
	return (0);
}

static int
read_asked(struct web_request *req, struct web_response *res,
    struct asked *asked)
{
	static const char *const known[] = {"q", "service", "level",
	    "request_id", "from", "to", "since", "after", "limit", NULL};

	*asked = (struct asked){.to_ms = INT64_MAX,
	    .since = -1,
	    .after = -1,
	    .limit = 100};
	if (web_query_only(req, res, known) != 0 ||
	    web_query_text(req, res, "q", asked->q, sizeof(asked->q)) == -1 ||
	    web_query_text(req, res, "service", asked->service,
		sizeof(asked->service)) == -1 ||
	    read_level(req, res, &asked->level) == -1 ||
	    web_query_text(req, res, "request_id", asked->request_id,
		sizeof(asked->request_id)) == -1 ||
	    web_query_i64(req, res, "from", 0, INT64_MAX, &asked->from_ms) ==
		-1 ||
	    web_query_i64(req, res, "to", 0, INT64_MAX, &asked->to_ms) == -1 ||
	    web_query_i64(req, res, "since", 0, INT64_MAX, &asked->since) ==
		-1 ||
	    web_query_i64(req, res, "after", 1, INT64_MAX, &asked->after) ==
		-1 ||
	    web_query_i64(req, res, "limit", 1, 1000, &asked->limit) == -1)
		return (-1);
	if (asked->since != -1 && asked->after != -1)
		return (web_problem_field(res, "after",
		    "can't be given together with since"));
	return (0);
}

/*
 * A text without its marks, and where they were: pairs of the first Unicode
 * character of a hit, counted from 0, and how many it has.
 */
static void
write_marked(struct json_writer *w, const char *name, const char *hits,
    const char *marked)
{
	struct buffer text = {0};
	const char *at;
	int64_t character = 0, first = 0;
	int any = strchr(marked, MARK_BEGIN) != NULL;

	for (at = marked; *at != '\0'; at++)
		if (*at != MARK_BEGIN && *at != MARK_END)
			buffer_add(&text, at, 1);
	json_key(w, name);
	json_text_n(w, buffer_text(&text), text.length);
	buffer_free(&text);
	if (!any)
		return;
	json_key(w, hits);
	json_array_open(w);
	for (at = marked; *at != '\0'; at++) {
		if (*at == MARK_BEGIN) {
			first = character;
		} else if (*at == MARK_END) {
			json_array_open(w);
			json_i64(w, first);
			json_i64(w, character - first);
			json_array_close(w);
		} else if (((unsigned char)*at & 0xC0) != 0x80) {
			character++;
		}
	}
	json_array_close(w);
}

static void
write_entry(struct json_writer *w, struct store_rows *rows)
{
	const char *text;

	json_object_open(w);
	json_member_i64(w, "id", store_get_i64(rows, 0));
	json_member_i64(w, "ts_ms", store_get_i64(rows, 1));
	json_member_text(w, "level", store_get_text(rows, 2));
	json_member_text(w, "service", store_get_text(rows, 3));
	if (*(text = store_get_text(rows, 4)) != '\0')
		json_member_text(w, "host", text);
	if (*(text = store_get_text(rows, 5)) != '\0')
		json_member_text(w, "request_id", text);
	write_marked(w, "message", "message_hits", store_get_text(rows, 6));
	if (*(text = store_get_text(rows, 7)) != '\0')
		write_marked(w, "stack", "stack_hits", text);
	json_object_close(w);
}

static void
write_entries(struct web_response *res, struct store_rows *rows,
    const struct asked *asked, int64_t last_id)
{
	struct json_writer w;
	struct mr_error err;
	int64_t count = 0, id = 0;
	int more;

	json_init(&w, &res->body);
	json_object_open(&w);
	json_key(&w, "entries");
	json_array_open(&w);
	for (; (more = store_next(rows, &err)) == 1; count++) {
		id = store_get_i64(rows, 0);
		write_entry(&w, rows);
	}
	if (more == -1) {
		web_problem_error(res, &err);
		return;
	}
	json_array_close(&w);
	if (asked->since == -1) {
		json_key(&w, "next_after");
		if (count == asked->limit)
			json_i64(&w, id);
		else
			json_nil(&w);
	}
	json_member_i64(&w, "cursor",
	    asked->since != -1 && count == asked->limit ? id : last_id);
	json_member_i64(&w, "poll_ms", service_poll_ms());
	json_object_close(&w);
}

static enum index
choose_index(const struct asked *asked)
{
	if (asked->q[0] != '\0')
		return (BY_WORDS);
	if (asked->request_id[0] != '\0')
		return (BY_REQUEST);
	return (asked->service[0] != '\0' ? BY_SERVICE : BY_ID);
}

static struct store_rows *
query(struct web_request *req, const struct asked *asked, const char *match,
    int64_t last_id, struct mr_error *err)
{
	enum index index = choose_index(asked);
	const char *sql = asked->since != -1 ? sql_onwards[index] :
					       sql_backwards[index];
	struct store_value values[] = {
	    store_i64(asked->since != -1 ? asked->since : 0),
	    store_i64(asked->after != -1 ? asked->after : last_id + 1),
	    store_i64(asked->level),
	    store_i64(asked->from_ms),
	    store_i64(asked->to_ms),
	    store_i64(asked->limit),
	    store_text(asked->service),
	    store_text(asked->request_id),
	    store_text(match),
	};
	/* A statement takes as many as it has places for. */
	static const size_t counts[INDEXES] = {6, 7, 8, 9};

	return (
	    store_query_values(req->reader, err, sql, values, counts[index]));
}

static void
get_logs(struct web_request *req, struct web_response *res)
{
	struct buffer match = {0};
	struct store_rows *rows = NULL;
	struct asked asked;
	struct mr_error err;
	int64_t revision, last_id;

	if (read_asked(req, res, &asked) != 0)
		return;
	if (asked.q[0] != '\0' && search_parse(asked.q, &match, &err) == -1) {
		web_problem_field(res, "q", "%s", err.message);
		goto done;
	}
	/* The last id first: what comes after it is for the next poll. */
	if (service_revision(req, res, sql_revision, &revision) != 0)
		goto done;
	if (store_find(req->reader, &err, &last_id, sql_last_id) == -1 ||
	    (rows = query(req, &asked, buffer_text(&match), last_id, &err)) ==
		NULL)
		web_problem_error(res, &err);
	else
		write_entries(res, rows, &asked, last_id);
done:
	store_rows_done(rows);
	buffer_free(&match);
}

static void
get_services(struct web_request *req, struct web_response *res)
{
	service_rows(req, res, "services", sql_revision, sql_services);
}

const struct web_route logs_routes[] = {
    {"GET", "/logs", get_logs},
    {"GET", "/logs/services", get_services},
    {NULL, NULL, NULL},
};
