/*
 * millrace -- the command line: `millrace <noun> <verb> [flags]`.
 *
 *	main.c		the table of commands, and its help
 *	verify.c	do files and topics add up?
 *	accept.c	what halts a service: accept-gap, rebind
 *	table.c		columns for people, JSON for programs
 */
#ifndef MILLRACE_H
#define MILLRACE_H

#include "base/buffer.h"
#include "base/config.h"
#include "base/error.h"

/* Exit statuses: yes, no, and "it couldn't be found out". */
enum { EXIT_YES = 0, EXIT_NO = 1, EXIT_UNKNOWN = 2 };

struct command {
	const char *noun;
	const char *verb;
	const char *summary; /* a line for the list of commands */
	int (*run)(const struct command *command, int argc, char **argv);
};

/* Each parses its own flags (argv[0] is the verb), and returns the exit
 * status. */
int state_verify(const struct command *command, int argc, char **argv);

/* ---- common -------------------------------------------------------------- */

enum output { OUTPUT_TABLE, OUTPUT_JSON };
extern const char *const output_names[];

/*
 * command_parse -- config_parse under the command's full name, where -o means
 * --output.  On error says it on stderr and returns -1.
 */
int command_parse(const struct command *command, int argc, char **argv,
    const struct config_program *program);

/* Say on stderr why a command failed; returns EXIT_UNKNOWN. */
int command_fail(const struct command *command, const struct mr_error *err);

/* Write to stdout; returns ${status}, or EXIT_UNKNOWN if it can't. */
int command_print(struct buffer *out, int status);

#endif
