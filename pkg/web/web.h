/*
 * web -- REST over FastCGI, behind nginx.
 *
 * A server has a listening socket and threads that each take one request at
 * a time.  nginx has already enforced sizes and hosts; everything is checked
 * here again, since the socket is all that is trusted (mode 0660, less the
 * umask).  A program gives a table of routes; a request is matched, bounded,
 * its body read whole (a body shorter than its Content-Length is no request),
 * and handed to the route's function, which fills in the response.
 *
 * Every error is a problem document (RFC 9457, application/problem+json).
 * 400, 403, 404, 405 with Allow, 411, 413, 414 and 415 are given by this
 * module; 422 names every offending field.  HEAD is answered wherever GET is.
 *
 * The path is REQUEST_URI without its query, percent-decoded once.  It is cut
 * at its slashes before that: one that is written as %2F belongs to a part.  A front
 * that serves a program below another path gives the path inside the program,
 * decoded, as SCRIPT_NAME, which then wins; it must not send it otherwise.
 *
 * A write (anything but GET and HEAD) that a browser made for another site
 * gets 403: Sec-Fetch-Site must be same-origin or none, the host of Origin
 * must be Host, where the client sends them.  A write's body must be JSON by
 * its Content-Type (application/json, or another one that ends in +json), and in
 * UTF-8.
 *
 * A handler runs on a server thread, may block, and may use request->reader,
 * a read-only connection of that thread (NULL if the server has no file or it
 * can't be opened: the module has then answered 503).  Pointers in a request
 * are good until the handler returns; one that waits for something else can
 * give its thread back meanwhile, see web_defer.
 */
#ifndef MR_WEB_H
#define MR_WEB_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/config.h"
#include "base/error.h"
#include "base/id.h"
#include "store/store.h"

#define WEB_BODY_MOST 65536 /* longer: 413 */
#define WEB_PATH_MOST 1024 /* decoded or not; longer: 414 */
#define WEB_QUERY_MOST 4096 /* likewise */
#define WEB_PARAMS_MOST 4
#define WEB_ROUTES_MOST 64
#define WEB_FIELDS_MOST 32
#define WEB_FRAME_ROUTES_MOST 8

struct web_param {
	const char *name;
	const char *value;
};

struct web_request {
	const char *method; /* HEAD is shown as GET */
	const char *path; /* decoded, no query; UTF-8 */
	const char *content_type; /* "" if none */
	/* 1 to 255 visible ASCII characters, or NULL; only with writes, and a
	 * malformed one has been answered with 400 */
	const char *idempotency_key;
	const char *if_none_match; /* NULL if none */
	const char *accept; /* likewise */
	const char *body; /* NUL-terminated, never NULL */
	size_t body_size;
	struct web_param params[WEB_PARAMS_MOST]; /* {name} parts of the path */
	int param_count;
	const char *query; /* undecoded, "" if none */
	struct store *reader;
	void *arg; /* web_conf.arg */
	void *internal; /* the module's own */
};

/*
 * What a header can't carry (control characters, spaces in a Location, quotes
 * in an ETag) is left out and logged, never sent.
 */
struct web_response {
	int status; /* 200 unless changed */
	struct buffer body; /* empty; may be replaced by one of the handler's */
	const char *content_type; /* static text; "application/json" */
	char location[256]; /* "" for none */
	char etag[64]; /* without quotes; "" for none */
	int retry_after_s; /* 0 for none */
	int no_store; /* 1: Cache-Control: no-store; else no-cache */
	int replayed; /* 1: Idempotency-Replayed: true */
	const char *instance; /* of problem documents; set by the module */
	const char *db_path; /* the module's own: its folder isn't told */
	const char *allow; /* the module's own, with 405 */
};

/* The first route of a table that matches is taken. */
struct web_route {
	const char *method; /* NULL ends a table; GET, POST, PUT, DELETE */
	/* "/orders/{id}": a part in braces matches one segment that isn't empty */
	const char *pattern;
	void (*handle)(struct web_request *req, struct web_response *res);
};

struct web_conf {
	/* "unix:/path", "127.0.0.1:9000" or "[::1]:9000"; NULL: none */
	const char *listen;
	int64_t threads; /* 1 to 256; deferred requests hold none */
	const char *db_path; /* for readers; NULL: none */
	int64_t read_deadline_ms;
	const struct web_route *routes; /* may be NULL */
	/* Those that all programs of a kind have; tried before `routes`, and
	 * without a reader.  May be NULL. */
	const struct web_route *frame;
	/* 1 when ready; else 0 and why */
	int (*ready)(void *arg, char *reason, size_t reason_size);
	/* 1 when alive; else 0 and why; NULL: always */
	int (*alive)(void *arg, char *reason, size_t reason_size);
	void *arg;
};

/*
 * web_options -- --fcgi, --http-threads, --read-deadline-ms, for config_parse.
 * One table a process: the next call's targets replace this one's.
 */
const struct config_option *web_options(struct web_conf *conf);

struct web_server;

/*
 * web_start -- listen and serve until web_stop.
 *
 * GET /livez, /readyz and /metrics are answered by the module; the last says
 * in millrace_ready what /readyz would.  The socket
 * file appears when it can be connected to; a stale one is replaced if nobody
 * listens on it.  With listen NULL returns a server that does nothing.
 * ${conf} is copied, what it points to is borrowed until web_stop.  Threads
 * inherit the caller's signal mask with every other signal blocked, too.
 * Returns NULL on error: REJECT if somebody listens there already or the
 * address makes no sense, FATAL otherwise.
 */
struct web_server *web_start(const struct web_conf *conf, struct mr_error *err);

/*
 * web_listens_at -- where web_start will: 1 and *path is a unix socket's path
 * in ${conf}'s memory; 2 and *port is a TCP port; 0 if nowhere, or if the
 * address makes no sense to it.
 */
int web_listens_at(const struct web_conf *conf, const char **path,
    uint16_t *port);

/*
 * web_stop -- remove the socket, answer what had connected, free.
 *
 * Waits up to ${drain_ms} for requests under way.  NULL is a no-op.  Returns
 * 0, or -1 if some didn't end in time: their threads go on, and the server's
 * memory and whatever their handlers use must be left to the process's end.
 */
int web_stop(struct web_server *server, int64_t drain_ms);

/*
 * web_probe -- GET ${path} from the server at ${listen}, as a front would.
 *
 * Waits at most ${timeout_ms}.  Returns the status of the answer and its body
 * (cut to fit, NUL-terminated) in ${body}; -1 RETRY if there was none.
 */
int web_probe(const char *listen, const char *path, int64_t timeout_ms,
    char *body, size_t body_size, struct mr_error *err);
/* web_ask -- the same with another method; a request without a body. */
int web_ask(const char *listen, const char *method, const char *path,
    int64_t timeout_ms, char *body, size_t body_size, struct mr_error *err);

/* ---- for handlers ------------------------------------------------------- */

/*
 * web_defer -- the answer comes later: the handler's return is not its end.
 *
 * Request and response then stay as they are (but for request->reader, which
 * is the thread's) until somebody, on any thread and maybe before the handler
 * has returned, calls web_resume, exactly once: the response is sent.  Neither
 * may be touched after that.  Up to 256 requests of a server wait so; more
 * wait to be accepted.  web_stop waits for them.
 */
void web_defer(struct web_request *req);
void web_resume(struct web_request *req);

/*
 * web_room -- ${size} bytes, aligned for anything, that are the handler's until
 * the response is sent.  A request has one: a second call ends what the first
 * one gave.  It is kept for the next request, which costs less than to ask for
 * memory on one thread and free it on another.  What is in it is undefined.
 * From the handler only.  NULL without memory.
 */
void *web_room(struct web_request *req, size_t size);

/* The {name} part of the path; it is a bug to ask for another (asserts). */
const char *web_param(const struct web_request *req, const char *name);

/*
 * web_problem -- answer with a problem document: {"type","title","status",
 * "detail"}; the title is the status's reason phrase.  Replaces the body.
 */
void web_problem(struct web_response *res, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* web_problem_field -- a 422 that names one field or parameter; ${format}
 * makes its message, such as "must be ...".  Returns -1. */
int web_problem_field(struct web_response *res, const char *field,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

/* web_problem_error -- the same from an error: RETRY is 503 with Retry-After,
 * REJECT 422, FATAL 500 with its message in the log only.  Where a detail says
 * the path of the server's file, its name is told and its folder isn't. */
void web_problem_error(struct web_response *res, const struct mr_error *err);

/*
 * A JSON body, field by field.  web_read_json checks Content-Type (415),
 * syntax, depth and that it is an object (400), then every field of the
 * table; all that is wrong is collected into one 422 whose "errors" is an
 * array of {"field","message"}.  Unknown fields are wrong, too; one that is
 * repeated, or whose name has a NUL, is named alone.
 * A whole number may be written as 1, 1.0 or 1e0.  Returns 0, or -1 with the
 * response filled in; targets may have been written to.
 */
enum web_field_kind { WEB_FIELD_TEXT, WEB_FIELD_I64 };
struct web_field {
	const char *name; /* NULL ends a table */
	enum web_field_kind kind;
	void *target; /* char[size], or int64_t */
	size_t size; /* of the text's array, NUL included */
	int optional; /* 1: may be left out; the target is then untouched */
	/* the text's rule, or NULL; -1 and err->message: "must be ..." */
	int (
	    *check_text)(const char *text, size_t length, struct mr_error *err);
	int64_t least, most; /* of the number */
};
int web_read_json(struct web_request *req, struct web_response *res,
    const struct web_field *fields);

/*
 * Query parameters: 1 and the value if given (decoded, into ${out}), 0 if
 * not (*n and out untouched), -1 with a 422 that names it: a value that is
 * too long, out of range, given twice, not UTF-8 or holds a NUL.
 * web_query_only answers 422 for parameters that aren't in the
 * NULL-terminated list; it returns 0 or -1.
 */
int web_query_text(struct web_request *req, struct web_response *res,
    const char *name, char *out, size_t out_size);
int web_query_i64(struct web_request *req, struct web_response *res,
    const char *name, int64_t least, int64_t most, int64_t *n);
/* in either case; ${out} has it in lower case */
int web_query_uuid(struct web_request *req, struct web_response *res,
    const char *name, char out[ID_UUID_SIZE]);
int web_query_only(struct web_request *req, struct web_response *res,
    const char *const *names);

/*
 * web_not_modified -- set the ETag, and if the request's If-None-Match has
 * it (RFC 9110, compared weakly), make it a 304 without a body and return 1;
 * else 0.  The caller returns at once on 1, before any work for a body.
 */
int web_not_modified(struct web_request *req, struct web_response *res,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * web_not_modified_body -- the same with an ETag made of the body, once it is
 * written: a 304 then means that it would be the same, byte for byte.  For
 * answers that nothing cheaper tells apart.
 */
int web_not_modified_body(struct web_request *req, struct web_response *res);

/* web_hash -- FNV-1a of 64 bits, to go on from ${hash}; 0 begins one. */
uint64_t web_hash(uint64_t hash, const char *bytes, size_t size);

#endif
