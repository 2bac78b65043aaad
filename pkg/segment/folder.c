#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "segment/internal.h"

#define SUFFIX ".deleted"

/* The folder that a path is in, synced: 0 or -1 with errno. */
static int
sync_parent(const char *path)
{
	char parent[PATH_MAX];
	char *slash;
	int fd, rc;

	snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	if (slash == NULL)
		snprintf(parent, sizeof(parent), ".");
	else
		slash[slash == parent] = '\0';
	if ((fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		return (-1);
	rc = fsync(fd);
	close(fd);
	return (rc);
}

int
plog_folder_make(const char *path, struct mr_error *err)
{

	if (mkdir(path, 0750) == -1) {
		if (errno == EEXIST)
			return (0);
		return (mr_error_set(err, MR_RETRY,
		    "can't make the folder %s: %s", path, strerror(errno)));
	}
	if (sync_parent(path) == -1)
		return (mr_error_set(err, MR_RETRY,
		    "can't flush the folder that %s is in: %s", path,
		    strerror(errno)));
	return (0);
}

/* A partition's folder: 1 if no log in it has a byte, 0, or -1 with errno. */
static int
is_without_records(int parent_fd, const char *name)
{
	struct dirent *entry;
	struct stat st;
	size_t length;
	int fd, empty = 1;
	DIR *dir;

	fd = openat(parent_fd, name,
	    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd == -1)
		return (errno == ENOTDIR ? 1 : -1);
	if ((dir = fdopendir(fd)) == NULL) {
		close(fd);
		return (-1);
	}
	while (empty == 1 && (errno = 0, entry = readdir(dir)) != NULL) {
		length = strlen(entry->d_name);
		if (length <= 4 ||
		    strcmp(entry->d_name + length - 4, ".log") != 0)
			continue;
		if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == -1)
			empty = -1;
		else
			empty = st.st_size == 0;
	}
	if (empty == 1 && errno != 0)
		empty = -1;
	closedir(dir);
	return (empty);
}

int
plog_folder_is_empty(const char *path, struct mr_error *err)
{
	struct dirent *entry;
	int empty = 1;
	DIR *dir;

	if ((dir = opendir(path)) != NULL) {
		while (empty == 1 && (errno = 0, entry = readdir(dir)) != NULL)
			if (entry->d_name[0] != '.')
				empty = is_without_records(dirfd(dir),
				    entry->d_name);
		if (empty == 1 && errno != 0)
			empty = -1;
	}
	if (dir == NULL || empty == -1)
		mr_error_set(err, MR_RETRY, "can't look into %s: %s", path,
		    strerror(errno));
	if (dir != NULL)
		closedir(dir);
	return (dir == NULL ? -1 : empty);
}

int
plog_folder_retire(const char *path, struct mr_error *err)
{
	char away[PATH_MAX];

	if (snprintf(away, sizeof(away), "%s" SUFFIX, path) >=
	    (int)sizeof(away))
		return (mr_error_set(err, MR_REJECT,
		    "the path %.100s... is too long", path));
	if ((rename(path, away) == -1 && errno != ENOENT) ||
	    sync_parent(path) == -1)
		return (mr_error_set(err, MR_RETRY, "can't delete %s: %s", path,
		    strerror(errno)));
	return (0);
}

/* A folder and all in it, two levels deep at most. */
static int
delete_folder(int parent_fd, const char *name, int levels)
{
	struct dirent *entry;
	DIR *dir;
	int fd, rc = 0;

	fd = openat(parent_fd, name,
	    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd == -1)
		return (-1);
	if ((dir = fdopendir(fd)) == NULL) {
		close(fd);
		return (-1);
	}
	while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 ||
		    strcmp(entry->d_name, "..") == 0)
			continue;
		rc = unlinkat(fd, entry->d_name, 0);
		if (rc == -1 && (errno == EISDIR || errno == EPERM) &&
		    levels > 0)
			rc = delete_folder(fd, entry->d_name, levels - 1);
	}
	if (rc == 0 && errno != 0)
		rc = -1;
	closedir(dir);
	return (rc == 0 ? unlinkat(parent_fd, name, AT_REMOVEDIR) : -1);
}

int
plog_folder_purge(const char *parent, struct mr_error *err)
{
	struct dirent *entry;
	DIR *dir;
	size_t length;
	int rc = 0;

	if ((dir = opendir(parent)) == NULL)
		return (errno == ENOENT ?
			0 :
			mr_error_set(err, MR_RETRY, "can't list %s: %s", parent,
			    strerror(errno)));
	while ((entry = readdir(dir)) != NULL) {
		length = strlen(entry->d_name);
		if (length <= strlen(SUFFIX) ||
		    strcmp(entry->d_name + length - strlen(SUFFIX), SUFFIX) !=
			0)
			continue;
		if (delete_folder(dirfd(dir), entry->d_name, 2) == -1)
			rc = mr_error_set(err, MR_RETRY,
			    "can't delete %s/%s: %s", parent, entry->d_name,
			    strerror(errno));
	}
	closedir(dir);
	return (rc);
}
