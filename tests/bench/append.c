/*
 * append -- what the disk takes: write at the end, fdatasync, again.
 *
 *	append PATH COUNT BYTES
 *
 * The least that a durable log can do with ${COUNT} batches of ${BYTES}
 * each.  The file is made new, and removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

int
main(int argc, char **argv)
{
	int64_t count, i, began_us, took_us;
	size_t size;
	char *bytes;
	int fd;

	if (argc != 4 || (count = strtoll(argv[2], NULL, 10)) < 1 ||
	    (size = (size_t)strtoull(argv[3], NULL, 10)) < 1) {
		fprintf(stderr, "usage: append PATH COUNT BYTES\n");
		return (2);
	}
	if ((bytes = malloc(size)) == NULL ||
	    (fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600)) == -1)
		goto fail;
	memset(bytes, 'r', size);
	began_us = clock_mono_us();
	for (i = 0; i < count; i++)
		if (write(fd, bytes, size) != (ssize_t)size ||
		    fdatasync(fd) == -1)
			goto fail;
	took_us = clock_mono_us() - began_us;
	printf("rate=%.0f seconds=%.3f\n",
	    (double)count * 1e6 / (double)took_us, (double)took_us / 1e6);
	free(bytes);
	close(fd);
	return (unlink(argv[1]) == 0 ? 0 : 1);
fail:
	fprintf(stderr, "append: %s: %s\n", argv[1], strerror(errno));
	return (1);
}
