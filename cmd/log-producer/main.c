/*
 * log-producer -- log lines, of simulated services or of a file, as a stream
 * of records.
 */
#include <string.h>

#include "migrations.h"
#include "producer/producer.h"
#include "service/service.h"

#include "follow.h"
#include "traffic.h"

#define LOGS_TOPIC "application-logs"
#define READ_INTERVAL_MS 100 /* between looks for new lines */

static const char *from_file;
static int from_stdin;
static int onward;
static const char *service_name;
static const char *host_name;
static char own_host[EVENT_NAME_SIZE];

/* ---- where lines come from --------------------------------------------------- */

static struct {
	struct lines lines; /* of the last step */
	int reads; /* from a file or standard input */
	struct traffic traffic;
	struct follow follow;
} origin;

static int
lines_load(void *state, struct store *st, struct mr_error *err)
{

	(void)state;
	return (origin.reads ?
		follow_load(&origin.follow, st, err) :
		traffic_load(&origin.traffic, producer_settings.seed, st, err));
}

static int
lines_save(const void *state, struct store *st, struct mr_error *err)
{

	(void)state;
	return (origin.reads ? follow_save(&origin.follow, st, err) :
			       traffic_save(&origin.traffic, st, err));
}

static void
lines_step(void *state, int64_t now_ms, int due)
{

	(void)state;
	lines_clear(&origin.lines);
	if (origin.reads)
		follow_step(&origin.follow, now_ms, due, &origin.lines);
	else
		traffic_step(&origin.traffic, now_ms, due, &origin.lines);
}

static int
lines_count(const void *state)
{

	(void)state;
	return (origin.lines.count);
}

static void
lines_record(const void *state, int index, int64_t now_ms,
    struct producer_record *record)
{
	const char *line;
	size_t size;

	(void)state;
	line = lines_get(&origin.lines, index, &size);
	memcpy(record->key, origin.lines.services[index], EVENT_NAME_SIZE);
	buffer_add(&record->value, line, size);
	record->value.failed |= origin.lines.text.failed;
	record->ts_ms = now_ms;
}

static int64_t
lines_made(const void *state)
{

	(void)state;
	return (origin.reads ? origin.follow.lines : origin.traffic.lines);
}

static int
lines_ended(const void *state)
{

	(void)state;
	return (origin.reads && origin.follow.ended);
}

static const struct producer_source source = {
    .topic = LOGS_TOPIC,
    .type = "log.written",
    .load = lines_load,
    .save = lines_save,
    .step = lines_step,
    .count = lines_count,
    .record = lines_record,
    .made = lines_made,
    .ended = lines_ended,
};
static struct producer producer = {.source = &source, .state = &origin};

/* ---- the service ------------------------------------------------------------- */

static int log_producer_open(struct stream *s, struct mr_error *err);

static int
log_producer_tick(struct stream *s, int64_t now_ms, struct mr_error *err)
{

	return (producer_tick(&producer, s, now_ms, err));
}

static int
log_producer_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err)
{

	(void)command;
	(void)answer;
	return (producer_command(&producer, s, err));
}

static void
log_producer_close(struct stream *s)
{

	(void)s;
	producer_close();
	follow_close(&origin.follow);
	buffer_free(&origin.lines.text);
}

static struct stream_service stream = {
    .name = "log-producer",
    .outputs = (const char *const[]){LOGS_TOPIC, NULL},
    .migrations = migrations_log_producer,
    .open = log_producer_open,
    .command = log_producer_command,
    .tick = log_producer_tick,
    .close = log_producer_close,
};

static int
check_names(struct mr_error *err)
{

	if (event_check_name(service_name, strlen(service_name), err) != 0)
		return (mr_error_wrap(err, "--service"));
	if (host_name != NULL &&
	    event_check_name(host_name, strlen(host_name), err) != 0)
		return (mr_error_wrap(err, "--host"));
	return (0);
}

static int
log_producer_open(struct stream *s, struct mr_error *err)
{
	const int reads = from_file != NULL || from_stdin;

	if (from_file != NULL && from_stdin)
		return (mr_error_set(err, MR_FATAL,
		    "--from-file and --from-stdin can't both be given"));
	if (check_names(err) != 0)
		return (-1);
	producer_host_name(own_host);
	origin.reads = reads;
	follow_init(&origin.follow, from_file);
	origin.follow.onward = onward;
	origin.follow.service = service_name;
	origin.follow.host = host_name != NULL ? host_name : own_host;
	if (producer_rate(reads ? 0 : 10) == 0)
		producer.interval_ms = reads ? READ_INTERVAL_MS : 0;
	return (producer_open(&producer, s, &stream.tick_ms, err));
}

static const struct service_gauge gauges[] = {
    {"millrace_log_lines_made", "Log lines made or read so far, as committed.",
	"SELECT coalesce((SELECT sum(lines) FROM traffic), 0) +"
	" coalesce((SELECT sum(lines) FROM shipped), 0)"},
    {0},
};

static const struct config_option options[] = {
    {.name = "from-file",
	.kind = CONFIG_TEXT,
	.target = &from_file,
	.help = "ship this file's lines instead of simulated ones; how far "
		"it was read is kept by its path as it is given here",
	.group = "Lines"},
    {.name = "follow",
	.kind = CONFIG_BOOL,
	.target = &onward,
	.fallback = "no",
	.help = "wait at the end of the file for more, also where it is "
		"rotated: the new one's turn is when nothing has been added "
		"to the old one for 10 s"},
    {.name = "from-stdin",
	.kind = CONFIG_BOOL,
	.target = &from_stdin,
	.fallback = "no",
	.help = "ship what is piped in, until its end"},
    {.name = "service",
	.kind = CONFIG_TEXT,
	.target = &service_name,
	.fallback = "unnamed",
	.help = "whose lines they are that are read, where a line isn't a log "
		"event in JSON"},
    {.name = "host",
	.kind = CONFIG_TEXT,
	.target = &host_name,
	.help = "and on which host (default: this one)"},
    {.name = NULL},
};

static const struct service log_producer = {
    .summary = "Produces log lines to application-logs: those of simulated "
	       "services, of a file that is written to, or of its input.",
    .stream = &stream,
    .gauges = gauges,
    .options = options,
    .common = producer_paced_options,
    .reads = &from_file,
    .epilogue = PRODUCER_DELIVERIES
    "\n"
    "Examples:\n"
    "  log-producer --brokers localhost:9092 --rate 100\n"
    "  log-producer --from-file /var/log/nginx/access.log --follow \\\n"
    "      --service nginx --db /var/lib/millrace/nginx-logs.db\n"
    "  journalctl -f | log-producer --from-stdin --service journal\n",
};

int
main(int argc, char **argv)
{

	return (service_main(argc, argv, &log_producer));
}
