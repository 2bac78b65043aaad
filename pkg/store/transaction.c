#include "base/clock.h"
#include "base/failpoint.h"
#include "store/internal.h"

static const char *const own_sql[STORE_OWN_COUNT] =
    {[STORE_OWN_BEGIN] = "BEGIN IMMEDIATE",
	[STORE_OWN_COMMIT] = "COMMIT",
	[STORE_OWN_ROLLBACK] = "ROLLBACK",
	[STORE_OWN_SAVE] = "SAVEPOINT one",
	[STORE_OWN_RELEASE] = "RELEASE one",
	[STORE_OWN_RESTORE] = "ROLLBACK TO one",
	[STORE_OWN_VERSION] = "PRAGMA user_version",
	[STORE_OWN_DATA_VERSION] = "PRAGMA data_version"};

int
store_prepare_own(struct store *st, struct mr_error *err)
{
	int i, rc;

	for (i = 0; i < STORE_OWN_COUNT; i++) {
		rc = sqlite3_prepare_v3(st->db, own_sql[i], -1,
		    SQLITE_PREPARE_PERSISTENT, &st->own[i], NULL);
		if (rc != SQLITE_OK)
			return (store_fail(st, err, rc, "prepare"));
	}
	return (0);
}

static int
run_own(struct store *st, enum store_own which)
{
	int rc = sqlite3_step(st->own[which]);

	(void)sqlite3_reset(st->own[which]);
	return (rc == SQLITE_DONE ? SQLITE_OK : rc);
}

int
store_lost(const struct store *st)
{
	return (st->begun && sqlite3_get_autocommit(st->db));
}

int
store_in_transaction(const struct store *st)
{
	return (st->begun && !sqlite3_get_autocommit(st->db));
}

int
store_trouble(const struct store *st, struct mr_error *err)
{
	if (st->trouble.kind != MR_OK) {
		if (err != NULL)
			*err = st->trouble;
		return (-1);
	}
	if (store_lost(st))
		return (mr_error_set(err, MR_FATAL,
		    "%s: the transaction ended by itself", st->path));
	if (st->broken)
		return (mr_error_set(err, MR_FATAL,
		    "%s: the outcome of an earlier transaction is unknown: "
		    "start again",
		    st->path));
	return (0);
}

/* ---- the transaction ---------------------------------------------------- */

static void
ended(struct store *st)
{
	st->begun = st->saved = 0;
	st->trouble.kind = MR_OK;
}

static int
read_own(struct store *st, enum store_own which, sqlite3_int64 *value)
{
	sqlite3_stmt *stmt = st->own[which];
	int rc = sqlite3_step(stmt);

	*value = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
	(void)sqlite3_reset(stmt);
	return (rc == SQLITE_ROW ? SQLITE_OK : rc);
}

/*
 * Reading the version starts the snapshot, so what is compared is what this
 * transaction will write to.
 */
static int
check_version(struct store *st, struct mr_error *err)
{
	sqlite3_int64 version;
	int rc;

	if ((rc = read_own(st, STORE_OWN_VERSION, &version)) != SQLITE_OK)
		return (store_fail(st, err, rc, "read the version"));
	if (version != st->version)
		return (mr_error_set(err, MR_FATAL,
		    "%.100s was migrated by another "
		    "program from version %lld to %lld: start again",
		    st->path, (long long)st->version, (long long)version));
	return (0);
}

/*
 * The file may be moved a moment after any look at it.  So looks are some
 * milliseconds apart: two calls of stat() in each transaction were a thirtieth
 * of its time.
 */
static int
check_path(struct store *st, struct mr_error *err)
{
	int64_t now_us = clock_mono_us();
	int moved = 0;

	if (now_us < st->look_due_us)
		return (0);
	(void)sqlite3_file_control(st->db, NULL, SQLITE_FCNTL_HAS_MOVED,
	    &moved);
	if (moved)
		return (mr_error_set(err, MR_FATAL,
		    "%.100s was moved, removed or "
		    "replaced while it was open: put it back, start again",
		    st->path));
	if (pen_moved(st->pen))
		return (mr_error_set(err, MR_FATAL,
		    "%.100s.writer was moved, "
		    "removed or replaced while it was open: start again",
		    st->path));
	st->look_due_us = now_us + STORE_LOOK_EVERY_US;
	return (0);
}

int
store_begin_held(struct store *st, struct mr_error *err)
{
	int rc;

	if ((rc = run_own(st, STORE_OWN_BEGIN)) != SQLITE_OK)
		return (store_fail(st, err, rc, "begin a transaction"));
	st->begun = 1;
	st->saved = 0;
	st->changes_at_begin = sqlite3_total_changes64(st->db);
	st->trouble.kind = MR_OK;
	if (check_version(st, err) != 0 || check_path(st, err) != 0) {
		store_rollback_held(st);
		return (-1);
	}
	return (0);
}

/* Nothing more may be written, not even by the checkpoint of closing. */
static void
give_up(struct store *st)
{
	st->broken = 1;
	(void)sqlite3_db_config(st->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1,
	    NULL);
}

/*
 * Without memory to prepare ROLLBACK anew, after a change of the schema, the
 * transaction stays open until the connection is closed.
 */
void
store_rollback_held(struct store *st)
{
	store_finish_rows(st, 0);
	if (store_in_transaction(st))
		(void)run_own(st, STORE_OWN_ROLLBACK);
	if (!sqlite3_get_autocommit(st->db))
		give_up(st);
	ended(st);
}

int
store_commit_held(struct store *st, struct mr_error *err)
{
	struct mr_error why = {0};
	int rc;

	store_finish_rows(st, 0);
	if (store_trouble(st, err) != 0) {
		/* It is certain that nothing was committed. */
		if (err != NULL && err->kind == MR_FATAL)
			mr_error_wrap(err, "rolled back");
		store_rollback_held(st);
		return (-1);
	}
	if (FAILPOINT("store.commit.before"))
		rc = SQLITE_FULL;
	else
		rc = run_own(st, STORE_OWN_COMMIT);
	if (rc == SQLITE_OK) {
		(void)FAILPOINT("store.commit.after");
		ended(st);
		return (0);
	}
	store_fail(st, &why, rc, "commit");
	if (store_in_transaction(st) || (rc & 0xff) == SQLITE_FULL) {
		mr_error_set(err, MR_RETRY, "%s", why.message);
	} else {
		mr_error_set(err, MR_FATAL, "outcome unknown: %s", why.message);
		give_up(st);
	}
	store_rollback_held(st);
	return (-1);
}

int
store_begin(struct store *st, struct mr_error *err)
{
	if (st->pen == NULL)
		return (mr_error_set(err, MR_FATAL,
		    "%s: a reader can't begin a "
		    "transaction",
		    st->path));
	if (st->begun)
		return (
		    store_bug(st, err, "a transaction in a transaction", NULL));
	if (st->broken)
		return (store_trouble(st, err));
	(void)FAILPOINT("store.begin");
	if (pen_take(st->pen, err) != 0)
		return (-1);
	if (store_begin_held(st, err) != 0) {
		pen_drop(st->pen);
		return (-1);
	}
	return (0);
}

int
store_commit(struct store *st, struct mr_error *err)
{
	int rc;

	if (!st->begun)
		return (mr_error_set(err, MR_FATAL,
		    "%s: commit outside of a "
		    "transaction",
		    st->path));
	rc = store_commit_held(st, err);
	pen_drop(st->pen);
	return (rc);
}

void
store_rollback(struct store *st)
{
	if (st == NULL || !st->begun)
		return;
	store_rollback_held(st);
	pen_drop(st->pen);
}

/* ---- savepoints --------------------------------------------------------- */

/*
 * SQLite copies each page that is first written to after a savepoint.  One
 * before which nothing was written, nearly every one, is the transaction's
 * begin instead, and costs nothing: to go back to it is to begin again.
 */

static int
check_save(struct store *st, int want, struct mr_error *err)
{
	if (store_lost(st))
		return (store_trouble(st, err));
	if (!st->begun || st->saved != want)
		return (store_bug(st, err,
		    want ? "no savepoint to end" :
			   "no transaction for a savepoint, or one is open",
		    NULL));
	return (0);
}

static int
run_save(struct store *st, enum store_own which, struct mr_error *err)
{
	int rc = st->saved_at_begin ? SQLITE_OK : run_own(st, which);

	return (rc != SQLITE_OK ? store_fail(st, err, rc, "savepoint") : 0);
}

/* The pen keeps all away but programs that know nothing of it. */
static int
begin_again(struct store *st, struct mr_error *err)
{
	sqlite3_int64 before, after;
	int rc;

	if ((rc = read_own(st, STORE_OWN_DATA_VERSION, &before)) != SQLITE_OK ||
	    (rc = run_own(st, STORE_OWN_ROLLBACK)) != SQLITE_OK ||
	    (rc = run_own(st, STORE_OWN_BEGIN)) != SQLITE_OK ||
	    (rc = read_own(st, STORE_OWN_DATA_VERSION, &after)) != SQLITE_OK)
		return (store_fail(st, err, rc, "begin a transaction again"));
	if (after != before)
		return (store_fail(st, err, SQLITE_BUSY_SNAPSHOT,
		    "begin a transaction again"));
	st->changes_at_begin = sqlite3_total_changes64(st->db);
	return (0);
}

int
store_save(struct store *st, struct mr_error *err)
{
	if (check_save(st, 0, err) != 0)
		return (-1);
	st->saved_at_begin = sqlite3_total_changes64(st->db) ==
	    st->changes_at_begin;
	st->changes_at_begin = -1; /* whatever a service did since */
	if (run_save(st, STORE_OWN_SAVE, err) != 0)
		return (-1);
	st->saved = 1;
	return (0);
}

int
store_release(struct store *st, struct mr_error *err)
{
	store_finish_rows(st, 1);
	if (check_save(st, 1, err) != 0 ||
	    run_save(st, STORE_OWN_RELEASE, err) != 0)
		return (-1);
	st->saved = 0;
	return (0);
}

int
store_restore(struct store *st, struct mr_error *err)
{
	store_finish_rows(st, 1);
	if (check_save(st, 1, err) != 0 ||
	    (st->saved_at_begin ? begin_again(st, err) :
				  run_save(st, STORE_OWN_RESTORE, err)) != 0)
		return (-1);
	return (store_release(st, err));
}

void
store_guard(struct store *st, int on)
{
	st->guarded = on;
}

int64_t
store_data_version(const struct store *st)
{
	unsigned int version = 0;

	if (sqlite3_file_control(st->db, NULL, SQLITE_FCNTL_DATA_VERSION,
		&version) != SQLITE_OK)
		return (-1);
	return (version);
}

int64_t
store_last_id(const struct store *st)
{
	return (sqlite3_last_insert_rowid(st->db));
}
