/* known -- whether this program knows the schema of a file. */
#ifndef MILLRACE_KNOWN_H
#define MILLRACE_KNOWN_H

#include "base/error.h"
#include "store/store.h"

/*
 * known_open -- store_open_alone, but refuse (FATAL) a file whose schema is newer
 * than this program: what would be changed may mean something else there.  Of
 * a service that isn't among the shipped ones only the core's part is known.
 */
struct store *known_open(const char *path, struct mr_error *err);
/* known_check_file -- whether it would be refused for that; by a reader, so
 * that services may run.  0 or -1. */
int known_check_file(const char *path, struct mr_error *err);

#endif
