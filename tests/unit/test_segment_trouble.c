/*
 * segment: death at every system call that changes a file, a full disk at every
 * one, and memory that runs out at every allocation.
 *
 * What changes files goes through --wrap, so that the n-th call can end the
 * process, or fail.  What forks leaves the child by _exit.
 */
#include <sys/mman.h>
#include <sys/wait.h>

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "segment/batch.h"
#include "segment_codecs.h"

#define LARGE 17000 /* the disk is reserved for what follows */

enum fault { FAULT_NONE, FAULT_ERROR, FAULT_KILL, FAULT_TEAR };

static enum fault fault;
static int countdown; /* calls that still work; -1: all */
static int allocations; /* likewise, of memory */
static int given_up; /* the file system: no write works, not even of nothing */

ssize_t __real_pwrite(int fd, const void *bytes, size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t size, off_t at);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size);
int __real_fallocate(int fd, int mode, off_t from, off_t size);
int __wrap_fallocate(int fd, int mode, off_t from, off_t size);
int __real_unlinkat(int fd, const char *name, int flags);
int __wrap_unlinkat(int fd, const char *name, int flags);
int __real_renameat(int a, const char *from, int b, const char *to);
int __wrap_renameat(int a, const char *from, int b, const char *to);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);

/* 1 if this call is to fail. */
static int
is_hit(void)
{

	if (fault == FAULT_NONE || countdown < 0)
		return (0);
	if (countdown > 0) {
		countdown--;
		return (0);
	}
	if (fault == FAULT_KILL || fault == FAULT_TEAR)
		raise(SIGKILL);
	errno = ENOSPC;
	return (1);
}

ssize_t
__wrap_pwrite(int fd, const void *bytes, size_t size, off_t at)
{

	if (given_up) {
		errno = EROFS;
		return (-1);
	}
	/* Half of it, then the end; or half of it, then no space. */
	if (fault != FAULT_NONE && countdown == 0 && fault != FAULT_KILL &&
	    size > 1)
		(void)!__real_pwrite(fd, bytes, size / 2, at);
	return (is_hit() ? -1 : __real_pwrite(fd, bytes, size, at));
}

int
__wrap_fsync(int fd)
{

	return (is_hit() ? -1 : __real_fsync(fd));
}

int
__wrap_fdatasync(int fd)
{

	return (is_hit() ? -1 : __real_fdatasync(fd));
}

int
__wrap_ftruncate(int fd, off_t size)
{

	return (is_hit() ? -1 : __real_ftruncate(fd, size));
}

int
__wrap_fallocate(int fd, int mode, off_t from, off_t size)
{

	return (is_hit() ? -1 : __real_fallocate(fd, mode, from, size));
}

int
__wrap_unlinkat(int fd, const char *name, int flags)
{

	return (is_hit() ? -1 : __real_unlinkat(fd, name, flags));
}

int
__wrap_renameat(int a, const char *from, int b, const char *to)
{

	return (is_hit() ? -1 : __real_renameat(a, from, b, to));
}

int
__wrap_rename(const char *from, const char *to)
{

	return (is_hit() ? -1 : __real_rename(from, to));
}

static int
is_out_of_memory(void)
{

	return (allocations > 0 && --allocations == 0);
}

void *
__wrap_malloc(size_t size)
{

	return (is_out_of_memory() ? NULL : __real_malloc(size));
}

void *
__wrap_calloc(size_t count, size_t size)
{

	return (is_out_of_memory() ? NULL : __real_calloc(count, size));
}

void *
__wrap_realloc(void *old, size_t size)
{

	return (is_out_of_memory() ? NULL : __real_realloc(old, size));
}

/* ---- What is done ------------------------------------------------------- */

static struct plog_conf conf;
/* What the child had been told before it died. */
static struct told {
	int64_t acknowledged; /* offsets below are on disk */
	int done;
} * told;

static int
set_up(void **state)
{

	(void)state;
	make_root();
	plog_conf_default(&conf);
	conf.segment_bytes = 500;
	conf.segment_ms = INT64_MAX / 4;
	fault = FAULT_NONE;
	countdown = -1;
	allocations = 0;
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(told != MAP_FAILED);
	return (0);
}

static int
tear_down(void **state)
{

	(void)state;
	fault = FAULT_NONE;
	allocations = 0;
	remove_root();
	munmap(told, sizeof(*told));
	return (0);
}

/* 0 if all of it was flushed. */
static int
flush(struct plog *log)
{
	struct plog_sync *sync;

	while ((sync = plog_sync_begin(log)) != NULL) {
		if (plog_sync_run(sync, NULL) == -1) {
			plog_sync_cancel(log, sync);
			return (-1);
		}
		(void)plog_sync_finish(log, sync);
	}
	return (0);
}

static int
tidy(struct plog *log, int64_t now_ms)
{
	struct plog_tidy *round = plog_tidy_begin(log,
	    PLOG_DELETE | PLOG_COMPACT, now_ms);
	struct mr_error err = {MR_OK, ""};
	int rc;

	if (round == NULL)
		return (0);
	rc = plog_tidy_run(round, &err);
	plog_tidy_finish(log, round, NULL);
	return (rc == -1 && err.kind == MR_FATAL ? -1 : 0);
}

/*
 * Appends of an idempotent producer, flushes, rolls, a compaction, retention,
 * a clean close.  Stops at the first error that has to end the process; refused
 * appends are tried again.
 */
static void
work(void)
{
	static const char *const keys[] = {"a", "b", "c"};
	struct test_producer pr = {5, 0, 0};
	struct plog_appended out;
	uint8_t bytes[RECORD_MOST];
	struct plog *log;
	int i, tries, code;

	if ((log = plog_open(log_path(), &conf, 0, NULL, NULL)) == NULL)
		return;
	for (i = 0; i < 16; i++) {
		pr.sequence = i;
		for (tries = 0; tries < 20; tries++) {
			code = plog_append(log, bytes,
			    make_one(bytes, keys[i % 3],
				i % 8 == 5 ? LARGE : 30, 1000 + i, &pr),
			    1000, &out, NULL);
			if (code == PLOG_OK || code == PLOG_DUPLICATE)
				break;
		}
		if (tries == 20 || flush(log) == -1)
			goto stop;
		told->acknowledged = plog_flushed_end(log);
		if (i % 8 == 7 && (tidy(log, 3000) == -1 || flush(log) == -1))
			goto stop;
	}
	conf.cleanup = PLOG_DELETE;
	plog_configure(log, &conf);
	if (tidy(log, 3000) == -1)
		goto stop;
	if (plog_close(log, NULL) == 0)
		told->done = 1;
	return;
stop:
	plog_abandon(log);
}

/* Nothing that was acknowledged is missing, but for what compaction and
 * retention may take; the producer goes on where it was. */
static void
expect_kept(int call)
{
	struct test_producer pr = {5, 0, 0};
	struct plog_recovery found;
	struct plog_appended out;
	struct mr_error err = {MR_OK, ""};
	struct reading r;
	uint8_t bytes[512];
	struct plog *log;
	int i;

	log = plog_open(log_path(), &conf, 0, &found, &err);
	if (log == NULL)
		fail_msg("call %d: %s", call, err.message);
	flush_log(log);
	if (plog_end(log) < told->acknowledged || found.damaged > 0)
		fail_msg("call %d: end %d, acknowledged %d, damaged %d", call,
		    (int)plog_end(log), (int)told->acknowledged, found.damaged);
	read_log(log, 200, &r);
	assert_int_equal(r.damaged, 0);
	for (i = 1; i < r.count; i++)
		assert_true(r.offsets[i] > r.offsets[i - 1]);
	/* The last record of each key, unless retention had its turn. */
	for (i = 1; i <= 3 && i < r.count && i < (int)plog_end(log) &&
	     conf.cleanup == PLOG_COMPACT && plog_start(log) == 0;
	     i++)
		assert_int_equal(r.offsets[r.count - i], plog_end(log) - i);
	pr.sequence = (int32_t)plog_end(log);
	assert_int_equal(plog_append(log, bytes,
			     make_one(bytes, "a", 30, 9000, &pr), 1000, &out,
			     &err),
	    PLOG_OK);
	pr.sequence--;
	if (pr.sequence >= 0)
		assert_int_equal(plog_append(log, bytes,
				     make_one(bytes,
					 pr.sequence % 3 == 0 ? "a" : "b", 30,
					 9000, &pr),
				     1000, &out, &err),
		    PLOG_DUPLICATE);
	assert_int_equal(plog_close(log, &err), 0);
}

/* Run work with the n-th call struck, until a run gets through; how many. */
static int
strike_every_call(enum fault what, int cleanup)
{
	int call, status;
	pid_t pid;

	for (call = 0; call < 2000; call++) {
		empty_folder(test_root);
		memset(told, 0, sizeof(*told));
		conf.cleanup = cleanup;
		conf.retention_bytes = 800;
		conf.dirty_ratio_least = 0.1;
		pid = fork();
		assert_true(pid != -1);
		if (pid == 0) {
			fault = what;
			countdown = call;
			work();
			_exit(countdown > 0 ? 3 : 4);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		expect_kept(call);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 3) {
			assert_true(told->done);
			break;
		}
	}
	return (call);
}

static void
death_at_any_call_loses_nothing_acknowledged(void **state)
{

	(void)state;
	assert_true(strike_every_call(FAULT_KILL, PLOG_COMPACT) > 60);
	assert_true(strike_every_call(FAULT_KILL, PLOG_DELETE) > 60);
}

static void
death_in_the_middle_of_any_write_loses_nothing_acknowledged(void **state)
{

	(void)state;
	assert_true(strike_every_call(FAULT_TEAR, PLOG_COMPACT) > 60);
}

static void
a_disk_full_at_any_call_loses_nothing_acknowledged(void **state)
{

	(void)state;
	assert_true(strike_every_call(FAULT_ERROR, PLOG_COMPACT) > 60);
	assert_true(strike_every_call(FAULT_ERROR, PLOG_DELETE) > 60);
}

static void
a_full_disk_refuses_appends_serves_reads_and_heals(void **state)
{
	struct plog *log;
	struct plog_appended out;
	struct plog_span span;
	struct reading r;
	struct mr_error err;
	uint8_t bytes[512];
	struct stat st;
	char path[200];
	int i;

	(void)state;
	conf.segment_bytes = 100000;
	log = plog_open(log_path(), &conf, 0, NULL, &err);
	assert_non_null(log);
	for (i = 0; i < 5; i++)
		assert_int_equal(append_one(log, "k", 30, 1, NULL), PLOG_OK);
	assert_int_equal(flush(log), 0);
	for (i = 0; i < 5; i++) {
		fault = FAULT_ERROR;
		countdown = 0;
		assert_int_equal(plog_append(log, bytes,
				     make_one(bytes, "k", 200, 1, NULL), 1,
				     &out, &err),
		    PLOG_NO_SPACE);
		assert_int_equal(out.base_offset, -1);
		assert_int_equal(err.kind, MR_RETRY);
		assert_non_null(strstr(err.message, "No space left"));
		assert_int_equal(plog_read(log, 2, 1000, 1, &span, &err),
		    PLOG_OK);
		assert_int_equal(span.next_offset, 5);
		plog_release(log, &span);
		fault = FAULT_NONE;
	}
	assert_int_equal(append_one(log, "k", 30, 1, NULL), PLOG_OK);
	assert_int_equal(plog_end(log), 6);
	assert_int_equal(flush(log), 0);
	read_log(log, 100000, &r);
	assert_int_equal(r.count, 6);
	snprintf(path, sizeof(path), "%s/%020d.log", log_path(), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, plog_size(log));
	assert_int_equal(plog_close(log, &err), 0);
}

/* Segments that there are in the folder. */
static int
segments_on_disk(void)
{
	struct dirent *entry;
	const char *end;
	DIR *folder = opendir(log_path());
	int count = 0;

	assert_non_null(folder);
	while ((entry = readdir(folder)) != NULL) {
		end = strrchr(entry->d_name, '.');
		count += end != NULL && strcmp(end, ".log") == 0;
	}
	closedir(folder);
	return (count);
}

/* It is out of the log by then, and nobody would look at it again. */
static void
what_could_not_be_deleted_goes_the_next_time(void **state)
{
	struct plog *log;
	struct mr_error err;
	int i, before;

	(void)state;
	conf.retention_bytes = 800;
	log = plog_open(log_path(), &conf, 0, NULL, &err);
	assert_non_null(log);
	for (i = 0; i < 30; i++)
		assert_int_equal(append_one(log, "k", 200, 1, NULL), PLOG_OK);
	assert_int_equal(flush(log), 0);
	before = segments_on_disk();
	assert_true(before > 5);
	fault = FAULT_ERROR;
	countdown = 0;
	assert_int_equal(tidy(log, 3000), 0);
	assert_true(plog_start(log) > 0);
	assert_int_equal(segments_on_disk(), before);
	/* From the second on; the rest of them with it. */
	countdown = 2;
	assert_int_equal(tidy(log, 3000), 0);
	assert_int_equal(segments_on_disk(), before - 1);
	fault = FAULT_NONE;
	assert_int_equal(tidy(log, 3000), 0);
	assert_true(segments_on_disk() < 5);
	assert_int_equal(plog_close(log, &err), 0);
}

/* Half a batch that couldn't be cut off then is in no segment that was left. */
static void
what_a_full_disk_left_behind_is_cut_before_a_roll(void **state)
{
	struct plog *log = plog_open(log_path(), &conf, 0, NULL, NULL);
	struct plog_appended out;
	struct reading r;
	uint8_t bytes[512];
	struct stat st;
	char path[200];

	(void)state;
	assert_non_null(log);
	assert_int_equal(append_one(log, "k", 30, 1, NULL), PLOG_OK);
	fault = FAULT_ERROR;
	countdown = 0;
	assert_int_equal(plog_append(log, bytes,
			     make_one(bytes, "k", 200, 1, NULL), 1, &out, NULL),
	    PLOG_NO_SPACE);
	fault = FAULT_NONE;
	assert_int_equal(append_one(log, "k", 450, 1, NULL), PLOG_OK);
	assert_int_equal(plog_segments(log), 2);
	snprintf(path, sizeof(path), "%s/%020d.log", log_path(), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, log->segments[0]->size);
	assert_int_equal(flush(log), 0);
	read_log(log, 100000, &r);
	assert_int_equal(r.count, 2);
	assert_int_equal(r.damaged, 0);
	assert_int_equal(plog_close(log, NULL), 0);
}

/* As ext4 does with one that is under way (pkg/store/vfs.c). */
static void
a_flush_that_claims_to_have_worked_on_a_disk_given_up_fails(void **state)
{
	struct plog *log = plog_open(log_path(), &conf, 0, NULL, NULL);
	struct plog_sync *sync;
	struct mr_error err;

	(void)state;
	assert_non_null(log);
	assert_int_equal(append_one(log, "k", 30, 1, NULL), PLOG_OK);
	sync = plog_sync_begin(log);
	given_up = 1;
	assert_int_equal(plog_sync_run(sync, &err), -1);
	given_up = 0;
	assert_int_equal(err.kind, MR_FATAL);
	assert_non_null(strstr(err.message, "Read-only file system"));
	plog_sync_cancel(log, sync);
	plog_abandon(log);
}

static void
a_topic_dies_whole_at_any_call(void **state)
{
	char topic[100], part[120];
	struct stat st;
	struct plog *log;
	int call, status = 0;
	pid_t pid;

	(void)state;
	snprintf(topic, sizeof(topic), "%s/topic", test_root);
	snprintf(part, sizeof(part), "%s/0", topic);
	for (call = 0; call < 100; call++) {
		empty_folder(test_root);
		assert_int_equal(plog_folder_make(topic, NULL), 0);
		log = plog_open(part, &conf, 0, NULL, NULL);
		assert_non_null(log);
		assert_int_equal(append_one(log, "k", 30, 1, NULL), PLOG_OK);
		assert_int_equal(plog_close(log, NULL), 0);
		pid = fork();
		assert_true(pid != -1);
		if (pid == 0) {
			fault = FAULT_KILL;
			countdown = call;
			if (plog_folder_retire(topic, NULL) == -1 ||
			    plog_folder_purge(test_root, NULL) == -1)
				_exit(5);
			_exit(3);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		/* There with its records, or gone once it is purged. */
		if (stat(topic, &st) == 0) {
			log = plog_open(part, &conf, 0, NULL, NULL);
			assert_non_null(log);
			assert_int_equal(plog_end(log), 1);
			plog_abandon(log);
		} else {
			assert_int_equal(plog_folder_purge(test_root, NULL), 0);
			snprintf(topic, sizeof(topic), "%s/topic.deleted",
			    test_root);
			assert_int_equal(stat(topic, &st), -1);
			snprintf(topic, sizeof(topic), "%s/topic", test_root);
		}
		if (WIFEXITED(status))
			break;
	}
	assert_int_equal(WEXITSTATUS(status), 3);
	assert_true(call > 5);
}

static void
memory_that_runs_out_is_an_error_and_no_more(void **state)
{
	int n, used;

	(void)state;
	for (n = 1, used = 1; used; n++) {
		empty_folder(test_root);
		memset(told, 0, sizeof(*told));
		conf.cleanup = PLOG_COMPACT;
		conf.dirty_ratio_least = 0.1;
		allocations = n;
		work();
		used = allocations == 0;
		allocations = 0;
		expect_kept(n);
	}
	assert_true(n > 30);
}

static void
memory_that_runs_out_leaves_a_batch_unpacked(void **state)
{
	uint8_t bytes[2048];
	size_t size;
	int codec, found, n, used;

	(void)state;
	for (codec = BATCH_GZIP; codec <= BATCH_ZSTD; codec++)
		for (n = 1, used = 1; used; n++) {
			memset(bytes, 'v', sizeof(bytes));
			size = sizeof(bytes);
			allocations = n;
			found = batch_pack(bytes, &size, codec);
			used = allocations == 0;
			allocations = 0;
			assert_int_equal(found, used ? BATCH_NONE : codec);
			assert_int_equal(size == sizeof(bytes), used);
		}
}

static void
memory_that_runs_out_is_no_damaged_body(void **state)
{
	static const struct test_record records[] = {{"a", "1", 1},
	    {"b", "2", 2}};
	const uint8_t *body;
	struct batch_header h;
	struct buffer memory;
	uint8_t bytes[2048];
	size_t size;
	int format, n, used, rc;

	(void)state;
	for (format = 0; format < FORMATS; format++) {
		(void)make_compressed(bytes, format, records, 2);
		batch_header_read(bytes, &h);
		for (n = 1, used = 1; used; n++) {
			buffer_init(&memory, 0);
			allocations = n;
			rc = batch_body(bytes, &h, &memory, &body, &size);
			used = allocations == 0;
			allocations = 0;
			if (rc != !used)
				fail_msg("format %d, allocation %d: %d", format,
				    n, rc);
			buffer_free(&memory);
		}
		/* Of libraries that are linked as archives, too. */
		assert_true(n > (codec_of[format] == BATCH_LZ4 ? 4 : 2));
	}
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(death_at_any_call_loses_nothing_acknowledged),
	    TEST(death_in_the_middle_of_any_write_loses_nothing_acknowledged),
	    TEST(a_disk_full_at_any_call_loses_nothing_acknowledged),
	    TEST(a_full_disk_refuses_appends_serves_reads_and_heals),
	    TEST(what_could_not_be_deleted_goes_the_next_time),
	    TEST(what_a_full_disk_left_behind_is_cut_before_a_roll),
	    TEST(a_flush_that_claims_to_have_worked_on_a_disk_given_up_fails),
	    TEST(a_topic_dies_whole_at_any_call),
	    TEST(memory_that_runs_out_is_an_error_and_no_more),
	    TEST(memory_that_runs_out_leaves_a_batch_unpacked),
	    TEST(memory_that_runs_out_is_no_damaged_body),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
