/*
 * sandbox_internal -- what sandbox.c and seccomp.c share.
 */
#ifndef MR_SANDBOX_INTERNAL_H
#define MR_SANDBOX_INTERNAL_H

#include "base/sandbox.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* sandbox_said -- note a layer's state and why: 0 if ${in_force}, else -1. */
int sandbox_said(struct sandbox *sb, enum sandbox_layer layer, int in_force,
    const char *format, ...) __attribute__((format(printf, 4, 5)));

/*
 * privileges_give_up, capabilities_give_up -- the first two layers, each by
 * itself: what sandbox_enter begins with, and what a test looks at alone.
 */
void privileges_give_up(struct sandbox *sb);
void capabilities_give_up(struct sandbox *sb);

/* seccomp_enter -- load the filter, or note why it isn't. */
void seccomp_enter(struct sandbox *sb);

#endif
