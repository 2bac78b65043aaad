/*
 * latency -- from a POST's answer to what follows from it.
 *
 *	latency PORT file:NOTIFICATIONS-DB RATE SECONDS
 *	latency PORT kafka:BROKERS RATE SECONDS
 *
 * Sends orders at a steady pace over 16 kept connections, whether or not
 * earlier ones were answered in time.  Both times are of one clock, in one
 * process.
 *
 * file: until the notification's commit.  Reads the file every millisecond by
 * the notifications' sequence: a row that can be read is committed.  The reading
 * makes a latency longer by half a millisecond on average, and at most by one
 * and the query.
 *
 * kafka: until a consumer of committed records has the order's event.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"
#include "store/store.h"

#include "client.h"

#define TOPIC "order-events"
#define PARTITIONS 3
#define CONNECTIONS 16
#define DRAIN_US 10000000

struct event {
	char id[ID_UUID_SIZE];
	int64_t at_us;
};

static struct {
	int port;
	const char *path;
	double rate;
	int64_t count; /* of orders */
	int64_t began_us;
	_Atomic int64_t answered;
	struct event *answers; /* by the order's number */
	int64_t *post_us;
	struct event *seen;
	int64_t seen_count;
	int64_t most_late_us; /* behind the pace */
	pthread_mutex_t lock;
} run;

static const char sql_since[] =
    "SELECT seq, order_id FROM notifications WHERE seq > ?1 ORDER BY seq";
static const char sql_last[] = "SELECT seq FROM notifications_cursor";

static int
connect_port(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
	    .sin_port = htons((uint16_t)run.port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	if (fd == -1 ||
	    connect(fd, (const struct sockaddr *)&to, sizeof(to)) == -1)
		die("latency", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return (fd);
}

/* One POST and its answer; the order's id. */
static void
post(int fd, char id[ID_UUID_SIZE])
{
	static const char request[] =
	    "POST /orders HTTP/1.1\r\nHost: localhost\r\n"
	    "Content-Type: application/json\r\nContent-Length: 30\r\n\r\n"
	    "{\"item\":\"Laptop\",\"quantity\":1}";
	char answer[4096];
	size_t have = 0;
	ssize_t n;
	const char *at;

	if (write(fd, request, sizeof(request) - 1) !=
	    (ssize_t)sizeof(request) - 1)
		die("latency", "a request was cut short");
	do {
		n = read(fd, answer + have, sizeof(answer) - 1 - have);
		if (n <= 0)
			die("latency", "the connection was closed");
		have += (size_t)n;
		answer[have] = '\0';
	} while (strchr(answer, '}') == NULL);
	if (strncmp(answer, "HTTP/1.1 201", 12) != 0 ||
	    (at = strstr(answer, "\"id\":\"")) == NULL || strlen(at) < 42)
		die("latency", answer);
	snprintf(id, ID_UUID_SIZE, "%.36s", at + 6);
}

static void *
sender(void *arg)
{
	int64_t n = (int64_t)(intptr_t)arg, due_us, late_us;
	int fd = connect_port();

	for (; n < run.count; n += CONNECTIONS) {
		due_us = run.began_us + (int64_t)((double)n * 1e6 / run.rate);
		while ((late_us = clock_mono_us() - due_us) < 0)
			usleep((useconds_t)-late_us);
		run.post_us[n] = clock_mono_us();
		post(fd, run.answers[n].id);
		run.answers[n].at_us = clock_mono_us();
		run.post_us[n] = run.answers[n].at_us - run.post_us[n];
		atomic_fetch_add(&run.answered, 1);
		pthread_mutex_lock(&run.lock);
		if (late_us > run.most_late_us)
			run.most_late_us = late_us;
		pthread_mutex_unlock(&run.lock);
	}
	close(fd);
	return (NULL);
}

static int
is_late(void)
{

	return (clock_mono_us() > run.began_us + DRAIN_US +
		(int64_t)((double)run.count * 1e6 / run.rate));
}

static void
saw(const char *id, int64_t at_us)
{

	snprintf(run.seen[run.seen_count].id, ID_UUID_SIZE, "%.36s", id);
	run.seen[run.seen_count++].at_us = at_us;
}

/* ---- the file of notifications ------------------------------------------ */

static struct store *
open_file(const char *path, int64_t *since)
{
	struct mr_error err;
	struct store *st;

	if ((st = store_open_reader(path, 0, &err)) == NULL ||
	    store_find(st, &err, since, sql_last) == -1)
		die(path, err.message);
	return (st);
}

/* Read what is new until all orders have their notification. */
static void
watch_file(struct store *st, int64_t since)
{
	struct mr_error err;
	struct store_rows *rows;
	int64_t now;
	int found;

	while (run.seen_count < run.count) {
		if ((rows = store_query(st, &err, sql_since,
			 store_i64(since))) == NULL)
			die("latency", err.message);
		now = 0;
		while ((found = store_next(rows, &err)) == 1 &&
		    run.seen_count < run.count) {
			if (now == 0)
				now = clock_mono_us();
			since = store_get_i64(rows, 0);
			saw(store_get_text(rows, 1), now);
		}
		store_rows_done(rows);
		if (found == -1)
			die("latency", err.message);
		if (is_late())
			die("latency", "notifications are missing");
		poll(NULL, 0, 1);
	}
}

/* ---- the topic of orders -------------------------------------------------- */

static rd_kafka_t *
open_topic(const char *brokers)
{
	const struct client_setting settings[] = {{"bootstrap.servers",
						      brokers},
	    {"group.id", "latency"}, {"enable.auto.commit", "false"},
	    {"isolation.level", "read_committed"}};
	rd_kafka_t *rk = client_new(RD_KAFKA_CONSUMER, settings,
	    sizeof(settings) / sizeof(settings[0]), NULL);

	rd_kafka_poll_set_consumer(rk);
	client_assign(rk, TOPIC, PARTITIONS, RD_KAFKA_OFFSET_END);
	return (rk);
}

static void
watch_topic(rd_kafka_t *rk)
{
	static const char name[] = "\"order_id\":\"";
	rd_kafka_message_t *message;
	const char *at;

	while (run.seen_count < run.count) {
		if (is_late())
			die("latency", "records are missing");
		if ((message = rd_kafka_consumer_poll(rk, 100)) == NULL)
			continue;
		if (message->err != 0)
			die("consuming", rd_kafka_message_errstr(message));
		if ((at = memmem(message->payload, message->len, name,
			 sizeof(name) - 1)) == NULL)
			die("consuming", "a record isn't of an order");
		saw(at + sizeof(name) - 1, clock_mono_us());
		rd_kafka_message_destroy(message);
	}
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
}

/* ---- what came of it ------------------------------------------------------- */

static int
by_id(const void *a, const void *b)
{
	const struct event *x = a, *y = b;

	return (strcmp(x->id, y->id));
}

static int
by_number(const void *a, const void *b)
{
	int64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return ((x > y) - (x < y));
}

static double
percentile_ms(const int64_t *sorted, int64_t count, int64_t per_mille)
{
	int64_t at = (count - 1) * per_mille / 1000;

	return ((double)sorted[at] / 1000);
}

static void
report(void)
{
	int64_t *took = calloc((size_t)run.count, sizeof(*took)), i;
	size_t count = (size_t)run.count;
	double seconds = (double)(clock_mono_us() - run.began_us) / 1e6;

	if (took == NULL)
		die("latency", "out of memory");
	qsort(run.answers, count, sizeof(struct event), by_id);
	qsort(run.seen, count, sizeof(struct event), by_id);
	for (i = 0; i < run.count; i++) {
		if (strcmp(run.answers[i].id, run.seen[i].id) != 0)
			die("latency",
			    "an order and what followed don't match");
		took[i] = run.seen[i].at_us - run.answers[i].at_us;
	}
	qsort(took, count, sizeof(*took), by_number);
	qsort(run.post_us, count, sizeof(*run.post_us), by_number);
	printf("orders=%lld rate=%.1f p50=%.2f p90=%.2f p99=%.2f most=%.2f "
	       "post_p50=%.2f post_p99=%.2f most_late=%.2f\n",
	    (long long)run.count, (double)run.count / seconds,
	    percentile_ms(took, run.count, 500),
	    percentile_ms(took, run.count, 900),
	    percentile_ms(took, run.count, 990),
	    percentile_ms(took, run.count, 1000),
	    percentile_ms(run.post_us, run.count, 500),
	    percentile_ms(run.post_us, run.count, 990),
	    (double)run.most_late_us / 1000);
	free(took);
}

int
main(int argc, char **argv)
{
	pthread_t threads[CONNECTIONS];
	struct store *st = NULL;
	rd_kafka_t *rk = NULL;
	int64_t since = 0;
	intptr_t i;

	if (argc == 5 && strncmp(argv[2], "file:", 5) == 0)
		st = open_file(argv[2] + 5, &since);
	else if (argc == 5 && strncmp(argv[2], "kafka:", 6) == 0)
		rk = open_topic(argv[2] + 6);
	else {
		fprintf(stderr,
		    "usage: latency PORT file:NOTIFICATIONS-DB RATE SECONDS\n"
		    "       latency PORT kafka:BROKERS RATE SECONDS\n");
		return (2);
	}
	run.port = (int)strtol(argv[1], NULL, 10);
	run.rate = strtod(argv[3], NULL);
	run.count = (int64_t)(run.rate * strtod(argv[4], NULL));
	pthread_mutex_init(&run.lock, NULL);
	run.answers = calloc((size_t)run.count, sizeof(struct event));
	run.seen = calloc((size_t)run.count, sizeof(struct event));
	run.post_us = calloc((size_t)run.count, sizeof(int64_t));
	if (run.answers == NULL || run.seen == NULL || run.post_us == NULL)
		die("latency", "out of memory");
	run.began_us = clock_mono_us() + 100000;
	for (i = 0; i < CONNECTIONS; i++)
		if (pthread_create(&threads[i], NULL, sender, (void *)i) != 0)
			die("latency", "starting a thread failed");
	if (st != NULL)
		watch_file(st, since);
	else
		watch_topic(rk);
	for (i = 0; i < CONNECTIONS; i++)
		pthread_join(threads[i], NULL);
	report();
	store_close(st);
	return (0);
}
