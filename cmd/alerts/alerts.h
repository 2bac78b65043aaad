/*
 * alerts -- what the files of this program share.
 *
 * Time is the records' own, cut into steps of each rule's every_s.  A step is
 * over once its partition's watermark, the newest time seen there, is --grace
 * past its end: then it is judged, and what comes for it later is late, also
 * once --grace is longer, counted as such and nothing else.  Steps of a
 * partition are judged in the order of their ends, a series in the order of its
 * first record; so what alerts there are depends on the order within partitions
 * alone.
 *
 * A series is judged by what came through one partition.  A service or host
 * is a key, so that is all of it, unless it was sent without its key.  Steps
 * without a record aren't judged, and break nothing: an alert stays what it
 * is, until silent_s have gone by without one.  Then it is resolved
 * ("silent").  A series without a record for --keep is forgotten, baseline
 * and all.  When a whole partition is silent its time stands still, and with
 * it all of its alerts.
 *
 * A rule that reads otherwise at the next start, or is gone, begins anew: its
 * alerts are resolved ("rule changed") and its series forgotten.  An instance
 * that still has the rules before judges nothing any more, and ends.
 */
#ifndef MR_ALERTS_H
#define MR_ALERTS_H

#include "event/event.h"
#include "stream/stream.h"
#include "web/web.h"

#include "rules.h"
#include "track.h"

enum alerts_command {
	ALERTS_ACKNOWLEDGE, /* input: int64_t, its id */
	ALERTS_DELIVER /* input: struct deliver_outcome */
};

int alerts_open(struct stream *s, struct mr_error *err);
int alerts_apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err);
int alerts_command(struct stream *s, const struct stream_command *command,
    struct stream_answer *answer, struct mr_error *err);
int alerts_tick(struct stream *s, int64_t now_ms, struct mr_error *err);
void alerts_close(struct stream *s);

/* ---- alerts and their transitions ------------------------------------------- */

/* A series, as in the file. */
struct series {
	int64_t id;
	enum rule_input input;
	int partition;
	char subject[EVENT_NAME_SIZE], metric[EVENT_NAME_SIZE];
	struct track track;
	int64_t alert; /* 0: none that isn't resolved */
};

/* What a step came to. */
struct verdict {
	int truth;
	double value;
	int scored; /* 1: there is a score */
	double score;
};

/*
 * transition_add -- a series has entered a state at ${at_ms}: its alert's row
 * (a new one if there was none), the transition's row, and the record.  0, or
 * -1; series->alert is then what it was.
 */
int transition_add(struct stream *s, struct series *series,
    const struct rule *rule, enum track_state state, int64_t at_ms,
    const struct verdict *verdict, const char *reason, struct mr_error *err);
/* transition_end -- resolve an alert whose rule is no more, at the time that
 * its partition has come to.  0 or -1. */
int transition_end(struct stream *s, int64_t alert, struct mr_error *err);

/*
 * What a transition is, for its record and for those that it is delivered to:
 * columns from ${column} on of TRANSITION_COLUMNS, of alerts AS a and
 * transitions AS t.
 */
#define TRANSITION_COLUMNS                                                \
	"a.id, a.rule, a.kind, a.severity, a.summary, a.service, a.host," \
	" a.metric, a.bound, t.state, t.value, t.score, a.started_ms,"    \
	" a.fired_ms, a.resolved_ms, t.at_ms, t.reason, t.fingerprint"
void transition_read(struct store_rows *rows, struct alert_event *event);

/* ---- judging ----------------------------------------------------------------- */

/* judge -- judge a step, and keep of it what later ones are judged by. */
int judge(struct store *st, const struct rule *rule, int64_t series,
    int64_t end_ms, int64_t count, int64_t sum, struct verdict *verdict,
    struct mr_error *err);
/* judge_forget -- nothing of a series is kept.  0 or -1. */
int judge_forget(struct store *st, int64_t series, struct mr_error *err);

extern const struct web_route alerts_routes[];
extern struct rules alerts_rules;
/* settings: --rules, --grace, --keep, --ahead */
extern const char *alerts_rules_path;
extern int64_t alerts_grace_ms;
extern int64_t alerts_keep_ms;
extern int64_t alerts_ahead_ms;

#endif
