/*
 * track -- an alert's states, one judgement after another, in event time.
 *
 *	none -> pending -> firing -> resolved (none again)
 *
 * A judgement that is true makes it pending, and one that is for_s or more
 * after that, with no false one between, makes it fire; with for_s 0 it fires
 * at once.  A false one resolves it.  After an alert that
 * fired none begins for cooldown_s.  So of a rule and series there is one
 * alert at most that isn't resolved.
 */
#ifndef MR_TRACK_H
#define MR_TRACK_H

#include "rules.h"

enum track_state { TRACK_NONE, TRACK_PENDING, TRACK_FIRING, TRACK_RESOLVED };

/* Begins as zeros; never RESOLVED between two judgements. */
struct track {
	enum track_state state;
	int64_t started_ms; /* of the first true judgement */
	int64_t cool_ms; /* nothing begins before this */
};

/*
 * track_step -- what a judgement at ${at_ms} leads to.  Judgements come in
 * the order of their times.  The state that was entered; TRACK_NONE if it
 * stays what it was.
 */
enum track_state track_step(struct track *track, const struct rule *rule,
    int64_t at_ms, int truth);

/* "none", "pending", "firing", "resolved"; and back: -1 for another text. */
const char *track_state_text(enum track_state state);
int track_state_find(const char *text);

#endif
