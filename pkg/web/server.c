/*
 * server -- threads that take FastCGI requests one at a time.
 *
 * Each thread is named "http-N", is owned by the server, and does this, when
 * it is its turn (pool_internal.h): accept a connection, let libfcgi read a request
 * from it, answer, close (or go on, if the front keeps connections).
 *
 * What one connection's request needs is a visit.  A thread has one, and uses
 * it for one connection after another.  When a handler defers its answer, the
 * visit goes with the request, to be ended by whoever resumes it, and the
 * thread takes another one.
 *
 * Connections are accepted and closed here and not by libfcgi, whose accept
 * can't be woken up for one server of a process, and whose close waits for
 * the other side.  So the library gets a descriptor through ipcFd, is told
 * that the connection is kept, and never sees the listening socket.
 */
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <errno.h>
#include <fcgiapp.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/thread.h"
#include "web/pool_internal.h"
#include "web/web_internal.h"

#include <jansson.h>

#define STACK_BYTES ((size_t)512 * 1024)
#define PEER_TIMEOUT_S 30
#define WARN_EVERY_US INT64_C(1000000)
/* What is read and thrown away behind a body that wasn't wanted. */
#define LEFTOVER_MOST ((size_t)1024 * 1024)
#define DEFERRED_MOST 256 /* and as many visits as threads beside them */
#define SPENT_MOST 64 /* idle ones that keep 18 KiB each for their next use */

struct visit {
	struct web_exchange x; /* first: web_resume gets back to the visit */
	struct visit *next; /* idle ones */
	struct web_server *server;
	FCGX_Request fcgi;
	int spent; /* 1: answered, and libfcgi's memory of it isn't freed yet */
	int fd;
	int keep; /* 1: the connection is kept, and its thread waits */
	int64_t began_us;
	/* Of a deferred one: the handler's return, and web_resume.  Who comes
	 * second ends the visit. */
	atomic_int halves;
	sem_t resumed; /* on a kept connection */
};

struct web_server {
	struct web_table table;
	struct web_pool pool;
	int listen_fd; /* -1: none */
	int stop_fd; /* readable once it stops */
	dev_t dev;
	ino_t ino;
	atomic_int stopping;
	_Atomic int64_t next_warning_us;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	pthread_cond_t returned; /* a visit, when there was none left */
	struct visit *idle; /* these under the lock */
	struct visit
	    *spent; /* idle, and not cleaned yet: they are taken first */
	int64_t visits, idle_visits, spent_visits;
	int64_t running; /* threads */
	int64_t started;
	struct web_worker {
		struct web_server *server;
		struct web_reader reader;
		pthread_t thread;
	} * workers;
};

/* ---- visits ------------------------------------------------------------- */

static void visit_resumed(struct web_exchange *x);

static struct visit *
visit_new(struct web_server *server)
{
	struct visit *v;

	if ((v = calloc(1, sizeof(*v))) == NULL)
		return (NULL);
	if (sem_init(&v->resumed, 0, 0) == -1) {
		free(v);
		return (NULL);
	}
	web_exchange_init(&v->x, &server->table);
	v->x.resume = visit_resumed;
	v->server = server;
	return (v);
}

/*
 * Free what libfcgi allocated for a request.  The thread that takes the next
 * one does, which asks for as much again: its own malloc has it at hand then,
 * and the thread that answers would take turns with it at a lock.
 */
static void
visit_clean(struct visit *v)
{

	if (v->spent)
		FCGX_Free(&v->fcgi, 0);
	v->spent = 0;
}

static void
visit_free(struct visit *v)
{

	visit_clean(v);
	web_exchange_done(&v->x);
	sem_destroy(&v->resumed);
	free(v);
}

/* Under the lock: an idle one, or NULL. */
static struct visit *
visit_pop(struct web_server *server)
{
	struct visit *v;

	if ((v = server->spent) != NULL) {
		server->spent = v->next;
		server->spent_visits--;
	} else if ((v = server->idle) != NULL) {
		server->idle = v->next;
	} else {
		return (NULL);
	}
	server->idle_visits--;
	return (v);
}

/* One for a thread whose own has gone: an idle one, a new one, or the next
 * that comes back. */
static struct visit *
visit_take(struct web_server *server)
{
	struct visit *v;

	pthread_mutex_lock(&server->lock);
	for (;;) {
		if ((v = visit_pop(server)) != NULL)
			break;
		if (server->visits <
			server->table.conf.threads + DEFERRED_MOST &&
		    (v = visit_new(server)) != NULL) {
			server->visits++;
			break;
		}
		pthread_cond_wait(&server->returned, &server->lock);
	}
	pthread_mutex_unlock(&server->lock);
	return (v);
}

/* One for each thread, so that it needn't ask for memory.  0 or -1. */
static int
make_visits(struct web_server *server, struct mr_error *err)
{
	struct visit *v;

	while (server->visits < server->table.conf.threads) {
		if ((v = visit_new(server)) == NULL)
			return (mr_error_set(err, MR_FATAL, "out of memory"));
		v->next = server->idle;
		server->idle = v;
		server->visits++;
		server->idle_visits++;
	}
	return (0);
}

static int
all_is_over(const struct web_server *server)
{

	return (server->running == 0 && server->idle_visits == server->visits);
}

static void
visit_give_back(struct visit *v)
{
	struct web_server *server = v->server;
	struct visit **list;

	pthread_mutex_lock(&server->lock);
	if (server->spent_visits >= SPENT_MOST) {
		pthread_mutex_unlock(&server->lock);
		visit_clean(v);
		pthread_mutex_lock(&server->lock);
	}
	list = v->spent ? &server->spent : &server->idle;
	server->spent_visits += v->spent;
	v->next = *list;
	*list = v;
	server->idle_visits++;
	/* Each for one thread: who was signalled may not have come yet. */
	pthread_cond_signal(&server->returned);
	if (all_is_over(server))
		pthread_cond_signal(&server->ended);
	pthread_mutex_unlock(&server->lock);
}

/* ---- one request -------------------------------------------------------- */

static void
take_params(char **envp, struct web_input *in)
{
	const struct {
		const char *name;
		size_t length;
		const char **value;
	} wanted[] = {
#define WANTED(name, member) {name "=", sizeof(name), &in->member}
	    WANTED("REQUEST_METHOD", method),
	    WANTED("SCRIPT_NAME", script_name),
	    WANTED("REQUEST_URI", request_uri),
	    WANTED("DOCUMENT_URI", document_uri),
	    WANTED("QUERY_STRING", query),
	    WANTED("CONTENT_TYPE", content_type),
	    WANTED("CONTENT_LENGTH", content_length),
	    WANTED("HTTP_IDEMPOTENCY_KEY", idempotency_key),
	    WANTED("HTTP_IF_NONE_MATCH", if_none_match),
	    WANTED("HTTP_ACCEPT", accept),
	    WANTED("HTTP_SEC_FETCH_SITE", fetch_site),
	    WANTED("HTTP_ORIGIN", origin),
	    WANTED("HTTP_HOST", host),
#undef WANTED
	};
	size_t i;

	memset(in, 0, sizeof(*in));
	for (; *envp != NULL; envp++) {
		for (i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
			if (**envp == *wanted[i].name &&
			    strncmp(*envp, wanted[i].name, wanted[i].length) ==
				0) {
				*wanted[i].value = *envp + wanted[i].length;
				break;
			}
		}
	}
}

/*
 * Read exactly ${expected} bytes and the end of the input.  0, or -1 if
 * there were fewer: then this is no request, and gets no answer.
 */
static int
take_body(struct web_exchange *x, FCGX_Stream *in, size_t expected)
{
	char bytes[1024];
	size_t total = 0, kept;
	int n, most;

	while (total <= LEFTOVER_MOST) {
		most = (int)sizeof(bytes);
		if (total < expected && expected - total < sizeof(bytes))
			most = (int)(expected - total);
		if ((n = FCGX_GetStr(bytes, most, in)) > 0) {
			kept = total < expected ? (size_t)n : 0;
			buffer_add(&x->body, bytes, kept);
			total += (size_t)n;
		}
		if (n < most)
			break;
	}
	if (total < expected || FCGX_GetError(in) != 0)
		return (-1);
	if (!x->decided && x->body.failed) {
		web_problem(&x->res, 503, "out of memory");
		x->res.retry_after_s = 1;
		x->decided = 1;
	} else if (!x->decided && total > expected) {
		web_problem(&x->res, expected == 0 ? 411 : 400,
		    "the body is longer than its Content-Length");
		x->decided = 1;
	}
	return (0);
}

static void
put(FCGX_Stream *out, const char *bytes, size_t length)
{
	int n;

	for (; length > 0; bytes += n, length -= (size_t)n) {
		n = length > INT_MAX ? INT_MAX : (int)length;
		if (FCGX_PutStr(bytes, n, out) != n)
			return; /* the other side has left */
	}
}

/* Send the answer.  0, or -1 if there can't be one. */
static int
send_answer(struct visit *v)
{
	struct web_exchange *x = &v->x;

	web_head(x);
	web_count(x, clock_mono_us() - v->began_us);
	if (x->head.failed)
		return (-1);
	put(v->fcgi.out, x->head.data, x->head.length);
	if (!x->head_only && x->res.status != 204 && x->res.status != 304)
		put(v->fcgi.out, buffer_text(&x->res.body), x->res.body.length);
	return (0);
}

enum served { SERVED, DROPPED, HANDED_OVER };

/* Serve the request; HANDED_OVER: the visit is somebody else's by now. */
static enum served
serve_request(struct visit *v)
{
	struct web_exchange *x = &v->x;
	struct web_input input;
	size_t expected;

	take_params(v->fcgi.envp, &input);
	expected = web_begin(x, &input);
	if (take_body(x, v->fcgi.in, expected) == -1)
		return (DROPPED);
	v->began_us = clock_mono_us();
	atomic_store(&v->halves, 0);
	web_answer(x);
	if (x->deferred && atomic_fetch_add(&v->halves, 1) == 0) {
		if (!v->keep)
			return (HANDED_OVER);
		while (sem_wait(&v->resumed) == -1)
			;
	}
	return (send_answer(v) == -1 ? DROPPED : SERVED);
}

/* ---- one connection ----------------------------------------------------- */

/* Wait for a request: 1, or 0 when there won't be one. */
static int
wait_request(const struct web_server *server, int fd, int kept)
{
	struct pollfd fds[2] = {{.fd = fd, .events = POLLIN},
	    {.fd = server->stop_fd}};
	char first;
	int n;

	/* Most often it is there, and to look costs less than to poll. */
	if (recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) == 1)
		return (1);

	/* A kept connection may idle; one just made has something to say. */
	fds[1].events = POLLIN;
	while ((n = poll(fds, 2, kept ? -1 : PEER_TIMEOUT_S * 1000)) == -1 &&
	    errno == EINTR)
		;
	return (n > 0 && fds[0].revents != 0);
}

/* Send what is left of the answer: 0, or -1 if the connection is of no use
 * any more. */
static int
end_request(struct visit *v, enum served served)
{
	int failed = 0;

	v->spent = 1;
	if (served == DROPPED)
		return (-1);
	failed |= FCGX_FClose(v->fcgi.err);
	failed |= FCGX_FClose(v->fcgi.out);
	failed |= FCGX_GetError(v->fcgi.in);
	return (failed != 0 ? -1 : 0);
}

static void
visit_resumed(struct web_exchange *x)
{
	struct visit *v = (struct visit *)x;

	if (atomic_fetch_add(&v->halves, 1) == 0)
		return; /* its thread is still in the handler, and will see */
	if (v->keep) {
		sem_post(&v->resumed);
		return;
	}
	(void)end_request(v, send_answer(v) == -1 ? DROPPED : SERVED);
	close(v->fd);
	visit_give_back(v);
}

/* Serve a connection: 0, or -1 if the visit went with a deferred request. */
static int
serve_connection(struct visit *v, struct web_reader *reader, int fd)
{
	const struct timeval tv = {.tv_sec = PEER_TIMEOUT_S};
	struct web_server *server = v->server;
	enum served served;
	int keep = 0;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	visit_clean(v);
	FCGX_InitRequest(&v->fcgi, -1, 0);
	v->fcgi.ipcFd = v->fd = fd;
	v->x.reader = reader;
	do {
		if (!wait_request(server, fd, keep))
			break;
		visit_clean(v);
		v->fcgi.keepConnection = 1;
		/* It has closed the connection if this fails. */
		if (FCGX_Accept_r(&v->fcgi) != 0)
			return (0);
		keep = v->keep = v->fcgi.keepConnection;
		if ((served = serve_request(v)) == HANDED_OVER)
			return (-1);
		if (end_request(v, served) == -1)
			break;
	} while (keep && !atomic_load(&server->stopping));
	close(fd);
	return (0);
}

/* ---- threads ------------------------------------------------------------ */

/* Say so, but not for each thread that tries ten times a second. */
static void
accept_failed(struct web_server *server, int e)
{
	int64_t now_us = clock_mono_us(),
		next_us = atomic_load(&server->next_warning_us);

	if (now_us >= next_us &&
	    atomic_compare_exchange_strong(&server->next_warning_us, &next_us,
		now_us + WARN_EVERY_US))
		log_warn("accepting a connection failed", "listen",
		    server->table.conf.listen, "error", strerror(e));
}

/* The next connection; -1 when the server stops. */
static int
take_connection(struct web_server *server)
{
	const struct timespec pause = {.tv_nsec = 100000000};
	int fd;

	while (
	    (fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC)) == -1) {
		if (atomic_load(&server->stopping))
			return (-1);
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		/* No descriptors or no memory: others may give some back. */
		accept_failed(server, errno);
		nanosleep(&pause, NULL);
	}
	return (fd);
}

static void *
serve(void *arg)
{
	struct web_worker *worker = arg;
	struct web_server *server = worker->server;
	struct visit *v = visit_take(server);
	int64_t place = worker - server->workers;
	int fd;

	web_pool_join(&server->pool);
	while ((fd = take_connection(server)) != -1) {
		web_pool_away(&server->pool, place);
		if (serve_connection(v, &worker->reader, fd) == -1)
			v = visit_take(server);
		web_pool_back(&server->pool, place);
	}
	web_reader_close(&worker->reader);
	visit_give_back(v);
	pthread_mutex_lock(&server->lock);
	server->running--;
	if (all_is_over(server))
		pthread_cond_signal(&server->ended);
	pthread_mutex_unlock(&server->lock);
	return (NULL);
}

/* How many processors this process may use. */
static int64_t
processors(void)
{
	cpu_set_t set;

	/* It fails where there are more than the set can name. */
	if (sched_getaffinity(0, sizeof(set), &set) == -1)
		return (CPU_SETSIZE);
	return (CPU_COUNT(&set));
}

static int
start_threads(struct web_server *server, struct mr_error *err)
{
	struct web_worker *worker;
	char name[16];
	int e = 0;

	pthread_mutex_lock(&server->lock);
	while (server->started < server->table.conf.threads) {
		worker = &server->workers[server->started];
		worker->server = server;
		snprintf(name, sizeof(name), "http-%d", (int)server->started);
		if ((e = thread_start(&worker->thread, name, STACK_BYTES, serve,
			 worker)) != 0)
			break;
		server->started++;
		server->running++;
	}
	pthread_mutex_unlock(&server->lock);
	return (e == 0 ?
		0 :
		mr_error_set(err, MR_FATAL, "pthread_create: %s", strerror(e)));
}

/* Once a process, and without leaving libfcgi's handler for SIGUSR1. */
static void
init_libraries(void)
{
	struct sigaction usr1, pipe;
	uint32_t seed = 0;

	sigaction(SIGUSR1, NULL, &usr1);
	sigaction(SIGPIPE, NULL, &pipe);
	FCGX_Init();
	sigaction(SIGUSR1, &usr1, NULL);
	sigaction(SIGPIPE, &pipe, NULL);
	while (seed == 0)
		id_random_bytes(&seed, sizeof(seed));
	json_object_seed(seed);
}

struct web_server *
web_start(const struct web_conf *conf, struct mr_error *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct web_server *server;

	pthread_once(&once, init_libraries);
	if ((server = calloc(1, sizeof(*server))) == NULL) {
		mr_error_set(err, MR_FATAL, "out of memory");
		return (NULL);
	}
	server->listen_fd = -1;
	pthread_mutex_init(&server->lock, NULL);
	pthread_cond_init(&server->ended, NULL);
	pthread_cond_init(&server->returned, NULL);
	if ((server->stop_fd = eventfd(0, EFD_CLOEXEC)) == -1) {
		mr_error_set(err, MR_FATAL, "eventfd: %s", strerror(errno));
		goto fail;
	}
	if (conf->threads < 1 || conf->threads > 256) {
		mr_error_set(err, MR_REJECT,
		    "a server has 1 to 256 threads, not %lld",
		    (long long)conf->threads);
		goto fail;
	}
	if (web_table_init(&server->table, conf, err) == -1)
		goto fail;
	if (conf->listen == NULL)
		return (server);
	if ((server->workers = calloc((size_t)conf->threads,
		 sizeof(*server->workers))) == NULL) {
		mr_error_set(err, MR_FATAL, "out of memory");
		goto fail;
	}
	if (make_visits(server, err) == -1)
		goto fail;
	if ((server->listen_fd = web_listen(conf->listen, &server->dev,
		 &server->ino, err)) == -1)
		goto fail;
	if (web_pool_init(&server->pool, conf->threads, processors(),
		server->listen_fd, server->stop_fd, err) == -1)
		goto fail;
	if (start_threads(server, err) == -1)
		goto fail;
	return (server);

fail:
	(void)web_stop(server, 1000);
	return (NULL);
}

int
web_stop(struct web_server *server, int64_t drain_ms)
{
	const uint64_t one = 1;
	struct timespec until;
	struct visit *v;
	int64_t i;
	int over;

	if (server == NULL)
		return (0);
	atomic_store(&server->stopping, 1);
	if (server->listen_fd != -1) {
		web_unlisten(server->table.conf.listen, server->dev,
		    server->ino);
		/* What has connected is still accepted, then accept fails. */
		(void)shutdown(server->listen_fd, SHUT_RD);
		(void)!write(server->stop_fd, &one, sizeof(one));
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += drain_ms / 1000;
	until.tv_nsec += drain_ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&server->lock);
	while (!all_is_over(server) &&
	    pthread_cond_clockwait(&server->ended, &server->lock,
		CLOCK_MONOTONIC, &until) != ETIMEDOUT)
		;
	over = all_is_over(server);
	pthread_mutex_unlock(&server->lock);
	if (!over)
		return (-1);
	for (i = 0; i < server->started; i++)
		pthread_join(server->workers[i].thread, NULL);
	if (server->listen_fd != -1)
		close(server->listen_fd);
	if (server->stop_fd != -1)
		close(server->stop_fd);
	while ((v = visit_pop(server)) != NULL)
		visit_free(v);
	pthread_cond_destroy(&server->returned);
	pthread_cond_destroy(&server->ended);
	pthread_mutex_destroy(&server->lock);
	web_pool_done(&server->pool);
	free(server->workers);
	free(server);
	return (0);
}

/* ---- settings ----------------------------------------------------------- */

const struct config_option *
web_options(struct web_conf *conf)
{
	static struct config_option options[] = {
	    {.name = "fcgi",
		.kind = CONFIG_TEXT,
		.help = "where to serve HTTP over FastCGI: unix:PATH or "
			"HOST:PORT (default: nowhere)",
		.group = "HTTP"},
	    {.name = "http-threads",
		.kind = CONFIG_INT,
		.fallback = "16",
		.least = 1,
		.most = 256,
		.help = "requests worked on at the same time; up to 256 more "
			"wait for their commits"},
	    {.name = "read-deadline-ms",
		.kind = CONFIG_DURATION,
		.fallback = "2s",
		.least = 1,
		.most = 600000,
		.help = "how long one query of a GET may take"},
	    {.name = NULL},
	};

	options[0].target = &conf->listen;
	options[1].target = &conf->threads;
	options[2].target = &conf->read_deadline_ms;
	return (options);
}
