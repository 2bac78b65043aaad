/* process -- what every program with a FastCGI face has. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "metrics/metrics.h"
#include "service/notify.h"
#include "service/process.h"

#define CHECK_MS 3000

static const char *const log_formats[] = {"logfmt", "json", NULL};
static const char *const log_levels[] = {"debug", "info", "warn", "error",
    NULL};

const struct config_option *
process_options(struct process_conf *conf)
{
	static struct config_option options[] = {
	    {.name = "instance",
		.kind = CONFIG_TEXT,
		.help =
		    "name in logs, metrics and Kafka (default: the program's)",
		.group = "Process"},
	    {.name = "log-format",
		.kind = CONFIG_CHOICE,
		.fallback = "logfmt",
		.choices = log_formats,
		.help = "how log lines are written"},
	    {.name = "log-level",
		.kind = CONFIG_CHOICE,
		.fallback = "info",
		.choices = log_levels,
		.help = "the lowest level that is written"},
	    {.name = "restarts",
		.kind = CONFIG_INT,
		.fallback = "0",
		.least = 0,
		.most = 1e9,
		.help = "how often a supervisor had to start it again, for "
			"metrics"},
	    {.name = "check",
		.kind = CONFIG_BOOL,
		.fallback = "no",
		.help =
		    "ask the instance on --fcgi whether it is ready, and exit"},
	    {.name = "sandbox",
		.kind = CONFIG_BOOL,
		.fallback = "yes",
		.help = "give up privileges, other folders and unneeded system "
			"calls; --no-sandbox is for debugging"},
	    {.name = NULL},
	};

	options[0].target = &conf->instance;
	options[1].target = &conf->log_format;
	options[2].target = &conf->log_level;
	options[3].target = &conf->restarts;
	options[4].target = &conf->check;
	options[5].target = &conf->sandbox;
	return (options);
}

int
process_check(const char *program, const struct web_conf *web)
{
	struct mr_error err;
	char body[512];
	int status;

	if (web->listen == NULL) {
		fprintf(stderr, "%s: --check needs --fcgi\n", program);
		return (EXIT_FAILURE);
	}
	status = web_probe(web->listen, "/readyz", CHECK_MS, body, sizeof(body),
	    &err);
	if (status == 200)
		return (EXIT_SUCCESS);
	fprintf(stderr, "%s: not ready: %s\n", program,
	    status == -1 ? err.message : body);
	return (EXIT_FAILURE);
}

void
process_begin(const char *program, struct process_conf *conf,
    const struct web_conf *web)
{

	if (conf->instance == NULL || conf->instance[0] == '\0')
		conf->instance = program;
	log_init(conf->instance, (enum log_format)conf->log_format,
	    (enum log_level)conf->log_level);
	notify_open();
	log_info("started", "program", program, "version", config_version(),
	    "fcgi", web->listen);
	metrics_restarts(conf->restarts);
	if (!conf->sandbox)
		log_warn("not sandboxed", "reason", "--no-sandbox");
}

void
process_sandbox_init(struct sandbox *sb, const struct web_conf *web)
{
	const char *socket_path;
	uint16_t port;

	sandbox_init(sb);
	switch (web_listens_at(web, &socket_path, &port)) {
	case 1:
		sandbox_write_beside(sb, socket_path);
		break;
	case 2:
		sandbox_listen(sb, port);
		break;
	}
}

void
process_sandbox_enter(struct sandbox *sb)
{

	sandbox_enter(sb);
	sandbox_report(sb);
}
