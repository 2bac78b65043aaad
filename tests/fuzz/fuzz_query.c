/*
 * Percent-decoding and what is decoded: every text comes back from its own
 * encoding, what decodes is UTF-8 without NUL and no longer than it was; a
 * parameter is found by name whatever is around it; lists of entity tags.
 */
#include <errno.h>
#include <stdio.h>

#include <jansson.h>

#include "fuzz.h"
#include "web/web_internal.h"

static void
check_decode(const char *text, size_t length, int plus)
{
	char *out = malloc(length + 1), *exact;
	char *again = malloc(3 * length + 1);
	size_t i;
	int n, m;

	assert(out != NULL && again != NULL);
	n = web_decode(text, length, plus, out, length + 1);
	assert(n >= -1 && n <= (int)length);
	if (n >= 0) {
		assert(strlen(out) == (size_t)n);
		assert(fuzz_is_utf8(out, (size_t)n));
		for (i = 0; i < (size_t)n; i++)
			snprintf(again + 3 * i, 4, "%%%02x",
			    (unsigned int)(unsigned char)out[i]);
		/* Into just the room that it takes, and into one too few. */
		exact = malloc((size_t)n + 1);
		assert(exact != NULL);
		m = web_decode(again, 3 * (size_t)n, plus, exact,
		    (size_t)n + 1);
		assert(m == n && memcmp(exact, out, (size_t)n + 1) == 0);
		assert(n == 0 ||
		    web_decode(again, 3 * (size_t)n, plus, exact, (size_t)n) ==
			WEB_DECODE_LONG);
		free(exact);
	}
	free(again);
	free(out);
}

static void
check_json(const struct web_response *res)
{
	json_error_t why;
	json_t *root;

	assert(res->status == 422 && !res->body.failed);
	root = json_loadb(res->body.data, res->body.length,
	    JSON_REJECT_DUPLICATES, &why);
	assert(root != NULL);
	json_decref(root);
}

static void
check_query(const char *query)
{
	static const char *const names[] = {"since", NULL};
	struct web_request req = {.query = query};
	struct web_response res = {.status = 200};
	char text[32] = "", *end;
	int64_t n = 7;
	int given, number;

	given = web_query_text(&req, &res, "since", text, sizeof(text));
	assert(given >= -1 && given <= 1);
	if (given == -1)
		check_json(&res);
	else
		assert(res.status == 200 && (given == 1 || text[0] == '\0'));
	assert(strlen(text) < sizeof(text));
	number = web_query_i64(&req, &res, "since", -5, INT64_MAX, &n);
	assert(number == 1 || n == 7);
	assert(number == given || (given == 1 && number == -1));
	if (number == 1) {
		errno = 0;
		assert(strtoll(text, &end, 10) == n && *end == '\0');
		assert(errno == 0 && n >= -5);
	}
	if (web_query_only(&req, &res, names) == -1)
		check_json(&res);
	else
		assert(given != 0 || strspn(query, "&") == strlen(query));
	buffer_free(&res.body);
}

/* A parameter of ours, put behind whatever the query is. */
static void
check_found(const char *query, const char *value)
{
	char *whole = malloc(strlen(query) + 3 * strlen(value) + 16), *p;
	char *out = malloc(strlen(value) + 1);
	struct web_request req = {.query = whole};
	struct web_response res = {.status = 200};

	assert(whole != NULL && out != NULL);
	p = whole + sprintf(whole, "%s&%%73ince2=", query);
	for (size_t i = 0; value[i] != '\0'; i++)
		p += sprintf(p, "%%%02X",
		    (unsigned int)(unsigned char)value[i]);
	/* -1: it was there before, or isn't UTF-8. */
	if (web_query_text(&req, &res, "since2", out, strlen(value) + 1) == 1)
		assert(strcmp(out, value) == 0);
	else
		check_json(&res);
	buffer_free(&res.body);
	free(whole);
	free(out);
}

static void
check_etags(const char *list, const char *tag)
{
	char *whole;

	(void)web_etag_listed(list, tag);
	if (strchr(tag, '"') != NULL)
		return;
	whole = malloc(strlen(tag) + strlen(list) + 24);
	assert(whole != NULL);
	sprintf(whole, "\"x\" ,W/\"%s\", %s", tag, list);
	assert(web_etag_listed(whole, tag));
	free(whole);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	char *query, *value;

	check_decode((const char *)data, size, 0);
	check_decode((const char *)data, size, 1);
	if ((query = fuzz_line(&in)) == NULL)
		return (0);
	value = fuzz_text((const char *)in.p, in.left);
	check_query(query);
	check_found(query, value);
	check_etags(query, value);
	(void)web_type_is_json(query);
	free(query);
	free(value);
	return (0);
}
