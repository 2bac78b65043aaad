/*
 * settings -- the table, and values from and to text.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/settings.h"

#define HOUR_MS ((int64_t)3600000)
#define DAY_MS (24 * HOUR_MS)

/* A choice is a list of words; a value's number is a word's place in it. */
struct setting {
	const char *name;
	const char *of_broker; /* its name there */
	enum setting_type type;
	size_t place;
	int64_t least, most;
	const char *const *words; /* of a text; NULL: a number */
	const char *help;
};

static const char *const compression_words[] = {"producer", NULL};
static const char *const time_words[] = {"CreateTime", "LogAppendTime", NULL};

#define PLACE(field) offsetof(struct topic_settings, field)
#define FLAG(field) offsetof(struct broker_conf, field)

static const struct setting settings_table[SETTING_COUNT] = {
    {"cleanup.policy", "log.cleanup.policy", SETTING_LIST, PLACE(cleanup), 0, 0,
	NULL,
	"delete: old segments go; compact: of each key the last record stays"},
    {"compression.type", "compression.type", SETTING_TEXT, PLACE(compression),
	0, 0, compression_words, "batches are kept as they were produced"},
    {"delete.retention.ms", "log.cleaner.delete.retention.ms", SETTING_LONG,
	PLACE(delete_retention_ms), 0, INT64_MAX, NULL,
	"how long tombstones of a compacted topic stay"},
    {"max.message.bytes", "message.max.bytes", SETTING_INT, PLACE(message_most),
	0, INT32_MAX, NULL, "the largest batch that is taken"},
    {"message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms",
	SETTING_LONG, PLACE(time_ahead_most_ms), 0, INT64_MAX, NULL,
	"how far a record's time may be ahead of the clock"},
    {"message.timestamp.type", "log.message.timestamp.type", SETTING_TEXT,
	PLACE(append_time), 0, 0, time_words, "whose time a record has"},
    {"min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio",
	SETTING_DOUBLE, PLACE(dirty_ratio_least), 0, 1, NULL,
	"how much of a log is new before it is compacted"},
    {"min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", SETTING_LONG,
	PLACE(compaction_lag_ms), 0, INT64_MAX, NULL,
	"how old a record is before it can be compacted"},
    {"min.insync.replicas", "min.insync.replicas", SETTING_INT,
	PLACE(in_sync_least), 1, 1, NULL, "there is one broker"},
    {"retention.bytes", "log.retention.bytes", SETTING_LONG,
	PLACE(retention_bytes), -1, INT64_MAX, NULL,
	"how large a partition may grow; -1: no limit"},
    {"retention.ms", "log.retention.ms", SETTING_LONG, PLACE(retention_ms), -1,
	INT64_MAX, NULL, "how long records are kept; -1: for ever"},
    {"segment.bytes", "log.segment.bytes", SETTING_INT, PLACE(segment_bytes),
	INT64_C(1048576), INT32_MAX, NULL, "how large a segment file grows"},
    {"segment.ms", "log.roll.ms", SETTING_LONG, PLACE(segment_ms), 1, INT64_MAX,
	NULL, "how old a segment grows before the next is begun"},
};

/* Flags that Kafka's brokers have a name for, too; in its unit. */
static const struct {
	const char *name;
	enum setting_type type;
	size_t place; /* of an int if it is a truth, else of an int64_t */
	int64_t unit;
	const char *help;
} flags_table[BROKER_SETTING_COUNT - SETTING_COUNT] = {
    {"auto.create.topics.enable", SETTING_TRUTH, FLAG(auto_create), 1,
	"make a topic when a client asks for it"},
    {"connections.max.idle.ms", SETTING_LONG, FLAG(idle_ms), 1,
	"an idle connection is closed after that"},
    {"fetch.max.bytes", SETTING_INT, FLAG(answer_most), 1,
	"of records in an answer to a fetch"},
    {"group.initial.rebalance.delay.ms", SETTING_INT, FLAG(rebalance_delay_ms),
	1, "how long a group's first member waits for others"},
    {"group.max.session.timeout.ms", SETTING_INT, FLAG(session_most_ms), 1,
	"the longest session timeout that a member may have"},
    {"group.min.session.timeout.ms", SETTING_INT, FLAG(session_least_ms), 1,
	"the shortest"},
    {"log.retention.check.interval.ms", SETTING_LONG, FLAG(retention_check_ms),
	1, "how often logs are looked at for what can go"},
    {"max.connections", SETTING_INT, FLAG(connections_most), 1,
	"more connections wait"},
    {"num.partitions", SETTING_INT, FLAG(partitions), 1,
	"of topics that are made without saying how many"},
    {"offsets.retention.minutes", SETTING_INT, FLAG(offsets_retention_ms),
	60000, "how long the offsets of a group without members are kept"},
    {"socket.request.max.bytes", SETTING_INT, FLAG(request_most), 1,
	"a larger request closes its connection"},
};

int
setting_find(const char *name, size_t length)
{
	int i;

	for (i = 0; i < SETTING_COUNT; i++)
		if (strlen(settings_table[i].name) == length &&
		    memcmp(settings_table[i].name, name, length) == 0)
			return (i);
	return (-1);
}

const char *
setting_name(int setting)
{

	return (settings_table[setting].name);
}

enum setting_type
setting_type(int setting)
{

	return (settings_table[setting].type);
}

void
settings_default(const struct broker_conf *conf,
    struct topic_settings *settings)
{

	memset(settings, 0, sizeof(*settings));
	settings->cleanup = CLEANUP_DELETE;
	settings->delete_retention_ms = DAY_MS;
	settings->message_most = conf->message_most;
	settings->time_ahead_most_ms = HOUR_MS;
	settings->in_sync_least = 1;
	settings->dirty_ratio_least = 0.5;
	settings->retention_bytes = conf->retention_bytes;
	settings->retention_ms = conf->retention_ms;
	settings->segment_bytes = conf->segment_bytes;
	settings->segment_ms = conf->segment_ms;
}

static int64_t *
number(const struct setting *s, const struct topic_settings *settings)
{

	return ((int64_t *)((uintptr_t)settings + s->place));
}

static double *
real(const struct setting *s, const struct topic_settings *settings)
{

	return ((double *)((uintptr_t)settings + s->place));
}

static int
parse_cleanup(const char *value, int64_t *cleanup, struct mr_error *err)
{
	size_t length;

	*cleanup = 0;
	for (;;) {
		value += strspn(value, " ,");
		if ((length = strcspn(value, " ,")) == 0)
			break;
		if (length == 6 && memcmp(value, "delete", length) == 0)
			*cleanup |= CLEANUP_DELETE;
		else if (length == 7 && memcmp(value, "compact", length) == 0)
			*cleanup |= CLEANUP_COMPACT;
		else
			return (mr_error_set(err, MR_REJECT,
			    "cleanup.policy: must be of compact and delete"));
		value += length;
	}
	if (*cleanup == 0)
		return (mr_error_set(err, MR_REJECT,
		    "cleanup.policy: must be of compact and delete"));
	return (0);
}

static int
parse_word(const struct setting *s, const char *value, int64_t *n,
    struct mr_error *err)
{
	int i;

	for (i = 0; s->words[i] != NULL; i++)
		if (strcmp(s->words[i], value) == 0) {
			*n = i;
			return (0);
		}
	return (mr_error_set(err, MR_REJECT, "%s: must be %s%s%s", s->name,
	    s->words[0], s->words[1] != NULL ? " or " : "",
	    s->words[1] != NULL ? s->words[1] : ""));
}

static int
parse_number(const struct setting *s, const char *value, int64_t *n,
    struct mr_error *err)
{
	long long parsed;
	char *end;

	errno = 0;
	parsed = strtoll(value, &end, 10);
	if (end == value || *end != '\0' || errno != 0)
		return (mr_error_set(err, MR_REJECT,
		    "%s: must be a whole number", s->name));
	if (parsed < s->least || parsed > s->most)
		return (mr_error_set(err, MR_REJECT,
		    "%s: must be from %lld to %lld", s->name,
		    (long long)s->least, (long long)s->most));
	*n = parsed;
	return (0);
}

static int
parse_real(const struct setting *s, const char *value, double *x,
    struct mr_error *err)
{
	char *end;
	double parsed = strtod(value, &end);

	if (end == value || *end != '\0' || !isfinite(parsed) ||
	    parsed < (double)s->least || parsed > (double)s->most)
		return (mr_error_set(err, MR_REJECT,
		    "%s: must be a number from %lld to %lld", s->name,
		    (long long)s->least, (long long)s->most));
	*x = parsed;
	return (0);
}

int
setting_parse(int setting, const char *value, struct topic_settings *settings,
    struct mr_error *err)
{
	const struct setting *s = &settings_table[setting];

	if (s->type == SETTING_LIST)
		return (parse_cleanup(value, number(s, settings), err));
	if (s->type == SETTING_DOUBLE)
		return (parse_real(s, value, real(s, settings), err));
	if (s->words != NULL)
		return (parse_word(s, value, number(s, settings), err));
	return (parse_number(s, value, number(s, settings), err));
}

void
setting_write(int setting, const struct topic_settings *settings, char *text,
    size_t size)
{
	const struct setting *s = &settings_table[setting];
	int64_t n;

	if (s->type == SETTING_DOUBLE) {
		snprintf(text, size, "%g", *real(s, settings));
		return;
	}
	n = *number(s, settings);
	if (s->type == SETTING_LIST)
		snprintf(text, size, "%s%s%s",
		    n & CLEANUP_COMPACT ? "compact" : "",
		    n == (CLEANUP_COMPACT | CLEANUP_DELETE) ? "," : "",
		    n & CLEANUP_DELETE ? "delete" : "");
	else if (s->words != NULL)
		snprintf(text, size, "%s", s->words[n]);
	else
		snprintf(text, size, "%lld", (long long)n);
}

void
setting_copy(int setting, const struct topic_settings *from,
    struct topic_settings *to)
{
	const struct setting *s = &settings_table[setting];

	if (s->type == SETTING_DOUBLE)
		*real(s, to) = *real(s, from);
	else
		*number(s, to) = *number(s, from);
}

const char *
broker_setting_name(int i)
{

	return (i < SETTING_COUNT ? settings_table[i].of_broker :
				    flags_table[i - SETTING_COUNT].name);
}

const char *
broker_setting_help(int i)
{

	return (i < SETTING_COUNT ? settings_table[i].help :
				    flags_table[i - SETTING_COUNT].help);
}

enum setting_type
broker_setting_type(int i)
{

	return (i < SETTING_COUNT ? settings_table[i].type :
				    flags_table[i - SETTING_COUNT].type);
}

void
broker_setting_write(int i, const struct broker_conf *conf, char *text,
    size_t size)
{
	struct topic_settings defaults;
	const void *at;

	if (i < SETTING_COUNT) {
		settings_default(conf, &defaults);
		setting_write(i, &defaults, text, size);
		return;
	}
	i -= SETTING_COUNT;
	at = (const char *)conf + flags_table[i].place;
	if (flags_table[i].type == SETTING_TRUTH)
		snprintf(text, size, "%s", *(const int *)at ? "true" : "false");
	else
		snprintf(text, size, "%lld",
		    (long long)(*(const int64_t *)at / flags_table[i].unit));
}
