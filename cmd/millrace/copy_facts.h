/* copy_facts -- what a service's file holds, and whether it is sound. */
#ifndef MILLRACE_COPY_FACTS_H
#define MILLRACE_COPY_FACTS_H

#include <stdint.h>

#include "base/error.h"
#include "store/store.h"

#define TOPICS_SIZE 4096

struct copy_facts {
	char service[64];
	int64_t version; /* of its schema, user_version */
	int64_t issued; /* the last sequence number given out */
	int64_t consumed; /* the sum of its positions */
	int64_t outbox; /* rows */
	int64_t dead_letters; /* rows */
	/* As of the service's last start; not known before core schema 2. */
	int declared;
	char inputs[TOPICS_SIZE]; /* with blanks between */
	char outputs[TOPICS_SIZE];
	int commands;
};

/*
 * copy_facts_read -- look into a file, through a reader of its own.
 *
 * FATAL if it isn't sound: versions that don't add up, an outbox that its
 * tails or its sequence contradict, marks without a position, rows that refer
 * to none; the message says which, and ${facts} have the service nonetheless
 * (it is "" if that can't be read).  0 or -1.
 */
int copy_facts_read(const char *path, struct copy_facts *facts,
    struct mr_error *err);

/* copy_facts_declared -- only what the service reads and writes; nothing is set
 * for a file that is older than that is told.  0 or -1. */
int copy_facts_declared(struct store *st, struct copy_facts *facts,
    struct mr_error *err);

#endif
