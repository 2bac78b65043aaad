/*
 * partition -- opening, flushing, tidying and retiring logs.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/connection.h"
#include "broker/keeper.h"
#include "broker/measure.h"
#include "broker/partition.h"

/* gcc's analyser can't follow what is put into a list of lists. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define PATH_SIZE 4096
#define ROUND_BYTES ((int64_t)16 << 20) /* that no producer waits for */
#define PRODUCER_EXPIRY_MS ((int64_t)86400000)
#define PRODUCERS_MOST 10000

int16_t
partition_error(int code)
{

	switch (code) {
	case PLOG_OK:
	case PLOG_DUPLICATE:
		return (WIRE_NONE);
	case PLOG_OUT_OF_RANGE:
		return (WIRE_OFFSET_OUT_OF_RANGE);
	case PLOG_CORRUPT:
	case PLOG_DAMAGED: /* clients try others again, for ever */
		return (WIRE_CORRUPT_MESSAGE);
	case PLOG_TOO_LARGE:
		return (WIRE_MESSAGE_TOO_LARGE);
	case PLOG_OLD_FORMAT:
	case PLOG_SEVERAL:
	case PLOG_INVALID_RECORD:
		return (WIRE_INVALID_RECORD);
	case PLOG_BAD_CODEC:
		return (WIRE_UNSUPPORTED_COMPRESSION_TYPE);
	case PLOG_OUT_OF_ORDER:
		return (WIRE_OUT_OF_ORDER_SEQUENCE_NUMBER);
	case PLOG_FENCED:
		return (WIRE_INVALID_PRODUCER_EPOCH);
	case PLOG_AHEAD:
		return (WIRE_INVALID_TIMESTAMP);
	default:
		return (WIRE_KAFKA_STORAGE_ERROR);
	}
}

int16_t
partition_check_epoch(const struct broker *b, int32_t epoch)
{

	if (epoch < 0 || epoch == b->leader_epoch)
		return (WIRE_NONE);
	return (epoch < b->leader_epoch ? WIRE_FENCED_LEADER_EPOCH :
					  WIRE_UNKNOWN_LEADER_EPOCH);
}

/* ---- what is to be flushed ----------------------------------------------- */

/* A flush that includes it begins by ${at_ms}. */
static void
want_sync(struct broker *b, struct partition *p, int64_t at_ms)
{

	if (at_ms < b->next_flush_ms)
		b->next_flush_ms = at_ms;
	if (p->unsynced) {
		if (at_ms < p->flush_at_ms)
			p->flush_at_ms = at_ms;
		return;
	}
	p->unsynced = 1;
	p->flush_at_ms = at_ms;
	p->unsynced_next = NULL;
	*b->unsynced_last = p;
	b->unsynced_last = &p->unsynced_next;
	b->unsynced_count++;
}

static void
forget_unsynced(struct broker *b, struct partition *p)
{
	struct partition **at;

	for (at = &b->unsynced; *at != NULL; at = &(*at)->unsynced_next)
		if (*at == p) {
			if ((*at = p->unsynced_next) == NULL)
				b->unsynced_last = at;
			b->unsynced_count--;
			p->unsynced = 0;
			return;
		}
}

/* ---- opening ------------------------------------------------------------ */

static void
make_conf(const struct broker *b, const struct topic_settings *s,
    struct plog_conf *conf)
{

	plog_conf_default(conf);
	conf->segment_bytes = s->segment_bytes;
	conf->segment_ms = s->segment_ms;
	conf->batch_most = s->message_most;
	conf->retention_ms = s->retention_ms;
	conf->retention_bytes = s->retention_bytes;
	conf->delete_retention_ms = s->delete_retention_ms;
	conf->compaction_lag_ms = s->compaction_lag_ms;
	conf->dirty_ratio_least = s->dirty_ratio_least;
	conf->cleanup = (s->cleanup & CLEANUP_DELETE ? PLOG_DELETE : 0) |
	    (s->cleanup & CLEANUP_COMPACT ? PLOG_COMPACT : 0);
	conf->append_time = s->append_time != 0;
	conf->time_ahead_most_ms = s->time_ahead_most_ms;
	conf->high_is_flushed = b->conf.flush == BROKER_FLUSH_REQUEST;
	conf->producer_expiry_ms = PRODUCER_EXPIRY_MS;
	conf->producers_most = PRODUCERS_MOST;
}

static void
log_recovery(const struct topic *t, int32_t index,
    const struct plog_recovery *found)
{

	if (!found->clean && found->scanned_bytes > 0)
		log_info("log recovered", "topic", t->name, "partition",
		    log_i64(index), "scanned_bytes",
		    log_i64(found->scanned_bytes));
	if (found->cut_bytes > 0)
		log_warn("a torn end was cut", "topic", t->name, "partition",
		    log_i64(index), "bytes", log_i64(found->cut_bytes), "file",
		    found->cut_file, "position", log_i64(found->cut_position));
	if (found->indexes_rebuilt > 0)
		log_info("indexes rebuilt", "topic", t->name, "partition",
		    log_i64(index), "count", log_i64(found->indexes_rebuilt));
	if (found->damaged > 0)
		log_error("a log is damaged", "topic", t->name, "partition",
		    log_i64(index), "file", found->damaged_file, "position",
		    log_i64(found->damaged_position), "offset",
		    log_i64(found->damaged_offset), "batches",
		    log_i64(found->damaged));
}

static void
folder_of(const struct broker *b, const char *id_text, char path[PATH_SIZE])
{

	snprintf(path, PATH_SIZE, "%s/topics/%s", b->conf.data, id_text);
}

struct partition *
partition_open(struct broker *b, struct topic *t, int32_t index,
    struct mr_error *err)
{
	struct partition *p = calloc(1, sizeof(*p));
	struct plog_recovery found;
	char folder[PATH_SIZE], path[PATH_SIZE + 16];
	struct plog_conf conf;

	if (p == NULL) {
		mr_error_set(err, MR_RETRY, "out of memory");
		return (NULL);
	}
	p->topic = t;
	p->index = index;
	p->flush_waits_last = &p->flush_waits;
	folder_of(b, t->id_text, folder);
	snprintf(path, sizeof(path), "%s/%d", folder, (int)index);
	make_conf(b, &t->settings, &conf);
	memset(&found, 0, sizeof(found));
	if (plog_folder_make(folder, err) == -1 ||
	    (p->log = plog_open(path, &conf, b->leader_epoch, &found, err)) ==
		NULL) {
		mr_error_wrap(err, "topic %s, partition %d", t->name,
		    (int)index);
		free(p);
		return (NULL);
	}
	log_recovery(t, index, &found);
	return (p);
}

void
partition_configure(const struct broker *b, struct partition *p)
{
	struct plog_conf conf;

	make_conf(b, &p->topic->settings, &conf);
	plog_configure(p->log, &conf);
}

/* A folder that no row names: of a topic that was deleted, or never quite made,
 * unless it has records. */
static int
remove_stray(struct broker *b, const char *path, const char *id_text,
    struct mr_error *err)
{
	int gone, empty;

	if ((gone = keeper_was_deleted(b, id_text, err)) == -1 ||
	    (empty = plog_folder_is_empty(path, err)) == -1)
		return (-1);
	if (!gone && !empty)
		return (mr_error_set(err, MR_REJECT,
		    "%s has records of a topic that %s/broker.db doesn't know: "
		    "put back the broker.db that belongs to these logs, or "
		    "move that folder away to go on without them",
		    path, b->conf.data));
	return (plog_folder_retire(path, err));
}

static int
remove_strays(struct broker *b, const char *parent, struct mr_error *err)
{
	struct wire_uuid id;
	char path[PATH_SIZE + 256];
	struct dirent *entry;
	DIR *dir;
	int rc = 0;

	if ((dir = opendir(parent)) == NULL)
		return (mr_error_set(err, MR_FATAL, "%s: %s", parent,
		    strerror(errno)));
	while (rc == 0 && (entry = readdir(dir)) != NULL) {
		if (uuid_from_text(entry->d_name, &id) == -1 ||
		    catalog_find_id(b, &id) != NULL)
			continue;
		snprintf(path, sizeof(path), "%s/%s", parent, entry->d_name);
		rc = remove_stray(b, path, entry->d_name, err);
	}
	closedir(dir);
	if (rc == -1 || plog_folder_purge(parent, err) == -1)
		return (-1);
	return (keeper_forget_deleted(b, err));
}

int
partitions_open(struct broker *b, struct mr_error *err)
{
	char parent[PATH_SIZE];
	struct partition *p;
	struct topic *t;
	size_t at = 0;
	int32_t i;

	snprintf(parent, sizeof(parent), "%s/topics", b->conf.data);
	if (plog_folder_make(parent, err) == -1 ||
	    remove_strays(b, parent, err) == -1)
		return (-1);
	while ((t = catalog_next(b, &at)) != NULL)
		for (i = 0; i < t->partition_count; i++) {
			if ((p = partition_open(b, t, i, err)) == NULL)
				return (-1);
			t->partitions[i] = p;
			if (b->conf.on_progress != NULL)
				b->conf.on_progress();
			if (plog_flushed_end(p->log) < plog_end(p->log))
				want_sync(b, p, b->now_ms);
		}
	return (0);
}

int64_t
partitions_last_producer(const struct broker *b)
{
	struct plog_producer producer;
	const struct topic *t;
	int64_t last = -1;
	size_t at = 0, next;
	int32_t i;

	while ((t = catalog_next(b, &at)) != NULL)
		for (i = 0; i < t->partition_count; i++)
			for (next = 0; plog_producer_next(t->partitions[i]->log,
					   &next, &producer) == 1;)
				/* A client may say any; no count gets there. */
				if (producer.producer_id > last &&
				    producer.producer_id < INT64_MAX / 2)
					last = producer.producer_id;
	return (last);
}

/* ---- waiting for records ------------------------------------------------ */

void
waiter_add(struct partition *p, struct waiter *w)
{

	w->partition = p;
	w->prev = NULL;
	if ((w->next = p->waiters) != NULL)
		w->next->prev = w;
	p->waiters = w;
}

void
waiter_remove(struct waiter *w)
{

	if (w->partition == NULL)
		return;
	if (w->prev != NULL)
		w->prev->next = w->next;
	else
		w->partition->waiters = w->next;
	if (w->next != NULL)
		w->next->prev = w->prev;
	w->partition = NULL;
}

static void
wake_readers(struct broker *b, struct partition *p)
{
	struct waiter *w, *next;

	b->wakes++;
	for (w = p->waiters; w != NULL; w = next) {
		next = w->next;
		/* With the request its other waiters left their lists. */
		if (fetch_wake(w->req))
			next = p->waiters;
	}
}

/* ---- flushing ----------------------------------------------------------- */

/* What one flush of the syncer's thread consists of. */
struct sync_round {
	struct worker_job job;
	struct sync_item {
		struct partition *partition;
		struct plog_sync *sync;
	} * items;
	size_t count;
	int64_t leisure_bytes; /* that no producer waits for */
	int64_t took_us;
};

/* When what nobody waits for is flushed. */
static int64_t
flush_at_leisure(const struct broker *b)
{

	return (b->now_ms + b->conf.flush_interval_ms);
}

void
partition_changed(struct broker *b, struct partition *p)
{

	want_sync(b, p, flush_at_leisure(b));
	if (b->conf.flush == BROKER_FLUSH_INTERVAL)
		wake_readers(b, p);
	else if (p->waiters != NULL)
		partition_hurry(b, p);
}

void
partition_hurry(struct broker *b, struct partition *p)
{

	if (plog_high(p->log) < plog_end(p->log))
		want_sync(b, p, b->now_ms);
}

void
partition_wait(struct broker *b, struct partition *p, struct flush_wait *wait)
{

	if (b->conf.flush == BROKER_FLUSH_INTERVAL) {
		wait->done(wait, WIRE_NONE);
		return;
	}
	wait->need = p->begun + 1;
	wait->end = plog_end(p->log);
	wait->next = NULL;
	*p->flush_waits_last = wait;
	p->flush_waits_last = &wait->next;
	want_sync(b, p, b->now_ms);
}

/*
 * Flush number ${n} is done: who waited for it, or an earlier one, goes on, if
 * it came as far as their records (one flush takes so many segments).
 */
static void
settle(struct partition *p, int64_t n, int64_t end, int16_t error)
{
	struct flush_wait *wait;

	while ((wait = p->flush_waits) != NULL && wait->need <= n &&
	    wait->end <= end) {
		if ((p->flush_waits = wait->next) == NULL)
			p->flush_waits_last = &p->flush_waits;
		wait->done(wait, error);
	}
}

/* Connections of who waits are gone; so they only let go. */
void
partition_free(struct partition *p)
{
	struct mr_error err;

	if (p == NULL)
		return;
	settle(p, INT64_MAX, INT64_MAX, WIRE_KAFKA_STORAGE_ERROR);
	if (plog_close(p->log, &err) == -1)
		log_error("a log could not be closed", "topic", p->topic->name,
		    "partition", log_i64(p->index), "error", err.message);
	free(p);
}

void
partition_abandon(struct partition *p)
{

	if (p == NULL)
		return;
	settle(p, INT64_MAX, INT64_MAX, WIRE_KAFKA_STORAGE_ERROR);
	if (p->sync != NULL)
		plog_sync_cancel(p->log, p->sync);
	plog_abandon(p->log);
	free(p);
}

static void
run_round(struct worker_job *job, void *arg)
{
	struct sync_round *round = (struct sync_round *)job;
	int64_t began = clock_mono_us();
	size_t i;

	(void)arg;
	for (i = 0; i < round->count && round->count > 1; i++)
		plog_sync_start(round->items[i].sync);
	for (i = 0; i < round->count; i++)
		if (plog_sync_run(round->items[i].sync, &job->err) == -1)
			break;
	round->took_us = clock_mono_us() - began;
}

static void
finish_round(struct worker_job *job, void *arg)
{
	struct sync_round *round = (struct sync_round *)job;
	struct broker *b = arg;
	struct partition *p;
	size_t i;

	b->sync = NULL;
	measure_sync(round->took_us);
	if (job->err.kind != MR_OK)
		/* Nobody knows what is on disk: answer no one, and end. */
		broker_fail(b, &job->err);
	for (i = 0; i < round->count && job->err.kind == MR_OK; i++) {
		p = round->items[i].partition;
		p->sync = NULL;
		if (plog_sync_finish(p->log, round->items[i].sync))
			want_sync(b, p, flush_at_leisure(b));
		settle(p, p->begun, plog_flushed_end(p->log), WIRE_NONE);
		if (p->flush_waits != NULL || p->waiters != NULL)
			partition_hurry(b, p);
		wake_readers(b, p);
		topic_release(b, p->topic);
	}
	free(round->items);
	free(round);
}

/* With what is to be flushed of it, if anything; else who waits goes on. */
static void
round_add(struct sync_round *round, struct partition *p)
{
	struct plog_sync *sync;

	p->begun++;
	if ((sync = plog_sync_begin(p->log)) == NULL) {
		/* It is on disk already. */
		settle(p, p->begun, plog_flushed_end(p->log), WIRE_NONE);
		return;
	}
	if (p->flush_waits == NULL)
		round->leisure_bytes += plog_sync_bytes(sync);
	p->sync = sync;
	topic_hold(p->topic);
	round->items[round->count].partition = p;
	round->items[round->count++].sync = sync;
}

/*
 * What is due, begun: all that a producer waits for, and of the rest so much
 * that those who come meanwhile, or read it, needn't wait for more.  NULL if
 * there is no memory.
 */
static struct sync_round *
begin_round(struct broker *b)
{
	struct sync_round *round = calloc(1, sizeof(*round));
	struct partition *p;
	size_t n;

	if (round == NULL ||
	    (round->items = calloc(b->unsynced_count, sizeof(*round->items))) ==
		NULL) {
		free(round);
		return (NULL);
	}
	b->next_flush_ms = INT64_MAX;
	for (n = b->unsynced_count; n > 0 && b->unsynced != NULL; n--) {
		p = b->unsynced;
		forget_unsynced(b, p);
		if (!b->stopping &&
		    (p->flush_at_ms > b->now_ms ||
			(p->flush_waits == NULL &&
			    round->leisure_bytes >= ROUND_BYTES)))
			want_sync(b, p, p->flush_at_ms);
		else
			round_add(round, p);
	}
	return (round);
}

void
sync_start(struct broker *b)
{
	struct sync_round *round;

	if (b->sync != NULL || b->unsynced == NULL || b->fatal.kind != MR_OK ||
	    (!b->stopping && b->now_ms < b->next_flush_ms))
		return;
	if ((round = begin_round(b)) == NULL)
		return;
	if (round->count == 0) {
		free(round->items);
		free(round);
		return;
	}
	round->job.run = run_round;
	round->job.finish = finish_round;
	b->sync = round;
	worker_give(b->syncer, &round->job);
}

/* ---- housekeeping ------------------------------------------------------- */

/* Logs that are looked at in one turn of the loop: some of them are rolled. */
#define TIDY_LOOK_MOST 64

struct tidy_job {
	struct worker_job job;
	struct partition *partition;
	struct plog_tidy *tidy;
};

static void
run_tidy(struct worker_job *job, void *arg)
{

	(void)arg;
	(void)plog_tidy_run(((struct tidy_job *)job)->tidy, &job->err);
}

/* Once a round: what can't be read stays, and takes room. */
static void
tell_what_stayed(const struct partition *p, const struct plog_tidied *did)
{

	if (did->unreadable_batches > 0 || did->damaged_segments > 0)
		log_warn("a log was not compacted where it can't be read",
		    "topic", p->topic->name, "partition", log_i64(p->index),
		    "unreadable_batches", log_i64(did->unreadable_batches),
		    "damaged_segments", log_i64(did->damaged_segments));
}

static void
finish_tidy(struct worker_job *job, void *arg)
{
	struct tidy_job *tidy = (struct tidy_job *)job;
	struct partition *p = tidy->partition;
	struct broker *b = arg;
	struct plog_tidied did;

	memset(&did, 0, sizeof(did));
	plog_tidy_finish(p->log, tidy->tidy, &did);
	p->tidy = NULL;
	b->tidying = NULL;
	if (did.more && job->err.kind == MR_OK)
		b->shortened--; /* this one again */
	if (job->err.kind != MR_OK)
		log_warn("a log could not be tidied", "topic", p->topic->name,
		    "partition", log_i64(p->index), "error", job->err.message);
	if (job->err.kind == MR_FATAL)
		broker_fail(b, &job->err);
	if (did.segments_deleted > 0 || did.segments_compacted > 0)
		log_info("log tidied", "topic", p->topic->name, "partition",
		    log_i64(p->index), "segments_deleted",
		    log_i64(did.segments_deleted), "segments_compacted",
		    log_i64(did.segments_compacted), "bytes_before",
		    log_i64(did.bytes_before), "bytes_after",
		    log_i64(did.bytes_after), "start",
		    log_i64(plog_start(p->log)));
	tell_what_stayed(p, &did);
	want_sync(b, p, flush_at_leisure(b));
	topic_release(b, p->topic);
	free(tidy);
}

/* 1 if something is under way now. */
static int
tidy_partition(struct broker *b, struct partition *p, enum plog_cleanup what)
{
	struct tidy_job *tidy = calloc(1, sizeof(*tidy));

	if (tidy == NULL)
		return (0);
	tidy->tidy = plog_tidy_begin(p->log, (int)what, clock_wall_ms());
	if (tidy->tidy == NULL) {
		free(tidy);
		return (0);
	}
	tidy->partition = p;
	tidy->job.run = run_tidy;
	tidy->job.finish = finish_tidy;
	p->tidy = tidy->tidy;
	b->tidying = p;
	topic_hold(p->topic);
	worker_give(b->tidier, &tidy->job);
	return (1);
}

/*
 * One partition after another, as map and list have them, from the ${*done}th on.
 * 1: there are more, or one is in the tidier's hands; 0: that was all.
 */
static int
tidy_next(struct broker *b, enum plog_cleanup what, int64_t *done)
{
	const int64_t most = *done + TIDY_LOOK_MOST;
	const struct topic *t;
	int64_t before = 0; /* partitions of topics before this one */
	size_t at = 0;

	for (; (t = catalog_next(b, &at)) != NULL; before += t->partition_count)
		while (*done < before + t->partition_count) {
			if (*done == most ||
			    tidy_partition(b, t->partitions[(*done)++ - before],
				what))
				return (1);
		}
	*done = 0;
	return (0);
}

void
tidy_start(struct broker *b)
{

	if (b->tidying != NULL || b->stopping)
		return;
	/* Compaction that takes longer than it is between two rounds gives way
	 * to the next one's retention, and goes on where it was. */
	if (b->now_ms >= b->next_tidy_ms) {
		if (tidy_next(b, PLOG_DELETE, &b->shortened))
			return;
		b->next_tidy_ms = b->now_ms + b->conf.retention_check_ms;
		b->compacting = 1;
	}
	if (b->compacting)
		b->compacting = tidy_next(b, PLOG_COMPACT, &b->compacted);
}

int64_t
tidy_due_ms(const struct broker *b)
{

	if (b->tidying != NULL || b->stopping)
		return (INT64_MAX);
	return (b->compacting ? 0 : b->next_tidy_ms);
}

void
tidy_stop(struct broker *b)
{

	if (b->tidying != NULL && b->tidying->tidy != NULL)
		plog_tidy_stop(b->tidying->tidy);
}

/* ---- the end of a topic ------------------------------------------------- */

struct remove_job {
	struct worker_job job;
	char path[PATH_SIZE];
	char parent[PATH_SIZE];
};

static void
run_remove(struct worker_job *job, void *arg)
{
	struct remove_job *rm = (struct remove_job *)job;

	(void)arg;
	if (plog_folder_retire(rm->path, &job->err) == 0)
		(void)plog_folder_purge(rm->parent, &job->err);
}

static void
finish_remove(struct worker_job *job, void *arg)
{

	(void)arg;
	if (job->err.kind != MR_OK)
		log_warn("a deleted topic's folder stays until the next start",
		    "error", job->err.message);
	free(job);
}

void
topic_remove_folder(struct broker *b, const char *id_text)
{
	struct remove_job *rm = calloc(1, sizeof(*rm));

	if (rm == NULL || b->tidier == NULL) {
		free(rm);
		return; /* the next start removes it */
	}
	folder_of(b, id_text, rm->path);
	snprintf(rm->parent, sizeof(rm->parent), "%s/topics", b->conf.data);
	rm->job.run = run_remove;
	rm->job.finish = finish_remove;
	worker_give(b->tidier, &rm->job);
}

/* Nobody has it in hand: close and remove. */
static void
dispose(struct broker *b, struct topic *t)
{
	char id_text[ID_TEXT_SIZE];
	int32_t i;

	memcpy(id_text, t->id_text, sizeof(id_text));
	for (i = 0; i < t->partition_count; i++) {
		forget_unsynced(b, t->partitions[i]);
		partition_abandon(t->partitions[i]);
	}
	t->partition_count = 0;
	topic_free(t);
	topic_remove_folder(b, id_text);
}

void
topic_hold(struct topic *t)
{

	t->holds++;
}

void
topic_release(struct broker *b, struct topic *t)
{

	if (--t->holds == 0 && t->retired)
		dispose(b, t);
}

void
topic_retire(struct broker *b, struct topic *t)
{
	struct partition *p;
	int32_t i;

	/* Held meanwhile, as those that are told let go of it. */
	topic_hold(t);
	t->retired = 1;
	for (i = 0; i < t->partition_count; i++) {
		p = t->partitions[i];
		settle(p, INT64_MAX, INT64_MAX,
		    WIRE_UNKNOWN_TOPIC_OR_PARTITION);
		wake_readers(b, p);
		if (p->tidy != NULL)
			plog_tidy_stop(p->tidy);
	}
	topic_release(b, t);
}
