/*
 * logs -- what the files of this program share.
 *
 * Lines of logs are kept in the order of their arrival, their words in a
 * full-text index (SQLite's FTS5), both written in one transaction.  What a
 * rule of --route says goes on to application-errors.  The oldest lines go
 * when they are older than --keep, or when all texts together are more than
 * --keep-bytes.
 */
#ifndef MR_LOGS_H
#define MR_LOGS_H

#include "base/config.h"
#include "event/event.h"
#include "stream/stream.h"
#include "web/web.h"

int logs_open(struct stream *s, struct mr_error *err);
int logs_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err);
int logs_tick(struct stream *s, int64_t now_ms, struct mr_error *err);

extern const struct web_route logs_routes[];
/* settings: --keep, --keep-bytes, --route */
extern int64_t logs_keep_ms;
extern int64_t logs_keep_bytes;
extern struct config_list logs_rules;

/*
 * rules_parse -- take ${rules} as those that rules_match goes by.
 *
 * A rule is conditions with spaces between, all of which have to hold:
 * level>=LEVEL, service=NAME.  An entry that any rule fits is matched.
 * Returns 0, or -1 FATAL with the rule in the message.
 */
int rules_parse(const struct config_list *rules, struct mr_error *err);
int rules_match(const struct log_event *event);

/*
 * search_parse -- make what a person typed an FTS5 expression.
 *
 * Words are all to be found, in any order; "words in quotes" side by side;
 * word* is the beginning of one; -word is not to be there.  Whatever else is
 * typed is punctuation: no input is an error of FTS5's.  Returns 0 and adds
 * to ${out}, or -1 REJECT ("must ...") if nothing is left to look for; what
 * has only punctuation that isn't ASCII, or emoji, is taken and finds nothing.
 */
#define SEARCH_TERMS_MOST 32
int search_parse(const char *text, struct buffer *out, struct mr_error *err);

#endif
