/*
 * search -- from what a person typed to an FTS5 expression.
 *
 * Every term is put in quotes, in which FTS5 knows no operators; a quote
 * can't be in one, since it ends the term.  Between terms that are wanted is a
 * space, which to FTS5 means AND too, but leaves out a term that it finds no
 * word in, where AND with one finds nothing.
 */
#include <ctype.h>
#include <string.h>

#include "logs.h"

struct term {
	const char *text;
	size_t length;
	int prefix; /* word* */
	int absent; /* -word */
};

/* May FTS5's tokenizer find anything in it?  Of what isn't ASCII it takes some
 * for parts of words, and finds nothing in the rest: punctuation, emoji. */
static int
has_word(const struct term *term)
{
	size_t i;

	for (i = 0; i < term->length; i++)
		if (isalnum((unsigned char)term->text[i]) ||
		    (unsigned char)term->text[i] >= 0x80)
			return (1);
	return (0);
}

/* The next term, and where to go on; NULL at the end. */
static const char *
term_next(const char *at, struct term *term)
{
	at += strspn(at, " \t\r\n");
	if (*at == '\0')
		return (NULL);
	memset(term, 0, sizeof(*term));
	if (*at == '-') {
		term->absent = 1;
		at++;
	}
	if (*at == '"') {
		term->text = ++at;
		at += term->length = strcspn(at, "\"");
		at += *at == '"';
	} else {
		term->text = at;
		at += term->length = strcspn(at, " \t\r\n\"");
	}
	if (term->length > 0 && term->text[term->length - 1] == '*') {
		term->length--;
		term->prefix = 1;
	} else if (*at == '*') {
		term->prefix = 1;
		at++;
	}
	return (at);
}

/* Add the terms that are wanted, or those that aren't, and count them. */
static int
add_terms(const char *text, int absent, struct buffer *out)
{
	struct term term;
	const char *at = text;
	int count = 0, terms = 0;

	while (
	    (at = term_next(at, &term)) != NULL && terms < SEARCH_TERMS_MOST) {
		if (!has_word(&term))
			continue;
		terms++;
		if (term.absent != absent)
			continue;
		if (absent)
			buffer_add_text(out, " NOT ");
		else if (count > 0)
			buffer_add_text(out, " ");
		buffer_add_text(out, "\"");
		buffer_add(out, term.text, term.length);
		buffer_add_text(out, term.prefix ? "\"*" : "\"");
		count++;
	}
	return (count);
}

int
search_parse(const char *text, struct buffer *out, struct mr_error *err)
{
	buffer_add_text(out, "(");
	if (add_terms(text, 0, out) == 0)
		return (mr_error_set(err, MR_REJECT,
		    "must have a word to look for"));
	buffer_add_text(out, ")");
	(void)add_terms(text, 1, out);
	return (out->failed ? mr_error_set(err, MR_RETRY, "out of memory") : 0);
}
