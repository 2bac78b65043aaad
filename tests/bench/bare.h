/*
 * bare -- what the bare loops share: a service's file and the core's
 * statements around a batch, on SQLite directly.  What goes wrong ends the
 * program.
 */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "kafka/kafka.h"
#include "migrations.h"
#include "store/store.h"

#define BARE_PARTITIONS_MOST 4
#define BARE_STATEMENTS_MOST 32

/* The core's; a loop's own are numbered from BARE_OWN on. */
enum bare_statement {
	BARE_BEGIN,
	BARE_POSITION,
	BARE_MARK,
	BARE_MARK_WRITE,
	BARE_POSITION_WRITE,
	BARE_COMMIT,
	BARE_EMIT,
	BARE_SETTLE,
	BARE_ENDS,
	BARE_ISSUED_WRITE,
	BARE_TAIL_WRITE,
	BARE_OWN
};

static const char *const bare_core[BARE_OWN] = {
    [BARE_BEGIN] = "BEGIN IMMEDIATE",
    [BARE_POSITION] = "SELECT next_offset, leader_epoch FROM positions"
		      " WHERE topic_id = ?1 AND partition = ?2",
    [BARE_MARK] = "SELECT seq FROM marks"
		  " WHERE source = ?1 AND topic_id = ?2 AND partition = ?3",
    [BARE_MARK_WRITE] = "INSERT INTO marks (source, topic_id, partition, seq)"
			" VALUES (?1, ?2, ?3, ?4)"
			" ON CONFLICT DO UPDATE SET seq = excluded.seq"
			" WHERE excluded.seq > seq",
    [BARE_POSITION_WRITE] = "INSERT INTO positions (topic_id, partition, topic,"
			    " next_offset, leader_epoch)"
			    " VALUES (?1, ?2, ?4, ?3, 0)"
			    " ON CONFLICT DO UPDATE"
			    " SET next_offset = excluded.next_offset",
    [BARE_COMMIT] = "COMMIT",
    [BARE_EMIT] = "INSERT INTO outbox (seq, database, topic, partition, type,"
		  " key, value, ts_ms, predecessor, cause_topic,"
		  " cause_partition, cause_offset, headers) VALUES"
		  " (?13, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    [BARE_SETTLE] = "DELETE FROM outbox WHERE seq <= ?1",
    [BARE_ENDS] = "SELECT (SELECT min(seq) FROM outbox),"
		  " (SELECT max(seq) FROM outbox)",
    [BARE_ISSUED_WRITE] = "UPDATE sqlite_sequence SET seq = ?1"
			  " WHERE name = 'outbox'",
    [BARE_TAIL_WRITE] = "INSERT INTO output_tails (topic, partition, seq)"
			" VALUES (?1, ?2, ?3)"
			" ON CONFLICT DO UPDATE SET seq = excluded.seq",
};

#ifndef BARE_WITH_READER
/*
 * As a program on these libraries reads JSON, and as what we compare with did
 * when its targets were set: it doesn't get faster with Millrace's own way.
 * The linker takes this one.
 */
json_t *
json_read(const void *bytes, size_t size, size_t flags, json_error_t *why,
    int *out_of_memory)
{

	*out_of_memory = 0;
	return (json_loadb(bytes, size, flags, why));
}
#endif

static const char bare_topic_id[] = "AAAAAAAAAAAAAAAAAAAAAA";
static sqlite3 *bare_db;
static sqlite3_stmt *bare_stmts[BARE_STATEMENTS_MOST];
static int64_t bare_marks[BARE_PARTITIONS_MOST],
    bare_nexts[BARE_PARTITIONS_MOST];

static inline _Noreturn void
bare_die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what,
	    bare_db != NULL ? sqlite3_errmsg(bare_db) : "failed");
	exit(1);
}

static inline void
bare_text(int s, int i, const char *value)
{
	sqlite3_bind_text(bare_stmts[s], i, value, -1, SQLITE_STATIC);
}

static inline void
bare_number(int s, int i, int64_t value)
{
	sqlite3_bind_int64(bare_stmts[s], i, value);
}

/* The next row: 1, or 0 at the end, and then it can be run again. */
static inline int
bare_step(int s)
{
	int rc = sqlite3_step(bare_stmts[s]);

	if (rc == SQLITE_ROW)
		return (1);
	if (rc != SQLITE_DONE)
		bare_die(sqlite3_sql(bare_stmts[s]));
	sqlite3_reset(bare_stmts[s]);
	return (0);
}

static inline int64_t
bare_column(int s, int i)
{
	return (sqlite3_column_int64(bare_stmts[s], i));
}

static inline void
bare_run(int s)
{
	while (bare_step(s))
		;
}

/* The file as the service makes it, then a connection with its settings;
 * ${first} is run once. */
static inline void
bare_open(const char *path, const char *service,
    const struct store_migration *migrations, const char *const *own, int count,
    const char *first)
{
	const struct store_options options = {.path = path,
	    .service = service,
	    .core = migrations_core,
	    .own = migrations};
	struct mr_error err;
	struct store *st;
	const char *sql;
	int i;

	if ((st = store_open(&options, &err)) == NULL)
		bare_die(err.message);
	store_close(st);
	if (sqlite3_open_v2(path, &bare_db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
		NULL) != SQLITE_OK ||
	    sqlite3_exec(bare_db,
		"PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;"
		"PRAGMA cell_size_check = ON; PRAGMA cache_size = -4096;"
		"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
		"PRAGMA foreign_keys = ON;"
		"PRAGMA journal_size_limit = 67108864;"
		"PRAGMA wal_autocheckpoint = 4000;"
		"INSERT INTO database_ids (number, database_id, drawn_at_ms) VALUES"
		" (1, '00000000000000000000000000000b1d', 0);"
		"INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', 0);",
		NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(bare_db, first, NULL, NULL, NULL) != SQLITE_OK)
		bare_die(path);
	for (i = 0; i < BARE_OWN + count; i++) {
		sql = i < BARE_OWN ? bare_core[i] : own[i - BARE_OWN];
		if (sqlite3_prepare_v3(bare_db, sql, -1,
			SQLITE_PREPARE_PERSISTENT, &bare_stmts[i],
			NULL) != SQLITE_OK)
			bare_die(sql);
	}
}

/* What the core reads before a batch. */
static inline void
bare_begin(const char *source, int partitions)
{
	int i;

	bare_run(BARE_BEGIN);
	for (i = 0; i < partitions; i++) {
		bare_text(BARE_POSITION, 1, bare_topic_id);
		bare_number(BARE_POSITION, 2, i);
		bare_run(BARE_POSITION);
		bare_text(BARE_MARK, 1, source);
		bare_text(BARE_MARK, 2, bare_topic_id);
		bare_number(BARE_MARK, 3, i);
		bare_run(BARE_MARK);
	}
}

/* And what it writes after it. */
static inline void
bare_commit(const char *source, const char *topic, int partitions)
{
	int i;

	for (i = 0; i < partitions; i++) {
		bare_text(BARE_MARK_WRITE, 1, source);
		bare_text(BARE_MARK_WRITE, 2, bare_topic_id);
		bare_number(BARE_MARK_WRITE, 3, i);
		bare_number(BARE_MARK_WRITE, 4, bare_marks[i]);
		bare_run(BARE_MARK_WRITE);
		bare_text(BARE_POSITION_WRITE, 1, bare_topic_id);
		bare_number(BARE_POSITION_WRITE, 2, i);
		bare_number(BARE_POSITION_WRITE, 3, bare_nexts[i]);
		bare_text(BARE_POSITION_WRITE, 4, topic);
		bare_run(BARE_POSITION_WRITE);
	}
	bare_run(BARE_COMMIT);
}

/* ---- a loop that emits -------------------------------------------------------- */

struct bare_output {
	const char *topic;
	int partitions;
	int64_t tails[BARE_PARTITIONS_MOST];
	int64_t settled; /* what was emitted before this batch */
	int64_t last;
};

/* The core knows by itself what it wrote of an output before. */
static inline void
bare_begin_output(struct bare_output *output)
{
	output->settled = output->last;
}

/* A record in the outbox; its cause is the next one of ${topic}'s ${from}. */
static inline void
bare_emit(struct bare_output *output, const char *type, const char *key,
    const struct buffer *value, int64_t ts_ms, const char *topic, int from)
{
	const int to = kafka_partition_of(key, strlen(key), output->partitions);

	bare_number(BARE_EMIT, 1, 1);
	bare_text(BARE_EMIT, 2, output->topic);
	bare_number(BARE_EMIT, 3, to);
	bare_text(BARE_EMIT, 4, type);
	sqlite3_bind_blob(bare_stmts[BARE_EMIT], 5, key, (int)strlen(key),
	    SQLITE_STATIC);
	sqlite3_bind_blob(bare_stmts[BARE_EMIT], 6, value->data,
	    (int)value->length, SQLITE_STATIC);
	bare_number(BARE_EMIT, 7, ts_ms);
	bare_number(BARE_EMIT, 8, output->tails[to]);
	bare_text(BARE_EMIT, 9, topic);
	bare_number(BARE_EMIT, 10, from);
	bare_number(BARE_EMIT, 11, bare_nexts[from]);
	bare_number(BARE_EMIT, 13, ++output->last);
	bare_run(BARE_EMIT);
	output->tails[to] = output->last;
}

/* And what it writes after one: the batch before is acknowledged by now. */
static inline void
bare_end_output(const struct bare_output *output)
{
	int i;

	bare_number(BARE_SETTLE, 1, output->settled);
	bare_run(BARE_SETTLE);
	bare_run(BARE_ENDS);
	bare_number(BARE_ISSUED_WRITE, 1, output->last);
	bare_run(BARE_ISSUED_WRITE);
	for (i = 0; i < output->partitions; i++) {
		bare_text(BARE_TAIL_WRITE, 1, output->topic);
		bare_number(BARE_TAIL_WRITE, 2, i);
		bare_number(BARE_TAIL_WRITE, 3, output->tails[i]);
		bare_run(BARE_TAIL_WRITE);
	}
}

/*
 * bare_main -- the loop itself: ${encode} makes the value of the n-th record,
 * outside of the time that is measured; ${before}, ${apply} and ${after}
 * (given how many records there were before) are inside.  Prints the rate.
 */
struct bare_loop {
	void (*open)(const char *path);
	void (*encode)(int64_t n, struct buffer *value);
	void (*before)(void);
	void (*apply)(const struct buffer *value, int64_t n);
	void (*after)(int64_t n);
};
static inline int
bare_main(int argc, char **argv, const struct bare_loop *loop)
{
	struct buffer *values;
	int64_t count, batch, n, i, began_us, took_us = 0;

	if (argc != 4 || (count = strtoll(argv[2], NULL, 10)) < 1 ||
	    (batch = strtoll(argv[3], NULL, 10)) < 1) {
		fprintf(stderr, "usage: %s DB RECORDS BATCH\n", argv[0]);
		return (2);
	}
	loop->open(argv[1]);
	if ((values = calloc((size_t)batch, sizeof(*values))) == NULL)
		bare_die("out of memory");
	for (n = 0; n < count; n += batch) {
		for (i = 0; i < batch; i++) {
			buffer_clear(&values[i]);
			loop->encode(n + i, &values[i]);
		}
		began_us = clock_mono_us();
		loop->before();
		for (i = 0; i < batch; i++)
			loop->apply(&values[i], n + i);
		loop->after(n);
		took_us += clock_mono_us() - began_us;
	}
	printf("rate=%.0f seconds=%.3f cpu_s=%.3f\n",
	    (double)n * 1e6 / (double)took_us, (double)took_us / 1e6,
	    (double)clock() / CLOCKS_PER_SEC);
	return (0);
}

#endif
