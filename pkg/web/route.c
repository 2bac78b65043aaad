/*
 * route -- from a path to its handler, and the three that all servers have.
 */
#include <sys/stat.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "web/web_internal.h"

#define READER_CHECK_US 1000000

static const char *const status_classes[WEB_STATUS_CLASSES] = {"2xx", "3xx",
    "4xx", "5xx"};

/* ---- what all servers answer -------------------------------------------- */

static void
answer_health(struct web_request *req, struct web_response *res,
    int (*ask)(void *arg, char *reason, size_t reason_size))
{
	struct json_writer w;
	char reason[640] = ""; /* whole: it ends with what to do */
	int well = ask == NULL || ask(req->arg, reason, sizeof(reason));

	res->no_store = 1;
	json_init(&w, &res->body);
	json_object_open(&w);
	json_member_text(&w, "status", well ? "ok" : "unavailable");
	if (!well) {
		res->status = 503;
		web_hide_folder(res->db_path, reason);
		json_member_text(&w, "reason", reason);
	}
	json_object_close(&w);
}

static void
get_livez(struct web_request *req, struct web_response *res)
{
	const struct web_exchange *x = req->internal;

	answer_health(req, res, x->table->conf.alive);
}

static void
get_readyz(struct web_request *req, struct web_response *res)
{
	const struct web_exchange *x = req->internal;

	answer_health(req, res, x->table->conf.ready);
}

static void
get_metrics(struct web_request *req, struct web_response *res)
{
	enum metrics_format format = metrics_format_asked(req->accept);
	const struct web_exchange *x = req->internal;
	char reason[640];

	if (x->table->conf.ready != NULL)
		metric_set(metrics_gauge("millrace_ready", NULL,
			       "1 when /readyz answers 200."),
		    x->table->conf.ready(req->arg, reason, sizeof(reason)));

	res->no_store = 1;
	res->content_type = metrics_content_type(format);
	metrics_write(&res->body, format);
}

const struct web_route web_builtin_routes[] = {
    {"GET", "/livez", get_livez},
    {"GET", "/readyz", get_readyz},
    {"GET", "/metrics", get_metrics},
    {NULL, NULL, NULL},
};

/* ---- the table ---------------------------------------------------------- */

static void
register_endpoint(struct web_endpoint *endpoint)
{
	const struct web_route *route = endpoint->route;
	char labels[256] = "", with_class[300];
	int i;

	if (metrics_label(labels, sizeof(labels), "route",
		route != NULL ? route->pattern : "none") == -1)
		snprintf(labels, sizeof(labels), "route=\"long\"");
	endpoint->seconds =
	    metrics_histogram("millrace_http_request_duration_seconds", labels,
		"Time from a whole request to its answer.");
	metrics_label(labels, sizeof(labels), "method",
	    route != NULL ? route->method : "any");
	for (i = 0; i < WEB_STATUS_CLASSES; i++) {
		snprintf(with_class, sizeof(with_class), "%s", labels);
		metrics_label(with_class, sizeof(with_class), "status",
		    status_classes[i]);
		endpoint->requests[i] =
		    metrics_counter("millrace_http_requests_total", with_class,
			"HTTP requests answered.");
	}
}

static int
add_routes(struct web_table *table, const struct web_route *routes, int most,
    int needs_reader, struct mr_error *err)
{
	struct web_endpoint *endpoint;
	const char *p;
	int params;

	for (; routes != NULL && routes->method != NULL; routes++) {
		if (most-- == 0)
			return (mr_error_set(err, MR_REJECT,
			    "more than %d routes", WEB_ROUTES_MOST));
		for (p = routes->pattern, params = 0; *p != '\0'; p++)
			params += *p == '{';
		if (params > WEB_PARAMS_MOST)
			return (mr_error_set(err, MR_REJECT,
			    "%s has more than %d parameters", routes->pattern,
			    WEB_PARAMS_MOST));
		endpoint = &table->endpoints[table->count++];
		endpoint->route = routes;
		endpoint->needs_reader = needs_reader;
		register_endpoint(endpoint);
	}
	return (0);
}

int
web_table_init(struct web_table *table, const struct web_conf *conf,
    struct mr_error *err)
{

	memset(table, 0, sizeof(*table));
	table->conf = *conf;
	if (add_routes(table, web_builtin_routes, 3, 0, err) == -1 ||
	    add_routes(table, conf->frame, WEB_FRAME_ROUTES_MOST, 0, err) ==
		-1 ||
	    add_routes(table, conf->routes, WEB_ROUTES_MOST,
		conf->db_path != NULL, err) == -1)
		return (-1);
	register_endpoint(&table->endpoints[table->count]);
	return (0);
}

void
web_exchange_init(struct web_exchange *x, const struct web_table *table)
{

	memset(x, 0, sizeof(*x));
	x->table = table;
	buffer_init(&x->body, WEB_BODY_MOST + 1);
}

void
web_exchange_done(struct web_exchange *x)
{

	buffer_free(&x->body);
	buffer_free(&x->head);
	buffer_free(&x->res.body);
	free(x->room);
}

/* ---- finding ------------------------------------------------------------ */

int
web_match(struct web_exchange *x, const char *pattern)
{
	const char *path = x->segments, *end = path + strlen(x->path);
	size_t name_length;
	struct web_param *param;

	x->req.param_count = 0;
	while (*pattern != '\0') {
		if (*pattern != '{') {
			if (path == end ||
			    *path++ != (*pattern == '/' ? '\0' : *pattern))
				return (0);
			pattern++;
			continue;
		}
		name_length = strcspn(pattern, "}") - 1;
		if (*path == '\0' || name_length >= sizeof(x->names[0]) ||
		    x->req.param_count == WEB_PARAMS_MOST)
			return (0);
		param = &x->req.params[x->req.param_count];
		param->value = path;
		param->name = x->names[x->req.param_count];
		memcpy(x->names[x->req.param_count], pattern + 1, name_length);
		x->names[x->req.param_count++][name_length] = '\0';
		path += strlen(path);
		pattern += name_length + 1;
		if (*pattern == '}')
			pattern++;
	}
	return (path == end);
}

const char *
web_param(const struct web_request *req, const char *name)
{
	int i;

	for (i = 0; i < req->param_count; i++) {
		if (strcmp(req->params[i].name, name) == 0)
			return (req->params[i].value);
	}
	assert(0 && "a parameter that the pattern doesn't have");
	return ("");
}

/* "." and ".." name nothing here, however they were written. */
static int
has_dot_segments(const struct web_exchange *x)
{
	const char *segment = x->segments, *end = segment + strlen(x->path);

	for (; segment < end; segment += strlen(segment)) {
		segment++;
		if (strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0)
			return (1);
	}
	return (0);
}

static void
allow_method(struct web_exchange *x, const char *method)
{
	size_t used = strlen(x->allow);

	if (strstr(x->allow, method) != NULL)
		return;
	snprintf(x->allow + used, sizeof(x->allow) - used, "%s%s%s",
	    used > 0 ? ", " : "", method,
	    strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

static const struct web_endpoint *
find_endpoint(struct web_exchange *x)
{
	const struct web_endpoint *endpoint;
	int i;

	x->allow[0] = '\0';
	if (has_dot_segments(x))
		return (NULL);
	for (i = 0; i < x->table->count; i++) {
		endpoint = &x->table->endpoints[i];
		if (!web_match(x, endpoint->route->pattern))
			continue;
		if (strcmp(endpoint->route->method, x->req.method) == 0)
			return (endpoint);
		allow_method(x, endpoint->route->method);
	}
	return (NULL);
}

void
web_reader_close(struct web_reader *reader)
{

	store_close(reader->st);
	reader->st = NULL;
}

/* Open it when first needed, and again when the file was replaced, which is
 * looked for once a second. */
static int
reader_open(struct web_reader *reader, const struct web_conf *conf,
    struct mr_error *err)
{
	int64_t now_us = clock_mono_us();
	struct stat sb;

	if (reader->st != NULL && now_us - reader->checked_us < READER_CHECK_US)
		return (1);
	if (stat(conf->db_path, &sb) == -1) {
		mr_error_set(err, MR_RETRY, "%s can't be read", conf->db_path);
		return (0);
	}
	if (reader->st != NULL &&
	    (sb.st_dev != reader->dev || sb.st_ino != reader->ino))
		web_reader_close(reader);
	if (reader->st == NULL &&
	    (reader->st = store_open_reader(conf->db_path,
		 conf->read_deadline_ms, err)) == NULL)
		return (0);
	reader->dev = sb.st_dev;
	reader->ino = sb.st_ino;
	reader->checked_us = now_us;
	return (1);
}

void
web_answer(struct web_exchange *x)
{
	const struct web_endpoint *endpoint;
	struct mr_error err;

	if (x->decided)
		return;
	if ((endpoint = find_endpoint(x)) == NULL) {
		if (x->allow[0] == '\0') {
			web_problem(&x->res, 404, "there is nothing here");
		} else {
			web_problem(&x->res, 405, "this path takes %s",
			    x->allow);
			x->res.allow = x->allow;
		}
		return;
	}
	x->endpoint = endpoint;
	if (endpoint->needs_reader) {
		if (!reader_open(x->reader, &x->table->conf, &err)) {
			log_warn("opening the file for a reader failed",
			    "error", err.message);
			web_problem(&x->res, 503, "the state can't be read");
			x->res.retry_after_s = 1;
			return;
		}
		x->req.reader = x->reader->st;
	}
	x->req.body = buffer_text(&x->body);
	x->req.body_size = x->body.length;
	endpoint->route->handle(&x->req, &x->res);
}

void
web_defer(struct web_request *req)
{
	struct web_exchange *x = req->internal;

	x->deferred = 1;
}

void
web_resume(struct web_request *req)
{
	struct web_exchange *x = req->internal;

	x->resume(x);
}

void *
web_room(struct web_request *req, size_t size)
{
	struct web_exchange *x = req->internal;

	if (x->room == NULL || x->room_size < size) {
		free(x->room);
		x->room = malloc(size);
		x->room_size = size;
	}
	return (x->room);
}

void
web_count(const struct web_exchange *x, int64_t took_us)
{
	int i = x->res.status / 100 - 2;

	if (i < 0 || i >= WEB_STATUS_CLASSES)
		i = WEB_STATUS_CLASSES - 1;
	metric_add(x->endpoint->requests[i], 1);
	metric_observe_us(x->endpoint->seconds, took_us);
}
