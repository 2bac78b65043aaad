/*
 * scopes -- what is explored, and what is claimed of it.
 *
 * A scope is a part of the protocol small enough to be searched to its end.
 * A claim says of a scope that it holds, or of a scope with a rule removed
 * that it breaks: a rule that nothing breaks without is no rule.
 */
#ifndef SCOPES_H_
#define SCOPES_H_

#include <stdbool.h>
#include <stddef.h>

#include "protocol.h"

enum expected { HOLDS, BREAKS };

struct claim {
	const char *name;
	const char *scope;
	uint32_t removed; /* rules: bits by enum rule */
	enum expected expected;
	bool slow; /* only in a long run */
};

extern const struct claim claims[];
extern const size_t claims_count;
extern const struct scope scopes[];
extern const size_t scopes_count;

/* scope_find -- the scope of a name that a claim has. */
const struct scope *scope_find(const char *name);

#endif /* !SCOPES_H_ */
