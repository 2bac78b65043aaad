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
	      "             [--depth N] [--states N] [--list]\n",
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
	printf("%u passed, %u failed\n", tally.passed, tally.failed);
	return (tally.failed == 0 && tally.passed > 0 ? EXIT_SUCCESS :
							EXIT_FAILURE);
}
