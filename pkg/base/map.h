/*
 * map -- values found by a key of bytes.
 *
 * A hash table with a random seed.  Keys are borrowed: a key's bytes usually
 * are part of its value, and must stay as they are while it is in the map.
 * Zero-initialise.  Belongs to one thread.
 */
#ifndef MR_MAP_H
#define MR_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map {
	struct map_slot *slots;
	size_t count;
	size_t capacity; /* 0, or a power of two */
	uint64_t seed;
};

/* map_find -- the value, or NULL. */
void *map_find(const struct map *map, const void *key, size_t length);
/*
 * map_add -- put in a value whose key isn't there yet (asserted).  0, or -1
 * out of memory.  May move what map_next counts.
 */
int map_add(struct map *map, const void *key, size_t length, void *value);
/* map_remove -- take it out; NULL if it wasn't in. */
void *map_remove(struct map *map, const void *key, size_t length);
/*
 * map_next -- each value once, in no order: start with *at = 0 until NULL.  In
 * between nothing may be added or removed.
 */
void *map_next(const struct map *map, size_t *at);
/* map_free -- the table; the values are the caller's. */
void map_free(struct map *map);

#endif
