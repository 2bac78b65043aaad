/*
 * traffic -- what simulated services log about the requests of a web shop.
 *
 * Some requests are under way at a time; each passes gateway, web-shop,
 * payments and inventory, and all lines about it have its request id.  Any
 * service may fail at it, with a stack trace, and the gateway then answers 502.
 * Now and then one of them is in trouble for a while, and fails at most:
 * a burst of errors.
 *
 * Same seed: same lines, on every machine; their times are those of the steps.
 */
#ifndef MR_TRAFFIC_H
#define MR_TRAFFIC_H

#include "base/id.h"
#include "store/store.h"

#include "lines.h"

#define TRAFFIC_REQUESTS 8 /* at a time */

struct traffic_request {
	int64_t number; /* 0: none yet */
	int64_t step;
	int64_t user;
};

struct traffic {
	int64_t seed;
	struct id_rng rng;
	int64_t lines;
	int64_t requests;
	int64_t burst_service;
	int64_t burst_left;
	struct traffic_request under_way[TRAFFIC_REQUESTS];
};

/* traffic_load -- where the services stand in the file; 0 or -1.  With another
 * seed than the file's the numbers begin anew. */
int traffic_load(struct traffic *traffic, int64_t seed, struct store *st,
    struct mr_error *err);
int traffic_save(const struct traffic *traffic, struct store *st,
    struct mr_error *err);
/* traffic_step -- make ${count} lines. */
void traffic_step(struct traffic *traffic, int64_t now_ms, int count,
    struct lines *lines);

#endif
