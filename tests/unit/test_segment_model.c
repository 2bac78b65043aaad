/*
 * segment: anything in any order.  Appends, flushes and tidying that are begun
 * and finished at any time, deletions, clocks that leap, kills and clean stops;
 * and readers in between, of any offset and of the end.  What is read is
 * compared with what was appended: of what the log says that it has, nothing is
 * missing, but what compaction may take, and nothing else is there.
 *
 * SEED=N begins with that history; so many are gone through (HISTORIES=N).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "segment_fixture.h"

#define HISTORIES 300
#define STEPS 300
#define KEYS 4

struct history {
	unsigned seed;
	uint64_t random;
	int step;
	struct plog *log;
	struct plog_sync *sync; /* begun */
	struct plog_tidy *tidy;
	int64_t now_ms;
	int32_t epoch;
	int key_of[STEPS]; /* by offset */
	int64_t last[KEYS]; /* offset of each key's last record; -1 */
};

static unsigned
draw(struct history *h, unsigned n)
{

	h->random ^= h->random << 13;
	h->random ^= h->random >> 7;
	h->random ^= h->random << 17;
	return ((unsigned)(h->random % n));
}

/* Which history, and where in it: it can be gone through again. */
#define EXPECT(h, what, ...)                                         \
	do {                                                         \
		if (!(what)) {                                       \
			print_error("SEED=%u, step %d: ", (h)->seed, \
			    (h)->step);                              \
			fail_msg(__VA_ARGS__);                       \
		}                                                    \
	} while (0)

static void
reopen(struct history *h)
{
	struct plog_recovery found;
	struct mr_error err = {MR_OK, ""};

	h->log = plog_open(log_path(), &conf, h->epoch++, &found, &err);
	EXPECT(h, h->log != NULL, "not opened: %s", err.message);
	EXPECT(h, found.damaged == 0, "damage at %lld",
	    (long long)found.damaged_offset);
}

static void
finish_sync(struct history *h)
{
	struct mr_error err;

	if (h->sync == NULL)
		return;
	assert_int_equal(plog_sync_run(h->sync, &err), 0);
	(void)plog_sync_finish(h->log, h->sync);
	h->sync = NULL;
}

static void
finish_tidy(struct history *h)
{
	struct mr_error err;

	if (h->tidy == NULL)
		return;
	assert_int_equal(plog_tidy_run(h->tidy, &err), 0);
	plog_tidy_finish(h->log, h->tidy, NULL);
	h->tidy = NULL;
}

static void
append(struct history *h)
{
	static const char *const keys[KEYS] = {"a", "b", "c", "d"};
	int key = (int)draw(h, KEYS);
	int length = draw(h, 3) > 0 ? 700 : 100 + (int)draw(h, 1500);
	struct plog_appended out;
	struct mr_error err = {MR_OK, ""};
	uint8_t bytes[4096];
	size_t size;

	size = make_one(bytes, keys[key], length, h->now_ms, NULL);
	EXPECT(h,
	    plog_append(h->log, bytes, size, h->now_ms, &out, &err) == PLOG_OK,
	    "not appended: %s", err.message);
	h->key_of[out.base_offset] = key;
	h->last[key] = out.base_offset;
}

/* What a reader doesn't get: compacted away, or else lost. */
static void
expect_superseded(const struct history *h, int64_t from, int64_t to)
{
	int64_t i;

	for (i = from; i < to; i++)
		EXPECT(h,
		    conf.cleanup == PLOG_COMPACT && h->last[h->key_of[i]] > i,
		    "record %lld is missing", (long long)i);
}

static void
read_offset(struct history *h, int64_t offset, int64_t high)
{
	int64_t most = draw(h, 2) ? 1 : 1 << 20, at, next = offset;
	struct mr_error err = {MR_OK, ""};
	uint8_t bytes[BATCH_HEADER_SIZE];
	struct batch_header header;
	struct plog_span span;

	EXPECT(h, plog_read(h->log, offset, most, 1, &span, &err) == PLOG_OK,
	    "%lld of %lld to %lld: %s", (long long)offset,
	    (long long)plog_start(h->log), (long long)high, err.message);
	for (at = 0; at < span.length; at += batch_size(&header)) {
		EXPECT(h,
		    read_whole(span.fd, bytes, sizeof(bytes),
			span.position + at) == 0,
		    "%lld: the file is too short", (long long)offset);
		batch_header_read(bytes, &header);
		EXPECT(h,
		    header.magic == 2 && header.base_offset >= next &&
			header.base_offset < high,
		    "%lld: %lld comes after %lld", (long long)offset,
		    (long long)header.base_offset, (long long)next);
		expect_superseded(h, next, header.base_offset);
		next = header.base_offset + 1;
	}
	EXPECT(h, at == span.length, "%lld: half a batch", (long long)offset);
	if (span.length == 0)
		expect_superseded(h, next, high);
	plog_release(h->log, &span);
}

static void
read_any(struct history *h)
{
	int64_t high = plog_high(h->log), start = plog_start(h->log);
	struct mr_error err = {MR_OK, ""};
	struct plog_found found;

	if (high == start || draw(h, 3) == 0)
		read_offset(h, high, high);
	else
		read_offset(h, start + draw(h, (unsigned)(high - start)), high);
	EXPECT(h,
	    plog_find_time(h->log, h->now_ms - draw(h, 60000), &found, &err) ==
		    PLOG_OK &&
		plog_find_latest_time(h->log, &found, &err) == PLOG_OK,
	    "no time was found: %s", err.message);
}

static void
delete_some(struct history *h)
{
	int64_t start = plog_start(h->log), high = plog_high(h->log);
	struct mr_error err;

	if (conf.cleanup == PLOG_DELETE && draw(h, 3) == 0)
		assert_int_equal(plog_delete_records(h->log,
				     draw(h, 2) ? -1 :
						  start +
					     draw(h,
						 (unsigned)(high - start) + 1),
				     &err),
		    PLOG_OK);
}

static void
stop_and_start(struct history *h)
{
	int64_t end = plog_end(h->log), start = plog_start(h->log);
	int clean = (int)draw(h, 2);

	if (clean) {
		finish_sync(h);
		finish_tidy(h);
		close_log(h->log);
	} else {
		if (h->sync != NULL)
			plog_sync_cancel(h->log, h->sync);
		if (h->tidy != NULL) {
			plog_tidy_stop(h->tidy);
			plog_tidy_finish(h->log, h->tidy, NULL);
		}
		h->sync = NULL;
		h->tidy = NULL;
		plog_abandon(h->log);
	}
	reopen(h);
	EXPECT(h, plog_end(h->log) == end, "the end is %lld and was %lld",
	    (long long)plog_end(h->log), (long long)end);
	EXPECT(h, !clean || plog_start(h->log) == start,
	    "the start is %lld and was %lld", (long long)plog_start(h->log),
	    (long long)start);
}

static void
step(struct history *h)
{

	switch (draw(h, 12)) {
	case 0:
	case 1:
	case 2:
		append(h);
		break;
	case 3:
		if (h->sync == NULL)
			h->sync = plog_sync_begin(h->log);
		break;
	case 4:
		finish_sync(h);
		break;
	case 5:
		if (h->tidy == NULL)
			h->tidy = plog_tidy_begin(h->log,
			    PLOG_DELETE | PLOG_COMPACT, h->now_ms);
		break;
	case 6:
		finish_tidy(h);
		break;
	case 7:
		h->now_ms += draw(h, 30000);
		break;
	case 8:
		delete_some(h);
		break;
	case 9:
		if (draw(h, 6) == 0)
			stop_and_start(h);
		break;
	default:
		read_any(h);
		break;
	}
}

static void
go_through(unsigned seed)
{
	static struct history h;
	int i;

	memset(&h, 0, sizeof(h));
	h.seed = seed;
	h.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	h.now_ms = INT64_C(1700000000000);
	for (i = 0; i < KEYS; i++)
		h.last[i] = -1;
	(void)set_up(NULL);
	conf.cleanup = draw(&h, 2) ? PLOG_DELETE : PLOG_COMPACT;
	conf.segment_bytes = 6000;
	conf.segment_ms = draw(&h, 2) ? 20000 : 1000000000;
	conf.retention_ms = conf.cleanup == PLOG_DELETE ? 50000 : -1;
	conf.dirty_ratio_least = 0;
	conf.delete_retention_ms = 1000;
	reopen(&h);
	for (h.step = 0; h.step < STEPS; h.step++)
		step(&h);
	finish_sync(&h);
	finish_tidy(&h);
	close_log(h.log);
	(void)tear_down(NULL);
}

static void
whatever_happens_what_is_read_is_what_was_appended(void **state)
{
	const char *seed = getenv("SEED"), *histories = getenv("HISTORIES");
	unsigned first = seed != NULL ? (unsigned)strtoul(seed, NULL, 10) :
					(unsigned)time(NULL);
	unsigned count = histories != NULL ?
	    (unsigned)strtoul(histories, NULL, 10) :
	    HISTORIES;
	unsigned i;

	(void)state;
	print_message("# SEED=%u\n", first);
	for (i = 0; i < count; i++)
		go_through(first + i);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(
		whatever_happens_what_is_read_is_what_was_appended),
	};

	return (
	    cmocka_run_group_tests_name("segment_model", tests, NULL, NULL));
}
