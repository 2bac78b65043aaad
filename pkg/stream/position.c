/* position -- how far each partition and each source has been applied. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stream/internal.h"

static const char sql_position[] =
    "SELECT next_offset, leader_epoch FROM positions"
    " WHERE topic_id = ?1 AND partition = ?2";
static const char sql_position_first[] =
    "INSERT INTO positions (topic_id, partition, topic, next_offset,"
    " leader_epoch) VALUES (?1, ?2, ?3, ?4, ?5)";
static const char sql_position_begin[] =
    "INSERT INTO positions (topic_id, partition, topic, next_offset,"
    " leader_epoch) VALUES (?1, ?2, ?3, ?4, -1) ON CONFLICT DO NOTHING";
static const char sql_position_move[] =
    "UPDATE positions SET next_offset = ?4, leader_epoch = ?5"
    " WHERE topic_id = ?1 AND partition = ?2 AND next_offset = ?3";
static const char sql_topic_ids[] =
    "SELECT DISTINCT topic_id FROM positions WHERE topic = ?1";

static const char sql_mark[] =
    "SELECT seq FROM marks"
    " WHERE source = ?1 AND topic_id = ?2 AND partition = ?3";
static const char sql_mark_write[] =
    "INSERT INTO marks (source, topic_id, partition, seq)"
    " VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET seq = excluded.seq"
    " WHERE excluded.seq > seq";

static const char sql_database[] =
    "SELECT number, database_id, (SELECT max(number) FROM placements)"
    " FROM database_ids ORDER BY number DESC LIMIT 1";
static const char sql_database_draw[] =
    "INSERT INTO database_ids (number, database_id, drawn_at_ms)"
    " SELECT coalesce(max(number), 0) + 1, ?1, ?2 FROM database_ids";
static const char sql_database_known[] =
    "SELECT 1 FROM database_ids WHERE database_id = ?1";
static const char sql_file[] =
    "SELECT d.file, r.transactional FROM database_ids d, relay r"
    " ORDER BY d.number DESC LIMIT 1";
static const char sql_file_note[] =
    "UPDATE database_ids SET file = ?1"
    " WHERE number = (SELECT max(number) FROM database_ids)";
static const char sql_tails_forget[] =
    "UPDATE output_tails SET seq = 0 WHERE partition >= 0";
static const char sql_relay_free[] =
    "UPDATE relay SET owner = '', boot_id = '', renewed_boot_ms = 0";
/* The cursor of a new id is yet to be placed; copies may be of core schema 2. */
static const char sql_relay_has_mode[] =
    "SELECT 1 FROM schema_versions WHERE component = 'core' AND version >= 3";
static const char sql_relay_begin[] = "UPDATE relay SET transactional = 0";

int
position_read(struct stream *s, const char *topic_id, int partition,
    int64_t *next, int32_t *leader_epoch, struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(s->st, err, sql_position, store_text(topic_id),
		 store_i64(partition))) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		*next = store_get_i64(rows, 0);
		*leader_epoch = (int32_t)store_get_i64(rows, 1);
	}
	store_rows_done(rows);
	return (found);
}

int
position_begin(struct stream *s, const char *topic, const char *topic_id,
    int partition, int64_t next, struct mr_error *err)
{
	return (store_run(s->st, err, sql_position_begin, store_text(topic_id),
		    store_i64(partition), store_text(topic),
		    store_i64(next)) == -1 ?
		-1 :
		0);
}

int
position_topic_known(struct stream *s, const char *topic, const char *topic_id,
    char other_id[KAFKA_TOPIC_ID_SIZE], struct mr_error *err)
{
	struct store_rows *rows;
	int known = 0, found;

	if ((rows = store_query(s->st, err, sql_topic_ids,
		 store_text(topic))) == NULL)
		return (-1);
	while ((found = store_next(rows, err)) == 1 && known != 1) {
		if (strcmp(store_get_text(rows, 0), topic_id) == 0) {
			known = 1;
		} else {
			known = 2;
			snprintf(other_id, KAFKA_TOPIC_ID_SIZE, "%s",
			    store_get_text(rows, 0));
		}
	}
	store_rows_done(rows);
	return (found == -1 ? -1 : known);
}

/*
 * The compare-and-set that fences: the position must be what this
 * transaction read, and exactly one row must change.
 */
int
position_move(struct stream *s, struct partition *p, struct mr_error *err)
{
	int64_t changed;

	if (p->expected == -1)
		changed = store_run(s->st, err, sql_position_first,
		    store_text(p->topic_id), store_i64(p->number),
		    store_text(s->inputs[p->input]), store_i64(p->next),
		    store_i64(p->leader_epoch));
	else
		changed = store_run(s->st, err, sql_position_move,
		    store_text(p->topic_id), store_i64(p->number),
		    store_i64(p->expected), store_i64(p->next),
		    store_i64(p->leader_epoch));
	if (changed == -1)
		return (-1);
	if (changed != 1)
		return (mr_error_set(err, MR_FATAL,
		    "moving the position of %s/%d from %lld to %lld changed "
		    "%lld rows",
		    s->inputs[p->input], p->number, (long long)p->expected,
		    (long long)p->next, (long long)changed));
	return (0);
}

static struct mark *
mark_room(struct stream *s, struct mr_error *err)
{
	struct mark *grown;
	int capacity;

	if (s->mark_count == s->mark_capacity) {
		capacity = s->mark_capacity == 0 ? 16 : 2 * s->mark_capacity;
		if ((grown = realloc(s->marks,
			 (size_t)capacity * sizeof(*grown))) == NULL) {
			mr_error_set(err, MR_RETRY, "out of memory");
			return (NULL);
		}
		s->marks = grown;
		s->mark_capacity = capacity;
	}
	return (&s->marks[s->mark_count]);
}

struct mark *
mark_find(struct stream *s, const struct partition *p, const char *source,
    struct mr_error *err)
{
	struct mark *m;
	int i;

	for (i = 0; i < s->mark_count; i++) {
		m = &s->marks[i];
		if (m->partition == p && strcmp(m->source, source) == 0)
			return (m);
	}
	if ((m = mark_room(s, err)) == NULL)
		return (NULL);
	m->seq = -1;
	if (store_find(s->st, err, &m->seq, sql_mark, store_text(source),
		store_text(p->topic_id), store_i64(p->number)) == -1)
		return (NULL);
	snprintf(m->source, sizeof(m->source), "%s", source);
	m->partition = p;
	m->dirty = 0;
	m->seq_at_save = m->seq;
	m->dirty_at_save = 0;
	s->mark_count++;
	return (m);
}

int
mark_write_all(struct stream *s, struct mr_error *err)
{
	struct mark *m;
	int i;

	for (i = 0; i < s->mark_count; i++) {
		m = &s->marks[i];
		if (m->dirty &&
		    store_run(s->st, err, sql_mark_write, store_text(m->source),
			store_text(m->partition->topic_id),
			store_i64(m->partition->number),
			store_i64(m->seq)) == -1)
			return (-1);
	}
	return (0);
}

void
mark_save_all(struct stream *s)
{
	int i;

	for (i = 0; i < s->mark_count; i++) {
		s->marks[i].seq_at_save = s->marks[i].seq;
		s->marks[i].dirty_at_save = s->marks[i].dirty;
	}
}

/* Those read since the savepoint stay: whoever has one in hand goes on. */
void
mark_undo_all(struct stream *s)
{
	int i;

	for (i = 0; i < s->mark_count; i++) {
		s->marks[i].seq = s->marks[i].seq_at_save;
		s->marks[i].dirty = s->marks[i].dirty_at_save;
	}
}

/* Read the last row of database_ids, and what that of placements is: 1, 0 if
 * there is no id, -1. */
static int
database_id_read(struct stream *s, int64_t *number, char id[DATABASE_ID_SIZE],
    int64_t *placements, struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(s->st, err, sql_database)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		*number = store_get_i64(rows, 0);
		snprintf(id, DATABASE_ID_SIZE, "%s", store_get_text(rows, 1));
		*placements = store_get_i64(rows, 2);
	}
	store_rows_done(rows);
	return (found);
}

static int
database_id_draw(struct store *st, struct mr_error *err)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char bytes[16];
	char id[DATABASE_ID_SIZE];
	size_t i;

	id_random_bytes(bytes, sizeof(bytes));
	for (i = 0; i < sizeof(bytes); i++) {
		id[2 * i] = digits[bytes[i] >> 4];
		id[2 * i + 1] = digits[bytes[i] & 15];
	}
	id[2 * sizeof(bytes)] = '\0';
	return (store_run(st, err, sql_database_draw, store_text(id),
		    store_i64(clock_wall_ms())) == 1 ?
		0 :
		-1);
}

/*
 * Two copies that are both in use, on two hosts, would number their records
 * alike, and readers would drop the one's as repeats of the other's.  So a copy
 * draws an id of its own when it is first started.  But for one whose relay is
 * transactional: what of its outbox was sent only the cursor knows (look.c).
 * *drawn is set.
 */
static int
file_settle(struct stream *s, int *drawn, struct mr_error *err)
{
	int64_t file = store_fingerprint(s->db_path), noted = 0;
	struct store_rows *rows;
	int found, transactional = 0;

	if ((rows = store_query(s->st, err, sql_file)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		noted = store_get_i64(rows, 0);
		transactional = store_get_i64(rows, 1) != 0;
	}
	store_rows_done(rows);
	if (found == -1)
		return (-1);
	if (file == 0 || noted == file || transactional)
		return (0);
	if (noted != 0) {
		log_warn("this file is a copy, or was moved: drawing a new "
			 "database id; if what it was copied from is still in "
			 "use, stop one of them",
		    "path", s->db_path, "database", s->database_id);
		if (stream_renew_file(s->st, err) == -1)
			return (-1);
		*drawn = 1;
	}
	return (store_run(s->st, err, sql_file_note, store_i64(file)) == -1 ?
		-1 :
		0);
}

int
database_id_load(struct stream *s, struct mr_error *err)
{
	int64_t placements;
	int found, drawn = 0;

	if (store_begin(s->st, err) == -1)
		return (-1);
	if ((found = database_id_read(s, &s->database, s->database_id,
		 &placements, err)) == -1)
		goto fail;
	if (found == 0) {
		if (database_id_draw(s->st, err) == -1)
			goto fail;
		drawn = 1;
	}
	if (file_settle(s, &drawn, err) == -1 ||
	    (drawn &&
		database_id_read(s, &s->database, s->database_id, &placements,
		    err) != 1))
		goto fail;
	if (drawn)
		s->database_is_new = 1;
	if (store_commit(s->st, err) == -1)
		return (-1);
	snprintf(s->source, sizeof(s->source), "/millrace/%s/%s", s->svc->name,
	    s->database_id);
	return (0);
fail:
	store_rollback(s->st);
	return (-1);
}

int
database_id_check(struct stream *s, struct mr_error *err)
{
	char id[DATABASE_ID_SIZE] = "";
	int64_t number = 0, placements = 0;

	if (database_id_read(s, &number, id, &placements, err) == -1)
		return (-1);
	if (number != s->database || strcmp(id, s->database_id) != 0)
		return (mr_error_set(err, MR_FATAL,
		    "the database id of %s changed from %s to %s: the file "
		    "was restored while in use, or another instance drew one",
		    s->db_path, s->database_id, id));
	placement_compare(s, placements);
	return (0);
}

/*
 * The tails go with the old id: the first record of a new source has no
 * predecessor, since its readers have no mark for it.
 */
static int
identity_renew(struct store *st, struct mr_error *err)
{
	return (database_id_draw(st, err) == -1 ||
		    store_run(st, err, sql_tails_forget) == -1 ?
		-1 :
		0);
}

int
stream_renew_file(struct store *st, struct mr_error *err)
{
	return (identity_renew(st, err) == -1 ||
		    store_run(st, err, sql_relay_free) == -1 ?
		-1 :
		stream_forget_cursor(st, err));
}

int
stream_forget_cursor(struct store *st, struct mr_error *err)
{
	int64_t one;
	int has_mode;

	if ((has_mode = store_find(st, err, &one, sql_relay_has_mode)) == -1)
		return (-1);
	return (has_mode && store_run(st, err, sql_relay_begin) == -1 ? -1 : 0);
}

int
database_id_redraw(struct stream *s, struct mr_error *err)
{
	if (store_begin(s->st, err) == -1)
		return (-1);
	if (database_id_check(s, err) == -1 ||
	    identity_renew(s->st, err) == -1) {
		store_rollback(s->st);
		return (-1);
	}
	if (store_commit(s->st, err) == -1)
		return (-1);
	s->database_is_new = 1;
	return (database_id_load(s, err));
}

int
database_id_known(struct stream *s, const char *id, struct mr_error *err)
{
	int64_t one;

	return (
	    store_find(s->st, err, &one, sql_database_known, store_text(id)));
}
