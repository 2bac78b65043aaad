/*
 * test_service -- answers to responses, and a service's main, with the
 * stream replaced at link time (test_service.ldflags).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/types.h>
#include <sys/wait.h>

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/signals.h"
#include "service/service.h"
#include "service/service_internal.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define WAIT_MS 30000

/* ---- memory that runs out once ------------------------------------------ */

#include "failing_memory.c" /* NOLINT(bugprone-suspicious-include) */

/* ---- in place of the stream --------------------------------------------- */

static struct stream_call got;
static char got_scope[256];
static struct {
	enum mr_error_kind kind;
	int status, replayed, refused;
	const char *body, *location;
} planned;
static int defers, resumes, submits;
static int frees;

int __wrap_stream_submit(struct stream *s, const struct stream_call *call,
    struct stream_answer *answer, struct stream_pending *pending,
    void (*done)(void *arg, const struct mr_error *err), void *arg,
    struct mr_error *err);
void __wrap_web_defer(struct web_request *req);
void __wrap_web_resume(struct web_request *req);
void *__wrap_web_room(struct web_request *req, size_t size);
struct stream *__wrap_stream_new(const struct stream_service *svc,
    const struct stream_conf *conf, struct mr_error *err);
int __wrap_stream_run(struct stream *s, int signal_fd, struct mr_error *err);
void __wrap_stream_free(struct stream *s);
int __wrap_stream_ready(struct stream *s, char *reason, size_t reason_size);
int __wrap_stream_alive(struct stream *s, char *reason, size_t reason_size);
int64_t __wrap_stream_unsent(const struct stream *s);
const char *__wrap_stream_db_path(const struct stream *s);

int
__wrap_stream_submit(struct stream *s, const struct stream_call *call,
    struct stream_answer *answer, struct stream_pending *pending,
    void (*done)(void *arg, const struct mr_error *err), void *arg,
    struct mr_error *err)
{
	struct mr_error failure = {.kind = MR_OK};

	(void)s;
	assert_non_null(pending);
	submits++;
	got = *call;
	snprintf(got_scope, sizeof(got_scope), "%s", call->scope);
	got.scope = got_scope;
	assert_int_equal(*(const int *)call->input, 37);
	if (planned.refused)
		return (mr_error_set(err, MR_RETRY, "planned"));
	if (planned.kind != MR_OK) {
		buffer_add_text(&answer->body, "half an ans");
		mr_error_set(&failure, planned.kind, "planned");
	} else {
		answer->status = planned.status;
		answer->replayed = planned.replayed;
		buffer_add_text(&answer->body, planned.body);
		snprintf(answer->location, sizeof(answer->location), "%s",
		    planned.location != NULL ? planned.location : "");
	}
	/* As the stream does with an answer that it had no memory for. */
	if (answer->body.failed)
		mr_error_set(&failure, MR_RETRY, "out of memory");
	done(arg, failure.kind == MR_OK ? NULL : &failure);
	return (0);
}

void
__wrap_web_defer(struct web_request *req)
{

	assert_non_null(req);
	defers++;
}

void
__wrap_web_resume(struct web_request *req)
{

	assert_non_null(req);
	assert_true(defers > resumes);
	resumes++;
}

void *
__wrap_web_room(struct web_request *req, size_t size)
{
	static void *room;

	assert_non_null(req);
	free(room);
	room = malloc(size);
	return (room);
}

struct stream *
__wrap_stream_new(const struct stream_service *svc,
    const struct stream_conf *conf, struct mr_error *err)
{
	static max_align_t any;

	(void)svc;
	/* The service manager is told of both. */
	if (conf->batch_records == 13 || conf->on_progress == NULL ||
	    conf->on_drain == NULL) {
		mr_error_set(err, MR_FATAL, "no luck");
		return (NULL);
	}
	return ((struct stream *)(void *)&any);
}

int
__wrap_stream_run(struct stream *s, int signal_fd, struct mr_error *err)
{
	struct pollfd pfd = {.fd = signal_fd, .events = POLLIN};

	(void)s;
	if (poll(&pfd, 1, WAIT_MS) != 1 || signals_take(signal_fd) != 1)
		return (mr_error_set(err, MR_FATAL, "no signal"));
	return (0);
}

void
__wrap_stream_free(struct stream *s)
{

	frees += s != NULL;
}

int
__wrap_stream_ready(struct stream *s, char *reason, size_t reason_size)
{

	(void)s;
	(void)reason;
	(void)reason_size;
	return (1);
}

int
__wrap_stream_alive(struct stream *s, char *reason, size_t reason_size)
{

	(void)s;
	snprintf(reason, reason_size, "stuck");
	return (0);
}

int64_t
__wrap_stream_unsent(const struct stream *s)
{

	(void)s;
	return (0);
}

const char *
__wrap_stream_db_path(const struct stream *s)
{

	(void)s;
	return ("/no/such/file");
}

/* ---- answers ------------------------------------------------------------ */

static void
command(struct web_response *res, const char *key)
{
	struct service_running running = {.command_deadline_ms = 77};
	struct web_request req = {.method = "POST",
	    .path = "/orders",
	    .body = "{}",
	    .body_size = 2,
	    .idempotency_key = key,
	    .arg = &running};

	*res = (struct web_response){.status = 200,
	    .content_type = "application/json"};
	service_command(&req, res, 5, &(int){37}, sizeof(int));
	assert_int_equal(resumes, defers);
}

static void
test_a_command_carries_its_key_scope_body_and_deadline(void **state)
{
	struct web_response res;

	(void)state;
	memset(&planned, 0, sizeof(planned));
	defers = resumes = 0;
	planned.status = 201;
	planned.body = "{\"id\":1}";
	planned.location = "/orders/1";
	command(&res, "k");
	assert_int_equal(got.kind, 5);
	assert_string_equal(got.key, "k");
	assert_string_equal(got.scope, "POST /orders");
	assert_int_equal(got.body_size, 2);
	assert_memory_equal(got.body, "{}", 2);
	assert_int_equal(got.deadline_ms, 77);
	assert_int_equal(resumes, 1);
	assert_int_equal(res.status, 201);
	assert_int_equal(res.replayed, 0);
	assert_string_equal(res.location, "/orders/1");
	assert_string_equal(buffer_text(&res.body), "{\"id\":1}");
	assert_string_equal(res.content_type, "application/json");
	buffer_free(&res.body);

	planned.replayed = 1;
	command(&res, NULL);
	assert_null(got.key);
	assert_int_equal(res.replayed, 1);
	buffer_free(&res.body);
}

static void
test_answers_and_errors_become_responses(void **state)
{
	static const struct {
		enum mr_error_kind kind;
		int status;
		const char *body;
		int expected, retry_after_s;
		const char *text;
	} cases[] = {
	    {MR_OK, 200, "{}", 200, 0, "{}"},
	    {MR_OK, 409, "it was rejected", 409, 0,
		"\"detail\":\"it was rejected\""},
	    {MR_OK, 409, "", 409, 0, "\"title\":\"Conflict\""},
	    {MR_OK, 404, "{\"title\":\"mine\"}", 404, 0,
		"{\"title\":\"mine\"}"},
	    {MR_RETRY, 0, "", 503, 1, "\"detail\":\"planned\""},
	    {MR_REJECT, 0, "", 422, 0, "\"detail\":\"planned\""},
	    {MR_FATAL, 0, "", 500, 0, "\"status\":500"},
	};
	struct web_response res;
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		memset(&planned, 0, sizeof(planned));
		planned.kind = cases[i].kind;
		planned.status = cases[i].status;
		planned.body = cases[i].body;
		command(&res, NULL);
		if (res.status != cases[i].expected ||
		    res.retry_after_s != cases[i].retry_after_s ||
		    strstr(buffer_text(&res.body), cases[i].text) == NULL ||
		    strstr(buffer_text(&res.body), "half") != NULL)
			fail_msg("case %zu: %d %s", i, res.status,
			    buffer_text(&res.body));
		assert_string_equal(res.content_type,
		    res.status >= 400 ? "application/problem+json" :
					"application/json");
		buffer_free(&res.body);
	}
	/* A queue that is full says the same at once. */
	planned.refused = 1;
	command(&res, NULL);
	assert_int_equal(res.status, 503);
	assert_int_equal(res.retry_after_s, 1);
	buffer_free(&res.body);
}

/* A POST whose ${n}th allocation fails; 0 if it has fewer.  What has failed in
 * its body the server answers by 503 (test_web_memory). */
static int
command_without(int64_t n, int expected)
{
	struct web_response res;
	int failed, submitted = submits;

	defers = resumes = 0;
	to_go = n;
	command(&res, "k");
	failed = to_go == 0;
	to_go = 0;
	submitted = submits - submitted;
	/* The first is for the command: without it nobody hears of it. */
	assert_int_equal(submitted, n > 1);
	assert_int_equal(resumes, submitted);
	if (failed && !res.body.failed) {
		assert_int_equal(res.status, 503);
		assert_int_equal(res.retry_after_s, 1);
		assert_non_null(
		    strstr(buffer_text(&res.body), "out of memory"));
	} else if (!failed) {
		assert_int_equal(res.body.failed, 0);
		assert_int_equal(res.status, expected);
	}
	buffer_free(&res.body);
	return (failed);
}

static void
test_any_allocation_of_a_post_may_fail(void **state)
{
	static const struct {
		enum mr_error_kind kind;
		int refused, expected;
		int64_t least;
	} cases[] = {
	    {MR_OK, 0, 201, 2},
	    {MR_REJECT, 0, 422, 2},
	    {MR_FATAL, 0, 500, 2},
	    {MR_RETRY, 1, 503, 2},
	};
	size_t bytes = mallinfo2().uordblks, i;
	int64_t n;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		memset(&planned, 0, sizeof(planned));
		planned.kind = cases[i].kind;
		planned.refused = cases[i].refused;
		planned.status = 201;
		planned.body = "{\"id\":1}";
		for (n = 1; command_without(n, cases[i].expected); n++)
			;
		assert_true(n - 1 >= cases[i].least);
	}
	assert_int_equal(mallinfo2().uordblks, bytes);
}

/* ---- main --------------------------------------------------------------- */

static const struct stream_service stream = {.name = "sample"};
static const struct service sample = {.summary = "A service to test with.",
    .stream = &stream};

/* Run service_main in a child that frees ${must_free} streams; its pid. */
static pid_t
start(const char *const *words, int must_free)
{
	char *argv[8];
	int argc, status;
	pid_t pid;

	fflush(NULL);
	if ((pid = fork()) == 0) {
		for (argc = 0; words[argc] != NULL; argc++) {
			if ((argv[argc] = strdup(words[argc])) == NULL)
				_exit(97);
		}
		argv[argc] = NULL;
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(99);
		status = service_main(argc, argv, &sample);
		while (argc > 0)
			free(argv[--argc]);
		_exit(status == 0 && frees != must_free ? 98 : status);
	}
	assert_true(pid > 0);
	return (pid);
}

static int
wait_exit(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return (WEXITSTATUS(status));
}

static void
test_main_serves_until_a_signal_and_then_exits_0(void **state)
{
	char folder[] = "/tmp/test_service.XXXXXX", address[64], body[128];
	const char *argv[] = {"sample", "--fcgi", address, NULL};
	const char *check[] = {"sample", "--check", "--fcgi", address, NULL};
	int64_t until_us = clock_mono_us() + WAIT_MS * 1000;
	struct mr_error err;
	int status;
	pid_t pid;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(address, sizeof(address), "unix:%s/socket", folder);
	pid = start(argv, 1);
	while ((status = web_probe(address, "/readyz", 1000, body, sizeof(body),
		    &err)) == -1 &&
	    clock_mono_us() < until_us)
		usleep(10000);
	assert_int_equal(status, 200);
	assert_int_equal(web_probe(address, "/livez", WAIT_MS, body,
			     sizeof(body), &err),
	    503);
	assert_non_null(strstr(body, "stuck"));
	assert_int_equal(web_probe(address, "/metrics", WAIT_MS, body,
			     sizeof(body), &err),
	    200);
	/* --check only asks. */
	assert_int_equal(wait_exit(start(check, 0)), 0);
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(wait_exit(pid), 0);
	assert_int_equal(access(address + 5, F_OK), -1);
	assert_int_equal(wait_exit(start(check, 0)), 1);
	assert_int_equal(rmdir(folder), 0);
}

static void
test_main_exits_1_when_it_can_not_start(void **state)
{
	static const char *const cases[][4] = {
	    {"sample", "--no-such-flag", NULL},
	    {"sample", "stray", NULL},
	    {"sample", "--check", NULL},
	    {"sample", "--batch-records=13", NULL},
	    {"sample", "--fcgi", "unix:/no/such/folder/socket", NULL},
	    {"sample", "--fcgi", "nonsense", NULL},
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(cases); i++) {
		if (wait_exit(start(cases[i], 0)) != 1)
			fail_msg("case %zu", i);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(
		test_a_command_carries_its_key_scope_body_and_deadline),
	    cmocka_unit_test(test_answers_and_errors_become_responses),
	    cmocka_unit_test(test_any_allocation_of_a_post_may_fail),
	    cmocka_unit_test(test_main_serves_until_a_signal_and_then_exits_0),
	    cmocka_unit_test(test_main_exits_1_when_it_can_not_start),
	};

	return (cmocka_run_group_tests(tests, NULL, NULL));
}
