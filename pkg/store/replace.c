/*
 * replace -- another file in the place of a service's.
 *
 * A database and its log are two files, and no call renames both at once.
 * A new database beside the old one's log would be damaged by it, an old one
 * without its log would have gone back in time.  So the new file, while it
 * waits under a name of its own, is also the mark that keeps the file from
 * being opened until both are done.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/internal.h"

#define PATIENCE_MS 5000
#define MAKING ".making"
#define WAITING ".restoring"

/* Files that belong to a database; the first is it. */
static const char *const parts[] = {"", "-wal", "-journal", "-shm"};
enum { PARTS = 4, PARTS_KEPT = 3 };

static int
name_of(char name[4096], const char *path, const char *suffix,
    struct mr_error *err)
{

	if (snprintf(name, 4096, "%s%s", path, suffix) >= 4096)
		return (
		    mr_error_set(err, MR_FATAL, "%.60s...: too long", path));
	return (0);
}

int
store_check_replaced(const char *path, struct mr_error *err)
{
	char name[4096];

	if (name_of(name, path, WAITING, err) != 0)
		return (-1);
	if (access(name, F_OK) != 0)
		return (0);
	return (mr_error_set(err, MR_FATAL,
	    "open %.100s: putting another file in its place was cut short: do "
	    "it again with millrace state restore",
	    path));
}

static int
fail(const char *what, const char *path, struct mr_error *err)
{

	return (mr_error_set(err,
	    errno == ENOSPC || errno == EDQUOT ? MR_RETRY : MR_FATAL,
	    "%s %s: %s", what, path, strerror(errno)));
}

static int
remove_if_there(const char *path, const char *suffix, struct mr_error *err)
{
	char name[4096];

	if (name_of(name, path, suffix, err) != 0)
		return (-1);
	if (unlink(name) != 0 && errno != ENOENT)
		return (fail("remove", name, err));
	return (0);
}

static int
sync_folder(const char *path, struct mr_error *err)
{
	char copy[4096];

	if (name_of(copy, path, "", err) != 0)
		return (-1);
	return (store_make_durable(dirname(copy), O_RDONLY | O_DIRECTORY, err));
}

/* What was begun and never came to be the mark is of no use. */
static int
clear(const char *path, struct mr_error *err)
{
	static const char *const left[] = {MAKING, MAKING "-wal", MAKING "-shm",
	    MAKING "-journal", MAKING ".writer", MAKING ".partial",
	    MAKING ".partial-wal", MAKING ".partial-shm",
	    MAKING ".partial-journal"};
	size_t i;

	for (i = 0; i < sizeof(left) / sizeof(left[0]); i++)
		if (remove_if_there(path, left[i], err) != 0)
			return (-1);
	return (0);
}

/*
 * Whoever puts a file back, root perhaps, its service has to open it: it is as
 * the one that it replaces.
 */
static int
give(const char *path, const char *making, struct mr_error *err)
{
	struct stat old;
	int fd, rc;

	if ((fd = open(making, O_RDWR | O_CLOEXEC)) == -1)
		return (fail("open", making, err));
	if ((rc = store_give(fd, path)) == 0 && stat(path, &old) == 0)
		rc = fchmod(fd, old.st_mode & 0777);
	if (rc != 0)
		fail("set the owner and mode of", making, err);
	(void)close(fd);
	return (rc);
}

/* All of it in one file, on disk. */
static int
make_whole(const char *path, const char *making, store_make *make, void *arg,
    struct mr_error *err)
{
	char log[4096];
	struct stat file;

	if (name_of(log, making, "-wal", err) != 0 ||
	    make(arg, making, err) != 0)
		return (-1);
	if (stat(log, &file) == 0 && file.st_size > 0)
		return (mr_error_set(err, MR_FATAL,
		    "%s wasn't closed: it has a log", making));
	if (give(path, making, err) != 0)
		return (-1);
	return (store_make_durable(making, O_RDWR, err));
}

/* It gets the name that is the mark, or nothing is left of it. */
static int
make_new(const char *path, const char *waiting, store_make *make, void *arg,
    struct mr_error *err)
{
	char making[4096];
	struct mr_error other;
	int rc;

	if (name_of(making, path, MAKING, err) != 0 || clear(path, err) != 0)
		return (-1);
	unfinished_add(making);
	rc = make_whole(path, making, make, arg, err);
	if (rc == 0 && rename(making, waiting) != 0)
		rc = fail("rename", making, err);
	/* The first error is the one to tell. */
	if (clear(path, rc == 0 ? err : &other) != 0)
		rc = -1;
	unfinished_drop(1);
	return (rc != 0 ? -1 : sync_folder(path, err));
}

/* The old file and its log get another name as well; 1 if there was one. */
static int
keep_old(const char *path, const char *kept, struct mr_error *err)
{
	char from[4096], to[PARTS_KEPT][4096];
	int i, rc = 0, found = 0, linked[PARTS_KEPT] = {0};

	for (i = 0; rc == 0 && i < PARTS_KEPT; i++) {
		if (name_of(from, path, parts[i], err) != 0 ||
		    name_of(to[i], kept, parts[i], err) != 0)
			rc = -1;
		else if (link(from, to[i]) == 0)
			found = linked[i] = 1;
		else if (errno != ENOENT)
			rc = fail("keep", from, err);
	}
	if (rc == 0 && (rc = sync_folder(path, err)) == 0)
		return (found);
	/* A file of two names would be refused. */
	for (i = 0; i < PARTS_KEPT; i++)
		if (linked[i])
			(void)unlink(to[i]);
	return (rc);
}

/*
 * The new one and the old one's other name: 1 if there was one.  Until then the
 * old one is as it was, and stays so without the mark; unless there was a mark
 * before: who was cut short may have taken its log.
 */
static int
prepare(const char *path, const char *waiting, const char *aside,
    store_make *make, void *arg, struct mr_error *err)
{
	int found = -1, marked = access(waiting, F_OK) == 0;

	if (!marked)
		unfinished_add(waiting);
	unfinished_add(aside);
	if (make_new(path, waiting, make, arg, err) == 0)
		found = keep_old(path, aside, err);
	if (found == -1 && !marked)
		(void)unlink(waiting);
	/* Both at once: the other name without the mark would be refused. */
	unfinished_drop(marked ? 1 : 2);
	return (found);
}

/* With nobody else about. */
static int
replace_alone(const char *path, store_make *make, void *arg, char *kept,
    size_t kept_size, struct mr_error *err)
{
	char moment[STORE_MOMENT_SIZE], aside[4096], waiting[4096];
	int i, found;

	store_moment(moment);
	if (snprintf(aside, sizeof(aside), "%s.replaced-%s", path, moment) >=
	    (int)sizeof(aside))
		return (
		    mr_error_set(err, MR_FATAL, "%.60s...: too long", path));
	if (name_of(waiting, path, WAITING, err) != 0 ||
	    (found = prepare(path, waiting, aside, make, arg, err)) == -1)
		return (-1);
	for (i = 1; i < PARTS; i++)
		if (remove_if_there(path, parts[i], err) != 0)
			return (-1);
	if (rename(waiting, path) != 0)
		return (fail("rename", waiting, err));
	snprintf(kept, kept_size, "%s", found ? aside : "");
	return (sync_folder(path, err));
}

int
store_replace(const char *path, store_make *make, void *arg, char *kept,
    size_t kept_size, struct mr_error *err)
{
	struct pen *pen = NULL;
	char *real;
	int rc = -1;

	if (store_check_place(path, err) != 0 ||
	    (real = store_real_path(path, err)) == NULL)
		return (-1);
	if ((pen = pen_open(real, PATIENCE_MS, err)) == NULL)
		goto done;
	pen_give(pen, real);
	if (!pen_alone(pen))
		(void)store_refuse_company(real, pen, err);
	else if (pen_take(pen, err) == 0)
		rc = replace_alone(real, make, arg, kept, kept_size, err);
done:
	pen_close(pen);
	free(real);
	return (rc);
}
