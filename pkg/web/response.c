/*
 * response -- problem documents, ETags, and the header of an answer.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "web/web_internal.h"

static const struct {
	int status;
	const char *reason;
} reasons[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {303, "See Other"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
};

const char *
web_reason(int status)
{
	size_t i;

	for (i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if (reasons[i].status == status)
			return (reasons[i].reason);
	}
	return (status < 400 ? "OK" : "Error");
}

/* ---- problem documents -------------------------------------------------- */

void
web_hide_folder(const char *path, char *text)
{
	const char *slash = path != NULL ? strrchr(path, '/') : NULL;
	size_t length = slash != NULL ? (size_t)(slash + 1 - path) : 0;
	char *at;

	/* Of one in the root there is no folder to tell; and a relative one is
	 * no part of a longer name. */
	for (at = text; length > 1 && *at != '\0'; at++)
		while (strncmp(at, path, length) == 0 &&
		    (at == text || !isalnum((unsigned char)at[-1])))
			memmove(at, at + length, strlen(at + length) + 1);
}

/* Start over as a problem document, left open for more members. */
static void
problem_open(struct web_response *res, struct json_writer *w, int status,
    const char *detail)
{

	res->status = status;
	res->content_type = "application/problem+json";
	res->location[0] = '\0';
	res->etag[0] = '\0';
	res->retry_after_s = 0;
	res->no_store = 1;
	buffer_clear(&res->body);
	json_init(w, &res->body);
	json_object_open(w);
	json_member_text(w, "type", "about:blank");
	json_member_text(w, "title", web_reason(status));
	json_member_i64(w, "status", status);
	json_member_text(w, "detail", detail);
	if (res->instance != NULL && res->instance[0] != '\0')
		json_member_text(w, "instance", res->instance);
}

void
web_problem(struct web_response *res, int status, const char *format, ...)
{
	struct json_writer w;
	char detail[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(detail, sizeof(detail), format, ap);
	va_end(ap);
	web_hide_folder(res->db_path, detail);
	problem_open(res, &w, status, detail);
	json_object_close(&w);
}

void
web_problem_error(struct web_response *res, const struct mr_error *err)
{

	switch (err->kind) {
	case MR_REJECT:
		web_problem(res, 422, "%s", err->message);
		break;
	case MR_RETRY:
		web_problem(res, 503, "%s", err->message);
		res->retry_after_s = 1;
		break;
	case MR_OK:
	case MR_FATAL:
	default:
		log_error("a request failed", "path", res->instance, "error",
		    err->message);
		web_problem(res, 500, "the service failed; its log says why");
		break;
	}
}

void
web_errors_add(struct web_errors *errors, struct web_response *res,
    const char *field, const char *message)
{

	if (errors->count++ == 0) {
		errors->res = res;
		problem_open(res, &errors->w, 422,
		    "the request has values that can't be accepted");
		json_key(&errors->w, "errors");
		json_array_open(&errors->w);
	}
	if (errors->count > WEB_FIELDS_MOST)
		return;
	json_object_open(&errors->w);
	json_key(&errors->w, "field");
	json_text_n(&errors->w, field, strnlen(field, 128));
	json_member_text(&errors->w, "message", message);
	json_object_close(&errors->w);
}

int
web_errors_end(struct web_errors *errors)
{

	if (errors->count == 0)
		return (0);
	json_array_close(&errors->w);
	json_object_close(&errors->w);
	return (-1);
}

int
web_problem_field(struct web_response *res, const char *field,
    const char *format, ...)
{
	struct web_errors errors = {.count = 0};
	char message[240];
	va_list ap;

	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	web_errors_add(&errors, res, field, message);
	return (web_errors_end(&errors));
}

/* ---- ETags -------------------------------------------------------------- */

/* RFC 9110 section 8.8.3, ASCII only. */
static int
etag_is_valid(const char *tag)
{

	for (; *tag != '\0'; tag++) {
		if (*tag <= 0x20 || *tag == '"' || *tag == 0x7f)
			return (0);
	}
	return (1);
}

int
web_etag_listed(const char *list, const char *tag)
{
	size_t tag_length = strlen(tag), length;
	const char *end;

	for (;;) {
		list += strspn(list, " \t,");
		if (list[0] == '*')
			return (1);
		if (strncmp(list, "W/", 2) == 0)
			list += 2;
		if (list[0] != '"' || (end = strchr(++list, '"')) == NULL)
			return (0);
		length = (size_t)(end - list);
		if (length == tag_length && memcmp(list, tag, length) == 0)
			return (1);
		list = end + 1;
	}
}

uint64_t
web_hash(uint64_t hash, const char *bytes, size_t size)
{
	size_t i;

	if (hash == 0)
		hash = UINT64_C(0xcbf29ce484222325);
	for (i = 0; i < size; i++)
		hash = (hash ^ (unsigned char)bytes[i]) *
		    UINT64_C(0x100000001b3);
	return (hash);
}

int
web_not_modified_body(struct web_request *req, struct web_response *res)
{

	if (res->body.failed)
		return (0);
	return (web_not_modified(req, res, "%016llx",
	    (unsigned long long)web_hash(0, buffer_text(&res->body),
		res->body.length)));
}

int
web_not_modified(struct web_request *req, struct web_response *res,
    const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(res->etag, sizeof(res->etag), format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(res->etag)) {
		log_error("an ETag is too long", "path", req->path);
		res->etag[0] = '\0';
		return (0);
	}
	if (req->if_none_match == NULL ||
	    !web_etag_listed(req->if_none_match, res->etag))
		return (0);
	res->status = 304;
	buffer_clear(&res->body);
	return (1);
}

/* ---- the header --------------------------------------------------------- */

/* Printable ASCII; with ${spaces} 0 no blanks either. */
static int
value_is_safe(const char *value, int spaces)
{

	for (; *value != '\0'; value++) {
		if (*value < (spaces ? 0x20 : 0x21) || *value > 0x7e)
			return (0);
	}
	return (1);
}

static void
add_header(struct web_exchange *x, const char *name, const char *before,
    const char *value, const char *after)
{

	buffer_add_text(&x->head, name);
	buffer_add_text(&x->head, before);
	buffer_add_text(&x->head, value);
	buffer_add_text(&x->head, after);
}

static void
add_number(struct web_exchange *x, const char *name, int64_t n)
{

	buffer_add_text(&x->head, name);
	buffer_add_i64(&x->head, n);
	buffer_add_text(&x->head, "\r\n");
}

/* For a person at a terminal.  What is stored under a key has none yet. */
static void
end_line(struct web_response *res)
{
	const struct buffer *body = &res->body;

	if (body->length > 0 && !body->failed &&
	    buffer_text(body)[body->length - 1] == '}')
		buffer_add_text(&res->body, "\n");
}

/* What the answer is about: type, length, validator, place. */
static void
head_body(struct web_exchange *x)
{
	struct web_response *res = &x->res;

	if (res->status != 204 && res->status != 304) {
		end_line(res);
		if (res->content_type == NULL ||
		    !value_is_safe(res->content_type, 1)) {
			log_error("a Content-Type can't be sent", "path",
			    x->path);
			res->content_type = "application/octet-stream";
		}
		add_header(x, "Content-Type: ", "", res->content_type, "\r\n");
		add_number(x, "Content-Length: ", (int64_t)res->body.length);
	}
	if (res->etag[0] != '\0') {
		if (etag_is_valid(res->etag) && value_is_safe(res->etag, 0))
			add_header(x, "ETag: ", "\"", res->etag, "\"\r\n");
		else
			log_error("an ETag can't be sent", "path", x->path);
	}
	if (res->location[0] != '\0') {
		if (value_is_safe(res->location, 0))
			add_header(x, "Location: ", "", res->location, "\r\n");
		else
			log_error("a Location can't be sent", "path", x->path);
	}
}

void
web_head(struct web_exchange *x)
{
	struct web_response *res = &x->res;

	if (res->body.failed) {
		log_error("an answer didn't fit in memory", "path", x->path);
		web_problem(res, 503, "the answer didn't fit in memory");
		res->retry_after_s = 1;
	}
	if (res->status < 200 || res->status > 599) {
		log_error("a handler gave no HTTP status", "path", x->path,
		    "status", log_i64(res->status));
		web_problem(res, 500, "the service failed; its log says why");
	}
	buffer_clear(&x->head);
	buffer_add_text(&x->head, "Status: ");
	buffer_add_i64(&x->head, res->status);
	add_header(x, " ", "", web_reason(res->status), "\r\n");
	head_body(x);
	buffer_add_text(&x->head,
	    res->no_store ? "Cache-Control: no-store\r\n" :
			    "Cache-Control: no-cache\r\n");
	if (res->allow != NULL)
		add_header(x, "Allow: ", "", res->allow, "\r\n");
	if (res->retry_after_s > 0)
		add_number(x, "Retry-After: ", res->retry_after_s);
	if (res->replayed)
		buffer_add_text(&x->head, "Idempotency-Replayed: true\r\n");
	buffer_add_text(&x->head, "\r\n");
}
