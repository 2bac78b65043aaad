/*
 * wal -- is SQLite's write-ahead log as it was written?
 *
 * The format is SQLite's (its document "Database File Format", section 4):
 * a header of 32 bytes, then frames of 24 bytes and a page each.  The last
 * frame of a transaction is marked.  All have the header's two numbers of
 * salt, and a sum over everything since the header.
 *
 * What SQLite takes ends before the first frame whose salt or sum is wrong.
 * That is the end of the log, or a last transaction that was torn when the
 * power failed.  It is damage to committed transactions if
 * - a mark comes later, and behind it a frame whose sum goes on from there: a
 *   transaction is on disk as a whole before the next one is written.  What
 *   transactions left behind that failed has marks, but nothing goes on;
 * - the index beside the log (-shm) has more frames: they are counted there
 *   once they are on disk.  The index outlives a process, not always a
 *   machine, and an older one says less.
 */
#include <sys/stat.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/internal.h"

#define HEADER_SIZE 32
#define FRAME_SIZE 24 /* before its page */
#define PAGE_LEAST 512
#define PAGE_MOST 65536
#define MAGIC 0x377f0682 /* sums of little-endian words; + 1: of big */
#define FORMAT 3007000
#define INDEX_SIZE 48 /* of the index's header, of which there are two */

struct log {
	int fd;
	int big; /* the words that are summed */
	uint32_t page_size;
	unsigned char salt[8];
	uint32_t sums[2];
	int64_t frames; /* whole ones in the file */
	int64_t committed; /* of these SQLite takes so many */
	int64_t taken; /* the last one that is right */
	unsigned char *frame;
};

static uint32_t
word_at(const unsigned char *bytes)
{
	uint32_t word;

	memcpy(&word, bytes, sizeof(word));
	return (be32toh(word));
}

void
store_sum_on(int big, const unsigned char *bytes, size_t size, uint32_t sums[2])
{
	uint32_t words[2];
	size_t i;

	for (i = 0; i < size; i += sizeof(words)) {
		memcpy(words, bytes + i, sizeof(words));
		sums[0] += (big ? be32toh(words[0]) : le32toh(words[0])) +
		    sums[1];
		sums[1] += (big ? be32toh(words[1]) : le32toh(words[1])) +
		    sums[0];
	}
}

void
store_get_sums(const unsigned char *bytes, uint32_t sums[2])
{

	sums[0] = word_at(bytes);
	sums[1] = word_at(bytes + 4);
}

/* ---- the log ------------------------------------------------------------ */

static int
read_header(struct log *log)
{
	unsigned char header[HEADER_SIZE];
	uint32_t magic, size;

	if (pread(log->fd, header, sizeof(header), 0) != sizeof(header))
		return (-1);
	magic = word_at(header);
	size = word_at(header + 8);
	if ((magic & ~1u) != MAGIC || word_at(header + 4) != FORMAT ||
	    size < PAGE_LEAST || size > PAGE_MOST || (size & (size - 1)) != 0)
		return (-1);
	log->big = magic & 1;
	store_sum_on(log->big, header, 24, log->sums);
	if (log->sums[0] != word_at(header + 24) ||
	    log->sums[1] != word_at(header + 28))
		return (-1);
	log->page_size = size;
	memcpy(log->salt, header + 16, sizeof(log->salt));
	return (0);
}

/* Frames count from 1, as in SQLite's. */
static int
read_frame(struct log *log, int64_t number)
{
	size_t size = FRAME_SIZE + log->page_size;
	off_t offset = HEADER_SIZE + (number - 1) * (off_t)size;

	return (pread(log->fd, log->frame, size, offset) == (ssize_t)size);
}

/* 1 if the frame at hand ends a transaction of this log. */
static int
is_mark(const struct log *log)
{
	return (memcmp(log->frame + 8, log->salt, sizeof(log->salt)) == 0 &&
	    word_at(log->frame + 4) != 0);
}

/* 1 if the frame at hand is of this log and goes on from ${sums}, which
 * become those that it should have. */
static int
goes_on_from(const struct log *log, uint32_t sums[2])
{
	store_sum_on(log->big, log->frame, 8, sums);
	store_sum_on(log->big, log->frame + FRAME_SIZE, log->page_size, sums);
	return (memcmp(log->frame + 8, log->salt, sizeof(log->salt)) == 0 &&
	    word_at(log->frame) != 0 && word_at(log->frame + 16) == sums[0] &&
	    word_at(log->frame + 20) == sums[1]);
}

/* Until the first frame that isn't right. */
static int
take_frames(struct log *log)
{
	uint32_t sums[2] = {log->sums[0], log->sums[1]};

	while (log->taken < log->frames) {
		if (!read_frame(log, log->taken + 1))
			return (-1);
		if (!goes_on_from(log, sums))
			break;
		memcpy(log->sums, sums, sizeof(sums));
		log->taken++;
		if (is_mark(log))
			log->committed = log->taken;
	}
	return (0);
}

/* The one number that times ${odd} is 1, modulo 2^32. */
static uint32_t
inverse_of(uint32_t odd)
{
	uint32_t x = odd;
	int i;

	/* Newton's; each step doubles the bits that are right, of three. */
	for (i = 0; i < 4; i++)
		x *= 2 - odd * x;
	return (x);
}

/*
 * 1 if the frame at hand, which has no mark, would go on from ${sums} with
 * one.  What a mark adds to the sums is a multiple of it, two Fibonacci
 * numbers in a row times the mark, of which one is odd: so there is one mark
 * at most.
 */
static int
lacks_mark(const struct log *log, const uint32_t sums[2])
{
	const uint32_t told[2] = {word_at(log->frame + 16),
	    word_at(log->frame + 20)};
	uint32_t none[2] = {sums[0], sums[1]}, one[2] = {sums[0], sums[1]};
	unsigned char header[8];
	uint32_t word = log->big ? htobe32(1) : htole32(1), by[2], mark;
	int odd;

	if (word_at(log->frame + 4) != 0)
		return (0);
	memcpy(header, log->frame, sizeof(header));
	store_sum_on(log->big, header, sizeof(header), none);
	store_sum_on(log->big, log->frame + FRAME_SIZE, log->page_size, none);
	memcpy(header + 4, &word, sizeof(word));
	store_sum_on(log->big, header, sizeof(header), one);
	store_sum_on(log->big, log->frame + FRAME_SIZE, log->page_size, one);
	by[0] = one[0] - none[0];
	by[1] = one[1] - none[1];
	odd = by[0] & 1 ? 0 : 1;
	mark = (told[odd] - none[odd]) * inverse_of(by[odd]);
	return (mark != 0 && told[0] - none[0] == mark * by[0] &&
	    told[1] - none[1] == mark * by[1]);
}

/*
 * 1 if a transaction behind these was followed by another.  Of the first frame
 * behind them, the damage may be in the sum that it has, or elsewhere; and if
 * it ended a transaction, in what says so.
 */
static int
goes_on(struct log *log)
{
	uint32_t made[2] = {log->sums[0], log->sums[1]}, told[2] = {0, 0};
	int64_t number;
	int marked = 0, lacked;

	for (number = log->taken + 1; number <= log->frames; number++) {
		if (!read_frame(log, number))
			return (-1);
		lacked = number == log->taken + 1 && lacks_mark(log, made);
		if (marked && goes_on_from(log, told))
			return (1);
		if (goes_on_from(log, made) && marked)
			return (1);
		told[0] = word_at(log->frame + 16);
		told[1] = word_at(log->frame + 20);
		/* One whose salt alone is wrong has the right sums. */
		marked = is_mark(log) || lacked ||
		    (word_at(log->frame + 4) != 0 &&
			memcmp(made, told, sizeof(made)) == 0);
		if (number > log->taken + 1)
			memcpy(made, told, sizeof(made));
	}
	return (0);
}

/* ---- its index ---------------------------------------------------------- */

/*
 * How many frames of this log were on disk, for all that the index says; 0 if
 * it says nothing.  Its header is there twice, in the machine's byte order,
 * and is only believed if both are the same and right.
 */
static int64_t
frames_in_index(const struct log *log, const char *path)
{
	unsigned char index[2 * INDEX_SIZE];
	uint32_t frames, told[2], sums[2] = {0, 0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size;

	if (fd == -1)
		return (0);
	size = pread(fd, index, sizeof(index), 0);
	(void)close(fd);
	if (size != (ssize_t)sizeof(index) ||
	    memcmp(index, index + INDEX_SIZE, INDEX_SIZE) != 0)
		return (0);
	store_sum_on(htobe32(1) == 1, index, 40, sums);
	memcpy(&frames, index + 16, sizeof(frames));
	memcpy(told, index + 40, sizeof(told));
	if (memcmp(sums, told, sizeof(sums)) != 0 ||
	    memcmp(index + 32, log->salt, sizeof(log->salt)) != 0)
		return (0);
	return (frames);
}

/* ---- both --------------------------------------------------------------- */

static int
damaged(const char *path, int64_t frame, struct mr_error *err)
{
	return (mr_error_set(err, MR_FATAL,
	    "%.110s-wal is damaged (frame %lld), and committed transactions "
	    "with it: put a backup back with millrace state restore",
	    path, (long long)frame));
}

static int
check_frames(struct log *log, const char *path, const char *index,
    struct mr_error *err)
{
	int rc = -1, more;

	if ((log->frame = malloc(FRAME_SIZE + log->page_size)) == NULL)
		return (mr_error_set(err, MR_RETRY, "open %s: out of memory",
		    path));
	if (take_frames(log) != 0 || (more = goes_on(log)) == -1)
		rc = mr_error_set(err, MR_FATAL, "read %s-wal: %s", path,
		    strerror(errno));
	else if (more ||
	    (index != NULL && frames_in_index(log, index) > log->committed))
		rc = damaged(path, log->taken + 1, err);
	else
		rc = 0;
	free(log->frame);
	return (rc);
}

static int
check_file(struct log *log, const char *path, const char *index,
    struct mr_error *err)
{
	struct stat file;

	if (fstat(log->fd, &file) != 0)
		return (mr_error_set(err, MR_FATAL, "stat %s-wal: %s", path,
		    strerror(errno)));
	/* A header is on disk before the first frame. */
	if (file.st_size < HEADER_SIZE + FRAME_SIZE + PAGE_LEAST)
		return (0);
	if (read_header(log) != 0)
		return (damaged(path, 0, err));
	log->frames = (file.st_size - HEADER_SIZE) /
	    (FRAME_SIZE + (off_t)log->page_size);
	return (check_frames(log, path, index, err));
}

int
store_check_log(const char *path, int and_index, struct mr_error *err)
{
	struct log log = {.fd = -1};
	size_t size = strlen(path) + sizeof("-wal");
	char *name = malloc(size), *index = malloc(size);
	int rc = -1;

	if (name == NULL || index == NULL) {
		mr_error_set(err, MR_RETRY, "open %s: out of memory", path);
		goto done;
	}
	(void)snprintf(name, size, "%s-wal", path);
	(void)snprintf(index, size, "%s-shm", path);
	if ((log.fd = open(name, O_RDONLY | O_CLOEXEC)) != -1)
		rc = check_file(&log, path, and_index ? index : NULL, err);
	else if (errno == ENOENT)
		rc = 0;
	else
		mr_error_set(err, MR_FATAL, "open %s: %s", name,
		    strerror(errno));
	if (log.fd != -1)
		(void)close(log.fd);
done:
	free(name);
	free(index);
	return (rc);
}
