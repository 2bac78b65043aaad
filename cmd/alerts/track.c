#include <string.h>

#include "track.h"

static const char *const states[] = {
    [TRACK_NONE] = "none",
    [TRACK_PENDING] = "pending",
    [TRACK_FIRING] = "firing",
    [TRACK_RESOLVED] = "resolved",
};

static enum track_state
resolve(struct track *track, const struct rule *rule, int64_t at_ms)
{

	if (track->state == TRACK_FIRING)
		track->cool_ms = at_ms + rule->cooldown_ms;
	track->state = TRACK_NONE;
	return (TRACK_RESOLVED);
}

enum track_state
track_step(struct track *track, const struct rule *rule, int64_t at_ms,
    int truth)
{
	const enum track_state before = track->state;

	if (!truth)
		return (before == TRACK_NONE ? TRACK_NONE :
					       resolve(track, rule, at_ms));
	if (before == TRACK_FIRING)
		return (TRACK_NONE);
	if (before == TRACK_NONE) {
		if (at_ms < track->cool_ms)
			return (TRACK_NONE);
		track->started_ms = at_ms;
	}
	track->state = at_ms - track->started_ms >= rule->for_ms ?
	    TRACK_FIRING :
	    TRACK_PENDING;
	return (track->state == before ? TRACK_NONE : track->state);
}

const char *
track_state_text(enum track_state state)
{

	return (states[state]);
}

int
track_state_find(const char *text)
{
	int i;

	for (i = 0; i < (int)(sizeof(states) / sizeof(states[0])); i++)
		if (strcmp(text, states[i]) == 0)
			return (i);
	return (-1);
}
