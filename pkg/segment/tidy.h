/*
 * tidy -- a round of housekeeping, between the loop's thread and another.
 */
#ifndef MR_SEGMENT_TIDY_H
#define MR_SEGMENT_TIDY_H

#include "segment/internal.h"

#define TIDY_UNLINK_MOST 64

/* A sealed segment that is compacted. */
struct tidy_segment {
	struct plog_segment *old; /* held; read by its descriptors only */
	struct plog_segment *fresh; /* NULL: it stays */
};

struct plog_tidy {
	struct plog *log;
	const char *path;
	int folder_fd;
	int64_t now_ms;
	int64_t unlink[TIDY_UNLINK_MOST]; /* bases */
	int unlink_count;
	struct tidy_segment *segments; /* oldest first */
	size_t count;
	int64_t dirty_from; /* offsets below were compacted before */
	int64_t cleaned_to; /* afterwards */
	int64_t delete_retention_ms;
	struct plog_tidied did;
	atomic_int stop;
};

/* The run's part in compact.c. */
int tidy_compact(struct plog_tidy *tidy, struct mr_error *err);

#endif
