/*
 * probe -- just enough of a FastCGI front to ask a server one thing.
 *
 * The protocol is FastCGI 1.0: records of an 8-byte header and a content.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "web/web_internal.h"

enum record_type {
	BEGIN_REQUEST = 1,
	END_REQUEST = 3,
	PARAMS = 4,
	STDIN = 5,
	STDOUT = 6
};

static void
add_record(struct buffer *out, enum record_type type, const void *content,
    size_t length)
{
	const unsigned char header[8] = {1, (unsigned char)type, 0, 1,
	    (unsigned char)(length >> 8), (unsigned char)length, 0, 0};

	buffer_add(out, header, sizeof(header));
	buffer_add(out, content, length);
}

/* Names and values here are shorter than 128 bytes: one byte of length. */
static void
add_param(struct buffer *out, const char *name, const char *value)
{
	const unsigned char lengths[2] = {(unsigned char)strlen(name),
	    (unsigned char)strlen(value)};

	buffer_add(out, lengths, sizeof(lengths));
	buffer_add_text(out, name);
	buffer_add_text(out, value);
}

static int
send_request(int fd, const char *method, const char *path)
{
	static const unsigned char responder[8] = {0, 1, 0, 0, 0, 0, 0, 0};
	struct buffer params = {.data = NULL}, out = {.data = NULL};
	int status = -1;

	add_param(&params, "REQUEST_METHOD", method);
	add_param(&params, "REQUEST_URI", path);
	add_param(&params, "CONTENT_LENGTH",
	    strcmp(method, "GET") == 0 ? "" : "0");
	add_record(&out, BEGIN_REQUEST, responder, sizeof(responder));
	add_record(&out, PARAMS, buffer_text(&params), params.length);
	add_record(&out, PARAMS, "", 0);
	add_record(&out, STDIN, "", 0);
	if (!params.failed && !out.failed &&
	    write(fd, out.data, out.length) == (ssize_t)out.length)
		status = 0;
	buffer_free(&params);
	buffer_free(&out);
	return (status);
}

static int
read_whole(int fd, void *bytes, size_t length, int64_t until_us)
{
	size_t done = 0;
	ssize_t n;

	while (done < length && clock_mono_us() < until_us) {
		n = read(fd, (char *)bytes + done, length - done);
		if (n == 0 || (n == -1 && errno != EINTR))
			break;
		if (n > 0)
			done += (size_t)n;
	}
	return (done == length ? 0 : -1);
}

/* Everything of STDOUT up to the end of the request. */
static int
read_answer(int fd, struct buffer *out, int64_t until_us)
{
	unsigned char header[8];
	char content[65535 + 255];
	size_t length;

	for (;;) {
		if (read_whole(fd, header, sizeof(header), until_us) == -1)
			return (-1);
		length = (size_t)header[4] << 8 | header[5];
		if (read_whole(fd, content, length + header[6], until_us) == -1)
			return (-1);
		if (header[1] == STDOUT)
			buffer_add(out, content, length);
		if (header[1] == END_REQUEST)
			return (out->failed ? -1 : 0);
	}
}

int
web_probe(const char *listen, const char *path, int64_t timeout_ms, char *body,
    size_t body_size, struct mr_error *err)
{

	return (web_ask(listen, "GET", path, timeout_ms, body, body_size, err));
}

int
web_ask(const char *listen, const char *method, const char *path,
    int64_t timeout_ms, char *body, size_t body_size, struct mr_error *err)
{
	int64_t until_us = clock_mono_us() + timeout_ms * 1000;
	struct buffer out = {.data = NULL};
	const char *text, *end;
	int fd, status = 0;

	if (strlen(path) > 127)
		return (mr_error_set(err, MR_REJECT, "the path is too long"));
	if ((fd = web_connect(listen, timeout_ms, err)) == -1)
		return (-1);
	if (send_request(fd, method, path) == -1 ||
	    read_answer(fd, &out, until_us) == -1) {
		status = mr_error_set(err, MR_RETRY,
		    "%s didn't answer within %lld ms", listen,
		    (long long)timeout_ms);
		goto done;
	}
	text = buffer_text(&out);
	end = strstr(text, "\r\n\r\n");
	if (strncmp(text, "Status: ", 8) == 0)
		status = (int)strtol(text + 8, NULL, 10);
	if (end == NULL || status < 100)
		status = mr_error_set(err, MR_RETRY, "%s gave no HTTP answer",
		    listen);
	else
		snprintf(body, body_size, "%s", end + 4);
done:
	buffer_free(&out);
	close(fd);
	return (status);
}
