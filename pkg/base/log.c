#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"

/*
 * A pipe takes up to 4 KiB whole or not at all (PIPE_BUF).  The reserve is
 * for what ends a line that was cut: a quote, the mark, a brace, a newline.
 */
#define LINE_SIZE 4096
#define LINE_RESERVE 24
#define VALUES 16
#define BYTES_SHOWN 200

/*
 * A value made by log_i64 and its like.  It knows its length, so that bytes
 * with a NUL among them are shown whole.
 */
struct value {
	char text[BYTES_SHOWN + sizeof("...")];
	size_t length;
};

struct line {
	char text[LINE_SIZE];
	size_t length;
	int cut;
};

static char log_instance[64] = "millrace";
static enum log_format log_format = LOG_LOGFMT;
static atomic_int log_lowest = LOG_INFO;

static _Thread_local struct value values[VALUES];
static _Thread_local unsigned int values_made;
static _Thread_local struct line line;

static const char *const level_names[] = {
    [LOG_DEBUG] = "debug",
    [LOG_INFO] = "info",
    [LOG_WARN] = "warn",
    [LOG_ERROR] = "error",
};

void
log_init(const char *instance, enum log_format format, enum log_level lowest)
{

	snprintf(log_instance, sizeof(log_instance), "%s", instance);
	log_format = format;
	atomic_store_explicit(&log_lowest, (int)lowest, memory_order_relaxed);
}

int
log_enabled(enum log_level level)
{

	return ((int)level >=
	    atomic_load_explicit(&log_lowest, memory_order_relaxed));
}

/*
 * Once a piece doesn't fit, the line is cut there and takes no more.  A quote
 * that closed the last value may be in the reserve by now.
 */
static int
put(const char *bytes, size_t n)
{
	const size_t room = LINE_SIZE - LINE_RESERVE;

	if (line.cut || line.length > room || n > room - line.length) {
		line.cut = 1;
		return (-1);
	}
	memcpy(line.text + line.length, bytes, n);
	line.length += n;
	return (0);
}

/* For what ends a line: goes into the reserve. */
static void
put_end(const char *text)
{
	size_t n = strlen(text);

	memcpy(line.text + line.length, text, n);
	line.length += n;
}

/* Characters that show as themselves: no C0, DEL or C1 controls. */
static size_t
printable_length(const char *p, size_t n)
{
	unsigned char c = (unsigned char)*p;
	size_t length;

	if (c < 0x20 || c == 0x7F)
		return (0);
	length = utf8_length(p, n);
	if (length == 2 && c == 0xC2 && (unsigned char)p[1] < 0xA0)
		return (0);
	return (length);
}

static int
put_escaped(unsigned char c)
{
	static const char hex[] = "0123456789ABCDEF";
	char text[5];
	size_t n = 0;

	switch (c) {
	case '"':
		return (put("\\\"", 2));
	case '\\':
		return (put("\\\\", 2));
	case '\n':
		return (put("\\n", 2));
	case '\r':
		return (put("\\r", 2));
	case '\t':
		return (put("\\t", 2));
	default:
		/* In JSON, \x isn't an escape: its backslash is escaped. */
		if (log_format == LOG_JSON)
			text[n++] = '\\';
		text[n++] = '\\';
		text[n++] = 'x';
		text[n++] = hex[c >> 4];
		text[n++] = hex[c & 15];
		return (put(text, n));
	}
}

/* A value between quotes, which are closed even where the line is cut. */
static int
put_quoted(const char *text, size_t length)
{
	size_t at = 0, n;
	int rc;

	if (put("\"", 1))
		return (-1);
	while (at < length) {
		n = text[at] == '"' || text[at] == '\\' ?
		    0 :
		    printable_length(text + at, length - at);
		rc = n > 0 ? put(text + at, n) :
			     put_escaped((unsigned char)text[at]);
		if (rc)
			break;
		at += n > 0 ? n : 1;
	}
	put_end("\"");
	return (0);
}

/* Whether logfmt takes a value without quotes. */
static int
is_plain(const char *text, size_t length)
{
	size_t at, n;

	for (at = 0; at < length; at += n) {
		if (text[at] == ' ' || text[at] == '"' || text[at] == '=' ||
		    text[at] == '\\')
			return (0);
		if ((n = printable_length(text + at, length - at)) == 0)
			return (0);
	}
	return (length > 0);
}

/* Keys are ours, but a bad one must not break the line. */
static void
put_key(const char *key)
{
	size_t at, n;

	if (log_format == LOG_JSON)
		put(line.length > 0 ? ",\"" : "{\"", 2);
	else if (line.length > 0)
		put(" ", 1);
	for (at = 0; key[at] != '\0'; at++) {
		n = key[at] > ' ' && key[at] < 0x7F && key[at] != '"' &&
		    key[at] != '=' && key[at] != '\\';
		put(n ? key + at : "_", 1);
	}
	put(log_format == LOG_JSON ? "\":" : "=",
	    log_format == LOG_JSON ? 2 : 1);
}

/* A pair whose key or opening quote doesn't fit is left out whole. */
static void
put_pair(const char *key, const char *value, size_t length)
{
	size_t start = line.length;

	if (line.cut)
		return;
	put_key(key);
	if (!line.cut) {
		if (log_format == LOG_LOGFMT && is_plain(value, length) &&
		    length <= LINE_SIZE - LINE_RESERVE - line.length) {
			put(value, length);
			return;
		}
		if (put_quoted(value, length) == 0)
			return;
	}
	line.length = start;
}

static size_t
value_length(const char *text)
{
	uintptr_t p = (uintptr_t)text, first = (uintptr_t)values;

	if (p >= first && p < first + sizeof(values) &&
	    (p - first) % sizeof(values[0]) == 0)
		return (values[(p - first) / sizeof(values[0])].length);
	return (strlen(text));
}

static void
end_line(void)
{
	int json = log_format == LOG_JSON;

	if (line.cut)
		put_end(json ? ",\"cut\":true" : " cut=true");
	put_end(json ? "}\n" : "\n");
}

void
log_write(enum log_level level, const char *message, ...)
{
	int saved = errno;
	char now[25];
	const char *key, *value;
	va_list ap;
	ssize_t n;

	if (!log_enabled(level))
		return;
	line.length = 0;
	line.cut = 0;
	clock_rfc3339(clock_wall_ms(), now);
	put_pair("time", now, strlen(now));
	put_pair("level", level_names[level], strlen(level_names[level]));
	put_pair("instance", log_instance, strlen(log_instance));
	put_pair("msg", message, strlen(message));
	va_start(ap, message);
	while ((key = va_arg(ap, const char *)) != NULL) {
		if ((value = va_arg(ap, const char *)) == NULL)
			value = "";
		put_pair(key, value, value_length(value));
	}
	va_end(ap);
	end_line();
	/* A log that nobody takes must not stop the work: no second try. */
	do {
		n = write(STDERR_FILENO, line.text, line.length);
	} while (n < 0 && errno == EINTR);
	errno = saved;
}

static struct value *
next_value(void)
{

	return (&values[values_made++ % VALUES]);
}

const char *
log_i64(int64_t n)
{
	struct value *v = next_value();

	v->length = (size_t)snprintf(v->text, sizeof(v->text), "%lld",
	    (long long)n);
	return (v->text);
}

const char *
log_f64(double x, int decimals)
{
	struct value *v = next_value();
	int n;

	if (decimals < 0)
		decimals = 0;
	/* Beyond 1e15 a double has no decimals that mean anything. */
	if (x > -1e15 && x < 1e15)
		n = snprintf(v->text, sizeof(v->text), "%.*f",
		    decimals < 20 ? decimals : 20, x);
	else
		n = snprintf(v->text, sizeof(v->text), "%g", x);
	v->length = n < 0 ? 0 : (size_t)n;
	return (v->text);
}

const char *
log_bytes(const void *p, uint64_t length)
{
	struct value *v = next_value();
	const char *bytes = p;
	size_t n = length < BYTES_SHOWN ? (size_t)length : BYTES_SHOWN;
	size_t back;

	/* Cut before a character, not inside of one. */
	if (n < length)
		for (back = 1; back <= 3 && back <= n; back++)
			if (utf8_length(bytes + n - back,
				(size_t)(length < n + 4 ? length : n + 4) -
				    (n - back)) > back) {
				n -= back;
				break;
			}
	if (n > 0)
		memcpy(v->text, bytes, n);
	v->length = n;
	if (n < length) {
		memcpy(v->text + n, "...", 3);
		v->length += 3;
	}
	v->text[v->length] = '\0';
	return (v->text);
}

int
log_limit_take(struct log_limit *limit, int64_t *suppressed)
{
	int64_t now_ms = clock_mono_us() / 1000;
	int64_t full, passed_ms;

	*suppressed = 0;
	if (limit->per_second <= 0) {
		limit->suppressed++;
		return (0);
	}
	full = (limit->burst > 0 ? limit->burst : limit->per_second) * 1000;
	if (limit->last_ms == 0)
		limit->tokens_milli = full;
	else {
		passed_ms = now_ms - limit->last_ms;
		/* A product that can't overflow: an hour fills any bucket. */
		if (passed_ms > 3600000)
			limit->tokens_milli = full;
		else
			limit->tokens_milli += passed_ms * limit->per_second;
		if (limit->tokens_milli > full)
			limit->tokens_milli = full;
	}
	limit->last_ms = now_ms;
	if (limit->tokens_milli < 1000) {
		limit->suppressed++;
		return (0);
	}
	limit->tokens_milli -= 1000;
	*suppressed = limit->suppressed;
	limit->suppressed = 0;
	return (1);
}
