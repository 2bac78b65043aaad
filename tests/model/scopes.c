#include <stdlib.h>
#include <string.h>

#include "scopes.h"

/* clang-format off */

/*
 * Input topics.  OUR: seq, predecessor, which input, and the partition that
 * its emission goes to; STRANGER: which input, and that partition.
 */
#define OUR(seq, predecessor, input, output) \
	{OURS, seq, predecessor, input, output}
#define STRANGER(input, output) {FOREIGN, 0, 0, input, output}
#define MARKER {CONTROL, 0, 0, 0, 0}

/* Ours, a stranger's, ours, ours again after an upstream takeover. */
static const struct topic mixed = {{{
	OUR(1, 0, 0, 0), STRANGER(1, 0), OUR(3, 1, 2, 0), OUR(3, 1, 2, 0),
	MARKER,
}}};
static const struct topic spread = {{
	{OUR(1, 0, 0, 0), STRANGER(1, 0), OUR(1, 0, 0, 0)},
	{OUR(2, 0, 2, 0), MARKER, STRANGER(3, 0)},
}};
static const struct topic one = {{{STRANGER(0, 0), MARKER}}};
static const struct topic both = {{{OUR(1, 0, 0, 0), STRANGER(1, 0)}}};

/* What a relay makes of it: rows for both partitions, two in a row. */
static const struct topic two = {{{STRANGER(0, 0), STRANGER(1, 0)}}};
static const struct topic three = {{{
	STRANGER(0, 0), STRANGER(1, 0), STRANGER(2, 1),
}}};
static const struct topic four = {{{
	STRANGER(0, 0), STRANGER(1, 0), STRANGER(2, 1), STRANGER(3, 0),
}}};

/* A topic's two lives: the second begins with a repeat from the first. */
static const struct topic first_life = {{{
	OUR(1, 0, 0, 0), STRANGER(1, 0), OUR(2, 1, 2, 0),
}}};
static const struct topic second_life = {{{
	OUR(2, 1, 2, 0), STRANGER(3, 0), OUR(3, 2, 4, 0),
}}};
static const struct topic first_ours = {{{
	OUR(1, 0, 0, 0), OUR(2, 1, 1, 0), OUR(3, 2, 2, 0),
}}};
static const struct topic second_ours = {{{
	OUR(2, 1, 1, 0), OUR(3, 2, 2, 0), OUR(4, 3, 3, 0), OUR(5, 4, 4, 0),
}}};

const struct scope scopes[] = {
    {.name = "consume",
     .covers = "two instances read a partition, ours and strangers' records",
     .topic = &mixed, .stepwise = true, .queue = 2, .hand = 2},
    {.name = "consume-two",
     .covers = "two instances read two partitions in one transaction",
     .topic = &spread, .stepwise = true, .queue = 1, .hand = 1},
    {.name = "command",
     .covers = "a client's command beside a record",
     .topic = &one, .stepwise = true, .commands = true, .queue = 1, .hand = 1},
    {.name = "relay",
     .covers = "two relays, failing and late requests, a reader",
     .topic = &three, .emits = true, .backlog = 2, .late = 1},
    {.name = "relay-four",
     .covers = "as relay, with more rows",
     .topic = &four, .emits = true, .backlog = 2, .late = 1},
    {.name = "relay-late",
     .covers = "as relay, with more late requests and unread records",
     .topic = &three, .emits = true, .backlog = 3, .late = 2},
    {.name = "restore",
     .covers = "an older file put back by the restore command",
     .topic = &two, .emits = true, .check = true, .restores = 1,
     .backlog = 2, .late = 1},
    {.name = "restore-three",
     .covers = "as restore, with more rows, over two partitions",
     .topic = &three, .emits = true, .check = true, .restores = 1,
     .backlog = 1, .late = 1},
    {.name = "put-back",
     .covers = "an older file put back by hand, all processes gone",
     .topic = &two, .emits = true, .check = true, .copies = 1,
     .backlog = 2, .late = 1},
    {.name = "put-back-three",
     .covers = "as put-back, with more rows, over two partitions",
     .topic = &three, .emits = true, .check = true, .copies = 1,
     .backlog = 1, .late = 1},
    {.name = "put-back-twice",
     .covers = "the same copy put back by hand and by the command",
     .topic = &two, .emits = true, .check = true, .restores = 1, .copies = 1,
     .backlog = 1, .late = 0},
    {.name = "put-back-alive",
     .covers = "a file put back by hand under living processes",
     .topic = &two, .emits = true, .check = true, .copies = 1,
     .unclean_copy = true, .backlog = 2, .late = 0},
    {.name = "recreate",
     .covers = "the input topic made anew, and accepted",
     .topic = &first_life, .recreated = &second_life, .stepwise = true,
     .queue = 2, .hand = 2},
    {.name = "recreate-ours",
     .covers = "as recreate, without strangers' records",
     .topic = &first_ours, .recreated = &second_ours, .stepwise = true,
     .queue = 1, .hand = 1},
    {.name = "whole",
     .covers = "records in, transactions by steps, and rows out, together",
     .topic = &both, .stepwise = true, .emits = true,
     .queue = 1, .hand = 1, .backlog = 1, .late = 0},
    {.name = "whole-restore",
     .covers = "as whole, with one record and a restore",
     .topic = &one, .stepwise = true, .emits = true, .check = true,
     .restores = 1, .queue = 1, .hand = 1, .backlog = 1, .late = 0},
};
const size_t scopes_count = sizeof(scopes) / sizeof(scopes[0]);

#define WITHOUT(rule) (UINT32_C(1) << (rule))

const struct claim claims[] = {
    /* With all rules. */
    {"consume", "consume", 0, HOLDS, false},
    {"consume-two", "consume-two", 0, HOLDS, false},
    {"command", "command", 0, HOLDS, false},
    {"relay", "relay", 0, HOLDS, false},
    {"restore", "restore", 0, HOLDS, false},
    {"put-back", "put-back", 0, HOLDS, false},
    {"recreate", "recreate", 0, HOLDS, false},
    {"whole", "whole", 0, HOLDS, false},
    {"relay-four", "relay-four", 0, HOLDS, true},
    {"relay-late", "relay-late", 0, HOLDS, true},
    {"restore-three", "restore-three", 0, HOLDS, true},
    {"put-back-three", "put-back-three", 0, HOLDS, true},
    {"put-back-twice", "put-back-twice", 0, HOLDS, true},
    {"whole-restore", "whole-restore", 0, HOLDS, true},

    /* Each rule removed. */
    {"partition-at-send", "relay",
     WITHOUT(RULE_PARTITION_IN_ROW), BREAKS, false},
    {"in-flight-two", "relay",
     WITHOUT(RULE_IN_FLIGHT_ONE), BREAKS, false},
    {"not-gapless", "relay",
     WITHOUT(RULE_GAPLESS), BREAKS, false},
    {"mark-by-source-alone", "relay",
     WITHOUT(RULE_MARK_BY_PARTITION), BREAKS, false},
    {"seq-reused", "relay",
     WITHOUT(RULE_SEQ_NEVER_REUSED), BREAKS, false},
    {"takeover-after-first-row", "relay",
     WITHOUT(RULE_TAKEOVER_AT_FIRST_ROW), BREAKS, false},
    {"delete-unacknowledged", "relay",
     WITHOUT(RULE_DELETE_ACKED_ONLY), BREAKS, false},
    {"no-mark", "relay",
     WITHOUT(RULE_MARK), BREAKS, false},
    {"no-mark-consuming", "consume",
     WITHOUT(RULE_MARK), BREAKS, false},
    {"no-assignment-numbers", "consume",
     WITHOUT(RULE_ASSIGNMENT_NUMBERS), BREAKS, false},
    {"no-compare-and-set", "consume",
     WITHOUT(RULE_COMPARE_AND_SET), BREAKS, false},
    {"answer-before-commit", "command",
     WITHOUT(RULE_ANSWER_AFTER_COMMIT), BREAKS, false},
    {"idle-with-records-in-hand", "consume",
     WITHOUT(RULE_IDLE_EMPTY_HANDED), BREAKS, false},
    {"source-not-in-row", "restore",
     WITHOUT(RULE_SOURCE_IN_ROW), BREAKS, false},
    {"topic-by-name", "recreate",
     WITHOUT(RULE_TOPIC_ID), BREAKS, false},
    {"marks-not-carried-over", "recreate",
     WITHOUT(RULE_MARKS_CARRIED_OVER), BREAKS, false},

    /* How a file put back by hand is found out. */
    {"check-at-takeover", "put-back",
     WITHOUT(RULE_CHECK_BEFORE_EMISSION), BREAKS, false},
    {"check-last-record-only", "put-back",
     WITHOUT(RULE_CHECK_HIGHEST), BREAKS, false},
    {"check-file-first", "put-back",
     WITHOUT(RULE_CHECK_KAFKA_FIRST), HOLDS, false},

    /* What the rules don't cover, and what of it they do. */
    {"put-back-alive", "put-back-alive", 0, BREAKS, false},
    {"fetch-by-topic-name", "recreate",
     WITHOUT(RULE_FETCH_BY_TOPIC_ID), BREAKS, false},
    {"fetch-by-topic-name-ours", "recreate-ours",
     WITHOUT(RULE_FETCH_BY_TOPIC_ID), HOLDS, false},
};
const size_t claims_count = sizeof(claims) / sizeof(claims[0]);

/* clang-format on */

const struct scope *
scope_find(const char *name)
{
	size_t i;

	for (i = 0; i < scopes_count; i++)
		if (strcmp(scopes[i].name, name) == 0)
			return (&scopes[i]);
	abort(); /* a claim names a scope that isn't there */
}
