/*
 * web -- REST over FastCGI, behind nginx.
 *
 * A server has a listening socket and threads that each take one request at
 * a time.  nginx has already enforced sizes and hosts; everything is checked
 * here again, since the socket is all that is trusted (mode 0660).  A program
 * gives a table of routes; a request is matched, bounded, its body read
 * whole (a body shorter than its Content-Length is no request), and handed
 * to the route's function, which fills in the response.
 *
 * Every error is a problem document (RFC 9457, application/problem+json).
 * 404, 405 with Allow, 413, 415, and 400 for broken JSON are given by this
 * module; 422 names every offending field.  HEAD is answered wherever GET is.
 *
 * A handler runs on a server thread, may block, and may use request->reader,
 * a read-only connection of that thread (NULL if the server has no file or it
 * can't be opened: the module has then answered 503).  Pointers in a request
 * are good until the handler returns.
 */
#ifndef MR_WEB_H
#define MR_WEB_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/config.h"
#include "base/error.h"
#include "store/store.h"

#define WEB_BODY_MOST 65536
#define WEB_PARAMS_MOST 4

struct web_param {
	const char *name;
	const char *value;
};

struct web_request {
	const char *method;
	const char *path;	   /* decoded, no query */
	const char *content_type;  /* "" if none */
	const char *idempotency_key; /* NULL if none; 1 to 255 visible ASCII characters */
	const char *if_none_match; /* NULL if none */
	const char *body;	   /* NUL-terminated, never NULL */
	size_t body_size;
	struct web_param params[WEB_PARAMS_MOST]; /* {name} parts of the path */
	int param_count;
	const char *query; /* undecoded, "" if none */
	struct store *reader;
	void *arg; /* web_conf.arg */
	void *internal;
};

struct web_response {
	int status;		  /* 200 unless changed */
	struct buffer body;
	const char *content_type; /* static text; "application/json" */
	char location[256];	  /* "" for none */
	char etag[64];		  /* without quotes; "" for none */
	int retry_after_s;	  /* 0 for none */
	int no_store;		  /* 1: Cache-Control: no-store; else no-cache */
};

struct web_route {
	const char *method;  /* NULL ends a table */
	const char *pattern; /* "/orders/{id}": a part in braces matches one segment */
	void (*handle)(struct web_request *req, struct web_response *res);
};

struct web_conf {
	const char *listen;	 /* "unix:/path" or "127.0.0.1:9000"; NULL: none */
	int64_t threads;
	const char *db_path;	 /* for readers; NULL: none */
	int64_t read_deadline_ms;
	const struct web_route *routes; /* may be NULL */
	/* 1 when ready; else 0 and why */
	int (*ready)(void *arg, char *reason, size_t reason_size);
	/* 1 when alive; else 0 and why; NULL: always */
	int (*alive)(void *arg, char *reason, size_t reason_size);
	void *arg;
};

/* web_options -- --fcgi, --http-threads, --read-deadline-ms, for config_parse. */
const struct config_option *web_options(struct web_conf *conf);

struct web_server;

/*
 * web_start -- listen and serve until web_stop.
 *
 * GET /livez, /readyz and /metrics are answered by the module.  A stale
 * socket file is replaced if nobody listens on it; REJECT if somebody does.
 * With listen NULL returns a server that does nothing.  NULL on error.
 */
struct web_server *web_start(const struct web_conf *conf,
    struct mr_error *err);
/* Stop taking requests, wait up to ${drain_ms} for those under way, remove
 * the socket, free.  NULL is a no-op.  Returns 0, or -1 if some were cut off (the server's
 * memory is then left to the process's end). */
int web_stop(struct web_server *server, int64_t drain_ms);

/* ---- for handlers ------------------------------------------------------- */

/* The {name} part of the path; it is a bug to ask for another (asserts). */
const char *web_param(const struct web_request *req, const char *name);

/*
 * web_problem -- answer with a problem document: {"type","title","status",
 * "detail"}; the title is the status's reason phrase.  Replaces the body.
 */
void web_problem(struct web_response *res, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* web_problem_error -- the same from an error: RETRY is 503 with Retry-After,
 * REJECT 422, FATAL 500 (its message only in the log). */
void web_problem_error(struct web_response *res, const struct mr_error *err);

/*
 * A JSON body, field by field.  web_read_json checks Content-Type (415),
 * syntax and that it is an object (400), then every field of the table; all
 * that is wrong is collected into one 422 whose "errors" is an array of
 * {"field","message"}.  Unknown fields are such errors too.  Returns 0, or -1 with the
 * response filled in.
 */
enum web_field_kind { WEB_FIELD_TEXT, WEB_FIELD_I64 };
struct web_field {
	const char *name; /* NULL ends a table */
	enum web_field_kind kind;
	void *target;	  /* char[size], or int64_t */
	size_t size;	  /* of the text's array, NUL included */
	int optional;	  /* 1: may be left out; the target is then untouched */
	/* the field's rule, or NULL; err->message: "must be ..." */
	int (*check_text)(const char *text, size_t length,
	    struct mr_error *err);
	int (*check_i64)(int64_t n, struct mr_error *err);
};
int web_read_json(struct web_request *req, struct web_response *res,
    const struct web_field *fields);

/*
 * Query parameters: 1 and the value if given (decoded, into ${out}), 0 if
 * not (*n and out untouched), -1 with a 422 that names it.  web_query_only answers 422 for
 * a parameter that isn't in the NULL-terminated list.
 */
int web_query_text(struct web_request *req, struct web_response *res,
    const char *name, char *out, size_t out_size);
int web_query_i64(struct web_request *req, struct web_response *res,
    const char *name, int64_t least, int64_t most, int64_t *n);
int web_query_only(struct web_request *req, struct web_response *res,
    const char *const *names);

/*
 * web_not_modified -- set the ETag from ${tag}, and if the request's
 * If-None-Match has it, make it a 304 without a body and return 1; else 0.
 * The caller returns at once on 1, before doing any work for a body.
 */
int web_not_modified(struct web_request *req, struct web_response *res,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
