/*
 * json_body -- a JSON object into a handler's variables.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/json_read.h"
#include "web/web_internal.h"

#define DEPTH_MOST 32

/* The parser recurses: how deep is known before it is let loose. */
static int
depth_is_bounded(const char *text, size_t length)
{
	size_t i;
	int depth = 0, in_text = 0;

	for (i = 0; i < length; i++) {
		if (in_text) {
			if (text[i] == '\\')
				i++;
			else if (text[i] == '"')
				in_text = 0;
		} else if (text[i] == '"') {
			in_text = 1;
		} else if (text[i] == '{' || text[i] == '[') {
			if (++depth > DEPTH_MOST)
				return (0);
		} else if (text[i] == '}' || text[i] == ']') {
			depth--;
		}
	}
	return (1);
}

/*
 * An object, or NULL with a problem.  A number that doesn't fit is read
 * again as a real one, so that its field can be named.
 */
static json_t *
parse(const struct web_request *req, struct web_response *res)
{
	json_error_t why;
	json_t *root;
	int out_of_memory;

	/* jansson overlooks one that follows a number. */
	if (memchr(req->body, '\0', req->body_size) != NULL) {
		web_problem(res, 400, "the body has a NUL");
		return (NULL);
	}
	if (!depth_is_bounded(req->body, req->body_size)) {
		web_problem(res, 400, "the JSON is nested deeper than %d",
		    DEPTH_MOST);
		return (NULL);
	}
	root = json_read(req->body, req->body_size, JSON_REJECT_DUPLICATES,
	    &why, &out_of_memory);
	if (root == NULL && !out_of_memory &&
	    json_error_code(&why) == json_error_numeric_overflow)
		root = json_read(req->body, req->body_size,
		    JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &why,
		    &out_of_memory);
	if (root == NULL) {
		if (out_of_memory) {
			web_problem(res, 503, "out of memory");
			res->retry_after_s = 1;
		} else if (json_error_code(&why) == json_error_duplicate_key) {
			web_problem(res, 422, "a field is given twice: %s",
			    why.text);
		} else {
			web_problem(res, 400,
			    "the body is not JSON: line %d, column %d: %s",
			    why.line, why.column, why.text);
		}
		return (NULL);
	}
	if (!json_is_object(root)) {
		web_problem(res, 400, "the body must be a JSON object");
		json_decref(root);
		return (NULL);
	}
	return (root);
}

static int
read_text(const struct web_field *field, const json_t *value,
    struct mr_error *err)
{
	size_t length;

	if (!json_is_string(value))
		return (mr_error_set(err, MR_REJECT, "must be a text"));
	length = json_string_length(value);
	if (length >= field->size)
		return (mr_error_set(err, MR_REJECT,
		    "must have at most %zu bytes", field->size - 1));
	if (field->check_text != NULL &&
	    field->check_text(json_string_value(value), length, err) == -1)
		return (-1);
	memcpy(field->target, json_string_value(value), length + 1);
	return (0);
}

static int
read_i64(const struct web_field *field, const json_t *value,
    struct mr_error *err)
{
	/* From 2^53 on a double may stand for its neighbour as well. */
	const double exact = 9007199254740991.0;
	int64_t n;
	double x;

	if (json_is_integer(value)) {
		n = json_integer_value(value);
	} else {
		x = json_is_real(value) ? json_real_value(value) : 0.5;
		/* Bounded first: a cast of what doesn't fit is undefined. */
		if (!(x >= -exact && x <= exact) || (double)(int64_t)x != x)
			return (mr_error_set(err, MR_REJECT,
			    "must be a whole number that fits in 64 bits"));
		n = (int64_t)x;
	}
	if (field->check_i64 != NULL && field->check_i64(n, err) == -1)
		return (-1);
	memcpy(field->target, &n, sizeof(n));
	return (0);
}

static void
read_field(const struct web_field *field, const json_t *root,
    struct web_response *res, struct web_errors *errors)
{
	const json_t *value = json_object_get(root, field->name);
	struct mr_error err = {MR_REJECT, "must be something else"};
	int status;

	if (value == NULL) {
		if (!field->optional)
			web_errors_add(errors, res, field->name,
			    "must be given");
		return;
	}
	switch (field->kind) {
	case WEB_FIELD_TEXT:
		status = read_text(field, value, &err);
		break;
	case WEB_FIELD_I64:
		status = read_i64(field, value, &err);
		break;
	default:
		assert(0 && "a field's kind");
		status = -1;
	}
	if (status == -1)
		web_errors_add(errors, res, field->name, err.message);
}

int
web_read_json(struct web_request *req, struct web_response *res,
    const struct web_field *fields)
{
	struct web_errors errors = {.count = 0};
	const struct web_field *field;
	json_t *root, *value;
	const char *name;

	if (!web_type_is_json(req->content_type)) {
		web_problem(res, 415,
		    "the body must be JSON, and its "
		    "Content-Type application/json");
		return (-1);
	}
	if ((root = parse(req, res)) == NULL)
		return (-1);
	for (field = fields; field->name != NULL; field++)
		read_field(field, root, res, &errors);
	json_object_foreach(root, name, value)
	{
		for (field = fields; field->name != NULL; field++) {
			if (strcmp(field->name, name) == 0)
				break;
		}
		if (field->name == NULL)
			web_errors_add(&errors, res, name,
			    "is not a field of this body");
	}
	json_decref(root);
	return (web_errors_end(&errors));
}
