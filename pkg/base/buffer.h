/*
 * buffer -- bytes that grow, and JSON written into them.
 *
 * Zero-initialise, or call buffer_init with a ceiling.  Errors stick: after
 * an allocation fails or the ceiling (64 MiB unless set) is passed, `failed` is
 * 1, further writes do nothing, and the caller checks once at the end.  When it
 * didn't fail, `data[length]` is a NUL that doesn't count.  `data` is NULL while
 * nothing was ever written; buffer_text never returns NULL.
 */
#ifndef MR_BUFFER_H
#define MR_BUFFER_H

#include <stddef.h>
#include <stdint.h>

struct buffer {
	char *data;
	size_t length;
	size_t capacity;
	size_t ceiling; /* 0: the default */
	int failed;
};

void buffer_init(struct buffer *buf, size_t ceiling_bytes);
/* buffer_clear -- empty it, and forget a failure; the memory stays. */
void buffer_clear(struct buffer *buf);
/* buffer_free -- give the memory back; the buffer can be used again. */
void buffer_free(struct buffer *buf);
void buffer_add(struct buffer *buf, const void *bytes, size_t length);
/* buffer_extend -- ${length} bytes more, which the caller sets: where they are
 * until the next call, or NULL after a failure. */
char *buffer_extend(struct buffer *buf, size_t length);
void buffer_add_text(struct buffer *buf, const char *text);
void buffer_add_i64(struct buffer *buf, int64_t n);
/* int64_text -- a number in decimal, with a NUL; its length. */
#define INT64_TEXT_SIZE 21
size_t int64_text(char text[INT64_TEXT_SIZE], int64_t n);
/* buffer_add_f64 -- a finite number, in the fewest digits that read back as it. */
void buffer_add_f64(struct buffer *buf, double x);
void buffer_addf(struct buffer *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
const char *buffer_text(const struct buffer *buf);

/*
 * A JSON writer (RFC 8259).  Commas and colons are put in by the writer, so
 * objects and arrays are opened, filled and closed:
 *
 *	json_object_open(&w); json_key(&w, "id"); json_text(&w, id);
 *	json_object_close(&w);
 *
 * Text is escaped; bytes that aren't UTF-8 become U+FFFD.  Nesting deeper
 * than 62, a close that doesn't match, and a key anywhere but in an object are
 * assertions.  Nothing is put between values outside of all brackets, so
 * several documents can follow one another.  json_member_* writes a key and
 * its value.
 */
struct json_writer {
	struct buffer *buf;
	uint64_t has_members; /* a bit a level */
	uint64_t is_object; /* likewise */
	int depth;
	int after_key;
};

void json_init(struct json_writer *w, struct buffer *buf);
void json_object_open(struct json_writer *w);
void json_object_close(struct json_writer *w);
void json_array_open(struct json_writer *w);
void json_array_close(struct json_writer *w);
void json_key(struct json_writer *w, const char *key);
void json_text(struct json_writer *w, const char *text); /* NULL: null */
void json_text_n(struct json_writer *w, const char *text, size_t length);
void json_i64(struct json_writer *w, int64_t n);
/* A decimal with 0 to 18 digits after the point: json_decimal(w, 1999, 2)
 * writes 19.99. */
void json_decimal(struct json_writer *w, int64_t scaled, int decimals);
void json_f64(struct json_writer *w, double x); /* not finite: null */
void json_bool(struct json_writer *w, int truth);
void json_nil(struct json_writer *w); /* null; json_null is jansson's */
void json_member_text(struct json_writer *w, const char *key, const char *v);
void json_member_i64(struct json_writer *w, const char *key, int64_t v);
void json_member_bool(struct json_writer *w, const char *key, int v);

#endif
