/*
 * json_read -- jansson's parser, with a lack of memory told apart, and a short
 * way for plain documents.
 *
 * jansson reports some failed allocations as broken input ("invalid token"),
 * and after others goes on with a text cut short; but good input must not be
 * refused for good because memory was short.  So its allocations are watched,
 * in each thread by itself.  free(3) gives them back as ever, whoever else
 * uses jansson.
 */
#ifndef MR_BASE_JSON_READ_H
#define MR_BASE_JSON_READ_H

#include <stddef.h>

#include <jansson.h>

/*
 * json_read -- as json_loadb does, with its flags and its errors.
 *
 * NULL if it can't be parsed, and, with *out_of_memory set, if there wasn't
 * the memory to tell; only if it can't be parsed does ${why} say why.
 * json_decref lets go of what it returns.
 */
json_t *json_read(const void *bytes, size_t size, size_t flags,
    json_error_t *why, int *out_of_memory);

#endif
