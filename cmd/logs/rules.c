/* rules -- which entries go on to application-errors. */
#include <string.h>

#include "logs.h"

struct rule {
	int least; /* a level */
	char service[EVENT_NAME_SIZE]; /* "": any */
};

static struct rule
    parsed[sizeof(((struct config_list *)0)->items) / sizeof(const char *)];
static int parsed_count;

/* One condition, ${length} bytes of ${text}. */
static int
condition_parse(const char *text, size_t length, struct rule *rule,
    struct mr_error *err)
{
	char word[EVENT_NAME_SIZE + sizeof("service=")];

	if (length < sizeof(word)) {
		memcpy(word, text, length);
		word[length] = '\0';
		if (strncmp(word, "level>=", 7) == 0 &&
		    (rule->least = log_event_level_find(word + 7)) != -1)
			return (0);
		if (strncmp(word, "service=", 8) == 0 &&
		    event_check_name(word + 8, length - 8, err) == 0) {
			memcpy(rule->service, word + 8, length - 7);
			return (0);
		}
	}
	return (mr_error_set(err, MR_FATAL,
	    "--route: a condition must be level>=debug|info|warn|error|fatal "
	    "or service=NAME, is \"%.*s\"",
	    (int)(length < 80 ? length : 80), text));
}

static int
rule_parse(const char *text, struct rule *rule, struct mr_error *err)
{
	size_t length;

	memset(rule, 0, sizeof(*rule));
	for (text += strspn(text, " "); *text != '\0';
	     text += length, text += strspn(text, " ")) {
		length = strcspn(text, " ");
		if (condition_parse(text, length, rule, err) == -1)
			return (-1);
	}
	return (0);
}

int
rules_parse(const struct config_list *rules, struct mr_error *err)
{
	int i;

	parsed_count = 0;
	for (i = 0; i < rules->count; i++) {
		if (rule_parse(rules->items[i], &parsed[i], err) == -1)
			return (-1);
		parsed_count++;
	}
	return (0);
}

int
rules_match(const struct log_event *event)
{
	const struct rule *rule;

	for (rule = parsed; rule < parsed + parsed_count; rule++)
		if ((int)event->level >= rule->least &&
		    (rule->service[0] == '\0' ||
			strcmp(rule->service, event->service) == 0))
			return (1);
	return (0);
}
