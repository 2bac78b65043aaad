/*
 * store: a byte that changed in a file at rest, or in a log in use, is found,
 * and the restore named, or it changes nothing: neither a crash nor another
 * answer.  And what copies of a file in use are good for.
 *
 * A small file with all kinds of pages is made once, closed or killed with a
 * log.  Each trial puts it back, changes a byte, opens it, reads all rows and
 * writes one.  The headers' bytes are changed in turn, of the others FLIPS
 * (300; "all": each one) drawn by SEED.
 */
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
#include <sqlite3.h>

#include "base/log.h"
#include "store/store.h"

#define FLIPS 300
#define PAGE 4096
#define FRAME (24 + PAGE)

/* This test's power doesn't fail. */
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);

int
__wrap_fdatasync(int fd)
{
	(void)fd;
	return (0);
}

int
__wrap_fsync(int fd)
{
	(void)fd;
	return (0);
}

/* ---- the file ----------------------------------------------------------- */

static const char sql_schema[] =
    "CREATE TABLE item (name TEXT NOT NULL PRIMARY KEY,"
    " quantity INTEGER NOT NULL, note TEXT UNIQUE) STRICT, WITHOUT ROWID;"
    "CREATE TABLE thing (id INTEGER PRIMARY KEY, r REAL, b BLOB) STRICT;"
    "CREATE INDEX thing_by_r ON thing (r);"
    "CREATE TABLE gone (id INTEGER PRIMARY KEY, b BLOB) STRICT;"
    "CREATE VIRTUAL TABLE word USING fts5(body);";
static const struct store_migration core[] =
    {{1, "core", "CREATE TABLE core (id INTEGER PRIMARY KEY) STRICT"}, {0}};
static const struct store_migration own[] = {{1, "tables", sql_schema}, {0}};

static const char sql_item[] =
    "INSERT INTO item (name, quantity, note) VALUES (?1, ?2, ?1 || '!')";
static const char sql_thing[] = "INSERT INTO thing (r, b) VALUES (?1, ?2)";
static const char sql_gone[] = "INSERT INTO gone (b) VALUES (zeroblob(9000))";
static const char sql_word[] = "INSERT INTO word (body) VALUES (?1)";
static const char sql_checkpoint[] = "PRAGMA wal_checkpoint(PASSIVE)";
static const char sql_small_cache[] = "PRAGMA cache_size = 8";
/* All that a reader could be told, by table and by index. */
static const char sql_all[] =
    "SELECT name || quantity || note FROM item"
    " UNION ALL SELECT note FROM (SELECT note FROM item ORDER BY note)"
    " UNION ALL SELECT id || ',' || r || ',' || hex(b) FROM thing"
    " UNION ALL SELECT r FROM (SELECT r FROM thing WHERE r > 0 ORDER BY r)"
    " UNION ALL SELECT body FROM word"
    " UNION ALL SELECT rowid FROM word WHERE word MATCH 'common'"
    " UNION ALL SELECT count(*) || ',' || sum(length(b)) FROM gone"
    " UNION ALL SELECT service FROM store_identity"
    " UNION ALL SELECT component || version || name FROM schema_versions"
    " UNION ALL SELECT name || sql FROM sqlite_schema WHERE sql IS NOT NULL";

static char folder[PATH_MAX];
static char path[PATH_MAX + 160];

enum part { FILE_ITSELF, FILE_LOG, FILE_INDEX, PARTS };
static const char *const suffixes[PARTS] = {"", "-wal", "-shm"};

/* What is put back before each trial, and what a reader is told of it. */
static struct kept {
	unsigned char *bytes[PARTS];
	size_t sizes[PARTS]; /* 0: there is none */
	uint64_t told;
	unsigned seed;
} kept;

static const char *
name_of(enum part part)
{
	static char names[PARTS][PATH_MAX + 180];

	(void)snprintf(names[part], sizeof(names[part]), "%s%s", path,
	    suffixes[part]);
	return (names[part]);
}

static struct store *
open_file(struct mr_error *err)
{
	const struct store_options options = {.path = path,
	    .service = "damaged",
	    .core = core,
	    .own = own};

	return (store_open(&options, err));
}

#define demand(x)                                                          \
	do {                                                               \
		if (!(x)) {                                                \
			(void)fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, \
			    __LINE__, #x, err.message);                    \
			_exit(99);                                         \
		}                                                          \
	} while (0)

static void
add_rows(struct store *st, int from, int count)
{
	struct mr_error err = {0};
	static char filler[9000];
	char name[64];
	int i;

	memset(filler, 'f', sizeof(filler));
	demand(store_begin(st, &err) == 0);
	for (i = from; i < from + count; i++) {
		(void)snprintf(name, sizeof(name), "name %d common", i);
		demand(store_run(st, &err, sql_item, store_text(name),
			   store_i64(i)) == 1);
		demand(store_run(st, &err, sql_word, store_text(name)) == 1);
		demand(store_run(st, &err, sql_thing, store_f64(i + 0.5),
			   store_blob(filler, i % 10 == 0 ? 9000 : 30)) == 1);
	}
	demand(store_commit(st, &err) == 0);
}

/* A transaction of many pages, of which most are in the log already. */
static void
roll_back_much(struct store *st)
{
	struct mr_error err = {0};
	int i;

	demand(store_run(st, &err, sql_small_cache) != -1);
	demand(store_begin(st, &err) == 0);
	for (i = 0; i < 40; i++)
		demand(store_run(st, &err, sql_gone) == 1);
	store_rollback(st);
}

struct making {
	int killed; /* with the log, or closed */
	int rolled_back;
	int commits; /* of a row, after the checkpoint */
};

static void
make(const struct making *how)
{
	struct mr_error err = {0};
	struct store *st = open_file(&err);
	int i;

	demand(st != NULL);
	add_rows(st, 0, 60);
	demand(store_begin(st, &err) == 0);
	for (i = 0; i < 4; i++)
		demand(store_run(st, &err, sql_gone) == 1);
	demand(store_commit(st, &err) == 0);
	demand(store_begin(st, &err) == 0);
	demand(store_run(st, &err, "DELETE FROM gone WHERE id > 1") == 3);
	demand(store_commit(st, &err) == 0);
	/* What follows is a log begun anew, before frames of the old one. */
	demand(store_run(st, &err, sql_checkpoint) != -1);
	if (how->rolled_back)
		roll_back_much(st);
	for (i = 0; i < how->commits; i++)
		add_rows(st, 100 + i, 1);
	if (how->killed)
		(void)raise(SIGKILL);
	store_close(st);
	_exit(0);
}

/* ---- what is read from it ----------------------------------------------- */

static void
hash_on(uint64_t *hash, const void *bytes, size_t length)
{
	const unsigned char *p = bytes;

	for (; length > 0; length--, p++)
		*hash = (*hash ^ *p) * 0x100000001b3;
}

/* A number for all rows.  0 or -1. */
static int
read_all(struct store *st, uint64_t *told, struct mr_error *err)
{
	struct store_rows *rows = store_query(st, err, sql_all);
	const void *bytes;
	size_t length;
	int more;

	*told = 0xcbf29ce484222325;
	if (rows == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		bytes = store_get_blob(rows, 0, &length);
		hash_on(told, bytes, length);
		hash_on(told, "\n", 1);
	}
	store_rows_done(rows);
	return (more);
}

static void
put_file(enum part part, const unsigned char *bytes, size_t size)
{
	int fd = open(name_of(part), O_RDWR | O_CREAT | O_TRUNC, 0660);

	assert_int_not_equal(fd, -1);
	assert_int_equal(write(fd, bytes, size), size);
	(void)close(fd);
}

static void
put_back(void)
{
	enum part part;

	for (part = 0; part < PARTS; part++) {
		(void)unlink(name_of(part));
		if (kept.sizes[part] > 0)
			put_file(part, kept.bytes[part], kept.sizes[part]);
	}
}

static void
keep(enum part part)
{
	struct stat file;
	int fd = open(name_of(part), O_RDONLY);

	free(kept.bytes[part]);
	kept.bytes[part] = NULL;
	kept.sizes[part] = 0;
	if (fd == -1)
		return;
	assert_int_equal(fstat(fd, &file), 0);
	kept.sizes[part] = (size_t)file.st_size;
	kept.bytes[part] = malloc(kept.sizes[part] + 1);
	assert_non_null(kept.bytes[part]);
	assert_int_equal(read(fd, kept.bytes[part], kept.sizes[part]),
	    kept.sizes[part]);
	(void)close(fd);
}

static void
make_anew(const struct making *how)
{
	enum part part;
	pid_t pid;
	int status;

	for (part = 0; part < PARTS; part++)
		(void)unlink(name_of(part));
	assert_int_not_equal(pid = fork(), -1);
	if (pid == 0)
		make(how);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(how->killed ? WIFSIGNALED(status) : status == 0);
}

static void
make_and_keep(const struct making *how)
{
	struct mr_error err = {0};
	struct store *st;
	enum part part;

	make_anew(how);
	for (part = 0; part < PARTS; part++)
		keep(part);
	assert_true(kept.sizes[FILE_ITSELF] > (size_t)20 * PAGE);
	assert_true(how->killed ? kept.sizes[FILE_LOG] > (size_t)20 * FRAME :
				  kept.sizes[FILE_LOG] == 0);
	if ((st = open_file(&err)) == NULL)
		fail_msg("as it was made: %s", err.message);
	assert_int_equal(read_all(st, &kept.told, &err), 0);
	store_close(st);
}

/* ---- a trial ------------------------------------------------------------ */

static int found, harmless;

static void
check_reason(const char *what, const struct mr_error *err)
{
	if (err->kind != MR_FATAL ||
	    strstr(err->message, "millrace state restore") == NULL)
		fail_msg("SEED=%u: %s: %s: %s", kept.seed, what,
		    mr_error_kind_name(err->kind), err->message);
	found++;
}

/* All rows as they were, another one, and the end; or a good reason. */
static void
use(struct store *st, const char *what)
{
	struct mr_error err = {0};
	uint64_t told;

	if (read_all(st, &told, &err) != 0) {
		check_reason(what, &err);
		return;
	}
	if (told != kept.told)
		fail_msg("SEED=%u: %s: other rows than were written", kept.seed,
		    what);
	if (store_begin(st, &err) != 0 ||
	    store_run(st, &err, sql_item, store_text("last"), store_i64(1)) ==
		-1 ||
	    store_commit(st, &err) != 0) {
		store_rollback(st);
		check_reason(what, &err);
		return;
	}
	harmless++;
}

static void
flip(enum part part, size_t offset, unsigned char mask)
{
	struct mr_error err = {0};
	struct store *st;
	char what[96];

	put_back();
	kept.bytes[part][offset] ^= mask;
	put_file(part, kept.bytes[part], kept.sizes[part]);
	kept.bytes[part][offset] ^= mask;
	(void)snprintf(what, sizeof(what), "byte %zu of x%s ^ 0x%02x", offset,
	    suffixes[part], mask);
	if ((st = open_file(&err)) == NULL)
		check_reason(what, &err);
	else
		use(st, what);
	store_close(st);
}

static unsigned char
mask_drawn(unsigned *seed)
{
	unsigned drawn = (unsigned)rand_r(seed);

	/* A single bit as often as any other change. */
	return ((unsigned char)(drawn % 2 ? 1u << (drawn / 2 % 8) :
					    1 + drawn / 2 % 255));
}

static void
flip_range(enum part part, size_t from, size_t to, unsigned *seed)
{
	for (; from < to && from < kept.sizes[part]; from++)
		flip(part, from, mask_drawn(seed));
}

static void
flip_all(unsigned *seed)
{
	enum part part;

	for (part = 0; part < PARTS; part++)
		flip_range(part, 0, kept.sizes[part], seed);
}

/* The headers, and some of all. */
static void
flip_some(int count, unsigned *seed)
{
	size_t at, all = 0, i;
	enum part part;
	int n;

	flip(FILE_ITSELF, 20, 8); /* whether there are sums */
	flip_range(FILE_ITSELF, 0, 108, seed);
	flip_range(FILE_LOG, 0, 32, seed);
	for (i = 32; i < kept.sizes[FILE_LOG]; i += (size_t)5 * FRAME)
		flip_range(FILE_LOG, i, i + 24, seed);
	flip_range(FILE_INDEX, 0, 136, seed);
	for (part = 0; part < PARTS; part++)
		all += kept.sizes[part];
	for (n = 0; n < count; n++) {
		at = ((size_t)rand_r(seed) << 16 ^ (size_t)rand_r(seed)) % all;
		for (part = 0; at >= kept.sizes[part]; part++)
			at -= kept.sizes[part];
		flip(part, at, mask_drawn(seed));
	}
}

static void
flip_many(const struct making *how)
{
	const char *given = getenv("SEED"), *count = getenv("FLIPS");
	unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) :
					(unsigned)time(NULL);

	found = harmless = 0;
	kept.seed = seed;
	make_and_keep(how);
	if (count != NULL && strcmp(count, "all") == 0)
		flip_all(&seed);
	else
		flip_some(count != NULL ? atoi(count) : FLIPS, &seed);
	print_message("# SEED=%u: %d found, %d harmless\n", kept.seed, found,
	    harmless);
}

/* ---- the tests ---------------------------------------------------------- */

static void
a_changed_byte_of_a_closed_file_is_found(void **state)
{
	static const struct making how = {0, 0, 3};

	(void)state;
	flip_many(&how);
	assert_true(found > 100);
	/* Pages that nobody reads, of which there are few. */
	assert_true(harmless * 2 < found);
}

static void
a_changed_byte_beside_a_log_is_found_or_harmless(void **state)
{
	static const struct making how = {1, 0, 5};

	(void)state;
	flip_many(&how);
	assert_true(found > 100);
	assert_true(harmless > 20); /* the index, and frames of an old log */
}

/* Whatever a transaction that came to nothing has left in the log. */
static void
rolled_back_frames_are_no_damage(void **state)
{
	static const struct making cases[] = {{1, 1, 0}, {1, 1, 1}, {1, 1, 4}};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		make_and_keep(&cases[i]);
}

/* Frames that hold the last transaction, of which there are five. */
static size_t
log_end(void)
{
	size_t at, end = 32;

	for (at = 32; at + FRAME <= kept.sizes[FILE_LOG]; at += FRAME) {
		if (memcmp(kept.bytes[FILE_LOG] + at + 8,
			kept.bytes[FILE_LOG] + 16, 8) != 0)
			break;
		end = at + FRAME;
	}
	return (end);
}

/*
 * Power fails in the last transaction: some of its frames aren't there, and
 * the index is of no use.  It is the end of the log.
 */
static void
a_torn_last_transaction_is_no_damage(void **state)
{
	static const struct making how = {1, 0, 5};
	struct mr_error err = {0};
	struct store *st;
	int64_t count;
	size_t end;

	(void)state;
	make_and_keep(&how);
	put_back();
	end = log_end();
	assert_true(end > (size_t)10 * FRAME);
	(void)unlink(name_of(FILE_INDEX));
	/* The last frame but one, which is of the same transaction. */
	memset(kept.bytes[FILE_LOG] + end - 2 * FRAME, 0, FRAME);
	put_file(FILE_LOG, kept.bytes[FILE_LOG], kept.sizes[FILE_LOG]);
	if ((st = open_file(&err)) == NULL)
		fail_msg("%s", err.message);
	assert_int_equal(store_find(st, &err, &count,
			     "SELECT count(*) FROM item WHERE name >"
			     " 'name 100' AND name < 'name 11'"),
	    1);
	assert_int_equal(count, 4);
	store_close(st);
}

/* Where the last transaction begins. */
static size_t
last_begins(size_t end)
{
	size_t at, begin = 32;

	for (at = 32; at + FRAME < end; at += FRAME)
		if (memcmp(kept.bytes[FILE_LOG] + at + 4, "\0\0\0", 4) != 0)
			begin = at + FRAME;
	return (begin);
}

/* Processes that died in a commit left theirs, marks and all. */
static void
two_transactions_that_failed_are_no_damage(void **state)
{
	static const struct making how = {1, 0, 5};
	struct mr_error err = {0};
	struct store *st;
	unsigned char *log;
	size_t begin, end;

	(void)state;
	make_and_keep(&how);
	end = log_end();
	begin = last_begins(end);
	log = malloc(3 * end);
	assert_non_null(log);
	memcpy(log, kept.bytes[FILE_LOG], end);
	memcpy(log + end, log + begin, end - begin);
	memcpy(log + end + (end - begin), log + begin, end - begin);
	put_back();
	(void)unlink(name_of(FILE_INDEX));
	put_file(FILE_LOG, log, end + 2 * (end - begin));
	free(log);
	if ((st = open_file(&err)) == NULL)
		fail_msg("%s", err.message);
	store_close(st);
}

/* The next one was written when this one was on disk. */
static void
a_changed_frame_before_the_last_transaction_is_found(void **state)
{
	static const struct making how = {1, 0, 5};
	struct mr_error err = {0};
	size_t at, end;

	(void)state;
	found = 0;
	make_and_keep(&how);
	end = last_begins(log_end());
	for (at = 32; at < end; at += FRAME) {
		put_back();
		(void)unlink(name_of(FILE_INDEX));
		kept.bytes[FILE_LOG][at + FRAME / 2] ^= 1;
		put_file(FILE_LOG, kept.bytes[FILE_LOG], kept.sizes[FILE_LOG]);
		kept.bytes[FILE_LOG][at + FRAME / 2] ^= 1;
		assert_null(open_file(&err));
		check_reason("a changed frame", &err);
	}
	assert_true(found > 10);
}

/* What a reader is told without the last transaction. */
static uint64_t
told_without_last(void)
{
	struct mr_error err = {0};
	struct store *st;
	uint64_t told = 0;

	put_back();
	(void)unlink(name_of(FILE_INDEX));
	put_file(FILE_LOG, kept.bytes[FILE_LOG], last_begins(log_end()));
	if ((st = open_file(&err)) == NULL)
		fail_msg("without the last transaction: %s", err.message);
	assert_int_equal(read_all(st, &told, &err), 0);
	assert_true(told != kept.told);
	store_close(st);
	return (told);
}

static int torn;

/* A byte of the log alone, which is all that a recovery has. */
static void
flip_log(size_t offset, unsigned char mask, uint64_t without_last)
{
	struct mr_error err = {0};
	struct store *st;
	uint64_t told = 0;

	put_back();
	(void)unlink(name_of(FILE_INDEX));
	kept.bytes[FILE_LOG][offset] ^= mask;
	put_file(FILE_LOG, kept.bytes[FILE_LOG], kept.sizes[FILE_LOG]);
	kept.bytes[FILE_LOG][offset] ^= mask;
	if ((st = open_file(&err)) == NULL) {
		check_reason("the log", &err);
		return;
	}
	assert_int_equal(read_all(st, &told, &err), 0);
	store_close(st);
	if (told == kept.told && offset >= log_end())
		harmless++;
	else if (told == without_last && offset >= last_begins(log_end()))
		torn++;
	else
		fail_msg("SEED=%u: byte %zu of the log ^ 0x%02x: other rows",
		    kept.seed, offset, mask);
}

/*
 * As after a power cut, which may take the index.  A change in the last
 * transaction looks like one that the cut has torn; frames of an older log
 * are never read.
 */
static void
a_changed_byte_of_a_log_that_has_no_index_is_found(void **state)
{
	static const struct making how = {1, 0, 3};
	const char *given = getenv("SEED"), *count = getenv("FLIPS");
	unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) :
					(unsigned)time(NULL);
	uint64_t without_last;
	size_t at, step = 0;
	unsigned char mark;
	int marks = 0;

	(void)state;
	found = harmless = torn = 0;
	kept.seed = seed;
	make_and_keep(&how);
	without_last = told_without_last();
	/* The header, all frames' headers and, of their pages, some. */
	if (count == NULL || strcmp(count, "all") != 0)
		step = kept.sizes[FILE_LOG] / FLIPS;
	for (at = 0; at < kept.sizes[FILE_LOG]; at++)
		if (step == 0 || at < 32 || (at - 32) % FRAME < 24 ||
		    (size_t)rand_r(&seed) % step == 0)
			flip_log(at, mask_drawn(&seed), without_last);
	/* The marks that end transactions, of small files, until none is. */
	for (at = 32 + 7; at < log_end(); at += FRAME)
		if ((mark = kept.bytes[FILE_LOG][at]) != 0) {
			marks++;
			flip_log(at, mark, without_last);
		}
	assert_true(marks > 2);
	print_message("# SEED=%u: %d found, %d harmless, %d torn\n", kept.seed,
	    found, harmless, torn);
	assert_true(found > 100);
	assert_true(torn > 20);
	assert_true(harmless > 20);
}

/* With the index it is known to be missing. */
static void
a_log_cut_short_is_found(void **state)
{
	static const struct making how = {1, 0, 5};
	struct mr_error err = {0};
	size_t end, size;

	(void)state;
	found = 0;
	make_and_keep(&how);
	end = log_end();
	for (size = FRAME; size < end; size += FRAME / 2) {
		put_back();
		put_file(FILE_LOG, kept.bytes[FILE_LOG], size);
		assert_null(open_file(&err));
		check_reason("a log cut short", &err);
	}
	assert_true(found > 10);
}

/* Of a process that lives, or died: its log has what the copy lacks. */
static void
a_copy_of_an_open_file_without_its_log_is_found(void **state)
{
	static const struct making how = {1, 0, 5};
	struct mr_error err = {0};
	struct store *st;

	(void)state;
	make_and_keep(&how);
	(void)unlink(path);
	put_back();
	(void)unlink(name_of(FILE_LOG));
	(void)unlink(name_of(FILE_INDEX));
	assert_null(open_file(&err));
	check_reason("a copy without its log", &err);
	assert_null(store_open_alone(path, &err));
	check_reason("a copy without its log", &err);
	/* A reader takes it as it is, and leaves it so. */
	if ((st = store_open_reader(path, 0, &err)) == NULL)
		fail_msg("%s", err.message);
	store_close(st);
	assert_null(store_open_alone(path, &err));
	check_reason("a copy without its log", &err);
	/* With it, it is whole, and once closed the file by itself is. */
	put_back();
	if ((st = open_file(&err)) == NULL)
		fail_msg("%s", err.message);
	store_close(st);
	assert_int_not_equal(access(name_of(FILE_LOG), F_OK), 0);
	if ((st = open_file(&err)) == NULL)
		fail_msg("%s", err.message);
	store_close(st);
}

/* After a crash, sqlite3 takes the log in and deletes it when it leaves. */
static void
a_log_that_another_program_took_in_is_not_missed(void **state)
{
	static const struct making how = {1, 0, 5};
	struct mr_error err = {0};
	sqlite3 *db = NULL;
	struct store *st;
	uint64_t told = 0;

	(void)state;
	make_and_keep(&how);
	make_anew(&how);
	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE,
			     "unix"),
	    SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "SELECT * FROM item", NULL, NULL,
			     NULL),
	    SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	assert_int_not_equal(access(name_of(FILE_LOG), F_OK), 0);
	if ((st = open_file(&err)) == NULL)
		fail_msg("%s", err.message);
	assert_int_equal(read_all(st, &told, &err), 0);
	assert_true(told == kept.told);
	store_close(st);
}

/* ---- a file copied while it is in use ----------------------------------- */

#define COPIES 60 /* in each order */
#define SLOTS 120 /* of some pages, so that transactions differ in theirs */

/* Both tables have the same sum after each transaction. */
static const struct store_migration own_ledger[] =
    {{1, "tables",
	 "CREATE TABLE paid (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL,"
	 " filler BLOB) STRICT;"
	 "CREATE TABLE got (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL,"
	 " filler BLOB) STRICT;"
	 "CREATE TABLE done (id INTEGER PRIMARY KEY, count INTEGER NOT NULL)"
	 " STRICT"},
	{0}};
static const char sql_slot_paid[] =
    "INSERT INTO paid (amount, filler) VALUES (0, zeroblob(900))";
static const char sql_slot_got[] =
    "INSERT INTO got (amount, filler) VALUES (0, zeroblob(900))";
static const char sql_slot_done[] = "INSERT INTO done VALUES (1, 0)";
static const char sql_pay[] =
    "UPDATE paid SET amount = amount + ?2 WHERE id = ?1";
static const char sql_get[] =
    "UPDATE got SET amount = amount + ?2 WHERE id = ?1";
static const char sql_count[] = "UPDATE done SET count = count + 1";
static const char sql_how_many[] = "SELECT count FROM done";
static const char sql_difference[] =
    "SELECT (SELECT sum(amount) FROM paid) - (SELECT sum(amount) FROM got)";

static struct store *
open_ledger(const char *name, struct mr_error *err)
{
	const struct store_options options = {.path = name,
	    .service = "ledger",
	    .core = core,
	    .own = own_ledger};

	return (store_open(&options, err));
}

static int
make_slots(struct store *st, struct mr_error *err)
{
	int i;

	if (store_begin(st, err) != 0)
		return (-1);
	for (i = 0; i < SLOTS; i++)
		if (store_run(st, err, sql_slot_paid) != 1 ||
		    store_run(st, err, sql_slot_got) != 1)
			return (-1);
	return (store_run(st, err, sql_slot_done) == 1 ? store_commit(st, err) :
							 -1);
}

static int
pay(struct store *st, unsigned *seed, struct mr_error *err)
{
	int64_t amount = 1 + rand_r(seed) % 1000;
	int64_t from = 1 + rand_r(seed) % SLOTS, to = 1 + rand_r(seed) % SLOTS;

	if (store_begin(st, err) != 0)
		return (-1);
	if (store_run(st, err, sql_pay, store_i64(from), store_i64(amount)) !=
		1 ||
	    store_run(st, err, sql_get, store_i64(to), store_i64(amount)) !=
		1 ||
	    store_run(st, err, sql_count) != 1)
		return (-1);
	return (store_commit(st, err));
}

/* Until it is killed; a byte to ${ready} says that there is a log to copy. */
static void
pay_on(int ready, unsigned seed)
{
	struct mr_error err = {0};
	struct store *st = open_ledger(path, &err);
	int i;

	demand(st != NULL);
	demand(make_slots(st, &err) == 0);
	for (i = 0;; i++) {
		demand(pay(st, &seed, &err) == 0);
		/* Seldom enough that most logs are copied as they grow. */
		if (rand_r(&seed) % 200 == 0)
			demand(store_run(st, &err, sql_checkpoint) != -1);
		if (i == 0)
			demand(write(ready, "x", 1) == 1);
	}
}

/* Page by page, as slow as a large file would be. */
static void
copy_file(const char *from, const char *to)
{
	static unsigned char page[PAGE];
	int in = open(from, O_RDONLY), out;
	ssize_t size;

	assert_int_not_equal(in, -1);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_int_not_equal(out, -1);
	while ((size = read(in, page, sizeof(page))) > 0)
		assert_int_equal(write(out, page, (size_t)size), size);
	assert_int_equal(size, 0);
	(void)close(in);
	(void)close(out);
}

/* Which log it is: a log that is begun anew draws its salt anew. */
static uint64_t
salt_of(const char *name)
{
	uint64_t salt = 0;
	int fd = open(name, O_RDONLY);

	assert_int_not_equal(fd, -1);
	assert_int_equal(pread(fd, &salt, sizeof(salt), 16), sizeof(salt));
	(void)close(fd);
	return (salt);
}

static struct copies {
	int whole, refused, half;
} copies;

/* 1: the copy has whole transactions, 0: it is refused, -1: it has not. */
static int
judge_copy(const char *name)
{
	struct mr_error err = {0};
	struct store *st = open_ledger(name, &err);
	int64_t difference = 0, count = 0;
	int verdict = 0;

	/* Of its slots it may have none yet, or have them half: no number. */
	if (st != NULL &&
	    store_find(st, &err, &difference, sql_difference) != -1 &&
	    store_find(st, &err, &count, sql_how_many) != -1)
		verdict = difference == 0 && count > 0 ? 1 : -1;
	else if (err.kind != MR_FATAL ||
	    strstr(err.message, "millrace state restore") == NULL)
		fail_msg("%s: %s", mr_error_kind_name(err.kind), err.message);
	store_close(st);
	return (verdict);
}

static void
remove_copy(const char *name)
{
	static const char *const all[] = {"", "-wal", "-shm", ".writer"};
	char other[PATH_MAX + 200];
	size_t i;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		(void)snprintf(other, sizeof(other), "%s%s", name, all[i]);
		(void)unlink(other);
	}
}

/* Returns whether it was the same log all the time. */
static int
copy_both(const char *to, int log_first)
{
	char log[PATH_MAX + 200];
	uint64_t salt = salt_of(name_of(FILE_LOG));

	(void)snprintf(log, sizeof(log), "%s-wal", to);
	if (log_first)
		copy_file(name_of(FILE_LOG), log);
	copy_file(path, to);
	if (!log_first)
		copy_file(name_of(FILE_LOG), log);
	return (salt_of(name_of(FILE_LOG)) == salt);
}

/* COPIES of them, each of which is judged. */
static void
copy_many(int log_first)
{
	char to[PATH_MAX + 180];
	int n, sure, verdict;

	memset(&copies, 0, sizeof(copies));
	(void)snprintf(to, sizeof(to), "%s/copy.db", folder);
	for (n = 0; n < COPIES; n++) {
		remove_copy(to);
		sure = copy_both(to, log_first) && !log_first;
		verdict = judge_copy(to);
		if (verdict == -1 && sure)
			fail_msg("copy %d has half a transaction", n);
		copies.whole += verdict == 1;
		copies.refused += verdict == 0;
		copies.half += verdict == -1;
	}
	remove_copy(to);
	print_message("# %s first: %d whole, %d refused, %d half\n",
	    log_first ? "log" : "file", copies.whole, copies.refused,
	    copies.half);
	/* Or none was taken while it worked. */
	assert_true(copies.whole > 0);
}

/* Runs ${check} while another process pays. */
static void
while_it_is_in_use(void (*check)(int), int arg)
{
	int ready[2], status;
	enum part part;
	char byte;
	pid_t pid;

	for (part = 0; part < PARTS; part++)
		(void)unlink(name_of(part));
	assert_int_equal(pipe(ready), 0);
	assert_int_not_equal(pid = fork(), -1);
	if (pid == 0) {
		(void)close(ready[0]);
		/* A check that fails doesn't come back here. */
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0L, 0L, 0L);
		pay_on(ready[1], (unsigned)time(NULL));
	}
	(void)close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	check(arg);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* It has worked until then. */
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	(void)close(ready[0]);
}

/*
 * The log, copied after the file, has whatever a checkpoint changed in it
 * meanwhile, unless it was begun anew: then the copy may be half of each, as
 * may one whose file is younger than its log.  Nobody promises more of a copy
 * by hand; it is whole, refused, or of that kind, and never a crash.
 */
static void
a_copy_of_a_file_in_use_and_then_its_log_is_whole(void **state)
{
	(void)state;
	while_it_is_in_use(copy_many, 0);
}

static void
a_copy_of_a_log_and_then_its_file_in_use_crashes_nothing(void **state)
{
	(void)state;
	while_it_is_in_use(copy_many, 1);
}

/* ---- a log that changes while it is in use ------------------------------ */

static const char sql_touch[] = "UPDATE thing SET r = r + ?1";
static const char sql_touch_one[] = "UPDATE thing SET r = r + 1 WHERE id = ?1";
static const char sql_names[] = "SELECT sum(length(name)) FROM item";
static const char sql_one[] = "INSERT INTO core (id) VALUES (0)";
static const char sql_no_cache[] = "PRAGMA cache_size = 1";
static const char sql_one_more[] = "UPDATE core SET id = id + 1";
static const char sql_ones[] = "SELECT id FROM core";
static const char sql_sum[] =
    "SELECT CAST(sum(r) AS INTEGER) FROM thing NOT INDEXED";

static void
change_log_in_use(size_t offset, unsigned char mask)
{
	unsigned char byte;
	int fd = open(name_of(FILE_LOG), O_RDWR);

	assert_int_not_equal(fd, -1);
	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	byte ^= mask;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
	/* This test's own: its locks are those of the process. */
	(void)close(fd);
}

/* A store whose rows are all in its log, which is kept. */
static struct store *
open_with_log(void)
{
	struct mr_error err = {0};
	struct store *st;
	enum part part;

	for (part = 0; part < PARTS; part++)
		(void)unlink(name_of(part));
	if ((st = open_file(&err)) == NULL)
		fail_msg("%s", err.message);
	add_rows(st, 0, 20);
	add_rows(st, 20, 1);
	add_rows(st, 21, 1);
	keep(FILE_LOG);
	return (st);
}

/*
 * A checkpoint takes over what is right, or nothing; then nothing is committed
 * any more, and the next start refuses the log.
 */
static void
checkpoint_changed(size_t offset, unsigned char mask)
{
	struct mr_error err = {0};
	struct store *st = open_with_log();
	int64_t taken;
	uint64_t told;

	change_log_in_use(offset, mask);
	taken = store_run(st, &err, sql_checkpoint);
	if (taken == -1) {
		check_reason("a checkpoint", &err);
		assert_int_equal(store_begin(st, &err), 0);
		assert_int_not_equal(store_run(st, &err, sql_touch,
					 store_i64(1)),
		    -1);
		assert_int_equal(store_commit(st, &err), -1);
		check_reason("a commit", &err);
	}
	store_close(st);
	if ((st = open_file(&err)) == NULL) {
		check_reason("the next start", &err);
		return;
	}
	assert_int_not_equal(taken, -1);
	assert_int_equal(read_all(st, &told, &err), 0);
	if (told != kept.told)
		fail_msg("SEED=%u: byte %zu of the log ^ 0x%02x: other rows",
		    kept.seed, offset, mask);
	harmless++;
	store_close(st);
}

static void
a_checkpoint_takes_no_changed_frame_over(void **state)
{
	const char *given = getenv("SEED"), *count = getenv("FLIPS");
	unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) :
					(unsigned)time(NULL);
	const int all = count != NULL && strcmp(count, "all") == 0;
	struct mr_error err = {0};
	struct store *st;
	size_t end, at, n, many;

	(void)state;
	found = harmless = 0;
	kept.seed = seed;
	store_close(open_with_log());
	assert_non_null(st = open_file(&err));
	assert_int_equal(read_all(st, &kept.told, &err), 0);
	store_close(st);
	end = log_end();
	assert_true(end > (size_t)20 * FRAME);
	/* For all: headers, and, of a page, which one sum covers, every 16th. */
	many = count != NULL ? (size_t)atoi(count) : FLIPS;
	for (n = 0; n < (all ? end : 60 + many / 5); n++) {
		at = all ? n : (size_t)rand_r(&seed) % end;
		if (!all || at < 32 || (at - 32) % FRAME < 24 || at % 16 == 0)
			checkpoint_changed(at, mask_drawn(&seed));
	}
	print_message("# SEED=%u: %d found, %d harmless\n", kept.seed, found,
	    harmless);
	assert_true(found > 30);
}

static void
a_reader_is_told_of_a_changed_frame(void **state)
{
	struct mr_error err = {0};
	struct store *st = open_with_log(), *reader;
	size_t at, end = log_end();
	int64_t sum;

	(void)state;
	found = 0;
	for (at = 32; at < end; at += FRAME)
		change_log_in_use(at + FRAME / 2, 1);
	if ((reader = store_open_reader(path, 0, &err)) != NULL)
		assert_int_equal(store_find(reader, &err, &sum, sql_sum), -1);
	check_reason("a reader", &err);
	store_close(reader);
	store_close(st);
}

/* Pages of its own that a transaction writes again have no sums until its
 * end, and it reads them. */
static void
a_transaction_past_the_cache_reads_what_it_wrote(void **state)
{
	struct mr_error err = {0};
	struct store *st = open_with_log();
	int64_t sum = 0, before = 0;
	int i, kind;

	(void)state;
	assert_int_not_equal(store_run(st, &err, sql_small_cache), -1);
	add_rows(st, 1000, 1000);
	for (kind = 0; kind < 4; kind++) {
		assert_int_equal(store_find(st, &err, &before, sql_sum), 1);
		assert_int_equal(store_begin(st, &err), 0);
		for (i = 0; i < 5; i++) {
			if (store_run(st, &err, sql_touch, store_i64(1)) !=
				1022 ||
			    store_find(st, &err, &sum, sql_sum) != 1)
				fail_msg("%s", err.message);
			assert_int_equal(sum, before + 1022 * (i + 1));
		}
		if (kind % 2 == 0) {
			store_rollback(st);
			continue;
		}
		assert_int_equal(store_commit(st, &err), 0);
		if (store_run(st, &err, sql_checkpoint) == -1)
			fail_msg("%s", err.message);
	}
	store_close(st);
}

/*
 * A page that leaves the cache twice, with no other written in between, is in
 * one frame, whose header was the last one that was written.
 */
static void
a_page_written_over_its_own_frame_is_read(void **state)
{
	struct mr_error err = {0};
	struct store *st = open_with_log();
	int64_t sum, ones = 0, expected = 0;
	int i, kind;

	(void)state;
	add_rows(st, 1000, 1000);
	assert_int_equal(store_begin(st, &err), 0);
	assert_int_equal(store_run(st, &err, sql_one), 1);
	assert_int_equal(store_commit(st, &err), 0);
	assert_int_not_equal(store_run(st, &err, sql_no_cache), -1);
	for (kind = 0; kind < 4; kind++) {
		assert_int_equal(store_begin(st, &err), 0);
		for (i = 1; i <= 4; i++) {
			if (store_run(st, &err, sql_one_more) != 1 ||
			    store_find(st, &err, &sum, sql_sum) != 1 ||
			    store_find(st, &err, &ones, sql_ones) != 1)
				fail_msg("%s", err.message);
			assert_int_equal(ones, expected + i);
		}
		if (kind % 2 == 0) {
			store_rollback(st);
			continue;
		}
		expected = ones;
		assert_int_equal(store_commit(st, &err), 0);
		if (store_run(st, &err, sql_checkpoint) == -1)
			fail_msg("%s", err.message);
	}
	store_close(st);
}

/* One step of a transaction, and what it adds to the sum. */
static int64_t
do_anything(struct store *st, unsigned *seed)
{
	struct mr_error err = {0};
	int64_t sum, row = 1 + rand_r(seed) % 1000;

	switch (rand_r(seed) % 4) {
	case 0:
		demand(store_run(st, &err, sql_touch_one, store_i64(row)) == 1);
		return (1);
	case 1:
		demand(store_run(st, &err, sql_touch, store_i64(1)) == 1022);
		return (1022);
	case 2:
		demand(store_find(st, &err, &sum, sql_sum) == 1);
		return (0);
	default:
		demand(store_find(st, &err, &sum, sql_names) == 1);
		return (0);
	}
}

/* Whatever is written over, rolled back and taken into the file: what is sound
 * is never taken for damaged, and is what was written. */
static void
what_transactions_of_any_kind_leave_is_sound(void **state)
{
	const char *given = getenv("SEED");
	unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) :
					(unsigned)time(NULL);
	struct mr_error err = {0};
	struct store *st = open_with_log();
	int64_t sum, expected = 0, now, saved;
	int i, steps;

	(void)state;
	print_message("# SEED=%u\n", seed);
	add_rows(st, 1000, 1000);
	demand(store_find(st, &err, &expected, sql_sum) == 1);
	for (i = 0; i < 150; i++) {
		demand(store_run(st, &err,
			   rand_r(&seed) % 2 ? sql_no_cache :
					       sql_small_cache) != -1);
		demand(store_begin(st, &err) == 0);
		now = expected;
		for (steps = rand_r(&seed) % 6; steps > 0; steps--) {
			saved = now;
			if (rand_r(&seed) % 2) {
				now += do_anything(st, &seed);
				continue;
			}
			demand(store_save(st, &err) == 0);
			now += do_anything(st, &seed);
			now += do_anything(st, &seed);
			if (rand_r(&seed) % 2) {
				demand(store_restore(st, &err) == 0);
				now = saved;
			} else {
				demand(store_release(st, &err) == 0);
			}
		}
		if (rand_r(&seed) % 3 == 0) {
			store_rollback(st);
		} else {
			demand(store_commit(st, &err) == 0);
			expected = now;
		}
		if (rand_r(&seed) % 10 == 0)
			demand(store_run(st, &err, sql_checkpoint) != -1);
		demand(store_find(st, &err, &sum, sql_sum) == 1);
		assert_int_equal(sum, expected);
	}
	store_close(st);
}

static void
a_file_cut_short_is_found(void **state)
{
	static const struct making how = {0, 0, 3};
	struct mr_error err;
	struct store *st;
	char what[64];
	size_t size;

	(void)state;
	found = harmless = 0;
	make_and_keep(&how);
	/* Some bytes of a page are left, or all but some. */
	for (size = 1004; size < kept.sizes[FILE_ITSELF]; size += 1546) {
		(void)snprintf(what, sizeof(what), "cut to %zu of %zu", size,
		    kept.sizes[FILE_ITSELF]);
		put_back();
		put_file(FILE_ITSELF, kept.bytes[FILE_ITSELF], size);
		memset(&err, 0, sizeof(err));
		if ((st = open_file(&err)) == NULL)
			check_reason(what, &err);
		else
			use(st, what);
		store_close(st);
	}
	assert_true(found > 10);
}

/* Nobody would miss them: what is read is right, or SQLite says that it isn't. */
static void
a_file_that_denies_its_sums_is_found_when_it_is_opened(void **state)
{
	static const struct making how = {0, 0, 3};
	struct mr_error err = {0};

	(void)state;
	found = 0;
	make_and_keep(&how);
	put_back();
	assert_int_equal(kept.bytes[FILE_ITSELF][20], 8);
	kept.bytes[FILE_ITSELF][20] = 0;
	put_file(FILE_ITSELF, kept.bytes[FILE_ITSELF], kept.sizes[FILE_ITSELF]);
	assert_null(open_file(&err));
	check_reason("without sums", &err);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_changed_byte_of_a_closed_file_is_found),
	    cmocka_unit_test(a_changed_byte_beside_a_log_is_found_or_harmless),
	    cmocka_unit_test(rolled_back_frames_are_no_damage),
	    cmocka_unit_test(a_torn_last_transaction_is_no_damage),
	    cmocka_unit_test(two_transactions_that_failed_are_no_damage),
	    cmocka_unit_test(
		a_changed_frame_before_the_last_transaction_is_found),
	    cmocka_unit_test(
		a_changed_byte_of_a_log_that_has_no_index_is_found),
	    cmocka_unit_test(a_log_cut_short_is_found),
	    cmocka_unit_test(a_copy_of_an_open_file_without_its_log_is_found),
	    cmocka_unit_test(a_log_that_another_program_took_in_is_not_missed),
	    cmocka_unit_test(a_copy_of_a_file_in_use_and_then_its_log_is_whole),
	    cmocka_unit_test(
		a_copy_of_a_log_and_then_its_file_in_use_crashes_nothing),
	    cmocka_unit_test(a_checkpoint_takes_no_changed_frame_over),
	    cmocka_unit_test(a_reader_is_told_of_a_changed_frame),
	    cmocka_unit_test(a_transaction_past_the_cache_reads_what_it_wrote),
	    cmocka_unit_test(a_page_written_over_its_own_frame_is_read),
	    cmocka_unit_test(what_transactions_of_any_kind_leave_is_sound),
	    cmocka_unit_test(a_file_cut_short_is_found),
	    cmocka_unit_test(
		a_file_that_denies_its_sums_is_found_when_it_is_opened),
	};
	char name[PATH_MAX + 180];
	enum part part;
	int status;

	log_init("test", LOG_LOGFMT, LOG_ERROR + 1);
	(void)snprintf(folder, sizeof(folder), "/tmp/millrace-damage-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return (EXIT_FAILURE);
	/* However long the path is, what is said of it fits with the advice. */
	(void)snprintf(path, sizeof(path), "%s/%0150d.db", folder, 1);
	status = cmocka_run_group_tests(tests, NULL, NULL);
	for (part = 0; part < PARTS; part++) {
		(void)unlink(name_of(part));
		free(kept.bytes[part]);
	}
	(void)snprintf(name, sizeof(name), "%s.writer", path);
	(void)unlink(name);
	(void)rmdir(folder);
	return (status);
}
