/*
 * request -- what a front sent, checked and taken apart.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "web/web_internal.h"

static int
hex_digit(char c)
{

	if (c >= '0' && c <= '9')
		return (c - '0');
	if (c >= 'a' && c <= 'f')
		return (c - 'a' + 10);
	if (c >= 'A' && c <= 'F')
		return (c - 'A' + 10);
	return (-1);
}

static int
text_is_utf8(const char *text, size_t length)
{
	size_t i, n;

	for (i = 0; i < length; i += n) {
		if ((n = utf8_length(text + i, length - i)) == 0)
			return (0);
	}
	return (1);
}

int
web_decode(const char *text, size_t length, int plus, char *out,
    size_t out_size)
{
	size_t i, n = 0;
	int high, low, c;

	for (i = 0; i < length; i++) {
		c = (unsigned char)text[i];
		if (c == '+' && plus) {
			c = ' ';
		} else if (c == '%') {
			if (length - i < 3 ||
			    (high = hex_digit(text[i + 1])) == -1 ||
			    (low = hex_digit(text[i + 2])) == -1)
				return (WEB_DECODE_BAD);
			c = high * 16 + low;
			i += 2;
		}
		if (c == '\0')
			return (WEB_DECODE_BAD);
		if (n + 1 >= out_size)
			return (WEB_DECODE_LONG);
		out[n++] = (char)c;
	}
	out[n] = '\0';
	if (n > INT_MAX || !text_is_utf8(out, n))
		return (WEB_DECODE_BAD);
	return ((int)n);
}

/* A write's header must be visible ASCII if it is to be kept and compared. */
static int
key_is_valid(const char *key)
{
	size_t i;

	for (i = 0; key[i] != '\0'; i++) {
		if (key[i] < 0x21 || key[i] > 0x7e || i >= 255)
			return (0);
	}
	return (i > 0);
}

/* A media type's parameters may name no charset but UTF-8 (RFC 8259). */
static int
charset_is_utf8(const char *p)
{
	int quoted;

	while ((p = strchr(p, ';')) != NULL) {
		p += 1 + strspn(p + 1, " \t");
		if (strncasecmp(p, "charset=", 8) != 0)
			continue;
		p += 8;
		quoted = *p == '"';
		p += quoted;
		if (strncasecmp(p, "utf-8", 5) != 0 || (quoted && p[5] != '"'))
			return (0);
		p += 5 + quoted;
		p += strspn(p, " \t");
		if (*p != ';' && *p != '\0')
			return (0);
	}
	return (1);
}

int
web_type_is_json(const char *content_type)
{
	static const char prefix[] = "application/";
	size_t length = strcspn(content_type, "; \t");
	const char *subtype = content_type + sizeof(prefix) - 1;

	if (strncasecmp(content_type, prefix, sizeof(prefix) - 1) != 0 ||
	    !charset_is_utf8(content_type + length))
		return (0);
	length -= sizeof(prefix) - 1;
	if (length == 4 && strncasecmp(subtype, "json", 4) == 0)
		return (1);
	return (
	    length > 5 && strncasecmp(subtype + length - 5, "+json", 5) == 0);
}

/* A browser's request from another site's page: RFC 6454, Fetch Metadata. */
static int
from_elsewhere(const struct web_input *in)
{
	const char *host;

	if (in->fetch_site != NULL &&
	    strcmp(in->fetch_site, "same-origin") != 0 &&
	    strcmp(in->fetch_site, "none") != 0)
		return (1);
	if (in->origin == NULL)
		return (0);
	if ((host = strstr(in->origin, "://")) == NULL || in->host == NULL)
		return (1);
	return (strcasecmp(host + 3, in->host) != 0);
}

static void
refuse(struct web_exchange *x, int status, const char *detail)
{

	web_problem(&x->res, status, "%s", detail);
	x->decided = 1;
}

/* A path that is decoded already: every slash parts it. */
static int
take_path(struct web_exchange *x, const char *path)
{
	int i, n = snprintf(x->path, sizeof(x->path), "%s", path);

	for (i = 0; x->path[i] != '\0'; i++)
		x->segments[i] = (char)(x->path[i] == '/' ? '\0' : x->path[i]);
	x->segments[i] = '\0';
	return (n);
}

/* Part by part, so that a slash that was encoded parts nothing. */
static int
decode_path(struct web_exchange *x, const char *uri, size_t length)
{
	size_t used = 0, part;
	int n;

	for (; length > 0; uri += part, length -= part) {
		part = strcspn(uri + 1, "/?");
		if (part > length - 1)
			part = length - 1;
		if (used + 1 >= sizeof(x->path))
			return (WEB_DECODE_LONG);
		x->segments[used] = '\0';
		x->path[used++] = *uri++;
		length--;
		n = web_decode(uri, part, 0, x->path + used,
		    sizeof(x->path) - used);
		if (n < 0)
			return (n);
		memcpy(x->segments + used, x->path + used, (size_t)n + 1);
		used += (size_t)n;
	}
	return ((int)used);
}

/* Where the request goes, and its query.  0, or -1 with a problem. */
static int
begin_path(struct web_exchange *x, const struct web_input *in)
{
	const char *uri = in->request_uri, *query = in->query;
	size_t length, i;
	int n;

	if (uri == NULL)
		uri = "";
	length = strcspn(uri, "?");
	if (query == NULL)
		query = uri[length] == '?' ? uri + length + 1 : "";
	if (in->script_name != NULL && in->script_name[0] != '\0')
		n = take_path(x, in->script_name);
	else if (uri[0] == '\0' && in->document_uri != NULL)
		n = take_path(x, in->document_uri);
	else if (length > WEB_PATH_MOST)
		n = WEB_DECODE_LONG;
	else
		n = decode_path(x, uri, length);
	if (n == WEB_DECODE_LONG || n > WEB_PATH_MOST ||
	    strlen(query) > WEB_QUERY_MOST) {
		x->path[0] = '\0';
		refuse(x, 414, "the path or the query is too long");
		return (-1);
	}
	x->req.query = query;
	if (n < 1 || x->path[0] != '/' ||
	    !text_is_utf8(x->path, strlen(x->path))) {
		x->path[0] = '\0';
		refuse(x, 400,
		    "the path is not a path in percent-encoded "
		    "UTF-8");
		return (-1);
	}
	for (i = 0; x->path[i] != '\0'; i++) {
		if ((unsigned char)x->path[i] < 0x20 || x->path[i] == 0x7f) {
			refuse(x, 400, "the path has a control character");
			return (-1);
		}
	}
	return (0);
}

/* How long the body is.  0, or -1 with a problem. */
static int
begin_length(struct web_exchange *x, const char *text, size_t *length)
{
	size_t i, n = 0;

	*length = 0;
	if (text == NULL)
		return (0);
	for (i = 0; text[i] != '\0'; i++) {
		if (text[i] < '0' || text[i] > '9' || i >= 19) {
			refuse(x, 400, "the Content-Length is not a length");
			return (-1);
		}
		n = n * 10 + (size_t)(text[i] - '0');
	}
	if (n > WEB_BODY_MOST) {
		web_problem(&x->res, 413, "a request body may have %d bytes",
		    WEB_BODY_MOST);
		x->decided = 1;
		return (-1);
	}
	*length = n;
	return (0);
}

/* What only matters to requests that change something. */
static void
begin_write(struct web_exchange *x, const struct web_input *in, size_t length)
{

	if (from_elsewhere(in)) {
		refuse(x, 403,
		    "this request comes from a page of another "
		    "site");
	} else if (in->idempotency_key != NULL &&
	    !key_is_valid(in->idempotency_key)) {
		refuse(x, 400,
		    "an Idempotency-Key is 1 to 255 visible ASCII characters");
	} else if (length > 0 && !web_type_is_json(x->req.content_type)) {
		refuse(x, 415,
		    "the body must be JSON in UTF-8, and its Content-Type "
		    "application/json");
	} else {
		x->req.idempotency_key = in->idempotency_key;
	}
}

static void
response_reset(struct web_response *res)
{
	struct buffer body = res->body;

	/* What one large answer took is not kept for all the small ones. */
	if (body.capacity > (size_t)4 * WEB_BODY_MOST)
		buffer_free(&body);
	buffer_clear(&body);
	memset(res, 0, sizeof(*res));
	res->body = body;
	res->status = 200;
	res->content_type = "application/json";
}

size_t
web_begin(struct web_exchange *x, const struct web_input *in)
{
	size_t length;

	memset(&x->req, 0, sizeof(x->req));
	response_reset(&x->res);
	buffer_clear(&x->body);
	buffer_clear(&x->head);
	x->endpoint = &x->table->endpoints[x->table->count];
	x->decided = 0;
	x->deferred = 0;
	x->path[0] = '\0';
	x->res.instance = x->path;
	x->res.db_path = x->table->conf.db_path;

	x->req.method = in->method != NULL ? in->method : "";
	x->head_only = strcmp(x->req.method, "HEAD") == 0;
	if (x->head_only)
		x->req.method = "GET";
	x->req.path = x->path;
	x->req.query = "";
	x->req.content_type = in->content_type != NULL ? in->content_type : "";
	x->req.if_none_match = in->if_none_match;
	x->req.accept = in->accept;
	x->req.body = "";
	x->req.arg = x->table->conf.arg;
	x->req.internal = x;

	if (begin_path(x, in) == -1 ||
	    begin_length(x, in->content_length, &length) == -1)
		return (0);
	if (strcmp(x->req.method, "GET") != 0)
		begin_write(x, in, length);
	return (length);
}
