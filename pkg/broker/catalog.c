/*
 * catalog -- two maps of topics.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "broker/catalog.h"
#include "broker/measure.h"
#include "broker/partition.h"

/* ---- ids ---------------------------------------------------------------- */

int
uuid_is_zero(const struct wire_uuid *id)
{
	static const struct wire_uuid zero;

	return (memcmp(id, &zero, sizeof(zero)) == 0);
}

void
uuid_text(const struct wire_uuid *id, char text[ID_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < sizeof(id->bytes); i++) {
		text[i * 2] = digits[id->bytes[i] >> 4];
		text[i * 2 + 1] = digits[id->bytes[i] & 15];
	}
	text[ID_TEXT_SIZE - 1] = '\0';
}

static int
digit(char c)
{

	if (c >= '0' && c <= '9')
		return (c - '0');
	return (c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1);
}

int
uuid_from_text(const char *text, struct wire_uuid *id)
{
	size_t i;
	int high, low;

	if (strlen(text) != ID_TEXT_SIZE - 1)
		return (-1);
	for (i = 0; i < sizeof(id->bytes); i++) {
		high = digit(text[i * 2]);
		low = digit(text[i * 2 + 1]);
		if (high < 0 || low < 0)
			return (-1);
		id->bytes[i] = (uint8_t)(high << 4 | low);
	}
	return (0);
}

/* Random, marked as RFC 9562's version 4; Java prints it in base64. */
static void
draw_id(struct wire_uuid *id)
{

	do {
		id_random_bytes(id->bytes, sizeof(id->bytes));
		id->bytes[6] = (uint8_t)((id->bytes[6] & 0x0f) | 0x40);
		id->bytes[8] = (uint8_t)((id->bytes[8] & 0x3f) | 0x80);
		/* One that prints with a dash in front looks like a flag. */
	} while (id->bytes[0] >> 2 == 62);
}

/* ---- topics ------------------------------------------------------------- */

int16_t
topic_check_name(struct wire_string name, const char **why)
{
	int32_t i;
	char c;

	*why = "a topic's name may have 1 to 249 characters";
	if (name.length <= 0 || name.length > TOPIC_NAME_MOST)
		return (WIRE_INVALID_TOPIC);
	*why = "a topic can't be called . or ..";
	if (wire_string_is(name, ".") || wire_string_is(name, ".."))
		return (WIRE_INVALID_TOPIC);
	*why = "a topic's name may have letters, digits, '.', '_' and '-'";
	for (i = 0; i < name.length; i++) {
		c = name.at[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			(c >= '0' && c <= '9') || c == '.' || c == '_' ||
			c == '-'))
			return (WIRE_INVALID_TOPIC);
	}
	*why = NULL;
	return (WIRE_NONE);
}

static void
write_alike(const char *name, char alike[TOPIC_NAME_MOST + 1])
{
	char *p;

	snprintf(alike, TOPIC_NAME_MOST + 1, "%s", name);
	for (p = alike; *p != '\0'; p++)
		if (*p == '.')
			*p = '_';
}

struct topic *
topic_new(const struct broker *b, const char *name)
{
	struct topic *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return (NULL);
	snprintf(t->name, sizeof(t->name), "%s", name);
	write_alike(name, t->alike);
	draw_id(&t->id);
	uuid_text(&t->id, t->id_text);
	settings_default(&b->conf, &t->settings);
	return (t);
}

int
topic_override(const struct broker *b, struct topic *t, int setting,
    const char *value, struct mr_error *err)
{
	struct topic_settings defaults;
	char *copy = NULL;

	if (value != NULL) {
		if (setting_parse(setting, value, &t->settings, err) == -1)
			return (-1);
		if ((copy = strdup(value)) == NULL)
			return (mr_error_set(err, MR_RETRY, "out of memory"));
	} else {
		settings_default(&b->conf, &defaults);
		setting_copy(setting, &defaults, &t->settings);
	}
	free(t->overrides[setting]);
	t->overrides[setting] = copy;
	return (0);
}

void
topic_free(struct topic *t)
{
	int32_t i;

	if (t == NULL)
		return;
	for (i = 0; i < t->partition_count; i++)
		partition_free(t->partitions[i]);
	free(t->partitions);
	for (i = 0; i < SETTING_COUNT; i++)
		free(t->overrides[i]);
	free(t);
}

/* ---- finding ------------------------------------------------------------ */

struct topic *
catalog_find(const struct broker *b, struct wire_string name)
{

	if (name.length <= 0)
		return (NULL);
	return (map_find(&b->topics, name.at, (size_t)name.length));
}

struct topic *
catalog_find_id(const struct broker *b, const struct wire_uuid *id)
{

	return (map_find(&b->topics_by_id, id->bytes, sizeof(id->bytes)));
}

struct partition *
catalog_partition(const struct topic *t, int32_t index)
{

	if (t == NULL || index < 0 || index >= t->partition_count)
		return (NULL);
	return (t->partitions[index]);
}

int
catalog_collides(const struct broker *b, const char *name)
{
	char alike[TOPIC_NAME_MOST + 1];

	write_alike(name, alike);
	return (map_find(&b->alike, alike, strlen(alike)) != NULL);
}

/* Of several in an old folder the first has it. */
int
catalog_claim(struct broker *b, struct topic *t)
{
	size_t length = strlen(t->alike);

	if (map_find(&b->alike, t->alike, length) != NULL)
		return (0);
	return (map_add(&b->alike, t->alike, length, t));
}

void
catalog_unclaim(struct broker *b, struct topic *t)
{
	size_t length = strlen(t->alike);

	if (map_find(&b->alike, t->alike, length) == t)
		(void)map_remove(&b->alike, t->alike, length);
}

int
catalog_add(struct broker *b, struct topic *t, struct mr_error *err)
{

	if (map_add(&b->topics, t->name, strlen(t->name), t) == -1)
		return (mr_error_set(err, MR_FATAL, "topic %s: out of memory",
		    t->name));
	if (catalog_claim(b, t) == -1 ||
	    map_add(&b->topics_by_id, t->id.bytes, sizeof(t->id.bytes), t) ==
		-1) {
		catalog_unclaim(b, t);
		map_remove(&b->topics, t->name, strlen(t->name));
		return (mr_error_set(err, MR_FATAL, "topic %s: out of memory",
		    t->name));
	}
	b->partition_count += t->partition_count;
	measure_partitions(b->partition_count);
	return (0);
}

void
catalog_remove(struct broker *b, struct topic *t)
{

	catalog_unclaim(b, t);
	map_remove(&b->topics, t->name, strlen(t->name));
	map_remove(&b->topics_by_id, t->id.bytes, sizeof(t->id.bytes));
	b->partition_count -= t->partition_count;
	measure_partitions(b->partition_count);
}

int64_t
catalog_partitions_most(const struct broker *b)
{

	return (b->partition_count > b->conf.partitions_most ?
		b->partition_count :
		b->conf.partitions_most);
}

struct topic *
catalog_next(const struct broker *b, size_t *at)
{

	return (map_next(&b->topics, at));
}

void
catalog_abandon(struct broker *b)
{
	struct topic *t;
	size_t at = 0;
	int32_t i;

	while ((t = catalog_next(b, &at)) != NULL) {
		for (i = 0; i < t->partition_count; i++)
			partition_abandon(t->partitions[i]);
		t->partition_count = 0;
	}
	catalog_free(b);
}

void
catalog_free(struct broker *b)
{
	struct topic *t;
	size_t at = 0;

	while ((t = catalog_next(b, &at)) != NULL)
		topic_free(t);
	map_free(&b->topics);
	map_free(&b->topics_by_id);
	map_free(&b->alike);
}
