/*
 * broker: connections, frames, versions and limits.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/file.h>
#include <sys/resource.h>

#include "broker_fixture.h"

#define SHORT_MS 100
#define IDLE_MS 2500
/* A tick a second, and the test's own thread; under the thread sanitizer its
 * own wakes ten times a second. */
#ifdef __SANITIZE_THREAD__
#define WAKES_MOST (20 + IDLE_MS / 100)
#else
#define WAKES_MOST 20
#endif

static const char *const limits[] = {"--connections-most", "4",
    "--request-most", "1m", "--memory-most", "1m", "--message-most", "1m",
    NULL};
static const char *const hasty[] = {"--idle-ms", "1s", NULL};
static const char *const roomy[] = {"--request-most", "16m", "--message-most",
    "16m", NULL};

static const char *const unread[] = {"--memory-most", "16m", "--request-ms",
    "3s", NULL};
static const char *const hurried[] = {"--memory-most", "1m", "--request-ms",
    "1100ms", NULL};

static int
begin(void **state)
{

	(void)state;
	broker_begin(limits);
	return (0);
}

static int
begin_hasty(void **state)
{

	(void)state;
	broker_begin(hasty);
	return (0);
}

static int
begin_roomy(void **state)
{

	(void)state;
	broker_begin(roomy);
	return (0);
}

static int
begin_unread(void **state)
{

	(void)state;
	broker_begin(unread);
	return (0);
}

static int
begin_hurried(void **state)
{

	(void)state;
	broker_begin(hurried);
	return (0);
}

static int
end(void **state)
{

	(void)state;
	broker_end();
	return (0);
}

/* Somebody else is served as ever. */
static void
check_alive(void)
{
	struct wire_api_versions_request in;
	struct wire_api_versions_response out;
	struct client c = client_connect();

	wire_defaults(wire_api_versions_request_layout(), &in);
	in.client_software_name = wire_text("test");
	in.client_software_version = wire_text("1.0");
	client_call(&c, WIRE_API_ApiVersions, 3, &in, &out);
	assert_int_equal(out.error_code, WIRE_NONE);
	client_close(&c);
}

/* ---- versions ----------------------------------------------------------- */

static void
what_is_not_spoken_hangs_up(void **state)
{
	static const struct {
		int key, version;
	} cases[] = {
	    {WIRE_API_Metadata, 99},
	    {WIRE_API_Metadata, -1},
	    {WIRE_API_Produce, 2}, /* older formats */
	    {WIRE_API_Fetch, 3},
	    {4, 0}, /* LeaderAndIsr */
	    {24, 0}, /* AddPartitionsToTxn */
	    {999, 0},
	    {-1, 0},
	};
	struct client c;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		c = client_connect();
		send_frame(&c, cases[i].key, cases[i].version, "", 0);
		if (!is_hung_up(&c))
			fail_msg("case %zu is answered", i);
		client_close(&c);
		check_alive();
	}
}

static void
versions_are_told_to_who_asks_in_an_unknown_one(void **state)
{
	struct wire_api_versions_response out;
	struct client c = client_connect();
	const struct wire_api *api;
	size_t i;

	(void)state;
	send_frame(&c, WIRE_API_ApiVersions, 99, "\1\2\3", 3);
	assert_int_equal(client_receive(&c, WIRE_API_ApiVersions, 0, &out), 1);
	assert_int_equal(out.error_code, WIRE_UNSUPPORTED_VERSION);
	assert_int_equal(out.api_keys.count, 1);
	assert_int_equal(out.api_keys.at[0].api_key, WIRE_API_ApiVersions);
	/* The connection goes on, in one that was named. */
	send_frame(&c, WIRE_API_ApiVersions, 0, "", 0);
	assert_int_equal(client_receive(&c, WIRE_API_ApiVersions, 0, &out), 1);
	assert_int_equal(out.error_code, WIRE_NONE);
	for (i = 0; (api = wire_api_at(i)) != NULL; i++) {
		assert_int_equal(out.api_keys.at[i].api_key, api->key);
		assert_int_equal(out.api_keys.at[i].max_version, api->most);
	}
	assert_int_equal(out.api_keys.count, i);
	client_close(&c);
}

static void
software_without_a_name_is_refused(void **state)
{
	static const struct {
		const char *name, *version;
	} cases[] = {{"", ""}, {"x", ""}, {"", "1"}, {"-x", "1"}, {"x", "1."},
	    {"a b", "1"}};
	struct wire_api_versions_request in;
	struct wire_api_versions_response out;
	struct client c = client_connect();
	size_t i;

	(void)state;
	wire_defaults(wire_api_versions_request_layout(), &in);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		in.client_software_name = wire_text(cases[i].name);
		in.client_software_version = wire_text(cases[i].version);
		client_call(&c, WIRE_API_ApiVersions, 3, &in, &out);
		assert_int_equal(out.error_code, WIRE_INVALID_REQUEST);
		assert_int_equal(out.api_keys.count, 0);
	}
	client_close(&c);
}

static void
nobody_has_to_say_who_they_are(void **state)
{
	struct wire_sasl_handshake_request hello;
	struct wire_sasl_handshake_response spoken;
	struct wire_sasl_authenticate_request in;
	struct wire_sasl_authenticate_response out;
	struct client c = client_connect();

	(void)state;
	wire_defaults(wire_sasl_handshake_request_layout(), &hello);
	hello.mechanism = wire_text("PLAIN");
	client_call(&c, WIRE_API_SaslHandshake, 1, &hello, &spoken);
	assert_int_equal(spoken.error_code, WIRE_ILLEGAL_SASL_STATE);
	assert_int_equal(spoken.mechanisms.count, 0);
	wire_defaults(wire_sasl_authenticate_request_layout(), &in);
	client_call(&c, WIRE_API_SaslAuthenticate, 2, &in, &out);
	assert_int_equal(out.error_code, WIRE_ILLEGAL_SASL_STATE);
	/* And goes on as if nothing had been said. */
	assert_int_equal(make_topic(&c, "t", 1, NULL), WIRE_NONE);
	client_close(&c);
}

/* ---- frames ------------------------------------------------------------- */

static void
malformed_frames_hang_up(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
	} cases[] = {
	    {"\0\0\0\0", 4}, /* of no length */
	    {"\0\0\0\7", 4}, /* shorter than a header */
	    {"\377\377\377\377", 4},
	    {"\177\377\377\377", 4}, /* longer than --request-most */
	    {"\0\20\0\1", 4}, /* by one byte */
	    {"GET / HTTP/1.1\r\n\r\n", 18},
	    /* Metadata 1, whose client id is longer than the frame. */
	    {"\0\0\0\12\0\3\0\1\0\0\0\1\0\144", 14},
	    /* Metadata 1: two billion topics; and one, cut short. */
	    {"\0\0\0\16\0\3\0\1\0\0\0\1\0\0\177\377\377\377", 18},
	    {"\0\0\0\20\0\3\0\1\0\0\0\1\0\0\0\0\0\1\0\11", 20},
	};
	struct client c;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		c = client_connect();
		send_bytes(&c, cases[i].bytes, cases[i].size);
		if (!is_hung_up(&c))
			fail_msg("case %zu is answered", i);
		client_close(&c);
		check_alive();
	}
}

static void
frames_may_come_in_pieces_and_in_crowds(void **state)
{
	/* Metadata 1 of no topic, twice. */
	static const char frames[] = "\0\0\0\16\0\3\0\1\0\0\0\1\0\0\0\0\0\0"
				     "\0\0\0\16\0\3\0\1\0\0\0\2\0\0\0\0\0\0";
	struct wire_metadata_response out;
	struct client c = client_connect();
	size_t i;
	int k;

	(void)state;
	for (i = 0; i < sizeof(frames) - 1; i++) {
		send_bytes(&c, frames + i, 1);
		(void)poll(NULL, 0, 1);
	}
	for (i = 0; i < 50; i++)
		send_bytes(&c, frames, sizeof(frames) - 1);
	for (k = 0; k < 102; k++) {
		assert_int_equal(client_receive(&c, WIRE_API_Metadata, 1, &out),
		    1);
		assert_int_equal(c.asked.correlation_id, 1 + k % 2);
	}
	client_close(&c);
}

static void
requests_of_a_connection_are_worked_on_one_by_one(void **state)
{
	struct wire_create_topics_request in;
	struct wire_create_topics_request_topic t;
	struct wire_create_topics_response made;
	struct wire_produce_response out;
	struct client c = client_connect();
	struct produce_ask ask;
	uint8_t bytes[200];
	size_t size = make_one(bytes, "k", 10, clock_wall_ms(), NULL);

	(void)state;
	wire_defaults(wire_create_topics_request_layout(), &in);
	wire_defaults(wire_create_topics_request_topic_layout(), &t);
	t.name = wire_text("t");
	t.num_partitions = t.replication_factor = 1;
	in.topics.at = &t;
	in.topics.count = 1;
	/* The topic is there when the second request is looked at. */
	client_send(&c, WIRE_API_CreateTopics, 5, &in);
	client_send(&c, WIRE_API_Produce, 8,
	    produce_ask(&ask, "t", 0, -1, bytes, (int64_t)size));
	assert_int_equal(client_receive(&c, WIRE_API_CreateTopics, 5, &made),
	    1);
	assert_int_equal(client_receive(&c, WIRE_API_Produce, 8, &out), 1);
	assert_int_equal(out.topics.at[0].partitions.at[0].error_code,
	    WIRE_NONE);
	client_close(&c);
}

/* ---- limits ------------------------------------------------------------- */

static void
more_connections_wait(void **state)
{
	struct client all[5];
	struct wire_metadata_request in;
	struct wire_metadata_response out;
	int i;

	(void)state;
	wire_defaults(wire_metadata_request_layout(), &in);
	for (i = 0; i < 5; i++) {
		all[i] = client_connect();
		client_send(&all[i], WIRE_API_Metadata, 9, &in);
	}
	for (i = 0; i < 4; i++)
		assert_int_equal(client_receive(&all[i], WIRE_API_Metadata, 9,
				     &out),
		    1);
	assert_false(is_answered_within(&all[4], SHORT_MS));
	client_close(&all[0]);
	assert_int_equal(client_receive(&all[4], WIRE_API_Metadata, 9, &out),
	    1);
	for (i = 1; i < 5; i++)
		client_close(&all[i]);
}

static void
idle_connections_are_closed(void **state)
{
	struct client c = client_connect();
	int64_t began = clock_mono_us();

	(void)state;
	assert_true(is_hung_up(&c));
	assert_true(clock_mono_us() - began >= 1000000);
	client_close(&c);
	check_alive();
}

/* A produce request of about ${size} bytes, without a batch's form. */
static uint8_t *
make_large(size_t size, size_t *whole)
{
	struct produce_ask ask;
	struct buffer body = {0};
	uint8_t *records = calloc(1, size), *frame;

	assert_non_null(records);
	wire_write(wire_api_find(WIRE_API_Produce)->request(), 8, 9,
	    produce_ask(&ask, "t", 0, -1, records, (int64_t)size), &body, NULL);
	free(records);
	*whole = 14 + body.length;
	assert_non_null(frame = malloc(*whole));
	put_i32(frame, (int32_t)(*whole - 4));
	put_i16(frame + 4, WIRE_API_Produce);
	put_i16(frame + 6, 8);
	put_i32(frame + 8, 1);
	put_i16(frame + 12, -1);
	memcpy(frame + 14, body.data, body.length);
	buffer_free(&body);
	return (frame);
}

static void
requests_beyond_the_memory_limit_wait(void **state)
{
	struct client first = client_connect(), second = client_connect();
	struct wire_produce_response out;
	size_t whole;
	uint8_t *frame = make_large((size_t)900 << 10, &whole);

	(void)state;
	/* Half of one holds the memory of all of it. */
	send_bytes(&first, frame, whole / 2);
	check_alive();
	(void)fcntl(second.fd, F_SETFL, O_NONBLOCK);
	(void)!send(second.fd, frame, whole, MSG_NOSIGNAL);
	assert_false(is_answered_within(&second, SHORT_MS));
	/* Small ones go on meanwhile. */
	check_alive();
	send_bytes(&first, frame + whole / 2, whole - whole / 2);
	assert_int_equal(client_receive(&first, WIRE_API_Produce, 8, &out), 1);
	client_close(&second);
	client_close(&first);
	second = client_connect();
	send_bytes(&second, frame, whole);
	assert_int_equal(client_receive(&second, WIRE_API_Produce, 8, &out), 1);
	free(frame);
	client_close(&second);
}

static double
cpu_s(void)
{

	return ((double)clock() / CLOCKS_PER_SEC);
}

/* As much of it as there is room for in sockets, since there is none for it in
 * the broker; returns how much. */
static size_t
send_some(struct client *c, const uint8_t *frame)
{
	ssize_t n;

	n = send(c->fd, frame, 100000, MSG_NOSIGNAL | MSG_DONTWAIT);
	assert_true(n > 0);
	return ((size_t)n);
}

static void
expect_taken(struct client *c, uint8_t *frame, size_t sent, size_t whole)
{
	struct wire_produce_response out;

	send_bytes(c, frame + sent, whole - sent);
	assert_int_equal(client_receive(c, WIRE_API_Produce, 8, &out), 1);
	free(frame);
	client_close(c);
}

static void
who_holds_memory_for_too_long_is_closed(void **state)
{
	struct client slow = client_connect(), other = client_connect();
	size_t whole, sent;
	uint8_t *frame = make_large((size_t)900 << 10, &whole);
	double before;

	(void)state;
	send_bytes(&slow, frame, whole / 2);
	check_alive();
	before = cpu_s();
	/* It waits for the memory that the slow one has, without a spin. */
	sent = send_some(&other, frame);
	assert_true(is_hung_up(&slow));
	assert_true(cpu_s() - before < 0.5);
	expect_taken(&other, frame, sent, whole);
	client_close(&slow);
}

/* A fetch that names a partition so often that it takes half a megabyte. */
static void
who_waits_with_much_memory_for_too_long_is_closed(void **state)
{
	static struct wire_fetch_request_partition parts[2000];
	struct client waits = client_connect(), other = client_connect();
	struct wire_fetch_response fetched;
	struct fetch_ask ask;
	size_t whole, sent, i;
	uint8_t *frame = make_large((size_t)900 << 10, &whole);

	(void)state;
	assert_int_equal(make_topic(&waits, "t", 1, NULL), WIRE_NONE);
	(void)fetch_ask(&ask, "t", 0, 60000);
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		parts[i] = ask.partition;
	ask.topic.partitions.at = parts;
	ask.topic.partitions.count = (int32_t)i;
	client_call(&waits, WIRE_API_Fetch, 11, &ask.in, &fetched);
	assert_true(usleep(150000) == 0); /* it has settled now */
	client_send(&waits, WIRE_API_Fetch, 11, &ask.in);
	assert_false(is_answered_within(&waits, 50));
	sent = send_some(&other, frame);
	assert_true(is_hung_up(&waits));
	expect_taken(&other, frame, sent, whole);
	client_close(&waits);
}

static void
join(struct client *c, const char *member, int32_t bytes)
{
	static const uint8_t metadata[600 << 10];
	struct wire_join_group_request_protocol p = {.name = wire_text("r"),
	    .metadata = {metadata, bytes}};
	struct wire_join_group_request in;

	wire_defaults(wire_join_group_request_layout(), &in);
	in.group_id = wire_text("g");
	in.session_timeout_ms = in.rebalance_timeout_ms = 60000;
	in.member_id = wire_text(member);
	in.protocol_type = wire_text("consumer");
	in.protocols.at = &p;
	in.protocols.count = 1;
	client_send(c, WIRE_API_JoinGroup, 3, &in);
}

/* The group keeps what it says, in memory of its own, for as long as it waits. */
static void
who_waits_for_a_group_holds_no_memory_of_requests(void **state)
{
	struct client one = client_connect(), two = client_connect(),
		      other = client_connect();
	struct wire_join_group_response out;
	char id[80];
	size_t whole;
	uint8_t *frame = make_large((size_t)900 << 10, &whole);

	(void)state;
	join(&one, "", 1);
	assert_int_equal(client_receive(&one, WIRE_API_JoinGroup, 3, &out), 1);
	keep_text(id, sizeof(id), out.member_id);
	join(&two, "", 600 << 10);
	assert_false(is_answered_within(&two, 50));
	expect_taken(&other, frame, 0, whole);
	assert_false(is_answered_within(&two, 50));
	/* Nobody knows the id of who goes without having been told it. */
	client_close(&two);
	check_alive(); /* it has been seen by then */
	check_alive();
	join(&one, id, 1);
	assert_int_equal(client_receive(&one, WIRE_API_JoinGroup, 3, &out), 1);
	assert_int_equal(out.generation_id, 2);
	assert_int_equal(out.members.count, 1);
	client_close(&one);
}

/* ---- slow readers ------------------------------------------------------- */

#define LARGE_BYTES 200000
#define ANSWER_MOST (8 << 20) /* --answer-most */

static int64_t
fill(struct client *c, int batches)
{
	static uint8_t bytes[LARGE_BYTES];
	struct test_record record = {"k", "v", clock_wall_ms()};
	size_t size;
	uint8_t *p;
	int i;

	assert_int_equal(make_topic(c, "t", 1, NULL), WIRE_NONE);
	/* One large record, by hand: attributes, time, offset, key, value. */
	p = put_varint(bytes + BATCH_HEADER_SIZE, LARGE_BYTES - 200);
	memset(p, 0, 3);
	p = put_varint(p + 3, -1);
	p = put_varint(p, LARGE_BYTES - 200 - 3 - 1 - 3 - 1);
	memset(p, 'v', LARGE_BYTES - 200);
	p += LARGE_BYTES - 200 - 3 - 1 - 3 - 1;
	*p++ = 0;
	size = finish_batch(bytes, p, BATCH_NONE, &record, 1, NULL);
	for (i = 0; i < batches; i++)
		assert_int_equal(produce_bytes(c, "t", 0, 1, bytes,
				     (int64_t)size)
				     .error_code,
		    WIRE_NONE);
	/* The last one waits for all of them. */
	assert_int_equal(produce_bytes(c, "t", 0, -1, bytes, (int64_t)size)
			     .error_code,
	    WIRE_NONE);
	return ((int64_t)size * (batches + 1));
}

static void
a_slow_reader_holds_up_nobody(void **state)
{
	struct client c = client_connect(), slow = connect_with(4096);
	struct wire_fetch_response out;
	struct fetch_ask ask;
	int64_t bytes = fill(&c, 99), began;
	int i;

	(void)state;
	(void)fetch_ask(&ask, "t", 0, 0);
	ask.in.max_bytes = ask.partition.partition_max_bytes = 1 << 28;
	client_send(&slow, WIRE_API_Fetch, 11, &ask.in);
	assert_true(is_answered_within(&slow, PATIENCE_S * 1000));
	began = clock_mono_us();
	for (i = 0; i < 50; i++)
		(void)produce_one(&c, "t", "k", 10, clock_wall_ms());
	assert_true(clock_mono_us() - began < INT64_C(1000000) * PATIENCE_S);
	/* And it gets its answer in the end, as large as one may be. */
	assert_int_equal(client_receive(&slow, WIRE_API_Fetch, 11, &out), 1);
	assert_true(bytes > ANSWER_MOST);
	assert_in_range(only_partition(&out)->records.length,
	    ANSWER_MOST - LARGE_BYTES, ANSWER_MOST);
	client_close(&slow);
	client_close(&c);
}

#define MANY 3000 /* of those, in one answer */

/* Ask for megabytes: a topic's settings, many times over. */
static void
ask_for_much(struct client *c)
{
	struct wire_describe_configs_request in;
	static struct wire_describe_configs_request_resource list[MANY];
	size_t i;

	wire_defaults(wire_describe_configs_request_layout(), &in);
	for (i = 0; i < MANY; i++) {
		list[i].resource_type = 2;
		list[i].resource_name = wire_text("t");
		list[i].configuration_keys.at = NULL;
		list[i].configuration_keys.count = -1;
	}
	in.resources.at = list;
	in.resources.count = MANY;
	in.include_synonyms = 1;
	in.include_documentation = 1;
	client_send(c, WIRE_API_DescribeConfigs, 4, &in);
}

static void
answers_that_nobody_reads_are_bounded_by_the_memory_limit(void **state)
{
	enum { READERS = 16 };
	struct wire_describe_configs_response out;
	struct client c = client_connect(), readers[READERS];
	int i, given = 0;

	(void)state;
	assert_int_equal(make_topic(&c, "t", 1, NULL), WIRE_NONE);
	client_close(&c);
	for (i = 0; i < READERS; i++)
		readers[i] = connect_with(4096);
	while (given < READERS) {
		ask_for_much(&readers[given]);
		if (!is_answered_within(&readers[given], 1500))
			break;
		given++;
	}
	assert_in_range(given, 1, READERS / 2);
	/* Who reads nothing goes, so that who came later gets an answer. */
	assert_int_equal(client_receive(&readers[given],
			     WIRE_API_DescribeConfigs, 4, &out),
	    1);
	assert_int_equal(out.resources.count, MANY);
	for (i = 0; i < READERS; i++)
		client_close(&readers[i]);
}

static void
who_goes_while_it_is_written_to_is_forgotten(void **state)
{
	struct client c = client_connect(), slow = connect_with(4096);
	struct fetch_ask ask;

	(void)state;
	(void)fill(&c, 99);
	(void)fetch_ask(&ask, "t", 0, 0);
	ask.in.max_bytes = ask.partition.partition_max_bytes = 1 << 28;
	client_send(&slow, WIRE_API_Fetch, 11, &ask.in);
	assert_true(is_answered_within(&slow, 10000));
	/* Its log can go then, too. */
	assert_int_equal(delete_topic(&c, "t"), WIRE_NONE);
	client_close(&slow);
	assert_int_equal(make_topic(&c, "t", 1, NULL), WIRE_NONE);
	assert_int_equal(produce_one(&c, "t", "k", 10, clock_wall_ms()), 0);
	client_close(&c);
}

/* ---- the folder and the port -------------------------------------------- */

static void
a_folder_or_port_in_use_is_refused(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	struct broker_conf conf = served.conf;
	socklen_t size = sizeof(at);
	char path[120], port[40];
	int lock, taken = socket(AF_INET, SOCK_STREAM, 0);

	(void)state;
	assert_int_equal(broker_down(), 0);
	snprintf(path, sizeof(path), "%s/lock", served.data);
	assert_int_not_equal(lock = open(path, O_RDWR), -1);
	assert_int_equal(flock(lock, LOCK_EX | LOCK_NB), 0);
	check_refused(&conf, "another broker works in this folder");
	close(lock);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(taken, (struct sockaddr *)&at, size), 0);
	assert_int_equal(listen(taken, 1), 0);
	assert_int_equal(getsockname(taken, (struct sockaddr *)&at, &size), 0);
	snprintf(port, sizeof(port), "127.0.0.1:%d", ntohs(at.sin_port));
	conf.listen.items[0] = port;
	check_refused(&conf, "in use");
	close(taken);
	broker_up();
	check_alive();
}

static void
it_listens_to_this_machine_alone_unless_told_otherwise(void **state)
{
	static char name[] = "broker";
	char *argv[] = {name, NULL};
	struct broker_conf conf;
	const struct config_option *const tables[] = {broker_options(&conf),
	    NULL};
	const struct config_program program = {.name = "broker",
	    .summary = "A broker.",
	    .tables = tables};
	struct mr_error err;

	(void)state;
	(void)unsetenv("MILLRACE_LISTEN");
	assert_int_not_equal(config_parse(1, argv, &program, &err), -1);
	assert_int_equal(conf.listen.count, 2);
	assert_string_equal(conf.listen.items[0], "127.0.0.1:9092");
	assert_string_equal(conf.listen.items[1], "[::1]:9092");
}

static void
with_nothing_to_do_it_sleeps(void **state)
{
	struct client c = client_connect(), waits = client_connect();
	struct rusage before, after;
	struct fetch_ask ask;

	(void)state;
	assert_int_equal(make_topic(&c, "t", 1, NULL), WIRE_NONE);
	/* A reader that waits is no work, either. */
	client_settle(&waits, "t");
	(void)fetch_ask(&ask, "t", 0, 0);
	ask.in.max_wait_ms = PATIENCE_S * 1000;
	ask.in.min_bytes = 1;
	client_send(&waits, WIRE_API_Fetch, 11, &ask.in);
	check_alive();
	assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
	assert_false(is_answered_within(&waits, IDLE_MS));
	assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
	assert_in_range(after.ru_nvcsw - before.ru_nvcsw, 1, WAKES_MOST);
	client_close(&waits);
	client_close(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(what_is_not_spoken_hangs_up, begin,
		end),
	    cmocka_unit_test_setup_teardown(
		versions_are_told_to_who_asks_in_an_unknown_one, begin, end),
	    cmocka_unit_test_setup_teardown(software_without_a_name_is_refused,
		begin, end),
	    cmocka_unit_test_setup_teardown(nobody_has_to_say_who_they_are,
		begin, end),
	    cmocka_unit_test_setup_teardown(malformed_frames_hang_up, begin,
		end),
	    cmocka_unit_test_setup_teardown(
		frames_may_come_in_pieces_and_in_crowds, begin, end),
	    cmocka_unit_test_setup_teardown(
		requests_of_a_connection_are_worked_on_one_by_one, begin, end),
	    cmocka_unit_test_setup_teardown(more_connections_wait, begin, end),
	    cmocka_unit_test_setup_teardown(idle_connections_are_closed,
		begin_hasty, end),
	    cmocka_unit_test_setup_teardown(
		requests_beyond_the_memory_limit_wait, begin, end),
	    cmocka_unit_test_setup_teardown(
		who_holds_memory_for_too_long_is_closed, begin_hurried, end),
	    cmocka_unit_test_setup_teardown(
		who_waits_with_much_memory_for_too_long_is_closed,
		begin_hurried, end),
	    cmocka_unit_test_setup_teardown(
		who_waits_for_a_group_holds_no_memory_of_requests,
		begin_hurried, end),
	    cmocka_unit_test_setup_teardown(a_slow_reader_holds_up_nobody,
		begin_roomy, end),
	    cmocka_unit_test_setup_teardown(
		answers_that_nobody_reads_are_bounded_by_the_memory_limit,
		begin_unread, end),
	    cmocka_unit_test_setup_teardown(
		who_goes_while_it_is_written_to_is_forgotten, begin_roomy, end),
	    cmocka_unit_test(
		it_listens_to_this_machine_alone_unless_told_otherwise),
	    cmocka_unit_test_setup_teardown(with_nothing_to_do_it_sleeps,
		begin_roomy, end),
	    cmocka_unit_test_setup_teardown(a_folder_or_port_in_use_is_refused,
		begin_roomy, end),
	};

	return (cmocka_run_group_tests_name("broker_connection", tests, NULL,
	    NULL));
}
