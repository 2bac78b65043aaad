/*
 * service_internal -- what this module shares with its test.
 */
#ifndef MR_SERVICE_INTERNAL_H
#define MR_SERVICE_INTERNAL_H

#include <stdint.h>

#include "stream/stream.h"

/* What web_request.arg points to in a service. */
struct service_running {
	struct stream *stream;
	int64_t command_deadline_ms;
};

#endif
