#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "store/internal.h"

/* A full disk has several names. */
static int
is_full(struct store *st, int rc)
{
	int error;

	if ((rc & 0xff) == SQLITE_FULL)
		return (1);
	if ((rc & 0xff) != SQLITE_IOERR)
		return (0);
	error = sqlite3_system_errno(st->db);
	return (error == ENOSPC || error == EDQUOT || error == EFBIG);
}

static enum mr_error_kind
kind_of(struct store *st, int rc)
{
	if (is_full(st, rc) || rc == SQLITE_IOERR_NOMEM)
		return (MR_RETRY);
	switch (rc & 0xff) {
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
	case SQLITE_TOOBIG:
		return (MR_REJECT);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_NOMEM:
	case SQLITE_INTERRUPT:
	case SQLITE_PROTOCOL:
	case SQLITE_SCHEMA:
		return (MR_RETRY);
	default:
		return (MR_FATAL);
	}
}

const char *
store_place_advice(int error)
{

	if (error == EROFS)
		return ("; mount its file system for writing again");
	return ("; check owner and mode of the file and its folder");
}

/* What whoever reads the message can do. */
static const char *
advice_for(struct store *st, int rc)
{
	if (is_full(st, rc))
		return ("; free space on its file system");
	if (((rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN) &&
	    sqlite3_system_errno(st->db) == EROFS)
		return (store_place_advice(EROFS));
	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return ("; another program holds it: end that one's "
			"transaction (fuser -v names it)");
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return ("; put a backup back with millrace state restore");
	case SQLITE_READONLY:
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return (store_place_advice(0));
	case SQLITE_IOERR:
		return ("; check the disk (dmesg)");
	default:
		return ("");
	}
}

/* The first one of a transaction counts; what follows comes from it. */
static void
keep_trouble(struct store *st, const struct mr_error *err)
{
	if (st->begun && st->trouble.kind == MR_OK && err->kind != MR_REJECT)
		st->trouble = *err;
}

static int
keep(struct store *st, struct mr_error *err, const struct mr_error *error)
{
	keep_trouble(st, error);
	if (err != NULL)
		*err = *error;
	return (-1);
}

/*
 * SQLite's words, if they are about ${rc} and not about something earlier.
 * Without memory they may be about what it was wanted for, as if that were at
 * fault: "unable to open a temporary database file".
 */
static const char *
words_for(struct store *st, int rc)
{
	if (st->db != NULL && (rc & 0xff) != SQLITE_NOMEM &&
	    (sqlite3_errcode(st->db) & 0xff) == (rc & 0xff))
		return (sqlite3_errmsg(st->db));
	return (sqlite3_errstr(rc));
}

int
store_reject(struct store *st, struct mr_error *err, const char *what,
    const char *why)
{
	struct mr_error error = {0};

	/* A constraint can be told to end the transaction. */
	if (store_lost(st))
		mr_error_set(&error, MR_FATAL,
		    "%s on %.100s ended the transaction: %s", what, st->path,
		    why);
	else
		mr_error_set(&error, MR_REJECT, "%s: %s", st->path, why);
	return (keep(st, err, &error));
}

int
store_fail(struct store *st, struct mr_error *err, int rc, const char *what)
{
	struct mr_error error = {0};
	enum mr_error_kind kind = kind_of(st, rc);
	const char *why = words_for(st, rc);
	int system = 0;

	if (kind == MR_REJECT)
		return (store_reject(st, err, what, why));
	if ((rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN)
		system = sqlite3_system_errno(st->db);
	if ((rc & 0xff) == SQLITE_INTERRUPT)
		mr_error_set(&error, kind, "%s on %s took longer than %lld ms",
		    what, st->path, (long long)st->deadline_ms);
	else
		mr_error_set(&error, kind, "%s on %.100s: %.80s%s%s%s", what,
		    st->path, why, system != 0 ? ": " : "",
		    system != 0 ? strerror(system) : "", advice_for(st, rc));
	return (keep(st, err, &error));
}

int
store_bug(struct store *st, struct mr_error *err, const char *what,
    const char *sql)
{
	struct mr_error error = {0};

	mr_error_set(&error, MR_FATAL, "%.80s: %s: %.60s", st->path, what,
	    sql != NULL ? sql : "");
	return (keep(st, err, &error));
}

/*
 * SQLite's log has the line and the errno of what went wrong below.  What
 * becomes an error of ours anyway is left out.
 */
static void
log_sqlite(void *arg, int rc, const char *message)
{
	(void)arg;
	switch (rc & 0xff) {
	case SQLITE_NOTICE:
		log_info("sqlite", "notice", message);
		break;
	case SQLITE_IOERR:
	case SQLITE_CORRUPT:
	case SQLITE_CANTOPEN:
	case SQLITE_WARNING:
		log_warn("sqlite", "code", log_i64(rc), "warning", message);
		break;
	default:
		break;
	}
}

void
store_log_init(void)
{
	(void)sqlite3_config(SQLITE_CONFIG_LOG, log_sqlite, NULL);
}
