#include <sys/stat.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "store/internal.h"

static const char sql_make[] =
    "CREATE TABLE store_identity (\n"
    "	id INTEGER PRIMARY KEY CHECK (id = 1), -- one row\n"
    "	service TEXT NOT NULL,\n"
    "	created_at_ms INTEGER NOT NULL\n"
    ") STRICT;\n"
    "CREATE TABLE schema_versions (\n"
    "	component TEXT NOT NULL CHECK (component IN ('core', 'service')),\n"
    "	version INTEGER NOT NULL CHECK (version > 0),\n"
    "	name TEXT NOT NULL,\n"
    "	program_version TEXT NOT NULL, -- of the program that applied it\n"
    "	applied_at_ms INTEGER NOT NULL,\n"
    "	PRIMARY KEY (component, version)\n"
    ") STRICT, WITHOUT ROWID;\n";
static const char sql_name[] =
    "INSERT INTO store_identity (id, service, created_at_ms)"
    " VALUES (1, ?1, ?2)";
static const char sql_service[] = "SELECT service FROM store_identity";
static const char sql_version[] = "PRAGMA user_version";
static const char sql_application[] = "PRAGMA application_id";
static const char sql_empty[] = "SELECT count(*) FROM sqlite_schema";
static const char sql_applied[] =
    "SELECT version, program_version FROM schema_versions"
    " WHERE component = ?1 ORDER BY version DESC LIMIT 1";
static const char sql_bump[] =
    "INSERT INTO schema_versions"
    " (component, version, name, program_version, applied_at_ms)"
    " VALUES (?1, ?2, ?3, ?4, ?5)";
static const char sql_orphan[] =
    "SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1";

/* A pragma takes no parameter, so this one text is made of a number. */
static int
set_pragma(struct store *st, const char *pragma, int64_t value,
    struct mr_error *err)
{
	char sql[64];

	(void)snprintf(sql, sizeof(sql), "PRAGMA %s = %lld", pragma,
	    (long long)value);
	return (store_exec(st, sql, err));
}

/* ---- whether it is open --------------------------------------------------- */

int
store_is_ours(int64_t application)
{
	return ((application & ~INT64_C(0xffff)) == STORE_APPLICATION_ID_OPEN);
}

int64_t
store_fingerprint(const char *path)
{
	struct statx file;
	uint64_t sum;

	if (statx(AT_FDCWD, path, 0, STATX_INO | STATX_BTIME, &file) != 0)
		return (0);
	sum = file.stx_ino * UINT64_C(0x9e3779b97f4a7c15);
	if (file.stx_mask & STATX_BTIME)
		sum ^= ((uint64_t)file.stx_btime.tv_sec * 1000000000 +
			   file.stx_btime.tv_nsec) *
		    UINT64_C(0xc2b2ae3d27d4eb4f);
	return ((int64_t)sum);
}

int64_t
store_open_mark(const char *path)
{
	uint64_t sum = (uint64_t)store_fingerprint(path) >> 48;

	if (sum == (STORE_APPLICATION_ID & 0xffff))
		sum = 1;
	return (STORE_APPLICATION_ID_OPEN | (int64_t)sum);
}

int
store_mark(struct store *st, int open, struct mr_error *err)
{
	int64_t wanted = open ? store_open_mark(st->path) :
				STORE_APPLICATION_ID;
	int64_t application = 0;

	if (store_begin_held(st, err) != 0)
		return (-1);
	if (store_find(st, err, &application, sql_application) != 1 ||
	    (application != wanted &&
		set_pragma(st, "application_id", wanted, err) != 0)) {
		store_rollback_held(st);
		return (-1);
	}
	return (store_commit_held(st, err));
}

/* ---- a new file --------------------------------------------------------- */

static int
make_in_transaction(struct store *st, const char *service, struct mr_error *err)
{
	if (store_exec(st, sql_make, err) != 0 ||
	    set_pragma(st, "application_id", STORE_APPLICATION_ID, err) != 0 ||
	    store_run(st, err, sql_name, store_text(service),
		store_i64(clock_wall_ms())) == -1)
		return (-1);
	return (0);
}

static int
make(struct store *st, const char *service, struct mr_error *err)
{
	if (store_begin_held(st, err) != 0)
		return (-1);
	if (make_in_transaction(st, service, err) != 0) {
		store_rollback_held(st);
		return (-1);
	}
	return (store_commit_held(st, err));
}

int
store_is_new(struct store *st, struct mr_error *err)
{
	int64_t application = 0, count = 0;

	if (store_find(st, err, &application, sql_application) == -1)
		return (-1);
	if (store_is_ours(application))
		return (0);
	if (store_find(st, err, &count, sql_empty) == -1)
		return (-1);
	if (application == 0 && count == 0)
		return (1);
	return (mr_error_set(err, MR_FATAL,
	    "%.100s is another application's "
	    "database (application_id %lld): name another file",
	    st->path, (long long)application));
}

static int
check_service(struct store *st, const char *service, struct mr_error *err)
{
	struct store_rows *rows;
	int rc;

	if ((rows = store_query(st, err, sql_service)) == NULL)
		return (-1);
	if ((rc = store_next(rows, err)) == 0)
		rc = mr_error_set(err, MR_FATAL,
		    "%.100s has lost its name "
		    "(store_identity): put a backup back with millrace state "
		    "restore",
		    st->path);
	else if (rc == 1 && strcmp(store_get_text(rows, 0), service) != 0)
		rc = mr_error_set(err, MR_FATAL,
		    "%.80s belongs to the service "
		    "%.40s, not to %.40s: name another file",
		    st->path, store_get_text(rows, 0), service);
	store_rows_done(rows);
	return (rc == 1 ? 0 : -1);
}

/* ---- versions ----------------------------------------------------------- */

/* The last step in a table; -1 if the steps don't count up. */
static int
last_version(const struct store_migration *steps)
{
	int last = 0;

	for (; steps != NULL && steps->version != 0; steps++) {
		if (steps->version <= last)
			return (-1);
		last = steps->version;
	}
	return (last);
}

/* The version of one component in the file; refused if it is newer. */
static int
applied_version(struct store *st, const char *component,
    const struct store_migration *steps, int64_t *version, struct mr_error *err)
{
	int known = last_version(steps), rc;
	struct store_rows *rows;

	*version = 0;
	if (known == -1)
		return (mr_error_set(err, MR_FATAL,
		    "%s: the %s migrations are "
		    "not in order",
		    st->path, component));
	rows = store_query(st, err, sql_applied, store_text(component));
	if (rows == NULL)
		return (-1);
	if ((rc = store_next(rows, err)) == 1) {
		*version = store_get_i64(rows, 0);
		rc = 0;
	}
	if (*version > known)
		rc = mr_error_set(err, MR_FATAL,
		    "%.80s has %s schema %lld, this "
		    "is %s and knows %d: run %.20s or newer",
		    st->path, component, (long long)*version, config_version(),
		    known, store_get_text(rows, 1));
	store_rows_done(rows);
	return (rc);
}

int
store_check_newer(struct store *st, const struct store_migration *core,
    const struct store_migration *own, struct mr_error *err)
{
	int64_t version;

	if (applied_version(st, "core", core, &version, err) != 0)
		return (-1);
	return (own == NULL ?
		0 :
		applied_version(st, "service", own, &version, err));
}

static int
check_sum(struct store *st, int64_t sum, struct mr_error *err)
{
	if (store_find(st, err, &st->version, sql_version) != 1)
		return (-1);
	if (st->version != sum)
		return (mr_error_set(err, MR_FATAL,
		    "%.80s: user_version is %lld, "
		    "its schema_versions say %lld: another program changed it; "
		    "put a backup back with millrace state restore",
		    st->path, (long long)st->version, (long long)sum));
	return (0);
}

/* ---- one step ----------------------------------------------------------- */

static int
check_orphans(struct store *st, struct mr_error *err)
{
	struct store_rows *rows;
	int rc;

	if ((rows = store_query(st, err, sql_orphan)) == NULL)
		return (-1);
	if ((rc = store_next(rows, err)) == 1)
		rc = mr_error_set(err, MR_FATAL,
		    "%s: rows of %.64s refer to "
		    "rows that aren't there",
		    st->path, store_get_text(rows, 0));
	store_rows_done(rows);
	return (rc);
}

static int
step_in_transaction(struct store *st, const char *component,
    const struct store_migration *step, struct mr_error *err)
{
	int rc;

	st->migrating = 1;
	rc = store_exec(st, step->sql, err);
	st->migrating = 0;
	if (rc != 0 || FAILPOINT("store.migrate.sql"))
		return (-1);
	if (check_orphans(st, err) != 0 || store_check_schema(st, err) != 0)
		return (-1);
	if (store_run(st, err, sql_bump, store_text(component),
		store_i64(step->version), store_text(step->name),
		store_text(config_version()), store_i64(clock_wall_ms())) == -1)
		return (-1);
	return (0);
}

static int
run_step(struct store *st, const char *component,
    const struct store_migration *step, int64_t from, struct mr_error *err)
{
	int64_t to = st->version + step->version - from;

	if (store_begin_held(st, err) != 0)
		return (-1);
	if (step_in_transaction(st, component, step, err) != 0 ||
	    set_pragma(st, "user_version", to, err) != 0) {
		store_rollback_held(st);
		return (-1);
	}
	if (store_commit_held(st, err) != 0)
		return (-1);
	(void)FAILPOINT("store.migrate.done");
	st->version = to;
	log_info("migrated", "path", st->path, "component", component,
	    "version", log_i64(step->version), "name", step->name);
	return (0);
}

/*
 * A migration that makes a table anew would delete the rows that refer to
 * the old one, so foreign keys are off meanwhile, and checked at the end.
 */
static int
run_steps(struct store *st, const char *component,
    const struct store_migration *steps, int64_t from, struct mr_error *err)
{
	int rc = 0;

	for (; rc == 0 && steps != NULL && steps->version != 0; steps++) {
		if (steps->version <= from)
			continue;
		rc = run_step(st, component, steps, from, err);
		if (rc != 0)
			mr_error_wrap(err, "migration %s %d", component,
			    steps->version);
		from = steps->version;
	}
	return (rc);
}

/* Is there a version to go back to? */
static int
is_upgrade(const struct store_options *options, int64_t core, int64_t own)
{

	return ((core > 0 && core < last_version(options->core)) ||
	    (own > 0 && own < last_version(options->own)));
}

int
store_migrate(struct store *st, const struct store_options *options,
    struct mr_error *err)
{
	int64_t core, own;
	int fresh, rc;

	if ((fresh = store_is_new(st, err)) == -1)
		return (-1);
	if (fresh && make(st, options->service, err) != 0)
		return (-1);
	if (check_service(st, options->service, err) != 0 ||
	    applied_version(st, "core", options->core, &core, err) != 0 ||
	    applied_version(st, "service", options->own, &own, err) != 0 ||
	    check_sum(st, core + own, err) != 0)
		return (-1);
	if (options->keep_backups > 0 && is_upgrade(options, core, own) &&
	    store_backup_before_upgrade(st, options->keep_backups, err) != 0)
		return (-1);
	(void)sqlite3_db_config(st->db, SQLITE_DBCONFIG_ENABLE_FKEY, 0, NULL);
	rc = run_steps(st, "core", options->core, core, err);
	if (rc == 0)
		rc = run_steps(st, "service", options->own, own, err);
	(void)sqlite3_db_config(st->db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
	return (rc == 0 ? store_check_schema(st, err) : -1);
}
