/*
 * Values in the store: integers, doubles, texts and blobs of any bytes come
 * back as they were given, through a cursor and through comparison in SQL.
 */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "fuzz.h"
#include "store/store.h"

static const char sql_table[] =
    "CREATE TABLE kept (id INTEGER PRIMARY KEY NOT NULL, i INTEGER, r REAL,"
    " t TEXT, b BLOB) STRICT;"
    "CREATE TABLE any_kept (id INTEGER PRIMARY KEY NOT NULL, v ANY) STRICT;";
static const struct store_migration core[] = {{1, "nothing",
						  "CREATE TABLE c (id INTEGER"
						  " PRIMARY KEY NOT NULL)"},
    {0}};
static const struct store_migration own[] = {{1, "kept", sql_table}, {0}};

static const char sql_insert[] =
    "INSERT INTO kept (id, i, r, t, b) VALUES (1, ?1, ?2, ?3, ?4)";
static const char sql_select[] = "SELECT i, r, t, b FROM kept";
static const char sql_count[] =
    "SELECT count(*) FROM kept WHERE i IS ?1 AND r IS ?2 AND t IS ?3"
    " AND b IS ?4";
static const char sql_any[] = "INSERT INTO any_kept (id, v) VALUES (?1, ?2)";
static const char sql_any_select[] =
    "SELECT v FROM any_kept WHERE v IS ?1 ORDER BY id";

static char folder[] = "/tmp/millrace-fuzz-XXXXXX";
static char path[sizeof(folder) + 16];
static struct store *st;

static void
clean_up(void)
{
	char name[sizeof(path) + 16];
	static const char *const ends[] = {"", "-wal", "-shm", ".writer"};
	size_t i;

	store_close(st);
	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		snprintf(name, sizeof(name), "%s%s", path, ends[i]);
		(void)unlink(name);
	}
	(void)rmdir(folder);
}

static void
begin(void)
{
	const struct store_options options = {.path = path,
	    .service = "fuzz",
	    .core = core,
	    .own = own};
	struct mr_error err;

	log_init("fuzz", LOG_LOGFMT, LOG_ERROR + 1);
	assert(mkdtemp(folder) != NULL);
	snprintf(path, sizeof(path), "%s/fuzz.db", folder);
	st = store_open(&options, &err);
	assert(st != NULL);
	(void)atexit(clean_up);
}

static struct store_value
take_bytes(struct fuzz_input *in, int as_text)
{
	const char *bytes;
	size_t length;

	if (fuzz_byte(in) % 8 == 0)
		return (store_null());
	bytes = fuzz_bytes(in, (size_t)fuzz_byte(in) * 4, &length);
	return (
	    as_text ? store_text_n(bytes, length) : store_blob(bytes, length));
}

static double
take_f64(struct fuzz_input *in)
{
	int64_t bits = fuzz_i64(in);
	double x;

	memcpy(&x, &bits, sizeof(x));
	return (x);
}

static void
check_bytes(struct store_rows *rows, int column,
    const struct store_value *expected)
{
	const void *bytes;
	size_t length;

	bytes = store_get_blob(rows, column, &length);
	assert(store_is_null(rows, column) == (expected->bytes == NULL));
	if (expected->bytes == NULL) {
		assert(length == 0);
		return;
	}
	assert(length == expected->length);
	assert(memcmp(bytes, expected->bytes, length) == 0);
	assert(store_column_type(rows, column) == expected->type);
}

static void
check_row(const struct store_value *values)
{
	struct mr_error err;
	struct store_rows *rows = store_query(st, &err, sql_select);
	const char *text;
	double x;
	int64_t n = 0;

	assert(rows != NULL && store_next(rows, &err) == 1);
	assert(store_get_i64(rows, 0) == values[0].i64);
	/* SQLite has no NaN: it is a null. */
	x = store_get_f64(rows, 1);
	assert(store_is_null(rows, 1) == isnan(values[1].f64));
	assert(isnan(values[1].f64) || x == values[1].f64);
	/* The blob first: as a text it ends in a NUL that doesn't count. */
	check_bytes(rows, 2, &values[2]);
	text = store_get_text(rows, 2);
	assert(values[2].bytes == NULL ? text[0] == '\0' :
					 text[values[2].length] == '\0' &&
		    memcmp(text, values[2].bytes, values[2].length) == 0);
	check_bytes(rows, 3, &values[3]);
	assert(store_next(rows, &err) == 0);
	store_rows_done(rows);
	assert(store_find(st, &err, &n, sql_count, values[0], values[1],
		   values[2], values[3]) == 1 &&
	    n == 1);
}

/* Where a column takes any type, each stays what it was. */
static void
check_any(const struct store_value *values)
{
	struct mr_error err;
	struct store_rows *rows;
	enum store_type type;
	int i;

	for (i = 0; i < 4; i++)
		assert(
		    store_run(st, &err, sql_any, store_i64(i), values[i]) == 1);
	for (i = 0; i < 4; i++) {
		type = values[i].type;
		if ((type >= STORE_TEXT && values[i].bytes == NULL) ||
		    (type == STORE_F64 && isnan(values[i].f64)))
			type = STORE_NULL;
		rows = store_query(st, &err, sql_any_select, values[i]);
		assert(rows != NULL && store_next(rows, &err) == 1);
		/* 1 is 1.0, so the first may be the other of them. */
		assert(store_column_type(rows, 0) == type ||
		    (type == STORE_F64 &&
			store_column_type(rows, 0) == STORE_I64));
		store_rows_done(rows);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct store_value values[4];
	struct mr_error err;

	if (st == NULL)
		begin();
	values[0] = store_i64(fuzz_i64(&in));
	values[1] = store_f64(take_f64(&in));
	values[2] = take_bytes(&in, 1);
	values[3] = take_bytes(&in, 0);
	assert(store_begin(st, &err) == 0);
	assert(store_save(st, &err) == 0);
	assert(store_run(st, &err, sql_insert, values[0], values[1], values[2],
		   values[3]) == 1);
	check_row(values);
	check_any(values);
	assert(store_restore(st, &err) == 0);
	assert(store_trouble(st, &err) == 0);
	assert(store_in_transaction(st));
	store_rollback(st);
	return (0);
}
