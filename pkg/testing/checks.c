/*
 * checks -- the steps again, in processes of their own.
 *
 * A run is one process, or two where it crashes: what the first one leaves is
 * its file, and in shared memory what isn't its own: the cluster's records,
 * the time, and what clients were told.
 */
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "fake_kafka.h"
#include "testing/internal.h"

#define CRASHED 86 /* the exit status */
#define LEASE_MS 60000 /* longer than any lease between processes */
#define SKEW_MS INT64_C(86461234)
#define CRASHES_MOST 5000
#ifdef __SANITIZE_ADDRESS__
/* A process takes five times as long, and most die where others did. */
#define CRASH_EVERY 5
#else
#define CRASH_EVERY 1
#endif

/* On the second machine. */
struct variant {
	int64_t skew_ms;
	unsigned int chance;
	int64_t batch_records;
	int reversed;
};

#ifdef __SANITIZE_THREAD__
/* Each of hundreds of processes would sleep a second at its end. */
const char *__tsan_default_options(void);

const char *
__tsan_default_options(void)
{

	return ("atexit_sleep_ms=0");
}
#endif

static struct survivor *shared; /* of the run under way; NULL: none */
static const struct checked *checked;
/* Held while a step and its being done are one. */
static pthread_mutex_t step_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- in the run's process ----------------------------------------------- */

static size_t
keep(char *to, size_t room, const struct buffer *from)
{

	if (from->failed || from->length >= room)
		broken("more came out than a check has room for");
	memcpy(to, buffer_text(from), from->length);
	to[from->length] = '\0';
	return (from->length);
}

/*
 * Called by the core wherever it passes.  The thread that dies takes the
 * others along; what they do until then is what they did before the crash.
 */
int
failpoint_hit(const char *name)
{
	struct buffer log = {0};

	if (shared == NULL ||
	    atomic_fetch_add(&shared->passed, 1) + 1 != shared->crash_at)
		return (0);
	pthread_mutex_lock(&step_lock);
	snprintf(shared->crashed_at, sizeof(shared->crashed_at), "%s", name);
	log_save(checked->svc, &log);
	shared->log_size = keep(shared->log, sizeof(shared->log), &log);
	_exit(CRASHED);
}

static void
told(size_t number, int status, const char *body, const char *location)
{
	size_t room = sizeof(shared->answers) - shared->answers_size;
	int length;

	length = snprintf(shared->answers + shared->answers_size, room,
	    "answer to step %zu: %d %s %s\n", number + 1, status, body,
	    location);
	if (length < 0 || (size_t)length >= room)
		broken("more was answered than a check has room for");
	shared->answers_size += (size_t)length;
}

static int
is_metrics(const char *target)
{

	return (strncmp(target, "/metrics", 8) == 0 &&
	    (target[8] == '\0' || target[8] == '?'));
}

static void
ask(struct life *l, const struct step *step, size_t number)
{
	struct stream_answer answer = {0};
	const struct web_response *res;
	struct mr_error err;
	int status;

	if (step->kind == STEP_REQUEST) {
		res = life_request(l, step, number);
		pthread_mutex_lock(&step_lock);
		/* Metrics count attempts, and are not an outcome. */
		told(number, res->status,
		    is_metrics(step->text[1]) ? "" : buffer_text(&res->body),
		    res->location);
		return;
	}
	status = life_command(l, step, number, &answer, &err);
	pthread_mutex_lock(&step_lock);
	if (status == -1)
		told(number, err.kind == MR_REJECT ? 422 : 503, err.message,
		    "");
	else
		told(number, answer.status, buffer_text(&answer.body),
		    answer.location);
	buffer_free(&answer.body);
}

/* Take the step; returns with step_lock held, and it counts as done. */
static void
take(struct life **l, const struct life_conf *conf, size_t number)
{
	const struct step *step = &checked->steps[number];

	switch (step->kind) {
	case STEP_REQUEST:
	case STEP_COMMAND:
		ask(*l, step, number);
		return;
	case STEP_ADVANCE:
		if (shared->advance_to_ms == 0)
			shared->advance_to_ms = clock_wall_ms() + step->number;
		life_advance(*l, step->number, shared->advance_to_ms);
		break;
	case STEP_RESTART:
		life_stop(*l);
		*l = life_start(conf);
		break;
	case STEP_SETTLE:
		life_settle(*l);
		break;
	case STEP_FEED:
	case STEP_REPEAT:
		break;
	}
	pthread_mutex_lock(&step_lock);
	shared->advance_to_ms = 0;
	if (step->kind == STEP_FEED)
		life_feed(step);
	else if (step->kind == STEP_REPEAT)
		life_repeat(step->text[0], step->number, checked->steps,
		    number);
}

static void run(const char *folder, const struct variant *variant)
    __attribute__((noreturn));

static void
run(const char *folder, const struct variant *variant)
{
	struct life_conf conf = {.svc = checked->svc,
	    .flags = checked->flags,
	    .folder = folder,
	    .machine = &shared->machine,
	    .batch_records = variant->batch_records,
	    .reversed = variant->reversed};
	struct buffer out = {0};
	struct life *l;
	char path[160];

	fake_end();
	cluster_make(checked->svc);
	log_load(shared->log, shared->log_size);
	machine_skew(variant->skew_ms);
	srand(variant->chance);
	srandom(variant->chance);
	l = life_start(&conf);
	while (shared->progress < checked->step_count) {
		take(&l, &conf, shared->progress);
		shared->progress++;
		pthread_mutex_unlock(&step_lock);
	}
	life_settle(l);
	life_stop(l);
	snprintf(path, sizeof(path), "%s/state.db", folder);
	outcome_write(checked->svc, path, &out);
	buffer_add(&out, shared->answers, shared->answers_size);
	shared->outcome_size = keep(shared->outcome, sizeof(shared->outcome),
	    &out);
	_exit(0);
}

/* ---- in the test's process ---------------------------------------------- */

static struct survivor *
survivor_new(void)
{
	struct survivor *s;

	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s == MAP_FAILED)
		broken("no memory to share: %s", strerror(errno));
	machine_start(&s->machine);
	return (s);
}

static void
survivor_free(struct survivor *s)
{

	if (s != NULL)
		(void)munmap(s, sizeof(*s));
}

/* A process of the run.  0: to its end, 1: it crashed as told, -1 and why. */
static int
process(const char *folder, const struct variant *variant, struct mr_error *err)
{
	pid_t pid;
	int status;

	fflush(NULL);
	if ((pid = fork()) == -1)
		return (
		    mr_error_set(err, MR_FATAL, "fork: %s", strerror(errno)));
	if (pid == 0)
		run(folder, variant);
	while (waitpid(pid, &status, 0) == -1)
		if (errno != EINTR)
			return (mr_error_set(err, MR_FATAL, "waitpid: %s",
			    strerror(errno)));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return (0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CRASHED)
		return (1);
	return (mr_error_set(err, MR_FATAL, "the run ended with %s %d",
	    WIFEXITED(status) ? "status" : "signal",
	    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status)));
}

/* A run on a new file: 0, 1 if it crashed on its way, -1 and why. */
static int
run_all(int64_t crash_at, const struct variant *variant, struct mr_error *err)
{
	char folder[96];
	int status, crashed = 0;

	folder_make(folder, sizeof(folder));
	shared->crash_at = crash_at;
	if ((status = process(folder, variant, err)) == 1) {
		crashed = 1;
		shared->crash_at = 0;
		atomic_fetch_add(&shared->machine.boot_ms, LEASE_MS);
		status = process(folder, variant, err);
		if (status == -1)
			mr_error_wrap(err, "after a crash at %s (%lld)",
			    shared->crashed_at, (long long)crash_at);
	}
	folder_remove(folder);
	return (status == 0 ? crashed : status);
}

static int
line_length(const char *at)
{
	size_t length = strcspn(at, "\n");

	return (length > 84 ? 84 : (int)length);
}

/* 0 if both are the same, or -1 and the first line that isn't. */
static int
compare(const struct survivor *is, const struct survivor *should,
    struct mr_error *err)
{
	const char *a = is->outcome, *b = should->outcome;
	size_t n, m;

	if (strcmp(a, b) == 0)
		return (0);
	for (;;) {
		n = strcspn(a, "\n");
		m = strcspn(b, "\n");
		if (n != m || strncmp(a, b, n) != 0)
			break;
		a += n + (a[n] == '\n');
		b += m + (b[m] == '\n');
	}
	return (mr_error_set(err, MR_REJECT, "\"%.*s\" is not \"%.*s\"",
	    line_length(a), a, line_length(b), b));
}

/* The steps with a crash at that place: 1 if it was passed and the outcome is
 * the same, 0 if it wasn't passed, -1 and why. */
static int
crash_once(const struct survivor *reference, int64_t place,
    const struct variant *variant, struct mr_error *err)
{
	int status;

	shared = survivor_new();
	status = run_all(place, variant, err);
	if (status == 1 && compare(shared, reference, err) == -1) {
		status = -1;
		mr_error_wrap(err, "a crash at %s (%lld)", shared->crashed_at,
		    (long long)place);
	}
	survivor_free(shared);
	return (status);
}

/*
 * On a busy machine a run is waited for in more transactions or in fewer, and
 * so passes more places or fewer: one that ends before its crash is the end
 * only where the reference ended as well.
 */
int
checks_crashes(const struct checked *c, int *count, struct mr_error *err)
{
	/* A record a transaction: the most steps, and always the same ones. */
	const struct variant same = {.batch_records = 1};
	struct survivor *reference = shared = survivor_new();
	int status, n = 0;

	checked = c;
	status = run_all(0, &same, err);
	if (status == 0 && reference->passed > CRASHES_MOST)
		status = mr_error_set(err, MR_FATAL,
		    "the steps pass %lld places to crash at, more than %d: "
		    "check after fewer steps, and the others in a test of "
		    "their own",
		    (long long)reference->passed, CRASHES_MOST);
	while (status == 0) {
		status = crash_once(reference, n + 1, &same, err);
		if (status == 0 && n >= reference->passed)
			break;
		if (status != -1)
			status = 0;
		n += CRASH_EVERY;
	}
	survivor_free(reference);
	shared = NULL;
	if (count != NULL)
		*count = n;
	return (status);
}

int
checks_deterministic(const struct checked *c, struct mr_error *err)
{
	const struct variant one = {.chance = 1};
	const struct variant two = {.skew_ms = SKEW_MS,
	    .chance = 2,
	    .batch_records = 1,
	    .reversed = 1};
	struct survivor *reference = shared = survivor_new();
	int status;

	checked = c;
	status = run_all(0, &one, err);
	if (status == 0) {
		shared = survivor_new();
		status = run_all(0, &two, err);
		if (status == 0 &&
		    (status = compare(shared, reference, err)) == -1)
			mr_error_wrap(err, "another time gave another outcome");
		survivor_free(shared);
	}
	survivor_free(reference);
	shared = NULL;
	return (status);
}
