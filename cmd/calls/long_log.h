/*
 * long_log -- lines appended to a plain file, each exactly once.
 *
 * A line is a JSON object that begins with its source (the database id) and
 * its seq: {"source":"<32 characters>","seq":12,...}.  Lines of a source are
 * appended in the order of seq, and only after their rows were committed, so
 * the last whole line of a source says which of them are there: after a crash
 * between a line and the commit that would remember it, the file itself tells.
 * A line that a crash cut short is cut off.
 *
 * Where the file's own end doesn't say (it was renamed, truncated or removed
 * by who rotates logs), files beside it whose names begin with its name are
 * asked too.  So a line can only be written twice if, between a crash and the
 * next start, the file was rotated and made unreadable (compressed) as well;
 * rotate with delaycompress.
 *
 * One process at a time: the caller holds the pen of its file.
 */
#ifndef MR_LONG_LOG_H
#define MR_LONG_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct long_log {
	int fd;
	int64_t length; /* bytes, up to the end of the last whole line */
	const char *path; /* borrowed */
};

/*
 * long_log_open -- open or make the file, and find what it has.
 *
 * ${remembered} is the last seq that is known to be in it; *last becomes that
 * or a later one that is in it.  0, or -1 RETRY; close it only after a 0.
 */
int long_log_open(struct long_log *log, const char *path, const char *source,
    int64_t remembered, int64_t *last, struct mr_error *err);

/*
 * long_log_append -- whole lines, on disk when it returns 0.  -1 RETRY: none
 * of them is in the file, unless even that can't be had (the next open tells).
 */
int long_log_append(struct long_log *log, const char *lines, size_t length,
    struct mr_error *err);
void long_log_close(struct long_log *log);

#endif
