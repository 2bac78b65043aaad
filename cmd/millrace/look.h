/* look -- going through the services' files of a folder. */
#ifndef MILLRACE_LOOK_H
#define MILLRACE_LOOK_H

#include <stdint.h>

#include "kafka/kafka.h"
#include "store/store.h"

#include "millrace.h"

struct look;
typedef int look_file(struct look *look, struct store *st, const char *service,
    struct mr_error *err);

/* What commands that look into files are told. */
struct look {
	const struct command *command;
	const char *data;
	struct config_list services; /* none: all */
	int64_t limit;
	int output;
	const char *to; /* backup: the folder of the copies */
	struct kafka_conf kafka;
	struct kafka_admin *admin; /* NULL: Kafka isn't asked */
	look_file *each;
	int unknown; /* something couldn't be found out */
	int looked_at; /* files */
	uint64_t met; /* of services, by their place: a file of it is there */
	struct table table;
};

/*
 * files_look -- have ${each} look into each wanted file, through a reader, and
 * print the table.  What fails or is no service's is said, and so is a service
 * that was asked for and has no file; the rest goes on.  Returns the exit
 * status.
 */
int files_look(struct look *look, look_file *each);

#endif
