/*
 * vfs -- what is put between SQLite and its own file system.
 *
 * It is a copy of that with another xOpen, and its files are the original's,
 * with a copy of their methods and some bytes behind them.  Five things
 * differ from it.  How long syncs take is measured.  A sync that failed fails
 * from then on, of the database and its log: the kernel may have dropped what
 * it could not write, and would say yes the next time; and as it may say yes
 * where it gave up, a write of nothing follows.  And each page of a database
 * has a sum over it in its last eight bytes, which is made when the page is
 * written into the file and compared when it is read from there: a byte that
 * changed on disk is SQLITE_CORRUPT, and never an answer.  And what a
 * transaction appends to the log is written at once: SQLite makes two writes a
 * page, whose calls cost more than their bytes.  And a page that is read from
 * the log is compared with the sum that its frame has there, which SQLite does
 * only when it opens the log: a checkpoint would take what has changed into the
 * file, and a sum of its own would make it good.
 *
 * SQLite keeps these bytes free when the header says so, at offset 20; who
 * knows nothing of sums can read the file.  A sum of zero is none.  Pages in
 * memory have none, and so those in the write-ahead log, which has sums of its
 * own (wal.c looks at them when it is opened): another program may take them
 * into the file.
 *
 * Nothing is held back when a commit returns: the frame that ends a transaction
 * says so in its header (www.sqlite.org/fileformat2.html, "The Write-Ahead
 * Log"), and takes with it all before.  So other connections, which look only
 * at what is committed, find it in the file, whether or not anybody syncs.
 */
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "metrics/metrics.h"
#include "store/internal.h"

#define METHODS_MOST 8 /* SQLite's unix system has one table a way to lock */
#define PAGE_SIZE STORE_PAGE_SIZE
#define SUM_SIZE STORE_SUM_SIZE
#define HEADER_SIZE 100 /* of a database, as read when it is opened */
#define AT_PAGE_SIZE 16
#define AT_SPARE 20
#define HELD_MOST 131072 /* bytes */
#define LOG_HEADER 32
#define FRAME_HEADER 24
#define FRAME_SIZE (FRAME_HEADER + PAGE_SIZE)

static sqlite3_vfs watched;
static int (*open_plainly)(sqlite3_vfs *vfs, const char *name,
    sqlite3_file *file, int flags, int *out_flags);
static struct metric *seconds;
static int plain_size; /* of a file of SQLite's own */

/* Guards adding; what is there stays. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct watched_methods {
	sqlite3_io_methods methods; /* the first: a file's points here */
	const sqlite3_io_methods *plain;
} known[METHODS_MOST];
static int known_count;

/* A thread's own: while one opens a file, others may be at work in theirs. */
static _Thread_local void (*on_progress)(void);

/* What was written to a log and isn't in the file yet. */
struct held {
	unsigned char *bytes; /* NULL until there are any */
	sqlite3_int64 offset; /* of the first one */
	int length;
	int last; /* the page that comes next ends a transaction */
	sqlite3_int64 read_at; /* where was read last */
	sqlite3_int64 header_at; /* where a frame's header was written last */
	sqlite3_int64 unsure_from; /* sums are to be made yet; 0: of none */
};

/* Behind SQLite's own part of a file. */
struct extra {
	const char *name;
	sqlite3_file *database; /* whose log this is, or itself */
	int is_database;
	int is_log;
	struct held held;
	int sync_errno; /* of the first sync that failed */
	int log_damaged; /* it was read, and isn't what was written */
	enum { SUMS_UNKNOWN, SUMS_NONE, SUMS_KEPT, SUMS_SPOILT } sums;
};

static const sqlite3_io_methods *
plain_of(const sqlite3_file *file)
{
	const struct watched_methods *own = (const void *)file->pMethods;

	return (own->plain);
}

static struct extra *
extra_of(sqlite3_file *file)
{
	return ((struct extra *)(void *)((char *)file + plain_size));
}

void
store_vfs_progress(void (*progress)(void))
{

	on_progress = progress;
}

static void
went_on(void)
{

	if (on_progress != NULL)
		on_progress();
}

/* ---- a log's writes ------------------------------------------------------ */

/* Whether it works or not, nothing is held afterwards: a write that failed is
 * a transaction that did. */
static int
release(sqlite3_file *file)
{
	struct held *h = &extra_of(file)->held;
	int length = h->length;

	h->length = h->last = 0;
	if (length == 0)
		return (SQLITE_OK);
	return (plain_of(file)->xWrite(file, h->bytes, length, h->offset));
}

static int
ends_transaction(const unsigned char *header)
{
	/* The size of the database after it, if it is a commit's. */
	return ((header[4] | header[5] | header[6] | header[7]) != 0);
}

/*
 * A transaction that writes a page of its own again does so in the frame that
 * has it, and makes the sums from there on just before it ends, last the one
 * that is marked.  Only it reads these frames before.
 */
static void
watch_sums(struct held *h, const unsigned char *bytes, int size,
    sqlite3_int64 offset)
{
	static const unsigned char no_salt[8];

	if (size == FRAME_HEADER) {
		h->header_at = offset;
		if (ends_transaction(bytes) &&
		    memcmp(bytes + 8, no_salt, sizeof(no_salt)) != 0)
			h->unsure_from = 0;
	} else if (size == PAGE_SIZE) {
		if (h->header_at != offset - FRAME_HEADER &&
		    (h->unsure_from == 0 || offset < h->unsure_from))
			h->unsure_from = offset;
		h->header_at = 0; /* it has its page: another is over that */
	}
}

/* Of headers that SQLite reads and writes again, any may be the last. */
static int
log_write(sqlite3_file *file, const void *bytes, int size, sqlite3_int64 offset)
{
	struct held *h = &extra_of(file)->held;
	int rc, ends;

	watch_sums(h, bytes, size, offset);
	if ((h->length > 0 && offset != h->offset + h->length) ||
	    size > HELD_MOST - h->length)
		if ((rc = release(file)) != SQLITE_OK)
			return (rc);
	if (size > HELD_MOST || offset == h->read_at ||
	    (h->bytes == NULL && (h->bytes = malloc(HELD_MOST)) == NULL))
		return (plain_of(file)->xWrite(file, bytes, size, offset));
	if (h->length == 0)
		h->offset = offset;
	memcpy(h->bytes + h->length, bytes, (size_t)size);
	h->length += size;
	ends = h->last;
	h->last = size == FRAME_HEADER && ends_transaction(bytes);
	return (ends ? release(file) : SQLITE_OK);
}

/*
 * A frame's sums go on from those before: of the frame in front of it, or of
 * the log's header.  They are of words in the order of the machine that began
 * the log.
 */
static int
goes_on(const unsigned char *before, const unsigned char *header,
    const void *page)
{
	uint32_t sums[2], told[2];
	int big;

	store_get_sums(header + 16, told);
	for (big = 0; big < 2; big++) {
		store_get_sums(before, sums);
		store_sum_on(big, header, 8, sums);
		store_sum_on(big, page, PAGE_SIZE, sums);
		if (memcmp(sums, told, sizeof(sums)) == 0)
			return (1);
	}
	return (0);
}

/*
 * Read a page of a log, with its frame's header and the sums in front of it, in
 * one call, since each takes longer than the bytes.  SQLITE_CORRUPT if the page
 * isn't what was written.
 */
static int
read_logged(sqlite3_file *file, void *page, int size, sqlite3_int64 offset)
{
	const struct held *h = &extra_of(file)->held;
	unsigned char bytes[8 + FRAME_SIZE + FRAME_SIZE]
	    __attribute__((uninitialized));
	unsigned char *header;
	sqlite3_int64 frame = offset - FRAME_HEADER, at;
	int rc;

	if (size != PAGE_SIZE || frame < LOG_HEADER ||
	    (frame - LOG_HEADER) % FRAME_SIZE != 0 ||
	    (h->unsure_from != 0 && offset >= h->unsure_from))
		return (plain_of(file)->xRead(file, page, size, offset));
	/* The last eight bytes of either header. */
	at = frame == LOG_HEADER ? frame - 8 : frame - PAGE_SIZE - 8;
	header = bytes + (frame - at);
	rc = plain_of(file)->xRead(file, bytes, (int)(frame - at) + FRAME_SIZE,
	    at);
	if (rc != SQLITE_OK && rc != SQLITE_IOERR_SHORT_READ)
		return (rc);
	memcpy(page, header + FRAME_HEADER, PAGE_SIZE);
	if (rc != SQLITE_OK)
		return (rc); /* what isn't there is zeros */
	return (goes_on(bytes, header, page) ? SQLITE_OK : SQLITE_CORRUPT);
}

/* A checkpoint's failure is kept from those who commit, see file_sync. */
static int
log_read(sqlite3_file *file, void *bytes, int size, sqlite3_int64 offset)
{
	struct extra *x = extra_of(file);
	int rc = release(file);

	x->held.read_at = offset;
	if (rc == SQLITE_OK)
		rc = read_logged(file, bytes, size, offset);
	if (rc == SQLITE_CORRUPT) {
		sqlite3_log(rc, "frame %lld of %s isn't what was written",
		    (long long)((offset - LOG_HEADER) / FRAME_SIZE + 1),
		    x->name);
		extra_of(x->database)->log_damaged = 1;
	}
	return (rc);
}

static int
truncate_released(sqlite3_file *file, sqlite3_int64 size)
{
	int rc = release(file);

	return (rc != SQLITE_OK ? rc : plain_of(file)->xTruncate(file, size));
}

static int
size_released(sqlite3_file *file, sqlite3_int64 *size)
{
	int rc = release(file);

	return (rc != SQLITE_OK ? rc : plain_of(file)->xFileSize(file, size));
}

static int
close_released(sqlite3_file *file)
{
	int rc = release(file), closed = plain_of(file)->xClose(file);

	free(extra_of(file)->held.bytes);
	extra_of(file)->held.bytes = NULL;
	return (rc != SQLITE_OK ? rc : closed);
}

/* ---- syncs --------------------------------------------------------------- */

/*
 * A checkpoint's failed sync is kept from those who commit, and so is a log
 * that it can't believe; with this the next commit fails.
 */
static int
file_sync(sqlite3_file *file, int flags)
{
	struct extra *x = extra_of(extra_of(file)->database);
	int64_t began_us = clock_mono_us();
	int rc;

	went_on();
	if (x->log_damaged)
		return (SQLITE_CORRUPT);
	if (x->sync_errno != 0) {
		errno = x->sync_errno;
		return (SQLITE_IOERR_FSYNC);
	}
	if ((rc = release(file)) != SQLITE_OK)
		return (rc);
	rc = plain_of(file)->xSync(file, flags);
	/*
	 * Where ext4 gave up its file system while it flushed (EROFS, EIO from
	 * now on), it may call the flush a success though the log's new length
	 * was lost.  A write of nothing then fails, from Linux 6.15 on.
	 */
	if (rc == SQLITE_OK &&
	    plain_of(file)->xWrite(file, "", 0, 0) != SQLITE_OK)
		rc = SQLITE_IOERR_FSYNC;
	if (rc != SQLITE_OK)
		x->sync_errno = errno != 0 ? errno : EIO;
	metric_observe_us(seconds, clock_mono_us() - began_us);
	return (rc);
}

/* ---- sums --------------------------------------------------------------- */

/*
 * Two sums of 32 bits as in SQLite's log, where a change of any one word
 * shows in both or one; begun with the page's number, for a page that was
 * written to another one's place.
 */
static uint64_t
sum_of(const unsigned char *page, int64_t number)
{
	uint32_t a = (uint32_t)number, b = 0x4d696c72, words[2];
	size_t i;

	for (i = 0; i < PAGE_SIZE - SUM_SIZE; i += sizeof(words)) {
		memcpy(words, page + i, sizeof(words));
		a += le32toh(words[0]) + b;
		b += le32toh(words[1]) + a;
	}
	return (((uint64_t)b << 32 | a) | (a == 0 && b == 0));
}

static uint64_t
sum_in(const unsigned char *page)
{
	uint64_t sum;

	memcpy(&sum, page + PAGE_SIZE - SUM_SIZE, sizeof(sum));
	return (le64toh(sum));
}

/* The header says whether there are sums. */
static void
learn(struct extra *x, const unsigned char *header)
{
	int size = header[AT_PAGE_SIZE] << 8 | header[AT_PAGE_SIZE + 1];

	if (memcmp(header, "SQLite format 3", 16) != 0)
		return; /* SQLite says so */
	if (header[AT_SPARE] == 0)
		x->sums = SUMS_NONE;
	else
		x->sums = header[AT_SPARE] == SUM_SIZE && size == PAGE_SIZE ?
		    SUMS_KEPT :
		    SUMS_SPOILT;
}

static int
is_page(int size, sqlite3_int64 offset)
{
	return (size == PAGE_SIZE && offset % PAGE_SIZE == 0);
}

/*
 * If what is damaged is the byte that says whether there are sums, then the
 * first page's is right with the byte put right.
 */
static int
lost_its_sums(const unsigned char *page)
{
	unsigned char copy[PAGE_SIZE];

	memcpy(copy, page, PAGE_SIZE);
	copy[AT_SPARE] = SUM_SIZE;
	return (page[AT_SPARE] == 0 && sum_in(page) == sum_of(copy, 1));
}

static int
is_damaged(const struct extra *x, const unsigned char *page,
    sqlite3_int64 offset)
{
	if (x->sums == SUMS_SPOILT)
		return (1);
	if (x->sums == SUMS_NONE)
		return (offset == 0 && lost_its_sums(page));
	return (x->sums == SUMS_KEPT && sum_in(page) != 0 &&
	    sum_in(page) != sum_of(page, offset / PAGE_SIZE + 1));
}

/* The file ends within this page; what isn't there reads as zeros, and SQLite
 * would make do with it. */
static int
is_cut(sqlite3_file *file, const struct extra *x, sqlite3_int64 offset)
{
	sqlite3_int64 end = 0;

	return (x->sums == SUMS_KEPT &&
	    plain_of(file)->xFileSize(file, &end) == SQLITE_OK && end > offset);
}

static int
file_read(sqlite3_file *file, void *bytes, int size, sqlite3_int64 offset)
{
	struct extra *x = extra_of(file);
	int rc;

	went_on();
	if (x->is_log)
		return (log_read(file, bytes, size, offset));
	rc = plain_of(file)->xRead(file, bytes, size, offset);
	if (rc == SQLITE_OK && x->is_database && offset == 0 &&
	    size >= HEADER_SIZE)
		learn(x, bytes);
	if (!x->is_database || !is_page(size, offset))
		return (rc);
	if (rc == SQLITE_IOERR_SHORT_READ ?
		is_cut(file, x, offset) :
		rc == SQLITE_OK && is_damaged(x, bytes, offset)) {
		sqlite3_log(SQLITE_CORRUPT,
		    "page %lld of %s isn't what was written",
		    (long long)(offset / PAGE_SIZE + 1), x->name);
		return (SQLITE_CORRUPT);
	}
	if (rc == SQLITE_OK && x->sums == SUMS_KEPT)
		memset((char *)bytes + PAGE_SIZE - SUM_SIZE, 0, SUM_SIZE);
	return (rc);
}

/* A file that was empty when it was opened has a header by now, or this is
 * its first page. */
static void
learn_to_write(struct extra *x, sqlite3_file *file, const void *bytes, int size,
    sqlite3_int64 offset)
{
	unsigned char header[HEADER_SIZE];

	if (offset == 0 && size >= HEADER_SIZE)
		learn(x, bytes);
	else if (x->sums == SUMS_UNKNOWN &&
	    plain_of(file)->xRead(file, header, sizeof(header), 0) == SQLITE_OK)
		learn(x, header);
}

static int
file_write(sqlite3_file *file, const void *bytes, int size,
    sqlite3_int64 offset)
{
	struct extra *x = extra_of(file);
	unsigned char page[PAGE_SIZE];
	uint64_t sum;

	went_on();
	if (x->is_log)
		return (log_write(file, bytes, size, offset));
	if (x->is_database)
		learn_to_write(x, file, bytes, size, offset);
	if (!x->is_database || x->sums != SUMS_KEPT || !is_page(size, offset))
		return (plain_of(file)->xWrite(file, bytes, size, offset));
	memcpy(page, bytes, PAGE_SIZE - SUM_SIZE);
	sum = htole64(sum_of(page, offset / PAGE_SIZE + 1));
	memcpy(page + PAGE_SIZE - SUM_SIZE, &sum, SUM_SIZE);
	return (plain_of(file)->xWrite(file, page, size, offset));
}

/* Pages are read whole, or their sums could not be compared. */
static int
characteristics_whole(sqlite3_file *file)
{
	return (plain_of(file)->xDeviceCharacteristics(file) &
	    ~SQLITE_IOCAP_SUBPAGE_READ);
}

static int
control_sums(sqlite3_file *file, int op, void *arg)
{
	struct extra *x = extra_of(file);

	if (op == STORE_FCNTL_SUMS_ASK) {
		*(int *)arg = x->sums == SUMS_KEPT;
		return (SQLITE_OK);
	}
	if (op == STORE_FCNTL_SUMS_KEEP) {
		x->sums = SUMS_KEPT;
		return (SQLITE_OK);
	}
	return (plain_of(file)->xFileControl(file, op, arg));
}

/* ---- files -------------------------------------------------------------- */

/* The watched copy of a table of methods; NULL if there are too many. */
static const sqlite3_io_methods *
watch(const sqlite3_io_methods *plain)
{
	const sqlite3_io_methods *found = NULL;
	int i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < known_count && known[i].plain != plain; i++)
		;
	if (i == known_count && i < METHODS_MOST) {
		known[i].methods = *plain;
		known[i].methods.xSync = file_sync;
		known[i].methods.xRead = file_read;
		known[i].methods.xWrite = file_write;
		known[i].methods.xTruncate = truncate_released;
		known[i].methods.xFileSize = size_released;
		known[i].methods.xClose = close_released;
		known[i].methods.xFileControl = control_sums;
		known[i].methods.xDeviceCharacteristics = characteristics_whole;
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
	const sqlite3_io_methods *methods;

	if (rc != SQLITE_OK || file->pMethods == NULL)
		return (rc);
	if ((methods = watch(file->pMethods)) == NULL) {
		(void)file->pMethods->xClose(file);
		file->pMethods = NULL;
		return (SQLITE_CANTOPEN);
	}
	file->pMethods = methods;
	*extra_of(file) = (struct extra){.name = name,
	    .database = flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL) ?
		sqlite3_database_file_object(name) :
		file,
	    .is_database = (flags & SQLITE_OPEN_MAIN_DB) != 0,
	    .is_log = (flags & SQLITE_OPEN_WAL) != 0};
	return (SQLITE_OK);
}

void
store_vfs_install(void)
{
	const sqlite3_vfs *plain = sqlite3_vfs_find(NULL);

	if (plain == NULL)
		return; /* opening will say why */
	seconds = metrics_histogram("millrace_fsync_duration_seconds", NULL,
	    "Time that each sync of a state file to disk took.");
	open_plainly = plain->xOpen;
	plain_size = (plain->szOsFile + 15) & ~15;
	watched = *plain;
	watched.zName = "millrace";
	watched.szOsFile = plain_size + (int)sizeof(struct extra);
	watched.pNext = NULL;
	watched.xOpen = open_watched;
	(void)sqlite3_vfs_register(&watched, 1);
}
