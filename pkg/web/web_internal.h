/*
 * web_internal -- what the files of this module and its test share.
 *
 * A struct web_exchange is used for one request after another: web_begin
 * takes the parameters and says how long the body is, the caller reads it
 * into `body`, web_answer finds and calls the handler, and, now or after
 * web_resume if the handler deferred it, web_head writes the response's
 * header.  No sockets in any of that.
 */
#ifndef MR_WEB_INTERNAL_H
#define MR_WEB_INTERNAL_H

#include <sys/types.h>

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "metrics/metrics.h"
#include "web/web.h"

/* FastCGI parameters that mean something here; NULL if not sent. */
struct web_input {
	const char *method;
	const char *script_name;
	const char *request_uri;
	const char *document_uri;
	const char *query;
	const char *content_type;
	const char *content_length;
	const char *idempotency_key;
	const char *if_none_match;
	const char *accept;
	const char *fetch_site;
	const char *origin;
	const char *host;
};

#define WEB_STATUS_CLASSES 4 /* 2xx to 5xx */

/* A route with its metrics; the last of a table is for what matched none. */
struct web_endpoint {
	const struct web_route *route; /* NULL: none matched */
	int needs_reader;
	struct metric *requests[WEB_STATUS_CLASSES];
	struct metric *seconds;
};

/* What all threads of a server share and none changes. */
struct web_table {
	struct web_conf conf;
	int count; /* of endpoints, the last one not counted */
	struct web_endpoint
	    endpoints[WEB_ROUTES_MOST + WEB_FRAME_ROUTES_MOST + 4];
};

/* web_table_init -- copy ${conf}, register metrics.  0 or -1 REJECT. */
int web_table_init(struct web_table *table, const struct web_conf *conf,
    struct mr_error *err);

/* A thread's read-only connection, opened when first needed. */
struct web_reader {
	struct store *st;
	dev_t dev;
	ino_t ino;
	int64_t checked_us;
};

void web_reader_close(struct web_reader *reader);

struct web_exchange {
	const struct web_table *table;
	struct web_reader *reader; /* of whoever calls web_answer */
	struct web_request req;
	struct web_response res;
	struct buffer body; /* the request's */
	struct buffer head; /* of the response */
	void *room; /* the handler's, see web_room */
	size_t room_size;
	const struct web_endpoint *endpoint;
	int decided; /* 1: the response stands, don't look further */
	int head_only; /* 1: HEAD */
	int deferred; /* 1: the handler's return is not the answer */
	void (*resume)(struct web_exchange *x); /* what web_resume does */
	char path[WEB_PATH_MOST + 1];
	/* the path with a NUL for each slash that parts it */
	char segments[WEB_PATH_MOST + 1];
	char names[WEB_PARAMS_MOST][32];
	char allow[64];
};

void web_exchange_init(struct web_exchange *x, const struct web_table *table);
/* web_exchange_done -- free the buffers. */
void web_exchange_done(struct web_exchange *x);

/* web_begin -- returns how many bytes of body to read: 0 to WEB_BODY_MOST. */
size_t web_begin(struct web_exchange *x, const struct web_input *input);
void web_answer(struct web_exchange *x);
void web_head(struct web_exchange *x);
/* web_count -- put the finished exchange into the metrics. */
void web_count(const struct web_exchange *x, int64_t took_us);

/* ---- pieces ------------------------------------------------------------- */

extern const struct web_route web_builtin_routes[];

/*
 * web_decode -- percent-decode ${length} bytes into ${out} (with a NUL).
 *
 * ${plus} 1: a plus is a space.  Returns the length; -1 for a bad escape, a
 * NUL, or bytes that aren't UTF-8; -2 if it doesn't fit.
 */
#define WEB_DECODE_BAD (-1)
#define WEB_DECODE_LONG (-2)
int web_decode(const char *text, size_t length, int plus, char *out,
    size_t out_size);

/* web_match -- 1 if ${x}->path fits the pattern; params are filled in. */
int web_match(struct web_exchange *x, const char *pattern);

/* web_hide_folder -- cut the folder of the file at ${path} (NULL: none) out of
 * ${text}, wherever it is. */
void web_hide_folder(const char *path, char *text);

/* web_type_is_json -- application/json or application/...+json, in UTF-8. */
int web_type_is_json(const char *content_type);

/* web_reason -- a status's reason phrase (RFC 9110). */
const char *web_reason(int status);

/* A 422 with several errors: open, add, close. */
struct web_errors {
	struct json_writer w;
	struct web_response *res;
	int count;
};
void web_errors_add(struct web_errors *errors, struct web_response *res,
    const char *field, const char *message);
/* web_errors_end -- returns 0 if there were none, else -1. */
int web_errors_end(struct web_errors *errors);

/* web_etag_listed -- 1 if If-None-Match ${list} has ${tag} or is "*". */
int web_etag_listed(const char *list, const char *tag);

/*
 * web_listen -- a listening socket; for unix sockets *dev and *ino identify
 * the file.  web_unlisten removes the file if it still is that one.
 */
int web_listen(const char *address, dev_t *dev, ino_t *ino,
    struct mr_error *err);
void web_unlisten(const char *address, dev_t dev, ino_t ino);
/* web_connect -- a connected socket with send and receive timeouts set. */
int web_connect(const char *address, int64_t timeout_ms, struct mr_error *err);

#endif
