/*
 * broker: what acknowledgements wait for, and a disk that is slow, full or
 * broken.
 *
 * fdatasync of the syncer's thread and pwrite of any go through --wrap, so that
 * the one can be held up or fail, and the other find no space.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker_fixture.h"

#define SHORT_MS 100

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static int gate_closed; /* under the lock */
static int passes; /* likewise: so many may go through it all the same */
static int syncs, waiting; /* likewise: of the syncer */
static _Atomic int sync_errno, write_errno; /* 0: none */

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
ssize_t __real_pwrite(int fd, const void *bytes, size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t size, off_t at);
ssize_t __real_pwrite64(int fd, const void *bytes, size_t size, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t size, off_t at);

static int
is_syncer(void)
{
	char name[16] = "";

	(void)pthread_getname_np(pthread_self(), name, sizeof(name));
	return (strcmp(name, "syncer") == 0);
}

int
__wrap_fdatasync(int fd)
{

	if (!is_syncer())
		return (__real_fdatasync(fd));
	pthread_mutex_lock(&lock);
	syncs++;
	while (gate_closed && passes == 0) {
		waiting = 1;
		pthread_cond_wait(&opened, &lock);
	}
	if (gate_closed)
		passes--;
	waiting = 0;
	pthread_mutex_unlock(&lock);
	if ((errno = atomic_load(&sync_errno)) != 0)
		return (-1);
	return (__real_fdatasync(fd));
}

ssize_t
__wrap_pwrite(int fd, const void *bytes, size_t size, off_t at)
{

	if ((errno = atomic_load(&write_errno)) != 0)
		return (-1);
	return (__real_pwrite(fd, bytes, size, at));
}

ssize_t
__wrap_pwrite64(int fd, const void *bytes, size_t size, off_t at)
{

	if ((errno = atomic_load(&write_errno)) != 0)
		return (-1);
	return (__real_pwrite64(fd, bytes, size, at));
}

static void
gate(int closed)
{

	pthread_mutex_lock(&lock);
	gate_closed = closed;
	pthread_cond_broadcast(&opened);
	pthread_mutex_unlock(&lock);
}

/* Let ${n} flushes of files through, and no more. */
static void
gate_pass(int n)
{

	pthread_mutex_lock(&lock);
	passes = n;
	waiting = 0;
	pthread_cond_broadcast(&opened);
	pthread_mutex_unlock(&lock);
}

/* Until a flush stands at the gate. */
static void
wait_at_gate(void)
{
	int64_t until = clock_mono_us() + (int64_t)PATIENCE_S * 1000000;
	int there = 0;

	while (!there && clock_mono_us() < until) {
		(void)poll(NULL, 0, 1);
		pthread_mutex_lock(&lock);
		there = waiting;
		pthread_mutex_unlock(&lock);
	}
	assert_true(there);
}

static int
count_syncs(void)
{
	int n;

	pthread_mutex_lock(&lock);
	n = syncs;
	pthread_mutex_unlock(&lock);
	return (n);
}

static int
begin_with(const char *const *flags)
{
	struct client c;

	broker_begin(flags);
	c = client_connect();
	assert_int_equal(make_topic(&c, "t", 2, NULL), WIRE_NONE);
	client_close(&c);
	return (0);
}

static int
begin(void **state)
{

	(void)state;
	return (begin_with(NULL));
}

static int
begin_by_interval(void **state)
{
	static const char *const flags[] = {"--flush", "interval",
	    "--flush-interval-ms", "100", NULL};

	(void)state;
	return (begin_with(flags));
}

static int
end(void **state)
{

	(void)state;
	gate(0);
	atomic_store(&sync_errno, 0);
	atomic_store(&write_errno, 0);
	if (served.broker != NULL)
		broker_end();
	else
		remove_root();
	return (0);
}

static void
produce_send(struct client *c, int32_t partition, int acks)
{
	struct produce_ask ask;
	uint8_t bytes[200];
	size_t size = make_one(bytes, "k", 10, clock_wall_ms(), NULL);

	client_send(c, WIRE_API_Produce, 8,
	    produce_ask(&ask, "t", partition, acks, bytes, (int64_t)size));
}

static int64_t
produce_receive(struct client *c)
{
	struct wire_produce_response out;

	assert_int_equal(client_receive(c, WIRE_API_Produce, 8, &out), 1);
	assert_int_equal(out.topics.at[0].partitions.at[0].error_code,
	    WIRE_NONE);
	return (out.topics.at[0].partitions.at[0].base_offset);
}

static void
acks_all_waits_for_the_disk_and_readers_do_too(void **state)
{
	struct client all = client_connect(), one = client_connect(),
		      other = client_connect();

	(void)state;
	gate(1);
	produce_send(&all, 0, -1);
	wait_at_gate();
	produce_send(&one, 0, 1);
	assert_int_equal(produce_receive(&one), 1);
	assert_true(fetch(&one, "t", 0, 0).records.length <= 0);
	/* The end is behind what was acknowledged. */
	list_offset_send(&one, 7, "t", 0, LATEST, -1);
	list_offset_send(&other, 7, "t", 0, 0, -1);
	assert_false(is_answered_within(&all, SHORT_MS));
	assert_false(is_answered_within(&one, 0));
	assert_false(is_answered_within(&other, 0));
	gate(0);
	assert_int_equal(produce_receive(&all), 0);
	assert_int_equal(list_offset_receive(&one, 7).offset, 2);
	assert_int_equal(list_offset_receive(&other, 7).offset, 0);
	assert_int_equal(get_i64(fetch(&one, "t", 0, 0).records.at), 0);
	client_close(&other);
	client_close(&one);
	client_close(&all);
}

static void
by_interval_neither_waits_for_the_disk_which_has_it_soon(void **state)
{
	struct client c = client_connect();

	(void)state;
	gate(1);
	produce_send(&c, 0, -1);
	assert_int_equal(produce_receive(&c), 0);
	assert_int_equal(get_i64(fetch(&c, "t", 0, 0).records.at), 0);
	assert_int_equal(delete_records(&c, "t", 0, 1).low_watermark, 1);
	wait_at_gate();
	gate(0);
	client_close(&c);
	broker_restart();
	c = client_connect();
	assert_int_equal(list_offset(&c, "t", EARLIEST), 1);
	assert_int_equal(list_offset(&c, "t", LATEST), 1);
	client_close(&c);
}

static void
what_comes_during_a_flush_shares_the_next(void **state)
{
	enum { CLIENTS = 12 };
	struct client all[CLIENTS];
	int before = count_syncs(), i;

	(void)state;
	for (i = 0; i < CLIENTS; i++)
		all[i] = client_connect();
	gate(1);
	produce_send(&all[0], 0, -1);
	wait_at_gate();
	for (i = 1; i < CLIENTS; i++)
		produce_send(&all[i], i % 2, -1);
	/* All of them are in their logs when this is answered. */
	for (i = 1; i < CLIENTS; i++)
		assert_false(
		    is_answered_within(&all[i], i == 1 ? SHORT_MS : 0));
	gate(0);
	for (i = 0; i < CLIENTS; i++) {
		(void)produce_receive(&all[i]);
		client_close(&all[i]);
	}
	/* One, and then one of each partition, with what a log notes of it. */
	assert_in_range(count_syncs() - before, 2, 8);
}

static void
a_flush_that_comes_short_of_the_records_answers_nobody(void **state)
{
	/* A flush takes eight segments; the last record is in the twelfth. */
	enum { ROUND = 8, SEGMENTS = 12 };
	static const char *const settings[] = {"segment.ms", "1", NULL};
	struct client all = client_connect(), one = client_connect(),
		      more = client_connect();
	int64_t at_ms;
	int i;

	(void)state;
	assert_int_equal(delete_topic(&all, "t"), WIRE_NONE);
	assert_int_equal(make_topic(&all, "t", 1, settings), WIRE_NONE);
	gate(1);
	produce_send(&one, 0, -1);
	wait_at_gate();
	for (i = 1; i < SEGMENTS; i++) {
		/* The one before is in its log, and a segment is full. */
		for (at_ms = clock_wall_ms(); clock_wall_ms() - at_ms < 2;)
			(void)poll(NULL, 0, 1);
		if (i + 1 < SEGMENTS) {
			produce_send(&more, 0, 1);
			assert_int_equal(produce_receive(&more), i);
			continue;
		}
		produce_send(&all, 0, -1);
		assert_false(is_answered_within(&all, SHORT_MS));
	}
	gate_pass(1);
	assert_int_equal(produce_receive(&one), 0);
	wait_at_gate();
	gate_pass(ROUND);
	/* The next flush begins when what the last one brought is answered. */
	wait_at_gate();
	assert_false(is_answered_within(&all, SHORT_MS));
	assert_int_equal(fetch(&one, "t", 0, 0).high_watermark, 1 + ROUND);
	gate(0);
	assert_int_equal(produce_receive(&all), SEGMENTS - 1);
	client_close(&more);
	client_close(&one);
	client_close(&all);
}

/* A record is flushed, the flush of the next fails. */
static void
fail_in_second_flush(void)
{
	struct client c = client_connect();

	assert_int_equal(produce_one(&c, "t", "k", 10, clock_wall_ms()), 0);
	atomic_store(&sync_errno, EIO);
	produce_send(&c, 0, -1);
	/* The connection goes with the process. */
	assert_int_equal(pthread_join(served.thread, NULL), 0);
	assert_false(is_answered_within(&c, 0));
	assert_int_equal(served.rc, -1);
	assert_int_equal(served.err.kind, MR_FATAL);
	broker_close(served.broker);
	client_close(&c);
	close(served.stop[0]);
	close(served.stop[1]);
	atomic_store(&sync_errno, 0);
}

static void
a_flush_that_fails_ends_it_without_an_answer(void **state)
{

	(void)state;
	fail_in_second_flush();
	broker_up();
}

static void
what_was_found_is_shown_when_it_is_on_disk(void **state)
{
	struct wire_fetch_response_partition p;
	struct client asks, c;

	(void)state;
	fail_in_second_flush();
	gate(1);
	broker_up();
	wait_at_gate();
	asks = client_connect();
	c = client_connect();
	assert_int_equal(list_offset(&c, "t", EARLIEST), 0);
	/* It may have been 2, had the first flush come that far. */
	list_offset_send(&asks, 7, "t", 0, LATEST, -1);
	assert_false(is_answered_within(&asks, SHORT_MS));
	p = fetch(&c, "t", 0, 0);
	assert_int_equal(get_i64(p.records.at), 0);
	assert_int_equal(p.high_watermark, 1);
	assert_true(fetch(&c, "t", 1, 0).records.length <= 0);
	gate(0);
	assert_int_equal(get_i64(fetch(&c, "t", 1, 10000).records.at), 1);
	assert_int_equal(list_offset_receive(&asks, 7).offset, 2);
	client_close(&asks);
	client_close(&c);
}

/* What was acknowledged by acks=1 before may be deleted. */
static void
deletion_waits_for_what_it_deletes(void **state)
{
	struct client c = client_connect();
	int i;

	(void)state;
	for (i = 0; i < 20; i++) {
		produce_send(&c, 0, 1);
		assert_int_equal(produce_receive(&c), i);
		assert_int_equal(delete_records(&c, "t", 0,
				     i % 2 == 0 ? -1 : i + 1)
				     .low_watermark,
		    i + 1);
		assert_int_equal(list_offset(&c, "t", EARLIEST), i + 1);
	}
	client_close(&c);
}

static int16_t
commit(struct client *c, int64_t offset)
{
	struct wire_offset_commit_request in;
	struct wire_offset_commit_request_topic t;
	struct wire_offset_commit_request_partition p;
	struct wire_offset_commit_response out;

	wire_defaults(wire_offset_commit_request_layout(), &in);
	wire_defaults(wire_offset_commit_request_topic_layout(), &t);
	wire_defaults(wire_offset_commit_request_partition_layout(), &p);
	in.group_id = wire_text("g");
	p.committed_offset = offset;
	t.name = wire_text("t");
	t.partitions.at = &p;
	t.partitions.count = 1;
	in.topics.at = &t;
	in.topics.count = 1;
	client_call(c, WIRE_API_OffsetCommit, 7, &in, &out);
	return (out.topics.at[0].partitions.at[0].error_code);
}

static void
a_full_disk_refuses_writes_keeps_reads_and_heals(void **state)
{
	struct wire_produce_response_partition p;
	struct client c = client_connect();
	uint8_t bytes[200];
	int64_t size = (int64_t)make_one(bytes, "k", 10, clock_wall_ms(), NULL);
	int i;

	(void)state;
	assert_int_equal(produce_one(&c, "t", "k", 10, clock_wall_ms()), 0);
	assert_int_equal(commit(&c, 1), WIRE_NONE);
	assert_int_equal(make_topic(&c, "shorter", 1, NULL), WIRE_NONE);
	assert_int_equal(produce_one(&c, "shorter", "k", 10, clock_wall_ms()),
	    0);
	atomic_store(&write_errno, ENOSPC);
	for (i = 0; i < 3; i++) {
		p = produce_bytes(&c, "t", 0, -1, bytes, size);
		assert_int_equal(p.error_code, WIRE_KAFKA_STORAGE_ERROR);
		assert_int_equal(p.base_offset, -1);
		assert_int_equal(commit(&c, 2), WIRE_COORDINATOR_NOT_AVAILABLE);
		assert_int_equal(make_topic(&c, "more", 1, NULL),
		    WIRE_KAFKA_STORAGE_ERROR);
		assert_int_equal(delete_records(&c, "shorter", 0, 1).error_code,
		    WIRE_KAFKA_STORAGE_ERROR);
		assert_int_equal(get_i64(fetch(&c, "t", 0, 0).records.at), 0);
	}
	atomic_store(&write_errno, 0);
	assert_int_equal(produce_bytes(&c, "t", 0, -1, bytes, size).base_offset,
	    1);
	assert_int_equal(commit(&c, 2), WIRE_NONE);
	assert_int_equal(make_topic(&c, "more", 1, NULL), WIRE_NONE);
	assert_int_equal(delete_records(&c, "shorter", 0, 1).low_watermark, 1);
	client_close(&c);
	broker_restart();
	c = client_connect();
	assert_int_equal(list_offset(&c, "t", LATEST), 2);
	assert_int_equal(list_offset(&c, "shorter", EARLIEST), 1);
	client_close(&c);
}

static void
a_clean_stop_answers_what_waits_for_the_disk(void **state)
{
	static const char signal_info[128];
	struct client c = client_connect();

	(void)state;
	gate(1);
	produce_send(&c, 0, -1);
	wait_at_gate();
	assert_int_equal(write(served.stop[1], signal_info,
			     sizeof(signal_info)),
	    sizeof(signal_info));
	assert_false(is_answered_within(&c, SHORT_MS));
	gate(0);
	assert_int_equal(produce_receive(&c), 0);
	client_close(&c);
	assert_int_equal(broker_down(), 0);
	broker_up();
	c = client_connect();
	assert_int_equal(list_offset(&c, "t", LATEST), 1);
	client_close(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		acks_all_waits_for_the_disk_and_readers_do_too, begin, end),
	    cmocka_unit_test_setup_teardown(
		by_interval_neither_waits_for_the_disk_which_has_it_soon,
		begin_by_interval, end),
	    cmocka_unit_test_setup_teardown(
		what_comes_during_a_flush_shares_the_next, begin, end),
	    cmocka_unit_test_setup_teardown(
		a_flush_that_comes_short_of_the_records_answers_nobody, begin,
		end),
	    cmocka_unit_test_setup_teardown(
		a_flush_that_fails_ends_it_without_an_answer, begin, end),
	    cmocka_unit_test_setup_teardown(
		what_was_found_is_shown_when_it_is_on_disk, begin, end),
	    cmocka_unit_test_setup_teardown(deletion_waits_for_what_it_deletes,
		begin, end),
	    cmocka_unit_test_setup_teardown(
		a_full_disk_refuses_writes_keeps_reads_and_heals, begin, end),
	    cmocka_unit_test_setup_teardown(
		a_clean_stop_answers_what_waits_for_the_disk, begin, end),
	};

	return (cmocka_run_group_tests_name("broker_disk", tests, NULL, NULL));
}
