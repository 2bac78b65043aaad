/*
 * one_type -- that a service takes records of its topic's one type, and those
 * that have none, and no others.
 */
#ifndef MR_ONE_TYPE_H
#define MR_ONE_TYPE_H

#include <stdio.h>
#include <string.h>

#include "testing/testing.h"

/*
 * expect_one_type -- feed ${value} as ${type}, as another type and as none.
 * ${count_sql} says how many were applied; the dead letter goes to ${letters}.
 */
static inline void
expect_one_type(struct testing *t, const char *topic, const char *type,
    const char *value, const char *count_sql, const char *letters)
{
	char reason[128];

	testing_feed(t, topic, type, "k", value);
	testing_feed(t, topic, "type.unknown", "k", value);
	testing_feed(t, topic, NULL, "k", value);
	assert_int_equal(testing_number(t, count_sql), 2);
	assert_int_equal(testing_emitted(t, letters), 1);
	snprintf(reason, sizeof(reason),
	    "ce_type: must be %s, is \"type.unknown\"", type);
	assert_string_equal(testing_record(t, letters, 0)->reason, reason);
	testing_close(t);
}

#endif
