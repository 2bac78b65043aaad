/*
 * placement -- the file says how the keys of its outputs are placed.
 *
 * Whoever checks a topic can't know by how many partitions a record was placed
 * when there are more of them by now.  So with the first record that is placed
 * otherwise than those before it a row is written, and nothing otherwise: the
 * query that reads the database id, once somebody else has written, tells
 * whether another instance has written one.
 *
 * An instance counts the partitions at its start.  One that started later, and
 * counted others, has said so in the file: the rest follow it, or a key would
 * be in two partitions for as long as both run.
 */
#include "base/log.h"
#include "stream/internal.h"

static const char sql_last[] = "SELECT max(number) FROM placements";
static const char sql_placing[] =
    "SELECT number, partitions FROM placements WHERE topic = ?1"
    " ORDER BY number DESC LIMIT 1";
static const char sql_place[] =
    "INSERT INTO placements (topic, from_seq, partitions) VALUES (?1, ?2, ?3)";

int
placement_count(struct stream *s, struct mr_error *err)
{

	s->placements_counted = 0;
	return (store_find(s->st, err, &s->placements_counted, sql_last) == -1 ?
		-1 :
		0);
}

void
placement_forget(struct stream *s)
{
	int i;

	for (i = 0; i < s->output_count; i++)
		s->outputs[i].placing = PLACING_NOT_READ;
	s->placement_noted = 0;
}

void
placement_compare(struct stream *s, int64_t last)
{

	if (last == s->placements)
		return;
	s->placements = last;
	placement_forget(s);
}

/* Its tails are of as many partitions as it has, from the next record on. */
static void
follow(struct output *o, int partitions)
{
	int k;

	log_info("placing keys as another instance does", "topic", o->topic,
	    "partitions", log_i64(partitions), "until_now",
	    log_i64(o->partitions));
	for (k = o->partitions; k < partitions; k++) {
		o->tails[k] = -1;
		o->changed[k] = 0;
	}
	o->partitions = partitions;
}

int
placement_read(struct stream *s, struct output *o, struct mr_error *err)
{
	struct store_rows *rows;
	int64_t partitions = 0;
	int found;

	if (o->placing != PLACING_NOT_READ)
		return (0);
	if ((rows = store_query(s->st, err, sql_placing,
		 store_text(o->topic))) == NULL)
		return (-1);
	o->placing_number = 0;
	if ((found = store_next(rows, err)) == 1) {
		o->placing_number = store_get_i64(rows, 0);
		partitions = store_get_i64(rows, 1);
	}
	store_rows_done(rows);
	if (found == -1)
		return (-1);
	if (found == 1 && partitions > KAFKA_PARTITIONS_MAX)
		return (mr_error_set(err, MR_FATAL,
		    "%s says that %s has %lld partitions, above %d", s->db_path,
		    o->topic, (long long)partitions, KAFKA_PARTITIONS_MAX));
	if (found == 0)
		o->placing = PLACING_UNSAID;
	else if (partitions == 0)
		o->placing = PLACING_OTHERWISE;
	else
		o->placing = (int)partitions;
	if (o->placing > 0 && o->placing != o->partitions &&
	    o->placing_number > s->placements_counted)
		follow(o, o->placing);
	return (0);
}

/*
 * Where some records of a topic go by their key and others not, that isn't said
 * again at each turn: from the first of the others on nothing is promised, up
 * to a start.
 */
int
placement_note(struct stream *s, struct output *o, int by_key, int64_t seq,
    struct mr_error *err)
{
	const int placing = by_key ? o->partitions : PLACING_OTHERWISE;

	if (o->placing == placing ||
	    (o->placing == PLACING_OTHERWISE &&
		o->placing_number > s->placements_counted))
		return (0);
	if (store_run(s->st, err, sql_place, store_text(o->topic),
		store_i64(seq), store_i64(by_key ? o->partitions : 0)) == -1)
		return (-1);
	o->placing = placing;
	o->placing_number = store_last_id(s->st);
	s->placement_noted = 1;
	return (0);
}
