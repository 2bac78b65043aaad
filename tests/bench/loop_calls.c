/*
 * loop_calls -- calls' work without Millrace: the bare loop to compare with.
 *
 *	loop_calls DB RECORDS BATCH
 *
 * The statements of the service and of its core, on SQLite directly; the lines
 * of the log of long calls aside, which the service writes as well.  Calls are
 * those of call-producer --speedup 1000000 --seed 1.
 */
#include "bare.h"

#include "../../cmd/call-producer/center.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/calls/calls.c" /* NOLINT(bugprone-suspicious-include) */
#include "../../cmd/calls/long_log.c" /* NOLINT(bugprone-suspicious-include) */

#define SOURCE "/millrace/call-producer/00000000000000000000000000000b1c"
#define TOPIC "calls"
#define PARTITIONS 3
#define LONG_CALL_MS 60000

enum statement { TOTAL = BARE_OWN, MINUTE, DURATION, GIVE, LONG, STATEMENTS };
static const char *const sql[STATEMENTS - BARE_OWN] = {sql_total, sql_minute,
    sql_duration, sql_give, sql_long};
static const struct center_settings settings = {.calls_per_minute = 60,
    .mean_duration_s = 30,
    .speedup = 1000000,
    .interval_ms = 100,
    .batch = 1,
    .seed = 1,
    .customers = 5000,
    .agents = 40};
static struct center center;

static void
open_file(const char *path)
{

	bare_open(path, "calls", migrations_calls, sql, STATEMENTS - BARE_OWN,
	    "");
	center.seed = settings.seed;
	id_rng_seed(&center.rng, (uint64_t)settings.seed);
}

static void
encode(int64_t n, struct buffer *value)
{

	(void)n;
	center_step(&center, &settings, INT64_C(1790000000000));
	if (center.made_count != 1)
		bare_die("a step without a call");
	call_event_encode(&center.made[0], value);
}

static void
before(void)
{

	bare_begin(SOURCE, PARTITIONS);
}

static void
keep(const struct call_event *call)
{
	int64_t seq = 0;

	while (bare_step(GIVE))
		seq = bare_column(GIVE, 0);
	bare_number(LONG, 1, seq);
	bare_text(LONG, 2, call->call_id);
	bare_text(LONG, 3, call->caller);
	bare_text(LONG, 4, call->callee);
	bare_number(LONG, 5, call->started_ms);
	bare_number(LONG, 6, call->duration_ms);
	bare_run(LONG);
}

static void
apply(const struct buffer *value, int64_t n)
{
	struct call_event call;
	struct mr_error err;
	int partition;

	if (call_event_decode(value->data, value->length, &call, &err) == -1)
		bare_die(err.message);
	partition = kafka_partition_of(call.caller, strlen(call.caller),
	    PARTITIONS);
	bare_number(TOTAL, 1, partition);
	bare_number(TOTAL, 2, call.duration_ms);
	bare_run(TOTAL);
	bare_number(MINUTE, 1, call.started_ms - call.started_ms % 60000);
	bare_number(MINUTE, 2, partition);
	bare_number(MINUTE, 3, call.duration_ms);
	bare_run(MINUTE);
	bare_number(DURATION, 1, bucket_of(call.duration_ms));
	bare_number(DURATION, 2, partition);
	bare_run(DURATION);
	if (call.duration_ms > LONG_CALL_MS)
		keep(&call);
	bare_marks[partition] = n + 1;
	bare_nexts[partition]++;
}

static void
after(int64_t n)
{

	(void)n;
	bare_commit(SOURCE, TOPIC, PARTITIONS);
}

int
main(int argc, char **argv)
{
	static const struct bare_loop loop = {open_file, encode, before, apply,
	    after};

	return (bare_main(argc, argv, &loop));
}
