/*
 * listen -- the sockets that clients come to.
 */
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/internal.h"

/* "host:port" or "[host]:port" in two. */
static int
split(const char *address, char *host, size_t host_size, const char **port,
    struct mr_error *err)
{
	const char *colon = strrchr(address, ':');
	size_t length;

	if (colon == NULL || colon == address || colon[1] == '\0')
		return (mr_error_set(err, MR_REJECT, "%s: must be HOST:PORT",
		    address));
	length = (size_t)(colon - address);
	*port = colon + 1;
	if (address[0] == '[' && length > 2 && address[length - 1] == ']') {
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

static int
port_of(int fd)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);

	memset(&address, 0, sizeof(address));
	if (getsockname(fd, (struct sockaddr *)&address, &size) == -1)
		return (0);
	if (address.ss_family == AF_INET6)
		return (ntohs(((struct sockaddr_in6 *)&address)->sin6_port));
	return (ntohs(((struct sockaddr_in *)&address)->sin_port));
}

/* 0; 1 if this machine has no such family; -1 with errno. */
static int
open_one(struct broker *b, const struct addrinfo *info)
{
	struct listener *l = &b->listeners[b->listener_count];
	int fd, on = 1, e;

	fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    0);
	if (fd == -1)
		return (errno == EAFNOSUPPORT ? 1 : -1);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (info->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on,
		    sizeof(on));
	if (bind(fd, info->ai_addr, info->ai_addrlen) == -1 ||
	    listen(fd, SOMAXCONN) == -1) {
		e = errno;
		close(fd);
		errno = e;
		return (e == EADDRNOTAVAIL ? 1 : -1);
	}
	l->fd = fd;
	l->port = port_of(fd);
	b->listener_count++;
	return (0);
}

static int
open_address(struct broker *b, const char *address, struct mr_error *err)
{
	struct addrinfo hints, *list = NULL, *info;
	const char *port = NULL;
	char host[256];
	int e, rc, opened = 0;

	memset(&hints, 0, sizeof(hints));
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_PASSIVE;
	if (split(address, host, sizeof(host), &port, err) == -1)
		return (-1);
	if ((e = getaddrinfo(host, port, &hints, &list)) != 0)
		return (mr_error_set(err, MR_REJECT, "--listen %s: %s", address,
		    gai_strerror(e)));
	for (info = list; info != NULL; info = info->ai_next) {
		if (b->listener_count ==
		    sizeof(b->listeners) / sizeof(b->listeners[0]))
			break;
		if ((rc = open_one(b, info)) == -1) {
			mr_error_set(err, MR_REJECT, "--listen %s: %s", address,
			    strerror(errno));
			freeaddrinfo(list);
			return (-1);
		}
		opened += rc == 0;
	}
	freeaddrinfo(list);
	return (opened);
}

int
listeners_sandbox(const struct broker_conf *conf, struct sandbox *sb,
    struct mr_error *err)
{
	const char *port = "";
	char host[256];
	int i;

	for (i = 0; i < conf->listen.count; i++) {
		if (split(conf->listen.items[i], host, sizeof(host), &port,
			err) == -1)
			return (-1);
		/* By number: getaddrinfo says what is wrong with others. */
		sandbox_listen(sb, (uint16_t)strtoul(port, NULL, 10));
	}
	return (0);
}

int
listeners_open(struct broker *b, struct mr_error *err)
{
	int i;

	for (i = 0; i < b->conf.listen.count; i++)
		if (open_address(b, b->conf.listen.items[i], err) == -1)
			return (-1);
	if (b->listener_count == 0)
		return (mr_error_set(err, MR_REJECT,
		    "--listen: this machine has none of these addresses"));
	return (0);
}

void
listeners_accept(struct broker *b, int on)
{
	struct epoll_event event = {.events = EPOLLIN};
	size_t i;

	if (b->accepting == on)
		return;
	b->accepting = on;
	for (i = 0; i < b->listener_count; i++) {
		event.data.ptr = &b->listeners[i];
		(void)epoll_ctl(b->epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
		    b->listeners[i].fd, &event);
	}
}

void
listeners_close(struct broker *b)
{
	size_t i;

	for (i = 0; i < b->listener_count; i++)
		close(b->listeners[i].fd);
	b->listener_count = 0;
}

int
broker_port(const struct broker *b, size_t i)
{

	return (i < b->listener_count ? b->listeners[i].port : 0);
}
