/*
 * broker -- a durable, single-node Kafka broker.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/program.h"
#include "base/signals.h"
#include "broker/broker.h"
#include "metrics/metrics.h"
#include "service/notify.h"
#include "service/process.h"

static struct settings {
	struct process_conf process;
	struct web_conf web;
	struct broker_conf broker;
} settings;

static int
parse(int argc, char **argv, struct mr_error *err)
{
	const struct config_option *const tables[] = {
	    broker_options(&settings.broker),
	    web_options(&settings.web),
	    process_options(&settings.process),
	    NULL,
	};
	const struct config_program program = {
	    .name = "broker",
	    .summary = "A Kafka broker for one machine: topics, consumer "
		       "groups and idempotent producers, on disk when "
		       "acks=all is answered.",
	    .tables = tables,
	    .epilogue =
		"Apache Kafka speaks the same protocol: whoever outgrows this "
		"machine sets\n--brokers of the services to it.\n"
		"\n"
		"Examples:\n"
		"  broker --data data/broker\n"
		"  broker --listen 127.0.0.1:9192 --auto-create-topics\n"
		"  kcat -b localhost:9092 -L\n"
		"  sqlite3 -readonly data/broker/broker.db "
		"'select * from topics'\n",
	};

	return (config_parse(argc, argv, &program, err));
}

/* Keep what the settings name, and give up the rest; 0 or -1. */
static int
sandbox(struct mr_error *err)
{
	struct sandbox sb;

	process_sandbox_init(&sb, &settings.web);
	if (broker_sandbox(&settings.broker, &sb, err) == -1)
		return (-1);
	process_sandbox_enter(&sb);
	return (0);
}

/* The broker, with its health beside it.  0 or -1. */
static int
run(int signal_fd, struct mr_error *err)
{
	struct web_server *server;
	struct broker *b;
	int status = -1;

	settings.broker.on_progress = notify_starting;
	settings.broker.on_drain = notify_draining;
	if ((b = broker_open(&settings.broker, err)) == NULL)
		return (-1);
	metrics_watch_disk(settings.broker.data);
	settings.web.ready = broker_ready;
	settings.web.alive = broker_alive;
	settings.web.arg = b;
	if ((server = web_start(&settings.web, err)) != NULL) {
		sandbox_listen_no_more();
		notify_ready(settings.web.alive, settings.web.arg);
		status = broker_run(b, signal_fd, err);
	}
	notify_stopping();
	if (web_stop(server, settings.broker.drain_ms) == -1)
		_Exit(EXIT_FAILURE); /* its threads still ask the broker */
	broker_close(b);
	return (status);
}

/*
 * A turn's requests are freed together, and the next turn wants as much: what
 * went back to the kernel in between would come as a page fault each.
 */
static void
keep_memory(void)
{

	(void)mallopt(M_TRIM_THRESHOLD, 4 * 1024 * 1024);
	(void)mallopt(M_MMAP_THRESHOLD, 2 * 1024 * 1024);
}

int
main(int argc, char **argv)
{
	struct mr_error err = {.kind = MR_OK};
	int signal_fd;

	program_start();
	keep_memory();
	/* Before any thread, so that all of them leave signals to this fd. */
	if ((signal_fd = signals_open(&err)) == -1 ||
	    parse(argc, argv, &err) == -1) {
		fprintf(stderr, "broker: %s\n", err.message);
		return (EXIT_FAILURE);
	}
	if (settings.process.check)
		return (process_check("broker", &settings.web));
	process_begin("broker", &settings.process, &settings.web);
	if ((settings.process.sandbox && sandbox(&err) == -1) ||
	    run(signal_fd, &err) == -1) {
		log_error("stopped", "error", err.message);
		return (EXIT_FAILURE);
	}
	log_info("stopped", "drained", "yes");
	return (EXIT_SUCCESS);
}
