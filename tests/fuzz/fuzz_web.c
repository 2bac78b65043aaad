/*
 * A whole request without a socket: parameters as a front sends them, a body,
 * an answer.  A line of the input is a letter for the parameter and its value;
 * an empty line ends them, the rest is the body.  Whatever comes, the answer
 * is HTTP: a status, a header of plain lines, JSON where it says JSON; and a
 * refusal is a problem document that names its status.
 */
#include <stdio.h>

#include <jansson.h>

#include "fuzz.h"
#include "web/web_internal.h"

#define PARAMETERS 13
#define NOTE_SIZE 8

static struct web_table table;
static int handled;

/* What the last handler understood, for looking at it from outside. */
static char item[16];
static int64_t quantity;

static void
post_order(struct web_request *req, struct web_response *res)
{
	char note[NOTE_SIZE] = "none";
	const struct web_field fields[] = {
	    {"item", WEB_FIELD_TEXT, item, sizeof(item), 0, NULL, 0, 0},
	    {"quantity", WEB_FIELD_I64, &quantity, 0, 0, NULL, 1, INT64_MAX},
	    {"note", WEB_FIELD_TEXT, note, sizeof(note), 1, NULL, 0, 0},
	    {.name = NULL},
	};
	struct json_writer w;

	handled++;
	if (web_read_json(req, res, fields) == -1) {
		assert(res->status == 400 || res->status == 415 ||
		    res->status == 422);
		return;
	}
	assert(strlen(item) < sizeof(item) && strlen(note) < sizeof(note));
	assert(fuzz_is_utf8(item, strlen(item)) && quantity >= 1);
	assert(req->idempotency_key == NULL ||
	    (req->idempotency_key[0] != '\0' &&
		strlen(req->idempotency_key) <= 255));
	res->status = 201;
	snprintf(res->location, sizeof(res->location), "/orders/%s", item);
	json_init(&w, &res->body);
	json_object_open(&w);
	json_member_text(&w, "item", item);
	json_member_i64(&w, "quantity", quantity);
	json_member_text(&w, "note", note);
	json_member_text(&w, "key", req->idempotency_key);
	json_object_close(&w);
}

static void
get_order(struct web_request *req, struct web_response *res)
{
	const char *id = web_param(req, "id");
	struct json_writer w;

	handled++;
	assert(id[0] != '\0');
	assert(strcmp(id, "..") != 0 && strcmp(id, ".") != 0);
	if (web_not_modified(req, res, "v-%s", id))
		return;
	json_init(&w, &res->body);
	json_text(&w, id);
}

static void
get_list(struct web_request *req, struct web_response *res)
{
	static const char *const names[] = {"status", "limit", "after", NULL};
	char status[NOTE_SIZE] = "any", after[WEB_QUERY_MOST + 1] = "";
	int64_t limit = 20, since = INT64_MIN;
	struct json_writer w;

	handled++;
	if (web_query_text(req, res, "status", status, sizeof(status)) == -1 ||
	    web_query_text(req, res, "after", after, sizeof(after)) == -1 ||
	    web_query_i64(req, res, "limit", 1, 100, &limit) == -1 ||
	    web_query_i64(req, res, "since", INT64_MIN, INT64_MAX, &since) ==
		-1 ||
	    web_query_only(req, res, names) == -1)
		return;
	assert(limit >= 1 && limit <= 100);
	assert(fuzz_is_utf8(status, strlen(status)));
	assert(fuzz_is_utf8(after, strlen(after)));
	json_init(&w, &res->body);
	json_array_open(&w);
	json_text(&w, status);
	json_text(&w, after);
	json_i64(&w, limit);
	json_array_close(&w);
}

/* What a handler might put into a header, from outside. */
static void
get_echo(struct web_request *req, struct web_response *res)
{

	handled++;
	snprintf(res->location, sizeof(res->location), "%s",
	    web_param(req, "one"));
	snprintf(res->etag, sizeof(res->etag), "%s", web_param(req, "two"));
	res->content_type = web_param(req, "two");
	res->status = (int)strtol(web_param(req, "one"), NULL, 10);
}

static int
not_ready(void *arg, char *reason, size_t reason_size)
{

	(void)arg;
	snprintf(reason, reason_size, "the \"broker\" is away");
	return (0);
}

static const struct web_route routes[] = {
    {"POST", "/orders", post_order},
    {"GET", "/orders", get_list},
    {"GET", "/orders/{id}", get_order},
    {"PUT", "/echo/{one}/{two}", get_echo},
    {"GET", "/echo/{one}/{two}", get_echo},
    {NULL, NULL, NULL},
};

/* ---- what an answer must be --------------------------------------------- */

static void
check_head(const struct web_exchange *x)
{
	const char *p = x->head.data, *end;
	int64_t length = -1;
	int lines = 0, status = 0;

	assert(!x->head.failed && strlen(p) == x->head.length);
	for (; strncmp(p, "\r\n", 2) != 0; p = end + 2, lines++) {
		end = strstr(p, "\r\n");
		assert(end != NULL && memchr(p, ':', (size_t)(end - p)));
		if (lines == 0)
			status = strncmp(p, "Status: ", 8) == 0 ?
			    (int)strtol(p + 8, NULL, 10) :
			    0;
		else
			assert(strncmp(p, "Status", 6) != 0);
		if (strncmp(p, "Content-Length: ", 16) == 0)
			length = strtoll(p + 16, NULL, 10);
		for (; p < end; p++)
			assert(*p >= 0x20 && *p < 0x7f);
	}
	assert(p[2] == '\0' && status == x->res.status);
	assert(length == -1 || length == (int64_t)x->res.body.length);
	assert(
	    (length == -1) == (x->res.status == 204 || x->res.status == 304));
	assert((strstr(x->head.data, "\r\nAllow: ") != NULL) ==
	    (x->res.status == 405 && handled == 0));
}

static void
check_problem(const struct web_exchange *x, const json_t *root)
{
	const json_t *errors = json_object_get(root, "errors"), *entry;
	size_t i;

	assert(json_is_object(root));
	assert(json_integer_value(json_object_get(root, "status")) ==
	    x->res.status);
	assert(json_is_string(json_object_get(root, "type")));
	assert(json_is_string(json_object_get(root, "title")));
	assert(json_is_string(json_object_get(root, "detail")));
	assert(errors == NULL || json_array_size(errors) > 0);
	for (i = 0; i < json_array_size(errors); i++) {
		entry = json_array_get(errors, i);
		assert(json_is_string(json_object_get(entry, "field")));
		assert(json_is_string(json_object_get(entry, "message")));
	}
}

static void
check_answer(const struct web_exchange *x)
{
	json_error_t why;
	json_t *root;
	int problem;

	check_head(x);
	problem = strcmp(x->res.content_type, "application/problem+json") == 0;
	assert(problem || handled > 0 || x->res.status == 200 ||
	    x->res.status == 503);
	if (x->res.body.length == 0 ||
	    (!problem && strcmp(x->res.content_type, "application/json") != 0))
		return;
	root = json_loadb(x->res.body.data, x->res.body.length,
	    JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);
	assert(root != NULL);
	if (problem)
		check_problem(x, root);
	json_decref(root);
}

/* The same once more: nothing stays from one request to the next. */
static void
exchange(struct web_exchange *x, const struct web_input *input,
    const struct fuzz_input *body)
{
	size_t expected;

	handled = 0;
	expected = web_begin(x, input);
	assert(expected <= WEB_BODY_MOST);
	assert(strlen(x->path) <= WEB_PATH_MOST);
	assert(x->path[0] == '\0' || x->path[0] == '/');
	/* What the connection's side does with a body that doesn't fit. */
	buffer_add(&x->body, body->p,
	    body->left < expected ? body->left : expected);
	if (body->left > expected && !x->decided) {
		web_problem(&x->res, 400, "longer than its Content-Length");
		x->decided = 1;
	}
	if (body->left >= expected)
		web_answer(x);
	web_head(x);
	if (body->left >= expected)
		check_answer(x);
	web_count(x, 1);
}

/*
 * Cut a copy of the input into lines, up to an empty one; the last of each
 * letter counts.  Returns how long all that was.
 */
static size_t
take_parameters(char *copy, size_t size, const char *values[PARAMETERS])
{
	static const char letters[PARAMETERS + 1] = "MSUDQTLKNAFOH";
	char *line = copy, *end;
	size_t i;
	int last = 0;

	values[0] = "GET";
	while (line < copy + size && !last) {
		last = line[0] == '\n' || line[0] == '\0';
		end = memchr(line, '\n', (size_t)(copy + size - line));
		if (end == NULL)
			end = copy + size;
		*end = '\0';
		for (i = 0; i < PARAMETERS && letters[i] != line[0]; i++)
			continue;
		if (!last && i < PARAMETERS)
			values[i] = line + 1;
		line = end + 1;
	}
	return (line < copy + size ? (size_t)(line - copy) : size);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int began;
	const struct web_conf conf = {.routes = routes, .ready = not_ready};
	const char *values[PARAMETERS] = {NULL};
	char *copy = fuzz_text((const char *)data, size), length[24];
	struct fuzz_input in = {data, size};
	struct web_exchange x;
	struct web_input input;
	struct buffer first = {0};
	struct mr_error err;
	size_t i;

	if (!began) {
		assert(web_table_init(&table, &conf, &err) == 0);
		began = 1;
	}
	(void)fuzz_bytes(&in, take_parameters(copy, size, values), &i);
	/* Only a request about the length itself gives one. */
	snprintf(length, sizeof(length), "%zu", in.left);
	if (values[6] == NULL)
		values[6] = length;
	input = (struct web_input){values[0], values[1], values[2], values[3],
	    values[4], values[5], values[6], values[7], values[8], values[9],
	    values[10], values[11], values[12]};

	web_exchange_init(&x, &table);
	exchange(&x, &input, &in);
	buffer_add(&first, x.head.data, x.head.length);
	buffer_add(&first, buffer_text(&x.res.body), x.res.body.length);
	exchange(&x, &input, &in);
	/* Metrics count what was asked. */
	if (strcmp(x.path, "/metrics") != 0) {
		assert(first.length == x.head.length + x.res.body.length);
		assert(memcmp(first.data, x.head.data, x.head.length) == 0);
	}
	web_exchange_done(&x);
	buffer_free(&first);
	free(copy);
	return (0);
}
