/*
 * connection -- sockets, requests in their order, and answers.
 *
 * A connection's requests are answered in the order in which they came.  One
 * is worked on at a time, except that produce requests may follow one another
 * before the first is answered: they share a disk flush.  What can't be worked
 * on yet isn't read.  For the loop's thread only.
 */
#ifndef MR_BROKER_CONNECTION_H
#define MR_BROKER_CONNECTION_H

#include "broker/internal.h"

enum request_state {
	REQUEST_NEW, /* read, not worked on */
	REQUEST_BUSY, /* will be answered */
	REQUEST_ANSWERED /* waits to be written */
};

/* Bytes of an answer that come from a file. */
struct span {
	int fd;
	int64_t position;
	size_t length;
	void (*release)(void *held); /* NULL: nothing is held */
	void *held;
};

struct request {
	struct request *next; /* of its connection */
	struct connection *conn; /* NULL: it was closed meanwhile */
	struct broker *broker;
	enum request_state state;
	int version;
	struct wire_header header;
	uint8_t *frame;
	size_t frame_size;
	size_t counted; /* its bytes in the broker's memory */
	struct wire_arena arena;
	void *body; /* as header.api's request layout has it */

	/* Set while it waits; called when its connection is closed, and then
	 * gives up waiting. */
	void (*cancel)(struct request *req);
	int64_t deadline_ms; /* INT64_MAX: none */
	void (*overdue)(struct request *req); /* the deadline has passed */
	struct request *waiting_next, *waiting_prev;
	int waiting;
	void *waits_for; /* the handler's */
	int64_t began_us;

	/* The answer.  With it, what was asked is gone. */
	int64_t answered_ms;
	struct buffer out;
	struct wire_splices splices;
	struct span *spans; /* one for each splice */
	size_t span_count;
	size_t written; /* of the part at hand */
	size_t part; /* even: of the buffer, odd: a span */
};

/* connection_accept -- take all that wait at a listening socket. */
void connection_accept(struct broker *b, int listen_fd);
/* connection_event -- what epoll says of it. */
void connection_event(struct broker *b, struct connection *conn,
    uint32_t events);
/* connections_turn -- the end of a turn: work, write, free. */
void connections_turn(struct broker *b);
/* connections_overdue -- answer what has waited for as long as it may. */
void connections_overdue(struct broker *b);
/* connections_idle -- close what nobody uses, and who holds up others. */
void connections_idle(struct broker *b);
/* connections_drain -- stop reading; connections_busy: 1 while there are
 * records to be flushed or answers to be written. */
void connections_drain(struct broker *b);
int connections_busy(const struct broker *b);
void connections_close(struct broker *b);

/*
 * request_take -- memory that lives as long as the request; zeroed.  NULL: the
 * request was given up (the caller just returns).
 */
void *request_take(struct request *req, size_t size);
/* request_text -- likewise a copy of a string, with its NUL; null is empty. */
char *request_text(struct request *req, struct wire_string s);
/*
 * request_answer -- with a value of the API's response layout, which is
 * written out at once.  request_answer_spans gives the bytes for its records
 * as well, which it takes.
 */
void request_answer(struct request *req, const void *response);
void request_answer_spans(struct request *req, const void *response,
    struct span *spans, size_t count);
/* request_silent -- there is to be no answer. */
void request_silent(struct request *req);
/* request_abandon -- it can't be answered: close its connection. */
void request_abandon(struct request *req, const char *why);
/* request_drop_frame -- what was asked isn't looked at any more, but for what was
 * taken from it. */
void request_drop_frame(struct request *req);
/* request_wait -- until answered, cancelled or overdue. */
void request_wait(struct request *req, int64_t deadline_ms,
    void (*overdue)(struct request *), void (*cancel)(struct request *));
/*
 * request_settled -- note that this fetch, which is about to wait, names so many
 * partitions (at least one): 0 for ${ms} milliseconds after its connection
 * first named more than ever before; else 1, and if that was closed.
 */
int request_settled(struct request *req, size_t partitions, int64_t ms);
const char *request_peer_host(const struct request *req);
/* Where the client reached us: what Metadata is to say. */
void request_local(const struct request *req, const char **host, int32_t *port);

#endif
