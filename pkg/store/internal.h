/*
 * internal -- what the files of pkg/store share.  Nobody else includes it,
 * the module's own tests aside.
 */
#ifndef MR_STORE_INTERNAL_H
#define MR_STORE_INTERNAL_H

#include <sys/queue.h>
#include <sys/types.h>

#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#include "base/error.h"
#include "store/store.h"

/* ---- pen.c: the queue of writers ---------------------------------------- */

/*
 * The right to write, among processes: POSIX locks on bytes of one file.
 * The file is opened once in a process and stays open, since closing any
 * descriptor of it drops all of the process's locks on it.
 */
struct pen;

/*
 * pen_open -- open or make the lock file of ${db_path}.
 *
 * A waiter names the holder after ${patience_ms}.  NULL on error, FATAL also
 * if this process has the file open for writing already.
 */
struct pen *pen_open(const char *db_path, int64_t patience_ms,
    struct mr_error *err);
void pen_close(struct pen *pen); /* NULL is a no-op */
/* pen_take -- wait for it; 0 or -1.  pen_try -- 1 if it was free, else 0. */
int pen_take(struct pen *pen, struct mr_error *err);
int pen_try(struct pen *pen);
void pen_drop(struct pen *pen);
/*
 * pen_alone -- 1 if no other process has the lock file open as a writer.
 * Asked with the pen held, before pen_attend says that this one does.
 */
int pen_alone(struct pen *pen);
/* pen_other -- the pid of one that has, 0 if it can't be told, -1 nobody. */
pid_t pen_other(const struct pen *pen);
int pen_attend(struct pen *pen, struct mr_error *err);
/* pen_give -- as root: let whose database it is open the lock file, too. */
void pen_give(const struct pen *pen, const char *db_path);
/* pen_moved -- 1 if the path doesn't name the open lock file any more. */
int pen_moved(const struct pen *pen);

/* ---- trouble.c ----------------------------------------------------------- */

/*
 * store_fail -- describe SQLite's result ${rc} of doing ${what}.
 *
 * Fills *err, keeps the first trouble of a transaction, returns -1.  A plain
 * SQLITE_ERROR is FATAL here: who knows that a value was at fault (an
 * overflow, broken JSON) says store_reject.
 */
int store_fail(struct store *st, struct mr_error *err, int rc,
    const char *what);
int store_reject(struct store *st, struct mr_error *err, const char *what,
    const char *why);
/* store_place_advice -- what to do about ${error}, an errno, of opening. */
const char *store_place_advice(int error);
/* store_bug -- a FATAL error of the caller's making, kept like the others. */
int store_bug(struct store *st, struct mr_error *err, const char *what,
    const char *sql);
/* store_log_init -- SQLite's own log goes to ours; before its first use. */
void store_log_init(void);

/* ---- vfs.c -------------------------------------------------------------- */

/*
 * store_vfs_install -- from the next file that is opened: time syncs, and
 * believe none after one that failed; keep sums of pages; write what a commit
 * appends to the log at once.  Once a process.  A new file has sums if its
 * header leaves room, see SQLITE_FCNTL_RESERVE_BYTES; a page read that differs
 * from what was written is SQLITE_CORRUPT.
 */
void store_vfs_install(void);
/*
 * store_vfs_progress -- from now on ${on_progress} is called at each read,
 * write and sync by this thread, until it is NULL.
 */
void store_vfs_progress(void (*on_progress)(void));
#define STORE_PAGE_SIZE 4096 /* of files with sums; SQLite's default */
#define STORE_SUM_SIZE 8 /* bytes that each page leaves free */
/*
 * For sqlite3_file_control: does this file have sums (an int)?  Keep them in
 * this one, whose first page isn't written yet (nothing).
 */
#define STORE_FCNTL_SUMS_ASK 0x4d6901
#define STORE_FCNTL_SUMS_KEEP 0x4d6902

/* ---- wal.c -------------------------------------------------------------- */

/*
 * store_check_log -- is the write-ahead log as it was written?
 *
 * SQLite takes a log up to its first bad frame, as the last thing that was
 * written before a crash may be torn.  This tells such an end, which nobody
 * was answered for, from damage to what was committed, by the log's index, too
 * (${and_index}), which takes that this process has no connection to the file.
 * Nobody may be writing.  0, or -1: FATAL if it is damaged, with what to do.
 */
int store_check_log(const char *path, int and_index, struct mr_error *err);

/*
 * store_sum_on -- the log's sums of ${size} bytes, a multiple of eight, going
 * on from ${sums}; ${big}: of big-endian words.  store_get_sums -- as they are
 * in its headers.
 */
void store_sum_on(int big, const unsigned char *bytes, size_t size,
    uint32_t sums[2]);
void store_get_sums(const unsigned char *bytes, uint32_t sums[2]);

/* ---- check.c ------------------------------------------------------------ */

/* The name of a file system type that is refused, or NULL. */
const char *store_refused_filesystem(unsigned long magic);
int store_check_place(const char *path, struct mr_error *err);
/* FATAL for a file with several hard links: what is beside each, the lock and
 * the log, is another one. */
int store_check_names(const char *path, struct mr_error *err);
/*
 * store_give -- as root: give the open file to the owner of the database at
 * ${path}, or of its folder if it isn't there.  Who isn't root has nothing to
 * give away.  0, or -1 with errno.
 */
int store_give(int fd, const char *path);
int store_check_schema(struct store *st, struct mr_error *err);
int store_check_damage(struct store *st, struct mr_error *err);
/*
 * store_check_judge -- what a row of SQLite's own checks says, or NULL if there
 * was no memory for it: SQLITE_OK, SQLITE_CORRUPT, or SQLITE_NOMEM, for SQLite
 * tells of a page that there was no memory for as of a damaged one.
 */
int store_check_judge(const char *text);
/* 1 if a table's SQL has a constraint that is checked at commit only. */
int store_defers(const char *sql);

/* ---- migrate.c ---------------------------------------------------------- */

/*
 * store_migrate -- make the file's schema what ${options} say.  The pen is
 * held.  Sets st->version.
 */
int store_migrate(struct store *st, const struct store_options *options,
    struct mr_error *err);

/* store_application -- the application_id in a file's header, without SQLite; 0:
 * it is no database, -1: it can't be read. */
int64_t store_application(const char *path);
/*
 * store_is_new -- is the file nobody's yet?
 *
 * Writes nothing.  1: it has no tables, and no application_id; ours are as
 * empty until the transaction that sets theirs.  0: it is ours.  -1: it can't
 * be read, or FATAL if it is somebody else's.
 */
int store_is_new(struct store *st, struct mr_error *err);
/* store_is_ours -- 1 if an application_id is a service's file's. */
int store_is_ours(int64_t application);
/*
 * store_open_mark -- the application_id of this file while it is open.
 *
 * Its lower half is drawn from store_fingerprint, so that a copy has another one,
 * up to one in 65,536.
 */
int64_t store_open_mark(const char *path);
/*
 * store_mark -- say in the file whether a process has it open.
 *
 * Said before anything else is committed, and taken back last, so that a copy
 * made meanwhile is known to lack its log.  The pen is held.  0 or -1.
 */
int store_mark(struct store *st, int open, struct mr_error *err);

/* ---- backup.c ----------------------------------------------------------- */

#define STORE_MOMENT_SIZE 24
/* The time as part of a file's name: 20261126T010203.004Z. */
void store_moment(char text[STORE_MOMENT_SIZE]);
/*
 * store_backup_before_upgrade -- copy the file to "<path>.upgrade-<time>-v<version>",
 * and remove all of these but the newest ${keep}.  The pen is held.
 */
int store_backup_before_upgrade(struct store *st, int64_t keep,
    struct mr_error *err);
/* Have a file, or a folder's names, on disk. */
int store_make_durable(const char *path, int flags, struct mr_error *err);

/* ---- unfinished.c: what store_abandon removes --------------------------- */

/*
 * unfinished_add -- a file is about to be made at ${path}, by nobody else.
 * Borrows it until unfinished_drop, which is called once the file is gone, has
 * got its name or has to stay, and drops the ${names} that were added last at
 * once.
 */
void unfinished_add(const char *path);
void unfinished_drop(int names);
/* unfinished_make -- make a file that isn't there, and add it: a descriptor, or
 * -1 with errno, and nothing is added. */
int unfinished_make(const char *path, mode_t mode);

/* ---- replace.c ---------------------------------------------------------- */

/* Refuse (FATAL) what was cut short in being replaced. */
int store_check_replaced(const char *path, struct mr_error *err);

/* ---- connection.c ------------------------------------------------------- */

/* store_refuse_company -- RETRY: another process has it open, and which. */
int store_refuse_company(const char *path, const struct pen *pen,
    struct mr_error *err);
/* store_exec -- run text of the store's own, dropping rows.  0 or -1. */
int store_exec(struct store *st, const char *sql, struct mr_error *err);

/* ---- statement.c -------------------------------------------------------- */

/* What a statement is, as the authorizer saw it when it was prepared. */
enum {
	STORE_CONTROLS = 1, /* BEGIN, COMMIT, ROLLBACK, SAVEPOINT, ... */
	STORE_REACHES = 2 /* ATTACH, DETACH, PRAGMA */
};

/* A prepared statement; a cursor while it is open. */
struct store_rows {
	struct store *st;
	sqlite3_stmt *stmt;
	const char *sql; /* the key: where the text is */
	int parameters;
	int columns;
	int writes;
	int seen; /* STORE_CONTROLS, STORE_REACHES */
	int open;
	int saved; /* opened within the savepoint */
	int has_row;
	int ended;
	int failed; /* a column ran out of memory */
	int64_t deadline_us;
	LIST_ENTRY(store_rows) opened;
	char text[]; /* a copy, to notice another text at the address */
};

LIST_HEAD(store_rows_list, store_rows);

void store_forget_statements(struct store *st);
/* store_finish_rows -- close cursors; all, or those of the savepoint. */
void store_finish_rows(struct store *st, int only_saved);
/* The authorizer: notes what is being prepared, refuses it in migrations. */
int store_authorize(void *arg, int action, const char *a, const char *b,
    const char *schema, const char *trigger);
int store_progress(void *arg);

/* ---- transaction.c ------------------------------------------------------ */

/* The store's own statements, prepared at open: they must not fail later. */
enum store_own {
	STORE_OWN_BEGIN,
	STORE_OWN_COMMIT,
	STORE_OWN_ROLLBACK,
	STORE_OWN_SAVE,
	STORE_OWN_RELEASE,
	STORE_OWN_RESTORE,
	STORE_OWN_VERSION,
	STORE_OWN_DATA_VERSION,
	STORE_OWN_COUNT
};
int store_prepare_own(struct store *st, struct mr_error *err);
/* store_begin_held looks no more often than this whether the file is still
 * where it was. */
#define STORE_LOOK_EVERY_US INT64_C(10000)
/* store_begin_held, store_commit_held -- with the pen in hand, keeping it. */
int store_begin_held(struct store *st, struct mr_error *err);
int store_commit_held(struct store *st, struct mr_error *err);
void store_rollback_held(struct store *st);
/* store_lost -- 1 if SQLite ended the transaction that was begun. */
int store_lost(const struct store *st);

struct store {
	sqlite3 *db;
	char *path;
	struct pen *pen; /* NULL: a reader */
	int64_t version; /* user_version, as opened or migrated */
	int64_t look_due_us; /* whether the file was moved */
	int64_t deadline_ms; /* readers: a statement's longest time */
	int64_t deadline_us; /* of the statement that runs */
	int begun;
	int saved;
	int saved_at_begin; /* nothing was written before the savepoint */
	sqlite3_int64 changes_at_begin; /* -1: there was a savepoint since */
	int guarded;
	int broken; /* done with: a commit of unknown outcome, or worse */
	int migrating; /* the authorizer refuses what it otherwise notes */
	int seen; /* noted since the last prepare */
	struct mr_error trouble;
	sqlite3_stmt *own[STORE_OWN_COUNT];
	struct store_rows **cache; /* open addressing; a power of two */
	size_t cache_bits;
	size_t cache_used;
	struct store_rows_list opened;
};

#endif
