/*
 * service_internal -- what this module shares with its test and pkg/testing.
 */
#ifndef MR_SERVICE_INTERNAL_H
#define MR_SERVICE_INTERNAL_H

#include <stdint.h>

#include "service/service.h"

/* What web_request.arg points to in a service. */
struct service_running {
	struct stream *stream;
	int64_t command_deadline_ms;
};

/*
 * service_parse -- settings from flags and the environment, and the service's
 * topics declared.  *stream and *web are the process's own; 0 or -1.
 */
int service_parse(int argc, char **argv, const struct service *svc,
    struct stream_conf **stream, struct web_conf **web, struct mr_error *err);

/* service_gauges_register -- have the service's gauges looked up in ${db_path},
 * and its collect called, with each metrics_write; both are borrowed.  NULL: no
 * more. */
void service_gauges_register(const struct service *svc, const char *db_path);

#endif
