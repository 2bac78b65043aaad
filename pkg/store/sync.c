/*
 * sync -- how long the disk takes.
 *
 * SQLite's own file system, under which every file's xSync is watched.  It is
 * a copy with another xOpen, and its files are the original's, with a copy of
 * their methods: all but syncing is as it was.
 */
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "metrics/metrics.h"
#include "store/internal.h"

#define METHODS_MOST 8 /* SQLite's unix system has one table a way to lock */

static sqlite3_vfs watched;
static int (*open_plainly)(sqlite3_vfs *vfs, const char *name,
    sqlite3_file *file, int flags, int *out_flags);
static struct metric *seconds;

/* Guards adding; what is there stays. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct watched_methods {
	sqlite3_io_methods methods; /* the first: a file's points here */
	const sqlite3_io_methods *plain;
} known[METHODS_MOST];
static int known_count;

static int
sync_watched(sqlite3_file *file, int flags)
{
	const struct watched_methods *own = (const void *)file->pMethods;
	int64_t began_us = clock_mono_us();
	int rc = own->plain->xSync(file, flags);

	metric_observe_us(seconds, clock_mono_us() - began_us);
	return (rc);
}

/* The watched copy of a table of methods; the table itself if there are too
 * many. */
static const sqlite3_io_methods *
watch(const sqlite3_io_methods *plain)
{
	const sqlite3_io_methods *found = plain;
	int i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < known_count && known[i].plain != plain; i++)
		;
	if (i == known_count && i < METHODS_MOST) {
		known[i].methods = *plain;
		known[i].methods.xSync = sync_watched;
		known[i].plain = plain;
		known_count++;
	}
	if (i < known_count)
		found = &known[i].methods;
	pthread_mutex_unlock(&lock);
	return (found);
}

static int
open_watched(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
    int *out_flags)
{
	int rc = open_plainly(vfs, name, file, flags, out_flags);

	if (rc == SQLITE_OK && file->pMethods != NULL)
		file->pMethods = watch(file->pMethods);
	return (rc);
}

void
store_watch_syncs(void)
{
	const sqlite3_vfs *plain = sqlite3_vfs_find(NULL);

	if (plain == NULL)
		return; /* opening will say why */
	seconds = metrics_histogram("millrace_fsync_duration_seconds", NULL,
	    "Time that each sync of a state file to disk took.");
	open_plainly = plain->xOpen;
	watched = *plain;
	watched.zName = "millrace";
	watched.pNext = NULL;
	watched.xOpen = open_watched;
	(void)sqlite3_vfs_register(&watched, 1);
}
