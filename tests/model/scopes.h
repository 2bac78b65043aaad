/*
 * scopes -- what is explored: the scopes in which everything must hold, and
 * for each rule the scope in which its removal must show.
 */
#ifndef SCOPES_H_
#define SCOPES_H_

#include <stdbool.h>
#include <stddef.h>

#include "protocol.h"

/* A scope that must be exhausted without a flaw. */
struct proof {
	struct scope scope;
	bool slow; /* only in a long run */
};

/*
 * A rule and the scope without it.  ${harmless} ones are there to show that
 * nothing breaks.
 */
struct removal {
	enum rule rule;
	const char *name; /* of what is left when the rule is gone */
	const char *scope;
	bool harmless;
};

/* A scope outside of what is promised, in which a flaw must show. */
struct limit {
	struct scope scope;
	uint32_t removed;
	const char *says;
};

extern const struct proof proofs[];
extern const size_t proofs_count;
extern const struct removal removals[];
extern const size_t removals_count;
extern const struct limit beyond[];
extern const size_t beyond_count;

/* scope_find -- the scope of a name, or NULL. */
const struct scope *scope_find(const char *name);

#endif /* !SCOPES_H_ */
