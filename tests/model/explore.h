/*
 * explore -- breadth-first search through all states of the protocol.
 *
 * Every state reached is kept whole, so nothing is taken for seen because
 * its hash was: when the search is exhausted, it is exhausted.  The order
 * is by number of steps, so the first violation found is a shortest one.
 */
#ifndef EXPLORE_H_
#define EXPLORE_H_

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "protocol.h"

struct limits {
	uint32_t states; /* give up above so many */
	uint32_t depth; /* don't go deeper; 0: no limit */
	bool progress; /* check too that all can always end well */
};

struct outcome {
	uint64_t steps; /* steps tried from all states */
	uint32_t states; /* different states reached */
	uint32_t depth; /* steps to the farthest, or to the flaw */
	uint32_t quiet; /* states in which all work is done */
	uint32_t stuck; /* states from which no quiet one is reached */
	bool exhausted; /* there are no others */
	enum flaw flaw;
};

/*
 * explore -- search ${world} within ${limits}.
 *
 * Stops at the first flaw; then, and if ${trace} isn't NULL, prints the
 * way to it.  Returns 0, or -1 when memory runs out.
 */
int explore(const struct world *world, const struct limits *limits, FILE *trace,
    struct outcome *outcome);

#endif /* !EXPLORE_H_ */
