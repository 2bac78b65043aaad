/*
 * listen -- sockets by their address, "unix:/path" or "host:port".
 *
 * A unix socket is made under another name and renamed when it listens, so
 * whoever finds the name can connect, and a stale file is replaced in the
 * same step.  Two programs started on one path in the same millisecond could
 * both find nobody there; the later one then has the path.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "web/web_internal.h"

#define BACKLOG 1024
#define GONE_TRIES 15 /* a tenth of a second each */

static const char *
unix_path(const char *address)
{

	return (strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL);
}

static int
unix_address(const char *path, struct sockaddr_un *address,
    struct mr_error *err)
{

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (path[0] == '\0')
		return (mr_error_set(err, MR_REJECT, "unix: without a path"));
	if (strlen(path) >= sizeof(address->sun_path))
		return (mr_error_set(err, MR_REJECT,
		    "%s: a socket's path may have %zu bytes", path,
		    sizeof(address->sun_path) - 1));
	memcpy(address->sun_path, path, strlen(path) + 1);
	return (0);
}

/* Cut "host:port" or "[host]:port" in two. */
static int
split_port(const char *address, char *host, size_t host_size, const char **port,
    struct mr_error *err)
{
	const char *colon = strrchr(address, ':');
	size_t length;

	if (colon == NULL || colon == address || colon[1] == '\0')
		return (mr_error_set(err, MR_REJECT,
		    "%s: must be unix:PATH or HOST:PORT", address));
	length = (size_t)(colon - address);
	*port = colon + 1;
	if (address[0] == '[' && address[length - 1] == ']') {
		address++;
		length -= 2;
	}
	if (length >= host_size)
		return (mr_error_set(err, MR_REJECT,
		    "%s: the host's name is too long", address));
	memcpy(host, address, length);
	host[length] = '\0';
	return (0);
}

static struct addrinfo *
resolve(const char *address, int flags, struct mr_error *err)
{
	struct addrinfo hints, *list = NULL;
	const char *port = NULL;
	char host[256];
	int e;

	memset(&hints, 0, sizeof(hints));
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = flags;
	if (split_port(address, host, sizeof(host), &port, err) == -1)
		return (NULL);
	if ((e = getaddrinfo(host, port, &hints, &list)) != 0) {
		mr_error_set(err, e == EAI_AGAIN ? MR_RETRY : MR_REJECT,
		    "%s: %s", address, gai_strerror(e));
		return (NULL);
	}
	return (list);
}

int
web_listens_at(const struct web_conf *conf, const char **path, uint16_t *port)
{
	const char *text;
	char *end;
	long number;

	if (conf->listen == NULL)
		return (0);
	if ((*path = unix_path(conf->listen)) != NULL)
		return (1);
	if ((text = strrchr(conf->listen, ':')) == NULL)
		return (0);
	number = strtol(text + 1, &end, 10);
	if (end == text + 1 || *end != '\0' || number < 1 ||
	    number > UINT16_MAX)
		return (0);
	*port = (uint16_t)number;
	return (2);
}

/* ---- listening ---------------------------------------------------------- */

/* 0 if the path is free or holds a socket that nobody listens on; 1 if
 * somebody does; -1 on error.  *err says why. */
static int
check_path(const char *path, const struct sockaddr_un *address,
    struct mr_error *err)
{
	struct stat sb;
	int fd, e;

	if (lstat(path, &sb) == -1) {
		if (errno == ENOENT)
			return (0);
		return (mr_error_set(err, MR_FATAL, "%s: %s", path,
		    strerror(errno)));
	}
	if (!S_ISSOCK(sb.st_mode))
		return (mr_error_set(err, MR_REJECT,
		    "%s is there and is not a socket", path));
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
		 0)) == -1)
		return (
		    mr_error_set(err, MR_FATAL, "socket: %s", strerror(errno)));
	/* EAGAIN is a full backlog: somebody lives there. */
	e = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ==
		-1 ?
	    errno :
	    0;
	close(fd);
	if (e == ECONNREFUSED || e == ENOENT)
		return (0);
	if (e == 0 || e == EAGAIN || e == EINPROGRESS) {
		mr_error_set(err, MR_REJECT, "another program listens on %s",
		    path);
		return (1);
	}
	return (mr_error_set(err, MR_FATAL, "%s: %s", path, strerror(e)));
}

/* A program that was killed may take a moment to be gone: wait for it. */
static int
wait_path(const char *path, const struct sockaddr_un *address,
    struct mr_error *err)
{
	const struct timespec pause = {.tv_nsec = 100000000};
	int tries, taken;

	for (tries = 0; (taken = check_path(path, address, err)) == 1 &&
	     tries < GONE_TRIES;
	     tries++)
		(void)nanosleep(&pause, NULL);
	return (taken == 0 ? 0 : -1);
}

static int
listen_unix(const char *path, dev_t *dev, ino_t *ino, struct mr_error *err)
{
	struct sockaddr_un address, made;
	char made_path[sizeof(address.sun_path) + 32];
	struct stat sb;
	int fd;

	if (unix_address(path, &address, err) == -1 ||
	    wait_path(path, &address, err) == -1)
		return (-1);
	snprintf(made_path, sizeof(made_path), "%s.%lx", path, (long)getpid());
	if (unix_address(made_path, &made, err) == -1)
		return (-1);
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) == -1)
		return (
		    mr_error_set(err, MR_FATAL, "socket: %s", strerror(errno)));
	(void)unlink(made_path);
	/* A socket's mode, less the umask, becomes its file's. */
	if (fchmod(fd, 0660) == -1 ||
	    bind(fd, (const struct sockaddr *)&made, sizeof(made)) == -1)
		goto fail;
	if (listen(fd, BACKLOG) == -1 || lstat(made_path, &sb) == -1 ||
	    rename(made_path, path) == -1)
		goto fail_made;
	*dev = sb.st_dev;
	*ino = sb.st_ino;
	return (fd);

fail_made:
	mr_error_set(err, MR_FATAL, "%s: %s", path, strerror(errno));
	(void)unlink(made_path);
	close(fd);
	return (-1);
fail:
	mr_error_set(err, MR_FATAL, "%s: %s", made_path, strerror(errno));
	close(fd);
	return (-1);
}

static int
listen_inet(const char *address, struct mr_error *err)
{
	struct addrinfo *list, *ai;
	int fd = -1, one = 1;

	if ((list = resolve(address, AI_PASSIVE, err)) == NULL)
		return (-1);
	for (ai = list; ai != NULL && fd == -1; ai = ai->ai_next) {
		fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd == -1 ||
		    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one,
			sizeof(one)) == -1 ||
		    bind(fd, ai->ai_addr, ai->ai_addrlen) == -1 ||
		    listen(fd, BACKLOG) == -1) {
			mr_error_set(err,
			    errno == EADDRINUSE ? MR_REJECT : MR_FATAL,
			    "%s: %s", address, strerror(errno));
			if (fd != -1)
				close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	return (fd);
}

int
web_listen(const char *address, dev_t *dev, ino_t *ino, struct mr_error *err)
{
	const char *path = unix_path(address);

	*dev = 0;
	*ino = 0;
	return (path != NULL ? listen_unix(path, dev, ino, err) :
			       listen_inet(address, err));
}

void
web_unlisten(const char *address, dev_t dev, ino_t ino)
{
	const char *path = unix_path(address);
	struct stat sb;

	if (path != NULL && lstat(path, &sb) == 0 && sb.st_dev == dev &&
	    sb.st_ino == ino)
		(void)unlink(path);
}

/* ---- connecting --------------------------------------------------------- */

static int
connect_to(const struct sockaddr *to, socklen_t to_size, int64_t timeout_ms)
{
	struct timeval tv;
	int fd, e;

	tv.tv_sec = timeout_ms / 1000;
	tv.tv_usec = timeout_ms % 1000 * 1000;
	if ((fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0)) == -1)
		return (-1);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == 0 &&
	    connect(fd, to, to_size) == 0)
		return (fd);
	e = errno;
	close(fd);
	errno = e;
	return (-1);
}

int
web_connect(const char *address, int64_t timeout_ms, struct mr_error *err)
{
	const char *path = unix_path(address);
	struct addrinfo *list, *ai;
	struct sockaddr_un un;
	int fd = -1;

	if (path != NULL) {
		if (unix_address(path, &un, err) == -1)
			return (-1);
		fd = connect_to((const struct sockaddr *)&un, sizeof(un),
		    timeout_ms);
	} else {
		if ((list = resolve(address, 0, err)) == NULL)
			return (-1);
		for (ai = list; ai != NULL && fd == -1; ai = ai->ai_next)
			fd = connect_to(ai->ai_addr, ai->ai_addrlen,
			    timeout_ms);
		freeaddrinfo(list);
	}
	if (fd == -1)
		mr_error_set(err, MR_RETRY, "%s: %s", address, strerror(errno));
	return (fd);
}
