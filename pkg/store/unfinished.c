/*
 * unfinished -- the files that are being made, for who gives up in between.
 *
 * A stack, since a copy is made within the making of what it is for.  The name
 * is there before the count says so, and the count is lower before a name's
 * memory is gone: a signal may come at any moment.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "store/internal.h"

#define MOST 8
#define SUFFIX_SIZE 16

static const char *volatile paths[MOST];
static volatile sig_atomic_t count;

void
unfinished_add(const char *path)
{

	assert(count < MOST);
	paths[count] = path;
	count = count + 1;
}

void
unfinished_drop(int names)
{

	assert(count >= names);
	count = count - names;
}

int
unfinished_make(const char *path, mode_t mode)
{
	sigset_t all, before;
	int fd, error;

	/* Nobody gives up between: what another one made isn't ours, and what
	 * we made is. */
	sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &before);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	error = errno;
	if (fd != -1)
		unfinished_add(path);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return (fd);
}

/* With what SQLite and the pen have beside it. */
static void
remove_all(const char *path)
{
	static const char suffixes[][SUFFIX_SIZE] = {"", "-wal", "-shm",
	    "-journal", ".writer"};
	char name[4096 + SUFFIX_SIZE];
	size_t i, size = strlen(path) + 1;

	if (size > 4096)
		return; /* it couldn't be made either */
	memcpy(name, path, size);
	for (i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		memcpy(name + size - 1, suffixes[i], SUFFIX_SIZE);
		(void)unlink(name);
	}
}

void
store_abandon(void)
{
	int i;

	for (i = count; i > 0; i--)
		remove_all(paths[i - 1]);
}
