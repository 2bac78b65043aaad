#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "segment/internal.h"

void
file_name(char name[NAME_SIZE], int64_t base, const char *suffix)
{

	snprintf(name, NAME_SIZE, "%020" PRId64 "%s", base, suffix);
}

int
read_whole(int fd, void *bytes, size_t size, int64_t position)
{
	uint8_t *p = bytes;
	ssize_t n;

	while (size > 0) {
		n = pread(fd, p, size, (off_t)position);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n == 0)
				errno = EIO;
			return (-1);
		}
		p += n;
		size -= (size_t)n;
		position += n;
	}
	return (0);
}

int
write_whole(int fd, const void *bytes, size_t size, int64_t position)
{
	const uint8_t *p = bytes;
	ssize_t n;

	while (size > 0) {
		n = pwrite(fd, p, size, (off_t)position);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n == 0)
				errno = ENOSPC;
			return (-1);
		}
		p += n;
		size -= (size_t)n;
		position += n;
	}
	return (0);
}

/* A write of nothing tells of flushes that ext4 gave up (store/vfs.c). */
int
flush_data(int fd)
{

	return (fdatasync(fd) == -1 || pwrite(fd, "", 0, 0) == -1 ? -1 : 0);
}

int
write_file(int folder_fd, const char *name, const void *bytes, size_t size)
{
	char fresh[NAME_SIZE];
	int fd, saved;

	snprintf(fresh, sizeof(fresh), "%s.new", name);
	fd = openat(folder_fd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
	    0640);
	if (fd == -1)
		return (-1);
	if (write_whole(fd, bytes, size, 0) == -1 || fsync(fd) == -1) {
		saved = errno;
		close(fd);
		unlinkat(folder_fd, fresh, 0);
		errno = saved;
		return (-1);
	}
	close(fd);
	if (renameat(folder_fd, fresh, folder_fd, name) == -1)
		return (-1);
	return (fsync(folder_fd));
}

int
io_error(struct mr_error *err, const char *what, const char *path,
    const char *name)
{
	int saved = errno;
	int full = saved == ENOSPC || saved == EDQUOT || saved == EFBIG;

	mr_error_set(err, MR_RETRY, "can't %s %s/%s: %s", what, path, name,
	    strerror(saved));
	return (full ? PLOG_NO_SPACE : PLOG_IO);
}
