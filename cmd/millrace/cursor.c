/* cursor -- millrace state accept-cursor. */
#include <stdio.h>
#include <string.h>

#include "stream/stream.h"

#include "known.h"
#include "millrace.h"
#include "relayed.h"

static const char cursor_epilogue[] =
    "A transactional relay commits its cursor, the number of the last record\n"
    "that was sent, together with the records.  The service halts its relay if\n"
    "the cursor is gone (group offsets expire, seven days after the service was\n"
    "stopped, by default) or isn't the relay's own, and doesn't start work if\n"
    "the cursor is ahead of all numbers that the file has given out: then an\n"
    "older file was put back by hand.  This command says which it is, asks, and\n"
    "lets the service go on:\n"
    "  - without a cursor, what waits in the outbox is sent once more; readers\n"
    "    that are Millrace's drop what they know, others may see it twice;\n"
    "  - an older file forgets what was sent, and gets a new database id, as\n"
    "    `millrace state restore` would have done.\n"
    "Stop all of the service's instances first.\n"
    "\n"
    "Exit status: 0 done, 1 nothing to accept or not agreed, 2 failed.\n"
    "\n"
    "Examples:\n"
    "  make stop SERVICE=orders\n"
    "  millrace state accept-cursor --db data/orders.db\n"
    "  make start SERVICE=orders\n";

struct acceptance {
	const char *db;
	struct agreement asks;
	struct kafka_conf kafka;
	struct store *st;
	struct relayed relayed;
};

static int
change(struct acceptance *a, int older, struct mr_error *err)
{
	int status;

	if (store_begin(a->st, err) == -1)
		return (-1);
	status = older ? relayed_drop(a->st, &a->relayed, err) : 0;
	if (status == 0)
		status = older ? stream_renew_file(a->st, err) :
				 stream_forget_cursor(a->st, err);
	if (status == 0)
		return (store_commit(a->st, err));
	store_rollback(a->st);
	return (-1);
}

static int
accept(struct acceptance *a, struct mr_error *err)
{
	struct relayed *r = &a->relayed;
	char says[600];

	if ((a->st = known_open(a->db, err)) == NULL ||
	    relayed_read(a->st, r, err) == -1)
		return (EXIT_UNKNOWN);
	if (!r->transactional)
		return (agree_tell(&a->asks, 0,
		    "its relay is idempotent, and has no cursor"));
	if (relayed_ask(&a->kafka, r, err) == -1)
		return (EXIT_UNKNOWN);
	if (r->found && r->cursor <= r->issued) {
		snprintf(says, sizeof(says),
		    "the cursor is at %lld, and the file has given out %lld: "
		    "they fit",
		    (long long)r->cursor, (long long)r->issued);
		return (agree_tell(&a->asks, 0, says));
	}
	if (r->found)
		snprintf(says, sizeof(says),
		    "was put back: it has given out numbers up to %lld, and "
		    "was at %lld in a later life; the %lld records in its "
		    "outbox were sent then, and are dropped; it gets a new "
		    "database id",
		    (long long)r->issued, (long long)r->cursor,
		    (long long)r->waiting);
	else
		snprintf(says, sizeof(says),
		    "%s; the %lld records in its outbox are sent, maybe again, "
		    "and then a new cursor begins",
		    r->why, (long long)r->waiting);
	if (!agree(&a->asks, says))
		return (agree_tell(&a->asks, 0, ""));
	if (change(a, r->found, err) == -1)
		return (EXIT_UNKNOWN);
	return (agree_tell(&a->asks, 1, "Done; start the service again"));
}

int
state_accept_cursor(const struct command *command, int argc, char **argv)
{
	struct acceptance a = {.db = NULL};
	const struct config_option *const tables[] = {agree_options(&a.asks,
							  &a.db,
							  "What is accepted"),
	    kafka_options(&a.kafka), NULL};
	const struct config_program program =
	    {.summary = "Lets a service's relay go on that is halted because "
			"of its cursor.",
		.tables = tables,
		.epilogue = cursor_epilogue};
	struct mr_error err = {0};
	int status;

	a.kafka.client_id = "millrace";
	if (command_parse(command, argc, argv, &program) == -1)
		return (EXIT_UNKNOWN);
	if (a.db == NULL) {
		mr_error_set(&err, MR_REJECT, "say --db");
		return (command_fail(command, &err));
	}
	a.asks.about = a.db;
	status = accept(&a, &err);
	store_close(a.st);
	return (status == EXIT_UNKNOWN ? command_fail(command, &err) : status);
}
