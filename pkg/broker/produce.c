/*
 * produce -- batches into logs, and the answer when they are on disk.
 */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/connection.h"
#include "broker/measure.h"
#include "broker/partition.h"

/* A produce request under way. */
struct produce {
	struct wire_produce_response out;
	int32_t waits; /* for that many partitions, and itself */
};

/* One of its partitions, while it waits for the disk. */
struct produce_part {
	struct flush_wait wait; /* first */
	struct wire_produce_response_partition *out;
	struct topic *topic;
};

static int
has_errors(const struct wire_produce_response *out)
{
	int32_t i, k;

	for (i = 0; i < out->topics.count; i++)
		for (k = 0; k < out->topics.at[i].partitions.count; k++)
			if (out->topics.at[i].partitions.at[k].error_code !=
			    WIRE_NONE)
				return (1);
	return (0);
}

static void
let_go(struct request *req)
{
	const struct wire_produce_request *in = req->body;
	struct produce *produce = req->waits_for;

	if (--produce->waits > 0)
		return;
	if (in->acks != 0)
		request_answer(req, &produce->out);
	else if (has_errors(&produce->out))
		/* Nobody reads an answer: as Kafka does. */
		request_abandon(req, "acks=0, and records were refused");
	else
		request_silent(req);
}

static void
flushed(struct flush_wait *wait, int16_t error)
{
	struct produce_part *part = (struct produce_part *)wait;
	struct request *req = wait->req;

	if (error != WIRE_NONE) {
		part->out->error_code = error;
		part->out->base_offset = -1;
	}
	topic_release(req->broker, part->topic);
	let_go(req);
}

/* Refusals that a client wouldn't have expected are worth a line. */
static void
log_refusal(const struct partition *p, int code, const struct mr_error *err)
{
	static struct log_limit limit = {.per_second = 5};
	int64_t left_out;

	if (!log_limit_take(&limit, &left_out))
		return;
	log_warn("records refused", "topic", p->topic->name, "partition",
	    log_i64(p->index), "code", log_i64(partition_error(code)), "error",
	    err->message, "left_out", log_i64(left_out));
}

static int16_t
append(struct broker *b, struct partition *p,
    const struct wire_produce_request_partition *in,
    struct wire_produce_response_partition *out, int *must_wait)
{
	struct plog_appended appended;
	struct mr_error err;
	int code;

	*must_wait = 0;
	if (in->records.length <= 0)
		return (WIRE_INVALID_RECORD);
	memset(&appended, 0, sizeof(appended));
	code = plog_append(p->log, (uint8_t *)(uintptr_t)in->records.at,
	    (size_t)in->records.length, clock_wall_ms(), &appended, &err);
	if (code == PLOG_OK) {
		measure_append(in->records.length);
		partition_changed(b, p);
	} else if (code != PLOG_DUPLICATE) {
		log_refusal(p, code, &err);
		if (code == PLOG_INVALID_RECORD || code == PLOG_AHEAD ||
		    code == PLOG_OUT_OF_ORDER || code == PLOG_FENCED)
			out->log_start_offset = plog_start(p->log);
		return (partition_error(code));
	}
	out->base_offset = appended.base_offset;
	out->log_append_time_ms = appended.append_time_ms;
	out->log_start_offset = appended.log_start;
	*must_wait = appended.last_offset >= plog_flushed_end(p->log);
	return (WIRE_NONE);
}

/* 0, or -1: the request was given up. */
static int
produce_partition(struct broker *b, struct request *req, struct topic *t,
    const struct wire_produce_request_partition *in,
    struct wire_produce_response_partition *out)
{
	const struct wire_produce_request *all = req->body;
	struct produce *produce = req->waits_for;
	struct partition *p = catalog_partition(t, in->index);
	struct produce_part *part;
	int must_wait;

	wire_defaults(wire_produce_response_partition_layout(), out);
	out->index = in->index;
	out->base_offset = -1;
	if (p == NULL) {
		out->error_code = t == NULL && req->version >= 13 ?
		    WIRE_UNKNOWN_TOPIC_ID :
		    WIRE_UNKNOWN_TOPIC_OR_PARTITION;
		return (0);
	}
	part = wire_arena_take(&req->arena, sizeof(*part));
	if (part == NULL) {
		out->error_code = WIRE_KAFKA_STORAGE_ERROR;
		return (0);
	}
	out->error_code = append(b, p, in, out, &must_wait);
	if (out->error_code != WIRE_NONE || !must_wait || all->acks != -1)
		return (0);
	part->out = out;
	part->topic = t;
	part->wait.req = req;
	part->wait.done = flushed;
	topic_hold(t);
	produce->waits++;
	partition_wait(b, p, &part->wait);
	return (0);
}

static int
prepare(struct request *req, struct produce *produce)
{
	const struct wire_produce_request *in = req->body;
	struct wire_produce_response_topic *t;
	int32_t i, n;

	wire_defaults(wire_produce_response_layout(), &produce->out);
	t = request_take(req, (size_t)in->topics.count * sizeof(*t));
	if (t == NULL)
		return (-1);
	produce->out.topics.at = t;
	produce->out.topics.count = in->topics.count;
	for (i = 0; i < in->topics.count; i++, t++) {
		n = in->topics.at[i].partitions.count;
		t->name = in->topics.at[i].name;
		t->topic_id = in->topics.at[i].topic_id;
		t->partitions.at = request_take(req,
		    (size_t)n * sizeof(*t->partitions.at));
		if (t->partitions.at == NULL)
			return (-1);
		t->partitions.count = n;
	}
	return (0);
}

static void
refuse_all(struct wire_produce_response *out,
    const struct wire_produce_request *in, int16_t error)
{
	struct wire_produce_response_partition *p;
	int32_t i, k;

	for (i = 0; i < out->topics.count; i++)
		for (k = 0; k < out->topics.at[i].partitions.count; k++) {
			p = &out->topics.at[i].partitions.at[k];
			wire_defaults(wire_produce_response_partition_layout(),
			    p);
			p->index = in->topics.at[i].partitions.at[k].index;
			p->base_offset = -1;
			p->error_code = error;
		}
}

void
handle_produce(struct broker *b, struct request *req)
{
	const struct wire_produce_request *in = req->body;
	const struct wire_produce_request_topic *asked;
	struct produce *produce = request_take(req, sizeof(*produce));
	struct topic *t;
	int32_t i, k;

	if (produce == NULL || prepare(req, produce) == -1)
		return;
	req->waits_for = produce;
	produce->waits = 1;
	if (in->acks < -1 || in->acks > 1) {
		refuse_all(&produce->out, in, WIRE_INVALID_REQUIRED_ACKS);
		request_answer(req, &produce->out);
		return;
	}
	if (in->transactional_id.length >= 0) {
		refuse_all(&produce->out, in, WIRE_UNSUPPORTED_VERSION);
		let_go(req);
		return;
	}
	for (i = 0; i < in->topics.count; i++) {
		asked = &in->topics.at[i];
		t = req->version >= 13 ? catalog_find_id(b, &asked->topic_id) :
					 catalog_find(b, asked->name);
		for (k = 0; k < asked->partitions.count; k++)
			if (produce_partition(b, req, t,
				&asked->partitions.at[k],
				&produce->out.topics.at[i].partitions.at[k]) ==
			    -1)
				return;
	}
	let_go(req);
}
