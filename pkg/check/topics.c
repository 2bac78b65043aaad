/* topics -- gathering everything of a cluster and a folder of files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "check/internal.h"

#define ASK_MS 10000
#define ASK_SOON_MS 2000
#define POLLED_MOST 500
#define TOPICS_MOST 64
#define LINE_SIZE 256

static const char sql_services[] =
    "SELECT service FROM inputs UNION SELECT service FROM files";
static const char sql_has_file[] = "SELECT 1 FROM files WHERE service = ?1";
/* A topic that the files read, or have written. */
static const char sql_worked_with[] =
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM files f JOIN inputs i"
    "  ON i.service = f.service WHERE i.topic = ?1)"
    " OR EXISTS (SELECT 1 FROM positions WHERE topic = ?1)"
    " OR EXISTS (SELECT 1 FROM tails WHERE topic = ?1)"
    " OR EXISTS (SELECT 1 FROM records WHERE topic = ?1)"
    " OR EXISTS (SELECT 1 FROM files"
    "  WHERE service || '.dead-letter' = ?1)";

/* A partition to read, and how far it was read. */
struct place {
	char topic[KAFKA_TOPIC_MAX + 1];
	int partition;
	int64_t first;
	int64_t next;
	int64_t stands; /* the offset after the last one that arrived */
};

struct reader {
	struct check *check;
	const struct kafka_conf *conf;
	struct kafka_admin *admin;
	struct kafka_consumer *consumer;
	struct place *places;
	int count;
	int64_t stall_ms;
	int64_t heard_us;
	int left; /* places that are not at their end */
	int alone; /* the one that is read alone, or -1 */
	struct kafka_record polled[POLLED_MOST];
	int polled_count;
	int taken;
	char trouble[160];
	/* Texts of the record that was handed over last. */
	char type[128];
	char source[CHECK_SOURCE_SIZE];
	char cause[KAFKA_TOPIC_MAX + 64];
	char dead[KAFKA_TOPIC_MAX + 1];
};

/* ---- headers ---------------------------------------------------------------- */

/* A header as text: 1, or 0 if it isn't there, doesn't fit or isn't text. */
static int
header_text(const struct kafka_record *r, const char *name, char *text,
    size_t text_size)
{
	const void *value;
	size_t size;

	if (!kafka_record_header(r, name, &value, &size) || value == NULL ||
	    size >= text_size || memchr(value, '\0', size) != NULL)
		return (0);
	memcpy(text, value, size);
	text[size] = '\0';
	return (1);
}

static int
header_number(const struct kafka_record *r, const char *name, int64_t *n)
{
	char text[32], *end;

	if (!header_text(r, name, text, sizeof(text)) || text[0] < '0' ||
	    text[0] > '9')
		return (0);
	errno = 0;
	*n = strtoll(text, &end, 10);
	return (errno == 0 && *end == '\0');
}

/* "topic/partition/offset" is taken apart in place. */
static void
read_cause(struct reader *x, const struct kafka_record *r,
    struct check_record *record)
{
	char *partition, *offset, *end;

	if (!header_text(r, "ce_cause", x->cause, sizeof(x->cause)) ||
	    (partition = strchr(x->cause, '/')) == NULL ||
	    (offset = strchr(partition + 1, '/')) == NULL)
		return;
	*partition++ = '\0';
	*offset++ = '\0';
	record->cause_partition = (int)strtol(partition, &end, 10);
	if (*end != '\0')
		return;
	record->cause_offset = strtoll(offset, &end, 10);
	if (*end == '\0')
		record->cause_topic = x->cause;
}

static void
read_headers(struct reader *x, const struct kafka_record *r,
    struct check_record *record)
{
	int64_t n;

	if (header_text(r, "ce_type", x->type, sizeof(x->type)))
		record->type = x->type;
	if (!header_text(r, "ce_source", x->source, sizeof(x->source)) ||
	    strncmp(x->source, "/millrace/", 10) != 0 ||
	    !header_number(r, "ce_id", &record->seq) ||
	    !header_number(r, "ce_predecessor", &record->predecessor))
		return;
	record->source = x->source;
	read_cause(x, r, record);
	if (header_text(r, "dead_letter_topic", x->dead, sizeof(x->dead)) &&
	    header_number(r, "dead_letter_partition", &n) && n <= INT32_MAX) {
		record->dead_partition = (int)n;
		if (header_number(r, "dead_letter_offset",
			&record->dead_offset))
			record->dead_topic = x->dead;
	}
}

/* ---- the reader ------------------------------------------------------------- */

static struct place *
place_find(struct reader *x, const char *topic, int partition)
{
	int i;

	for (i = 0; i < x->count; i++)
		if (x->places[i].partition == partition &&
		    strcmp(x->places[i].topic, topic) == 0)
			return (&x->places[i]);
	return (NULL);
}

static void
on_error(void *arg, const char *what, int fatal)
{
	struct reader *x = arg;

	(void)fatal;
	snprintf(x->trouble, sizeof(x->trouble), "%s", what);
}

/* The partition is read, or passed over, up to here. */
static void
place_move(struct reader *x, struct place *p, int64_t offset)
{
	int64_t before = p->stands;

	p->stands = offset;
	if (before < p->next && p->stands >= p->next)
		x->left--;
}

/* What wasn't sent is left out, and told. */
static int
pass_silent(struct reader *x, struct place *p, const char *why,
    struct mr_error *err)
{

	if (check_add_silent(x->check, p->topic, p->partition, p->stands,
		p->next, why, err) == -1)
		return (-1);
	place_move(x, p, p->next);
	return (0);
}

static int
open_at(struct reader *x, const struct kafka_position *positions, int count,
    struct mr_error *err)
{
	static const struct kafka_group_handlers handlers = {
	    .on_error = on_error};

	kafka_consumer_free(x->consumer);
	x->heard_us = clock_mono_us();
	if ((x->consumer = kafka_consumer_new(x->conf, NULL, &handlers, x,
		 err)) == NULL)
		return (-1);
	return (kafka_consumer_assign(x->consumer, positions, count, err));
}

/*
 * A broker that doesn't answer a fetch because of one partition leaves those
 * unanswered that were asked for with it: each is read alone, over a
 * connection of its own.
 */
static int
read_next_alone(struct reader *x, struct mr_error *err)
{
	struct kafka_position at = {.leader_epoch = -1};
	int64_t first, next;
	struct place *p;

	for (x->alone = 0; x->alone < x->count; x->alone++) {
		p = &x->places[x->alone];
		if (p->stands >= p->next)
			continue;
		/* Who doesn't say that much isn't waited for any longer. */
		if (kafka_admin_offsets(x->admin, p->topic, p->partition,
			&first, &next, ASK_SOON_MS, err) == -1) {
			if (pass_silent(x, p, err->message, err) == -1)
				return (-1);
			continue;
		}
		at.topic = p->topic;
		at.topic_index = x->alone;
		at.partition = p->partition;
		at.offset = p->stands;
		x->trouble[0] = '\0';
		return (open_at(x, &at, 1, err));
	}
	return (0);
}

static int
on_silence(struct reader *x, struct mr_error *err)
{
	struct place *p;
	char why[200];
	int i = x->alone;

	if (i == -1 && x->left > 1)
		return (read_next_alone(x, err));
	if (i == -1)
		for (i = 0; i < x->count - 1; i++)
			if (x->places[i].stands < x->places[i].next)
				break;
	p = &x->places[i];
	snprintf(why, sizeof(why), "nothing came for %lld s%s%s",
	    (long long)(x->stall_ms / 1000), x->trouble[0] != '\0' ? ": " : "",
	    x->trouble);
	if (pass_silent(x, p, why, err) == -1)
		return (-1);
	return (x->left > 0 ? read_next_alone(x, err) : 0);
}

static int
poll_more(struct reader *x, struct mr_error *err)
{
	const struct place *p;

	x->taken = 0;
	if (x->alone != -1) {
		p = &x->places[x->alone];
		if (p->stands >= p->next && read_next_alone(x, err) == -1)
			return (-1);
		if (x->left == 0)
			return (0);
	}
	x->polled_count = kafka_consumer_poll(x->consumer, x->polled,
	    POLLED_MOST, 100);
	if (x->polled_count > 0) {
		x->heard_us = clock_mono_us();
		return (0);
	}
	if (clock_mono_us() - x->heard_us < 1000 * x->stall_ms)
		return (0);
	return (on_silence(x, err));
}

/* What the log doesn't give is left out, and told. */
static int
pass_unreadable(struct reader *x, struct place *p, int64_t offset,
    struct mr_error *err)
{
	struct kafka_position at = {.topic = p->topic,
	    .topic_index = (int)(p - x->places),
	    .partition = p->partition,
	    .leader_epoch = -1};

	if (offset >= p->next)
		return (0);
	at.offset = kafka_readable_find(x->conf, p->topic, p->partition, offset,
	    p->next, NULL, NULL, err);
	x->heard_us = clock_mono_us();
	if (at.offset == -1 && err->kind == MR_RETRY)
		return (pass_silent(x, p, err->message, err));
	if (at.offset == -1 ||
	    check_add_unread(x->check, p->topic, p->partition, offset,
		at.offset, err) == -1)
		return (-1);
	place_move(x, p, at.offset);
	if (at.offset >= p->next)
		return (0);
	return (kafka_consumer_seek(x->consumer, &at, err));
}

/*
 * What arrived, up to the end that was told: 1 it is a record for the check.
 * A record's texts and bytes stay until the next call.
 */
static int
take_one(struct reader *x, struct kafka_record *r, struct check_record *record,
    struct mr_error *err)
{
	struct place *p = place_find(x, r->topic, r->partition);

	if (p == NULL)
		return (0);
	if (r->out_of_range == 2)
		return (pass_unreadable(x, p, r->offset, err));
	if (r->out_of_range)
		return (mr_error_set(err, MR_RETRY,
		    "%s/%d/%lld isn't there any more: retention deleted it, "
		    "or the log was cut",
		    r->topic, r->partition, (long long)r->offset));
	place_move(x, p, r->end_of_partition ? r->offset : r->offset + 1);
	if (r->end_of_partition || r->offset >= p->next)
		return (0);
	record->topic = p->topic;
	record->partition = r->partition;
	record->offset = r->offset;
	record->ts_ms = r->ts_ms;
	record->key = r->key;
	record->key_size = r->key_size;
	record->value = r->value;
	record->value_size = r->value_size;
	read_headers(x, r, record);
	return (1);
}

static int
reader_next(void *arg, struct check_record *record, struct mr_error *err)
{
	struct reader *x = arg;
	int found;

	for (;;) {
		if (x->taken > 0)
			kafka_record_free(&x->polled[x->taken - 1]);
		if (x->taken == x->polled_count) {
			x->polled_count = x->taken = 0;
			if (x->left == 0)
				return (0);
			if (poll_more(x, err) == -1)
				return (-1);
			if (x->polled_count == 0)
				continue;
		}
		found = take_one(x, &x->polled[x->taken], record, err);
		x->taken++;
		if (found != 0)
			return (found);
	}
}

static int
reader_open(struct reader *x, struct mr_error *err)
{
	struct kafka_position *positions;
	int i, status;

	x->alone = -1;
	for (i = 0; i < x->count; i++) {
		x->places[i].stands = x->places[i].first;
		x->left += x->places[i].first < x->places[i].next;
	}
	if (x->left == 0)
		return (0);
	positions = calloc((size_t)x->count, sizeof(*positions));
	if (positions == NULL)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	for (i = 0; i < x->count; i++) {
		positions[i].topic = x->places[i].topic;
		positions[i].topic_index = i;
		positions[i].partition = x->places[i].partition;
		positions[i].offset = x->places[i].first;
		positions[i].leader_epoch = -1;
	}
	status = open_at(x, positions, x->count, err);
	free(positions);
	return (status);
}

static void
reader_close(struct reader *x)
{
	int i = x->taken > 0 ? x->taken - 1 : 0;

	for (; i < x->polled_count; i++)
		kafka_record_free(&x->polled[i]);
	kafka_consumer_free(x->consumer);
	kafka_admin_free(x->admin);
	free(x->places);
	free(x);
}

/* ---- what there is ------------------------------------------------------------ */

/* The declared topics, and the dead letters of the services. */
static int
topics_list(struct check *c, struct kafka_topic_state *states,
    struct mr_error *err)
{
	const struct kafka_topic *declared;
	struct store_rows *rows;
	int i, count, n = 0, more;

	declared = kafka_topic_list(&count);
	for (i = 0; i < count && n < TOPICS_MOST; i++)
		snprintf(states[n++].name, sizeof(states[0].name), "%s",
		    declared[i].name);
	if ((rows = store_query_values(c->st, err, sql_services, NULL, 0)) ==
	    NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1 && n < TOPICS_MOST)
		snprintf(states[n++].name, sizeof(states[0].name),
		    "%.200s.dead-letter", store_get_text(rows, 0));
	store_rows_done(rows);
	return (more == -1 ? -1 : n);
}

static int
place_add(struct reader *x, const char *topic, int partition, int64_t first,
    int64_t next, struct mr_error *err)
{
	struct place *p, *grown;

	if ((p = place_find(x, topic, partition)) == NULL) {
		grown = realloc(x->places,
		    ((size_t)x->count + 1) * sizeof(*grown));
		if (grown == NULL)
			return (mr_error_set(err, MR_FATAL, "out of memory"));
		x->places = grown;
		p = &grown[x->count++];
		memset(p, 0, sizeof(*p));
		snprintf(p->topic, sizeof(p->topic), "%.*s", KAFKA_TOPIC_MAX,
		    topic);
		p->partition = partition;
		p->first = first;
	}
	p->next = next;
	return (0);
}

/* Where every partition begins and ends now. */
static int
ends_take(struct check *c, struct reader *x, struct mr_error *err)
{
	struct kafka_topic_state states[TOPICS_MOST];
	int64_t first, next;
	int i, k, count;

	memset(states, 0, sizeof(states));
	if ((count = topics_list(c, states, err)) == -1 ||
	    kafka_admin_describe(x->admin, states, count, ASK_MS, err) == -1)
		return (-1);
	for (i = 0; i < count; i++)
		for (k = 0; k < states[i].partitions; k++)
			if (kafka_admin_offsets(x->admin, states[i].name, k,
				&first, &next, ASK_MS, err) == -1 ||
			    check_add_partition(c, states[i].name, states[i].id,
				k, first, next, err) == -1 ||
			    place_add(x, states[i].name, k, first, next, err) ==
				-1)
				return (-1);
	return (0);
}

struct file_adding {
	struct check *check;
	const struct check_run *run;
};

static int
file_add(void *arg, const char *path, struct mr_error *err)
{
	const struct file_adding *a = arg;

	return (check_add_wanted(a->check, path, a->run, err));
}

static int
files_add(struct check *c, const struct check_run *run, struct mr_error *err)
{
	struct file_adding adding = {c, run};
	int64_t one;
	int i, found;

	c->partly = run->service_count > 0;
	if (store_list(run->data, &c->foreign, file_add, &adding, err) == -1)
		return (-1);
	for (i = 0; i < run->service_count; i++) {
		if ((found = store_find(c->st, err, &one, sql_has_file,
			 store_text(run->services[i]))) == -1)
			return (-1);
		if (found == 0)
			return (mr_error_set(err, MR_FATAL,
			    "%s has no file of the service %s", run->data,
			    run->services[i]));
	}
	if (c->files == 0)
		return (mr_error_set(err, MR_FATAL,
		    "%s has no service's file (*.db)", run->data));
	return (0);
}

/* Of a part of the files, only their topics are read. */
static int
topics_leave_out(struct check *c, struct reader *x, struct mr_error *err)
{
	int64_t one;
	int i, found;

	for (i = 0; c->partly && i < x->count; i++) {
		if ((found = store_find(c->st, err, &one, sql_worked_with,
			 store_text(x->places[i].topic))) == -1)
			return (-1);
		if (found == 0)
			x->places[i].next = x->places[i].first;
	}
	return (0);
}

static int
acknowledged_read(struct check *c, FILE *f, const char *path,
    struct mr_error *err)
{
	char line[LINE_SIZE];

	c->acknowledged = 1;
	while (fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, " \t\r\n")] = '\0';
		if (line[0] == '\0')
			continue;
		if (!id_uuid_valid(line))
			return (mr_error_set(err, MR_FATAL,
			    "%s: \"%.60s\" is no order's id", path, line));
		if (check_add_acknowledged(c, line, err) == -1)
			return (-1);
	}
	if (ferror(f))
		return (mr_error_set(err, MR_FATAL, "read %s: %s", path,
		    strerror(errno)));
	return (0);
}

static int
acknowledged_add(struct check *c, const char *path, struct mr_error *err)
{
	int status;
	FILE *f;

	if (strcmp(path, "-") == 0)
		return (acknowledged_read(c, stdin, "stdin", err));
	if ((f = fopen(path, "r")) == NULL)
		return (mr_error_set(err, MR_FATAL, "open %s: %s", path,
		    strerror(errno)));
	status = acknowledged_read(c, f, path, err);
	(void)fclose(f);
	return (status);
}

const char *
check_foreign(const struct check *c)
{

	return (buffer_text(&c->foreign));
}

int
check_gather(struct check *c, const struct check_run *run, struct mr_error *err)
{
	struct reader *x;
	int status = -1;

	if ((x = calloc(1, sizeof(*x))) == NULL)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	x->check = c;
	x->conf = &run->kafka;
	x->stall_ms = run->stall_ms;
	/* Acknowledgements first: what comes later isn't in the files. */
	if (run->acknowledged != NULL &&
	    acknowledged_add(c, run->acknowledged, err) == -1)
		goto done;
	if ((x->admin = kafka_admin_new(&run->kafka, err)) == NULL ||
	    ends_take(c, x, err) == -1 || files_add(c, run, err) == -1 ||
	    ends_take(c, x, err) == -1 || topics_leave_out(c, x, err) == -1)
		goto done;
	if (reader_open(x, err) == -1)
		goto done;
	status = check_read(c, reader_next, x, err);
done:
	reader_close(x);
	return (status);
}
