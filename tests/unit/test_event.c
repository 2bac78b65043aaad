#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "event/event.h"

#define ID "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
#define TS "\"ts_ms\":1795226820123"

/* The names that the linker's --wrap wants.
 * NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl*) */
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl*) */

/* The allocation to refuse, counted down; below 0: none. */
static int refuse_in = -1;

void *
__wrap_malloc(size_t size)
{

	if (refuse_in >= 0 && refuse_in-- == 0)
		return (NULL);
	return (__real_malloc(size));
}

/*
 * From a copy of exactly the size, so that reading past it is seen by the
 * sanitizers; NULs at the end of a text literal aside.
 */
static void *
exact(const void *value, size_t size)
{
	void *copy;

	assert_non_null(copy = malloc(size > 0 ? size : 1));
	if (size > 0)
		memcpy(copy, value, size);
	return (copy);
}

static int
decode_order(const char *type, const char *value, size_t size,
    struct order_event *event, struct mr_error *err)
{
	void *copy = exact(value, size);
	int rc;

	memset(err, 0, sizeof(*err));
	rc = order_event_decode(type, copy, size, event, err);
	free(copy);
	return (rc);
}

static void
orders_are_written_and_read_back(void **state)
{
	struct order_event event = {.type = ORDER_CANCELLED,
	    .order_id = ID,
	    .item = "Laptop \"15\xE2\x80\xB3\"\\",
	    .quantity = 1000000,
	    .ts_ms = 1795226820123};
	struct order_event back;
	struct mr_error err;
	struct buffer out = {0};

	(void)state;
	order_event_encode(&event, &out);
	assert_string_equal(buffer_text(&out),
	    "{\"order_id\":\"" ID
	    "\",\"item\":\"Laptop \\\"15\xE2\x80\xB3\\\"\\\\\","
	    "\"quantity\":1000000," TS "}");
	assert_int_equal(decode_order(order_event_type_text(event.type),
			     out.data, out.length, &back, &err),
	    0);
	assert_int_equal(back.type, event.type);
	assert_string_equal(back.order_id, event.order_id);
	assert_string_equal(back.item, event.item);
	assert_int_equal(back.quantity, event.quantity);
	assert_true(back.ts_ms == event.ts_ms);
	buffer_free(&out);
}

static void
inventory_events_are_written_and_read_back(void **state)
{
	static const struct {
		struct inventory_event event;
		const char *type, *json;
	} cases[] = {
	    {{.type = INVENTORY_RESERVED,
		 .order_id = ID,
		 .item = "A",
		 .quantity = 2,
		 .ts_ms = 5},
		"inventory.reserved",
		"{\"order_id\":\"" ID
		"\",\"item\":\"A\",\"quantity\":2,\"ts_ms\":5}"},
	    {{.type = INVENTORY_REJECTED,
		 .order_id = ID,
		 .item = "A",
		 .quantity = 2,
		 .reason = "not enough stock",
		 .ts_ms = 5},
		"inventory.rejected",
		"{\"order_id\":\"" ID "\",\"item\":\"A\",\"quantity\":2,"
		"\"reason\":\"not enough stock\",\"ts_ms\":5}"},
	    {{.type = INVENTORY_RELEASED,
		 .order_id = ID,
		 .item = "A",
		 .quantity = 2,
		 .ts_ms = 5},
		"inventory.released",
		"{\"order_id\":\"" ID
		"\",\"item\":\"A\",\"quantity\":2,\"ts_ms\":5}"},
	    {{.type = INVENTORY_ADJUSTED,
		 .item = "A",
		 .delta = -3,
		 .on_hand = 0,
		 .ts_ms = 5},
		"inventory.adjusted",
		"{\"item\":\"A\",\"delta\":-3,\"on_hand\":0,\"ts_ms\":5}"},
	};
	struct inventory_event back;
	struct mr_error err;
	struct buffer out = {0};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buffer_clear(&out);
		inventory_event_encode(&cases[i].event, &out);
		assert_string_equal(buffer_text(&out), cases[i].json);
		assert_string_equal(inventory_event_type_text(
					cases[i].event.type),
		    cases[i].type);
		assert_int_equal(inventory_event_decode(cases[i].type, out.data,
				     out.length, &back, &err),
		    0);
		assert_int_equal(back.type, cases[i].event.type);
		assert_string_equal(back.order_id, cases[i].event.order_id);
		assert_string_equal(back.item, cases[i].event.item);
		assert_string_equal(back.reason, cases[i].event.reason);
		assert_int_equal(back.quantity, cases[i].event.quantity);
		assert_int_equal(back.delta, cases[i].event.delta);
		assert_int_equal(back.on_hand, cases[i].event.on_hand);
		assert_int_equal(back.ts_ms, cases[i].event.ts_ms);
	}
	buffer_free(&out);
}

static void
prices_come_in_many_spellings(void **state)
{
	static const struct {
		const char *price;
		int64_t minor;
	} cases[] = {
	    {"187.32", 18732},
	    {"187", 18700},
	    {"187.3", 18730},
	    {"1.8732e2", 18732},
	    {"187.3200004", 18732},
	    {"187.3199996", 18732},
	    {"0.01", 1},
	    {"0.29", 29},
	    {"1.005e0", -1},
	    {"1000000000", 100000000000},
	    {"999999999.99", 99999999999},
	    {"1000000000.01", -1},
	    {"187.325", -1},
	    {"187.32001", -1},
	    {"0", -1},
	    {"0.0", -1},
	    {"0.001", -1},
	    {"-0.01", -1},
	    {"-5", -1},
	    {"1e300", -1},
	    {"1e999", -1},
	    {"9223372036854775807", -1},
	    {"9223372036854775808", -1},
	    {"NaN", -1},
	    {"Infinity", -1},
	    {"\"187.32\"", -1},
	    {"null", -1},
	    {"[1]", -1},
	    {"0x10", -1},
	    {"01", -1},
	    {"1.", -1},
	    {"+1", -1},
	};
	struct price_event event;
	struct mr_error err;
	char text[128];
	size_t i;
	int n;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		n = snprintf(text, sizeof(text),
		    "{\"symbol\":\"ACME\",\"price\":%s," TS "}",
		    cases[i].price);
		memset(&err, 0, sizeof(err));
		if (price_event_decode(text, (size_t)n, &event, &err) == 0) {
			if (event.price_minor != cases[i].minor)
				fail_msg("%s was read as %lld", cases[i].price,
				    (long long)event.price_minor);
			assert_string_equal(event.symbol, "ACME");
			assert_true(event.ts_ms == 1795226820123);
			continue;
		}
		if (cases[i].minor != -1)
			fail_msg("%s: %s", cases[i].price, err.message);
		assert_int_equal(err.kind, MR_REJECT);
	}
}

static void
prices_are_written_with_two_decimals(void **state)
{
	static const int64_t cases[] = {1, 10, 99, 100, 18732, 100000000000,
	    99999999999};
	struct price_event event = {.symbol = "BRK.B", .ts_ms = 0}, back;
	struct mr_error err;
	struct buffer out = {0};
	size_t i;

	(void)state;
	event.price_minor = 18730;
	price_event_encode(&event, &out);
	assert_string_equal(buffer_text(&out),
	    "{\"symbol\":\"BRK.B\",\"price\":187.30,\"ts_ms\":0}");
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		event.price_minor = cases[i];
		buffer_clear(&out);
		price_event_encode(&event, &out);
		assert_int_equal(price_event_decode(out.data, out.length, &back,
				     &err),
		    0);
		assert_true(back.price_minor == cases[i]);
	}
	buffer_free(&out);
}

static void
user_events_are_read_as_they_were_written(void **state)
{
	static const struct {
		struct user_event event;
		const char *json;
	} cases[] = {
	    {{.kind = USER_PURCHASE,
		 .event_id = "1-7",
		 .user_id = "user-3",
		 .page = "/checkout",
		 .amount_minor = 4999,
		 .currency = "EUR",
		 .ts_ms = 5},
		"{\"event_id\":\"1-7\",\"user_id\":\"user-3\","
		"\"event\":\"purchase\",\"page\":\"/checkout\","
		"\"amount_minor\":4999,\"currency\":\"EUR\",\"ts_ms\":5}"},
	    {{.kind = USER_SIGNUP,
		 .event_id = "1-8",
		 .user_id = "user-4",
		 .page = "/signup",
		 .ts_ms = 6},
		"{\"event_id\":\"1-8\",\"user_id\":\"user-4\","
		"\"event\":\"signup\",\"page\":\"/signup\",\"ts_ms\":6}"},
	};
	struct buffer out = {0};
	struct user_event back;
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buffer_clear(&out);
		user_event_encode(&cases[i].event, &out);
		assert_string_equal(buffer_text(&out), cases[i].json);
		memset(&back, 'x', sizeof(back));
		if (user_event_decode(out.data, out.length, &back, &err) == -1)
			fail_msg("%s", err.message);
		assert_int_equal(back.kind, cases[i].event.kind);
		assert_string_equal(back.event_id, cases[i].event.event_id);
		assert_string_equal(back.user_id, cases[i].event.user_id);
		assert_string_equal(back.page, cases[i].event.page);
		assert_true(back.amount_minor == cases[i].event.amount_minor);
		assert_string_equal(back.currency, cases[i].event.currency);
		assert_true(back.ts_ms == cases[i].event.ts_ms);
	}
	buffer_free(&out);
}

static void
calls_are_read_as_they_were_written(void **state)
{
	static const struct call_event cases[] = {
	    {"1-7", "+4930123456", "+4930654321", 1795226820123, 12345},
	    {"1-8", "A\xC3\xBC", "b \"c\"", 0, 0},
	    {"1-9", "+1", "+2", INT64_C(253402300799999),
		EVENT_DURATION_MOST_MS},
	};
	struct call_event back;
	struct buffer out = {0};
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buffer_clear(&out);
		call_event_encode(&cases[i], &out);
		if (i == 0)
			assert_string_equal(buffer_text(&out),
			    "{\"call_id\":\"1-7\",\"caller\":\"+4930123456\","
			    "\"callee\":\"+4930654321\","
			    "\"started_ms\":1795226820123,"
			    "\"duration_s\":12.345}");
		memset(&back, 'x', sizeof(back));
		if (call_event_decode(out.data, out.length, &back, &err) == -1)
			fail_msg("%s", err.message);
		assert_string_equal(back.call_id, cases[i].call_id);
		assert_string_equal(back.caller, cases[i].caller);
		assert_string_equal(back.callee, cases[i].callee);
		assert_true(back.started_ms == cases[i].started_ms);
		assert_true(back.duration_ms == cases[i].duration_ms);
	}
	buffer_free(&out);
}

static void
bad_calls_are_rejected_by_field(void **state)
{
#define CALL(id, caller, callee, started, duration)                    \
	"{\"call_id\":" id ",\"caller\":" caller ",\"callee\":" callee \
	",\"started_ms\":" started ",\"duration_s\":" duration "}"
	static const struct {
		const char *value, *message; /* NULL: it is good */
	} cases[] = {
	    {CALL("\"1\"", "\"a\"", "\"b\"", "5", "1"), NULL},
	    {CALL("\"1\"", "\"a\"", "\"b\"", "5", "1.5e2"), NULL},
	    {CALL("\"1\"", "\"a\"", "\"b\"", "5", "0.0010000001"), NULL},
	    {CALL("1", "\"a\"", "\"b\"", "5", "1"),
		"call_id: must be text, is a whole number"},
	    {CALL("\"1\"", "\"\"", "\"b\"", "5", "1"),
		"caller: must be 1 to 32 bytes"},
	    {CALL("\"1\"", "\"123456789012345678901234567890123\"", "\"b\"",
		 "5", "1"),
		"caller: must be 1 to 32 bytes"},
	    {CALL("\"1\"", "\"a\"", "\"b\\n\"", "5", "1"),
		"callee: must be 1 to 32 bytes"},
	    {CALL("\"1\"", "\"a\"", "\"b\"", "-1", "1"),
		"started_ms: must be a whole number"},
	    {CALL("\"1\"", "\"a\"", "\"b\"", "253402300800000", "1"),
		"started_ms: must be a whole number"},
	    {CALL("\"1\"", "\"a\"", "\"b\"", "5", "-0.001"),
		"duration_s: must be from 0 to 604800"},
	    {CALL("\"1\"", "\"a\"", "\"b\"", "5", "604800.001"),
		"duration_s: must be from 0 to 604800"},
	    {CALL("\"1\"", "\"a\"", "\"b\"", "5", "0.0015"),
		"duration_s: must have at most three decimals"},
	    {CALL("\"1\"", "\"a\"", "\"b\"", "5", "\"1\""),
		"duration_s: must be a number, is text"},
	};
	struct call_event event;
	struct mr_error err;
	size_t i;
	int rc;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rc = call_event_decode(cases[i].value, strlen(cases[i].value),
		    &event, &err);
		if (cases[i].message == NULL) {
			assert_int_equal(rc, 0);
			continue;
		}
		if (rc == 0)
			fail_msg("%s was taken", cases[i].value);
		assert_int_equal(err.kind, MR_REJECT);
		if (strncmp(err.message, cases[i].message,
			strlen(cases[i].message)) != 0)
			fail_msg("%s: %s", cases[i].value, err.message);
	}
#undef CALL
}

static void
metrics_are_read_as_they_were_written(void **state)
{
	const struct metric_event event = {.host = "web-1",
	    .metric = "cpu_percent",
	    .value_milli = -12345,
	    .ts_ms = 5};
	static const struct {
		const char *value;
		int64_t milli;
	} values[] = {{"1", 1000}, {"0.0005", 1}, {"-0.0005", -1},
	    {"2.00049", 2000}, {"1e12", INT64_C(1000000000000000)},
	    {"-1000000000000", INT64_C(-1000000000000000)}, {"1e-300", 0}};
	struct metric_event back;
	struct buffer out = {0};
	struct mr_error err;
	char text[128];
	size_t i;

	(void)state;
	metric_event_encode(&event, &out);
	assert_string_equal(buffer_text(&out),
	    "{\"host\":\"web-1\",\"metric\":\"cpu_percent\","
	    "\"value\":-12.345,\"ts_ms\":5}");
	memset(&back, 'x', sizeof(back));
	assert_int_equal(metric_event_decode(out.data, out.length, &back, &err),
	    0);
	assert_string_equal(back.host, event.host);
	assert_string_equal(back.metric, event.metric);
	assert_int_equal(back.value_milli, event.value_milli);
	assert_int_equal(back.ts_ms, event.ts_ms);
	buffer_free(&out);
	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		snprintf(text, sizeof(text),
		    "{\"host\":\"h\",\"metric\":\"m\",\"value\":%s," TS "}",
		    values[i].value);
		if (metric_event_decode(text, strlen(text), &back, &err) != 0)
			fail_msg("%s: %s", text, err.message);
		assert_int_equal(back.value_milli, values[i].milli);
	}
}

static void
bad_metrics_are_rejected_by_field(void **state)
{
#define METRIC(host, metric, value) \
	"{\"host\":" host ",\"metric\":" metric value "," TS "}"
	static const struct {
		const char *value, *message;
	} cases[] = {
	    {METRIC("7", "\"m\"", ",\"value\":1"),
		"host: must be text, is a whole number"},
	    {METRIC("\"\"", "\"m\"", ",\"value\":1"),
		"host: must be 1 to 64 bytes"},
	    {METRIC("\"h\"", "\"a\\tb\"", ",\"value\":1"),
		"metric: must be 1 to 64 bytes"},
	    {METRIC("\"h\"", "\"m\"", ""),
		"value: must be a number, is missing"},
	    {METRIC("\"h\"", "\"m\"", ",\"value\":\"1\""),
		"value: must be a number, is text"},
	    {METRIC("\"h\"", "\"m\"", ",\"value\":1.1e12"),
		"value: must be from -1000000000000 to 1000000000000"},
	    {METRIC("\"h\"", "\"m\"", ",\"value\":-1e300"),
		"value: must be from -1000000000000 to 1000000000000"},
	    {METRIC("\"h\"", "\"m\"", ",\"value\":NaN"), "value: is no JSON"},
	    {"{\"host\":\"h\",\"metric\":\"m\",\"value\":1,\"ts_ms\":-1}",
		"ts_ms: must be a whole number"},
	    {"{\"host\":\"h\",\"metric\":\"m\",\"value\":1}",
		"ts_ms: must be a whole number"},
	};
	struct metric_event event;
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(metric_event_decode(cases[i].value,
				     strlen(cases[i].value), &event, &err),
		    -1);
		assert_int_equal(err.kind, MR_REJECT);
		if (strncmp(err.message, cases[i].message,
			strlen(cases[i].message)) != 0)
			fail_msg("%s: %s", cases[i].value, err.message);
	}
}

static void
bad_user_events_are_rejected_by_field(void **state)
{
#define USER(event, page, rest)                                  \
	"{\"event_id\":\"1\",\"user_id\":\"u\",\"event\":" event \
	",\"page\":" page rest "," TS "}"
	static const struct {
		const char *value, *message; /* NULL: it is good */
	} cases[] = {
	    {USER("\"click\"", "\"/\"", ""), NULL},
	    {USER("\"click\"", "\"/\"", ",\"amount_minor\":\"x\""), NULL},
	    {USER("\"Click\"", "\"/\"", ""),
		"event: must be click, purchase or signup"},
	    {USER("\"a kind that is far longer\"", "\"/\"", ""),
		"event: must be click"},
	    {USER("\"click\"", "\"home\"", ""), "page: must begin with a /"},
	    {USER("\"click\"", "\"\"", ""), "page: must begin with a /"},
	    {USER("\"purchase\"", "\"/\"", ""),
		"amount_minor: must be a whole number from 1"},
	    {USER("\"purchase\"", "\"/\"", ",\"amount_minor\":0"),
		"amount_minor: must be a whole number from 1"},
	    {USER("\"purchase\"", "\"/\"", ",\"amount_minor\":5"),
		"currency: must be text, is missing"},
	    {USER("\"purchase\"", "\"/\"",
		 ",\"amount_minor\":5,\"currency\":\"eur\""),
		"currency: must be three letters"},
	    {USER("\"purchase\"", "\"/\"",
		 ",\"amount_minor\":5,\"currency\":\"EURO\""),
		"currency: must be three letters"},
	};
	struct user_event event;
	struct mr_error err;
	size_t i;
	int rc;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rc = user_event_decode(cases[i].value, strlen(cases[i].value),
		    &event, &err);
		if (cases[i].message == NULL) {
			assert_int_equal(rc, 0);
			continue;
		}
		assert_int_equal(rc, -1);
		assert_int_equal(err.kind, MR_REJECT);
		if (strncmp(err.message, cases[i].message,
			strlen(cases[i].message)) != 0)
			fail_msg("%s: %s", cases[i].value, err.message);
	}
}

static void
log_lines_are_read_as_they_were_written(void **state)
{
	static struct log_event event = {.level = LOG_EVENT_FATAL,
	    .service = "web",
	    .host = "web-3",
	    .request_id = "7f3a",
	    .message = "a\tb\nc \xC3\xBC",
	    .stack = "at x\n\tat y",
	    .ts_ms = 1800000000000};
	static struct log_event back;
	struct buffer out = {0};
	struct mr_error err;

	(void)state;
	log_event_encode(&event, &out);
	assert_string_equal(buffer_text(&out),
	    "{\"service\":\"web\",\"level\":\"fatal\","
	    "\"message\":\"a\\tb\\nc \xC3\xBC\",\"host\":\"web-3\","
	    "\"request_id\":\"7f3a\",\"stack\":\"at x\\n\\tat y\","
	    "\"ts_ms\":1800000000000}");
	memset(&back, 'x', sizeof(back));
	if (log_event_decode(out.data, out.length, &back, &err) == -1)
		fail_msg("%s", err.message);
	assert_string_equal(back.message, event.message);
	assert_string_equal(back.stack, event.stack);
	assert_string_equal(back.host, event.host);
	assert_string_equal(back.request_id, event.request_id);
	assert_int_equal(back.level, LOG_EVENT_FATAL);
	buffer_clear(&out);
	event.host[0] = event.request_id[0] = event.stack[0] = '\0';
	log_event_encode(&event, &out);
	assert_null(strstr(buffer_text(&out), "host"));
	assert_int_equal(log_event_decode(out.data, out.length, &back, &err),
	    0);
	assert_string_equal(back.host, "");
	assert_string_equal(back.request_id, "");
	assert_string_equal(back.stack, "");
	buffer_free(&out);
}

static void
bad_log_lines_are_rejected_by_field(void **state)
{
#define LINE(service, level, message, rest)         \
	"{\"service\":" service ",\"level\":" level \
	",\"message\":" message rest "," TS "}"
	static const struct {
		const char *value, *message;
	} cases[] = {
	    {LINE("5", "\"info\"", "\"m\"", ""), "service: must be text"},
	    {LINE("\"a\\nb\"", "\"info\"", "\"m\"", ""), "service: must be"},
	    {LINE("\"s\"", "\"INFO\"", "\"m\"", ""),
		"level: must be debug, info, warn, error or fatal"},
	    {LINE("\"s\"", "\"a level that is longer\"", "\"m\"", ""),
		"level: must be debug"},
	    {LINE("\"s\"", "\"info\"", "\"\"", ""), "message: must be 1 to"},
	    {LINE("\"s\"", "\"info\"", "\"a\\u001bb\"", ""),
		"message: must be 1 to"},
	    {LINE("\"s\"", "\"info\"", "\"m\"", ",\"host\":null"),
		"host: must be text, is null"},
	    {LINE("\"s\"", "\"info\"", "\"m\"", ",\"request_id\":7"),
		"request_id: must be text"},
	    {LINE("\"s\"", "\"info\"", "\"m\"", ",\"stack\":\"\""),
		"stack: must be 1 to"},
	    {"{\"service\":\"s\",\"level\":\"info\",\"message\":\"m\"}",
		"ts_ms: must be"},
	};
	static struct log_event event;
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(log_event_decode(cases[i].value,
				     strlen(cases[i].value), &event, &err),
		    -1);
		assert_int_equal(err.kind, MR_REJECT);
		if (strncmp(err.message, cases[i].message,
			strlen(cases[i].message)) != 0)
			fail_msg("%s: %s", cases[i].value, err.message);
	}
#undef LINE
}

static void
unknown_fields_are_ignored(void **state)
{
	static const char value[] =
	    " {\"new\":[{\"a\":[1,\"[[[[[[[[[[{{{{\\\"\"]}],\"quantity\":1,"
	    "\"order_id\":\"" ID "\",\"item\":\"\\u00fc\"," TS ",\"x\":null}\n";
	struct order_event event;
	struct mr_error err;

	(void)state;
	if (decode_order("order.created", value, sizeof(value) - 1, &event,
		&err))
		fail_msg("%s", err.message);
	assert_string_equal(event.item, "\xC3\xBC");
	assert_int_equal(event.type, ORDER_CREATED);
}

static void
bad_orders_are_rejected_by_field(void **state)
{
#define ORDER(id, item, quantity, rest) \
	"{\"order_id\":" id ",\"item\":" item ",\"quantity\":" quantity rest "}"
#define GOOD_ID "\"" ID "\""
	static const struct {
		const char *value, *message;
	} cases[] = {
	    {"", "value: is empty"},
	    {"{", "value: is no JSON"},
	    {"[]", "value: must be a JSON object"},
	    {"5", "value: is no JSON"},
	    {"{}", "order_id: must be text, is missing"},
	    {"{} x", "value: is no JSON"},
	    {"{\"item\":\"\xFF\"}", "value: is no JSON"},
	    {"{\"item\":\"\xED\xA0\x80\"}", "value: is no JSON"},
	    {"{\"item\":\"\\ud800\"}", "value: is no JSON"},
	    {"{\"item\":\"a\\u0000b\"}", "value: is no JSON"},
	    {"{\"a\":1,\"a\":2}", "value: is no JSON"},
	    {"{\"a\":[[[[[[[[1]]]]]]]]}", "value: nests deeper"},
	    {"[[[[[[[[[", "value: nests deeper"},
	    {"{\"a\":\"\\", "value: is no JSON"},
	    {"{\"a\":99999999999999999999}", "value: is no JSON"},
	    {ORDER("\"x\"", "\"A\"", "1", "," TS),
		"order_id: must be a UUID in lower case"},
	    {ORDER("\"017F22E2-79B0-7CC3-98C4-DC0C0C07398F\"", "\"A\"", "1",
		 "," TS),
		"order_id: must be a UUID in lower case"},
	    {ORDER("5", "\"A\"", "1", "," TS),
		"order_id: must be text, is a whole number"},
	    {ORDER(GOOD_ID, "\"\"", "1", "," TS), "item: must be 1 to 64"},
	    {ORDER(GOOD_ID,
		 "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		 "aaaaaaaaa\"",
		 "1", "," TS),
		"item: must be 1 to 64"},
	    {ORDER(GOOD_ID, "\"a\\nb\"", "1", "," TS), "item: must be 1 to 64"},
	    {ORDER(GOOD_ID, "\"\\u009b\"", "1", "," TS), "item: must be 1"},
	    {ORDER(GOOD_ID, "\"\x7f\"", "1", "," TS), "item: must be 1 to 64"},
	    {ORDER(GOOD_ID, "null", "1", "," TS), "item: must be text, is nul"},
	    {ORDER(GOOD_ID, "\"A\"", "0", "," TS),
		"quantity: must be a whole number from 1 to 1000000, is 0"},
	    {ORDER(GOOD_ID, "\"A\"", "-3", "," TS),
		"quantity: must be a whole number from 1 to 1000000, is -3"},
	    {ORDER(GOOD_ID, "\"A\"", "1000001", "," TS), "is 1000001"},
	    {ORDER(GOOD_ID, "\"A\"", "1.0", "," TS),
		"is a number with a fraction or exponent"},
	    {ORDER(GOOD_ID, "\"A\"", "1e0", "," TS), "quantity: must be"},
	    {ORDER(GOOD_ID, "\"A\"", "\"1\"", "," TS), "quantity: must be"},
	    {ORDER(GOOD_ID, "\"A\"", "true", "," TS), "is a truth value"},
	    {ORDER(GOOD_ID, "\"A\"", "{}", "," TS), "is an object"},
	    {ORDER(GOOD_ID, "\"A\"", "[]", "," TS), "is an array"},
	    {ORDER(GOOD_ID, "\"A\"", "1", ""), "ts_ms: must be a whole"},
	    {ORDER(GOOD_ID, "\"A\"", "1", ",\"ts_ms\":-1"), "ts_ms: must be"},
	    {ORDER(GOOD_ID, "\"A\"", "1", ",\"ts_ms\":253402300800000"),
		"ts_ms: must be"},
	};
	struct order_event event;
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (decode_order("order.created", cases[i].value,
			strlen(cases[i].value), &event, &err) == 0)
			fail_msg("%s was taken", cases[i].value);
		assert_int_equal(err.kind, MR_REJECT);
		if (strstr(err.message, cases[i].message) == NULL)
			fail_msg("\"%s\" isn't in \"%s\"", cases[i].message,
			    err.message);
	}
	assert_int_equal(decode_order("order.created", "{}\0", 3, &event, &err),
	    -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_int_equal(order_event_decode("order.created", NULL, 0, &event,
			     &err),
	    -1);
	assert_int_equal(err.kind, MR_REJECT);
}

static void
a_missing_or_foreign_type_is_rejected(void **state)
{
	static const char value[] = ORDER(GOOD_ID, "\"A\"", "1",
	    ",\"reason\":\"x\"," TS);
	struct order_event order;
	struct inventory_event inventory;
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(order_event_decode(NULL, value, strlen(value), &order,
			     &err),
	    -1);
	assert_int_equal(err.kind, MR_REJECT);
	assert_string_equal(err.message, "ce_type: is missing");
	assert_int_equal(order_event_decode("inventory.rejected", value,
			     strlen(value), &order, &err),
	    -1);
	assert_int_equal(inventory_event_decode("order.created", value,
			     strlen(value), &inventory, &err),
	    -1);
	assert_int_equal(inventory_event_decode(NULL, value, strlen(value),
			     &inventory, &err),
	    -1);
	assert_int_equal(inventory_event_decode("inventory.rejected", value,
			     strlen(value), &inventory, &err),
	    0);
	assert_int_equal(inventory_event_decode("inventory.adjusted", value,
			     strlen(value), &inventory, &err),
	    -1);
	assert_string_equal(err.message,
	    "delta: must be a whole number from -1000000000000 to "
	    "1000000000000, is missing");
}

static void
a_rejection_needs_its_reason(void **state)
{
	static const char value[] = ORDER(GOOD_ID, "\"A\"", "1", "," TS);
	struct inventory_event event;
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(inventory_event_decode("inventory.rejected", value,
			     strlen(value), &event, &err),
	    -1);
	assert_string_equal(err.message, "reason: must be text, is missing");
}

static void
values_are_bounded_before_they_are_read(void **state)
{
	static char value[EVENT_VALUE_MOST_BYTES + 1];
	static const char order[] = ORDER(GOOD_ID, "\"A\"", "1", "," TS);
	struct order_event event;
	struct mr_error err;

	(void)state;
	memset(value, ' ', sizeof(value));
	memcpy(value, order, sizeof(order) - 1);
	assert_int_equal(decode_order("order.created", value,
			     EVENT_VALUE_MOST_BYTES, &event, &err),
	    0);
	assert_int_equal(decode_order("order.created", value,
			     EVENT_VALUE_MOST_BYTES + 1, &event, &err),
	    -1);
	assert_string_equal(err.message,
	    "value: must be at most 65536 bytes, is 65537");
}

static void
every_truncation_and_every_flipped_byte_is_survived(void **state)
{
	static const char order[] = ORDER(GOOD_ID, "\"A\\u00fc\\\"\"", "1",
	    ",\"n\":[{}]," TS);
	char changed[sizeof(order)];
	struct order_event event;
	struct mr_error err;
	size_t i;
	int c;

	(void)state;
	for (i = 0; i < sizeof(order) - 1; i++) {
		assert_int_equal(decode_order("order.created", order, i, &event,
				     &err),
		    -1);
		assert_int_equal(err.kind, MR_REJECT);
		for (c = 0; c < 256; c++) {
			memcpy(changed, order, sizeof(order));
			changed[i] = (char)c;
			if (decode_order("order.created", changed,
				sizeof(order) - 1, &event, &err) != 0)
				assert_int_equal(err.kind, MR_REJECT);
			else
				assert_in_range(event.quantity, 1, 1000000);
		}
	}
}

static void
short_memory_is_never_the_records_fault(void **state)
{
	static const char value[] = ORDER(GOOD_ID, "\"A\"", "1",
	    ",\"n\":[{\"r\":1.5}]," TS);
	struct order_event event;
	struct mr_error err;
	int n, rc;

	(void)state;
	for (n = 0; n < 1000; n++) {
		memset(&err, 0, sizeof(err));
		refuse_in = n;
		rc = order_event_decode("order.created", value, strlen(value),
		    &event, &err);
		if (refuse_in >= 0) {
			refuse_in = -1;
			assert_int_equal(rc, 0);
			break;
		}
		assert_int_equal(rc, -1);
		if (err.kind != MR_RETRY)
			fail_msg("allocation %d: %s", n, err.message);
	}
	/* It did come to allocations that could fail. */
	assert_in_range(n, 10, 999);
}

static void
an_item_is_one_that_a_url_leads_to(void **state)
{
	static const char *const good[] = {"...", "..a", "a..", ".a", "a/b",
	    "/", "a//b", "a/...", "AC/DC", ". ."};
	static const char *const bad[] = {".", "..", "../a", "a/..", "a/./b",
	    "a/../b", "/.", "./", "a//.."};
	static const char old[] = "{\"order_id\":"
				  "\"01a1fbfe-4c0c-775c-ba95-8384c7ef2c93\","
				  "\"item\":\"..\",\"quantity\":1,\"ts_ms\":1}";
	struct order_event event;
	struct mr_error err = {0};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(event_check_item(good[i], strlen(good[i]),
				     &err),
		    0);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(event_check_item(bad[i], strlen(bad[i]), &err),
		    -1);
		assert_int_equal(err.kind, MR_REJECT);
	}
	/* What was ordered before they were refused is still decided. */
	assert_int_equal(order_event_decode("order.created", old, strlen(old),
			     &event, &err),
	    0);
}

static void
what_is_far_ahead_of_its_record_is_rejected(void **state)
{
	static const struct {
		int64_t event_ms, record_ms, most_ms;
		int status;
	} cases[] = {
	    {5000, 5000, 0, 0},
	    {5001, 5000, 0, -1},
	    {8000, 5000, 3000, 0},
	    {8001, 5000, 3000, -1},
	    {4000, 5000, 0, 0},
	    {8001, -1, 0, 0}, /* the record has none, and it is now */
	    {INT64_C(253402300799999), -1, 86400000, -1},
	    {8001, INT64_MAX, 3000, 0},
	    {8001, INT64_MIN, 3000, -1},
	};
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(event_check_ahead("ts_ms", cases[i].event_ms,
				     cases[i].record_ms, cases[i].most_ms, NULL,
				     &err),
		    cases[i].status);
	assert_int_equal(err.kind, MR_REJECT);
	assert_string_equal(err.message,
	    "ts_ms: is more than 3 s ahead of the record's own time");
	(void)event_check_ahead("started_ms", 2, 1, 0, "--ahead", &err);
	assert_string_equal(err.message,
	    "started_ms: is more than 0 s (--ahead) ahead of the record's own "
	    "time");
}

static void
field_rules_say_what_must_be(void **state)
{
	struct mr_error err = {0};

	(void)state;
	assert_int_equal(event_check_item("Laptop", 6, &err), 0);
	assert_int_equal(event_check_item("a\0b", 3, &err), -1);
	assert_int_equal(event_check_item("\xC3", 1, &err), -1);
	assert_int_equal(event_check_item("", 0, &err), -1);
	assert_memory_equal(err.message, "must be ", 8);
	assert_int_equal(event_check_symbol("BRK.B-1", 7, &err), 0);
	assert_int_equal(event_check_symbol("ABCDEFGHIJKL", 12, &err), 0);
	assert_int_equal(event_check_symbol("ABCDEFGHIJKLM", 13, &err), -1);
	assert_int_equal(event_check_symbol("acme", 4, &err), -1);
	assert_int_equal(event_check_symbol("A B", 3, &err), -1);
	assert_int_equal(event_check_symbol("", 0, &err), -1);
	assert_memory_equal(err.message, "must be ", 8);
	assert_int_equal(err.kind, MR_REJECT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(orders_are_written_and_read_back),
	    cmocka_unit_test(inventory_events_are_written_and_read_back),
	    cmocka_unit_test(prices_come_in_many_spellings),
	    cmocka_unit_test(prices_are_written_with_two_decimals),
	    cmocka_unit_test(user_events_are_read_as_they_were_written),
	    cmocka_unit_test(bad_user_events_are_rejected_by_field),
	    cmocka_unit_test(calls_are_read_as_they_were_written),
	    cmocka_unit_test(bad_calls_are_rejected_by_field),
	    cmocka_unit_test(metrics_are_read_as_they_were_written),
	    cmocka_unit_test(bad_metrics_are_rejected_by_field),
	    cmocka_unit_test(log_lines_are_read_as_they_were_written),
	    cmocka_unit_test(bad_log_lines_are_rejected_by_field),
	    cmocka_unit_test(unknown_fields_are_ignored),
	    cmocka_unit_test(bad_orders_are_rejected_by_field),
	    cmocka_unit_test(a_missing_or_foreign_type_is_rejected),
	    cmocka_unit_test(a_rejection_needs_its_reason),
	    cmocka_unit_test(values_are_bounded_before_they_are_read),
	    cmocka_unit_test(
		every_truncation_and_every_flipped_byte_is_survived),
	    cmocka_unit_test(short_memory_is_never_the_records_fault),
	    cmocka_unit_test(an_item_is_one_that_a_url_leads_to),
	    cmocka_unit_test(what_is_far_ahead_of_its_record_is_rejected),
	    cmocka_unit_test(field_rules_say_what_must_be),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
