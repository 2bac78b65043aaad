/*
 * @NAME@: what has to be true of it, and that it stays so in every crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "testing/testing.h"

/* The program itself, its main under another name. */
int program_main(int argc, char **argv);
#define main program_main
#include "../../cmd/@NAME@/main.c" /* NOLINT(bugprone-suspicious-include) */
#undef main

static void
test_counts_survive_every_crash(void **state)
{
	struct testing *t = testing_open(&service, NULL);
	const struct testing_answer *answer;
	struct mr_error err = {0};

	(void)state;
	answer = testing_request(t, "GET", "/@NAME@", NULL);
	assert_non_null(strstr(answer->body, "{\"counts\":[]"));
	testing_feed(t, "order-events", "order.created", "Laptop", "{}");
	testing_feed(t, "order-events", "order.created", "Laptop", "{}");
	testing_repeat(t, "order-events", 1); /* a relay may */
	testing_feed(t, "order-events", "order.created", NULL, "{}");
	assert_int_equal(testing_number(t, sql_events), 2);
	assert_int_equal(testing_emitted(t, "@NAME@.dead-letter"), 1);
	answer = testing_request(t, "GET", "/@NAME@", NULL);
	assert_non_null(
	    strstr(answer->body, "{\"key\":\"Laptop\",\"events\":2}"));
	if (testing_crashes(t, NULL, &err) == -1 ||
	    testing_deterministic(t, &err) == -1)
		fail_msg("%s", err.message);
	testing_close(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_counts_survive_every_crash),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
