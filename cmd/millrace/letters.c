/* letters -- millrace state dead-letters replay and drop. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "store/store.h"
#include "stream/stream.h"
#include "web/web.h"

#include "known.h"
#include "millrace.h"

#define ASK_MS 3000
/* A command waits for its turn, and then for the disk. */
#define COMMAND_MS 20000

static const char sql_service[] = "SELECT service FROM store_identity";
static const char sql_database[] =
    "SELECT database_id FROM database_ids ORDER BY number DESC";
static const char sql_all[] = "SELECT id FROM dead_letters ORDER BY id";
static const char sql_letter[] =
    "SELECT topic, partition, record_offset, reason FROM dead_letters"
    " WHERE id = ?1";

struct letters {
	const struct command *command;
	int replays; /* else drops */
	const char *service;
	const char *data;
	const char *db; /* NULL: data/<service>.db */
	const char *run;
	const char *fcgi; /* NULL: unix:run/<service>.sock */
	int all;
	struct agreement asks;
	char path[4096];
	char listen[4096];
	int is_running;
	char database[40]; /* the file's id: ids are of this file */
	int64_t *ids;
	int count;
	int failed; /* of count */
	struct store *alone; /* the file, while the service doesn't run */
	struct table table;
};

/* ---- which ---------------------------------------------------------------- */

static int
id_add(struct letters *l, int64_t id, struct mr_error *err)
{
	int64_t *grown = realloc(l->ids,
	    ((size_t)l->count + 1) * sizeof(*grown));

	if (grown == NULL)
		return (mr_error_set(err, MR_RETRY, "out of memory"));
	l->ids = grown;
	l->ids[l->count++] = id;
	return (0);
}

static int
id_known(const struct letters *l, int64_t id)
{
	int i;

	for (i = 0; i < l->count; i++)
		if (l->ids[i] == id)
			return (1);
	return (0);
}

static int
ids_parse(struct letters *l, int argc, char **argv, struct mr_error *err)
{
	char *end;
	int64_t id;
	int i;

	for (i = 0; i < argc; i++) {
		errno = 0;
		id = strtoll(argv[i], &end, 10);
		if (errno != 0 || *end != '\0' || end == argv[i] || id < 1)
			return (mr_error_set(err, MR_REJECT,
			    "%s is no dead letter's id; `list` shows them",
			    argv[i]));
		/* Said twice, and meant once. */
		if (!id_known(l, id) && id_add(l, id, err) == -1)
			return (-1);
	}
	if (l->all ? l->count > 0 : l->count == 0)
		return (mr_error_set(err, MR_REJECT,
		    "say which: SERVICE ID..., as `list` shows them, or "
		    "SERVICE --all"));
	return (0);
}

static int
ids_read(struct letters *l, struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	int more;

	if ((rows = store_query_values(st, err, sql_all, NULL, 0)) == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1)
		if (id_add(l, store_get_i64(rows, 0), err) == -1) {
			more = -1;
			break;
		}
	store_rows_done(rows);
	return (more);
}

static int
service_check(const struct letters *l, struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query_values(st, err, sql_service, NULL, 0)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1 &&
	    strcmp(store_get_text(rows, 0), l->service) != 0)
		found = mr_error_set(err, MR_REJECT,
		    "%s belongs to the service %s", l->path,
		    store_get_text(rows, 0));
	store_rows_done(rows);
	return (found == -1 ? -1 : 0);
}

/* A letter's cells but for its outcome; REJECT if there is none. */
static int
letter_show(struct table *t, struct store *st, const char *service, int64_t id,
    struct mr_error *err)
{
	struct store_rows *rows;
	const char *reason;
	int found;

	if ((rows = store_query(st, err, sql_letter, store_i64(id))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		reason = store_get_text(rows, 3);
		table_text(t, service);
		table_i64(t, id);
		table_text(t, store_get_text(rows, 0));
		table_i64(t, store_get_i64(rows, 1));
		table_i64(t, store_get_i64(rows, 2));
		table_bytes(t, reason, strlen(reason), 100);
	} else if (found == 0) {
		mr_error_set(err, MR_REJECT, "%s has no dead letter %lld",
		    service, (long long)id);
	}
	store_rows_done(rows);
	return (found == 1 ? 0 : -1);
}

static int
letters_find(struct letters *l, struct mr_error *err)
{
	struct table ignored = {.columns = NULL};
	struct store *st;
	int i, status = -1;

	if ((st = store_open_reader(l->path, 0, err)) == NULL)
		return (-1);
	if (service_check(l, st, err) == -1 ||
	    store_find_text(st, err, l->database, sizeof(l->database),
		sql_database) == -1 ||
	    (l->all && ids_read(l, st, err) == -1))
		goto done;
	/* All of them, before anything is done. */
	for (i = 0, status = 0; status == 0 && i < l->count; i++)
		status = letter_show(&ignored, st, l->service, l->ids[i], err);
done:
	buffer_free(&ignored.cells);
	store_close(st);
	return (status);
}

/* ---- one of them ------------------------------------------------------------ */

/* The service's words out of its answer. */
static void
answer_read(const char *body, char *says, size_t size)
{
	json_t *document = json_loads(body, 0, NULL);
	const char *text = json_string_value(
	    json_object_get(document, "detail"));

	if (text == NULL)
		text = json_string_value(json_object_get(document, "outcome"));
	snprintf(says, size, "%.500s", text != NULL ? text : body);
	json_decref(document);
}

/* 0 done, 1 the service refused it, -1 it couldn't be asked. */
static int
letter_ask(const struct letters *l, int64_t id, char *says, size_t size,
    struct mr_error *err)
{
	char path[120], body[2048];
	int status;

	snprintf(path, sizeof(path), "/admin/dead-letters/%s/%lld%s",
	    l->database, (long long)id, l->replays ? "/replay" : "");
	if ((status = web_ask(l->listen, l->replays ? "POST" : "DELETE", path,
		 COMMAND_MS, body, sizeof(body), err)) == -1)
		return (-1);
	answer_read(body, says, size);
	return (status != 200);
}

static int
letter_do(struct letters *l, int64_t id, char *says, size_t size,
    struct mr_error *err)
{

	if (l->is_running)
		return (letter_ask(l, id, says, size, err));
	snprintf(says, size, "dropped");
	return (stream_drop_letter(l->alone, id, err) == -1 ? -1 : 0);
}

/* What is shown is read before the row may be gone. */
static int
letter_run(struct letters *l, struct store *reader, int64_t id,
    struct mr_error *err)
{
	char says[512] = "";
	int status;

	if (letter_show(&l->table, reader, l->service, id, err) == -1) {
		/* Somebody else was faster. */
		l->failed++;
		return (err->kind == MR_REJECT ? 0 : -1);
	}
	if ((status = letter_do(l, id, says, sizeof(says), err)) == -1)
		snprintf(says, sizeof(says), "not known: %s", err->message);
	table_bytes(&l->table, says, strlen(says), sizeof(says));
	l->failed += status != 0;
	return (status == -1 ? -1 : 0);
}

static int
letters_run(struct letters *l, struct mr_error *err)
{
	struct store *reader;
	int i, status = 0;

	if ((reader = store_open_reader(l->path, 0, err)) == NULL)
		return (-1);
	if (l->alone != NULL && (status = store_begin(l->alone, err)) == -1)
		goto done;
	for (i = 0; status == 0 && i < l->count; i++)
		status = letter_run(l, reader, l->ids[i], err);
	if (l->alone != NULL && status == 0)
		status = store_commit(l->alone, err);
done:
	store_close(reader);
	return (status);
}

/* ---- the commands ------------------------------------------------------------ */

/* Is the service there?  Without it a letter can be dropped, not replayed. */
static int
way_find(struct letters *l, struct mr_error *err)
{
	char body[512];

	l->is_running = web_probe(l->listen, "/livez", ASK_MS, body,
			    sizeof(body), err) != -1;
	if (l->is_running)
		return (0);
	if (l->replays)
		return (mr_error_set(err, MR_RETRY,
		    "%s doesn't answer at %s: only the service itself can "
		    "apply a record, so start it (or say --fcgi)",
		    l->service, l->listen));
	return ((l->alone = known_open(l->path, err)) == NULL ? -1 : 0);
}

static int
letters_change(struct letters *l, struct mr_error *err)
{
	char says[4400];

	if (letters_find(l, err) == -1 || way_find(l, err) == -1)
		return (EXIT_UNKNOWN);
	l->asks.about = l->path;
	if (l->count == 0)
		return (agree_tell(&l->asks, 0, "has no dead letters"));
	if (l->replays)
		snprintf(says, sizeof(says),
		    "%d dead letter%s will be applied once more, as commands "
		    "to the service at %s; what can be applied now leaves the "
		    "list",
		    l->count, l->count == 1 ? "" : "s", l->listen);
	else
		snprintf(says, sizeof(says),
		    "%d dead letter%s will be dropped for good%s%s", l->count,
		    l->count == 1 ? "" : "s",
		    l->is_running ? ", by the service at " : "",
		    l->is_running ? l->listen : "");
	if (!agree(&l->asks, says))
		return (agree_tell(&l->asks, 0, ""));
	if (letters_run(l, err) == -1) {
		/* What the service did before that is done. */
		if (l->alone == NULL)
			(void)table_print(&l->table, l->asks.output, EXIT_NO);
		else
			buffer_free(&l->table.cells);
		return (EXIT_UNKNOWN);
	}
	return (table_print(&l->table, l->asks.output,
	    l->failed == 0 ? EXIT_YES : EXIT_NO));
}

static const char replay_epilogue[] =
    "The record isn't put back into its topic, which other services read as\n"
    "well: the service applies it in a transaction of its own, out of its\n"
    "partition's order.  If it can be applied now (the program was put right,\n"
    "or what it needs has come) its effects are kept and it leaves the list;\n"
    "else it stays, and the reason is shown.  Its copy on the dead-letter\n"
    "topic stays there in any case.\n"
    "\n"
    "The service has to run, and is asked over its FastCGI socket, which\n"
    "nginx doesn't open to anybody for this.\n"
    "\n"
    "Exit status: 0 all were applied, 1 some were not, 2 it couldn't be done.\n"
    "\n"
    "Examples:\n"
    "  millrace state dead-letters list --service inventory\n"
    "  millrace state dead-letters replay inventory 3 4\n"
    "  millrace state dead-letters replay inventory --all --yes -o json\n";
static const char drop_epilogue[] =
    "A running service does it when asked over its FastCGI socket, and refuses\n"
    "if it works with another file than the one at --data or --db; while none\n"
    "runs, it is done in the file.  The copy on the dead-letter topic stays.\n"
    "\n"
    "Exit status: 0 all were dropped, 1 some were not, 2 it couldn't be done.\n"
    "\n"
    "Examples:\n"
    "  millrace state dead-letters drop inventory 3\n";

static int
letters_parse(struct letters *l, int argc, char **argv, struct mr_error *err)
{
	const struct config_option options[] = {
	    {.name = "all",
		.kind = CONFIG_BOOL,
		.target = &l->all,
		.fallback = "no",
		.help = "all that the service has",
		.group = "Which and where"},
	    {.name = "data",
		.kind = CONFIG_TEXT,
		.target = &l->data,
		.fallback = "data",
		.help = "the folder of the services' files"},
	    {.name = "db",
		.kind = CONFIG_TEXT,
		.target = &l->db,
		.help = "the service's file, if it isn't "
			"<data>/<service>.db"},
	    {.name = "run",
		.kind = CONFIG_TEXT,
		.target = &l->run,
		.fallback = "run",
		.help = "the folder of the services' sockets"},
	    {.name = "fcgi",
		.kind = CONFIG_TEXT,
		.target = &l->fcgi,
		.help = "where the service listens, if it isn't "
			"unix:<run>/<service>.sock"},
	    {.name = "yes",
		.kind = CONFIG_BOOL,
		.target = &l->asks.yes,
		.fallback = "no",
		.help = "do it without asking"},
	    {.name = "output",
		.kind = CONFIG_CHOICE,
		.target = &l->asks.output,
		.fallback = "table",
		.choices = output_names,
		.help = "table or json; also -o"},
	    {.name = NULL},
	};
	const struct config_option *const tables[] = {options, NULL};
	const struct config_program program = {.summary = l->replays ?
		"Applies records once more that could not be applied." :
		"Forgets records that could not be applied.",
	    .usage = "SERVICE [ID...]",
	    .tables = tables,
	    .epilogue = l->replays ? replay_epilogue : drop_epilogue};
	int i;

	if ((i = command_parse(l->command, argc, argv, &program)) == -1)
		return (1);
	if (i == argc)
		return (mr_error_set(err, MR_REJECT, "say whose: SERVICE"));
	l->service = argv[i];
	if (l->db != NULL)
		snprintf(l->path, sizeof(l->path), "%s", l->db);
	else
		snprintf(l->path, sizeof(l->path), "%s/%s.db", l->data,
		    l->service);
	if (l->fcgi != NULL)
		snprintf(l->listen, sizeof(l->listen), "%s", l->fcgi);
	else
		snprintf(l->listen, sizeof(l->listen), "unix:%s/%s.sock",
		    l->run, l->service);
	return (ids_parse(l, argc - i - 1, argv + i + 1, err));
}

static int
letters_main(const struct command *command, int argc, char **argv, int replays)
{
	static const struct table_column columns[] = {{"service", 0}, {"id", 1},
	    {"topic", 0}, {"partition", 1}, {"offset", 1}, {"reason", 0},
	    {"outcome", 0}};
	struct letters l = {.command = command,
	    .replays = replays,
	    .table = {.columns = columns, .count = 7}};
	struct mr_error err = {0};
	int status;

	/* 1: what is wrong has been said. */
	if ((status = letters_parse(&l, argc, argv, &err)) != 0) {
		if (status == -1)
			command_fail(command, &err);
		free(l.ids);
		return (EXIT_UNKNOWN);
	}
	status = letters_change(&l, &err);
	store_close(l.alone);
	free(l.ids);
	if (status == EXIT_UNKNOWN)
		return (command_fail(command, &err));
	return (status);
}

int
state_letters_replay(const struct command *command, int argc, char **argv)
{

	return (letters_main(command, argc, argv, 1));
}

int
state_letters_drop(const struct command *command, int argc, char **argv)
{

	return (letters_main(command, argc, argv, 0));
}
