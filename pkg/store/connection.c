#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/internal.h"

#define BUSY_TIMEOUT_MS 5000
#define PATIENCE_MS 5000
#define CHECK_MOST_BYTES ((int64_t)1 << 30)
#define PROGRESS_STEPS 1000 /* of SQLite's machine, about 20 us */

static pthread_once_t first_once = PTHREAD_ONCE_INIT;
static atomic_int connections; /* of this process, to whatever file */

static const char sql_common[] = "PRAGMA temp_store = MEMORY;"
				 "PRAGMA mmap_size = 0;"
				 "PRAGMA cell_size_check = ON;";
static const char sql_writer[] = "PRAGMA cache_size = -4096;" /* KiB */
				 "PRAGMA synchronous = FULL;"
				 "PRAGMA journal_size_limit = 67108864;"
				 /* 16 MB: with 4 MB, the default, the same
				  * pages are written four times as often */
				 "PRAGMA wal_autocheckpoint = 4000;"
				 "PRAGMA analysis_limit = 400;";
static const char sql_reader[] = "PRAGMA cache_size = -512;"
				 "PRAGMA query_only = ON;";
static const char sql_wal[] = "PRAGMA journal_mode = WAL";
static const char sql_optimize[] = "PRAGMA optimize";
static const char sql_application[] = "PRAGMA application_id";

int
store_exec(struct store *st, const char *sql, struct mr_error *err)
{
	int rc = sqlite3_exec(st->db, sql, NULL, NULL, NULL);

	return (rc == SQLITE_OK ? 0 : store_fail(st, err, rc, "run"));
}

/* ---- a connection ------------------------------------------------------- */

/* Or have it taken in and deleted when the last connection is closed: only
 * once the file says that it is closed, or if there was none. */
static void
keep_log(struct store *st, int on)
{
	(void)sqlite3_db_config(st->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, on,
	    NULL);
}

static int
connect_name(struct store *st, const char *name, int flags,
    int64_t busy_timeout_ms, struct mr_error *err)
{
	int rc, spare = STORE_SUM_SIZE;

	rc = sqlite3_open_v2(name, &st->db,
	    flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
	if (st->db != NULL)
		atomic_fetch_add(&connections, 1);
	if (rc != SQLITE_OK)
		return (store_fail(st, err, rc, "open"));
	/* Of a new file; one that is there is as its header says. */
	(void)sqlite3_file_control(st->db, NULL, SQLITE_FCNTL_RESERVE_BYTES,
	    &spare);
	(void)sqlite3_busy_timeout(st->db, (int)busy_timeout_ms);
	(void)sqlite3_db_config(st->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	(void)sqlite3_db_config(st->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0,
	    NULL);
	(void)sqlite3_db_config(st->db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
	/* Once: to set it again would prepare every statement anew. */
	(void)sqlite3_set_authorizer(st->db, store_authorize, st);
	return (store_exec(st, sql_common, err));
}

static int
connect_file(struct store *st, int flags, int64_t busy_timeout_ms,
    struct mr_error *err)
{

	return (connect_name(st, st->path, flags, busy_timeout_ms, err));
}

/* By itself, without a look at a log; SQLite's document "URI Filenames". */
static int
connect_alone(struct store *st, int64_t busy_timeout_ms, struct mr_error *err)
{
	struct buffer uri = {0};
	const char *p;
	int rc;

	buffer_add_text(&uri, "file:");
	for (p = st->path; *p != '\0'; p++)
		if (strchr("?#%", *p) != NULL)
			buffer_addf(&uri, "%%%02x", (unsigned char)*p);
		else
			buffer_add(&uri, p, 1);
	buffer_add_text(&uri, "?immutable=1");
	if (uri.failed)
		rc = mr_error_set(err, MR_RETRY, "open %s: out of memory",
		    st->path);
	else
		rc = connect_name(st, buffer_text(&uri),
		    SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, busy_timeout_ms,
		    err);
	buffer_free(&uri);
	return (rc);
}

static void
first_use(void)
{

	store_log_init();
	store_vfs_install();
}

static struct store *
new_store(const char *path, struct mr_error *err)
{
	struct store *st;

	(void)pthread_once(&first_once, first_use);
	if ((st = calloc(1, sizeof(*st))) == NULL) {
		mr_error_set(err, MR_RETRY, "open %s: out of memory", path);
		return (NULL);
	}
	if ((st->path = store_real_path(path, err)) == NULL) {
		free(st);
		return (NULL);
	}
	LIST_INIT(&st->opened);
	return (st);
}

static void
disconnect(struct store *st)
{
	int i;

	if (st->db == NULL)
		return;
	store_forget_statements(st);
	for (i = 0; i < STORE_OWN_COUNT; i++) {
		(void)sqlite3_finalize(st->own[i]);
		st->own[i] = NULL;
	}
	if (sqlite3_close(st->db) != SQLITE_OK)
		log_error("close failed", "path", st->path, "reason",
		    sqlite3_errmsg(st->db));
	st->db = NULL;
	atomic_fetch_sub(&connections, 1);
}

/* ---- opening for writing ------------------------------------------------ */

static int64_t
size_of(const char *path, const char *suffix)
{
	size_t size = strlen(path) + strlen(suffix) + 1;
	char *name = malloc(size);
	struct stat file;
	int64_t bytes = 0;

	if (name == NULL)
		return (0);
	(void)snprintf(name, size, "%s%s", path, suffix);
	if (stat(name, &file) == 0)
		bytes = file.st_size;
	free(name);
	return (bytes);
}

static int
log_exists(const char *path)
{
	size_t size = strlen(path) + sizeof("-wal");
	char *name = malloc(size);
	int exists = 1;

	if (name == NULL)
		return (exists); /* opening fails for that, too */
	(void)snprintf(name, size, "%s-wal", path);
	exists = access(name, F_OK) == 0 || errno != ENOENT;
	free(name);
	return (exists);
}

static int
says_open(int64_t application)
{

	return (
	    store_is_ours(application) && application != STORE_APPLICATION_ID);
}

/*
 * A copy of an open file, without its log; or one that has lost it.  To look
 * into the file drops the locks that this process may have on it, so who has
 * any open doesn't: a service's readers have its own.
 */
static int
lacks_log(const char *path)
{
	int64_t application;

	if (atomic_load(&connections) > 0 || log_exists(path))
		return (0);
	application = store_application(path);
	return (says_open(application) && application != store_open_mark(path));
}

/*
 * Looked for before SQLite makes one, which must not be taken for it later.
 * 1 if there was one that another program has taken into the file, as sqlite3
 * does when it is the last to leave; a copy is another file.
 */
static int
check_has_log(struct store *st, int64_t application, int has_log,
    struct mr_error *err)
{
	if (!says_open(application) || has_log) {
		keep_log(st, says_open(application));
		return (0);
	}
	if (application == store_open_mark(st->path)) {
		log_warn("another program has taken the log in", "path",
		    st->path, "advice", "look into it with sqlite3 -readonly");
		return (1);
	}
	return (mr_error_set(err, MR_FATAL,
	    "%.80s was copied while it was open, or its log (-wal) is lost, "
	    "with its last transactions: bring that, or put a backup back "
	    "with millrace state restore",
	    st->path));
}

/*
 * SQLite would make it readable by all.  Nobody in this process can have it
 * open yet, so closing the descriptor drops no locks.
 */
static int
make_file(const char *path, struct mr_error *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0660);

	if (fd == -1 && errno == EEXIST)
		return (0);
	if (fd == -1)
		return (mr_error_set(err, MR_FATAL, "make %s: %s", path,
		    strerror(errno)));
	(void)close(fd);
	return (0);
}

static int
to_wal(struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	int rc;

	if ((rows = store_query(st, err, sql_wal)) == NULL)
		return (-1);
	if ((rc = store_next(rows, err)) == 1 &&
	    strcmp(store_get_text(rows, 0), "wal") != 0)
		rc = mr_error_set(err, MR_FATAL,
		    "open %.80s: no write-ahead log "
		    "on this file system (journal mode %.20s): use a local "
		    "disk",
		    st->path, store_get_text(rows, 0));
	store_rows_done(rows);
	return (rc == 1 ? 0 : -1);
}

/*
 * What a commit of unknown outcome left in the log is written, and synced,
 * into the file now, before anybody acts on it.
 */
static int
checkpoint(struct store *st, int alone, struct mr_error *err)
{
	int frames = -1, done = -1, rc;

	rc = sqlite3_wal_checkpoint_v2(st->db, NULL,
	    alone ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE,
	    &frames, &done);
	if (rc == SQLITE_OK || rc == SQLITE_BUSY) {
		if (!alone || (frames == done && frames >= 0))
			return (0);
		return (mr_error_set(err, MR_RETRY,
		    "open %.100s: a reader "
		    "keeps %d of %d pages of the log: end it (fuser -v names "
		    "it)",
		    st->path, frames - done, frames));
	}
	return (store_fail(st, err, rc, "checkpoint"));
}

/* Closing its index would drop the locks of a connection to the same file. */
static int
check_log(const char *path, struct mr_error *err)
{
	return (store_check_log(path, atomic_load(&connections) == 0, err));
}

/*
 * A page that changed is found when it is read; this finds more, the rules of
 * tables and the structure of the whole, and costs 5 s a gigabyte.
 */
static int
check_after_crash(struct store *st, struct mr_error *err)
{
	int64_t start_us = clock_mono_us(), bytes = size_of(st->path, "");

	if (bytes > CHECK_MOST_BYTES) {
		log_info("too large to be checked after an unclean exit",
		    "path", st->path, "bytes", log_i64(bytes));
		return (0);
	}
	if (store_check_damage(st, err) != 0)
		return (-1);
	log_info("checked after an unclean exit", "path", st->path, "took_ms",
	    log_i64((clock_mono_us() - start_us) / 1000));
	return (0);
}

/* SQLite would fill up the last page with zeros, once it writes. */
static int
check_whole(struct store *st, struct mr_error *err)
{
	int summed = 0;

	(void)sqlite3_file_control(st->db, NULL, STORE_FCNTL_SUMS_ASK, &summed);
	if (!summed || size_of(st->path, "") % STORE_PAGE_SIZE == 0)
		return (0);
	return (mr_error_set(err, MR_FATAL,
	    "%.100s is cut short: put a backup back with millrace state restore",
	    st->path));
}

/* With the pen in hand. */
static int
open_held(struct store *st, const struct store_options *options,
    struct mr_error *err)
{
	int64_t application = 0;
	int alone = pen_alone(st->pen), has_log = log_exists(st->path);
	int unclean, taken_in;

	if (store_check_replaced(st->path, err) != 0 ||
	    store_check_names(st->path, err) != 0)
		return (-1);
	unclean = alone &&
	    (size_of(st->path, "-wal") > 0 ||
		size_of(st->path, "-journal") > 0);
	if ((alone && check_log(st->path, err) != 0) ||
	    make_file(st->path, err) != 0 ||
	    connect_file(st, SQLITE_OPEN_READWRITE,
		options->busy_timeout_ms > 0 ? options->busy_timeout_ms :
					       BUSY_TIMEOUT_MS,
		err) != 0)
		return (-1);
	keep_log(st, has_log);
	/* Before anything is written: is it ours, or nobody's? */
	if (store_is_new(st, err) == -1 ||
	    store_find(st, err, &application, sql_application) != 1)
		return (-1);
	if ((taken_in = check_has_log(st, application, has_log, err)) == -1)
		return (-1);
	if (unclean || taken_in ? check_after_crash(st, err) != 0 :
				  check_whole(st, err) != 0)
		return (-1);
	if (to_wal(st, err) != 0 || store_exec(st, sql_writer, err) != 0 ||
	    store_prepare_own(st, err) != 0 ||
	    store_migrate(st, options, err) != 0)
		return (-1);
	keep_log(st, 1);
	if (store_mark(st, 1, err) != 0 || checkpoint(st, alone, err) != 0)
		return (-1);
	return (pen_attend(st->pen, err));
}

struct store *
store_open(const struct store_options *options, struct mr_error *err)
{
	struct store *st;
	int rc;

	if (store_check_place(options->path, err) != 0)
		return (NULL);
	if ((st = new_store(options->path, err)) == NULL)
		return (NULL);
	st->pen = pen_open(st->path,
	    options->patience_ms > 0 ? options->patience_ms : PATIENCE_MS, err);
	if (st->pen == NULL || pen_take(st->pen, err) != 0)
		goto fail_store;
	store_vfs_progress(options->on_progress);
	rc = open_held(st, options, err);
	store_vfs_progress(NULL);
	if (rc != 0)
		goto fail_pen;
	/* What opening used isn't used again. */
	store_forget_statements(st);
	pen_drop(st->pen);
	return (st);

fail_pen:
	disconnect(st);
	pen_drop(st->pen);
fail_store:
	pen_close(st->pen);
	free(st->path);
	free(st);
	/* A bad migration is no input's fault. */
	if (err != NULL && err->kind == MR_REJECT)
		err->kind = MR_FATAL;
	return (NULL);
}

/* ---- setting right ------------------------------------------------------ */

static const char sql_version[] = "PRAGMA user_version";

/* With the pen in hand, and nobody else about. */
static int
open_as_is(struct store *st, struct mr_error *err)
{
	int has_log = log_exists(st->path);
	int64_t application = 0;

	if (store_check_replaced(st->path, err) != 0 ||
	    store_check_names(st->path, err) != 0 ||
	    check_log(st->path, err) != 0 ||
	    connect_file(st, SQLITE_OPEN_READWRITE, BUSY_TIMEOUT_MS, err) != 0)
		return (-1);
	keep_log(st, has_log);
	if (store_find(st, err, &application, sql_application) != 1)
		return (-1);
	if (!store_is_ours(application))
		return (mr_error_set(err, MR_FATAL,
		    "open %s: not a service's file", st->path));
	if (check_has_log(st, application, has_log, err) == -1 ||
	    store_check_damage(st, err) != 0 || to_wal(st, err) != 0 ||
	    store_exec(st, sql_writer, err) != 0 ||
	    store_prepare_own(st, err) != 0 ||
	    store_find(st, err, &st->version, sql_version) != 1)
		return (-1);
	return (0);
}

int
store_refuse_company(const char *path, const struct pen *pen,
    struct mr_error *err)
{
	pid_t pid = pen_other(pen);

	return (mr_error_set(err, MR_RETRY,
	    "%.150s is open in another process%s%s: stop the service first",
	    path, pid > 0 ? ", pid " : "", pid > 0 ? log_i64(pid) : ""));
}

struct store *
store_open_alone(const char *path, struct mr_error *err)
{
	struct store *st;

	if (access(path, F_OK) != 0) {
		mr_error_set(err, MR_FATAL, "open %s: %s", path,
		    strerror(errno));
		return (NULL);
	}
	if (store_check_place(path, err) != 0 ||
	    (st = new_store(path, err)) == NULL)
		return (NULL);
	if ((st->pen = pen_open(st->path, PATIENCE_MS, err)) == NULL)
		goto fail_store;
	pen_give(st->pen, st->path);
	/* Kept until the end: who opens the file meanwhile is refused. */
	if (!pen_alone(st->pen)) {
		(void)store_refuse_company(path, st->pen, err);
		goto fail_store;
	}
	if (pen_take(st->pen, err) != 0)
		goto fail_store;
	if (open_as_is(st, err) != 0)
		goto fail_pen;
	pen_drop(st->pen);
	return (st);

fail_pen:
	disconnect(st);
	pen_drop(st->pen);
fail_store:
	pen_close(st->pen);
	free(st->path);
	free(st);
	return (NULL);
}

/* ---- reading ------------------------------------------------------------ */

static int
open_reader(struct store *st, struct mr_error *err)
{
	int64_t application = 0;
	int64_t wait_ms = st->deadline_ms > 0 ? st->deadline_ms :
						BUSY_TIMEOUT_MS;
	struct stat file;
	int rc;

	if (stat(st->path, &file) != 0)
		return (mr_error_set(err, errno == ENOENT ? MR_RETRY : MR_FATAL,
		    "open %.100s for reading: %s; its service makes it",
		    st->path, strerror(errno)));
	/* A FIFO would be waited for. */
	if (!S_ISREG(file.st_mode))
		return (mr_error_set(err, MR_FATAL,
		    "open %s for reading: not a regular file", st->path));
	/* SQLite would make a log, and whoever opens it next not miss one. */
	rc = lacks_log(st->path) ?
	    connect_alone(st, wait_ms, err) :
	    connect_file(st, SQLITE_OPEN_READONLY, wait_ms, err);
	if (rc != 0 || store_exec(st, sql_reader, err) != 0 ||
	    store_find(st, err, &application, sql_application) != 1)
		return (-1);
	if (!store_is_ours(application))
		return (
		    mr_error_set(err, application == 0 ? MR_RETRY : MR_FATAL,
			"open %s for reading: %s", st->path,
			application == 0 ? "its service hasn't made it yet" :
					   "another application's database"));
	if (st->deadline_ms > 0)
		sqlite3_progress_handler(st->db, PROGRESS_STEPS, store_progress,
		    st);
	return (0);
}

struct store *
store_open_reader(const char *path, int64_t deadline_ms, struct mr_error *err)
{
	struct store *st;

	if ((st = new_store(path, err)) == NULL)
		return (NULL);
	st->deadline_ms = deadline_ms > 0 ? deadline_ms : 0;
	if (open_reader(st, err) != 0) {
		disconnect(st);
		free(st->path);
		free(st);
		return (NULL);
	}
	return (st);
}

/* ---- closing ------------------------------------------------------------ */

/*
 * Statistics for the planner, if nobody has to be waited for; and the last to
 * leave says so, or keeps the log.
 */
static void
leave(struct store *st)
{
	struct mr_error err;

	if (st->pen == NULL || st->broken)
		return;
	(void)sqlite3_busy_timeout(st->db, 0);
	if (pen_try(st->pen)) {
		(void)sqlite3_exec(st->db, sql_optimize, NULL, NULL, NULL);
		if (pen_other(st->pen) == -1 && store_mark(st, 0, &err) == 0)
			keep_log(st, 0);
		pen_drop(st->pen);
	}
}

void
store_close(struct store *st)
{
	if (st == NULL)
		return;
	store_rollback(st);
	store_finish_rows(st, 0);
	leave(st);
	disconnect(st);
	pen_close(st->pen);
	free(st->path);
	free(st);
}

const char *
store_path(const struct store *st)
{
	return (st->path);
}

int64_t
store_log_bytes(const struct store *st)
{
	sqlite3_file *log = NULL;
	sqlite3_int64 bytes = 0;

	if (sqlite3_file_control(st->db, NULL, SQLITE_FCNTL_JOURNAL_POINTER,
		&log) != SQLITE_OK ||
	    log == NULL || log->pMethods == NULL ||
	    log->pMethods->xFileSize(log, &bytes) != SQLITE_OK)
		return (0);
	return (bytes);
}

const char *
store_version_text(void)
{
	return (sqlite3_libversion());
}
