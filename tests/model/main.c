/*
 * model -- search the stream core's protocol for a way to break it.
 *
 * The stream core's protocol is small enough to be tried out in every
 * order of events: two instances share a service's file, read, apply, emit
 * and relay; each can be stopped between any two steps and woken later, or
 * die there; requests fail, or fail and were written all the same, or come
 * late; files are put back, topics made anew.  This program goes through
 * all states that can come of that, within the scopes of scopes.c, and says
 * of each claim there whether it is so.  Read protocol.h first, then
 * consume.c, relay.c and restore.c, one for each part of the protocol;
 * explore.c is the search and knows nothing of streams.
 *
 * What must hold in every state:
 * - below a stored position each input has had its effect, once in this
 *   history of the file; above it none has, nor will have again: an input
 *   of ours that comes back is covered by the mark;
 * - what was answered is in the file;
 * - what a history of the file emitted has been read downstream once, or is
 *   still a row or a record that the reader's mark will let through, so
 *   that when all is quiet it has been read once;
 * - no record was read twice, none out of its partition's order, and no
 *   loss was reported where there was none.
 * A long run also shows that from each of these states all work can still
 * be finished, without which a system that does nothing would pass.
 *
 * What is freer here than in the program, so that what holds here holds
 * there without it: any instance may think at any time that a partition is
 * its own; the stored position is read before the transaction, not in it;
 * any number of relays run at once, without an owner and an epoch; a waiter
 * that kills who holds the pen is a crash.  RETRY is a commit of part of
 * what is in hand, and REJECT an effect like any other.
 *
 * What is not covered: more than two instances, two partitions and a
 * handful of records; more than one upstream source; ticks, idempotency
 * keys and the ceiling on the outbox; retention; consumers and producers
 * in Kafka transactions; power cuts that take back what Kafka acknowledged;
 * SQLite and librdkafka doing other than they say.  The reader downstream
 * takes one record in one step: that a Millrace service does as well is
 * what the scopes "consume" and "whole" are for.  A record that is sent is
 * a whole produce request.  A relay has at most two rows in memory.  In the
 * scopes that are not stepwise, a transaction with its effect, its emission
 * and its position is one step.  Database ids are as many as SOURCES; that
 * a random one is drawn twice is not considered.
 *
 * Four things it taught that the text of the design doesn't say:
 * - A file put back by hand has to be found out before a process emits
 *   anything (claim check-at-takeover): rows emitted before that carry the
 *   old id and seqs that the reader's marks already cover.
 * - The last own record of each partition is not enough for it (claim
 *   check-last-record-only): a late repeat may lie behind a higher seq.
 *   The highest seq counts.  All that was emitted after a copy was made lies
 *   behind any record that was acknowledged before, so a scan from the last
 *   acknowledged offset that the file knows finds it.
 * - Even so, a file may be put back by hand only when all processes that
 *   had the old one open are gone, and what they had sent has arrived
 *   (claim put-back-alive).  The restore command has no such condition.
 * - The topic id has to be checked of what is fetched, not only of what is
 *   assigned (claim fetch-by-topic-name): a client that goes on fetching by
 *   name from a topic made anew delivers strangers' records at positions
 *   that mean the old one.  Ours are safe: their predecessors tell.
 * And one that it can't show to be needed: with the other rules, a hole
 * above the stored position never comes up in any scope.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"
#include "scopes.h"

struct options {
	struct limits limits;
	const char *scope; /* this one only, or NULL */
	const char *claim; /* this one only, or NULL */
	bool trace;
	bool long_run;
	bool bounded; /* limits were asked for */
};

struct tally {
	unsigned passed;
	unsigned failed;
};

static bool
chosen(const char *wanted, const char *name)
{

	return (wanted == NULL || strcmp(wanted, name) == 0);
}

static void
count(struct tally *tally, bool ok)
{

	if (ok)
		tally->passed++;
	else
		tally->failed++;
	fflush(stdout);
}

/* Everything holds: exhausted, no flaw, something got done. */
static void
try_holds(const struct options *options, const char *name,
    const struct world *world, struct tally *tally)
{
	struct outcome outcome;
	bool ok;

	if (explore(world, &options->limits, stdout, &outcome) != 0) {
		printf("not ok %s: out of memory\n", name);
		count(tally, false);
		return;
	}
	ok = outcome.flaw == FLAW_NONE && outcome.stuck == 0 &&
	    (options->bounded || (outcome.exhausted && outcome.quiet > 0));
	printf("%s %s: %" PRIu32 " states, depth %" PRIu32 ", ",
	    ok ? "ok" : "not ok", name, outcome.states, outcome.depth);
	if (outcome.flaw != FLAW_NONE)
		printf("%s\n", protocol_flaw_name(outcome.flaw));
	else if (!outcome.exhausted)
		printf("not exhausted\n");
	else if (outcome.stuck > 0)
		printf("exhausted, %" PRIu32 " can't finish\n", outcome.stuck);
	else
		printf("exhausted%s\n",
		    options->limits.progress ? ", all can finish" : "");
	count(tally, ok);
}

/* Something breaks, and is found. */
static void
try_breaks(const struct options *options, const char *name,
    const struct world *world, struct tally *tally)
{
	struct outcome outcome;
	bool ok;

	if (explore(world, &options->limits, options->trace ? stdout : NULL,
		&outcome) != 0) {
		printf("not ok %s: out of memory\n", name);
		count(tally, false);
		return;
	}
	ok = outcome.flaw != FLAW_NONE;
	if (ok)
		printf("ok %s: violation in %" PRIu32 " steps: %s\n", name,
		    outcome.depth, protocol_flaw_name(outcome.flaw));
	else
		printf("not ok %s: no violation in %" PRIu32 " states%s\n",
		    name, outcome.states,
		    outcome.exhausted ? "" : ", not exhausted");
	count(tally, ok);
}

static void
run(const struct options *options, struct tally *tally)
{
	const struct claim *claim;
	struct world world;
	size_t i;

	for (i = 0; i < claims_count; i++) {
		claim = &claims[i];
		if (!chosen(options->scope, claim->scope) ||
		    !chosen(options->claim, claim->name))
			continue;
		if (claim->slow && !options->long_run &&
		    options->scope == NULL && options->claim == NULL)
			continue;
		world.scope = scope_find(claim->scope);
		world.removed = claim->removed;
		if (claim->expected == HOLDS)
			try_holds(options, claim->name, &world, tally);
		else
			try_breaks(options, claim->name, &world, tally);
	}
}

static void
list(void)
{
	size_t i;

	puts("scenarios:");
	for (i = 0; i < scopes_count; i++)
		printf("  %-26s %s\n", scopes[i].name, scopes[i].covers);
	puts("claims:");
	for (i = 0; i < claims_count; i++)
		printf("  %-26s %s in %s%s\n", claims[i].name,
		    claims[i].expected == HOLDS ? "holds" : "breaks",
		    claims[i].scope, claims[i].slow ? " (long)" : "");
}

static void
usage(FILE *out)
{

	fputs("usage: model [--scenario NAME] [--claim NAME] [--trace] "
	      "[--long]\n"
	      "             [--depth N] [--states N] [--list]\n"
	      "  --scenario  the claims about one scenario only\n"
	      "  --claim     one claim only\n"
	      "  --trace     print the shortest way to each violation\n"
	      "  --long      the large scenarios too, and that all can finish\n"
	      "  --depth     look no more than N steps ahead\n"
	      "  --states    give up after N states\n"
	      "  --list      say which scenarios and claims there are\n",
	    out);
}

static uint32_t
number(const char *text)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0' || value == 0 || value > UINT32_MAX) {
		fprintf(stderr, "model: not a number: %s\n", text);
		exit(2);
	}
	return ((uint32_t)value);
}

int
main(int argc, char *argv[])
{
	static const struct option option[] = {
	    {"scenario", required_argument, NULL, 's'},
	    {"claim", required_argument, NULL, 'c'},
	    {"depth", required_argument, NULL, 'd'},
	    {"states", required_argument, NULL, 'n'},
	    {"trace", no_argument, NULL, 't'},
	    {"long", no_argument, NULL, 'l'},
	    {"list", no_argument, NULL, 'i'},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	struct options options = {.limits = {.states = 8000000}};
	struct tally tally = {0, 0};
	int c;

	while ((c = getopt_long(argc, argv, "", option, NULL)) != -1)
		switch (c) {
		case 's':
			options.scope = optarg;
			break;
		case 'c':
			options.claim = optarg;
			break;
		case 'd':
			options.limits.depth = number(optarg);
			options.bounded = true;
			break;
		case 'n':
			options.limits.states = number(optarg);
			options.bounded = true;
			break;
		case 't':
			options.trace = true;
			break;
		case 'l':
			options.long_run = options.limits.progress = true;
			options.limits.states = 100000000;
			break;
		case 'i':
			list();
			return (EXIT_SUCCESS);
		case 'h':
			usage(stdout);
			return (EXIT_SUCCESS);
		default:
			usage(stderr);
			return (2);
		}
	run(&options, &tally);
	if (tally.passed + tally.failed == 0)
		fputs("model: no such scenario or claim; see --list\n", stderr);
	printf("%u passed, %u failed\n", tally.passed, tally.failed);
	return (tally.failed == 0 && tally.passed > 0 ? EXIT_SUCCESS :
							EXIT_FAILURE);
}
