#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/http.h"

#include "alerts.h"
#include "deliver.h"

#define IDLE_MS 250 /* how often the file is looked at for more */
#define TURN_MS 1000 /* how often another instance's end is looked for */
#define BACKOFF_MS 1000
#define BACKOFF_MOST_MS 60000
#define NOTE_DEADLINE_MS 5000
#define READ_DEADLINE_MS 5000
#define HOLD_MS INT64_C(2592000000) /* Alertmanager: until it is resolved */

const char *deliver_urls[DELIVER_TARGETS];
int64_t deliver_timeout_ms;

static const char *const targets[DELIVER_TARGETS] = {
    [DELIVER_WEBHOOK] = "webhook",
    [DELIVER_ALERTMANAGER] = "alertmanager",
};

static const char sql_begin[] =
    "INSERT INTO deliveries (target, seq) SELECT ?1, seq FROM alerts_state"
    " WHERE TRUE ON CONFLICT (target) DO NOTHING";
static const char sql_forget[] = "DELETE FROM deliveries WHERE target = ?1";
static const char sql_state[] =
    "SELECT seq, retry_ms FROM deliveries WHERE target = ?1";
static const char sql_next[] =
    "SELECT " TRANSITION_COLUMNS ", t.seq FROM transitions AS t"
    " JOIN alerts AS a ON a.id = t.alert WHERE t.seq > ?1"
    " AND t.state <> 'pending' AND a.fired_ms IS NOT NULL"
    " ORDER BY t.seq LIMIT 1";
#define SEQ_COLUMN 18
static const char sql_delivered[] =
    "UPDATE deliveries SET seq = ?2, delivered = delivered + 1, attempts = 0,"
    " retry_ms = 0, error = '' WHERE target = ?1 AND seq < ?2";
static const char sql_failed[] =
    "UPDATE deliveries SET failed = failed + 1, attempts = attempts + 1,"
    " retry_ms = ?3 + min(?4 << min(attempts, 16), ?5), error = ?6"
    " WHERE target = ?1 AND seq < ?2";

/* A target's thread and what it alone uses. */
struct sender {
	enum deliver_target target;
	struct http_url url;
	pthread_t thread;
	int running;
	struct stream *stream;
	struct store *reader; /* NULL: not open yet */
	int turn_fd; /* of "<db>.deliver"; -1: not open yet */
	int turn; /* 1: it is this instance that delivers */
};

static struct sender senders[DELIVER_TARGETS];
static int stop_fd = -1; /* readable when the threads are to end */

/* ---- what is posted -------------------------------------------------------------- */

static void
member_rfc3339(struct json_writer *w, const char *name, int64_t ms)
{
	char text[25];

	clock_rfc3339(ms, text);
	json_member_text(w, name, text);
}

/* An alert as Alertmanager's API (v2, POST /api/v2/alerts) takes it. */
static void
write_labels(struct json_writer *w, const struct alert_event *event)
{

	json_key(w, "labels");
	json_object_open(w);
	json_member_text(w, "alertname", event->rule);
	json_member_text(w, "severity", event->severity);
	json_member_text(w, "kind", event->kind);
	if (event->service[0] != '\0') {
		json_member_text(w, "service", event->service);
	} else {
		json_member_text(w, "host", event->host);
		json_member_text(w, "metric", event->metric);
	}
	json_object_close(w);
}

static void
encode_for_alertmanager(const struct alert_event *event, int64_t now_ms,
    struct buffer *out)
{
	struct buffer value = {0};
	struct json_writer w;

	buffer_add_f64(&value, event->value);
	json_init(&w, out);
	json_array_open(&w);
	json_object_open(&w);
	write_labels(&w, event);
	json_key(&w, "annotations");
	json_object_open(&w);
	json_member_text(&w, "summary", event->summary);
	json_member_text(&w, "value", buffer_text(&value));
	json_member_text(&w, "fingerprint", event->fingerprint);
	json_object_close(&w);
	member_rfc3339(&w, "startsAt", event->fired_ms);
	/* Without an end it would take it for resolved in five minutes. */
	member_rfc3339(&w, "endsAt",
	    event->resolved_ms != 0 ? event->resolved_ms : now_ms + HOLD_MS);
	json_object_close(&w);
	json_array_close(&w);
	buffer_free(&value);
}

/* ---- the thread ------------------------------------------------------------------- */

/* 1 if it is to end. */
static int
pause_for(int64_t ms)
{
	struct pollfd fd = {.fd = stop_fd, .events = POLLIN};

	return (poll(&fd, 1, (int)ms) == 1);
}

/* Whether this instance is the one that delivers: 1, 0 or -1. */
static int
take_turn(struct sender *d, struct mr_error *err)
{
	struct flock lock = {.l_type = F_WRLCK,
	    .l_whence = SEEK_SET,
	    .l_start = d->target,
	    .l_len = 1};
	char path[PATH_MAX];

	if (d->turn)
		return (1);
	if (d->turn_fd == -1) {
		snprintf(path, sizeof(path), "%.*s.deliver",
		    (int)sizeof(path) - 10, stream_db_path(d->stream));
		d->turn_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0660);
		if (d->turn_fd == -1)
			return (mr_error_set(err, MR_RETRY,
			    "could not open %.100s: %s", path,
			    strerror(errno)));
	}
	/* Of the open file, so that another thread's end doesn't drop it. */
	if (fcntl(d->turn_fd, F_OFD_SETLK, &lock) == 0)
		d->turn = 1;
	else if (errno != EAGAIN && errno != EACCES)
		return (mr_error_set(err, MR_RETRY,
		    "could not lock %.100s.deliver: %s",
		    stream_db_path(d->stream), strerror(errno)));
	return (d->turn);
}

/* What is next: 1 with it, 0 if there is nothing to do now, -1. */
static int
find_next(struct sender *d, struct alert_event *event, int64_t *seq,
    struct mr_error *err)
{
	const int64_t now_ms = clock_wall_ms();
	struct store_rows *rows;
	int64_t done = 0, wait_ms = 0;
	int found;

	if (d->reader == NULL &&
	    (d->reader = store_open_reader(stream_db_path(d->stream),
		 READ_DEADLINE_MS, err)) == NULL)
		return (-1);
	if ((rows = store_query(d->reader, err, sql_state,
		 store_text(targets[d->target]))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		done = store_get_i64(rows, 0);
		wait_ms = store_get_i64(rows, 1) - now_ms;
	}
	store_rows_done(rows);
	/* No longer than it was ever meant to be: clocks are set back. */
	if (found != 1 || (wait_ms > 0 && wait_ms <= BACKOFF_MOST_MS))
		return (found == -1 ? -1 : 0);
	if ((rows = store_query(d->reader, err, sql_next, store_i64(done))) ==
	    NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		transition_read(rows, event);
		*seq = store_get_i64(rows, SEQ_COLUMN);
	}
	store_rows_done(rows);
	return (found);
}

static void
post(struct sender *d, const struct alert_event *event,
    struct deliver_outcome *outcome)
{
	struct buffer body = {0};
	struct mr_error err = {0};
	int status = 0;

	if (d->target == DELIVER_ALERTMANAGER)
		encode_for_alertmanager(event, clock_wall_ms(), &body);
	else
		alert_event_encode(event, &body);
	if (body.failed)
		mr_error_set(&err, MR_RETRY, "out of memory");
	else if (http_post(&d->url, event->fingerprint, body.data, body.length,
		     deliver_timeout_ms, stop_fd, &status, &err) == 0)
		mr_error_set(&err, MR_RETRY, "%s port %s answered %d",
		    d->url.host, d->url.port, status);
	buffer_free(&body);
	outcome->delivered = status >= 200 && status <= 299;
	snprintf(outcome->error, sizeof(outcome->error), "%s", err.message);
}

/* Have it noted, however long the writer is busy: 0, or -1 if it is to end. */
static int
note(struct sender *d, const struct deliver_outcome *outcome)
{
	const struct stream_call call = {.kind = ALERTS_DELIVER,
	    .input = outcome,
	    .deadline_ms = NOTE_DEADLINE_MS};
	struct stream_answer answer;
	struct mr_error err;
	int status;

	for (;;) {
		answer = (struct stream_answer){.status = 200};
		status = stream_call(d->stream, &call, &answer, &err);
		buffer_free(&answer.body);
		if (status == 0)
			return (0);
		if (err.kind == MR_FATAL || pause_for(IDLE_MS))
			return (-1);
	}
}

/* Deliver what is next: how long to wait, or -1 if it is to end. */
static int64_t
work(struct sender *d)
{
	struct deliver_outcome outcome = {.target = d->target};
	struct alert_event event = {0};
	struct mr_error err;
	int found;

	if ((found = take_turn(d, &err)) == 0)
		return (TURN_MS);
	if (found == 1)
		found = find_next(d, &event, &outcome.seq, &err);
	if (found == -1) {
		log_warn("alerts can't be delivered", "to", targets[d->target],
		    "error", err.message);
		return (BACKOFF_MS);
	}
	if (found == 0)
		return (IDLE_MS);
	post(d, &event, &outcome);
	/* What was cut short to stop is no failure. */
	if (!outcome.delivered && pause_for(0))
		return (-1);
	if (!outcome.delivered)
		log_warn("an alert wasn't delivered yet", "to",
		    targets[d->target], "fingerprint", event.fingerprint,
		    "error", outcome.error);
	return (note(d, &outcome));
}

static void *
run(void *arg)
{
	struct sender *d = arg;
	int64_t wait_ms;

	do
		wait_ms = work(d);
	while (wait_ms != -1 && !pause_for(wait_ms));
	store_close(d->reader);
	if (d->turn_fd != -1)
		close(d->turn_fd);
	return (NULL);
}

/* ---- the service's part ------------------------------------------------------------ */

static int
start(struct sender *d, struct mr_error *err)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&d->thread, NULL, run, d);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0)
		return (mr_error_set(err, MR_FATAL,
		    "could not start a thread for deliveries: %s",
		    strerror(error)));
	d->running = 1;
	return (0);
}

/* Where a target listens; Alertmanager's path is known. */
static int
read_url(struct sender *d, struct mr_error *err)
{
	char text[HTTP_PATH_SIZE];
	const char *url = deliver_urls[d->target];
	size_t length = strlen(url);

	while (d->target == DELIVER_ALERTMANAGER && length > 0 &&
	    url[length - 1] == '/')
		length--;
	if ((size_t)snprintf(text, sizeof(text), "%.*s%s", (int)length, url,
		d->target == DELIVER_ALERTMANAGER ? "/api/v2/alerts" : "") >=
	    sizeof(text))
		return (mr_error_set(err, MR_FATAL, "--%s: is too long",
		    targets[d->target]));
	if (http_url_parse(text, &d->url, err) == 0)
		return (0);
	err->kind = MR_FATAL;
	return (mr_error_wrap(err, "--%s", targets[d->target]));
}

static int
open_target(struct stream *s, enum deliver_target target, struct mr_error *err)
{
	const struct store_value name = store_text(targets[target]);
	struct sender *d = &senders[target];

	*d = (struct sender){.target = target, .stream = s, .turn_fd = -1};
	if (deliver_urls[target] == NULL || deliver_urls[target][0] == '\0')
		return (
		    store_run(stream_store(s), err, sql_forget, name) == -1 ?
			-1 :
			0);
	if (read_url(d, err) == -1 ||
	    store_run(stream_store(s), err, sql_begin, name) == -1)
		return (-1);
	return (start(d, err));
}

int
deliver_open(struct stream *s, struct mr_error *err)
{
	int target;

	if ((stop_fd = eventfd(0, EFD_CLOEXEC)) == -1)
		return (mr_error_set(err, MR_FATAL, "eventfd: %s",
		    strerror(errno)));
	for (target = 0; target < DELIVER_TARGETS; target++)
		if (open_target(s, (enum deliver_target)target, err) == -1)
			return (-1);
	return (0);
}

int
deliver_note(struct store *st, const struct deliver_outcome *outcome,
    int64_t now_ms, struct mr_error *err)
{
	const struct store_value target = store_text(targets[outcome->target]),
				 seq = store_i64(outcome->seq);

	if (outcome->delivered)
		return (store_run(st, err, sql_delivered, target, seq) == -1 ?
			-1 :
			0);
	return (store_run(st, err, sql_failed, target, seq, store_i64(now_ms),
		    store_i64(BACKOFF_MS), store_i64(BACKOFF_MOST_MS),
		    store_text(outcome->error)) == -1 ?
		-1 :
		0);
}

void
deliver_close(void)
{
	const uint64_t one = 1;
	int target;

	if (stop_fd == -1)
		return;
	(void)!write(stop_fd, &one, sizeof(one));
	for (target = 0; target < DELIVER_TARGETS; target++) {
		if (senders[target].running)
			pthread_join(senders[target].thread, NULL);
		senders[target].running = 0;
	}
	close(stop_fd);
	stop_fd = -1;
}
