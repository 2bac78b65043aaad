/*
 * POST to a server of the test's own: addresses are taken apart or refused,
 * and whatever a server does there is a status, or an error in time.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "http/http.h"

static void
addresses_are_taken_apart_or_refused(void **state)
{
	static const struct {
		const char *text, *host, *port, *path; /* NULL: refused */
	} cases[] = {
	    {"http://hooks.example/a?b=c", "hooks.example", "80", "/a?b=c"},
	    {"http://127.0.0.1:9093", "127.0.0.1", "9093", "/"},
	    {"http://[::1]:81/x", "::1", "81", "/x"},
	    {"http://h?x", "h", "80", "/?x"},
	    {"https://h/", NULL, NULL, NULL},
	    {"h:80", NULL, NULL, NULL},
	    {"http://", NULL, NULL, NULL},
	    {"http://:80/", NULL, NULL, NULL},
	    {"http://h:/", NULL, NULL, NULL},
	    {"http://h:0/", NULL, NULL, NULL},
	    {"http://h:65536/", NULL, NULL, NULL},
	    {"http://h:80x/", NULL, NULL, NULL},
	    {"http://[::1/", NULL, NULL, NULL},
	    {"http://user@h/", NULL, NULL, NULL},
	    {"http://h/a b", NULL, NULL, NULL},
	    {"http://h/a\r\nX: y", NULL, NULL, NULL},
	    {"http://h/#top", NULL, NULL, NULL},
	};
	struct mr_error err;
	struct http_url url;
	size_t i;
	int good;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		good = http_url_parse(cases[i].text, &url, &err) == 0;
		if (good != (cases[i].host != NULL))
			fail_msg("%s", cases[i].text);
		if (!good)
			continue;
		assert_string_equal(url.host, cases[i].host);
		assert_string_equal(url.port, cases[i].port);
		assert_string_equal(url.path, cases[i].path);
	}
}

/* ---- a server -------------------------------------------------------------- */

struct peer {
	int listening;
	const char *answer; /* NULL: none, ever */
	char request[4096];
	pthread_t thread;
};

/* Take one connection, read what was announced, answer, close. */
static void *
serve(void *arg)
{
	struct peer *peer = arg;
	int fd = accept(peer->listening, NULL, NULL);
	size_t have = 0;
	ssize_t n = 0;

	while (fd != -1 && strstr(peer->request, "\r\n\r\n{}") == NULL &&
	    (n = read(fd, peer->request + have,
		 sizeof(peer->request) - 1 - have)) > 0)
		have += (size_t)n;
	if (peer->answer == NULL)
		(void)!read(fd, peer->request + have, 1); /* its end */
	else
		(void)!write(fd, peer->answer, strlen(peer->answer));
	close(fd);
	return (NULL);
}

static void
listen_at(struct peer *peer, struct http_url *url)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);

	peer->listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(peer->listening, (struct sockaddr *)&address,
			     size),
	    0);
	assert_int_equal(listen(peer->listening, 1), 0);
	getsockname(peer->listening, (struct sockaddr *)&address, &size);
	snprintf(url->host, sizeof(url->host), "127.0.0.1");
	snprintf(url->port, sizeof(url->port), "%d", ntohs(address.sin_port));
	snprintf(url->path, sizeof(url->path), "/hook");
}

/* What a POST to a server that answers so comes to; -1 and *err, too. */
static int
post_to(const char *answer, int64_t timeout_ms, int stop_fd, char request[4096],
    struct mr_error *err)
{
	struct peer peer = {.answer = answer};
	struct http_url url;
	int status = 0, result;

	listen_at(&peer, &url);
	assert_int_equal(pthread_create(&peer.thread, NULL, serve, &peer), 0);
	result = http_post(&url, "key-1", "{}", 2, timeout_ms, stop_fd, &status,
	    err);
	pthread_join(peer.thread, NULL);
	close(peer.listening);
	if (request != NULL)
		memcpy(request, peer.request, sizeof(peer.request));
	return (result == -1 ? -1 : status);
}

static void
a_post_is_what_it_should_be(void **state)
{
	struct mr_error err;
	char request[4096];

	(void)state;
	assert_int_equal(post_to("HTTP/1.1 204 No Content\r\n\r\n", 5000, -1,
			     request, &err),
	    204);
	assert_ptr_equal(strstr(request, "POST /hook HTTP/1.1\r\nHost: 127."),
	    request);
	assert_non_null(
	    strstr(request, "\r\nContent-Type: application/json\r\n"));
	assert_non_null(strstr(request, "\r\nContent-Length: 2\r\n"));
	assert_non_null(
	    strstr(request, "\r\nIdempotency-Key: key-1\r\n\r\n{}"));
}

static void
every_answer_is_a_status_or_an_error(void **state)
{
	static char endless[16384];
	struct mr_error err;

	(void)state;
	assert_int_equal(post_to("HTTP/1.1 100 Continue\r\n\r\n"
				 "HTTP/1.0 503 Busy\r\nRetry-After: 1\r\n\r\n",
			     5000, -1, NULL, &err),
	    503);
	assert_int_equal(post_to("", 5000, -1, NULL, &err), -1);
	assert_non_null(strstr(err.message, "it closed the connection"));
	assert_int_equal(post_to("SSH-2.0-x\r\n\r\n", 5000, -1, NULL, &err),
	    -1);
	assert_non_null(strstr(err.message, "that is no HTTP"));
	assert_int_equal(post_to("HTTP/1.1 999 x\r\n\r\n", 5000, -1, NULL,
			     &err),
	    -1);
	memset(endless, 'x', sizeof(endless) - 1);
	assert_int_equal(post_to(endless, 5000, -1, NULL, &err), -1);
	assert_non_null(strstr(err.message, "its head is too long"));
}

static void
one_that_hangs_is_given_up(void **state)
{
	const uint64_t one = 1;
	struct mr_error err;
	int stop_fd;

	(void)state;
	assert_int_equal(post_to(NULL, 50, -1, NULL, &err), -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_non_null(strstr(err.message, "no answer in time"));
	stop_fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(write(stop_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(post_to(NULL, 60000, stop_fd, NULL, &err), -1);
	assert_non_null(strstr(err.message, "given up to stop"));
	close(stop_fd);
}

static void
one_that_isnt_there_is_said(void **state)
{
	struct peer peer = {0};
	struct http_url url;
	struct mr_error err;
	int status;

	(void)state;
	listen_at(&peer, &url);
	close(peer.listening);
	assert_int_equal(http_post(&url, NULL, "{}", 2, 5000, -1, &status,
			     &err),
	    -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_non_null(strstr(err.message, "Connection refused"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(addresses_are_taken_apart_or_refused),
	    cmocka_unit_test(a_post_is_what_it_should_be),
	    cmocka_unit_test(every_answer_is_a_status_or_an_error),
	    cmocka_unit_test(one_that_hangs_is_given_up),
	    cmocka_unit_test(one_that_isnt_there_is_said),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
