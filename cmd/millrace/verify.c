/* verify -- millrace state verify: do files and topics add up? */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "check/check.h"

#include "millrace.h"

struct verify {
	struct check_run run;
	struct check_options options;
	struct config_list services;
	struct config_list skip;
	int output;
	int list;
	struct buffer out;
	struct json_writer json;
};

static const char epilogue[] =
    "Each invariant is a line: ok, FAIL with how many offend it and the first\n"
    "few, or why it wasn't judged.  `--list` names them all.\n"
    "\n"
    "Services may run meanwhile.  The ends of the topics are taken, then the\n"
    "files are read (each in one snapshot, read-only), then the topics up to\n"
    "their ends after that; each file is compared with the records below its\n"
    "own positions and with those that it issued.  Two invariants need\n"
    "--settled, since a system at work always has something under way:\n"
    "pending (no order is pending) and drained (outboxes are empty, all has\n"
    "been consumed).  --acknowledged is read first, so that it may grow.\n"
    "\n"
    "What needs the file of a service that isn't in the folder, or isn't\n"
    "among those of --service, is not judged, and says so.\n"
    "\n"
    "Records that are there and can't be read, damaged ones say, are a note\n"
    "(`unread` in JSON).  What is only missing because of them isn't held\n"
    "against anybody, and no more things than there are of them.  Likewise of\n"
    "a partition that nothing comes of: the rest is judged, and the status\n"
    "is 2 if that holds.\n"
    "\n"
    "Exit status: 0 all hold, 1 something is violated, 2 it couldn't be\n"
    "checked, or not all of it, and stderr says why.\n"
    "\n"
    "Examples:\n"
    "  millrace state verify\n"
    "  millrace state verify --service orders\n"
    "  millrace state verify --settled --acknowledged ids.txt\n"
    "  millrace state verify -o json | jq '.invariants[] |\n"
    "      select(.verdict == \"FAIL\")'\n";

/* ---- as a table ------------------------------------------------------------ */

static void
table_line(void *arg, const struct check_line *line)
{
	struct verify *v = arg;
	int i;

	if (line->verdict == CHECK_NOT_JUDGED) {
		buffer_addf(&v->out, "-     %-14s %s: not judged, %s\n",
		    line->name, line->says, line->reason);
		return;
	}
	buffer_addf(&v->out, "%-5s %-14s %s (%lld judged%s%s)",
	    line->verdict == CHECK_HOLDS ? "ok" : "FAIL", line->name,
	    line->says, (long long)line->judged,
	    line->reason != NULL ? "; " : "",
	    line->reason != NULL ? line->reason : "");
	if (line->offenders > 0)
		buffer_addf(&v->out, ": %lld offend%s it",
		    (long long)line->offenders,
		    line->offenders == 1 ? "s" : "");
	buffer_add_text(&v->out, "\n");
	for (i = 0; i < line->first_count; i++)
		buffer_addf(&v->out, "        %s\n", line->first[i]);
	if (line->offenders > line->first_count && line->first_count > 0)
		buffer_addf(&v->out, "        and %lld more\n",
		    (long long)(line->offenders - line->first_count));
}

/* What can't be read, with what is left open because of it. */
static void
table_unread(struct verify *v, const struct check *c)
{
	const struct check_unread *u;
	size_t i, count;

	u = check_unread(c, &count);
	for (i = 0; i < count; i++)
		buffer_addf(&v->out,
		    "note  records %lld to %lld of %s/%d %s (%s): what is only "
		    "missing for them isn't held against anybody\n",
		    (long long)u[i].first, (long long)u[i].next - 1, u[i].topic,
		    u[i].partition,
		    u[i].why[0] != '\0' ? "were not read" : "can't be read",
		    u[i].why[0] != '\0' ?
			u[i].why :
			"damaged, or in a form that isn't known");
}

/* What wasn't sent leaves it open whether all is well: say so; 1, or 0. */
static int
is_partial(const struct command *command, const struct check *c)
{
	const struct check_unread *u;
	int partial = 0;
	size_t i, count;

	u = check_unread(c, &count);
	for (i = 0; i < count; i++) {
		if (u[i].why[0] == '\0')
			continue;
		fprintf(stderr,
		    "millrace %s: records %lld to %lld of %s/%d were not read: "
		    "%s\n",
		    command->words, (long long)u[i].first,
		    (long long)u[i].next - 1, u[i].topic, u[i].partition,
		    u[i].why);
		partial = 1;
	}
	return (partial);
}

/* ---- as JSON ---------------------------------------------------------------- */

static void
json_line(void *arg, const struct check_line *line)
{
	static const char *const verdicts[] = {"ok", "FAIL", "not judged"};
	struct verify *v = arg;
	struct json_writer *w = &v->json;
	int i;

	json_object_open(w);
	json_member_text(w, "name", line->name);
	json_member_text(w, "says", line->says);
	json_member_text(w, "verdict", verdicts[line->verdict]);
	json_member_i64(w, "judged", line->judged);
	json_member_i64(w, "offenders", line->offenders);
	json_key(w, "first");
	json_array_open(w);
	for (i = 0; i < line->first_count; i++)
		json_text(w, line->first[i]);
	json_array_close(w);
	json_member_text(w, "detail", line->reason);
	json_object_close(w);
}

static void
json_unread(struct verify *v, const struct check *c)
{
	const struct check_unread *u;
	struct json_writer *w = &v->json;
	size_t i, count;

	u = check_unread(c, &count);
	json_key(w, "unread");
	json_array_open(w);
	for (i = 0; i < count; i++) {
		json_object_open(w);
		json_member_text(w, "topic", u[i].topic);
		json_member_i64(w, "partition", u[i].partition);
		json_member_i64(w, "first", u[i].first);
		json_member_i64(w, "last", u[i].next - 1);
		json_member_text(w, "why",
		    u[i].why[0] != '\0' ? u[i].why : NULL);
		json_object_close(w);
	}
	json_array_close(w);
}

/* ---- giving up -------------------------------------------------------------- */

static struct check *checking;

static void
give_up(void)
{
	check_abandon(checking);
}

/* ---- the command ------------------------------------------------------------- */

static int
judge(struct verify *v, struct check *c, int partial, struct mr_error *err)
{
	struct json_writer *w = &v->json;
	int holds;

	if (v->output == OUTPUT_TABLE) {
		buffer_addf(&v->out, "%lld files of %s, %lld records\n",
		    (long long)check_file_count(c), v->run.data,
		    (long long)check_record_count(c));
		table_unread(v, c);
		holds = check_judge(c, &v->options, table_line, v, err);
		buffer_addf(&v->out, "%s\n",
		    holds != 1 ? "something is violated" :
			partial ?
				 "what was judged holds, and not all was read" :
				 "all that was judged holds");
		return (holds);
	}
	json_init(w, &v->out);
	json_object_open(w);
	json_member_i64(w, "files", check_file_count(c));
	json_member_i64(w, "records", check_record_count(c));
	json_unread(v, c);
	json_key(w, "invariants");
	json_array_open(w);
	holds = check_judge(c, &v->options, json_line, v, err);
	json_array_close(w);
	json_member_bool(w, "holds", holds == 1 && !partial);
	json_object_close(w);
	buffer_add_text(&v->out, "\n");
	return (holds);
}

static int
list(struct verify *v)
{
	const char *name, *says;
	int i;

	for (i = 0; check_list(i, &name, &says); i++)
		buffer_addf(&v->out, "%-14s %s\n", name, says);
	return (command_print(&v->out, EXIT_YES));
}

static int
parse(struct verify *v, const struct command *command, int argc, char **argv)
{
	const struct config_option options[] = {
	    {.name = "data",
		.kind = CONFIG_TEXT,
		.target = &v->run.data,
		.fallback = "data",
		.help = "the folder of the services' files",
		.group = "What is checked"},
	    {.name = "service",
		.kind = CONFIG_LIST,
		.target = &v->services,
		.help = "only this one's file, and the topics that it works "
			"with; may be repeated"},
	    {.name = "acknowledged",
		.kind = CONFIG_TEXT,
		.target = &v->run.acknowledged,
		.help = "a file of the ids of orders that clients were told "
			"of, one a line; - for stdin"},
	    {.name = "settled",
		.kind = CONFIG_BOOL,
		.target = &v->options.settled,
		.fallback = "no",
		.help = "nothing is under way: then nothing may be pending, "
			"in an outbox, or not consumed"},
	    {.name = "skip",
		.kind = CONFIG_LIST,
		.target = &v->skip,
		.help = "leave this invariant out; may be repeated"},
	    {.name = "keep-notifications",
		.kind = CONFIG_DURATION,
		.target = &v->options.keep_notifications_ms,
		.fallback = "30d",
		.least = 1000,
		.most = 3e12,
		.help = "the shortest that notifications was told by --keep "
			"since: older ones may be gone"},
	    {.name = "keep-dead-letters",
		.kind = CONFIG_DURATION,
		.target = &v->options.keep_dead_letters_ms,
		.fallback = "720h",
		.least = 1000,
		.most = 1e12,
		.help = "the shortest that the services were told since: older "
			"rows may be gone"},
	    {.name = "list",
		.kind = CONFIG_BOOL,
		.target = &v->list,
		.fallback = "no",
		.help = "name the invariants, and do nothing else"},
	    {.name = "output",
		.kind = CONFIG_CHOICE,
		.target = &v->output,
		.fallback = "table",
		.choices = output_names,
		.help = "table or json; also -o",
		.group = "How it is told"},
	    {.name = "offenders",
		.kind = CONFIG_INT,
		.target = &v->options.first_most,
		.fallback = "5",
		.most = CHECK_FIRST_MOST,
		.help = "how many of each invariant's offenders are shown"},
	    {.name = "stall",
		.kind = CONFIG_DURATION,
		.target = &v->run.stall_ms,
		.fallback = "15s",
		.least = 1000,
		.most = 600000,
		.help = "pass a partition over when nothing comes of it for "
			"so long"},
	    {.name = NULL},
	};
	const struct config_option *const tables[] = {options,
	    kafka_options(&v->run.kafka), NULL};
	const struct config_program program =
	    {.summary = "Reads the services' files and all topics, and says of "
			"each invariant whether it holds.",
		.tables = tables,
		.epilogue = epilogue};

	v->run.kafka.client_id = "millrace";
	if (command_parse(command, argc, argv, &program) == -1)
		return (-1);
	v->run.services = v->services.items;
	v->run.service_count = v->services.count;
	v->options.now_ms = clock_wall_ms();
	v->options.skip = v->skip.items;
	v->options.skip_count = v->skip.count;
	return (0);
}

int
state_verify(const struct command *command, int argc, char **argv)
{
	struct verify v = {0};
	struct mr_error err = {0};
	struct check *c;
	int holds = -1, partial = 0;

	if (parse(&v, command, argc, argv) == -1)
		return (EXIT_UNKNOWN);
	if (v.list)
		return (list(&v));
	if ((c = check_new(NULL, &err)) == NULL)
		return (command_fail(command, &err));
	checking = c;
	command_abandon(give_up);
	if (check_gather(c, &v.run, &err) == 0) {
		partial = is_partial(command, c);
		holds = judge(&v, c, partial, &err);
	}
	command_left_out(command, check_foreign(c));
	checking = NULL;
	check_free(c);
	if (holds == -1) {
		buffer_free(&v.out);
		return (command_fail(command, &err));
	}
	return (command_print(&v.out,
	    holds != 1  ? EXIT_NO :
		partial ? EXIT_UNKNOWN :
			  EXIT_YES));
}
