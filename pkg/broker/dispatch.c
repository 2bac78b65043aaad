/*
 * dispatch -- which function answers which request.
 */
#include <string.h>

#include "base/log.h"
#include "broker/connection.h"
#include "broker/internal.h"
#include "broker/measure.h"

static const struct {
	int key;
	request_handler *handle;
} handlers[] = {
    {WIRE_API_Produce, handle_produce},
    {WIRE_API_Fetch, handle_fetch},
    {WIRE_API_ListOffsets, handle_list_offsets},
    {WIRE_API_Metadata, handle_metadata},
    {WIRE_API_OffsetCommit, handle_offset_commit},
    {WIRE_API_OffsetFetch, handle_offset_fetch},
    {WIRE_API_FindCoordinator, handle_find_coordinator},
    {WIRE_API_JoinGroup, handle_join_group},
    {WIRE_API_Heartbeat, handle_heartbeat},
    {WIRE_API_LeaveGroup, handle_leave_group},
    {WIRE_API_SyncGroup, handle_sync_group},
    {WIRE_API_DescribeGroups, handle_describe_groups},
    {WIRE_API_ListGroups, handle_list_groups},
    {WIRE_API_ApiVersions, handle_api_versions},
    {WIRE_API_CreateTopics, handle_create_topics},
    {WIRE_API_DeleteTopics, handle_delete_topics},
    {WIRE_API_DeleteRecords, handle_delete_records},
    {WIRE_API_InitProducerId, handle_init_producer_id},
    {WIRE_API_OffsetForLeaderEpoch, handle_offset_for_leader_epoch},
    {WIRE_API_DescribeConfigs, handle_describe_configs},
    {WIRE_API_AlterConfigs, handle_alter_configs},
    {WIRE_API_DescribeLogDirs, handle_describe_log_dirs},
    {WIRE_API_CreatePartitions, handle_create_partitions},
    {WIRE_API_DeleteGroups, handle_delete_groups},
    {WIRE_API_IncrementalAlterConfigs, handle_incremental_alter_configs},
    {WIRE_API_OffsetDelete, handle_offset_delete},
    {WIRE_API_DescribeCluster, handle_describe_cluster},
    {WIRE_API_DescribeProducers, handle_describe_producers},
    {WIRE_API_SaslHandshake, handle_sasl_handshake},
    {WIRE_API_SaslAuthenticate, handle_sasl_authenticate},
    {WIRE_API_ConsumerGroupHeartbeat, handle_consumer_group_heartbeat},
};

static request_handler *
handler_of(int key)
{
	size_t i;

	for (i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
		if (handlers[i].key == key)
			return (handlers[i].handle);
	return (NULL);
}

/*
 * Old librdkafka finds out whether a broker takes batches (Produce 3) by
 * whether it takes anything older, so the least version of Produce is said to
 * be 0, as Kafka 4 does.
 */
static void
list_versions(struct wire_api_versions_response_api_key *list)
{
	const struct wire_api *api;
	size_t i;

	for (i = 0; (api = wire_api_at(i)) != NULL; i++) {
		list[i].api_key = api->key;
		list[i].min_version = api->key == WIRE_API_Produce ? 0 :
								     api->least;
		list[i].max_version = api->most;
	}
}

static size_t
count_versions(void)
{
	size_t n = 0;

	while (wire_api_at(n) != NULL)
		n++;
	return (n);
}

static int
is_alnum(char c)
{

	return ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9'));
}

/* Letters and digits, and '-' and '.' between them. */
static int
is_software(struct wire_string s)
{
	int32_t i;

	if (s.length < 1 || !is_alnum(s.at[0]) || !is_alnum(s.at[s.length - 1]))
		return (0);
	for (i = 0; i < s.length; i++)
		if (!is_alnum(s.at[i]) && s.at[i] != '-' && s.at[i] != '.')
			return (0);
	return (1);
}

void
handle_api_versions(struct broker *b, struct request *req)
{
	const struct wire_api_versions_request *in = req->body;
	struct wire_api_versions_response out;
	size_t count = count_versions();

	(void)b;
	wire_defaults(wire_api_versions_response_layout(), &out);
	if (req->version >= 3 &&
	    (!is_software(in->client_software_name) ||
		!is_software(in->client_software_version))) {
		out.error_code = WIRE_INVALID_REQUEST;
		request_answer(req, &out);
		return;
	}
	out.api_keys.at = request_take(req, count * sizeof(*out.api_keys.at));
	if (out.api_keys.at == NULL)
		return;
	out.api_keys.count = (int32_t)count;
	list_versions(out.api_keys.at);
	request_answer(req, &out);
}

/* Listeners speak in plain text: clients are told, and don't try again. */
void
handle_sasl_handshake(struct broker *b, struct request *req)
{
	struct wire_sasl_handshake_response out;

	(void)b;
	wire_defaults(wire_sasl_handshake_response_layout(), &out);
	out.error_code = WIRE_ILLEGAL_SASL_STATE;
	request_answer(req, &out);
}

void
handle_sasl_authenticate(struct broker *b, struct request *req)
{
	struct wire_sasl_authenticate_response out;

	(void)b;
	wire_defaults(wire_sasl_authenticate_response_layout(), &out);
	out.error_code = WIRE_ILLEGAL_SASL_STATE;
	out.error_message = wire_text("this broker asks for no password");
	request_answer(req, &out);
}

/*
 * Kafka answers an ApiVersions of a version that it doesn't know in version 0,
 * with the error and its own versions of that API, and the client asks
 * again.  Anything else closes the connection.
 */
static void
refuse(struct request *req)
{
	struct wire_api_versions_response_api_key own;
	struct wire_api_versions_response out;
	int16_t key = req->header.api_key;

	measure_refused();
	if (key != WIRE_API_ApiVersions) {
		request_abandon(req,
		    req->header.api == NULL ?
			"a request of an API that isn't spoken here" :
			"a request of a version that isn't spoken here");
		return;
	}
	wire_defaults(wire_api_versions_response_layout(), &out);
	out.error_code = WIRE_UNSUPPORTED_VERSION;
	own.api_key = key;
	own.min_version = req->header.api->least;
	own.max_version = req->header.api->most;
	out.api_keys.at = &own;
	out.api_keys.count = 1;
	req->version = 0;
	request_answer(req, &out);
}

void
request_start(struct request *req)
{
	const struct wire_api *api = req->header.api;
	const struct wire_layout *layout;
	request_handler *handle;
	struct mr_error err;

	if (!req->header.supported) {
		refuse(req);
		return;
	}
	if ((handle = handler_of(api->key)) == NULL) {
		request_abandon(req, "a request that nothing here answers");
		return;
	}
	layout = api->request();
	if ((req->body = request_take(req, wire_size(layout))) == NULL)
		return;
	if (wire_read(layout, req->version, api->flexible_from,
		req->header.body, req->header.body_size, &req->arena, req->body,
		&err) == -1) {
		request_abandon(req, err.message);
		return;
	}
	handle(req->broker, req);
}
