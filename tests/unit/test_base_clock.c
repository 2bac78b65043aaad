#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/id.h"

static void
shows_times_as_rfc3339(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} cases[] = {
	    {0, "1970-01-01T00:00:00.000Z"},
	    {-1, "1969-12-31T23:59:59.999Z"},
	    {951782400000, "2000-02-29T00:00:00.000Z"},
	    {951868799999, "2000-02-29T23:59:59.999Z"},
	    {4107542400000, "2100-03-01T00:00:00.000Z"},
	    {1795226820123, "2026-11-21T02:07:00.123Z"},
	    {253402300799999, "9999-12-31T23:59:59.999Z"},
	    {INT64_MAX, "9999-12-31T23:59:59.999Z"},
	    {INT64_MIN, "0001-01-01T00:00:00.000Z"},
	};
	char text[25];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		clock_rfc3339(cases[i].ms, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void
agrees_with_the_library_on_every_day(void **state)
{
	struct tm tm;
	char mine[25], theirs[64];
	int64_t day;
	time_t t;

	(void)state;
	for (day = -719162; day < 2932896; day += 7) {
		t = (time_t)(day * 86400 + 45296);
		assert_non_null(gmtime_r(&t, &tm));
		snprintf(theirs, sizeof(theirs),
		    "%04d-%02d-%02dT%02d:%02d:%02d.007Z", tm.tm_year + 1900,
		    tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
		    tm.tm_sec);
		clock_rfc3339((int64_t)t * 1000 + 7, mine);
		assert_string_equal(mine, theirs);
	}
}

static void
clocks_run_and_agree_on_their_units(void **state)
{
	int64_t wall_ms = clock_wall_ms(), mono_us = clock_mono_us();
	int64_t boot_ms = clock_boot_ms();

	(void)state;
	assert_true(wall_ms / 1000 - (int64_t)time(NULL) <= 1);
	assert_true((int64_t)time(NULL) - wall_ms / 1000 <= 2);
	assert_true(clock_mono_us() >= mono_us);
	assert_true(clock_boot_ms() >= boot_ms);
	/* Boot time counts suspends, so it's never behind. */
	assert_true(boot_ms >= mono_us / 1000 - 1000);
}

static void
the_boot_id_stays_the_same(void **state)
{
	char a[37], b[37];

	(void)state;
	clock_boot_id(a);
	clock_boot_id(b);
	assert_string_equal(a, b);
	assert_true(id_uuid_valid(a));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(shows_times_as_rfc3339),
	    cmocka_unit_test(agrees_with_the_library_on_every_day),
	    cmocka_unit_test(clocks_run_and_agree_on_their_units),
	    cmocka_unit_test(the_boot_id_stays_the_same),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
