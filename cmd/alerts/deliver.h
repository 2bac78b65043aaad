/*
 * deliver -- tell a webhook, or Alertmanager, of alerts that fire and of
 * those of them that are resolved.
 *
 * Each target has a thread of its own, which takes the next transition that is
 * committed from the file, posts it, and has the service's one writer note in
 * the file how that went; so they are delivered in order, each until it has
 * been (a status of 200 to 299), with pauses that double up to a minute, also
 * across restarts.  A transition is posted again when the process died between
 * the answer and the note: at least once, with the same fingerprint as
 * Idempotency-Key.  Of several instances of the service one delivers: whose
 * thread has the target's byte of the file "<db>.deliver" locked.
 *
 * Alertmanager forgets: it has alerts in memory, each until its end.  So it is
 * told each minute, and at the start, of all alerts that fire, which end five
 * minutes ahead; the same labels make them the same alerts.  That goes out a
 * hundred in a POST, between those of transitions, and is no delivery of one:
 * it is noted only where it failed, and when it no longer does.
 *
 * Transitions from before a target was first configured aren't delivered, nor
 * those of its absence: a target that isn't configured is forgotten, as soon as
 * no other instance delivers to it.  But what fires still is repeated, from
 * whenever it is.
 */
#ifndef MR_DELIVER_H
#define MR_DELIVER_H

#include "stream/stream.h"

enum deliver_target { DELIVER_WEBHOOK, DELIVER_ALERTMANAGER, DELIVER_TARGETS };

/* The command that a thread gives: how an attempt went. */
struct deliver_outcome {
	enum deliver_target target;
	int64_t seq; /* of the transition */
	int repeated; /* 1: no transition, but alerts that fire */
	int delivered; /* 0: an error, to be tried again */
	char error[MR_ERROR_SIZE];
};

/* deliver_open -- read the settings, note what there is to deliver from now
 * on, and start the threads; inside the transaction of open.  0 or -1, FATAL
 * if an address makes no sense. */
int deliver_open(struct stream *s, struct mr_error *err);
/* deliver_forget -- forget targets that aren't configured, nor delivered to by
 * another instance; inside a transaction.  0 or -1. */
int deliver_forget(struct stream *s, struct mr_error *err);
/* deliver_note -- the command; 0 or -1. */
int deliver_note(struct store *st, const struct deliver_outcome *outcome,
    int64_t now_ms, struct mr_error *err);
/* deliver_close -- give up what is under way, and wait for the threads. */
void deliver_close(void);

/* settings: --webhook, --alertmanager, --deliver-timeout-ms */
extern const char *deliver_urls[DELIVER_TARGETS];
extern int64_t deliver_timeout_ms;

#endif
