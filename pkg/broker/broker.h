/*
 * broker -- a durable, single-node Kafka broker.
 *
 * One thread runs everything over epoll: it reads requests, appends and
 * answers, and blocks for nothing but a write to the page cache.  Two
 * more threads are its hands: one flushes logs to disk, so that all produce
 * requests of a turn share a flush; one owns the SQLite file with topics,
 * settings and offsets.  Records go from a log to a socket by sendfile.
 *
 * What was acknowledged with acks=all is on disk.  Where that can't be said any
 * more (a flush failed) the process ends.
 */
#ifndef MR_BROKER_H
#define MR_BROKER_H

#include "base/config.h"
#include "base/error.h"
#include "base/sandbox.h"

#define BROKER_LISTEN_MOST 8

enum broker_flush {
	BROKER_FLUSH_REQUEST, /* acks=all waits for the disk */
	BROKER_FLUSH_INTERVAL /* the disk is written to now and then */
};

struct broker_conf {
	struct config_list listen; /* HOST:PORT */
	const char *advertise; /* host name for clients; NULL: as they came */
	const char *data; /* folder */
	int flush; /* enum broker_flush */
	int64_t flush_interval_ms; /* of what nobody waits for */
	int auto_create;
	int64_t partitions; /* of topics that don't say */
	int64_t partitions_most; /* in all */

	int64_t connections_most;
	int64_t request_most; /* bytes */
	int64_t answer_most; /* bytes of records in an answer to a fetch */
	int64_t memory_most; /* bytes of requests and answers */
	int64_t request_ms; /* to arrive, or wait, while memory is short */
	int64_t idle_ms; /* then a connection is closed */
	int64_t drain_ms;
	void (*on_progress)(void); /* again and again while broker_open opens,
	    for each log; by another thread, which is waited for; NULL: nothing */
	void (*on_drain)(void); /* when broker_run begins to; NULL: nothing */

	/* What topics have that don't say otherwise. */
	int64_t retention_ms, retention_bytes; /* -1: for ever */
	int64_t segment_bytes;
	int64_t segment_ms;
	int64_t message_most; /* bytes of a batch */
	int64_t retention_check_ms;

	int64_t session_least_ms, session_most_ms;
	int64_t rebalance_delay_ms;
	int64_t offsets_retention_ms;
};

struct broker;

/*
 * broker_sandbox -- allow what a broker with these settings opens: its data
 * folder, which is made if it isn't there, and its ports.  Comes before
 * sandbox_enter, and that before broker_open.  0, or -1: REJECT for an address
 * that isn't one, FATAL if the folder can't be made.
 */
int broker_sandbox(const struct broker_conf *conf, struct sandbox *sb,
    struct mr_error *err);

/*
 * broker_options -- the settings, for config_parse.  One table a process: the
 * next call's targets replace this one's.
 */
const struct config_option *broker_options(struct broker_conf *conf);

/*
 * broker_open -- lock the data folder, open what is in it, listen.
 *
 * Makes the folder if it isn't there.  Logs are recovered: torn ends are cut.
 * ${conf} is copied, what it points to is borrowed.  NULL on error: REJECT if
 * another process has the folder or an address is taken, FATAL otherwise.
 */
struct broker *broker_open(const struct broker_conf *conf,
    struct mr_error *err);

/*
 * broker_run -- serve until ${signal_fd} (signals_open) says to stop, then
 * answer what is under way within drain_ms.  0, or -1 FATAL: the process has to
 * end, and what was acknowledged is on disk.
 */
int broker_run(struct broker *b, int signal_fd, struct mr_error *err);
/* broker_close -- flush, close, unlock.  NULL is a no-op. */
void broker_close(struct broker *b);

/* broker_port -- the port of the i-th listening socket, for those that
 * listen on port 0; 0 past the last. */
int broker_port(const struct broker *b, size_t i);

/*
 * broker_ready, broker_alive -- 1, or 0 and why.  Any thread.  It is alive while
 * its loop turns.
 */
int broker_ready(void *arg, char *reason, size_t reason_size);
int broker_alive(void *arg, char *reason, size_t reason_size);

#endif
