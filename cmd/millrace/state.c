/* state -- what is in the services' files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kafka/kafka.h"
#include "store/store.h"

#include "copy_facts.h"
#include "look.h"
#include "millrace.h"

#define ASK_MS 5000
#define KEY_SHOWN 48
#define VALUE_MOST ((size_t)1000000)

static const char sql_service[] = "SELECT service FROM store_identity";
static const char sql_positions[] =
    "SELECT topic, topic_id, partition, next_offset FROM positions"
    " ORDER BY topic, topic_id, partition";
static const char sql_has_position[] =
    "SELECT 1 FROM positions WHERE topic_id = ?1 AND partition = ?2";
static const char sql_outbox[] =
    "SELECT seq, topic, partition, type, key, length(value), ts_ms"
    " FROM outbox ORDER BY seq LIMIT ?1";
static const char sql_dead_letters[] =
    "SELECT id, topic, partition, record_offset, put_at_ms, length(value),"
    " reason FROM dead_letters ORDER BY id DESC LIMIT ?1";
static const char sql_dead_letter[] =
    "SELECT topic, topic_id, partition, record_offset, ts_ms, put_at_ms,"
    " reason, key, value, headers FROM dead_letters WHERE id = ?1";

/* ---- files -------------------------------------------------------------------- */

static int
is_wanted(struct look *look, const char *service)
{
	int i, wanted = look->services.count == 0;

	for (i = 0; i < look->services.count; i++)
		if (strcmp(look->services.items[i], service) == 0) {
			look->met |= UINT64_C(1) << i;
			wanted = 1;
		}
	return (wanted);
}

/* Of a service that was asked for by name, and misspelt perhaps, silence would
 * be taken for success. */
static void
missing_say(struct look *look)
{
	struct mr_error err;
	int i;

	_Static_assert(sizeof(look->services.items) /
		    sizeof(look->services.items[0]) <=
		64,
	    "met has a bit for each");
	for (i = 0; i < look->services.count; i++) {
		if ((look->met >> i & 1) != 0)
			continue;
		mr_error_set(&err, MR_REJECT,
		    "%.100s has no file of the service %.60s", look->data,
		    look->services.items[i]);
		command_fail(look->command, &err);
		look->unknown = 1;
	}
}

/* Look into one file, if its service is wanted. */
static int
file_look(struct look *look, const char *path, struct mr_error *err)
{
	struct store_rows *rows;
	struct store *st;
	char service[64] = "";
	int status = -1;

	if ((st = store_open_reader(path, 0, err)) == NULL)
		return (-1);
	if ((rows = store_query_values(st, err, sql_service, NULL, 0)) == NULL)
		goto done;
	if ((status = store_next(rows, err)) == 1)
		snprintf(service, sizeof(service), "%s",
		    store_get_text(rows, 0));
	store_rows_done(rows);
	if (status == 1 && is_wanted(look, service)) {
		look->looked_at++;
		status = look->each(look, st, service, err);
	}
done:
	store_close(st);
	return (status == -1 ? -1 : 0);
}

/* What fails is said, and the rest goes on. */
static int
file_visit(void *arg, const char *path, struct mr_error *err)
{
	struct look *look = arg;

	if (file_look(look, path, err) == -1) {
		command_fail(look->command, err);
		look->unknown = 1;
	}
	return (0);
}

int
files_look(struct look *look, look_file *each)
{
	struct buffer foreign = {0};
	struct mr_error err = {0};
	int status;

	look->each = each;
	status = store_list(look->data, &foreign, file_visit, look, &err);
	command_left_out(look->command, buffer_text(&foreign));
	buffer_free(&foreign);
	if (status == -1)
		return (command_fail(look->command, &err));
	missing_say(look);
	if (look->looked_at == 0 && !look->unknown) {
		mr_error_set(&err, MR_REJECT, "%s has no service's file",
		    look->data);
		return (command_fail(look->command, &err));
	}
	return (table_print(&look->table, look->output,
	    look->unknown ? EXIT_UNKNOWN : EXIT_YES));
}

/* ---- flags --------------------------------------------------------------------- */

static int
look_parse(struct look *look, const struct command *command, int argc,
    char **argv, const char *summary, const char *usage, int asks_kafka)
{
	const struct config_option options[] = {
	    {.name = "data",
		.kind = CONFIG_TEXT,
		.target = &look->data,
		.fallback = "data",
		.help = "the folder of the services' files",
		.group = "What is shown"},
	    {.name = "service",
		.kind = CONFIG_LIST,
		.target = &look->services,
		.help = "only this one's; may be repeated"},
	    {.name = "limit",
		.kind = CONFIG_INT,
		.target = &look->limit,
		.fallback = "50",
		.least = 1,
		.most = 1e9,
		.help = "at most so many of each file"},
	    {.name = "output",
		.kind = CONFIG_CHOICE,
		.target = &look->output,
		.fallback = "table",
		.choices = output_names,
		.help = "table or json; also -o"},
	    {.name = NULL},
	};
	const struct config_option *const tables[] = {options,
	    asks_kafka ? kafka_options(&look->kafka) : NULL, NULL};
	const struct config_program program = {.summary = summary,
	    .usage = usage,
	    .tables = tables};

	look->command = command;
	look->kafka.client_id = "millrace";
	return (command_parse(command, argc, argv, &program));
}

static void
table_time(struct table *t, int64_t ts_ms)
{
	char text[25];

	clock_rfc3339(ts_ms, text);
	table_text(t, text);
}

/* ---- positions ------------------------------------------------------------------ */

/* Kafka didn't tell; if it doesn't answer, it isn't asked again. */
static void
kafka_silent(struct look *look, const struct mr_error *err)
{

	look->unknown = 1;
	if (look->admin == NULL || err->kind == MR_REJECT)
		return;
	command_fail(look->command, err);
	kafka_admin_free(look->admin);
	look->admin = NULL;
}

/* The end of a partition, and how far it is from ${position}, or, for -1, from
 * the first record that is there. */
static void
table_end(struct look *look, const char *topic, int partition, int64_t position)
{
	struct mr_error err = {0};
	int64_t first, next;

	if (look->admin != NULL &&
	    kafka_admin_offsets(look->admin, topic, partition, &first, &next,
		ASK_MS, &err) == 0) {
		table_i64(&look->table, next);
		table_i64(&look->table,
		    next - (position == -1 ? first : position));
		return;
	}
	kafka_silent(look, &err);
	table_missing(&look->table);
	table_missing(&look->table);
}

/* The partitions of a topic that nothing was read of yet. */
static int
topic_unread(struct look *look, struct store *st, const char *service,
    const char *topic, struct mr_error *err)
{
	struct kafka_topic_state state = {.partitions = 0};
	struct mr_error silence = {0};
	struct table *t = &look->table;
	int64_t one;
	int k, found;

	snprintf(state.name, sizeof(state.name), "%s", topic);
	if (look->admin == NULL ||
	    kafka_admin_describe(look->admin, &state, 1, ASK_MS, &silence) ==
		-1) {
		kafka_silent(look, &silence);
		return (0);
	}
	if (state.id[0] == '\0' && state.partitions > 0) {
		look->unknown = 1; /* an old broker tells no ids */
		return (0);
	}
	for (k = 0; k < state.partitions; k++) {
		if ((found = store_find(st, err, &one, sql_has_position,
			 store_text(state.id), store_i64(k))) == -1)
			return (-1);
		if (found == 1)
			continue;
		table_text(t, service);
		table_text(t, topic);
		table_text(t, state.id);
		table_i64(t, k);
		table_missing(t);
		table_end(look, topic, k, -1);
	}
	return (0);
}

static int
inputs_unread(struct look *look, struct store *st, const char *service,
    struct mr_error *err)
{
	struct copy_facts facts = {.declared = 0};
	char *rest = facts.inputs, *topic;

	if (copy_facts_declared(st, &facts, err) == -1)
		return (-1);
	while ((topic = strsep(&rest, " ")) != NULL)
		if (topic[0] != '\0' &&
		    topic_unread(look, st, service, topic, err) == -1)
			return (-1);
	return (0);
}

/* What goes by the name of a topic now: no partitions if there is none, -1 if
 * Kafka doesn't tell. */
static void
topic_now(struct look *look, const char *topic, struct kafka_topic_state *now)
{
	struct mr_error err = {0};

	if (strcmp(now->name, topic) == 0)
		return;
	memset(now, 0, sizeof(*now));
	snprintf(now->name, sizeof(now->name), "%s", topic);
	if (look->admin == NULL ||
	    kafka_admin_describe(look->admin, now, 1, ASK_MS, &err) == 0)
		return;
	now->partitions = -1;
	if (err.kind == MR_REJECT)
		command_fail(look->command, &err);
	kafka_silent(look, &err);
}

/*
 * The end of a row's partition: of the topic that was read, and not of another
 * one which has its name by now.
 */
static void
position_end(struct look *look, const struct kafka_topic_state *now,
    const char *id, int partition, int64_t position)
{
	struct mr_error err;

	if (look->admin == NULL ||
	    (partition < now->partitions &&
		(now->id[0] == '\0' || strcmp(now->id, id) == 0))) {
		table_end(look, now->name, partition, position);
		return;
	}
	look->unknown = 1;
	table_missing(&look->table);
	table_missing(&look->table);
	if (now->partitions == -1)
		return;
	mr_error_set(&err, MR_REJECT,
	    "partition %d of %.80s with the id %.40s isn't there any more",
	    partition, now->name, id);
	command_fail(look->command, &err);
}

static int
positions_of(struct look *look, struct store *st, const char *service,
    struct mr_error *err)
{
	struct kafka_topic_state now = {.partitions = 0};
	struct table *t = &look->table;
	struct store_rows *rows;
	int more;

	if ((rows = store_query_values(st, err, sql_positions, NULL, 0)) ==
	    NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		topic_now(look, store_get_text(rows, 0), &now);
		table_text(t, service);
		table_text(t, now.name);
		table_text(t, store_get_text(rows, 1));
		table_i64(t, store_get_i64(rows, 2));
		table_i64(t, store_get_i64(rows, 3));
		position_end(look, &now, store_get_text(rows, 1),
		    (int)store_get_i64(rows, 2), store_get_i64(rows, 3));
	}
	store_rows_done(rows);
	return (more == -1 ? -1 : inputs_unread(look, st, service, err));
}

int
state_positions(const struct command *command, int argc, char **argv)
{
	static const struct table_column columns[] = {{"service", 0},
	    {"topic", 0}, {"topic_id", 0}, {"partition", 1}, {"position", 1},
	    {"end", 1}, {"lag", 1}};
	struct look look = {.table = {.columns = columns, .count = 7}};
	struct mr_error err = {0};
	int status;

	if (look_parse(&look, command, argc, argv,
		"Shows how far each service has consumed, and where Kafka's "
		"partitions end.\nA partition that it has read nothing of "
		"yet has no position, and all that is in it is lag.",
		NULL, 1) == -1)
		return (EXIT_UNKNOWN);
	if ((look.admin = kafka_admin_new(&look.kafka, &err)) == NULL)
		return (command_fail(command, &err));
	status = files_look(&look, positions_of);
	kafka_admin_free(look.admin);
	return (status);
}

/* ---- outbox ----------------------------------------------------------------------- */

static int
outbox_of(struct look *look, struct store *st, const char *service,
    struct mr_error *err)
{
	struct table *t = &look->table;
	struct store_rows *rows;
	const void *key;
	size_t size;
	int more;

	if ((rows = store_query(st, err, sql_outbox, store_i64(look->limit))) ==
	    NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		table_text(t, service);
		table_i64(t, store_get_i64(rows, 0));
		table_text(t, store_get_text(rows, 1));
		table_i64(t, store_get_i64(rows, 2));
		table_text(t, store_get_text(rows, 3));
		key = store_get_blob(rows, 4, &size);
		if (store_is_null(rows, 4))
			table_missing(t);
		else
			table_bytes(t, key, size, KEY_SHOWN);
		table_i64(t, store_get_i64(rows, 5));
		table_time(t, store_get_i64(rows, 6));
	}
	store_rows_done(rows);
	return (more);
}

int
state_outbox(const struct command *command, int argc, char **argv)
{
	static const struct table_column columns[] = {{"service", 0},
	    {"seq", 1}, {"topic", 0}, {"partition", 1}, {"type", 0}, {"key", 0},
	    {"bytes", 1}, {"time", 0}};
	struct look look = {.table = {.columns = columns, .count = 8}};

	if (look_parse(&look, command, argc, argv,
		"Shows the records that were committed and that Kafka hasn't "
		"acknowledged yet, the first to be sent first.",
		NULL, 0) == -1)
		return (EXIT_UNKNOWN);
	return (files_look(&look, outbox_of));
}

/* ---- dead letters ------------------------------------------------------------------ */

static int
dead_letters_of(struct look *look, struct store *st, const char *service,
    struct mr_error *err)
{
	struct table *t = &look->table;
	struct store_rows *rows;
	int more, column;

	if ((rows = store_query(st, err, sql_dead_letters,
		 store_i64(look->limit))) == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		table_text(t, service);
		table_i64(t, store_get_i64(rows, 0));
		table_text(t, store_get_text(rows, 1));
		for (column = 2; column <= 3; column++)
			table_i64(t, store_get_i64(rows, column));
		table_time(t, store_get_i64(rows, 4));
		table_i64(t, store_get_i64(rows, 5));
		table_bytes(t, store_get_text(rows, 6),
		    strlen(store_get_text(rows, 6)), 200);
	}
	store_rows_done(rows);
	return (more);
}

int
state_dead_letters(const struct command *command, int argc, char **argv)
{
	static const struct table_column columns[] = {{"service", 0}, {"id", 1},
	    {"topic", 0}, {"partition", 1}, {"offset", 1}, {"put_away", 0},
	    {"bytes", 1}, {"reason", 0}};
	struct look look = {.table = {.columns = columns, .count = 8}};

	if (look_parse(&look, command, argc, argv,
		"Shows the records that could not be applied and why, the "
		"newest first.",
		NULL, 0) == -1)
		return (EXIT_UNKNOWN);
	return (files_look(&look, dead_letters_of));
}

/* The next header of a list: pairs of big-endian lengths, name, value. */
static int
header_next(const unsigned char *b, size_t size, size_t *at, const void **name,
    size_t *name_size, const void **value, size_t *value_size)
{
	const unsigned char *h = b + *at;

	if (size - *at < 8)
		return (0);
	*name_size = (size_t)h[0] << 24 | (size_t)h[1] << 16 |
	    (size_t)h[2] << 8 | h[3];
	*value_size = (size_t)h[4] << 24 | (size_t)h[5] << 16 |
	    (size_t)h[6] << 8 | h[7];
	if (*name_size > size - *at - 8 ||
	    *value_size > size - *at - 8 - *name_size)
		return (0);
	*name = h + 8;
	*value = h + 8 + *name_size;
	*at += 8 + *name_size + *value_size;
	return (1);
}

static void
add_row(struct table *t, const char *what, const void *bytes, size_t size)
{
	table_text(t, what);
	table_bytes(t, bytes, size, VALUE_MOST);
}

static void
show_fields(struct table *t, struct store_rows *row)
{
	static const struct {
		const char *name;
		int column;
	} fields[] = {{"topic", 0}, {"topic id", 1}, {"partition", 2},
	    {"offset", 3}};
	const void *name, *value;
	size_t i, size, at = 0, name_size, value_size;
	const unsigned char *headers;
	char what[160];
	int length;

	for (i = 0; i < 4; i++) {
		table_text(t, fields[i].name);
		if (i < 2)
			table_text(t, store_get_text(row, fields[i].column));
		else
			table_i64(t, store_get_i64(row, fields[i].column));
	}
	table_text(t, "time");
	table_time(t, store_get_i64(row, 4));
	table_text(t, "put away");
	table_time(t, store_get_i64(row, 5));
	add_row(t, "reason", store_get_text(row, 6),
	    strlen(store_get_text(row, 6)));
	headers = store_get_blob(row, 9, &size);
	while (header_next(headers, size, &at, &name, &name_size, &value,
	    &value_size)) {
		length = snprintf(what, sizeof(what), "header %.*s",
		    name_size > 120 ? 120 : (int)name_size, (const char *)name);
		table_bytes(t, what, (size_t)length, sizeof(what));
		table_bytes(t, value, value_size, VALUE_MOST);
	}
	value = store_get_blob(row, 7, &size);
	if (!store_is_null(row, 7))
		add_row(t, "key", value, size);
	value = store_get_blob(row, 8, &size);
	if (!store_is_null(row, 8))
		add_row(t, "value", value, size);
}

static int
dead_letter_of(struct look *look, struct store *st, const char *service,
    struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(st, err, sql_dead_letter,
		 store_i64(look->limit))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1)
		show_fields(&look->table, rows);
	else if (found == 0)
		found = mr_error_set(err, MR_REJECT,
		    "%s has no dead letter %lld", service,
		    (long long)look->limit);
	store_rows_done(rows);
	return (found == 1 ? 0 : -1);
}

int
state_dead_letter(const struct command *command, int argc, char **argv)
{
	static const struct table_column columns[] = {{"what", 0}, {"is", 0}};
	struct look look = {.table = {.columns = columns, .count = 2}};
	struct mr_error err = {0};
	char *end = NULL;
	int i;

	if ((i = look_parse(&look, command, argc, argv,
		 "Shows one record that could not be applied: where it came "
		 "from, why, its headers, key and value.",
		 "SERVICE ID", 0)) == -1)
		return (EXIT_UNKNOWN);
	if (argc - i == 2)
		look.limit = strtoll(argv[i + 1], &end, 10);
	if (end == NULL || *end != '\0' || end == argv[i + 1]) {
		mr_error_set(&err, MR_REJECT,
		    "say whose and which: SERVICE ID, as `list` shows them");
		return (command_fail(command, &err));
	}
	look.services.items[0] = argv[i];
	look.services.count = 1;
	return (files_look(&look, dead_letter_of));
}
