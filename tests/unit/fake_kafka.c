/*
 * One lock for all of it.  Handlers and reports run without it, in the thread
 * of the client whose they are.
 */
#include <sys/eventfd.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_kafka.h"

/* Everything is kept in one static struct, which the analyser loses sight of. */
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define FAKE_TOPICS_MOST 32
#define GROUPS_MOST 8
#define TRANSACTIONS_MOST 8
#define MEMBERS_MOST 64 /* ever */
#define SHARES_MOST 96
#define SCRIPTS_MOST 8
#define CLIENTS_MOST 16

/* A record in the log, or a copy of one in somebody's hand. */
struct entry {
	int64_t offset;
	int32_t leader_epoch;
	int64_t ts_ms;
	int looked_at; /* how often for headers */
	int nothing;
	int damaged;
	char *key; /* with a NUL behind it, like the rest */
	size_t key_size;
	char *value;
	size_t value_size;
	struct {
		char *name;
		char *value;
		size_t size;
	} headers[FAKE_HEADERS_MOST];
	int header_count;
	int headers_lost;
	struct kafka_consumer *holder; /* of a copy */
};

struct log {
	struct entry **entries;
	size_t count;
	size_t capacity;
	int64_t first;
	int64_t next;
	int64_t open; /* one above where a transaction is open; 0: none is */
	int32_t leader_epoch; /* goes up whenever the log is cut */
};

struct topic {
	char name[KAFKA_TOPIC_MAX + 1];
	char id[KAFKA_TOPIC_ID_SIZE];
	int partitions; /* 0: it is gone */
	struct log *logs;
};

/* A partition of a group. */
struct share {
	char topic[KAFKA_TOPIC_MAX + 1];
	int partition;
	int pinned; /* a member, FAKE_NOBODY, or -1: as it comes */
	struct kafka_consumer *owner;
	int64_t offset; /* committed; -1: nothing */
	char metadata[80];
};

struct group {
	char name[128];
	struct kafka_consumer *members[MEMBERS_MOST]; /* NULL: left */
	int member_count;
	struct share shares[SHARES_MOST];
	int share_count;
};

/* A partition of a consumer. */
struct reading {
	const char *topic;
	int index;
	int partition;
	int fetching;
	int paused;
	int ended;
	int64_t next;
	int32_t leader_epoch; /* of the record before it; -1: not known */
	int64_t end_told; /* the end that was reported last; -1: none */
	int64_t generation; /* goes up with assignments and seeks */
};

struct kafka_consumer {
	struct kafka_group_handlers handlers;
	void *arg;
	struct group *group;
	int member;
	const char *topics[FAKE_TOPICS_MOST];
	int topic_count;
	struct reading readings[SHARES_MOST];
	int reading_count;
	int turn; /* the reading that a poll begins with */
	int fd;
	int frozen;
	int64_t allowed; /* -1: any number */
	int64_t in_hand; /* records that weren't freed yet */
	int64_t in_hand_most;
	int64_t polls;
	int64_t looks;
	int committing;
	int64_t commit_failures;
	char upset[200];
	int upset_fatal;
};

/* A record under way. */
struct sending {
	struct sending *next;
	struct kafka_producer *producer; /* NULL: it was freed, this is late */
	char topic[KAFKA_TOPIC_MAX + 1];
	struct entry *entry; /* NULL: it is in the log */
	int partition;
	void *tag;
	int held; /* by a script */
	enum fake_send how;
	int done; /* a report waits */
	int64_t offset;
	enum mr_error_kind kind;
	const char *reason;
};

struct kafka_producer {
	void (*on_report)(void *arg, const struct kafka_report *report);
	void *arg;
	enum kafka_delivery delivery;
	struct sending *first;
	struct sending **last;
	int count;
	int spent;
	int fd;
	struct transaction *of; /* its transactional id's; NULL: it has none */
	int began;
	int to_abort;
};

/* What is under way under a transactional id, whoever began it. */
struct transaction {
	char id[128];
	struct kafka_producer *holder; /* whoever registered last */
	struct entry **entries; /* they hold nothing until the commit */
	size_t count;
	size_t capacity;
	struct share *share; /* to get a position; NULL: none */
	int64_t offset;
	char metadata[80];
	int prepared; /* the broker was told to commit it */
};

struct kafka_admin {
	int unused;
};

struct script {
	char topic[KAFKA_TOPIC_MAX + 1];
	int64_t skip;
	int64_t count;
	enum fake_send how;
};

static struct {
	char id[KAFKA_CLUSTER_ID_SIZE];
	int reachable;
	int hide_ids;
	int late_rebalance;
	int mute_close;
	int mute_commits;
	struct topic topics[FAKE_TOPICS_MOST];
	int topic_count;
	int64_t ids; /* topic ids given so far */
	int64_t generations;
	struct group groups[GROUPS_MOST];
	int group_count;
	struct kafka_consumer *consumers[CLIENTS_MOST];
	struct kafka_producer *producers[CLIENTS_MOST];
	int admins;
	int64_t producers_made;
	struct script scripts[SCRIPTS_MOST];
	int script_count;
	struct sending *late;
	int64_t failing[FAKE_CALLS];
	int lacks_transactions;
	int64_t doomed;
	int64_t begun;
	int64_t ended;
	struct transaction transactions[TRANSACTIONS_MOST];
	int transaction_count;
} cluster;

static pthread_mutex_t cluster_lock = PTHREAD_MUTEX_INITIALIZER;

static void
enter(void)
{
	pthread_mutex_lock(&cluster_lock);
}

static void
leave(void)
{
	pthread_mutex_unlock(&cluster_lock);
}

/* A caller broke a contract, or a test asked for too much. */
static void broken(const char *what, const char *of) __attribute__((noreturn));

static void
broken(const char *what, const char *of)
{
	fprintf(stderr, "fake_kafka: %s: %s\n", of, what);
	abort();
}

static void *
need(void *memory)
{
	if (memory == NULL)
		broken("out of memory", "fake_kafka");
	return (memory);
}

static void
fd_signal(int fd, int readable)
{
	uint64_t n = 1;

	if (readable)
		(void)!write(fd, &n, sizeof(n));
	else
		(void)!read(fd, &n, sizeof(n));
}

/* ---- records ------------------------------------------------------------- */

static char *
copy_bytes(const void *bytes, size_t size)
{
	char *copy;

	if (bytes == NULL)
		return (NULL);
	copy = need(malloc(size + 1));
	if (size > 0)
		memcpy(copy, bytes, size);
	copy[size] = '\0';
	return (copy);
}

static struct entry *
entry_new(void)
{
	return (need(calloc(1, sizeof(struct entry))));
}

static void
entry_free(struct entry *e)
{
	int i;

	if (e == NULL)
		return;
	for (i = 0; i < e->header_count; i++) {
		free(e->headers[i].name);
		free(e->headers[i].value);
	}
	free(e->key);
	free(e->value);
	free(e);
}

static void
entry_header(struct entry *e, const char *name, const void *value, size_t size)
{
	if (e->header_count == FAKE_HEADERS_MOST)
		broken("too many headers", name);
	e->headers[e->header_count].name = copy_bytes(name, strlen(name));
	e->headers[e->header_count].value = copy_bytes(value, size);
	e->headers[e->header_count].size = size;
	e->header_count++;
}

static struct entry *
entry_copy(const struct entry *from)
{
	struct entry *e = entry_new();
	int i;

	e->offset = from->offset;
	e->leader_epoch = from->leader_epoch;
	e->ts_ms = from->ts_ms;
	e->key = copy_bytes(from->key, from->key_size);
	e->key_size = from->key_size;
	e->value = copy_bytes(from->value, from->value_size);
	e->value_size = from->value_size;
	e->headers_lost = from->headers_lost;
	for (i = 0; i < from->header_count; i++)
		entry_header(e, from->headers[i].name, from->headers[i].value,
		    from->headers[i].size);
	return (e);
}

int
kafka_record_header_at(const struct kafka_record *record, size_t index,
    struct kafka_header *header)
{
	struct entry *e = record->opaque;

	if (record->kept != NULL)
		return (kafka_record_kept_at(record, index, header));
	/* As the client changes a record that it is asked for headers of: for
	 * two threads at once, a race. */
	if (e != NULL)
		e->looked_at++;
	if (e == NULL || index >= (size_t)e->header_count)
		return (0);
	header->name = e->headers[index].name;
	header->value = e->headers[index].value;
	header->size = e->headers[index].size;
	return (1);
}

int
kafka_record_headers_lost(const struct kafka_record *record)
{
	const struct entry *e = record->opaque;

	return (record->kept == NULL && e != NULL && e->headers_lost);
}

int
kafka_record_header(const struct kafka_record *record, const char *name,
    const void **value, size_t *size)
{
	struct kafka_header header;
	size_t i;
	int found = 0;

	for (i = 0; kafka_record_header_at(record, i, &header); i++)
		if (strcmp(header.name, name) == 0) {
			*value = header.value;
			*size = header.size;
			found = 1;
		}
	return (found);
}

void
kafka_record_free(struct kafka_record *record)
{
	struct entry *e = record->opaque;

	if (e != NULL) {
		enter();
		e->holder->in_hand--;
		leave();
		entry_free(e);
	}
	memset(record, 0, sizeof(*record));
}

/* ---- logs ---------------------------------------------------------------- */

static struct topic *
topic_find(const char *name)
{
	int i;

	for (i = 0; i < cluster.topic_count; i++)
		if (strcmp(cluster.topics[i].name, name) == 0)
			return (&cluster.topics[i]);
	return (NULL);
}

static struct log *
log_find(const char *topic, int partition)
{
	struct topic *t = topic_find(topic);

	if (t == NULL || partition < 0 || partition >= t->partitions)
		return (NULL);
	return (&t->logs[partition]);
}

static struct log *
log_need(const char *topic, int partition)
{
	struct log *l = log_find(topic, partition);

	if (l == NULL)
		broken("there is no such partition", topic);
	return (l);
}

/* The first entry at or behind an offset; NULL at the end. */
static struct entry *
log_at(const struct log *l, int64_t offset)
{
	size_t low = 0, high = l->count, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (l->entries[middle]->offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return (low < l->count ? l->entries[low] : NULL);
}

static int64_t
log_append(struct log *l, struct entry *e)
{
	if (l->count == l->capacity) {
		l->capacity = l->capacity == 0 ? 64 : 2 * l->capacity;
		l->entries = need(
		    realloc(l->entries, l->capacity * sizeof(struct entry *)));
	}
	e->offset = l->next++;
	e->leader_epoch = l->leader_epoch;
	l->entries[l->count++] = e;
	return (e->offset);
}

/* Keep the entries whose offsets are in a range. */
static void
log_keep(struct log *l, int64_t from, int64_t to)
{
	size_t i, kept = 0;

	for (i = 0; i < l->count; i++)
		if (l->entries[i]->offset >= from && l->entries[i]->offset < to)
			l->entries[kept++] = l->entries[i];
		else
			entry_free(l->entries[i]);
	l->count = kept;
}

static void
topic_clear(struct topic *t)
{
	int i;

	for (i = 0; i < t->partitions; i++) {
		log_keep(&t->logs[i], 0, 0);
		free(t->logs[i].entries);
	}
	free(t->logs);
	t->logs = NULL;
	t->partitions = 0;
}

static void
topic_make(const char *name, int partitions)
{
	struct topic *t = topic_find(name);

	if (t == NULL) {
		if (cluster.topic_count == FAKE_TOPICS_MOST)
			broken("too many topics", name);
		t = &cluster.topics[cluster.topic_count++];
		snprintf(t->name, sizeof(t->name), "%s", name);
	}
	topic_clear(t);
	t->partitions = partitions;
	t->logs = need(calloc((size_t)partitions, sizeof(struct log)));
	snprintf(t->id, sizeof(t->id), "fakeTopicId%011lld",
	    (long long)++cluster.ids);
}

/* ---- groups -------------------------------------------------------------- */

static struct group *
group_find(const char *name)
{
	int i;

	for (i = 0; i < cluster.group_count; i++)
		if (strcmp(cluster.groups[i].name, name) == 0)
			return (&cluster.groups[i]);
	if (cluster.group_count == GROUPS_MOST)
		broken("too many groups", name);
	snprintf(cluster.groups[i].name, sizeof(cluster.groups[i].name), "%s",
	    name);
	cluster.group_count++;
	return (&cluster.groups[i]);
}

static struct share *
share_find(struct group *g, const char *topic, int partition)
{
	struct share *share;
	int i;

	for (i = 0; i < g->share_count; i++)
		if (g->shares[i].partition == partition &&
		    strcmp(g->shares[i].topic, topic) == 0)
			return (&g->shares[i]);
	if (g->share_count == SHARES_MOST)
		broken("too many partitions in a group", topic);
	share = &g->shares[g->share_count++];
	snprintf(share->topic, sizeof(share->topic), "%s", topic);
	share->partition = partition;
	share->pinned = -1;
	share->offset = -1;
	return (share);
}

static struct kafka_consumer *
member_need(const char *group, int member)
{
	struct group *g = group_find(group);

	if (member < 0 || member >= g->member_count ||
	    g->members[member] == NULL)
		broken("there is no such member", group);
	return (g->members[member]);
}

static int
reads_topic(const struct kafka_consumer *c, const char *topic)
{
	int i;

	for (i = 0; i < c->topic_count; i++)
		if (strcmp(c->topics[i], topic) == 0)
			return (i);
	return (-1);
}

/* Whose a partition should be. */
static struct kafka_consumer *
share_target(struct group *g, const struct share *share)
{
	struct kafka_consumer *living[MEMBERS_MOST];
	int i, count = 0;

	if (log_find(share->topic, share->partition) == NULL)
		return (NULL);
	if (share->pinned == FAKE_NOBODY)
		return (NULL);
	if (share->pinned != -1 && g->members[share->pinned] != NULL)
		return (g->members[share->pinned]);
	for (i = 0; i < g->member_count; i++)
		if (g->members[i] != NULL &&
		    reads_topic(g->members[i], share->topic) != -1)
			living[count++] = g->members[i];
	return (count == 0 ? NULL : living[share->partition % count]);
}

/* Every partition of what a member subscribed to has a share. */
static void
group_fill(struct group *g)
{
	struct topic *t;
	int i, k, p;

	for (i = 0; i < g->member_count; i++)
		for (k = 0;
		     g->members[i] != NULL && k < g->members[i]->topic_count;
		     k++) {
			if ((t = topic_find(g->members[i]->topics[k])) == NULL)
				continue;
			for (p = 0; p < t->partitions; p++)
				(void)share_find(g, t->name, p);
		}
}

/* ---- readings ------------------------------------------------------------ */

static struct reading *
reading_find(struct kafka_consumer *c, const char *topic, int partition)
{
	int i;

	for (i = 0; i < c->reading_count; i++)
		if (c->readings[i].partition == partition &&
		    strcmp(c->readings[i].topic, topic) == 0)
			return (&c->readings[i]);
	return (NULL);
}

static void
reading_start(struct reading *r, int64_t offset, int32_t leader_epoch)
{
	r->fetching = offset >= 0;
	r->next = offset;
	r->leader_epoch = leader_epoch;
	r->ended = 0;
	r->end_told = -1;
	r->generation = ++cluster.generations;
}

static struct reading *
reading_add(struct kafka_consumer *c, const char *topic, int index,
    int partition, int64_t offset, int32_t leader_epoch)
{
	struct reading *r;

	if (c->reading_count == SHARES_MOST)
		broken("too many partitions assigned", topic);
	r = &c->readings[c->reading_count++];
	memset(r, 0, sizeof(*r));
	r->topic = topic;
	r->index = index;
	r->partition = partition;
	reading_start(r, offset, leader_epoch);
	return (r);
}

static void
reading_remove(struct kafka_consumer *c, struct reading *r)
{
	*r = c->readings[--c->reading_count];
}

/* Whether the log was cut below where it is read: its epoch ended before. */
static int
reading_was_cut(const struct reading *r, const struct log *l)
{
	size_t i;

	if (r->leader_epoch == -1 || r->leader_epoch == l->leader_epoch)
		return (0);
	for (i = 0; i < l->count; i++)
		if (l->entries[i]->leader_epoch > r->leader_epoch)
			return (l->entries[i]->offset < r->next);
	return (l->next < r->next);
}

/* What a poll would give of it. */
enum gives { GIVES_NOTHING, GIVES_RECORD, GIVES_END, GIVES_LOSS };

/* The last stable offset: what lies behind it isn't shown yet. */
static int64_t
log_stable(const struct log *l)
{

	return (l->open == 0 ? l->next : l->open - 1);
}

static enum gives
reading_gives(const struct kafka_consumer *c, const struct reading *r,
    struct entry **found)
{
	const struct log *l = log_find(r->topic, r->partition);
	struct entry *e;
	int64_t at = r->next;

	if (l == NULL || !r->fetching || r->paused || r->ended)
		return (GIVES_NOTHING);
	if (at < l->first || at > l->next || reading_was_cut(r, l))
		return (GIVES_LOSS);
	while ((e = log_at(l, at)) != NULL && e->nothing)
		at = e->offset + 1;
	if (e != NULL && e->offset >= log_stable(l))
		e = NULL;
	*found = e;
	if (e != NULL && e->damaged)
		return (GIVES_LOSS);
	if (e != NULL)
		return (c->allowed == 0 ? GIVES_NOTHING : GIVES_RECORD);
	return (r->end_told == log_stable(l) ? GIVES_NOTHING : GIVES_END);
}

/* ---- wake-ups ------------------------------------------------------------ */

static int
share_moves(struct kafka_consumer *c, struct share *share)
{
	struct kafka_consumer *target = share_target(c->group, share);
	int has = reading_find(c, share->topic, share->partition) != NULL;

	if (share->owner == c)
		return (target != c);
	return (has || (share->owner == NULL && target == c));
}

static int
consumer_has_work(struct kafka_consumer *c)
{
	struct entry *e;
	int i;

	if (!cluster.reachable || c->frozen)
		return (0);
	if (c->upset[0] != '\0')
		return (1);
	for (i = 0; c->group != NULL && i < c->group->share_count; i++)
		if (share_moves(c, &c->group->shares[i]))
			return (1);
	for (i = 0; i < c->reading_count; i++)
		if (reading_gives(c, &c->readings[i], &e) != GIVES_NOTHING)
			return (1);
	return (0);
}

static void producer_step(struct kafka_producer *p);
static void sending_done(struct sending *x, enum mr_error_kind kind,
    const char *reason);

/* Something changed: who has work to do now? */
static void
wake_all(void)
{
	struct kafka_producer *p;
	int i;

	for (i = 0; i < cluster.group_count; i++)
		group_fill(&cluster.groups[i]);
	for (i = 0; i < CLIENTS_MOST; i++) {
		if ((p = cluster.producers[i]) != NULL)
			producer_step(p);
		if (cluster.consumers[i] != NULL)
			fd_signal(cluster.consumers[i]->fd,
			    consumer_has_work(cluster.consumers[i]));
	}
}

/* ---- the test's side: the cluster ---------------------------------------- */

void
fake_start(const char *cluster_id)
{
	enter();
	memset(&cluster, 0, sizeof(cluster));
	snprintf(cluster.id, sizeof(cluster.id), "%s", cluster_id);
	cluster.reachable = 1;
	leave();
}

static void
late_drop(void)
{
	struct sending *x;

	while ((x = cluster.late) != NULL) {
		cluster.late = x->next;
		entry_free(x->entry);
		free(x);
	}
}

void
fake_end(void)
{
	int i;

	enter();
	for (i = 0; i < CLIENTS_MOST; i++)
		if (cluster.consumers[i] != NULL ||
		    cluster.producers[i] != NULL)
			broken("a client was not freed", "fake_end");
	if (cluster.admins != 0)
		broken("an admin client was not freed", "fake_end");
	late_drop();
	for (i = 0; i < cluster.transaction_count; i++)
		free(cluster.transactions[i].entries);
	for (i = 0; i < cluster.topic_count; i++)
		topic_clear(&cluster.topics[i]);
	memset(&cluster, 0, sizeof(cluster));
	leave();
}

void
fake_reach(int reachable)
{
	enter();
	cluster.reachable = reachable;
	wake_all();
	leave();
}

void
fake_topic(const char *name, int partitions)
{
	enter();
	topic_make(name, partitions);
	wake_all();
	leave();
}

void
fake_topic_delete(const char *name)
{
	enter();
	topic_clear(topic_find(name));
	wake_all();
	leave();
}

void
fake_hide_ids(int hide)
{
	enter();
	cluster.hide_ids = hide;
	leave();
}

static int64_t
append(const char *topic, int partition, struct entry *e)
{
	int64_t offset;

	enter();
	offset = log_append(log_need(topic, partition), e);
	wake_all();
	leave();
	return (offset);
}

int64_t
fake_append(const char *topic, int partition, const struct fake_record *record)
{
	struct entry *e = entry_new();
	int i;

	e->ts_ms = record->ts_ms;
	if (record->key != NULL)
		e->key_size = strlen(record->key);
	e->key = copy_bytes(record->key, e->key_size);
	e->value_size = record->value_size;
	if (record->value != NULL && e->value_size == 0)
		e->value_size = strlen(record->value);
	e->value = copy_bytes(record->value, e->value_size);
	e->headers_lost = record->headers_lost;
	for (i = 0; record->headers[i] != NULL; i += 2)
		entry_header(e, record->headers[i], record->headers[i + 1],
		    strlen(record->headers[i + 1]));
	return (append(topic, partition, e));
}

int64_t
fake_put(const char *topic, int partition, const char *value)
{
	return (fake_append(topic, partition,
	    &(struct fake_record){.value = value, .ts_ms = 1000}));
}

int64_t
fake_put_from(const char *topic, int partition, const char *source, int64_t seq,
    int64_t predecessor, const char *value)
{
	char id[24], before[24];

	snprintf(id, sizeof(id), "%lld", (long long)seq);
	snprintf(before, sizeof(before), "%lld", (long long)predecessor);
	return (fake_append(topic, partition,
	    &(struct fake_record){.value = value,
		.ts_ms = 1000,
		.headers = {"ce_type", "test", "ce_source", source, "ce_id", id,
		    "ce_predecessor", before}}));
}

int64_t
fake_put_nothing(const char *topic, int partition)
{
	struct entry *e = entry_new();

	e->nothing = 1;
	return (append(topic, partition, e));
}

int64_t
fake_put_damaged(const char *topic, int partition)
{
	struct entry *e = entry_new();

	e->damaged = 1;
	return (append(topic, partition, e));
}

void
fake_hold(const char *topic, int partition, int64_t offset)
{

	enter();
	log_need(topic, partition)->open = offset + 1;
	wake_all();
	leave();
}

void
fake_cut_front(const char *topic, int partition, int64_t first)
{
	struct log *l;

	enter();
	l = log_need(topic, partition);
	log_keep(l, first, INT64_MAX);
	l->first = first;
	if (l->next < first)
		l->next = first;
	wake_all();
	leave();
}

void
fake_cut_end(const char *topic, int partition, int64_t next)
{
	struct log *l;

	enter();
	l = log_need(topic, partition);
	log_keep(l, 0, next);
	l->next = next;
	l->leader_epoch++;
	wake_all();
	leave();
}

int64_t
fake_next(const char *topic, int partition)
{
	struct log *l;
	int64_t next;

	enter();
	l = log_find(topic, partition);
	next = l == NULL ? 0 : l->next;
	leave();
	return (next);
}

static const struct entry *
entry_at(const char *topic, int partition, int64_t offset)
{
	const struct entry *e;

	enter();
	e = log_at(log_need(topic, partition), offset);
	leave();
	return (e == NULL || e->offset != offset || e->nothing ? NULL : e);
}

const char *
fake_value(const char *topic, int partition, int64_t offset)
{
	const struct entry *e = entry_at(topic, partition, offset);

	if (e == NULL)
		return (NULL);
	return (e->value == NULL ? "" : e->value);
}

size_t
fake_value_size(const char *topic, int partition, int64_t offset)
{
	const struct entry *e = entry_at(topic, partition, offset);

	return (e == NULL ? 0 : e->value_size);
}

int
fake_is_tombstone(const char *topic, int partition, int64_t offset)
{
	const struct entry *e = entry_at(topic, partition, offset);

	return (e != NULL && e->value == NULL);
}

int64_t
fake_ts_ms(const char *topic, int partition, int64_t offset)
{
	const struct entry *e = entry_at(topic, partition, offset);

	return (e == NULL ? -1 : e->ts_ms);
}

const char *
fake_key(const char *topic, int partition, int64_t offset)
{
	const struct entry *e = entry_at(topic, partition, offset);

	return (e == NULL ? NULL : e->key);
}

const char *
fake_header(const char *topic, int partition, int64_t offset, const char *name)
{
	const struct entry *e = entry_at(topic, partition, offset);
	int i;

	for (i = 0; e != NULL && i < e->header_count; i++)
		if (strcmp(e->headers[i].name, name) == 0)
			return (e->headers[i].value);
	return (NULL);
}

/* ---- the test's side: groups --------------------------------------------- */

static void
move(const char *group, const char *topic, int partition, int member, int ask)
{
	struct share *share;

	enter();
	share = share_find(group_find(group), topic, partition);
	share->pinned = member;
	if (!ask)
		share->owner = NULL;
	wake_all();
	leave();
}

void
fake_move(const char *group, const char *topic, int partition, int member)
{
	move(group, topic, partition, member, 1);
}

void
fake_steal(const char *group, const char *topic, int partition, int member)
{
	move(group, topic, partition, member, 0);
}

int
fake_owner(const char *group, const char *topic, int partition)
{
	struct share *share;
	int member;

	enter();
	share = share_find(group_find(group), topic, partition);
	member = share->owner == NULL ? -1 : share->owner->member;
	leave();
	return (member);
}

void
fake_freeze(const char *group, int member, int freeze)
{
	enter();
	member_need(group, member)->frozen = freeze;
	wake_all();
	leave();
}

void
fake_allow(const char *group, int member, int64_t records)
{
	enter();
	member_need(group, member)->allowed = records;
	wake_all();
	leave();
}

void
fake_late_rebalance(int late)
{
	enter();
	cluster.late_rebalance = late;
	leave();
}

void
fake_mute_close(int mute)
{
	enter();
	cluster.mute_close = mute;
	leave();
}

void
fake_mute_commits(int mute)
{
	enter();
	cluster.mute_commits = mute;
	wake_all();
	leave();
}

void
fake_upset(const char *group, int member, const char *what, int fatal)
{
	struct kafka_consumer *c;

	enter();
	c = member_need(group, member);
	snprintf(c->upset, sizeof(c->upset), "%s", what);
	c->upset_fatal = fatal;
	wake_all();
	leave();
}

int64_t
fake_polls(const char *group, int member)
{
	int64_t n;

	enter();
	n = member_need(group, member)->polls;
	leave();
	return (n);
}

int64_t
fake_in_hand_most(const char *group, int member)
{
	int64_t n;

	enter();
	n = member_need(group, member)->in_hand_most;
	leave();
	return (n);
}

int64_t
fake_looks(const char *group, int member)
{
	int64_t n;

	enter();
	n = member_need(group, member)->looks;
	leave();
	return (n);
}

void
fake_commit(const char *group, const char *topic, int partition, int64_t offset,
    const char *metadata)
{
	struct share *share;

	enter();
	share = share_find(group_find(group), topic, partition);
	share->offset = offset;
	snprintf(share->metadata, sizeof(share->metadata), "%s", metadata);
	leave();
}

int64_t
fake_committed(const char *group, const char *topic, int partition,
    char *metadata, size_t metadata_size)
{
	struct share *share;
	int64_t offset;

	enter();
	share = share_find(group_find(group), topic, partition);
	offset = share->offset;
	if (metadata != NULL)
		snprintf(metadata, metadata_size, "%s", share->metadata);
	leave();
	return (offset);
}

/* ---- the test's side: what goes wrong ------------------------------------ */

void
fake_fail_sends(const char *topic, int64_t skip, int64_t count,
    enum fake_send how)
{
	struct script *script;

	enter();
	if (cluster.script_count == SCRIPTS_MOST)
		broken("too many scripts", topic);
	script = &cluster.scripts[cluster.script_count++];
	snprintf(script->topic, sizeof(script->topic), "%s", topic);
	script->skip = skip;
	script->count = count;
	script->how = how;
	leave();
}

void
fake_release(void)
{
	struct sending *x;
	int i;

	enter();
	cluster.script_count = 0;
	while ((x = cluster.late) != NULL) {
		cluster.late = x->next;
		(void)log_append(log_need(x->topic, x->partition), x->entry);
		free(x);
	}
	for (i = 0; i < CLIENTS_MOST; i++)
		if (cluster.producers[i] != NULL)
			for (x = cluster.producers[i]->first; x != NULL;
			     x = x->next)
				x->held = 0;
	wake_all();
	leave();
}

void
fake_fail(enum fake_call call, int64_t count)
{
	enter();
	cluster.failing[call] = count;
	leave();
}

int64_t
fake_to_fail(enum fake_call call)
{
	int64_t n;

	enter();
	n = cluster.failing[call];
	leave();
	return (n);
}

int64_t
fake_producers(void)
{
	int64_t n;

	enter();
	n = cluster.producers_made;
	leave();
	return (n);
}

/* Does this call fail?  The lock is held. */
static int
fails(enum fake_call call, const char *what, struct mr_error *err)
{
	if (!cluster.reachable || cluster.failing[call] != 0) {
		if (cluster.reachable && cluster.failing[call] > 0)
			cluster.failing[call]--;
		mr_error_set(err, MR_RETRY, "%s: no answer from the cluster",
		    what);
		return (1);
	}
	return (0);
}

/* ---- admin --------------------------------------------------------------- */

struct kafka_admin *
kafka_admin_new(const struct kafka_conf *conf, struct mr_error *err)
{
	(void)conf;
	(void)err;
	enter();
	cluster.admins++;
	leave();
	return (need(calloc(1, sizeof(struct kafka_admin))));
}

void
kafka_admin_free(struct kafka_admin *admin)
{
	if (admin == NULL)
		return;
	enter();
	cluster.admins--;
	leave();
	free(admin);
}

int
kafka_admin_cluster_id(struct kafka_admin *admin,
    char id[KAFKA_CLUSTER_ID_SIZE], int timeout_ms, struct mr_error *err)
{
	int status = -1;

	(void)admin;
	(void)timeout_ms;
	enter();
	if (!fails(FAKE_CLUSTER_ID, "cluster id", err)) {
		memcpy(id, cluster.id, KAFKA_CLUSTER_ID_SIZE);
		status = 0;
	}
	leave();
	return (status);
}

int
kafka_admin_describe(struct kafka_admin *admin,
    struct kafka_topic_state *states, int count, int timeout_ms,
    struct mr_error *err)
{
	const struct topic *t;
	int i, status = -1;

	(void)admin;
	(void)timeout_ms;
	enter();
	if (fails(FAKE_DESCRIBE, "describe", err))
		goto done;
	for (i = 0; i < count; i++) {
		t = topic_find(states[i].name);
		states[i].partitions = t == NULL ? 0 : t->partitions;
		states[i].id[0] = '\0';
		if (states[i].partitions > 0 && !cluster.hide_ids)
			memcpy(states[i].id, t->id, sizeof(t->id));
	}
	status = 0;
done:
	leave();
	return (status);
}

int
kafka_admin_compare(struct kafka_admin *admin, const struct kafka_topic *topic,
    struct kafka_difference list[KAFKA_DIFFERENCES_MAX], int timeout_ms,
    struct mr_error *err)
{
	const struct topic *t;
	int differs = 0;

	(void)admin;
	(void)timeout_ms;
	(void)err;
	enter();
	t = topic_find(topic->name);
	if (t != NULL && t->partitions != topic->partitions) {
		list[0] = (struct kafka_difference){.name = "partitions"};
		snprintf(list[0].declared, sizeof(list[0].declared), "%d",
		    topic->partitions);
		snprintf(list[0].actual, sizeof(list[0].actual), "%d",
		    t->partitions);
		differs = 1;
	}
	leave();
	return (differs);
}

int
kafka_admin_ensure(struct kafka_admin *admin, const char *const *names,
    int count, int timeout_ms, struct mr_error *err)
{
	const struct kafka_topic *declared;
	const struct topic *t;
	int i, status = -1;

	(void)admin;
	(void)timeout_ms;
	enter();
	if (fails(FAKE_ENSURE, "ensure", err))
		goto done;
	for (i = 0; i < count; i++) {
		t = topic_find(names[i]);
		if (t != NULL && t->partitions > 0)
			continue;
		if ((declared = kafka_topic_find(names[i])) == NULL) {
			mr_error_set(err, MR_REJECT, "%s isn't declared",
			    names[i]);
			goto done;
		}
		topic_make(names[i], declared->partitions);
	}
	wake_all();
	status = 0;
done:
	leave();
	return (status);
}

int
kafka_admin_delete(struct kafka_admin *admin, const char *topic, int timeout_ms,
    struct mr_error *err)
{
	(void)admin;
	(void)timeout_ms;
	(void)err;
	fake_topic_delete(topic);
	return (0);
}

int
kafka_admin_offsets(struct kafka_admin *admin, const char *topic, int partition,
    int64_t *first, int64_t *next, int timeout_ms, struct mr_error *err)
{
	const struct log *l;
	int status = -1;

	(void)admin;
	(void)timeout_ms;
	enter();
	if (fails(FAKE_OFFSETS, "offsets", err))
		goto done;
	if ((l = log_find(topic, partition)) == NULL) {
		mr_error_set(err, MR_REJECT, "there is no %s/%d", topic,
		    partition);
		goto done;
	}
	*first = l->first;
	*next = log_stable(l);
	status = 0;
done:
	leave();
	return (status);
}

int
kafka_admin_end(struct kafka_admin *admin, const char *topic, int partition,
    int64_t *end, int timeout_ms, struct mr_error *err)
{
	int64_t first, next;
	int status = kafka_admin_offsets(admin, topic, partition, &first, &next,
	    timeout_ms, err);

	if (status == 0)
		*end = fake_next(topic, partition);
	return (status);
}

/* ---- consumers ----------------------------------------------------------- */

struct kafka_consumer *
kafka_consumer_new(const struct kafka_conf *conf, const char *group,
    const struct kafka_group_handlers *handlers, void *arg,
    struct mr_error *err)
{
	struct kafka_consumer *c = need(calloc(1, sizeof(*c)));
	int i;

	(void)conf;
	(void)err;
	c->handlers = *handlers;
	c->arg = arg;
	c->allowed = -1;
	c->member = -1;
	if ((c->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) == -1)
		broken(strerror(errno), "eventfd");
	enter();
	if (group != NULL)
		c->group = group_find(group);
	for (i = 0; i < CLIENTS_MOST && cluster.consumers[i] != NULL; i++)
		;
	if (i == CLIENTS_MOST)
		broken("too many consumers", "kafka_consumer_new");
	cluster.consumers[i] = c;
	leave();
	return (c);
}

int
kafka_consumer_fd(const struct kafka_consumer *consumer)
{
	enter();
	((struct kafka_consumer *)(uintptr_t)consumer)->looks++;
	leave();
	return (consumer->fd);
}

int
kafka_consumer_subscribe(struct kafka_consumer *consumer,
    const char *const *topics, int count, struct mr_error *err)
{
	struct group *g = consumer->group;
	int i;

	(void)err;
	if (g == NULL || consumer->member != -1)
		broken("without a group, or twice", "kafka_consumer_subscribe");
	enter();
	for (i = 0; i < count; i++)
		consumer->topics[i] = topics[i];
	consumer->topic_count = count;
	if (g->member_count == MEMBERS_MOST)
		broken("too many members", g->name);
	consumer->member = g->member_count;
	g->members[g->member_count++] = consumer;
	wake_all();
	leave();
	return (0);
}

int
kafka_consumer_assign(struct kafka_consumer *consumer,
    const struct kafka_position *positions, int count, struct mr_error *err)
{
	int i;

	(void)err;
	if (consumer->group != NULL)
		broken("a member of a group", "kafka_consumer_assign");
	enter();
	consumer->reading_count = 0;
	for (i = 0; i < count; i++)
		(void)reading_add(consumer, positions[i].topic,
		    positions[i].topic_index, positions[i].partition,
		    positions[i].offset, positions[i].leader_epoch);
	wake_all();
	leave();
	return (0);
}

static struct kafka_position
position_of(const struct reading *r)
{
	return ((struct kafka_position){.topic = r->topic,
	    .topic_index = r->index,
	    .partition = r->partition,
	    .offset = r->next,
	    .leader_epoch = -1});
}

/*
 * Take away what isn't ours any more (lost), or shan't be (all: none shall).
 * Handlers run without the lock, but nobody else changes our readings.
 */
static void
take_away(struct kafka_consumer *c, int lost, int all)
{
	struct kafka_position positions[SHARES_MOST];
	struct share *shares[SHARES_MOST];
	struct share *share;
	int i, count = 0;

	for (i = 0; i < c->reading_count; i++) {
		share = share_find(c->group, c->readings[i].topic,
		    c->readings[i].partition);
		if (lost ? share->owner == c :
			   share->owner != c ||
			    (!all && share_target(c->group, share) == c))
			continue;
		shares[count] = share;
		positions[count++] = position_of(&c->readings[i]);
	}
	if (count == 0)
		return;
	if (c->handlers.on_revoke != NULL) {
		leave();
		c->handlers.on_revoke(c->arg, positions, count, lost);
		enter();
	}
	for (i = 0; i < count; i++) {
		reading_remove(c,
		    reading_find(c, positions[i].topic,
			positions[i].partition));
		if (shares[i]->owner == c)
			shares[i]->owner = NULL;
	}
}

/* Give us what is free and shall be ours; an empty assignment is told once. */
static void
give(struct kafka_consumer *c)
{
	struct kafka_position positions[SHARES_MOST];
	struct share *share;
	struct reading *r;
	int i, count = 0;

	for (i = 0; i < c->group->share_count; i++) {
		share = &c->group->shares[i];
		if (share->owner != NULL || share_target(c->group, share) != c)
			continue;
		share->owner = c;
		r = reading_add(c, c->topics[reads_topic(c, share->topic)],
		    reads_topic(c, share->topic), share->partition, -1, -1);
		positions[count++] = position_of(r);
	}
	if (count == 0 || c->handlers.on_assign == NULL)
		return;
	leave();
	c->handlers.on_assign(c->arg, positions, count);
	enter();
	for (i = 0; i < count; i++) {
		r = reading_find(c, positions[i].topic, positions[i].partition);
		/* A seek inside the handler counts. */
		if (!r->fetching)
			reading_start(r, positions[i].offset,
			    positions[i].leader_epoch);
	}
}

static void
rebalance(struct kafka_consumer *c)
{
	if (c->group == NULL || c->member == -1)
		return;
	take_away(c, 1, 0);
	take_away(c, 0, 0);
	give(c);
}

static void
tell_upset(struct kafka_consumer *c)
{
	char what[sizeof(c->upset)];
	int fatal = c->upset_fatal;

	if (c->upset[0] == '\0')
		return;
	memcpy(what, c->upset, sizeof(what));
	c->upset[0] = '\0';
	if (c->handlers.on_error == NULL)
		return;
	leave();
	c->handlers.on_error(c->arg, what, fatal);
	enter();
}

/* One record of a partition, if it has one: 1 or 0. */
static int
take(struct kafka_consumer *c, struct reading *r, struct kafka_record *record)
{
	struct entry *e = NULL;
	enum gives gives = reading_gives(c, r, &e);
	const struct log *l = log_find(r->topic, r->partition);

	if (gives == GIVES_NOTHING)
		return (0);
	memset(record, 0, sizeof(*record));
	record->topic = r->topic;
	record->topic_index = r->index;
	record->partition = r->partition;
	record->offset = record->fetch_offset = r->next;
	record->leader_epoch = -1;
	record->ts_ms = -1;
	if (gives == GIVES_LOSS) {
		record->out_of_range = e != NULL ? 2 :
		    reading_was_cut(r, l)        ? 3 :
						   1;
		r->ended = 1;
	} else if (gives == GIVES_END) {
		record->end_of_partition = 1;
		if (r->next != log_stable(l))
			r->leader_epoch = -1;
		record->offset = r->next = r->end_told = log_stable(l);
	} else {
		e = entry_copy(e);
		e->holder = c;
		c->in_hand++;
		if (c->in_hand > c->in_hand_most)
			c->in_hand_most = c->in_hand;
		if (c->allowed > 0)
			c->allowed--;
		record->opaque = e;
		record->offset = e->offset;
		record->leader_epoch = r->leader_epoch = e->leader_epoch;
		record->ts_ms = e->ts_ms;
		record->key = e->key;
		record->key_size = e->key_size;
		record->value = e->value;
		record->value_size = e->value_size;
		r->next = e->offset + 1;
	}
	return (1);
}

/* Take from the partitions in turn; a turn is a few records. */
static int
collect(struct kafka_consumer *c, struct kafka_record *records,
    int64_t *generations, int n, int most)
{
	struct reading *r;
	int i, left, before;

	do {
		before = n;
		for (i = 0; i < c->reading_count && n < most; i++) {
			r = &c->readings[(c->turn + i) % c->reading_count];
			for (left = 16; left > 0 && n < most; left--) {
				if (!take(c, r, &records[n]))
					break;
				generations[n++] = r->generation;
			}
		}
		c->turn++;
	} while (n > before && n < most);
	return (n);
}

/* Leave out what a handler has made stale; the lock is held. */
static int
drop_stale(struct kafka_consumer *c, struct kafka_record *records,
    const int64_t *generations, int n)
{
	const struct reading *r;
	int i, kept = 0;

	for (i = 0; i < n; i++) {
		r = reading_find(c, records[i].topic, records[i].partition);
		if (r != NULL && r->generation == generations[i]) {
			records[kept++] = records[i];
			continue;
		}
		leave();
		kafka_record_free(&records[i]);
		enter();
	}
	return (kept);
}

static int
poll_once(struct kafka_consumer *c, struct kafka_record *records, int most)
{
	int64_t *generations = need(calloc((size_t)most, sizeof(*generations)));
	int n = 0;

	enter();
	c->polls++;
	if (cluster.reachable && !c->frozen) {
		tell_upset(c);
		if (cluster.late_rebalance)
			n = collect(c, records, generations, 0, most / 2);
		rebalance(c);
		n = drop_stale(c, records, generations, n);
		n = collect(c, records, generations, n, most);
	}
	fd_signal(c->fd, 0);
	wake_all();
	leave();
	free(generations);
	return (n);
}

int
kafka_consumer_poll(struct kafka_consumer *consumer,
    struct kafka_record *records, int most, int timeout_ms)
{
	int n = poll_once(consumer, records, most);

	if (n > 0 || timeout_ms == 0)
		return (n);
	(void)poll(&(struct pollfd){consumer->fd, POLLIN, 0}, 1, timeout_ms);
	return (poll_once(consumer, records, most));
}

void
kafka_consumer_free(struct kafka_consumer *consumer)
{
	struct kafka_consumer *c = consumer;
	int i;

	if (c == NULL)
		return;
	enter();
	if (c->group != NULL && c->member != -1) {
		if (!cluster.mute_close) {
			take_away(c, 1, 0);
			take_away(c, 0, 1);
		}
		c->group->members[c->member] = NULL;
		for (i = 0; i < c->group->share_count; i++)
			if (c->group->shares[i].owner == c)
				c->group->shares[i].owner = NULL;
	}
	if (c->in_hand != 0)
		broken("records were not freed before their consumer",
		    "kafka_consumer_free");
	for (i = 0; i < CLIENTS_MOST; i++)
		if (cluster.consumers[i] == c)
			cluster.consumers[i] = NULL;
	wake_all();
	leave();
	close(c->fd);
	free(c);
}

static int
set_paused(struct kafka_consumer *c, const char *topic, int partition,
    int paused, struct mr_error *err)
{
	struct reading *r;
	int status = 0;

	enter();
	if ((r = reading_find(c, topic, partition)) == NULL)
		status = mr_error_set(err, MR_REJECT, "%s/%d isn't ours", topic,
		    partition);
	else
		r->paused = paused;
	wake_all();
	leave();
	return (status);
}

int
kafka_consumer_pause(struct kafka_consumer *consumer, const char *topic,
    int partition, struct mr_error *err)
{
	return (set_paused(consumer, topic, partition, 1, err));
}

int
kafka_consumer_resume(struct kafka_consumer *consumer, const char *topic,
    int partition, struct mr_error *err)
{
	return (set_paused(consumer, topic, partition, 0, err));
}

int
kafka_consumer_seek(struct kafka_consumer *consumer,
    const struct kafka_position *position, struct mr_error *err)
{
	struct reading *r;
	int status = -1;

	enter();
	r = reading_find(consumer, position->topic, position->partition);
	if (r == NULL || position->offset < 0)
		mr_error_set(err, MR_REJECT, "%s/%d isn't ours",
		    position->topic, position->partition);
	else if (!fails(FAKE_SEEK, "seek", err)) {
		reading_start(r, position->offset, position->leader_epoch);
		status = 0;
	}
	wake_all();
	leave();
	return (status);
}

int
kafka_consumer_commit(struct kafka_consumer *consumer,
    const struct kafka_position *positions, int count, const char *metadata,
    struct mr_error *err)
{
	struct share *share;
	int i;

	(void)err;
	if (consumer->group == NULL)
		broken("without a group", "kafka_consumer_commit");
	enter();
	consumer->committing = cluster.mute_commits ? consumer->committing + 1 :
						      0;
	for (i = 0; i < count; i++) {
		share = share_find(consumer->group, positions[i].topic,
		    positions[i].partition);
		if (!cluster.reachable || share->owner != consumer) {
			consumer->commit_failures++;
			continue;
		}
		share->offset = positions[i].offset;
		snprintf(share->metadata, sizeof(share->metadata), "%s",
		    metadata == NULL ? "" : metadata);
	}
	leave();
	return (0);
}

int
kafka_consumer_committing(const struct kafka_consumer *consumer)
{
	int n;

	enter();
	n = cluster.mute_commits ? consumer->committing : 0;
	leave();
	return (n);
}

int64_t
kafka_consumer_commit_failures(const struct kafka_consumer *consumer)
{
	int64_t n;

	enter();
	n = consumer->commit_failures;
	leave();
	return (n);
}

int
kafka_consumer_committed(struct kafka_consumer *consumer, const char *topic,
    int partition, int64_t *offset, char *metadata, size_t metadata_size,
    int timeout_ms, struct mr_error *err)
{
	const struct share *share;
	int status = -1;

	(void)timeout_ms;
	if (consumer->group == NULL)
		broken("without a group", "kafka_consumer_committed");
	enter();
	if (!fails(FAKE_COMMITTED, "committed", err)) {
		share = share_find(consumer->group, topic, partition);
		*offset = share->offset;
		snprintf(metadata, metadata_size, "%s", share->metadata);
		status = 0;
	}
	leave();
	return (status);
}

int
kafka_consumer_tellers(struct kafka_consumer *consumer, const char *topic,
    int partitions, int timeout_ms,
    void (*each)(void *arg, const char *metadata), void *arg,
    struct mr_error *err)
{
	const struct share *share;
	int status = -1, i;

	(void)timeout_ms;
	enter();
	if (!fails(FAKE_COMMITTED, "committed", err)) {
		for (i = 0; i < partitions; i++) {
			share = share_find(consumer->group, topic, i);
			if (share->metadata[0] != '\0')
				each(arg, share->metadata);
		}
		status = 0;
	}
	leave();
	return (status);
}

int64_t
kafka_consumer_end(struct kafka_consumer *consumer, const char *topic,
    int partition)
{
	const struct log *l;
	int64_t end = -1;

	enter();
	l = log_find(topic, partition);
	if (l != NULL && reading_find(consumer, topic, partition) != NULL)
		end = l->next;
	leave();
	return (end);
}

/* ---- transactions -------------------------------------------------------- */

static struct transaction *
transaction_find(const char *id)
{
	struct transaction *t;
	int i;

	if (id == NULL)
		broken("no transactional id", "kafka_producer_new");
	for (i = 0; i < cluster.transaction_count; i++)
		if (strcmp(cluster.transactions[i].id, id) == 0)
			return (&cluster.transactions[i]);
	if (cluster.transaction_count == TRANSACTIONS_MOST)
		broken("too many transactional ids", id);
	t = &cluster.transactions[cluster.transaction_count++];
	snprintf(t->id, sizeof(t->id), "%s", id);
	return (t);
}

static void
transaction_add(struct transaction *t, struct entry *e)
{
	if (t->count == t->capacity) {
		t->capacity = t->capacity == 0 ? 64 : 2 * t->capacity;
		t->entries = need(
		    realloc(t->entries, t->capacity * sizeof(struct entry *)));
	}
	e->nothing = 1;
	t->entries[t->count++] = e;
}

static void
transaction_end(struct transaction *t, int commit)
{
	size_t i;

	for (i = 0; commit && i < t->count; i++)
		t->entries[i]->nothing = 0;
	if (commit && t->share != NULL) {
		t->share->offset = t->offset;
		memcpy(t->share->metadata, t->metadata, sizeof(t->metadata));
	}
	if (commit)
		cluster.ended++;
	t->count = 0;
	t->share = NULL;
	t->prepared = 0;
	if (t->holder != NULL)
		t->holder->began = 0;
}

void
fake_transactions(int has)
{
	enter();
	cluster.lacks_transactions = !has;
	leave();
}

void
fake_doom(int64_t count)
{
	enter();
	cluster.doomed = count;
	leave();
}

void
fake_fence(void)
{
	struct transaction *t;
	int i;

	enter();
	for (i = 0; i < cluster.transaction_count; i++) {
		t = &cluster.transactions[i];
		transaction_end(t, t->prepared);
		t->holder = NULL;
	}
	wake_all();
	leave();
}

int64_t
fake_begun(void)
{
	int64_t n;

	enter();
	n = cluster.begun;
	leave();
	return (n);
}

int64_t
fake_ended(void)
{
	int64_t n;

	enter();
	n = cluster.ended;
	leave();
	return (n);
}

int
kafka_group_furthest(const struct kafka_conf *conf, const char *group,
    int stable, int64_t *offset, char *metadata, size_t metadata_size,
    int timeout_ms, struct mr_error *err)
{
	const struct group *g;
	const struct share *share;
	int i, found = 0;

	(void)conf;
	(void)timeout_ms;
	enter();
	if (fails(FAKE_FURTHEST, "furthest", err)) {
		leave();
		return (-1);
	}
	g = group_find(group);
	for (i = 0; i < g->share_count; i++) {
		share = &g->shares[i];
		if (share->offset < 0 || (found && share->offset <= *offset))
			continue;
		found = 1;
		*offset = share->offset;
		snprintf(metadata, metadata_size, "%s", share->metadata);
	}
	for (i = 0; stable && i < cluster.transaction_count; i++)
		if (cluster.transactions[i].share >= g->shares &&
		    cluster.transactions[i].share < g->shares + g->share_count)
			found = mr_error_set(err, MR_RETRY,
			    "a position isn't stable");
	leave();
	return (found);
}

int
kafka_producer_register(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err)
{
	struct transaction *t = producer->of;
	int status = -1;

	(void)timeout_ms;
	if (t == NULL)
		broken("not transactional", "kafka_producer_register");
	enter();
	if (cluster.lacks_transactions) {
		producer->spent = 1;
		mr_error_set(err, MR_REJECT, "this cluster has none");
	} else if (!fails(FAKE_REGISTER, "register", err)) {
		if (t->holder != producer) {
			t->holder = NULL;
			transaction_end(t, t->prepared);
			t->holder = producer;
			producer->began = 0;
		}
		status = 0;
	}
	leave();
	return (status);
}

/* 0, or -1 FATAL when another has registered.  The lock is held. */
static int
holds(struct kafka_producer *p, const char *what, struct mr_error *err)
{
	if (p->of == NULL)
		broken("not transactional", what);
	if (p->of->holder == p)
		return (0);
	p->spent = 1;
	return (mr_error_set(err, MR_FATAL, "%s: fenced", what));
}

int
kafka_producer_begin(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err)
{
	int status;

	(void)timeout_ms;
	enter();
	if ((status = holds(producer, "begin", err)) == 0) {
		if (producer->began)
			broken("one is open", "kafka_producer_begin");
		producer->began = 1;
		cluster.begun++;
	}
	leave();
	return (status);
}

int
kafka_producer_send_position(struct kafka_producer *producer, const char *group,
    const struct kafka_position *position, const char *metadata, int timeout_ms,
    struct mr_error *err)
{
	struct transaction *t = producer->of;
	int status = -1;

	(void)timeout_ms;
	enter();
	if (holds(producer, "position", err) == -1 ||
	    fails(FAKE_POSITION, "position", err))
		goto done;
	if (!producer->began)
		broken("none is open", "kafka_producer_send_position");
	if (producer->to_abort) {
		status = 0;
		mr_error_set(err, MR_RETRY, "a record failed");
		goto done;
	}
	(void)log_need(position->topic, position->partition);
	t->share = share_find(group_find(group), position->topic,
	    position->partition);
	t->offset = position->offset;
	snprintf(t->metadata, sizeof(t->metadata), "%s", metadata);
	status = 1;
done:
	leave();
	return (status);
}

int
kafka_producer_commit(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err)
{
	int status = -1;

	(void)timeout_ms;
	(void)kafka_producer_poll(producer, 0);
	enter();
	if (holds(producer, "commit", err) == -1 ||
	    fails(FAKE_COMMIT, "commit", err))
		goto done;
	if (!producer->began)
		broken("none is open", "kafka_producer_commit");
	if (producer->to_abort || cluster.doomed > 0) {
		cluster.doomed -= cluster.doomed > 0;
		producer->to_abort = 1;
		status = 0;
		mr_error_set(err, MR_RETRY, "there is only to abort");
	} else if (producer->count > 0) {
		mr_error_set(err, MR_RETRY, "records are on their way");
	} else {
		producer->of->prepared = 1;
		if (fails(FAKE_COMMIT_UNHEARD, "commit", err))
			goto done;
		transaction_end(producer->of, 1);
		status = 1;
		wake_all();
	}
done:
	leave();
	return (status);
}

int
kafka_producer_abort(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err)
{
	struct sending *x;
	int status = -1;

	(void)timeout_ms;
	enter();
	if (holds(producer, "abort", err) == -1 ||
	    fails(FAKE_ABORT, "abort", err))
		goto done;
	if (!producer->began || producer->of->prepared)
		broken("none is open", "kafka_producer_abort");
	for (x = producer->first; x != NULL; x = x->next)
		if (!x->done)
			sending_done(x, MR_RETRY, "purged");
	transaction_end(producer->of, 0);
	leave();
	(void)kafka_producer_poll(producer, 0);
	enter();
	producer->to_abort = producer->spent = 0;
	status = 0;
done:
	leave();
	return (status);
}

/* ---- producers ----------------------------------------------------------- */

struct kafka_producer *
kafka_producer_new(const struct kafka_conf *conf, enum kafka_delivery delivery,
    void (*on_report)(void *arg, const struct kafka_report *report), void *arg,
    struct mr_error *err)
{
	struct kafka_producer *p = need(calloc(1, sizeof(*p)));
	int i;

	(void)err;
	p->on_report = on_report;
	p->arg = arg;
	p->delivery = delivery;
	p->last = &p->first;
	if ((p->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) == -1)
		broken(strerror(errno), "eventfd");
	enter();
	if (delivery == KAFKA_TRANSACTIONAL)
		p->of = transaction_find(conf->transactional_id);
	for (i = 0; i < CLIENTS_MOST && cluster.producers[i] != NULL; i++)
		;
	if (i == CLIENTS_MOST)
		broken("too many producers", "kafka_producer_new");
	cluster.producers[i] = p;
	cluster.producers_made++;
	leave();
	return (p);
}

/* Off the queue of a producer that is freed; what is on its way gets there
 * with fake_release. */
static void
sending_leave(struct sending *x)
{
	struct sending **at;

	x->producer = NULL;
	if (x->entry != NULL && x->held && x->how == FAKE_LATE) {
		for (at = &cluster.late; *at != NULL; at = &(*at)->next)
			;
		x->next = NULL;
		*at = x;
		return;
	}
	entry_free(x->entry);
	free(x);
}

void
kafka_producer_batching(const struct kafka_batching *batching)
{

	(void)batching;
}

void
kafka_producer_free(struct kafka_producer *producer)
{
	struct sending *x;
	int i;

	if (producer == NULL)
		return;
	enter();
	while ((x = producer->first) != NULL) {
		producer->first = x->next;
		sending_leave(x);
	}
	for (i = 0; i < CLIENTS_MOST; i++)
		if (cluster.producers[i] == producer)
			cluster.producers[i] = NULL;
	if (producer->of != NULL && producer->of->holder == producer)
		producer->of->holder = NULL;
	leave();
	close(producer->fd);
	free(producer);
}

int
kafka_producer_fd(const struct kafka_producer *producer)
{
	return (producer->fd);
}

/* What a script says of a record that is about to go: 1 and *how, or 0. */
static int
script_for(const char *topic, enum fake_send *how)
{
	struct script *script;
	int i;

	for (i = 0; i < cluster.script_count; i++) {
		script = &cluster.scripts[i];
		if (strcmp(script->topic, topic) != 0 || script->count == 0)
			continue;
		if (script->skip > 0) {
			script->skip--;
			return (0);
		}
		if (script->count > 0)
			script->count--;
		*how = script->how;
		return (1);
	}
	return (0);
}

static void
sending_done(struct sending *x, enum mr_error_kind kind, const char *reason)
{
	x->done = 1;
	x->kind = kind;
	x->reason = reason;
}

static void
sending_write(struct sending *x)
{
	struct log *l = log_find(x->topic, x->partition);

	if (l == NULL) {
		sending_done(x, MR_REJECT, "there is no such partition");
		return;
	}
	if (x->producer->of != NULL &&
	    (x->producer->of->holder != x->producer || !x->producer->began)) {
		x->producer->to_abort = x->producer->spent = 1;
		sending_done(x, MR_RETRY, "in no transaction of its own");
		return;
	}
	x->offset = log_append(l, x->entry);
	if (x->producer->of != NULL)
		transaction_add(x->producer->of, x->entry);
	x->entry = NULL;
}

/* A record's way, once: written, reported, or held where a script says. */
static void
sending_go(struct kafka_producer *p, struct sending *x)
{
	if (!script_for(x->topic, &x->how)) {
		sending_write(x);
		if (!x->done)
			sending_done(x, MR_OK, NULL);
		return;
	}
	switch (x->how) {
	case FAKE_REFUSED:
		sending_done(x, MR_RETRY, "refused by the test");
		p->spent = 1;
		break;
	case FAKE_UNHEARD:
		sending_write(x);
		sending_done(x, MR_RETRY, "the answer was lost by the test");
		p->spent = 1;
		break;
	case FAKE_UNACKED:
		sending_write(x);
		x->held = 1;
		break;
	case FAKE_STUCK:
	case FAKE_LATE:
		x->held = 1;
		break;
	}
}

/*
 * One record after the other, as far as it goes.  What follows a failed one
 * is not written: gapless, one request in flight.
 */
static void
producer_step(struct kafka_producer *p)
{
	struct sending *x;

	if (!cluster.reachable)
		return;
	for (x = p->first; x != NULL; x = x->next) {
		if (x->done)
			continue;
		if (p->spent) {
			sending_done(x, MR_RETRY, "one before it failed");
			continue;
		}
		if (x->held)
			break;
		if (x->offset != -1) /* written, and let go of */
			sending_done(x, MR_OK, NULL);
		else
			sending_go(p, x);
		if (x->held)
			break;
	}
	p->to_abort = p->to_abort || (p->of != NULL && p->spent);
	fd_signal(p->fd, p->first != NULL && p->first->done);
}

static struct entry *
entry_of(const void *key, size_t key_size, const void *value, size_t value_size,
    const struct kafka_header *headers, int header_count, int64_t ts_ms)
{
	struct entry *e = entry_new();
	int i;

	e->key = copy_bytes(key, key_size);
	e->key_size = key_size;
	e->value = copy_bytes(value, value_size);
	e->value_size = value_size;
	e->ts_ms = ts_ms;
	for (i = 0; i < header_count; i++)
		entry_header(e, headers[i].name, headers[i].value,
		    headers[i].size);
	return (e);
}

int
kafka_producer_send(struct kafka_producer *producer, const char *topic,
    int partition, const void *key, size_t key_size, const void *value,
    size_t value_size, const struct kafka_header *headers, int header_count,
    int64_t ts_ms, void *tag, struct mr_error *err)
{
	struct sending *x;

	if (partition < 0)
		broken("the partition isn't chosen", topic);
	x = need(calloc(1, sizeof(*x)));
	x->producer = producer;
	snprintf(x->topic, sizeof(x->topic), "%s", topic);
	x->partition = partition;
	x->tag = tag;
	x->offset = -1;
	x->entry = entry_of(key, key_size, value, value_size, headers,
	    header_count, ts_ms);
	enter();
	if (producer->spent) {
		leave();
		entry_free(x->entry);
		free(x);
		return (mr_error_set(err, MR_FATAL, "the producer is spent"));
	}
	*producer->last = x;
	producer->last = &x->next;
	producer->count++;
	wake_all();
	leave();
	return (0);
}

/* Serve the reports that are there; how many. */
static int
serve(struct kafka_producer *p)
{
	struct kafka_report report;
	struct sending *x;
	int served = 0;

	enter();
	while ((x = p->first) != NULL && x->done) {
		if ((p->first = x->next) == NULL)
			p->last = &p->first;
		p->count--;
		report = (struct kafka_report){.tag = x->tag,
		    .topic = x->topic,
		    .partition = x->partition,
		    .offset = x->kind == MR_OK ? x->offset : -1,
		    .kind = x->kind,
		    .reason = x->reason};
		leave();
		p->on_report(p->arg, &report);
		enter();
		entry_free(x->entry);
		free(x);
		served++;
	}
	fd_signal(p->fd, 0);
	leave();
	return (served);
}

int
kafka_producer_poll(struct kafka_producer *producer, int timeout_ms)
{
	int served = serve(producer);

	if (served > 0 || timeout_ms == 0)
		return (served);
	(void)poll(&(struct pollfd){producer->fd, POLLIN, 0}, 1, timeout_ms);
	return (serve(producer));
}

int
kafka_producer_in_flight(const struct kafka_producer *producer)
{
	int count;

	enter();
	count = producer->count;
	leave();
	return (count);
}

int
kafka_producer_flush(struct kafka_producer *producer, int timeout_ms,
    struct mr_error *err)
{
	(void)kafka_producer_poll(producer, timeout_ms);
	if (kafka_producer_in_flight(producer) > 0)
		return (mr_error_set(err, MR_RETRY, "records are under way"));
	return (0);
}
