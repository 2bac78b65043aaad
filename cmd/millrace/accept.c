/* accept -- millrace state accept-gap and rebind. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#include "copy_facts.h"
#include "known.h"
#include "millrace.h"
#include "plan.h"
#include "relayed.h"

#define ASK_MS 5000
#define SILENCE_MS 10000
#define IDS_MOST 64
#define TOPICS_MOST 32

static const char sql_service[] = "SELECT service FROM store_identity";
static const char sql_topics[] = "SELECT DISTINCT topic FROM positions";
static const char sql_reads[] =
    "SELECT group_concat(topic, ' ') FROM (SELECT DISTINCT topic"
    " FROM positions)";
static const char sql_cluster[] = "SELECT cluster_id FROM cluster";
static const char sql_known[] =
    "SELECT 1 FROM database_ids WHERE database_id = ?1";

static const char says_again[] = "Done; start the service again";

struct accept {
	const struct command *command;
	const char *db;
	const char *topic;
	int64_t partition;
	struct config_list topics;
	struct agreement asks;
	struct kafka_conf kafka;
	struct kafka_admin *admin;
	struct kafka_consumer *consumer;
	struct store *st;
};

/* ---- common -------------------------------------------------------------- */

static int
open_both(struct accept *a, struct mr_error *err)
{
	if ((a->st = known_open(a->db, err)) == NULL ||
	    (a->admin = kafka_admin_new(&a->kafka, err)) == NULL)
		return (-1);
	return (0);
}

static void
close_both(struct accept *a)
{
	kafka_consumer_free(a->consumer);
	kafka_admin_free(a->admin);
	store_close(a->st);
}

/* ---- what is at the position ----------------------------------------------- */

static int
number_of(const struct kafka_record *r, const char *name, int64_t *n)
{
	char text[24], *end;
	const void *value;
	size_t size;

	if (!kafka_record_header(r, name, &value, &size) || value == NULL ||
	    size == 0 || size >= sizeof(text))
		return (0);
	memcpy(text, value, size);
	text[size] = '\0';
	errno = 0;
	*n = strtoll(text, &end, 10);
	return (errno == 0 && *end == '\0' && *n >= 0);
}

/* Whose record it is: 1, or 0 if it isn't a service's. */
static int
identity_of(const struct kafka_record *r, char source[PLAN_SOURCE_SIZE],
    int64_t *seq, int64_t *predecessor)
{
	static const char ours[] = "/millrace/";
	const void *value;
	size_t size;

	source[0] = '\0';
	if (!kafka_record_header(r, "ce_source", &value, &size) ||
	    value == NULL || size < sizeof(ours) || size >= PLAN_SOURCE_SIZE ||
	    memcmp(value, ours, sizeof(ours) - 1) != 0 ||
	    !number_of(r, "ce_id", seq) ||
	    !number_of(r, "ce_predecessor", predecessor))
		return (0);
	memcpy(source, value, size);
	source[size] = '\0';
	return (1);
}

/*
 * Read a partition from ${offset} on, for as long as ${each} returns 0; that
 * it returned 1, or -1.  The end of the partition is shown to it as well.
 */
typedef int read_each(void *arg, const struct kafka_record *record);

static int
partition_read(struct accept *a, const char *topic, int partition,
    int64_t offset, int32_t leader_epoch, read_each *each, void *arg,
    struct mr_error *err)
{
	static const struct kafka_group_handlers none = {NULL, NULL, NULL};
	const struct kafka_position at = {.topic = topic,
	    .partition = partition,
	    .offset = offset,
	    .leader_epoch = leader_epoch};
	struct kafka_consumer *consumer;
	struct kafka_record record;
	int64_t heard_us = clock_mono_us();
	int done = 0;

	if ((consumer = kafka_consumer_new(&a->kafka, NULL, &none, NULL,
		 err)) == NULL)
		return (-1);
	if (kafka_consumer_assign(consumer, &at, 1, err) == -1)
		done = -1;
	while (done == 0) {
		if (kafka_consumer_poll(consumer, &record, 1, 200) == 1) {
			heard_us = clock_mono_us();
			done = each(arg, &record);
			kafka_record_free(&record);
		} else if (clock_mono_us() - heard_us >
		    1000 * (int64_t)SILENCE_MS) {
			done = mr_error_set(err, MR_RETRY,
			    "nothing came of %s/%d for %d s", topic, partition,
			    SILENCE_MS / 1000);
		}
	}
	kafka_consumer_free(consumer);
	return (done);
}

/* The first record at or after the position. */
static int
meet_first(void *arg, const struct kafka_record *r)
{
	struct gap_facts *f = arg;

	if (r->end_of_partition)
		return (1);
	f->offset = r->offset;
	f->unreadable = r->out_of_range == 2;
	f->was_cut = r->out_of_range == 3;
	f->has_record = !r->out_of_range;
	if (f->has_record)
		(void)identity_of(r, f->source, &f->seq, &f->predecessor);
	return (1);
}

/* The next record of each source, until all are met. */
static int
meet_sources(void *arg, const struct kafka_record *r)
{
	struct gap_marks *marks = arg;
	char source[PLAN_SOURCE_SIZE];
	int64_t seq, predecessor;

	if (r->end_of_partition || r->out_of_range)
		return (1);
	if (identity_of(r, source, &seq, &predecessor))
		gap_marks_meet(marks, r->partition, source, seq, predecessor);
	return (marks->left == 0);
}

static int
marks_gather(struct accept *a, const struct gap_facts *f,
    const struct gap_plan *plan, struct gap_marks *marks, struct mr_error *err)
{
	int i, whole = plan->kind == GAP_ANEW;

	if (!gap_leaves_out(plan))
		return (0);
	for (i = 0; i < f->partitions; i++) {
		if (!whole && i != f->partition)
			continue;
		if (gap_marks_read(a->st, f->topic, i, marks, err) == -1)
			return (-1);
		if (marks->left > 0 &&
		    partition_read(a, f->topic, i,
			whole ? f->firsts[i] : plan->to, -1, meet_sources,
			marks, err) == -1)
			return (-1);
		/* Whose next record hasn't come has nothing to miss. */
		marks->left = 0;
	}
	return (0);
}

static int
meet_epoch(void *arg, const struct kafka_record *r)
{
	*(int32_t *)arg = r->leader_epoch;
	return (1);
}

/*
 * The log was cut below the position: the first offset with a record of a
 * later epoch than the one that was applied last.  Epochs only rise.
 */
static int
cut_find(struct accept *a, struct gap_facts *f, int64_t epoch,
    struct mr_error *err)
{
	int64_t low = f->firsts[f->partition], high = f->offset, middle;
	int32_t met;

	while (low < high) {
		middle = low + (high - low) / 2;
		met = -1;
		if (partition_read(a, f->topic, f->partition, middle, -1,
			meet_epoch, &met, err) == -1)
			return (-1);
		if (met > epoch)
			high = middle;
		else
			low = middle + 1;
	}
	f->cut_at = low;
	return (0);
}

/* What the search is at, for who waits for it. */
static void
tell_progress(void *arg, int64_t offset)
{
	struct gap_facts *f = arg;

	fprintf(stderr,
	    "%s/%d can't be read from %lld to %lld, and ends at %lld\n",
	    f->topic, f->partition, (long long)f->offset, (long long)offset - 1,
	    (long long)f->next);
}

static int
readable_find(struct accept *a, struct gap_facts *f, struct mr_error *err)
{

	f->readable = kafka_readable_find(&a->kafka, f->topic, f->partition,
	    f->offset, f->next, tell_progress, f, err);
	return (f->readable == -1 ? -1 : 0);
}

/* What is at the position, and whether it follows on what was applied. */
static int
first_gather(struct accept *a, struct gap_facts *f, int64_t position,
    struct mr_error *err)
{
	int64_t epoch;

	if (gap_epoch(a->st, f->topic_id, f->partition, &epoch, err) == -1 ||
	    partition_read(a, f->topic, f->partition, position, (int32_t)epoch,
		meet_first, f, err) == -1)
		return (-1);
	if (f->unreadable)
		return (readable_find(a, f, err));
	return (f->was_cut ? cut_find(a, f, epoch, err) : 0);
}

static int
facts_gather(struct accept *a, struct gap_facts *f, int64_t *firsts,
    struct mr_error *err)
{
	struct kafka_topic_state state = {.partitions = 0};
	int64_t next, position;
	int i, known;

	snprintf(state.name, sizeof(state.name), "%s", a->topic);
	if (kafka_admin_describe(a->admin, &state, 1, ASK_MS, err) == -1)
		return (-1);
	if (a->partition >= state.partitions)
		return (mr_error_set(err, MR_REJECT,
		    "topic %s has %d partitions: there is no %lld to go on "
		    "with",
		    a->topic, state.partitions, (long long)a->partition));
	f->topic = a->topic;
	f->partition = (int)a->partition;
	f->partitions = state.partitions;
	f->firsts = firsts;
	memcpy(f->topic_id, state.id, sizeof(f->topic_id));
	for (i = 0; i < state.partitions; i++) {
		if (kafka_admin_offsets(a->admin, a->topic, i, &firsts[i],
			&next, ASK_MS, err) == -1)
			return (-1);
		if (i == f->partition)
			f->next = next;
	}
	if ((known = gap_position(a->st, f->topic, f->topic_id, f->partition,
		 &position, err)) == -1)
		return (-1);
	if (known == 1 && position >= firsts[f->partition] &&
	    position <= f->next)
		return (first_gather(a, f, position, err));
	return (0);
}

/* ---- accept-gap ---------------------------------------------------------------- */

static const char gap_epilogue[] =
    "A service halts a partition when records are missing: deleted by\n"
    "retention, gone with a topic that was made anew, cut off a log, damaged,\n"
    "or absent from their source's sequence.  Its log and /readyz say which.\n"
    "This command says what it found and what it will change, asks, and lets\n"
    "the service go on without them.  Stop all of the service's instances\n"
    "first; the file is refused while one has it open.  It is also refused at\n"
    "another cluster than the one it works with: `rebind` it first.\n"
    "\n"
    "Exit status: 0 done, 1 nothing to accept or not agreed, 2 failed.\n"
    "\n"
    "Examples:\n"
    "  make stop SERVICE=inventory\n"
    "  millrace state accept-gap --db data/inventory.db \\\n"
    "      --topic order-events --partition 0\n"
    "  make start SERVICE=inventory\n";

static int
gap_parse(struct accept *a, const struct command *command, int argc,
    char **argv)
{
	const struct config_option options[] = {
	    {.name = "topic",
		.kind = CONFIG_TEXT,
		.target = &a->topic,
		.help = "the topic that the service reads"},
	    {.name = "partition",
		.kind = CONFIG_INT,
		.target = &a->partition,
		.fallback = "0",
		.most = KAFKA_PARTITIONS_MAX - 1,
		.help = "its partition that is halted"},
	    {.name = NULL},
	};
	const struct config_option *const tables[] = {agree_options(&a->asks,
							  &a->db,
							  "What is accepted"),
	    options, kafka_options(&a->kafka), NULL};
	const struct config_program program =
	    {.summary =
		    "Lets a service go on at a partition that it has halted "
		    "because records are missing.",
		.tables = tables,
		.epilogue = gap_epilogue};
	struct mr_error err;

	a->command = command;
	a->kafka.client_id = "millrace";
	if (command_parse(command, argc, argv, &program) == -1)
		return (-1);
	if (a->db == NULL || a->topic == NULL ||
	    strlen(a->topic) > KAFKA_TOPIC_MAX) {
		mr_error_set(&err, MR_REJECT, "say --db and --topic");
		command_fail(command, &err);
		return (-1);
	}
	return (0);
}

/* Another cluster's topics have other records: none of them is missing. */
static int
gap_cluster_check(struct accept *a, struct mr_error *err)
{
	char bound_to[KAFKA_CLUSTER_ID_SIZE] = "";

	if (store_find_text(a->st, err, bound_to, sizeof(bound_to),
		sql_cluster) == -1)
		return (-1);
	return (relayed_cluster_check(&a->kafka, bound_to, err));
}

/* By what the service declared when it was started last; a file that is older
 * than that knows only what was read. */
static int
gap_topic_check(struct accept *a, struct mr_error *err)
{
	struct copy_facts facts = {.declared = 0};
	char words[sizeof(facts.inputs)], *rest = words, *topic;

	if (copy_facts_declared(a->st, &facts, err) == -1 ||
	    (!facts.declared &&
		store_find_text(a->st, err, facts.inputs, sizeof(facts.inputs),
		    sql_reads) == -1))
		return (-1);
	memcpy(words, facts.inputs, sizeof(words));
	while ((topic = strsep(&rest, " ")) != NULL)
		if (strcmp(topic, a->topic) == 0)
			return (0);
	/* Never started, or nothing is known of it: then nothing halts it. */
	if (!facts.declared && facts.inputs[0] == '\0')
		return (0);
	return (mr_error_set(err, MR_REJECT,
	    "the service of %.100s doesn't read %s: it reads %.80s", a->db,
	    a->topic, facts.inputs[0] != '\0' ? facts.inputs : "no topic"));
}

static int
gap_accept(struct accept *a, struct gap_marks *marks, struct mr_error *err)
{
	int64_t firsts[KAFKA_PARTITIONS_MAX];
	struct gap_facts facts = {.offset = -1};
	struct gap_plan plan;

	if (open_both(a, err) == -1 || gap_topic_check(a, err) == -1 ||
	    gap_cluster_check(a, err) == -1 ||
	    facts_gather(a, &facts, firsts, err) == -1 ||
	    gap_plan_make(a->st, &facts, &plan, err) == -1 ||
	    marks_gather(a, &facts, &plan, marks, err) == -1)
		return (EXIT_UNKNOWN);
	if (plan.kind == GAP_NONE)
		return (agree_tell(&a->asks, 0, plan.says));
	if (!agree(&a->asks, plan.says))
		return (agree_tell(&a->asks, 0, ""));
	if (gap_plan_apply(a->st, &facts, &plan, marks, err) == -1)
		return (EXIT_UNKNOWN);
	return (agree_tell(&a->asks, 1, says_again));
}

int
state_accept_gap(const struct command *command, int argc, char **argv)
{
	struct gap_marks marks = {NULL, 0, 0};
	struct accept a = {0};
	struct mr_error err = {0};
	int status;

	if (gap_parse(&a, command, argc, argv) == -1)
		return (EXIT_UNKNOWN);
	a.asks.about = a.db;
	status = gap_accept(&a, &marks, &err);
	free(marks.list);
	close_both(&a);
	if (status == EXIT_UNKNOWN)
		return (command_fail(command, &err));
	return (status);
}

/* ---- rebind --------------------------------------------------------------------- */

static const char rebind_epilogue[] =
    "A file keeps the id of the cluster that it works with, and its service\n"
    "halts when the brokers are another one, or when its group's offsets were\n"
    "committed by another file (two files in one group would do everything\n"
    "twice).  This command binds the file to the cluster at --brokers, and\n"
    "takes the offsets that other files committed in the group for its own.\n"
    "Make sure that no other file is at work in the group.  Topics of another\n"
    "cluster have other ids: accept-gap goes on with each.\n"
    "\n"
    "Exit status: 0 done, 1 nothing to do or not agreed, 2 failed.\n"
    "\n"
    "Examples:\n"
    "  millrace state rebind --db data/inventory.db --brokers other:9092\n";

struct binding {
	char service[64];
	char topics[TOPICS_MOST][KAFKA_TOPIC_MAX + 1];
	int topic_count;
	char cluster_id[KAFKA_CLUSTER_ID_SIZE];
	char bound_to[KAFKA_CLUSTER_ID_SIZE];
	char ids[IDS_MOST][33]; /* of other files, in the group */
	int id_count;
};

static void
topic_add(struct binding *b, const char *topic)
{
	int i;

	for (i = 0; i < b->topic_count; i++)
		if (strcmp(b->topics[i], topic) == 0)
			return;
	if (b->topic_count < TOPICS_MOST)
		snprintf(b->topics[b->topic_count++], sizeof(b->topics[0]),
		    "%s", topic);
}

/* What the service reads: what it says so of itself, what it has positions of,
 * and what was said. */
static int
topics_find(struct accept *a, struct binding *b, struct mr_error *err)
{
	struct copy_facts facts = {.declared = 0};
	char *rest = facts.inputs, *topic;
	struct store_rows *rows;
	int i, more;

	for (i = 0; i < a->topics.count; i++)
		topic_add(b, a->topics.items[i]);
	if (copy_facts_declared(a->st, &facts, err) == -1)
		return (-1);
	while ((topic = strsep(&rest, " ")) != NULL)
		if (topic[0] != '\0')
			topic_add(b, topic);
	if ((rows = store_query_values(a->st, err, sql_topics, NULL, 0)) ==
	    NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1)
		topic_add(b, store_get_text(rows, 0));
	store_rows_done(rows);
	return (more);
}

static int
id_look(struct accept *a, struct binding *b, const char *topic, int partition,
    struct mr_error *err)
{
	char metadata[64];
	int64_t offset, one;
	int i, known;

	if (kafka_consumer_committed(a->consumer, topic, partition, &offset,
		metadata, sizeof(metadata), ASK_MS, err) == -1)
		return (-1);
	if (offset < 0 || strlen(metadata) != 32)
		return (0);
	if ((known = store_find(a->st, err, &one, sql_known,
		 store_text(metadata))) != 0)
		return (known == -1 ? -1 : 0);
	for (i = 0; i < b->id_count; i++)
		if (strcmp(b->ids[i], metadata) == 0)
			return (0);
	if (b->id_count < IDS_MOST)
		memcpy(b->ids[b->id_count++], metadata, 33);
	return (0);
}

/* Whose offsets does the group have? */
static int
ids_find(struct accept *a, struct binding *b, struct mr_error *err)
{
	static const struct kafka_group_handlers none = {NULL, NULL, NULL};
	struct kafka_topic_state states[TOPICS_MOST];
	int i, k;

	memset(states, 0, sizeof(states));
	for (i = 0; i < b->topic_count; i++)
		snprintf(states[i].name, sizeof(states[i].name), "%s",
		    b->topics[i]);
	if (b->topic_count > 0 &&
	    kafka_admin_describe(a->admin, states, b->topic_count, ASK_MS,
		err) == -1)
		return (-1);
	if ((a->consumer = kafka_consumer_new(&a->kafka, b->service, &none,
		 NULL, err)) == NULL)
		return (-1);
	for (i = 0; i < b->topic_count; i++)
		for (k = 0; k < states[i].partitions; k++)
			if (id_look(a, b, states[i].name, k, err) == -1)
				return (-1);
	return (0);
}

static int
rebind(struct accept *a, struct binding *b, struct mr_error *err)
{
	struct buffer says = {0};
	char settled[400];
	int i, status = EXIT_UNKNOWN;

	if (open_both(a, err) == -1 ||
	    store_find_text(a->st, err, b->service, sizeof(b->service),
		sql_service) != 1 ||
	    store_find_text(a->st, err, b->bound_to, sizeof(b->bound_to),
		sql_cluster) == -1 ||
	    kafka_admin_cluster_id(a->admin, b->cluster_id, ASK_MS, err) ==
		-1 ||
	    topics_find(a, b, err) == -1 || ids_find(a, b, err) == -1)
		return (EXIT_UNKNOWN);
	if (strcmp(b->cluster_id, b->bound_to) == 0 && b->id_count == 0) {
		snprintf(settled, sizeof(settled),
		    "works with cluster %s already, and group %s has "
		    "offsets of no other file",
		    b->cluster_id, b->service);
		return (agree_tell(&a->asks, 0, settled));
	}
	buffer_addf(&says, "the service %s %s work with cluster %s", b->service,
	    strcmp(b->cluster_id, b->bound_to) == 0 ? "goes on to" : "will",
	    b->cluster_id);
	if (b->bound_to[0] != '\0' && strcmp(b->cluster_id, b->bound_to) != 0)
		buffer_addf(&says, ", until now with %s", b->bound_to);
	for (i = 0; i < b->id_count; i++)
		buffer_addf(&says, "%s %s",
		    i == 0 ? ", and its own are from now on the group's "
			     "offsets of "
			     "database" :
			     ",",
		    b->ids[i]);
	if (!agree(&a->asks, buffer_text(&says)))
		status = agree_tell(&a->asks, 0, "");
	else if (rebind_apply(a->st, b->cluster_id, (const char(*)[33])b->ids,
		     b->id_count, clock_wall_ms(), err) == 0)
		status = agree_tell(&a->asks, 1, says_again);
	buffer_free(&says);
	return (status);
}

int
state_rebind(const struct command *command, int argc, char **argv)
{
	struct accept a = {.command = command};
	const struct config_option options[] = {
	    {.name = "topic",
		.kind = CONFIG_LIST,
		.target = &a.topics,
		.help = "a topic that the service reads, if the file doesn't "
			"say so yet; may be repeated"},
	    {.name = NULL},
	};
	const struct config_option *const tables[] = {agree_options(&a.asks,
							  &a.db,
							  "What is bound"),
	    options, kafka_options(&a.kafka), NULL};
	const struct config_program program =
	    {.summary =
		    "Lets a file work with another cluster, or with a group "
		    "whose offsets another file committed.",
		.tables = tables,
		.epilogue = rebind_epilogue};
	struct binding binding = {.topic_count = 0};
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
	status = rebind(&a, &binding, &err);
	close_both(&a);
	if (status == EXIT_UNKNOWN)
		return (command_fail(command, &err));
	return (status);
}
