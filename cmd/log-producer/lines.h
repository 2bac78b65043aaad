/*
 * lines -- log lines on their way to Kafka, those of one step.
 *
 * They are encoded at once, since an event has room for the longest.
 */
#ifndef MR_LINES_H
#define MR_LINES_H

#include "base/buffer.h"
#include "event/event.h"

#define LINES_MOST 1000

struct lines {
	struct buffer text;
	size_t ends[LINES_MOST]; /* of each in the text */
	char services[LINES_MOST][EVENT_NAME_SIZE];
	int count;
};

void lines_clear(struct lines *lines); /* keeps the memory */
void lines_add(struct lines *lines, const struct log_event *event);
/* The ${index}-th, and its size; good until lines_clear or lines_add. */
const char *lines_get(const struct lines *lines, int index, size_t *size);

/*
 * lines_parse -- make an event of a line of any log.
 *
 * A JSON object that is a log event stays what it is.  Else the line is the
 * message: what isn't UTF-8 or is a control character but a tab becomes '?',
 * and the end is cut off where it is too long; the level is that of the first
 * word among the first 128 bytes that is one (DEBUG, TRACE, INFO, NOTICE,
 * WARN, WARNING, ERR, ERROR, CRITICAL, FATAL, PANIC in any case), info
 * without.  ${event} has service, host and ts_ms already.  1; 0 if there is
 * nothing in the line.
 */
int lines_parse(const char *line, size_t size, struct log_event *event);

/*
 * lines_is_more -- whether a line belongs to the one before it: it is
 * indented, or begins with "Caused by:".  lines_append adds it to that event's
 * stack trace, as far as there is room.
 */
int lines_is_more(const char *line, size_t size);
void lines_append(struct log_event *event, const char *line, size_t size);

#endif
