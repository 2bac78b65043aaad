#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json_read.h"
#include "score/score.h"

#include "rules.h"

#define FILE_MOST_BYTES 1048576
#define WINDOW_STEPS_MOST 1000

const char rules_builtin[] =
    "{\"rules\":["
    "{\"name\":\"error-rate\",\"kind\":\"error_rate\",\"service\":\"*\","
    "\"every_s\":30,\"window_s\":300,\"above\":0.2,\"least\":20,"
    "\"summary\":\"More than a fifth of a service's log lines are errors\"},"
    "{\"name\":\"cpu-high\",\"kind\":\"threshold\",\"metric\":\"cpu_percent\","
    "\"every_s\":10,\"above\":90,\"for_s\":60,\"severity\":\"critical\","
    "\"summary\":\"A host's CPU is above 90 % for a minute\"},"
    "{\"name\":\"unusual\",\"kind\":\"zscore\",\"metric\":\"*\","
    "\"every_s\":10,\"score\":8,\"for_s\":30,"
    "\"summary\":\"A host's metric is far from its last ten minutes\"},"
    "{\"name\":\"unseasonal\",\"kind\":\"seasonal\",\"metric\":\"*\","
    "\"every_s\":60,\"score\":8,\"for_s\":120,"
    "\"summary\":\"A host's metric is far from what it is at this hour\"}"
    "]}";

/* ---- fields ----------------------------------------------------------------- */

enum field_kind { NAME, SUMMARY, NUMBER, WHOLE, SECONDS, LEVEL, KIND };

#define BIT(kind) (1U << (kind))
#define ALL (BIT(RULE_ERROR_RATE) | BIT(RULE_THRESHOLD) | METRIC_SCORES)
#define METRIC_SCORES (BIT(RULE_ZSCORE) | BIT(RULE_SEASONAL))
#define METRICS (BIT(RULE_THRESHOLD) | METRIC_SCORES)

struct field {
	const char *name;
	enum field_kind kind;
	unsigned kinds; /* of rules that have it */
	unsigned needed; /* of those that need it */
	size_t at; /* in struct rule */
	double least, most; /* seconds, if it is SECONDS */
};

/* Where a name is given twice, the first one that the kind has is meant. */
static const struct field fields[] = {
    {"name", NAME, ALL, ALL, offsetof(struct rule, name), 0, 0},
    {"kind", KIND, ALL, ALL, offsetof(struct rule, kind_text), 0, 0},
    {"summary", SUMMARY, ALL, 0, offsetof(struct rule, summary), 0, 0},
    {"severity", NAME, ALL, 0, offsetof(struct rule, severity), 0, 0},
    {"every_s", SECONDS, ALL, 0, offsetof(struct rule, every_ms), 1, 3600},
    {"for_s", SECONDS, ALL, 0, offsetof(struct rule, for_ms), 0, 604800},
    {"cooldown_s", SECONDS, ALL, 0, offsetof(struct rule, cooldown_ms), 0,
	604800},
    {"silent_s", SECONDS, ALL, 0, offsetof(struct rule, silent_ms), 1, 604800},
    {"service", NAME, BIT(RULE_ERROR_RATE), 0, offsetof(struct rule, subject),
	0, 0},
    {"level", LEVEL, BIT(RULE_ERROR_RATE), 0, offsetof(struct rule, level), 0,
	0},
    {"window_s", SECONDS, BIT(RULE_ERROR_RATE), 0,
	offsetof(struct rule, window_ms), 1, 86400},
    {"above", NUMBER, BIT(RULE_ERROR_RATE), BIT(RULE_ERROR_RATE),
	offsetof(struct rule, bound), 0, 1},
    {"host", NAME, METRICS, 0, offsetof(struct rule, subject), 0, 0},
    {"metric", NAME, METRICS, BIT(RULE_THRESHOLD),
	offsetof(struct rule, metric), 0, 0},
    {"above", NUMBER, BIT(RULE_THRESHOLD), 0, offsetof(struct rule, bound),
	-1e12, 1e12},
    {"below", NUMBER, BIT(RULE_THRESHOLD), 0, offsetof(struct rule, bound),
	-1e12, 1e12},
    {"score", NUMBER, METRIC_SCORES, 0, offsetof(struct rule, bound), 1, 1e6},
    {"points", WHOLE, BIT(RULE_ZSCORE), 0, offsetof(struct rule, points),
	SCORE_LEAST, SCORE_WINDOW},
    {"alpha", NUMBER, BIT(RULE_SEASONAL), 0, offsetof(struct rule, alpha),
	0.0001, 1},
    {"least", WHOLE, BIT(RULE_ERROR_RATE), 0, offsetof(struct rule, least), 1,
	1e9},
    {"least", WHOLE, BIT(RULE_SEASONAL), 0, offsetof(struct rule, least), 2,
	1e6},
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const kinds[] = {
    [RULE_ERROR_RATE] = "error_rate",
    [RULE_THRESHOLD] = "threshold",
    [RULE_ZSCORE] = "zscore",
    [RULE_SEASONAL] = "seasonal",
};

static int
take_name(const json_t *value, char *out, size_t size, struct mr_error *err)
{
	const char *text = json_string_value(value);

	if (text == NULL)
		return (mr_error_set(err, MR_FATAL, "must be text"));
	if (size == EVENT_NAME_SIZE &&
	    event_check_name(text, json_string_length(value), err) == -1)
		return (-1);
	if (json_string_length(value) >= size)
		return (mr_error_set(err, MR_FATAL, "must be at most %zu bytes",
		    size - 1));
	memcpy(out, text, json_string_length(value) + 1);
	return (0);
}

static int
take_level(const json_t *value, int64_t *level, struct mr_error *err)
{
	const char *text = json_string_value(value);

	*level = text == NULL ? -1 : log_event_level_find(text);
	if (*level == -1)
		return (mr_error_set(err, MR_FATAL,
		    "must be debug, info, warn, error or fatal"));
	return (0);
}

static int
take_number(const struct field *field, const json_t *value, double *number,
    struct mr_error *err)
{
	const int whole = field->kind != NUMBER;

	*number = json_number_value(value);
	if (!json_is_number(value) || *number < field->least ||
	    *number > field->most ||
	    (whole && *number != (double)(int64_t)*number))
		return (
		    mr_error_set(err, MR_FATAL, "must be a %s from %g to %g",
			whole ? "whole number" : "number", field->least,
			field->most));
	return (0);
}

static int
take_field(const struct field *field, const json_t *value, struct rule *rule,
    struct mr_error *err)
{
	char *at = (char *)rule + field->at;
	double number = 0;
	int64_t whole;

	if (field->kind == NAME || field->kind == KIND)
		return (take_name(value, at, EVENT_NAME_SIZE, err));
	if (field->kind == SUMMARY)
		return (take_name(value, at, EVENT_SUMMARY_SIZE, err));
	if (field->kind == LEVEL)
		return (take_level(value, &rule->level, err));
	if (take_number(field, value, &number, err) == -1)
		return (-1);
	if (field->kind == NUMBER) {
		memcpy(at, &number, sizeof(number));
		return (0);
	}
	whole = (int64_t)number * (field->kind == SECONDS ? 1000 : 1);
	memcpy(at, &whole, sizeof(whole));
	return (0);
}

/* ---- a rule ------------------------------------------------------------------ */

static const struct field *
field_find(const char *name, enum rule_kind kind)
{
	size_t i;

	for (i = 0; i < COUNT(fields); i++)
		if ((fields[i].kinds & BIT(kind)) != 0 &&
		    strcmp(fields[i].name, name) == 0)
			return (&fields[i]);
	return (NULL);
}

/* What a rule of the kind may have, for people. */
static void
list_fields(enum rule_kind kind, struct mr_error *err, const char *name)
{
	char list[MR_ERROR_SIZE] = "";
	size_t i, length = 0;

	for (i = 0; i < COUNT(fields); i++)
		if ((fields[i].kinds & BIT(kind)) != 0 &&
		    length < sizeof(list) - 1)
			length += (size_t)snprintf(list + length,
			    sizeof(list) - length, "%s%s",
			    length == 0 ? "" : ", ", fields[i].name);
	mr_error_set(err, MR_FATAL, "%.40s: is no field of kind %s: %s", name,
	    kinds[kind], list);
}

static void
set_defaults(struct rule *rule, enum rule_kind kind)
{

	*rule = (struct rule){.kind = kind,
	    .severity = "warning",
	    .subject = "*",
	    .metric = "*",
	    .level = LOG_EVENT_ERROR,
	    .every_ms = 60000,
	    .window_ms = 300000,
	    .least = kind == RULE_SEASONAL ? 60 : 20,
	    .points = SCORE_WINDOW,
	    .alpha = 0.05,
	    .bound = SCORE_UNUSUAL,
	    .cooldown_ms = 300000,
	    .silent_ms = 600000};
	if (kind == RULE_ERROR_RATE)
		rule->metric[0] = '\0';
}

/* Which kind it is; -1: none. */
static int
find_kind(const json_t *object, struct mr_error *err)
{
	const char *text = json_string_value(json_object_get(object, "kind"));
	size_t i;

	for (i = 0; text != NULL && i < COUNT(kinds); i++)
		if (strcmp(text, kinds[i]) == 0)
			return ((int)i);
	return (mr_error_set(err, MR_FATAL,
	    "kind: must be error_rate, threshold, zscore or seasonal"));
}

/* What no single field says. */
static int
check_whole(struct rule *rule, const json_t *object, struct mr_error *err)
{
	const int above = json_object_get(object, "above") != NULL;

	rule->below = json_object_get(object, "below") != NULL;
	if (rule->kind == RULE_THRESHOLD && above == rule->below)
		return (mr_error_set(err, MR_FATAL,
		    "above: one of above and below must be given"));
	if (rule->kind == RULE_ERROR_RATE &&
	    (rule->window_ms % rule->every_ms != 0 ||
		rule->window_ms / rule->every_ms > WINDOW_STEPS_MOST))
		return (mr_error_set(err, MR_FATAL,
		    "window_s: must be 1 to %d times every_s",
		    WINDOW_STEPS_MOST));
	if (rule->silent_ms < rule->every_ms)
		return (mr_error_set(err, MR_FATAL,
		    "silent_s: must be at least every_s"));
	return (0);
}

static int
define(struct rule *rule, const json_t *object, struct mr_error *err)
{
	/* 0.2 as it was written, and not as the nearest double is. */
	char *text = json_dumps(object,
	    JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
	int status = 0;

	if (text == NULL)
		return (mr_error_set(err, MR_FATAL, "out of memory"));
	if (strlen(text) >= sizeof(rule->definition))
		status = mr_error_set(err, MR_FATAL,
		    "must be at most %zu bytes as JSON",
		    sizeof(rule->definition) - 1);
	else
		memcpy(rule->definition, text, strlen(text) + 1);
	free(text);
	return (status);
}

static int
take_rule(json_t *object, struct rule *rule, struct mr_error *err)
{
	const struct field *field;
	const char *name;
	json_t *value;
	size_t i;
	int kind;

	if (!json_is_object(object))
		return (mr_error_set(err, MR_FATAL, "must be an object"));
	if ((kind = find_kind(object, err)) == -1)
		return (-1);
	set_defaults(rule, (enum rule_kind)kind);
	json_object_foreach(object, name, value)
	{
		if ((field = field_find(name, rule->kind)) == NULL) {
			list_fields(rule->kind, err, name);
			return (-1);
		}
		if (take_field(field, value, rule, err) == -1)
			return (mr_error_wrap(err, "%s", name));
	}
	for (i = 0; i < COUNT(fields); i++)
		if ((fields[i].needed & BIT(kind)) != 0 &&
		    json_object_get(object, fields[i].name) == NULL)
			return (mr_error_set(err, MR_FATAL, "%s: must be given",
			    fields[i].name));
	if (check_whole(rule, object, err) == -1)
		return (-1);
	return (define(rule, object, err));
}

/* ---- all of them ------------------------------------------------------------- */

static int
take_rules(const json_t *root, const char *file, struct rules *rules,
    struct mr_error *err)
{
	json_t *array = json_object_get(root, "rules");
	const char *name;
	size_t i;

	if (!json_is_array(array) || json_object_size(root) != 1 ||
	    json_array_size(array) < 1 || json_array_size(array) > RULES_MOST)
		return (mr_error_set(err, MR_FATAL,
		    "%s: must be {\"rules\":[...]} with 1 to %d rules", file,
		    RULES_MOST));
	rules->count = 0;
	for (i = 0; i < json_array_size(array); i++) {
		json_t *object = json_array_get(array, i);
		struct rule *rule = &rules->list[rules->count];

		name = json_string_value(json_object_get(object, "name"));
		if (take_rule(object, rule, err) == -1)
			return (mr_error_wrap(err, "%s: rule %zu (%.64s)", file,
			    i + 1, name == NULL ? "no name" : name));
		if (rule_find(rules, rule->name) != NULL)
			return (mr_error_set(err, MR_FATAL,
			    "%s: rule %zu (%.64s): name: must be another one, "
			    "there is a rule of it already",
			    file, i + 1, name));
		rules->count++;
	}
	return (0);
}

int
rules_parse(const char *text, size_t length, const char *name,
    struct rules *rules, struct mr_error *err)
{
	json_error_t why;
	json_t *root;
	int status, no_memory;

	root = json_read(text, length, JSON_REJECT_DUPLICATES, &why,
	    &no_memory);
	if (root == NULL && no_memory)
		return (mr_error_set(err, MR_FATAL, "%s: out of memory", name));
	if (root == NULL)
		return (mr_error_set(err, MR_FATAL, "%s:%d:%d: is no JSON: %s",
		    name, why.line, why.column, why.text));
	status = take_rules(root, name, rules, err);
	json_decref(root);
	if (status == -1)
		err->kind = MR_FATAL;
	return (status);
}

static int
read_file(int fd, const char *path, struct buffer *text, struct mr_error *err)
{
	char chunk[4096];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		buffer_add(text, chunk, (size_t)n);
	if (n == -1)
		return (mr_error_set(err, MR_FATAL, "could not read %s: %s",
		    path, strerror(errno)));
	if (text->failed)
		return (mr_error_set(err, MR_FATAL,
		    "%s: must be at most %d bytes", path, FILE_MOST_BYTES));
	return (0);
}

int
rules_read(const char *path, struct rules *rules, struct mr_error *err)
{
	struct buffer text;
	int fd, status;

	if (path == NULL)
		return (rules_parse(rules_builtin, strlen(rules_builtin),
		    "rules of the program", rules, err));
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1)
		return (mr_error_set(err, MR_FATAL,
		    "could not open the rules at %s (--rules): %s", path,
		    strerror(errno)));
	buffer_init(&text, FILE_MOST_BYTES);
	status = read_file(fd, path, &text, err);
	close(fd);
	if (status == 0)
		status = rules_parse(buffer_text(&text), text.length, path,
		    rules, err);
	buffer_free(&text);
	return (status);
}

/* ---- questions --------------------------------------------------------------- */

enum rule_input
rule_input(const struct rule *rule)
{

	return (rule->kind == RULE_ERROR_RATE ? INPUT_LOGS : INPUT_METRICS);
}

const struct rule *
rule_find(const struct rules *rules, const char *name)
{
	int i;

	for (i = 0; i < rules->count; i++)
		if (strcmp(rules->list[i].name, name) == 0)
			return (&rules->list[i]);
	return (NULL);
}

static int
matches(const char *wanted, const char *name)
{

	return (strcmp(wanted, "*") == 0 || strcmp(wanted, name) == 0);
}

int
rule_fits(const struct rule *rule, enum rule_input input, const char *subject,
    const char *metric)
{

	return (rule_input(rule) == input && matches(rule->subject, subject) &&
	    (input == INPUT_LOGS || matches(rule->metric, metric)));
}
