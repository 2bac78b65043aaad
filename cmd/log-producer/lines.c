#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

#include "lines.h"

#define LEVEL_WITHIN 128
#define WORD_MOST 8
#define STACK_MOST 8192 /* so that an escaped event fits into a record */

void
lines_clear(struct lines *lines)
{

	buffer_clear(&lines->text);
	lines->count = 0;
}

void
lines_add(struct lines *lines, const struct log_event *event)
{

	if (lines->count == LINES_MOST)
		return;
	log_event_encode(event, &lines->text);
	lines->ends[lines->count] = lines->text.length;
	memcpy(lines->services[lines->count++], event->service,
	    EVENT_NAME_SIZE);
}

const char *
lines_get(const struct lines *lines, int index, size_t *size)
{
	const size_t begin = index > 0 ? lines->ends[index - 1] : 0;

	*size = lines->ends[index] - begin;
	return (buffer_text(&lines->text) + begin);
}

/* ---- any line ---------------------------------------------------------------- */

static const struct {
	const char *word;
	enum log_event_level level;
} words[] = {
    {"debug", LOG_EVENT_DEBUG},
    {"trace", LOG_EVENT_DEBUG},
    {"info", LOG_EVENT_INFO},
    {"notice", LOG_EVENT_INFO},
    {"warn", LOG_EVENT_WARN},
    {"warning", LOG_EVENT_WARN},
    {"err", LOG_EVENT_ERROR},
    {"error", LOG_EVENT_ERROR},
    {"critical", LOG_EVENT_FATAL},
    {"fatal", LOG_EVENT_FATAL},
    {"panic", LOG_EVENT_FATAL},
};

static enum log_event_level
find_level(const char *text)
{
	char word[WORD_MOST + 2];
	size_t i, length, at = 0;

	while (at < LEVEL_WITHIN && text[at] != '\0') {
		for (length = 0; isalnum((unsigned char)text[at + length]) ||
		     text[at + length] == '_';
		     length++)
			;
		if (length > 0 && length <= WORD_MOST) {
			memcpy(word, text + at, length);
			word[length] = '\0';
			for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
				if (strcasecmp(word, words[i].word) == 0)
					return (words[i].level);
		}
		at += length > 0 ? length : 1;
	}
	return (LOG_EVENT_INFO);
}

/* Copy what fits and is clean; how much that came to. */
static size_t
copy_clean(char *out, size_t most, const char *line, size_t size)
{
	size_t n, length = 0;
	unsigned char c;

	for (; size > 0; line += n, size -= n) {
		c = (unsigned char)*line;
		n = utf8_length(line, size);
		if (length + (n > 0 ? n : 1) > most)
			break;
		if (n == 0 || (c < 0x20 && c != '\t') || c == 0x7F ||
		    (c == 0xC2 && (unsigned char)line[1] < 0xA0)) {
			out[length++] = '?';
			n = n > 0 ? n : 1;
			continue;
		}
		memcpy(out + length, line, n);
		length += n;
	}
	out[length] = '\0';
	return (length);
}

int
lines_parse(const char *line, size_t size, struct log_event *event)
{
	static struct log_event decoded; /* too large for a stack */
	struct mr_error err;

	if (size > 0 && line[size - 1] == '\r')
		size--;
	if (size > 0 && line[0] == '{' &&
	    log_event_decode(line, size, &decoded, &err) == 0) {
		memcpy(event, &decoded, sizeof(*event));
		return (1);
	}
	event->request_id[0] = event->stack[0] = '\0';
	if (copy_clean(event->message, sizeof(event->message) - 1, line,
		size) == 0)
		return (0);
	event->level = find_level(event->message);
	return (1);
}

int
lines_is_more(const char *line, size_t size)
{
	static const char cause[] = "Caused by:";

	return (size > 1 &&
	    (line[0] == ' ' || line[0] == '\t' ||
		(size >= sizeof(cause) - 1 &&
		    memcmp(line, cause, sizeof(cause) - 1) == 0)));
}

void
lines_append(struct log_event *event, const char *line, size_t size)
{
	size_t length = strlen(event->stack);

	if (size > 0 && line[size - 1] == '\r')
		size--;
	if (length + 2 >= STACK_MOST)
		return;
	if (length > 0)
		event->stack[length++] = '\n';
	copy_clean(event->stack + length, STACK_MOST - length, line, size);
}
