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
#include "kafka/kafka.h"
#include "metrics/metrics.h"
#include "stream/stream.h"
#include "web/web.h"

/*
 * A gauge whose value is one number from the service's file, looked up when
 * /metrics is asked for: it shows what is committed, whoever committed it.
 * ${sql} is constant text; where it gives no row or NULL the gauge is 0.
 */
struct service_gauge {
	const char *name; /* NULL ends a table */
	const char *help;
	const char *sql;
};

/* All but summary and stream may be NULL. */
struct service {
	const char *summary; /* for --help, a sentence */
	const struct stream_service *stream;
	const struct web_route *routes;
	const struct service_gauge *gauges;
	/* sets further metrics from a reader of the file, for each /metrics */
	void (*collect)(struct store *reader);
	/* a setting that may name a file outside of the data's folder, which
	 * the sandbox is to let it write, and those beside it */
	const char *const *writes;
	const char *const *reads; /* likewise, only to be read */
	const struct kafka_topic *topics; /* see kafka_topic_declare */
	const struct config_option *options; /* the service's own */
	const struct config_option *common; /* of its kind, after those */
	const char *epilogue; /* for --help */
};

/*
 * service_main -- be the service until a signal says to stop.
 *
 * Returns the process's exit status: 0 after a clean drain, 1 otherwise, and
 * then the log says why.  With --check it only asks the instance that listens
 * on --fcgi whether it is ready, and returns 0 if it is: for health checks;
 * with --topics it only lists the topics that it works with.  One a process.
 */
int service_main(int argc, char **argv, const struct service *svc);

/*
 * service_revision -- has what a page shows changed since its last request?
 *
 * ${sql} gives one number from the reader's file, which goes up with every
 * change; where it gives no row or NULL, as sum() does of an empty table, that
 * is 0.  With the database id (a restored file counts again) it is the ETag.
 * 0: *revision is the number, and the caller writes a body; 1: a 304;
 * -1: the problem is in the response.  service_not_modified is for a number
 * that the caller has already.
 */
int service_revision(struct web_request *req, struct web_response *res,
    const char *sql, int64_t *revision);
int service_not_modified(struct web_request *req, struct web_response *res,
    int64_t revision);

/*
 * service_rows -- answer a GET with the rows of a query:
 *
 *	service_rows(req, res, "stock", sql_revision, sql_list, store_i64(10));
 *	{"stock":[{"item":"Laptop","on_hand":998},...],"poll_ms":1000}
 *
 * A row's members are named by the query's columns (AS says so), and are
 * numbers, text or null.  ${sql_revision} is for service_revision; NULL: no
 * ETag.  Let the query have a LIMIT.  500 for a blob, which JSON has no
 * place for; else as web_problem_error.
 */
#define service_rows(req, res, name, sql_revision, ...) \
	SERVICE_ROWS_(req, res, name, sql_revision, __VA_ARGS__, STORE_END_)
void service_rows_values(struct web_request *req, struct web_response *res,
    const char *name, const char *sql_revision, const char *sql,
    const struct store_value *values, size_t count);

/* service_poll_ms -- how often pages are told to ask again: --poll-ms. */
int64_t service_poll_ms(void);

/*
 * service_command -- a handler's write, and the last thing that it does: run
 * a command of the stream and turn its answer (or error) into the response,
 * Idempotency-Key and all.
 *
 * It returns at once, having deferred the answer (web_defer), which is sent
 * when the outcome is durable, or the command was cancelled because
 * --command-deadline-ms had passed in the queue (503, and it never runs).
 * ${input} is copied (${size} bytes; NULL for none) into the request's room
 * (web_room), so it can't be there; what it points to must stay on its own.
 * An answer's body is JSON; one with a status of 400 or more may also be a
 * plain text, the detail of a problem document, or empty.  To be called from a
 * handler of service_main's server.
 */
void service_command(struct web_request *req, struct web_response *res,
    int kind, const void *input, size_t size);

/* service_stream -- the stream behind a request, for a handler to ask. */
struct stream *service_stream(const struct web_request *req);

/* Behind the macro: an array is made of the values after the SQL. */
#define SERVICE_ROWS_(req, res, name, sql_revision, sql, ...)   \
	service_rows_values(req, res, name, sql_revision, sql,  \
	    (const struct store_value[]){__VA_ARGS__},          \
	    sizeof((const struct store_value[]){__VA_ARGS__}) / \
		    sizeof(struct store_value) -                \
		1)

#endif
