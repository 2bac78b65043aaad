/*
 * check -- do the services' files and Kafka's topics add up?
 *
 * A checker is told everything that there is: the partitions of all topics,
 * every service's file, every record, and the orders that clients were told
 * of.  Then it judges a list of invariants, each a query over what it was
 * told, and reports each one with the first few offenders.  It shares no
 * code with the stream core beyond pkg/store, pkg/kafka and the codecs of
 * pkg/event: headers are read by its own reader, so that an error there
 * isn't made twice.
 *
 * Files are opened read-only, each read in one snapshot.  What is told goes
 * into a scratch database in a folder of its own, removed by check_free, so
 * memory stays bounded whatever the topics hold.
 *
 * Services may run meanwhile.  Then the order matters: the partitions' ends
 * are taken, then the files are read, then the ends are taken again, and
 * then the records up to those.  So whatever a file has consumed or
 * had acknowledged is among the records, and what lies before the first end
 * must be known to the file.  A file is compared with the records below its
 * own positions and with those that it issued, never with another file of
 * another moment.  What can't be judged that way needs `settled`.
 *
 * Whether a record is in its key's partition is judged by how many there were
 * when it was placed: its maker's file says that (placements, of version 5 of
 * the stream core), or that a partitioner placed it, which isn't judged.  Where
 * a file doesn't say it (a life that a restore has lost; what came after the
 * file was read; records and files from before version 5), some count has to do
 * that the topic may have had: at least the last one that the file knows from
 * before it, and as many as the source's earlier records of this kind were
 * placed in; at most what there is now or, before the first row, what that
 * says.  But if the file knows of a partitioner in that topic, it isn't judged.
 * The same goes for records without a file.
 *
 * Dead letters are rows and records on their topic alike, until rows expire.
 * One that was dropped or replayed is in the file as such, and no row is
 * missing for it; for any other reason it is.
 *
 * A checker belongs to one thread.  Calls return -1 with RETRY or FATAL when
 * it couldn't be checked; a violation is no error.
 */
#ifndef MR_CHECK_H
#define MR_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kafka/kafka.h"

#define CHECK_FIRST_MOST 20 /* offenders that are shown of one invariant */

struct check;

/* ${folder} is where the scratch folder is made; NULL: $TMPDIR or /tmp. */
struct check *check_new(const char *folder, struct mr_error *err);
void check_free(struct check *c); /* NULL is a no-op */
/* check_abandon -- remove the scratch folder of a check that is given up; for a signal
 * handler, which must end the process then.  NULL is a no-op. */
void check_abandon(const struct check *c);

/*
 * check_add_partition -- a partition that exists, with the id of its topic,
 * its first offset, and the one after its last.  Tell it before the files; and
 * once more after them if services run: then only ${next} is taken over.
 */
int check_add_partition(struct check *c, const char *topic,
    const char *topic_id, int partition, int64_t first, int64_t next,
    struct mr_error *err);

/*
 * check_add_file -- read a service's file.  Which service's it is, it says
 * itself; FATAL if that one's was added before, from whatever path.
 */
int check_add_file(struct check *c, const char *path, struct mr_error *err);

/* check_add_acknowledged -- the id of an order that a client was told of. */
int check_add_acknowledged(struct check *c, const char *id,
    struct mr_error *err);

/* A record, as a reader of topics hands it over.  Pointers are borrowed. */
struct check_record {
	const char *topic;
	int partition;
	int64_t offset;
	int64_t ts_ms; /* the record's own timestamp */
	const char *type; /* ce_type; NULL: none */
	const char *source; /* ce_source, if it is a Millrace service's */
	int64_t seq; /* with a source: ce_id and ce_predecessor */
	int64_t predecessor;
	const char *cause_topic; /* ce_cause; NULL: none */
	int cause_partition;
	int64_t cause_offset;
	const char *dead_topic; /* of a dead letter: where it came from */
	int dead_partition;
	int64_t dead_offset;
	const void *key; /* NULL: none */
	size_t key_size;
	const void *value; /* NULL: a tombstone */
	size_t value_size;
};

/*
 * The reader of topics: the next record, those of one partition in the order of
 * their offsets, from the first offset to the last.  1, 0 at the end, or -1.
 */
typedef int check_next(void *arg, struct check_record *record,
    struct mr_error *err);

int check_read(struct check *c, check_next *next, void *arg,
    struct mr_error *err);

/*
 * check_add_unread -- records ${first} to ${next} - 1 of a partition that are
 * there and can't be read: damaged, or in a form that isn't known.  Tell it
 * before the check is judged.
 *
 * Who read them before they were damaged has their effects, who came later
 * was told to leave them out.  So what is only missing because of them isn't
 * held against anybody: what names them or their place, a seq that the records
 * around them leave open, and, where nothing says which record it was, no
 * more things than there are such records.
 */
int check_add_unread(struct check *c, const char *topic, int partition,
    int64_t first, int64_t next, struct mr_error *err);

/* check_add_silent -- the same of records that weren't sent, and why. */
int check_add_silent(struct check *c, const char *topic, int partition,
    int64_t first, int64_t next, const char *why, struct mr_error *err);

struct check_unread {
	char topic[KAFKA_TOPIC_MAX + 1];
	int partition;
	int64_t first;
	int64_t next;
	char why[200]; /* of those that weren't sent; "": can't be read */
};
/* check_unread -- those that were told, in that order; sets *count. */
const struct check_unread *check_unread(const struct check *c, size_t *count);

/* How a whole check is done on a real cluster and a folder of files. */
struct check_run {
	struct kafka_conf kafka;
	const char *data; /* the folder of *.db */
	/* Only these services' files, and the topics that they work with; what
	 * can't be opened is passed over, if it isn't named for one of them. */
	const char *const *services;
	int service_count; /* 0: all */
	const char *acknowledged; /* ids, one a line; NULL: none, "-": stdin */
	int64_t stall_ms; /* a partition that is silent for so long is unread */
};
/*
 * A partition that nothing comes of, while the others are read, or when it is
 * asked for alone, is told as silent, and the rest goes on.
 */
int check_gather(struct check *c, const struct check_run *run,
    struct mr_error *err);
/* check_foreign -- *.db of its folder that are no services' and were left out,
 * with ", " between. */
const char *check_foreign(const struct check *c);

/* ---- judging ------------------------------------------------------------ */

enum check_verdict { CHECK_HOLDS, CHECK_VIOLATED, CHECK_NOT_JUDGED };

struct check_line {
	const char *name; /* one word */
	const char *says; /* the invariant, in a few words */
	enum check_verdict verdict;
	const char *reason; /* why it wasn't judged, or counts; or NULL */
	int64_t judged; /* how many things */
	int64_t offenders;
	const char *const *first; /* the first few of them */
	int first_count;
};

struct check_options {
	int settled; /* nothing is under way: nothing may be left to do */
	int64_t first_most; /* offenders shown; at most CHECK_FIRST_MOST */
	int64_t now_ms;
	/* the shortest that the services were told since: what is older than
	 * now less these may have expired */
	int64_t keep_notifications_ms;
	int64_t keep_dead_letters_ms;
	const char *const *skip; /* names of invariants to leave out */
	int skip_count;
};

/*
 * check_judge -- judge every invariant, handing each line to ${report}.
 *
 * Once everything is told.  Returns 1 if all that was judged holds, 0 if
 * something is violated, -1 on error, also for an unknown name in `skip`.
 */
int check_judge(struct check *c, const struct check_options *options,
    void (*report)(void *arg, const struct check_line *line), void *arg,
    struct mr_error *err);

/* check_list -- the ${index}-th invariant's name and what it says; 1, or 0
 * past the last. */
int check_list(int index, const char **name, const char **says);

/* How much was told. */
int64_t check_file_count(const struct check *c);
int64_t check_record_count(const struct check *c);

#endif
