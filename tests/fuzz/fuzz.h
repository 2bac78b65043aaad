/*
 * fuzz -- what the fuzz targets share.
 *
 * A target is a file fuzz_<name>.c with a LLVMFuzzerTestOneInput that asserts
 * what has to hold for any bytes; its seeds are in corpus/<name>.  libFuzzer
 * drives it (make fuzz), or replay.c does, with any compiler (make test).
 * It keeps nothing from one input to the next that changes what it does.
 */
#ifndef MR_FUZZ_H
#define MR_FUZZ_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What of the input isn't used yet; past its end there are zeros. */
struct fuzz_input {
	const uint8_t *p;
	size_t left;
};

static inline uint8_t
fuzz_byte(struct fuzz_input *in)
{

	if (in->left == 0)
		return (0);
	in->left--;
	return (*in->p++);
}

static inline int64_t
fuzz_i64(struct fuzz_input *in)
{
	uint64_t n = 0;
	int i;

	for (i = 0; i < 8; i++)
		n = n << 8 | fuzz_byte(in);
	return ((int64_t)n);
}

/* At most ${most} bytes of what is left; they stay where they are. */
static inline const char *
fuzz_bytes(struct fuzz_input *in, size_t most, size_t *length)
{
	const char *bytes = (const char *)in->p;

	*length = most < in->left ? most : in->left;
	in->p += *length;
	in->left -= *length;
	return (bytes);
}

/* The bytes with a NUL behind them, to be freed. */
static inline char *
fuzz_text(const char *bytes, size_t length)
{
	char *text = malloc(length + 1);

	assert(text != NULL);
	if (length > 0)
		memcpy(text, bytes, length);
	text[length] = '\0';
	return (text);
}

static inline int
fuzz_is_utf8(const char *text, size_t length)
{
	size_t n;

	for (; length > 0; text += n, length -= n)
		if ((n = utf8_length(text, length)) == 0)
			return (0);
	return (1);
}

/*
 * The next line, without its newline, in a text to be freed; NULL when there
 * is none left.
 */
static inline char *
fuzz_line(struct fuzz_input *in)
{
	const uint8_t *end;
	size_t length;
	char *line;

	if (in->left == 0)
		return (NULL);
	end = memchr(in->p, '\n', in->left);
	length = end != NULL ? (size_t)(end - in->p) : in->left;
	line = fuzz_text((const char *)in->p, length);
	if (end != NULL)
		length++;
	in->p += length;
	in->left -= length;
	return (line);
}

#endif
