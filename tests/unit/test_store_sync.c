/*
 * store: what a failed sync does not keep is never taken for kept.
 *
 * The disk here forgets: what was written and not synced is gone when the
 * power fails, and what a sync that failed was to write is never written by a
 * later one, though it can be read until then, as with Linux's page cache.
 * One sync fails; the service goes on, or ends and is started again, and
 * commits more; then the power fails.  What was said to be committed is there.
 * Or one sync claims that it worked, and the disk can't be written any more.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "store/internal.h"

/* ---- a disk that forgets ------------------------------------------------- */

#define BLOCK 512
#define BLOCKS_MOST 65536 /* of a file */

enum file { FILE_ITSELF, FILE_LOG, FILES };
static const char *const suffixes[FILES] = {"", "-wal"};

/* What of each file is on the platter, and which blocks are still to go. */
static struct disk {
	unsigned char *kept;
	size_t kept_size;
	size_t size; /* of the file, as it is read */
	unsigned char dirty[BLOCKS_MOST];
} disks[FILES];

static char folder[PATH_MAX];
static char path[PATH_MAX + 16];
static int syncs; /* so far */
static int sync_fails; /* which one */
static int sync_errno; /* 0: it says that it worked */
static int read_only; /* since then */

static const char *
name_of(enum file file)
{
	static char names[FILES][PATH_MAX + 32];

	(void)snprintf(names[file], sizeof(names[file]), "%s%s", path,
	    suffixes[file]);
	return (names[file]);
}

/* Which of the two it is; FILES: neither. */
static enum file
file_of(int fd)
{
	struct stat given, named;
	enum file file;

	if (fstat(fd, &given) != 0)
		return (FILES);
	for (file = 0; file < FILES; file++)
		if (stat(name_of(file), &named) == 0 &&
		    named.st_ino == given.st_ino)
			break;
	return (file);
}

static void
touch(struct disk *disk, size_t from, size_t to)
{
	size_t block;

	assert_true(to <= (size_t)BLOCKS_MOST * BLOCK);
	for (block = from / BLOCK; block * BLOCK < to; block++)
		disk->dirty[block] = 1;
	disk->size = to > disk->size ? to : disk->size;
}

static ssize_t
noted_pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
	enum file file = file_of(fd);

	if (read_only) {
		errno = EROFS;
		return (-1);
	}
	if (file != FILES)
		touch(&disks[file], (size_t)offset, (size_t)offset + size);
	return (pwrite(fd, bytes, size, offset));
}

/* To make a file shorter is on disk at once: of what may be, the worst. */
static int
noted_ftruncate(int fd, off_t size)
{
	enum file file = file_of(fd);

	if (file != FILES) {
		disks[file].size = (size_t)size;
		if (disks[file].kept_size > (size_t)size)
			disks[file].kept_size = (size_t)size;
	}
	return (ftruncate(fd, size));
}

static int
noted_unlink(const char *name)
{
	if (strcmp(name, name_of(FILE_LOG)) == 0) {
		disks[FILE_LOG].size = disks[FILE_LOG].kept_size = 0;
		memset(disks[FILE_LOG].dirty, 0, sizeof(disks[0].dirty));
	}
	return (unlink(name));
}

/* A block that is dirty goes to the platter, or is forgotten. */
static void
flush(int fd, struct disk *disk, int kept)
{
	size_t block, at, size;

	if (kept && disk->size > disk->kept_size) {
		memset(disk->kept + disk->kept_size, 0,
		    disk->size - disk->kept_size);
		disk->kept_size = disk->size;
	}
	for (block = 0; block * BLOCK < disk->size; block++) {
		at = block * BLOCK;
		size = disk->size - at < BLOCK ? disk->size - at : BLOCK;
		if (disk->dirty[block] && kept)
			assert_int_equal(pread(fd, disk->kept + at, size,
					     (off_t)at),
			    size);
		disk->dirty[block] = 0;
	}
}

int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);

int
__wrap_fdatasync(int fd)
{
	enum file file = file_of(fd);
	int fails;

	if (file == FILES)
		return (0);
	fails = ++syncs == sync_fails;
	flush(fd, &disks[file], !fails);
	read_only |= fails && sync_errno == 0;
	errno = sync_errno;
	return (fails && sync_errno != 0 ? -1 : 0);
}

int
__wrap_fsync(int fd)
{
	return (__wrap_fdatasync(fd));
}

static void
power_fails(void)
{
	char name[PATH_MAX + 32];
	enum file file;
	int fd;

	for (file = 0; file < FILES; file++) {
		fd = open(name_of(file), O_RDWR | O_CREAT | O_TRUNC, 0660);
		assert_int_not_equal(fd, -1);
		assert_int_equal(write(fd, disks[file].kept,
				     disks[file].kept_size),
		    disks[file].kept_size);
		(void)close(fd);
		disks[file].size = disks[file].kept_size;
		memset(disks[file].dirty, 0, sizeof(disks[file].dirty));
	}
	/* The index is in memory. */
	(void)snprintf(name, sizeof(name), "%s-shm", path);
	(void)unlink(name);
}

/* ---- a service ---------------------------------------------------------- */

static const struct store_migration core[] =
    {{1, "core", "CREATE TABLE core (id INTEGER PRIMARY KEY) STRICT"}, {0}};
static const struct store_migration own[] = {{1, "tables",
						 "CREATE TABLE done (n INTEGER"
						 " PRIMARY KEY, b BLOB)"},
    {0}};
static const char sql_do[] = "INSERT INTO done VALUES (?1, zeroblob(?2))";
static const char sql_is_done[] = "SELECT count(*) FROM done WHERE n = ?1";

#define TURNS 24
static int said[TURNS]; /* that it is committed */
static int ends;

static void
start(struct store **st)
{
	const struct store_options options = {.path = path,
	    .service = "sync",
	    .core = core,
	    .own = own};
	struct mr_error err = {0};
	int tries;

	for (tries = 0; *st == NULL && tries < 3; tries++)
		*st = store_open(&options, &err);
	if (*st == NULL && read_only)
		return;
	if (*st == NULL)
		fail_msg("sync %d: %s", sync_fails, err.message);
	/* Often, so that there are many of these, too. */
	(void)sqlite3_wal_autocheckpoint((*st)->db, 6);
}

/* As a service does: what can't be known ends it, and it is started again. */
static void
turn(struct store **st, int n)
{
	struct mr_error err = {0};

	start(st);
	said[n] = *st != NULL && store_begin(*st, &err) == 0 &&
	    store_run(*st, &err, sql_do, store_i64(n), store_i64(n * 500)) ==
		1 &&
	    store_commit(*st, &err) == 0;
	if (said[n] || *st == NULL)
		return;
	store_rollback(*st);
	if (err.kind == MR_RETRY)
		return;
	ends++;
	store_close(*st);
	*st = NULL;
}

static void
check_kept(int fails)
{
	struct store *st = NULL;
	struct mr_error err = {0};
	int64_t count;
	int n;

	start(&st);
	for (n = 0; n < TURNS; n++) {
		assert_int_equal(store_find(st, &err, &count, sql_is_done,
				     store_i64(n)),
		    1);
		if (said[n] && count != 1)
			fail_msg("sync %d, errno %d: turn %d was committed, "
				 "and is gone",
			    fails, sync_errno, n);
	}
	store_close(st);
}

static void
remove_files(void)
{
	static const char *const all[] = {"", "-wal", "-shm", "-journal",
	    ".writer"};
	char name[PATH_MAX + 32];
	size_t i;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		(void)snprintf(name, sizeof(name), "%s%s", path, all[i]);
		(void)unlink(name);
	}
}

/* 1 if there was a sync of that number. */
static int
try(int fails, int error)
{
	struct store *st = NULL;
	enum file file;
	int n, reached;

	remove_files();
	for (file = 0; file < FILES; file++) {
		disks[file].size = disks[file].kept_size = 0;
		memset(disks[file].dirty, 0, sizeof(disks[file].dirty));
	}
	syncs = read_only = 0;
	sync_fails = fails;
	sync_errno = error;
	memset(said, 0, sizeof(said));
	for (n = 0; n < TURNS && !read_only; n++)
		turn(&st, n);
	reached = syncs >= fails;
	sync_fails = read_only = 0;
	if (st != NULL) { /* it writes nothing more */
		(void)sqlite3_db_config(st->db,
		    SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		st->broken = 1;
		store_close(st);
	}
	power_fails();
	check_kept(fails);
	return (reached);
}

static void
what_a_failed_sync_dropped_was_never_said_to_be_kept(void **state)
{
	static const int errors[] = {EIO, ENOSPC, 0};
	size_t i;
	int n;

	(void)state;
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		ends = 0;
		for (n = 1; try(n, errors[i]); n++)
			;
		print_message("# errno %d: %d syncs, %d ends\n", errors[i],
		    n - 1, ends);
		assert_true(n > TURNS * 2);
		/*
		 * A checkpoint's as well, and those of opening excepted; after
		 * a lie there is no turn that could end for a checkpoint.
		 */
		assert_true(errors[i] == 0 || ends * 5 > (n - 1) * 4);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(
		what_a_failed_sync_dropped_was_never_said_to_be_kept),
	};
	sqlite3_vfs *vfs;
	enum file file;
	int status;

	log_init("test", LOG_LOGFMT, LOG_ERROR + 1);
	(void)snprintf(folder, sizeof(folder), "/tmp/millrace-sync-XXXXXX");
	if (mkdtemp(folder) == NULL || (vfs = sqlite3_vfs_find(NULL)) == NULL)
		return (EXIT_FAILURE);
	(void)snprintf(path, sizeof(path), "%s/x.db", folder);
	vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)noted_pwrite);
	vfs->xSetSystemCall(vfs, "unlink", (sqlite3_syscall_ptr)noted_unlink);
	vfs->xSetSystemCall(vfs, "ftruncate",
	    (sqlite3_syscall_ptr)noted_ftruncate);
	for (file = 0; file < FILES; file++)
		if ((disks[file].kept = calloc(BLOCKS_MOST, BLOCK)) == NULL)
			return (EXIT_FAILURE);
	status = cmocka_run_group_tests(tests, NULL, NULL);
	for (file = 0; file < FILES; file++)
		free(disks[file].kept);
	remove_files();
	(void)rmdir(folder);
	return (status);
}
