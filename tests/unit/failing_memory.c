/*
 * failing_memory -- memory that runs out once, at the n-th allocation: included
 * by tests that say so in their .ldflags (--wrap of these five).  What
 * librdkafka allocates counts as well where it is linked.  Threads may allocate
 * at once; one that is exempt isn't counted.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

/* The linker's names.  NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl*) */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *text);

static _Atomic int64_t to_go; /* until the one that fails; 0: none does */
static __thread int exempt;

static int
gone(void)
{
	return (!exempt && atomic_load(&to_go) > 0 &&
	    atomic_fetch_sub(&to_go, 1) == 1);
}

void *
__wrap_malloc(size_t size)
{
	return (gone() ? NULL : __real_malloc(size));
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return (gone() ? NULL : __real_calloc(n, size));
}

void *
__wrap_realloc(void *p, size_t size)
{
	return (gone() ? NULL : __real_realloc(p, size));
}

void *
__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return (gone() ? NULL : __real_reallocarray(p, n, size));
}

char *
__wrap_strdup(const char *text)
{
	return (gone() ? NULL : __real_strdup(text));
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl*) */
