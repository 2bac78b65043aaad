/*
 * loop_logs -- logs' work without Millrace: the bare loop to compare with.
 *
 *	loop_logs DB RECORDS BATCH
 *
 * The statements of the service, full-text index and routing of errors among
 * them, and of its core, on SQLite directly; lines as of log-producer --seed 1.
 * It has no lines to drop, as the service has none with a long --keep.
 */
#include "bare.h"

#include "../../cmd/log-producer/lines.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/log-producer/traffic.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/logs/logs.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/logs/rules.c" /* NOLINT(bugprone-suspicious-include) */

#define SOURCE "/millrace/log-producer/00000000000000000000000000000b1c"
#define TOPIC "application-logs"
#define PARTITIONS 2
#define START_MS INT64_C(1790000000000)
#define LINES_A_MS 10
#define SEED 1

enum statement { COUNT = BARE_OWN, STATE, INSERT, INDEX, STATEMENTS };
static const char *const sql[STATEMENTS - BARE_OWN] = {sql_count, sql_state,
    sql_insert, sql_index};

static struct bare_output output = {.topic = "application-errors",
    .partitions = 2};
static struct traffic traffic = {.seed = SEED};

static void
open_file(const char *path)
{
	struct mr_error err;

	logs_rules = (struct config_list){.items = {"level>=error"},
	    .count = 1};
	if (rules_parse(&logs_rules, &err) == -1)
		bare_die(err.message);
	logs_keep_bytes = INT64_MAX;
	id_rng_seed(&traffic.rng, SEED);
	bare_open(path, "logs", migrations_logs, sql, STATEMENTS - BARE_OWN,
	    "");
}

static void
encode(int64_t n, struct buffer *value)
{
	static struct lines lines;
	const char *line;
	size_t size;

	lines_clear(&lines);
	traffic_step(&traffic, START_MS + n / LINES_A_MS, 1, &lines);
	line = lines_get(&lines, 0, &size);
	buffer_add(value, line, size);
}

static void
before(void)
{

	bare_begin(SOURCE, PARTITIONS);
	bare_begin_output(&output);
}

static void
keep(const struct log_event *event, int64_t id, size_t bytes)
{
	bare_number(INSERT, 1, id);
	bare_number(INSERT, 2, event->ts_ms);
	bare_text(INSERT, 3, event->service);
	bare_number(INSERT, 4, event->level);
	bare_text(INSERT, 5, event->host);
	bare_text(INSERT, 6, event->request_id);
	bare_text(INSERT, 7, event->message);
	bare_text(INSERT, 8, event->stack);
	bare_number(INSERT, 9, (int64_t)bytes);
	bare_run(INSERT);
	bare_number(INDEX, 1, id);
	bare_text(INDEX, 2, event->message);
	bare_text(INDEX, 3, event->stack);
	bare_run(INDEX);
}

static void
apply(const struct buffer *value, int64_t n)
{
	static struct log_event event; /* too large for a stack */
	struct mr_error err;
	int64_t id = 0;
	int partition;

	if (log_event_decode(value->data, value->length, &event, &err) == -1)
		bare_die(err.message);
	partition = kafka_partition_of(event.service, strlen(event.service),
	    PARTITIONS);
	bare_number(COUNT, 1, (int64_t)value->length);
	bare_run(COUNT);
	while (bare_step(STATE)) {
		id = bare_column(STATE, 0);
		if (bare_column(STATE, 1) > logs_keep_bytes)
			bare_die("lines are to be dropped");
	}
	keep(&event, id, value->length);
	if (rules_match(&event))
		bare_emit(&output, "log.routed", event.service, value,
		    event.ts_ms, TOPIC, partition);
	bare_marks[partition] = n + 1;
	bare_nexts[partition]++;
}

static void
after(int64_t n)
{

	(void)n;
	bare_end_output(&output);
	bare_commit(SOURCE, TOPIC, PARTITIONS);
}

int
main(int argc, char **argv)
{
	static const struct bare_loop loop = {open_file, encode, before, apply,
	    after};

	return (bare_main(argc, argv, &loop));
}
