#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/config.h"
#include "http/http.h"

#define ANSWER_MOST 8192 /* bytes of an answer's head, interim ones included */

/* ---- addresses --------------------------------------------------------------- */

static int
is_visible(const char *text, size_t length)
{
	size_t i;

	for (i = 0; i < length; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return (0);
	return (1);
}

/* Where the host ends; NULL if it is none. */
static const char *
take_host(const char *at, struct http_url *url)
{
	const char *end;
	size_t length;

	if (*at == '[') {
		at++;
		end = strchr(at, ']');
	} else {
		end = at + strcspn(at, ":/?");
	}
	if (end == NULL || end == at)
		return (NULL);
	length = (size_t)(end - at);
	if (length >= sizeof(url->host) || !is_visible(at, length) ||
	    memchr(at, '@', length) != NULL)
		return (NULL);
	memcpy(url->host, at, length);
	url->host[length] = '\0';
	return (*end == ']' ? end + 1 : end);
}

static const char *
take_port(const char *at, struct http_url *url)
{
	size_t length;
	long port;

	snprintf(url->port, sizeof(url->port), "80");
	if (*at != ':')
		return (at);
	at++;
	length = strspn(at, "0123456789");
	port = strtol(at, NULL, 10);
	if (length < 1 || length >= sizeof(url->port) || port < 1 ||
	    port > 65535)
		return (NULL);
	memcpy(url->port, at, length);
	url->port[length] = '\0';
	return (at + length);
}

int
http_url_parse(const char *text, struct http_url *url, struct mr_error *err)
{
	const char *at = text;
	int n;

	if (strncmp(text, "http://", 7) != 0)
		return (mr_error_set(err, MR_REJECT,
		    "must begin with http:// (there is no TLS), is \"%.80s\"",
		    text));
	if ((at = take_host(at + 7, url)) == NULL ||
	    (at = take_port(at, url)) == NULL ||
	    (*at != '\0' && *at != '/' && *at != '?') ||
	    strchr(at, '#') != NULL || !is_visible(at, strlen(at)))
		return (mr_error_set(err, MR_REJECT,
		    "must be http://host:port/path, is \"%.80s\"", text));
	n = snprintf(url->path, sizeof(url->path), "%s%s",
	    *at == '/' ? "" : "/", at);
	if (n < 0 || (size_t)n >= sizeof(url->path))
		return (mr_error_set(err, MR_REJECT,
		    "must have a path of at most %d bytes",
		    HTTP_PATH_SIZE - 1));
	return (0);
}

/* ---- a request ---------------------------------------------------------------- */

struct exchange {
	int fd;
	int stop_fd;
	int64_t until_us;
	const struct http_url *url;
};

static int
failed(const struct exchange *x, const char *what, const char *why,
    struct mr_error *err)
{

	return (mr_error_set(err, MR_RETRY, "%s %s port %s: %s", what,
	    x->url->host, x->url->port, why));
}

/* Until the socket is ready for ${events}: 0 or -1. */
static int
wait_for(const struct exchange *x, short events, const char *what,
    struct mr_error *err)
{
	struct pollfd fds[] = {{.fd = x->fd, .events = events},
	    {.fd = x->stop_fd, .events = POLLIN}};
	int64_t left_ms;

	for (;;) {
		left_ms = (x->until_us - clock_mono_us() + 999) / 1000;
		if (left_ms <= 0)
			return (failed(x, what, "no answer in time", err));
		if (poll(fds, 2, (int)left_ms) == -1 && errno != EINTR)
			return (failed(x, what, strerror(errno), err));
		if (fds[1].revents != 0)
			return (failed(x, what, "given up to stop", err));
		if (fds[0].revents != 0)
			return (0);
	}
}

static int
connect_to(struct exchange *x, const struct addrinfo *address,
    struct mr_error *err)
{
	int error = 0;
	socklen_t size = sizeof(error);

	x->fd = socket(address->ai_family,
	    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (x->fd == -1)
		return (failed(x, "could not reach", strerror(errno), err));
	if (connect(x->fd, address->ai_addr, address->ai_addrlen) == 0)
		return (0);
	if (errno == EINPROGRESS) {
		if (wait_for(x, POLLOUT, "could not reach", err) == -1)
			goto fail;
		if (getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &error, &size) ==
			0 &&
		    error == 0)
			return (0);
	}
	if (error == 0)
		error = errno;
	failed(x, "could not reach", strerror(error), err);
fail:
	close(x->fd);
	x->fd = -1;
	return (-1);
}

/* One of the host's addresses, in the resolver's order. */
static int
connect_any(struct exchange *x, struct mr_error *err)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC,
	    .ai_socktype = SOCK_STREAM,
	    .ai_flags = AI_NUMERICSERV};
	struct addrinfo *list, *each;
	int error, status = -1;

	error = getaddrinfo(x->url->host, x->url->port, &hints, &list);
	if (error != 0)
		return (failed(x, "could not find", gai_strerror(error), err));
	for (each = list; status == -1 && each != NULL; each = each->ai_next)
		status = connect_to(x, each, err);
	freeaddrinfo(list);
	return (status);
}

static int
send_all(const struct exchange *x, const char *bytes, size_t size,
    struct mr_error *err)
{
	ssize_t n;

	while (size > 0) {
		if (wait_for(x, POLLOUT, "could not send to", err) == -1)
			return (-1);
		n = send(x->fd, bytes, size, MSG_NOSIGNAL);
		if (n == -1 && errno != EAGAIN && errno != EINTR)
			return (failed(x, "could not send to", strerror(errno),
			    err));
		if (n > 0) {
			bytes += n;
			size -= (size_t)n;
		}
	}
	return (0);
}

/* The status in a head that is whole; 0: an interim one (1xx), or not whole
 * yet; -1: no HTTP.  What was interim is taken off. */
static int
status_of(char *answer, size_t *have)
{
	char *end;
	size_t length;
	long status;

	while ((end = strstr(answer, "\r\n\r\n")) != NULL) {
		if (strncmp(answer, "HTTP/1.", 7) != 0 || strlen(answer) < 12 ||
		    answer[8] != ' ')
			return (-1);
		status = strtol(answer + 9, NULL, 10);
		if (status >= 200 && status <= 599)
			return ((int)status);
		if (status < 100 || status > 199)
			return (-1);
		length = (size_t)(end + 4 - answer);
		*have -= length;
		memmove(answer, end + 4, *have + 1);
	}
	return (0);
}

static int
read_status(const struct exchange *x, int *status, struct mr_error *err)
{
	char answer[ANSWER_MOST + 1] = "";
	size_t have = 0;
	ssize_t n;

	while ((*status = status_of(answer, &have)) == 0) {
		if (have == ANSWER_MOST)
			return (failed(x, "no answer from",
			    "its head is too long", err));
		if (wait_for(x, POLLIN, "no answer from", err) == -1)
			return (-1);
		n = recv(x->fd, answer + have, ANSWER_MOST - have, 0);
		if (n == -1 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			return (failed(x, "no answer from",
			    n == 0 ? "it closed the connection" :
				     strerror(errno),
			    err));
		have += (size_t)n;
		answer[have] = '\0';
	}
	if (*status == -1)
		return (failed(x, "no answer from", "that is no HTTP", err));
	return (0);
}

static int
exchange(struct exchange *x, const struct buffer *request, int *status,
    struct mr_error *err)
{
	int result = -1;

	if (connect_any(x, err) == -1)
		return (-1);
	if (send_all(x, request->data, request->length, err) == 0)
		result = read_status(x, status, err);
	close(x->fd);
	return (result);
}

int
http_post(const struct http_url *url, const char *key, const void *body,
    size_t size, int64_t timeout_ms, int stop_fd, int *status,
    struct mr_error *err)
{
	const int colons = strchr(url->host, ':') != NULL;
	struct buffer request = {0};
	struct exchange x = {-1, stop_fd, clock_mono_us() + 1000 * timeout_ms,
	    url};
	int result;

	buffer_addf(&request,
	    "POST %s HTTP/1.1\r\n"
	    "Host: %s%s%s:%s\r\n"
	    "User-Agent: millrace/%s\r\n"
	    "Content-Type: application/json\r\n"
	    "Content-Length: %zu\r\n"
	    "Connection: close\r\n",
	    url->path, colons ? "[" : "", url->host, colons ? "]" : "",
	    url->port, config_version(), size);
	if (key != NULL)
		buffer_addf(&request, "Idempotency-Key: %s\r\n", key);
	buffer_add_text(&request, "\r\n");
	buffer_add(&request, body, size);
	if (request.failed)
		result = mr_error_set(err, MR_RETRY, "out of memory");
	else
		result = exchange(&x, &request, status, err);
	buffer_free(&request);
	return (result);
}
