#include <string.h>

#include "scopes.h"

/*
 * Input topics.  OURS: seq, predecessor, input, and the partition that its
 * emission goes to; FOREIGN: input and that partition.
 */
#define OUR(seq, pred, input, out)          \
	{                                   \
		OURS, seq, pred, input, out \
	}
#define STRANGER(input, out)              \
	{                                 \
		FOREIGN, 0, 0, input, out \
	}
#define MARKER                      \
	{                           \
		CONTROL, 0, 0, 0, 0 \
	}

/* Ours, a stranger, ours, ours again after an upstream takeover. */
static const struct topic mixed = {{{
    OUR(1, 0, 0, 0),
    STRANGER(1, 0),
    OUR(3, 1, 2, 0),
    OUR(3, 1, 2, 0),
    MARKER,
}}};
static const struct topic one_stranger = {{{STRANGER(0, 0), MARKER}}};
static const struct topic pair = {{
    {OUR(1, 0, 0, 0), STRANGER(1, 1)},
    {OUR(2, 0, 2, 1)},
}};

/* What a relay makes of it: rows for both partitions, some in a row. */
static const struct topic two = {{{STRANGER(0, 0), STRANGER(1, 0)}}};
static const struct topic three = {{{
    STRANGER(0, 0),
    STRANGER(1, 0),
    STRANGER(2, 1),
}}};
static const struct topic four = {{{
    STRANGER(0, 0),
    STRANGER(1, 0),
    STRANGER(2, 1),
    STRANGER(3, 0),
}}};

/* The topic's two lives: the second repeats the end of the first. */
static const struct topic first_life = {{{
    OUR(1, 0, 0, 0),
    STRANGER(1, 0),
    OUR(2, 1, 2, 0),
}}};
static const struct topic second_life = {{{
    OUR(2, 1, 2, 0),
    STRANGER(3, 0),
    OUR(3, 2, 4, 0),
}}};

const struct proof proofs[] = {
    {{.name = "consume",
	 .covers = "two instances reading one partition, ours and strangers'",
	 .topic = &mixed,
	 .stepwise = true,
	 .queue = 2,
	 .hand = 2},
	false},
    {{.name = "command",
	 .covers = "a client's command beside a record",
	 .topic = &one_stranger,
	 .stepwise = true,
	 .commands = true,
	 .queue = 1,
	 .hand = 1},
	false},
    {{.name = "relay",
	 .covers = "two relays, failing and late requests, a reader",
	 .topic = &three,
	 .emits = true,
	 .backlog = 2,
	 .late = 1},
	false},
    {{.name = "restore",
	 .covers = "an older file put back by the restore command",
	 .topic = &two,
	 .emits = true,
	 .check = true,
	 .restores = 1,
	 .backlog = 2,
	 .late = 1},
	false},
    {{.name = "put-back",
	 .covers = "an older file put back by hand, all processes gone",
	 .topic = &two,
	 .emits = true,
	 .check = true,
	 .copies = 1,
	 .backlog = 2,
	 .late = 1},
	false},
    {{.name = "recreate",
	 .covers = "the input topic made anew, and accepted",
	 .topic = &first_life,
	 .recreated = &second_life,
	 .stepwise = true,
	 .queue = 2,
	 .hand = 2},
	false},
    {{.name = "two-partitions",
	 .covers = "two instances, two input partitions in a transaction",
	 .topic = &pair,
	 .stepwise = true,
	 .queue = 1,
	 .hand = 1},
	true},
    {{.name = "relay-four",
	 .covers = "as relay, with more rows and more late requests",
	 .topic = &four,
	 .emits = true,
	 .backlog = 3,
	 .late = 2},
	true},
};
const size_t proofs_count = sizeof(proofs) / sizeof(proofs[0]);

const struct removal removals[] = {
    {RULE_PARTITION_IN_ROW, "partition-at-send", "relay", false},
    {RULE_IN_FLIGHT_ONE, "in-flight-two", "relay", false},
    {RULE_GAPLESS, "not-gapless", "relay", false},
    {RULE_MARK_BY_PARTITION, "mark-by-source-alone", "relay", false},
    {RULE_SEQ_NEVER_REUSED, "seq-reused", "relay", false},
    {RULE_TAKEOVER_AT_FIRST_ROW, "takeover-after-first-row", "relay", false},
    {RULE_DELETE_ACKED_ONLY, "delete-unacknowledged", "relay", false},
    {RULE_MARK, "no-mark", "relay", false},
    {RULE_ASSIGNMENT_NUMBERS, "no-assignment-numbers", "consume", false},
    {RULE_COMPARE_AND_SET, "no-compare-and-set", "consume", false},
    {RULE_ANSWER_AFTER_COMMIT, "answer-before-commit", "command", false},
    {RULE_IDLE_EMPTY_HANDED, "idle-with-records-in-hand", "consume", false},
    {RULE_SOURCE_IN_ROW, "source-not-in-row", "restore", false},
    {RULE_CHECK_BEFORE_EMISSION, "check-at-takeover", "put-back", false},
    {RULE_CHECK_HIGHEST, "check-last-record-only", "put-back", false},
    {RULE_CHECK_KAFKA_FIRST, "check-file-first", "put-back", true},
    {RULE_TOPIC_ID, "topic-by-name", "recreate", false},
    {RULE_MARKS_CARRIED_OVER, "marks-not-carried-over", "recreate", false},
    {RULE_FETCH_BY_TOPIC_ID, "fetch-by-topic-name", "recreate", false},
};
const size_t removals_count = sizeof(removals) / sizeof(removals[0]);

const struct limit beyond[] = {
    {{.name = "put-back-unclean",
	 .covers = "a file put back by hand under running processes",
	 .topic = &two,
	 .emits = true,
	 .check = true,
	 .copies = 1,
	 .unclean_copy = true,
	 .backlog = 2,
	 .late = 1},
	0, "a copy put back while old processes or requests are about"},
};
const size_t beyond_count = sizeof(beyond) / sizeof(beyond[0]);

const struct scope *
scope_find(const char *name)
{
	size_t i;

	for (i = 0; i < proofs_count; i++)
		if (strcmp(proofs[i].scope.name, name) == 0)
			return (&proofs[i].scope);
	for (i = 0; i < beyond_count; i++)
		if (strcmp(beyond[i].scope.name, name) == 0)
			return (&beyond[i].scope);
	return (NULL);
}
