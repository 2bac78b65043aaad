/*
 * internal -- what the files of pkg/testing share.
 *
 *	testing.c	the test's side: steps, and what came of them
 *	life.c		one life of the service: start, feed, settle, stop
 *	machine.c	the clocks and chance that stand in for the machine's
 *	outcome.c	all that came out, as text
 *	checks.c	the steps again, with crashes, on other machines
 */
#ifndef MR_TESTING_INTERNAL_H
#define MR_TESTING_INTERNAL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "stream/stream.h"
#include "testing/testing.h"
#include "web/web_internal.h"

/* Say why, and abort. */
void broken(const char *format, ...)
    __attribute__((noreturn, format(printf, 1, 2)));
void *need(void *memory); /* or broken */

/* ---- machine.c ---------------------------------------------------------- */

struct machine {
	_Atomic int64_t wall_ms;
	_Atomic int64_t mono_us;
	_Atomic int64_t boot_ms;
};

/* Which clocks are shown; NULL: the real ones. */
void machine_use(struct machine *m);
void machine_start(struct machine *m);
void machine_pass(struct machine *m, int64_t ms);
/* The real time, whatever is shown. */
int64_t machine_real_us(void);
/* The calling thread is inside a service's function (1) or not; there the
 * time of day is ahead by machine_skew. */
void machine_inside(int inside);
void machine_skew(int64_t ms);
/* The calling thread draws what this seed gives; 0: real chance. */
void machine_draw(uint64_t seed);

/* ---- steps -------------------------------------------------------------- */

enum step_kind {
	STEP_FEED,
	STEP_REPEAT,
	STEP_REQUEST,
	STEP_COMMAND,
	STEP_ADVANCE,
	STEP_RESTART,
	STEP_SETTLE
};

struct step {
	enum step_kind kind;
	char *text[4]; /* topic, type, key, value; method, target, body */
	int64_t number; /* count, kind, ms; of a feed its seq */
	int64_t predecessor; /* of a feed: seq before it in its topic; -1: a
				stranger's */
	int64_t ts_ms; /* of a feed */
	size_t size; /* of a command's input, text[0] */
};

/* What outlives a crash: shared memory. */
struct survivor {
	struct machine machine;
	_Atomic int64_t passed; /* failpoints */
	int64_t crash_at; /* 0: never */
	char crashed_at[64]; /* "": it didn't */
	size_t progress; /* steps done */
	int64_t advance_to_ms; /* of the step under way; 0: it is none */
	size_t log_size; /* of the cluster's records, in log[] */
	size_t answers_size;
	size_t outcome_size;
	char answers[1 << 20];
	char log[16 << 20];
	char outcome[16 << 20];
};

/* ---- life.c ------------------------------------------------------------- */

struct life_conf {
	const struct service *svc;
	const char *const *flags;
	const char *folder; /* of state.db */
	struct machine *machine;
	int64_t batch_records; /* 0: as set */
	int reversed; /* rows without an order the other way round */
};

struct life;

/* How long to wait for what has to come, in real time, before it is broken. */
extern int64_t life_patience_us;

struct life *life_start(const struct life_conf *conf);
void life_stop(struct life *l); /* NULL is a no-op */
/* Until nothing more happens by itself. */
void life_settle(struct life *l);
/* The ${ms} that were asked for, or what is left of them until then. */
void life_advance(struct life *l, int64_t ms, int64_t until_ms);
/* Into the cluster; the last ${count} among the ${before} steps again. */
void life_feed(const struct step *step);
void life_repeat(const char *topic, int64_t count, const struct step *steps,
    size_t before);
/* ${number} names the step, for its key and its chance.  The response is good
 * until the next one. */
const struct web_response *life_request(struct life *l, const struct step *step,
    size_t number);
int life_command(struct life *l, const struct step *step, size_t number,
    struct stream_answer *answer, struct mr_error *err);

/* ---- outcome.c ---------------------------------------------------------- */

/* The records of a topic, as a reader sees them: a walk in commit order. */
struct emitted {
	int64_t seq;
	int partition;
	int64_t offset;
};
/* Returns how many; the caller frees *list. */
int emitted_list(const char *topic, struct emitted **list);

/* All rows, records and dead letters of a file that nobody has open. */
void outcome_write(const struct service *svc, const char *path,
    struct buffer *out);
/* An empty cluster with the service's topics. */
void cluster_make(const struct service *svc);
/* The cluster's records into a blob, and back. */
void log_save(const struct service *svc, struct buffer *out);
void log_load(const char *log, size_t size);

/* ---- checks.c ----------------------------------------------------------- */

struct checked {
	const struct service *svc;
	const char *const *flags;
	const struct step *steps;
	size_t step_count;
};
int checks_crashes(const struct checked *c, int *count, struct mr_error *err);
int checks_deterministic(const struct checked *c, struct mr_error *err);

/* A folder of its own, and away with it.  The name is static, per caller. */
void folder_make(char *folder, size_t size);
void folder_remove(const char *folder);

#endif
