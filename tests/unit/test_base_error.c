#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static void
describes_and_returns_minus_one(void **state)
{
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(err.kind, MR_OK);
	assert_int_equal(mr_error_set(&err, MR_RETRY, "reading %s: %d", "x", 5),
	    -1);
	assert_int_equal(err.kind, MR_RETRY);
	assert_string_equal(err.message, "reading x: 5");
	assert_int_equal(mr_error_set(NULL, MR_FATAL, "x"), -1);
	assert_int_equal(mr_error_wrap(NULL, "x"), -1);
}

static void
takes_arguments_out_of_its_own_message(void **state)
{
	struct mr_error err = {0};

	(void)state;
	mr_error_set(&err, MR_REJECT, "inner");
	mr_error_set(&err, MR_FATAL, "%s, again: %s", err.message, err.message);
	assert_string_equal(err.message, "inner, again: inner");
	mr_error_wrap(&err, "topic %s [%d]", "orders", 2);
	assert_string_equal(err.message,
	    "topic orders [2]: inner, again: inner");
	assert_int_equal(err.kind, MR_FATAL);
	mr_error_wrap(&err, "%s", err.message);
	assert_int_equal(err.kind, MR_FATAL);
}

static void
cuts_what_does_not_fit(void **state)
{
	struct mr_error err = {0};
	char longer[400];
	int i;

	(void)state;
	memset(longer, 'a', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	mr_error_set(&err, MR_REJECT, "%s", longer);
	assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
	for (i = 0; i < 3; i++)
		mr_error_wrap(&err, "%s", longer);
	assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
}

static void
names_its_kinds(void **state)
{

	(void)state;
	assert_string_equal(mr_error_kind_name(MR_OK), "ok");
	assert_string_equal(mr_error_kind_name(MR_RETRY), "retry");
	assert_string_equal(mr_error_kind_name(MR_REJECT), "reject");
	assert_string_equal(mr_error_kind_name(MR_FATAL), "fatal");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(describes_and_returns_minus_one),
	    cmocka_unit_test(takes_arguments_out_of_its_own_message),
	    cmocka_unit_test(cuts_what_does_not_fit),
	    cmocka_unit_test(names_its_kinds),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
