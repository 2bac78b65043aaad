/*
 * service -- the main() of a program that is a stream with an HTTP face.
 *
 * It joins pkg/stream and pkg/web: parses settings, opens the file, serves
 * HTTP, runs the stream, drains.  A program is one struct service and
 *
 *	int main(int argc, char **argv) {
 *		return (service_main(argc, argv, &inventory));
 *	}
 */
#ifndef MR_SERVICE_H
#define MR_SERVICE_H

#include "base/config.h"
#include "stream/stream.h"
#include "web/web.h"

struct service {
	const char *summary; /* for --help, a sentence */
	const struct stream_service *stream;
	const struct web_route *routes;	     /* or NULL */
	const struct config_option *options; /* the service's own, or NULL */
	const char *epilogue;		     /* for --help, or NULL */
};

/* service_main -- returns the process's exit status. */
int service_main(int argc, char **argv, const struct service *svc);

/*
 * service_command -- a handler's write: run a command of the stream and turn
 * its answer (or error) into the response, Idempotency-Key and all.
 * ${input} is borrowed until it returns.
 */
void service_command(struct web_request *req, struct web_response *res,
    int kind, const void *input);

#endif
