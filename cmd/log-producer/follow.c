#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#include "follow.h"

#define CHUNK 262144
#define LINE_MOST 65536
/* Who writes learns of a rotation only some seconds after it. */
#define QUIET_US (INT64_C(1000000) * FOLLOW_QUIET_S)

static const char sql_load[] =
    "SELECT device, inode, offset_bytes, head, lines FROM shipped"
    " WHERE path = ?1";
static const char sql_save[] =
    "INSERT INTO shipped VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (path)"
    " DO UPDATE SET device = ?2, inode = ?3, offset_bytes = ?4, head = ?5,"
    " lines = ?6";
static const char stdin_name[] = "(standard input)";

static struct log_limit trouble = {.per_second = 1};
static char chunk[CHUNK]; /* of standard input, what isn't used yet */

void
follow_init(struct follow *follow, const char *path)
{

	memset(follow, 0, sizeof(*follow));
	follow->path = path;
	follow->fd = path == NULL ? STDIN_FILENO : -1;
	follow->next_fd = -1;
	follow->end = -1;
}

static void
close_file(struct follow *follow)
{

	if (follow->path != NULL && follow->fd != -1)
		close(follow->fd);
	if (follow->path != NULL)
		follow->fd = -1;
	follow->end = -1;
}

void
follow_close(struct follow *follow)
{

	close_file(follow);
	if (follow->path != NULL && follow->next_fd != -1)
		close(follow->next_fd);
	follow->next_fd = -1;
}

/* ---- which file -------------------------------------------------------------- */

static void
say_trouble(const char *path, const char *what, int number)
{
	int64_t suppressed;

	if (log_limit_take(&trouble, &suppressed))
		log_warn(what, "path", path, "reason", strerror(number),
		    "lines_left_out", log_i64(suppressed));
}

static int
is_same(const struct follow *follow, const struct stat *st)
{

	return ((int64_t)st->st_ino == follow->inode &&
	    (int64_t)st->st_dev == follow->device);
}

/* Whether an open file is the one that was read. */
static int
is_known(const struct follow *follow, int fd, const struct stat *st)
{
	char head[FOLLOW_HEAD];

	return (is_same(follow, st) &&
	    pread(fd, head, follow->head_size, 0) ==
		(ssize_t)follow->head_size &&
	    memcmp(head, follow->head, follow->head_size) == 0);
}

/* The file of that name, or -1. */
static int
open_named(const char *path, struct stat *st)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd != -1 && (fstat(fd, st) == -1 || !S_ISREG(st->st_mode))) {
		close(fd);
		errno = EINVAL;
		return (-1);
	}
	return (fd);
}

static void
begin_file(struct follow *follow, int fd, const struct stat *st)
{

	follow->fd = fd;
	if (is_known(follow, fd, st))
		return;
	follow->device = (int64_t)st->st_dev;
	follow->inode = (int64_t)st->st_ino;
	follow->offset = 0;
	follow->head_size = 0;
}

/* What came after the one that was rotated; else the file that was read
 * before, under its name or that of rotation's first copy; else what the name
 * stands for now.  0 or -1. */
static int
open_file(struct follow *follow)
{
	char rotated[4096];
	struct stat st, old;
	int fd = follow->next_fd, old_fd;

	follow->next_fd = -1;
	if (fd != -1 && fstat(fd, &st) == 0) {
		begin_file(follow, fd, &st);
		return (0);
	}
	if ((fd = open_named(follow->path, &st)) == -1) {
		say_trouble(follow->path, "can't read the file", errno);
		return (-1);
	}
	if (follow->inode != 0 && !is_known(follow, fd, &st)) {
		snprintf(rotated, sizeof(rotated), "%s.1", follow->path);
		if ((old_fd = open_named(rotated, &old)) != -1) {
			if (is_known(follow, old_fd, &old)) {
				close(fd);
				begin_file(follow, old_fd, &old);
				return (0);
			}
			close(old_fd);
		}
		log_warn("the file was rotated, and what was left of the old "
			 "one isn't there",
		    "path", follow->path, "offset", log_i64(follow->offset));
	}
	begin_file(follow, fd, &st);
	return (0);
}

/* 1 if the name stands for another file by now.  That one is held from then
 * on: it may be renamed as well before it is its turn. */
static int
is_rotated(struct follow *follow)
{
	struct stat st;

	if (follow->next_fd != -1)
		return (1);
	if (stat(follow->path, &st) == -1 || is_same(follow, &st))
		return (0);
	if ((follow->next_fd = open_named(follow->path, &st)) == -1) {
		say_trouble(follow->path, "can't read the file", errno);
		return (0);
	}
	log_info("the file was rotated, reading the old one until it is quiet",
	    "path", follow->path);
	return (1);
}

/* 1 if the file, rotated, was found to end at ${end} for long enough. */
static int
is_quiet(struct follow *follow, int64_t end)
{
	const int64_t now_us = clock_mono_us();

	if (follow->end != end) {
		follow->end = end;
		follow->quiet_us = now_us;
	}
	return (now_us - follow->quiet_us >= QUIET_US);
}

/* ---- lines ------------------------------------------------------------------- */

/* The line under way: others may still belong to it. */
struct pending {
	struct log_event event;
	int there;
};
static struct pending pending;

static void
flush_pending(struct lines *lines)
{

	if (pending.there)
		lines_add(lines, &pending.event);
	pending.there = 0;
}

static void
take_line(const struct follow *follow, const char *line, size_t size,
    int64_t now_ms, struct lines *lines)
{

	if (pending.there && lines_is_more(line, size)) {
		lines_append(&pending.event, line, size);
		return;
	}
	flush_pending(lines);
	snprintf(pending.event.service, sizeof(pending.event.service), "%s",
	    follow->service);
	snprintf(pending.event.host, sizeof(pending.event.host), "%s",
	    follow->host);
	pending.event.ts_ms = now_ms;
	pending.there = lines_parse(line, size, &pending.event);
}

/* Where the first line ends: at ${size} without its line feed. */
static size_t
line_length(const char *bytes, size_t size)
{
	const char *end = memchr(bytes, '\n', size);

	return (end != NULL ? (size_t)(end - bytes) : size);
}

/*
 * Take whole lines, as many as make ${count} records at most; with ${last} also
 * one without its line feed.  How many bytes were used.
 */
static size_t
take_lines(struct follow *follow, const char *bytes, size_t size, int last,
    int64_t now_ms, int count, struct lines *lines)
{
	size_t used = 0, length;
	int ends;

	while (used < size) {
		length = line_length(bytes + used, size - used);
		ends = length < size - used;
		if (!ends && !last && length < LINE_MOST)
			break;
		if (length > LINE_MOST) {
			length = LINE_MOST;
			ends = 0;
		}
		/* One fewer than may be made, since what is under way comes
		 * last; but all that belongs to it. */
		if (lines->count >= count - pending.there &&
		    !(pending.there && lines_is_more(bytes + used, length)))
			break;
		take_line(follow, bytes + used, length, now_ms, lines);
		used += length + (size_t)ends;
	}
	flush_pending(lines);
	follow->lines += lines->count;
	return (used);
}

/* ---- a file -------------------------------------------------------------------- */

/* Of the ${used} bytes read at the offset, those that the head still lacks. */
static void
keep_head(struct follow *follow, const char *bytes, size_t used)
{
	const size_t room = FOLLOW_HEAD - follow->head_size;

	if (follow->offset != (int64_t)follow->head_size)
		return;
	if (used > room)
		used = room;
	memcpy(follow->head + follow->head_size, bytes, used);
	follow->head_size += used;
}

static void
step_file(struct follow *follow, int64_t now_ms, int count, struct lines *lines)
{
	static char bytes[CHUNK];
	struct stat st;
	ssize_t got;
	size_t used;
	int rotated, done;

	if (follow->fd == -1 && open_file(follow) == -1)
		return;
	if (fstat(follow->fd, &st) == 0 &&
	    (st.st_size < follow->offset ||
		!is_known(follow, follow->fd, &st))) {
		log_info("the file was cut, reading it anew", "path",
		    follow->path);
		follow->offset = 0;
		follow->head_size = 0;
	}
	/* Before reading: what is written until then is read. */
	rotated = follow->onward && is_rotated(follow);
	if ((got = pread(follow->fd, bytes, sizeof(bytes), follow->offset)) ==
	    -1) {
		say_trouble(follow->path, "can't read the file", errno);
		return;
	}
	done = !follow->onward ||
	    (rotated && is_quiet(follow, follow->offset + got));
	used = take_lines(follow, bytes, (size_t)got,
	    done && got < (ssize_t)sizeof(bytes), now_ms, count, lines);
	keep_head(follow, bytes, used);
	follow->offset += (int64_t)used;
	/* A step that has made something may yet be undone. */
	if (got > 0 || !done)
		return;
	close_file(follow);
	if (!follow->onward) {
		follow->ended = 1;
		return;
	}
	log_info("the old file is quiet, going on with the new one", "path",
	    follow->path);
	follow->inode = follow->device = follow->offset = 0;
	follow->head_size = 0;
}

/* ---- standard input ------------------------------------------------------------ */

static void
drop_taken(struct follow *follow)
{

	memmove(chunk, chunk + follow->taken, follow->length - follow->taken);
	follow->length -= follow->taken;
	follow->taken = 0;
}

static void
step_input(struct follow *follow, int64_t now_ms, int count,
    struct lines *lines)
{
	struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
	ssize_t got;

	/* Unless the step before was undone, what it used is done with. */
	if (!follow->fresh || follow->lines != follow->taken_lines)
		drop_taken(follow);
	follow->taken = 0;
	if (!follow->at_end && follow->length < sizeof(chunk) &&
	    poll(&fd, 1, 0) > 0) {
		got = read(STDIN_FILENO, chunk + follow->length,
		    sizeof(chunk) - follow->length);
		if (got == 0 ||
		    (got == -1 && errno != EINTR && errno != EAGAIN))
			follow->at_end = 1;
		else if (got > 0)
			follow->length += (size_t)got;
	}
	follow->taken_lines = follow->lines;
	follow->taken = take_lines(follow, chunk, follow->length,
	    follow->at_end, now_ms, count, lines);
	/* Blank lines alone leave no trace by which to tell an undone step. */
	if (lines->count == 0)
		drop_taken(follow);
	if (follow->at_end && follow->length == 0 && lines->count == 0)
		follow->ended = 1;
}

void
follow_step(struct follow *follow, int64_t now_ms, int count,
    struct lines *lines)
{

	if (follow->path != NULL)
		step_file(follow, now_ms, count, lines);
	else
		step_input(follow, now_ms, count, lines);
	follow->fresh = 0;
}

/* ---- the state ------------------------------------------------------------------ */

int
follow_load(struct follow *follow, struct store *st, struct mr_error *err)
{
	const char *name = follow->path != NULL ? follow->path : stdin_name;
	int64_t device = 0, inode = 0;
	struct store_rows *rows;
	const void *head;
	size_t size;
	int found;

	if ((rows = store_query(st, err, sql_load, store_text(name))) == NULL)
		return (-1);
	follow->offset = follow->lines = 0;
	follow->head_size = 0;
	if ((found = store_next(rows, err)) == 1) {
		device = store_get_i64(rows, 0);
		inode = store_get_i64(rows, 1);
		follow->offset = store_get_i64(rows, 2);
		head = store_get_blob(rows, 3, &size);
		follow->head_size = size < FOLLOW_HEAD ? size : FOLLOW_HEAD;
		if (size > 0)
			memcpy(follow->head, head, follow->head_size);
		follow->lines = store_get_i64(rows, 4);
	}
	store_rows_done(rows);
	/* A step that changed files, and was undone. */
	if (device != follow->device || inode != follow->inode)
		follow_close(follow);
	follow->device = device;
	follow->inode = inode;
	follow->fresh = 1;
	return (found == -1 ? -1 : 0);
}

int
follow_save(const struct follow *follow, struct store *st, struct mr_error *err)
{

	return (
	    store_run(st, err, sql_save,
		store_text(follow->path != NULL ? follow->path : stdin_name),
		store_i64(follow->device), store_i64(follow->inode),
		store_i64(follow->path != NULL ? follow->offset : 0),
		store_blob(follow->head, follow->head_size),
		store_i64(follow->lines)) == -1 ?
		-1 :
		0);
}
