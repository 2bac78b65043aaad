/*
 * fetch -- records from logs to sockets, when there are some.
 *
 * Fetch sessions are declined (session id 0 in every answer), so each request
 * names all of its partitions.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "broker/connection.h"
#include "broker/partition.h"

/*
 * A client sends its first fetch as soon as it may read one of its partitions.
 * The others, and what it asks before it reads them, would wait behind that
 * one, so for a while after it named more than ever before none waits for long.
 * Who names fewer, and then as many again, has records of the rest.
 */
#define SETTLES_MS 100
#define UNSETTLED_WAIT_MS 10

/* gcc's analyser can't follow what is put into a list of lists. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

/* A partition of a request, in the order in which they are asked for. */
struct fetch_part {
	struct waiter waiter;
	struct topic *topic; /* held while it waits; NULL: an error */
	struct partition *partition;
	const struct wire_fetch_request_partition *in;
	struct wire_fetch_response_partition out;
};

struct fetch {
	struct fetch_part *parts;
	size_t count;
	int waiting; /* waiters are in their lists */
	int64_t woken; /* when it was looked at: once, however often it waits */
};

/* A span of a log with what it holds on to. */
struct held_span {
	struct plog_span span;
	struct partition *partition;
	struct broker *broker;
};

static void
release_span(void *held)
{
	struct held_span *h = held;

	plog_release(h->partition->log, &h->span);
	topic_release(h->broker, h->partition->topic);
	free(h);
}

/* ---- who is asked for --------------------------------------------------- */

static void
find_part(struct broker *b, struct request *req, struct topic *t,
    const struct wire_fetch_request_partition *in, struct fetch_part *part)
{

	wire_defaults(wire_fetch_response_partition_layout(), &part->out);
	part->in = in;
	part->waiter.req = req;
	part->out.partition_index = in->partition;
	part->out.high_watermark = -1;
	part->partition = catalog_partition(t, in->partition);
	if (part->partition == NULL)
		part->out.error_code = t == NULL && req->version >= 13 ?
		    WIRE_UNKNOWN_TOPIC_ID :
		    WIRE_UNKNOWN_TOPIC_OR_PARTITION;
	else
		part->out.error_code = partition_check_epoch(b,
		    in->current_leader_epoch);
	/* Who has read in an epoch that is to come has read something else. */
	if (part->out.error_code == WIRE_NONE &&
	    in->last_fetched_epoch > b->leader_epoch)
		part->out.error_code = WIRE_OFFSET_OUT_OF_RANGE;
	if (part->out.error_code != WIRE_NONE)
		part->partition = NULL;
}

static int64_t
count_parts(const struct wire_fetch_request *in)
{
	int64_t count = 0;
	int32_t i;

	for (i = 0; i < in->topics.count; i++)
		count += in->topics.at[i].partitions.count;
	return (count);
}

/* NULL: the request was given up. */
static struct fetch *
begin(struct broker *b, struct request *req)
{
	const struct wire_fetch_request *in = req->body;
	struct fetch *f = request_take(req, sizeof(*f));
	size_t count = (size_t)count_parts(in);
	struct topic *t;
	int32_t i, k;

	if (f == NULL)
		return (NULL);
	f->parts = request_take(req, (count + 1) * sizeof(*f->parts));
	if (f->parts == NULL)
		return (NULL);
	for (i = 0; i < in->topics.count; i++) {
		t = req->version >= 13 ?
		    catalog_find_id(b, &in->topics.at[i].topic_id) :
		    catalog_find(b, in->topics.at[i].topic);
		for (k = 0; k < in->topics.at[i].partitions.count; k++)
			find_part(b, req, t, &in->topics.at[i].partitions.at[k],
			    &f->parts[f->count++]);
	}
	return (f);
}

/* ---- waiting ------------------------------------------------------------ */

/* 1 if there is something to say now: records enough, or an error. */
static int
is_due(const struct fetch *f, const struct wire_fetch_request *in)
{
	const struct fetch_part *part;
	int64_t bytes = 0;
	size_t i;

	if (f->count == 0)
		return (1);
	for (i = 0; i < f->count; i++) {
		part = &f->parts[i];
		if (part->partition == NULL ||
		    part->partition->topic->retired ||
		    part->in->fetch_offset < plog_start(part->partition->log) ||
		    part->in->fetch_offset > plog_end(part->partition->log))
			return (1);
		if (part->in->fetch_offset < plog_high(part->partition->log))
			bytes += plog_available(part->partition->log,
			    part->in->fetch_offset);
	}
	return (bytes >= in->min_bytes);
}

static void
stop_waiting(struct broker *b, struct fetch *f)
{
	size_t i;

	if (!f->waiting)
		return;
	f->waiting = 0;
	for (i = 0; i < f->count; i++) {
		if (f->parts[i].partition == NULL)
			continue;
		waiter_remove(&f->parts[i].waiter);
		topic_release(b, f->parts[i].topic);
	}
}

/* ---- the answer --------------------------------------------------------- */

/* The bytes of one partition: NULL if there are none, or no memory. */
static struct held_span *
read_part(struct broker *b, struct fetch_part *part, int64_t most, int whole)
{
	struct partition *p = part->partition;
	static struct log_limit limit = {.per_second = 1};
	struct held_span *h = calloc(1, sizeof(*h));
	struct mr_error err;
	int64_t left_out;
	int code;

	if (h == NULL)
		return (NULL);
	code = plog_read(p->log, part->in->fetch_offset, most, whole, &h->span,
	    &err);
	if (code != PLOG_OK) {
		part->out.error_code = partition_error(code);
		/* Clients ask again at once. */
		if (code != PLOG_OUT_OF_RANGE &&
		    log_limit_take(&limit, &left_out))
			log_warn("records could not be read", "topic",
			    p->topic->name, "partition", log_i64(p->index),
			    "offset", log_i64(part->in->fetch_offset), "error",
			    err.message, "left_out", log_i64(left_out));
		free(h);
		return (NULL);
	}
	if (h->span.length == 0) {
		plog_release(p->log, &h->span);
		free(h);
		return (NULL);
	}
	h->partition = p;
	h->broker = b;
	topic_hold(p->topic);
	return (h);
}

static void
fill_part(struct broker *b, struct fetch_part *part, int64_t *left, int first,
    struct span *spans, size_t *count)
{
	struct partition *p = part->partition;
	struct held_span *h;
	int64_t most = part->in->partition_max_bytes;

	part->out.records.at = NULL;
	part->out.records.length = 0;
	if (p == NULL)
		return;
	if (p->topic->retired) {
		part->out.error_code = WIRE_UNKNOWN_TOPIC_OR_PARTITION;
		return;
	}
	partition_hurry(b, p);
	part->out.high_watermark = plog_high(p->log);
	part->out.last_stable_offset = part->out.high_watermark;
	part->out.log_start_offset = plog_start(p->log);
	if (most > *left)
		most = *left;
	if (most < 0)
		most = 0;
	if ((h = read_part(b, part, most, first)) == NULL) {
		if (part->out.error_code != WIRE_NONE)
			part->out.high_watermark = part->out
						       .last_stable_offset =
			    part->out.log_start_offset = -1;
		return;
	}
	part->out.records.length = (int32_t)h->span.length;
	*left -= h->span.length;
	spans[*count].fd = h->span.fd;
	spans[*count].position = h->span.position;
	spans[*count].length = (size_t)h->span.length;
	spans[*count].release = release_span;
	spans[(*count)++].held = h;
}

/* The parts into the topics that they were asked for in. */
static int
arrange(struct request *req, const struct fetch *f,
    struct wire_fetch_response *out)
{
	const struct wire_fetch_request *in = req->body;
	struct wire_fetch_response_topic *t;
	size_t at = 0;
	int32_t i, k, n;

	t = request_take(req, (size_t)in->topics.count * sizeof(*t));
	if ((out->topics.at = t) == NULL)
		return (-1);
	out->topics.count = in->topics.count;
	for (i = 0; i < in->topics.count; i++, t++) {
		n = in->topics.at[i].partitions.count;
		t->topic = in->topics.at[i].topic;
		t->topic_id = in->topics.at[i].topic_id;
		t->partitions.at = request_take(req,
		    (size_t)n * sizeof(*t->partitions.at));
		if (t->partitions.at == NULL)
			return (-1);
		t->partitions.count = n;
		for (k = 0; k < n; k++)
			t->partitions.at[k] = f->parts[at++].out;
	}
	return (0);
}

static void
drop_spans(struct span *spans, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		spans[i].release(spans[i].held);
	free(spans);
}

static void
answer(struct request *req)
{
	const struct wire_fetch_request *in = req->body;
	struct wire_fetch_response out;
	struct broker *b = req->broker;
	struct fetch *f = req->waits_for;
	int64_t left = in->max_bytes;
	struct span *spans;
	size_t i, count = 0;

	if ((spans = calloc(f->count + 1, sizeof(*spans))) == NULL) {
		stop_waiting(b, f);
		request_abandon(req, "out of memory");
		return;
	}
	/*
	 * Answers of tens of megabytes are slower: who reads them waits for a
	 * whole one, and has fresh memory made for it.
	 */
	if (left > b->conf.answer_most)
		left = b->conf.answer_most;
	wire_defaults(wire_fetch_response_layout(), &out);
	for (i = 0; i < f->count; i++)
		fill_part(b, &f->parts[i], &left, count == 0, spans, &count);
	/* What is held by its spans stays; the rest is let go. */
	stop_waiting(b, f);
	if (arrange(req, f, &out) == -1) {
		drop_spans(spans, count);
		return;
	}
	request_answer_spans(req, &out, spans, count);
}

static void
cancel(struct request *req)
{

	stop_waiting(req->broker, req->waits_for);
	request_silent(req);
}

int
fetch_wake(struct request *req)
{
	struct fetch *f = req->waits_for;

	if (f->woken == req->broker->wakes)
		return (0);
	f->woken = req->broker->wakes;
	if (!is_due(f, req->body))
		return (0);
	answer(req);
	return (1);
}

static void
wait_for_records(struct broker *b, struct request *req, struct fetch *f)
{
	const struct wire_fetch_request *in = req->body;
	int64_t wait_ms = in->max_wait_ms;
	struct fetch_part *part;
	size_t i;

	if (wait_ms > UNSETTLED_WAIT_MS &&
	    !request_settled(req, f->count, SETTLES_MS))
		wait_ms = UNSETTLED_WAIT_MS;
	f->waiting = 1;
	for (i = 0; i < f->count; i++) {
		part = &f->parts[i];
		if (part->partition == NULL)
			continue;
		part->topic = part->partition->topic;
		topic_hold(part->topic);
		waiter_add(part->partition, &part->waiter);
		partition_hurry(b, part->partition);
	}
	/* Not a moment less: the turn may be old, and its clock rounds down. */
	request_wait(req, broker_now_ms() + 1 + wait_ms, answer, cancel);
}

static void
refuse(struct request *req, int16_t error)
{
	struct wire_fetch_response out;

	wire_defaults(wire_fetch_response_layout(), &out);
	out.error_code = error;
	request_answer(req, &out);
}

void
handle_fetch(struct broker *b, struct request *req)
{
	const struct wire_fetch_request *in = req->body;
	struct fetch *f;

	if (in->session_epoch > 0) {
		refuse(req, WIRE_FETCH_SESSION_ID_NOT_FOUND);
		return;
	}
	if (count_parts(in) > catalog_partitions_most(b)) {
		refuse(req, WIRE_INVALID_REQUEST);
		return;
	}
	if ((f = begin(b, req)) == NULL)
		return;
	req->waits_for = f;
	if (in->max_wait_ms <= 0 || is_due(f, in))
		answer(req);
	else
		wait_for_records(b, req, f);
}
