/*
 * logs -- questions about logs, and deletion of records.
 */
#include <sys/statvfs.h>

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "broker/connection.h"
#include "broker/keeper.h"
#include "broker/named.h"
#include "broker/partition.h"

/* ---- answers that wait -------------------------------------------------- */

/* What a request waits for: partitions that are being flushed. */
struct held {
	void *out;
	int32_t waits; /* and one, until all are known */
};

/* One more, whose topic stays until it is done. */
static void
held_add(struct request *req, struct partition *p, struct flush_wait *wait,
    void (*done)(struct flush_wait *wait, int16_t error))
{
	struct held *held = req->waits_for;

	wait->req = req;
	wait->done = done;
	topic_hold(p->topic);
	held->waits++;
}

static void
held_let_go(struct request *req)
{
	struct held *held = req->waits_for;

	if (--held->waits == 0)
		request_answer(req, held->out);
}

/* ---- ListOffsets -------------------------------------------------------- */

enum {
	TIME_LATEST = -1,
	TIME_EARLIEST = -2,
	TIME_LARGEST = -3, /* version 7 */
	TIME_EARLIEST_LOCAL = -4, /* version 8: there is no other storage */
	TIME_LATEST_TIERED = -5 /* version 9: likewise */
};

static int
look_for_time(struct partition *p, int64_t timestamp,
    struct wire_list_offsets_response_partition *out)
{
	struct plog_found found = {.offset = -1, .timestamp_ms = -1};
	struct mr_error err;
	int code;

	code = timestamp == TIME_LARGEST ?
	    plog_find_latest_time(p->log, &found, &err) :
	    plog_find_time(p->log, timestamp, &found, &err);
	if (code != PLOG_OK) {
		log_warn("a time could not be looked for", "topic",
		    p->topic->name, "partition", log_i64(p->index), "error",
		    err.message);
		return (code);
	}
	out->offset = found.offset;
	out->timestamp = found.offset < 0 ? -1 : found.timestamp_ms;
	out->leader_epoch = found.offset < 0 ? -1 : found.leader_epoch;
	return (PLOG_OK);
}

static int16_t
list_offset(const struct broker *b, struct partition *p, int64_t timestamp,
    struct wire_list_offsets_response_partition *out)
{

	switch (timestamp) {
	case TIME_LATEST:
		out->offset = plog_high(p->log);
		out->leader_epoch = b->leader_epoch;
		return (WIRE_NONE);
	case TIME_EARLIEST:
	case TIME_EARLIEST_LOCAL:
		out->offset = plog_start(p->log);
		out->leader_epoch = plog_epoch_at(p->log, out->offset);
		return (WIRE_NONE);
	case TIME_LATEST_TIERED:
		return (WIRE_NONE);
	default:
		break;
	}
	return (partition_error(look_for_time(p, timestamp, out)));
}

struct listing_part {
	struct flush_wait wait; /* first */
	struct partition *partition;
	int64_t timestamp;
	struct wire_list_offsets_response_partition *out;
};

static void
listing_flushed(struct flush_wait *wait, int16_t error)
{
	struct listing_part *part = (struct listing_part *)wait;
	struct request *req = wait->req;
	struct topic *t = part->partition->topic;

	part->out->error_code = error != WIRE_NONE ?
	    error :
	    list_offset(req->broker, part->partition, part->timestamp,
		part->out);
	topic_release(req->broker, t);
	held_let_go(req);
}

/* What was acknowledged before, or was there at the start, is among it. */
static int16_t
list_flushed(struct broker *b, struct request *req, struct partition *p,
    int64_t timestamp, struct wire_list_offsets_response_partition *out)
{
	struct listing_part *part;

	if (plog_high(p->log) >= plog_end(p->log) ||
	    timestamp == TIME_EARLIEST || timestamp == TIME_EARLIEST_LOCAL ||
	    timestamp == TIME_LATEST_TIERED)
		return (list_offset(b, p, timestamp, out));
	if ((part = wire_arena_take(&req->arena, sizeof(*part))) == NULL)
		return (WIRE_KAFKA_STORAGE_ERROR);
	part->partition = p;
	part->timestamp = timestamp;
	part->out = out;
	held_add(req, p, &part->wait, listing_flushed);
	partition_wait(b, p, &part->wait);
	return (WIRE_NONE);
}

/* What a time below 0 means is of a version. */
static int
is_known(int64_t timestamp, int version)
{

	return (timestamp >= TIME_EARLIEST ||
	    (timestamp == TIME_LARGEST && version >= 7) ||
	    (timestamp == TIME_EARLIEST_LOCAL && version >= 8) ||
	    (timestamp == TIME_LATEST_TIERED && version >= 9));
}

static int16_t
check_asked(const struct broker *b, const struct request *req,
    const struct wire_list_offsets_request_partition *asked, int twice,
    const struct partition *p)
{

	if (twice)
		return (WIRE_INVALID_REQUEST);
	if (!is_known(asked->timestamp, req->version))
		return (WIRE_UNSUPPORTED_VERSION);
	if (p == NULL)
		return (WIRE_UNKNOWN_TOPIC_OR_PARTITION);
	return (partition_check_epoch(b, asked->current_leader_epoch));
}

/* *named are its partitions, and then the next topic's. */
static void
list_topic(struct broker *b, struct request *req, const struct named **named,
    const struct wire_list_offsets_request_topic *in,
    struct wire_list_offsets_response_partition *list)
{
	const struct wire_list_offsets_request_partition *asked;
	const struct topic *t = catalog_find(b, in->name);
	struct partition *p;
	int32_t i;

	for (i = 0; i < in->partitions.count; i++, list++) {
		asked = &in->partitions.at[i];
		wire_defaults(wire_list_offsets_response_partition_layout(),
		    list);
		list->partition_index = asked->partition_index;
		p = catalog_partition(t, asked->partition_index);
		list->error_code = check_asked(b, req, asked, (*named)++->twice,
		    p);
		if (list->error_code == WIRE_NONE)
			list->error_code = list_flushed(b, req, p,
			    asked->timestamp, list);
	}
}

/* Which partitions are named twice, in the request's order.  NULL: the request
 * was given up. */
static const struct named *
find_listed_twice(struct request *req)
{
	const struct wire_list_offsets_request *in = req->body;
	struct named *list;
	size_t count = 0, at = 0;
	int32_t i, k;

	for (i = 0; i < in->topics.count; i++)
		count += (size_t)in->topics.at[i].partitions.count;
	if ((list = request_take(req, (count + 1) * sizeof(*list))) == NULL)
		return (NULL);
	for (i = 0; i < in->topics.count; i++)
		for (k = 0; k < in->topics.at[i].partitions.count; k++) {
			list[at] = named_as(in->topics.at[i].name);
			list[at++].number =
			    in->topics.at[i].partitions.at[k].partition_index;
		}
	return (named_find_twice(req, list, count) == 0 ? list : NULL);
}

/* Room for an answer.  0, or -1: the request was given up. */
static int
listing_prepare(struct request *req, struct wire_list_offsets_response *out)
{
	const struct wire_list_offsets_request *in = req->body;
	struct wire_list_offsets_response_topic *list;
	int32_t i, n;

	wire_defaults(wire_list_offsets_response_layout(), out);
	list = request_take(req, (size_t)in->topics.count * sizeof(*list));
	if ((out->topics.at = list) == NULL)
		return (-1);
	out->topics.count = in->topics.count;
	for (i = 0; i < in->topics.count; i++, list++) {
		n = in->topics.at[i].partitions.count;
		list->name = in->topics.at[i].name;
		list->partitions.at = request_take(req,
		    (size_t)n * sizeof(*list->partitions.at));
		if (list->partitions.at == NULL)
			return (-1);
		list->partitions.count = n;
	}
	return (0);
}

void
handle_list_offsets(struct broker *b, struct request *req)
{
	const struct wire_list_offsets_request *in = req->body;
	const struct named *named = find_listed_twice(req);
	struct wire_list_offsets_response *out;
	struct held *held;
	int32_t i;

	if (named == NULL ||
	    (held = request_take(req, sizeof(*held) + sizeof(*out))) == NULL)
		return;
	held->out = out = (struct wire_list_offsets_response *)(held + 1);
	if (listing_prepare(req, out) == -1)
		return;
	req->waits_for = held;
	held->waits = 1;
	for (i = 0; i < in->topics.count; i++)
		list_topic(b, req, &named, &in->topics.at[i],
		    out->topics.at[i].partitions.at);
	held_let_go(req);
}

/* ---- OffsetForLeaderEpoch ----------------------------------------------- */

static void
epoch_end(const struct broker *b, const struct topic *t,
    const struct wire_offset_for_leader_epoch_request_partition *in,
    struct wire_offset_for_leader_epoch_response_partition *out)
{
	const struct partition *p = catalog_partition(t, in->partition);

	wire_defaults(wire_offset_for_leader_epoch_response_partition_layout(),
	    out);
	out->partition = in->partition;
	out->error_code = p == NULL ?
	    WIRE_UNKNOWN_TOPIC_OR_PARTITION :
	    partition_check_epoch(b, in->current_leader_epoch);
	if (out->error_code != WIRE_NONE)
		return;
	/* This start's epoch, before anything was appended in it. */
	if (in->leader_epoch == b->leader_epoch) {
		out->leader_epoch = b->leader_epoch;
		out->end_offset = plog_end(p->log);
		return;
	}
	plog_epoch_end(p->log, in->leader_epoch, &out->leader_epoch,
	    &out->end_offset);
}

void
handle_offset_for_leader_epoch(struct broker *b, struct request *req)
{
	const struct wire_offset_for_leader_epoch_request *in = req->body;
	struct wire_offset_for_leader_epoch_response out;
	struct wire_offset_for_leader_epoch_response_topic *list;
	const struct topic *t;
	int32_t i, k, n;

	wire_defaults(wire_offset_for_leader_epoch_response_layout(), &out);
	list = request_take(req, (size_t)in->topics.count * sizeof(*list));
	if ((out.topics.at = list) == NULL)
		return;
	out.topics.count = in->topics.count;
	for (i = 0; i < in->topics.count; i++, list++) {
		t = catalog_find(b, in->topics.at[i].topic);
		n = in->topics.at[i].partitions.count;
		list->topic = in->topics.at[i].topic;
		list->partitions.at = request_take(req,
		    (size_t)n * sizeof(*list->partitions.at));
		if (list->partitions.at == NULL)
			return;
		list->partitions.count = n;
		for (k = 0; k < n; k++)
			epoch_end(b, t, &in->topics.at[i].partitions.at[k],
			    &list->partitions.at[k]);
	}
	request_answer(req, &out);
}

/* ---- DeleteRecords ------------------------------------------------------ */

struct deletion_part {
	struct flush_wait wait; /* first */
	struct wire_delete_records_response_partition *out;
	struct partition *partition;
	int64_t offset;
	int again; /* a flush came short of the log's end */
};

static void
deletion_end(struct deletion_part *part, int16_t error)
{
	struct request *req = part->wait.req;

	part->out->error_code = error;
	part->out->low_watermark = error == WIRE_NONE ?
	    plog_start(part->partition->log) :
	    -1;
	topic_release(req->broker, part->partition->topic);
	held_let_go(req);
}

static void
deletion_flushed(struct flush_wait *wait, int16_t error)
{
	struct deletion_part *part = (struct deletion_part *)wait;
	const struct plog *log = part->partition->log;
	struct broker *b = wait->req->broker;

	if (error != WIRE_NONE || b->conf.flush != BROKER_FLUSH_REQUEST ||
	    plog_start_is_kept(log)) {
		deletion_end(part, error);
	} else if (!part->again && plog_flushed_end(log) < plog_end(log)) {
		part->again = 1;
		partition_wait(b, part->partition, wait);
	} else {
		/* A full disk is no reason for a flush to fail. */
		deletion_end(part, WIRE_KAFKA_STORAGE_ERROR);
	}
}

/* All that was acknowledged may be deleted now. */
static void
deletion_begin(struct flush_wait *wait, int16_t error)
{
	struct deletion_part *part = (struct deletion_part *)wait;
	struct broker *b = wait->req->broker;
	struct mr_error err;

	if (error == WIRE_NONE)
		error = partition_error(
		    plog_delete_records(part->partition->log, part->offset,
			&err));
	if (error != WIRE_NONE) {
		deletion_end(part, error);
		return;
	}
	wait->done = deletion_flushed;
	partition_changed(b, part->partition);
	partition_wait(b, part->partition, wait);
}

/* WIRE_NONE, and the answer comes by deletion_end; or why not. */
static int16_t
delete_in(struct broker *b, struct request *req, const struct topic *t,
    struct partition *p, int64_t offset,
    struct wire_delete_records_response_partition *out)
{
	struct deletion_part *part;

	if (p == NULL)
		return (WIRE_UNKNOWN_TOPIC_OR_PARTITION);
	if ((t->settings.cleanup & CLEANUP_DELETE) == 0)
		return (WIRE_POLICY_VIOLATION);
	if (offset < -1)
		return (WIRE_OFFSET_OUT_OF_RANGE);
	if ((part = wire_arena_take(&req->arena, sizeof(*part))) == NULL)
		return (WIRE_KAFKA_STORAGE_ERROR);
	part->partition = p;
	part->offset = offset;
	part->out = out;
	held_add(req, p, &part->wait, deletion_begin);
	if (plog_high(p->log) < plog_end(p->log))
		partition_wait(b, p, &part->wait);
	else
		deletion_begin(&part->wait, WIRE_NONE);
	return (WIRE_NONE);
}

static void
delete_of_topic(struct broker *b, struct request *req,
    const struct wire_delete_records_request_topic *in,
    struct wire_delete_records_response_partition *list)
{
	const struct topic *t = catalog_find(b, in->name);
	const struct wire_delete_records_request_partition *asked;
	int16_t error;
	int32_t i;

	for (i = 0; i < in->partitions.count; i++, list++) {
		asked = &in->partitions.at[i];
		list->partition_index = asked->partition_index;
		list->low_watermark = -1;
		list->error_code = WIRE_NONE;
		error = delete_in(b, req, t,
		    catalog_partition(t, asked->partition_index), asked->offset,
		    list);
		if (error != WIRE_NONE)
			list->error_code = error;
	}
}

void
handle_delete_records(struct broker *b, struct request *req)
{
	const struct wire_delete_records_request *in = req->body;
	struct wire_delete_records_response_topic *list;
	struct wire_delete_records_response *out;
	struct held *held;
	int32_t i, n;

	if ((held = request_take(req, sizeof(*held) + sizeof(*out))) == NULL ||
	    (list = request_take(req,
		 (size_t)in->topics.count * sizeof(*list))) == NULL)
		return;
	held->out = out = (struct wire_delete_records_response *)(held + 1);
	wire_defaults(wire_delete_records_response_layout(), out);
	out->topics.at = list;
	out->topics.count = in->topics.count;
	req->waits_for = held;
	for (i = 0; i < in->topics.count; i++) {
		n = in->topics.at[i].partitions.count;
		list[i].name = in->topics.at[i].name;
		list[i].partitions.at = request_take(req,
		    (size_t)n * sizeof(*list->partitions.at));
		if (list[i].partitions.at == NULL)
			return;
		list[i].partitions.count = n;
	}
	held->waits = 1;
	for (i = 0; i < in->topics.count; i++)
		delete_of_topic(b, req, &in->topics.at[i],
		    list[i].partitions.at);
	held_let_go(req);
}

/* ---- DescribeLogDirs ---------------------------------------------------- */

/* All partitions, or those that are asked for.  0 or -1. */
static int
size_up(struct request *req, const struct topic *t,
    const struct wire_i32s *only,
    struct wire_describe_log_dirs_response_topic *out)
{
	int32_t i, n = only != NULL ? only->count : t->partition_count;
	struct wire_describe_log_dirs_response_partition *list;
	const struct partition *p;

	out->name = wire_text(t->name);
	list = request_take(req, (size_t)n * sizeof(*list));
	if ((out->partitions.at = list) == NULL)
		return (-1);
	for (i = 0; i < n; i++) {
		p = catalog_partition(t, only != NULL ? only->at[i] : i);
		if (p == NULL)
			continue;
		list->partition_index = p->index;
		list->partition_size = plog_size(p->log);
		list++;
		out->partitions.count++;
	}
	return (0);
}

static int
size_up_all(struct broker *b, struct request *req,
    struct wire_describe_log_dirs_response_result *dir)
{
	const struct wire_describe_log_dirs_request *in = req->body;
	const struct topic *t;
	size_t at = 0;
	int32_t i,
	    n = in->topics.count < 0 ? (int32_t)b->topics.count :
				       in->topics.count;

	dir->topics.at = request_take(req, (size_t)n * sizeof(*dir->topics.at));
	if (dir->topics.at == NULL)
		return (-1);
	if (in->topics.count < 0) {
		while ((t = catalog_next(b, &at)) != NULL)
			if (size_up(req, t, NULL,
				&dir->topics.at[dir->topics.count++]) == -1)
				return (-1);
		return (0);
	}
	for (i = 0; i < in->topics.count; i++) {
		t = catalog_find(b, in->topics.at[i].topic);
		if (t != NULL &&
		    size_up(req, t, &in->topics.at[i].partitions,
			&dir->topics.at[dir->topics.count++]) == -1)
			return (-1);
	}
	return (0);
}

void
handle_describe_log_dirs(struct broker *b, struct request *req)
{
	struct wire_describe_log_dirs_response_result dir;
	struct wire_describe_log_dirs_response out;
	char path[PATH_MAX];
	struct statvfs vfs;

	wire_defaults(wire_describe_log_dirs_response_layout(), &out);
	wire_defaults(wire_describe_log_dirs_response_result_layout(), &dir);
	dir.log_dir = wire_text(
	    realpath(b->conf.data, path) != NULL ? path : b->conf.data);
	if (statvfs(b->conf.data, &vfs) == 0) {
		dir.total_bytes = (int64_t)(vfs.f_blocks * vfs.f_frsize);
		dir.usable_bytes = (int64_t)(vfs.f_bavail * vfs.f_frsize);
	}
	if (size_up_all(b, req, &dir) == -1)
		return;
	out.results.at = &dir;
	out.results.count = 1;
	request_answer(req, &out);
}

/* ---- producers ---------------------------------------------------------- */

static int
list_producers(struct request *req, const struct partition *p,
    struct wire_describe_producers_response_partition *out)
{
	struct wire_describe_producers_response_active_producer *list;
	struct plog_producer producer;
	size_t at = 0, count = 0;

	while (plog_producer_next(p->log, &at, &producer))
		count++;
	list = request_take(req, count * sizeof(*list));
	if ((out->active_producers.at = list) == NULL)
		return (-1);
	for (at = 0; plog_producer_next(p->log, &at, &producer); list++) {
		wire_defaults(
		    wire_describe_producers_response_active_producer_layout(),
		    list);
		list->producer_id = producer.producer_id;
		list->producer_epoch = producer.epoch;
		list->last_sequence = producer.last_sequence;
		list->last_timestamp = producer.last_time_ms;
		list->coordinator_epoch = -1;
		out->active_producers.count++;
	}
	return (0);
}

/* 0, or -1: the request was given up. */
static int
describe_producers(struct broker *b, struct request *req,
    const struct wire_describe_producers_request_topic *in,
    struct wire_describe_producers_response_topic *out)
{
	struct wire_describe_producers_response_partition *part;
	const struct topic *t = catalog_find(b, in->name);
	int16_t error = WIRE_UNKNOWN_TOPIC_OR_PARTITION;
	const struct partition *p;
	const char *why = NULL;
	int32_t i, n = in->partition_indexes.count;

	if (t == NULL && topic_check_name(in->name, &why) != WIRE_NONE)
		error = WIRE_INVALID_TOPIC;
	part = request_take(req, (size_t)n * sizeof(*part));
	if (part == NULL)
		return (-1);
	out->name = in->name;
	out->partitions.at = part;
	out->partitions.count = n;
	for (i = 0; i < n; i++, part++) {
		wire_defaults(
		    wire_describe_producers_response_partition_layout(), part);
		part->partition_index = in->partition_indexes.at[i];
		p = catalog_partition(t, part->partition_index);
		if (p == NULL) {
			part->error_code = error;
			part->error_message = wire_text(why);
		} else if (list_producers(req, p, part) == -1)
			return (-1);
	}
	return (0);
}

void
handle_describe_producers(struct broker *b, struct request *req)
{
	const struct wire_describe_producers_request *in = req->body;
	struct wire_describe_producers_response out;
	struct wire_describe_producers_response_topic *list;
	int32_t i;

	wire_defaults(wire_describe_producers_response_layout(), &out);
	list = request_take(req, (size_t)in->topics.count * sizeof(*list));
	if ((out.topics.at = list) == NULL)
		return;
	out.topics.count = in->topics.count;
	for (i = 0; i < in->topics.count; i++)
		if (describe_producers(b, req, &in->topics.at[i], &list[i]) ==
		    -1)
			return;
	request_answer(req, &out);
}

/* ---- InitProducerId ----------------------------------------------------- */

#define RESERVED 1000 /* ids, with each transaction */

struct producer_wait {
	struct producer_wait *next;
	struct request *req;
};

struct producer_job {
	struct worker_job job;
	int64_t first;
	struct producer_wait *waits;
};

static void
give_producer_id(struct broker *b, struct request *req)
{
	struct wire_init_producer_id_response out;

	wire_defaults(wire_init_producer_id_response_layout(), &out);
	out.producer_id = b->producer_id_next++;
	request_answer(req, &out);
}

static void
run_reserve(struct worker_job *job, void *arg)
{
	struct producer_job *reserve = (struct producer_job *)job;

	(void)keeper_reserve_producers(arg, RESERVED, &reserve->first,
	    &job->err);
}

static void
refuse_producer(struct request *req, int16_t error)
{
	struct wire_init_producer_id_response out;

	wire_defaults(wire_init_producer_id_response_layout(), &out);
	out.error_code = error;
	out.producer_epoch = -1;
	request_answer(req, &out);
}

static void
finish_reserve(struct worker_job *job, void *arg)
{
	struct producer_job *reserve = (struct producer_job *)job;
	struct producer_wait *wait, *next;
	struct broker *b = arg;

	b->reserving = NULL;
	if (job->err.kind == MR_FATAL)
		broker_fail(b, &job->err);
	if (job->err.kind == MR_OK) {
		b->producer_id_next = reserve->first;
		b->producer_id_end = reserve->first + RESERVED;
	}
	for (wait = reserve->waits; wait != NULL; wait = next) {
		next = wait->next;
		if (b->producer_id_next < b->producer_id_end)
			give_producer_id(b, wait->req);
		else
			refuse_producer(wait->req,
			    WIRE_COORDINATOR_NOT_AVAILABLE);
	}
	free(reserve);
}

void
handle_init_producer_id(struct broker *b, struct request *req)
{
	const struct wire_init_producer_id_request *in = req->body;
	struct producer_wait *wait;

	if ((in->producer_id == -1) != (in->producer_epoch == -1)) {
		refuse_producer(req, WIRE_INVALID_REQUEST);
		return;
	}
	if (in->transactional_id.length >= 0) {
		refuse_producer(req, WIRE_UNSUPPORTED_VERSION);
		return;
	}
	if (b->producer_id_next < b->producer_id_end) {
		give_producer_id(b, req);
		return;
	}
	if ((wait = request_take(req, sizeof(*wait))) == NULL)
		return;
	if (b->reserving == NULL) {
		b->reserving = calloc(1, sizeof(*b->reserving));
		if (b->reserving == NULL) {
			refuse_producer(req, WIRE_COORDINATOR_NOT_AVAILABLE);
			return;
		}
		b->reserving->job.run = run_reserve;
		b->reserving->job.finish = finish_reserve;
		worker_give(b->keeper, &b->reserving->job);
	}
	/* The keeper doesn't look at these. */
	wait->req = req;
	wait->next = b->reserving->waits;
	b->reserving->waits = wait;
}
