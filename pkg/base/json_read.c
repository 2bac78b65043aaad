#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"

static _Thread_local int memory_failed;

static void *
watched_malloc(size_t size)
{
	void *p;

	if ((p = malloc(size)) == NULL)
		memory_failed = 1;
	return (p);
}

/* Before main, so that no thread can be in jansson. */
__attribute__((constructor)) static void
watch_jansson(void)
{

	json_set_alloc_funcs(watched_malloc, free);
}

/* ---- the documents that most are ----------------------------------------- */

/*
 * jansson takes 140 instructions for each byte, more than all else that is
 * done with most records.  So what is as plain as they are, an object of
 * members that aren't objects or arrays themselves, without escapes, ASCII
 * only, with whole numbers of up to 18 digits and no name twice, is read here
 * into what jansson would make of it.  All else, errors too, is left to it.
 */
#define MEMBERS_MOST 16
#define DIGITS_MOST 18

struct text {
	const char *at, *end;
};

struct slice {
	const char *bytes;
	size_t length;
};

/* The next byte; a NUL, which is never plain, at the end. */
static char
peek(const struct text *t)
{

	return (t->at < t->end ? *t->at : '\0');
}

static int
take(struct text *t, char c)
{

	if (peek(t) != c)
		return (0);
	t->at++;
	return (1);
}

static void
skip_space(struct text *t)
{

	while (t->at < t->end &&
	    (*t->at == ' ' || *t->at == '\n' || *t->at == '\t' ||
		*t->at == '\r'))
		t->at++;
}

static int
take_text(struct text *t, struct slice *s)
{
	unsigned char c;

	if (!take(t, '"'))
		return (0);
	s->bytes = t->at;
	while ((c = (unsigned char)peek(t)) >= 0x20 && c < 0x80 && c != '"' &&
	    c != '\\')
		t->at++;
	s->length = (size_t)(t->at - s->bytes);
	return (take(t, '"'));
}

static json_t *
take_number(struct text *t)
{
	const int negative = take(t, '-');
	const char *first = t->at;
	json_int_t n = 0;
	size_t digits;

	for (; peek(t) >= '0' && peek(t) <= '9'; t->at++) {
		if (t->at - first == DIGITS_MOST)
			return (NULL);
		n = 10 * n + (*t->at - '0');
	}
	digits = (size_t)(t->at - first);
	if (digits == 0 || (digits > 1 && *first == '0'))
		return (NULL);
	return (json_integer(negative ? -n : n));
}

static int
take_word(struct text *t, const char *word)
{
	const size_t length = strlen(word);

	if ((size_t)(t->end - t->at) < length ||
	    memcmp(t->at, word, length) != 0)
		return (0);
	t->at += length;
	return (1);
}

static json_t *
take_value(struct text *t)
{
	struct slice s;

	switch (peek(t)) {
	case '"':
		return (take_text(t, &s) ?
			json_stringn_nocheck(s.bytes, s.length) :
			NULL);
	case 't':
		return (take_word(t, "true") ? json_true() : NULL);
	case 'f':
		return (take_word(t, "false") ? json_false() : NULL);
	case 'n':
		return (take_word(t, "null") ? json_null() : NULL);
	default:
		return (take_number(t));
	}
}

static int
is_among(const struct slice *names, int count, const struct slice *name)
{
	int i;

	for (i = 0; i < count; i++)
		if (names[i].length == name->length &&
		    memcmp(names[i].bytes, name->bytes, name->length) == 0)
			return (1);
	return (0);
}

/* 1 and a comma or the end behind it, or 0. */
static int
take_member(struct text *t, json_t *object, struct slice *names, int count)
{
	struct slice *name = &names[count];

	skip_space(t);
	if (count == MEMBERS_MOST || !take_text(t, name) ||
	    is_among(names, count, name))
		return (0);
	skip_space(t);
	if (!take(t, ':'))
		return (0);
	skip_space(t);
	/* No value is an error there, too. */
	if (json_object_setn_new_nocheck(object, name->bytes, name->length,
		take_value(t)) != 0)
		return (0);
	skip_space(t);
	return (peek(t) == ',' || peek(t) == '}');
}

/* NULL: it isn't that plain, or there isn't the memory. */
static json_t *
read_plain(const char *bytes, size_t size)
{
	struct text t = {bytes, bytes + size};
	struct slice names[MEMBERS_MOST + 1] __attribute__((uninitialized));
	json_t *object;
	int count = 0;

	skip_space(&t);
	if (!take(&t, '{') || (object = json_object()) == NULL)
		return (NULL);
	do {
		if (!take_member(&t, object, names, count++))
			goto fail;
	} while (take(&t, ','));
	t.at++; /* the brace */
	skip_space(&t);
	if (t.at == t.end)
		return (object);
fail:
	json_decref(object);
	return (NULL);
}

json_t *
json_read(const void *bytes, size_t size, size_t flags, json_error_t *why,
    int *out_of_memory)
{
	json_t *root = NULL;

	memory_failed = 0;
	if (size > 0 &&
	    (flags & ~(size_t)(JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)) == 0)
		root = read_plain(bytes, size);
	if (root == NULL && !memory_failed)
		root = json_loadb(bytes, size, flags, why);
	*out_of_memory = memory_failed;
	if (!memory_failed)
		return (root);
	json_decref(root);
	return (NULL);
}
