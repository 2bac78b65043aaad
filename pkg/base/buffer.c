#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

#define CEILING_DEFAULT ((size_t)64 * 1024 * 1024)
#define CAPACITY_LEAST ((size_t)128)

void
buffer_init(struct buffer *buf, size_t ceiling_bytes)
{

	memset(buf, 0, sizeof(*buf));
	buf->ceiling = ceiling_bytes;
}

void
buffer_clear(struct buffer *buf)
{

	buf->length = 0;
	buf->failed = 0;
	if (buf->data != NULL)
		buf->data[0] = '\0';
}

void
buffer_free(struct buffer *buf)
{
	size_t ceiling;

	if (buf == NULL)
		return;
	ceiling = buf->ceiling;
	free(buf->data);
	buffer_init(buf, ceiling);
}

/* Room for n more bytes and their NUL; 0, or -1 with the failure kept. */
static int
grow(struct buffer *buf, size_t n)
{
	size_t ceiling, capacity;
	char *data;

	ceiling = buf->ceiling != 0 ? buf->ceiling : CEILING_DEFAULT;
	if (ceiling > SIZE_MAX / 4)
		ceiling = SIZE_MAX / 4;
	if (n > ceiling || buf->length > ceiling - n)
		goto fail;
	capacity = buf->capacity * 2;
	if (capacity < buf->length + n + 1)
		capacity = buf->length + n + 1;
	if (capacity < CAPACITY_LEAST)
		capacity = CAPACITY_LEAST;
	if (capacity > ceiling + 1)
		capacity = ceiling + 1;
	if ((data = realloc(buf->data, capacity)) == NULL)
		goto fail;
	data[buf->length] = '\0';
	buf->data = data;
	buf->capacity = capacity;
	return (0);

fail:
	buf->failed = 1;
	return (-1);
}

char *
buffer_extend(struct buffer *buf, size_t length)
{
	char *added;

	if (buf->failed)
		return (NULL);
	if (length >= buf->capacity - buf->length && grow(buf, length))
		return (NULL);
	added = buf->data + buf->length;
	added[length] = '\0';
	buf->length += length;
	return (added);
}

void
buffer_add(struct buffer *buf, const void *bytes, size_t length)
{
	char *added = buffer_extend(buf, length);

	if (added != NULL && length > 0)
		memcpy(added, bytes, length);
}

void
buffer_add_text(struct buffer *buf, const char *text)
{

	buffer_add(buf, text, strlen(text));
}

size_t
int64_text(char text[INT64_TEXT_SIZE], int64_t n)
{
	char digits[INT64_TEXT_SIZE];
	char *p = digits + sizeof(digits);
	uint64_t u;
	size_t length;

	u = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
	do {
		*--p = (char)('0' + u % 10);
		u /= 10;
	} while (u != 0);
	if (n < 0)
		*--p = '-';
	length = (size_t)(digits + sizeof(digits) - p);
	memcpy(text, p, length);
	text[length] = '\0';
	return (length);
}

void
buffer_add_i64(struct buffer *buf, int64_t n)
{
	char text[INT64_TEXT_SIZE];
	size_t length = int64_text(text, n);

	buffer_add(buf, text, length);
}

void
buffer_add_f64(struct buffer *buf, double x)
{
	char text[40];
	int precision;

	for (precision = 15; precision < 17; precision++) {
		snprintf(text, sizeof(text), "%.*g", precision, x);
		if (strtod(text, NULL) == x)
			break;
	}
	if (precision == 17)
		snprintf(text, sizeof(text), "%.17g", x);
	buffer_add_text(buf, text);
}

void
buffer_addf(struct buffer *buf, const char *format, ...)
{
	va_list ap;
	size_t room;
	int n;

	if (buf->failed)
		return;
	room = buf->capacity - buf->length;
	va_start(ap, format);
	n = vsnprintf(room > 0 ? buf->data + buf->length : NULL, room, format,
	    ap);
	va_end(ap);
	if (n < 0) {
		buf->failed = 1;
		if (room > 0)
			buf->data[buf->length] = '\0';
		return;
	}
	if ((size_t)n >= room) {
		if (room > 0)
			buf->data[buf->length] = '\0';
		if (grow(buf, (size_t)n))
			return;
		va_start(ap, format);
		vsnprintf(buf->data + buf->length, buf->capacity - buf->length,
		    format, ap);
		va_end(ap);
	}
	buf->length += (size_t)n;
}

const char *
buffer_text(const struct buffer *buf)
{

	return (buf->data != NULL ? buf->data : "");
}
