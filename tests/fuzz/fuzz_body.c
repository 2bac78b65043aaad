/*
 * A JSON body's fields, alone: what another parser, asked strictly, says of
 * the same bytes is what the handler gets; everything else is a problem.
 */
#include <jansson.h>

#include "fuzz.h"
#include "web/web_internal.h"

#define UNTOUCHED INT64_C(-77)

struct fields {
	char item[65];
	char note[8];
	int64_t quantity;
	int64_t more;
};

/* ${n} is what the number in the document says. */
static void
check_number(const json_t *value, int64_t n)
{

	assert(json_is_number(value));
	if (json_is_integer(value)) {
		assert(json_integer_value(value) == n);
		return;
	}
	/* From 2^53 on a double may be the neighbour of what was written. */
	assert(json_real_value(value) == (double)n);
	assert(n < INT64_C(1) << 53 && n > -(INT64_C(1) << 53));
}

static void
check_taken(const struct web_request *req, const struct fields *got)
{
	json_error_t why;
	json_t *root = json_loadb(req->body, req->body_size,
	    JSON_REJECT_DUPLICATES, &why);
	const json_t *note, *more;

	assert(root != NULL && json_is_object(root));
	assert(strlen(req->body) == req->body_size);
	note = json_object_get(root, "note");
	more = json_object_get(root, "more");
	assert(json_object_size(root) ==
	    (size_t)2 + (note != NULL) + (more != NULL));
	assert(strcmp(json_string_value(json_object_get(root, "item")),
		   got->item) == 0);
	assert(strcmp(note != NULL ? json_string_value(note) : "none",
		   got->note) == 0);
	check_number(json_object_get(root, "quantity"), got->quantity);
	if (more != NULL)
		check_number(more, got->more);
	else
		assert(got->more == UNTOUCHED);
	json_decref(root);
}

static void
check_refused(const struct web_response *res)
{
	json_error_t why;
	json_t *root;

	assert(res->status == 400 || res->status == 422);
	assert(strcmp(res->content_type, "application/problem+json") == 0);
	assert(!res->body.failed);
	root = json_loadb(res->body.data, res->body.length,
	    JSON_REJECT_DUPLICATES, &why);
	assert(root != NULL && json_is_object(root));
	assert(
	    json_integer_value(json_object_get(root, "status")) == res->status);
	assert((json_array_size(json_object_get(root, "errors")) > 0) ==
	    (res->status == 422));
	json_decref(root);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fields got = {.note = "none", .more = UNTOUCHED};
	const struct web_field fields[] = {
	    {"item", WEB_FIELD_TEXT, got.item, sizeof(got.item), 0, NULL, 0, 0},
	    {"quantity", WEB_FIELD_I64, &got.quantity, 0, 0, NULL, INT64_MIN,
		INT64_MAX},
	    {"note", WEB_FIELD_TEXT, got.note, sizeof(got.note), 1, NULL, 0, 0},
	    {"more", WEB_FIELD_I64, &got.more, 0, 1, NULL, INT64_MIN,
		INT64_MAX},
	    {.name = NULL},
	};
	char *body = fuzz_text((const char *)data, size);
	struct web_request req = {.method = "POST",
	    .content_type = "application/json",
	    .body = body,
	    .body_size = size};
	struct web_response res = {.status = 200};

	if (web_read_json(&req, &res, fields) == 0) {
		assert(res.status == 200 && res.body.length == 0);
		check_taken(&req, &got);
	} else {
		check_refused(&res);
	}
	buffer_free(&res.body);
	free(body);
	return (0);
}
