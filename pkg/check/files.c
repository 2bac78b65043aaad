/* files -- reading the services' files, each in one snapshot. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/internal.h"
#include "migrations.h"

static const char sql_pin[] = "SELECT service FROM store_identity";
static const char sql_issued[] =
    "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'";
static const char sql_dead_issued[] =
    "SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'";
static const char sql_other[] = "SELECT path FROM files WHERE service = ?1";
static const char sql_file[] =
    "INSERT INTO files (service, path, issued, dead_issued)"
    " VALUES (?1, ?2, ?3, ?4)";
static const char sql_core[] =
    "SELECT max(version) FROM schema_versions WHERE component = 'core'";
static const char sql_ids[] =
    "SELECT number, database_id FROM database_ids ORDER BY number";
static const char sql_number[] = "UPDATE sources SET number = ?2 WHERE id = ?1";
static const char sql_outbox[] =
    "SELECT o.seq, o.topic, o.partition, o.type, o.key, o.value,"
    " o.predecessor, o.cause_topic, o.cause_partition, o.cause_offset,"
    " d.database_id, o.headers, o.ts_ms"
    " FROM outbox o JOIN database_ids d ON d.number = o.database";

/*
 * Rows that are copied as they are: of the one service that has the table, or
 * of every service, whose name then comes first.  A letter for each column: i
 * a number, t a text.
 */
static const struct copy {
	const char *service; /* NULL: all */
	int since; /* the core's version that the table came with */
	const char *columns;
	const char *select;
	const char *insert;
} copies[] = {
    {NULL, 1, "titi", /* positions */
	"SELECT topic_id, partition, topic, next_offset FROM positions",
	"INSERT INTO positions (service, topic_id, partition, topic,"
	" next_offset) VALUES (?1, ?2, ?3, ?4, ?5)"},
    {NULL, 1, "ttii", "SELECT source, topic_id, partition, seq FROM marks",
	"INSERT INTO marks (service, source, topic_id, partition, seq)"
	" VALUES (?1, ?2, ?3, ?4, ?5)"},
    {NULL, 1, "tii",
	"SELECT topic, partition, seq FROM output_tails WHERE partition >= 0",
	"INSERT INTO tails (service, topic, partition, seq)"
	" VALUES (?1, ?2, ?3, ?4)"},
    {NULL, 1, "tii", "SELECT topic, partition, record_offset FROM dead_letters",
	"INSERT INTO dead_rows (service, topic, partition, offset, gone)"
	" VALUES (?1, ?2, ?3, ?4, 0)"},
    {NULL, 2, "t", /* what it says that it reads, with blanks between */
	"WITH RECURSIVE w (topic, rest) AS (SELECT '', inputs || ' '"
	" FROM declared UNION ALL SELECT substr(rest, 1, instr(rest, ' ') - 1),"
	" substr(rest, instr(rest, ' ') + 1) FROM w WHERE rest <> '')"
	" SELECT topic FROM w WHERE topic <> ''",
	"INSERT INTO inputs (service, topic) VALUES (?1, ?2)"
	" ON CONFLICT DO NOTHING"},
    {NULL, 5, "tii",
	"SELECT topic, partition, record_offset FROM dead_letters_gone",
	"INSERT INTO dead_rows (service, topic, partition, offset, gone)"
	" VALUES (?1, ?2, ?3, ?4, 1)"},
    {NULL, 5, "tii",
	"SELECT topic, from_seq, partitions FROM placements ORDER BY number",
	"INSERT INTO placements (service, topic, from_seq, partitions)"
	" VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE"
	" SET partitions = excluded.partitions"},
    {"orders", 1, "ttitt",
	"SELECT id, item, quantity, status, reason FROM orders",
	"INSERT INTO orders (id, item, quantity, status, reason)"
	" VALUES (?1, ?2, ?3, ?4, ?5)"},
    {"orders", 1, "ttiit",
	"SELECT order_id, topic, partition, offset, type FROM order_trace",
	"INSERT INTO trace (order_id, topic, partition, offset, type)"
	" VALUES (?1, ?2, ?3, ?4, ?5)"},
    {"inventory", 1, "tiii",
	"SELECT item, on_hand, reserved, received FROM inventory",
	"INSERT INTO inventory (item, on_hand, reserved, received)"
	" VALUES (?1, ?2, ?3, ?4)"},
    {"inventory", 1, "ttit",
	"SELECT order_id, item, quantity, status FROM reservations",
	"INSERT INTO reservations (order_id, item, quantity, status)"
	" VALUES (?1, ?2, ?3, ?4)"},
    {"notifications", 1, "ttii",
	"SELECT order_id, outcome, created_at_ms, seq FROM notifications",
	"INSERT INTO notifications (order_id, outcome, created_at_ms, seq)"
	" VALUES (?1, ?2, ?3, ?4)"},
    {"notifications", 1, "i", "SELECT seq FROM notifications_cursor",
	"INSERT INTO cursors (service, seq) VALUES ('notifications', ?1)"},
    {"prices", 1, "i", "SELECT seq FROM prices_cursor",
	"INSERT INTO cursors (service, seq) VALUES ('prices', ?1)"},
    {"prices", 1, "ti", "SELECT symbol, seq FROM symbols",
	"INSERT INTO symbols (symbol, seq)"
	" VALUES (?1, ?2)"},
};

static const char sql_catalogue_read[] = "SELECT item, received FROM inventory";
static const char sql_catalogue[] =
    "INSERT INTO catalogue (item, received) VALUES (?1, ?2)";

static struct store_value
column_value(struct store_rows *rows, int column, char type)
{
	if (store_is_null(rows, column))
		return (store_null());
	if (type == 'i')
		return (store_i64(store_get_i64(rows, column)));
	return (store_text(store_get_text(rows, column)));
}

static int
copy_rows(struct check *c, struct store *file, const char *service,
    const struct copy *copy, struct mr_error *err)
{
	size_t i, first = 0, count = strlen(copy->columns);
	struct store_value values[8];
	struct store_rows *rows;
	int more;

	if ((rows = store_query_values(file, err, copy->select, NULL, 0)) ==
	    NULL)
		return (-1);
	if (copy->service == NULL)
		values[first++] = store_text(service);
	while ((more = store_next(rows, err)) == 1) {
		for (i = 0; i < count; i++)
			values[first + i] = column_value(rows, (int)i,
			    copy->columns[i]);
		if (check_begin(c, err) == -1 ||
		    store_run_values(c->st, err, copy->insert, values,
			first + count) == -1) {
			more = -1;
			break;
		}
	}
	store_rows_done(rows);
	return (more);
}

/* The sources that this file has been. */
static int
read_ids(struct check *c, struct store *file, const char *service,
    struct mr_error *err)
{
	struct store_rows *rows;
	char source[CHECK_SOURCE_SIZE];
	int64_t id;
	int more;

	if ((rows = store_query_values(file, err, sql_ids, NULL, 0)) == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		snprintf(source, sizeof(source), "/millrace/%s/%s", service,
		    store_get_text(rows, 1));
		if (check_source_id(c, source, &id, err) == -1 ||
		    store_run(c->st, err, sql_number, store_i64(id),
			store_i64(store_get_i64(rows, 0))) == -1) {
			more = -1;
			break;
		}
	}
	store_rows_done(rows);
	return (more);
}

/*
 * Where a dead letter in the outbox came from, out of its headers: pairs of
 * big-endian lengths, name, value.
 */
static void
read_dead(struct store_rows *row, char topic[KAFKA_TOPIC_MAX + 1],
    struct check_record *r)
{
	const unsigned char *b;
	size_t size, at = 0, n, v;
	char text[32];

	b = store_get_blob(row, 11, &size);
	while (size - at >= 8) {
		n = (size_t)b[at] << 24 | (size_t)b[at + 1] << 16 |
		    (size_t)b[at + 2] << 8 | b[at + 3];
		v = (size_t)b[at + 4] << 24 | (size_t)b[at + 5] << 16 |
		    (size_t)b[at + 6] << 8 | b[at + 7];
		at += 8;
		if (n > size - at || v > size - at - n)
			return;
		snprintf(text, sizeof(text), "%.*s", (int)(v < 31 ? v : 31),
		    (const char *)b + at + n);
		if (n == 17 && memcmp(b + at, "dead_letter_topic", n) == 0) {
			snprintf(topic, KAFKA_TOPIC_MAX + 1, "%.*s",
			    v > KAFKA_TOPIC_MAX ? KAFKA_TOPIC_MAX : (int)v,
			    (const char *)b + at + n);
			r->dead_topic = topic;
		} else if (n == 21 &&
		    memcmp(b + at, "dead_letter_partition", n) == 0) {
			r->dead_partition = (int)strtol(text, NULL, 10);
		} else if (n == 18 &&
		    memcmp(b + at, "dead_letter_offset", n) == 0) {
			r->dead_offset = strtoll(text, NULL, 10);
		}
		at += n + v;
	}
}

static int
take_outbox_row(struct check *c, struct store_rows *row, const char *service,
    struct mr_error *err)
{
	char source[CHECK_SOURCE_SIZE], dead[KAFKA_TOPIC_MAX + 1];
	struct check_record r = {.offset = -1};

	snprintf(source, sizeof(source), "/millrace/%s/%s", service,
	    store_get_text(row, 10));
	r.source = source;
	r.seq = store_get_i64(row, 0);
	r.topic = store_get_text(row, 1);
	r.partition = (int)store_get_i64(row, 2);
	r.type = store_get_text(row, 3);
	if (!store_is_null(row, 4))
		r.key = store_get_blob(row, 4, &r.key_size);
	if (!store_is_null(row, 5))
		r.value = store_get_blob(row, 5, &r.value_size);
	r.predecessor = store_get_i64(row, 6);
	r.ts_ms = store_get_i64(row, 12);
	if (!store_is_null(row, 7))
		r.cause_topic = store_get_text(row, 7);
	r.cause_partition = (int)store_get_i64(row, 8);
	r.cause_offset = store_get_i64(row, 9);
	if (!store_is_null(row, 11))
		read_dead(row, dead, &r);
	return (check_take(c, &r, err));
}

static int
read_outbox(struct check *c, struct store *file, const char *service,
    struct mr_error *err)
{
	struct store_rows *rows;
	int more;

	if ((rows = store_query_values(file, err, sql_outbox, NULL, 0)) == NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1)
		if (take_outbox_row(c, rows, service, err) == -1) {
			more = -1;
			break;
		}
	store_rows_done(rows);
	return (more);
}

/* What is in stock before anything happened: as the migrations say. */
static int
read_catalogue(struct check *c, struct mr_error *err)
{
	struct store_options options = {.service = "inventory",
	    .core = migrations_core,
	    .own = migrations_inventory};
	struct store_rows *rows;
	struct store *st;
	int more;

	options.path = c->scratch[SCRATCH_CATALOGUE];
	if ((st = store_open(&options, err)) == NULL)
		return (-1);
	if ((rows = store_query_values(st, err, sql_catalogue_read, NULL, 0)) ==
	    NULL) {
		store_close(st);
		return (-1);
	}
	while ((more = store_next(rows, err)) == 1)
		if (store_run(c->st, err, sql_catalogue,
			store_text(store_get_text(rows, 0)),
			store_i64(store_get_i64(rows, 1))) == -1) {
			more = -1;
			break;
		}
	store_rows_done(rows);
	store_close(st);
	return (more);
}

/* A copy in the same folder, say.  Which one is the service's, who knows? */
static int
refuse_second(struct check *c, const char *service, struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query(c->st, err, sql_other, store_text(service))) ==
	    NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1)
		found = mr_error_set(err, MR_FATAL,
		    "%.100s is a file of the service %s as well: move the one "
		    "that it doesn't use out of the folder",
		    store_get_text(rows, 0), service);
	store_rows_done(rows);
	return (found);
}

static int
read_all(struct check *c, struct store *file, const char *service,
    struct mr_error *err)
{
	int64_t issued = 0, dead_issued = 0, core = 0;
	size_t i;

	if (refuse_second(c, service, err) == -1 || check_begin(c, err) == -1 ||
	    store_find(file, err, &issued, sql_issued) == -1 ||
	    store_find(file, err, &dead_issued, sql_dead_issued) == -1 ||
	    store_find(file, err, &core, sql_core) == -1 ||
	    store_run(c->st, err, sql_file, store_text(service),
		store_text(store_path(file)), store_i64(issued),
		store_i64(dead_issued)) == -1 ||
	    read_ids(c, file, service, err) == -1 ||
	    read_outbox(c, file, service, err) == -1)
		return (-1);
	for (i = 0; i < sizeof(copies) / sizeof(copies[0]); i++)
		if ((copies[i].service == NULL ||
			strcmp(copies[i].service, service) == 0) &&
		    copies[i].since <= core &&
		    copy_rows(c, file, service, &copies[i], err) == -1)
			return (-1);
	if (strcmp(service, "inventory") == 0)
		return (read_catalogue(c, err));
	return (0);
}

static int
is_wanted(const struct check_run *run, const char *service)
{
	int i;

	for (i = 0; run != NULL && i < run->service_count; i++)
		if (strcmp(run->services[i], service) == 0)
			return (1);
	return (run == NULL || run->service_count == 0);
}

/* By its name, which is all that there is of what can't be opened. */
static int
is_wanted_by_name(const struct check_run *run, const char *path)
{
	const char *slash = strrchr(path, '/');
	char name[64];
	size_t length;

	path = slash != NULL ? slash + 1 : path;
	length = strcspn(path, ".");
	snprintf(name, sizeof(name), "%.*s", (int)length, path);
	return (is_wanted(run, name));
}

int
check_add_file(struct check *c, const char *path, struct mr_error *err)
{

	return (check_add_wanted(c, path, NULL, err));
}

int
check_add_wanted(struct check *c, const char *path, const struct check_run *run,
    struct mr_error *err)
{
	struct store_rows *pin;
	struct store *file;
	char service[64] = "";
	int found, status = -1;

	if ((file = store_open_reader(path, 0, err)) == NULL)
		return (is_wanted_by_name(run, path) ? -1 : 0);
	/* A statement under way keeps its snapshot for all that follow. */
	if ((pin = store_query_values(file, err, sql_pin, NULL, 0)) == NULL) {
		status = is_wanted_by_name(run, path) ? -1 : 0;
		goto done;
	}
	if ((found = store_next(pin, err)) == 1)
		snprintf(service, sizeof(service), "%s",
		    store_get_text(pin, 0));
	else if (found == 0)
		mr_error_set(err, MR_FATAL, "%s doesn't say whose it is", path);
	if (found == 1 ? !is_wanted(run, service) :
			 !is_wanted_by_name(run, path))
		status = 0;
	else if (found == 1 && (status = read_all(c, file, service, err)) == 0)
		c->files++;
	store_rows_done(pin);
done:
	store_close(file);
	return (status == -1 ? mr_error_wrap(err, "reading %s", path) : 0);
}
