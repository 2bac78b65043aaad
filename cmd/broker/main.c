/*
 * broker -- a durable, single-node Kafka broker.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/program.h"
#include "base/signals.h"
#include "broker/broker.h"
#include "web/web.h"

#define CHECK_MS 3000

static const char *const log_formats[] = {"logfmt", "json", NULL};
static const char *const log_levels[] = {"debug", "info", "warn", "error",
    NULL};

static struct settings {
	const char *instance;
	int log_format;
	int log_level;
	int check;
	struct web_conf web;
	struct broker_conf broker;
} settings;

static const struct config_option process_options[] = {
    {.name = "instance",
	.kind = CONFIG_TEXT,
	.target = &settings.instance,
	.fallback = "broker",
	.help = "name in logs",
	.group = "Process"},
    {.name = "log-format",
	.kind = CONFIG_CHOICE,
	.target = &settings.log_format,
	.fallback = "logfmt",
	.choices = log_formats,
	.help = "how log lines are written"},
    {.name = "log-level",
	.kind = CONFIG_CHOICE,
	.target = &settings.log_level,
	.fallback = "info",
	.choices = log_levels,
	.help = "the lowest level that is written"},
    {.name = "check",
	.kind = CONFIG_BOOL,
	.target = &settings.check,
	.fallback = "no",
	.help = "ask the instance on --fcgi whether it is ready, and exit"},
    {.name = NULL},
};

static int
parse(int argc, char **argv, struct mr_error *err)
{
	const struct config_option *const tables[] = {
	    broker_options(&settings.broker),
	    web_options(&settings.web),
	    process_options,
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

/* --check: 0 if the instance is ready, else 1 and why on stderr. */
static int
check(void)
{
	struct mr_error err;
	char body[512];
	int status;

	if (settings.web.listen == NULL) {
		fprintf(stderr, "broker: --check needs --fcgi\n");
		return (EXIT_FAILURE);
	}
	status = web_probe(settings.web.listen, "/readyz", CHECK_MS, body,
	    sizeof(body), &err);
	if (status == 200)
		return (EXIT_SUCCESS);
	fprintf(stderr, "broker: not ready: %s\n",
	    status == -1 ? err.message : body);
	return (EXIT_FAILURE);
}

/* The broker, with its health beside it.  0 or -1. */
static int
run(int signal_fd, struct mr_error *err)
{
	struct web_server *server;
	struct broker *b;
	int status = -1;

	if ((b = broker_open(&settings.broker, err)) == NULL)
		return (-1);
	settings.web.ready = broker_ready;
	settings.web.alive = broker_alive;
	settings.web.arg = b;
	if ((server = web_start(&settings.web, err)) != NULL)
		status = broker_run(b, signal_fd, err);
	if (web_stop(server, settings.broker.drain_ms) == -1)
		_Exit(EXIT_FAILURE); /* its threads still ask the broker */
	broker_close(b);
	return (status);
}

int
main(int argc, char **argv)
{
	struct mr_error err = {.kind = MR_OK};
	int signal_fd;

	program_start();
	/* Before any thread, so that all of them leave signals to this fd. */
	if ((signal_fd = signals_open(&err)) == -1 ||
	    parse(argc, argv, &err) == -1) {
		fprintf(stderr, "broker: %s\n", err.message);
		return (EXIT_FAILURE);
	}
	if (settings.check)
		return (check());
	log_init(settings.instance, (enum log_format)settings.log_format,
	    (enum log_level)settings.log_level);
	log_info("started", "program", "broker", "version", config_version(),
	    "data", settings.broker.data, "fcgi", settings.web.listen);
	if (run(signal_fd, &err) == -1) {
		log_error("stopped", "error", err.message);
		return (EXIT_FAILURE);
	}
	log_info("stopped", "drained", "yes");
	return (EXIT_SUCCESS);
}
