/*
 * test_web -- requests, without a socket and then over one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <dirent.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "web/web_internal.h"
#include "web_client.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- a server's handlers ------------------------------------------------ */

static atomic_int handled;
static atomic_int inside;
static atomic_int most_inside;
static atomic_int gate_open;

static int
check_item(const char *text, size_t length, struct mr_error *err)
{

	if (length == 0 || text[0] == ' ')
		return (mr_error_set(err, MR_REJECT, "must not be blank"));
	return (0);
}

static void
post_order(struct web_request *req, struct web_response *res)
{
	char item[16] = "", note[8] = "none";
	int64_t quantity = 0;
	const struct web_field fields[] = {
	    {"item", WEB_FIELD_TEXT, item, sizeof(item), 0, check_item, 0, 0},
	    {"quantity", WEB_FIELD_I64, &quantity, 0, 0, NULL, 1, 1000},
	    {"note", WEB_FIELD_TEXT, note, sizeof(note), 1, NULL, 0, 0},
	    {.name = NULL},
	};
	struct json_writer w;

	atomic_fetch_add(&handled, 1);
	if (web_read_json(req, res, fields) == -1)
		return;
	res->status = 201;
	snprintf(res->location, sizeof(res->location), "/orders/%s", item);
	json_init(&w, &res->body);
	json_object_open(&w);
	json_member_text(&w, "item", item);
	json_member_i64(&w, "quantity", quantity);
	json_member_text(&w, "note", note);
	json_object_close(&w);
}

static void
get_order(struct web_request *req, struct web_response *res)
{
	struct json_writer w;

	atomic_fetch_add(&handled, 1);
	if (web_not_modified(req, res, "v-%s", web_param(req, "id")))
		return;
	json_init(&w, &res->body);
	json_text(&w, web_param(req, "id"));
}

static void
delete_order(struct web_request *req, struct web_response *res)
{

	(void)req;
	res->status = 204;
}

static void
get_list(struct web_request *req, struct web_response *res)
{
	static const char *const names[] = {"status", "limit", "after", NULL};
	char status[8] = "any", after[ID_UUID_SIZE] = "";
	int64_t limit = 20;
	struct json_writer w;

	if (web_query_only(req, res, names) == -1 ||
	    web_query_text(req, res, "status", status, sizeof(status)) == -1 ||
	    web_query_i64(req, res, "limit", 1, 100, &limit) == -1 ||
	    web_query_uuid(req, res, "after", after) == -1)
		return;
	json_init(&w, &res->body);
	json_object_open(&w);
	json_member_text(&w, "status", status);
	json_member_i64(&w, "limit", limit);
	if (after[0] != '\0')
		json_member_text(&w, "after", after);
	json_object_close(&w);
}

static void
get_injected(struct web_request *req, struct web_response *res)
{

	(void)req;
	strcpy(res->location, "/a\r\nX-Evil: 1");
	strcpy(res->etag, "a\r\nX-Evil: 2");
	res->content_type = "text/plain\r\nX-Evil: 3";
}

/* Stays until the test opens the gate. */
static void
get_gate(struct web_request *req, struct web_response *res)
{
	int now = atomic_fetch_add(&inside, 1) + 1, seen;

	(void)req;
	seen = atomic_load(&most_inside);
	while (seen < now &&
	    !atomic_compare_exchange_weak(&most_inside, &seen, now))
		;
	while (!atomic_load(&gate_open))
		usleep(1000);
	atomic_fetch_sub(&inside, 1);
	buffer_add_text(&res->body, "\"through\"");
}

/* Answered when the test says so; "now" before its handler has returned. */
#define LATER_MOST 260 /* as many as may be under way with 4 threads */
static struct {
	struct web_request *req;
	struct web_response *res;
	char *room;
} later[LATER_MOST];
static atomic_int later_count;

static void
get_later(struct web_request *req, struct web_response *res)
{
	int i;

	web_defer(req);
	if (strcmp(web_param(req, "id"), "now") == 0) {
		buffer_add_text(&res->body, "\"now\"");
		web_resume(req);
		return;
	}
	i = atomic_load(&later_count);
	later[i].req = req;
	later[i].res = res;
	/* Of whatever size, and nobody else's until then. */
	later[i].room = web_room(req, 64 + 100 * (size_t)(i % 7));
	assert_non_null(later[i].room);
	snprintf(later[i].room, 64, "\"%s\"", web_param(req, "id"));
	atomic_store(&later_count, i + 1);
}

/* Answer them, with what their paths said. */
static void
resume_all(void)
{
	int i, count = atomic_exchange(&later_count, 0);

	for (i = 0; i < count; i++) {
		buffer_add_text(&later[i].res->body, later[i].room);
		web_resume(later[i].req);
	}
}

static void
get_large(struct web_request *req, struct web_response *res)
{
	int i;

	(void)req;
	buffer_add_text(&res->body, "\"");
	for (i = 0; i < 100000; i++)
		buffer_add_text(&res->body, "0123456789");
	buffer_add_text(&res->body, "\"");
}

static void
get_failed(struct web_request *req, struct web_response *res)
{
	struct mr_error err;

	mr_error_set(&err,
	    strcmp(web_param(req, "how"), "retry") == 0      ? MR_RETRY :
		strcmp(web_param(req, "how"), "reject") == 0 ? MR_REJECT :
							       MR_FATAL,
	    "secret %s of /the/place/orders.db: /the/place/orders.db-wal",
	    web_param(req, "how"));
	web_problem_error(res, &err);
}

static void
get_body(struct web_request *req, struct web_response *res)
{
	struct json_writer w;

	json_init(&w, &res->body);
	json_text(&w, web_param(req, "id"));
	web_not_modified_body(req, res);
}

static int
lost(void *arg, char *reason, size_t reason_size)
{

	(void)arg;
	snprintf(reason, reason_size, "/the/place/orders.db is gone");
	return (0);
}

static const struct web_route routes[] = {
    {"POST", "/orders", post_order},
    {"GET", "/orders", get_list},
    {"GET", "/orders/{id}", get_order},
    {"DELETE", "/orders/{id}", delete_order},
    {"GET", "/injected", get_injected},
    {"GET", "/gate", get_gate},
    {"GET", "/later/{id}", get_later},
    {"GET", "/large", get_large},
    {"GET", "/failed/{how}", get_failed},
    {"GET", "/body/{id}", get_body},
    {NULL, NULL, NULL},
};

static int
ready(void *arg, char *reason, size_t reason_size)
{
	const int *is_ready = arg;

	if (is_ready == NULL || *is_ready)
		return (1);
	snprintf(reason, reason_size, "the \"broker\" is away");
	return (0);
}

/* ---- without a socket --------------------------------------------------- */

static struct web_table table;
static struct web_exchange x;
static struct web_reader reader;

static int
setup_seam(void **state)
{
	const struct web_conf conf = {.routes = routes, .ready = ready};

	(void)state;
	if (web_table_init(&table, &conf, NULL) == -1)
		return (-1);
	web_exchange_init(&x, &table);
	return (0);
}

static int
teardown_seam(void **state)
{

	(void)state;
	web_exchange_done(&x);
	return (0);
}

/* Run one request; the answer is in x. */
static void
run(const struct web_input *in, const char *body)
{
	char length[32];
	struct web_input with_length = *in;
	size_t expected;

	if (body != NULL && in->content_length == NULL) {
		snprintf(length, sizeof(length), "%zu", strlen(body));
		with_length.content_length = length;
	}
	expected = web_begin(&x, &with_length);
	if (body != NULL && expected == strlen(body))
		buffer_add_text(&x.body, body);
	web_answer(&x);
	web_head(&x);
	web_count(&x, 1);
}

static int
head_has(const char *line)
{

	return (strstr(buffer_text(&x.head), line) != NULL);
}

static void
test_paths_reach_their_handlers(void **state)
{
	static const struct {
		const char *method, *uri, *script;
		int status;
	} cases[] = {
	    {"GET", "/orders", NULL, 200},
	    {"GET", "/orders?limit=3", NULL, 200},
	    {"HEAD", "/orders", NULL, 200},
	    {"GET", "/orders/7", NULL, 200},
	    {"DELETE", "/orders/7", NULL, 204},
	    {"GET", "/orders/a%20b", NULL, 200},
	    {"GET", "/%6frders", NULL, 200},
	    {"GET", "/orders/%25%34%31", NULL, 200},
	    {"GET", "/livez", NULL, 200},
	    {"GET", "/services/orders-1/livez", "/livez", 200},
	    {"GET", "/services/orders-1/livez", NULL, 404},
	    {"GET", "/metrics", NULL, 200},
	    {"GET", "/", NULL, 404},
	    {"GET", "/orders/", NULL, 404},
	    {"GET", "//orders", NULL, 404},
	    {"GET", "/orders/7/8", NULL, 404},
	    {"GET", "/orders/a%2fb", NULL, 200},
	    {"GET", "/orders/a%2fb/c", NULL, 404},
	    {"GET", "/orders%2fb", NULL, 404},
	    {"GET", "/orders/a%2f..%2fb", NULL, 200},
	    {"GET", "/orders/%2f", NULL, 200},
	    {"GET", "%2forders", NULL, 400},
	    {"GET", "/orders/.", NULL, 404},
	    {"GET", "/orders/..", NULL, 404},
	    {"GET", "/orders/%2e%2E", NULL, 404},
	    {"GET", "/../orders/7", NULL, 404},
	    {"GET", "/orders/...", NULL, 200},
	    {"POST", "/orders/7", NULL, 405},
	    {"BREW", "/orders", NULL, 405},
	    {"", "/orders", NULL, 405},
	    {"POST", "/livez", NULL, 405},
	    {"GET", "/orders/%00", NULL, 400},
	    {"GET", "/orders/%0a", NULL, 400},
	    {"GET", "/orders/%7f", NULL, 400},
	    {"GET", "/orders/%", NULL, 400},
	    {"GET", "/orders/%4", NULL, 400},
	    {"GET", "/orders/%zz", NULL, 400},
	    {"GET", "/orders/%ff", NULL, 400},
	    {"GET", "/orders/%c0%af", NULL, 400},
	    {"GET", "/x", "/orders/\xff", 400},
	    {"GET", "orders", NULL, 400},
	    {"GET", "http://h/orders", NULL, 400},
	    {"GET", "", NULL, 400},
	    {"GET", NULL, NULL, 400},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		run(&(struct web_input){.method = cases[i].method,
			.request_uri = cases[i].uri,
			.script_name = cases[i].script},
		    NULL);
		if (x.res.status != cases[i].status)
			fail_msg("%s %s: %d, expected %d", cases[i].method,
			    cases[i].uri, x.res.status, cases[i].status);
	}
}

static void
test_parameters_are_decoded_once(void **state)
{

	(void)state;
	run(&(struct web_input){.method = "GET",
		.request_uri = "/orders/%2541%C3%A9"},
	    NULL);
	assert_int_equal(x.res.status, 200);
	assert_string_equal(buffer_text(&x.res.body), "\"%41\xc3\xa9\"");
	run(&(struct web_input){.method = "GET",
		.request_uri = "/orders/a%2Fb%2f%2e."},
	    NULL);
	assert_string_equal(buffer_text(&x.res.body), "\"a/b/..\"");
}

static void
test_long_paths_and_queries_get_414(void **state)
{
	char uri[8000];

	(void)state;
	memset(uri, 'a', sizeof(uri));
	memcpy(uri, "/orders/", 8);
	uri[WEB_PATH_MOST] = '\0';
	run(&(struct web_input){.method = "GET", .request_uri = uri}, NULL);
	assert_int_equal(x.res.status, 200);
	uri[WEB_PATH_MOST] = 'a';
	uri[WEB_PATH_MOST + 1] = '\0';
	run(&(struct web_input){.method = "GET", .request_uri = uri}, NULL);
	assert_int_equal(x.res.status, 414);
	run(&(struct web_input){.method = "GET", .script_name = uri}, NULL);
	assert_int_equal(x.res.status, 414);
	memset(uri, 'a', sizeof(uri));
	memcpy(uri, "/orders?", 8);
	uri[8 + WEB_QUERY_MOST + 1] = '\0';
	run(&(struct web_input){.method = "GET", .request_uri = uri}, NULL);
	assert_int_equal(x.res.status, 414);
}

static void
test_405_names_the_methods_that_a_path_takes(void **state)
{

	(void)state;
	run(&(struct web_input){.method = "PUT", .request_uri = "/orders/1"},
	    NULL);
	assert_int_equal(x.res.status, 405);
	assert_true(head_has("Status: 405 Method Not Allowed\r\n"));
	assert_true(head_has("\r\nAllow: GET, HEAD, DELETE\r\n"));
	run(&(struct web_input){.method = "PUT", .request_uri = "/orders"},
	    NULL);
	assert_true(head_has("\r\nAllow: POST, GET, HEAD\r\n"));
	run(&(struct web_input){.method = "GET", .request_uri = "/orders"},
	    NULL);
	assert_false(head_has("Allow"));
}

static void
test_problems_say_what_and_where(void **state)
{
	json_t *doc;

	(void)state;
	run(&(struct web_input){.method = "GET",
		.request_uri = "/no%20such%22thing"},
	    NULL);
	assert_true(head_has("\r\nContent-Type: application/problem+json\r\n"));
	assert_true(head_has("\r\nCache-Control: no-store\r\n"));
	doc = json_loads(buffer_text(&x.res.body), 0, NULL);
	assert_non_null(doc);
	assert_string_equal(json_string_value(json_object_get(doc, "type")),
	    "about:blank");
	assert_string_equal(json_string_value(json_object_get(doc, "title")),
	    "Not Found");
	assert_int_equal(json_integer_value(json_object_get(doc, "status")),
	    404);
	assert_string_equal(json_string_value(json_object_get(doc, "instance")),
	    "/no such\"thing");
	json_decref(doc);
}

static void
test_errors_become_the_status_of_their_kind(void **state)
{

	(void)state;
	run(&(struct web_input){.method = "GET",
		.request_uri = "/failed/retry"},
	    NULL);
	assert_int_equal(x.res.status, 503);
	assert_true(head_has("\r\nRetry-After: 1\r\n"));
	run(&(struct web_input){.method = "GET",
		.request_uri = "/failed/reject"},
	    NULL);
	assert_int_equal(x.res.status, 422);
	assert_non_null(strstr(buffer_text(&x.res.body), "secret reject"));
	run(&(struct web_input){.method = "GET",
		.request_uri = "/failed/fatal"},
	    NULL);
	assert_int_equal(x.res.status, 500);
	assert_null(strstr(buffer_text(&x.res.body), "secret"));
}

static void
test_query_parameters_are_read_or_refused(void **state)
{
	static const struct {
		const char *query;
		int status;
		const char *text; /* in the body */
	} cases[] = {
	    {"", 200, "{\"status\":\"any\",\"limit\":20}"},
	    {"limit=5&status=NEW", 200, "{\"status\":\"NEW\",\"limit\":5}"},
	    {"&&limit=5&", 200, "\"limit\":5"},
	    {"status=a+b%21", 200, "\"a b!\""},
	    {"status=", 200, "\"status\":\"\""},
	    {"status", 200, "\"status\":\"\""},
	    {"st%61tus=x", 200, "\"status\":\"x\""},
	    {"status=a=b", 200, "\"a=b\""},
	    {"status=1234567", 200, "\"1234567\""},
	    {"status=12345678", 422, "\"field\":\"status\""},
	    {"status=%ff", 422, "\"field\":\"status\""},
	    {"status=%00", 422, "\"field\":\"status\""},
	    {"status=%", 422, "\"field\":\"status\""},
	    {"status=a&status=b", 422, "more than once"},
	    {"limit=100", 200, "\"limit\":100"},
	    {"limit=101", 422, "from 1 to 100"},
	    {"limit=0", 422, "\"field\":\"limit\""},
	    {"limit=-1", 422, "\"field\":\"limit\""},
	    {"limit=", 422, "\"field\":\"limit\""},
	    {"limit=+5", 422, "\"field\":\"limit\""},
	    {"limit=%2B5", 422, "\"field\":\"limit\""},
	    {"limit=5x", 422, "\"field\":\"limit\""},
	    {"limit=0x5", 422, "\"field\":\"limit\""},
	    {"limit=99999999999999999999", 422, "\"field\":\"limit\""},
	    {"after=017f22e2-79b0-7CC3-98c4-dc0c0c07398F", 200,
		"\"after\":\"017f22e2-79b0-7cc3-98c4-dc0c0c07398f\""},
	    {"after=", 422,
		"\"errors\":[{\"field\":\"after\","
		"\"message\":\"must be a UUID\"}]"},
	    {"after=7", 422, "\"field\":\"after\""},
	    {"after=017f22e2-79b0-7cc3-98c4-dc0c0c07398f0", 422,
		"\"field\":\"after\""},
	    {"after=017f22e2-79b0-7cc3-98c4-dc0c0c07398f00000", 422,
		"\"field\":\"after\""},
	    {"colour=red&size=1", 422, "\"field\":\"colour\""},
	    {"colour=red&size=1", 422, "\"field\":\"size\""},
	    {"%ff=1", 422, "\"field\":\"?\""},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		run(&(struct web_input){.method = "GET",
			.request_uri = "/orders",
			.query = cases[i].query},
		    NULL);
		if (x.res.status != cases[i].status ||
		    strstr(buffer_text(&x.res.body), cases[i].text) == NULL)
			fail_msg("?%s: %d %s", cases[i].query, x.res.status,
			    buffer_text(&x.res.body));
	}
}

static void
test_json_bodies_are_read_or_refused(void **state)
{
	static const struct {
		const char *body;
		int status;
		const char *text;
	} cases[] = {
	    {"{\"item\":\"Laptop\",\"quantity\":1}", 201,
		"{\"item\":\"Laptop\",\"quantity\":1,\"note\":\"none\"}"},
	    {" {\"quantity\":1000,\"note\":\"n\",\"item\":\"a\"}\n", 201,
		"\"note\":\"n\""},
	    {"{\"item\":\"a\",\"quantity\":2.0}", 201, "\"quantity\":2"},
	    {"{\"item\":\"a\",\"quantity\":1e2}", 201, "\"quantity\":100"},
	    {"{\"item\":\"\\u00e9\",\"quantity\":1}", 201, "\xc3\xa9"},
	    {"{\"item\":\"123456789012345\",\"quantity\":1}", 201, "345"},
	    {"{\"item\":\"1234567890123456\",\"quantity\":1}", 422,
		"\"field\":\"item\""},
	    {"{\"item\":\"\",\"quantity\":1}", 422, "must not be blank"},
	    {"{\"item\":7,\"quantity\":1}", 422, "must be a text"},
	    {"{\"item\":null,\"quantity\":1}", 422, "\"field\":\"item\""},
	    {"{\"item\":\"a\",\"quantity\":0}", 422, "from 1 to 1000"},
	    {"{\"item\":\"a\",\"quantity\":1001}", 422, "from 1 to 1000"},
	    {"{\"item\":\"a\",\"quantity\":1.5}", 422, "whole number"},
	    {"{\"item\":\"a\",\"quantity\":\"1\"}", 422, "from 1 to 1000"},
	    {"{\"item\":\"a\",\"quantity\":true}", 422, "from 1 to 1000"},
	    {"{\"item\":\"a\",\"quantity\":null}", 422, "from 1 to 1000"},
	    {"{\"item\":\"a\",\"quantity\":1e300}", 422, "whole number"},
	    {"{\"item\":\"a\",\"quantity\":99999999999999999999}", 422,
		"\"field\":\"quantity\""},
	    {"{}", 422, "\"field\":\"item\",\"message\":\"must be given\""},
	    {"{}", 422, "\"field\":\"quantity\""},
	    {"{\"item\":\"\",\"colour\":1,\"quantity\":0}", 422,
		"\"field\":\"colour\""},
	    {"{\"item\":\"a\",\"item\":\"b\",\"quantity\":1}", 422,
		"\"field\":\"item\",\"message\":\"must not be given twice\""},
	    {"{\"n\\\"o\\\\\":1,\"n\\\"o\\\\\":2}", 422,
		"\"field\":\"n\\\"o\\\\\""},
	    {"{\"a name of many characters\":1,"
	     "\"a name of many\\u0020characters\":2}",
		422, "\"field\":\"a name of many characters\""},
	    {"", 400, "not JSON"},
	    {"{", 400, "not JSON"},
	    {"{\"item\":\"a\",\"quantity\":1}x", 400, "not JSON"},
	    {"{\"item\":\"a\",\"quantity\":01}", 400, "not JSON"},
	    {"{\"item\":\"a\\u0000\",\"quantity\":1}", 422,
		"\"field\":\"item\""},
	    {"{\"item\":\"a\",\"quantity\":1,\"no\\u0000te\":1}", 422,
		"\"field\":\"no"},
	    {"{\"item\":\"\xff\",\"quantity\":1}", 400, "not JSON"},
	    {"{\"item\":\"a\",\"quantity\":1e999}", 422,
		"\"field\":\"quantity\""},
	    {"{\"item\":\"1e999\",\"quantity\":-10.25E+400}", 422,
		"\"field\":\"quantity\""},
	    {"{\"item\":1e400,\"quantity\":2,\"b\":[2e400]}", 422,
		"\"field\":\"item\",\"message\":\"must be a text\""},
	    {"{\"item\":\"a\\\"1e400\",\"quantity\":1e400}", 422,
		"\"errors\":[{\"field\":\"quantity\""},
	    {"{\"quantity\":1.e999}", 400, "not JSON"},
	    {"{\"quantity\":01e999}", 400, "not JSON"},
	    {"{\"quantity\":1e999e}", 400, "not JSON"},
	    {"{\"quantity\":[1e999}", 400, "not JSON"},
	    {"[]", 400, "must be a JSON object"},
	    {"7", 400, "JSON"},
	    {"null", 400, "JSON"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		run(&(struct web_input){.method = "POST",
			.request_uri = "/orders",
			.content_type = "application/json"},
		    cases[i].body);
		if (x.res.status != cases[i].status ||
		    strstr(buffer_text(&x.res.body), cases[i].text) == NULL)
			fail_msg("%s: %d %s", cases[i].body, x.res.status,
			    buffer_text(&x.res.body));
	}
}

static void
test_deep_json_is_refused_before_it_is_parsed(void **state)
{
	char body[60001];

	(void)state;
	memset(body, '[', sizeof(body) - 1);
	body[sizeof(body) - 1] = '\0';
	run(&(struct web_input){.method = "POST",
		.request_uri = "/orders",
		.content_type = "application/json"},
	    body);
	assert_int_equal(x.res.status, 400);
	assert_non_null(strstr(buffer_text(&x.res.body), "nested"));
	/* Brackets in a text are only text. */
	run(&(struct web_input){.method = "POST",
		.request_uri = "/orders",
		.content_type = "application/json"},
	    "{\"item\":\"[[\\\"[[\",\"quantity\":1,\"note\":\"\","
	    "\"a[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\":1}");
	assert_int_equal(x.res.status, 422);
}

static void
test_bodies_must_be_json_by_their_type(void **state)
{
	static const struct {
		const char *type;
		int status;
	} cases[] = {
	    {"application/json", 201},
	    {"Application/JSON; charset=utf-8", 201},
	    {"application/json;charset=\"UTF-8\"", 201},
	    {"application/json ; v=1 ; CHARSET=utf-8 ; q=1", 201},
	    {"application/json; charset=utf-16", 415},
	    {"application/json; charset=\"utf-16\"", 415},
	    {"application/json; v=1;Charset=iso-8859-1", 415},
	    {"application/json; charset=utf-8; charset=utf-7", 415},
	    {"application/json; charset=utf-80", 415},
	    {"application/json; charset=\"utf-8", 415},
	    {"application/json; charset=", 415},
	    {"application/vnd.example+json", 201},
	    {"application/+json", 415},
	    {"application/jsonp", 415},
	    {"application/", 415},
	    {"text/plain", 415},
	    {"application/x-www-form-urlencoded", 415},
	    {"", 415},
	    {NULL, 415},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		run(&(struct web_input){.method = "POST",
			.request_uri = "/orders",
			.content_type = cases[i].type},
		    "{\"item\":\"a\",\"quantity\":1}");
		if (x.res.status != cases[i].status)
			fail_msg("%s: %d",
			    cases[i].type != NULL ? cases[i].type : "none",
			    x.res.status);
	}
	/* No body needs no type, but no handler takes one for an object. */
	run(&(struct web_input){.method = "POST", .request_uri = "/orders"},
	    "");
	assert_int_equal(x.res.status, 415);
}

static void
test_lengths_are_digits_and_bounded(void **state)
{
	static const struct {
		const char *length;
		int status;
	} cases[] = {
	    {"65537", 413},
	    {"9223372036854775807", 413},
	    {"18446744073709551615", 400},
	    {"99999999999999999999999", 400},
	    {"-1", 400},
	    {"+5", 400},
	    {" 5", 400},
	    {"5 ", 400},
	    {"0x10", 400},
	    {"1,1", 400},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		run(&(struct web_input){.method = "POST",
			.request_uri = "/orders",
			.content_type = "application/json",
			.content_length = cases[i].length},
		    NULL);
		if (x.res.status != cases[i].status)
			fail_msg("%s: %d", cases[i].length, x.res.status);
	}
	assert_int_equal(web_begin(&x,
			     &(struct web_input){.method = "POST",
				 .request_uri = "/orders",
				 .content_type = "application/json",
				 .content_length = "65536"}),
	    65536);
}

static void
test_writes_from_other_sites_are_refused(void **state)
{
	static const struct {
		const char *method, *site, *origin, *host;
		int status;
	} cases[] = {
	    {"DELETE", NULL, NULL, "localhost:8000", 204},
	    {"DELETE", "same-origin", "http://localhost:8000", "localhost:8000",
		204},
	    {"DELETE", "none", NULL, "localhost:8000", 204},
	    {"DELETE", NULL, "http://LOCALHOST:8000", "localhost:8000", 204},
	    {"DELETE", "same-site", NULL, "localhost:8000", 403},
	    {"DELETE", "cross-site", NULL, "localhost:8000", 403},
	    {"DELETE", "", NULL, "localhost:8000", 403},
	    {"DELETE", NULL, "http://localhost:8001", "localhost:8000", 403},
	    {"DELETE", NULL, "http://localhost", "localhost:8000", 403},
	    {"DELETE", NULL, "http://evil.example", "localhost:8000", 403},
	    {"DELETE", NULL, "null", "localhost:8000", 403},
	    {"DELETE", NULL, "", "localhost:8000", 403},
	    {"DELETE", NULL, "http://localhost:8000", NULL, 403},
	    {"DELETE", "same-origin", "http://evil.example", "localhost:8000",
		403},
	    {"OPTIONS", "cross-site", NULL, "localhost:8000", 403},
	    {"GET", "cross-site", "http://evil.example", "localhost:8000", 200},
	    {"HEAD", "cross-site", NULL, "localhost:8000", 200},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		run(&(struct web_input){.method = cases[i].method,
			.request_uri = "/orders/1",
			.fetch_site = cases[i].site,
			.origin = cases[i].origin,
			.host = cases[i].host},
		    NULL);
		if (x.res.status != cases[i].status)
			fail_msg("case %zu: %d", i, x.res.status);
	}
}

static void
test_idempotency_keys_are_visible_ascii(void **state)
{
	char longest[257];
	static const struct {
		const char *key;
		int status;
	} cases[] = {
	    {"a", 204},
	    {"\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", 204},
	    {"", 400},
	    {"a b", 400},
	    {"a\tb", 400},
	    {"\xc3\xa9", 400},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		run(&(struct web_input){.method = "DELETE",
			.request_uri = "/orders/1",
			.idempotency_key = cases[i].key},
		    NULL);
		if (x.res.status != cases[i].status)
			fail_msg("%s: %d", cases[i].key, x.res.status);
		if (cases[i].status == 204)
			assert_string_equal(x.req.idempotency_key,
			    cases[i].key);
		else
			assert_null(x.req.idempotency_key);
	}
	memset(longest, 'k', sizeof(longest));
	longest[255] = '\0';
	run(&(struct web_input){.method = "DELETE",
		.request_uri = "/orders/1",
		.idempotency_key = longest},
	    NULL);
	assert_int_equal(x.res.status, 204);
	longest[255] = 'k';
	longest[256] = '\0';
	run(&(struct web_input){.method = "DELETE",
		.request_uri = "/orders/1",
		.idempotency_key = longest},
	    NULL);
	assert_int_equal(x.res.status, 400);
}

static void
test_no_answer_says_where_the_file_is(void **state)
{
	static const char *const paths[] = {"/failed/retry", "/failed/reject",
	    "/failed/fatal", "/readyz"};
	size_t i;

	(void)state;
	table.conf.db_path = "/the/place/orders.db";
	table.conf.ready = lost;
	for (i = 0; i < COUNT(paths); i++) {
		run(&(struct web_input){.method = "GET",
			.request_uri = paths[i]},
		    NULL);
		assert_true(x.res.status >= 400);
		assert_null(strstr(buffer_text(&x.res.body), "place"));
		if (x.res.status != 500)
			assert_non_null(
			    strstr(buffer_text(&x.res.body), "orders.db"));
	}
}

static void
test_an_etag_of_the_body_is_that_body_s(void **state)
{
	char first[80];

	(void)state;
	run(&(struct web_input){.method = "GET", .request_uri = "/body/a"},
	    NULL);
	assert_int_equal(x.res.status, 200);
	snprintf(first, sizeof(first), "\"%s\"", x.res.etag);
	run(&(struct web_input){.method = "GET",
		.request_uri = "/body/a",
		.if_none_match = first},
	    NULL);
	assert_int_equal(x.res.status, 304);
	assert_int_equal(x.res.body.length, 0);
	run(&(struct web_input){.method = "GET",
		.request_uri = "/body/b",
		.if_none_match = first},
	    NULL);
	assert_int_equal(x.res.status, 200);
	assert_string_equal(buffer_text(&x.res.body), "\"b\"");
}

static void
test_etags_are_compared_weakly_in_lists(void **state)
{
	static const struct {
		const char *list;
		int status;
	} cases[] = {
	    {NULL, 200},
	    {"\"v-1\"", 304},
	    {"W/\"v-1\"", 304},
	    {"\"a\", W/\"b\" ,\"v-1\"", 304},
	    {"\"a,b\",\"v-1\"", 304},
	    {"*", 304},
	    {"\"v-2\"", 200},
	    {"\"v-11\"", 200},
	    {"\"v-\"", 200},
	    {"v-1", 200},
	    {"\"v-1", 200},
	    {"\"\"", 200},
	    {"", 200},
	    {"w/\"v-1\"", 200},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		run(&(struct web_input){.method = "GET",
			.request_uri = "/orders/1",
			.if_none_match = cases[i].list},
		    NULL);
		if (x.res.status != cases[i].status)
			fail_msg("%s: %d",
			    cases[i].list != NULL ? cases[i].list : "none",
			    x.res.status);
		assert_true(head_has("\r\nETag: \"v-1\"\r\n"));
		assert_int_equal(head_has("Content-Length"),
		    x.res.status == 200);
		if (x.res.status == 304)
			assert_int_equal(x.res.body.length, 0);
	}
}

static void
test_headers_can_not_be_injected(void **state)
{

	(void)state;
	run(&(struct web_input){.method = "GET", .request_uri = "/injected"},
	    NULL);
	assert_false(head_has("X-Evil"));
	assert_false(head_has("Location"));
	assert_false(head_has("ETag"));
	assert_true(head_has("application/octet-stream"));
	strcpy(x.res.location, "/a\x7f");
	web_head(&x);
	assert_false(head_has("Location"));
	strcpy(x.res.location, "/\xc3\xa9");
	web_head(&x);
	assert_false(head_has("Location"));
	strcpy(x.res.location, "/a");
	web_head(&x);
	assert_true(head_has("Location: /a\r\n"));
}

static void
test_health_says_why_not(void **state)
{
	int is_ready = 0;

	(void)state;
	table.conf.arg = &is_ready;
	run(&(struct web_input){.method = "GET", .request_uri = "/readyz"},
	    NULL);
	assert_int_equal(x.res.status, 503);
	assert_string_equal(buffer_text(&x.res.body),
	    "{\"status\":\"unavailable\","
	    "\"reason\":\"the \\\"broker\\\" is away\"}\n");
	run(&(struct web_input){.method = "GET", .request_uri = "/livez"},
	    NULL);
	assert_int_equal(x.res.status, 200);
	is_ready = 1;
	run(&(struct web_input){.method = "GET", .request_uri = "/readyz"},
	    NULL);
	assert_string_equal(buffer_text(&x.res.body), "{\"status\":\"ok\"}\n");
	assert_true(head_has("no-store"));
	table.conf.arg = NULL;
}

static void
test_metrics_have_patterns_for_labels_and_never_paths(void **state)
{

	(void)state;
	run(&(struct web_input){.method = "GET",
		.request_uri = "/orders/secret-id"},
	    NULL);
	run(&(struct web_input){.method = "BREW",
		.request_uri = "/nowhere/secret-id"},
	    NULL);
	run(&(struct web_input){.method = "GET", .request_uri = "/metrics"},
	    NULL);
	assert_true(head_has(
	    "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
	assert_null(strstr(buffer_text(&x.res.body), "secret-id"));
	assert_null(strstr(buffer_text(&x.res.body), "BREW"));
	assert_non_null(strstr(buffer_text(&x.res.body),
	    "millrace_http_requests_total{route=\"/orders/{id}\","
	    "method=\"GET\",status=\"2xx\"}"));
	assert_non_null(strstr(buffer_text(&x.res.body),
	    "millrace_http_request_duration_seconds_count{"
	    "route=\"none\"}"));
	run(&(struct web_input){.method = "GET",
		.request_uri = "/metrics",
		.accept = "application/openmetrics-text;version=1.0.0"},
	    NULL);
	assert_true(head_has("Content-Type: application/openmetrics-text; "
			     "version=1.0.0; charset=utf-8\r\n"));
	assert_non_null(strstr(buffer_text(&x.res.body), "\n# EOF\n"));
}

static void
test_a_request_leaves_nothing_to_the_next(void **state)
{

	(void)state;
	run(&(struct web_input){.method = "POST",
		.request_uri = "/orders",
		.content_type = "application/json",
		.idempotency_key = "k"},
	    "{\"item\":\"a\",\"quantity\":1}");
	assert_true(head_has("Location: /orders/a\r\n"));
	run(&(struct web_input){.method = "GET", .request_uri = "/large"},
	    NULL);
	run(&(struct web_input){.method = "GET", .request_uri = "/orders"},
	    NULL);
	assert_int_equal(x.res.status, 200);
	assert_false(head_has("Location"));
	assert_null(x.req.idempotency_key);
	assert_string_equal(x.req.body, "");
	assert_string_equal(buffer_text(&x.res.body),
	    "{\"status\":\"any\",\"limit\":20}\n");
	assert_true(x.res.body.capacity < 1000000);
}

/* ---- the reader --------------------------------------------------------- */

static char folder[64];

static const struct store_migration migrations[] = {
    {1, "value", "CREATE TABLE value (n INTEGER PRIMARY KEY NOT NULL) STRICT;"},
    {0},
};
static const char sql_put[] = "INSERT INTO value (n) VALUES (?1)";
static const char sql_get[] = "SELECT n FROM value";

static void
get_value(struct web_request *req, struct web_response *res)
{
	struct mr_error err;
	int64_t n = -1;

	if (store_find(req->reader, &err, &n, sql_get) == -1)
		web_problem_error(res, &err);
	else
		buffer_add_i64(&res->body, n);
}

static void
make_file(const char *path, int64_t n)
{
	const struct store_options options = {.path = path,
	    .service = "sample",
	    .own = migrations};
	struct mr_error err;
	struct store *st;

	if ((st = store_open(&options, &err)) == NULL)
		fail_msg("%s", err.message);
	assert_int_equal(store_begin(st, &err), 0);
	assert_int_equal(store_run(st, &err, sql_put, store_i64(n)), 1);
	assert_int_equal(store_commit(st, &err), 0);
	store_close(st);
}

static void
test_a_reader_is_opened_late_and_follows_a_replaced_file(void **state)
{
	static const struct web_route value_routes[] = {{"GET", "/value",
							    get_value},
	    {NULL, NULL, NULL}};
	static const struct web_input in = {.method = "GET",
	    .request_uri = "/value"};
	static const char *const left[] = {"a", "a-wal", "a-shm", "a.writer",
	    "b-wal", "b-shm", "b.writer"};
	char a[128], b[128];
	const struct web_conf conf = {.routes = value_routes,
	    .db_path = a,
	    .read_deadline_ms = 1000};
	size_t i;

	(void)state;
	snprintf(a, sizeof(a), "%s/a", folder);
	snprintf(b, sizeof(b), "%s/b", folder);
	assert_int_equal(web_table_init(&table, &conf, NULL), 0);
	web_exchange_init(&x, &table);
	x.reader = &reader;
	run(&in, NULL);
	assert_int_equal(x.res.status, 503);
	assert_true(head_has("\r\nRetry-After: 1\r\n"));
	make_file(a, 1);
	run(&in, NULL);
	assert_int_equal(x.res.status, 200);
	assert_string_equal(buffer_text(&x.res.body), "1");
	make_file(b, 2);
	assert_int_equal(rename(b, a), 0);
	reader.checked_us = 0; /* as if a second had passed */
	run(&in, NULL);
	assert_string_equal(buffer_text(&x.res.body), "2");
	assert_int_equal(unlink(a), 0);
	reader.checked_us = 0;
	run(&in, NULL);
	assert_int_equal(x.res.status, 503);
	/* What needs no file is answered without one. */
	run(&(struct web_input){.method = "GET", .request_uri = "/livez"},
	    NULL);
	assert_int_equal(x.res.status, 200);
	web_reader_close(&reader);
	web_exchange_done(&x);
	for (i = 0; i < COUNT(left); i++) {
		snprintf(a, sizeof(a), "%s/%s", folder, left[i]);
		(void)unlink(a);
	}
}

/* ---- over a socket ------------------------------------------------------ */

static struct web_server *server;

static struct web_conf
server_conf(void)
{

	return ((struct web_conf){.listen = address,
	    .threads = 4,
	    .routes = routes,
	    .ready = ready});
}

static int
setup_server(void **state)
{
	const struct web_conf conf = server_conf();
	struct mr_error err;

	(void)state;
	atomic_store(&handled, 0);
	if ((server = web_start(&conf, &err)) == NULL) {
		print_error("%s\n", err.message);
		return (-1);
	}
	return (0);
}

static int
teardown_server(void **state)
{

	(void)state;
	atomic_store(&gate_open, 1);
	return (web_stop(server, WAIT_MS));
}

static void
test_requests_over_a_socket_get_their_answers(void **state)
{
	static const char order[] = "{\"item\":\"Laptop\",\"quantity\":1}";
	static char large[WEB_BODY_MOST + 1];
	static const struct {
		const char *method, *uri, *type, *length;
		const char *body;
		size_t body_size;
		int status;
		const char *text;
	} cases[] = {
	    {"POST", "/orders", "application/json", "30", order, 30, 201,
		"\r\nLocation: /orders/Laptop\r\n"},
	    {"GET", "/orders", "", "", NULL, 0, 200,
		"{\"status\":\"any\",\"limit\":20}"},
	    {"GET", "/orders?limit=7", "", "0", NULL, 0, 200, "\"limit\":7"},
	    {"DELETE", "/orders/1", "", "", NULL, 0, 204, "Status: 204 No"},
	    {"PATCH", "/orders", "", "", NULL, 0, 405, "\r\nAllow: POST, GET"},
	    {"GET", "/nowhere", "", "", NULL, 0, 404, "\"/nowhere\""},
	    {"POST", "/orders", "text/plain", "30", order, 30, 415, ""},
	    {"POST", "/orders", "application/json", "29", order, 29, 400, ""},
	    {"POST", "/orders", "application/json", "2", "{}", 2, 422,
		"\"field\":\"item\""},
	    {"POST", "/orders", "application/json", "65537", large,
		sizeof(large), 413, "65536"},
	    {"POST", "/orders", "application/json", "70000", NULL, 0, 413,
		"65536"},
	    /* forged: longer than said, or said to be no number */
	    {"POST", "/orders", "application/json", "20", order, 30, 400,
		"longer"},
	    {"POST", "/orders", "application/json", "", order, 30, 411, ""},
	    {"POST", "/orders", "application/json", "-30", order, 30, 400, ""},
	    {"POST", "/orders", "application/json", "4294967326", order, 30,
		413, ""},
	};
	struct buffer answer = {.data = NULL};
	size_t i;
	int status;

	(void)state;
	assert_int_equal(sizeof(order) - 1, 30);
	for (i = 0; i < COUNT(cases); i++) {
		status = ask(cases[i].method, cases[i].uri, cases[i].type,
		    cases[i].length, cases[i].body, cases[i].body_size,
		    &answer);
		if (status != cases[i].status ||
		    strstr(buffer_text(&answer), cases[i].text) == NULL)
			fail_msg("case %zu: %d %s", i, status,
			    buffer_text(&answer));
	}
	buffer_free(&answer);
}

static void
test_a_body_of_the_largest_size_is_taken_whole(void **state)
{
	static char body[WEB_BODY_MOST];
	struct buffer answer = {.data = NULL};

	(void)state;
	memset(body, ' ', sizeof(body));
	memcpy(body + sizeof(body) - 30, "{\"item\":\"Laptop\",\"quantity\":1}",
	    30);
	assert_int_equal(ask("POST", "/orders", "application/json", "65536",
			     body, sizeof(body), &answer),
	    201);
	buffer_free(&answer);
}

static void
test_head_gets_the_header_of_get_and_no_body(void **state)
{
	struct buffer get = {.data = NULL}, head = {.data = NULL};
	const char *end;

	(void)state;
	assert_int_equal(ask("GET", "/large", "", "", NULL, 0, &get), 200);
	assert_int_equal(ask("HEAD", "/large", "", "", NULL, 0, &head), 200);
	assert_non_null(
	    strstr(buffer_text(&get), "\r\nContent-Length: 1000002\r\n"));
	end = strstr(buffer_text(&get), "\r\n\r\n");
	assert_non_null(end);
	assert_int_equal(get.length, (size_t)(end + 4 - get.data) + 1000002);
	assert_int_equal(head.length, (size_t)(end + 4 - get.data));
	assert_memory_equal(head.data, get.data, head.length);
	buffer_free(&get);
	buffer_free(&head);
}

/* A short body, ended properly or by the client's leaving. */
static void
test_a_short_body_never_reaches_a_handler(void **state)
{
	struct buffer out = {.data = NULL}, answer = {.data = NULL};
	int fd, way;

	(void)state;
	for (way = 0; way < 5; way++) {
		fd = connect_client();
		buffer_clear(&out);
		add_request(&out, "POST", "/orders", "application/json",
		    /* the last one is all there, but not ended */
		    way < 4 ? "100" : "30", 0);
		add_record(&out, 5, "{\"item\":\"Laptop\",\"quantity\":1}", 30);
		if (way == 0)
			add_record(&out, 5, "", 0);
		if (way == 1)
			buffer_add(&out, "\1\5\0\1\0\100", 6);
		if (way == 2)
			buffer_add(&out, "\1\5\0\1\0\100\0\0{\"it", 12);
		send_all(fd, &out);
		if (way > 0)
			assert_int_equal(shutdown(fd, SHUT_WR), 0);
		assert_int_equal(take_answer(fd, &answer), -1);
		assert_int_equal(answer.length, 0);
		close(fd);
	}
	assert_int_equal(atomic_load(&handled), 0);
	assert_int_equal(ask("GET", "/orders", "", "", NULL, 0, &answer), 200);
	buffer_free(&out);
	buffer_free(&answer);
}

/* Each a connection that says nothing sound; the server goes on. */
static void
test_garbage_is_dropped_and_the_server_goes_on(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
	} cases[] = {
	    {"", 0},
	    {"GET / HTTP/1.1\r\n\r\n", 18},
	    {"\1\1\0\1\0\7\0\0\0\1\0\0\0\0\0", 15},
	    {"\1\1\0\0\0\10\0\0\0\1\0\0\0\0\0\0", 16},
	    {"\1\1\0\1\0\10\0\0\0\7\0\0\0\0\0\0", 16},
	    {"\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0\1\4\0\1\0\4\0\0\11\11ab", 28},
	    {"\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0\1\4\0\1\0\2\0\0\200\1", 26},
	    {"\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0\1\5\0\1\0\0\0\0", 24},
	};
	struct buffer answer = {.data = NULL};
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < COUNT(cases) * 3; i++) {
		fd = connect_client();
		assert_int_equal(send(fd, cases[i % COUNT(cases)].bytes,
				     cases[i % COUNT(cases)].length,
				     MSG_NOSIGNAL),
		    cases[i % COUNT(cases)].length);
		close(fd);
	}
	assert_int_equal(ask("GET", "/orders", "", "", NULL, 0, &answer), 200);
	assert_int_equal(atomic_load(&handled), 0);
	buffer_free(&answer);
}

static void
test_a_client_that_left_harms_nobody(void **state)
{
	struct buffer out = {.data = NULL}, answer = {.data = NULL};
	int fd, i;

	(void)state;
	for (i = 0; i < 8; i++) {
		fd = connect_client();
		buffer_clear(&out);
		add_request(&out, "GET", "/large", "", "", 0);
		add_record(&out, 5, "", 0);
		send_all(fd, &out);
		close(fd);
	}
	assert_int_equal(ask("GET", "/orders", "", "", NULL, 0, &answer), 200);
	buffer_free(&out);
	buffer_free(&answer);
}

static void
test_a_kept_connection_takes_one_request_after_another(void **state)
{
	struct buffer out = {.data = NULL}, answer = {.data = NULL};
	int fd = connect_client(), i;
	char byte;

	(void)state;
	for (i = 0; i < 5; i++) {
		buffer_clear(&out);
		add_request(&out, "GET", i % 2 == 0 ? "/orders/1" : "/no", "",
		    "", 1);
		add_record(&out, 5, "", 0);
		send_all(fd, &out);
		assert_int_equal(take_answer(fd, &answer), 0);
		assert_non_null(strstr(buffer_text(&answer),
		    i % 2 == 0 ? "Status: 200" : "Status: 404"));
	}
	buffer_clear(&out);
	add_request(&out, "GET", "/orders/1", "", "", 0);
	add_record(&out, 5, "", 0);
	send_all(fd, &out);
	assert_int_equal(take_answer(fd, &answer), 0);
	assert_int_equal(read(fd, &byte, 1), 0);
	close(fd);
	buffer_free(&out);
	buffer_free(&answer);
}

struct client {
	pthread_t thread;
	int number;
	int failures;
};

static void *
run_client(void *arg)
{
	struct client *client = arg;
	struct buffer answer = {.data = NULL};
	char uri[64], expected[64];
	int i;

	for (i = 0; i < 200; i++) {
		snprintf(uri, sizeof(uri), "/orders/%d-%d", client->number, i);
		snprintf(expected, sizeof(expected), "\r\n\r\n\"%d-%d\"",
		    client->number, i);
		if (ask("GET", uri, "", "", NULL, 0, &answer) != 200 ||
		    strstr(buffer_text(&answer), expected) == NULL)
			client->failures++;
	}
	buffer_free(&answer);
	return (NULL);
}

static void
test_concurrent_requests_get_their_own_answers(void **state)
{
	struct client clients[8];
	int i;

	(void)state;
	for (i = 0; i < 8; i++) {
		clients[i] = (struct client){.number = i};
		assert_int_equal(pthread_create(&clients[i].thread, NULL,
				     run_client, &clients[i]),
		    0);
	}
	for (i = 0; i < 8; i++) {
		pthread_join(clients[i].thread, NULL);
		assert_int_equal(clients[i].failures, 0);
	}
	assert_int_equal(atomic_load(&handled), 8 * 200);
}

/* Send GET /gate and wait until its handler is inside. */
static int
enter_gate(int expected_inside)
{
	struct buffer out = {.data = NULL};
	int64_t until_us = clock_mono_us() + WAIT_MS * 1000;
	int fd = connect_client();

	add_request(&out, "GET", "/gate", "", "", 0);
	add_record(&out, 5, "", 0);
	send_all(fd, &out);
	buffer_free(&out);
	while (atomic_load(&inside) < expected_inside &&
	    clock_mono_us() < until_us)
		usleep(1000);
	assert_int_equal(atomic_load(&inside), expected_inside);
	return (fd);
}

static void
test_threads_work_at_the_same_time(void **state)
{
	struct buffer answer = {.data = NULL};
	int fds[4], i;

	(void)state;
	atomic_store(&gate_open, 0);
	for (i = 0; i < 4; i++)
		fds[i] = enter_gate(i + 1);
	atomic_store(&gate_open, 1);
	for (i = 0; i < 4; i++) {
		assert_int_equal(take_answer(fds[i], &answer), 0);
		assert_non_null(strstr(buffer_text(&answer), "through"));
		close(fds[i]);
	}
	buffer_free(&answer);
}

/* Send a request that is deferred, and wait until it is. */
static int
defer(const char *uri, int keep)
{
	int64_t until_us = clock_mono_us() + WAIT_MS * 1000;
	struct buffer out = {.data = NULL};
	int fd = connect_client(), before = atomic_load(&later_count);

	add_request(&out, "GET", uri, "", "", keep);
	add_record(&out, 5, "", 0);
	send_all(fd, &out);
	buffer_free(&out);
	while (
	    atomic_load(&later_count) == before && clock_mono_us() < until_us)
		usleep(1000);
	assert_int_equal(atomic_load(&later_count), before + 1);
	return (fd);
}

static void
test_deferred_requests_hold_no_thread(void **state)
{
	struct buffer answer = {.data = NULL};
	int fds[10], i;
	char uri[32], expected[32], byte;

	(void)state;
	for (i = 0; i < 10; i++) {
		snprintf(uri, sizeof(uri), "/later/%d", i);
		fds[i] = defer(uri, 0);
	}
	/* More than there are threads, and others are answered. */
	assert_int_equal(ask("GET", "/orders", "", "", NULL, 0, &answer), 200);
	resume_all();
	for (i = 0; i < 10; i++) {
		snprintf(expected, sizeof(expected), "\r\n\r\n\"%d\"", i);
		assert_int_equal(take_answer(fds[i], &answer), 0);
		assert_non_null(strstr(buffer_text(&answer), expected));
		assert_int_equal(read(fds[i], &byte, 1), 0);
		close(fds[i]);
	}
	buffer_free(&answer);
}

/* All threads wait for a request to end, and many end at once: all go on. */
static void
test_threads_go_on_when_many_deferred_requests_end(void **state)
{
	struct buffer answer = {.data = NULL};
	int fds[LATER_MOST], gates[4], i;
	char uri[32];

	(void)state;
	for (i = 0; i < LATER_MOST; i++) {
		snprintf(uri, sizeof(uri), "/later/%d", i);
		fds[i] = defer(uri, 0);
	}
	resume_all();
	for (i = 0; i < LATER_MOST; i++) {
		assert_int_equal(take_answer(fds[i], &answer), 0);
		close(fds[i]);
	}
	atomic_store(&gate_open, 0);
	for (i = 0; i < 4; i++)
		gates[i] = enter_gate(i + 1);
	atomic_store(&gate_open, 1);
	for (i = 0; i < 4; i++) {
		assert_int_equal(take_answer(gates[i], &answer), 0);
		close(gates[i]);
	}
	buffer_free(&answer);
}

static void
test_a_request_may_be_resumed_before_its_handler_returns(void **state)
{
	struct buffer answer = {.data = NULL};
	int i;

	(void)state;
	for (i = 0; i < 20; i++) {
		assert_int_equal(ask("GET", "/later/now", "", "", NULL, 0,
				     &answer),
		    200);
		assert_non_null(strstr(buffer_text(&answer), "\"now\""));
	}
	buffer_free(&answer);
}

static void
test_a_kept_connection_goes_on_after_a_deferred_answer(void **state)
{
	struct buffer out = {.data = NULL}, answer = {.data = NULL};
	int fd = defer("/later/first", 1);

	(void)state;
	resume_all();
	assert_int_equal(take_answer(fd, &answer), 0);
	assert_non_null(strstr(buffer_text(&answer), "\"first\""));
	add_request(&out, "GET", "/later/now", "", "", 0);
	add_record(&out, 5, "", 0);
	send_all(fd, &out);
	assert_int_equal(take_answer(fd, &answer), 0);
	assert_non_null(strstr(buffer_text(&answer), "\"now\""));
	close(fd);
	buffer_free(&out);
	buffer_free(&answer);
}

static void *
stop_server(void *arg)
{
	int *status = arg;

	*status = web_stop(server, WAIT_MS);
	return (NULL);
}

static void
test_stop_waits_for_deferred_requests(void **state)
{
	int64_t until_us = clock_mono_us() + WAIT_MS * 1000;
	struct buffer answer = {.data = NULL};
	int fd, status = -2;
	pthread_t stopper;

	(void)state;
	assert_int_equal(setup_server(NULL), 0);
	fd = defer("/later/last", 0);
	assert_int_equal(pthread_create(&stopper, NULL, stop_server, &status),
	    0);
	while (access(address + 5, F_OK) == 0 && clock_mono_us() < until_us)
		usleep(1000);
	resume_all();
	assert_int_equal(take_answer(fd, &answer), 0);
	assert_non_null(strstr(buffer_text(&answer), "\"last\""));
	pthread_join(stopper, NULL);
	assert_int_equal(status, 0);
	close(fd);
	buffer_free(&answer);
}

/* Requests under way and those waiting to be accepted are both answered. */
static void
test_stop_answers_what_had_come_and_takes_no_more(void **state)
{
	struct buffer out = {.data = NULL}, answer = {.data = NULL};
	int64_t until_us = clock_mono_us() + WAIT_MS * 1000;
	int fds[6], i, status = -2, idle;
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	pthread_t stopper;

	(void)state;
	assert_int_equal(setup_server(NULL), 0);
	atomic_store(&gate_open, 0);
	for (i = 0; i < 4; i++)
		fds[i] = enter_gate(i + 1);
	add_request(&out, "GET", "/orders/1", "", "", 1);
	add_record(&out, 5, "", 0);
	for (; i < 6; i++) {
		fds[i] = connect_client();
		send_all(fds[i], &out);
	}
	idle = connect_client();
	assert_int_equal(pthread_create(&stopper, NULL, stop_server, &status),
	    0);
	while (access(address + 5, F_OK) == 0 && clock_mono_us() < until_us)
		usleep(1000);
	assert_int_equal(access(address + 5, F_OK), -1);
	strcpy(un.sun_path, address + 5);
	atomic_store(&gate_open, 1);
	for (i = 0; i < 6; i++) {
		assert_int_equal(take_answer(fds[i], &answer), 0);
		assert_non_null(
		    strstr(buffer_text(&answer), i < 4 ? "through" : "\"1\""));
		close(fds[i]);
	}
	pthread_join(stopper, NULL);
	assert_int_equal(status, 0);
	assert_int_equal(read(idle, &i, 1), 0);
	close(idle);
	buffer_free(&out);
	buffer_free(&answer);
}

static void
test_a_live_socket_is_refused_and_a_stale_one_replaced(void **state)
{
	const struct web_conf conf = server_conf();
	struct web_server *first, *second;
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct mr_error err;
	struct stat sb;
	char body[256];
	FILE *file;
	int fd;

	(void)state;
	strcpy(un.sun_path, address + 5);
	assert_true((fd = socket(AF_UNIX, SOCK_STREAM, 0)) != -1);
	assert_int_equal(bind(fd, (const struct sockaddr *)&un, sizeof(un)), 0);
	close(fd);
	assert_non_null(first = web_start(&conf, &err));
	assert_int_equal(lstat(un.sun_path, &sb), 0);
	assert_int_equal(sb.st_mode & 0777, 0660);

	assert_null(second = web_start(&conf, &err));
	assert_int_equal(err.kind, MR_REJECT);
	assert_int_equal(web_probe(address, "/readyz", WAIT_MS, body,
			     sizeof(body), &err),
	    200);
	assert_string_equal(body, "{\"status\":\"ok\"}\n");
	assert_int_equal(web_stop(first, WAIT_MS), 0);
	assert_int_equal(lstat(un.sun_path, &sb), -1);

	/* A file that is something else stays what it is. */
	assert_non_null(file = fopen(un.sun_path, "w"));
	fclose(file);
	assert_null(second = web_start(&conf, &err));
	assert_int_equal(err.kind, MR_REJECT);
	assert_int_equal(unlink(un.sun_path), 0);
	(void)second;
}

static int
open_files(void)
{
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	assert_non_null(dir = opendir("/proc/self/fd"));
	while ((entry = readdir(dir)) != NULL)
		count++;
	closedir(dir);
	return (count);
}

static void
test_start_and_stop_leave_no_descriptors(void **state)
{
	struct web_conf conf = server_conf();
	struct buffer answer = {.data = NULL};
	struct mr_error err;
	int before = open_files();

	(void)state;
	assert_non_null(server = web_start(&conf, &err));
	assert_int_equal(ask("GET", "/orders", "", "", NULL, 0, &answer), 200);
	assert_int_equal(ask("POST", "/orders", "application/json", "9", "{}",
			     2, &answer),
	    -1);
	assert_int_equal(web_stop(server, WAIT_MS), 0);
	assert_int_equal(open_files(), before);
	conf.listen = "unix:/no/such/folder/socket";
	assert_null(web_start(&conf, &err));
	assert_int_equal(open_files(), before);
	buffer_free(&answer);
}

static void
test_stop_removes_no_socket_of_somebody_else(void **state)
{
	const struct web_conf conf = server_conf();
	struct web_server *first, *second;
	struct mr_error err;
	char body[256];

	(void)state;
	assert_non_null(first = web_start(&conf, &err));
	assert_int_equal(unlink(address + 5), 0);
	assert_non_null(second = web_start(&conf, &err));
	assert_int_equal(web_stop(first, WAIT_MS), 0);
	assert_int_equal(web_probe(address, "/livez", WAIT_MS, body,
			     sizeof(body), &err),
	    200);
	assert_int_equal(web_stop(second, WAIT_MS), 0);
}

static void
test_a_probe_reports_what_it_finds(void **state)
{
	struct web_conf conf = server_conf();
	int is_ready = 0;
	struct web_server *first;
	struct mr_error err;
	char body[64];

	(void)state;
	assert_int_equal(web_probe(address, "/readyz", 1000, body, sizeof(body),
			     &err),
	    -1);
	assert_int_equal(err.kind, MR_RETRY);
	conf.arg = &is_ready;
	assert_non_null(first = web_start(&conf, &err));
	assert_int_equal(web_probe(address, "/readyz", WAIT_MS, body,
			     sizeof(body), &err),
	    503);
	assert_non_null(strstr(body, "broker"));
	assert_int_equal(web_stop(first, WAIT_MS), 0);
}

#define DIGITS_60 "012345678901234567890123456789012345678901234567890123456789"
#define LONG_PATH "/" DIGITS_60 DIGITS_60

static void
test_addresses_that_make_no_sense_are_refused(void **state)
{
	static const char *const addresses[] = {"unix:", "nonsense", ":",
	    "a:", "unix:/no/such/folder/socket", "unix:" LONG_PATH};
	struct web_conf conf = server_conf();
	struct mr_error err;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(addresses); i++) {
		conf.listen = addresses[i];
		assert_null(web_start(&conf, &err));
		assert_true(err.message[0] != '\0');
	}
	conf = server_conf();
	conf.threads = 0;
	assert_null(web_start(&conf, &err));
	conf.threads = 4;
	conf.listen = NULL;
	assert_non_null(server = web_start(&conf, &err));
	assert_int_equal(web_stop(server, WAIT_MS), 0);
	assert_int_equal(web_stop(NULL, 0), 0);
}

static void
test_it_serves_over_tcp_as_well(void **state)
{
	struct web_conf conf = server_conf();
	struct web_server *first;
	struct mr_error err;
	char body[64], tcp[32];
	int port;

	(void)state;
	conf.listen = tcp;
	for (port = 20000, first = NULL; port < 20100; port++) {
		snprintf(tcp, sizeof(tcp), "127.0.0.1:%d", port);
		if ((first = web_start(&conf, &err)) != NULL)
			break;
		assert_int_equal(err.kind, MR_REJECT);
	}
	assert_non_null(first);
	assert_null(web_start(&conf, &err));
	assert_int_equal(web_probe(tcp, "/livez", WAIT_MS, body, sizeof(body),
			     &err),
	    200);
	assert_int_equal(web_stop(first, WAIT_MS), 0);
}

#define SEAM(f) cmocka_unit_test_setup_teardown(f, setup_seam, teardown_seam)
#define SERVED(f) \
	cmocka_unit_test_setup_teardown(f, setup_server, teardown_server)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    SEAM(test_paths_reach_their_handlers),
	    SEAM(test_parameters_are_decoded_once),
	    SEAM(test_long_paths_and_queries_get_414),
	    SEAM(test_405_names_the_methods_that_a_path_takes),
	    SEAM(test_problems_say_what_and_where),
	    SEAM(test_errors_become_the_status_of_their_kind),
	    SEAM(test_query_parameters_are_read_or_refused),
	    SEAM(test_json_bodies_are_read_or_refused),
	    SEAM(test_deep_json_is_refused_before_it_is_parsed),
	    SEAM(test_bodies_must_be_json_by_their_type),
	    SEAM(test_lengths_are_digits_and_bounded),
	    SEAM(test_writes_from_other_sites_are_refused),
	    SEAM(test_idempotency_keys_are_visible_ascii),
	    SEAM(test_no_answer_says_where_the_file_is),
	    SEAM(test_an_etag_of_the_body_is_that_body_s),
	    SEAM(test_etags_are_compared_weakly_in_lists),
	    SEAM(test_headers_can_not_be_injected),
	    SEAM(test_health_says_why_not),
	    SEAM(test_metrics_have_patterns_for_labels_and_never_paths),
	    SEAM(test_a_request_leaves_nothing_to_the_next),
	    cmocka_unit_test(
		test_a_reader_is_opened_late_and_follows_a_replaced_file),
	    SERVED(test_requests_over_a_socket_get_their_answers),
	    SERVED(test_a_body_of_the_largest_size_is_taken_whole),
	    SERVED(test_head_gets_the_header_of_get_and_no_body),
	    SERVED(test_a_short_body_never_reaches_a_handler),
	    SERVED(test_garbage_is_dropped_and_the_server_goes_on),
	    SERVED(test_a_client_that_left_harms_nobody),
	    SERVED(test_a_kept_connection_takes_one_request_after_another),
	    SERVED(test_deferred_requests_hold_no_thread),
	    SERVED(test_threads_go_on_when_many_deferred_requests_end),
	    SERVED(test_a_request_may_be_resumed_before_its_handler_returns),
	    SERVED(test_a_kept_connection_goes_on_after_a_deferred_answer),
	    cmocka_unit_test(test_stop_waits_for_deferred_requests),
	    SERVED(test_concurrent_requests_get_their_own_answers),
	    SERVED(test_threads_work_at_the_same_time),
	    cmocka_unit_test(test_stop_answers_what_had_come_and_takes_no_more),
	    cmocka_unit_test(
		test_a_live_socket_is_refused_and_a_stale_one_replaced),
	    cmocka_unit_test(test_start_and_stop_leave_no_descriptors),
	    cmocka_unit_test(test_stop_removes_no_socket_of_somebody_else),
	    cmocka_unit_test(test_a_probe_reports_what_it_finds),
	    cmocka_unit_test(test_addresses_that_make_no_sense_are_refused),
	    cmocka_unit_test(test_it_serves_over_tcp_as_well),
	};
	int failed;

	umask(007); /* as in all programs: sockets are a group's */
	snprintf(folder, sizeof(folder), "/tmp/test_web.XXXXXX");
	if (mkdtemp(folder) == NULL)
		return (1);
	snprintf(address, sizeof(address), "unix:%s/socket", folder);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	(void)rmdir(folder);
	return (failed);
}
