/*
 * settings -- a topic's settings, in one table.
 *
 * Only what has an effect here is in the table; Kafka's other settings are
 * refused by name.
 */
#ifndef MR_BROKER_SETTINGS_H
#define MR_BROKER_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "broker/broker.h"

enum cleanup { CLEANUP_DELETE = 1, CLEANUP_COMPACT = 2 };

struct topic_settings {
	int64_t cleanup; /* enum cleanup, both possible */
	int64_t compression; /* always as produced */
	int64_t delete_retention_ms;
	int64_t message_most;
	int64_t time_ahead_most_ms;
	int64_t append_time; /* 1: the broker's time, 0: the producer's */
	int64_t in_sync_least; /* always 1 */
	int64_t compaction_lag_ms;
	double dirty_ratio_least;
	int64_t retention_bytes;
	int64_t retention_ms;
	int64_t segment_bytes;
	int64_t segment_ms;
};

#define SETTING_COUNT 13
/* The broker's: those that topics have by default, and some of its flags. */
#define BROKER_SETTING_COUNT (SETTING_COUNT + 11)

/* As DescribeConfigs numbers them. */
enum setting_type {
	SETTING_TRUTH = 1,
	SETTING_TEXT = 2,
	SETTING_INT = 3,
	SETTING_LONG = 5,
	SETTING_DOUBLE = 6,
	SETTING_LIST = 7
};

/* setting_find -- the index of a setting by its name, or -1. */
int setting_find(const char *name, size_t length);
const char *setting_name(int setting);
enum setting_type setting_type(int setting);

/* settings_default -- what a topic has that overrides nothing. */
void settings_default(const struct broker_conf *conf,
    struct topic_settings *settings);
/* setting_parse -- put a value in; 0, or -1 REJECT with what it takes. */
int setting_parse(int setting, const char *value,
    struct topic_settings *settings, struct mr_error *err);
/* setting_write -- the value as text. */
void setting_write(int setting, const struct topic_settings *settings,
    char *text, size_t size);
/* The i-th of the broker's, below BROKER_SETTING_COUNT: as Kafka's brokers name
 * it.  The i-th of a topic's is the i-th here. */
const char *broker_setting_name(int i);
const char *broker_setting_help(int i);
enum setting_type broker_setting_type(int i);
void broker_setting_write(int i, const struct broker_conf *conf, char *text,
    size_t size);
/* setting_copy -- one setting from one set to another. */
void setting_copy(int setting, const struct topic_settings *from,
    struct topic_settings *to);

#endif
