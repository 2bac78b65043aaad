#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/internal.h"

static const char sql_check[] = "PRAGMA integrity_check(1)";

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

static int
make_durable(const char *path, int flags, struct mr_error *err)
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
	int rc;

	if ((rc = sqlite3_prepare_v2(copy, sql_check, -1, &stmt, NULL)) !=
		SQLITE_OK ||
	    (rc = sqlite3_step(stmt)) != SQLITE_ROW)
		rc = backup_fail(path, rc, copy, err);
	else if (strcmp((const char *)sqlite3_column_text(stmt, 0), "ok") != 0)
		rc = mr_error_set(err, MR_FATAL,
		    "back up to %s: the copy is "
		    "damaged, so is the file: %.60s",
		    path, (const char *)sqlite3_column_text(stmt, 0));
	else
		rc = 0;
	(void)sqlite3_finalize(stmt);
	return (rc);
}

/* All pages in one step: one snapshot, and writers aren't kept waiting. */
static int
copy_pages(struct store *st, const char *partial, struct mr_error *err)
{
	sqlite3 *copy = NULL;
	sqlite3_backup *backup;
	int rc;

	rc = sqlite3_open_v2(partial, &copy,
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc == SQLITE_OK) {
		backup = sqlite3_backup_init(copy, "main", st->db, "main");
		if (backup == NULL) {
			rc = sqlite3_errcode(copy);
		} else {
			(void)sqlite3_backup_step(backup, -1);
			rc = sqlite3_backup_finish(backup);
		}
	}
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

	if (make_durable(partial, O_RDWR, err) != 0)
		return (-1);
	if (link(partial, path) != 0)
		return (mr_error_set(err, MR_FATAL, "name the backup %s: %s",
		    path, strerror(errno)));
	if ((copy = strdup(path)) == NULL)
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	rc = make_durable(dirname(copy), O_RDONLY | O_DIRECTORY, err);
	free(copy);
	return (rc);
}

int
store_backup(struct store *st, const char *path, struct mr_error *err)
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
	fd = open(partial, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0660);
	if (fd == -1) {
		mr_error_set(err, MR_FATAL, "make %s: %s%s", partial,
		    strerror(errno),
		    errno == EEXIST ? "; remove it if no other backup runs" :
				      "");
		goto done;
	}
	(void)close(fd);
	rc = copy_pages(st, partial, err);
	if (rc == 0)
		rc = give_name(partial, path, err);
	(void)unlink(partial);
done:
	free(partial);
	return (rc);
}
