/*
 * named -- what a request names more than once, where that is refused.
 */
#ifndef MR_BROKER_NAMED_H
#define MR_BROKER_NAMED_H

#include "broker/connection.h"

/* What is named: these bytes together with this number. */
struct named {
	const void *at;
	size_t length;
	int32_t number;
	int twice; /* the answer */
};

/* named_as -- by a string alone; null is empty. */
struct named named_as(struct wire_string name);
/* named_find_twice -- fill in `twice` of all.  0, or -1: the request was
 * given up. */
int named_find_twice(struct request *req, struct named *list, size_t count);

#endif
