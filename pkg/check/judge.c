/* judge -- run the invariants' queries, and report what they say. */
#include <stdio.h>
#include <string.h>

#include "check/internal.h"

#define TEXT_SIZE 512

static const char sql_has_file[] = "SELECT 1 FROM files WHERE service = ?1";
static const char sql_expiry[] =
    "INSERT INTO expiry (what, before_ms) VALUES (?1, ?2)";
static const char sql_cut[] =
    "SELECT 1 FROM partitions WHERE topic = ?1 AND first > 0";

static const char sql_unread[] =
    "SELECT coalesce(sum(next - first), 0) FROM unread"
    " WHERE instr(' ' || ?1 || ' ', ' ' || topic || ' ') > 0";

/* Offenders that a record more of these topics would set right. */
struct excuse {
	char topics[TEXT_SIZE];
	int64_t offenders;
	int64_t unread; /* records of the topics that can't be read */
};
#define EXCUSES_MOST 4

/* What is reported of one invariant; the texts are its own. */
struct findings {
	struct check_line line;
	char reason[160];
	struct excuse excuses[EXCUSES_MOST];
	int excuse_count;
	int64_t excused;
	const char *first[CHECK_FIRST_MOST];
	char texts[CHECK_FIRST_MOST][TEXT_SIZE];
};

static int
is_skipped(const struct check_options *options, const char *name)
{
	int i;

	for (i = 0; i < options->skip_count; i++)
		if (strcmp(options->skip[i], name) == 0)
			return (1);
	return (0);
}

/* The first row's text; ${text} stays as it is where there is none. */
static int
text_read(struct check *c, const char *sql, char *text, size_t size,
    struct mr_error *err)
{
	struct store_rows *rows;
	int found;

	if ((rows = store_query_values(c->st, err, sql, NULL, 0)) == NULL)
		return (-1);
	if ((found = store_next(rows, err)) == 1)
		snprintf(text, size, "%s", store_get_text(rows, 0));
	store_rows_done(rows);
	return (found == -1 ? -1 : 0);
}

/* Why an invariant can't be judged here, if it can't: 1, 0, or -1. */
static int
unjudged(struct check *c, const struct check_invariant *inv,
    const struct check_options *options, char *why, size_t size,
    struct mr_error *err)
{
	int64_t one;
	int found, i;

	why[0] = '\0';
	if (is_skipped(options, inv->name))
		snprintf(why, size, "left out");
	else if (inv->acknowledged && !c->acknowledged)
		snprintf(why, size, "no list of acknowledged orders was given");
	else if (inv->settled && !options->settled)
		snprintf(why, size, "only --settled can tell");
	for (i = 0; i < 2 && inv->needs[i] != NULL && !why[0]; i++) {
		if ((found = store_find(c->st, err, &one, sql_has_file,
			 store_text(inv->needs[i]))) == -1)
			return (-1);
		if (found == 0)
			snprintf(why, size,
			    c->partly ? "the file of %s isn't looked at" :
					"there is no file of %s",
			    inv->needs[i]);
	}
	for (i = 0; i < 2 && inv->topics[i] != NULL && !why[0]; i++) {
		if ((found = store_find(c->st, err, &one, sql_cut,
			 store_text(inv->topics[i]))) == -1)
			return (-1);
		if (found == 1)
			snprintf(why, size,
			    "retention has deleted records of %s",
			    inv->topics[i]);
	}
	if (inv->unless != NULL && !why[0] &&
	    text_read(c, inv->unless, why, size, err) == -1)
		return (-1);
	return (why[0] != '\0');
}

static int
counts_read(struct check *c, const struct check_invariant *inv,
    struct findings *f, struct mr_error *err)
{

	if (inv->judged != NULL &&
	    store_find_values(c->st, err, &f->line.judged, inv->judged, NULL,
		0) == -1)
		return (-1);
	if (inv->counts == NULL)
		return (0);
	if (text_read(c, inv->counts, f->reason, sizeof(f->reason), err) == -1)
		return (-1);
	if (f->reason[0] != '\0')
		f->line.reason = f->reason;
	return (0);
}

/* Count an offender, and keep its text if it is among the first. */
static void
offender_keep(struct findings *f, int64_t most, const char *text)
{
	int n = f->line.first_count;

	f->line.offenders++;
	if (n >= most || n >= CHECK_FIRST_MOST)
		return;
	snprintf(f->texts[n], sizeof(f->texts[n]), "%s", text);
	f->first[n] = f->texts[n];
	f->line.first_count++;
}

/* An offender's excuse; NULL: it has none. */
static struct excuse *
excuse_find(struct findings *f, struct store_rows *row)
{
	const char *topics;
	int i;

	if (store_column_count(row) < 2 || store_is_null(row, 1))
		return (NULL);
	topics = store_get_text(row, 1);
	for (i = 0; i < f->excuse_count; i++)
		if (strcmp(f->excuses[i].topics, topics) == 0)
			return (&f->excuses[i]);
	if (i == EXCUSES_MOST)
		return (NULL);
	f->excuse_count++;
	snprintf(f->excuses[i].topics, TEXT_SIZE, "%s", topics);
	return (&f->excuses[i]);
}

/* How many offenders have which excuse, and how far that goes. */
static int
excuses_read(struct check *c, const struct check_invariant *inv,
    struct findings *f, struct mr_error *err)
{
	struct store_rows *rows;
	struct excuse *e;
	int i, more;

	if (c->unread_count == 0)
		return (0);
	if ((rows = store_query_values(c->st, err, inv->offenders, NULL, 0)) ==
	    NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1)
		if ((e = excuse_find(f, rows)) != NULL)
			e->offenders++;
	store_rows_done(rows);
	for (i = 0; i < f->excuse_count && more != -1; i++)
		more = store_find(c->st, err, &f->excuses[i].unread, sql_unread,
		    store_text(f->excuses[i].topics));
	return (more == -1 ? -1 : 0);
}

static int
is_excused(struct check *c, struct findings *f, struct store_rows *row)
{
	const struct excuse *e;

	return (c->unread_count > 0 && (e = excuse_find(f, row)) != NULL &&
	    e->offenders <= e->unread);
}

static void
excused_tell(struct findings *f)
{
	size_t used = strlen(f->reason);

	if (f->excused == 0)
		return;
	snprintf(f->reason + used, sizeof(f->reason) - used,
	    "%s%lld may be right by what can't be read", used > 0 ? "; " : "",
	    (long long)f->excused);
	f->line.reason = f->reason;
}

static int
offenders_read(struct check *c, const struct check_invariant *inv,
    int64_t first_most, struct findings *f, struct mr_error *err)
{
	struct store_rows *rows;
	int more;

	if (excuses_read(c, inv, f, err) == -1 ||
	    (rows = store_query_values(c->st, err, inv->offenders, NULL, 0)) ==
		NULL)
		return (-1);
	while ((more = store_next(rows, err)) == 1) {
		if (is_excused(c, f, rows))
			f->excused++;
		else
			offender_keep(f, first_most, store_get_text(rows, 0));
	}
	store_rows_done(rows);
	excused_tell(f);
	return (more);
}

static int
judge_one(struct check *c, const struct check_invariant *inv,
    const struct check_options *options, struct findings *f,
    struct mr_error *err)
{
	int no;

	f->line.name = inv->name;
	f->line.says = inv->says;
	f->line.first = f->first;
	if ((no = unjudged(c, inv, options, f->reason, sizeof(f->reason),
		 err)) == -1)
		return (-1);
	if (no) {
		f->line.verdict = CHECK_NOT_JUDGED;
		f->line.reason = f->reason;
		return (0);
	}
	if (counts_read(c, inv, f, err) == -1 ||
	    offenders_read(c, inv, options->first_most, f, err) == -1)
		return (mr_error_wrap(err, "judging %s", inv->name));
	f->line.verdict = f->line.offenders == 0 ? CHECK_HOLDS : CHECK_VIOLATED;
	return (0);
}

/* What the queries stand on is derived once. */
static int
derive(struct check *c, const struct check_options *options,
    struct mr_error *err)
{
	const char *const *sql;

	if (check_begin(c, err) == -1 ||
	    store_run(c->st, err, sql_expiry, store_text("notifications"),
		store_i64(options->now_ms - options->keep_notifications_ms)) ==
		-1 ||
	    store_run(c->st, err, sql_expiry, store_text("dead-letters"),
		store_i64(options->now_ms - options->keep_dead_letters_ms)) ==
		-1)
		return (-1);
	for (sql = check_derive; *sql != NULL; sql++)
		if (store_run_values(c->st, err, *sql, NULL, 0) == -1)
			return (-1);
	return (check_commit(c, err));
}

static int
skip_known(const struct check_options *options, struct mr_error *err)
{
	const struct check_invariant *inv;
	int i;

	for (i = 0; i < options->skip_count; i++) {
		for (inv = check_invariants; inv->name != NULL; inv++)
			if (strcmp(inv->name, options->skip[i]) == 0)
				break;
		if (inv->name == NULL)
			return (mr_error_set(err, MR_FATAL,
			    "there is no invariant called \"%.40s\"",
			    options->skip[i]));
	}
	return (0);
}

int
check_judge(struct check *c, const struct check_options *options,
    void (*report)(void *arg, const struct check_line *line), void *arg,
    struct mr_error *err)
{
	const struct check_invariant *inv;
	struct findings f;
	int holds = 1;

	if (skip_known(options, err) == -1 || derive(c, options, err) == -1)
		return (-1);
	for (inv = check_invariants; inv->name != NULL; inv++) {
		memset(&f, 0, sizeof(f));
		if (judge_one(c, inv, options, &f, err) == -1)
			return (-1);
		report(arg, &f.line);
		if (f.line.verdict == CHECK_VIOLATED)
			holds = 0;
	}
	return (holds);
}

int
check_list(int index, const char **name, const char **says)
{
	if (check_invariants[index].name == NULL)
		return (0);
	*name = check_invariants[index].name;
	*says = check_invariants[index].says;
	return (1);
}
