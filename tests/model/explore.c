#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"

/*
 * States are numbered in the order in which they are found, which is the
 * order of the search.  Most of their bytes are zero, so they are kept
 * packed, in pages: a bitmap of the bytes that are not zero, then these.
 */
#define BITMAP ((sizeof(struct state) + 7) / 8)
#define PACKED_MAX (BITMAP + sizeof(struct state))
#define PAGE_BYTES (UINT32_C(1) << 20)
#define PAGES_MAX 4096U
#define ALIGN 4U /* of a packed state, to say where in 32 bits */
#define NOT_FOUND UINT32_MAX

struct packed {
	size_t length;
	uint8_t byte[PACKED_MAX];
};

struct search {
	const struct world *world;
	const struct limits *limits;
	struct outcome *outcome;
	uint8_t *page[PAGES_MAX];
	uint32_t pages;
	uint32_t page_used; /* bytes of the last page */
	uint32_t *place; /* by number: in ALIGNs, through all pages */
	uint32_t *parent; /* by number */
	uint32_t count;
	uint32_t room; /* of place and parent */
	uint32_t *slot; /* hash table: 1 + number */
	uint32_t slots; /* a power of two */
	struct steps steps;
};

/* ---- Packing ---- */

static void
pack(const struct state *state, struct packed *packed)
{
	uint8_t bytes[BITMAP * 8] = {0};
	uint8_t *next = packed->byte + BITMAP;
	uint64_t word;
	size_t w, b;

	memcpy(bytes, state, sizeof(*state));
	memset(packed->byte, 0, BITMAP);
	for (w = 0; w < BITMAP; w++) {
		memcpy(&word, bytes + w * 8, 8);
		if (word == 0)
			continue;
		for (b = 0; b < 8; b++)
			if (bytes[w * 8 + b] != 0) {
				packed->byte[w] |= (uint8_t)(1U << b);
				*next++ = bytes[w * 8 + b];
			}
	}
	packed->length = (size_t)(next - packed->byte);
}

static void
unpack(const uint8_t *packed, struct state *state)
{
	uint8_t bytes[BITMAP * 8] = {0};
	const uint8_t *next = packed + BITMAP;
	size_t w;
	unsigned set;

	for (w = 0; w < BITMAP; w++)
		/* NOLINTNEXTLINE: a packed state begins with its bitmap */
		for (set = packed[w]; set != 0; set &= set - 1)
			bytes[w * 8 + (size_t)__builtin_ctz(set)] = *next++;
	memcpy(state, bytes, sizeof(*state));
}

static uint64_t
hash(const struct packed *packed)
{
	uint64_t h = packed->length, word;
	size_t at;

	for (at = 0; at < packed->length; at += 8) {
		word = 0;
		memcpy(&word, packed->byte + at,
		    packed->length - at < 8 ? packed->length - at : 8);
		h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	return (h ^ h >> 32);
}

/* ---- The set of states ---- */

static const uint8_t *
stored(const struct search *search, uint32_t number)
{
	uint32_t place = search->place[number];
	uint32_t in_page = PAGE_BYTES / ALIGN;

	return (
	    search->page[place / in_page] + (size_t)(place % in_page) * ALIGN);
}

static size_t
stored_length(const uint8_t *packed)
{
	size_t w, length = BITMAP;

	for (w = 0; w < BITMAP; w++)
		length += (size_t)__builtin_popcount(packed[w]);
	return (length);
}

/* The slot that holds the state, or the empty one where it belongs. */
static uint32_t *
find_slot(const struct search *search, const struct packed *packed)
{
	uint32_t at = (uint32_t)hash(packed) & (search->slots - 1);
	const uint8_t *other;

	for (; search->slot[at] != 0; at = (at + 1) & (search->slots - 1)) {
		other = stored(search, search->slot[at] - 1);
		if (memcmp(other, packed->byte, BITMAP) == 0 &&
		    memcmp(other, packed->byte, packed->length) == 0)
			break;
	}
	return (&search->slot[at]);
}

static int
grow_slots(struct search *search)
{
	uint32_t *old = search->slot, number;
	struct packed packed;

	search->slots = search->slots == 0 ? 1U << 16 : search->slots * 2;
	search->slot = calloc(search->slots, sizeof(*search->slot));
	if (search->slot == NULL) {
		search->slot = old;
		return (-1);
	}
	free(old);
	for (number = 0; number < search->count; number++) {
		packed.length = stored_length(stored(search, number));
		memcpy(packed.byte, stored(search, number), packed.length);
		*find_slot(search, &packed) = number + 1;
	}
	return (0);
}

static int
grow_numbers(struct search *search)
{
	uint32_t room = search->room == 0 ? 1U << 16 : search->room * 2;
	uint32_t *more;

	more = realloc(search->place, room * sizeof(*more));
	if (more == NULL)
		return (-1);
	search->place = more;
	more = realloc(search->parent, room * sizeof(*more));
	if (more == NULL)
		return (-1);
	search->parent = more;
	search->room = room;
	return (0);
}

/* Room for one more packed state: where it goes, or NULL. */
static uint8_t *
next_place(struct search *search, size_t length, uint32_t *place)
{

	if (search->pages == 0 || search->page_used + length > PAGE_BYTES) {
		if (search->pages == PAGES_MAX ||
		    (search->page[search->pages] = malloc(PAGE_BYTES)) == NULL)
			return (NULL);
		search->pages++;
		search->page_used = 0;
	}
	*place = ((search->pages - 1) * PAGE_BYTES + search->page_used) / ALIGN;
	search->page_used += (uint32_t)((length + ALIGN - 1) / ALIGN * ALIGN);
	return (search->page[search->pages - 1] +
	    (size_t)(*place % (PAGE_BYTES / ALIGN)) * ALIGN);
}

/*
 * Add a state.  Returns 1 if it is new, 0 if it was there, -1 without
 * memory.
 */
static int
add_state(struct search *search, const struct state *state, uint32_t parent)
{
	struct packed packed;
	uint32_t *slot, place;
	uint8_t *bytes;

	if (search->count >= search->slots / 4 * 3 && grow_slots(search) != 0)
		return (-1);
	if (search->count == search->room && grow_numbers(search) != 0)
		return (-1);
	pack(state, &packed);
	slot = find_slot(search, &packed);
	if (*slot != 0)
		return (0);
	if ((bytes = next_place(search, packed.length, &place)) == NULL)
		return (-1);
	memcpy(bytes, packed.byte, packed.length);
	search->place[search->count] = place;
	search->parent[search->count] = parent;
	*slot = ++search->count;
	return (1);
}

static uint32_t
find_state(const struct search *search, const struct state *state)
{
	struct packed packed;

	pack(state, &packed);
	return (*find_slot(search, &packed) - 1); /* NOT_FOUND if 0 */
}

/* ---- The search ---- */

/*
 * Print the way to state ${number}.  The states kept are canonical, where A
 * and B may have changed names; so walk from the start again, and at each
 * turn take a step to what is canonically the next.
 */
static void
print_trace(struct search *search, uint32_t number, FILE *out)
{
	uint32_t way[256] = {0}, length = 0, i;
	struct state now, after;
	size_t k;

	/* A state's parent was set when the state was. */
	/* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign) */
	for (; number != 0 && length < 256; number = search->parent[number])
		way[length++] = number;
	protocol_start(search->world, &now);
	for (i = 1; length-- > 0; i++) {
		protocol_moves(search->world, &now, &search->steps);
		for (k = 0; k < search->steps.count; k++) {
			after = search->steps.step[k].after;
			protocol_canonical(&after);
			if (find_state(search, &after) == way[length])
				break;
		}
		assert(k < search->steps.count);
		protocol_print_step(out, search->world, i,
		    &search->steps.step[k]);
		now = search->steps.step[k].after;
	}
}

/*
 * Look at all that follows from state ${number}.  Returns 1 when a flaw is
 * found, which is then the last state; 0 when not, -1 without memory.
 */
static int
expand(struct search *search, uint32_t number)
{
	struct outcome *outcome = search->outcome;
	struct state state;
	size_t k;
	int added;

	unpack(stored(search, number), &state);
	protocol_moves(search->world, &state, &search->steps);
	outcome->steps += search->steps.count;
	for (k = 0; k < search->steps.count; k++) {
		struct state *after = &search->steps.step[k].after;

		protocol_canonical(after);
		if ((added = add_state(search, after, number)) < 0)
			return (-1);
		if (added == 0)
			continue;
		outcome->flaw = protocol_flaw(search->world, after);
		if (outcome->flaw != FLAW_NONE)
			return (1);
		if (protocol_quiet(search->world, after))
			outcome->quiet++;
	}
	return (0);
}

/* Go through the states level by level. */
static int
search_breadth_first(struct search *search)
{
	const struct limits *limits = search->limits;
	uint32_t number = 0, level_end;
	int status;

	while (number < search->count) {
		if (limits->depth != 0 &&
		    search->outcome->depth == limits->depth)
			return (0);
		level_end = search->count;
		for (; number < level_end; number++) {
			if (search->count > limits->states)
				return (0);
			if ((status = expand(search, number)) < 0)
				return (-1);
			if (status > 0) {
				search->outcome->depth++;
				return (0);
			}
		}
		if (search->count > level_end)
			search->outcome->depth++;
	}
	search->outcome->exhausted = true;
	return (0);
}

/* Whether one step leads from ${state} to one that is ${good}. */
static bool
leads_to_good(struct search *search, const struct state *state,
    const uint8_t *good)
{
	uint32_t next;
	size_t k;

	protocol_moves(search->world, state, &search->steps);
	for (k = 0; k < search->steps.count; k++) {
		protocol_canonical(&search->steps.step[k].after);
		next = find_state(search, &search->steps.step[k].after);
		assert(next != NOT_FOUND);
		if (good[next])
			return (true);
	}
	return (false);
}

/*
 * Count the states from which no quiet one can be reached: work backwards
 * from the quiet ones, sweeping until nothing changes.
 */
static int
count_stuck(struct search *search)
{
	uint8_t *good = calloc((size_t)search->count + 1, 1);
	uint32_t number, changed;
	struct state state;

	if (good == NULL)
		return (-1);
	do {
		changed = 0;
		search->outcome->stuck = 0;
		for (number = search->count; number-- > 0;) {
			if (good[number])
				continue;
			unpack(stored(search, number), &state);
			if (protocol_quiet(search->world, &state) ||
			    leads_to_good(search, &state, good)) {
				good[number] = 1;
				changed++;
			} else {
				search->outcome->stuck++;
			}
		}
	} while (changed != 0 && search->outcome->stuck != 0);
	free(good);
	return (0);
}

int
explore(const struct world *world, const struct limits *limits, FILE *trace,
    struct outcome *outcome)
{
	struct search *search;
	struct state state;
	uint32_t page;
	int status = -1;

	memset(outcome, 0, sizeof(*outcome));
	if ((search = calloc(1, sizeof(*search))) == NULL)
		return (-1);
	search->world = world;
	search->limits = limits;
	search->outcome = outcome;

	protocol_start(world, &state);
	protocol_canonical(&state);
	if (add_state(search, &state, 0) < 0 ||
	    search_breadth_first(search) != 0)
		goto done;
	outcome->states = search->count;
	if (outcome->flaw != FLAW_NONE && trace != NULL)
		print_trace(search, search->count - 1, trace);
	if (outcome->exhausted && limits->progress && count_stuck(search) != 0)
		goto done;
	status = 0;
done:
	for (page = 0; page < search->pages; page++)
		free(search->page[page]);
	free(search->place);
	free(search->parent);
	free(search->slot);
	free(search);
	return (status);
}
