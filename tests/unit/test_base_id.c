#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"

static void
uuids_carry_the_time_the_version_and_the_variant(void **state)
{
	char a[ID_UUID_SIZE], b[ID_UUID_SIZE];
	int i;

	(void)state;
	/* The time is that of RFC 9562's example in appendix A.6. */
	for (i = 0; i < 1000; i++) {
		id_uuid_v7(INT64_C(0x017F22E279B0) * 1000 + i, a);
		assert_memory_equal(a, "017f22e2-79b0-7", 15);
		assert_true(strchr("89ab", a[19]) != NULL);
		assert_int_equal(strlen(a), 36);
		assert_true(id_uuid_valid(a));
	}
	id_uuid_v7(INT64_C(0x017F22E279B0) * 1000 + 999, b);
	assert_memory_equal(a, b, 18);
	assert_string_not_equal(a, b);
}

static void
uuids_sort_by_their_time(void **state)
{
	char a[ID_UUID_SIZE], b[ID_UUID_SIZE];
	int64_t us = 1795226820123456;
	int i;

	(void)state;
	for (i = 0; i < 1000; i++, us += 1 + i * 97) {
		id_uuid_v7(us, a);
		id_uuid_v7(us + 1, b);
		assert_true(strcmp(a, b) < 0);
	}
}

static void
refuses_what_is_no_uuid(void **state)
{
	static const char *const bad[] = {
	    "",
	    "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
	    "017f22e2-79b0-7cc3-98c4-dc0c0c07398ff",
	    "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
	    "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
	    "017f22e2079b0-7cc3-98c4-dc0c0c07398f",
	    "017f22e2-79b0-7cc3-98c4-dc0c0c0739-f",
	    "{17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
	};
	size_t i;

	(void)state;
	assert_true(id_uuid_valid("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"));
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(id_uuid_valid(bad[i]));
}

static void
a_uuid_in_either_case_is_read_as_its_lower_case(void **state)
{
	static const char lower[] = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
	static const char *const bad[] = {"", "017F22E2", "@17f22e2",
	    "017f22e2-79b0-7cc3-98c4-dc0c0c07398G",
	    "017F22E2-79B0-7CC3-98C4-DC0C0C07398F0"};
	char out[ID_UUID_SIZE];
	size_t i;

	(void)state;
	assert_true(id_uuid_read(lower, out));
	assert_string_equal(out, lower);
	assert_true(id_uuid_read("017F22E2-79b0-7CC3-98c4-DC0C0C07398F", out));
	assert_string_equal(out, lower);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(id_uuid_read(bad[i], out));
}

static void
random_bytes_differ_in_every_place(void **state)
{
	unsigned char bytes[700], seen[700] = {0};
	size_t i;
	int round;

	(void)state;
	for (round = 0; round < 16; round++) {
		id_random_bytes(bytes, sizeof(bytes));
		for (i = 0; i < sizeof(bytes); i++)
			seen[i] |= bytes[i];
	}
	for (i = 0; i < sizeof(seen); i++)
		assert_true(seen[i] != 0);
	id_random_bytes(bytes, 0);
}

static void
the_generator_gives_the_published_stream(void **state)
{
	/* The state 1, 2, 3, 4, worked out by hand for the first three. */
	struct id_rng rng = {{1, 2, 3, 4}};

	(void)state;
	assert_true(id_rng_next(&rng) == 11520);
	assert_true(id_rng_next(&rng) == 0);
	assert_true(id_rng_next(&rng) == 1509978240);
	/* splitmix64's first word of seed 0 is well known. */
	id_rng_seed(&rng, 0);
	assert_true(rng.s[0] == UINT64_C(0xE220A8397B1DCDAF));
}

static void
same_seed_same_stream_and_state_can_be_kept(void **state)
{
	struct id_rng a, b;
	int i;

	(void)state;
	id_rng_seed(&a, 42);
	id_rng_seed(&b, 42);
	for (i = 0; i < 100; i++)
		assert_true(id_rng_next(&a) == id_rng_next(&b));
	memcpy(&b, &a, sizeof(b));
	assert_true(id_rng_next(&a) == id_rng_next(&b));
	id_rng_seed(&b, 43);
	assert_true(id_rng_next(&a) != id_rng_next(&b));
}

static void
uniform_and_normal_have_their_moments(void **state)
{
	struct id_rng rng;
	double x, sum = 0, squares = 0, uniform_sum = 0;
	int i, n = 200000;

	(void)state;
	id_rng_seed(&rng, 7);
	for (i = 0; i < n; i++) {
		x = id_rng_uniform(&rng);
		assert_true(x >= 0 && x < 1);
		uniform_sum += x;
		x = id_rng_normal(&rng);
		assert_true(isfinite(x));
		sum += x;
		squares += x * x;
	}
	assert_true(fabs(uniform_sum / n - 0.5) < 0.005);
	assert_true(fabs(sum / n) < 0.01);
	assert_true(fabs(squares / n - 1) < 0.02);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(uuids_carry_the_time_the_version_and_the_variant),
	    cmocka_unit_test(uuids_sort_by_their_time),
	    cmocka_unit_test(refuses_what_is_no_uuid),
	    cmocka_unit_test(a_uuid_in_either_case_is_read_as_its_lower_case),
	    cmocka_unit_test(random_bytes_differ_in_every_place),
	    cmocka_unit_test(the_generator_gives_the_published_stream),
	    cmocka_unit_test(same_seed_same_stream_and_state_can_be_kept),
	    cmocka_unit_test(uniform_and_normal_have_their_moments),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
