/*
 * Problem documents are JSON whatever is told in them: details, fields and
 * messages of any bytes and length, and any number of them.
 */
#include <jansson.h>

#include "base/log.h"
#include "fuzz.h"
#include "web/web_internal.h"

static void
check(const struct web_response *res, int status)
{
	json_error_t why;
	json_t *root;

	assert(!res->body.failed && res->status == status);
	assert(fuzz_is_utf8(res->body.data, res->body.length));
	root = json_loadb(res->body.data, res->body.length,
	    JSON_REJECT_DUPLICATES, &why);
	assert(root != NULL && json_is_object(root));
	assert(json_integer_value(json_object_get(root, "status")) == status);
	assert(json_is_string(json_object_get(root, "detail")));
	assert(json_string_length(json_object_get(root, "title")) > 0);
	assert(json_array_size(json_object_get(root, "errors")) <=
	    WEB_FIELDS_MOST);
	json_decref(root);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct web_errors errors = {.count = 0};
	struct web_response res = {.status = 200};
	struct mr_error err;
	int status = 100 + fuzz_byte(&in) * 2;
	char *path = fuzz_line(&in), *text = fuzz_line(&in), *field;

	log_init("fuzz", LOG_LOGFMT, LOG_ERROR + 1);
	res.instance = path;
	if (text != NULL) {
		web_problem(&res, status, "%s", text);
		check(&res, status);
		mr_error_set(&err, MR_REJECT, "%s", text);
		mr_error_wrap(&err, "%s", path);
		assert(memchr(err.message, '\0', MR_ERROR_SIZE) != NULL);
		web_problem_error(&res, &err);
		check(&res, 422);
		err.kind = MR_RETRY;
		web_problem_error(&res, &err);
		assert(res.retry_after_s > 0);
		check(&res, 503);
		assert(web_problem_field(&res, path, "%s", text) == -1);
		check(&res, 422);
	}
	while ((field = fuzz_line(&in)) != NULL) {
		web_errors_add(&errors, &res, field, text);
		free(field);
	}
	if (web_errors_end(&errors) == -1)
		check(&res, 422);
	buffer_free(&res.body);
	free(path);
	free(text);
	return (0);
}
