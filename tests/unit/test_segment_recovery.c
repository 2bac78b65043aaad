/*
 * segment: what opening a log makes of files that were cut or changed at any
 * byte, and what compaction leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "segment_fixture.h"

static char saved[80];

static int
set_up_saving(void **state)
{

	set_up(state);
	snprintf(saved, sizeof(saved), "%s/saved", test_root);
	return (0);
}

static const char *
file_of(int64_t base, const char *suffix)
{
	static char path[200];
	char name[NAME_SIZE];

	file_name(name, base, suffix);
	snprintf(path, sizeof(path), "%s/%s", log_path(), name);
	return (path);
}

static int64_t
size_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (st.st_size);
}

static void
flip(const char *path, int64_t position, uint8_t mask)
{
	uint8_t byte;
	int fd = open(path, O_RDWR);

	assert_true(fd != -1);
	assert_int_equal(pread(fd, &byte, 1, position), 1);
	byte ^= mask;
	assert_int_equal(pwrite(fd, &byte, 1, position), 1);
	close(fd);
}

/* A log of ${count} records; as if killed after a flush of ${flushed}. */
static void
make_log(int count, int flushed, int length)
{
	struct plog *log = open_log(NULL);
	int i;

	for (i = 0; i < count; i++) {
		assert_int_equal(append_one(log, "k", length, 1000 + i, NULL),
		    PLOG_OK);
		if (i + 1 == flushed)
			flush_log(log);
	}
	plog_abandon(log);
	copy_folder(log_path(), saved);
}

static void
an_end_torn_at_any_byte_is_cut_to_whole_batches(void **state)
{
	struct plog_recovery found;
	struct plog *log;
	int64_t size, cut, whole;
	struct reading r;
	const int count = 8;

	(void)state;
	make_log(count, 0, 9);
	size = size_of(file_of(0, ".log"));
	assert_int_equal(size % count, 0);
	for (cut = 0; cut <= size; cut++) {
		copy_folder(saved, log_path());
		assert_int_equal(truncate(file_of(0, ".log"), cut), 0);
		log = open_log(&found);
		whole = cut / (size / count);
		assert_int_equal(plog_end(log), whole);
		assert_int_equal(found.cut_bytes, cut % (size / count));
		assert_int_equal(plog_high(log), whole);
		assert_int_equal(append_one(log, "k", 9, 1, NULL), PLOG_OK);
		flush_log(log);
		read_log(log, 100000, &r);
		assert_int_equal(r.count, whole + 1);
		assert_int_equal(r.damaged, 0);
		close_log(log);
	}
}

/* It rolled before anything of it was flushed, so it has no checkpoint yet. */
static void
what_was_never_flushed_waits_for_the_first_flush(void **state)
{
	enum { COUNT = 300 };
	struct plog_recovery found;
	struct plog *log;
	struct reading r;

	(void)state;
	conf.segment_bytes = 200;
	make_log(COUNT, 0, 100);
	log = plog_open(log_path(), &conf, 0, &found, NULL);
	assert_non_null(log);
	assert_int_equal(plog_segments(log), COUNT);
	assert_int_equal(found.checkpoint_lost, 0);
	assert_int_equal(found.damaged, 0);
	assert_int_equal(plog_end(log), COUNT);
	assert_int_equal(plog_flushed_end(log), 0);
	/* Though not with each segment open. */
	assert_in_range(log->open_fds, PLOG_ACTIVE_FDS, COUNT / 2);
	flush_log(log);
	read_log(log, 100000, &r);
	assert_int_equal(r.count, COUNT);
	close_log(log);
}

static void
what_nothing_happened_to_is_closed_as_it_is(void **state)
{
	struct stat before, after;
	char path[200];
	struct plog *log;
	int i;

	(void)state;
	make_log(5, 5, 9);
	close_log(open_log(NULL));
	snprintf(path, sizeof(path), "%s/checkpoint", log_path());
	assert_int_equal(stat(path, &before), 0);
	for (i = 0; i < 2; i++) {
		log = open_log(NULL);
		if (i == 0)
			plog_abandon(log);
		else
			close_log(log);
		assert_int_equal(stat(path, &after), 0);
		assert_int_equal(after.st_ino, before.st_ino);
	}
	log = open_log(NULL);
	assert_int_equal(plog_delete_records(log, 2, NULL), PLOG_OK);
	close_log(log);
	assert_int_equal(stat(path, &after), 0);
	assert_true(after.st_ino != before.st_ino);
	log = open_log(NULL);
	assert_int_equal(plog_start(log), 2);
	close_log(log);
}

static void
garbage_behind_the_end_is_cut(void **state)
{
	struct plog_recovery found;
	uint8_t garbage[5000];
	struct plog *log;
	int fd;

	(void)state;
	make_log(3, 3, 9);
	memset(garbage, 2, sizeof(garbage));
	fd = open(file_of(0, ".log"), O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, garbage, sizeof(garbage)), sizeof(garbage));
	close(fd);
	log = open_log(&found);
	assert_int_equal(plog_end(log), 3);
	assert_int_equal(found.cut_bytes, sizeof(garbage));
	assert_int_equal(found.damaged, 0);
	assert_string_equal(found.cut_file, "00000000000000000000.log");
	close_log(log);
}

/*
 * Open what a flip left, and read: all that is given is right, what is missing is
 * at most ${most} records, each of them said to be damaged or cut.
 */
static void
expect_found_or_harmless(int count, int flushed, int most, const char *file,
    int64_t position)
{
	struct plog_recovery found;
	struct plog *log = open_log(&found);
	struct reading r;
	int i;

	read_log(log, 700, &r);
	for (i = 1; i < r.count; i++)
		assert_true(r.offsets[i] > r.offsets[i - 1]);
	for (i = 1; i < r.count; i++)
		assert_int_equal(r.values[i], r.values[0]);
	if (r.count + r.damaged_offsets != plog_end(log))
		fail_msg("%s byte %d: %d read, %d damaged of %d", file,
		    (int)position, r.count, (int)r.damaged_offsets,
		    (int)plog_end(log));
	/* What was flushed is there or said to be damaged, never cut. */
	if (plog_end(log) < flushed || r.count < flushed - most ||
	    (r.count < flushed && r.damaged == 0))
		fail_msg("%s byte %d: end %d, %d read, %d damaged", file,
		    (int)position, (int)plog_end(log), r.count, r.damaged);
	assert_true(plog_end(log) <= count);
	assert_int_equal(append_one(log, "k", 9, 1, NULL), PLOG_OK);
	flush_log(log);
	plog_abandon(log);
}

/* What says that it is of a later epoch isn't cut; nor is anything else. */
static void
expect_newer(int32_t epoch, const char *file)
{
	struct mr_error err = {MR_OK, ""};
	int64_t size = size_of(file);

	assert_null(plog_open(log_path(), &conf, epoch, NULL, &err));
	assert_int_equal(err.kind, MR_REJECT);
	assert_non_null(strstr(err.message, "broker.db"));
	assert_non_null(strstr(err.message, log_path()));
	assert_int_equal(size_of(file), size);
}

static void
a_flipped_byte_in_what_is_scanned_is_found(void **state)
{
	int64_t size, at, field;
	uint8_t bit;

	(void)state;
	make_log(8, 5, 9);
	size = size_of(file_of(0, ".log"));
	for (at = 0; at < size; at++) {
		copy_folder(saved, log_path());
		bit = (uint8_t)(1 << (at % 8));
		flip(file_of(0, ".log"), at, bit);
		field = at % (size / 8) - BATCH_AT_LEADER_EPOCH;
		if (at >= 5 * size / 8 && field >= 0 && field < 4 &&
		    !(field == 0 && bit == 0x80))
			expect_newer(0, file_of(0, ".log"));
		else
			expect_found_or_harmless(8, 5, 5, "log", at);
	}
}

/* As with an older broker.db, which counts starts anew. */
static void
what_a_later_epoch_wrote_is_refused_and_not_cut(void **state)
{
	/* With a checkpoint and nothing behind it, and what a kill leaves: with
	 * an older one, without the mark of what was flushed, and with damage
	 * before all the rest. */
	enum { CLOSED, KILLED, NO_MARK, DAMAGED, CASES };
	struct mr_error err = {MR_OK, ""};
	struct reading r;
	struct plog *log;
	char path[200];
	int64_t one = 0;
	int i, n;

	(void)state;
	conf.retention_ms = -1;
	for (i = 0; i < CASES; i++) {
		empty_folder(log_path());
		log = plog_open(log_path(), &conf, 3, NULL, NULL);
		assert_non_null(log);
		for (n = 0; n < 3; n++)
			assert_int_equal(append_one(log, "k", 9, 1, NULL),
			    PLOG_OK);
		one = plog_size(log) / 3;
		assert_int_equal(plog_close(log, &err), 0);
		log = plog_open(log_path(), &conf, 5, NULL, NULL);
		assert_non_null(log);
		for (n = 0; n < 3; n++)
			assert_int_equal(append_one(log, "k", 9, 1, NULL),
			    PLOG_OK);
		flush_log(log);
		conf.segment_ms = i == CLOSED ? 1 : INT64_MAX / 4;
		plog_configure(log, &conf);
		(void)tidy_log(log, (int64_t)1 << 42);
		assert_int_equal(plog_segments(log), i == CLOSED ? 2 : 1);
		if (i == CLOSED)
			assert_int_equal(plog_close(log, &err), 0);
		else
			plog_abandon(log);
		snprintf(path, sizeof(path), "%s/flushed", log_path());
		if (i == NO_MARK)
			assert_int_equal(unlink(path), 0);
		if (i == DAMAGED)
			flip(file_of(0, ".log"), 3 * one + 70, 1);
		expect_newer(4, file_of(0, ".log"));
		log = plog_open(log_path(), &conf, 5, NULL, &err);
		assert_non_null(log);
		flush_log(log);
		read_log(log, 100000, &r);
		assert_int_equal(plog_end(log), 6);
		assert_int_equal(r.count, i == DAMAGED ? 5 : 6);
		plog_abandon(log);
	}
}

static void
a_flipped_byte_in_what_is_not_scanned_is_found_by_reading(void **state)
{
	struct plog *log;
	int64_t size, at;
	int i;

	(void)state;
	/* Sealed, with entries in the index, and closed cleanly. */
	conf.segment_bytes = 9000;
	log = open_log(NULL);
	for (i = 0; i < 60; i++)
		assert_int_equal(append_one(log, "k", 300, 1000 + i, NULL),
		    PLOG_OK);
	close_log(log);
	copy_folder(log_path(), saved);
	size = size_of(file_of(0, ".log"));
	assert_true(size < 9001);
	for (at = 0; at < size; at += at % 373 < 65 ? 1 : 37) {
		copy_folder(saved, log_path());
		flip(file_of(0, ".log"), at, (uint8_t)(1 << (at % 8)));
		expect_found_or_harmless(61, 60, 13, "log", at);
	}
}

/* Open what became of the log: it reads as it did, with ${damaged} but for
 * ranges without records that are taken for damaged. */
static void
expect_as_it_was(const struct reading *was, int64_t end, int64_t size,
    int damaged, const char *file, int64_t at)
{
	struct plog *log = open_log(NULL);
	struct reading r;

	read_log(log, 2000, &r);
	/* An entry that is found bad in use is an error. */
	if ((r.damaged != 0 && !damaged) || r.count != was->count ||
	    plog_end(log) != end || plog_size(log) != size)
		fail_msg("%s byte %d: end %d, %d bytes, %d read, %d damaged",
		    file, (int)at, (int)plog_end(log), (int)plog_size(log),
		    r.count, r.damaged);
	assert_memory_equal(r.offsets, was->offsets,
	    (size_t)r.count * sizeof(r.offsets[0]));
	close_log(log);
}

/* All files but the batches', each byte in turn, and without the file.  What is
 * in ${gone} (may be NULL) is gone as well. */
static void
flip_all_others(const char *gone, int damaged)
{
	char path[600], lost[200];
	struct reading was;
	struct plog *log;
	struct dirent *entry;
	int64_t at, end, size, log_size;
	int files = 0;
	DIR *dir;

	copy_folder(log_path(), saved);
	log = open_log(NULL);
	read_log(log, 2000, &was);
	end = plog_end(log);
	log_size = plog_size(log);
	close_log(log);
	assert_int_equal(was.damaged, 0);
	snprintf(lost, sizeof(lost), "%s/%s", log_path(),
	    gone != NULL ? gone : "");
	dir = opendir(saved);
	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.' ||
		    strstr(entry->d_name, ".log") != NULL ||
		    (gone != NULL && strcmp(entry->d_name, gone) == 0))
			continue;
		files++;
		snprintf(path, sizeof(path), "%.300s/%.255s", saved,
		    entry->d_name);
		size = size_of(path);
		snprintf(path, sizeof(path), "%.300s/%.255s", log_path(),
		    entry->d_name);
		for (at = 0; at <= size; at++) {
			copy_folder(saved, log_path());
			if (at < size)
				flip(path, at, (uint8_t)(1 << (at % 8)));
			else
				unlink(path);
			if (gone != NULL)
				assert_int_equal(unlink(lost), 0);
			expect_as_it_was(&was, end, log_size, damaged,
			    entry->d_name, at);
		}
	}
	closedir(dir);
	assert_true(files > 2);
	copy_folder(saved, log_path());
}

static void
a_flipped_byte_in_any_other_file_is_harmless(void **state)
{
	struct plog *log;
	int n;

	(void)state;
	conf.segment_bytes = 9000;
	log = open_log(NULL);
	for (n = 0; n < 60; n++)
		assert_int_equal(append_one(log, "k", 300, 1000 + n, NULL),
		    PLOG_OK);
	flush_log(log);
	close_log(log);
	flip_all_others(NULL, 0);
}

/* Segments of which nothing is left, or one batch, the first, the last or one in
 * between. */
static void
nor_does_one_harm_a_log_that_was_compacted(void **state)
{
	struct plog_tidied did;
	struct plog *log;
	char key[20];
	int n;

	(void)state;
	conf.cleanup = PLOG_COMPACT;
	conf.segment_bytes = 1000;
	conf.segment_ms = INT64_MAX / 4;
	conf.dirty_ratio_least = 0.01;
	log = open_log(NULL);
	for (n = 0; n < 60; n++) {
		snprintf(key, sizeof(key), "%d", n % 7 == 3 ? n : 0);
		assert_int_equal(append_one(log, key, 100, 1000 + n, NULL),
		    PLOG_OK);
	}
	did = tidy_log(log, 2000);
	assert_true(did.segments_compacted > 5);
	close_log(log);
	flip_all_others(NULL, 0);
	flip_all_others("flushed", 0);
	/* With an index, too, nobody knows what the end of its segment was. */
	flip_all_others("checkpoint", 1);
}

static void
damage_is_told_by_file_and_offset_and_stepped_over(void **state)
{
	struct plog_recovery found;
	struct plog_span span;
	struct plog *log;
	struct mr_error err;
	struct reading r;
	int64_t one;

	(void)state;
	make_log(20, 20, 9);
	one = size_of(file_of(0, ".log")) / 20;
	flip(file_of(0, ".log"), 7 * one + 70, 1);
	log = open_log(&found);
	assert_int_equal(found.damaged, 1);
	assert_int_equal(found.damaged_offset, 7);
	assert_int_equal(found.damaged_position, 7 * one);
	assert_string_equal(found.damaged_file, "00000000000000000000.log");
	assert_int_equal(plog_read(log, 7, 1000, 1, &span, &err), PLOG_DAMAGED);
	assert_int_equal(span.base_offset, 7);
	assert_int_equal(span.next_offset, 8);
	assert_non_null(strstr(err.message, "00000000000000000000.log"));
	assert_int_equal(plog_read(log, 2, 100000, 1, &span, &err), PLOG_OK);
	assert_int_equal(span.next_offset, 7);
	plog_release(log, &span);
	assert_int_equal(plog_read(log, 8, 100000, 1, &span, &err), PLOG_OK);
	assert_int_equal(span.next_offset, 20);
	plog_release(log, &span);
	read_log(log, 100000, &r);
	assert_int_equal(r.count, 19);
	assert_int_equal(plog_end(log), 20);
	close_log(log);
}

/* Of a head: its length, which leads to no head, and its magic. */
static void
damage_to_what_was_read_before_is_told_as_well(void **state)
{
	static const struct {
		int at;
		uint8_t bits;
	} cases[] = {{BATCH_AT_LENGTH, 0x40}, {BATCH_AT_LENGTH + 3, 0x10},
	    {BATCH_AT_MAGIC, 5}};
	struct plog_recovery found;
	struct plog_span span;
	struct plog *log;
	struct mr_error err;
	struct reading r;
	int64_t one;
	size_t i;

	(void)state;
	make_log(20, 20, 9);
	one = size_of(file_of(0, ".log")) / 20;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		copy_folder(saved, log_path());
		log = open_log(&found);
		read_log(log, 100000, &r);
		assert_int_equal(r.count, 20);
		flip(file_of(0, ".log"), 7 * one + cases[i].at, cases[i].bits);
		assert_int_equal(plog_read(log, 7, 1000, 1, &span, &err),
		    PLOG_DAMAGED);
		assert_int_equal(span.base_offset, 7);
		assert_int_equal(span.next_offset, 8);
		assert_int_equal(plog_read(log, 5, 100000, 1, &span, &err),
		    PLOG_OK);
		assert_int_equal(span.next_offset, 7);
		plog_release(log, &span);
		read_log(log, 100000, &r);
		assert_int_equal(r.count, 19);
		close_log(log);
	}
}

/* What was read from behind one damage up to another says nothing of the first. */
static void
each_of_two_damages_is_told_whatever_was_read_before(void **state)
{
	static const struct {
		int64_t offset;
		int code;
		int64_t next;
	} reads[] = {{6, PLOG_OK, 12}, {0, PLOG_OK, 3}, {3, PLOG_DAMAGED, 4},
	    {4, PLOG_OK, 12}, {12, PLOG_DAMAGED, 13}, {13, PLOG_OK, 20},
	    {3, PLOG_DAMAGED, 4}, {12, PLOG_DAMAGED, 13}};
	struct plog_span span;
	struct plog *log;
	int64_t one;
	size_t i;

	(void)state;
	make_log(20, 20, 9);
	one = size_of(file_of(0, ".log")) / 20;
	flip(file_of(0, ".log"), 3 * one + 70, 1);
	flip(file_of(0, ".log"), 12 * one + 70, 1);
	log = open_log(NULL);
	for (i = 0; i < sizeof(reads) / sizeof(reads[0]); i++) {
		assert_int_equal(plog_read(log, reads[i].offset, 100000, 1,
				     &span, NULL),
		    reads[i].code);
		assert_int_equal(span.next_offset, reads[i].next);
		plog_release(log, &span);
	}
	close_log(log);
}

static void
offsets_that_were_flushed_are_never_given_again(void **state)
{
	struct plog_recovery found;
	struct plog_span span;
	struct plog *log;
	struct plog_appended out;
	struct mr_error err;
	uint8_t bytes[512];

	(void)state;
	make_log(6, 6, 9);
	assert_int_equal(truncate(file_of(0, ".log"), 0), 0);
	log = open_log(&found);
	assert_int_equal(found.damaged, 1);
	assert_int_equal(plog_end(log), 6);
	assert_int_equal(plog_append(log, bytes,
			     make_one(bytes, "k", 9, 1, NULL), 1, &out, &err),
	    PLOG_OK);
	assert_int_equal(out.base_offset, 6);
	flush_log(log);
	assert_int_equal(plog_read(log, 2, 1000, 1, &span, &err), PLOG_DAMAGED);
	assert_int_equal(span.next_offset, 6);
	close_log(log);
}

/*
 * A power cut behind a roll: the file system has the new segment's name, and of
 * the one before it what was flushed.
 */
static void
what_a_power_cut_left_behind_a_roll_is_cut(void **state)
{
	struct plog_recovery found;
	struct plog_appended out;
	struct mr_error err;
	struct reading r;
	struct plog *log;
	uint8_t bytes[512];
	int64_t flushed, base;
	int i;

	(void)state;
	conf.segment_bytes = 1000;
	log = open_log(NULL);
	for (i = 0; i < 2; i++)
		assert_int_equal(append_one(log, "k", 90, 1000 + i, NULL),
		    PLOG_OK);
	flush_log(log);
	flushed = size_of(file_of(0, ".log"));
	while (plog_segments(log) == 1)
		assert_int_equal(append_one(log, "k", 90, 1002, NULL), PLOG_OK);
	base = plog_active(log)->base;
	plog_abandon(log);
	assert_int_equal(truncate(file_of(0, ".log"), flushed), 0);
	assert_int_equal(truncate(file_of(base, ".log"), 0), 0);
	log = open_log(&found);
	assert_int_equal(found.damaged, 0);
	assert_int_equal(plog_end(log), 2);
	assert_int_equal(plog_segments(log), 1);
	assert_int_equal(plog_append(log, bytes,
			     make_one(bytes, "k", 9, 1, NULL), 1, &out, &err),
	    PLOG_OK);
	assert_int_equal(out.base_offset, 2);
	flush_log(log);
	read_log(log, 100000, &r);
	assert_int_equal(r.count, 3);
	close_log(log);
}

/* Of three segments the first had come to the disk: the second is the last now. */
static void
what_follows_a_power_cut_goes_where_it_cut(void **state)
{
	struct plog_recovery found;
	struct reading r;
	struct plog *log;
	int64_t base = -1, whole;

	(void)state;
	conf.segment_bytes = 1000;
	log = open_log(NULL);
	while (plog_segments(log) < 3) {
		assert_int_equal(append_one(log, "k", 90, 1002, NULL), PLOG_OK);
		if (plog_segments(log) == 2)
			base = plog_active(log)->base;
	}
	plog_abandon(log);
	assert_int_equal(truncate(file_of(base, ".log"), 0), 0);
	log = plog_open(log_path(), &conf, 0, &found, NULL);
	assert_non_null(log);
	assert_int_equal(found.damaged, 0);
	whole = plog_end(log);
	assert_int_equal(whole, base);
	assert_int_equal(plog_segments(log), 2);
	assert_int_equal(append_one(log, "k", 9, 1, NULL), PLOG_OK);
	flush_log(log);
	read_log(log, 100000, &r);
	assert_int_equal(r.count, whole + 1);
	close_log(log);
}

/* What was flushed by then needn't be again, and is never less. */
static void
the_flushed_mark_stays_where_it_was(void **state)
{
	enum { ROUNDS = 2, SEGMENTS = ROUNDS * SYNC_SEGMENTS + 4 };
	struct mr_error err = {MR_OK, ""};
	struct plog_sync *sync;
	struct reading r;
	struct plog *log;
	int64_t flushed;
	int i;

	(void)state;
	conf.segment_bytes = 200;
	log = open_log(NULL);
	for (i = 0; i < 3; i++)
		assert_int_equal(append_one(log, "k", 90, 1000 + i, NULL),
		    PLOG_OK);
	flush_log(log); /* with a checkpoint */
	for (i = 0; i < 100 && plog_segments(log) < 3 + SEGMENTS; i++)
		assert_int_equal(append_one(log, "k", 90, 1000 + i, NULL),
		    PLOG_OK);
	assert_int_equal(plog_segments(log), 3 + SEGMENTS);
	for (i = 0; i < ROUNDS; i++) {
		assert_non_null(sync = plog_sync_begin(log));
		assert_int_equal(plog_sync_run(sync, &err), 0);
		assert_int_equal(plog_sync_finish(log, sync), 1);
	}
	flushed = plog_flushed_end(log);
	plog_abandon(log);
	log = plog_open(log_path(), &conf, 0, NULL, &err);
	assert_non_null(log);
	assert_int_equal(plog_flushed_end(log), flushed);
	read_log(log, 100000, &r);
	assert_int_equal(r.count, flushed);
	assert_non_null(sync = plog_sync_begin(log));
	assert_int_equal(plog_sync_run(sync, &err), 0);
	(void)plog_sync_finish(log, sync);
	read_log(log, 100000, &r);
	assert_int_equal(plog_high(log), plog_end(log));
	assert_int_equal(r.count, plog_end(log));
	close_log(log);
}

/* The flush of the name, that is, without which the data's is worth nothing. */
static void
a_file_that_a_killed_process_made_is_flushed_with_its_name(void **state)
{
	enum { ROLLED, EMPTY, CLOSED, CASES };
	struct plog_sync *sync;
	struct mr_error err;
	struct plog *log;
	int i;

	(void)state;
	for (i = 0; i < CASES; i++) {
		empty_folder(log_path());
		plog_conf_default(&conf);
		conf.retention_ms = -1;
		conf.segment_bytes = 300;
		log = open_log(NULL);
		assert_int_equal(append_one(log, "k", 90, 1000, NULL), PLOG_OK);
		flush_log(log);
		if (i == EMPTY) {
			close_log(log);
			log = open_log(NULL);
			conf.segment_ms = 1;
			plog_configure(log, &conf);
			assert_null(plog_tidy_begin(log, PLOG_DELETE,
			    (int64_t)1 << 42));
		} else
			assert_int_equal(append_one(log, "k", 90, 1000, NULL),
			    PLOG_OK);
		assert_int_equal(plog_segments(log), 2);
		if (i == CLOSED)
			close_log(log);
		else
			plog_abandon(log);
		log = plog_open(log_path(), &conf, 0, NULL, &err);
		assert_non_null(log);
		assert_int_equal(append_one(log, "k", 9, 1000, NULL), PLOG_OK);
		assert_int_equal(plog_segments(log), 2);
		assert_non_null(sync = plog_sync_begin(log));
		assert_int_equal(sync->sync_folder, i != CLOSED);
		assert_int_equal(plog_sync_run(sync, &err), 0);
		(void)plog_sync_finish(log, sync);
		assert_int_equal(log->folder_dirty, 0);
		close_log(log);
	}
}

/* ---- Compaction --------------------------------------------------------- */

/* Three keys, the last of them deleted at the end. */
static void
fill_compacted(struct plog *log, int rounds)
{
	struct test_record records[3] = {{"a", "1", 1}, {"b", "2", 2},
	    {"c", "3", 3}};
	uint8_t bytes[512];
	struct plog_appended out;
	struct mr_error err;
	int i;

	for (i = 0; i < rounds; i++) {
		if (i + 1 == rounds)
			records[2].value = NULL;
		assert_int_equal(plog_append(log, bytes,
				     make_batch(bytes, records, 3, NULL), 1000,
				     &out, &err),
		    PLOG_OK);
	}
	/* The active segment isn't compacted. */
	for (i = 0; i < 20; i++)
		assert_int_equal(append_one(log, "other", 40, 5, NULL),
		    PLOG_OK);
}

static int
count_records(struct plog *log)
{
	struct plog_span span;
	struct batch_header h;
	struct mr_error err;
	uint8_t bytes[BATCH_HEADER_SIZE];
	int64_t offset = plog_start(log);
	int count = 0;

	while (offset < plog_high(log)) {
		assert_int_equal(plog_read(log, offset, 1, 1, &span, &err),
		    PLOG_OK);
		if (span.length == 0)
			break;
		assert_int_equal(read_whole(span.fd, bytes, sizeof(bytes),
				     span.position),
		    0);
		batch_header_read(bytes, &h);
		count += h.record_count;
		offset = span.next_offset;
		plog_release(log, &span);
	}
	return (count);
}

static void
compaction_keeps_the_last_of_each_key_and_its_offset(void **state)
{
	const int64_t later = (int64_t)1 << 42;
	struct plog_tidied did;
	struct plog_recovery found;
	struct plog *log;
	int before;

	(void)state;
	conf.cleanup = PLOG_COMPACT;
	conf.segment_bytes = 1000;
	conf.segment_ms = INT64_MAX / 4;
	conf.delete_retention_ms = 0;
	conf.dirty_ratio_least = 0.01;
	log = open_log(NULL);
	fill_compacted(log, 40);
	flush_log(log);
	before = count_records(log);
	did = tidy_log(log, 2000);
	assert_true(did.segments_compacted > 3);
	assert_true(did.bytes_after < did.bytes_before / 4);
	assert_int_equal(plog_end(log), 140);
	assert_true(count_records(log) < before);
	/* a, b and the tombstone, then what is in the active segment. */
	assert_int_equal(count_records(log),
	    3 + 1 + (int)(140 - plog_active(log)->base));
	close_log(log);
	log = open_log(&found);
	assert_int_equal(found.damaged, 0);
	assert_int_equal(found.indexes_rebuilt, 0);
	assert_int_equal(count_records(log),
	    3 + 1 + (int)(140 - plog_active(log)->base));
	/* The tombstone goes in the next round that has something to do. */
	fill_compacted(log, 1);
	(void)tidy_log(log, later);
	(void)tidy_log(log, later);
	assert_int_equal(plog_start(log), 0);
	close_log(log);
	log = open_log(&found);
	assert_int_equal(found.damaged, 0);
	assert_int_equal(plog_end(log), 163);
	close_log(log);
}

static void
a_head_that_changed_in_a_compacted_segment_is_found(void **state)
{
	struct plog_segment *segment;
	struct plog *log;
	struct reading r;
	int64_t base = -1;
	size_t i;

	(void)state;
	conf.cleanup = PLOG_COMPACT;
	conf.segment_bytes = 1000;
	conf.segment_ms = INT64_MAX / 4;
	conf.dirty_ratio_least = 0.01;
	log = open_log(NULL);
	fill_compacted(log, 40);
	(void)tidy_log(log, 2000);
	for (i = 0; i < log->count; i++) {
		segment = log->segments[i];
		if (segment->compacted && segment->size > 0)
			base = segment->base;
	}
	assert_true(base >= 0);
	close_log(log);
	/* The leader epoch: not in the batch's CRC, and any will do. */
	flip(file_of(base, ".log"), BATCH_AT_LEADER_EPOCH + 3, 1);
	log = open_log(NULL);
	read_log(log, 100000, &r);
	assert_int_equal(r.damaged, 1);
	close_log(log);
}

static void
what_cannot_be_read_is_not_compacted(void **state)
{
	static const struct test_record one[] = {{"a", "1", 1}};
	uint8_t bytes[512];
	struct plog_tidied did;
	struct plog_appended out;
	struct plog *log;
	struct mr_error err;
	size_t size;
	int i;

	(void)state;
	conf.segment_bytes = 600;
	conf.dirty_ratio_least = 0.01;
	/* They would be looked at if the log were compacted already. */
	log = open_log(NULL);
	for (i = 0; i < 30; i++) {
		/* Records as they are, in a batch that says snappy. */
		size = finish_batch(bytes,
		    make_records(bytes + BATCH_HEADER_SIZE, one, 1),
		    BATCH_SNAPPY, one, 1, NULL);
		assert_int_equal(plog_append(log, bytes, size, 1000, &out,
				     &err),
		    PLOG_OK);
	}
	conf.cleanup = PLOG_COMPACT;
	plog_configure(log, &conf);
	did = tidy_log(log, 2000);
	assert_int_equal(did.segments_compacted, 0);
	assert_true(did.unreadable_batches > 20);
	assert_int_equal(count_records(log), 30);
	close_log(log);
}

static void
folders_go_whole_or_not_at_all(void **state)
{
	char topic[100], part[120];
	struct plog *log;
	struct mr_error err;
	struct stat st;

	(void)state;
	snprintf(topic, sizeof(topic), "%s/topic", test_root);
	snprintf(part, sizeof(part), "%s/0", topic);
	assert_int_equal(plog_folder_make(topic, &err), 0);
	log = plog_open(part, &conf, 0, NULL, &err);
	assert_non_null(log);
	assert_int_equal(append_one(log, "k", 9, 1, NULL), PLOG_OK);
	plog_abandon(log);
	assert_int_equal(plog_folder_purge(test_root, &err), 0);
	assert_int_equal(stat(part, &st), 0);
	assert_int_equal(plog_folder_retire(topic, &err), 0);
	assert_int_equal(stat(topic, &st), -1);
	assert_int_equal(plog_folder_retire(topic, &err), 0);
	assert_int_equal(plog_folder_purge(test_root, &err), 0);
	snprintf(part, sizeof(part), "%s.deleted", topic);
	assert_int_equal(stat(part, &st), -1);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up_saving, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(an_end_torn_at_any_byte_is_cut_to_whole_batches),
	    TEST(garbage_behind_the_end_is_cut),
	    TEST(what_was_never_flushed_waits_for_the_first_flush),
	    TEST(what_nothing_happened_to_is_closed_as_it_is),
	    TEST(a_flipped_byte_in_what_is_scanned_is_found),
	    TEST(what_a_later_epoch_wrote_is_refused_and_not_cut),
	    TEST(a_flipped_byte_in_what_is_not_scanned_is_found_by_reading),
	    TEST(a_flipped_byte_in_any_other_file_is_harmless),
	    TEST(nor_does_one_harm_a_log_that_was_compacted),
	    TEST(damage_is_told_by_file_and_offset_and_stepped_over),
	    TEST(damage_to_what_was_read_before_is_told_as_well),
	    TEST(each_of_two_damages_is_told_whatever_was_read_before),
	    TEST(offsets_that_were_flushed_are_never_given_again),
	    TEST(what_a_power_cut_left_behind_a_roll_is_cut),
	    TEST(what_follows_a_power_cut_goes_where_it_cut),
	    TEST(the_flushed_mark_stays_where_it_was),
	    TEST(a_file_that_a_killed_process_made_is_flushed_with_its_name),
	    TEST(compaction_keeps_the_last_of_each_key_and_its_offset),
	    TEST(a_head_that_changed_in_a_compacted_segment_is_found),
	    TEST(what_cannot_be_read_is_not_compacted),
	    TEST(folders_go_whole_or_not_at_all),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
