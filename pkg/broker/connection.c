/*
 * connection -- from bytes to requests, and from answers to bytes.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "broker/connection.h"
#include "broker/internal.h"
#include "broker/measure.h"

#define SENDFILE_MOST ((size_t)1024 * 1024) /* a connection and turn */
#define READ_MOST ((size_t)512 * 1024) /* likewise, about */
#define READ_AHEAD ((size_t)4096) /* where requests are large */
#define OUTSTANDING_MOST 64
#define ACCEPT_PAUSE_MS 1000 /* without descriptors */
#define HOST_SIZE 64
#define ANSWER_LEAST ((int64_t)65536)
#define SPAN_BYTES ((size_t)256) /* with what it holds, about */
#define WAITS_IN ((size_t)65536) /* what may take all the time it asked for */
#define FRAME_LEAST 8 /* key, version and correlation id */

struct connection {
	struct connection *next, *prev;
	struct connection *touched_next; /* to be looked at in this turn */
	int touched;
	struct broker *broker;
	int fd;
	uint32_t events; /* as epoll knows them */
	char host[HOST_SIZE], local_host[HOST_SIZE];
	int port, local_port;
	int64_t active_ms;
	int closed; /* freed at the end of the turn */
	int starved; /* waits for memory */
	size_t fetches_most; /* partitions at once, see request_settled */
	int64_t fetches_most_ms; /* since then */
	int full; /* the socket takes no more for now */

	uint8_t length[4];
	size_t length_have;
	uint8_t *frame; /* being read */
	size_t frame_size, frame_have, frame_capacity;
	size_t counted; /* of the frame, in the broker's memory */
	int64_t counted_ms; /* since when */

	struct request *first, **last;
	struct request *next_new; /* the first that isn't worked on */
	int outstanding;
};

static struct log_limit malformed = {.per_second = 5};

static void
log_trouble(struct connection *conn, const char *message, const char *why)
{
	int64_t left_out;

	if (!log_limit_take(&malformed, &left_out))
		return;
	log_warn(message, "client", conn->host, "port", log_i64(conn->port),
	    "reason", why, "left_out", log_i64(left_out));
}

static void
touch(struct connection *conn)
{
	struct broker *b = conn->broker;

	if (conn->touched)
		return;
	conn->touched = 1;
	conn->touched_next = b->touched;
	b->touched = conn;
}

static void
touch_all(struct broker *b)
{
	struct connection *conn;

	for (conn = b->connections; conn != NULL; conn = conn->next)
		touch(conn);
}

/* ---- memory ------------------------------------------------------------- */

/* What is counted of something is another size from now on. */
static void
count(struct broker *b, size_t *counted, size_t size)
{

	b->memory += (int64_t)size - (int64_t)*counted;
	if (size < *counted)
		b->gave_back = 1;
	*counted = size;
	measure_memory(b->memory);
}

/* Half of it is taken: what nobody has to read is left in the sockets. */
static int
is_short(const struct broker *b)
{

	return (b->memory > b->conf.memory_most / 2);
}

/*
 * How large an answer may be: what a request repeats, its answer repeats with all
 * that belongs to it.  Twice the limit is the most that there is of all of them,
 * but for small ones.
 */
static size_t
room_for_answer(const struct broker *b)
{
	int64_t room = 2 * b->conf.memory_most - b->memory;

	if (room < ANSWER_LEAST)
		return (ANSWER_LEAST);
	return ((size_t)(room < INT32_MAX ? room : INT32_MAX));
}

/* ---- requests ----------------------------------------------------------- */

static void
stop_waiting(struct request *req)
{
	struct broker *b = req->broker;

	if (!req->waiting)
		return;
	if (req->waiting_prev != NULL)
		req->waiting_prev->waiting_next = req->waiting_next;
	else
		b->waiting = req->waiting_next;
	if (req->waiting_next != NULL)
		req->waiting_next->waiting_prev = req->waiting_prev;
	req->waiting_next = req->waiting_prev = NULL;
	req->waiting = 0;
}

static void
request_free(struct request *req)
{
	size_t i;

	stop_waiting(req);
	for (i = 0; i < req->span_count; i++)
		if (req->spans[i].release != NULL)
			req->spans[i].release(req->spans[i].held);
	free(req->spans);
	wire_splices_free(&req->splices);
	buffer_free(&req->out);
	wire_arena_clear(&req->arena);
	count(req->broker, &req->counted, 0);
	free(req->frame);
	free(req);
}

void
request_wait(struct request *req, int64_t deadline_ms,
    void (*overdue)(struct request *), void (*cancel)(struct request *))
{
	struct broker *b = req->broker;

	req->cancel = cancel;
	req->overdue = overdue;
	req->deadline_ms = deadline_ms;
	if (overdue == NULL || req->waiting)
		return;
	req->waiting = 1;
	req->waiting_prev = NULL;
	req->waiting_next = b->waiting;
	if (b->waiting != NULL)
		b->waiting->waiting_prev = req;
	b->waiting = req;
	if (deadline_ms < b->deadline_ms)
		b->deadline_ms = deadline_ms;
}

void
request_drop_frame(struct request *req)
{

	free(req->frame);
	req->frame = NULL;
	req->frame_size = 0;
	req->body = NULL;
}

/* The answer takes memory for as long as its reader takes time. */
static void
keep_answer_only(struct request *req)
{

	wire_arena_clear(&req->arena);
	request_drop_frame(req);
	count(req->broker, &req->counted,
	    sizeof(*req) + req->out.capacity + req->span_count * SPAN_BYTES);
}

/* Answered: it stays until it is written, or goes if nobody waits for it. */
static void
answered(struct request *req)
{

	stop_waiting(req);
	req->cancel = NULL;
	req->state = REQUEST_ANSWERED;
	req->answered_ms = req->broker->now_ms;
	if (req->conn != NULL && !req->conn->closed)
		keep_answer_only(req);
	if (req->header.api != NULL)
		measure_request(req->header.api->key,
		    clock_mono_us() - req->began_us);
	if (req->conn == NULL)
		request_free(req);
	else
		touch(req->conn);
}

void
request_silent(struct request *req)
{

	buffer_free(&req->out);
	answered(req);
}

void
request_answer_spans(struct request *req, const void *response,
    struct span *spans, size_t count)
{
	const struct wire_api *api = req->header.api;
	size_t start, elsewhere = 0, i;

	req->spans = spans;
	req->span_count = count;
	buffer_init(&req->out, room_for_answer(req->broker));
	start = wire_response_begin(&req->header, &req->out);
	wire_write(api->response(), req->version, api->flexible_from, response,
	    &req->out, &req->splices);
	for (i = 0; i < req->splices.count; i++)
		elsewhere += req->splices.list[i].length;
	wire_response_end(&req->out, start, elsewhere);
	if (req->out.failed || req->splices.count != count) {
		request_abandon(req, "no memory for the answer");
		return;
	}
	answered(req);
}

void
request_answer(struct request *req, const void *response)
{

	request_answer_spans(req, response, NULL, 0);
}

void *
request_take(struct request *req, size_t size)
{
	void *p = wire_arena_take(&req->arena, size);

	if (p == NULL)
		request_abandon(req, "its answer takes too much memory");
	return (p);
}

char *
request_text(struct request *req, struct wire_string s)
{
	size_t length = s.length > 0 ? (size_t)s.length : 0;
	char *text = request_take(req, length + 1);

	if (text != NULL && length > 0)
		memcpy(text, s.at, length);
	return (text);
}

static void
connection_close(struct connection *conn)
{

	if (conn->closed)
		return;
	conn->closed = 1;
	epoll_ctl(conn->broker->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
	close(conn->fd);
	conn->fd = -1;
	touch(conn);
}

void
request_abandon(struct request *req, const char *why)
{
	struct connection *conn = req->conn;

	buffer_free(&req->out);
	if (conn != NULL) {
		log_trouble(conn, "connection closed", why);
		connection_close(conn);
	}
	answered(req);
}

int
request_settled(struct request *req, size_t partitions, int64_t ms)
{
	struct connection *conn = req->conn;
	int64_t now_ms = broker_now_ms();

	if (conn == NULL)
		return (1);
	if (conn->fetches_most < partitions) {
		conn->fetches_most = partitions;
		conn->fetches_most_ms = now_ms;
	}
	return (now_ms - conn->fetches_most_ms >= ms);
}

const char *
request_peer_host(const struct request *req)
{

	return (req->conn != NULL ? req->conn->host : "");
}

void
request_local(const struct request *req, const char **host, int32_t *port)
{

	*host = req->broker->conf.advertise;
	if (*host == NULL)
		*host = req->conn != NULL ? req->conn->local_host : "";
	*port = req->conn != NULL ? req->conn->local_port : 0;
}

/* ---- reading ------------------------------------------------------------ */

/* A whole frame: a request at the end of the line.  0, or -1: close. */
static int
take_frame(struct connection *conn)
{
	struct request *req = calloc(1, sizeof(*req));
	struct mr_error err;

	if (req == NULL)
		return (-1);
	req->broker = conn->broker;
	req->frame = conn->frame;
	req->frame_size = conn->frame_size;
	req->counted = conn->counted;
	count(conn->broker, &req->counted, conn->frame_size + sizeof(*req));
	conn->frame = NULL;
	conn->counted = 0;
	conn->length_have = 0;
	if (wire_header_read(req->frame, req->frame_size, &req->header, &err) ==
	    -1) {
		log_trouble(conn, "connection closed", err.message);
		request_free(req);
		return (-1);
	}
	req->version = req->header.api_version;
	req->conn = conn;
	req->arena.most = (size_t)conn->broker->conf.memory_most;
	*conn->last = req;
	conn->last = &req->next;
	if (conn->next_new == NULL)
		conn->next_new = req;
	conn->outstanding++;
	return (0);
}

/* The length is there: memory for the ${follows} bytes that are, too.  0, or
 * -1: close. */
static int
begin_frame(struct connection *conn, size_t follows)
{
	uint32_t size = (uint32_t)conn->length[0] << 24 |
	    (uint32_t)conn->length[1] << 16 | (uint32_t)conn->length[2] << 8 |
	    conn->length[3];

	if (size < FRAME_LEAST ||
	    (int64_t)size > conn->broker->conf.request_most) {
		log_trouble(conn, "connection closed",
		    size < FRAME_LEAST ? "a request is too short" :
					 "a request is larger than allowed");
		return (-1);
	}
	conn->frame_size = size;
	conn->frame_have = 0;
	conn->frame_capacity = follows < FRAME_LEAST ? FRAME_LEAST : follows;
	if (conn->frame_capacity > size)
		conn->frame_capacity = size;
	if ((conn->frame = malloc(conn->frame_capacity)) == NULL)
		return (-1);
	count(conn->broker, &conn->counted, conn->frame_capacity);
	conn->counted_ms = conn->broker->now_ms;
	return (0);
}

/* Bytes that were read.  0, or -1: close. */
static int
take_bytes(struct connection *conn, const uint8_t *p, size_t n)
{
	size_t part;

	while (n > 0) {
		if (conn->frame == NULL) {
			conn->length[conn->length_have++] = *p++;
			n--;
			if (conn->length_have == 4 &&
			    begin_frame(conn, n) == -1)
				return (-1);
			continue;
		}
		part = conn->frame_size - conn->frame_have;
		if (part > n)
			part = n;
		memcpy(conn->frame + conn->frame_have, p, part);
		conn->frame_have += part;
		p += part;
		n -= part;
		if (conn->frame_have == conn->frame_size &&
		    take_frame(conn) == -1)
			return (-1);
	}
	return (0);
}

/*
 * Is there memory for another request, or for the rest of the one at hand?  Who
 * has all that is taken may take more.  1 if so, and then there is room for
 * the whole frame; 0 if it has to wait; -1: close.
 */
static int
make_room(struct connection *conn)
{
	struct broker *b = conn->broker;
	size_t more = conn->frame == NULL ? 1 :
					    conn->frame_size - conn->counted;
	uint8_t *frame;

	if (more == 0)
		return (1);
	if (b->memory > (int64_t)conn->counted &&
	    b->memory + (int64_t)more > b->conf.memory_most) {
		if (!conn->starved)
			b->starved++;
		conn->starved = 1;
		return (0);
	}
	if (conn->frame == NULL)
		return (1);
	if (conn->frame_size > conn->frame_capacity) {
		frame = realloc(conn->frame, conn->frame_size);
		if (frame == NULL)
			return (-1);
		conn->frame = frame;
		conn->frame_capacity = conn->frame_size;
	}
	count(b, &conn->counted, conn->frame_size);
	conn->counted_ms = b->now_ms;
	return (1);
}

static int
may_read(const struct connection *conn)
{

	return (!conn->closed && !conn->starved && conn->next_new == NULL &&
	    conn->outstanding < OUTSTANDING_MOST && !conn->broker->stopping);
}

/*
 * What a socket has, up to the end of the frame at hand and a little of the next
 * one: the bytes of a large frame are put where they stay.  Who sent one is
 * thought to send another.  1: there may be more, 0: not now, -1: close.
 */
static int
read_once(struct connection *conn, size_t *budget)
{
	struct broker *b = conn->broker;
	struct iovec to[2] = {{NULL, 0}, {b->scratch, BROKER_SCRATCH_SIZE}};
	struct msghdr message = {.msg_iov = to, .msg_iovlen = 2};
	size_t got;
	ssize_t n;

	if (conn->frame != NULL) {
		to[0].iov_base = conn->frame + conn->frame_have;
		to[0].iov_len = conn->frame_size - conn->frame_have;
	}
	if (conn->frame != NULL || conn->frame_size > READ_AHEAD || is_short(b))
		to[1].iov_len = READ_AHEAD;
	n = recvmsg(conn->fd, &message, 0);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return (0);
	if (n <= 0)
		return (-1);
	got = (size_t)n;
	conn->active_ms = b->now_ms;
	measure_received(got);
	*budget -= got < *budget ? got : *budget;
	if (conn->frame != NULL) {
		n = (ssize_t)(got < to[0].iov_len ? got : to[0].iov_len);
		conn->frame_have += (size_t)n;
		got -= (size_t)n;
		if (conn->frame_have == conn->frame_size &&
		    take_frame(conn) == -1)
			return (-1);
	}
	if (take_bytes(conn, b->scratch, got) == -1)
		return (-1);
	return (got == to[1].iov_len || conn->frame != NULL);
}

/* ---- working ------------------------------------------------------------ */

static int
is_produce(const struct request *req)
{

	return (req != NULL && req->header.supported &&
	    req->header.api_key == WIRE_API_Produce);
}

/* Start what may be started now. */
static void
work(struct connection *conn)
{
	struct request *req;

	while (!conn->closed && (req = conn->next_new) != NULL &&
	    (conn->first == req ||
		(is_produce(req) && is_produce(conn->first)))) {
		conn->next_new = req->next;
		req->state = REQUEST_BUSY;
		req->began_us = clock_mono_us();
		request_start(req);
		if (req->state == REQUEST_BUSY)
			count(req->broker, &req->counted,
			    sizeof(*req) + req->frame_size + req->arena.total);
	}
}

/* Read, and start what was read, for as long as the turn has time for it. */
static void
read_some(struct connection *conn)
{
	size_t budget = READ_MOST;
	int rc = 1;

	while (rc == 1 && budget > 0 && may_read(conn)) {
		if ((rc = make_room(conn)) == 1)
			rc = read_once(conn, &budget);
		else if (rc == -1)
			log_trouble(conn, "connection closed", "out of memory");
		if (rc != -1)
			work(conn);
	}
	if (rc == -1)
		connection_close(conn);
}

/* ---- writing ------------------------------------------------------------ */

/* Bytes of the buffer before the next splice. */
static void
buffer_part(const struct request *req, const char **p, size_t *length)
{
	size_t i = req->part / 2, from, to;

	from = i == 0 ? 0 : req->splices.list[i - 1].at;
	to = i < req->splices.count ? req->splices.list[i].at : req->out.length;
	*p = req->out.data + from;
	*length = to - from;
}

/* Is something written at once behind this part of the buffer? */
static int
is_more_to_come(const struct request *req)
{

	return (req->part / 2 < req->span_count ||
	    (req->next != NULL && req->next->state == REQUEST_ANSWERED));
}

/* Part of an answer: how many bytes, 0 for the end of it, -1 errno. */
static ssize_t
write_part(struct connection *conn, struct request *req, size_t *budget)
{
	struct span *span;
	const char *p;
	size_t length;
	off_t position;
	ssize_t n;

	if (req->part % 2 == 0) {
		buffer_part(req, &p, &length);
		if (length == req->written)
			return (0);
		return (send(conn->fd, p + req->written, length - req->written,
		    MSG_NOSIGNAL | (is_more_to_come(req) ? MSG_MORE : 0)));
	}
	span = &req->spans[req->part / 2];
	length = span->length - req->written;
	if (length == 0)
		return (0);
	if (*budget == 0) {
		errno = EAGAIN;
		return (-1);
	}
	if (length > *budget)
		length = *budget;
	position = (off_t)(span->position + (int64_t)req->written);
	n = sendfile(conn->fd, span->fd, &position, length);
	if (n == 0) {
		/* The file is shorter than it was said to be. */
		errno = EIO;
		return (-1);
	}
	if (n > 0)
		*budget -= (size_t)n;
	return (n);
}

/* 1: written whole; 0: later; -1: the connection is gone. */
static int
write_answer(struct connection *conn, struct request *req, size_t *budget)
{
	ssize_t n;

	while (req->part <= req->span_count * 2) {
		n = write_part(conn, req, budget);
		if (n > 0) {
			req->written += (size_t)n;
			conn->active_ms = conn->broker->now_ms;
			measure_sent((size_t)n);
		} else if (n == 0) {
			req->part++;
			req->written = 0;
		} else if (errno == EAGAIN) {
			conn->full = 1;
			return (0);
		} else if (errno != EINTR) {
			if (errno == EIO)
				log_trouble(conn, "connection closed",
				    "a log file could not be read");
			return (-1);
		}
	}
	return (1);
}

static void
write_answers(struct connection *conn)
{
	size_t budget = SENDFILE_MOST;
	struct request *req;
	int rc;

	while (!conn->closed && !conn->full && (req = conn->first) != NULL &&
	    req->state == REQUEST_ANSWERED) {
		if ((rc = write_answer(conn, req, &budget)) == 0)
			return;
		if (rc == -1) {
			connection_close(conn);
			return;
		}
		if ((conn->first = req->next) == NULL)
			conn->last = &conn->first;
		conn->outstanding--;
		request_free(req);
		work(conn);
	}
}

/* ---- their lives -------------------------------------------------------- */

static void
connection_free(struct connection *conn)
{
	struct broker *b = conn->broker;
	struct request *req;

	while ((req = conn->first) != NULL) {
		conn->first = req->next;
		req->conn = NULL;
		if (req->state != REQUEST_BUSY)
			request_free(req);
		else if (req->cancel != NULL)
			req->cancel(req);
	}
	if (conn->starved)
		b->starved--;
	count(b, &conn->counted, 0);
	free(conn->frame);
	if (conn->prev != NULL)
		conn->prev->next = conn->next;
	else
		b->connections = conn->next;
	if (conn->next != NULL)
		conn->next->prev = conn->prev;
	free(conn);
	measure_connections(--b->connection_count);
}

static void
set_events(struct connection *conn)
{
	struct epoll_event event = {.data.ptr = conn};

	if (may_read(conn))
		event.events |= EPOLLIN;
	if (conn->full)
		event.events |= EPOLLOUT;
	if (event.events == conn->events)
		return;
	conn->events = event.events;
	if (epoll_ctl(conn->broker->epoll_fd, EPOLL_CTL_MOD, conn->fd,
		&event) == -1)
		connection_close(conn);
}

void
connection_event(struct broker *b, struct connection *conn, uint32_t events)
{

	(void)b;
	if (conn->closed)
		return;
	touch(conn);
	if ((events & EPOLLOUT) != 0)
		conn->full = 0;
	if ((events & (EPOLLHUP | EPOLLERR)) != 0)
		connection_close(conn);
	else if ((events & EPOLLIN) != 0)
		read_some(conn);
}

/* Connections that waited for memory may try again. */
static void
feed_starved(struct broker *b)
{
	struct connection *conn;

	/* Without more room than last time they would only ask again. */
	if (b->starved == 0 || !b->gave_back)
		return;
	b->gave_back = 0;
	for (conn = b->connections; conn != NULL; conn = conn->next) {
		if (!conn->starved)
			continue;
		conn->starved = 0;
		b->starved--;
		touch(conn);
	}
}

void
connections_turn(struct broker *b)
{
	struct connection *conn;

	feed_starved(b);
	while ((conn = b->touched) != NULL) {
		b->touched = conn->touched_next;
		conn->touched = 0;
		work(conn);
		write_answers(conn);
		if (!conn->closed)
			set_events(conn);
		/* If it was touched again meanwhile, its turn comes. */
		if (conn->closed && !conn->touched)
			connection_free(conn);
	}
	listeners_accept(b,
	    !b->stopping && b->now_ms >= b->accept_at_ms &&
		b->connection_count < b->conf.connections_most);
}

void
connections_overdue(struct broker *b)
{
	struct request *req, *next;

	b->deadline_ms = INT64_MAX;
	for (req = b->waiting; req != NULL; req = next) {
		next = req->waiting_next;
		if (req->deadline_ms <= b->now_ms) {
			stop_waiting(req);
			req->overdue(req);
		} else if (req->deadline_ms < b->deadline_ms) {
			b->deadline_ms = req->deadline_ms;
		}
	}
}

/* In what only other clients end, or its own deadline. */
static int
waits_for_others(const struct request *req)
{

	return (req->header.api_key == WIRE_API_Fetch ||
	    req->header.api_key == WIRE_API_JoinGroup ||
	    req->header.api_key == WIRE_API_SyncGroup);
}

/* Who has had memory for too long that others wait for, and how. */
static const char *
holds_up(const struct connection *conn, int64_t before_ms)
{
	const struct request *req = conn->first;

	if (conn->counted > 0 && !conn->starved && conn->counted_ms < before_ms)
		return ("a request comes too slowly, and others wait for its "
			"memory");
	/* Records take time, and no memory. */
	if (req != NULL && req->state == REQUEST_ANSWERED &&
	    (req->span_count > 0 ? conn->active_ms : req->answered_ms) <
		before_ms)
		return ("an answer is read too slowly, and others wait for its "
			"memory");
	if (req != NULL && req->state == REQUEST_BUSY &&
	    waits_for_others(req) && req->counted > WAITS_IN &&
	    req->began_us / 1000 < before_ms)
		return ("a large request waits, and others wait for its "
			"memory");
	return (NULL);
}

void
connections_idle(struct broker *b)
{
	struct connection *conn;
	const char *why = NULL;

	for (conn = b->connections; conn != NULL; conn = conn->next) {
		if (conn->closed)
			continue;
		if (b->starved > 0)
			why = holds_up(conn, b->now_ms - b->conf.request_ms);
		if (why != NULL)
			log_trouble(conn, "connection closed", why);
		if (why != NULL ||
		    b->now_ms - conn->active_ms > b->conf.idle_ms)
			connection_close(conn);
	}
}

int
connections_busy(const struct broker *b)
{
	const struct connection *conn;
	const struct request *req;

	/* What only waits for others may be cut off, what the keeper has not. */
	for (conn = b->connections; conn != NULL; conn = conn->next)
		for (req = conn->first; req != NULL; req = req->next)
			if (req->state == REQUEST_ANSWERED || is_produce(req) ||
			    (req->state == REQUEST_BUSY &&
				!waits_for_others(req)))
				return (1);
	return (0);
}

void
connections_drain(struct broker *b)
{

	touch_all(b);
}

void
connections_close(struct broker *b)
{
	struct connection *conn, *next;

	b->touched = NULL;
	for (conn = b->connections; conn != NULL; conn = next) {
		next = conn->next;
		conn->touched = 1;
		connection_close(conn);
		connection_free(conn);
	}
}

/* ---- accepting ---------------------------------------------------------- */

static void
name_address(const struct sockaddr_storage *address, char host[HOST_SIZE],
    int *port)
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
	const struct sockaddr_in *four = (const struct sockaddr_in *)address;

	host[0] = '\0';
	*port = 0;
	if (address->ss_family == AF_INET) {
		inet_ntop(AF_INET, &four->sin_addr, host, HOST_SIZE);
		*port = ntohs(four->sin_port);
	} else if (address->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &six->sin6_addr, host, HOST_SIZE);
		*port = ntohs(six->sin6_port);
	}
}

static int
connection_new(struct broker *b, int fd)
{
	struct connection *conn = calloc(1, sizeof(*conn));
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	int on = 1;

	if (conn == NULL)
		return (-1);
	memset(&address, 0, sizeof(address));
	if (getpeername(fd, (struct sockaddr *)&address, &size) == 0)
		name_address(&address, conn->host, &conn->port);
	size = sizeof(address);
	if (getsockname(fd, (struct sockaddr *)&address, &size) == 0)
		name_address(&address, conn->local_host, &conn->local_port);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	conn->broker = b;
	conn->fd = fd;
	conn->events = EPOLLIN;
	conn->active_ms = b->now_ms;
	conn->last = &conn->first;
	if (epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, fd, &event) == -1) {
		free(conn);
		return (-1);
	}
	if ((conn->next = b->connections) != NULL)
		conn->next->prev = conn;
	b->connections = conn;
	measure_connections(++b->connection_count);
	return (0);
}

void
connection_accept(struct broker *b, int listen_fd)
{
	static struct log_limit full = {.per_second = 1};
	int64_t left_out;
	int fd;

	while (b->connection_count < b->conf.connections_most) {
		fd = accept4(listen_fd, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd == -1) {
			if (errno == EMFILE || errno == ENFILE ||
			    errno == ENOMEM) {
				log_warn("connection refused", "reason",
				    strerror(errno));
				b->accept_at_ms = b->now_ms + ACCEPT_PAUSE_MS;
				listeners_accept(b, 0);
			}
			return;
		}
		if (connection_new(b, fd) == -1)
			close(fd);
	}
	if (log_limit_take(&full, &left_out))
		log_warn("as many connections as there may be: more wait",
		    "connections", log_i64(b->connection_count), "left_out",
		    log_i64(left_out));
}
