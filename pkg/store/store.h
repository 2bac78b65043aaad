/*
 * store -- one service's state in one SQLite file.
 *
 * A struct store is a connection and belongs to the thread that opened it.
 * A process has one that writes to a file (a second is refused), and as many
 * as it likes that read.  Every connection has WAL, synchronous=FULL, foreign
 * keys, DEFENSIVE, no trusted schema and temporary data in memory.
 *
 * Statements are constant text, one statement each, kept prepared for the
 * life of the connection, found again by the address of the text: give them
 * `static const char` arrays, never text built at run time.
 *
 * Write transactions are bracketed by store_begin and store_commit; a write
 * outside of one is refused, and so are BEGIN, COMMIT, SAVEPOINT and their
 * like as statements.  Among processes transactions queue at POSIX locks on
 * "<path>.writer", since SQLite's own waiting starves (three processes got
 * 480, 1 and 0 commits in a trial).  That file stays where it is.  A symbolic
 * link is followed once, when it is opened: this and all other files that
 * belong to one are beside the file itself, whatever name it was reached by.
 *
 * What a call's error means: RETRY, the file was busy, the disk full or
 * memory short, and the same call may work later; REJECT, this input broke a
 * constraint or doesn't fit; FATAL, the file or this process can't go on, or
 * the call was a programming error.  Whatever goes wrong in a transaction
 * and isn't a REJECT is remembered until it ends, see store_trouble.
 *
 * Each page of a file that was made since there are sums has one, compared
 * when it is read from the file: what changed on disk is FATAL, and the
 * message says to put a backup back.  Another program's changes look the same,
 * but for pages that it made anew (VACUUM).
 *
 * Times are milliseconds since the epoch.  In builds with failpoints:
 * store.begin, store.commit.before (error: a full disk), store.commit.after,
 * store.migrate.sql, store.migrate.done.
 */
#ifndef MR_STORE_H
#define MR_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

struct store;
struct store_rows;

/* One step of a schema.  Versions count up from 1; {0} ends a table. */
struct store_migration {
	int version;
	const char *name;
	const char *sql;
};

#define STORE_APPLICATION_ID 0x4d696c72 /* "Milr" */
/* "Mi" and which file it is: a process has it open, or had when it died. */
#define STORE_APPLICATION_ID_OPEN 0x4d690000

struct store_options {
	const char *path; /* its folder must exist */
	const char *service; /* checked: another service's file is refused */
	const struct store_migration
	    *core; /* the stream core's, applied first */
	const struct store_migration *own; /* the service's */
	int64_t busy_timeout_ms; /* for foreign writers; 0: 5000 */
	int64_t patience_ms; /* see store_begin; 0: 5000 */
	/* A file that is to be migrated is copied before, as store_backup does,
	 * to "<path>.upgrade-<time>-v<version>"; so many of these are kept.  0:
	 * none is made. */
	int64_t keep_backups;
	/* Called at each page that opening reads or writes: who started this
	 * process may wait for as long as it goes on.  NULL: nothing. */
	void (*on_progress)(void);
};

/*
 * store_open -- open a service's file for writing, make or migrate it.
 *
 * Refuses network and FUSE file systems, files of another application, of
 * another service or of a newer version, schemas with deferred constraints
 * or without NOT NULL primary keys, and, after an unclean exit (a log was
 * left behind and no other process has the file), logs of which a committed
 * transaction is damaged or missing, and files of up to 1 GiB that fail
 * quick_check, files that were open when they were copied without their log,
 * and files with several hard links; each message names the path and what to
 * do.
 *
 * Each migration and its version bump are one transaction, with foreign keys
 * off in it and checked at its end; it may hold many statements, but none
 * for transactions, ATTACH or PRAGMA.  Versions of core and service are kept
 * apart in the table `schema_versions`, and user_version is their sum.
 *
 * Then checkpoints, so that what was committed is in the file itself.  Holds
 * the writer lock while it works, and queues for it as store_begin does.
 * Blocks.  A new file's mode is 0660, less the umask.  NULL on error: RETRY
 * if another program holds the file or the disk is full, else FATAL.
 */
struct store *store_open(const struct store_options *options,
    struct mr_error *err);

/*
 * store_open_reader -- a read-only connection of its own for a thread.
 * Each statement is interrupted ${deadline_ms} after it was started (RETRY;
 * 0: never).  NULL on error: RETRY if the file isn't there yet.
 */
struct store *store_open_reader(const char *path, int64_t deadline_ms,
    struct mr_error *err);

/*
 * store_open_alone -- open any service's file to set it right by hand.
 *
 * The file must exist, and is taken as it is: nothing is migrated, and
 * nothing refused for its version; see store_check_newer.  Refused with RETRY,
 * which names the pid, while another process has it open for writing; until
 * store_close no other can.  NULL on error.
 */
struct store *store_open_alone(const char *path, struct mr_error *err);

/*
 * store_check_newer -- refuse (FATAL) a file whose schema is newer than
 * ${core}, or than ${own} (NULL: of its service nothing is known), as
 * store_open does.  By any connection.  0 or -1.
 */
int store_check_newer(struct store *st, const struct store_migration *core,
    const struct store_migration *own, struct mr_error *err);

/*
 * store_close -- roll back what is open, finish statements, optimise, close.
 * NULL is a no-op.
 */
void store_close(struct store *st);

/*
 * store_path -- the file's name: as it was given when it was opened, or of
 * what that led to if it was a symbolic link.
 */
const char *store_path(const struct store *st);
/*
 * store_fingerprint -- of the file of that name: its number and the time it was
 * made, drawn together, so that a copy has another one, and so does a file that
 * was moved to another file system.  0 if the file can't be looked at.
 */
int64_t store_fingerprint(const char *path);

/*
 * store_real_path -- where the file that ${path} names stands, so that what
 * belongs to it is beside it: what a symbolic link leads to, else ${path}.
 * The caller's to free; NULL without memory.
 */
char *store_real_path(const char *path, struct mr_error *err);

/*
 * store_log_bytes -- the size of the write-ahead log; 0 if it has none yet.
 *
 * A checkpoint is made when it has 16 MB, and the log is begun anew.  While a
 * reader, of this process or another, keeps an old snapshot, it only grows.
 */
int64_t store_log_bytes(const struct store *st);

/*
 * Values to bind, in the order of the statement's ?1, ?2, ...  Text and blobs
 * are borrowed until the call returns (store_query: until store_rows_done).
 * A NULL pointer binds null; no bytes at an address are an empty value.
 */
enum store_type { STORE_NULL, STORE_I64, STORE_F64, STORE_TEXT, STORE_BLOB };
struct store_value {
	enum store_type type;
	int64_t i64;
	double f64;
	const void *bytes;
	size_t length;
};
struct store_value store_null(void);
struct store_value store_i64(int64_t n);
struct store_value store_f64(double x);
struct store_value store_text(const char *text); /* NULL binds null */
struct store_value store_text_n(const char *text, size_t length);
struct store_value store_blob(const void *bytes, size_t length);

/*
 * store_run -- run a statement to its end and drop any rows.
 *
 *	store_run(st, err, sql_reserve, store_text(item), store_i64(quantity))
 *
 * Returns the number of rows changed (0 for none), or -1.
 */
#define store_run(st, err, ...) \
	STORE_SELECT_(store_run_values, st, err, __VA_ARGS__, STORE_END_)
int64_t store_run_values(struct store *st, struct mr_error *err,
    const char *sql, const struct store_value *values, size_t count);

/*
 * store_query -- start a statement that gives rows.
 *
 * Returns a cursor that lives in the connection and is used until
 * store_rows_done; NULL on error.  store_next returns 1 with a row, 0 at the
 * end, -1 on error.  Columns count from 0; text and blobs are good until the
 * next store_next or store_rows_done.  A NULL column reads as 0 or "" (length
 * 0); store_is_null tells.  The same statement can't be started twice at a
 * time.  The end of a savepoint closes the cursors opened in it, the end of
 * the transaction all of them.
 */
#define store_query(st, err, ...) \
	STORE_SELECT_(store_query_values, st, err, __VA_ARGS__, STORE_END_)
struct store_rows *store_query_values(struct store *st, struct mr_error *err,
    const char *sql, const struct store_value *values, size_t count);
int store_next(struct store_rows *rows, struct mr_error *err);
void store_rows_done(struct store_rows *rows); /* NULL is a no-op */
int64_t store_get_i64(struct store_rows *rows, int column);
double store_get_f64(struct store_rows *rows, int column);
const char *store_get_text(struct store_rows *rows, int column);
const void *store_get_blob(struct store_rows *rows, int column, size_t *length);
int store_is_null(struct store_rows *rows, int column);
/*
 * What a statement gives, for code that writes out any: how many columns, the
 * name of one (AS says it; good until store_rows_done), and the type of the
 * value that the row at hand has there.
 */
int store_column_count(const struct store_rows *rows);
const char *store_column_name(const struct store_rows *rows, int column);
enum store_type store_column_type(struct store_rows *rows, int column);

/*
 * store_find -- the first row's first column as a number.
 *
 * Returns 1 and sets *value; 0 if there is no row, or a NULL in it; -1 on
 * error.
 */
#define store_find(st, err, value, ...) \
	STORE_SELECT_FIND_(st, err, value, __VA_ARGS__, STORE_END_)
int store_find_values(struct store *st, struct mr_error *err, int64_t *value,
    const char *sql, const struct store_value *values, size_t count);

/* store_find_text -- the same as text, as much of it as has room; "" is found
 * for a NULL.  The statement takes no values. */
int store_find_text(struct store *st, struct mr_error *err, char *text,
    size_t size, const char *sql);

/*
 * store_begin -- take the pen and start a write transaction.
 *
 * Takes the lock on "<path>.writer", waiting for as long as it takes; past
 * patience_ms it names the holder in the log and, if that is this very
 * program, stopped (state T) and in this pid namespace, kills it.  While it
 * waits SIGRTMIN+5 is used.  Then BEGIN IMMEDIATE, then checks that the
 * version is still the one that was opened and, every 10 ms at most, that the
 * path still names the open file (FATAL if not: somebody migrated or replaced
 * it).  Returns 0 or -1, with the pen put down again; RETRY if a program
 * without the pen writes.
 */
int store_begin(struct store *st, struct mr_error *err);

/*
 * store_commit -- make it durable, then let go of the pen.
 *
 * 0: it is on disk.  -1 RETRY: it did not happen, everything is rolled back
 * and the pen is down.  -1 FATAL: the outcome is unknown; _exit, and trust
 * the file on the next start: this connection refuses further work.  With
 * trouble in the transaction it rolls back and returns that.
 */
int store_commit(struct store *st, struct mr_error *err);

/* store_rollback -- undo, let go of the pen.  No-op outside a transaction. */
void store_rollback(struct store *st);

/*
 * store_in_transaction -- 1 while the write transaction is really open.
 * SQLite rolls back by itself when the disk is full, among others; what
 * follows would commit alone.  Asked after everything that a service did.
 */
int store_in_transaction(const struct store *st);

/*
 * store_trouble -- the first error that wasn't a REJECT since the transaction
 * began (NOMEM, FULL, IOERR, CORRUPT, BUSY, a programming error), even if its
 * caller swallowed it.  Returns 0 if there was none, else -1 with RETRY
 * (full, busy, out of memory) or FATAL.
 */
int store_trouble(const struct store *st, struct mr_error *err);

/*
 * A savepoint within the transaction; they don't nest.  0, or -1 and trouble;
 * RETRY from store_restore also if a program that doesn't know the pen has
 * written meanwhile.
 */
int store_save(struct store *st, struct mr_error *err); /* SAVEPOINT */
int store_release(struct store *st, struct mr_error *err); /* keep */
int store_restore(struct store *st,
    struct mr_error *err); /* undo to it, and end it */

/*
 * store_guard -- 1: PRAGMA, ATTACH and DETACH statements are refused (FATAL,
 * and trouble), whenever they were prepared, so that a service's code can't
 * change what the core relies on.  0: they are allowed.  Statements that
 * begin or end transactions and savepoints are refused always.
 */
void store_guard(struct store *st, int on);

/*
 * store_data_version -- a number that every commit to the file changes, whoever
 * made it; -1: not known.  If in a transaction it is what it was right after
 * this connection's last commit, nobody has written between the two
 * (SQLITE_FCNTL_DATA_VERSION).  Outside of one it doesn't look at the file.
 */
int64_t store_data_version(const struct store *st);

/* store_last_id -- the rowid of the last insert. */
int64_t store_last_id(const struct store *st);

/*
 * store_backup -- copy the file, while it is in use, to ${path}, which must
 * not exist, check the copy and make it durable.  Any connection that isn't
 * in a transaction.  Blocks.  0 or -1.
 *
 * The copy is one snapshot, and one file by itself.  It is made in steps of a
 * megabyte with as long a pause after each, so that those who write have half
 * of the disk; the write-ahead log can't shrink until it is done.
 */
int store_backup(struct store *st, const char *path, struct mr_error *err);

/*
 * store_replace -- put another file in the place of a service's.
 *
 * Refused with RETRY, which names the pid, while a process has the file at
 * ${path} open for writing; none can open it until this returns.  ${make}
 * makes the new one under the path that it is given, and closes it.  Only
 * when that is durable is the old one, if there is one, moved aside with its
 * log, to "<path>.replaced-<time>", which ${kept} tells ("": there was none).
 * Cut short at any moment, either the old file is there or the new one, or
 * opening is refused and says to do this again.  If it fails before the old
 * one is taken away, nothing of the new one is left.  Where ${path} is a
 * symbolic link, it is what that leads to which is replaced.  The new file has
 * the old one's mode and, if root asks, its owner, or the folder's if there was
 * none.  0 or -1.
 */
typedef int store_make(void *arg, const char *path, struct mr_error *err);
int store_replace(const char *path, store_make *make, void *arg, char *kept,
    size_t kept_size, struct mr_error *err);

/*
 * store_abandon -- remove what store_backup and store_replace are making and
 * what hasn't got its name yet; what has it, stays.
 *
 * For the handler of a signal that ends the process then: async-signal-safe.
 * In a process that calls it one thread at a time backs up or replaces.
 */
void store_abandon(void);

/*
 * store_list -- the services' files of a folder: *.db, in the order of their
 * names, each path handed to ${each}, which ends it by returning -1.
 *
 * What is no regular file is passed over.  One that isn't a service's is added
 * to ${foreign} instead, with ", " between.  A service's file says so itself,
 * or has a lock beside it: so what is damaged isn't taken for foreign.  The
 * process must have none of them open.  0 or -1.
 */
typedef int store_each(void *arg, const char *path, struct mr_error *err);
int store_list(const char *folder, struct buffer *foreign, store_each *each,
    void *arg, struct mr_error *err);

/* store_version_text -- SQLite's version. */
const char *store_version_text(void);

/* Behind the macros: an array is made of the values after the SQL. */
#define STORE_END_ \
	((struct store_value){.type = STORE_NULL, .length = SIZE_MAX})
#define STORE_SELECT_(f, st, err, sql, ...)                        \
	f(st, err, sql, (const struct store_value[]){__VA_ARGS__}, \
	    sizeof((const struct store_value[]){__VA_ARGS__}) /    \
		    sizeof(struct store_value) -                   \
		1)
#define STORE_SELECT_FIND_(st, err, value, sql, ...)            \
	store_find_values(st, err, value, sql,                  \
	    (const struct store_value[]){__VA_ARGS__},          \
	    sizeof((const struct store_value[]){__VA_ARGS__}) / \
		    sizeof(struct store_value) -                \
		1)

#endif
