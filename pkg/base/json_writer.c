#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/buffer.h"
#include "base/utf8.h"

#define DEPTH_MOST 62

static uint64_t
level_bit(const struct json_writer *w)
{

	return ((uint64_t)1 << w->depth);
}

/* The comma before the second and later members of a level. */
static void
separate(struct json_writer *w)
{

	if (w->depth == 0)
		return;
	if (w->has_members & level_bit(w))
		buffer_add(w->buf, ",", 1);
	w->has_members |= level_bit(w);
}

static void
value_begin(struct json_writer *w)
{

	if (w->after_key) {
		w->after_key = 0;
		return;
	}
	assert(w->depth == 0 || !(w->is_object & level_bit(w)));
	separate(w);
}

static void
level_open(struct json_writer *w, const char *bracket, int is_object)
{

	value_begin(w);
	assert(w->depth < DEPTH_MOST);
	w->depth++;
	w->has_members &= ~level_bit(w);
	if (is_object)
		w->is_object |= level_bit(w);
	else
		w->is_object &= ~level_bit(w);
	buffer_add(w->buf, bracket, 1);
}

static void
level_close(struct json_writer *w, const char *bracket, int is_object)
{

	assert(w->depth > 0 && !w->after_key);
	assert(((w->is_object & level_bit(w)) != 0) == (is_object != 0));
	w->depth--;
	buffer_add(w->buf, bracket, 1);
}

void
json_init(struct json_writer *w, struct buffer *buf)
{

	memset(w, 0, sizeof(*w));
	w->buf = buf;
}

void
json_object_open(struct json_writer *w)
{

	level_open(w, "{", 1);
}

void
json_object_close(struct json_writer *w)
{

	level_close(w, "}", 1);
}

void
json_array_open(struct json_writer *w)
{

	level_open(w, "[", 0);
}

void
json_array_close(struct json_writer *w)
{

	level_close(w, "]", 0);
}

/* What an ASCII character that can't stand for itself is written as. */
static void
add_escape(struct buffer *buf, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	char text[6] = {'\\', 'u', '0', '0', '0', '0'};

	switch (c) {
	case '"':
		buffer_add(buf, "\\\"", 2);
		return;
	case '\\':
		buffer_add(buf, "\\\\", 2);
		return;
	case '\n':
		buffer_add(buf, "\\n", 2);
		return;
	case '\r':
		buffer_add(buf, "\\r", 2);
		return;
	case '\t':
		buffer_add(buf, "\\t", 2);
		return;
	default:
		text[4] = hex[c >> 4];
		text[5] = hex[c & 15];
		buffer_add(buf, text, sizeof(text));
	}
}

static int
is_plain(unsigned char c)
{

	return (c >= 0x20 && c < 0x80 && c != '"' && c != '\\');
}

/*
 * Whether ${text} has nothing but ASCII that stands for itself.  Eight bytes
 * at a time, by "Determine if a word has a byte less than n" and "has a zero
 * byte" of Sean Anderson's Bit Twiddling Hacks.
 */
static int
all_plain(const char *text, size_t length)
{
	const uint64_t each = UINT64_C(0x0101010101010101);
	const uint64_t highs = UINT64_C(0x8080808080808080);
	uint64_t word, quotes, slashes, found = 0;

	for (; length >= sizeof(word); length -= sizeof(word)) {
		memcpy(&word, text, sizeof(word));
		text += sizeof(word);
		quotes = word ^ each * '"';
		slashes = word ^ each * '\\';
		found |= word | ((word - each * 0x20) & ~word) |
		    ((quotes - each) & ~quotes) | ((slashes - each) & ~slashes);
	}
	for (; length > 0; length--)
		if (!is_plain((unsigned char)*text++))
			return (0);
	return ((found & highs) == 0);
}

/* Quoted text: runs that need no escape are copied whole. */
static void
add_quoted(struct buffer *buf, const char *text, size_t length)
{
	size_t run = 0, at = 0, n;
	unsigned char c;
	char *added;

	if (all_plain(text, length)) {
		if ((added = buffer_extend(buf, length + 2)) == NULL)
			return;
		*added = '"';
		if (length > 0)
			memcpy(added + 1, text, length);
		added[length + 1] = '"';
		return;
	}
	buffer_add(buf, "\"", 1);
	while (at < length) {
		c = (unsigned char)text[at];
		if (is_plain(c)) {
			at++;
			continue;
		}
		if (c >= 0x80 &&
		    (n = utf8_length(text + at, length - at)) > 0) {
			at += n;
			continue;
		}
		if (at > run)
			buffer_add(buf, text + run, at - run);
		if (c >= 0x80)
			buffer_add(buf, "\xEF\xBF\xBD", 3);
		else
			add_escape(buf, c);
		run = ++at;
	}
	if (at > run)
		buffer_add(buf, text + run, at - run);
	buffer_add(buf, "\"", 1);
}

/* A key that needs no escape, at once: half of what is written are keys. */
static void
add_plain_key(struct json_writer *w, const char *key, size_t length, int comma)
{
	char *added = buffer_extend(w->buf, (size_t)comma + length + 3);

	if (added == NULL)
		return;
	if (comma)
		*added++ = ',';
	*added++ = '"';
	memcpy(added, key, length);
	added[length] = '"';
	added[length + 1] = ':';
}

void
json_key(struct json_writer *w, const char *key)
{
	const size_t length = strlen(key);
	const int comma = (w->has_members & level_bit(w)) != 0;

	assert(w->depth > 0 && !w->after_key && (w->is_object & level_bit(w)));
	w->after_key = 1;
	w->has_members |= level_bit(w);
	if (all_plain(key, length)) {
		add_plain_key(w, key, length, comma);
		return;
	}
	buffer_add(w->buf, ",", (size_t)comma);
	add_quoted(w->buf, key, length);
	buffer_add(w->buf, ":", 1);
}

void
json_text(struct json_writer *w, const char *text)
{

	if (text == NULL)
		json_nil(w);
	else
		json_text_n(w, text, strlen(text));
}

void
json_text_n(struct json_writer *w, const char *text, size_t length)
{

	value_begin(w);
	add_quoted(w->buf, text, length);
}

void
json_i64(struct json_writer *w, int64_t n)
{

	value_begin(w);
	buffer_add_i64(w->buf, n);
}

void
json_decimal(struct json_writer *w, int64_t scaled, int decimals)
{
	char digits[24];
	char *p = digits + sizeof(digits);
	uint64_t u;
	int written = 0;

	assert(decimals >= 0 && decimals <= 18);
	value_begin(w);
	u = scaled < 0 ? 0 - (uint64_t)scaled : (uint64_t)scaled;
	/* At least one digit stands before the point: 5 is written 0.05. */
	do {
		if (written == decimals && decimals > 0)
			*--p = '.';
		*--p = (char)('0' + u % 10);
		u /= 10;
	} while (written++ < decimals || u != 0);
	if (scaled < 0)
		*--p = '-';
	buffer_add(w->buf, p, (size_t)(digits + sizeof(digits) - p));
}

void
json_f64(struct json_writer *w, double x)
{

	if (!isfinite(x)) {
		json_nil(w);
		return;
	}
	value_begin(w);
	buffer_add_f64(w->buf, x);
}

void
json_bool(struct json_writer *w, int truth)
{

	value_begin(w);
	buffer_add_text(w->buf, truth ? "true" : "false");
}

void
json_nil(struct json_writer *w)
{

	value_begin(w);
	buffer_add(w->buf, "null", 4);
}

void
json_member_text(struct json_writer *w, const char *key, const char *v)
{

	json_key(w, key);
	json_text(w, v);
}

void
json_member_i64(struct json_writer *w, const char *key, int64_t v)
{

	json_key(w, key);
	json_i64(w, v);
}

void
json_member_bool(struct json_writer *w, const char *key, int v)
{

	json_key(w, key);
	json_bool(w, v);
}
