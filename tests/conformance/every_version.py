"""every_version -- each API that is spoken, in each of its versions.

Adds to the scenarios: versions differ in layout, so each is a message of its
own, put together and taken apart by Kafka's definitions.
"""

import time

from protocol import versions
from scenarios import EARLIEST, batch, clean, make, ready, scenario

LOADING = 14
TOPIC, GROUP = "conf-versions", "conf-versions"
# What only the embedded broker lacks, as ARCHITECTURE says.
NOT_HERE = {("Fetch", 18), ("ListOffsets", 11), ("InitProducerId", 6)}
# Of others' topics and groups, or of the broker itself.
HIDDEN = {"ApiKeys", "Groups", "ProducerId", "PartitionSize", "Configs", "Rack"}


def named(by_id, topic_id, name="Name"):
    return {"TopicId": topic_id} if by_id else {name: TOPIC}


def requests(topic_id):
    """{API: what is asked in a version}."""
    def of(by_id_from, name="Name", **fields):
        return lambda v: dict(named(v >= by_id_from, topic_id, name),
                              **fields)
    never = 1000
    produced = of(13, PartitionData=[{"Index": 0, "Records": batch([b"x"])}])
    fetched = of(13, "Topic", Partitions=[
        {"Partition": 0, "PartitionMaxBytes": 1 << 16}])
    listed = of(never, Partitions=[
        {"PartitionIndex": 0, "Timestamp": EARLIEST}])
    committed = of(10, Partitions=[
        {"PartitionIndex": 0, "CommittedOffset": 1,
         "CommittedMetadata": "m"}])
    asked = of(10, PartitionIndexes=[0])
    epoch = of(never, "Topic", Partitions=[
        {"Partition": 0, "LeaderEpoch": 1 << 30}])
    stranger = {"GroupId": GROUP, "MemberId": "x"}
    changed = {"ResourceType": 2, "ResourceName": TOPIC}
    key = {"Key": GROUP, "KeyType": 0}
    return {
        "Produce": lambda v: {"Acks": -1, "TimeoutMs": 1000,
                              "TopicData": [produced(v)]},
        "Fetch": lambda v: {"MinBytes": 1, "Topics": [fetched(v)]},
        "ListOffsets": lambda v: {"ReplicaId": -1, "Topics": [listed(v)]},
        "Metadata": lambda v: {"Topics": [{"Name": TOPIC}]},
        "OffsetCommit": lambda v: {"GroupId": GROUP,
                                   "Topics": [committed(v)]},
        "OffsetFetch": lambda v:
            {"GroupId": GROUP, "Topics": [asked(v)]} if v < 8 else
            {"Groups": [{"GroupId": GROUP, "Topics": [asked(v)]}]},
        "FindCoordinator": lambda v:
            {k: key[k] for k in list(key)[:1 + (v > 0)]} if v < 4 else
            {"KeyType": 0, "CoordinatorKeys": [GROUP]},
        "JoinGroup": lambda v: dict(
            stranger, SessionTimeoutMs=10000, RebalanceTimeoutMs=10000,
            ProtocolType="consumer",
            Protocols=[{"Name": "range", "Metadata": b"\0"}]),
        "SyncGroup": lambda v: dict(stranger, GenerationId=1),
        "Heartbeat": lambda v: dict(stranger, GenerationId=1),
        "LeaveGroup": lambda v: stranger if v < 3 else
            {"GroupId": GROUP, "Members": [{"MemberId": "x"}]},
        "DescribeGroups": lambda v: {"Groups": [GROUP]},
        "ListGroups": lambda v: {},
        "ApiVersions": lambda v: {"ClientSoftwareName": "test",
                                  "ClientSoftwareVersion": "1"},
        "SaslHandshake": lambda v: {"Mechanism": "PLAIN"},
        "SaslAuthenticate": lambda v: {"AuthBytes": b"x"},
        "CreateTopics": lambda v: {"timeoutMs": 10000, "Topics": [
            {"Name": TOPIC, "NumPartitions": 1, "ReplicationFactor": 1}]},
        "CreatePartitions": lambda v: {
            "TimeoutMs": 10000, "ValidateOnly": True, "Topics": [
                {"Name": TOPIC, "Count": 2, "Assignments": None}]},
        "DeleteRecords": lambda v: {"TimeoutMs": 10000, "Topics": [
            {"Name": TOPIC, "Partitions": [
                {"PartitionIndex": 0, "Offset": 1 << 40}]}]},
        "InitProducerId": lambda v: {"TransactionalId": None},
        "OffsetForLeaderEpoch": lambda v: {"ReplicaId": -1,
                                           "Topics": [epoch(v)]},
        "DescribeConfigs": lambda v: {"Resources": [changed]},
        "AlterConfigs": lambda v: {"ValidateOnly": True, "Resources": [
            dict(changed, Configs=[{"Name": "retention.ms",
                                    "Value": "7"}])]},
        "IncrementalAlterConfigs": lambda v: {
            "ValidateOnly": True, "Resources": [
                dict(changed, Configs=[
                    {"Name": "retention.ms", "ConfigOperation": 0,
                     "Value": "7"}])]},
        "DescribeLogDirs": lambda v: {"Topics": [
            {"Topic": TOPIC, "Partitions": [0]}]},
        "OffsetDelete": lambda v: {"GroupId": GROUP, "Topics": [
            {"Name": TOPIC, "Partitions": [{"PartitionIndex": 9}]}]},
        "DescribeProducers": lambda v: {"Topics": [
            {"Name": TOPIC, "PartitionIndexes": [0]}]},
        "DescribeCluster": lambda v: {},
        "DeleteGroups": lambda v: {"GroupsNames": ["conf-no-group"]},
        "DeleteTopics": lambda v:
            {"TimeoutMs": 10000, "TopicNames": ["conf-no-topic"]}
            if v < 6 else
            {"TimeoutMs": 10000, "Topics": [{"Name": "conf-no-topic"}]},
    }


def hide(value):
    if isinstance(value, dict):
        return {k: hide(v) for k, v in value.items()
                if k not in HIDDEN or isinstance(v, dict)}
    return [hide(v) for v in value] if isinstance(value, list) else value


@scenario
def every_version_of_every_api_is_answered(broker):
    c = broker.connect()
    spoken = {key["ApiKey"]: (key["MinVersion"], key["MaxVersion"])
              for key in c.call("ApiVersions", 0)["ApiKeys"]}
    make(c, TOPIC)
    ready(c, GROUP)
    while c.call("InitProducerId", 0, TransactionalId=None)[
            "ErrorCode"] == LOADING:
        time.sleep(0.1)
    topic_id = c.call("Metadata", 12, Topics=[
        {"Name": TOPIC}])["Topics"][0]["TopicId"]
    answers = {}
    for name, asked in requests(topic_id).items():
        request = broker.definitions.requests[name]
        least, most = spoken[request.key]
        # Some are listed for old clients and not spoken by either.
        valid = versions(request.definition["validVersions"])
        for version in range(max(least, valid[0]), min(most, valid[1]) + 1):
            if (name, version) not in NOT_HERE:
                answer = c.call(name, version, **asked(version))
                answers["%s %d" % (name, version)] = hide(clean(answer))
    return answers
