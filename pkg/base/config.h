/*
 * config -- settings from flags, and from the environment by the same names.
 *
 * A program describes its settings in a table.  `--poll-ms 500`,
 * `--poll-ms=500` and MILLRACE_POLL_MS=500 mean the same; a flag wins over
 * the environment, which wins over the default.  Booleans take no value as
 * flags (`--quiet`, `--no-quiet`) and 1/0/true/false/yes/no in the environment.
 * An empty environment variable counts as not set.  Sizes take k, m, g (powers
 * of 1024); durations ms, s, m, h, d, and are milliseconds without one.  A list
 * is a flag given many times; in the environment and in a default its items are
 * separated by white space; the flags' items replace those.  Flags may stand
 * before, between and after the other arguments; "--" ends them.  Values out of
 * range, unknown flags and stray arguments are errors that name the flag, what
 * it was given and what it takes.  --help (-h) and --version are built in.
 */
#ifndef MR_CONFIG_H
#define MR_CONFIG_H

#include <stdint.h>

#include "base/error.h"

enum config_kind {
	CONFIG_TEXT, /* const char **: argv, environ or the default's memory */
	CONFIG_INT, /* int64_t * */
	CONFIG_SIZE, /* int64_t *, bytes */
	CONFIG_DURATION, /* int64_t *, milliseconds */
	CONFIG_REAL, /* double * */
	CONFIG_BOOL, /* int * */
	CONFIG_CHOICE, /* int *, index into `choices` */
	CONFIG_LIST /* struct config_list *: may be given many times */
};

struct config_list {
	const char *items[64];
	int count;
};

struct config_option {
	const char *name; /* "poll-ms"; NULL ends a table */
	enum config_kind kind;
	void *target;
	const char *fallback; /* the default as one would write it, or NULL */
	/* For numbers.  Most below least: no upper bound.  Both 0: anything
	 * not negative. */
	double least, most;
	const char *const *choices; /* NULL-terminated, for CONFIG_CHOICE */
	const char *help; /* lower case, no full stop; wrapped */
	const char *group; /* heading in --help, on the first of a group */
};

struct config_program {
	const char *name; /* as in build/bin/<name> */
	const char *summary; /* what it does, a sentence */
	const char *usage; /* arguments beside the flags, or NULL for none */
	const struct config_option *const *tables; /* NULL-terminated */
	const char *epilogue; /* examples, or NULL */
};

/*
 * config_parse -- fill in every target of the program's tables.
 *
 * Without a fallback, flag or environment variable a target keeps the value
 * that it had.  An error leaves some targets set.  A fallback that can't be
 * parsed is reported like any other value.
 *
 * Returns the index of the first argument that isn't a flag (argc if none;
 * arguments are refused unless `usage` is set), or -1 with a FATAL error.
 * ${argv} is put in that order: flags, then arguments, each in its own.
 * --help and --version print on stdout and exit 0.  Call before threads
 * start.  The tables must outlive the settings.
 */
int config_parse(int argc, char **argv, const struct config_program *program,
    struct mr_error *err);

/* config_version -- e.g. "0.2.0", from the build. */
const char *config_version(void);

#endif
