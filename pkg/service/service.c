/*
 * service -- settings, stream and HTTP put together.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/program.h"
#include "base/signals.h"
#include "kafka/kafka.h"
#include "service/notify.h"
#include "service/process.h"
#include "service/service.h"
#include "service/service_internal.h"

/* Of method, blank and path. */
#define SCOPE_SIZE (WEB_PATH_MOST + 16)

struct settings {
	int64_t command_deadline_ms;
	int64_t poll_ms;
	int topics;
	struct process_conf process;
	struct stream_conf stream;
	struct web_conf web;
};

static struct settings settings;

static const struct config_option topics_options[] = {
    {.name = "topics",
	.kind = CONFIG_BOOL,
	.target = &settings.topics,
	.fallback = "no",
	.help = "list the topics that it reads and writes, and exit"},
    {.name = NULL},
};

static const struct config_option request_options[] = {
    {.name = "command-deadline-ms",
	.kind = CONFIG_DURATION,
	.target = &settings.command_deadline_ms,
	.fallback = "5s",
	.least = 1,
	.most = 600000,
	.help = "how long a write may wait for its turn"},
    {.name = "poll-ms",
	.kind = CONFIG_DURATION,
	.target = &settings.poll_ms,
	.fallback = "1s",
	.least = 100,
	.most = 60000,
	.help = "how often pages are told to ask again"},
    {.name = NULL},
};

/* ---- handlers ----------------------------------------------------------- */

struct stream *
service_stream(const struct web_request *req)
{
	const struct service_running *running = req->arg;

	return (running->stream);
}

/*
 * An answer's body into the response's.  What failed is a problem document:
 * the service's own, or one made of its words.
 */
static void
take_answer(struct web_response *res, const struct stream_answer *answer)
{
	char detail[512];

	res->status = answer->status;
	res->replayed = answer->replayed;
	memcpy(res->location, answer->location, sizeof(res->location));
	if (answer->status < 400)
		return;
	if (buffer_text(&res->body)[0] == '{') {
		res->content_type = "application/problem+json";
		res->no_store = 1;
		return;
	}
	snprintf(detail, sizeof(detail), "%s", buffer_text(&res->body));
	web_problem(res, answer->status, "%s",
	    detail[0] != '\0' ? detail : "the service refused this");
}

/* A command under way, and what goes with it: in the request's room. */
struct write {
	struct web_request *req;
	struct web_response *res;
	struct stream_call call;
	struct stream_answer answer;
	struct stream_pending pending;
	char scope[SCOPE_SIZE];
	max_align_t input[];
};

static void
write_done(void *arg, const struct mr_error *err)
{
	struct write *w = arg;
	struct web_request *req = w->req;

	w->res->body = w->answer.body;
	if (err != NULL)
		web_problem_error(w->res, err);
	else
		take_answer(w->res, &w->answer);
	web_resume(req);
}

void
service_command(struct web_request *req, struct web_response *res, int kind,
    const void *input, size_t size)
{
	const struct service_running *running = req->arg;
	struct mr_error err;
	struct write *w;

	_Static_assert(sizeof(w->answer.location) == sizeof(res->location),
	    "a Location fits");
	if ((w = web_room(req, sizeof(*w) + size)) == NULL) {
		mr_error_set(&err, MR_RETRY, "out of memory");
		web_problem_error(res, &err);
		return;
	}
	w->req = req;
	w->res = res;
	snprintf(w->scope, sizeof(w->scope), "%s %s", req->method, req->path);
	if (size > 0)
		memcpy(w->input, input, size);
	w->call = (struct stream_call){.kind = kind,
	    .input = size > 0 ? w->input : NULL,
	    .scope = w->scope,
	    .key = req->idempotency_key,
	    .body = req->body,
	    .body_size = req->body_size,
	    .deadline_ms = running->command_deadline_ms};
	/* The response's buffer goes there and back, and is used again. */
	buffer_clear(&res->body);
	w->answer = (struct stream_answer){.status = 200, .body = res->body};
	web_defer(req);
	if (stream_submit(running->stream, &w->call, &w->answer, &w->pending,
		write_done, w, &err) == -1)
		write_done(w, &err);
}

static const char sql_database_id[] =
    "SELECT database_id FROM database_ids ORDER BY number DESC LIMIT 1";

int
service_not_modified(struct web_request *req, struct web_response *res,
    int64_t revision)
{
	struct mr_error err = {MR_FATAL, "the file has no database id"};
	struct store_rows *rows;
	uint64_t url = web_hash(web_hash(0, req->path, strlen(req->path) + 1),
	    req->query, strlen(req->query));
	int same = -1;

	/* Of the URL, too: what a client has of another isn't this answer. */
	if ((rows = store_query(req->reader, &err, sql_database_id)) != NULL &&
	    store_next(rows, &err) == 1)
		same = web_not_modified(req, res, "%.8s-%lld-%08x",
		    store_get_text(rows, 0), (long long)revision,
		    (unsigned)url);
	else
		web_problem_error(res, &err);
	store_rows_done(rows);
	return (same);
}

int
service_revision(struct web_request *req, struct web_response *res,
    const char *sql, int64_t *revision)
{
	struct mr_error err;

	*revision = 0;
	if (store_find_values(req->reader, &err, revision, sql, NULL, 0) ==
	    -1) {
		web_problem_error(res, &err);
		return (-1);
	}
	return (service_not_modified(req, res, *revision));
}

/* One column; -1 if it is what JSON has no place for. */
static int
write_column(struct json_writer *w, struct store_rows *rows, int column)
{
	json_key(w, store_column_name(rows, column));
	switch (store_column_type(rows, column)) {
	case STORE_NULL:
		json_nil(w);
		return (0);
	case STORE_I64:
		json_i64(w, store_get_i64(rows, column));
		return (0);
	case STORE_F64:
		json_f64(w, store_get_f64(rows, column));
		return (0);
	case STORE_TEXT:
		json_text(w, store_get_text(rows, column));
		return (0);
	case STORE_BLOB:
		break;
	}
	return (-1);
}

/* 0, or -1 and why. */
static int
write_rows(struct json_writer *w, struct store_rows *rows, struct mr_error *err)
{
	int more, column;

	while ((more = store_next(rows, err)) == 1) {
		json_object_open(w);
		for (column = 0; column < store_column_count(rows); column++)
			if (write_column(w, rows, column) == -1)
				return (mr_error_set(err, MR_FATAL,
				    "column %s is a blob",
				    store_column_name(rows, column)));
		json_object_close(w);
	}
	return (more);
}

void
service_rows_values(struct web_request *req, struct web_response *res,
    const char *name, const char *sql_revision, const char *sql,
    const struct store_value *values, size_t count)
{
	struct store_rows *rows;
	struct json_writer w;
	struct mr_error err;
	int64_t revision;

	if (sql_revision != NULL &&
	    service_revision(req, res, sql_revision, &revision) != 0)
		return;
	if ((rows = store_query_values(req->reader, &err, sql, values,
		 count)) == NULL) {
		web_problem_error(res, &err);
		return;
	}
	json_init(&w, &res->body);
	json_object_open(&w);
	json_key(&w, name);
	json_array_open(&w);
	if (write_rows(&w, rows, &err) == 0) {
		json_array_close(&w);
		json_member_i64(&w, "poll_ms", service_poll_ms());
		json_object_close(&w);
	} else {
		web_problem_error(res, &err);
	}
	store_rows_done(rows);
}

int64_t
service_poll_ms(void)
{
	return (settings.poll_ms);
}

/* ---- what every service has, for tools: nginx passes none of it on ------- */

static void
dead_letter(struct web_request *req, struct web_response *res, int kind)
{
	const char *text = web_param(req, "id");
	struct stream_dead_letter letter = {.id = 0};
	char *end;

	snprintf(letter.database_id, sizeof(letter.database_id), "%s",
	    web_param(req, "database"));
	errno = 0;
	letter.id = strtoll(text, &end, 10);
	if (errno != 0 || *end != '\0' || letter.id < 1)
		web_problem(res, 404, "%.40s is no dead letter's id", text);
	else
		service_command(req, res, kind, &letter, sizeof(letter));
}

static void
post_replay(struct web_request *req, struct web_response *res)
{

	dead_letter(req, res, STREAM_REPLAY_DEAD_LETTER);
}

static void
delete_dead_letter(struct web_request *req, struct web_response *res)
{

	dead_letter(req, res, STREAM_DROP_DEAD_LETTER);
}

static const struct web_route frame_routes[] = {
    {"POST", "/admin/dead-letters/{database}/{id}/replay", post_replay},
    {"DELETE", "/admin/dead-letters/{database}/{id}", delete_dead_letter},
    {NULL, NULL, NULL},
};

static int
ask_ready(void *arg, char *reason, size_t reason_size)
{
	const struct service_running *running = arg;

	return (stream_ready(running->stream, reason, reason_size));
}

static int
ask_alive(void *arg, char *reason, size_t reason_size)
{
	const struct service_running *running = arg;

	return (stream_alive(running->stream, reason, reason_size));
}

/* ---- metrics from the file ----------------------------------------------- */

#define GAUGE_DEADLINE_MS 2000

static const struct service *shown;

/* A scrape's own reader: scrapes are rare, and threads come and go. */
static void
gauges_set(void *arg)
{
	const struct service_gauge *gauge;
	const char *db_path = arg;
	struct mr_error err;
	struct store *st;
	int64_t value;

	if ((st = store_open_reader(db_path, GAUGE_DEADLINE_MS, &err)) ==
	    NULL) {
		log_warn("gauges can't be read", "error", err.message);
		return;
	}
	for (gauge = shown->gauges; gauge != NULL && gauge->name != NULL;
	     gauge++) {
		value = 0;
		if (store_find_values(st, &err, &value, gauge->sql, NULL, 0) ==
		    -1)
			log_warn("a gauge can't be read", "name", gauge->name,
			    "error", err.message);
		else
			metric_set(metrics_gauge(gauge->name, NULL,
				       gauge->help),
			    value);
	}
	if (shown->collect != NULL)
		shown->collect(st);
	store_close(st);
}

void
service_gauges_register(const struct service *svc, const char *db_path)
{

	shown = svc;
	if (svc == NULL || (svc->gauges == NULL && svc->collect == NULL))
		metrics_collector(NULL, NULL);
	else
		metrics_collector(gauges_set, (void *)(uintptr_t)db_path);
}

/* ---- the process -------------------------------------------------------- */

int
service_parse(int argc, char **argv, const struct service *svc,
    struct stream_conf **stream, struct web_conf **web, struct mr_error *err)
{
	static const struct config_option none[] = {{.name = NULL}};
	const struct config_option *const tables[] = {
	    svc->options != NULL ? svc->options : none,
	    svc->common != NULL ? svc->common : none,
	    stream_options(&settings.stream),
	    kafka_options(&settings.stream.kafka),
	    web_options(&settings.web),
	    request_options,
	    process_options(&settings.process),
	    topics_options,
	    NULL,
	};
	const struct config_program program = {
	    .name = svc->stream->name,
	    .summary = svc->summary,
	    .tables = tables,
	    .epilogue = svc->epilogue,
	};

	*stream = &settings.stream;
	*web = &settings.web;
	kafka_topic_declare(svc->topics);
	if (config_parse(argc, argv, &program, err) == -1)
		return (-1);
	if (settings.process.instance == NULL ||
	    settings.process.instance[0] == '\0')
		settings.process.instance = svc->stream->name;
	settings.stream.instance = settings.process.instance;
	settings.stream.kafka.client_id = settings.process.instance;
	return (0);
}

static void
list_topics(const char *const *names)
{

	for (; names != NULL && *names != NULL; names++)
		printf("%s\n", *names);
}

/* --topics: one a line, the dead letters' among them. */
static int
topics(const struct stream_service *stream)
{

	list_topics(stream->inputs);
	list_topics(stream->outputs);
	if (stream->inputs != NULL)
		printf("%s.dead-letter\n", stream->name);
	return (fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

static void
sandbox_reads(void *arg, const char *path)
{

	sandbox_read_beside(arg, path);
}

/* Keep what the settings name, and give up the rest; 0 or -1. */
static int
sandbox(const struct service *svc, struct mr_error *err)
{
	struct sandbox sb;
	char file[4096];

	process_sandbox_init(&sb, &settings.web);
	snprintf(file, sizeof(file), "data/%s.db", svc->stream->name);
	sandbox_write_beside(&sb,
	    settings.stream.db_path != NULL ? settings.stream.db_path :
					      file); /* as in stream.h */
	if (svc->writes != NULL && *svc->writes != NULL)
		sandbox_write_beside(&sb, *svc->writes);
	if (svc->reads != NULL && *svc->reads != NULL)
		sandbox_read_beside(&sb, *svc->reads);
	if (kafka_reads(&settings.stream.kafka, sandbox_reads, &sb, err) == -1)
		return (-1);
	process_sandbox_enter(&sb);
	return (0);
}

static void
say_stopped(const struct stream *s)
{
	int64_t unsent = stream_unsent(s);

	if (unsent == 0)
		log_info("stopped", "drained", "yes");
	else
		log_warn("stopped before all was sent: the next start goes on",
		    "drained", "no", "unsent", log_i64(unsent));
}

/* The stream, with HTTP in front, until it has drained.  0 or -1. */
static int
run(const struct service *svc, int signal_fd, struct mr_error *err)
{
	struct service_running running = {
	    .command_deadline_ms = settings.command_deadline_ms};
	struct web_server *server;
	int status = -1;

	settings.stream.on_progress = notify_starting;
	settings.stream.on_drain = notify_draining;
	/* The file first: never listen without state to answer from. */
	if ((running.stream = stream_new(svc->stream, &settings.stream, err)) ==
	    NULL)
		return (-1);
	settings.web.db_path = stream_db_path(running.stream);
	settings.web.routes = svc->routes;
	settings.web.frame = frame_routes;
	settings.web.ready = ask_ready;
	settings.web.alive = ask_alive;
	settings.web.arg = &running;
	service_gauges_register(svc, settings.web.db_path);
	metrics_watch_disk(settings.web.db_path);
	if ((server = web_start(&settings.web, err)) != NULL) {
		sandbox_listen_no_more();
		notify_ready(settings.web.alive, settings.web.arg);
		status = stream_run(running.stream, signal_fd, err);
	}
	notify_stopping();
	if (web_stop(server, settings.stream.drain_ms) == -1) {
		/* Its threads still use the stream: leave all to the end. */
		if (status == 0)
			mr_error_set(err, MR_FATAL,
			    "requests were cut off after %lld ms",
			    (long long)settings.stream.drain_ms);
		log_error("stopped", "error", err->message);
		_Exit(EXIT_FAILURE);
	}
	service_gauges_register(NULL, NULL);
	if (status == 0)
		say_stopped(running.stream);
	stream_free(running.stream);
	return (status);
}

int
service_main(int argc, char **argv, const struct service *svc)
{
	struct mr_error err = {.kind = MR_OK};
	struct stream_conf *stream;
	struct web_conf *web;
	int signal_fd;

	program_start();
	/* Before any thread, so that all of them leave signals to this fd. */
	if ((signal_fd = signals_open(&err)) == -1 ||
	    service_parse(argc, argv, svc, &stream, &web, &err) == -1) {
		fprintf(stderr, "%s: %s\n", svc->stream->name, err.message);
		return (EXIT_FAILURE);
	}
	if (settings.process.check)
		return (process_check(svc->stream->name, &settings.web));
	if (settings.topics)
		return (topics(svc->stream));
	process_begin(svc->stream->name, &settings.process, &settings.web);
	if ((settings.process.sandbox && sandbox(svc, &err) == -1) ||
	    run(svc, signal_fd, &err) == -1) {
		log_error("stopped", "error", err.message);
		return (EXIT_FAILURE);
	}
	return (EXIT_SUCCESS);
}
