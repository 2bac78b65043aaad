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
/* Alertmanager: how often it is told what fires, how many alerts at a time,
 * and how long it is to believe it; four times in a row may fail. */
#define REPEAT_MS 60000
#define REPEAT_MOST 100
#define HOLD_MS 300000

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
    "SELECT seq, retry_ms, attempts FROM deliveries WHERE target = ?1";
#define TO_DELIVER                                                       \
	" FROM transitions AS t"                                         \
	" JOIN alerts AS a ON a.id = t.alert WHERE t.state <> 'pending'" \
	" AND a.fired_ms IS NOT NULL AND t.seq > "
static const char sql_next[] = "SELECT " TRANSITION_COLUMNS ", t.seq" TO_DELIVER
			       "?1 ORDER BY t.seq LIMIT 1";
#define SEQ_COLUMN 18
/* Not one that has yet to be said to fire. */
static const char sql_firing[] =
    "SELECT " TRANSITION_COLUMNS " FROM alerts AS a JOIN transitions AS t"
    " ON t.seq = a.last_seq WHERE a.state = 'firing' AND a.id > ?1"
    " AND a.last_seq <= ?2 ORDER BY a.id LIMIT ?3";
static const char sql_delivered[] =
    "UPDATE deliveries SET seq = ?2, delivered = delivered + 1, attempts = 0,"
    " retry_ms = 0, error = '' WHERE target = ?1 AND seq < ?2";
static const char sql_failed[] =
    "UPDATE deliveries SET failed = failed + 1, attempts = attempts + 1,"
    " retry_ms = ?3 + min(?4 << min(attempts, 16), ?5), error = ?6"
    " WHERE target = ?1 AND seq < ?2";
/* What is wrong with a transition that is due isn't over by that. */
static const char sql_repeated[] =
    "UPDATE deliveries SET attempts = 0, error = '' WHERE target = ?1"
    " AND NOT EXISTS (SELECT 1" TO_DELIVER "deliveries.seq)";
static const char sql_not_repeated[] =
    "UPDATE deliveries SET failed = failed + 1, attempts = attempts + 1,"
    " error = ?2 WHERE target = ?1";

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
	/* Alertmanager: when what fires is next repeated, by the machine's
	 * time, and which alerts have been, up to this id */
	int64_t repeat_ms, repeated;
};

/* How far a target is, as in the file. */
struct progress {
	int64_t seq, retry_ms, attempts;
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

/*
 * Its end is in Alertmanager what it is resolved by, and may not be before its
 * start.  Both are by the records' time, which may be ahead: then it would go
 * on there until then.  While an alert fires, it is what it lapses at, unless
 * it is repeated.
 */
static int64_t
start_of(const struct alert_event *event, int64_t now_ms)
{

	return (event->fired_ms < now_ms ? event->fired_ms : now_ms);
}

static int64_t
end_of(const struct alert_event *event, int64_t now_ms)
{
	const int64_t start_ms = start_of(event, now_ms);

	if (event->resolved_ms == 0)
		return (now_ms + HOLD_MS);
	if (event->resolved_ms > now_ms)
		return (now_ms);
	return (event->resolved_ms > start_ms ? event->resolved_ms : start_ms);
}

static void
write_for_alertmanager(struct json_writer *w, const struct alert_event *event,
    int64_t now_ms)
{
	struct buffer value = {0};

	buffer_add_f64(&value, event->value);
	json_object_open(w);
	write_labels(w, event);
	json_key(w, "annotations");
	json_object_open(w);
	json_member_text(w, "summary", event->summary);
	json_member_text(w, "value", buffer_text(&value));
	json_member_text(w, "fingerprint", event->fingerprint);
	json_object_close(w);
	member_rfc3339(w, "startsAt", start_of(event, now_ms));
	member_rfc3339(w, "endsAt", end_of(event, now_ms));
	json_object_close(w);
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

/* 1, 0 if the target isn't in the file yet, -1. */
static int
find_progress(struct sender *d, struct progress *progress, struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if (d->reader == NULL &&
	    (d->reader = store_open_reader(stream_db_path(d->stream),
		 READ_DEADLINE_MS, err)) == NULL)
		return (-1);
	if ((rows = store_query(d->reader, err, sql_state,
		 store_text(targets[d->target]))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1)
		*progress = (struct progress){store_get_i64(rows, 0),
		    store_get_i64(rows, 1), store_get_i64(rows, 2)};
	store_rows_done(rows);
	return (found);
}

/* Whether a time is yet to come; no further ahead than it was ever meant to
 * be, since clocks are set back. */
static int
is_ahead(int64_t at_ms, int64_t most_ms)
{
	const int64_t wait_ms = at_ms - clock_wall_ms();

	return (wait_ms > 0 && wait_ms <= most_ms);
}

/* What is next: 1 with it, 0 if there is nothing to do now, -1. */
static int
find_next(struct sender *d, struct alert_event *event, int64_t *seq,
    struct mr_error *err)
{
	struct progress progress;
	struct store_rows *rows;
	int found = find_progress(d, &progress, err);

	if (found != 1 || is_ahead(progress.retry_ms, BACKOFF_MOST_MS))
		return (found == -1 ? -1 : 0);
	if ((rows = store_query(d->reader, err, sql_next,
		 store_i64(progress.seq))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		transition_read(rows, event);
		*seq = store_get_i64(rows, SEQ_COLUMN);
	}
	store_rows_done(rows);
	return (found);
}

/* The next alerts of those that fire, after d->repeated, as Alertmanager takes
 * them: how many there are, or -1. */
static int
find_firing(struct sender *d, int64_t seq, struct buffer *body,
    struct mr_error *err)
{
	const int64_t now_ms = clock_wall_ms();
	struct alert_event event;
	struct store_rows *rows;
	struct json_writer w;
	int count = 0, more;

	if ((rows = store_query(d->reader, err, sql_firing,
		 store_i64(d->repeated), store_i64(seq),
		 store_i64(REPEAT_MOST))) == NULL)
		return (-1);
	json_init(&w, body);
	json_array_open(&w);
	for (; (more = store_next(rows, err)) == 1; count++) {
		transition_read(rows, &event);
		write_for_alertmanager(&w, &event, now_ms);
		d->repeated = event.alert_id;
	}
	store_rows_done(rows);
	json_array_close(&w);
	return (more == -1 ? -1 : count);
}

/* The status, or 0 if there was none. */
static int
post(struct sender *d, const char *key, const struct buffer *body,
    struct deliver_outcome *outcome)
{
	struct mr_error err = {0};
	int status = 0;

	if (body->failed)
		mr_error_set(&err, MR_RETRY, "out of memory");
	else if (http_post(&d->url, key, body->data, body->length,
		     deliver_timeout_ms, stop_fd, &status, &err) == 0)
		mr_error_set(&err, MR_RETRY, "%s port %s answered %d",
		    d->url.host, d->url.port, status);
	outcome->delivered = status >= 200 && status <= 299;
	snprintf(outcome->error, sizeof(outcome->error), "%s", err.message);
	return (status);
}

static void
post_transition(struct sender *d, const struct alert_event *event,
    struct deliver_outcome *outcome)
{
	struct buffer body = {0};
	struct json_writer w;

	if (d->target == DELIVER_ALERTMANAGER) {
		json_init(&w, &body);
		json_array_open(&w);
		write_for_alertmanager(&w, event, clock_wall_ms());
		json_array_close(&w);
	} else {
		alert_event_encode(event, &body);
	}
	post(d, event->fingerprint, &body, outcome);
	buffer_free(&body);
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

/* Repeat some alerts that fire; 0, or -1 if it is to end. */
static int
post_firing(struct sender *d, const struct progress *progress, int count,
    const struct buffer *body)
{
	struct deliver_outcome outcome = {.target = d->target, .repeated = 1};
	const int status = post(d, NULL, body, &outcome);

	/* Who doesn't answer is asked again in a while, from the start. */
	if (status == 0)
		d->repeated = 0;
	if (outcome.delivered)
		return (progress->attempts == 0 ? 0 : note(d, &outcome));
	/* What was cut short to stop is no failure. */
	if (pause_for(0))
		return (-1);
	log_warn("alerts that fire weren't repeated", "to", targets[d->target],
	    "alerts", log_i64(count), "error", outcome.error);
	return (note(d, &outcome));
}

/*
 * Alertmanager has alerts in memory, and each until its end alone: if it is
 * time to, tell it again of those that fire, the next of them.  0, or -1 if
 * it is to end.
 */
static int
repeat(struct sender *d)
{
	const int64_t next_ms = clock_wall_ms() + REPEAT_MS;
	struct progress progress;
	struct buffer body = {0};
	struct mr_error err;
	int found, count = 0, result = 0;

	if (d->target != DELIVER_ALERTMANAGER ||
	    is_ahead(d->repeat_ms, REPEAT_MS))
		return (0);
	if ((found = find_progress(d, &progress, &err)) == 1 &&
	    (count = find_firing(d, progress.seq, &body, &err)) > 0)
		result = post_firing(d, &progress, count, &body);
	buffer_free(&body);
	if (found == -1 || count == -1)
		log_warn("alerts that fire can't be repeated", "to",
		    targets[d->target], "error", err.message);
	if (count < REPEAT_MOST)
		d->repeated = 0;
	if (found != 0 && d->repeated == 0)
		d->repeat_ms = next_ms;
	return (result);
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
	if (found == 1 && repeat(d) == -1)
		return (-1);
	if (found == 1)
		found = find_next(d, &event, &outcome.seq, &err);
	if (found == -1) {
		log_warn("alerts can't be delivered", "to", targets[d->target],
		    "error", err.message);
		return (BACKOFF_MS);
	}
	if (found == 0)
		return (IDLE_MS);
	post_transition(d, &event, &outcome);
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
is_configured(enum deliver_target target)
{

	return (
	    deliver_urls[target] != NULL && deliver_urls[target][0] != '\0');
}

static int
forget_target(struct stream *s, enum deliver_target target,
    struct mr_error *err)
{
	const struct store_value name = store_text(targets[target]);
	struct sender d = {.target = target, .stream = s, .turn_fd = -1};
	struct store *st = stream_store(s);
	int64_t seq;
	int found;

	if ((found = store_find(st, err, &seq, sql_state, name)) != 1)
		return (found);
	if ((found = take_turn(&d, err)) == 1)
		found = store_run(st, err, sql_forget, name) == -1 ? -1 : 0;
	if (d.turn_fd != -1)
		close(d.turn_fd);
	return (found);
}

int
deliver_forget(struct stream *s, struct mr_error *err)
{
	int target;

	for (target = 0; target < DELIVER_TARGETS; target++)
		if (!is_configured((enum deliver_target)target) &&
		    forget_target(s, (enum deliver_target)target, err) == -1)
			return (-1);
	return (0);
}

static int
open_target(struct stream *s, enum deliver_target target, struct mr_error *err)
{
	const struct store_value name = store_text(targets[target]);
	struct sender *d = &senders[target];

	*d = (struct sender){.target = target, .stream = s, .turn_fd = -1};
	if (!is_configured(target))
		return (0);
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
				 seq = store_i64(outcome->seq),
				 error = store_text(outcome->error);

	if (outcome->repeated)
		return ((outcome->delivered ?
				store_run(st, err, sql_repeated, target) :
				store_run(st, err, sql_not_repeated, target,
				    error)) == -1 ?
			-1 :
			0);
	if (outcome->delivered)
		return (store_run(st, err, sql_delivered, target, seq) == -1 ?
			-1 :
			0);
	return (store_run(st, err, sql_failed, target, seq, store_i64(now_ms),
		    store_i64(BACKOFF_MS), store_i64(BACKOFF_MOST_MS),
		    error) == -1 ?
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
