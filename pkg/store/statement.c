#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "store/internal.h"

#define CACHE_FIRST_BITS 6
#define CACHE_MOST 2048 /* more is text made at run time */

struct store_value
store_null(void)
{
	return ((struct store_value){.type = STORE_NULL});
}

struct store_value
store_i64(int64_t n)
{
	return ((struct store_value){.type = STORE_I64, .i64 = n});
}

struct store_value
store_f64(double x)
{
	return ((struct store_value){.type = STORE_F64, .f64 = x});
}

struct store_value
store_text(const char *text)
{
	return (store_text_n(text, text != NULL ? strlen(text) : 0));
}

struct store_value
store_text_n(const char *text, size_t length)
{
	return ((struct store_value){.type = STORE_TEXT,
	    .bytes = text,
	    .length = length});
}

struct store_value
store_blob(const void *bytes, size_t length)
{
	return ((struct store_value){.type = STORE_BLOB,
	    .bytes = bytes,
	    .length = length});
}

/* ---- the cache ---------------------------------------------------------- */

/* Pragmas that SQLite itself runs: a full-text table reads its data version
 * through one, and ALTER TABLE checks what is in a STRICT table by another. */
static int
is_own_pragma(const char *name)
{
	return (name != NULL &&
	    (strcasecmp(name, "data_version") == 0 ||
		strcasecmp(name, "quick_check") == 0));
}

int
store_authorize(void *arg, int action, const char *a, const char *b,
    const char *schema, const char *trigger)
{
	struct store *st = arg;
	int seen = 0;

	(void)b;
	(void)schema;
	(void)trigger;
	switch (action) {
	case SQLITE_TRANSACTION:
	case SQLITE_SAVEPOINT:
		seen = STORE_CONTROLS;
		break;
	case SQLITE_PRAGMA:
		if (is_own_pragma(a))
			break;
		/* FALLTHROUGH */
	case SQLITE_ATTACH:
	case SQLITE_DETACH:
		seen = STORE_REACHES;
		break;
	default:
		break;
	}
	st->seen |= seen;
	return (seen != 0 && st->migrating ? SQLITE_DENY : SQLITE_OK);
}

int
store_progress(void *arg)
{
	const struct store *st = arg;

	return (clock_mono_us() >= st->deadline_us);
}

/* Fibonacci hashing of the address. */
static size_t
slot_of(const char *sql, size_t bits)
{
	return ((size_t)(((uint64_t)(uintptr_t)sql * 0x9e3779b97f4a7c15u) >>
	    (64 - bits)));
}

static struct store_rows **
find_slot(struct store_rows **cache, size_t bits, const char *sql)
{
	size_t mask = ((size_t)1 << bits) - 1;
	size_t i = slot_of(sql, bits);

	while (cache[i] != NULL && cache[i]->sql != sql)
		i = (i + 1) & mask;
	return (&cache[i]);
}

/* Keeps the cache at most half full.  0, or -1 without memory. */
static int
grow(struct store *st)
{
	size_t bits = st->cache == NULL ? CACHE_FIRST_BITS : st->cache_bits + 1;
	size_t i, size = (size_t)1 << st->cache_bits;
	struct store_rows **cache;

	if (st->cache != NULL && st->cache_used * 2 < size)
		return (0);
	if ((cache = calloc((size_t)1 << bits, sizeof(struct store_rows *))) ==
	    NULL)
		return (-1);
	for (i = 0; st->cache != NULL && i < size; i++)
		if (st->cache[i] != NULL)
			*find_slot(cache, bits,
			    st->cache[i]->sql) = st->cache[i];
	free(st->cache);
	st->cache = cache;
	st->cache_bits = bits;
	return (0);
}

/* 1 if nothing but space and comments follows, 0 if a statement does. */
static int
is_alone(struct store *st, const char *tail)
{
	sqlite3_stmt *next;

	while (tail != NULL && *tail != '\0') {
		next = NULL;
		if (sqlite3_prepare_v3(st->db, tail, -1, 0, &next, &tail) !=
			SQLITE_OK ||
		    next != NULL) {
			(void)sqlite3_finalize(next);
			return (0);
		}
	}
	return (1);
}

static int
prepare(struct store *st, struct store_rows *rows, struct mr_error *err)
{
	const char *tail = NULL;
	struct mr_error why = {0};
	int rc;

	st->seen = 0;
	rc = sqlite3_prepare_v3(st->db, rows->text, -1,
	    SQLITE_PREPARE_PERSISTENT, &rows->stmt, &tail);
	rows->seen = st->seen;
	if (rc == SQLITE_ERROR) {
		mr_error_set(&why, MR_FATAL, "%s in", sqlite3_errmsg(st->db));
		return (store_bug(st, err, why.message, rows->text));
	}
	if (rc != SQLITE_OK)
		return (store_fail(st, err, rc, "prepare"));
	if (rows->stmt == NULL || !is_alone(st, tail))
		return (store_bug(st, err, "not exactly one statement",
		    rows->text));
	rows->parameters = sqlite3_bind_parameter_count(rows->stmt);
	rows->columns = sqlite3_column_count(rows->stmt);
	rows->writes = !sqlite3_stmt_readonly(rows->stmt);
	return (0);
}

/* The slow way: a statement's first use. */
static struct store_rows *
add(struct store *st, const char *sql, struct mr_error *err)
{
	size_t length = strlen(sql);
	struct store_rows *rows;

	if (st->cache_used >= CACHE_MOST) {
		store_bug(st, err,
		    "too many statements: is text made at run "
		    "time?",
		    sql);
		return (NULL);
	}
	if (grow(st) != 0 ||
	    (rows = calloc(1, sizeof(*rows) + length + 1)) == NULL) {
		store_fail(st, err, SQLITE_NOMEM, "prepare");
		return (NULL);
	}
	rows->st = st;
	rows->sql = sql;
	memcpy(rows->text, sql, length + 1);
	if (prepare(st, rows, err) != 0) {
		(void)sqlite3_finalize(rows->stmt);
		free(rows);
		return (NULL);
	}
	*find_slot(st->cache, st->cache_bits, sql) = rows;
	st->cache_used++;
	return (rows);
}

void
store_forget_statements(struct store *st)
{
	size_t i;

	for (i = 0; st->cache != NULL && i < (size_t)1 << st->cache_bits; i++) {
		if (st->cache[i] == NULL)
			continue;
		(void)sqlite3_finalize(st->cache[i]->stmt);
		free(st->cache[i]);
	}
	free(st->cache);
	st->cache = NULL;
	st->cache_bits = st->cache_used = 0;
	LIST_INIT(&st->opened);
}

/* ---- running ------------------------------------------------------------ */

/* What the caller asks for must not be done in the state that we are in. */
static int
refuse(struct store *st, struct mr_error *err, const struct store_rows *rows,
    size_t count)
{
	if (rows->seen & STORE_CONTROLS)
		return (store_bug(st, err,
		    "transactions and savepoints are "
		    "the store's",
		    rows->text));
	if ((rows->seen & STORE_REACHES) && st->guarded)
		return (store_bug(st, err, "not allowed here", rows->text));
	if (rows->writes && !st->begun && !(rows->seen & STORE_REACHES))
		return (store_bug(st, err,
		    st->pen != NULL ? "a write outside of a transaction" :
				      "a write through a reader",
		    rows->text));
	if (rows->open)
		return (
		    store_bug(st, err, "still open from before", rows->text));
	if ((size_t)rows->parameters != count)
		return (
		    store_bug(st, err, "wrong number of values", rows->text));
	return (0);
}

static int
bind(sqlite3_stmt *stmt, int i, const struct store_value *value)
{
	switch (value->type) {
	case STORE_I64:
		return (sqlite3_bind_int64(stmt, i, value->i64));
	case STORE_F64:
		return (sqlite3_bind_double(stmt, i, value->f64));
	case STORE_TEXT:
		return (sqlite3_bind_text64(stmt, i, value->bytes,
		    value->length, SQLITE_STATIC, SQLITE_UTF8));
	case STORE_BLOB:
		return (sqlite3_bind_blob64(stmt, i, value->bytes,
		    value->length, SQLITE_STATIC));
	case STORE_NULL:
	default:
		return (sqlite3_bind_null(stmt, i));
	}
}

/* Find the statement, check that it may run now, bind its values. */
static struct store_rows *
ready(struct store *st, struct mr_error *err, const char *sql,
    const struct store_value *values, size_t count)
{
	struct store_rows *rows = NULL;
	size_t i;
	int rc;

	if (st->broken || store_lost(st)) {
		store_trouble(st, err);
		return (NULL);
	}
	if (st->cache != NULL)
		rows = *find_slot(st->cache, st->cache_bits, sql);
	if (rows == NULL && (rows = add(st, sql, err)) == NULL)
		return (NULL);
	if (strcmp(rows->text, sql) != 0) {
		store_bug(st, err, "the text at a statement's address changed",
		    sql);
		return (NULL);
	}
	if (refuse(st, err, rows, count) != 0)
		return (NULL);
	for (i = 0; i < count; i++) {
		rc = bind(rows->stmt, (int)i + 1, &values[i]);
		if (rc != SQLITE_OK) {
			store_fail(st, err, rc, "bind");
			return (NULL);
		}
	}
	if (st->deadline_ms > 0)
		rows->deadline_us = clock_mono_us() + st->deadline_ms * 1000;
	return (rows);
}

static int
step(struct store_rows *rows)
{
	rows->st->deadline_us = rows->deadline_us;
	return (sqlite3_step(rows->stmt));
}

/*
 * What was wrong, a value or the statement?  One that was prepared once and
 * can't be any more has lost its table: that is no input's fault.
 */
static void
fail_step(struct store_rows *rows, struct mr_error *err, int rc,
    const char *what)
{
	struct store *st = rows->st;
	struct mr_error why = {0};
	sqlite3_stmt *again = NULL;

	if (rc != SQLITE_ERROR) {
		store_fail(st, err, rc, what);
		return;
	}
	mr_error_set(&why, MR_FATAL, "%s", sqlite3_errmsg(st->db));
	rc = sqlite3_prepare_v2(st->db, rows->text, -1, &again, NULL);
	if (rc == SQLITE_OK)
		store_reject(st, err, what, why.message);
	else if (rc == SQLITE_ERROR)
		store_bug(st, err,
		    "the schema is damaged or was changed; put a backup back "
		    "with millrace state restore",
		    why.message);
	else
		store_fail(st, err, rc, what);
	(void)sqlite3_finalize(again);
}

int64_t
store_run_values(struct store *st, struct mr_error *err, const char *sql,
    const struct store_value *values, size_t count)
{
	struct store_rows *rows;
	sqlite3_int64 before;
	int rc;

	if ((rows = ready(st, err, sql, values, count)) == NULL)
		return (-1);
	before = sqlite3_total_changes64(st->db);
	while ((rc = step(rows)) == SQLITE_ROW)
		continue;
	if (rc != SQLITE_DONE)
		fail_step(rows, err, rc, "run");
	(void)sqlite3_reset(rows->stmt);
	if (rc != SQLITE_DONE)
		return (-1);
	/* Only a statement that changed rows sets the count of changes. */
	return (sqlite3_total_changes64(st->db) == before ?
		0 :
		sqlite3_changes64(st->db));
}

struct store_rows *
store_query_values(struct store *st, struct mr_error *err, const char *sql,
    const struct store_value *values, size_t count)
{
	struct store_rows *rows;

	if ((rows = ready(st, err, sql, values, count)) == NULL)
		return (NULL);
	rows->open = 1;
	rows->saved = st->saved;
	rows->has_row = rows->ended = rows->failed = 0;
	LIST_INSERT_HEAD(&st->opened, rows, opened);
	return (rows);
}

int
store_next(struct store_rows *rows, struct mr_error *err)
{
	struct store *st = rows->st;
	int rc;

	rows->has_row = 0;
	if (store_lost(st))
		return (store_trouble(st, err));
	if (!rows->open)
		return (
		    store_bug(st, err, "read after it was closed", rows->text));
	if (rows->ended)
		return (0);
	if (rows->failed)
		return (store_fail(st, err, SQLITE_NOMEM, "read"));
	rc = step(rows);
	if (rc == SQLITE_ROW) {
		rows->has_row = 1;
		return (1);
	}
	if (rc != SQLITE_DONE)
		fail_step(rows, err, rc, "read");
	/* Nothing is pinned while the caller gets round to closing it. */
	rows->ended = 1;
	(void)sqlite3_reset(rows->stmt);
	return (rc == SQLITE_DONE ? 0 : -1);
}

void
store_rows_done(struct store_rows *rows)
{
	if (rows == NULL || !rows->open)
		return;
	(void)sqlite3_reset(rows->stmt);
	rows->open = rows->has_row = 0;
	LIST_REMOVE(rows, opened);
}

void
store_finish_rows(struct store *st, int only_saved)
{
	struct store_rows *rows, *next;

	for (rows = LIST_FIRST(&st->opened); rows != NULL; rows = next) {
		next = LIST_NEXT(rows, opened);
		if (rows->saved || !only_saved)
			store_rows_done(rows);
	}
}

int
store_find_values(struct store *st, struct mr_error *err, int64_t *value,
    const char *sql, const struct store_value *values, size_t count)
{
	struct store_rows *rows;
	int found = -1, rc;

	if ((rows = ready(st, err, sql, values, count)) == NULL)
		return (-1);
	rc = step(rows);
	if (rc != SQLITE_DONE && rc != SQLITE_ROW) {
		fail_step(rows, err, rc, "read");
	} else {
		found = rc == SQLITE_ROW &&
		    sqlite3_column_type(rows->stmt, 0) != SQLITE_NULL;
		if (found)
			*value = sqlite3_column_int64(rows->stmt, 0);
	}
	(void)sqlite3_reset(rows->stmt);
	return (found);
}

int
store_find_text(struct store *st, struct mr_error *err, char *text, size_t size,
    const char *sql)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query_values(st, err, sql, NULL, 0)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1)
		(void)snprintf(text, size, "%s", store_get_text(rows, 0));
	store_rows_done(rows);
	return (found);
}

/* ---- columns ------------------------------------------------------------ */

static void
check_column(const struct store_rows *rows, int column)
{
	assert(rows->has_row);
	assert(column >= 0 && column < rows->columns);
}

/* A column can't say so itself: the next row does, and the transaction. */
static void
out_of_memory(struct store_rows *rows)
{
	rows->failed = 1;
	(void)store_fail(rows->st, NULL, SQLITE_NOMEM, "read");
}

int64_t
store_get_i64(struct store_rows *rows, int column)
{
	check_column(rows, column);
	return (sqlite3_column_int64(rows->stmt, column));
}

double
store_get_f64(struct store_rows *rows, int column)
{
	check_column(rows, column);
	return (sqlite3_column_double(rows->stmt, column));
}

const char *
store_get_text(struct store_rows *rows, int column)
{
	const unsigned char *text;

	check_column(rows, column);
	if (sqlite3_column_type(rows->stmt, column) == SQLITE_NULL)
		return ("");
	if ((text = sqlite3_column_text(rows->stmt, column)) == NULL) {
		out_of_memory(rows);
		return ("");
	}
	return ((const char *)text);
}

const void *
store_get_blob(struct store_rows *rows, int column, size_t *length)
{
	const void *bytes;

	check_column(rows, column);
	bytes = sqlite3_column_blob(rows->stmt, column);
	*length = (size_t)sqlite3_column_bytes(rows->stmt, column);
	if (bytes == NULL && sqlite3_errcode(rows->st->db) == SQLITE_NOMEM) {
		out_of_memory(rows);
		*length = 0;
	}
	return (bytes != NULL ? bytes : "");
}

int
store_is_null(struct store_rows *rows, int column)
{
	check_column(rows, column);
	return (sqlite3_column_type(rows->stmt, column) == SQLITE_NULL);
}

int
store_column_count(const struct store_rows *rows)
{
	return (rows->columns);
}

const char *
store_column_name(const struct store_rows *rows, int column)
{
	const char *name;

	assert(column >= 0 && column < rows->columns);
	name = sqlite3_column_name(rows->stmt, column);
	return (name != NULL ? name : "");
}

enum store_type
store_column_type(struct store_rows *rows, int column)
{
	check_column(rows, column);
	switch (sqlite3_column_type(rows->stmt, column)) {
	case SQLITE_INTEGER:
		return (STORE_I64);
	case SQLITE_FLOAT:
		return (STORE_F64);
	case SQLITE_TEXT:
		return (STORE_TEXT);
	case SQLITE_BLOB:
		return (STORE_BLOB);
	default:
		return (STORE_NULL);
	}
}
