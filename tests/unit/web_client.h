/*
 * web_client -- a FastCGI front for tests: one request and its answer.
 *
 * Included by a test, behind cmocka.h.  What fails fails the test.
 */
#ifndef WEB_CLIENT_H
#define WEB_CLIENT_H

#include <sys/socket.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "web/web_internal.h"

#define WAIT_MS 30000

static char address[128]; /* the server's */

static void
add_record(struct buffer *out, int type, const void *content, size_t length)
{
	const unsigned char head[8] = {1, (unsigned char)type, 0, 1,
	    (unsigned char)(length >> 8), (unsigned char)length, 0, 0};

	buffer_add(out, head, sizeof(head));
	buffer_add(out, content, length);
}

static void
add_param(struct buffer *out, const char *name, const char *value)
{
	const unsigned char lengths[2] = {(unsigned char)strlen(name),
	    (unsigned char)strlen(value)};

	if (value[0] == '\0')
		return;
	buffer_add(out, lengths, sizeof(lengths));
	buffer_add_text(out, name);
	buffer_add_text(out, value);
}

/* A request up to its body; keep: the connection is to be kept. */
static void
add_request(struct buffer *out, const char *method, const char *uri,
    const char *type, const char *length, int keep)
{
	unsigned char begin[8] = {0, 1, 0, 0, 0, 0, 0, 0};
	struct buffer params = {.data = NULL};

	begin[2] = (unsigned char)keep;
	add_record(out, 1, begin, sizeof(begin));
	add_param(&params, "REQUEST_METHOD", method);
	add_param(&params, "REQUEST_URI", uri);
	add_param(&params, "CONTENT_TYPE", type);
	add_param(&params, "CONTENT_LENGTH", length);
	add_record(out, 4, buffer_text(&params), params.length);
	add_record(out, 4, "", 0);
	buffer_free(&params);
}

static int
connect_client(void)
{
	struct mr_error err;
	int fd = web_connect(address, WAIT_MS, &err);

	if (fd == -1)
		fail_msg("%s", err.message);
	return (fd);
}

static void
send_all(int fd, const struct buffer *out)
{

	assert_int_equal(send(fd, out->data, out->length, MSG_NOSIGNAL),
	    out->length);
}

static int
read_whole(int fd, void *bytes, size_t length)
{
	size_t done;
	ssize_t n;

	for (done = 0; done < length; done += (size_t)n) {
		n = read(fd, (char *)bytes + done, length - done);
		if (n <= 0)
			return (-1);
	}
	return (0);
}

/* Take an answer: 0, or -1 if the connection ended without a whole one. */
static int
take_answer(int fd, struct buffer *answer)
{
	static _Thread_local char content[65535 + 255];
	unsigned char head[8];
	size_t length;

	buffer_clear(answer);
	for (;;) {
		if (read_whole(fd, head, sizeof(head)) == -1)
			return (-1);
		length = (size_t)head[4] << 8 | head[5];
		if (read_whole(fd, content, length + head[6]) == -1)
			return (-1);
		if (head[1] == 6)
			buffer_add(answer, content, length);
		if (head[1] == 3)
			return (0);
	}
}

/* One request on a connection of its own; the answer's status, or -1. */
static int
ask(const char *method, const char *uri, const char *type, const char *length,
    const void *body, size_t body_size, struct buffer *answer)
{
	struct buffer out = {.data = NULL};
	int fd = connect_client(), status = -1;
	size_t part;

	add_request(&out, method, uri, type, length, 0);
	for (; body_size > 0; body_size -= part) {
		part = body_size < 60000 ? body_size : 60000;
		add_record(&out, 5, body, part);
		body = (const char *)body + part;
	}
	add_record(&out, 5, "", 0);
	send_all(fd, &out);
	if (take_answer(fd, answer) == 0)
		status = atoi(buffer_text(answer) + strlen("Status: "));
	buffer_free(&out);
	close(fd);
	return (status);
}

#endif
