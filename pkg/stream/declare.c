/* declare -- the file says what its service does, for tools. */
#include <string.h>

#include "stream/internal.h"

static const char sql_declared[] =
    "SELECT 1 FROM declared WHERE inputs = ?1 AND outputs = ?2"
    " AND commands = ?3";
static const char sql_declare[] =
    "INSERT INTO declared (one, inputs, outputs, commands)"
    " VALUES (1, ?1, ?2, ?3) ON CONFLICT DO UPDATE SET"
    " inputs = excluded.inputs, outputs = excluded.outputs,"
    " commands = excluded.commands";

static void
names_add(struct buffer *text, const char *const *names)
{

	for (; names != NULL && *names != NULL; names++)
		buffer_addf(text, "%s%s", text->length > 0 ? " " : "", *names);
}

static int
declare(struct stream *s, const char *inputs, const char *outputs,
    struct mr_error *err)
{
	int commands = s->svc->command != NULL;
	int64_t one = 0;
	int found;

	if ((found = store_find(s->st, err, &one, sql_declared,
		 store_text(inputs), store_text(outputs),
		 store_i64(commands))) != 0)
		return (found == -1 ? -1 : 0);
	if (store_begin(s->st, err) == -1)
		return (-1);
	if (store_run(s->st, err, sql_declare, store_text(inputs),
		store_text(outputs), store_i64(commands)) == -1) {
		store_rollback(s->st);
		return (-1);
	}
	return (store_commit(s->st, err));
}

int
declare_service(struct stream *s, struct mr_error *err)
{
	struct buffer inputs = {0}, outputs = {0};
	int status;

	names_add(&inputs, s->svc->inputs);
	names_add(&outputs, s->svc->outputs);
	if (inputs.failed || outputs.failed)
		status = mr_error_set(err, MR_RETRY, "out of memory");
	else
		status = declare(s, buffer_text(&inputs), buffer_text(&outputs),
		    err);
	buffer_free(&inputs);
	buffer_free(&outputs);
	return (status);
}
