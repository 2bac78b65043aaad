/* topics -- whether the cluster has the declared topics, and making it so. */
#include <stdlib.h>
#include <string.h>

#include "kafka/kafka.h"

#include "millrace.h"

#define ASK_MS 15000

struct topics {
	const struct command *command;
	struct agreement asks; /* holds --yes and -o as well */
	int alters;
	struct kafka_conf kafka;
	struct kafka_admin *admin;
	const char **names; /* of those that were asked for, or of all */
	int count;
	struct table table;
	int differing; /* topics in the table */
};

/* ---- flags --------------------------------------------------------------------- */

static const struct config_option *
output_option(struct topics *t)
{
	static struct config_option options[] = {
	    {.name = "output",
		.kind = CONFIG_CHOICE,
		.fallback = "table",
		.choices = output_names,
		.help = "table or json; also -o",
		.group = "What is shown"},
	    {.name = NULL},
	};

	options[0].target = &t->asks.output;
	return (options);
}

static const struct config_option *
alter_options(struct topics *t)
{
	static struct config_option options[] = {
	    {.name = "alter",
		.kind = CONFIG_BOOL,
		.fallback = "no",
		.help = "also make those that differ as they are declared",
		.group = "What is done"},
	    {.name = "yes",
		.kind = CONFIG_BOOL,
		.fallback = "no",
		.help = "don't ask before a topic is altered"},
	    {.name = NULL},
	};

	options[0].target = &t->alters;
	options[1].target = &t->asks.yes;
	return (options);
}

/* Of the programs that read: what they can't apply goes there.  A scenario
 * compares them with what each program says of itself. */
static const char *const dead_letters[] = {"alerts.dead-letter",
    "analytics.dead-letter", "calls.dead-letter", "inventory.dead-letter",
    "logs.dead-letter", "notifications.dead-letter", "orders.dead-letter",
    "prices.dead-letter", "rollups.dead-letter"};
#define DEAD_LETTERS ((int)(sizeof(dead_letters) / sizeof(dead_letters[0])))

/* The names that were given, each a declared one, or all. */
static int
names_take(struct topics *t, int argc, char **argv, struct mr_error *err)
{
	const struct kafka_topic *all;
	int i, count;

	all = kafka_topic_list(&count);
	t->count = argc > 0 ? argc : count + DEAD_LETTERS;
	if ((t->names = calloc((size_t)t->count, sizeof(*t->names))) == NULL)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	for (i = 0; i < t->count; i++) {
		if (argc > 0)
			t->names[i] = argv[i];
		else
			t->names[i] = i < count ? all[i].name :
						  dead_letters[i - count];
		if (kafka_topic_find(t->names[i]) == NULL)
			return (mr_error_set(err, MR_REJECT,
			    "topic %.80s is not among the declared ones",
			    t->names[i]));
	}
	return (0);
}

/* 0, or -1 when what is wrong has been said. */
static int
topics_start(struct topics *t, int argc, char **argv, const char *summary,
    const struct config_option *own)
{
	const struct config_option *const tables[] = {output_option(t),
	    kafka_options(&t->kafka), own, NULL};
	const struct config_program program = {.summary = summary,
	    .usage = "[TOPIC...]",
	    .tables = tables};
	struct mr_error err = {0};
	int i;

	t->kafka.client_id = "millrace";
	t->asks.about = "the topics";
	if ((i = command_parse(t->command, argc, argv, &program)) == -1)
		return (-1);
	if (names_take(t, argc - i, argv + i, &err) == 0 &&
	    (t->admin = kafka_admin_new(&t->kafka, &err)) != NULL)
		return (0);
	command_fail(t->command, &err);
	return (-1);
}

/* ---- what differs ---------------------------------------------------------------- */

static int
is_partitions(const struct kafka_difference *d)
{

	return (strcmp(d->name, "partitions") == 0);
}

/* Of a topic that isn't there. */
static int
is_missing(const struct kafka_difference *d)
{

	return (!d->can_be_altered && strcmp(d->actual, "0") == 0);
}

/* The command that mends a difference. */
static void
table_mend(struct topics *t, const char *topic,
    const struct kafka_difference *d)
{
	struct buffer mend = {0};

	if (d->can_be_altered)
		buffer_addf(&mend, "millrace topics ensure --alter %s", topic);
	else if (is_missing(d))
		buffer_addf(&mend, "millrace topics ensure %s", topic);
	else
		buffer_add_text(&mend, "none: Kafka takes no partitions away");
	table_text(&t->table, mend.failed ? NULL : buffer_text(&mend));
	buffer_free(&mend);
}

/* Add what differs to the table; -1: it couldn't be found out. */
static int
differences_find(struct topics *t, struct mr_error *err)
{
	struct kafka_difference list[KAFKA_DIFFERENCES_MAX];
	int i, k, count;

	for (i = 0; i < t->count; i++) {
		if ((count = kafka_admin_compare(t->admin,
			 kafka_topic_find(t->names[i]), list, ASK_MS, err)) ==
		    -1)
			return (-1);
		t->differing += count > 0;
		for (k = 0; k < count; k++) {
			table_text(&t->table, t->names[i]);
			table_text(&t->table, list[k].name);
			table_text(&t->table, list[k].declared);
			table_text(&t->table, list[k].actual);
			table_mend(t, t->names[i], &list[k]);
		}
	}
	return (0);
}

static int
differences_print(struct topics *t)
{
	struct buffer out = {0};

	if (t->differing > 0 || t->asks.output == OUTPUT_JSON)
		return (table_print(&t->table, t->asks.output,
		    t->differing > 0 ? EXIT_NO : EXIT_YES));
	buffer_addf(&out,
	    t->count == 1 ? "%d topic is as declared.\n" :
			    "%d topics are as declared.\n",
	    t->count);
	return (command_print(&out, EXIT_YES));
}

/* ---- setting it right ------------------------------------------------------------ */

static void
difference_say(struct buffer *says, const char *topic,
    const struct kafka_difference *d)
{

	if (says->length > 0)
		buffer_add_text(says, "; ");
	if (is_missing(d)) {
		buffer_addf(says, "%s will be made", topic);
		return;
	}
	buffer_addf(says, "%s of %s will be %s and not %s", d->name, topic,
	    d->declared, d->actual);
	if (is_partitions(d))
		buffer_add_text(says,
		    " (its keys may go to other partitions from then on)");
}

/* What would be done; how many of these alter a topic, or -1. */
static int
alterations_say(struct topics *t, struct buffer *says, struct mr_error *err)
{
	struct kafka_difference list[KAFKA_DIFFERENCES_MAX];
	int i, k, count, altered = 0;

	for (i = 0; i < t->count; i++) {
		if ((count = kafka_admin_compare(t->admin,
			 kafka_topic_find(t->names[i]), list, ASK_MS, err)) ==
		    -1)
			return (-1);
		for (k = 0; k < count; k++) {
			if (list[k].can_be_altered || is_missing(&list[k]))
				difference_say(says, t->names[i], &list[k]);
			altered += list[k].can_be_altered;
		}
	}
	if (says->failed)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	return (altered);
}

/* Whether topics are to be altered, as was agreed: 1, else 0; or -1.  Sets
 * *refused if it wasn't. */
static int
alter_agree(struct topics *t, int *refused, struct mr_error *err)
{
	struct buffer says = {0};
	int altered = alterations_say(t, &says, err);

	if (altered > 0 && !agree(&t->asks, buffer_text(&says))) {
		*refused = 1;
		altered = 0;
	}
	buffer_free(&says);
	return (altered > 0 ? 1 : altered);
}

/* Nothing is done before all of it was agreed to. */
static int
ensure(struct topics *t, struct mr_error *err)
{
	int i, status, alters = 0, refused = 0;

	if (t->alters && (alters = alter_agree(t, &refused, err)) == -1)
		return (-1);
	if (refused)
		return (0);
	status = kafka_admin_ensure(t->admin, t->names, t->count, ASK_MS, err);
	for (i = 0; alters && status == 0 && i < t->count; i++)
		status = kafka_admin_alter(t->admin,
		    kafka_topic_find(t->names[i]), ASK_MS, err);
	return (status);
}

/* ---- commands -------------------------------------------------------------------- */

static const struct table_column columns[] = {{"topic", 0}, {"setting", 0},
    {"declared", 0}, {"actual", 0}, {"mended_by", 0}};

static int
topics_end(struct topics *t, int status)
{

	kafka_admin_free(t->admin);
	free(t->names);
	return (status);
}

int
topics_diff(const struct command *command, int argc, char **argv)
{
	struct topics t = {.command = command,
	    .table = {.columns = columns, .count = 5}};
	struct mr_error err = {0};

	if (topics_start(&t, argc, argv,
		"Tells where a topic isn't as it is declared: exits 0 if all "
		"are, 1 if not.",
		NULL) == -1)
		return (topics_end(&t, EXIT_UNKNOWN));
	if (differences_find(&t, &err) == -1) {
		buffer_free(&t.table.cells);
		return (topics_end(&t, command_fail(command, &err)));
	}
	return (topics_end(&t, differences_print(&t)));
}

int
topics_ensure(const struct command *command, int argc, char **argv)
{
	struct topics t = {.command = command,
	    .table = {.columns = columns, .count = 5}};
	struct mr_error err = {0};

	if (topics_start(&t, argc, argv,
		"Makes the declared topics that are missing, and tells which "
		"differ.",
		alter_options(&t)) == -1)
		return (topics_end(&t, EXIT_UNKNOWN));
	if (ensure(&t, &err) != 0 || differences_find(&t, &err) == -1) {
		buffer_free(&t.table.cells);
		return (topics_end(&t, command_fail(command, &err)));
	}
	return (topics_end(&t, differences_print(&t)));
}
