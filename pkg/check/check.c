/* check -- the scratch database, and taking records in. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check/internal.h"
#include "event/event.h"

#define ROWS_A_COMMIT 50000

static const char sql_source[] =
    "INSERT INTO sources (id, source, service) VALUES (?1, ?2, ?3)";
static const char sql_partition[] =
    "INSERT INTO partitions (topic, partition, first, middle, next)"
    " SELECT ?1, ?2, ?3, CASE WHEN EXISTS (SELECT 1 FROM files) THEN ?3"
    "  ELSE ?4 END, ?4 WHERE true"
    " ON CONFLICT DO UPDATE SET next = excluded.next";
static const char sql_topic[] =
    "INSERT INTO topics (topic, topic_id) VALUES (?1, ?2)"
    " ON CONFLICT DO NOTHING";
static const char sql_acknowledged[] =
    "INSERT INTO acknowledged (id) VALUES (?1) ON CONFLICT DO NOTHING";
static const char sql_unread[] =
    "INSERT INTO unread (topic, partition, first, next)"
    " VALUES (?1, ?2, ?3, ?4)";
static const char sql_record[] =
    "INSERT INTO records (topic, partition, offset, source, seq, predecessor,"
    " before, fresh, good, type, order_id, item, quantity, delta, on_hand,"
    " ts_ms, cause_topic, cause_partition, cause_offset, dead_topic,"
    " dead_partition, dead_offset, digest, hash)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,"
    " ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)";

/* ---- the scratch database ------------------------------------------------ */

static const char *const scratch_names[SCRATCH_FILES] = {"check.db",
    "check.db-wal", "check.db-shm", "check.db.writer", "catalogue.db",
    "catalogue.db-wal", "catalogue.db-shm", "catalogue.db.writer"};

static int
scratch_open(struct check *c, const char *folder, struct mr_error *err)
{
	struct store_options options = {.service = "check",
	    .core = check_schema};
	int i;

	if (folder == NULL &&
	    ((folder = getenv("TMPDIR")) == NULL || folder[0] == '\0'))
		folder = "/tmp";
	if (snprintf(c->folder, sizeof(c->folder), "%s/millrace-check.XXXXXX",
		folder) >= (int)sizeof(c->folder) - 32) {
		c->folder[0] = '\0';
		return (mr_error_set(err, MR_FATAL,
		    "the scratch folder's name is too long: %.100s", folder));
	}
	if (mkdtemp(c->folder) == NULL) {
		mr_error_set(err, MR_FATAL, "make a scratch folder %s: %s",
		    c->folder, strerror(errno));
		c->folder[0] = '\0';
		return (-1);
	}
	for (i = 0; i < SCRATCH_FILES; i++)
		snprintf(c->scratch[i], sizeof(c->scratch[i]), "%s/%s",
		    c->folder, scratch_names[i]);
	options.path = c->scratch[SCRATCH_CHECK];
	return ((c->st = store_open(&options, err)) == NULL ? -1 : 0);
}

void
check_abandon(const struct check *c)
{
	int i;

	if (c == NULL || c->folder[0] == '\0')
		return;
	for (i = 0; i < SCRATCH_FILES; i++)
		(void)unlink(c->scratch[i]);
	(void)rmdir(c->folder);
}

struct check *
check_new(const char *folder, struct mr_error *err)
{
	struct check *c;

	if ((c = calloc(1, sizeof(*c))) == NULL) {
		mr_error_set(err, MR_FATAL, "out of memory");
		return (NULL);
	}
	if (scratch_open(c, folder, err) == -1) {
		check_free(c);
		return (NULL);
	}
	return (c);
}

void
check_free(struct check *c)
{
	if (c == NULL)
		return;
	store_close(c->st);
	check_abandon(c);
	buffer_free(&c->foreign);
	free(c->sources);
	free(c->highest);
	free(c->unread);
	free(c);
}

int
check_begin(struct check *c, struct mr_error *err)
{
	if (c->begun && c->uncommitted >= ROWS_A_COMMIT &&
	    check_commit(c, err) == -1)
		return (-1);
	if (!c->begun && store_begin(c->st, err) == -1)
		return (-1);
	c->begun = 1;
	c->uncommitted++;
	return (0);
}

int
check_commit(struct check *c, struct mr_error *err)
{
	if (!c->begun)
		return (0);
	c->begun = 0;
	c->uncommitted = 0;
	return (store_commit(c->st, err));
}

/* ---- partitions and ids -------------------------------------------------- */

int
check_add_partition(struct check *c, const char *topic, const char *topic_id,
    int partition, int64_t first, int64_t next, struct mr_error *err)
{
	if (check_begin(c, err) == -1 ||
	    store_run(c->st, err, sql_topic, store_text(topic),
		store_text(topic_id)) == -1 ||
	    store_run(c->st, err, sql_partition, store_text(topic),
		store_i64(partition), store_i64(first), store_i64(next)) == -1)
		return (-1);
	return (0);
}

int
check_add_silent(struct check *c, const char *topic, int partition,
    int64_t first, int64_t next, const char *why, struct mr_error *err)
{
	struct check_unread *u;

	u = realloc(c->unread, (c->unread_count + 1) * sizeof(*u));
	if (u == NULL)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	c->unread = u;
	u += c->unread_count++;
	snprintf(u->topic, sizeof(u->topic), "%s", topic);
	u->partition = partition;
	u->first = first;
	u->next = next;
	snprintf(u->why, sizeof(u->why), "%s", why);
	if (check_begin(c, err) == -1 ||
	    store_run(c->st, err, sql_unread, store_text(topic),
		store_i64(partition), store_i64(first), store_i64(next)) == -1)
		return (-1);
	return (0);
}

int
check_add_unread(struct check *c, const char *topic, int partition,
    int64_t first, int64_t next, struct mr_error *err)
{

	return (check_add_silent(c, topic, partition, first, next, "", err));
}

const struct check_unread *
check_unread(const struct check *c, size_t *count)
{

	*count = c->unread_count;
	return (c->unread);
}

int
check_add_acknowledged(struct check *c, const char *id, struct mr_error *err)
{
	c->acknowledged = 1;
	if (check_begin(c, err) == -1 ||
	    store_run(c->st, err, sql_acknowledged, store_text(id)) == -1)
		return (-1);
	return (0);
}

/* "/millrace/<service>/<database id>": copies the service; 0, or -1. */
static int
service_of(const char *source, char service[64])
{
	static const char ours[] = "/millrace/";
	const char *name = source + sizeof(ours) - 1;
	size_t length;

	if (strncmp(source, ours, sizeof(ours) - 1) != 0)
		return (-1);
	length = strcspn(name, "/");
	if (length == 0 || length >= 64 || name[length] != '/')
		return (-1);
	memcpy(service, name, length);
	service[length] = '\0';
	return (0);
}

int
check_source_id(struct check *c, const char *source, int64_t *id,
    struct mr_error *err)
{
	struct check_source *grown;
	char service[64] = "?";
	size_t i;

	for (i = 0; i < c->source_count; i++) {
		if (strcmp(c->sources[i].text, source) == 0) {
			*id = c->sources[i].id;
			return (0);
		}
	}
	grown = realloc(c->sources, (c->source_count + 1) * sizeof(*grown));
	if (grown == NULL)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	c->sources = grown;
	snprintf(grown[c->source_count].text, CHECK_SOURCE_SIZE, "%s", source);
	*id = grown[c->source_count].id = (int64_t)c->source_count + 1;
	c->source_count++;
	(void)service_of(source, service);
	return (store_run(c->st, err, sql_source, store_i64(*id),
		    store_text(source), store_text(service)) == -1 ?
		-1 :
		0);
}

/* ---- records ------------------------------------------------------------- */

/* What an event says, whatever its topic. */
struct fields {
	int good; /* 0: its topic doesn't take it */
	const char *order_id; /* NULL: none */
	const char *item;
	int64_t quantity;
	int64_t delta;
	int64_t on_hand;
	int64_t ts_ms;
	union {
		struct order_event order;
		struct inventory_event inventory;
		struct price_event price;
	} event;
};

static void
fields_of_order(const struct check_record *r, struct fields *f)
{
	struct order_event *event = &f->event.order;

	f->good = order_event_decode(r->type, r->value, r->value_size, event,
		      NULL) == 0;
	if (!f->good)
		return;
	f->order_id = event->order_id;
	f->item = event->item;
	f->quantity = event->quantity;
	f->ts_ms = event->ts_ms;
}

static void
fields_of_inventory(const struct check_record *r, struct fields *f)
{
	struct inventory_event *event = &f->event.inventory;

	f->good = inventory_event_decode(r->type, r->value, r->value_size,
		      event, NULL) == 0;
	if (!f->good)
		return;
	f->item = event->item;
	f->ts_ms = event->ts_ms;
	if (event->type == INVENTORY_ADJUSTED) {
		f->delta = event->delta;
		f->on_hand = event->on_hand;
	} else {
		f->order_id = event->order_id;
		f->quantity = event->quantity;
	}
}

static void
fields_of(const struct check_record *r, struct fields *f)
{
	memset(f, 0, sizeof(*f));
	f->good = 1;
	if (strcmp(r->topic, "order-events") == 0)
		fields_of_order(r, f);
	else if (strcmp(r->topic, "inventory-events") == 0)
		fields_of_inventory(r, f);
	else if (strcmp(r->topic, "stock-prices") == 0)
		f->good = price_event_decode(r->value, r->value_size,
			      &f->event.price, NULL) == 0;
}

static uint64_t
digest_add(uint64_t digest, const void *bytes, size_t size)
{
	const unsigned char *b = bytes;
	size_t i;

	/* FNV-1a; the length first, so that parts can't run together. */
	digest = (digest ^ size) * UINT64_C(0x100000001b3);
	for (i = 0; bytes != NULL && i < size; i++)
		digest = (digest ^ b[i]) * UINT64_C(0x100000001b3);
	return (digest);
}

static int64_t
digest_of(const struct check_record *r)
{
	uint64_t digest = UINT64_C(0xcbf29ce484222325);

	digest = digest_add(digest, r->type,
	    r->type == NULL ? 0 : strlen(r->type));
	digest = digest_add(digest, r->key, r->key == NULL ? 0 : r->key_size);
	digest = digest_add(digest, r->value,
	    r->value == NULL ? 0 : r->value_size);
	return ((int64_t)(digest >> 1));
}

/* The highest seq of the source in the partition so far, to be moved by the
 * caller; NULL without memory. */
static int64_t *
highest_of(struct check *c, int64_t source, const struct check_record *r)
{
	struct check_highest *h, *grown;
	size_t i;

	for (i = 0; i < c->highest_count; i++) {
		h = &c->highest[i];
		if (h->source == source && h->partition == r->partition &&
		    strcmp(h->topic, r->topic) == 0)
			return (&h->seq);
	}
	grown = realloc(c->highest, (c->highest_count + 1) * sizeof(*grown));
	if (grown == NULL)
		return (NULL);
	c->highest = grown;
	h = &grown[c->highest_count++];
	h->source = source;
	h->partition = r->partition;
	snprintf(h->topic, sizeof(h->topic), "%s", r->topic);
	h->seq = -1;
	return (&h->seq);
}

static struct store_value
i64_or_null(int64_t n, int present)
{
	return (present ? store_i64(n) : store_null());
}

/* Of the key, which says the partition among any number of them. */
static struct store_value
hash_of(const struct check_record *r)
{
	if (r->key == NULL || r->source == NULL)
		return (store_null());
	return (store_i64(kafka_hash_of(r->key, r->key_size)));
}

int
check_take(struct check *c, const struct check_record *r, struct mr_error *err)
{
	struct fields f;
	int64_t source = 0, before = -1, *highest;
	int fresh = 1, order, adjusted;

	if (check_begin(c, err) == -1)
		return (-1);
	if (r->source != NULL && check_source_id(c, r->source, &source, err))
		return (-1);
	if (r->source != NULL && r->offset >= 0) {
		if ((highest = highest_of(c, source, r)) == NULL)
			return (mr_error_set(err, MR_FATAL, "out of memory"));
		before = *highest;
		fresh = r->seq > before;
		if (fresh)
			*highest = r->seq;
	}
	fields_of(r, &f);
	order = f.order_id != NULL;
	adjusted = f.item != NULL && !order;
	return (
	    store_run(c->st, err, sql_record, store_text(r->topic),
		store_i64(r->partition), i64_or_null(r->offset, r->offset >= 0),
		i64_or_null(source, r->source != NULL),
		i64_or_null(r->seq, r->source != NULL),
		i64_or_null(r->predecessor, r->source != NULL),
		store_i64(before), store_i64(fresh), store_i64(f.good),
		store_text(r->type), store_text(f.order_id), store_text(f.item),
		i64_or_null(f.quantity, order), i64_or_null(f.delta, adjusted),
		i64_or_null(f.on_hand, adjusted),
		store_i64(f.ts_ms != 0 ? f.ts_ms : r->ts_ms),
		store_text(r->cause_topic),
		i64_or_null(r->cause_partition, r->cause_topic != NULL),
		i64_or_null(r->cause_offset, r->cause_topic != NULL),
		store_text(r->dead_topic),
		i64_or_null(r->dead_partition, r->dead_topic != NULL),
		i64_or_null(r->dead_offset, r->dead_topic != NULL),
		store_i64(digest_of(r)), hash_of(r)) == -1 ?
		-1 :
		0);
}

int
check_read(struct check *c, check_next *next, void *arg, struct mr_error *err)
{
	struct check_record record;
	int more;

	for (;;) {
		memset(&record, 0, sizeof(record));
		if ((more = next(arg, &record, err)) != 1)
			return (more);
		if (check_take(c, &record, err) == -1)
			return (-1);
		c->records++;
	}
}

int64_t
check_file_count(const struct check *c)
{
	return (c->files);
}

int64_t
check_record_count(const struct check *c)
{
	return (c->records);
}
