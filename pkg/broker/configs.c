/*
 * configs -- DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "broker/catalog.h"
#include "broker/connection.h"
#include "broker/keeper.h"
#include "broker/named.h"
#include "broker/partition.h"

enum { RESOURCE_TOPIC = 2, RESOURCE_BROKER = 4 };
enum { SOURCE_TOPIC = 1, SOURCE_STATIC = 4, SOURCE_DEFAULT = 5 };
enum { OP_SET = 0, OP_DELETE = 1, OP_APPEND = 2, OP_SUBTRACT = 3 };

/* ---- describing --------------------------------------------------------- */

static int
is_wanted(const struct wire_describe_configs_request_resource *in,
    const char *name)
{
	int32_t i;

	for (i = 0; i < in->configuration_keys.count; i++)
		if (wire_string_is(in->configuration_keys.at[i], name))
			return (1);
	return (in->configuration_keys.count < 0);
}

/* Where a value can come from: that which is added first counts.  0, or -1: given
 * up. */
static int
add_synonym(struct request *req, const char *name, struct wire_string value,
    int8_t source, struct wire_describe_configs_response_config *out)
{
	const struct wire_describe_configs_request *in = req->body;
	struct wire_describe_configs_response_synonym *s;

	if (out->value.at == NULL) {
		out->value = value;
		out->config_source = source;
	}
	if (!in->include_synonyms)
		return (0);
	if (out->synonyms.at == NULL &&
	    (out->synonyms.at = request_take(req, 2 * sizeof(*s))) == NULL)
		return (-1);
	s = &out->synonyms.at[out->synonyms.count++];
	s->name = wire_text(name);
	s->value = value;
	s->source = source;
	return (0);
}

/* The i-th setting.  ${t} NULL: the broker's own. */
static int
describe_setting(struct broker *b, struct request *req, const struct topic *t,
    int i, struct wire_describe_configs_response_config *out)
{
	const struct wire_describe_configs_request *in = req->body;
	char text[64], *value;

	wire_defaults(wire_describe_configs_response_config_layout(), out);
	out->name = wire_text(
	    t != NULL ? setting_name(i) : broker_setting_name(i));
	out->read_only = t == NULL;
	out->config_type = (int8_t)broker_setting_type(i);
	if (in->include_documentation)
		out->documentation = wire_text(broker_setting_help(i));
	if (t != NULL && t->overrides[i] != NULL &&
	    ((value = request_text(req, wire_text(t->overrides[i]))) == NULL ||
		add_synonym(req, setting_name(i), wire_text(value),
		    SOURCE_TOPIC, out) == -1))
		return (-1);
	broker_setting_write(i, &b->conf, text, sizeof(text));
	if ((value = request_text(req, wire_text(text))) == NULL)
		return (-1);
	return (add_synonym(req, broker_setting_name(i), wire_text(value),
	    SOURCE_DEFAULT, out));
}

/* What is asked for.  0 and the error in *out, or -1: given up. */
static int
describe_resource(struct broker *b, struct request *req,
    const struct wire_describe_configs_request_resource *in,
    struct wire_describe_configs_response_resource *out)
{
	struct wire_describe_configs_response_config *list;
	const struct topic *t = NULL;
	const char *why = NULL;
	int i;

	wire_defaults(wire_describe_configs_response_resource_layout(), out);
	out->resource_type = in->resource_type;
	out->resource_name = in->resource_name;
	out->error_message = wire_text("");
	if (in->resource_type == RESOURCE_TOPIC) {
		if ((t = catalog_find(b, in->resource_name)) == NULL)
			out->error_code = topic_check_name(in->resource_name,
					      &why) == WIRE_NONE ?
			    WIRE_UNKNOWN_TOPIC_OR_PARTITION :
			    WIRE_INVALID_TOPIC;
	} else if (in->resource_type != RESOURCE_BROKER) {
		out->error_code = WIRE_INVALID_REQUEST;
		why = "only topics and the broker have settings";
	} else if (in->resource_name.length > 0 &&
	    !wire_string_is(in->resource_name, "1")) {
		out->error_code = WIRE_INVALID_REQUEST;
		why = "there is one broker, and its id is 1";
	}
	if (out->error_code != WIRE_NONE) {
		out->error_message = wire_text(why);
		return (0);
	}
	list = request_take(req, BROKER_SETTING_COUNT * sizeof(*list));
	if ((out->configs.at = list) == NULL)
		return (-1);
	for (i = 0; i < (t != NULL ? SETTING_COUNT : BROKER_SETTING_COUNT); i++)
		if (is_wanted(in,
			t != NULL ? setting_name(i) : broker_setting_name(i)) &&
		    describe_setting(b, req, t, i,
			&list[out->configs.count++]) == -1)
			return (-1);
	return (0);
}

void
handle_describe_configs(struct broker *b, struct request *req)
{
	const struct wire_describe_configs_request *in = req->body;
	struct wire_describe_configs_response_resource *list;
	struct wire_describe_configs_response out;
	int32_t i;

	wire_defaults(wire_describe_configs_response_layout(), &out);
	list = request_take(req, (size_t)in->resources.count * sizeof(*list));
	if ((out.resources.at = list) == NULL)
		return;
	out.resources.count = in->resources.count;
	for (i = 0; i < in->resources.count; i++)
		if (describe_resource(b, req, &in->resources.at[i], &list[i]) ==
		    -1)
			return;
	request_answer(req, &out);
}

/* ---- altering ----------------------------------------------------------- */

/* One setting to be changed. */
struct wish {
	struct wire_string name, value;
	int8_t op;
};

/*
 * Both kinds of request come to this: what is asked for of each resource, and
 * the overrides that it is to have afterwards.
 */
struct alter {
	int type;
	struct wire_string name;
	struct wish *wishes;
	struct named *named;
	int32_t count;

	struct topic *topic; /* held; NULL: refused, or only tried */
	struct topic *next; /* with the overrides to be */
	int64_t number; /* of the topic's changes */
	int64_t upon; /* the one that it adds to; 0: what is on disk */
	int made; /* on disk */
	int16_t error;
	const char *message;
};

struct alter_job {
	struct worker_job job;
	struct request *req;
	struct alter *list;
	struct named *named;
	size_t count;
	void (*answer)(struct alter_job *alter);
};

/* What adds to a change that was refused would bring that with it. */
static void
make_change(struct broker *b, struct alter *a, struct mr_error *err)
{
	struct topic *t = a->topic;

	if (a->upon == 0 || a->upon != t->refused)
		a->made = keeper_set_overrides(b, t->id_text,
			      a->next->overrides, err) == 0;
	if (!a->made)
		t->refused = a->number;
}

static void
run_alter(struct worker_job *job, void *arg)
{
	struct alter_job *alter = (struct alter_job *)job;
	size_t i;

	for (i = 0; i < alter->count && job->err.kind != MR_FATAL; i++)
		if (alter->list[i].topic != NULL)
			make_change(arg, &alter->list[i], &job->err);
}

/* The topic gets the other's overrides. */
static void
take_over(struct broker *b, struct topic *t, struct topic *next)
{
	char *override;
	int32_t i;

	t->settings = next->settings;
	for (i = 0; i < SETTING_COUNT; i++) {
		override = t->overrides[i];
		t->overrides[i] = next->overrides[i];
		next->overrides[i] = override;
	}
	for (i = 0; i < t->partition_count; i++)
		partition_configure(b, t->partitions[i]);
}

static void
finish_alter(struct worker_job *job, void *arg)
{
	struct alter_job *alter = (struct alter_job *)job;
	struct broker *b = arg;
	struct alter *a;
	size_t i;

	if (job->err.kind == MR_FATAL)
		broker_fail(b, &job->err);
	else if (job->err.kind != MR_OK)
		log_warn("settings could not be changed", "error",
		    job->err.message);
	for (i = 0; i < alter->count; i++) {
		a = &alter->list[i];
		if (a->topic == NULL)
			continue;
		if (!a->made)
			a->error = WIRE_KAFKA_STORAGE_ERROR;
		else if (!a->topic->retired)
			take_over(b, a->topic, a->next);
		if (a->topic->next == a->next)
			a->topic->next = NULL;
		topic_free(a->next);
		topic_release(b, a->topic);
	}
	alter->answer(alter);
}

/* Returns -1, for those that return. */
static int
refuse(struct request *req, struct alter *a, int16_t error, const char *message)
{
	char *copy = wire_arena_take(&req->arena, strlen(message) + 1);

	if (copy != NULL)
		memcpy(copy, message, strlen(message) + 1);
	a->message = copy;
	a->error = error;
	return (-1);
}

/* A list's word put in or taken out, as text in ${out}. */
static void
change_list(const struct topic *t, int op, const char *value, char *out,
    size_t size)
{
	struct topic_settings change = t->settings, now = t->settings;
	struct mr_error err;
	char have[40];

	if (setting_parse(0, value, &change, &err) == -1) {
		/* Let the caller's parsing say what is wrong. */
		snprintf(out, size, "%s", value);
		return;
	}
	if (op == OP_APPEND && (change.cleanup & ~now.cleanup) != 0) {
		setting_write(0, &now, have, sizeof(have));
		snprintf(out, size, "%.30s,%.30s", have, value);
		return;
	}
	if (op == OP_SUBTRACT)
		now.cleanup &= ~change.cleanup;
	setting_write(0, &now, out, size);
}

/* One setting of one resource, into a->next.  -1: it is refused. */
static int
apply(struct broker *b, struct request *req, struct alter *a,
    const struct wish *w)
{
	size_t length = w->value.length > 0 ? (size_t)w->value.length : 0;
	struct mr_error err;
	char *text, list[64];
	int setting;

	setting = setting_find(w->name.at,
	    w->name.length > 0 ? (size_t)w->name.length : 0);
	if (w->op == OP_DELETE)
		return (setting == -1 ?
			0 :
			topic_override(b, a->next, setting, NULL, &err));
	if (setting == -1) {
		mr_error_set(&err, MR_REJECT,
		    "%.*s: there is no such setting here",
		    (int)(w->name.length < 100 ? w->name.length : 100),
		    w->name.at);
		return (refuse(req, a, WIRE_INVALID_CONFIG, err.message));
	}
	if ((text = wire_arena_take(&req->arena, length + 1)) == NULL)
		return (
		    refuse(req, a, WIRE_KAFKA_STORAGE_ERROR, "out of memory"));
	if (length > 0)
		memcpy(text, w->value.at, length);
	if (w->op == OP_APPEND || w->op == OP_SUBTRACT) {
		if (setting_type(setting) != SETTING_LIST)
			return (refuse(req, a, WIRE_INVALID_CONFIG,
			    "only a list can be appended to"));
		change_list(a->next, w->op, text, list, sizeof(list));
		text = list;
	}
	if (topic_override(b, a->next, setting, text, &err) == -1)
		return (refuse(req, a, WIRE_INVALID_CONFIG, err.message));
	return (0);
}

/* Resources, and each one's settings.  0, or -1: the request was given up. */
static int
find_altered_twice(struct alter_job *alter)
{
	struct alter *a;
	size_t i;
	int32_t k;

	for (i = 0; i < alter->count; i++) {
		a = &alter->list[i];
		alter->named[i] = named_as(a->name);
		alter->named[i].number = a->type;
		a->named = request_take(alter->req,
		    ((size_t)a->count + 1) * sizeof(*a->named));
		if (a->named == NULL)
			return (-1);
		for (k = 0; k < a->count; k++)
			a->named[k] = named_as(a->wishes[k].name);
		if (named_find_twice(alter->req, a->named, (size_t)a->count) ==
		    -1)
			return (-1);
	}
	return (named_find_twice(alter->req, alter->named, alter->count));
}

/* What can be seen without looking at the topic.  -1: it is refused. */
static int
check_wishes(struct alter_job *alter, struct alter *a, int twice)
{
	const struct wish *w;
	int32_t i;

	if (twice)
		return (refuse(alter->req, a, WIRE_INVALID_REQUEST,
		    "the resource is named twice"));
	for (i = 0; i < a->count; i++) {
		w = &a->wishes[i];
		if (w->op < OP_SET || w->op > OP_SUBTRACT)
			return (refuse(alter->req, a, WIRE_INVALID_REQUEST,
			    "there is no such operation"));
		if (w->value.length < 0 && w->op != OP_DELETE)
			return (refuse(alter->req, a, WIRE_INVALID_REQUEST,
			    "a value can't be null"));
		if (a->named[i].twice)
			return (refuse(alter->req, a, WIRE_INVALID_REQUEST,
			    "a setting is named twice"));
	}
	return (0);
}

/* The topic and a copy of its settings to change.  -1: refused. */
static int
begin(struct broker *b, struct request *req, struct alter *a, int keep)
{
	const struct topic *now;
	struct mr_error err;
	struct topic *t;
	int i;

	if (a->type != RESOURCE_TOPIC)
		return (refuse(req, a, WIRE_INVALID_REQUEST,
		    "only topics' settings can be changed: the broker's are "
		    "its flags"));
	if ((t = catalog_find(b, a->name)) == NULL) {
		a->error = WIRE_UNKNOWN_TOPIC_OR_PARTITION;
		return (-1);
	}
	if ((a->next = topic_new(b, t->name)) == NULL) {
		a->error = WIRE_KAFKA_STORAGE_ERROR;
		return (-1);
	}
	/* Others' changes may be on their way: these come on top of them. */
	now = t->next != NULL ? t->next : t;
	for (i = 0; keep && i < SETTING_COUNT; i++)
		if (now->overrides[i] != NULL &&
		    topic_override(b, a->next, i, now->overrides[i], &err) ==
			-1) {
			a->error = WIRE_KAFKA_STORAGE_ERROR;
			return (-1);
		}
	a->topic = t;
	return (0);
}

/* What came of it: kept for the keeper, or given up. */
static void
end(struct alter *a, int ok, int keep, int validate_only)
{

	if (ok && !validate_only) {
		a->upon = keep && a->topic->next != NULL ? a->topic->changes :
							   0;
		a->number = ++a->topic->changes;
		a->topic->next = a->next;
		topic_hold(a->topic);
		return;
	}
	topic_free(a->next);
	a->next = NULL;
	a->topic = NULL;
}

static struct alter_job *
new_alter(struct request *req, int32_t count)
{
	struct alter_job *alter = request_take(req, sizeof(*alter));

	if (alter == NULL)
		return (NULL);
	alter->req = req;
	alter->count = (size_t)count;
	alter->list = request_take(req,
	    (alter->count + 1) * sizeof(*alter->list));
	if (alter->list == NULL)
		return (NULL);
	alter->named = request_take(req,
	    (alter->count + 1) * sizeof(*alter->named));
	alter->job.run = run_alter;
	alter->job.finish = finish_alter;
	return (alter->named != NULL ? alter : NULL);
}

/* The i-th resource, and room for its wishes.  NULL: given up. */
static struct wish *
new_wishes(struct alter_job *alter, int32_t i, int type,
    struct wire_string name, int32_t count)
{
	struct alter *a = &alter->list[i];

	a->type = type;
	a->name = name;
	a->count = count;
	a->wishes = request_take(alter->req,
	    ((size_t)count + 1) * sizeof(*a->wishes));
	return (a->wishes);
}

/* ${keep}: what isn't named stays; else it goes back to the broker's. */
static void
start_alter(struct broker *b, struct alter_job *alter, int keep,
    int validate_only)
{
	struct alter *a;
	size_t i;
	int32_t k;
	int ok;

	if (find_altered_twice(alter) == -1)
		return;
	for (i = 0; i < alter->count; i++) {
		a = &alter->list[i];
		ok = check_wishes(alter, a, alter->named[i].twice) == 0 &&
		    begin(b, alter->req, a, keep) == 0;
		for (k = 0; ok && k < a->count; k++)
			ok = apply(b, alter->req, a, &a->wishes[k]) == 0;
		end(a, ok, keep, validate_only);
	}
	worker_give(b->keeper, &alter->job);
}

/* As both kinds of answer have it; NULL: given up. */
static struct wire_alter_configs_response_resource *
list_results(const struct alter_job *alter)
{
	struct wire_alter_configs_response_resource *list;
	size_t i;

	list = request_take(alter->req, alter->count * sizeof(*list));
	for (i = 0; list != NULL && i < alter->count; i++) {
		list[i].error_code = alter->list[i].error;
		list[i].error_message = wire_text(alter->list[i].message);
		list[i].resource_type = (int8_t)alter->list[i].type;
		list[i].resource_name = alter->list[i].name;
	}
	return (list);
}

static void
answer_incremental(struct alter_job *alter)
{
	struct wire_incremental_alter_configs_response out;

	wire_defaults(wire_incremental_alter_configs_response_layout(), &out);
	out.resources.count = (int32_t)alter->count;
	if ((out.resources.at = list_results(alter)) != NULL)
		request_answer(alter->req, &out);
}

void
handle_incremental_alter_configs(struct broker *b, struct request *req)
{
	const struct wire_incremental_alter_configs_request *in = req->body;
	const struct wire_incremental_alter_configs_request_resource *r;
	struct alter_job *alter = new_alter(req, in->resources.count);
	struct wish *w;
	int32_t i, k;

	if (alter == NULL)
		return;
	alter->answer = answer_incremental;
	for (i = 0; i < in->resources.count; i++) {
		r = &in->resources.at[i];
		w = new_wishes(alter, i, r->resource_type, r->resource_name,
		    r->configs.count);
		if (w == NULL)
			return;
		for (k = 0; k < r->configs.count; k++, w++) {
			w->name = r->configs.at[k].name;
			w->value = r->configs.at[k].value;
			w->op = r->configs.at[k].config_operation;
		}
	}
	start_alter(b, alter, 1, in->validate_only);
}

static void
answer_alter(struct alter_job *alter)
{
	struct wire_alter_configs_response out;

	wire_defaults(wire_alter_configs_response_layout(), &out);
	out.resources.count = (int32_t)alter->count;
	if ((out.resources.at = list_results(alter)) != NULL)
		request_answer(alter->req, &out);
}

void
handle_alter_configs(struct broker *b, struct request *req)
{
	const struct wire_alter_configs_request *in = req->body;
	const struct wire_alter_configs_request_resource *r;
	struct alter_job *alter = new_alter(req, in->resources.count);
	struct wish *w;
	int32_t i, k;

	if (alter == NULL)
		return;
	alter->answer = answer_alter;
	for (i = 0; i < in->resources.count; i++) {
		r = &in->resources.at[i];
		w = new_wishes(alter, i, r->resource_type, r->resource_name,
		    r->configs.count);
		if (w == NULL)
			return;
		for (k = 0; k < r->configs.count; k++, w++) {
			w->name = r->configs.at[k].name;
			w->value = r->configs.at[k].value;
			w->op = OP_SET;
		}
	}
	start_alter(b, alter, 0, in->validate_only);
}
