#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/stream.h"

#include "plan.h"

static const char sql_topic_ids[] =
    "SELECT DISTINCT topic_id FROM positions WHERE topic = ?1";
static const char sql_position[] =
    "SELECT next_offset FROM positions WHERE topic_id = ?1 AND partition = ?2";
static const char sql_epoch[] =
    "SELECT leader_epoch FROM positions WHERE topic_id = ?1 AND partition = ?2";
static const char sql_mark[] =
    "SELECT seq FROM marks"
    " WHERE source = ?1 AND topic_id = ?2 AND partition = ?3";

static const char sql_marks[] =
    "SELECT source, max(seq) FROM marks WHERE partition = ?2 AND topic_id IN"
    " (SELECT topic_id FROM positions WHERE topic = ?1) GROUP BY source";

static const char sql_position_move[] =
    "UPDATE positions SET next_offset = ?4, leader_epoch = -1"
    " WHERE topic_id = ?1 AND partition = ?2 AND next_offset = ?3";
static const char sql_position_add[] =
    "INSERT INTO positions (topic_id, partition, topic, next_offset,"
    " leader_epoch) VALUES (?1, ?2, ?3, ?4, -1)";
static const char sql_mark_move[] =
    "UPDATE marks SET seq = ?5 WHERE source = ?1 AND topic_id = ?2"
    " AND partition = ?3 AND seq = ?4";
/* Of several earlier ids of the topic, the highest mark. */
static const char sql_marks_carry[] =
    "INSERT INTO marks (source, topic_id, partition, seq)"
    " SELECT source, ?2, partition, max(seq) FROM marks"
    "  WHERE topic_id IN (SELECT topic_id FROM positions WHERE topic = ?1)"
    "  AND topic_id != ?2 GROUP BY source, partition"
    " ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)";
static const char sql_marks_forget[] =
    "DELETE FROM marks WHERE topic_id != ?2"
    " AND topic_id IN (SELECT topic_id FROM positions WHERE topic = ?1)";
static const char sql_positions_forget[] =
    "DELETE FROM positions WHERE topic = ?1 AND topic_id != ?2";

static const char sql_cluster_differs[] =
    "SELECT cluster_id <> ?1 FROM cluster";
static const char sql_cluster[] =
    "INSERT INTO cluster (one, cluster_id, met_at_ms) VALUES (1, ?1, ?2)"
    " ON CONFLICT DO UPDATE SET cluster_id = excluded.cluster_id,"
    " met_at_ms = excluded.met_at_ms";
/* Below the others: the highest number is the file's own id now. */
static const char sql_id_accept[] =
    "INSERT INTO database_ids (number, database_id, drawn_at_ms)"
    " SELECT coalesce(min(number), 0) - 1, ?1, ?2 FROM database_ids"
    " HAVING NOT EXISTS (SELECT 1 FROM database_ids WHERE database_id = ?1)";

int
gap_position(struct store *st, const char *topic, const char *topic_id,
    int partition, int64_t *position, struct mr_error *err)
{
	struct store_rows *rows;
	int known = 0, more;

	*position = -1;
	if ((rows = store_query(st, err, sql_topic_ids, store_text(topic))) ==
	    NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1 && known != 1)
		known = strcmp(store_get_text(rows, 0), topic_id) == 0 ? 1 : 2;
	store_rows_done(rows);
	if (more == -1 ||
	    (known == 1 &&
		store_find(st, err, position, sql_position,
		    store_text(topic_id), store_i64(partition)) == -1))
		return (-1);
	return (known);
}

int
gap_epoch(struct store *st, const char *topic_id, int partition, int64_t *epoch,
    struct mr_error *err)
{
	*epoch = -1;
	return (store_find(st, err, epoch, sql_epoch, store_text(topic_id),
	    store_i64(partition)));
}

/* The position is within the log: what does the record there lack? */
static int
plan_record(struct store *st, const struct gap_facts *f, struct gap_plan *plan,
    struct mr_error *err)
{
	int64_t mark = -1;

	if (f->unreadable) {
		plan->kind = GAP_UNREADABLE;
		plan->to = f->readable;
		snprintf(plan->says, sizeof(plan->says),
		    "records %lld to %lld of %s/%d can't be read (damaged, or "
		    "in a form that this program doesn't know) and will not be "
		    "applied: the position moves from %lld to %lld",
		    (long long)f->offset, (long long)f->readable - 1, f->topic,
		    f->partition, (long long)plan->from, (long long)plan->to);
		return (0);
	}
	if (f->has_record && f->source[0] != '\0' &&
	    store_find(st, err, &mark, sql_mark, store_text(f->source),
		store_text(f->topic_id), store_i64(f->partition)) == -1)
		return (-1);
	if (mark == -1 || f->seq <= mark || f->predecessor <= mark) {
		snprintf(plan->says, sizeof(plan->says),
		    "nothing halts %s/%d: the position is %lld, the log has "
		    "%lld to %lld, and what is next follows on what was "
		    "applied",
		    f->topic, f->partition, (long long)plan->from,
		    (long long)f->firsts[f->partition], (long long)f->next);
		return (0);
	}
	plan->kind = GAP_SEQUENCE;
	plan->from = mark;
	plan->to = f->predecessor;
	snprintf(plan->says, sizeof(plan->says),
	    "records of %s after seq %lld up to %lld are missing before offset "
	    "%lld of %s/%d and will not be applied: the mark moves to %lld",
	    f->source, (long long)mark, (long long)f->predecessor,
	    (long long)f->offset, f->topic, f->partition, (long long)plan->to);
	return (0);
}

static void
plan_anew(const struct gap_facts *f, struct gap_plan *plan)
{
	plan->kind = GAP_ANEW;
	snprintf(plan->says, sizeof(plan->says),
	    "topic %s was made anew: what was in the old one and not applied "
	    "is lost; the positions of all %d partitions move to the start of "
	    "the new one (id %s), and the marks are carried over",
	    f->topic, f->partitions, f->topic_id);
}

int
gap_plan_make(struct store *st, const struct gap_facts *f,
    struct gap_plan *plan, struct mr_error *err)
{
	int64_t first = f->firsts[f->partition];
	int known;

	memset(plan, 0, sizeof(*plan));
	if ((known = gap_position(st, f->topic, f->topic_id, f->partition,
		 &plan->from, err)) == -1)
		return (-1);
	if (known == 2) {
		plan_anew(f, plan);
	} else if (known == 1 && plan->from == -1 && first > 0) {
		plan->kind = GAP_PARTITION;
		plan->to = first;
		snprintf(plan->says, sizeof(plan->says),
		    "%s/%d is new and its first %lld records were deleted by "
		    "retention: the position becomes %lld",
		    f->topic, f->partition, (long long)first, (long long)first);
	} else if (plan->from == -1) {
		snprintf(plan->says, sizeof(plan->says),
		    "nothing halts %s/%d: this file has no position there, and "
		    "begins at %lld",
		    f->topic, f->partition, (long long)first);
	} else if (plan->from < first) {
		plan->kind = GAP_RETENTION;
		plan->to = first;
		snprintf(plan->says, sizeof(plan->says),
		    "records %lld to %lld of %s/%d were deleted by retention "
		    "and will not be applied: the position moves to %lld",
		    (long long)plan->from, (long long)first - 1, f->topic,
		    f->partition, (long long)first);
	} else if (plan->from > f->next) {
		plan->kind = GAP_TRUNCATED;
		plan->to = f->next;
		snprintf(plan->says, sizeof(plan->says),
		    "%s/%d ends at %lld and was applied up to %lld: the "
		    "position moves back to %lld",
		    f->topic, f->partition, (long long)f->next,
		    (long long)plan->from, (long long)f->next);
	} else if (f->was_cut) {
		plan->kind = GAP_TRUNCATED;
		plan->to = f->cut_at;
		snprintf(plan->says, sizeof(plan->says),
		    "%s/%d was cut at %lld, was applied up to %lld, and has "
		    "grown again to %lld: the position moves back to %lld",
		    f->topic, f->partition, (long long)f->cut_at,
		    (long long)plan->from, (long long)f->next,
		    (long long)f->cut_at);
	} else {
		return (plan_record(st, f, plan, err));
	}
	return (0);
}

/* ---- marks ---------------------------------------------------------------- */

int
gap_marks_read(struct store *st, const char *topic, int partition,
    struct gap_marks *marks, struct mr_error *err)
{
	struct gap_mark *grown, *m;
	struct store_rows *rows;
	int more;

	if ((rows = store_query(st, err, sql_marks, store_text(topic),
		 store_i64(partition))) == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		grown = realloc(marks->list,
		    ((size_t)marks->count + 1) * sizeof(*grown));
		if (grown == NULL) {
			more = mr_error_set(err, MR_FATAL, "out of memory");
			break;
		}
		marks->list = grown;
		m = &grown[marks->count++];
		memset(m, 0, sizeof(*m));
		snprintf(m->source, sizeof(m->source), "%s",
		    store_get_text(rows, 0));
		m->partition = partition;
		m->seq = store_get_i64(rows, 1);
		m->to = -1;
		marks->left++;
	}
	store_rows_done(rows);
	return (more);
}

void
gap_marks_meet(struct gap_marks *marks, int partition, const char *source,
    int64_t seq, int64_t predecessor)
{
	struct gap_mark *m;
	int i;

	for (i = 0; i < marks->count; i++) {
		m = &marks->list[i];
		if (m->met || m->partition != partition || seq <= m->seq ||
		    strcmp(m->source, source) != 0)
			continue;
		m->met = 1;
		marks->left--;
		if (predecessor > m->seq)
			m->to = predecessor;
	}
}

int
gap_leaves_out(const struct gap_plan *plan)
{
	return (plan->kind == GAP_ANEW || plan->kind == GAP_RETENTION ||
	    plan->kind == GAP_UNREADABLE);
}

static int
apply_marks(struct store *st, const struct gap_facts *f,
    const struct gap_marks *marks, struct mr_error *err)
{
	const struct gap_mark *m;
	int i;

	for (i = 0; i < marks->count; i++) {
		m = &marks->list[i];
		if (m->to != -1 &&
		    store_run(st, err, sql_mark_move, store_text(m->source),
			store_text(f->topic_id), store_i64(m->partition),
			store_i64(m->seq), store_i64(m->to)) == -1)
			return (-1);
	}
	return (0);
}

/* ---- doing it ------------------------------------------------------------- */

static int
apply_anew(struct store *st, const struct gap_facts *f, struct mr_error *err)
{
	int i;

	if (store_run(st, err, sql_marks_carry, store_text(f->topic),
		store_text(f->topic_id)) == -1 ||
	    store_run(st, err, sql_marks_forget, store_text(f->topic),
		store_text(f->topic_id)) == -1 ||
	    store_run(st, err, sql_positions_forget, store_text(f->topic),
		store_text(f->topic_id)) == -1)
		return (-1);
	for (i = 0; i < f->partitions; i++)
		if (store_run(st, err, sql_position_add,
			store_text(f->topic_id), store_i64(i),
			store_text(f->topic), store_i64(f->firsts[i])) == -1)
			return (-1);
	return (0);
}

static int64_t
apply(struct store *st, const struct gap_facts *f, const struct gap_plan *plan,
    struct mr_error *err)
{
	struct store_value topic_id = store_text(f->topic_id);
	struct store_value partition = store_i64(f->partition);

	switch (plan->kind) {
	case GAP_ANEW:
		return (apply_anew(st, f, err) == -1 ? -1 : 1);
	case GAP_PARTITION:
		return (store_run(st, err, sql_position_add, topic_id,
		    partition, store_text(f->topic), store_i64(plan->to)));
	case GAP_RETENTION:
	case GAP_TRUNCATED:
	case GAP_UNREADABLE:
		return (store_run(st, err, sql_position_move, topic_id,
		    partition, store_i64(plan->from), store_i64(plan->to)));
	case GAP_SEQUENCE:
		return (store_run(st, err, sql_mark_move, store_text(f->source),
		    topic_id, partition, store_i64(plan->from),
		    store_i64(plan->to)));
	case GAP_NONE:
		break;
	}
	return (1);
}

int
gap_plan_apply(struct store *st, const struct gap_facts *f,
    const struct gap_plan *plan, const struct gap_marks *marks,
    struct mr_error *err)
{
	int64_t changed;

	if (store_begin(st, err) == -1)
		return (-1);
	changed = apply(st, f, plan, err);
	if (changed > 0 && apply_marks(st, f, marks, err) == -1)
		changed = -1;
	if (changed == 0)
		mr_error_set(err, MR_FATAL,
		    "%s changed meanwhile, nothing was done", store_path(st));
	if (changed <= 0) {
		store_rollback(st);
		return (-1);
	}
	return (store_commit(st, err));
}

int
rebind_apply(struct store *st, const char *cluster_id, const char (*ids)[33],
    int count, int64_t now_ms, struct mr_error *err)
{
	int64_t differs;
	int i, moved;

	if (store_begin(st, err) == -1)
		return (-1);
	/* Another cluster knows nothing of what was sent to the one before. */
	if ((moved = store_find(st, err, &differs, sql_cluster_differs,
		 store_text(cluster_id))) == -1 ||
	    (moved && differs && stream_forget_cursor(st, err) == -1))
		goto fail;
	if (store_run(st, err, sql_cluster, store_text(cluster_id),
		store_i64(now_ms)) == -1)
		goto fail;
	for (i = 0; i < count; i++)
		if (store_run(st, err, sql_id_accept, store_text(ids[i]),
			store_i64(now_ms)) == -1)
			goto fail;
	return (store_commit(st, err));
fail:
	store_rollback(st);
	return (-1);
}
