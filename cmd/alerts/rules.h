/*
 * rules -- what is watched, and when it is an alert.
 *
 * A rules file is a JSON object, {"rules":[{"name":...,"kind":...},...]}, of
 * 1 to RULES_MOST rules; docs/QUICK-REFERENCE.md has the fields.  It is read
 * once, at start.  Without a file there are rules of the program's own, in the
 * same format (rules_builtin).  Nothing here changes afterwards, so any thread
 * may read.
 */
#ifndef MR_RULES_H
#define MR_RULES_H

#include <stdint.h>

#include "base/buffer.h"
#include "event/event.h"

#define RULES_MOST 64
#define RULE_DEFINITION_SIZE 1024

enum rule_kind { RULE_ERROR_RATE, RULE_THRESHOLD, RULE_ZSCORE, RULE_SEASONAL };

/* Which of the service's inputs a rule is about. */
enum rule_input { INPUT_LOGS, INPUT_METRICS };

struct rule {
	char name[EVENT_NAME_SIZE];
	char kind_text[EVENT_NAME_SIZE];
	enum rule_kind kind;
	char severity[EVENT_NAME_SIZE];
	char summary[EVENT_SUMMARY_SIZE]; /* "": none */
	char subject[EVENT_NAME_SIZE]; /* a service or host; "*": each */
	char metric[EVENT_NAME_SIZE]; /* "*": each; "": a rule about logs */
	int64_t level; /* errors: lines of this level and above */
	int64_t every_ms; /* a step: what is judged at once */
	int64_t window_ms; /* error rate: how far back */
	int64_t least; /* lines in the window, or numbers before a judgement */
	int64_t points; /* robust z-score: numbers before the judged one */
	double alpha; /* seasonal: the weight of a number */
	double bound; /* of rate, value or score */
	int below; /* threshold: 1: below the bound, 0: above */
	int64_t for_ms, cooldown_ms, silent_ms;
	/* all of it as text, defaults left out: another one is another rule */
	char definition[RULE_DEFINITION_SIZE];
};

struct rules {
	struct rule list[RULES_MOST];
	int count;
};

/*
 * rules_read -- the rules of the file at ${path}, or of the program if it is
 * NULL.  -1 FATAL with the place (file and line, or rule and field), what is
 * wrong there and what it must be; *rules is then undefined.
 */
int rules_read(const char *path, struct rules *rules, struct mr_error *err);
/* rules_parse -- the same of a text, which messages call ${name}. */
int rules_parse(const char *text, size_t length, const char *name,
    struct rules *rules, struct mr_error *err);
extern const char rules_builtin[];

enum rule_input rule_input(const struct rule *rule);
/* rule_find -- the rule of that name; NULL: there is none. */
const struct rule *rule_find(const struct rules *rules, const char *name);
/* rule_fits -- 1 if the rule is about that service (metric is ""), or that
 * host's metric; else 0. */
int rule_fits(const struct rule *rule, enum rule_input input,
    const char *subject, const char *metric);

#endif
