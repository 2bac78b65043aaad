/*
 * process -- what every program with a FastCGI face has, whatever it is for:
 * a name and a level for its log, a question from outside whether it is
 * ready, and a sandbox.
 *
 *	struct process_conf process;
 *
 *	config_parse(... process_options(&process) ...);
 *	if (process.check)
 *		return (process_check("broker", &web));
 *	process_begin("broker", &process, &web);
 *	if (process.sandbox) {
 *		process_sandbox_init(&sb, &web);
 *		... what else it opens: sandbox_write(&sb, data) ...
 *		process_sandbox_enter(&sb);
 *	}
 *	... open what listens ...
 *	sandbox_listen_no_more();
 *
 * All of it belongs to the thread that main runs in, before there are others.
 */
#ifndef MR_SERVICE_PROCESS_H
#define MR_SERVICE_PROCESS_H

#include "base/config.h"
#include "base/sandbox.h"
#include "web/web.h"

struct process_conf {
	const char *instance; /* NULL or "": the program's name */
	int log_format; /* enum log_format */
	int log_level; /* enum log_level */
	int64_t restarts;
	int check;
	int sandbox;
};

/*
 * process_options -- the settings, for config_parse.  One table a process: the
 * next call's targets replace this one's.
 */
const struct config_option *process_options(struct process_conf *conf);

/*
 * process_check -- what --check does: ask the instance at ${web}'s address.
 * Returns a main's status: EXIT_SUCCESS if it is ready, else EXIT_FAILURE and
 * the reason on stderr.  Waits for a few seconds.
 */
int process_check(const char *program, const struct web_conf *web);

/* process_begin -- open the log, connect to the service manager, in which a first line says what started, and
 * register how often it had to be.  Sets conf->instance if it isn't.  Strings are borrowed. */
void process_begin(const char *program, struct process_conf *conf,
    const struct web_conf *web);

/*
 * process_sandbox_init -- a sandbox in which ${web} can listen.  The caller
 * adds what else it opens, and calls process_sandbox_enter, which says in the
 * log what is in force.
 */
void process_sandbox_init(struct sandbox *sb, const struct web_conf *web);
void process_sandbox_enter(struct sandbox *sb);

#endif
