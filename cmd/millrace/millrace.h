/*
 * millrace -- the command line: `millrace <noun> <verb> [flags]`.
 *
 *	main.c		the table of commands, and its help
 *	verify.c	do files and topics add up?
 *	state.c		what is in the files: positions, outbox, dead letters
 *	accept.c	what halts a service: accept-gap, rebind
 *	plan.c		what accepting changes
 *	cursor.c	what halts a relay: accept-cursor
 *	known.c		whether a file's schema is known
 *	relayed.c	what a transactional relay has sent
 *	letters.c	dead letters: replay, drop
 *	copies.c	backup, restore, rebuild
 *	copy_facts.c	what a copy holds, and whether it is sound
 *	topics.c	the declared topics: diff, ensure
 *	agree.c		saying what will be done, and asking
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
	const char *words; /* noun and verb */
	const char *summary; /* a line for the list of commands */
	int (*run)(const struct command *command, int argc, char **argv);
};

/* Each parses its own flags (argv[0] is the last word), and returns the exit
 * status. */
int state_verify(const struct command *command, int argc, char **argv);
int state_positions(const struct command *command, int argc, char **argv);
int state_outbox(const struct command *command, int argc, char **argv);
int state_dead_letters(const struct command *command, int argc, char **argv);
int state_dead_letter(const struct command *command, int argc, char **argv);
int state_letters_replay(const struct command *command, int argc, char **argv);
int state_letters_drop(const struct command *command, int argc, char **argv);
int state_backup(const struct command *command, int argc, char **argv);
int state_restore(const struct command *command, int argc, char **argv);
int state_rebuild(const struct command *command, int argc, char **argv);
int state_accept_gap(const struct command *command, int argc, char **argv);
int state_rebind(const struct command *command, int argc, char **argv);
int state_accept_cursor(const struct command *command, int argc, char **argv);
int topics_diff(const struct command *command, int argc, char **argv);
int topics_ensure(const struct command *command, int argc, char **argv);

/* ---- common -------------------------------------------------------------- */

enum output { OUTPUT_TABLE, OUTPUT_JSON };
extern const char *const output_names[];

/*
 * command_parse -- config_parse under the command's full name, where -o means
 * --output.  Returns the index of the first argument that isn't a flag, which
 * the others follow; on error says it on stderr and returns -1.
 */
int command_parse(const struct command *command, int argc, char **argv,
    const struct config_program *program);

/* Say on stderr why a command failed; returns EXIT_UNKNOWN. */
int command_fail(const struct command *command, const struct mr_error *err);

/* Warn on stderr of ${files} that are no services'; "" for none. */
void command_left_out(const struct command *command, const char *files);

/*
 * command_abandon -- from now on SIGHUP, SIGINT and SIGTERM have ${abandon}
 * called, which has to be async-signal-safe, and end the process with 128 and
 * the signal's number as its status.  What is ignored stays ignored (nohup).
 */
void command_abandon(void (*abandon)(void));

/* Write to stdout; returns ${status}, or EXIT_UNKNOWN if it can't. */
int command_print(struct buffer *out, int status);

/* ---- agree.c -------------------------------------------------------------- */

/* How a command that changes something asks, and tells what came of it. */
struct agreement {
	const char *about; /* the file, or whatever it changes */
	const char *plan; /* what agree was told; NULL: it wasn't asked */
	int yes; /* --yes: don't ask */
	int output;
};

/*
 * agree_options -- --db, --yes and -o, the flags of a command that changes a
 * file, as a table for config_parse; ${group} is their heading.  Borrows all
 * three.  There is one table: the next call changes it.
 */
const struct config_option *agree_options(struct agreement *a, const char **db,
    const char *group);
/* agree -- say what will be done, and ask whether it should be: 1, or 0.
 * Borrows ${says} until agree_tell, which puts it into the JSON. */
int agree(struct agreement *a, const char *says);
/* agree_tell -- what was done, or why nothing was ("": it wasn't agreed to);
 * returns the exit status. */
int agree_tell(const struct agreement *a, int done, const char *says);

/* ---- table.c -------------------------------------------------------------- */

/*
 * Rows that are printed in columns, or as a JSON array of objects.  Cells are
 * added row by row; one that is missing shows as "-" and null.  What isn't
 * printable in a table is shown as \xNN.
 */
struct table_column {
	const char *name; /* in JSON; in a table, in upper case */
	int is_number;
};
struct table {
	const struct table_column *columns;
	int count;
	struct buffer cells; /* NUL-terminated; \1 alone: missing */
	int64_t filled;
};
void table_text(struct table *t, const char *text); /* NULL: missing */
void table_bytes(struct table *t, const void *bytes, size_t size, size_t most);
void table_i64(struct table *t, int64_t n);
void table_missing(struct table *t);
/* Print all of it, and free it; returns ${status} as command_print does.  With
 * EXIT_UNKNOWN, a table of no rows isn't printed. */
int table_print(struct table *t, int output, int status);

#endif
