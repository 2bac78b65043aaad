#include <stdlib.h>

#include "base/json_read.h"

static _Thread_local int memory_failed;

static void *
watched_malloc(size_t size)
{
	void *p;

	if ((p = malloc(size)) == NULL)
		memory_failed = 1;
	return (p);
}

/* Before main, so that no thread can be in jansson. */
__attribute__((constructor)) static void
watch_jansson(void)
{

	json_set_alloc_funcs(watched_malloc, free);
}

json_t *
json_read(const void *bytes, size_t size, size_t flags, json_error_t *why,
    int *out_of_memory)
{
	json_t *root;

	memory_failed = 0;
	root = json_loadb(bytes, size, flags, why);
	*out_of_memory = memory_failed;
	if (!memory_failed)
		return (root);
	json_decref(root);
	return (NULL);
}
