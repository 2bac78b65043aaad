/*
 * catalog -- topics, their settings and partitions, in memory.
 *
 * The loop's thread owns what is in the catalog.  The keeper's thread makes a
 * topic's row and folder before the loop adds it, and removes them after the
 * loop has taken it out.
 */
#ifndef MR_BROKER_CATALOG_H
#define MR_BROKER_CATALOG_H

#include "broker/internal.h"
#include "broker/settings.h"

struct topic {
	char name[TOPIC_NAME_MOST + 1];
	struct wire_uuid id;
	char id_text[ID_TEXT_SIZE];
	char alike[TOPIC_NAME_MOST + 1]; /* the name, with '_' for '.' */
	struct topic_settings settings;
	char *overrides[SETTING_COUNT]; /* NULL: the broker's */
	struct partition **partitions;
	int32_t partition_count;
	int holds; /* see topic_hold */
	int retired; /* out of the catalog, deleted once it isn't held */
	int growing; /* partitions are being added */
	struct topic
	    *next; /* with the settings that the keeper got last; or NULL */
	int64_t changes; /* of settings that the keeper got */
	int64_t refused; /* the last that it couldn't make: for its thread */
};

/*
 * topic_new -- a topic that isn't in the catalog yet, without partitions.
 * NULL: out of memory.
 */
struct topic *topic_new(const struct broker *b, const char *name);
/* topic_override -- set or (NULL) take back a setting; 0 or -1 RETRY. */
int topic_override(const struct broker *b, struct topic *t, int setting,
    const char *value, struct mr_error *err);
/* topic_free -- its logs are closed.  NULL is a no-op. */
void topic_free(struct topic *t);

/* What a name must be: WIRE_NONE, or INVALID_TOPIC and *why. */
int16_t topic_check_name(struct wire_string name, const char **why);

struct topic *catalog_find(const struct broker *b, struct wire_string name);
/* catalog_collides -- is there a topic, or is one being made, whose name is this
 * one but for '.' and '_'?  Tools write both the same way. */
int catalog_collides(const struct broker *b, const char *name);
/* catalog_claim -- no other name that is alike, from now on.  0 or -1. */
int catalog_claim(struct broker *b, struct topic *t);
void catalog_unclaim(struct broker *b, struct topic *t);
struct topic *catalog_find_id(const struct broker *b,
    const struct wire_uuid *id);
struct partition *catalog_partition(const struct topic *t, int32_t index);
int catalog_add(struct broker *b, struct topic *t, struct mr_error *err);
void catalog_remove(struct broker *b, struct topic *t);
/* catalog_partitions_most -- how many there may be: --partitions-most, or what
 * there is already, from when that was more. */
int64_t catalog_partitions_most(const struct broker *b);
/* catalog_next -- each topic; start with *at = 0 until NULL. */
struct topic *catalog_next(const struct broker *b, size_t *at);
void catalog_free(struct broker *b);
/* catalog_abandon -- the same, and nothing is flushed or written. */
void catalog_abandon(struct broker *b);

int uuid_is_zero(const struct wire_uuid *id);
void uuid_text(const struct wire_uuid *id, char text[ID_TEXT_SIZE]);
int uuid_from_text(const char *text, struct wire_uuid *id);

#endif
