/*
 * map -- open addressing, linear probing; a removed value's followers move up.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/map.h"

#define CAPACITY_LEAST ((size_t)16)

struct map_slot {
	const void *key;
	size_t length;
	uint64_t hash;
	void *value; /* NULL: free */
};

/* FNV-1a, and a mixer for the low bits. */
static uint64_t
hash_of(const struct map *map, const void *key, size_t length)
{
	const unsigned char *p = key;
	uint64_t h = 0xcbf29ce484222325ULL ^ map->seed;
	size_t i;

	for (i = 0; i < length; i++) {
		h ^= p[i];
		h *= 0x100000001b3ULL;
	}
	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15ULL;
	return (h ^ h >> 29);
}

/* The key's slot, or the free one where it would be. */
static struct map_slot *
slot_of(const struct map *map, uint64_t hash, const void *key, size_t length)
{
	size_t mask = map->capacity - 1, i;
	struct map_slot *slot;

	for (i = hash & mask;; i = (i + 1) & mask) {
		slot = &map->slots[i];
		if (slot->value == NULL)
			return (slot);
		if (slot->hash == hash && slot->length == length &&
		    (length == 0 || memcmp(slot->key, key, length) == 0))
			return (slot);
	}
}

void *
map_find(const struct map *map, const void *key, size_t length)
{

	if (map->count == 0)
		return (NULL);
	return (slot_of(map, hash_of(map, key, length), key, length)->value);
}

static int
grow(struct map *map)
{
	struct map bigger = *map;
	size_t i;

	bigger.capacity = map->capacity == 0 ? CAPACITY_LEAST :
					       map->capacity * 2;
	bigger.slots = calloc(bigger.capacity, sizeof(*bigger.slots));
	if (bigger.slots == NULL)
		return (-1);
	for (i = 0; i < map->capacity; i++)
		if (map->slots[i].value != NULL)
			*slot_of(&bigger, map->slots[i].hash, map->slots[i].key,
			    map->slots[i].length) = map->slots[i];
	free(map->slots);
	*map = bigger;
	return (0);
}

int
map_add(struct map *map, const void *key, size_t length, void *value)
{
	struct map_slot *slot;
	uint64_t hash;

	assert(value != NULL);
	if (map->capacity == 0)
		id_random_bytes(&map->seed, sizeof(map->seed));
	if ((map->count + 1) * 4 > map->capacity * 3 && grow(map) == -1)
		return (-1);
	hash = hash_of(map, key, length);
	slot = slot_of(map, hash, key, length);
	assert(slot->value == NULL);
	slot->key = key;
	slot->length = length;
	slot->hash = hash;
	slot->value = value;
	map->count++;
	return (0);
}

void *
map_remove(struct map *map, const void *key, size_t length)
{
	size_t mask = map->capacity - 1, hole, i, home;
	struct map_slot *slot;
	void *value;

	if (map->count == 0)
		return (NULL);
	slot = slot_of(map, hash_of(map, key, length), key, length);
	if ((value = slot->value) == NULL)
		return (NULL);
	hole = (size_t)(slot - map->slots);
	for (i = (hole + 1) & mask; map->slots[i].value != NULL;
	     i = (i + 1) & mask) {
		home = map->slots[i].hash & mask;
		/* It may move up unless its home lies behind the hole. */
		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		map->slots[hole] = map->slots[i];
		hole = i;
	}
	memset(&map->slots[hole], 0, sizeof(map->slots[hole]));
	map->count--;
	return (value);
}

void *
map_next(const struct map *map, size_t *at)
{

	while (*at < map->capacity) {
		void *value = map->slots[(*at)++].value;

		if (value != NULL)
			return (value);
	}
	return (NULL);
}

void
map_free(struct map *map)
{

	free(map->slots);
	memset(map, 0, sizeof(*map));
}
