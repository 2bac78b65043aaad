#include <stdio.h>
#include <string.h>

#include "store/store.h"

#include "copy_facts.h"

static const char sql_service[] = "SELECT service FROM store_identity";
static const char sql_version[] = "PRAGMA user_version";
static const char sql_issued[] =
    "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'";
static const char sql_consumed[] =
    "SELECT coalesce(sum(next_offset), 0) FROM positions";
static const char sql_outbox[] = "SELECT count(*) FROM outbox";
static const char sql_dead_letters[] = "SELECT count(*) FROM dead_letters";
static const char sql_has_declared[] =
    "SELECT count(*) FROM sqlite_schema WHERE name = 'declared'";
static const char sql_declared[] =
    "SELECT inputs, outputs, commands FROM declared";

/* Each gives how often it is violated. */
static const struct {
	const char *says;
	const char *sql;
} rules[] = {
    {"its user_version isn't what its schema_versions say",
	"SELECT (SELECT user_version FROM pragma_user_version) <>"
	" (SELECT sum(v) FROM (SELECT max(version) AS v FROM schema_versions"
	" GROUP BY component))"},
    {"it has no database id", "SELECT count(*) = 0 FROM database_ids"},
    {"its outbox has numbers that were never given out",
	"SELECT count(*) FROM outbox WHERE seq > coalesce((SELECT seq"
	" FROM sqlite_sequence WHERE name = 'outbox'), 0)"},
    {"its outbox has records that name a later one as their predecessor",
	"SELECT count(*) FROM outbox WHERE predecessor >= seq"},
    {"its outbox is ahead of its output_tails",
	"SELECT count(*) FROM outbox o LEFT JOIN output_tails t"
	" ON t.topic = o.topic AND t.partition = o.partition"
	" WHERE o.database = (SELECT max(number) FROM database_ids)"
	" AND (t.seq IS NULL OR t.seq < o.seq)"},
    /* Of a topic: it may have fewer partitions now than when it was marked. */
    {"it has marks in topics that it has no position of",
	"SELECT count(*) FROM marks m WHERE NOT EXISTS (SELECT 1"
	" FROM positions p WHERE p.topic_id = m.topic_id)"},
    {"it has rows that refer to rows that aren't there",
	"SELECT count(*) FROM pragma_foreign_key_check"},
};

int
copy_facts_declared(struct store *st, struct copy_facts *f,
    struct mr_error *err)
{
	struct store_rows *rows;
	int64_t has = 0;
	int found;

	if (store_find(st, err, &has, sql_has_declared) == -1)
		return (-1);
	if (has == 0)
		return (0);
	if ((rows = store_query_values(st, err, sql_declared, NULL, 0)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1) {
		f->declared = 1;
		snprintf(f->inputs, sizeof(f->inputs), "%s",
		    store_get_text(rows, 0));
		snprintf(f->outputs, sizeof(f->outputs), "%s",
		    store_get_text(rows, 1));
		f->commands = store_get_i64(rows, 2) != 0;
	}
	store_rows_done(rows);
	return (found == -1 ? -1 : 0);
}

static int
numbers_read(struct store *st, struct copy_facts *f, struct mr_error *err)
{
	const struct {
		const char *sql;
		int64_t *to;
	} numbers[] = {{sql_version, &f->version}, {sql_issued, &f->issued},
	    {sql_consumed, &f->consumed}, {sql_outbox, &f->outbox},
	    {sql_dead_letters, &f->dead_letters}};
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (store_find_values(st, err, numbers[i].to, numbers[i].sql,
			NULL, 0) == -1)
			return (-1);
	return (0);
}

static int
rules_check(struct store *st, const char *path, struct mr_error *err)
{
	int64_t offenders;
	size_t i;

	for (i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		offenders = 0;
		if (store_find_values(st, err, &offenders, rules[i].sql, NULL,
			0) == -1)
			return (-1);
		if (offenders != 0)
			return (mr_error_set(err, MR_FATAL,
			    "%s isn't sound: %s", path, rules[i].says));
	}
	return (0);
}

int
copy_facts_read(const char *path, struct copy_facts *facts,
    struct mr_error *err)
{
	struct store *st;
	int status = -1;

	memset(facts, 0, sizeof(*facts));
	if ((st = store_open_reader(path, 0, err)) == NULL)
		return (-1);
	if (store_find_text(st, err, facts->service, sizeof(facts->service),
		sql_service) != -1 &&
	    rules_check(st, path, err) == 0 &&
	    numbers_read(st, facts, err) == 0)
		status = copy_facts_declared(st, facts, err);
	store_close(st);
	return (status);
}
