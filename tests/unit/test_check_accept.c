/*
 * Accepting a gap: each way in which a partition halts has a plan that lets
 * it go on, nothing else is touched, and what doesn't halt isn't changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "migrations.h"

#include "../../cmd/millrace/plan.c" /* NOLINT(bugprone-suspicious-include) */

#define ID_A "000000000000000000000000000000aa"
#define ID_B "000000000000000000000000000000bb"
#define ID_C "000000000000000000000000000000cc"
#define S "/millrace/orders/0000000000000000000000000000000a"
#define OTHER "/millrace/orders/0000000000000000000000000000000b"

static char folder[64];
static char path[96];
static struct store *st;

static void
open_alone(void)
{
	struct mr_error err = {0};

	if ((st = store_open_alone(path, &err)) == NULL)
		fail_msg("%s", err.message);
}

static int
setup(void **state)
{
	static const char *const sql[] = {
	    "INSERT INTO database_ids (number, database_id, drawn_at_ms) VALUES (1, '" ID_C
	    "', 1)",
	    "INSERT INTO positions VALUES ('now', 0, 'order-events', 10, 3)",
	    "INSERT INTO positions VALUES ('now', 1, 'order-events', 20, 3)",
	    "INSERT INTO marks VALUES ('" S "', 'now', 0, 100)",
	    "INSERT INTO marks VALUES ('" S "', 'now', 1, 200)",
	    "INSERT INTO marks VALUES ('" OTHER "', 'now', 0, 50)"};
	const struct store_options options = {.path = path,
	    .service = "inventory",
	    .core = migrations_core,
	    .own = migrations_inventory};
	struct mr_error err = {0};
	size_t i;

	(void)state;
	log_init("test", LOG_LOGFMT, LOG_ERROR);
	snprintf(folder, sizeof(folder), "/tmp/test-accept.XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/inventory.db", folder);
	if ((st = store_open(&options, &err)) == NULL)
		fail_msg("%s", err.message);
	assert_int_equal(store_begin(st, &err), 0);
	for (i = 0; i < sizeof(sql) / sizeof(sql[0]); i++)
		assert_int_equal(store_run_values(st, &err, sql[i], NULL, 0),
		    1);
	assert_int_equal(store_commit(st, &err), 0);
	store_close(st);
	open_alone();
	return (0);
}

static int
teardown(void **state)
{
	static const char *const suffixes[] = {"", "-wal", "-shm", ".writer"};
	char name[128];
	size_t i;

	(void)state;
	store_close(st);
	st = NULL;
	for (i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "%s%s", path, suffixes[i]);
		(void)unlink(name);
	}
	assert_int_equal(rmdir(folder), 0);
	return (0);
}

/* Positions and marks, all of them, in one text. */
static const char *
contents(void)
{
	static const char sql[] =
	    "SELECT (SELECT group_concat(topic_id || '/' || partition || '=' ||"
	    "  next_offset, ' ') FROM (SELECT * FROM positions ORDER BY"
	    "  topic_id, partition)) || ' | ' || (SELECT group_concat("
	    "  substr(source, -1) || '/' || topic_id || '/' || partition ||"
	    "  '=' || seq, ' ') FROM (SELECT * FROM marks ORDER BY source,"
	    "  topic_id, partition))";
	static char text[512];
	struct mr_error err = {0};
	struct store_rows *rows;

	assert_non_null(rows = store_query_values(st, &err, sql, NULL, 0));
	assert_int_equal(store_next(rows, &err), 1);
	snprintf(text, sizeof(text), "%s", store_get_text(rows, 0));
	store_rows_done(rows);
	return (text);
}

#define POSITIONS "now/0=10 now/1=20"
#define MARKS "a/now/0=100 a/now/1=200 b/now/0=50"

static void
test_each_halt_has_a_plan_that_lets_it_go_on(void **state)
{
	static const struct {
		const char *what;
		const char *topic_id;
		int partition;
		int64_t firsts[3];
		int64_t next;
		int has_record;
		int unreadable;
		const char *source;
		int64_t seq;
		int64_t predecessor;
		enum gap_kind kind;
		const char *after;
		int64_t cut_at; /* 0: it wasn't cut */
	} cases[] = {
	    {"nothing new", "now", 0, {0, 0, 0}, 10, 0, 0, "", 0, 0, GAP_NONE,
		POSITIONS " | " MARKS, 0},
	    {"what follows", "now", 0, {0, 0, 0}, 11, 1, 0, S, 101, 100,
		GAP_NONE, POSITIONS " | " MARKS, 0},
	    {"a repeat", "now", 0, {0, 0, 0}, 11, 1, 0, S, 100, 99, GAP_NONE,
		POSITIONS " | " MARKS, 0},
	    {"a new source", "now", 1, {0, 0, 0}, 21, 1, 0, OTHER, 70, 60,
		GAP_NONE, POSITIONS " | " MARKS, 0},
	    {"a stranger", "now", 0, {0, 0, 0}, 11, 1, 0, "", 0, 0, GAP_NONE,
		POSITIONS " | " MARKS, 0},
	    {"a partition that is read from its start", "now", 2, {0, 0, 0}, 5,
		0, 0, "", 0, 0, GAP_NONE, POSITIONS " | " MARKS, 0},
	    {"a gap in the sequence", "now", 0, {0, 0, 0}, 11, 1, 0, S, 120,
		110, GAP_SEQUENCE,
		POSITIONS " | a/now/0=110 a/now/1=200 b/now/0=50", 0},
	    {"retention", "now", 0, {15, 0, 0}, 30, 0, 0, "", 0, 0,
		GAP_RETENTION, "now/0=15 now/1=20 | " MARKS, 0},
	    {"retention of all", "now", 1, {0, 30, 0}, 30, 0, 0, "", 0, 0,
		GAP_RETENTION, "now/0=10 now/1=30 | " MARKS, 0},
	    {"a log that was cut", "now", 1, {0, 0, 0}, 12, 0, 0, "", 0, 0,
		GAP_TRUNCATED, "now/0=10 now/1=12 | " MARKS, 0},
	    {"a log that was cut and grew again", "now", 1, {0, 0, 0}, 25, 0, 0,
		"", 0, 0, GAP_TRUNCATED, "now/0=10 now/1=17 | " MARKS, 17},
	    {"a damaged record", "now", 0, {0, 0, 0}, 30, 0, 1, "", 0, 0,
		GAP_UNREADABLE, "now/0=17 now/1=20 | " MARKS, 0},
	    {"a new partition, cut", "now", 2, {0, 0, 7}, 9, 0, 0, "", 0, 0,
		GAP_PARTITION, POSITIONS " now/2=7 | " MARKS, 0},
	    {"a topic made anew", "new", 1, {0, 4, 0}, 9, 0, 0, "", 0, 0,
		GAP_ANEW,
		"new/0=0 new/1=4 new/2=0 |"
		" a/new/0=100 a/new/1=200 b/new/0=50",
		0},
	};
	struct gap_marks none = {NULL, 0, 0};
	struct gap_facts facts;
	struct gap_plan plan;
	struct mr_error err = {0};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (i > 0) {
			teardown(state);
			setup(state);
		}
		memset(&facts, 0, sizeof(facts));
		facts.topic = "order-events";
		snprintf(facts.topic_id, sizeof(facts.topic_id), "%s",
		    cases[i].topic_id);
		facts.partition = cases[i].partition;
		facts.partitions = 3;
		facts.firsts = cases[i].firsts;
		facts.next = cases[i].next;
		facts.offset = 10;
		facts.has_record = cases[i].has_record;
		facts.unreadable = cases[i].unreadable;
		facts.readable = 17;
		facts.was_cut = cases[i].cut_at != 0;
		facts.cut_at = cases[i].cut_at;
		snprintf(facts.source, sizeof(facts.source), "%s",
		    cases[i].source);
		facts.seq = cases[i].seq;
		facts.predecessor = cases[i].predecessor;
		assert_int_equal(gap_plan_make(st, &facts, &plan, &err), 0);
		if (plan.kind != cases[i].kind)
			fail_msg("%s: kind %d: %s", cases[i].what,
			    (int)plan.kind, plan.says);
		assert_true(strlen(plan.says) > 0);
		assert_string_equal(contents(), POSITIONS " | " MARKS);
		assert_int_equal(gap_plan_apply(st, &facts, &plan, &none, &err),
		    0);
		assert_string_equal(contents(), cases[i].after);
	}
}

static void
test_a_plan_for_a_file_that_changed_is_not_carried_out(void **state)
{
	const int64_t firsts[] = {15, 0};
	struct gap_facts facts = {.topic = "order-events",
	    .topic_id = "now",
	    .partitions = 2,
	    .firsts = firsts,
	    .next = 30};
	struct gap_marks none = {NULL, 0, 0};
	struct gap_plan plan;
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(gap_plan_make(st, &facts, &plan, &err), 0);
	plan.from = 11;
	assert_int_equal(gap_plan_apply(st, &facts, &plan, &none, &err), -1);
	assert_non_null(strstr(err.message, "changed meanwhile"));
	assert_string_equal(contents(), POSITIONS " | " MARKS);
}

static void
test_where_records_are_left_out_each_sources_mark_follows(void **state)
{
	const int64_t firsts[] = {15, 0};
	struct gap_facts facts = {.topic = "order-events",
	    .topic_id = "now",
	    .partitions = 2,
	    .firsts = firsts,
	    .next = 30};
	struct gap_marks marks = {NULL, 0, 0};
	struct gap_plan plan;
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(gap_plan_make(st, &facts, &plan, &err), 0);
	assert_true(gap_leaves_out(&plan));
	assert_int_equal(gap_marks_read(st, facts.topic, 0, &marks, &err), 0);
	assert_int_equal(marks.left, 2);
	gap_marks_meet(&marks, 0, S, 90, 80); /* a repeat */
	gap_marks_meet(&marks, 1, S, 300, 290); /* another partition's */
	gap_marks_meet(&marks, 0, "/millrace/x/1", 300, 290);
	assert_int_equal(marks.left, 2);
	gap_marks_meet(&marks, 0, S, 130, 120);
	gap_marks_meet(&marks, 0, S, 150, 140); /* a later gap halts again */
	gap_marks_meet(&marks, 0, OTHER, 51, 50); /* misses nothing */
	assert_int_equal(marks.left, 0);
	assert_int_equal(gap_plan_apply(st, &facts, &plan, &marks, &err), 0);
	assert_string_equal(contents(),
	    "now/0=15 now/1=20 | a/now/0=120 a/now/1=200 b/now/0=50");
	free(marks.list);
}

static void
test_rebinding_keeps_the_files_own_id_the_newest(void **state)
{
	static const char sql_ids[] =
	    "SELECT group_concat(number || '=' || database_id, ' ') FROM"
	    " (SELECT * FROM database_ids ORDER BY number)";
	static const char sql_clusters[] = "SELECT cluster_id FROM cluster";
	const char ids[2][33] = {ID_A, ID_B};
	struct mr_error err = {0};
	struct store_rows *rows;
	int i;

	(void)state;
	/* The second time there is nothing to add. */
	for (i = 0; i < 2; i++)
		assert_int_equal(rebind_apply(st, "cluster-2", ids, 2, 5, &err),
		    0);
	assert_non_null(rows = store_query_values(st, &err, sql_ids, NULL, 0));
	assert_int_equal(store_next(rows, &err), 1);
	assert_string_equal(store_get_text(rows, 0),
	    "-1=" ID_B " 0=" ID_A " 1=" ID_C);
	store_rows_done(rows);
	assert_non_null(
	    rows = store_query_values(st, &err, sql_clusters, NULL, 0));
	assert_int_equal(store_next(rows, &err), 1);
	assert_string_equal(store_get_text(rows, 0), "cluster-2");
	store_rows_done(rows);
}

/* Kafka has the cursor, and another cluster knows nothing of it. */
static void
test_rebinding_to_another_cluster_forgets_the_relays_cursor(void **state)
{
	static const char sql_relays[] =
	    "UPDATE relay SET transactional = 1, owner = 'a', epoch = 7";
	static const char sql_same[] =
	    "SELECT (owner, epoch) = ('a', 7) FROM relay";
	static const char sql_way[] = "SELECT transactional FROM relay";
	static const struct {
		const char *cluster_id;
		int64_t transactional;
	} steps[] = {{"cluster-1", 1}, /* the file has met none */
	    {"cluster-1", 1}, {"cluster-2", 0}};
	const char ids[1][33] = {ID_A};
	struct mr_error err = {0};
	int64_t found;
	size_t i;

	(void)state;
	assert_int_equal(store_begin(st, &err), 0);
	assert_int_equal(store_run(st, &err, sql_relays), 1);
	assert_int_equal(store_commit(st, &err), 0);
	for (i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		assert_int_equal(rebind_apply(st, steps[i].cluster_id, ids, 1,
				     5, &err),
		    0);
		assert_int_equal(store_find(st, &err, &found, sql_way), 1);
		assert_int_equal(found, steps[i].transactional);
		assert_int_equal(store_find(st, &err, &found, sql_same), 1);
		assert_int_equal(found, 1);
	}
}

/* Have the file open in another process until told; its pid. */
static pid_t
hold_elsewhere(int alone, int tell[2])
{
	const struct store_options options = {.path = path,
	    .service = "inventory",
	    .core = migrations_core,
	    .own = migrations_inventory};
	struct mr_error err = {0};
	struct store *other;
	int ready[2];
	char byte = 'x';
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(tell), 0);
	fflush(NULL);
	if ((pid = fork()) == 0) {
		other = alone ? store_open_alone(path, &err) :
				store_open(&options, &err);
		_exit(other == NULL || write(ready[1], &byte, 1) != 1 ||
		    read(tell[0], &byte, 1) != 1);
	}
	(void)close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	(void)close(ready[0]);
	return (pid);
}

static void
let_go(pid_t pid, int tell[2])
{
	int status;

	assert_int_equal(write(tell[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	(void)close(tell[0]);
	(void)close(tell[1]);
}

static void
test_a_file_in_use_is_refused_both_ways(void **state)
{
	const struct store_options options = {.path = path,
	    .service = "inventory",
	    .core = migrations_core,
	    .own = migrations_inventory};
	struct mr_error err = {0};
	int tell[2];
	pid_t pid;

	(void)state;
	store_close(st);
	st = NULL;
	/* While a service has it, we can't. */
	pid = hold_elsewhere(0, tell);
	assert_null(store_open_alone(path, &err));
	assert_int_equal(err.kind, MR_RETRY);
	assert_non_null(strstr(err.message, "stop the service first"));
	let_go(pid, tell);
	/* While we have it, a service can't. */
	pid = hold_elsewhere(1, tell);
	assert_null(store_open(&options, &err));
	assert_int_equal(err.kind, MR_RETRY);
	let_go(pid, tell);
	open_alone();
	assert_string_equal(contents(), POSITIONS " | " MARKS);
}

static void
test_only_a_services_file_is_opened(void **state)
{
	struct mr_error err = {0};
	char name[128];
	FILE *f;

	(void)state;
	snprintf(name, sizeof(name), "%s/none.db", folder);
	assert_null(store_open_alone(name, &err));
	assert_non_null(strstr(err.message, "none.db"));
	assert_int_equal(access(name, F_OK), -1);
	assert_non_null(f = fopen(name, "w"));
	assert_int_equal(fclose(f), 0);
	assert_null(store_open_alone(name, &err));
	assert_non_null(strstr(err.message, "not a service's file"));
	(void)unlink(name);
	snprintf(name, sizeof(name), "%s/none.db.writer", folder);
	(void)unlink(name);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	    TEST(test_each_halt_has_a_plan_that_lets_it_go_on),
	    TEST(test_a_plan_for_a_file_that_changed_is_not_carried_out),
	    TEST(test_where_records_are_left_out_each_sources_mark_follows),
	    TEST(test_rebinding_keeps_the_files_own_id_the_newest),
	    TEST(test_rebinding_to_another_cluster_forgets_the_relays_cursor),
	    TEST(test_a_file_in_use_is_refused_both_ways),
	    TEST(test_only_a_services_file_is_opened),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
