/*
 * internal -- what the files of pkg/check share.
 *
 *	check.c		the scratch database, and taking records in
 *	files.c		reading the services' files
 *	topics.c	reading the topics of a cluster
 *	invariants.c	the invariants, as queries
 *	judge.c		judging them
 */
#ifndef MR_CHECK_INTERNAL_H
#define MR_CHECK_INTERNAL_H

#include "check/check.h"
#include "store/store.h"

#define SCRATCH_PATH_SIZE 4096
#define CHECK_SOURCE_SIZE 192

/* The files in the scratch folder; by index, two that are opened. */
enum { SCRATCH_CHECK = 0, SCRATCH_CATALOGUE = 4, SCRATCH_FILES = 8 };

/* A source's number in the scratch database, known by its text. */
struct check_source {
	char text[CHECK_SOURCE_SIZE];
	int64_t id;
};

/* The highest sequence number so far of a source in a partition. */
struct check_highest {
	int64_t source;
	char topic[KAFKA_TOPIC_MAX + 1];
	int partition;
	int64_t seq;
};

struct check {
	char folder[SCRATCH_PATH_SIZE];
	char scratch[SCRATCH_FILES][SCRATCH_PATH_SIZE + 32];
	struct store *st;
	int begun;
	int64_t uncommitted; /* rows since the last commit */
	int64_t files;
	struct buffer foreign; /* no service's, and left out */
	int64_t records;
	int acknowledged; /* some were told, or none on purpose */
	int partly; /* only some files are wanted */
	struct check_source *sources;
	size_t source_count;
	struct check_highest *highest;
	size_t highest_count;
	struct check_unread *unread;
	size_t unread_count;
};

/* Write transactions of the scratch database, committed now and then. */
int check_begin(struct check *c, struct mr_error *err);
int check_commit(struct check *c, struct mr_error *err);

/* The id of a source, which is made known if it isn't. */
int check_source_id(struct check *c, const char *source, int64_t *id,
    struct mr_error *err);
/* Take in a record of a topic, or with offset -1 one of an outbox. */
int check_take(struct check *c, const struct check_record *record,
    struct mr_error *err);

/* check_add_file, if ${run} wants the file (NULL: it does). */
int check_add_wanted(struct check *c, const char *path,
    const struct check_run *run, struct mr_error *err);

/* The scratch database's schema. */
extern const struct store_migration check_schema[];

/*
 * An invariant: a query that gives a line of text for each offender, and in a
 * second column the topics, with blanks between, of which one record more would
 * set it right; NULL: none would.
 */
struct check_invariant {
	const char *name;
	const char *says;
	const char *needs[2]; /* services whose files it compares */
	const char *topics[2]; /* must be there from their beginning */
	int settled; /* only when nothing is under way */
	int acknowledged; /* only when ids were told */
	const char *unless; /* a text, why it can't be judged; or NULL */
	const char *judged; /* how many things; NULL: not counted */
	const char *counts; /* a text that tells more; or NULL */
	const char *offenders;
};
extern const struct check_invariant check_invariants[];

/* What is derived once everything is told. */
extern const char *const check_derive[];

#endif
