/* testing -- the test's side: steps, and what came of them. */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "fake_kafka.h"
#include "testing/internal.h"

struct testing {
	const struct service *svc;
	const char *const *flags;
	char folder[96];
	char path[160];
	struct machine machine;
	struct life *life; /* NULL while checks run, or after one */
	struct step *steps;
	size_t step_count;
	int64_t seq; /* of the last record fed with a type */
	struct testing_answer answer;
	struct stream_answer answered;
	char refusal[MR_ERROR_SIZE];
	struct testing_record record;
	char *text;
};

void
broken(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fputs("testing: ", stderr);
	vfprintf(stderr, format, ap);
	fputs("\n", stderr);
	va_end(ap);
	abort();
}

void *
need(void *memory)
{

	if (memory == NULL)
		broken("out of memory");
	return (memory);
}

/* ---- folders ------------------------------------------------------------ */

/* In memory if it can be: commits are waited for. */
void
folder_make(char *folder, size_t size)
{
	const char *place = getenv("TMPDIR");

	if (place == NULL)
		place = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(folder, size, "%s/millrace-testing-XXXXXX", place);
	if (mkdtemp(folder) == NULL)
		broken("%s: %s", folder, strerror(errno));
}

void
folder_remove(const char *folder)
{
	struct dirent *entry;
	char path[400];
	DIR *dir;

	if ((dir = opendir(folder)) == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		(void)unlink(path);
	}
	closedir(dir);
	(void)rmdir(folder);
}

/* ---- steps -------------------------------------------------------------- */

static char *
copy(const char *text)
{

	return (text == NULL ? NULL : need(strdup(text)));
}

static struct step *
step_add(struct testing *t, enum step_kind kind, int64_t number)
{
	struct step *step;

	t->steps = need(
	    realloc(t->steps, (t->step_count + 1) * sizeof(*t->steps)));
	step = &t->steps[t->step_count++];
	*step = (struct step){.kind = kind, .number = number};
	return (step);
}

static void
wake(struct testing *t)
{
	const struct life_conf conf = {.svc = t->svc,
	    .flags = t->flags,
	    .folder = t->folder,
	    .machine = &t->machine};

	if (t->life == NULL)
		t->life = life_start(&conf);
}

/* What was fed is applied; a step, so that a check has the same batches. */
static void
settle(struct testing *t)
{
	enum step_kind last = STEP_SETTLE;

	if (t->step_count > 0)
		last = t->steps[t->step_count - 1].kind;
	if (last == STEP_FEED || last == STEP_REPEAT)
		step_add(t, STEP_SETTLE, 0);
	if (t->life != NULL)
		life_settle(t->life);
}

struct testing *
testing_open(const struct service *svc, const char *const *flags)
{
	struct testing *t = need(calloc(1, sizeof(*t)));

	t->svc = svc;
	t->flags = flags;
	log_init("testing", LOG_LOGFMT, LOG_ERROR);
	folder_make(t->folder, sizeof(t->folder));
	snprintf(t->path, sizeof(t->path), "%s/state.db", t->folder);
	machine_start(&t->machine);
	machine_use(&t->machine);
	cluster_make(svc);
	wake(t);
	return (t);
}

void
testing_close(struct testing *t)
{
	size_t i, k;

	if (t == NULL)
		return;
	life_stop(t->life);
	fake_end();
	machine_use(NULL);
	folder_remove(t->folder);
	for (i = 0; i < t->step_count; i++)
		for (k = 0; k < 4; k++)
			free(t->steps[i].text[k]);
	free(t->steps);
	free(t->text);
	buffer_free(&t->answered.body);
	free(t);
}

void
testing_restart(struct testing *t)
{

	settle(t);
	step_add(t, STEP_RESTART, 0);
	life_stop(t->life);
	t->life = NULL;
	wake(t);
}

/* ---- in ----------------------------------------------------------------- */

/* The last one fed to a topic, or 0. */
static int64_t
predecessor(const struct testing *t, const char *topic)
{
	size_t i;

	for (i = t->step_count; i > 0; i--)
		if (t->steps[i - 1].kind == STEP_FEED &&
		    t->steps[i - 1].text[1] != NULL &&
		    strcmp(t->steps[i - 1].text[0], topic) == 0)
			return (t->steps[i - 1].number);
	return (0);
}

static void
must_be_input(const struct testing *t, const char *topic)
{
	const char *const *input = t->svc->stream->inputs;

	for (; input != NULL && *input != NULL; input++)
		if (strcmp(*input, topic) == 0)
			return;
	broken("%s is not an input of %s", topic, t->svc->stream->name);
}

void
testing_feed(struct testing *t, const char *topic, const char *type,
    const char *key, const char *value)
{
	int64_t before = predecessor(t, topic);
	struct step *step;

	must_be_input(t, topic);
	wake(t);
	step = step_add(t, STEP_FEED, 0);
	step->text[0] = copy(topic);
	step->text[1] = copy(type);
	step->text[2] = copy(key);
	step->text[3] = copy(value);
	step->ts_ms = clock_wall_ms();
	if (type != NULL) {
		step->predecessor = before;
		step->number = ++t->seq;
	}
	life_feed(step);
}

void
testing_repeat(struct testing *t, const char *topic, int count)
{
	struct step *step;

	must_be_input(t, topic);
	wake(t);
	step = step_add(t, STEP_REPEAT, count);
	step->text[0] = copy(topic);
	life_repeat(topic, count, t->steps, t->step_count - 1);
}

const struct testing_answer *
testing_request(struct testing *t, const char *method, const char *target,
    const char *body)
{
	const struct web_response *res;
	struct step *step;

	wake(t);
	settle(t);
	step = step_add(t, STEP_REQUEST, 0);
	step->text[0] = copy(method);
	step->text[1] = copy(target);
	step->text[2] = copy(body);
	res = life_request(t->life, step, t->step_count - 1);
	t->answer = (struct testing_answer){.status = res->status,
	    .body = buffer_text(&res->body),
	    .location = res->location,
	    .etag = res->etag};
	return (&t->answer);
}

const struct testing_answer *
testing_command(struct testing *t, int kind, const void *input, size_t size)
{
	struct mr_error err = {0};
	struct step *step;
	int status;

	wake(t);
	settle(t);
	step = step_add(t, STEP_COMMAND, kind);
	if (input != NULL) {
		step->size = size;
		step->text[0] = need(calloc(1, size + 1));
		memcpy(step->text[0], input, size);
	}
	buffer_clear(&t->answered.body);
	status = life_command(t->life, step, t->step_count - 1, &t->answered,
	    &err);
	snprintf(t->refusal, sizeof(t->refusal), "%s", err.message);
	t->answer = (struct testing_answer){.status = t->answered.status,
	    .body = buffer_text(&t->answered.body),
	    .location = t->answered.location,
	    .etag = ""};
	if (status == -1) {
		t->answer.status = err.kind == MR_REJECT ? 422 : 503;
		t->answer.body = t->refusal;
	}
	return (&t->answer);
}

void
testing_advance(struct testing *t, int64_t ms)
{

	wake(t);
	settle(t);
	step_add(t, STEP_ADVANCE, ms);
	life_advance(t->life, ms, clock_wall_ms() + ms);
}

/* ---- out ---------------------------------------------------------------- */

/* A reader for one query: its text may be anywhere, and gone afterwards. */
static void
look(struct testing *t, const char *sql, int64_t *number, char **text)
{
	struct store_rows *rows = NULL;
	struct mr_error err;
	struct store *st;

	settle(t);
	if ((st = store_open_reader(t->path, 0, &err)) == NULL ||
	    (rows = store_query(st, &err, sql)) == NULL)
		broken("%s: %s", sql, err.message);
	switch (store_next(rows, &err)) {
	case -1:
		broken("%s: %s", sql, err.message);
	case 0:
		broken("%s: no row", sql);
	default:
		*number = store_get_i64(rows, 0);
		*text = copy(store_get_text(rows, 0));
	}
	store_rows_done(rows);
	store_close(st);
}

int64_t
testing_number(struct testing *t, const char *sql)
{
	int64_t number;
	char *text;

	look(t, sql, &number, &text);
	free(text);
	return (number);
}

const char *
testing_text(struct testing *t, const char *sql)
{
	int64_t number;

	free(t->text);
	look(t, sql, &number, &t->text);
	return (t->text);
}

int
testing_emitted(struct testing *t, const char *topic)
{
	struct emitted *list;
	int count;

	settle(t);
	count = emitted_list(topic, &list);
	free(list);
	return (count);
}

const struct testing_record *
testing_record(struct testing *t, const char *topic, int index)
{
	struct emitted *list, e = {0};
	int count;

	settle(t);
	count = emitted_list(topic, &list);
	if (index >= 0 && index < count)
		e = list[index];
	free(list);
	if (e.seq == 0)
		return (NULL);
	t->record = (struct testing_record){
	    .type = fake_header(topic, e.partition, e.offset, "ce_type"),
	    .key = fake_key(topic, e.partition, e.offset),
	    .value = fake_is_tombstone(topic, e.partition, e.offset) ?
		NULL :
		fake_value(topic, e.partition, e.offset),
	    .reason = fake_header(topic, e.partition, e.offset,
		"dead_letter_reason"),
	    .partition = e.partition,
	};
	return (&t->record);
}

/* ---- checks ------------------------------------------------------------- */

/* No thread of ours and no open file, so that processes can be made. */
static struct checked
rest(struct testing *t)
{

	settle(t);
	life_stop(t->life);
	t->life = NULL;
	return ((struct checked){.svc = t->svc,
	    .flags = t->flags,
	    .steps = t->steps,
	    .step_count = t->step_count});
}

int
testing_crashes(struct testing *t, int *count, struct mr_error *err)
{
	const struct checked c = rest(t);

	return (checks_crashes(&c, count, err));
}

int
testing_deterministic(struct testing *t, struct mr_error *err)
{
	const struct checked c = rest(t);

	return (checks_deterministic(&c, err));
}
