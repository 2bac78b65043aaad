/* folder -- which files of a folder are services'. */
#include <sys/stat.h>

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/internal.h"

/* SQLite's document "Database File Format", section 1.3. */
#define HEADER_SIZE 100
#define APPLICATION_AT 68
static const char magic[16] = "SQLite format 3";

struct list {
	const char *folder;
	struct buffer *foreign;
	store_each *each;
	void *arg;
};

static int
is_database(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return (length > 3 && strcmp(entry->d_name + length - 3, ".db") == 0);
}

int64_t
store_application(const char *path)
{
	char header[HEADER_SIZE];
	uint32_t application;
	ssize_t n;
	int fd;

	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1)
		return (-1);
	n = pread(fd, header, sizeof(header), 0);
	(void)close(fd);
	if (n == -1)
		return (-1);
	if (n < HEADER_SIZE || memcmp(header, magic, sizeof(magic)) != 0)
		return (0);
	memcpy(&application, header + APPLICATION_AT, sizeof(application));
	return (be32toh(application));
}

/* 1 if the header says so, 0 if not; -1 if it can't be read. */
static int
says_ours(const char *path)
{
	int64_t application = store_application(path);

	return (application == -1 ? -1 : store_is_ours(application));
}

/* A service has made its lock before its file, and both stay. */
static int
has_lock(const char *path)
{
	struct mr_error err;
	char name[4096], *real;
	int n;

	if ((real = store_real_path(path, &err)) == NULL)
		return (1);
	n = snprintf(name, sizeof(name), "%s.writer", real);
	free(real);
	return (n >= (int)sizeof(name) || access(name, F_OK) == 0);
}

static int
take(const struct list *list, const char *name, struct mr_error *err)
{
	char path[4096];
	struct stat file;

	if (snprintf(path, sizeof(path), "%s/%s", list->folder, name) >=
	    (int)sizeof(path))
		return (mr_error_set(err, MR_FATAL, "%.60s...: too long",
		    list->folder));
	/* A link that leads nowhere is for who opens it to tell. */
	if (stat(path, &file) == 0 && !S_ISREG(file.st_mode))
		return (0);
	if (says_ours(path) == 0 && !has_lock(path)) {
		buffer_addf(list->foreign, "%s%s",
		    list->foreign->length > 0 ? ", " : "", path);
		return (0);
	}
	return (list->each(list->arg, path, err));
}

int
store_list(const char *folder, struct buffer *foreign, store_each *each,
    void *arg, struct mr_error *err)
{
	const struct list list = {folder, foreign, each, arg};
	struct dirent **entries;
	int i, count, status = 0;

	if ((count = scandir(folder, &entries, is_database, alphasort)) == -1)
		return (mr_error_set(err, MR_FATAL, "look into %s: %s", folder,
		    strerror(errno)));
	for (i = 0; i < count; i++) {
		if (status == 0)
			status = take(&list, entries[i]->d_name, err);
		free(entries[i]);
	}
	free(entries);
	return (status);
}
