/* copies -- millrace state backup, restore and rebuild. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "kafka/kafka.h"
#include "migrations.h"
#include "store/store.h"
#include "stream/stream.h"

#include "copy_facts.h"
#include "known.h"
#include "look.h"
#include "millrace.h"
#include "relayed.h"

#define ASK_MS 5000

/* ---- backup ---------------------------------------------------------------- */

static const char backup_epilogue[] =
    "Each file is copied as one snapshot while its service goes on, in steps\n"
    "with pauses between, so that the service isn't kept from the disk; then\n"
    "the copy is checked (SQLite's integrity check; versions, positions, marks\n"
    "and outbox must fit each other), made durable, and only then gets its\n"
    "name, <to>/<service>-<time>.db.  A copy is one file, and may be taken\n"
    "anywhere but into the folder of the services' files.  Files needn't be of\n"
    "one moment: each goes on from where it is.\n"
    "\n"
    "Exit status: 0 all are copied, 2 something failed, and stderr says what.\n"
    "\n"
    "Examples:\n"
    "  millrace state backup --to /var/backups/millrace\n"
    "  millrace state backup --service orders --to . -o json\n";

/* The time as part of a name: 20261126T010203.004Z. */
static void
moment(char text[25])
{
	char *from = text, *to = text;

	clock_rfc3339(clock_wall_ms(), text);
	for (; *from != '\0'; from++)
		if (*from != '-' && *from != ':')
			*to++ = *from;
	*to = '\0';
}

static int
backup_of(struct look *look, struct store *st, const char *service,
    struct mr_error *err)
{
	struct table *t = &look->table;
	int64_t began_us = clock_mono_us();
	struct copy_facts facts;
	struct stat file;
	char when[25], path[4096];

	moment(when);
	snprintf(path, sizeof(path), "%s/%s-%s.db", look->to, service, when);
	if (store_backup(st, path, err) == -1)
		return (-1);
	if (copy_facts_read(path, &facts, err) == -1 ||
	    stat(path, &file) != 0) {
		(void)unlink(path);
		return (-1);
	}
	table_text(t, service);
	table_text(t, path);
	table_i64(t, file.st_size);
	table_i64(t, facts.version);
	table_i64(t, facts.issued);
	table_i64(t, facts.outbox);
	table_i64(t, (clock_mono_us() - began_us) / 1000);
	return (0);
}

/* Every *.db of the services' folder is taken for a service's file. */
static int
refuse_among_files(const struct look *look, struct mr_error *err)
{
	struct stat data, to;

	if (stat(look->data, &data) != 0 || stat(look->to, &to) != 0 ||
	    data.st_dev != to.st_dev || data.st_ino != to.st_ino)
		return (0);
	return (mr_error_set(err, MR_REJECT,
	    "%s is the folder of the services' files, where a copy would be "
	    "taken for one of them: say another folder",
	    look->to));
}

int
state_backup(const struct command *command, int argc, char **argv)
{
	static const struct table_column columns[] = {{"service", 0},
	    {"backup", 0}, {"bytes", 1}, {"schema", 1}, {"last_seq", 1},
	    {"outbox", 1}, {"took_ms", 1}};
	struct look look = {.command = command,
	    .table = {.columns = columns, .count = 7}};
	const struct config_option options[] = {
	    {.name = "to",
		.kind = CONFIG_TEXT,
		.target = &look.to,
		.help = "the folder of the copies; made if it isn't there",
		.group = "What is copied, and where"},
	    {.name = "data",
		.kind = CONFIG_TEXT,
		.target = &look.data,
		.fallback = "data",
		.help = "the folder of the services' files"},
	    {.name = "service",
		.kind = CONFIG_LIST,
		.target = &look.services,
		.help = "only this one's; may be repeated"},
	    {.name = "output",
		.kind = CONFIG_CHOICE,
		.target = &look.output,
		.fallback = "table",
		.choices = output_names,
		.help = "table or json; also -o"},
	    {.name = NULL},
	};
	const struct config_option *const tables[] = {options, NULL};
	const struct config_program program =
	    {.summary = "Copies the services' files while they are in use.",
		.tables = tables,
		.epilogue = backup_epilogue};
	struct mr_error err = {0};

	if (command_parse(command, argc, argv, &program) == -1)
		return (EXIT_UNKNOWN);
	if (look.to == NULL) {
		mr_error_set(&err, MR_REJECT, "say --to, a folder");
		return (command_fail(command, &err));
	}
	if (refuse_among_files(&look, &err) == -1)
		return (command_fail(command, &err));
	if (mkdir(look.to, 0770) != 0 && errno != EEXIST) {
		mr_error_set(&err, MR_FATAL, "make %s: %s", look.to,
		    strerror(errno));
		return (command_fail(command, &err));
	}
	command_abandon(store_abandon);
	return (files_look(&look, backup_of));
}

/* ---- what restore and rebuild share ----------------------------------------- */

struct change {
	const struct command *command;
	const char *db;
	char *file; /* what that is, or leads to */
	const char *from;
	struct agreement asks;
	struct kafka_conf kafka;
	struct copy_facts old; /* of the file there is */
	int old_readable;
	struct copy_facts copy; /* of the backup */
	struct relayed relayed; /* of what the backup's outbox has */
	struct buffer says;
};

static int
change_parse(struct change *c, int argc, char **argv, const char *summary,
    const char *epilogue, int asks_kafka)
{
	const struct config_option from[] = {
	    {.name = "from",
		.kind = CONFIG_TEXT,
		.target = &c->from,
		.help = "the backup to put in its place"},
	    {.name = NULL},
	};
	const struct config_option *const tables[] = {agree_options(&c->asks,
							  &c->db,
							  "What is replaced"),
	    kafka_options(&c->kafka), asks_kafka ? NULL : from, NULL};
	const struct config_program program = {.summary = summary,
	    .tables = tables,
	    .epilogue = epilogue};
	struct mr_error err;

	c->kafka.client_id = "millrace";
	if (command_parse(c->command, argc, argv, &program) == -1)
		return (-1);
	c->asks.about = c->db;
	if (c->db == NULL || (!asks_kafka && c->from == NULL))
		mr_error_set(&err, MR_REJECT, "say --db%s",
		    asks_kafka ? "" : " and --from");
	else if ((c->file = store_real_path(c->db, &err)) != NULL)
		return (0);
	command_fail(c->command, &err);
	return (-1);
}

/* Ask, replace the file, and tell where the old one is.  The exit status. */
static int
change_do(struct change *c, store_make *make, struct mr_error *err)
{
	char kept[4096] = "", done[4400];

	if (c->says.failed) {
		mr_error_set(err, MR_RETRY, "out of memory");
		return (EXIT_UNKNOWN);
	}
	if (!agree(&c->asks, buffer_text(&c->says)))
		return (agree_tell(&c->asks, 0, ""));
	command_abandon(store_abandon);
	if (store_replace(c->db, make, c, kept, sizeof(kept), err) == -1)
		return (EXIT_UNKNOWN);
	snprintf(done, sizeof(done), "Done%s%s; start the service again",
	    kept[0] != '\0' ? ", the file that was there is " : "", kept);
	return (agree_tell(&c->asks, 1, done));
}

static int
change_end(struct change *c, int status, const struct mr_error *err)
{

	buffer_free(&c->says);
	free(c->file);
	return (
	    status == EXIT_UNKNOWN ? command_fail(c->command, err) : status);
}

/* Refused before anything is asked: the answer could only be no. */
static int
refuse_while_open(const char *path, struct mr_error *err)
{
	struct store *st;

	if ((st = known_open(path, err)) == NULL)
		return (err->kind == MR_RETRY ? -1 : 0);
	store_close(st);
	return (0);
}

/* ---- restore ------------------------------------------------------------------ */

static const char restore_epilogue[] =
    "The service has to be stopped; the file is refused while a process has it\n"
    "open.  The backup is copied and checked, and gets a new database id: it\n"
    "will give out numbers again that it has given out before, and readers\n"
    "would take its new records for repeats.  The file that is there now is\n"
    "kept beside it, with its log; the new one gets its owner and mode.\n"
    "\n"
    "Started again, the service reads on from the backup's positions, so what\n"
    "it had consumed since is applied again, and what came of it is emitted\n"
    "again; handlers that go by a business key, as the shipped ones do, make\n"
    "nothing of the second one.  What HTTP clients wrote since the backup is\n"
    "lost: it is in no topic that the service reads.\n"
    "\n"
    "If the file that is there can't be read, and had itself been put back\n"
    "since the backup was made, its database id isn't known any more: the\n"
    "service then halts at its group's offsets, until `rebind` takes them for\n"
    "its own.\n"
    "\n"
    "If the service relayed by transactions when the backup was made, Kafka is\n"
    "asked which records of the backup's outbox were sent since: those are\n"
    "dropped, and whoever might still send under the old id is shut out.  For\n"
    "a cluster that is gone, bind the backup to another one first (rebind).\n"
    "\n"
    "Exit status: 0 done, 1 not agreed, 2 failed; nothing is changed then.\n"
    "\n"
    "Examples:\n"
    "  make stop SERVICE=inventory\n"
    "  millrace state restore --db data/inventory.db \\\n"
    "      --from /var/backups/millrace/inventory-20261126T010203.004Z.db\n"
    "  make start SERVICE=inventory\n";

static const char sql_ids[] =
    "SELECT database_id, drawn_at_ms FROM database_ids ORDER BY number";
static const char sql_id_adopt[] =
    "INSERT INTO database_ids (number, database_id, drawn_at_ms)"
    " SELECT coalesce(max(number), 0) + 1, ?1, ?2 FROM database_ids"
    " HAVING coalesce(sum(database_id = ?1), 0) = 0";
static const char sql_cluster[] = "SELECT cluster_id, met_at_ms FROM cluster";
static const char sql_cluster_keep[] =
    "INSERT INTO cluster (one, cluster_id, met_at_ms) VALUES (1, ?1, ?2)";

/* What the group's offsets were committed under is this file's own still. */
static int
ids_adopt(struct store *st, struct store *old, struct mr_error *err)
{
	struct store_rows *rows;
	int more;

	if ((rows = store_query_values(old, err, sql_ids, NULL, 0)) == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1)
		if (store_run(st, err, sql_id_adopt,
			store_text(store_get_text(rows, 0)),
			store_i64(store_get_i64(rows, 1))) == -1) {
			more = -1;
			break;
		}
	store_rows_done(rows);
	return (more);
}

static int
restore_make(void *arg, const char *path, struct mr_error *err)
{
	const struct change *c = arg;
	struct store *st, *old = NULL;
	int status;

	if ((st = store_open_reader(c->from, 0, err)) == NULL)
		return (-1);
	status = store_backup(st, path, err);
	store_close(st);
	if (status == -1 || (st = store_open_alone(path, err)) == NULL)
		return (-1);
	if (c->old_readable && (old = store_open_reader(c->db, 0, err)) == NULL)
		status = -1;
	if (status == 0 && (status = store_begin(st, err)) == 0 &&
	    (old == NULL || (status = ids_adopt(st, old, err)) == 0) &&
	    (status = relayed_drop(st, &c->relayed, err)) == 0 &&
	    (status = stream_renew_file(st, err)) == 0)
		status = store_commit(st, err);
	store_close(old);
	store_close(st);
	return (status);
}

/* What there is now, and what becomes of the difference. */
static void
restore_say_old(struct change *c, const char *why)
{
	struct buffer *says = &c->says;

	if (!c->old_readable) {
		buffer_addf(says, "; what is there now can't be read (%s)",
		    why);
	} else {
		buffer_addf(says,
		    "; the file there now has schema %lld and has given out "
		    "numbers up to %lld",
		    (long long)c->old.version, (long long)c->old.issued);
		if (c->old.consumed > c->copy.consumed)
			buffer_addf(says,
			    ", and %lld records that it has consumed since "
			    "will be applied again",
			    (long long)(c->old.consumed - c->copy.consumed));
		if (!c->old.declared || c->old.commands)
			buffer_add_text(says,
			    "; what HTTP clients wrote since is lost");
	}
	buffer_addf(says, "; it is kept as %s.replaced-<time>", c->file);
}

/* What a transactional relay has sent of the backup's outbox isn't sent again. */
static int
restore_relayed(struct change *c, struct mr_error *err)
{
	struct store *st;
	int status;

	if ((st = store_open_reader(c->from, 0, err)) == NULL)
		return (-1);
	status = relayed_read(st, &c->relayed, err);
	store_close(st);
	if (status == -1 || !c->relayed.transactional)
		return (status);
	if (relayed_ask(&c->kafka, &c->relayed, err) == -1) {
		mr_error_wrap(err,
		    "what was sent of %s's outbox is known to Kafka alone",
		    c->from);
		return (-1);
	}
	if (c->relayed.found)
		buffer_addf(&c->says,
		    "; of the %lld records in the copy's outbox those up to "
		    "%lld were sent, and are dropped",
		    (long long)c->relayed.waiting,
		    (long long)c->relayed.cursor);
	else
		buffer_addf(&c->says,
		    "; its relay's %s, so of the %lld records in its outbox "
		    "some may be sent again",
		    c->relayed.why, (long long)c->relayed.waiting);
	return (0);
}

/* A file's name, as its service gives it. */
static int
is_named_for(const char *path, const char *service)
{
	const char *slash = strrchr(path, '/');
	size_t length = strlen(service);

	path = slash != NULL ? slash + 1 : path;
	return (strncmp(path, service, length) == 0 &&
	    strcmp(path + length, ".db") == 0);
}

/* Whose the file there is, it says itself; or, too damaged for that, its name. */
static int
restore_check_service(const struct change *c, struct mr_error *err)
{
	const char *service = c->copy.service;

	if (c->old.service[0] == '\0' && !is_named_for(c->db, service))
		return (mr_error_set(err, MR_REJECT,
		    "the copy belongs to the service %s, and %.100s can't be "
		    "read and isn't named %s.db: if the copy is to be there, "
		    "move that away first",
		    service, c->db, service));
	if (c->old.service[0] != '\0' && strcmp(c->old.service, service) != 0)
		return (mr_error_set(err, MR_REJECT,
		    "%s belongs to the service %s, %s to %s", c->db,
		    c->old.service, c->from, service));
	return (0);
}

static int
restore_plan(struct change *c, struct mr_error *err)
{
	struct mr_error old_err = {0};
	int there = access(c->db, F_OK) == 0;

	if (known_check_file(c->from, err) == -1 ||
	    copy_facts_read(c->from, &c->copy, err) == -1)
		return (-1);
	if (there && refuse_while_open(c->db, err) == -1)
		return (-1);
	c->old_readable = there &&
	    copy_facts_read(c->db, &c->old, &old_err) == 0;
	if (there && restore_check_service(c, err) == -1)
		return (-1);
	buffer_addf(&c->says,
	    "%s, a copy of the service %s's file (schema %lld, numbers up to "
	    "%lld), will take its place, under a new database id",
	    c->from, c->copy.service, (long long)c->copy.version,
	    (long long)c->copy.issued);
	if (there)
		restore_say_old(c, old_err.message);
	return (restore_relayed(c, err));
}

int
state_restore(const struct command *command, int argc, char **argv)
{
	struct change c = {.command = command};
	struct mr_error err = {0};
	int status = EXIT_UNKNOWN;

	if (change_parse(&c, argc, argv,
		"Puts a backup in the place of a service's file.",
		restore_epilogue, 0) == -1)
		return (EXIT_UNKNOWN);
	if (restore_plan(&c, &err) == 0)
		status = change_do(&c, restore_make, &err);
	return (change_end(&c, status, &err));
}

/* ---- rebuild ------------------------------------------------------------------- */

static const char rebuild_epilogue[] =
    "For a service whose rows all come of the topics that it reads, such as\n"
    "notifications and prices: its file is replaced by an empty one, and when\n"
    "it is started again it reads the topics from their start.  Refused for a\n"
    "service that answers commands, which are in no topic, and for one with\n"
    "outputs, which would emit everything again; restore a backup of those.\n"
    "What retention has deleted from the topics doesn't come back.  The file\n"
    "that is there now is kept beside it, and the service has to be stopped.\n"
    "\n"
    "Exit status: 0 done, 1 not agreed, 2 failed or refused.\n"
    "\n"
    "Examples:\n"
    "  make stop SERVICE=notifications\n"
    "  millrace state rebuild --db data/notifications.db\n"
    "  make start SERVICE=notifications\n";

static int
cluster_keep(struct store *st, struct store *old, struct mr_error *err)
{
	struct store_rows *rows;
	int more;

	if ((rows = store_query_values(old, err, sql_cluster, NULL, 0)) == NULL)
		return (-1);
	if ((more = store_next(rows, err)) == 1 &&
	    store_run(st, err, sql_cluster_keep,
		store_text(store_get_text(rows, 0)),
		store_i64(store_get_i64(rows, 1))) == -1)
		more = -1;
	store_rows_done(rows);
	return (more == -1 ? -1 : 0);
}

/* The service's own tables are made by its next start. */
static int
rebuild_make(void *arg, const char *path, struct mr_error *err)
{
	static const struct store_migration none[] = {{.version = 0}};
	const struct change *c = arg;
	const struct store_options options = {.path = path,
	    .service = c->old.service,
	    .core = migrations_core,
	    .own = none};
	struct store *old, *st = NULL;
	int status = -1;

	if ((old = store_open_reader(c->db, 0, err)) == NULL ||
	    (st = store_open(&options, err)) == NULL ||
	    store_begin(st, err) == -1)
		goto done;
	if (ids_adopt(st, old, err) == 0 && cluster_keep(st, old, err) == 0 &&
	    stream_renew_file(st, err) == 0)
		status = store_commit(st, err);
	else
		store_rollback(st);
done:
	store_close(st);
	store_close(old);
	return (status);
}

static int
rebuild_refuse(const struct change *c, struct mr_error *err)
{
	const struct copy_facts *f = &c->old;

	if (!f->declared)
		return (mr_error_set(err, MR_REJECT,
		    "%s doesn't say what its service does: start the service "
		    "once, as of this version",
		    c->db));
	if (f->inputs[0] == '\0')
		return (mr_error_set(err, MR_REJECT,
		    "%s reads no topic to make its file from", f->service));
	if (f->commands)
		return (mr_error_set(err, MR_REJECT,
		    "%s answers commands, and what they wrote is in no topic "
		    "that it reads: restore a backup instead",
		    f->service));
	if (f->outputs[0] != '\0')
		return (mr_error_set(err, MR_REJECT,
		    "%s writes to %s, and would emit everything again: restore "
		    "a backup instead",
		    f->service, f->outputs));
	return (0);
}

/* What the topic still has. */
static int
rebuild_say_topic(struct change *c, struct kafka_admin *admin,
    const char *topic, const char *between, struct mr_error *err)
{
	struct kafka_topic_state state = {.partitions = 0};
	int64_t first, next, there = 0, gone = 0;
	int i;

	snprintf(state.name, sizeof(state.name), "%s", topic);
	if (kafka_admin_describe(admin, &state, 1, ASK_MS, err) == -1)
		return (-1);
	for (i = 0; i < state.partitions; i++) {
		if (kafka_admin_offsets(admin, topic, i, &first, &next, ASK_MS,
			err) == -1)
			return (-1);
		there += next - first;
		gone += first;
	}
	buffer_addf(&c->says, "%s %lld records of %s", between,
	    (long long)there, topic);
	if (gone > 0)
		buffer_addf(&c->says,
		    " (the first %lld are gone, and so will be what came of "
		    "them)",
		    (long long)gone);
	return (0);
}

static int
rebuild_say(struct change *c, struct mr_error *err)
{
	char topics[TOPICS_SIZE], *rest = topics, *topic;
	struct kafka_admin *admin;
	int status = 0;

	if ((admin = kafka_admin_new(&c->kafka, err)) == NULL)
		return (-1);
	buffer_addf(&c->says,
	    "it will be made anew, and the service %s will read from the start",
	    c->old.service);
	snprintf(topics, sizeof(topics), "%s", c->old.inputs);
	while (status == 0 && (topic = strsep(&rest, " ")) != NULL)
		status = rebuild_say_topic(c, admin, topic,
		    topic == topics ? ":" : ",", err);
	kafka_admin_free(admin);
	if (c->old.dead_letters > 0)
		buffer_addf(&c->says,
		    "; what can't be applied is put on %s.dead-letter once "
		    "more (%lld now)",
		    c->old.service, (long long)c->old.dead_letters);
	buffer_addf(&c->says,
	    "; what is there now is kept as "
	    "%s.replaced-<time>",
	    c->file);
	return (status);
}

int
state_rebuild(const struct command *command, int argc, char **argv)
{
	struct change c = {.command = command};
	struct mr_error err = {0};
	int status = EXIT_UNKNOWN;

	if (change_parse(&c, argc, argv,
		"Makes a service's file anew from the topics that it reads.",
		rebuild_epilogue, 1) == -1)
		return (EXIT_UNKNOWN);
	if (known_check_file(c.db, &err) == 0 &&
	    copy_facts_read(c.db, &c.old, &err) == 0 &&
	    rebuild_refuse(&c, &err) == 0 &&
	    refuse_while_open(c.db, &err) == 0 && rebuild_say(&c, &err) == 0)
		status = change_do(&c, rebuild_make, &err);
	return (change_end(&c, status, &err));
}
