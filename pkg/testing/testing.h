/*
 * testing -- drives a service in its own unit test, without a broker.
 *
 *	t = testing_open(&demand, NULL);
 *	testing_feed(t, "order-events", "order.created", "Laptop", "{...}");
 *	assert_int_equal(testing_number(t, "SELECT units FROM demand"), 3);
 *	assert_int_equal(testing_crashes(t, &count, &err), 0);
 *	testing_close(t);
 *
 * What runs is the service as it is: the real core in a thread, its file in
 * a temporary folder, its HTTP handlers.  Two things are replaced when the
 * test is linked (libmillrace-testing.a before libmillrace.a): Kafka, by a
 * cluster in memory, and the machine's clocks, which stand still except for
 * testing_advance.  Each input topic has one partition; an output has as
 * many as it is declared with.
 *
 * What was fed, asked and advanced is remembered in order, as steps.  The
 * two checks repeat the steps in processes of their own, each with a file of
 * its own, and compare outcomes: every row of the service's own tables, every
 * record emitted as a Millrace reader sees it, dead letters with their
 * reasons, and every answer.
 *
 * What can't go on (a file that doesn't open, a service that ended, thirty
 * seconds without getting there, or in a function that doesn't return) is
 * said on standard error and ends the process by abort: it is no outcome that a
 * test could compare.  Everything here belongs to the test's one thread.  One
 * struct testing a process at a time.
 */
#ifndef MR_TESTING_H
#define MR_TESTING_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "service/service.h"

struct testing;

/* The time of day at testing_open: 2027-01-15T08:00:00Z. */
#define TESTING_START_MS INT64_C(1800000000000)

/*
 * testing_open -- start ${svc} on a new file, and wait until it works.
 *
 * ${flags} are those of its command line ("--keep=1h"), NULL-terminated, or
 * NULL for the defaults.  Both are borrowed until testing_close.  Never NULL.
 */
struct testing *testing_open(const struct service *svc,
    const char *const *flags);
/* testing_close -- drain, stop, remove the folder.  NULL is a no-op. */
void testing_close(struct testing *t);
/* testing_restart -- stop as on SIGTERM, and start again on the same file. */
void testing_restart(struct testing *t);

/* ---- in ----------------------------------------------------------------- */

/*
 * testing_feed -- append a record to an input, as another Millrace service
 * emits it.  ${type} is its ce_type; NULL: a record of a stranger, without any
 * header.  ${key} NULL: none; ${value} NULL: a tombstone.  All are texts, and
 * copied.  Its time is now.  Returns at once: records fed one after another
 * may share a transaction.  Whatever is asked next waits for them.
 */
void testing_feed(struct testing *t, const char *topic, const char *type,
    const char *key, const char *value);

/* testing_repeat -- append the last ${count} records with a type of that
 * input again, as a relay does that starts over: same source, same numbers. */
void testing_repeat(struct testing *t, const char *topic, int count);

/*
 * testing_request -- a request, through the service's routes; those that all
 * servers have (/metrics, /readyz) answer too.  ${target} is a path and
 * perhaps a query, ${body} JSON or NULL.  What isn't a GET carries an
 * Idempotency-Key of its own.  The answer is good until the next one.
 */
struct testing_answer {
	int status;
	const char *body; /* "" for none */
	const char *location; /* "" for none */
	const char *etag; /* likewise; testing_request alone */
};
const struct testing_answer *testing_request(struct testing *t,
    const char *method, const char *target, const char *body);

/*
 * testing_command -- a command that no route leads to.  ${input} is copied
 * (${size} bytes, no pointers in it; NULL: none).  The status is 422 or 503,
 * and the body the message, if it was undone.
 */
const struct testing_answer *testing_command(struct testing *t, int kind,
    const void *input, size_t size);

/* testing_advance -- let that much time pass, with every tick that is due in
 * it (at most a thousand), and what waits to be tried again. */
void testing_advance(struct testing *t, int64_t ms);

/* ---- out ---------------------------------------------------------------- */

/* testing_number, testing_text -- the first column of a query's first row, as
 * committed; none is a failure (abort), NULL is 0 or "".  The text is good
 * until the next call. */
int64_t testing_number(struct testing *t, const char *sql);
const char *testing_text(struct testing *t, const char *sql);

/* Records emitted to a topic ("<service>.dead-letter" is one), repeats left
 * out, in the order of their commits.  testing_emitted says how many;
 * testing_record gives one, counted from 0, until the next call: NULL if
 * there is none. */
struct testing_record {
	const char *type;
	const char *key; /* NULL: none */
	const char *value; /* NULL: a tombstone */
	const char *reason; /* of a dead letter, else NULL */
	int partition;
};
int testing_emitted(struct testing *t, const char *topic);
const struct testing_record *testing_record(struct testing *t,
    const char *topic, int index);

/* ---- checks ------------------------------------------------------------- */

/*
 * testing_crashes -- crash at every step of every commit, and compare.
 *
 * Repeats the steps without a crash, a record a transaction, and then once
 * for each place that it passed (each fifth, if built with the address
 * sanitizer): the process dies there without a word, another one starts on
 * the file, and the steps go on; the request under way is sent again with its
 * key.  Each outcome has to be that of the run without a crash.  *count is
 * the number of places (NULL: who cares).  0, or -1 and where it died and
 * what differed first; FATAL if there are more than 5000 places: check after
 * fewer steps.
 */
int testing_crashes(struct testing *t, int *count, struct mr_error *err);

/*
 * testing_deterministic -- repeat the steps twice, on two machines.
 *
 * On the second, the service's functions see another time of day and another
 * rand(), a record is a transaction, and queries without an ORDER BY come in
 * the other order.  What commands and ticks are given is the same.  0, or -1
 * and what differed first.
 */
int testing_deterministic(struct testing *t, struct mr_error *err);

#endif
