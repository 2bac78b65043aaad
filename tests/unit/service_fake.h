/*
 * service_fake -- a stream of one transaction, to try a service's own code on.
 *
 * The file is real, and made by the service's migrations.  What is emitted
 * and said is kept for the test to look at.  Each test file includes this
 * once, and the service's .c files.
 */
#ifndef MR_SERVICE_FAKE_H
#define MR_SERVICE_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "migrations.h"
#include "stream/stream.h"

#define FAKE_EMITTED_MOST 64
#define FAKE_TS_MS INT64_C(1795229109260)

struct fake_output {
	char topic[64];
	char type[64];
	char key[80];
	char value[300];
	int64_t ts_ms;
};

static struct {
	char folder[64];
	struct store *st;
	struct fake_output emitted[FAKE_EMITTED_MOST];
	int emitted_count;
	int said;
	int64_t offset;
	int64_t note;
} fake;

struct store *
stream_store(struct stream *s)
{
	(void)s;
	return (fake.st);
}

/* 0 each time, as in a transaction for each command and record. */
int64_t *
stream_note(struct stream *s)
{
	(void)s;
	fake.note = 0;
	return (&fake.note);
}

int
stream_emit(struct stream *s, const struct stream_output *output,
    struct mr_error *err)
{
	struct fake_output *kept;

	(void)s;
	(void)err;
	assert_true(fake.emitted_count < FAKE_EMITTED_MOST);
	kept = &fake.emitted[fake.emitted_count++];
	snprintf(kept->topic, sizeof(kept->topic), "%s", output->topic);
	snprintf(kept->type, sizeof(kept->type), "%s", output->type);
	snprintf(kept->key, sizeof(kept->key), "%.*s", (int)output->key_size,
	    (const char *)output->key);
	snprintf(kept->value, sizeof(kept->value), "%.*s",
	    (int)output->value_size, (const char *)output->value);
	kept->ts_ms = output->ts_ms;
	return (0);
}

void
stream_say(struct stream *s, const char *message, ...)
{
	(void)s;
	(void)message;
	fake.said++;
}

/* Make the file of ${service} in a folder of its own. */
static void
fake_open(const char *service, const struct store_migration *migrations)
{
	struct mr_error err;
	char path[128];
	struct store_options options = {.path = path,
	    .service = service,
	    .core = migrations_core,
	    .own = migrations};

	memset(&fake, 0, sizeof(fake));
	log_init("test", LOG_LOGFMT, LOG_ERROR);
	snprintf(fake.folder, sizeof(fake.folder), "/tmp/millrace-test-XXXXXX");
	assert_non_null(mkdtemp(fake.folder));
	snprintf(path, sizeof(path), "%s/state.db", fake.folder);
	if ((fake.st = store_open(&options, &err)) == NULL)
		fail_msg("%s", err.message);
	assert_int_equal(store_begin(fake.st, &err), 0);
}

static void
fake_close(void)
{
	struct mr_error err;
	static const char *const names[] = {"state.db", "state.db-wal",
	    "state.db-shm", "state.db.writer"};
	char path[128];
	size_t i;

	assert_int_equal(store_commit(fake.st, &err), 0);
	store_close(fake.st);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", fake.folder, names[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(fake.folder), 0);
}

/* The record that comes next, at partition 1 of ${topic}. */
static inline struct stream_record
fake_record(const char *topic, const char *type, const char *value)
{
	return ((struct stream_record){.topic = topic,
	    .partition = 1,
	    .offset = fake.offset++,
	    .ts_ms = FAKE_TS_MS,
	    .type = type,
	    .seq = -1,
	    .value = value,
	    .value_size = strlen(value)});
}

/*
 * Decode, and apply in a savepoint, as the core does: what fails is undone, as
 * is what it emitted.
 */
static inline int
fake_apply(int (*decode)(const struct stream_record *, void *,
	       struct mr_error *),
    int (*apply)(struct stream *, const struct stream_record *,
	struct mr_error *),
    struct stream_record *record, struct mr_error *err)
{
	static max_align_t decoded[64];
	const int emitted_before = fake.emitted_count;
	struct mr_error save_err;
	int status;

	assert_int_equal(store_save(fake.st, &save_err), 0);
	record->decoded = decoded;
	if ((status = decode(record, decoded, err)) == 0 &&
	    (status = apply(NULL, record, err)) == 0) {
		assert_int_equal(store_release(fake.st, &save_err), 0);
	} else {
		assert_int_equal(store_restore(fake.st, &save_err), 0);
		fake.emitted_count = emitted_before;
	}
	return (status);
}

/* The number that a query gives; a missing row fails the test. */
static int64_t
fake_number(const char *sql)
{
	struct mr_error err;
	int64_t value = -1;

	if (store_find(fake.st, &err, &value, sql) != 1)
		fail_msg("no number from: %s", sql);
	return (value);
}

#endif
