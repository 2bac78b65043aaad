#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "fake_kafka.h"
#include "store/internal.h"
#include "stream/internal.h"
#include "stream_driver.h"

#define DRIVEN_MOST 8
#define PENS_MOST 8
#define WAIT_S 60

struct driven {
	int signals;
	struct stream *s;
	struct stream_conf conf;
	pthread_t thread;
	int begun;
	_Atomic int over;
	int status;
	struct mr_error err;
};

static struct {
	char folder[64];
	char path[96];
	char saved[96];
	struct driven *driven[DRIVEN_MOST];
} driver;

/* ---- clocks --------------------------------------------------------------- */

/* The linker's names.  NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl*) */
int64_t __real_clock_mono_us(void);
int64_t __real_clock_boot_ms(void);
int64_t __real_clock_wall_ms(void);
int64_t __real_clock_wall_us(void);
int64_t __wrap_clock_mono_us(void);
int64_t __wrap_clock_boot_ms(void);
int64_t __wrap_clock_wall_ms(void);
int64_t __wrap_clock_wall_us(void);
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl*) */

static _Atomic int64_t leapt_ms;

int64_t
__wrap_clock_mono_us(void)
{
	return (__real_clock_mono_us() + 1000 * atomic_load(&leapt_ms));
}

int64_t
__wrap_clock_boot_ms(void)
{
	return (__real_clock_boot_ms() + atomic_load(&leapt_ms));
}

int64_t
__wrap_clock_wall_ms(void)
{
	return (__real_clock_wall_ms() + atomic_load(&leapt_ms));
}

int64_t
__wrap_clock_wall_us(void)
{
	return (__real_clock_wall_us() + 1000 * atomic_load(&leapt_ms));
}

/* Whoever sleeps has another look at the clock. */
void
driver_pass_ms(int64_t ms)
{
	uint64_t one = 1;
	int i;

	atomic_fetch_add(&leapt_ms, ms);
	for (i = 0; i < DRIVEN_MOST; i++)
		if (driver.driven[i] != NULL) {
			(void)!write(driver.driven[i]->s->commands.wake_fd,
			    &one, sizeof(one));
			(void)!write(driver.driven[i]->s->relay.wake_fd, &one,
			    sizeof(one));
		}
}

int64_t
driver_moment(int64_t ms)
{
	return (__real_clock_mono_us() + 1000 * ms);
}

int64_t
driver_deadline(void)
{
	return (driver_moment(INT64_C(1000) * WAIT_S));
}

int
driver_late(int64_t until_us)
{
	if (__real_clock_mono_us() >= until_us)
		return (1);
	(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	return (0);
}

/* ---- the pen, for threads ------------------------------------------------- */

/*
 * pkg/store's pen is a POSIX lock, which is a process's: two threads would
 * both have it.  Here it is a mutex for each path.
 */
struct pen_file {
	char path[96];
	pthread_mutex_t lock;
	_Atomic int attending;
};

struct pen {
	struct pen_file *file;
	int attends;
};

static struct pen_file pen_files[PENS_MOST];
static pthread_mutex_t pen_files_lock = PTHREAD_MUTEX_INITIALIZER;

struct pen *
pen_open(const char *db_path, int64_t patience_ms, struct mr_error *err)
{
	struct pen *pen = calloc(1, sizeof(*pen));
	int i;

	(void)patience_ms;
	(void)err;
	if (pen == NULL)
		abort();
	pthread_mutex_lock(&pen_files_lock);
	for (i = 0; i < PENS_MOST && pen_files[i].path[0] != '\0' &&
	     strcmp(pen_files[i].path, db_path) != 0;
	     i++)
		;
	if (i == PENS_MOST)
		abort();
	if (pen_files[i].path[0] == '\0') {
		snprintf(pen_files[i].path, sizeof(pen_files[i].path), "%s",
		    db_path);
		pthread_mutex_init(&pen_files[i].lock, NULL);
	}
	pen->file = &pen_files[i];
	pthread_mutex_unlock(&pen_files_lock);
	return (pen);
}

void
pen_close(struct pen *pen)
{
	if (pen == NULL)
		return;
	if (pen->attends)
		atomic_fetch_sub(&pen->file->attending, 1);
	free(pen);
}

int
pen_take(struct pen *pen, struct mr_error *err)
{
	(void)err;
	pthread_mutex_lock(&pen->file->lock);
	return (0);
}

int
pen_try(struct pen *pen)
{
	return (pthread_mutex_trylock(&pen->file->lock) == 0);
}

void
pen_drop(struct pen *pen)
{
	pthread_mutex_unlock(&pen->file->lock);
}

int
pen_alone(struct pen *pen)
{
	return (atomic_load(&pen->file->attending) == 0);
}

pid_t
pen_other(const struct pen *pen)
{
	return (atomic_load(&pen->file->attending) == 0 ? -1 : getpid());
}

int
pen_attend(struct pen *pen, struct mr_error *err)
{
	(void)err;
	pen->attends = 1;
	atomic_fetch_add(&pen->file->attending, 1);
	return (0);
}

void
pen_give(const struct pen *pen, const char *db_path)
{
	(void)pen;
	(void)db_path;
}

int
pen_moved(const struct pen *pen)
{
	(void)pen;
	return (0);
}

static void
pens_forget(void)
{
	int i;

	for (i = 0; i < PENS_MOST && pen_files[i].path[0] != '\0'; i++) {
		pthread_mutex_destroy(&pen_files[i].lock);
		pen_files[i].path[0] = '\0';
	}
}

/* ---- the disk ------------------------------------------------------------- */

static _Atomic int disk_full;

static ssize_t
disk_pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
	if (atomic_load(&disk_full)) {
		errno = ENOSPC;
		return (-1);
	}
	return (pwrite(fd, bytes, size, offset));
}

void
driver_disk_full(int full)
{
	atomic_store(&disk_full, full);
}

static void
disk_install(void)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

	assert_int_equal(vfs->xSetSystemCall(vfs, "pwrite",
			     (sqlite3_syscall_ptr)disk_pwrite),
	    SQLITE_OK);
}

/* ---- instances ------------------------------------------------------------ */

struct stream_conf
driver_conf(void)
{
	return ((struct stream_conf){
	    .kafka = {.brokers = "fake:9092"},
	    .batch_records = 500,
	    .batch_ms = 20,
	    .outbox_most = 100000,
	    .retry_ms = 10,
	    .idempotency_ms = 86400000,
	    .dead_letter_ms = 86400000,
	    .drain_ms = 5000,
	});
}

static void
driven_keep(struct driven *d)
{
	int i;

	for (i = 0; driver.driven[i] != NULL; i++)
		assert_true(i < DRIVEN_MOST - 1);
	driver.driven[i] = d;
}

struct driven *
driver_take(struct stream *s)
{
	struct driven *d = calloc(1, sizeof(*d));

	if (d == NULL)
		abort();
	d->s = s;
	driven_keep(d);
	return (d);
}

struct driven *
driver_open(const struct stream_service *svc, const char *name,
    const struct stream_conf *conf)
{
	struct driven *d = calloc(1, sizeof(*d));

	if (d == NULL)
		abort();
	d->conf = conf != NULL ? *conf : driver_conf();
	d->conf.instance = name;
	d->conf.db_path = driver.path;
	if ((d->s = stream_new(svc, &d->conf, &d->err)) == NULL) {
		print_message("stream_new: %s\n", d->err.message);
		free(d);
		fail();
		abort(); /* it doesn't come here */
	}
	driven_keep(d);
	return (d);
}

static int signals = -1;

void
driver_signals(int fd)
{
	signals = fd;
}

static void *
driven_main(void *arg)
{
	struct driven *d = arg;

	d->status = stream_run(d->s, d->signals, &d->err);
	atomic_store(&d->over, 1);
	return (NULL);
}

void
driver_begin(struct driven *d)
{
	d->signals = signals;
	assert_int_equal(pthread_create(&d->thread, NULL, driven_main, d), 0);
	d->begun = 1;
}

struct driven *
driver_run(const struct stream_service *svc, const char *name,
    const struct stream_conf *conf)
{
	struct driven *d = driver_open(svc, name, conf);

	driver_begin(d);
	return (d);
}

struct stream *
driver_stream(struct driven *d)
{
	return (d->s);
}

void
driver_ask(struct driven *d)
{
	stream_stop(d->s);
}

int
driver_over(struct driven *d)
{
	return (atomic_load(&d->over));
}

/* Wait for the thread, and free all of it; the outcome is in *last. */
static void
driven_done(struct driven *d, struct driven *last)
{
	int i;

	if (d->begun)
		pthread_join(d->thread, NULL);
	stream_free(d->s);
	*last = *d;
	for (i = 0; i < DRIVEN_MOST; i++)
		if (driver.driven[i] == d)
			driver.driven[i] = NULL;
	free(d);
}

void
driver_stop(struct driven *d)
{
	struct driven last;

	if (d->begun) {
		driver_ask(d);
		WAIT(driver_over(d));
	}
	driven_done(d, &last);
	if (last.status != 0)
		fail_msg("it didn't drain: %s", last.err.message);
}

void
driver_failed(struct driven *d, const char *part)
{
	struct driven last;

	WAIT(driver_over(d));
	driven_done(d, &last);
	assert_int_equal(last.status, -1);
	assert_int_equal(last.err.kind, MR_FATAL);
	if (strstr(last.err.message, part) == NULL)
		fail_msg("it failed otherwise: %s", last.err.message);
}

int
driver_ready(struct driven *d)
{
	char reason[HALT_REASON_SIZE];

	return (stream_ready(d->s, reason, sizeof(reason)));
}

int
driver_says(struct driven *d, const char *part)
{
	char reason[HALT_REASON_SIZE];

	return (!stream_ready(d->s, reason, sizeof(reason)) &&
	    strstr(reason, part) != NULL);
}

/* ---- the file ------------------------------------------------------------- */

static sqlite3 *
file_open_raw(int flags)
{
	sqlite3 *db = NULL;

	if (sqlite3_open_v2(driver.path, &db, flags, NULL) != SQLITE_OK)
		fail_msg("%s: %s", driver.path, sqlite3_errmsg(db));
	sqlite3_busy_timeout(db, 10000);
	return (db);
}

const char *
driver_text(const char *sql)
{
	static char text[2000];
	sqlite3 *db;
	sqlite3_stmt *stmt = NULL;
	const char *found = NULL;

	if (access(driver.path, F_OK) != 0)
		return (NULL);
	db = file_open_raw(SQLITE_OPEN_READONLY);
	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	if (sqlite3_step(stmt) == SQLITE_ROW &&
	    sqlite3_column_type(stmt, 0) != SQLITE_NULL) {
		snprintf(text, sizeof(text), "%s",
		    (const char *)sqlite3_column_text(stmt, 0));
		found = text;
	}
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	return (found);
}

int64_t
driver_number(const char *sql)
{
	const char *text = driver_text(sql);

	return (text == NULL ? -1 : strtoll(text, NULL, 10));
}

void
driver_exec(const char *sql)
{
	sqlite3 *db = file_open_raw(SQLITE_OPEN_READWRITE);
	char *why = NULL;

	if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
		fail_msg("%s: %s", sql, why);
	sqlite3_close(db);
}

/* A backup says that nobody has it open. */
void
driver_save(void)
{
	sqlite3 *saved = NULL;
	char sql[200];

	(void)unlink(driver.saved);
	snprintf(sql, sizeof(sql), "VACUUM INTO '%s'", driver.saved);
	driver_exec(sql);
	snprintf(sql, sizeof(sql), "PRAGMA application_id = %d",
	    STORE_APPLICATION_ID);
	assert_int_equal(sqlite3_open(driver.saved, &saved), SQLITE_OK);
	assert_int_equal(sqlite3_exec(saved, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(saved);
}

static void
file_remove(int itself)
{
	static const char *const endings[] = {"-wal", "-shm", "-journal",
	    ".writer", ""};
	char name[128];
	size_t i;

	for (i = 0; i < sizeof(endings) / sizeof(endings[0]) - !itself; i++) {
		snprintf(name, sizeof(name), "%s%s", driver.path, endings[i]);
		(void)unlink(name);
	}
}

void
driver_restore(void)
{
	static char bytes[65536];
	size_t got;
	FILE *from, *to;

	file_remove(0);
	assert_non_null(from = fopen(driver.saved, "rb"));
	assert_non_null(to = fopen(driver.path, "wb"));
	while ((got = fread(bytes, 1, sizeof(bytes), from)) > 0)
		assert_int_equal(fwrite(bytes, 1, got, to), got);
	assert_int_equal(fclose(to), 0);
	assert_int_equal(fclose(from), 0);
}

void
driver_replace(void)
{

	file_remove(1);
	assert_int_equal(rename(driver.saved, driver.path), 0);
}

/* ---- a test's begin and end ----------------------------------------------- */

void
driver_start(void)
{
	static int installed;

	if (!installed) {
		installed = 1;
		log_init("test", LOG_LOGFMT,
		    getenv("VERBOSE") != NULL ? LOG_DEBUG : LOG_ERROR + 1);
		disk_install();
	}
	memset(&driver, 0, sizeof(driver));
	snprintf(driver.folder, sizeof(driver.folder),
	    "/tmp/millrace-stream-XXXXXX");
	assert_non_null(mkdtemp(driver.folder));
	snprintf(driver.path, sizeof(driver.path), "%s/state.db",
	    driver.folder);
	snprintf(driver.saved, sizeof(driver.saved), "%s/saved.db",
	    driver.folder);
	fake_start("cluster-one");
}

void
driver_end(void)
{
	struct driven last;
	int i;

	driver_disk_full(0);
	for (i = 0; i < DRIVEN_MOST; i++)
		if (driver.driven[i] != NULL)
			driver_ask(driver.driven[i]);
	for (i = 0; i < DRIVEN_MOST; i++)
		if (driver.driven[i] != NULL)
			driven_done(driver.driven[i], &last);
	fake_end();
	file_remove(1);
	(void)unlink(driver.saved);
	(void)rmdir(driver.folder);
	pens_forget();
	atomic_store(&leapt_ms, 0);
}
