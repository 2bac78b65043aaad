#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/internal.h"

#define STEP_PAGES 256 /* a megabyte */
#define PAUSE_MOST_US 50000
#define UPGRADE_MARK ".upgrade-"

static const char sql_check[] = "PRAGMA integrity_check(1)";
static const char sql_pin[] = "SELECT count(*) FROM sqlite_schema";
/* One file by itself, which can be read where nothing can be written, and
 * which nobody has open: STORE_APPLICATION_ID. */
static const char sql_alone[] = "PRAGMA application_id = 0x4d696c72;"
				"PRAGMA journal_mode = DELETE";

static int
backup_fail(const char *path, int rc, sqlite3 *db, struct mr_error *err)
{
	enum mr_error_kind kind = MR_FATAL;

	if ((rc & 0xff) == SQLITE_FULL || (rc & 0xff) == SQLITE_BUSY ||
	    (rc & 0xff) == SQLITE_NOMEM)
		kind = MR_RETRY;
	return (mr_error_set(err, kind, "back up to %s: %s", path,
	    db != NULL && sqlite3_errcode(db) != SQLITE_OK ?
		sqlite3_errmsg(db) :
		sqlite3_errstr(rc)));
}

int
store_make_durable(const char *path, int flags, struct mr_error *err)
{
	int fd, rc;

	if ((fd = open(path, flags | O_CLOEXEC)) == -1)
		return (mr_error_set(err, MR_FATAL, "open %s: %s", path,
		    strerror(errno)));
	if ((rc = fsync(fd)) != 0)
		mr_error_set(err, MR_FATAL, "sync %s: %s", path,
		    strerror(errno));
	(void)close(fd);
	return (rc);
}

static int
check_copy(sqlite3 *copy, const char *path, struct mr_error *err)
{
	sqlite3_stmt *stmt = NULL;
	const char *text;
	int rc;

	if ((rc = sqlite3_prepare_v2(copy, sql_check, -1, &stmt, NULL)) !=
		SQLITE_OK ||
	    (rc = sqlite3_step(stmt)) != SQLITE_ROW) {
		rc = backup_fail(path, rc, copy, err);
		goto done;
	}
	text = (const char *)sqlite3_column_text(stmt, 0);
	if ((rc = store_check_judge(text)) == SQLITE_NOMEM)
		rc = backup_fail(path, rc, NULL, err);
	else if (rc != SQLITE_OK)
		rc = mr_error_set(err, MR_FATAL,
		    "back up to %s: the copy is "
		    "damaged, so is the file: %.60s",
		    path, text);
done:
	(void)sqlite3_finalize(stmt);
	return (rc);
}

/* As long as a step took: half of the disk's time is left to others. */
static void
pause_us(int64_t took_us)
{
	struct timespec left = {.tv_nsec = 1000 *
		(took_us < PAUSE_MOST_US ? took_us : PAUSE_MOST_US)};

	(void)nanosleep(&left, NULL);
}

static int
copy_steps(sqlite3_backup *backup, int gently)
{
	int64_t began_us;
	int rc;

	do {
		began_us = clock_mono_us();
		rc = sqlite3_backup_step(backup, STEP_PAGES);
		if (gently && rc == SQLITE_OK)
			pause_us(clock_mono_us() - began_us);
	} while (rc == SQLITE_OK);
	return (sqlite3_backup_finish(backup));
}

/*
 * In steps, so that those who write aren't kept from the disk; and with a
 * statement under way that keeps one snapshot for all of them, since a copy
 * begins anew whenever another process has written in between.
 */
static int
copy_pinned(struct store *st, sqlite3 *copy, int gently)
{
	sqlite3_backup *backup;
	sqlite3_stmt *pin = NULL;
	int rc;

	if ((rc = sqlite3_prepare_v2(st->db, sql_pin, -1, &pin, NULL)) !=
	    SQLITE_OK)
		return (rc);
	if ((rc = sqlite3_step(pin)) == SQLITE_ROW) {
		backup = sqlite3_backup_init(copy, "main", st->db, "main");
		rc = backup == NULL ? sqlite3_errcode(copy) :
				      copy_steps(backup, gently);
	}
	(void)sqlite3_finalize(pin);
	return (rc);
}

static int
copy_pages(struct store *st, const char *partial, int gently,
    struct mr_error *err)
{
	sqlite3 *copy = NULL;
	int rc, summed = 0;

	rc = sqlite3_open_v2(partial, &copy,
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	/* Its first page, which says so, may be written late. */
	if (rc == SQLITE_OK &&
	    sqlite3_file_control(st->db, NULL, STORE_FCNTL_SUMS_ASK, &summed) ==
		SQLITE_OK &&
	    summed)
		rc = sqlite3_file_control(copy, NULL, STORE_FCNTL_SUMS_KEEP,
		    NULL);
	if (rc == SQLITE_OK)
		rc = copy_pinned(st, copy, gently);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(copy, sql_alone, NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		rc = backup_fail(partial, rc, copy, err);
	else
		rc = check_copy(copy, partial, err);
	(void)sqlite3_close(copy);
	return (rc);
}

static int
give_name(const char *partial, const char *path, struct mr_error *err)
{
	char *copy;
	int rc;

	if (store_make_durable(partial, O_RDWR, err) != 0)
		return (-1);
	if (link(partial, path) != 0)
		return (mr_error_set(err, MR_FATAL, "name the backup %s: %s",
		    path, strerror(errno)));
	if ((copy = strdup(path)) == NULL)
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	rc = store_make_durable(dirname(copy), O_RDONLY | O_DIRECTORY, err);
	free(copy);
	return (rc);
}

static int
back_up(struct store *st, const char *path, int gently, struct mr_error *err)
{
	size_t size = strlen(path) + sizeof(".partial");
	char *partial;
	int fd, rc = -1;

	if (st->begun)
		return (mr_error_set(err, MR_FATAL,
		    "back up to %s: inside a "
		    "transaction",
		    path));
	if (access(path, F_OK) == 0)
		return (mr_error_set(err, MR_REJECT, "back up to %s: it exists",
		    path));
	if ((partial = malloc(size)) == NULL)
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	(void)snprintf(partial, size, "%s.partial", path);
	if ((fd = unfinished_make(partial, 0660)) == -1) {
		mr_error_set(err, MR_FATAL, "make %.120s: %s%s", partial,
		    strerror(errno),
		    errno == EEXIST ? "; remove it if no other backup runs" :
				      "");
		goto done;
	}
	(void)close(fd);
	rc = copy_pages(st, partial, gently, err);
	if (rc == 0)
		rc = give_name(partial, path, err);
	(void)unlink(partial);
	unfinished_drop(1);
done:
	free(partial);
	return (rc);
}

int
store_backup(struct store *st, const char *path, struct mr_error *err)
{

	return (back_up(st, path, 1, err));
}

/* ---- before a migration ------------------------------------------------- */

void
store_moment(char text[STORE_MOMENT_SIZE])
{
	int64_t now_ms = clock_wall_ms();
	time_t now = (time_t)(now_ms / 1000);
	struct tm utc;
	size_t length;

	(void)gmtime_r(&now, &utc);
	length = strftime(text, STORE_MOMENT_SIZE, "%Y%m%dT%H%M%S", &utc);
	(void)snprintf(text + length, STORE_MOMENT_SIZE - length, ".%03dZ",
	    (int)(now_ms % 1000));
}

static int
is_partial(const char *name)
{
	size_t length = strlen(name);

	return (length > 8 && strcmp(name + length - 8, ".partial") == 0);
}

/*
 * Of the names of a folder, which sort by time, remove all copies but the
 * newest ${keep}, and what interrupted attempts left behind.
 */
static void
names_trim(int folder, struct dirent **entries, int count, const char *prefix,
    int64_t keep)
{
	size_t length = strlen(prefix);
	int64_t whole = 0;
	int i;

	for (i = 0; i < count; i++)
		whole += strncmp(entries[i]->d_name, prefix, length) == 0 &&
		    !is_partial(entries[i]->d_name);
	for (i = 0; i < count; i++) {
		if (strncmp(entries[i]->d_name, prefix, length) != 0)
			continue;
		if (is_partial(entries[i]->d_name) || whole-- > keep)
			(void)unlinkat(folder, entries[i]->d_name, 0);
	}
}

/* Of the copies of the file at ${path}; what can't be removed stays. */
static void
copies_trim(const char *path, int64_t keep)
{
	char prefix[NAME_MAX + 1], *copy = strdup(path), *slash;
	const char *name = path;
	struct dirent **entries;
	int i, count, folder;

	if (copy == NULL)
		return;
	if ((slash = strrchr(copy, '/')) != NULL) {
		name = path + (slash - copy) + 1;
		slash[slash == copy] = '\0';
	}
	(void)snprintf(prefix, sizeof(prefix), "%s" UPGRADE_MARK, name);
	folder = open(slash == NULL ? "." : copy,
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	count = scandir(slash == NULL ? "." : copy, &entries, NULL, alphasort);
	if (folder != -1 && count > 0)
		names_trim(folder, entries, count, prefix, keep);
	for (i = 0; i < count; i++)
		free(entries[i]);
	if (count >= 0)
		free(entries);
	if (folder != -1)
		(void)close(folder);
	free(copy);
}

int
store_backup_before_upgrade(struct store *st, int64_t keep,
    struct mr_error *err)
{
	size_t size = strlen(st->path) + sizeof(UPGRADE_MARK) +
	    STORE_MOMENT_SIZE + 32;
	char moment[STORE_MOMENT_SIZE];
	char *copy;
	int rc;

	if ((copy = malloc(size)) == NULL)
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	store_moment(moment);
	(void)snprintf(copy, size, "%s" UPGRADE_MARK "%s-v%lld", st->path,
	    moment, (long long)st->version);
	/* Old ones make room before, and never take the last one with them. */
	copies_trim(st->path, keep > 1 ? keep - 1 : 1);
	if ((rc = back_up(st, copy, 0, err)) == 0) {
		log_info("backed up before migrating", "path", st->path,
		    "backup", copy, "version", log_i64(st->version));
		copies_trim(st->path, keep);
	} else {
		mr_error_wrap(err, "before migrating");
	}
	free(copy);
	return (rc);
}
