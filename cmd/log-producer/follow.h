/*
 * follow -- ship the lines of a file that another program writes, or of
 * standard input.
 *
 * How far a file was read is kept by its inode and its first bytes, with the
 * records made of it.
 * When the name comes to stand for another file (rotation), the old one is
 * read on, since who writes goes on in it until told: then, once it has been
 * at the same end for FOLLOW_QUIET_S, the new one from its start, which was
 * held open, so that it may have been rotated as well.  What is written to the
 * old one later isn't seen; as long as it isn't quiet, the new one waits.
 *
 * After a stop the old one is found as long as it is there as <path>.1, not
 * compressed, and waited for anew; else, and that is said in the log, what the
 * name stands for then is read.
 *
 * A file that has become shorter, or begins otherwise (copytruncate), is read
 * from its start.  A line without its line feed waits for it, except at the
 * end of a file that is done with; one of more than 64 KiB becomes several.
 *
 * Standard input has no position: what was read of it when the process died
 * is gone.
 */
#ifndef MR_FOLLOW_H
#define MR_FOLLOW_H

#include "store/store.h"

#include "lines.h"

#define FOLLOW_HEAD 64 /* bytes that a file is known by, of those read */
#define FOLLOW_QUIET_S 10 /* and a rotated one is done with */

struct follow {
	const char *path; /* NULL: standard input */
	int onward; /* wait at the end of the file for more */
	const char *service, *host; /* of lines that don't say */
	/* as in the file; of standard input, bytes of this process */
	int64_t device, inode, offset, lines;
	char head[FOLLOW_HEAD];
	size_t head_size;
	/* this process's own */
	int fd; /* -1: none open */
	int next_fd; /* of the file after the one that was rotated; or -1 */
	int64_t end; /* of a rotated file, where it was last found; or -1 */
	int64_t quiet_us; /* since when, in monotonic time */
	int ended; /* there will be no more */
	int fresh; /* loaded, and no step since */
	size_t taken; /* bytes of standard input that the last step used */
	int64_t taken_lines; /* lines, before it */
	size_t length; /* of what is in the chunk of standard input */
	int at_end; /* of standard input */
};

/* A follow with its settings only, and nothing open. */
void follow_init(struct follow *follow, const char *path);
void follow_close(struct follow *follow);

/* follow_load -- how far it was read; 0 or -1. */
int follow_load(struct follow *follow, struct store *st, struct mr_error *err);
int follow_save(const struct follow *follow, struct store *st,
    struct mr_error *err);

/*
 * follow_step -- make at most ${count} records of what has been written since.
 *
 * Doesn't wait for more.  A file that can't be read is said in the log, and
 * tried again with the next step.
 */
void follow_step(struct follow *follow, int64_t now_ms, int count,
    struct lines *lines);

#endif
