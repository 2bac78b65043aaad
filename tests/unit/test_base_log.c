#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/log.h"

#define THREADS 4
#define LINES_EACH 500

static int stderr_kept;
static FILE *captured;

/* From here to capture_end what is written to stderr goes into a file. */
static void
capture_begin(void)
{

	assert_non_null(captured = tmpfile());
	stderr_kept = dup(STDERR_FILENO);
	assert_true(stderr_kept >= 0);
	assert_int_equal(dup2(fileno(captured), STDERR_FILENO), STDERR_FILENO);
}

/* What was written, without a NUL; to be freed. */
static char *
capture_end(void)
{
	char *text;
	long size;

	dup2(stderr_kept, STDERR_FILENO);
	close(stderr_kept);
	fseek(captured, 0, SEEK_END);
	size = ftell(captured);
	assert_true(size >= 0);
	rewind(captured);
	assert_non_null(text = calloc(1, (size_t)size + 1));
	assert_int_equal(fread(text, 1, (size_t)size, captured), size);
	fclose(captured);
	return (text);
}

/* A line without its time, which is checked to look like one. */
static const char *
after_time(const char *line)
{

	assert_memory_equal(line, "time=2", 6);
	assert_int_equal(line[5 + 23], 'Z');
	assert_int_equal(line[5 + 24], ' ');
	return (line + 5 + 25);
}

static void
writes_pairs_and_quotes_only_what_needs_it(void **state)
{
	static const struct {
		const char *value, *shown;
	} cases[] = {
	    {"plain", "plain"},
	    {"a/b:c,d-e", "a/b:c,d-e"},
	    {"", "\"\""},
	    {NULL, "\"\""},
	    {"two words", "\"two words\""},
	    {"a=b", "\"a=b\""},
	    {"say \"x\"", "\"say \\\"x\\\"\""},
	    {"back\\slash", "\"back\\\\slash\""},
	    {"line\nfeed\r\t", "\"line\\nfeed\\r\\t\""},
	    {"\x1b[31m\x7f", "\"\\x1B[31m\\x7F\""},
	    {"gr\xC3\xBC\xC3\x9F", "gr\xC3\xBC\xC3\x9F"},
	    {"\xC2\x9B", "\"\\xC2\\x9B\""},
	    {"x\xFF", "\"x\\xFF\""},
	    {"\xE2\x82", "\"\\xE2\\x82\""},
	};
	char expected[200], *text;
	size_t i;

	(void)state;
	log_init("orders/1", LOG_LOGFMT, LOG_INFO);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		capture_begin();
		log_warn("order placed", "id", cases[i].value, "n", "1");
		text = capture_end();
		snprintf(expected, sizeof(expected),
		    "level=warn instance=orders/1 msg=\"order placed\" id=%s "
		    "n=1\n",
		    cases[i].shown);
		assert_string_equal(after_time(text), expected);
		free(text);
	}
}

static void
a_bad_key_does_not_break_the_line(void **state)
{
	char *text;

	(void)state;
	log_init("x", LOG_LOGFMT, LOG_INFO);
	capture_begin();
	log_info("m", "a b=\"c\n", "1");
	text = capture_end();
	assert_string_equal(after_time(text),
	    "level=info instance=x msg=m a_b__c_=1\n");
	free(text);
}

static void
json_lines_parse_and_carry_the_same(void **state)
{
	char *text;
	json_t *root;

	(void)state;
	log_init("prices", LOG_JSON, LOG_INFO);
	capture_begin();
	log_error("store closed", "path", "a \"b\"\\\n", "bytes",
	    log_bytes("\0\xFF\x1b", 3), "none", NULL, "n", log_i64(-5));
	text = capture_end();
	assert_int_equal(text[strlen(text) - 1], '\n');
	root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(root);
	assert_int_equal(json_object_size(root), 8);
	assert_string_equal(json_string_value(json_object_get(root, "level")),
	    "error");
	assert_string_equal(json_string_value(
				json_object_get(root, "instance")),
	    "prices");
	assert_string_equal(json_string_value(json_object_get(root, "msg")),
	    "store closed");
	assert_string_equal(json_string_value(json_object_get(root, "path")),
	    "a \"b\"\\\n");
	assert_string_equal(json_string_value(json_object_get(root, "bytes")),
	    "\\x00\\xFF\\x1B");
	assert_string_equal(json_string_value(json_object_get(root, "none")),
	    "");
	assert_string_equal(json_string_value(json_object_get(root, "n")),
	    "-5");
	json_decref(root);
	free(text);
}

static void
lines_of_every_length_are_whole_and_bounded(void **state)
{
	static const enum log_format formats[] = {LOG_LOGFMT, LOG_JSON};
	static char value[6000];
	char *text;
	json_t *root;
	size_t length, n;
	int f;

	(void)state;
	for (f = 0; f < 2; f++) {
		log_init("x", formats[f], LOG_INFO);
		for (length = 3900; length < 4150; length++) {
			memset(value, 'a', length);
			value[length] = '\0';
			value[length / 2] = length % 2 ? '"' : 'b';
			value[length - 1] = length % 3 ? '\n' : 'c';
			capture_begin();
			log_info("m", "long", value, "next", "1", "c", "d e");
			text = capture_end();
			n = strlen(text);
			assert_true(n <= 4096);
			assert_ptr_equal(strchr(text, '\n'), text + n - 1);
			if (length > 4050)
				assert_non_null(strstr(text,
				    f == 0 ? " cut=true\n" :
					     ",\"cut\":true}\n"));
			if (length < 3950)
				assert_null(strstr(text, "cut"));
			if (formats[f] == LOG_JSON) {
				root = json_loads(text, 0, NULL);
				assert_non_null(root);
				json_decref(root);
			}
			free(text);
		}
	}
}

static void
a_message_longer_than_a_line_is_cut(void **state)
{
	static char message[9000];
	char *text;

	(void)state;
	memset(message, ' ', sizeof(message) - 1);
	log_init("x", LOG_LOGFMT, LOG_INFO);
	capture_begin();
	log_info(message, "k", "v");
	text = capture_end();
	assert_true(strlen(text) <= 4096);
	assert_non_null(strstr(text, "\" cut=true\n"));
	free(text);
}

static void
writes_only_the_levels_that_are_asked_for(void **state)
{
	char *text;

	(void)state;
	log_init("x", LOG_LOGFMT, LOG_WARN);
	assert_false(log_enabled(LOG_INFO));
	assert_true(log_enabled(LOG_WARN));
	capture_begin();
	log_debug("a");
	log_info("b");
	log_error("c");
	text = capture_end();
	assert_string_equal(after_time(text), "level=error instance=x msg=c\n");
	free(text);
}

static void
a_failed_write_is_nobodys_error(void **state)
{
	int kept = dup(STDERR_FILENO);

	(void)state;
	close(STDERR_FILENO);
	errno = ENOENT;
	log_error("nobody reads this");
	assert_int_equal(errno, ENOENT);
	assert_int_equal(dup2(kept, STDERR_FILENO), STDERR_FILENO);
	close(kept);
}

static void
shows_numbers_and_bytes(void **state)
{
	char bytes[300];

	(void)state;
	assert_string_equal(log_i64(INT64_MIN), "-9223372036854775808");
	assert_string_equal(log_f64(1.25, 1), "1.2");
	assert_string_equal(log_f64(-0.5, 3), "-0.500");
	assert_string_equal(log_f64(1e300, 2), "1e+300");
	assert_string_equal(log_bytes("abcdef", 3), "abc");
	assert_string_equal(log_bytes(NULL, 0), "");
	memset(bytes, 'x', sizeof(bytes));
	assert_int_equal(strlen(log_bytes(bytes, 200)), 200);
	assert_int_equal(strlen(log_bytes(bytes, 201)), 203);
	/* Cut before the euro sign of which byte 200 is the last. */
	bytes[198] = (char)0xE2;
	bytes[199] = (char)0x82;
	bytes[200] = (char)0xAC;
	assert_string_equal(log_bytes(bytes, 300) + 197, "x...");
}

static void
sixteen_values_live_at_once(void **state)
{
	const char *made[16];
	char text[16];
	int i;

	(void)state;
	for (i = 0; i < 16; i++)
		made[i] = log_i64(i);
	for (i = 0; i < 16; i++) {
		snprintf(text, sizeof(text), "%d", i);
		assert_string_equal(made[i], text);
	}
	assert_ptr_equal(log_i64(16), made[0]);
}

static void *
write_lines(void *arg)
{
	int i;

	for (i = 0; i < LINES_EACH; i++)
		log_info("line", "thread", arg, "i", log_i64(i), "pad",
		    "..................................................");
	return (NULL);
}

static void
lines_of_threads_do_not_mix(void **state)
{
	static char names[THREADS][2] = {"0", "1", "2", "3"};
	pthread_t threads[THREADS];
	int i, next[THREADS] = {0}, lines = 0;
	char *text, *line, *rest;
	const char *p;

	(void)state;
	log_init("x", LOG_LOGFMT, LOG_INFO);
	capture_begin();
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_lines,
				     names[i]),
		    0);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	text = capture_end();
	for (line = strtok_r(text, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest), lines++) {
		p = after_time(line);
		assert_memory_equal(p,
		    "level=info instance=x msg=line thread=", 38);
		i = p[38] - '0';
		assert_in_range(i, 0, THREADS - 1);
		assert_int_equal(strtol(p + 42, NULL, 10), next[i]++);
		assert_int_equal(line[strlen(line) - 1], '.');
	}
	assert_int_equal(lines, THREADS * LINES_EACH);
	free(text);
}

static void
a_limit_lets_its_burst_through_and_counts_the_rest(void **state)
{
	struct log_limit limit = {.per_second = 10, .burst = 3};
	struct log_limit none = {0};
	int64_t suppressed, began_ms, reported = 0;
	int i, taken = 0;

	(void)state;
	began_ms = clock_mono_us() / 1000;
	for (i = 0; i < 100; i++) {
		taken += log_limit_take(&limit, &suppressed);
		reported += suppressed;
	}
	/* Three at once; a slow machine may have earned more meanwhile. */
	assert_true(taken >= 3);
	assert_true(taken <= 4 + (clock_mono_us() / 1000 - began_ms) / 100);
	limit.last_ms -= 150;
	assert_true(log_limit_take(&limit, &suppressed));
	assert_int_equal(reported + suppressed, 100 - taken);
	assert_false(log_limit_take(&none, &suppressed));
	assert_int_equal(none.suppressed, 1);
	/* A long sleep fills the bucket, and no further than that. */
	limit.last_ms = 1;
	limit.per_second = 1000000000;
	for (i = 0; i < 3; i++) {
		limit.last_ms = INT64_C(-4000000000000);
		assert_true(log_limit_take(&limit, &suppressed));
		assert_int_equal(limit.tokens_milli, 2000);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(writes_pairs_and_quotes_only_what_needs_it),
	    cmocka_unit_test(a_bad_key_does_not_break_the_line),
	    cmocka_unit_test(json_lines_parse_and_carry_the_same),
	    cmocka_unit_test(lines_of_every_length_are_whole_and_bounded),
	    cmocka_unit_test(a_message_longer_than_a_line_is_cut),
	    cmocka_unit_test(writes_only_the_levels_that_are_asked_for),
	    cmocka_unit_test(a_failed_write_is_nobodys_error),
	    cmocka_unit_test(shows_numbers_and_bytes),
	    cmocka_unit_test(sixteen_values_live_at_once),
	    cmocka_unit_test(lines_of_threads_do_not_mix),
	    cmocka_unit_test(
		a_limit_lets_its_burst_through_and_counts_the_rest),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
