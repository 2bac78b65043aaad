/*
 * outcome -- everything that came out, as lines of text, in an order that
 * doesn't depend on how it came about.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_kafka.h"
#include "migrations.h"
#include "stream/internal.h"
#include "testing/internal.h"

/* Virtual tables, and what they keep for themselves, can be made anew. */
static const char sql_tables[] =
    "SELECT name FROM pragma_table_list WHERE schema = 'main'"
    " AND type = 'table' AND name NOT LIKE 'sqlite^_%' ESCAPE '^'"
    " ORDER BY name";
static const char sql_dead_letters[] =
    "SELECT topic, partition, record_offset, key, value, reason"
    " FROM dead_letters ORDER BY id";

/* ---- rows --------------------------------------------------------------- */

struct lines {
	char **list;
	size_t count;
};

static void
lines_add(struct lines *lines, struct buffer *line)
{

	if (line->failed)
		broken("out of memory");
	lines->list = need(
	    realloc(lines->list, (lines->count + 1) * sizeof(lines->list[0])));
	lines->list[lines->count++] = need(strdup(buffer_text(line)));
	buffer_clear(line);
}

static int
line_compare(const void *a, const void *b)
{
	char *const *x = a, *const *y = b;

	return (strcmp(*x, *y));
}

static void
lines_write(struct lines *lines, struct buffer *out)
{
	size_t i;

	for (i = 0; i < lines->count; i++) {
		buffer_addf(out, "%s\n", lines->list[i]);
		free(lines->list[i]);
	}
	free(lines->list);
	*lines = (struct lines){0};
}

static void
add_text(struct buffer *line, const char *text, size_t length)
{
	struct json_writer w;

	json_init(&w, line);
	json_text_n(&w, text, length);
}

static void
add_column(struct buffer *line, struct store_rows *rows, int column)
{
	const unsigned char *bytes;
	const char *text;
	size_t length, i;

	buffer_addf(line, " %s=", store_column_name(rows, column));
	switch (store_column_type(rows, column)) {
	case STORE_NULL:
		buffer_add_text(line, "null");
		return;
	case STORE_I64:
		buffer_add_i64(line, store_get_i64(rows, column));
		return;
	case STORE_F64:
		buffer_addf(line, "%.17g", store_get_f64(rows, column));
		return;
	case STORE_TEXT:
		text = store_get_text(rows, column);
		add_text(line, text, strlen(text));
		return;
	case STORE_BLOB:
		break;
	}
	bytes = store_get_blob(rows, column, &length);
	buffer_add_text(line, "x'");
	for (i = 0; i < length; i++)
		buffer_addf(line, "%02x", bytes[i]);
	buffer_add_text(line, "'");
}

static void
rows_write(struct store *st, const char *name, const char *sql, int sorted,
    struct buffer *out)
{
	struct buffer line = {0};
	struct lines lines = {0};
	struct store_rows *rows;
	struct mr_error err;
	int more = -1, column;

	if ((rows = store_query(st, &err, sql)) != NULL)
		while ((more = store_next(rows, &err)) == 1) {
			buffer_add_text(&line, name);
			for (column = 0; column < store_column_count(rows);
			     column++)
				add_column(&line, rows, column);
			lines_add(&lines, &line);
		}
	if (more == -1)
		broken("%s: %s", name, err.message);
	store_rows_done(rows);
	if (sorted && lines.count > 0)
		qsort(lines.list, lines.count, sizeof(lines.list[0]),
		    line_compare);
	lines_write(&lines, out);
	buffer_free(&line);
}

/* Is this one of the core's tables, or of the store's? */
static int
is_core(const char *name)
{
	const struct store_migration *m;
	char create[160];

	if (strcmp(name, "schema_versions") == 0 ||
	    strcmp(name, "store_identity") == 0)
		return (1);
	snprintf(create, sizeof(create), "CREATE TABLE %s (", name);
	for (m = migrations_core; m->sql != NULL; m++)
		if (strstr(m->sql, create) != NULL)
			return (1);
	return (0);
}

static void
tables_write(struct store *st, struct buffer *out)
{
	struct buffer name = {0};
	struct lines names = {0}, queries = {0};
	struct store_rows *rows;
	struct mr_error err;
	size_t i;
	int more = -1;

	if ((rows = store_query(st, &err, sql_tables)) != NULL)
		while ((more = store_next(rows, &err)) == 1) {
			if (is_core(store_get_text(rows, 0)))
				continue;
			buffer_add_text(&name, store_get_text(rows, 0));
			lines_add(&names, &name);
			buffer_addf(&name, "SELECT * FROM \"%s\"",
			    store_get_text(rows, 0));
			lines_add(&queries, &name);
		}
	if (more == -1)
		broken("tables: %s", err.message);
	store_rows_done(rows);
	for (i = 0; i < names.count; i++)
		rows_write(st, names.list[i], queries.list[i], 1, out);
	/* The store knows a statement by its address until it is closed. */
	store_close(st);
	buffer_clear(&name);
	lines_write(&names, &name);
	lines_write(&queries, &name);
	buffer_free(&name);
}

/* ---- records ------------------------------------------------------------ */

static int
emitted_compare(const void *a, const void *b)
{
	const struct emitted *x = a, *y = b;

	return ((x->seq > y->seq) - (x->seq < y->seq));
}

static int
partitions_of(const char *topic)
{
	const struct kafka_topic *declared = kafka_topic_find(topic);

	if (declared == NULL)
		broken("topic %s is not declared", topic);
	return (declared->partitions);
}

void
cluster_make(const struct service *svc)
{
	const char *const *topic;
	char dead_letters[KAFKA_TOPIC_MAX + 1];

	kafka_topic_declare(svc->topics);
	fake_start("testing");
	for (topic = svc->stream->inputs; topic != NULL && *topic != NULL;
	     topic++)
		fake_topic(*topic, 1);
	for (topic = svc->stream->outputs; topic != NULL && *topic != NULL;
	     topic++)
		fake_topic(*topic, partitions_of(*topic));
	snprintf(dead_letters, sizeof(dead_letters), "%s.dead-letter",
	    svc->stream->name);
	fake_topic(dead_letters, 1);
}

int
emitted_list(const char *topic, struct emitted **list)
{
	int partitions = partitions_of(topic), count = 0, p;
	int64_t offset, seq, mark;
	const char *id;

	*list = NULL;
	for (p = 0; p < partitions; p++) {
		mark = 0;
		for (offset = 0; offset < fake_next(topic, p); offset++) {
			id = fake_header(topic, p, offset, "ce_id");
			seq = id != NULL ? strtoll(id, NULL, 10) : 0;
			if (seq <= mark)
				continue; /* a relay's repeat */
			mark = seq;
			*list = need(realloc(*list,
			    ((size_t)count + 1) * sizeof(**list)));
			(*list)[count++] = (struct emitted){seq, p, offset};
		}
	}
	if (count > 0)
		qsort(*list, (size_t)count, sizeof(**list), emitted_compare);
	return (count);
}

static void
emitted_write(const char *topic, struct buffer *out)
{
	static const char *const shown[] = {"ce_type", "ce_time", "ce_cause",
	    "dead_letter_reason"};
	struct emitted *list, *e;
	const char *text;
	size_t h;
	int count = emitted_list(topic, &list), i;

	for (i = 0; i < count; i++) {
		e = &list[i];
		buffer_addf(out, "%s/%d", topic, e->partition);
		for (h = 0; h < sizeof(shown) / sizeof(shown[0]); h++) {
			text = fake_header(topic, e->partition, e->offset,
			    shown[h]);
			if (text != NULL)
				buffer_addf(out, " %s=%s", shown[h], text);
		}
		if ((text = fake_key(topic, e->partition, e->offset)) != NULL) {
			buffer_add_text(out, " key=");
			add_text(out, text, strlen(text));
		}
		if (!fake_is_tombstone(topic, e->partition, e->offset)) {
			buffer_add_text(out, " value=");
			add_text(out,
			    fake_value(topic, e->partition, e->offset),
			    fake_value_size(topic, e->partition, e->offset));
		}
		buffer_add_text(out, "\n");
	}
	free(list);
}

void
outcome_write(const struct service *svc, const char *path, struct buffer *out)
{
	const char *const *topic = svc->stream->outputs;
	char dead_letters[KAFKA_TOPIC_MAX + 1];
	struct mr_error err;
	struct store *st;

	if ((st = store_open_reader(path, 0, &err)) == NULL)
		broken("%s", err.message);
	rows_write(st, "dead_letters", sql_dead_letters, 0, out);
	tables_write(st, out);
	for (; topic != NULL && *topic != NULL; topic++)
		emitted_write(*topic, out);
	snprintf(dead_letters, sizeof(dead_letters), "%s.dead-letter",
	    svc->stream->name);
	if (svc->stream->inputs != NULL)
		emitted_write(dead_letters, out);
	if (out->failed)
		broken("out of memory");
}

/* ---- the cluster, over a crash ------------------------------------------ */

/* As many as fake_append takes. */
static const char *const kept[] = {"ce_type", "ce_source", "ce_id", "ce_time",
    "ce_predecessor", "ce_cause", "dead_letter_topic", "dead_letter_partition",
    "dead_letter_offset", "dead_letter_reason", "dead_letter_key_bytes",
    "dead_letter_value_bytes"};
#define KEPT (sizeof(kept) / sizeof(kept[0]))

static void
record_save(const char *topic, int partition, int64_t offset,
    struct buffer *out)
{
	const char *text;
	char number[64];
	size_t h;
	int length = snprintf(number, sizeof(number), "%d %lld", partition,
	    (long long)fake_ts_ms(topic, partition, offset));

	headers_add(out, "@record", topic, strlen(topic));
	headers_add(out, "@number", number, (size_t)length);
	if ((text = fake_key(topic, partition, offset)) != NULL)
		headers_add(out, "@key", text, strlen(text));
	if (!fake_is_tombstone(topic, partition, offset))
		headers_add(out, "@value", fake_value(topic, partition, offset),
		    fake_value_size(topic, partition, offset));
	for (h = 0; h < KEPT; h++) {
		text = fake_header(topic, partition, offset, kept[h]);
		if (text != NULL)
			headers_add(out, kept[h], text, strlen(text));
	}
	headers_add(out, "@end", "", 0);
}

static void
topic_save(const char *topic, int partitions, struct buffer *out)
{
	int64_t offset;
	int p;

	for (p = 0; p < partitions; p++)
		for (offset = 0; offset < fake_next(topic, p); offset++)
			record_save(topic, p, offset, out);
}

void
log_save(const struct service *svc, struct buffer *out)
{
	const char *const *topic;
	char dead_letters[KAFKA_TOPIC_MAX + 1];

	for (topic = svc->stream->inputs; topic != NULL && *topic != NULL;
	     topic++)
		topic_save(*topic, 1, out);
	for (topic = svc->stream->outputs; topic != NULL && *topic != NULL;
	     topic++)
		topic_save(*topic, partitions_of(*topic), out);
	snprintf(dead_letters, sizeof(dead_letters), "%s.dead-letter",
	    svc->stream->name);
	if (svc->stream->inputs != NULL)
		topic_save(dead_letters, 1, out);
}

/* A record's parts, with NULs put behind them. */
struct loading {
	struct fake_record record;
	char *texts[2 * KEPT + 3];
	int text_count;
	int header_count;
	char topic[KAFKA_TOPIC_MAX + 1];
	int partition;
};

static const char *
loading_text(struct loading *x, const void *value, size_t size)
{

	return (x->texts[x->text_count++] = need(strndup(value, size)));
}

static void
part_load(struct loading *x, const char *name, const void *value, size_t size)
{
	size_t h;
	char *end;

	if (strcmp(name, "@record") == 0) {
		snprintf(x->topic, sizeof(x->topic), "%.*s", (int)size,
		    (const char *)value);
	} else if (strcmp(name, "@number") == 0) {
		x->partition = (int)strtol(loading_text(x, value, size), &end,
		    10);
		if (*end != ' ')
			broken("a record that was saved can't be read");
		x->record.ts_ms = strtoll(end, NULL, 10);
	} else if (strcmp(name, "@key") == 0) {
		x->record.key = loading_text(x, value, size);
	} else if (strcmp(name, "@value") == 0) {
		x->record.value = value;
		x->record.value_size = size;
		if (size == 0)
			x->record.value = "";
	}
	for (h = 0; h < KEPT; h++)
		if (strcmp(name, kept[h]) == 0) {
			x->record.headers[x->header_count++] = kept[h];
			x->record.headers[x->header_count++] = loading_text(x,
			    value, size);
		}
}

void
log_load(const char *log, size_t size)
{
	struct loading x = {0};
	const void *value;
	size_t at = 0, value_size;
	char name[64];
	int i;

	while (headers_next(log, size, &at, name, sizeof(name), &value,
		   &value_size) == 1) {
		part_load(&x, name, value, value_size);
		if (strcmp(name, "@end") != 0)
			continue;
		fake_append(x.topic, x.partition, &x.record);
		for (i = 0; i < x.text_count; i++)
			free(x.texts[i]);
		memset(&x, 0, sizeof(x));
	}
}
