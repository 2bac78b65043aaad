/*
 * stream/ahead: a thread reads records ahead of their transaction.  Nobody can
 * tell who read what, but for the time that it takes.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/thread.h"

#include "fake_kafka.c" /* NOLINT(bugprone-suspicious-include) */
#include "stream_driver.c" /* NOLINT(bugprone-suspicious-include) */

#define IN "order-events"
#define OUT "inventory-events"
#define PARTITIONS 3
#define MANY 3000

/* ---- a service that decodes numbers ----------------------------------------- */

struct number {
	char text[32];
	int64_t n;
};

/* What decode and apply do, and what became of it. */
static struct {
	_Atomic int64_t here, ahead; /* decoded by the loop, and by another */
	_Atomic int64_t least_ahead; /* the loop waits until it is so many */
	_Atomic int64_t upset; /* so many times more RETRY */
	_Atomic int64_t
	    block; /* the other thread stops at this number; 0: none */
	_Atomic int blocked; /* it has, and the loop waits for that as well */
	_Atomic int patience; /* a test that fails shall end */
	_Atomic int mistaken; /* records that came with what is another's */
	sem_t go;
} seen;

/* The memory for what is read is the only large piece. */
#define LARGE ((size_t)1 << 20)

static atomic_int no_room, rooms, rooms_made;
static void *_Atomic room;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void __real_free(void *memory);
void __wrap_free(void *memory);

void *
__wrap_malloc(size_t size)
{
	void *memory;

	if (size < LARGE)
		return (__real_malloc(size));
	if (atomic_load(&no_room))
		return (NULL);
	memory = __real_malloc(size);
	atomic_fetch_add(&rooms, 1);
	atomic_fetch_add(&rooms_made, 1);
	atomic_store(&room, memory);
	return (memory);
}

void
__wrap_free(void *memory)
{

	if (memory != NULL && memory == atomic_load(&room)) {
		atomic_store(&room, NULL);
		atomic_fetch_sub(&rooms, 1);
	}
	__real_free(memory);
}

#define BLOCK 800 /* among those in hand from the beginning */

static const struct store_migration migrations[] =
    {{1, "numbers",
	 "CREATE TABLE numbers (n INTEGER PRIMARY KEY, partition INTEGER,"
	 " times INTEGER NOT NULL DEFAULT 1) STRICT"},
	{0}};

static _Thread_local int is_loop;

static int
decode(const struct stream_record *record, void *decoded, struct mr_error *err)
{
	struct number *number = decoded;
	char *end;

	atomic_fetch_add(is_loop ? &seen.here : &seen.ahead, 1);
	snprintf(number->text, sizeof(number->text), "%.*s",
	    (int)record->value_size, (const char *)record->value);
	number->n = strtoll(number->text, &end, 10);
	if (*end != '\0')
		return (mr_error_set(err, MR_REJECT, "%s is no number",
		    number->text));
	if (number->n == atomic_load(&seen.block) && !is_loop) {
		atomic_store(&seen.blocked, 1);
		sem_wait(&seen.go);
	}
	/* Whoever comes to it first: the loop is who then tries again. */
	if (number->n == 100 && atomic_load(&seen.upset) > 0 &&
	    (!is_loop || atomic_fetch_sub(&seen.upset, 1) > 0))
		return (mr_error_set(err, MR_RETRY, "not now"));
	return (0);
}

static void
wait_for_the_other(void)
{
	const struct timespec a_moment = {.tv_nsec = 1000000};

	is_loop = 1;
	while (atomic_fetch_sub(&seen.patience, 1) > 0 &&
	    (atomic_load(&seen.ahead) < atomic_load(&seen.least_ahead) ||
		(atomic_load(&seen.block) != 0 && !atomic_load(&seen.blocked))))
		nanosleep(&a_moment, NULL);
}

static int
apply(struct stream *s, const struct stream_record *record,
    struct mr_error *err)
{
	static const char sql[] =
	    "INSERT INTO numbers (n, partition) VALUES (?1, ?2)"
	    " ON CONFLICT DO UPDATE SET times = times + 1";
	const struct number *number = record->decoded;
	struct buffer square = {0};
	char text[32];

	wait_for_the_other();
	snprintf(text, sizeof(text), "%.*s", (int)record->value_size,
	    (const char *)record->value);
	if (strcmp(number->text, text) != 0)
		atomic_fetch_add(&seen.mistaken, 1);
	if (number->n % 1000 == 777)
		return (mr_error_set(err, MR_REJECT, "%s is refused", text));
	if (store_run(stream_store(s), err, sql, store_i64(number->n),
		store_i64(record->partition)) == -1)
		return (-1);
	buffer_add_i64(&square, number->n * number->n);
	return (stream_emit_buffer(s, OUT, "squared", text, &square, 0, err));
}

static const struct stream_service service = {
    .name = "squarer",
    .inputs = (const char *const[]){IN, NULL},
    .outputs = (const char *const[]){OUT, NULL},
    .migrations = migrations,
    .decode = decode,
    .decoded_size = sizeof(struct number),
    .apply = apply,
};

/* ---- the tests ------------------------------------------------------------- */

static int
begin(void **state)
{

	(void)state;
	driver_start();
	fake_topic(IN, PARTITIONS);
	fake_topic(OUT, PARTITIONS);
	fake_topic("squarer.dead-letter", 1);
	memset(&seen, 0, sizeof(seen));
	atomic_store(&no_room, 0);
	atomic_store(&rooms, 0);
	atomic_store(&rooms_made, 0);
	atomic_store(&seen.patience, 20000);
	sem_init(&seen.go, 0, 0);
	return (0);
}

static int
end(void **state)
{

	(void)state;
	driver_end();
	sem_destroy(&seen.go);
	return (0);
}

static void
put(int64_t from, int64_t to)
{
	char text[32];

	for (; from < to; from++) {
		snprintf(text, sizeof(text), "%lld", (long long)from);
		fake_put(IN, (int)(from % PARTITIONS), text);
	}
}

static int64_t
squares(void)
{
	int64_t sum = 0;
	int i;

	for (i = 0; i < PARTITIONS; i++)
		sum += fake_next(OUT, i);
	return (sum);
}

/* All of [1, MANY) once, but for what is refused. */
static void
assert_all(int64_t refused)
{

	WAIT(driver_number("SELECT sum(next_offset) FROM positions") ==
	    MANY - 1);
	assert_int_equal(driver_number("SELECT count(*) FROM numbers"),
	    MANY - 1 - refused);
	assert_int_equal(driver_number("SELECT max(times) FROM numbers"), 1);
	assert_int_equal(
	    driver_number(
		"SELECT count(*) FROM numbers WHERE n % 3 <> partition"),
	    0);
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"),
	    refused);
	WAIT(squares() == MANY - 1 - refused);
	assert_int_equal(atomic_load(&seen.mistaken), 0);
}

/* A backlog that another thread decodes much of. */
static struct driven *
work_off(void)
{
	struct driven *d;

	put(1, MANY);
	atomic_store(&seen.least_ahead, 500);
	d = driver_run(&service, "one", NULL);
	assert_all(3);
	return (d);
}

static void
a_backlog_is_decoded_by_another_thread(void **state)
{
	struct driven *d;

	(void)state;
	d = work_off();
	assert_true(atomic_load(&seen.ahead) >= 500);
	driver_stop(d);
}

static void
what_a_backlog_takes_is_given_back_behind_it(void **state)
{
	struct driven *d;

	(void)state;
	d = work_off();
	assert_true(atomic_load(&rooms_made) > 0);
	driver_pass_ms(1000); /* the loop looks */
	WAIT(atomic_load(&rooms) == 0);
	put(MANY, 2 * MANY);
	WAIT(driver_number("SELECT sum(next_offset) FROM positions") ==
	    2 * MANY - 1);
	driver_pass_ms(1000);
	WAIT(atomic_load(&rooms) == 0);
	driver_stop(d);
}

static void
without_memory_the_loop_decodes(void **state)
{
	struct driven *d;

	(void)state;
	put(1, MANY);
	atomic_store(&no_room, 1);
	d = driver_run(&service, "one", NULL);
	assert_all(3);
	/* It isn't known to be the loop before its first apply. */
	assert_true(atomic_load(&seen.ahead) <= 1);
	driver_stop(d);
}

static void
few_records_are_decoded_as_they_come(void **state)
{
	struct driven *d;

	(void)state;
	put(1, 30);
	d = driver_run(&service, "one", NULL);
	WAIT(driver_number("SELECT count(*) FROM numbers") == 29);
	/* It isn't known to be the loop before its first apply. */
	assert_true(atomic_load(&seen.ahead) <= 1);
	driver_stop(d);
}

/* With one batch of 7 and one of 500, and both at once. */
static void
what_was_decoded_is_applied_in_turns_of_any_size(void **state)
{
	struct stream_conf conf = driver_conf();
	struct driven *d, *e;

	(void)state;
	put(1, MANY / 2);
	conf.batch_records = 7;
	d = driver_run(&service, "one", &conf);
	e = driver_run(&service, "two", NULL);
	put(MANY / 2, MANY);
	assert_all(3);
	driver_stop(e);
	driver_stop(d);
}

static void
what_cannot_be_decoded_is_a_dead_letter(void **state)
{
	struct driven *d;
	int i;

	(void)state;
	for (i = 0; i < 10; i++) {
		put(1 + (int64_t)i * 100, 1 + (int64_t)(i + 1) * 100);
		fake_put(IN, i % PARTITIONS, i % 2 == 0 ? "seven" : "12a");
	}
	atomic_store(&seen.least_ahead, 500);
	d = driver_run(&service, "one", NULL);
	WAIT(driver_number("SELECT sum(next_offset) FROM positions") == 1010);
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"
				       " WHERE reason = 'seven is no number'"),
	    5);
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"
				       " WHERE reason = '12a is no number'"),
	    5);
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"
				       " WHERE reason = '777 is refused'"),
	    1);
	assert_int_equal(driver_number("SELECT count(*) FROM numbers"), 999);
	driver_stop(d);
}

static void
what_cannot_be_decoded_now_is_tried_again(void **state)
{
	struct driven *d;

	(void)state;
	put(99, 100);
	atomic_store(&seen.upset, 2);
	d = driver_run(&service, "one", NULL);
	WAIT(driver_number("SELECT count(*) FROM numbers") == 1);
	put(100, 102);
	WAIT(atomic_load(&seen.upset) < 2); /* it is tried again in 10 ms */
	driver_pass_ms(60000);
	WAIT(atomic_load(&seen.upset) == 0);
	driver_pass_ms(60000);
	WAIT(driver_number("SELECT count(*) FROM numbers") == 3);
	assert_int_equal(driver_number("SELECT count(*) FROM dead_letters"), 0);
	driver_stop(d);
}

/* The loop comes to the record at which the other thread stays. */
static void
the_loop_awaits_what_is_being_decoded(void **state)
{
	struct driven *d;

	(void)state;
	put(1, MANY);
	atomic_store(&seen.block, BLOCK);
	d = driver_run(&service, "one", NULL);
	WAIT(atomic_load(&seen.blocked));
	NEVER(driver_number("SELECT count(*) FROM numbers WHERE n = 800") == 1,
	    300);
	atomic_store(&seen.block, 0);
	sem_post(&seen.go);
	assert_all(3);
	driver_stop(d);
}

static void *
let_go_soon(void *arg)
{
	const struct timespec a_while = {.tv_nsec = 200000000};

	nanosleep(&a_while, NULL);
	sem_post(&seen.go);
	return (arg);
}

/* What is in hand goes, one of it while it is decoded, and is read again. */
static void
what_is_taken_away_while_it_is_decoded_is_decoded_again(void **state)
{
	pthread_t later;
	struct driven *d, *e;

	(void)state;
	put(1, MANY);
	atomic_store(&seen.block, BLOCK);
	d = driver_run(&service, "one", NULL);
	WAIT(atomic_load(&seen.blocked));
	atomic_store(&seen.block, 0);
	/* The loop may be waiting for it inside of a transaction by now. */
	assert_int_equal(thread_start(&later, "later", 65536, let_go_soon,
			     NULL),
	    0);
	e = driver_run(&service, "two", NULL);
	fake_steal("squarer", IN, BLOCK % PARTITIONS, 1);
	assert_all(3);
	pthread_join(later, NULL);
	driver_stop(e);
	driver_stop(d);
}

static void
it_stops_while_something_is_decoded(void **state)
{
	pthread_t later;
	struct driven *d;

	(void)state;
	put(1, MANY);
	atomic_store(&seen.block, BLOCK);
	d = driver_run(&service, "one", NULL);
	WAIT(atomic_load(&seen.blocked));
	assert_int_equal(thread_start(&later, "later", 65536, let_go_soon,
			     NULL),
	    0);
	driver_stop(d);
	pthread_join(later, NULL);
	atomic_store(&seen.block, 0);
	d = driver_run(&service, "one", NULL);
	assert_all(3);
	driver_stop(d);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_backlog_is_decoded_by_another_thread),
	    TEST(what_a_backlog_takes_is_given_back_behind_it),
	    TEST(without_memory_the_loop_decodes),
	    TEST(few_records_are_decoded_as_they_come),
	    TEST(what_was_decoded_is_applied_in_turns_of_any_size),
	    TEST(what_cannot_be_decoded_is_a_dead_letter),
	    TEST(what_cannot_be_decoded_now_is_tried_again),
	    TEST(the_loop_awaits_what_is_being_decoded),
	    TEST(what_is_taken_away_while_it_is_decoded_is_decoded_again),
	    TEST(it_stops_while_something_is_decoded),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
