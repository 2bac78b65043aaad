/*
 * named -- sorted, as a request may name millions.
 */
#include <stdlib.h>
#include <string.h>

#include "broker/named.h"

struct named
named_as(struct wire_string name)
{

	return ((struct named){.at = name.at,
	    .length = name.length > 0 ? (size_t)name.length : 0});
}

static int
compare(const void *a, const void *b)
{
	const struct named *x = *(struct named *const *)a;
	const struct named *y = *(struct named *const *)b;

	if (x->number != y->number)
		return (x->number < y->number ? -1 : 1);
	if (x->length != y->length)
		return (x->length < y->length ? -1 : 1);
	return (x->length > 0 ? memcmp(x->at, y->at, x->length) : 0);
}

int
named_find_twice(struct request *req, struct named *list, size_t count)
{
	struct named **sorted;
	size_t i;

	if (count < 2)
		return (0);
	sorted = request_take(req, count * sizeof(struct named *));
	if (sorted == NULL)
		return (-1);
	for (i = 0; i < count; i++)
		sorted[i] = &list[i];
	qsort(sorted, count, sizeof(struct named *), compare);
	for (i = 1; i < count; i++)
		if (compare(&sorted[i - 1], &sorted[i]) == 0)
			sorted[i - 1]->twice = sorted[i]->twice = 1;
	return (0);
}
