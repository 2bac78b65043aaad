/*
 * metadata -- who and where: topics, the broker, coordinators.
 */
#include <string.h>

#include "broker/admin.h"
#include "broker/catalog.h"
#include "broker/connection.h"
#include "broker/internal.h"

/* ---- Metadata ----------------------------------------------------------- */

static int32_t only_node[] = {BROKER_NODE_ID};

/* 0, or -1: the request was given up. */
static int
describe_topic(struct broker *b, struct request *req, const struct topic *t,
    struct wire_metadata_response_topic *out)
{
	struct wire_metadata_response_partition *p;
	int32_t i;

	out->name = wire_text(t->name);
	out->topic_id = t->id;
	p = request_take(req, (size_t)t->partition_count * sizeof(*p));
	if (p == NULL)
		return (-1);
	out->partitions.at = p;
	out->partitions.count = t->partition_count;
	for (i = 0; i < t->partition_count; i++, p++) {
		wire_defaults(wire_metadata_response_partition_layout(), p);
		p->partition_index = i;
		p->leader_id = BROKER_NODE_ID;
		p->leader_epoch = b->leader_epoch;
		p->replica_nodes.at = only_node;
		p->replica_nodes.count = 1;
		p->isr_nodes = p->replica_nodes;
	}
	return (0);
}

/* Which of the request's topics it is; NULL and the error if there is none. */
static const struct topic *
asked_topic(const struct broker *b, const struct request *req,
    const struct wire_metadata_request_topic *asked,
    struct wire_metadata_response_topic *out)
{
	const struct topic *t;
	const char *why;

	out->name = asked->name;
	out->topic_id = asked->topic_id;
	if (req->version >= 12 && !uuid_is_zero(&asked->topic_id)) {
		t = catalog_find_id(b, &asked->topic_id);
		out->error_code = t != NULL ? WIRE_NONE : WIRE_UNKNOWN_TOPIC_ID;
		return (t);
	}
	if ((t = catalog_find(b, asked->name)) != NULL)
		return (t);
	out->error_code = topic_check_name(asked->name, &why);
	if (out->error_code == WIRE_NONE)
		out->error_code = WIRE_UNKNOWN_TOPIC_OR_PARTITION;
	return (NULL);
}

static int
list_asked(struct broker *b, struct request *req,
    struct wire_metadata_response *out)
{
	const struct wire_metadata_request *in = req->body;
	struct wire_metadata_response_topic *list;
	const struct topic *t;
	int32_t i;

	list = request_take(req, (size_t)in->topics.count * sizeof(*list));
	if (list == NULL)
		return (-1);
	out->topics.at = list;
	out->topics.count = in->topics.count;
	for (i = 0; i < in->topics.count; i++, list++) {
		wire_defaults(wire_metadata_response_topic_layout(), list);
		t = asked_topic(b, req, &in->topics.at[i], list);
		if (t != NULL && describe_topic(b, req, t, list) == -1)
			return (-1);
	}
	return (0);
}

static int
list_all(struct broker *b, struct request *req,
    struct wire_metadata_response *out)
{
	struct wire_metadata_response_topic *list;
	const struct topic *t;
	size_t at = 0;

	list = request_take(req, b->topics.count * sizeof(*list));
	if (list == NULL)
		return (-1);
	out->topics.at = list;
	out->topics.count = (int32_t)b->topics.count;
	while ((t = catalog_next(b, &at)) != NULL) {
		wire_defaults(wire_metadata_response_topic_layout(), list);
		if (describe_topic(b, req, t, list++) == -1)
			return (-1);
	}
	return (0);
}

/* Of topics that aren't there as well, as Kafka does. */
static void
tell_operations(const struct wire_metadata_request *in,
    struct wire_metadata_response *out)
{
	int32_t i, count = out->topics.count;

	if (in->include_cluster_authorized_operations)
		out->cluster_authorized_operations = OPERATIONS_OF_CLUSTER;
	if (!in->include_topic_authorized_operations)
		return;
	for (i = 0; i < count; i++)
		out->topics.at[i]
		    .topic_authorized_operations = OPERATIONS_OF_TOPIC;
}

void
metadata_answer(struct broker *b, struct request *req)
{
	const struct wire_metadata_request *in = req->body;
	struct wire_metadata_response out;
	struct wire_metadata_response_broker self;
	const char *host;
	int all, rc;

	wire_defaults(wire_metadata_response_layout(), &out);
	wire_defaults(wire_metadata_response_broker_layout(), &self);
	self.node_id = BROKER_NODE_ID;
	request_local(req, &host, &self.port);
	self.host = wire_text(host);
	out.brokers.at = &self;
	out.brokers.count = 1;
	out.cluster_id = wire_text(b->cluster_id);
	out.controller_id = BROKER_NODE_ID;
	/* In version 0 an empty list asks for all. */
	all = in->topics.count < 0 ||
	    (req->version == 0 && in->topics.count == 0);
	rc = all ? list_all(b, req, &out) : list_asked(b, req, &out);
	if (rc == -1)
		return;
	tell_operations(in, &out);
	request_answer(req, &out);
}

/* Versions 10 and 11 have a field for ids; it was to be used from 12 on. */
static int
asks_too_early(const struct request *req)
{
	const struct wire_metadata_request *in = req->body;
	int32_t i;

	if (req->version < 10 || req->version > 11)
		return (0);
	for (i = 0; i < in->topics.count; i++)
		if (in->topics.at[i].name.length < 0 ||
		    !uuid_is_zero(&in->topics.at[i].topic_id))
			return (1);
	return (0);
}

static void
refuse(struct request *req)
{
	const struct wire_metadata_request *in = req->body;
	struct wire_metadata_response_topic *list;
	struct wire_metadata_response out;
	int32_t i;

	wire_defaults(wire_metadata_response_layout(), &out);
	list = request_take(req, (size_t)in->topics.count * sizeof(*list));
	if ((out.topics.at = list) == NULL)
		return;
	out.topics.count = in->topics.count;
	for (i = 0; i < in->topics.count; i++, list++) {
		wire_defaults(wire_metadata_response_topic_layout(), list);
		list->name = in->topics.at[i].name;
		list->topic_id = in->topics.at[i].topic_id;
		list->error_code = WIRE_INVALID_REQUEST;
	}
	request_answer(req, &out);
}

void
handle_metadata(struct broker *b, struct request *req)
{
	const struct wire_metadata_request *in = req->body;

	if (asks_too_early(req)) {
		refuse(req);
		return;
	}
	if (b->conf.auto_create && in->allow_auto_topic_creation &&
	    in->topics.count > 0 && admin_auto_create(b, req))
		return; /* answered when they are made */
	metadata_answer(b, req);
}

/* ---- DescribeCluster ---------------------------------------------------- */

enum { ENDPOINT_BROKER = 1, ENDPOINT_CONTROLLER = 2 };

void
handle_describe_cluster(struct broker *b, struct request *req)
{
	const struct wire_describe_cluster_request *in = req->body;
	struct wire_describe_cluster_response out;
	struct wire_describe_cluster_response_broker self;
	const char *host;

	wire_defaults(wire_describe_cluster_response_layout(), &out);
	wire_defaults(wire_describe_cluster_response_broker_layout(), &self);
	if (in->endpoint_type == ENDPOINT_CONTROLLER) {
		out.error_code = WIRE_MISMATCHED_ENDPOINT_TYPE;
		out.error_message = wire_text(
		    "there are no controllers apart from the broker");
		request_answer(req, &out);
		return;
	}
	if (in->endpoint_type != ENDPOINT_BROKER) {
		out.error_code = WIRE_UNSUPPORTED_ENDPOINT_TYPE;
		request_answer(req, &out);
		return;
	}
	self.broker_id = BROKER_NODE_ID;
	request_local(req, &host, &self.port);
	self.host = wire_text(host);
	out.cluster_id = wire_text(b->cluster_id);
	out.controller_id = BROKER_NODE_ID;
	out.brokers.at = &self;
	out.brokers.count = 1;
	if (in->include_cluster_authorized_operations)
		out.cluster_authorized_operations = OPERATIONS_OF_CLUSTER;
	request_answer(req, &out);
}

/* ---- FindCoordinator ---------------------------------------------------- */

enum { KEY_TYPE_GROUP = 0, KEY_TYPE_TRANSACTION = 1 };

static void
find(struct request *req, struct wire_string key,
    struct wire_find_coordinator_response_coordinator *out)
{
	const struct wire_find_coordinator_request *in = req->body;
	const char *host;

	wire_defaults(wire_find_coordinator_response_coordinator_layout(), out);
	out->key = key;
	out->node_id = -1;
	out->port = -1;
	out->error_message = wire_text("");
	if (in->key_type == KEY_TYPE_TRANSACTION) {
		/* As InitProducerId says.  Not that there is none at the
		 * moment: clients would ask for ever.  So does librdkafka,
		 * which asks by an old version, unless it isn't allowed. */
		out->error_code = req->version >= 4 ?
		    WIRE_UNSUPPORTED_VERSION :
		    WIRE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
		out->error_message = wire_text(
		    "this broker has no transactions");
		return;
	}
	if (in->key_type != KEY_TYPE_GROUP) {
		out->error_code = WIRE_INVALID_REQUEST;
		out->error_message = wire_text("no such type of coordinator");
		return;
	}
	out->node_id = BROKER_NODE_ID;
	request_local(req, &host, &out->port);
	out->host = wire_text(host);
}

void
handle_find_coordinator(struct broker *b, struct request *req)
{
	const struct wire_find_coordinator_request *in = req->body;
	struct wire_find_coordinator_response_coordinator *list;
	struct wire_find_coordinator_response out;
	int32_t i, count = req->version >= 4 ? in->coordinator_keys.count : 1;

	(void)b;
	wire_defaults(wire_find_coordinator_response_layout(), &out);
	list = request_take(req, (size_t)count * sizeof(*list));
	if (list == NULL)
		return;
	for (i = 0; i < count; i++)
		find(req,
		    req->version >= 4 ? in->coordinator_keys.at[i] : in->key,
		    &list[i]);
	if (req->version >= 4) {
		out.coordinators.at = list;
		out.coordinators.count = count;
	} else {
		out.error_code = list->error_code;
		out.error_message = list->error_message;
		out.node_id = list->node_id;
		out.host = list->host;
		out.port = list->port;
	}
	request_answer(req, &out);
}
