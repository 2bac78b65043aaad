/*
 * http -- a POST to somebody else's server, and its status.
 *
 * A client for notifications: HTTP/1.1 over TCP, a connection a request, no
 * TLS, no redirects, no cookies, no proxies.  An address with https:// is
 * refused; put nginx or stunnel in between.  The answer's body is of no
 * interest.  Any thread may call; nothing is shared.
 */
#ifndef MR_HTTP_H
#define MR_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define HTTP_HOST_SIZE 256
#define HTTP_PATH_SIZE 1024

/* "http://host:port/path", taken apart. */
struct http_url {
	char host[HTTP_HOST_SIZE]; /* a name or an address, no brackets */
	char port[6];
	char path[HTTP_PATH_SIZE]; /* with its query; at least "/" */
};

/* http_url_parse -- 0, or -1 REJECT and what an address must be.  A user and
 * a fragment are refused, and whatever can't stand in a request line. */
int http_url_parse(const char *text, struct http_url *url,
    struct mr_error *err);

/*
 * http_post -- send ${size} bytes of JSON to ${url}, and wait for the status.
 *
 * ${key} goes along as Idempotency-Key, unless it is NULL; it and the path of
 * ${url} must be visible ASCII.  Gives up ${timeout_ms} after it began, or as
 * soon as ${stop_fd} is readable (-1: there is none); but looking a name up
 * may take as long as the resolver does.  0 and *status, 200 to 599; -1 RETRY
 * if there was no answer: the server may have had the request all the same.
 */
int http_post(const struct http_url *url, const char *key, const void *body,
    size_t size, int64_t timeout_ms, int stop_fd, int *status,
    struct mr_error *err);

#endif
