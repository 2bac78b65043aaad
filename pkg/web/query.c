/*
 * query -- parameters after the question mark.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "web/web_internal.h"

#define NAME_SIZE 128

struct pair {
	const char *name;
	size_t name_length;
	const char *value;
	size_t value_length;
};

/* The next name=value; empty ones between ampersands are left out. */
static int
next_pair(const char **at, struct pair *pair)
{
	const char *p = *at + strspn(*at, "&");
	size_t length = strcspn(p, "&"), name_length;

	if (length == 0)
		return (0);
	name_length = strcspn(p, "=&");
	pair->name = p;
	pair->name_length = name_length;
	if (name_length < length) {
		pair->value = p + name_length + 1;
		pair->value_length = length - name_length - 1;
	} else {
		pair->value = p + length;
		pair->value_length = 0;
	}
	*at = p + length;
	return (1);
}

static int
is_named(const struct pair *pair, const char *name)
{
	char decoded[NAME_SIZE];

	return (web_decode(pair->name, pair->name_length, 1, decoded,
		    sizeof(decoded)) >= 0 &&
	    strcmp(decoded, name) == 0);
}

int
web_query_text(struct web_request *req, struct web_response *res,
    const char *name, char *out, size_t out_size)
{
	const char *at = req->query;
	struct pair pair, found = {.name = NULL};

	while (next_pair(&at, &pair)) {
		if (!is_named(&pair, name))
			continue;
		if (found.name != NULL)
			return (web_problem_field(res, name,
			    "must not be given more than once"));
		found = pair;
	}
	if (found.name == NULL)
		return (0);
	switch (web_decode(found.value, found.value_length, 1, out, out_size)) {
	case WEB_DECODE_LONG:
		return (web_problem_field(res, name,
		    "must have at most %zu bytes", out_size - 1));
	case WEB_DECODE_BAD:
		return (web_problem_field(res, name,
		    "must be percent-encoded UTF-8"));
	default:
		return (1);
	}
}

int
web_query_i64(struct web_request *req, struct web_response *res,
    const char *name, int64_t least, int64_t most, int64_t *n)
{
	char text[32] = "", *end;
	long long value;
	int given;

	if ((given = web_query_text(req, res, name, text, sizeof(text))) != 1)
		return (given);
	errno = 0;
	value = strtoll(text, &end, 10);
	/* strtoll takes blanks and a plus in front, a query doesn't. */
	if ((text[0] != '-' && (text[0] < '0' || text[0] > '9')) ||
	    *end != '\0' || errno != 0 || value < least || value > most)
		return (web_problem_field(res, name,
		    "must be a whole number from %lld to %lld",
		    (long long)least, (long long)most));
	*n = value;
	return (1);
}

int
web_query_uuid(struct web_request *req, struct web_response *res,
    const char *name, char out[ID_UUID_SIZE])
{
	char text[ID_UUID_SIZE + 1]; /* so much is told from what is longer */
	int given;

	if ((given = web_query_text(req, res, name, text, sizeof(text))) != 1)
		return (given);
	if (!id_uuid_read(text, out))
		return (web_problem_field(res, name, "must be a UUID"));
	return (1);
}

int
web_query_only(struct web_request *req, struct web_response *res,
    const char *const *names)
{
	struct web_errors errors = {.count = 0};
	char decoded[NAME_SIZE];
	const char *at = req->query;
	struct pair pair;
	int i;

	while (next_pair(&at, &pair)) {
		for (i = 0; names[i] != NULL; i++) {
			if (is_named(&pair, names[i]))
				break;
		}
		if (names[i] != NULL)
			continue;
		if (web_decode(pair.name, pair.name_length, 1, decoded,
			sizeof(decoded)) < 0)
			strcpy(decoded, "?");
		web_errors_add(&errors, res, decoded,
		    "is not a parameter of this path");
	}
	return (web_errors_end(&errors));
}
