/*
 * powercut -- cut the power under a partition's log, and see what it kept.
 *
 *	powercut [--cuts N] [--seed N] [--plant]
 *
 * A file system of its own (ext4 on a loop device, so this has to be root) is
 * written to by a child that appends, flushes, rolls, compacts and writes down in
 * shared memory what was acknowledged.  At a random acknowledgement the file system
 * is shut down as if the power had gone: EXT4_IOC_SHUTDOWN without flushing its
 * journal.  Then it is mounted again, and all that was acknowledged has to be
 * there.  --plant makes the child acknowledge before the flush: a check that
 * finds nothing then is no check, and the status is 1.  Prints "N passed, N
 * failed" last.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "segment/batch.h"
#include "segment/bytes.h"

#define SHUTDOWN _IOR('X', 125, uint32_t)
#define SHUTDOWN_WITHOUT_JOURNAL 2u
#define IMAGE_BYTES ((off_t)96 << 20)
#define KEYS 8
#define ACKS_MOST 250
#define PATIENCE_US ((int64_t)30000000)

static char root[64], mount_point[80], image[80], keep[100], compact[100];
static struct told {
	atomic_llong keep_end, compact_end; /* acknowledged */
	atomic_int failed;
} * told;
static int plant;
static uint64_t seed;

static uint64_t
draw(uint64_t below)
{

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed % below);
}

/* Run a program and wait: 0 or -1. */
static int
run(char *const argv[])
{
	pid_t pid = fork();
	int status, null;

	if (pid == -1)
		return (-1);
	if (pid == 0) {
		if ((null = open("/dev/null", O_WRONLY)) != -1)
			(void)dup2(null, 1);
		execvp(argv[0], argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) == -1)
		return (-1);
	return (WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1);
}

static int
mount_image(void)
{
	char *const argv[] = {(char[]){"mount"}, (char[]){"-o"},
	    (char[]){"loop"}, image, mount_point, NULL};

	return (run(argv));
}

/* 1 if a loop device is on the image. */
static int
is_attached(void)
{
	char path[4096], line[256];
	glob_t found;
	ssize_t n;
	size_t i;
	int fd, rc = 0;

	if (realpath(image, path) == NULL ||
	    glob("/sys/block/loop*/loop/backing_file", 0, NULL, &found) != 0)
		return (0);
	for (i = 0; i < found.gl_pathc; i++) {
		if ((fd = open(found.gl_pathv[i], O_RDONLY)) == -1)
			continue;
		n = read(fd, line, sizeof(line) - 1);
		close(fd);
		if (n > 0 && line[n - 1] == '\n')
			n--;
		rc |= n == (ssize_t)strlen(path) &&
		    memcmp(line, path, (size_t)n) == 0;
	}
	globfree(&found);
	return (rc);
}

/*
 * Whoever made a mount namespace meanwhile has a copy of the mount, and with
 * it the file system: mounted again it would be the same one, shut down.
 */
static int
unmount_image(void)
{
	char *const argv[] = {(char[]){"umount"}, mount_point, NULL};
	int64_t until = clock_mono_us() + PATIENCE_US;

	if (run(argv) == -1)
		return (-1);
	while (is_attached() && clock_mono_us() < until)
		usleep(1000);
	errno = EBUSY;
	return (is_attached() ? -1 : 0);
}

/* A record that says which it is: key of its offset, and its offset. */
static size_t
make_record(uint8_t *bytes, int64_t offset, size_t padding)
{
	uint8_t *p = bytes + BATCH_HEADER_SIZE;
	size_t value = 8 + padding, body = value + 8, size;

	assert(value < 4096 && value >= 64);
	size = BATCH_HEADER_SIZE + 2 + body;
	memset(bytes, 0, size);
	put_i32(bytes + BATCH_AT_LENGTH, (int32_t)size - 12);
	bytes[BATCH_AT_MAGIC] = 2;
	put_i64(bytes + BATCH_AT_PRODUCER_ID, -1);
	put_i32(bytes + BATCH_AT_RECORD_COUNT, 1);
	*p++ = (uint8_t)((body * 2) & 0x7f) | 0x80;
	*p++ = (uint8_t)((body * 2) >> 7);
	p += 3; /* attributes, time, offset */
	*p++ = 2; /* a key of one byte */
	*p++ = (uint8_t)('a' + offset % KEYS);
	*p++ = (uint8_t)((value * 2) & 0x7f) | 0x80;
	*p++ = (uint8_t)((value * 2) >> 7);
	put_i64(p, offset);
	batch_seal(bytes, size);
	return (size);
}

static void
configure(struct plog_conf *conf, int cleanup)
{

	plog_conf_default(conf);
	conf->segment_bytes = 20000;
	conf->retention_ms = -1;
	conf->cleanup = cleanup;
	conf->dirty_ratio_least = 0.2;
}

static int
flush(struct plog *log)
{
	struct plog_sync *sync;

	while ((sync = plog_sync_begin(log)) != NULL) {
		if (plog_sync_run(sync, NULL) == -1)
			return (-1);
		(void)plog_sync_finish(log, sync);
	}
	return (0);
}

static int
append(struct plog *log, int count)
{
	struct plog_appended out;
	uint8_t bytes[4096];
	size_t size;

	for (; count > 0; count--) {
		size = make_record(bytes, plog_end(log),
		    (size_t)(60 + draw(1500)));
		if (plog_append(log, bytes, size, clock_wall_ms(), &out,
			NULL) != PLOG_OK)
			return (-1);
	}
	return (0);
}

/* Append a few, flush, acknowledge. */
static int
step(struct plog *log, atomic_llong *end)
{

	if (append(log, 1 + (int)draw(5)) == -1)
		return (-1);
	if (plant)
		atomic_store(end, plog_end(log));
	if ((!plant || draw(20) == 0) && flush(log) == -1)
		return (-1);
	atomic_store(end, plog_end(log));
	return (0);
}

static void
tidy(struct plog *log)
{
	struct plog_tidy *round = plog_tidy_begin(log,
	    PLOG_DELETE | PLOG_COMPACT, clock_wall_ms());

	if (round == NULL)
		return;
	(void)plog_tidy_run(round, NULL);
	plog_tidy_finish(log, round, NULL);
}

static void
child(void)
{
	struct plog_conf conf;
	struct plog *kept, *compacted;
	int i;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	configure(&conf, PLOG_DELETE);
	kept = plog_open(keep, &conf, 0, NULL, NULL);
	configure(&conf, PLOG_COMPACT);
	compacted = plog_open(compact, &conf, 0, NULL, NULL);
	if (kept == NULL || compacted == NULL) {
		atomic_store(&told->failed, 1);
		_exit(1);
	}
	/*
	 * Until the power goes.  What nobody waits for is flushed with the next
	 * that somebody does; meanwhile it may roll, and the other log's flush
	 * takes the new segment's name to the disk, but not what comes before.
	 */
	for (i = 0; step(kept, &told->keep_end) == 0 &&
	     append(kept, (int)draw(12)) == 0 &&
	     step(compacted, &told->compact_end) == 0;
	     i++)
		if (i % 16 == 15)
			tidy(compacted);
	_exit(0);
}

/* Does the batch hold the record of its offset?  1 or 0. */
static int
is_right(const struct plog_span *span)
{
	uint8_t bytes[BATCH_HEADER_SIZE + 17];

	return (pread(span->fd, bytes, sizeof(bytes), span->position) ==
		(ssize_t)sizeof(bytes) &&
	    get_i64(bytes + BATCH_HEADER_SIZE + 9) == span->base_offset);
}

/* What is missing of what was acknowledged; -1 if it can't be opened. */
static int64_t
count_missing(const char *path, int cleanup, int64_t acknowledged)
{
	struct plog_conf conf;
	struct plog_recovery found;
	struct plog_span span;
	struct mr_error err = {MR_OK, ""};
	struct plog *log;
	int64_t offset, missing = 0;

	configure(&conf, cleanup);
	if ((log = plog_open(path, &conf, 0, &found, &err)) == NULL) {
		printf("# can't open: %s\n", err.message);
		return (-1);
	}
	if (flush(log) == -1) {
		printf("# can't flush\n");
		plog_abandon(log);
		return (-1);
	}
	for (offset = 0; offset < acknowledged; offset++) {
		/* Compaction may have taken all but the last of each key. */
		if (cleanup == PLOG_COMPACT && offset < acknowledged - KEYS)
			continue;
		if (plog_read(log, offset, 1, 1, &span, NULL) != PLOG_OK) {
			missing++;
			continue;
		}
		/* It may also have been superseded since, unacknowledged. */
		if (span.length == 0 || !is_right(&span) ||
		    (span.base_offset != offset &&
			plog_end(log) < offset + KEYS + 1))
			missing++;
		plog_release(log, &span);
	}
	if (found.damaged > 0)
		printf("# %s: damage at offset %lld\n", path,
		    (long long)found.damaged_offset);
	missing += found.damaged;
	if (missing > 0)
		printf(
		    "# %s: %lld to %lld, %lld acknowledged, cut at %s %lld\n",
		    path, (long long)plog_start(log), (long long)plog_end(log),
		    (long long)acknowledged, found.cut_file,
		    (long long)found.cut_position);
	plog_abandon(log);
	return (missing);
}

/* One cut: how many records are missing, or -1. */
static int64_t
cut(void)
{
	uint32_t how = SHUTDOWN_WITHOUT_JOURNAL;
	int64_t kept_missing, compact_missing, kept_end, compact_end;
	long long target;
	pid_t pid;
	int fd, rc;

	target = atomic_load(&told->keep_end) + 1 + (long long)draw(ACKS_MOST);
	if ((fd = open(mount_point, O_RDONLY | O_DIRECTORY)) == -1 ||
	    (pid = fork()) == -1)
		return (-1);
	if (pid == 0) {
		close(fd);
		child();
	}
	while (atomic_load(&told->keep_end) < target &&
	    waitpid(pid, NULL, WNOHANG) == 0)
		usleep(50);
	/* Not only right behind an acknowledgement. */
	usleep((useconds_t)draw(3000));
	/* What is acknowledged while it goes is anybody's guess: a flush that the
	 * shutdown overtakes can return 0, which real disks' don't. */
	compact_end = atomic_load(&told->compact_end);
	kept_end = atomic_load(&told->keep_end);
	rc = ioctl(fd, SHUTDOWN, &how);
	close(fd);
	kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	if (rc == -1 || atomic_load(&told->failed) || unmount_image() == -1 ||
	    mount_image() == -1) {
		printf("# can't cut: %s\n", strerror(errno));
		return (-1);
	}
	atomic_store(&told->compact_end, compact_end);
	atomic_store(&told->keep_end, kept_end);
	kept_missing = count_missing(keep, PLOG_DELETE, kept_end);
	compact_missing = count_missing(compact, PLOG_COMPACT, compact_end);
	return (kept_missing < 0 || compact_missing < 0 ?
		-1 :
		kept_missing + compact_missing);
}

/* A new file system, with nothing in it. */
static int
make_image(void)
{
	char *const argv[] = {(char[]){"mkfs.ext4"}, (char[]){"-q"},
	    (char[]){"-F"}, image, NULL};
	int fd;

	if ((fd = open(image, O_RDWR | O_CREAT | O_TRUNC, 0600)) == -1)
		return (-1);
	if (ftruncate(fd, IMAGE_BYTES) == -1) {
		close(fd);
		return (-1);
	}
	close(fd);
	return (run(argv) == 0 && mount_image() == 0 ? 0 : -1);
}

static void
clean_up(void)
{

	(void)unmount_image();
	(void)rmdir(mount_point);
	(void)unlink(image);
	(void)rmdir(root);
}

static int
parse(int argc, char **argv, int *cuts)
{
	int i;

	for (i = 1; i < argc; i++)
		if (strcmp(argv[i], "--plant") == 0)
			plant = 1;
		else if (strcmp(argv[i], "--cuts") == 0 && i + 1 < argc)
			*cuts = (int)strtol(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 10);
		else
			return (-1);
	return (*cuts > 0 && seed > 0 ? 0 : -1);
}

int
main(int argc, char **argv)
{
	int cuts = 20, passed = 0, failed = 0, i;
	int64_t missing;

	seed = (uint64_t)clock_wall_ms();
	if (parse(argc, argv, &cuts) == -1) {
		fprintf(stderr,
		    "usage: powercut [--cuts N] [--seed N] [--plant]\n");
		return (2);
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	printf("# seed %llu\n", (unsigned long long)seed);
	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(root, sizeof(root), "/tmp/powercut-XXXXXX");
	if (told == MAP_FAILED || mkdtemp(root) == NULL)
		return (2);
	snprintf(image, sizeof(image), "%s/image", root);
	snprintf(mount_point, sizeof(mount_point), "%s/disk", root);
	snprintf(keep, sizeof(keep), "%s/keep", mount_point);
	snprintf(compact, sizeof(compact), "%s/compact", mount_point);
	if (mkdir(mount_point, 0700) == -1 || make_image() == -1) {
		printf("# no loop mount here: it takes root and mkfs.ext4\n");
		clean_up();
		return (2);
	}
	for (i = 0; i < cuts; i++) {
		missing = cut();
		if (missing == 0) {
			passed++;
			continue;
		}
		failed++;
		printf("# cut %d: %lld missing\n", i, (long long)missing);
		if (missing < 0 || plant)
			break;
	}
	clean_up();
	printf("%d passed, %d failed\n", passed, failed);
	return (failed > 0);
}
