/*
 * web: memory runs out once, at each allocation of a request's way.
 *
 * The n-th allocation of the server's threads fails, jansson's and SQLite's
 * among them; libfcgi's aren't counted, as it gives up the process for one.
 * The request is answered as ever, or by 503, or its connection is closed;
 * the next one is answered as ever, and nothing is left behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/log.h"
#include "web_client.h"

#define PLENTY (INT64_MAX / 2)
#define LEFT_MOST 4096 /* bytes that the allocator may keep by itself */

#include "failing_memory.c" /* NOLINT(bugprone-suspicious-include) */

/* ---- a server ----------------------------------------------------------- */

static char folder[64];
static char path[96];

static const struct store_migration migrations[] = {
    {1, "value", "CREATE TABLE value (n INTEGER PRIMARY KEY NOT NULL) STRICT;"},
    {0},
};
static const char sql_put[] = "INSERT INTO value (n) VALUES (7)";
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
post_order(struct web_request *req, struct web_response *res)
{
	char item[16] = "";
	int64_t quantity = 0;
	const struct web_field fields[] = {
	    {"item", WEB_FIELD_TEXT, item, sizeof(item), 0, NULL, 0, 0},
	    {"quantity", WEB_FIELD_I64, &quantity, 0, 0, NULL, 1, 1000},
	    {.name = NULL},
	};
	struct json_writer w;

	if (web_read_json(req, res, fields) == -1)
		return;
	res->status = 201;
	json_init(&w, &res->body);
	json_object_open(&w);
	json_member_text(&w, "item", item);
	json_member_i64(&w, "quantity", quantity);
	json_object_close(&w);
}

static const struct web_route routes[] = {
    {"POST", "/orders", post_order},
    {"GET", "/value", get_value},
    {NULL, NULL, NULL},
};

/* One thread, so that the next request is the same one's. */
static struct web_server *
start(struct mr_error *err)
{
	const struct web_conf conf = {.listen = address,
	    .threads = 1,
	    .routes = routes,
	    .db_path = path,
	    .read_deadline_ms = 2000};

	return (web_start(&conf, err));
}

static struct web_server *
must_start(void)
{
	struct mr_error err;
	struct web_server *server = start(&err);

	if (server == NULL)
		fail_msg("%s", err.message);
	return (server);
}

static int
setup(void **state)
{
	const struct store_options options = {.path = path,
	    .service = "sample",
	    .own = migrations};
	struct mr_error err;
	struct store *st;

	(void)state;
	exempt = 1;
	log_init("test", LOG_LOGFMT, LOG_ERROR + 1);
	snprintf(folder, sizeof(folder), "/tmp/millrace-web-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return (-1);
	snprintf(address, sizeof(address), "unix:%s/sock", folder);
	snprintf(path, sizeof(path), "%s/sample.db", folder);
	if ((st = store_open(&options, &err)) == NULL ||
	    store_begin(st, &err) != 0 || store_run(st, &err, sql_put) != 1 ||
	    store_commit(st, &err) != 0)
		return (-1);
	*state = st; /* open, as its service has it */
	return (0);
}

static int
teardown(void **state)
{
	static const char *const left[] = {"sock", "sample.db",
	    "sample.db.writer"};
	char name[128];
	size_t i;

	store_close(*state);
	for (i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
		snprintf(name, sizeof(name), "%s/%s", folder, left[i]);
		(void)unlink(name);
	}
	return (rmdir(folder));
}

/* ---- requests ----------------------------------------------------------- */

struct request {
	const char *method, *uri, *body;
	int status;
	const char *says;
};

static const struct request requests[] = {
    {"POST", "/orders", "{\"item\":\"Laptop\",\"quantity\":1}", 201,
	"{\"item\":\"Laptop\",\"quantity\":1}"},
    {"POST", "/orders", "{\"item\":1,\"quantity\":\"x\",\"z\":[{}]}", 422,
	"\"field\":\"quantity\""},
    {"POST", "/orders", "{\"item\":1e400,\"item\":2}", 422,
	"\"field\":\"item\""},
    {"POST", "/orders", "{\"item\":", 400, "JSON"},
    {"GET", "/value", "", 200, "7"},
    {"GET", "/metrics", "", 200, "millrace_http_requests_total"},
    {"GET", "/readyz", "", 200, ""},
    {"GET", "/nowhere", "", 404, "there is nothing here"},
};

static int
ask_for(const struct request *r, struct buffer *answer)
{
	char length[24] = "";

	if (r->body[0] != '\0')
		snprintf(length, sizeof(length), "%zu", strlen(r->body));
	return (
	    ask(r->method, r->uri, r->body[0] != '\0' ? "application/json" : "",
		length, r->body, strlen(r->body), answer));
}

static void
check_as_ever(const struct request *r, int64_t n, int status,
    const struct buffer *answer)
{
	if (status != r->status || strstr(buffer_text(answer), r->says) == NULL)
		fail_msg("%s %s, allocation %lld: %d %s", r->method, r->uri,
		    (long long)n, status, buffer_text(answer));
}

/* A new server's first request, and the next one; 0 if there are fewer. */
static int
request_without(const struct request *r, int64_t n, int *refused)
{
	struct web_server *server = must_start();
	struct buffer answer = {.data = NULL};
	int status, failed;

	atomic_store(&to_go, n);
	status = ask_for(r, &answer);
	failed = atomic_exchange(&to_go, 0) <= 0;
	if (status == 503 && failed)
		assert_non_null(
		    strstr(buffer_text(&answer), "Retry-After: 1\r\n"));
	else if (status != -1 || !failed)
		check_as_ever(r, n, status, &answer);
	*refused += status == 503 || status == -1;
	status = ask_for(r, &answer);
	check_as_ever(r, n, status, &answer);
	buffer_free(&answer);
	assert_int_equal(web_stop(server, WAIT_MS), 0);
	return (failed);
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
any_allocation_of_a_request_may_fail(void **state)
{
	int files = 0, refused = 0, round;
	int64_t n, tried = 0;
	size_t i, bytes = 0;

	(void)state;
	/* What is only made once is there after the first round; SQLite keeps
	 * a descriptor while another connection has a lock. */
	for (round = 0; round < 2; round++) {
		bytes = mallinfo2().uordblks;
		files = open_files();
		for (i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
			for (n = 1; request_without(&requests[i], n, &refused);
			     n++)
				;
			tried += n - 1;
		}
	}
	print_message("# %lld allocations, %d refused\n", (long long)tried,
	    refused);
	assert_true(tried > 100);
	assert_true(refused > 50);
	assert_int_equal(open_files(), files);
	assert_true(mallinfo2().uordblks < bytes + LEFT_MOST);
}

static void
any_allocation_of_a_start_may_fail(void **state)
{
	struct web_server *server = NULL;
	struct mr_error err;
	int files = open_files();
	int64_t n = 0;

	(void)state;
	while (server == NULL) {
		memset(&err, 0, sizeof(err));
		atomic_store(&to_go, ++n);
		exempt = 0;
		server = start(&err);
		exempt = 1;
		if (server == NULL && strstr(err.message, "memory") == NULL)
			fail_msg("allocation %lld: %s", (long long)n,
			    err.message);
		if (atomic_exchange(&to_go, 0) <= 0 && server != NULL) {
			assert_int_equal(web_stop(server, WAIT_MS), 0);
			server = NULL; /* it could do without */
		}
	}
	assert_int_equal(web_stop(server, WAIT_MS), 0);
	assert_int_equal(open_files(), files);
	print_message("# %lld allocations\n", (long long)n - 1);
	assert_true(n > 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(any_allocation_of_a_start_may_fail),
	    cmocka_unit_test(any_allocation_of_a_request_may_fail),
	};

	return (cmocka_run_group_tests(tests, setup, teardown));
}
