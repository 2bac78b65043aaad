#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "long_log.h"

/* Longer than any line of ours, by several times. */
#define TAIL_BYTES 16384

static int
failed(const char *what, const char *path, struct mr_error *err)
{

	return (mr_error_set(err, MR_RETRY, "%s %s: %s", what, path,
	    strerror(errno)));
}

/* The seq of a whole line of ${source}, without its newline; else 0. */
static int64_t
seq_of(const char *line, size_t length, const char *source)
{
	char start[128], number[24];
	size_t n, digits;

	n = (size_t)snprintf(start, sizeof(start),
	    "{\"source\":\"%.64s\",\"seq\":", source);
	if (length <= n || memcmp(line, start, n) != 0 ||
	    line[length - 1] != '}')
		return (0);
	digits = length - n < sizeof(number) ? length - n : sizeof(number) - 1;
	snprintf(number, sizeof(number), "%.*s", (int)digits, line + n);
	if (number[0] < '0' || number[0] > '9')
		return (0);
	return (strtoll(number, NULL, 10));
}

/* The last seq of ${source} among the whole lines of ${text}, from its end. */
static int64_t
last_seq(const char *text, size_t length, const char *source)
{
	const char *line;
	int64_t seq;

	while (length > 0) {
		length--; /* the newline */
		line = memrchr(text, '\n', length);
		line = line == NULL ? text : line + 1;
		seq = seq_of(line, (size_t)(text + length - line), source);
		if (seq > 0)
			return (seq);
		length = (size_t)(line - text);
	}
	return (0);
}

/*
 * What the end of a file says: *whole is where its last whole line ends, or
 * its length if that can't be seen; *seq the last one of ${source} there.
 */
static int
read_end(int fd, const char *source, int64_t *whole, int64_t *seq)
{
	char text[TAIL_BYTES];
	const char *newline;
	size_t have = 0;
	off_t length, start;
	ssize_t n;

	*seq = 0;
	if ((length = lseek(fd, 0, SEEK_END)) == -1)
		return (-1);
	start = length > TAIL_BYTES ? length - TAIL_BYTES : 0;
	while (have < (size_t)(length - start)) {
		n = pread(fd, text + have, (size_t)(length - start) - have,
		    start + (off_t)have);
		if (n == -1)
			return (-1);
		if (n == 0)
			break;
		have += (size_t)n;
	}
	newline = memrchr(text, '\n', have);
	*whole = start == 0 ? 0 : length;
	if (newline == NULL)
		return (0);
	have = (size_t)(newline + 1 - text);
	*whole = start + (off_t)have;
	*seq = last_seq(text, have, source);
	return (0);
}

/* The last seq that a file beside ours has, or ${last} if that is later. */
static int64_t
read_rotated(const char *folder, const char *name, const char *source,
    int64_t last)
{
	char path[PATH_MAX];
	int64_t whole, seq;
	int fd;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >=
	    sizeof(path))
		return (last);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) ==
	    -1)
		return (last);
	if (read_end(fd, source, &whole, &seq) == 0 && seq > last)
		last = seq;
	close(fd);
	return (last);
}

/* Look at all that begin with our name; 0 or -1. */
static int
look_around(const char *path, const char *source, int64_t *last,
    struct mr_error *err)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/'), *name;
	struct dirent *entry;
	DIR *dir;

	name = slash == NULL ? path : slash + 1;
	snprintf(folder, sizeof(folder), "%.*s",
	    slash == NULL ? 1 : (int)(slash - path + 1),
	    slash == NULL ? "." : path);
	if ((dir = opendir(folder)) == NULL)
		return (failed("could not list", folder, err));
	while ((entry = readdir(dir)) != NULL) {
		if (strncmp(entry->d_name, name, strlen(name)) == 0 &&
		    strcmp(entry->d_name, name) != 0)
			*last = read_rotated(folder, entry->d_name, source,
			    *last);
	}
	/* The name of a new file is to be on disk, too. */
	(void)fsync(dirfd(dir));
	closedir(dir);
	return (0);
}

int
long_log_open(struct long_log *log, const char *path, const char *source,
    int64_t remembered, int64_t *last, struct mr_error *err)
{
	int64_t seq;

	log->path = path;
	log->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	if (log->fd == -1)
		return (failed("could not open", path, err));
	if (read_end(log->fd, source, &log->length, &seq) == -1) {
		failed("could not read", path, err);
		goto fail;
	}
	*last = seq > remembered ? seq : remembered;
	if (seq < remembered || seq == 0) {
		if (look_around(path, source, last, err) == -1)
			goto fail;
	}
	if (ftruncate(log->fd, log->length) == -1) {
		failed("could not cut a broken line off", path, err);
		goto fail;
	}
	return (0);

fail:
	close(log->fd);
	return (-1);
}

int
long_log_append(struct long_log *log, const char *lines, size_t length,
    struct mr_error *err)
{
	size_t done = 0;
	ssize_t n;

	while (done < length) {
		n = write(log->fd, lines + done, length - done);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			goto fail;
		done += (size_t)n;
	}
	if (fdatasync(log->fd) == -1)
		goto fail;
	log->length += (int64_t)length;
	return (0);

fail:
	failed("could not write", log->path, err);
	(void)!ftruncate(log->fd, log->length);
	return (-1);
}

void
long_log_close(struct long_log *log)
{

	close(log->fd);
}
