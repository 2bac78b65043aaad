/*
 * broker_fixture -- a broker in the test's own process, and clients of it.
 *
 * The broker's loop has a thread of its own; what is asked goes as bytes
 * through a socket, and answers come back the same way.  Messages are pkg/wire's
 * structs; tests/conformance holds these to Kafka's own definitions.
 */
#ifndef MR_TEST_BROKER_FIXTURE_H
#define MR_TEST_BROKER_FIXTURE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <signal.h>

#include "base/clock.h"
#include "base/config.h"
#include "broker/broker.h"
#include "segment_batches.h"
#include "wire/wire.h"

#define PATIENCE_S 30
#define ARGUMENTS_MOST 32

/* Of Kafka's protocol: ListOffsets. */
#define LATEST (-1)
#define EARLIEST (-2)

static struct served {
	struct broker_conf conf;
	struct broker *broker;
	pthread_t thread;
	int stop[2]; /* a pipe: what signals_open gives otherwise */
	int rc;
	struct mr_error err;
	char data[96];
} served;

struct client {
	int fd;
	int32_t correlation;
	struct wire_header asked; /* last: of the next answer */
	uint8_t *frame;
	struct wire_arena arena;
};

/* ---- the broker --------------------------------------------------------- */

static void *
run_broker(void *arg)
{

	(void)arg;
	served.rc = broker_run(served.broker, served.stop[0], &served.err);
	return (NULL);
}

/* Flags as on the command line, ended by NULL. */
static inline void
broker_flags(const char *const *flags)
{
	/* What is set points to these. */
	static char words[][16] = {"broker", "--listen", "127.0.0.1:0",
	    "--data"};
	char *argv[ARGUMENTS_MOST] = {words[0], words[1], words[2], words[3],
	    served.data};
	const struct config_option *const tables[] = {broker_options(
							  &served.conf),
	    NULL};
	const struct config_program program = {.name = "broker",
	    .summary = "A broker.",
	    .tables = tables};
	struct mr_error err = {MR_OK, ""};
	int argc = 5;

	snprintf(served.data, sizeof(served.data), "%s/data", test_root);
	for (; flags != NULL && *flags != NULL; flags++)
		argv[argc++] = (char *)(uintptr_t)*flags;
	if (config_parse(argc, argv, &program, &err) == -1)
		fail_msg("%s", err.message);
}

static inline void
broker_up(void)
{
	struct mr_error err = {MR_OK, ""};

	if ((served.broker = broker_open(&served.conf, &err)) == NULL)
		fail_msg("%s", err.message);
	assert_int_equal(pipe2(served.stop, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pthread_create(&served.thread, NULL, run_broker, NULL),
	    0);
}

/* Stop as by SIGTERM; what broker_run returned. */
static inline int
broker_down(void)
{
	static const char signal_info[128];

	assert_int_equal(write(served.stop[1], signal_info,
			     sizeof(signal_info)),
	    sizeof(signal_info));
	assert_int_equal(pthread_join(served.thread, NULL), 0);
	broker_close(served.broker);
	close(served.stop[0]);
	close(served.stop[1]);
	served.broker = NULL;
	return (served.rc);
}

static inline void
broker_restart(void)
{

	assert_int_equal(broker_down(), 0);
	broker_up();
}

/* No broker with these settings, and it's said why. */
static inline void
check_refused(const struct broker_conf *conf, const char *why)
{
	struct mr_error err = {MR_OK, ""};

	assert_null(broker_open(conf, &err));
	assert_int_equal(err.kind, MR_REJECT);
	assert_non_null(strstr(err.message, why));
}

/* A new folder, and a broker on it. */
static inline void
broker_begin(const char *const *flags)
{

	signal(SIGPIPE, SIG_IGN);
	make_root();
	broker_flags(flags);
	broker_up();
}

static inline void
broker_end(void)
{

	assert_int_equal(broker_down(), 0);
	remove_root();
}

/* ---- clients ------------------------------------------------------------ */

/* ${buffer_bytes} 0: the kernel's own buffer. */
static inline struct client
connect_with(int buffer_bytes)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct timeval limit = {.tv_sec = PATIENCE_S};
	struct client c = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
	int on = 1;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	to.sin_port = htons((uint16_t)broker_port(served.broker, 0));
	assert_int_not_equal(c.fd, -1);
	(void)setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (buffer_bytes > 0)
		(void)setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes,
		    sizeof(buffer_bytes));
	(void)setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(connect(c.fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return (c);
}

static inline struct client
client_connect(void)
{

	return (connect_with(0));
}

static inline void
client_close(struct client *c)
{

	close(c->fd);
	free(c->frame);
	wire_arena_clear(&c->arena);
	memset(c, 0, sizeof(*c));
	c->fd = -1;
}

static inline void
send_bytes(struct client *c, const void *bytes, size_t size)
{
	const char *p = bytes;
	ssize_t n;

	for (; size > 0; p += n, size -= (size_t)n) {
		n = send(c->fd, p, size, MSG_NOSIGNAL);
		assert_true(n > 0);
	}
}

/* A frame: length, header, and a body that is bytes already. */
static inline void
send_frame(struct client *c, int key, int version, const void *body,
    size_t size)
{
	const struct wire_api *api = wire_api_find(key);
	uint8_t head[32];
	size_t length = 14;

	memset(&c->asked, 0, sizeof(c->asked));
	c->asked.api = api;
	c->asked.api_version = (int16_t)version;
	c->asked.correlation_id = ++c->correlation;
	put_i16(head + 4, (int16_t)key);
	put_i16(head + 6, (int16_t)version);
	put_i32(head + 8, c->correlation);
	put_i16(head + 12, 4);
	memcpy(head + 14, "test", 4);
	length += 4;
	if (api != NULL && version >= api->flexible_from)
		head[length++] = 0;
	put_i32(head, (int32_t)(length - 4 + size));
	send_bytes(c, head, length);
	send_bytes(c, body, size);
}

static inline void
client_send(struct client *c, int key, int version, const void *request)
{
	const struct wire_api *api = wire_api_find(key);
	struct buffer body = {0};

	assert_non_null(api);
	wire_write(api->request(), version, api->flexible_from, request, &body,
	    NULL);
	assert_false(body.failed);
	send_frame(c, key, version, body.data, body.length);
	buffer_free(&body);
}

/* ${size} bytes, or the end of the connection: then 0. */
static inline int
receive_bytes(struct client *c, void *bytes, size_t size)
{
	char *p = bytes;
	ssize_t n;

	for (; size > 0; p += n, size -= (size_t)n) {
		n = recv(c->fd, p, size, 0);
		if (n == 0 || (n == -1 && errno == ECONNRESET))
			return (0);
		if (n == -1)
			fail_msg("no answer: %s", strerror(errno));
	}
	return (1);
}

/*
 * The answer to API ${key}; what ${response} points to lives until the next.
 * 0 if the connection was closed instead.
 */
static inline int
client_receive(struct client *c, int key, int version, void *response)
{
	const struct wire_api *api = wire_api_find(key);
	struct mr_error err = {MR_OK, ""};
	uint8_t length[4];
	size_t size, at = 4;

	free(c->frame);
	c->frame = NULL;
	wire_arena_clear(&c->arena);
	if (!receive_bytes(c, length, 4))
		return (0);
	size = (size_t)get_i32(length);
	assert_true(size >= 4 && size < (size_t)1 << 28);
	assert_non_null(c->frame = malloc(size));
	assert_int_equal(receive_bytes(c, c->frame, size), 1);
	c->asked.correlation_id = get_i32(c->frame);
	if (key != WIRE_API_ApiVersions && version >= api->flexible_from)
		assert_int_equal(c->frame[at++], 0);
	wire_defaults(api->response(), response);
	if (wire_read(api->response(), version, api->flexible_from,
		c->frame + at, size - at, &c->arena, response, &err) == -1)
		fail_msg("%s %d: %s", api->name, version, err.message);
	return (1);
}

static inline void
client_call(struct client *c, int key, int version, const void *request,
    void *response)
{

	client_send(c, key, version, request);
	if (!client_receive(c, key, version, response))
		fail_msg("%s %d: the connection was closed",
		    wire_api_find(key)->name, version);
	assert_int_equal(c->asked.correlation_id, c->correlation);
}

/* 1 if the broker hangs up, 0 if it says something instead. */
static inline int
is_hung_up(struct client *c)
{
	char byte;

	return (!receive_bytes(c, &byte, 1));
}

/* 1 if there is something to read within that time. */
static inline int
is_answered_within(struct client *c, int ms)
{
	struct pollfd fd = {.fd = c->fd, .events = POLLIN};

	return (poll(&fd, 1, ms) == 1);
}

/* ---- what most tests ask ------------------------------------------------ */

static inline void
keep_text(char *to, size_t size, struct wire_string s)
{

	snprintf(to, size, "%.*s", (int)(s.length > 0 ? s.length : 0),
	    s.length > 0 ? s.at : "");
}

/* One topic; settings are name and value in turn, ended by NULL. */
static inline int16_t
make_topic(struct client *c, const char *name, int32_t partitions,
    const char *const *settings)
{
	struct wire_create_topics_request in;
	struct wire_create_topics_request_topic t;
	struct wire_create_topics_request_config configs[8];
	struct wire_create_topics_response out;
	int32_t n = 0;

	wire_defaults(wire_create_topics_request_layout(), &in);
	wire_defaults(wire_create_topics_request_topic_layout(), &t);
	for (; settings != NULL && settings[n * 2] != NULL; n++) {
		configs[n].name = wire_text(settings[n * 2]);
		configs[n].value = wire_text(settings[n * 2 + 1]);
	}
	t.name = wire_text(name);
	t.num_partitions = partitions;
	t.replication_factor = 1;
	t.configs.at = configs;
	t.configs.count = n;
	in.topics.at = &t;
	in.topics.count = 1;
	in.timeout_ms = 10000;
	client_call(c, WIRE_API_CreateTopics, 5, &in, &out);
	assert_int_equal(out.topics.count, 1);
	return (out.topics.at[0].error_code);
}

static inline int16_t
delete_topic(struct client *c, const char *name)
{
	struct wire_delete_topics_request in;
	struct wire_delete_topics_response out;
	struct wire_string names[1] = {wire_text(name)};

	wire_defaults(wire_delete_topics_request_layout(), &in);
	in.topic_names.at = names;
	in.topic_names.count = 1;
	in.timeout_ms = 10000;
	client_call(c, WIRE_API_DeleteTopics, 4, &in, &out);
	assert_int_equal(out.topics.count, 1);
	return (out.topics.at[0].error_code);
}

static inline struct wire_uuid
topic_id(struct client *c, const char *name)
{
	struct wire_metadata_request in;
	struct wire_metadata_request_topic t;
	struct wire_metadata_response out;

	wire_defaults(wire_metadata_request_layout(), &in);
	wire_defaults(wire_metadata_request_topic_layout(), &t);
	t.name = wire_text(name);
	in.topics.at = &t;
	in.topics.count = 1;
	client_call(c, WIRE_API_Metadata, 12, &in, &out);
	assert_int_equal(out.topics.count, 1);
	return (out.topics.at[0].topic_id);
}

struct produce_ask {
	struct wire_produce_request in;
	struct wire_produce_request_topic topic;
	struct wire_produce_request_partition partition;
};

static inline const struct wire_produce_request *
produce_ask(struct produce_ask *ask, const char *topic, int32_t partition,
    int acks, const uint8_t *bytes, int64_t size)
{

	wire_defaults(wire_produce_request_layout(), &ask->in);
	wire_defaults(wire_produce_request_topic_layout(), &ask->topic);
	ask->in.acks = (int16_t)acks;
	ask->in.timeout_ms = 10000;
	ask->in.topics.at = &ask->topic;
	ask->in.topics.count = 1;
	ask->topic.name = wire_text(topic);
	ask->topic.partitions.at = &ask->partition;
	ask->topic.partitions.count = 1;
	ask->partition.index = partition;
	ask->partition.records.at = bytes;
	ask->partition.records.length = (int32_t)size;
	return (&ask->in);
}

/* One partition's answer to one batch. */
static inline struct wire_produce_response_partition
produce_bytes(struct client *c, const char *topic, int32_t partition, int acks,
    const uint8_t *bytes, int64_t size)
{
	struct wire_produce_response out;
	struct produce_ask ask;

	client_call(c, WIRE_API_Produce, 8,
	    produce_ask(&ask, topic, partition, acks, bytes, size), &out);
	assert_int_equal(out.topics.count, 1);
	assert_int_equal(out.topics.at[0].partitions.count, 1);
	assert_int_equal(out.topics.at[0].partitions.at[0].index, partition);
	return (out.topics.at[0].partitions.at[0]);
}

/* One record of ${length} bytes with a key, acks=all; its offset. */
static inline int64_t
produce_one(struct client *c, const char *topic, const char *key, int length,
    int64_t time_ms)
{
	struct wire_produce_response_partition p;
	uint8_t bytes[4096];

	p = produce_bytes(c, topic, 0, -1, bytes,
	    (int64_t)make_one(bytes, key, length, time_ms, NULL));
	assert_int_equal(p.error_code, WIRE_NONE);
	return (p.base_offset);
}

static inline void
list_offset_send(struct client *c, int version, const char *topic,
    int32_t partition, int64_t timestamp, int32_t epoch)
{
	struct wire_list_offsets_request in;
	struct wire_list_offsets_request_topic t;
	struct wire_list_offsets_request_partition p;

	wire_defaults(wire_list_offsets_request_layout(), &in);
	wire_defaults(wire_list_offsets_request_topic_layout(), &t);
	wire_defaults(wire_list_offsets_request_partition_layout(), &p);
	p.partition_index = partition;
	p.timestamp = timestamp;
	p.current_leader_epoch = epoch;
	t.name = wire_text(topic);
	t.partitions.at = &p;
	t.partitions.count = 1;
	in.replica_id = -1;
	in.topics.at = &t;
	in.topics.count = 1;
	client_send(c, WIRE_API_ListOffsets, version, &in);
}

static inline struct wire_list_offsets_response_partition
list_offset_receive(struct client *c, int version)
{
	struct wire_list_offsets_response out;

	assert_int_equal(client_receive(c, WIRE_API_ListOffsets, version, &out),
	    1);
	assert_int_equal(out.topics.count, 1);
	assert_int_equal(out.topics.at[0].partitions.count, 1);
	return (out.topics.at[0].partitions.at[0]);
}

static inline struct wire_list_offsets_response_partition
list_offset_at(struct client *c, int version, const char *topic,
    int32_t partition, int64_t timestamp, int32_t epoch)
{

	list_offset_send(c, version, topic, partition, timestamp, epoch);
	return (list_offset_receive(c, version));
}

static inline int64_t
list_offset(struct client *c, const char *topic, int64_t timestamp)
{
	struct wire_list_offsets_response_partition p;

	p = list_offset_at(c, 7, topic, 0, timestamp, -1);
	assert_int_equal(p.error_code, WIRE_NONE);
	return (p.offset);
}

static inline struct wire_delete_records_response_partition
delete_records(struct client *c, const char *topic, int32_t partition,
    int64_t offset)
{
	struct wire_delete_records_request in;
	struct wire_delete_records_request_topic t;
	struct wire_delete_records_request_partition p = {partition, offset};
	struct wire_delete_records_response out;

	wire_defaults(wire_delete_records_request_layout(), &in);
	t.name = wire_text(topic);
	t.partitions.at = &p;
	t.partitions.count = 1;
	in.topics.at = &t;
	in.topics.count = 1;
	in.timeout_ms = 10000;
	client_call(c, WIRE_API_DeleteRecords, 2, &in, &out);
	return (out.topics.at[0].partitions.at[0]);
}

struct fetch_ask {
	struct wire_fetch_request in;
	struct wire_fetch_request_topic topic;
	struct wire_fetch_request_partition partition;
};

static inline struct wire_fetch_request *
fetch_ask(struct fetch_ask *ask, const char *topic, int64_t offset,
    int32_t wait_ms)
{

	wire_defaults(wire_fetch_request_layout(), &ask->in);
	wire_defaults(wire_fetch_request_topic_layout(), &ask->topic);
	wire_defaults(wire_fetch_request_partition_layout(), &ask->partition);
	ask->in.max_wait_ms = wait_ms;
	ask->in.min_bytes = 1;
	ask->in.max_bytes = 1 << 20;
	ask->in.topics.at = &ask->topic;
	ask->in.topics.count = 1;
	ask->topic.topic = wire_text(topic);
	ask->topic.partitions.at = &ask->partition;
	ask->topic.partitions.count = 1;
	ask->partition.fetch_offset = offset;
	ask->partition.partition_max_bytes = 1 << 20;
	return (&ask->in);
}

static inline const struct wire_fetch_response_partition *
only_partition(const struct wire_fetch_response *out)
{

	assert_int_equal(out->topics.count, 1);
	assert_int_equal(out->topics.at[0].partitions.count, 1);
	return (&out->topics.at[0].partitions.at[0]);
}

static inline struct wire_fetch_response_partition
fetch(struct client *c, const char *topic, int64_t offset, int32_t wait_ms)
{
	struct wire_fetch_response out;
	struct fetch_ask ask;

	client_call(c, WIRE_API_Fetch, 11,
	    fetch_ask(&ask, topic, offset, wait_ms), &out);
	return (*only_partition(&out));
}

/* From now on the client's fetches of a partition without records wait. */
static inline void
client_settle(struct client *c, const char *topic)
{
	const struct timespec a_while = {.tv_nsec = 150000000};

	assert_true(fetch(c, topic, 0, 1000).records.length <= 0);
	nanosleep(&a_while, NULL);
}

#endif
