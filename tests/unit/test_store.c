/*
 * store: what is promised of statements, transactions, opening, the pen,
 * full disks, and kills between any two writes.
 *
 * SQLite's system calls go through its own table (xSetSystemCall) and
 * --wrap, so that the n-th one can fail, or end the process.  What forks
 * does so without the store open, and the child leaves by _exit.
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "base/sandbox_internal.h"
#include "store/internal.h"
#include "store/store.h"

/* ---- trouble from below ------------------------------------------------- */

enum fault { FAULT_NONE, FAULT_ERROR, FAULT_KILL, FAULT_TEAR, FAULT_ABANDON };

#define ABANDONED 98 /* the exit status of who gave up */

static enum fault fault;
static int fault_errno;
static int64_t fault_at; /* which call, from 1 */
static int64_t fault_calls;
static int fault_sticky; /* the later ones fail, too */

static void
plant(enum fault what, int error, int64_t at, int sticky)
{
	fault = what;
	fault_errno = error;
	fault_at = at;
	fault_calls = 0;
	fault_sticky = sticky;
}

/* 1 if this call is to fail, with errno set. */
static int
struck(void)
{
	fault_calls++;
	if (fault == FAULT_NONE || fault_calls < fault_at ||
	    (fault_calls > fault_at && !fault_sticky))
		return (0);
	if (fault == FAULT_KILL)
		(void)raise(SIGKILL);
	if (fault == FAULT_ABANDON) {
		fault = FAULT_NONE;
		store_abandon(); /* as a signal's handler would */
		_exit(ABANDONED);
	}
	errno = fault_errno;
	return (fault == FAULT_ERROR);
}

/* Then all that changes something counts, and not just what may fail. */
static int
ends_the_process(void)
{

	return (fault == FAULT_KILL || fault == FAULT_ABANDON);
}

#define PIECE 2048

/* Each piece counts: a transaction's pages come in one write. */
static ssize_t
fault_pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
	size_t done, part;

	for (done = 0; done < size; done += part) {
		part = size - done < PIECE ? size - done : PIECE;
		if (struck())
			return (-1);
		if (fault == FAULT_TEAR && fault_calls == fault_at) {
			if (pwrite(fd, (const char *)bytes + done, part / 2,
				offset + (off_t)done) != -1)
				(void)raise(SIGKILL);
		}
		if (pwrite(fd, (const char *)bytes + done, part,
			offset + (off_t)done) != (ssize_t)part)
			return (-1);
	}
	return ((ssize_t)size);
}

static int
fault_ftruncate(int fd, off_t size)
{
	if (ends_the_process() && struck())
		return (-1);
	return (ftruncate(fd, size));
}

/* Names are changed by SQLite and by the store itself. */
static int fault_names; /* whether new ones count and fail as well */
int __real_unlink(const char *name);
int __wrap_unlink(const char *name);
int __real_link(const char *from, const char *to);
int __wrap_link(const char *from, const char *to);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);

int
__wrap_unlink(const char *name)
{
	if (ends_the_process() && struck())
		return (-1);
	return (__real_unlink(name));
}

int
__wrap_link(const char *from, const char *to)
{
	if ((fault_names || ends_the_process()) && struck())
		return (-1);
	return (__real_link(from, to));
}

int
__wrap_rename(const char *from, const char *to)
{
	if ((fault_names || ends_the_process()) && struck())
		return (-1);
	return (__real_rename(from, to));
}

int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
static int fault_syncs; /* whether syncs count and fail as well */

int
__wrap_fdatasync(int fd)
{
	(void)fd;
	if ((fault_syncs || ends_the_process()) && struck())
		return (-1);
	return (0); /* this test's power doesn't fail */
}

int
__wrap_fsync(int fd)
{
	return (__wrap_fdatasync(fd));
}

static void
install_faults(void)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
	size_t i;
	static const struct {
		const char *name;
		sqlite3_syscall_ptr call;
	} calls[] = {
	    {"pwrite", (sqlite3_syscall_ptr)fault_pwrite},
	    {"ftruncate", (sqlite3_syscall_ptr)fault_ftruncate},
	};

	for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		assert_int_equal(vfs->xSetSystemCall(vfs, calls[i].name,
				     calls[i].call),
		    SQLITE_OK);
}

/* ---- memory that runs out ----------------------------------------------- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static int64_t memory_left = -1; /* allocations; -1: no end */
static int memory_comes_back; /* only one fails */
static int memory_failed;

static int
memory_gone(void)
{
	if (memory_left == -1)
		return (0);
	if (memory_left > 0) {
		memory_left--;
		return (0);
	}
	memory_failed = 1;
	if (memory_comes_back)
		memory_left = -1;
	return (1);
}

void *
__wrap_malloc(size_t size)
{
	return (memory_gone() ? NULL : __real_malloc(size));
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return (memory_gone() ? NULL : __real_calloc(n, size));
}

void *
__wrap_realloc(void *p, size_t size)
{
	return (memory_gone() ? NULL : __real_realloc(p, size));
}

/* ---- a file to work on -------------------------------------------------- */

static const char sql_schema[] =
    "CREATE TABLE item (\n"
    "	name TEXT NOT NULL PRIMARY KEY,\n"
    "	quantity INTEGER NOT NULL CHECK (quantity >= 0),\n"
    "	note TEXT UNIQUE\n"
    ") STRICT, WITHOUT ROWID;\n"
    "CREATE TABLE sale (\n"
    "	id INTEGER PRIMARY KEY,\n"
    "	item TEXT NOT NULL REFERENCES item (name)\n"
    ") STRICT;\n"
    "CREATE TABLE thing (\n"
    "	id INTEGER PRIMARY KEY, i INTEGER, f REAL, t TEXT, b BLOB\n"
    ") STRICT;\n"
    "CREATE VIRTUAL TABLE word USING fts5(body);\n";
static const struct store_migration core_1[] =
    {{1, "core", "CREATE TABLE core (id INTEGER PRIMARY KEY) STRICT"}, {0}};
static const struct store_migration own_1[] = {{1, "tables", sql_schema}, {0}};
static const struct store_migration own_3[] = {{1, "tables", sql_schema},
    {2, "more",
	"CREATE TABLE more (id INTEGER PRIMARY KEY) STRICT;"
	"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
	" WHERE i < 2000) INSERT INTO more SELECT i FROM n;"},
    {4, "item anew",
	"CREATE TABLE item_2 (name TEXT NOT NULL PRIMARY KEY,"
	" quantity INTEGER NOT NULL, note TEXT) STRICT;"
	"INSERT INTO item_2 SELECT name, quantity, note FROM item;"
	"DROP TABLE item; ALTER TABLE item_2 RENAME TO item"},
    {0}};

static const char sql_add[] =
    "INSERT INTO item (name, quantity) VALUES (?1, ?2)";
static const char sql_count[] = "SELECT count(*) FROM item";
static const char sql_names[] = "SELECT name FROM item ORDER BY name";

static char folder[PATH_MAX];
static char path[PATH_MAX + 32];

static const char *
beside(const char *suffix)
{
	static char names[4][PATH_MAX + 64];
	static unsigned turn;
	char *name = names[turn++ % 4];

	(void)snprintf(name, sizeof(names[0]), "%s%s", path, suffix);
	return (name);
}

static void
remove_files(void)
{
	static const char *const suffixes[] = {"", "-wal", "-shm", "-journal",
	    ".writer", ".away", ".copy", ".copy.partial", ".copy-wal",
	    ".copy-shm"};
	size_t i;

	for (i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++)
		(void)unlink(beside(suffixes[i]));
}

static struct store *
open_as(const struct store_migration *own, struct mr_error *err)
{
	struct store_options options = {.path = path,
	    .service = "inventory",
	    .core = core_1,
	    .own = own,
	    .busy_timeout_ms = 100,
	    .patience_ms = 200};

	return (store_open(&options, err));
}

static struct store *
must_open(const struct store_migration *own)
{
	struct mr_error err = {0};
	struct store *st = open_as(own, &err);

	if (st == NULL)
		fail_msg("store_open: %s", err.message);
	return (st);
}

#define must(x)                                                         \
	do {                                                            \
		if ((x) < 0)                                            \
			fail_msg("%s: %s: %s", #x,                      \
			    mr_error_kind_name(err.kind), err.message); \
	} while (0)

static int64_t
count_items(struct store *st)
{
	struct mr_error err = {0};
	int64_t n = -1;

	must(store_find(st, &err, &n, sql_count));
	return (n);
}

static void
add_item(struct store *st, const char *name)
{
	struct mr_error err = {0};

	must(store_begin(st, &err));
	must(store_run(st, &err, sql_add, store_text(name), store_i64(1)));
	must(store_commit(st, &err));
}

/* Run SQL through a connection that knows nothing of the store. */
static void
meddle(const char *sql)
{
	sqlite3 *db = NULL;
	char *message = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
	(void)sqlite3_close(db);
}

static int
setup(void **state)
{
	(void)state;
	plant(FAULT_NONE, 0, 0, 0);
	fault_syncs = 0;
	memory_left = -1;
	remove_files();
	return (0);
}

/* ---- children ----------------------------------------------------------- */

static pid_t
child(void (*work)(void *), void *arg)
{
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		work(arg);
		_exit(0);
	}
	return (pid);
}

static int
wait_for(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) == -1)
		assert_int_equal(errno, EINTR);
	return (status);
}

/* Asked in a child, where an assertion of cmocka's can't be used. */
#define demand(x, err)                                                     \
	do {                                                               \
		if (!(x)) {                                                \
			(void)fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, \
			    __LINE__, #x, (err)->message);                 \
			_exit(99);                                         \
		}                                                          \
	} while (0)

static void *
shared_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return (p);
}

static void
pause_ms(int64_t ms)
{
	struct timespec time = {.tv_sec = (time_t)(ms / 1000),
	    .tv_nsec = (long)(ms % 1000) * 1000000};

	(void)nanosleep(&time, NULL);
}

#define wait_until(x)                                            \
	do {                                                     \
		int64_t until_us = clock_mono_us() + 10000000;   \
		while (!(x)) {                                   \
			if (clock_mono_us() > until_us)          \
				fail_msg("not in time: %s", #x); \
			pause_ms(2);                             \
		}                                                \
	} while (0)

enum { PEN_BYTE, TURN_BYTE };

struct race {
	volatile int ready;
	volatile int go;
	volatile int holding;
	volatile int had; /* rounds in which the waiter had the pen */
	int self;
};

/* ---- statements --------------------------------------------------------- */

static void
values_come_back_as_they_were_bound(void **state)
{
	static const char sql_put[] =
	    "INSERT INTO thing (i, f, t, b) VALUES (?1, ?2, ?3, ?4)";
	static const char sql_get[] = "SELECT i, f, t, b FROM thing";
	static const struct {
		int64_t i;
		double f;
		const char *t;
		const char *b;
		size_t length;
	} cases[] = {
	    {0, 0.0, "", "", 0},
	    {INT64_MAX, 1e308, "text", "a\0b", 3},
	    {INT64_MIN, -0.5, "\xc3\xa9", "\xff\xfe", 2},
	    {-1, 1e-300, NULL, NULL, 0},
	};
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	struct store_rows *rows;
	size_t i, length;

	(void)state;
	must(store_begin(st, &err));
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		must(store_run(st, &err, "DELETE FROM thing"));
		assert_int_equal(store_run(st, &err, sql_put,
				     store_i64(cases[i].i),
				     store_f64(cases[i].f),
				     store_text(cases[i].t),
				     store_blob(cases[i].b, cases[i].length)),
		    1);
		rows = store_query(st, &err, sql_get);
		assert_non_null(rows);
		assert_int_equal(store_next(rows, &err), 1);
		assert_true(store_get_i64(rows, 0) == cases[i].i);
		assert_true(fabs(store_get_f64(rows, 1) - cases[i].f) < 1e-9 ||
		    cases[i].f > 1e300);
		assert_string_equal(store_get_text(rows, 2),
		    cases[i].t != NULL ? cases[i].t : "");
		assert_int_equal(store_is_null(rows, 2), cases[i].t == NULL);
		assert_int_equal(store_is_null(rows, 3), cases[i].b == NULL);
		assert_memory_equal(store_get_blob(rows, 3, &length),
		    cases[i].b != NULL ? cases[i].b : "", cases[i].length);
		assert_int_equal(length, cases[i].length);
		assert_int_equal(store_next(rows, &err), 0);
		assert_int_equal(store_next(rows, &err), 0);
		store_rows_done(rows);
	}
	must(store_run(st, &err, sql_put, store_null(), store_null(),
	    store_text_n("abcd", 2), store_null()));
	must(store_commit(st, &err));
	store_close(st);
}

static void
run_says_how_many_rows_changed(void **state)
{
	static const struct {
		const char *sql;
		int64_t changed;
	} cases[] = {
	    {"INSERT INTO thing (id) VALUES (1), (2), (3)", 3},
	    {"UPDATE thing SET i = 1 WHERE id > 1", 2},
	    {"UPDATE thing SET i = 1 WHERE id > 9", 0},
	    {"CREATE TABLE other (id INTEGER PRIMARY KEY)", 0},
	    {"SELECT * FROM thing", 0},
	    {"INSERT INTO thing (id) VALUES (1) ON CONFLICT DO NOTHING", 0},
	    {"INSERT INTO thing (id) VALUES (1) ON CONFLICT (id)"
	     " DO UPDATE SET i = 5",
		1},
	    {"INSERT INTO thing (id) VALUES (4) RETURNING id", 1},
	    {"DELETE FROM thing", 4},
	    {"DELETE FROM thing -- a comment ;\n ; /* another */ ", 0},
	};
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	size_t i;

	(void)state;
	must(store_begin(st, &err));
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (store_run_values(st, &err, cases[i].sql, NULL, 0) !=
		    cases[i].changed)
			fail_msg("%s: %s", cases[i].sql, err.message);
	store_rollback(st);
	store_close(st);
}

static void
find_tells_a_row_from_none(void **state)
{
	static const struct {
		const char *sql;
		int found;
		int64_t value;
	} cases[] = {
	    {"SELECT 7", 1, 7},
	    {"SELECT 9223372036854775807", 1, INT64_MAX},
	    {"SELECT NULL", 0, -5},
	    {"SELECT quantity FROM item", 0, -5},
	    {"SELECT max(quantity) FROM item", 0, -5},
	    {"SELECT count(*) FROM item", 1, 0},
	};
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	int64_t value;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		value = -5;
		assert_int_equal(store_find_values(st, &err, &value,
				     cases[i].sql, NULL, 0),
		    cases[i].found);
		assert_true(value == cases[i].value);
	}
	store_close(st);
}

static void
input_that_breaks_a_constraint_is_rejected_and_no_trouble(void **state)
{
	static const char sql_update[] = "UPDATE item SET quantity = ?1";
	static const char sql_type[] = "INSERT INTO thing (i) VALUES (?1)";
	static const char sql_note[] = "UPDATE item SET note = 'same'";
	static const char sql_sale[] = "INSERT INTO sale (item) VALUES (?1)";
	static const char sql_json[] = "SELECT json_extract(?1, '$.a')";
	static const char sql_abs[] = "SELECT abs(?1)";
	static const char sql_match[] =
	    "SELECT body FROM word WHERE word MATCH ?1";
	static const char sql_blob[] = "INSERT INTO thing (b) VALUES (?1)";
	const struct {
		const char *sql;
		struct store_value value;
	} cases[] = {
	    {sql_update, store_i64(-1)},
	    {sql_update, store_null()},
	    {sql_type, store_text("many")},
	    {sql_note, {.type = STORE_NULL, .length = SIZE_MAX}},
	    {sql_sale, store_text("nothing of that name")},
	    {sql_json, store_text("{broken")},
	    {sql_abs, store_i64(INT64_MIN)},
	    {sql_match, store_text("\"unbalanced")},
	    {sql_blob, store_blob("", 2000000000)},
	};
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	size_t i;

	(void)state;
	must(store_begin(st, &err));
	must(store_run(st, &err, sql_add, store_text("a"), store_i64(1)));
	must(store_run(st, &err, sql_add, store_text("b"), store_i64(1)));
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		must(store_save(st, &err));
		err.kind = MR_OK;
		if (store_run_values(st, &err, cases[i].sql, &cases[i].value,
			cases[i].value.length == SIZE_MAX ? 0 : 1) != -1 ||
		    err.kind != MR_REJECT)
			fail_msg("%s: %s: %s", cases[i].sql,
			    mr_error_kind_name(err.kind), err.message);
		assert_int_equal(store_trouble(st, &err), 0);
		assert_int_equal(store_in_transaction(st), 1);
		must(store_restore(st, &err));
	}
	must(store_commit(st, &err));
	assert_int_equal(count_items(st), 2);
	store_close(st);
}

static void
misuse_is_fatal_and_remembered(void **state)
{
	static const struct {
		const char *sql;
		const char *says;
	} cases[] = {
	    {"SELECT 1; SELECT 2", "exactly one"},
	    {"INSERT INTO thing (i) VALUES (1); COMMIT", "exactly one"},
	    {"", "exactly one"},
	    {"-- nothing", "exactly one"},
	    {"SELEKT 1", "syntax"},
	    {"SELECT * FROM nowhere", "no such table"},
	    {"SELECT ?1", "number of values"},
	    {"BEGIN", "the store's"},
	    {"COMMIT", "the store's"},
	    {"ROLLBACK", "the store's"},
	    {"END", "the store's"},
	    {"SAVEPOINT mine", "the store's"},
	    {"RELEASE one", "the store's"},
	};
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		must(store_begin(st, &err));
		must(store_run(st, &err, sql_add, store_text("a"),
		    store_i64(1)));
		if (store_run_values(st, &err, cases[i].sql, NULL, 0) != -1 ||
		    err.kind != MR_FATAL ||
		    strstr(err.message, cases[i].says) == NULL)
			fail_msg("%s: %s: %s", cases[i].sql,
			    mr_error_kind_name(err.kind), err.message);
		assert_int_equal(store_in_transaction(st), 1);
		assert_int_equal(store_trouble(st, &err), -1);
		assert_int_equal(store_commit(st, &err), -1);
		assert_int_equal(err.kind, MR_FATAL);
		assert_int_equal(count_items(st), 0);
	}
	assert_int_equal(store_run(st, &err, sql_add, store_text("a"),
			     store_i64(1)),
	    -1);
	assert_non_null(strstr(err.message, "outside of a transaction"));
	assert_int_equal(store_commit(st, &err), -1);
	assert_int_equal(store_save(st, &err), -1);
	store_rollback(st);
	store_close(st);
}

/* Under statements that were prepared while it was whole. */
static void
damaged_schema_is_fatal_and_no_inputs_fault(void **state)
{
	static const char sql_core[] = "INSERT INTO core VALUES (NULL)";
	static const char sql_ids[] = "SELECT id FROM core";
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	struct store_rows *rows;
	int64_t n;
	int i;

	(void)state;
	must(store_begin(st, &err));
	must(store_run(st, &err, sql_core));
	must(store_find(st, &err, &n, sql_ids));
	must(store_commit(st, &err));
	meddle("DROP TABLE core");
	for (i = 0; i < 3; i++) {
		must(store_begin(st, &err));
		memset(&err, 0, sizeof(err));
		if (i == 0) {
			assert_int_equal(store_run(st, &err, sql_core), -1);
		} else if (i == 1) {
			assert_int_equal(store_find(st, &err, &n, sql_ids), -1);
		} else {
			assert_non_null(rows = store_query(st, &err, sql_ids));
			assert_int_equal(store_next(rows, &err), -1);
		}
		assert_int_equal(err.kind, MR_FATAL);
		assert_non_null(strstr(err.message, "no such table: core"));
		assert_non_null(strstr(err.message, "millrace state restore"));
		assert_int_equal(store_commit(st, &err), -1);
		assert_int_equal(err.kind, MR_FATAL);
	}
	store_close(st);
}

static void
text_made_at_run_time_is_found_out(void **state)
{
	char text[32] = "SELECT 1";
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	int64_t value = 0;

	(void)state;
	assert_int_equal(store_find_values(st, &err, &value, text, NULL, 0), 1);
	(void)snprintf(text, sizeof(text), "SELECT 2");
	assert_int_equal(store_find_values(st, &err, &value, text, NULL, 0),
	    -1);
	assert_int_equal(err.kind, MR_FATAL);
	assert_non_null(strstr(err.message, "address"));
	store_close(st);
}

static void
many_statements_are_all_found_again(void **state)
{
	static char texts[600][32];
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	int64_t value;
	int i, round;

	(void)state;
	for (i = 0; i < 600; i++)
		(void)snprintf(texts[i], sizeof(texts[i]), "SELECT %d", i);
	for (round = 0; round < 3; round++)
		for (i = 0; i < 600; i++) {
			assert_int_equal(store_find_values(st, &err, &value,
					     texts[i], NULL, 0),
			    1);
			assert_int_equal(value, i);
		}
	assert_int_equal(st->cache_used, 600);
	store_close(st);
}

static void
cursors_are_closed_with_what_they_were_opened_in(void **state)
{
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	struct store_rows *outer, *inner;

	(void)state;
	add_item(st, "a");
	add_item(st, "b");
	must(store_begin(st, &err));
	outer = store_query(st, &err, sql_names);
	assert_non_null(outer);
	assert_int_equal(store_next(outer, &err), 1);
	/* once at a time */
	assert_null(store_query(st, &err, sql_names));
	assert_int_equal(err.kind, MR_FATAL);
	store_rollback(st);
	assert_int_equal(store_next(outer, &err), -1);

	must(store_begin(st, &err));
	outer = store_query(st, &err, sql_names);
	assert_int_equal(store_next(outer, &err), 1);
	must(store_save(st, &err));
	inner = store_query(st, &err, "SELECT 1 UNION SELECT 2");
	assert_int_equal(store_next(inner, &err), 1);
	must(store_restore(st, &err));
	assert_int_equal(store_next(outer, &err), 1);
	assert_string_equal(store_get_text(outer, 0), "b");
	assert_int_equal(inner->open, 0);
	must(store_commit(st, &err));
	assert_int_equal(outer->open, 0);
	store_rows_done(outer);
	store_rows_done(NULL);
	store_close(st);
}

/* ---- transactions ------------------------------------------------------- */

static void
savepoints_undo_only_themselves(void **state)
{
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	int i;

	(void)state;
	must(store_begin(st, &err));
	must(store_run(st, &err, sql_add, store_text("kept"), store_i64(1)));
	must(store_save(st, &err));
	must(store_run(st, &err, sql_add, store_text("undone"), store_i64(1)));
	must(store_restore(st, &err));
	must(store_save(st, &err));
	must(
	    store_run(st, &err, sql_add, store_text("kept too"), store_i64(1)));
	must(store_release(st, &err));
	assert_int_equal(count_items(st), 2);
	assert_int_equal(store_release(st, &err), -1); /* none is open */
	store_rollback(st);
	assert_int_equal(count_items(st), 0);

	must(store_begin(st, &err));
	must(store_save(st, &err));
	assert_int_equal(store_save(st, &err), -1); /* they don't nest */
	store_rollback(st);

	/* The first one, which is the transaction's begin. */
	must(store_begin(st, &err));
	for (i = 0; i < 3; i++) {
		must(store_save(st, &err));
		must(store_run(st, &err, sql_add, store_text("undone"),
		    store_i64(1)));
		must(store_restore(st, &err));
		assert_int_equal(store_in_transaction(st), 1);
		assert_int_equal(count_items(st), 0);
	}
	must(store_save(st, &err));
	must(store_run(st, &err, sql_add, store_text("kept"), store_i64(1)));
	must(store_release(st, &err));
	must(store_save(st, &err));
	must(store_run(st, &err, sql_add, store_text("undone"), store_i64(1)));
	must(store_restore(st, &err));
	must(store_commit(st, &err));
	assert_int_equal(count_items(st), 1);
	store_close(st);
}

/* A program that knows nothing of the pen finds the moment. */
static void
write_as_a_stranger(void *file)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db,
			     "INSERT INTO item (name, quantity)"
			     " VALUES ('strange', 1)",
			     NULL, NULL, NULL),
	    SQLITE_OK);
	(void)sqlite3_close(db);
}

static void
a_write_between_undoing_and_going_on_ends_the_transaction(void **state)
{
	struct mr_error err = {0};
	struct store *st = must_open(own_1);

	(void)state;
	must(store_begin(st, &err));
	must(store_save(st, &err));
	must(store_run(st, &err, sql_add, store_text("undone"), store_i64(1)));
	(void)sqlite3_rollback_hook(st->db, write_as_a_stranger, st->path);
	assert_int_equal(store_restore(st, &err), -1);
	(void)sqlite3_rollback_hook(st->db, NULL, NULL);
	assert_int_equal(err.kind, MR_RETRY);
	assert_int_equal(store_trouble(st, &err), -1);
	store_rollback(st);
	must(store_begin(st, &err));
	assert_int_equal(count_items(st), 1);
	must(store_commit(st, &err));
	store_close(st);
}

static void
guard_keeps_statements_from_a_service(void **state)
{
	static const char *const cases[] = {"COMMIT", "SAVEPOINT a", "ROLLBACK",
	    "PRAGMA user_version", "PRAGMA synchronous = OFF",
	    "ATTACH ':memory:' AS other", "DETACH other"};
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	int64_t value;
	size_t i;
	int before;

	(void)state;
	/* Prepared under the guard, and before it. */
	for (before = 0; before < 2; before++)
		for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			if (before)
				(void)store_run_values(st, &err, cases[i], NULL,
				    0);
			must(store_begin(st, &err));
			must(store_run(st, &err, sql_add, store_text("a"),
			    store_i64(1)));
			store_guard(st, 1);
			assert_int_equal(store_run_values(st, &err, cases[i],
					     NULL, 0),
			    -1);
			assert_int_equal(err.kind, MR_FATAL);
			assert_int_equal(store_in_transaction(st), 1);
			/* What a service does all day goes on. */
			must(store_run(st, &err,
			    "INSERT INTO word (body) VALUES ('a b')"));
			must(store_find(st, &err, &value,
			    "SELECT count(*) FROM word WHERE word MATCH 'b'"));
			store_guard(st, 0);
			assert_int_equal(store_trouble(st, &err), -1);
			assert_int_equal(store_commit(st, &err), -1);
			assert_int_equal(count_items(st), 0);
		}
	must(store_find(st, &err, &value, "PRAGMA user_version"));
	assert_int_equal(value, 2);
	store_close(st);
}

static void
transaction_that_ended_itself_lets_nothing_through(void **state)
{
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	int64_t n;

	(void)state;
	must(store_begin(st, &err));
	must(store_run(st, &err, sql_add, store_text("a"), store_i64(1)));
	assert_int_equal(store_run(st, &err,
			     "INSERT OR ROLLBACK INTO item (name, quantity)"
			     " VALUES ('a', 1)"),
	    -1);
	assert_int_equal(err.kind, MR_FATAL);
	assert_int_equal(store_in_transaction(st), 0);
	assert_int_equal(store_run(st, &err, sql_add, store_text("b"),
			     store_i64(1)),
	    -1);
	assert_int_equal(store_find(st, &err, &n, sql_count), -1);
	assert_int_equal(store_save(st, &err), -1);
	assert_int_equal(store_commit(st, &err), -1);
	assert_int_equal(err.kind, MR_FATAL);
	assert_int_equal(count_items(st), 0);
	add_item(st, "c");
	store_close(st);
}

static void
full_disk_is_remembered_though_swallowed(void **state)
{
	static const char sql_big[] =
	    "INSERT INTO thing (b) VALUES (zeroblob(20000000))";
	struct mr_error err = {0};
	struct store *st = must_open(own_1);

	(void)state;
	must(store_begin(st, &err));
	must(store_run(st, &err, sql_add, store_text("a"), store_i64(1)));
	plant(FAULT_ERROR, ENOSPC, 1, 1);
	assert_int_equal(store_run(st, NULL, sql_big), -1);
	plant(FAULT_NONE, 0, 0, 0);
	assert_int_equal(store_trouble(st, &err), -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_non_null(strstr(err.message, "free space"));
	assert_non_null(strstr(err.message, path));
	/* Whatever the caller does then, it comes to nothing. */
	(void)store_run(st, NULL, sql_add, store_text("b"), store_i64(1));
	err.kind = MR_OK;
	assert_int_equal(store_commit(st, &err), -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_int_equal(count_items(st), 0);
	/* And it heals. */
	must(store_begin(st, &err));
	assert_int_equal(store_trouble(st, &err), 0);
	must(store_run(st, &err, sql_big));
	must(store_commit(st, &err));
	store_close(st);
}

/* What doesn't fit into the cache goes to the log before its end, is read back
 * from there and written over. */
static void
big_transaction(void *arg)
{
	struct mr_error err = {0};
	struct store *st = open_as(own_1, &err);
	const int *commit = arg;
	int64_t n;
	int i;

	demand(st != NULL, &err);
	demand(store_begin(st, &err) == 0, &err);
	demand(store_run(st, &err,
		   "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL"
		   " SELECT i + 1 FROM n WHERE i < 3000)"
		   " INSERT INTO thing (id, i, b)"
		   " SELECT i, 0, zeroblob(4000) FROM n") == 3000,
	    &err);
	for (i = 1; i <= 3; i++) {
		demand(store_run(st, &err, "UPDATE thing SET i = i + id") ==
			3000,
		    &err);
		demand(store_find(st, &err, &n, "SELECT sum(i) FROM thing") ==
			1,
		    &err);
		demand(n == INT64_C(3000) * 3001 / 2 * i, &err);
	}
	if (*commit)
		demand(store_commit(st, &err) == 0, &err);
	_exit(0); /* as after a kill */
}

static void
transaction_beyond_the_cache_is_whole(void **state)
{
	struct mr_error err = {0};
	int64_t n = -1;
	struct store *st;
	int commit;

	(void)state;
	for (commit = 0; commit < 2; commit++) {
		assert_int_equal(wait_for(child(big_transaction, &commit)), 0);
		st = must_open(own_1);
		must(store_find(st, &err, &n, "SELECT count(*) FROM thing"));
		assert_int_equal(n, 3000 * commit);
		must(store_find(st, &err, &n,
		    "SELECT coalesce(sum(i), 0) FROM thing"));
		assert_int_equal(n, INT64_C(3) * 3000 * 3001 / 2 * commit);
		must(store_find(st, &err, &n,
		    "SELECT count(*) FROM pragma_integrity_check"
		    " WHERE integrity_check = 'ok'"));
		assert_int_equal(n, 1);
		store_close(st);
	}
}

/* Whoever looks finds what is committed, though nobody synced. */
static void
commit_without_a_sync_is_seen(void **state)
{
	struct mr_error err = {0};
	struct store *st = must_open(own_1), *reader;
	int64_t n;
	int i;

	(void)state;
	assert_int_equal(sqlite3_exec(st->db, "PRAGMA synchronous = OFF", NULL,
			     NULL, NULL),
	    SQLITE_OK);
	for (i = 1; i <= 20; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "n%d", i);
		add_item(st, name);
		reader = store_open_reader(path, 0, &err);
		assert_non_null(reader);
		must(store_find(reader, &err, &n, sql_count));
		assert_int_equal(n, i);
		store_close(reader);
	}
	store_close(st);
}

/* ---- a failure at each write -------------------------------------------- */

/* Which writes a process is killed at: all; with sanitizers, which take ten
 * times as long, a sample, and the thread sanitizer has nothing to see there. */
#ifdef __SANITIZE_THREAD__
#define KILL_STEP 7
#else
#define KILL_STEP (SANITIZED ? 2 : 1)
#endif

/* A transaction with trouble planted in it; what it said came of it. */
struct trial {
	enum fault fault;
	int error;
	int sticky;
	int syncs;
	int64_t at;
	int said; /* MR_OK, MR_RETRY, MR_FATAL; -1: it never came to that */
	int reached;
};

static void
trial_run(void *arg)
{
	struct trial *trial = arg;
	struct mr_error err = {0};
	struct store *st = open_as(own_1, &err);
	char name[16];
	int i, rc = 0;

	demand(st != NULL, &err);
	demand(store_begin(st, &err) == 0, &err);
	fault_syncs = trial->syncs;
	plant(trial->fault, trial->error, trial->at, trial->sticky);
	for (i = 0; rc != -1 && i < 300; i++) {
		(void)snprintf(name, sizeof(name), "n%d", i);
		rc = (int)store_run(st, &err, sql_add, store_text(name),
		    store_i64(1));
	}
	rc = store_commit(st, &err);
	trial->said = rc == 0 ? MR_OK : (int)err.kind;
	trial->reached = fault_calls >= trial->at;
	plant(FAULT_NONE, 0, 0, 0);
	if (trial->said == MR_RETRY) {
		/* It heals, in the same connection. */
		demand(store_begin(st, &err) == 0, &err);
		demand(store_run(st, &err, "INSERT INTO core VALUES (1)") == 1,
		    &err);
		demand(store_commit(st, &err) == 0, &err);
	}
	if (trial->said == MR_FATAL)
		demand(store_begin(st, &err) == -1 && err.kind == MR_FATAL,
		    &err);
	_exit(0); /* as after a kill */
}

/* Make a file, run the trial in a child, hold the file to what it said. */
static void
trial_check(struct trial *trial)
{
	struct mr_error err = {0};
	int64_t have, healed = 0;
	struct store *st;
	int status;

	remove_files();
	store_close(must_open(own_1));
	trial->said = -1;
	trial->reached = 0;
	status = wait_for(child(trial_run, trial));
	if (trial->fault == FAULT_ERROR || trial->said != -1)
		assert_int_equal(status, 0);
	else
		assert_true(WIFSIGNALED(status));
	st = must_open(own_1);
	have = count_items(st);
	must(store_find(st, &err, &healed, "SELECT count(*) FROM core"));
	assert_true(have == 0 || have == 300);
	if (trial->said == MR_OK)
		assert_int_equal(have, 300);
	if (trial->said == MR_RETRY)
		assert_true(have == 0 && healed == 1);
	store_close(st);
}

static void
what_commit_says_is_what_the_file_has(void **state)
{
	static const struct trial cases[] = {
	    {FAULT_ERROR, ENOSPC, 0, 0, 0, 0, 0},
	    {FAULT_ERROR, ENOSPC, 1, 0, 0, 0, 0},
	    {FAULT_ERROR, EIO, 0, 0, 0, 0, 0},
	    {FAULT_ERROR, EIO, 0, 1, 0, 0, 0},
	    {FAULT_ERROR, EIO, 1, 1, 0, 0, 0},
	    {FAULT_ERROR, EDQUOT, 1, 0, 0, 0, 0},
	};
	struct trial *trial = shared_memory(sizeof(*trial));
	int retried = 0, unknown = 0;
	int64_t at;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		*trial = cases[i];
		for (at = 1, trial->reached = 1; trial->reached; at++) {
			trial->at = at;
			trial_check(trial);
			retried += trial->said == MR_RETRY;
			unknown += trial->said == MR_FATAL;
		}
		assert_true(at > 5);
	}
	assert_true(retried >= 10);
	assert_true(unknown >= 10);
	(void)munmap(trial, sizeof(*trial));
}

static void
kill_at_any_write_of_a_commit_leaves_all_or_nothing(void **state)
{
	struct trial *trial = shared_memory(sizeof(*trial));
	int64_t at;
	int torn;

	(void)state;
	for (torn = 0; torn < 2; torn++) {
		memset(trial, 0, sizeof(*trial));
		trial->fault = torn ? FAULT_TEAR : FAULT_KILL;
		for (at = 1; trial->said <= 0 && !(at > 1 && trial->said == 0);
		     at++) {
			trial->at = at;
			trial_check(trial);
		}
		assert_true(at > 5);
	}
	(void)munmap(trial, sizeof(*trial));
}

/* ---- migrations --------------------------------------------------------- */

static void
migrate_and_die(void *arg)
{
	const struct trial *trial = arg;
	struct mr_error err = {0};

	plant(trial->fault, 0, trial->at, 0);
	demand(open_as(own_3, &err) != NULL, &err);
}

/* Whatever was killed, whole steps are there, and the rest follows. */
static void
check_migrated(void)
{
	static const struct {
		const char *sql;
		int64_t value;
	} facts[] = {
	    {"PRAGMA user_version", 5},
	    {"SELECT count(*) FROM schema_versions", 4},
	    {"SELECT count(*) FROM more", 2000},
	    {"SELECT quantity FROM item WHERE name = 'old'", 1},
	    {"SELECT count(*) FROM sale", 1},
	    {"SELECT count(*) FROM store_identity WHERE service = 'inventory'",
		1},
	    {"PRAGMA foreign_keys", 1},
	};
	struct store *st = must_open(own_3);
	struct mr_error err = {0};
	int64_t value;
	size_t i;

	for (i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
		value = -1;
		if (store_find_values(st, &err, &value, facts[i].sql, NULL,
			0) != 1 ||
		    value != facts[i].value)
			fail_msg("%s: %lld: %s", facts[i].sql, (long long)value,
			    err.message);
	}
	store_close(st);
}

static void
make_old_file(void)
{
	struct mr_error err = {0};
	struct store *st;

	remove_files();
	st = must_open(own_1);
	add_item(st, "old");
	must(store_begin(st, &err));
	must(store_run(st, &err, "INSERT INTO sale (item) VALUES ('old')"));
	must(store_commit(st, &err));
	store_close(st);
}

static void
kill_at_any_write_of_a_migration_leaves_old_or_new(void **state)
{
	struct trial trial = {0};
	int status;

	(void)state;
	make_old_file();
	check_migrated();
	for (trial.fault = FAULT_KILL; trial.fault <= FAULT_TEAR;
	     trial.fault++) {
		for (trial.at = 1;; trial.at += KILL_STEP) {
			make_old_file();
			status = wait_for(child(migrate_and_die, &trial));
			check_migrated();
			if (!WIFSIGNALED(status))
				break;
		}
		assert_int_equal(status, 0);

		assert_true(trial.at > 10);
	}
}

static void
close_and_die(void *arg)
{
	const struct trial *trial = arg;
	struct store *st = must_open(own_1);

	add_item(st, "a");
	plant(trial->fault, 0, trial->at, 0);
	store_close(st);
}

static void
kill_at_any_write_of_closing_leaves_what_was_committed(void **state)
{
	struct trial trial = {.fault = FAULT_KILL};
	struct store *st;
	int status = -1;

	(void)state;
	for (trial.at = 1; status != 0; trial.at++) {
		remove_files();
		store_close(must_open(own_1));
		status = wait_for(child(close_and_die, &trial));
		assert_true(status == 0 || WIFSIGNALED(status));
		st = must_open(own_1);
		assert_int_equal(count_items(st), 1);
		store_close(st);
	}
	assert_true(trial.at > 5);
}

static void
make_and_die(void *arg)
{
	const struct trial *trial = arg;
	struct mr_error err = {0};

	plant(trial->fault, 0, trial->at, 0);
	demand(open_as(own_1, &err) != NULL, &err);
}

static void
kill_at_any_write_of_a_new_file_is_made_good(void **state)
{
	struct trial trial = {.fault = FAULT_KILL, .at = 0};
	struct store *st;
	int status;

	(void)state;
	do {
		trial.at += KILL_STEP;
		remove_files();
		status = wait_for(child(make_and_die, &trial));
		st = must_open(own_1);
		add_item(st, "a");
		store_close(st);
	} while (WIFSIGNALED(status));
	assert_int_equal(status, 0);
	assert_true(trial.at > 10);
}

static void
bad_migrations_are_refused_and_undone(void **state)
{
	static const struct {
		const char *sql;
		const char *says;
	} cases[] = {
	    {"CREATE TABLE t (a TEXT) STRICT", "primary key"},
	    {"CREATE TABLE t (a TEXT PRIMARY KEY)", "primary key"},
	    {"CREATE TABLE t (a INT, b INT NOT NULL, PRIMARY KEY (a, b))",
		"primary key"},
	    {"CREATE TABLE t (id INTEGER PRIMARY KEY, item TEXT"
	     " REFERENCES item (name) DEFERRABLE INITIALLY DEFERRED)",
		"DEFERRED"},
	    {"CREATE TABLE t (a INT", "incomplete"},
	    {"CREATE TABLE t (id INTEGER PRIMARY KEY); SELECT nonsense",
		"nonsense"},
	    {"CREATE TABLE t (id INTEGER PRIMARY KEY); COMMIT; BEGIN",
		"authorized"},
	    {"SAVEPOINT a", "authorized"},
	    {"PRAGMA user_version = 7", "authorized"},
	    {"ATTACH ':memory:' AS x", "authorized"},
	    {"INSERT INTO sale (item) VALUES ('nothing')", "refer to"},
	    {"INSERT INTO item VALUES ('a', -1, NULL)", "CHECK"},
	};
	struct store_migration steps[] = {{1, "tables", sql_schema},
	    {2, "bad", NULL}, {0}};
	struct mr_error err = {0};
	struct store *st;
	int64_t n;
	size_t i;

	(void)state;
	store_close(must_open(own_1));
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		steps[1].sql = cases[i].sql;
		st = open_as(steps, &err);
		if (st != NULL || err.kind != MR_FATAL ||
		    strstr(err.message, cases[i].says) == NULL ||
		    strstr(err.message, "migration service 2") == NULL)
			fail_msg("%s: %s", cases[i].sql, err.message);
		st = must_open(own_1);
		must(store_find(st, &err, &n,
		    "SELECT count(*) FROM"
		    " sqlite_schema WHERE name = 't'"));
		assert_int_equal(n, 0);
		store_close(st);
	}
	steps[0].version = 2;
	assert_null(open_as(steps, &err));
	assert_non_null(strstr(err.message, "in order"));
}

static void
good_tables_are_let_in(void **state)
{
	static const struct store_migration steps[] =
	    {{1, "tables",
		 "CREATE TABLE a (id INTEGER PRIMARY KEY);"
		 "CREATE TABLE b (x TEXT NOT NULL PRIMARY KEY) STRICT;"
		 "CREATE TABLE c (x TEXT, y INT, PRIMARY KEY (x, y))"
		 " WITHOUT ROWID;"
		 "CREATE TABLE d (x TEXT NOT NULL, y INT NOT NULL,"
		 " PRIMARY KEY (x, y), UNIQUE (y));"
		 "CREATE TABLE e (id INTEGER PRIMARY KEY AUTOINCREMENT,"
		 " a INT REFERENCES a (id) DEFERRABLE);"
		 "CREATE VIRTUAL TABLE f USING fts5(x, content='');"
		 "CREATE VIEW g AS SELECT 1;"
		 "-- the last word\n"},
		{0}};

	(void)state;
	store_close(must_open(steps));
	store_close(must_open(steps));
}

/* SQLite checks what is in a STRICT table by a pragma of its own. */
static void
a_migration_alters_a_table_with_rows(void **state)
{
	static const struct store_migration steps[] = {{1, "tables",
							   sql_schema},
	    {2, "columns",
		"ALTER TABLE item ADD COLUMN shelf TEXT;"
		"ALTER TABLE item ADD COLUMN rank INTEGER NOT NULL DEFAULT 7;"
		"ALTER TABLE item RENAME COLUMN shelf TO place;"
		"ALTER TABLE item DROP COLUMN place;"},
	    {0}};
	struct store *st = must_open(own_1);

	(void)state;
	add_item(st, "a");
	store_close(st);
	st = must_open(steps);
	assert_int_equal(count_items(st), 1);
	store_close(st);
}

static void
deferred_constraints_are_found_in_sql(void **state)
{
	static const struct {
		const char *sql;
		int deferred;
	} cases[] = {
	    {"", 0},
	    {"a DEFERRABLE INITIALLY DEFERRED", 1},
	    {"a deferrable /* x */ initially -- y\n\tDeferred)", 1},
	    {"a DEFERRABLE INITIALLY IMMEDIATE", 0},
	    {"a DEFERRABLE", 0},
	    {"'INITIALLY DEFERRED'", 0},
	    {"\"INITIALLY\" \"DEFERRED\"", 0},
	    {"[INITIALLY DEFERRED] `INITIALLY DEFERRED`", 0},
	    {"-- INITIALLY DEFERRED", 0},
	    {"/* INITIALLY DEFERRED */ x", 0},
	    {"/* INITIALLY DEFERRED", 0},
	    {"'it''s' INITIALLY DEFERRED", 1},
	    {"'INITIALLY DEFERRED", 0},
	    {"initially_deferred INITIALLY2 DEFERRED", 0},
	    {"a_very_long_name_indeed INITIALLY DEFERRED", 1},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (store_defers(cases[i].sql) != cases[i].deferred)
			fail_msg("%s", cases[i].sql);
}

/* ---- opening ------------------------------------------------------------ */

static void
connection_has_the_settings_it_should(void **state)
{
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	const struct {
		const char *sql;
		int64_t value;
	} cases[] = {
	    {"PRAGMA synchronous", 2},
	    {"PRAGMA foreign_keys", 1},
	    {"PRAGMA trusted_schema", 0},
	    {"PRAGMA temp_store", 2},
	    {"PRAGMA journal_size_limit", 64 << 20},
	    {"PRAGMA cell_size_check", 1},
	    {"PRAGMA cache_size", -4096},
	    {"PRAGMA application_id", store_open_mark(path)},
	    {"PRAGMA user_version", 2},
	    {"SELECT journal_mode = 'wal' FROM pragma_journal_mode", 1},
	};
	struct stat file;
	int64_t value;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		value = -1;
		(void)store_find_values(st, &err, &value, cases[i].sql, NULL,
		    0);
		if (value != cases[i].value)
			fail_msg("%s: %lld", cases[i].sql, (long long)value);
	}
	/* DEFENSIVE */
	must(store_begin(st, &err));
	assert_int_equal(store_run(st, &err, "DELETE FROM word_data"), -1);
	store_rollback(st);
	add_item(st, "a");
	assert_int_equal(stat(path, &file), 0);
	assert_int_equal(file.st_mode & 0777, 0660);
	assert_int_equal(stat(beside("-wal"), &file), 0);
	assert_int_equal(file.st_mode & 0777, 0660);
	assert_int_equal(stat(beside(".writer"), &file), 0);
	assert_int_equal(file.st_mode & 0777, 0660);
	assert_string_equal(store_path(st), path);
	assert_string_equal(store_version_text(), sqlite3_libversion());
	store_close(st);
	store_close(NULL);
}

/* The file's bytes, and how many: of one that is small. */
static size_t
bytes_of(char *bytes, size_t room)
{
	FILE *file = fopen(path, "r");
	size_t size;

	assert_non_null(file);
	size = fread(bytes, 1, room, file);
	assert_true(size > 0 && size < room);
	(void)fclose(file);
	return (size);
}

static void
foreign_files_are_refused_with_what_to_do(void **state)
{
	static const struct {
		const char *sql;
		const char *says;
	} cases[] = {
	    {"PRAGMA application_id = 5", "another application"},
	    {"UPDATE store_identity SET service = 'orders'",
		"belongs to the service orders"},
	    {"DELETE FROM store_identity", "millrace state restore"},
	    {"INSERT INTO schema_versions VALUES ('service', 9, 'x', '7.8.9',"
	     " 0)",
		"run 7.8.9 or newer"},
	    {"INSERT INTO schema_versions VALUES ('core', 2, 'x', '7.8.9', 0)",
		"run 7.8.9 or newer"},
	    {"PRAGMA user_version = 99", "user_version is 99"},
	    {"CREATE TABLE k (a)", "primary key"},
	};
	char before[16384], after[sizeof(before)];
	struct mr_error err = {0};
	struct store *st;
	size_t i, size;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		remove_files();
		store_close(must_open(own_1));
		meddle(cases[i].sql);
		memset(&err, 0, sizeof(err));
		st = open_as(own_1, &err);
		if (st != NULL || err.kind != MR_FATAL ||
		    strstr(err.message, cases[i].says) == NULL ||
		    strstr(err.message, path) == NULL)
			fail_msg("%s: %s", cases[i].sql, err.message);
	}
	remove_files();
	meddle("CREATE TABLE theirs (a)");
	size = bytes_of(before, sizeof(before));
	assert_null(open_as(own_1, &err));
	assert_non_null(strstr(err.message, "another application"));
	/* and left as it was */
	assert_int_equal(bytes_of(after, sizeof(after)), size);
	assert_memory_equal(after, before, size);
	assert_int_equal(access(beside("-wal"), F_OK), -1);
}

static void
bad_places_are_refused_with_what_to_do(void **state)
{
	static const struct {
		unsigned long magic;
		int refused;
	} magics[] = {{0x6969, 1}, {0xff534d42, 1}, {0xffffffffff534d42, 1},
	    {0x65735546, 1}, {0x01021997, 1}, {0xef53, 0}, {0x58465342, 0},
	    {0x794c7630, 0}, {0x01021994, 0}, {0x9123683e, 0}};
	struct mr_error err = {0};
	struct store_options options = {.service = "inventory", .own = own_1};
	char text[PATH_MAX + 64];
	FILE *file;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
		assert_int_equal(store_refused_filesystem(magics[i].magic) !=
			NULL,
		    magics[i].refused);

	(void)snprintf(text, sizeof(text), "%s/missing/a.db", folder);
	options.path = text;
	assert_null(store_open(&options, &err));
	assert_int_equal(err.kind, MR_FATAL);
	assert_non_null(strstr(err.message, "mkdir -p"));
	assert_non_null(strstr(err.message, "/missing"));

	options.path = folder;
	assert_null(store_open(&options, &err));
	assert_non_null(strstr(err.message, "regular file"));

	assert_non_null(file = fopen(path, "w"));
	for (i = 0; i < 1000; i++)
		(void)fputs("this is a letter, not a database\n", file);
	(void)fclose(file);
	assert_null(open_as(own_1, &err));
	assert_int_equal(err.kind, MR_FATAL);
	assert_non_null(strstr(err.message, "not a database"));
}

static void
add_and_die(void *arg)
{
	struct mr_error err = {0};
	struct store *st = open_as(own_1, &err);
	const int *count = arg;
	char name[16];
	int i;

	demand(st != NULL, &err);
	demand(store_begin(st, &err) == 0, &err);
	for (i = 0; i < *count; i++) {
		(void)snprintf(name, sizeof(name), "n%d", i);
		demand(store_run(st, &err, sql_add, store_text(name),
			   store_i64(1)) == 1,
		    &err);
	}
	demand(store_commit(st, &err) == 0, &err);
	(void)raise(SIGKILL);
}

static void
add_core_and_die(void *arg)
{
	struct mr_error err = {0};
	struct store *st = open_as(own_1, &err);

	(void)arg;
	demand(st != NULL, &err);
	demand(store_begin(st, &err) == 0, &err);
	demand(store_run(st, &err, "INSERT INTO core VALUES (NULL)") == 1,
	    &err);
	demand(store_commit(st, &err) == 0, &err);
	(void)raise(SIGKILL);
}

static void
spoil_page(const char *name, int64_t page)
{
	static const char junk[1024] = "junk";
	int fd = open(name, O_RDWR);

	assert_int_not_equal(fd, -1);
	assert_int_equal(pwrite(fd, junk, sizeof(junk), (page - 1) * 4096),
	    sizeof(junk));
	(void)close(fd);
}

static void
unclean_exit_is_checked_and_damage_refused(void **state)
{
	struct mr_error err = {0};
	struct store *st;
	struct stat file;
	int count = 2000;
	int64_t page = 0;

	(void)state;
	assert_true(WIFSIGNALED(wait_for(child(add_and_die, &count))));
	assert_int_equal(stat(beside("-wal"), &file), 0);
	assert_true(file.st_size > 0);
	st = must_open(own_1);
	assert_int_equal(count_items(st), count);
	assert_int_equal(stat(beside("-wal"), &file), 0);
	assert_int_equal(file.st_size, 0); /* checkpointed */
	must(store_find(st, &err, &page,
	    "SELECT rootpage FROM sqlite_schema"
	    " WHERE name = 'item'"));
	assert_true(page > 1);
	store_close(st);

	/* A log is left behind, and a page that isn't in it is spoilt. */
	assert_true(WIFSIGNALED(wait_for(child(add_core_and_die, NULL))));
	spoil_page(path, page);
	assert_null(open_as(own_1, &err));
	assert_int_equal(err.kind, MR_FATAL);
	assert_non_null(strstr(err.message, "millrace state restore"));
	assert_non_null(strstr(err.message, path));
}

/* Another process must not get the lock. */
static void
take_pen_or_not(void *arg)
{
	struct flock lock = {.l_type = F_WRLCK,
	    .l_whence = SEEK_SET,
	    .l_start = PEN_BYTE,
	    .l_len = 1};
	int fd = open(beside(".writer"), O_RDWR);

	(void)arg;
	_exit(fd != -1 && fcntl(fd, F_SETLK, &lock) == -1 ? 0 : 1);
}

static void
second_writer_in_a_process_is_refused_and_harmless(void **state)
{
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	struct race *race = shared_memory(sizeof(*race));
	pid_t pid;

	(void)state;
	must(store_begin(st, &err));
	assert_null(open_as(own_1, &err));
	assert_int_equal(err.kind, MR_FATAL);
	assert_non_null(strstr(err.message, "already"));
	/* This process's locks are still there. */
	pid = child(take_pen_or_not, race);
	assert_int_equal(wait_for(pid), 0);
	must(store_commit(st, &err));
	store_close(st);
	(void)munmap(race, sizeof(*race));
}

static void
what_happens_to_the_file_underneath_is_found(void **state)
{
	static const struct {
		const char *sql; /* run by a stranger */
		const char *gone; /* the suffix of what is renamed */
		int replaced; /* and a new file put there */
		const char *says;
	} cases[] = {
	    {"PRAGMA user_version = 3", NULL, 0, "migrated"},
	    {NULL, "", 0, "moved"},
	    {NULL, "", 1, "moved"},
	    {NULL, ".writer", 0, "moved"},
	    {NULL, ".writer", 1, "moved"},
	};
	struct mr_error err = {0};
	struct store *st;
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		remove_files();
		st = must_open(own_1);
		add_item(st, "a");
		if (cases[i].sql != NULL)
			meddle(cases[i].sql);
		if (cases[i].gone != NULL)
			assert_int_equal(rename(beside(cases[i].gone),
					     beside(".away")),
			    0);
		if (cases[i].replaced) {
			fd = open(beside(cases[i].gone), O_CREAT | O_RDWR,
			    0600);
			assert_int_not_equal(fd, -1);
			(void)close(fd);
		}
		assert_int_equal(usleep(STORE_LOOK_EVERY_US), 0);
		memset(&err, 0, sizeof(err));
		if (store_begin(st, &err) != -1 || err.kind != MR_FATAL ||
		    strstr(err.message, cases[i].says) == NULL)
			fail_msg("case %zu: %s", i, err.message);
		assert_int_equal(store_in_transaction(st), 0);
		assert_int_equal(store_begin(st, NULL), -1); /* nor again */
		store_close(st);
	}
}

static void
foreign_writer_makes_begin_retry(void **state)
{
	struct mr_error err = {0};
	struct store *st = must_open(own_1);
	sqlite3 *db = NULL;

	(void)state;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL),
	    SQLITE_OK);
	assert_int_equal(store_begin(st, &err), -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_non_null(strstr(err.message, "another program"));
	assert_int_equal(pen_try(st->pen), 1); /* it was put down */
	pen_drop(st->pen);
	(void)sqlite3_close(db);
	add_item(st, "a");
	store_close(st);
}

/* It knows nothing of sums, and takes into the file what is in the log. */
static void
checkpoint_of_another_program_does_no_harm(void **state)
{
	struct store *st = must_open(own_1);
	sqlite3 *db = NULL;

	(void)state;
	add_item(st, "a");
	store_close(st);
	st = must_open(own_1); /* pages come from the file */
	add_item(st, "b");
	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE,
			     "unix"),
	    SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)",
			     NULL, NULL, NULL),
	    SQLITE_OK);
	(void)sqlite3_close(db);
	store_close(st);
	st = must_open(own_1);
	assert_int_equal(count_items(st), 2);
	add_item(st, "c");
	store_close(st);
}

/* ---- the pen ------------------------------------------------------------ */

#define RACE_COMMITS 200
#define RACE_ROUNDS 50

static void
race_run(void *arg)
{
	struct race *race = arg;
	int i, self = race->self;
	struct mr_error err = {0};
	struct store *st = open_as(own_1, &err);
	char name[32];

	demand(st != NULL, &err);
	__atomic_add_fetch(&race->ready, 1, __ATOMIC_SEQ_CST);
	while (!race->go)
		pause_ms(1);
	for (i = 0; i < RACE_COMMITS; i++) {
		(void)snprintf(name, sizeof(name), "%d-%d", self, i);
		demand(store_begin(st, &err) == 0, &err);
		demand(store_run(st, &err, sql_add, store_text(name),
			   store_i64(1)) == 1,
		    &err);
		demand(store_commit(st, &err) == 0, &err);
	}
	store_close(st);
}

static void
three_writers_lose_nothing(void **state)
{
	struct race *race = shared_memory(sizeof(*race));
	pid_t pids[3];
	struct store *st;
	int i;

	(void)state;
	store_close(must_open(own_1));
	for (i = 0; i < 3; i++) {
		race->self = i;
		pids[i] = child(race_run, race);
		wait_until(race->ready == i + 1);
	}
	race->go = 1;
	for (i = 0; i < 3; i++)
		assert_int_equal(wait_for(pids[i]), 0);
	st = must_open(own_1);
	assert_int_equal(count_items(st), 3 * RACE_COMMITS);
	store_close(st);
	(void)munmap(race, sizeof(*race));
}

/* Asks for the pen whenever it is told to. */
static void
race_wait(void *arg)
{
	struct race *race = arg;
	struct mr_error err = {0};
	struct store *st = open_as(own_1, &err);
	int i;

	demand(st != NULL, &err);
	race->ready = 1;
	for (i = 1; i <= RACE_ROUNDS; i++) {
		while (race->go < i)
			pause_ms(1);
		demand(store_begin(st, &err) == 0, &err);
		race->had = i;
		demand(store_commit(st, &err) == 0, &err);
	}
	store_close(st);
}

/* It sleeps until the pen, the lock file's first byte, is put down: proc(5). */
static int
waits_for_pen(pid_t pid)
{
	static const char end[] = " 0 0\n";
	char line[256], who[32];
	int waits = 0;
	FILE *f;

	(void)snprintf(who, sizeof(who), " WRITE %d ", (int)pid);
	assert_non_null(f = fopen("/proc/locks", "r"));
	while (fgets(line, sizeof(line), f) != NULL)
		waits |= strstr(line, "-> POSIX ") != NULL &&
		    strstr(line, who) != NULL && strlen(line) > sizeof(end) &&
		    strcmp(line + strlen(line) - (sizeof(end) - 1), end) == 0;
	(void)fclose(f);
	return (waits);
}

/* However long it takes to wake, who has put the pen down asks at once. */
static void
writer_that_waits_for_the_pen_has_it_next(void **state)
{
	struct race *race = shared_memory(sizeof(*race));
	struct mr_error err = {0};
	int i, passed_over = 0;
	struct store *st;
	pid_t pid;

	(void)state;
	store_close(must_open(own_1));
	pid = child(race_wait, race);
	wait_until(race->ready);
	st = must_open(own_1);
	assert_int_equal(store_begin(st, &err), 0);
	for (i = 1; i <= RACE_ROUNDS; i++) {
		race->go = i;
		wait_until(waits_for_pen(pid));
		assert_int_equal(store_commit(st, &err), 0);
		assert_int_equal(store_begin(st, &err), 0);
		if (race->had == i)
			continue;
		passed_over++;
		assert_int_equal(store_commit(st, &err), 0);
		wait_until(race->had == i);
		assert_int_equal(store_begin(st, &err), 0);
	}
	assert_int_equal(store_commit(st, &err), 0);
	assert_int_equal(wait_for(pid), 0);
	assert_int_equal(passed_over, 0);
	store_close(st);
	(void)munmap(race, sizeof(*race));
}

/* Begin a transaction and stay in it. */
static void
hold_pen(void *arg)
{
	struct race *race = arg;
	struct mr_error err = {0};
	struct store *st = open_as(own_1, &err);
	char name[32];

	demand(st != NULL, &err);
	demand(store_begin(st, &err) == 0, &err);
	(void)snprintf(name, sizeof(name), "half %d", (int)getpid());
	demand(store_run(st, &err, sql_add, store_text(name), store_i64(1)) ==
		1,
	    &err);
	race->holding = 1;
	while (!race->go)
		pause_ms(1);
	demand(store_commit(st, &err) == 0, &err);
	store_close(st);
}

static void
stopped_holder_is_killed_and_the_waiter_goes_on(void **state)
{
	struct race *race = shared_memory(sizeof(*race));
	struct store *st = must_open(own_1);
	int64_t start_us;
	pid_t pid;
	int status;

	(void)state;
	store_close(st);
	pid = child(hold_pen, race);
	wait_until(race->holding);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	start_us = clock_mono_us();
	st = must_open(own_1); /* opening queues like the rest */
	assert_true(clock_mono_us() - start_us >= 190000);
	assert_true(clock_mono_us() - start_us < 5000000);
	status = wait_for(pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(count_items(st), 0);
	add_item(st, "a");
	store_close(st);
	(void)munmap(race, sizeof(*race));
}

static void
enter_sandbox(void)
{
	struct sandbox sb;

	sandbox_init(&sb);
	sandbox_write_beside(&sb, path);
	sandbox_enter(&sb);
}

static void
hold_pen_sandboxed(void *arg)
{
	enter_sandbox();
	hold_pen(arg);
}

/* Neither sees the other's /proc/PID/exe. */
static void
stopped_holder_is_killed_from_sandbox_to_sandbox(void **state)
{
	struct race *race = shared_memory(sizeof(*race));
	struct race *other = shared_memory(sizeof(*other));
	pid_t pid, waiter;
	int status;

	(void)state;
	store_close(must_open(own_1));
	pid = child(hold_pen_sandboxed, race);
	wait_until(race->holding);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	other->go = 1;
	waiter = child(hold_pen_sandboxed, other);
	wait_until(other->holding);
	assert_int_equal(wait_for(waiter), 0);
	status = wait_for(pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	(void)munmap(race, sizeof(*race));
	(void)munmap(other, sizeof(*other));
}

static void
running_holder_is_waited_for_and_not_killed(void **state)
{
	struct race *race = shared_memory(sizeof(*race));
	struct race *other = shared_memory(sizeof(*other));
	struct store *st;
	pid_t pid, waiter;

	(void)state;
	store_close(must_open(own_1));
	pid = child(hold_pen, race);
	wait_until(race->holding);
	other->go = 1;
	waiter = child(hold_pen, other);
	pause_ms(700); /* past the patience, several times */
	assert_int_equal(other->holding, 0);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	race->go = 1;
	assert_int_equal(wait_for(pid), 0);
	assert_int_equal(wait_for(waiter), 0);
	assert_int_equal(other->holding, 1);
	st = must_open(own_1);
	assert_int_equal(count_items(st), 2);
	store_close(st);
	(void)munmap(race, sizeof(*race));
	(void)munmap(other, sizeof(*other));
}

static void
hold_pen_as_another(void *arg)
{
	(void)prctl(PR_SET_NAME, "somebody else");
	hold_pen(arg);
}

static void
stopped_holder_of_another_name_is_not_killed(void **state)
{
	struct race *race = shared_memory(sizeof(*race));
	struct race *other = shared_memory(sizeof(*other));
	pid_t pid, waiter;
	int status;

	(void)state;
	store_close(must_open(own_1));
	pid = child(hold_pen_as_another, race);
	wait_until(race->holding);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	other->go = 1;
	waiter = child(hold_pen, other);
	pause_ms(700); /* past the patience, several times */
	assert_int_equal(other->holding, 0);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	race->go = 1;
	assert_int_equal(kill(pid, SIGCONT), 0);
	assert_int_equal(wait_for(pid), 0);
	assert_int_equal(wait_for(waiter), 0);
	(void)munmap(race, sizeof(*race));
	(void)munmap(other, sizeof(*other));
}

/* Who waits with its turn stops; the others must not wait for it. */
static void
stop_with_turn(void *arg)
{
	struct race *race = arg;
	struct flock lock = {.l_type = F_WRLCK,
	    .l_whence = SEEK_SET,
	    .l_start = TURN_BYTE,
	    .l_len = 1};
	int fd = open(beside(".writer"), O_RDWR);

	if (fcntl(fd, F_SETLK, &lock) != 0)
		_exit(98);
	race->holding = 1;
	(void)raise(SIGSTOP);
}

static void
stopped_waiter_does_no_harm(void **state)
{
	struct race *race = shared_memory(sizeof(*race));
	struct store *st = must_open(own_1);
	int64_t start_us;
	pid_t pid;
	int i, status;

	(void)state;
	pid = child(stop_with_turn, race);
	wait_until(race->holding);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	start_us = clock_mono_us();
	for (i = 0; i < 20; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "n%d", i);
		add_item(st, name);
	}
	/* once, not at each of them */
	assert_true(clock_mono_us() - start_us < 3000000);
	assert_int_equal(kill(pid, 0), 0);
	assert_int_equal(kill(pid, SIGCONT), 0);
	assert_int_equal(wait_for(pid), 0);
	add_item(st, "last");
	store_close(st);
	(void)munmap(race, sizeof(*race));
}

/* ---- readers ------------------------------------------------------------ */

static void
reader_sees_what_is_committed_and_nothing_else(void **state)
{
	struct mr_error err = {0};
	struct store *st, *reader;
	FILE *file;

	(void)state;
	assert_null(store_open_reader(path, 1000, &err));
	assert_int_equal(err.kind, MR_RETRY);
	assert_non_null(strstr(err.message, path));
	assert_non_null(file = fopen(path, "w"));
	(void)fclose(file);
	assert_null(store_open_reader(path, 1000, &err));
	assert_int_equal(err.kind, MR_RETRY);
	remove_files();
	meddle("CREATE TABLE theirs (a); PRAGMA application_id = 9");
	assert_null(store_open_reader(path, 1000, &err));
	assert_int_equal(err.kind, MR_FATAL);

	remove_files();
	st = must_open(own_1);
	reader = store_open_reader(path, 1000, &err);
	assert_non_null(reader);
	must(store_begin(st, &err));
	must(store_run(st, &err, sql_add, store_text("a"), store_i64(1)));
	assert_int_equal(count_items(reader), 0);
	must(store_commit(st, &err));
	assert_int_equal(count_items(reader), 1);
	assert_int_equal(store_begin(reader, &err), -1);
	assert_int_equal(store_run(reader, &err, sql_add, store_text("b"),
			     store_i64(1)),
	    -1);
	assert_non_null(strstr(err.message, "through a reader"));
	assert_int_equal(store_save(reader, &err), -1);
	store_close(st);
	assert_int_equal(count_items(reader), 1);
	store_close(reader);
}

/* Another program, which takes the log in and away if it is the last one. */
static void
read_elsewhere(void)
{
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		(void)execlp("sqlite3", "sqlite3", path,
		    "SELECT count(*) FROM sqlite_schema WHERE 0", (char *)NULL);
		_exit(1);
	}
	assert_int_equal(wait_for(pid), 0);
}

/* To close a descriptor of a file drops all locks that a process has on it. */
static void
readers_leave_their_process_its_locks(void **state)
{
	struct store *st = must_open(own_1), *reader;
	struct mr_error err = {0};

	(void)state;
	reader = store_open_reader(path, 0, &err);
	demand(reader != NULL, &err);
	read_elsewhere();
	assert_int_equal(access(beside("-wal"), F_OK), 0);
	store_close(reader);
	read_elsewhere();
	assert_int_equal(access(beside("-wal"), F_OK), 0);
	store_close(st);
}

static void
reader_is_interrupted_at_its_deadline(void **state)
{
	static const char sql_long[] =
	    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
	    " SELECT count(*) FROM n";
	static const char sql_rows[] =
	    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
	    " SELECT i FROM n";
	struct mr_error err = {0};
	struct store *st = must_open(own_1), *reader;
	struct store_rows *rows;
	int64_t start_us, value;
	int rc;

	(void)state;
	reader = store_open_reader(path, 100, &err);
	assert_non_null(reader);
	start_us = clock_mono_us();
	assert_int_equal(store_find(reader, &err, &value, sql_long), -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_non_null(strstr(err.message, "longer than 100 ms"));
	assert_true(clock_mono_us() - start_us >= 100000);
	assert_true(clock_mono_us() - start_us < 30000000);
	rows = store_query(reader, &err, sql_rows);
	assert_non_null(rows);
	while ((rc = store_next(rows, &err)) == 1)
		continue;
	assert_int_equal(rc, -1);
	assert_int_equal(err.kind, MR_RETRY);
	/* another statement has its time to itself */
	assert_int_equal(count_items(reader), 0);
	store_rows_done(rows);
	assert_int_equal(store_find(reader, &err, &value, "SELECT 1"), 1);
	store_close(reader);
	store_close(st);
}

/* ---- backups ------------------------------------------------------------ */

static void
backup_is_whole_and_does_not_overwrite(void **state)
{
	struct mr_error err = {0};
	struct store *st = must_open(own_1), *reader;
	struct stat file;

	(void)state;
	add_item(st, "a");
	must(store_begin(st, &err));
	assert_int_equal(store_backup(st, beside(".copy"), &err), -1);
	store_rollback(st);
	must(store_backup(st, beside(".copy"), &err));
	add_item(st, "b");
	assert_int_equal(store_backup(st, beside(".copy"), &err), -1);
	assert_non_null(strstr(err.message, "exists"));
	assert_int_equal(access(beside(".copy.partial"), F_OK), -1);
	assert_int_equal(access(beside(".copy-wal"), F_OK), -1);
	assert_int_equal(stat(beside(".copy"), &file), 0);
	assert_int_equal(file.st_mode & 0777, 0660);
	reader = store_open_reader(beside(".copy"), 0, &err);
	assert_non_null(reader);
	assert_int_equal(count_items(reader), 1);
	store_close(reader);

	/* from a reader, while the writer is in a transaction */
	(void)unlink(beside(".copy"));
	reader = store_open_reader(path, 0, &err);
	assert_non_null(reader);
	must(store_begin(st, &err));
	must(store_run(st, &err, sql_add, store_text("c"), store_i64(1)));
	must(store_backup(reader, beside(".copy"), &err));
	must(store_commit(st, &err));
	store_close(reader);

	/* a full disk leaves nothing lying about */
	(void)unlink(beside(".copy"));
	plant(FAULT_ERROR, ENOSPC, 3, 1);
	assert_int_equal(store_backup(st, beside(".copy"), &err), -1);
	assert_int_equal(err.kind, MR_RETRY);
	plant(FAULT_NONE, 0, 0, 0);
	assert_int_equal(access(beside(".copy"), F_OK), -1);
	assert_int_equal(access(beside(".copy.partial"), F_OK), -1);
	store_close(st);
}

static int
copies_of(const char *mark, char *first, size_t size)
{
	struct dirent **entries;
	int i, count, found = 0;

	count = scandir(folder, &entries, NULL, alphasort);
	assert_true(count >= 0);
	for (i = 0; i < count; i++) {
		if (strstr(entries[i]->d_name, mark) != NULL && found++ == 0)
			snprintf(first, size, "%s/%s", folder,
			    entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return (found);
}

static void
remove_copies(const char *mark)
{
	char name[PATH_MAX + 300];

	while (copies_of(mark, name, sizeof(name)) > 0)
		assert_int_equal(unlink(name), 0);
}

static int steps;

static void
count_step(void)
{

	steps++;
}

static struct store *
open_keeping(const struct store_migration *own, int64_t keep,
    struct mr_error *err)
{
	const struct store_options options = {.path = path,
	    .service = "inventory",
	    .core = core_1,
	    .own = own,
	    .keep_backups = keep,
	    .on_progress = count_step};

	return (store_open(&options, err));
}

/* As made before pages had sums: their last bytes are data. */
static void
file_without_sums_stays_so_and_is_copied(void **state)
{
	unsigned char header[100];
	struct mr_error err = {0};
	struct store *st;
	FILE *file;

	(void)state;
	meddle("PRAGMA journal_mode = WAL");
	st = must_open(own_1);
	add_item(st, "a");
	must(store_begin(st, &err));
	must(store_run(st, &err,
	    "INSERT INTO thing (b) VALUES (randomblob(100000))"));
	must(store_commit(st, &err));
	must(store_backup(st, beside(".copy"), &err));
	store_close(st);
	assert_non_null(file = fopen(path, "r"));
	assert_int_equal(fread(header, 1, 100, file), 100);
	(void)fclose(file);
	assert_int_equal(header[20], 0);
	assert_int_equal(rename(beside(".copy"), path), 0);
	st = must_open(own_1);
	assert_int_equal(count_items(st), 1);
	store_close(st);
}

static void
upgrade_is_preceded_by_a_backup(void **state)
{
	struct mr_error err = {0};
	struct store *st, *reader;
	char name[PATH_MAX + 300], partial[PATH_MAX + 300];
	int64_t n = 0;
	FILE *left;

	(void)state;
	/* Neither for a new file, nor for one that is as it should be. */
	store_close(open_keeping(own_1, 2, &err));
	st = open_keeping(own_1, 2, &err);
	assert_non_null(st);
	add_item(st, "a");
	store_close(st);
	assert_int_equal(copies_of(".upgrade-", name, sizeof(name)), 0);
	/* What a killed attempt left is removed. */
	snprintf(partial, sizeof(partial), "%s.upgrade-x.partial", path);
	assert_non_null(left = fopen(partial, "w"));
	assert_int_equal(fclose(left), 0);
	st = open_keeping(own_3, 2, &err);
	assert_non_null(st);
	store_close(st);
	assert_int_equal(access(partial, F_OK), -1);
	assert_int_equal(copies_of(".upgrade-", name, sizeof(name)), 1);
	/* It is the file before, whole, and the old program takes it. */
	reader = store_open_reader(name, 0, &err);
	assert_non_null(reader);
	assert_int_equal(count_items(reader), 1);
	store_close(reader);
	assert_null(open_keeping(own_1, 2, &err));
	remove_files();
	assert_int_equal(rename(name, path), 0);
	st = open_keeping(own_1, 2, &err);
	assert_non_null(st);
	assert_int_equal(count_items(st), 1);
	must(store_find(st, &err, &n, "PRAGMA user_version"));
	store_close(st);
	/* None is made where none is wanted. */
	store_close(open_keeping(own_3, 0, &err));
	assert_int_equal(copies_of(".upgrade-", name, sizeof(name)), 0);
}

/* More than a page of the copy: of its check and of the migration as well. */
static void
opening_says_that_it_goes_on_and_what_follows_does_not(void **state)
{
	struct mr_error err = {0};
	struct store *st;
	int checked;

	(void)state;
	store_close(open_keeping(own_1, 2, &err));
	steps = 0;
	st = open_keeping(own_1, 2, &err);
	assert_non_null(st);
	assert_true(steps > 0);
	checked = steps;
	add_item(st, "a");
	store_close(st);
	assert_int_equal(steps, checked);
	st = open_keeping(own_3, 2, &err);
	assert_non_null(st);
	assert_true(steps > 3 * checked);
	store_close(st);
	remove_copies(".upgrade-");
}

static void
so_many_upgrade_backups_are_kept_and_no_more(void **state)
{
	struct mr_error err = {0};
	char name[PATH_MAX + 300], oldest[PATH_MAX + 300] = "";
	int i;

	(void)state;
	for (i = 0; i < 5; i++) {
		remove_files();
		store_close(open_keeping(own_1, 3, &err));
		store_close(open_keeping(own_3, 3, &err));
		assert_int_equal(copies_of(".upgrade-", name, sizeof(name)),
		    i < 3 ? i + 1 : 3);
		assert_true(i == 0 || i > 2 ? strcmp(oldest, name) != 0 :
					      strcmp(oldest, name) == 0);
		snprintf(oldest, sizeof(oldest), "%s", name);
	}
	remove_copies(".upgrade-");
}

static void
without_room_for_a_backup_nothing_is_migrated(void **state)
{
	struct mr_error err = {0};
	struct store *st;
	char name[PATH_MAX + 300];

	(void)state;
	store_close(open_keeping(own_1, 2, &err));
	plant(FAULT_ERROR, ENOSPC, 3, 1);
	assert_null(open_keeping(own_3, 2, &err));
	plant(FAULT_NONE, 0, 0, 0);
	assert_int_equal(err.kind, MR_RETRY);
	assert_int_equal(copies_of(".upgrade-", name, sizeof(name)), 0);
	st = open_keeping(own_1, 2, &err);
	assert_non_null(st);
	store_close(st);
}

/* ---- another file in its place ------------------------------------------ */

/* A file with one item of that name. */
static int
make_other(void *arg, const char *where, struct mr_error *err)
{
	const struct store_options options = {.path = where,
	    .service = "inventory",
	    .core = core_1,
	    .own = own_1};
	struct store *st;

	if (arg == NULL)
		return (mr_error_set(err, MR_RETRY, "no"));
	if ((st = store_open(&options, err)) == NULL)
		return (-1);
	add_item(st, arg);
	add_item(st, "other");
	store_close(st);
	return (0);
}

static void
file_is_replaced_and_the_old_one_kept_with_its_log(void **state)
{
	static char b[] = "b";
	struct mr_error err = {0};
	struct store *st, *reader;
	char kept[PATH_MAX + 300] = "x", name[PATH_MAX + 64];

	(void)state;
	/* There was none. */
	must(store_replace(path, make_other, b, kept, sizeof(kept), &err));
	assert_string_equal(kept, "");
	st = must_open(own_1);
	assert_int_equal(count_items(st), 2);
	add_item(st, "c");
	/* A reader keeps the log from being removed. */
	reader = store_open_reader(path, 0, &err);
	assert_non_null(reader);
	assert_int_equal(count_items(reader), 3);
	store_close(st);
	snprintf(name, sizeof(name), "%s-wal", path);
	assert_int_equal(access(name, F_OK), 0);
	assert_int_equal(store_replace(path, make_other, NULL, kept,
			     sizeof(kept), &err),
	    -1);
	must(store_replace(path, make_other, b, kept, sizeof(kept), &err));
	assert_int_equal(access(name, F_OK), -1);
	assert_int_equal(count_items(reader), 3);
	store_close(reader);
	reader = store_open_reader(kept, 0, &err);
	assert_non_null(reader);
	assert_int_equal(count_items(reader), 3);
	store_close(reader);
	st = must_open(own_1);
	assert_int_equal(count_items(st), 2);
	store_close(st);
	remove_copies(".replaced-");
	remove_copies(".making");
	remove_copies(".restoring");
}

static void
must_belong(const char *name, uid_t uid, mode_t mode)
{
	struct stat file;

	assert_int_equal(stat(name, &file), 0);
	assert_int_equal(file.st_mode & 0777, mode);
	if (geteuid() == 0) {
		assert_int_equal(file.st_uid, uid);
		assert_int_equal(file.st_gid, uid + 1);
	}
}

static void
replaced_file_has_the_old_ones_owner_and_mode(void **state)
{
	static char b[] = "b";
	const uid_t owner = 60000, other = 61000;
	int root = geteuid() == 0;
	struct mr_error err = {0};
	char kept[PATH_MAX + 300];
	struct store *st;

	(void)state;
	/* There was none: the folder's. */
	if (root)
		assert_int_equal(chown(folder, owner, owner + 1), 0);
	must(store_replace(path, make_other, b, kept, sizeof(kept), &err));
	must_belong(path, owner, 0660);
	must_belong(beside(".writer"), owner, 0660);
	if (root)
		assert_int_equal(chown(path, other, other + 1), 0);
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(unlink(beside(".writer")), 0);
	must(store_replace(path, make_other, b, kept, sizeof(kept), &err));
	must_belong(path, other, 0640);
	must_belong(kept, other, 0640);
	must_belong(beside(".writer"), other, 0660);
	/* Nor does root leave a lock that only root can open. */
	assert_int_equal(unlink(beside(".writer")), 0);
	st = store_open_alone(path, &err);
	demand(st != NULL, &err);
	store_close(st);
	must_belong(beside(".writer"), other, 0660);
	if (root)
		assert_int_equal(chown(folder, 0, 0), 0);
	remove_copies(".replaced-");
}

static void
newer_file_is_known_by_either_part_of_its_schema(void **state)
{
	static const struct store_migration own_2[] = {{1, "tables",
							   sql_schema},
	    {2, "more", "CREATE TABLE more (id INTEGER PRIMARY KEY) STRICT"},
	    {0}};
	static const struct store_migration none[] = {{0}};
	static const struct {
		const struct store_migration *core, *own;
		const char *says; /* NULL: it isn't newer */
	} cases[] = {{core_1, own_2, NULL}, {core_1, own_3, NULL},
	    {core_1, NULL, NULL}, {none, own_2, "has core schema 1"},
	    {none, NULL, "has core schema 1"},
	    {core_1, own_1, "has service schema 2"}};
	struct mr_error err = {0};
	struct store *st = must_open(own_2);
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (cases[i].says == NULL) {
			must(store_check_newer(st, cases[i].core, cases[i].own,
			    &err));
			continue;
		}
		assert_int_equal(store_check_newer(st, cases[i].core,
				     cases[i].own, &err),
		    -1);
		assert_int_equal(err.kind, MR_FATAL);
		assert_non_null(strstr(err.message, cases[i].says));
		assert_non_null(strstr(err.message, "or newer"));
	}
	store_close(st);
}

static void
hold_open(void *arg)
{
	struct mr_error err = {0};
	_Atomic int *opened = arg;
	struct store *st = open_as(own_1, &err);

	demand(st != NULL, &err);
	*opened = 1;
	for (;;)
		(void)pause();
}

/* A child that has the file open; its pid. */
static pid_t
held_elsewhere(void)
{
	_Atomic int *opened = shared_memory(sizeof(*opened));
	pid_t pid = child(hold_open, (void *)(uintptr_t)opened);

	while (!*opened)
		(void)usleep(1000);
	return (pid);
}

static void
file_that_a_process_has_open_is_not_replaced(void **state)
{
	static char b[] = "b";
	struct mr_error err = {0};
	char kept[PATH_MAX + 300], number[32];
	struct store *st;
	pid_t pid;

	(void)state;
	store_close(must_open(own_1));
	pid = held_elsewhere();
	assert_int_equal(store_replace(path, make_other, b, kept, sizeof(kept),
			     &err),
	    -1);
	assert_int_equal(err.kind, MR_RETRY);
	(void)snprintf(number, sizeof(number), "pid %d", (int)pid);
	assert_non_null(strstr(err.message, number));
	assert_int_equal(kill(pid, SIGKILL), 0);
	(void)wait_for(pid);
	st = must_open(own_1);
	assert_int_equal(count_items(st), 0);
	store_close(st);
}

static void
link_and_file_have_one_pen_and_what_is_beside(void **state)
{
	struct store_options options = {.path = beside(".link"),
	    .service = "inventory",
	    .core = core_1,
	    .own = own_1};
	struct mr_error err = {0};
	char *real = realpath(folder, NULL), name[PATH_MAX + 300];
	struct store *st;
	pid_t pid;

	(void)state;
	store_close(must_open(own_1));
	assert_int_equal(symlink(path, beside(".link")), 0);
	pid = held_elsewhere();
	assert_null(store_open_alone(options.path, &err));
	assert_int_equal(err.kind, MR_RETRY);
	assert_non_null(strstr(err.message, "open in another process"));
	assert_int_equal(kill(pid, SIGKILL), 0);
	(void)wait_for(pid);
	/* What that one has left in the log isn't passed by. */
	st = store_open(&options, &err);
	demand(st != NULL, &err);
	assert_non_null(real);
	snprintf(name, sizeof(name), "%s%s", real, path + strlen(folder));
	assert_string_equal(store_path(st), name);
	assert_null(open_as(own_1, &err));
	assert_non_null(strstr(err.message, "already"));
	assert_int_equal(access(beside(".link.writer"), F_OK), -1);
	store_close(st);
	assert_int_equal(unlink(beside(".link")), 0);
	free(real);
}

static void
file_with_two_names_is_not_written(void **state)
{
	static char b[] = "b";
	struct store_options options = {.path = beside(".other"),
	    .service = "inventory",
	    .core = core_1,
	    .own = own_1};
	struct mr_error err = {0};
	char kept[PATH_MAX + 300], other[PATH_MAX + 64];
	struct store *st;

	(void)state;
	snprintf(other, sizeof(other), "%s", options.path);
	options.path = other;
	store_close(must_open(own_1));
	assert_int_equal(link(path, other), 0);
	assert_null(store_open(&options, &err));
	assert_int_equal(err.kind, MR_FATAL);
	assert_non_null(strstr(err.message, "2 names (hard links)"));
	assert_non_null(strstr(err.message, "find -samefile"));
	assert_null(open_as(own_1, &err));
	assert_null(store_open_alone(path, &err));
	assert_non_null(strstr(err.message, "2 names (hard links)"));
	/* Another one in its place has one name again, and so has the old. */
	must(store_replace(path, make_other, b, kept, sizeof(kept), &err));
	assert_int_equal(unlink(other), 0);
	st = must_open(own_1);
	assert_int_equal(count_items(st), 2);
	store_close(st);
	assert_int_equal(unlink(beside(".other.writer")), 0);
	remove_copies(".replaced-");
}

static void
link_is_left_when_its_file_is_replaced(void **state)
{
	static char b[] = "b";
	struct mr_error err = {0};
	char kept[PATH_MAX + 300], where[PATH_MAX + 64];
	struct stat file;
	struct store *st;

	(void)state;
	store_close(must_open(own_1));
	snprintf(where, sizeof(where), "%s", beside(".link"));
	assert_int_equal(symlink(path, where), 0);
	must(store_replace(where, make_other, b, kept, sizeof(kept), &err));
	assert_int_equal(lstat(where, &file), 0);
	assert_true(S_ISLNK(file.st_mode));
	assert_null(strstr(kept, ".link"));
	st = must_open(own_1);
	assert_int_equal(count_items(st), 2);
	store_close(st);
	/* Nothing is made where one leads that leads nowhere. */
	assert_int_equal(unlink(where), 0);
	assert_int_equal(symlink(beside(".none"), where), 0);
	assert_int_equal(store_replace(where, make_other, b, kept, sizeof(kept),
			     &err),
	    -1);
	assert_non_null(strstr(err.message, "a link to what isn't there"));
	assert_null(store_open_reader(where, 0, &err));
	assert_int_equal(err.kind, MR_RETRY);
	assert_int_equal(unlink(where), 0);
	remove_copies(".replaced-");
}

static void
file_whose_replacing_was_cut_short_is_not_opened(void **state)
{
	static char b[] = "b";
	struct mr_error err = {0};
	char kept[PATH_MAX + 300], waiting[PATH_MAX + 300];
	FILE *left;

	(void)state;
	store_close(must_open(own_1));
	snprintf(waiting, sizeof(waiting), "%s.restoring", path);
	assert_non_null(left = fopen(waiting, "w"));
	assert_int_equal(fclose(left), 0);
	assert_null(open_as(own_1, &err));
	assert_int_equal(err.kind, MR_FATAL);
	assert_non_null(strstr(err.message, "millrace state restore"));
	assert_null(store_open_alone(path, &err));
	assert_non_null(strstr(err.message, "millrace state restore"));
	must(store_replace(path, make_other, b, kept, sizeof(kept), &err));
	store_close(must_open(own_1));
	remove_copies(".replaced-");
}

static const char sql_old[] =
    "SELECT count(*) FROM item WHERE name IN ('n0', 'n1', 'n2')";
static const char sql_new[] =
    "SELECT count(*) FROM item WHERE name IN ('b', 'other')";

/* 'o' if a store has the old file's rows, 'n' if the new one's, else '?'. */
static int
whose_rows(struct store *st)
{
	struct mr_error err = {0};
	int64_t all = -1, old = -1, new = -1;

	must(store_find(st, &err, &all, sql_count));
	must(store_find(st, &err, &old, sql_old));
	must(store_find(st, &err, &new, sql_new));
	if (all == 3 && old == 3)
		return ('o');
	return (all == 2 && new == 2 ? 'n' : '?');
}

static void
replace_and_die(void *arg)
{
	static char b[] = "b";
	const struct trial *trial = arg;
	struct mr_error err = {0};
	char kept[PATH_MAX + 300];

	plant(trial->fault, 0, trial->at, 0);
	demand(store_replace(path, make_other, b, kept, sizeof(kept), &err) ==
		0,
	    &err);
}

/* What the child left: the old file, the new one, or a refusal. */
static int
what_is_left(void)
{
	struct mr_error err = {0};
	struct store *st = open_as(own_1, &err);
	int whose = 'r';

	if (st != NULL) {
		whose = whose_rows(st);
		store_close(st);
		return (whose);
	}
	if (err.kind != MR_FATAL ||
	    strstr(err.message, "millrace state restore") == NULL)
		fail_msg("%s", err.message);
	return (whose);
}

/* Of the files that were moved aside, one at least has all that there was. */
static void
check_old_is_kept(void)
{
	struct mr_error err = {0};
	struct dirent *entry;
	struct store *st;
	char name[PATH_MAX + 300];
	size_t length;
	int found = 0;
	DIR *dir = opendir(folder);

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		length = strlen(entry->d_name);
		if (strstr(entry->d_name, ".replaced-") == NULL ||
		    entry->d_name[length - 1] != 'Z')
			continue;
		(void)snprintf(name, sizeof(name), "%s/%s", folder,
		    entry->d_name);
		assert_non_null(st = store_open_reader(name, 0, &err));
		found += whose_rows(st) == 'o';
		store_close(st);
	}
	(void)closedir(dir);
	assert_true(found > 0);
}

static void
kill_at_any_change_of_a_replacing_leaves_old_new_or_a_refusal(void **state)
{
	static char b[] = "b";
	struct trial trial = {.fault = FAULT_KILL};
	struct mr_error err = {0};
	char kept[PATH_MAX + 300];
	int status, left, count = 3, seen[128] = {0};

	(void)state;
	do {
		trial.at += KILL_STEP;
		remove_files();
		remove_copies(".making");
		remove_copies(".restoring");
		remove_copies(".replaced-");
		/* It has a log, with all of its rows. */
		assert_true(WIFSIGNALED(wait_for(child(add_and_die, &count))));
		status = wait_for(child(replace_and_die, &trial));
		left = what_is_left();
		if (left == '?')
			fail_msg("killed at %lld: neither old nor new",
			    (long long)trial.at);
		seen[left]++;
		if (left != 'n')
			must(store_replace(path, make_other, b, kept,
			    sizeof(kept), &err));
		assert_int_equal(what_is_left(), 'n');
		check_old_is_kept();
	} while (WIFSIGNALED(status));
	assert_int_equal(status, 0);
	assert_true(seen['o'] > 10 / KILL_STEP && seen['n'] > 0 &&
	    seen['r'] > 3 / KILL_STEP);
	remove_copies(".making");
	remove_copies(".replaced-");
}

/* What a restore does: the copy of a copy is opened, and is changed. */
static int
make_copy(void *arg, const char *where, struct mr_error *err)
{
	struct store *st;
	int rc;

	if ((st = store_open_reader(arg, 0, err)) == NULL)
		return (-1);
	rc = store_backup(st, where, err);
	store_close(st);
	if (rc != 0 || (st = store_open_alone(where, err)) == NULL)
		return (-1);
	if ((rc = store_begin(st, err)) == 0) {
		if (store_run(st, err,
			"UPDATE item SET quantity = quantity + 1") != -1)
			rc = store_commit(st, err);
		else {
			store_rollback(st);
			rc = -1;
		}
	}
	store_close(st);
	return (rc);
}

/* An old file, with a log that has all of its rows, and a new one's source. */
static char *
make_old_and_source(void)
{
	static char b[] = "b", source[PATH_MAX + 64];
	struct mr_error err = {0};
	int count = 3;

	remove_files();
	remove_copies(".making");
	remove_copies(".restoring");
	remove_copies(".replaced-");
	assert_true(WIFSIGNALED(wait_for(child(add_and_die, &count))));
	(void)snprintf(source, sizeof(source), "%s", beside(".source"));
	if (access(source, F_OK) != 0)
		must(make_other(b, source, &err));
	return (source);
}

static void
remove_source(void)
{

	(void)unlink(beside(".source"));
	(void)unlink(beside(".source.writer"));
}

static void
check_none(const char *mark, int64_t at)
{
	char name[PATH_MAX + 300];

	if (copies_of(mark, name, sizeof(name)) > 0)
		fail_msg("at %lld: %s is left", (long long)at, name);
}

/* Only what can't be undone any more is refused. */
static int
replace_with_trouble(int64_t at, int sticky)
{
	char *source = make_old_and_source();
	char kept[PATH_MAX + 300];
	struct mr_error err = {0};
	int rc, left;

	fault_syncs = fault_names = 1;
	plant(FAULT_ERROR, ENOSPC, at, sticky);
	rc = store_replace(path, make_copy, source, kept, sizeof(kept), &err);
	left = fault_calls < at ? 0 : access(beside("-wal"), F_OK) == 0 ? 1 : 2;
	plant(FAULT_NONE, 0, 0, 0);
	fault_syncs = fault_names = 0;
	check_none(".making", at);
	if (left == 1 && rc == -1) {
		check_none(".restoring", at);
		check_none(".replaced-", at);
	}
	if (left == 0)
		must(rc);
	else if (rc == -1)
		assert_true(err.message[0] != '\0');
	return (left == 0 ? 0 : what_is_left());
}

static void
replacing_that_fails_leaves_nothing_behind(void **state)
{
	int64_t at;
	int left, sticky, seen[128] = {0};

	(void)state;
	for (sticky = 0; sticky < 2; sticky++)
		for (at = 1; (left = replace_with_trouble(at, sticky)) != 0;
		     at += KILL_STEP)
			seen[left]++;
	assert_int_equal(seen['?'], 0);
	assert_true(seen['o'] > 20 / KILL_STEP);
	remove_source();
	remove_copies(".replaced-");
}

static void
replacing_that_was_cut_short_stays_so_when_it_fails_again(void **state)
{
	char *source = make_old_and_source();
	char kept[PATH_MAX + 300];
	struct mr_error err = {0};
	FILE *left;

	(void)state;
	assert_non_null(left = fopen(beside(".restoring"), "w"));
	assert_int_equal(fclose(left), 0);
	fault_names = 1;
	plant(FAULT_ERROR, ENOSPC, 1, 1);
	assert_int_equal(store_replace(path, make_copy, source, kept,
			     sizeof(kept), &err),
	    -1);
	plant(FAULT_NONE, 0, 0, 0);
	fault_names = 0;
	assert_int_equal(what_is_left(), 'r');
	must(store_replace(path, make_copy, source, kept, sizeof(kept), &err));
	assert_int_equal(what_is_left(), 'n');
	remove_source();
	remove_copies(".replaced-");
}

static void
replace_and_give_up(void *arg)
{
	const struct trial *trial = arg;
	struct mr_error err = {0};
	char kept[PATH_MAX + 300], source[PATH_MAX + 64];

	(void)snprintf(source, sizeof(source), "%s", beside(".source"));
	plant(FAULT_ABANDON, 0, trial->at, 0);
	demand(store_replace(path, make_copy, source, kept, sizeof(kept),
		   &err) == 0,
	    &err);
	store_abandon(); /* of nothing */
}

static void
back_up_and_give_up(void *arg)
{
	const struct trial *trial = arg;
	struct mr_error err = {0};
	struct store *st = store_open_reader(path, 0, &err);

	demand(st != NULL, &err);
	plant(FAULT_ABANDON, 0, trial->at, 0);
	demand(store_backup(st, beside(".copy"), &err) == 0, &err);
	store_abandon();
}

static void
giving_up_a_replacing_leaves_nothing_without_its_name(void **state)
{
	struct trial trial = {.at = 1};
	int status, left, seen[128] = {0};

	(void)state;
	for (;; trial.at += KILL_STEP) {
		(void)make_old_and_source();
		status = wait_for(child(replace_and_give_up, &trial));
		check_none(".making", trial.at);
		left = what_is_left();
		seen[left]++;
		if (left != 'r')
			check_none(".restoring", trial.at);
		if (left != 'o')
			check_old_is_kept();
		else
			check_none(".replaced-", trial.at);
		if (status == 0)
			break;
		assert_int_equal(WEXITSTATUS(status), ABANDONED);
	}
	assert_int_equal(left, 'n');
	assert_int_equal(seen['?'], 0);
	assert_true(seen['o'] > 20 / KILL_STEP);
	remove_source();
	remove_copies(".replaced-");
}

static void
giving_up_a_backup_leaves_it_whole_or_nothing(void **state)
{
	struct trial trial = {.at = 1};
	struct mr_error err = {0};
	struct store *copy;
	int status, count = 3, none = 0;
	FILE *other;

	(void)state;
	for (;; trial.at += KILL_STEP) {
		remove_files();
		assert_true(WIFSIGNALED(wait_for(child(add_and_die, &count))));
		status = wait_for(child(back_up_and_give_up, &trial));
		check_none(".partial", trial.at);
		if (access(beside(".copy"), F_OK) != 0) {
			none++;
		} else {
			copy = store_open_reader(beside(".copy"), 0, &err);
			assert_non_null(copy);
			assert_int_equal(whose_rows(copy), 'o');
			store_close(copy);
		}
		if (status == 0)
			break;
		assert_int_equal(WEXITSTATUS(status), ABANDONED);
	}
	assert_int_equal(access(beside(".copy"), F_OK), 0);
	assert_true(none > 5 / KILL_STEP);

	/* What another one makes isn't ours to remove. */
	remove_files();
	copy = must_open(own_1);
	assert_non_null(other = fopen(beside(".copy.partial"), "w"));
	assert_int_equal(fclose(other), 0);
	assert_int_equal(store_backup(copy, beside(".copy"), &err), -1);
	assert_non_null(strstr(err.message, "if no other backup runs"));
	store_abandon();
	assert_int_equal(access(beside(".copy.partial"), F_OK), 0);
	store_close(copy);
}

/* ---- memory that runs out ----------------------------------------------- */

/* A service's life; 0 if it came through. */
static int
live(struct mr_error *err)
{
	struct store *st = NULL, *reader = NULL;
	struct store_rows *rows;
	int64_t n;
	int rc = -1;

	if ((st = open_as(own_1, err)) == NULL)
		goto done;
	if ((reader = store_open_reader(path, 60000, err)) == NULL)
		goto done;
	if (store_begin(st, err) != 0 || store_save(st, err) != 0 ||
	    store_run(st, err, sql_add, store_text("a"), store_i64(1)) != 1 ||
	    store_run(st, err, "INSERT INTO word (body) VALUES ('a b')") != 1 ||
	    store_release(st, err) != 0 || store_commit(st, err) != 0)
		goto done;
	if ((rows = store_query(reader, err,
		 "SELECT quantity FROM item WHERE name = 'a'")) == NULL)
		goto done;
	if (store_next(rows, err) == 1 &&
	    strcmp(store_get_text(rows, 0), "1") == 0 &&
	    store_next(rows, err) == 0)
		rc = 0;
	else if (err->kind == MR_OK)
		err->kind = MR_RETRY;
	store_rows_done(rows);
	if (rc == 0)
		rc = store_find(st, err, &n, sql_count) == 1 ? 0 : -1;
	if (rc == 0)
		rc = store_backup(reader, beside(".copy"), err);
done:
	store_close(reader);
	store_close(st);
	return (rc);
}

static int
open_and_close(struct mr_error *err)
{
	struct store *st = open_as(own_1, err);

	store_close(st);
	return (st != NULL ? 0 : -1);
}

/* The copy is checked. */
static int
back_up(struct mr_error *err)
{
	struct store *reader = store_open_reader(path, 60000, err);
	int rc;

	if (reader == NULL)
		return (-1);
	rc = store_backup(reader, beside(".copy"), err);
	store_close(reader);
	(void)unlink(beside(".copy"));
	return (rc);
}

/* One whose last writer died: the next one checks it.  It has more pages than
 * SQLite makes room for at once. */
static void
make_unclean_file(void)
{
	int count = 2000;

	remove_files();
	assert_true(WIFSIGNALED(wait_for(child(add_and_die, &count))));
}

/* With sanitizers, which take ten times as long, every fifth at most. */
static void
every_allocation_may_fail(void **state)
{
	static const struct {
		void (*make_file)(void);
		int (*live)(struct mr_error *err);
		int comes_back;
	} cases[] = {{make_old_file, live, 0}, {remove_files, live, 0},
	    {make_unclean_file, open_and_close, 1},
	    {make_unclean_file, back_up, 1}};
	const int64_t step = SANITIZED ? 5 * KILL_STEP : 1;
	struct mr_error err;
	size_t i;
	int64_t n;
	int rc;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memory_comes_back = cases[i].comes_back;
		for (n = 0, memory_failed = 1; memory_failed; n += step) {
			cases[i].make_file();
			memset(&err, 0, sizeof(err));
			memory_failed = 0;
			memory_left = n;
			rc = cases[i].live(&err);
			memory_left = -1;
			if (rc != 0 && err.kind != MR_RETRY &&
			    strstr(err.message, "outcome") == NULL)
				fail_msg("allocation %lld: %s: %s",
				    (long long)n, mr_error_kind_name(err.kind),
				    err.message);
		}
		print_message("# %lld allocations\n", (long long)n);
		assert_int_equal(rc, 0);
		assert_true(n > 100);
	}
	memory_comes_back = 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup(name, setup)
	    TEST(values_come_back_as_they_were_bound),
	    TEST(run_says_how_many_rows_changed),
	    TEST(find_tells_a_row_from_none),
	    TEST(input_that_breaks_a_constraint_is_rejected_and_no_trouble),
	    TEST(misuse_is_fatal_and_remembered),
	    TEST(damaged_schema_is_fatal_and_no_inputs_fault),
	    TEST(text_made_at_run_time_is_found_out),
	    TEST(many_statements_are_all_found_again),
	    TEST(cursors_are_closed_with_what_they_were_opened_in),
	    TEST(savepoints_undo_only_themselves),
	    TEST(a_write_between_undoing_and_going_on_ends_the_transaction),
	    TEST(guard_keeps_statements_from_a_service),
	    TEST(transaction_that_ended_itself_lets_nothing_through),
	    TEST(full_disk_is_remembered_though_swallowed),
	    TEST(transaction_beyond_the_cache_is_whole),
	    TEST(commit_without_a_sync_is_seen),
	    TEST(what_commit_says_is_what_the_file_has),
	    TEST(kill_at_any_write_of_a_commit_leaves_all_or_nothing),
	    TEST(kill_at_any_write_of_a_migration_leaves_old_or_new),
	    TEST(kill_at_any_write_of_a_new_file_is_made_good),
	    TEST(kill_at_any_write_of_closing_leaves_what_was_committed),
	    TEST(bad_migrations_are_refused_and_undone),
	    TEST(a_migration_alters_a_table_with_rows),
	    TEST(good_tables_are_let_in),
	    TEST(deferred_constraints_are_found_in_sql),
	    TEST(connection_has_the_settings_it_should),
	    TEST(foreign_files_are_refused_with_what_to_do),
	    TEST(bad_places_are_refused_with_what_to_do),
	    TEST(unclean_exit_is_checked_and_damage_refused),
	    TEST(second_writer_in_a_process_is_refused_and_harmless),
	    TEST(what_happens_to_the_file_underneath_is_found),
	    TEST(foreign_writer_makes_begin_retry),
	    TEST(checkpoint_of_another_program_does_no_harm),
	    TEST(three_writers_lose_nothing),
	    TEST(writer_that_waits_for_the_pen_has_it_next),
	    TEST(stopped_holder_is_killed_and_the_waiter_goes_on),
	    TEST(stopped_holder_is_killed_from_sandbox_to_sandbox),
	    TEST(running_holder_is_waited_for_and_not_killed),
	    TEST(stopped_holder_of_another_name_is_not_killed),
	    TEST(stopped_waiter_does_no_harm),
	    TEST(reader_sees_what_is_committed_and_nothing_else),
	    TEST(readers_leave_their_process_its_locks),
	    TEST(reader_is_interrupted_at_its_deadline),
	    TEST(backup_is_whole_and_does_not_overwrite),
	    TEST(file_without_sums_stays_so_and_is_copied),
	    TEST(upgrade_is_preceded_by_a_backup),
	    TEST(opening_says_that_it_goes_on_and_what_follows_does_not),
	    TEST(so_many_upgrade_backups_are_kept_and_no_more),
	    TEST(without_room_for_a_backup_nothing_is_migrated),
	    TEST(file_is_replaced_and_the_old_one_kept_with_its_log),
	    TEST(file_that_a_process_has_open_is_not_replaced),
	    TEST(replaced_file_has_the_old_ones_owner_and_mode),
	    TEST(newer_file_is_known_by_either_part_of_its_schema),
	    TEST(link_and_file_have_one_pen_and_what_is_beside),
	    TEST(file_with_two_names_is_not_written),
	    TEST(link_is_left_when_its_file_is_replaced),
	    TEST(file_whose_replacing_was_cut_short_is_not_opened),
	    TEST(kill_at_any_change_of_a_replacing_leaves_old_new_or_a_refusal),
	    TEST(replacing_that_fails_leaves_nothing_behind),
	    TEST(replacing_that_was_cut_short_stays_so_when_it_fails_again),
	    TEST(giving_up_a_replacing_leaves_nothing_without_its_name),
	    TEST(giving_up_a_backup_leaves_it_whole_or_nothing),
	    TEST(every_allocation_may_fail),
	};
	const char *tmp = getenv("TMPDIR");
	int failed;

	(void)umask(007);
	(void)snprintf(folder, sizeof(folder), "%.1000s/test_store.XXXXXX",
	    tmp != NULL ? tmp : "/tmp");
	if (mkdtemp(folder) == NULL) {
		perror(folder);
		return (1);
	}
	(void)snprintf(path, sizeof(path), "%s/inventory.db", folder);
	log_init("test_store", LOG_LOGFMT,
	    getenv("VERBOSE") != NULL ? LOG_DEBUG : LOG_ERROR);
	install_faults();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	remove_files();
	(void)rmdir(folder);
	return (failed);
}
