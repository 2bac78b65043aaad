"""refusals -- requests that ask for what can't be, or say it oddly.

Adds to the scenarios: what a broker makes of them is what a client shows to
whoever wrote it.
"""

import uuid

from scenarios import (EARLIEST, LARGEST, LATEST, NOW_MS, batch, clean,
                       create_one, make, offsets, produce, ready, scenario)

HOUR_MS = 3600000


def errors(entries, name="Name"):
    """One of each name: who is named twice may be answered once."""
    return sorted({(e[name], e["ErrorCode"]) for e in entries})


# ---- topics -----------------------------------------------------------------

@scenario
def names_of_topics_collide(broker):
    """Kafka's metrics write '_' for '.'."""
    c = broker.connect()
    return [create_one(c, name, 1, 1, {})[0] for name in (
        "coll.a", "coll_a", "coll.b_c", "coll_b.c", "coll.b_c", "coll.a.",
        "coll-a", "collb", "coll_c", "coll.c")]


@scenario
def internal_topics_can_not_be_made(broker):
    """Kafka lets others make what it has not made yet, and then can't work
    with it; so only the embedded broker is asked."""
    if broker.name != "embedded":
        return []
    c = broker.connect()
    made = [create_one(c, name, 1, 1, {})[0] for name in (
        "__consumer_offsets", "__transaction_state", "__share_group_state")]
    return [] if made == [17] * 3 else made


@scenario
def assignments_and_null_settings_are_checked(broker):
    c = broker.connect()
    out = []
    for indexes in ((0, 0), (0, 0, 1), (1, 2), (0, 1)):
        answer = c.call("CreateTopics", 7, Topics=[
            {"Name": "conf-assigned", "NumPartitions": -1,
             "ReplicationFactor": -1, "Assignments": [
                 {"PartitionIndex": i, "BrokerIds": [1]} for i in indexes]}])
        out.append([answer["Topics"][0]["ErrorCode"],
                    answer["Topics"][0]["NumPartitions"]])
    out += [create_one(c, "conf-null", 1, 1, {"retention.ms": None})[0],
            create_one(c, "conf-null", 1, 1, {"no.such": None})[0]]
    return out


@scenario
def who_is_named_twice_is_refused(broker):
    c = broker.connect()
    for name in ("conf-twice", "conf-once"):
        make(c, name)
    topic_id = c.call("Metadata", 12, Topics=[{"Name": "conf-twice"}])[
        "Topics"][0]["TopicId"]
    out = [errors(c.call("CreateTopics", 7, Topics=[
        {"Name": n, "NumPartitions": 1, "ReplicationFactor": 1}
        for n in ("conf-new", "conf-new", "conf-other", "conf-new")])[
            "Topics"])]
    out.append(errors(c.call("CreatePartitions", 3, TimeoutMs=10000, Topics=[
        {"Name": n, "Count": 2, "Assignments": None}
        for n in ("conf-twice", "conf-once", "conf-twice")])["Results"]))
    found = c.call("ListOffsets", 7, ReplicaId=-1, Topics=[
        {"Name": name, "Partitions": [
            {"PartitionIndex": i, "Timestamp": LATEST} for i in indexes]}
        for name, indexes in (("conf-twice", (0, 3, 0)), ("conf-once", (0, 1)),
                              ("conf-once", (1, 1)))])
    out.append(sorted({(t["Name"], p["PartitionIndex"], p["ErrorCode"],
                        p["Offset"]) for t in found["Topics"]
                       for p in t["Partitions"]}))
    out.append(errors(c.call("DeleteTopics", 5, TimeoutMs=10000, TopicNames=[
        "conf-twice", "conf-none", "conf-twice", "conf-none"])["Responses"]))

    def delete(*topics):
        answer = c.call("DeleteTopics", 6, TimeoutMs=10000,
                        Topics=list(topics))
        return sorted({r["ErrorCode"] for r in answer["Responses"]})

    by_name = {"Name": "conf-twice"}
    by_id = {"Name": None, "TopicId": topic_id}
    out += [delete({"Name": None}), delete(by_id, by_id),
            delete(by_name, by_id), delete(dict(by_id, Name="conf-twice")),
            delete(by_name)]
    return out


@scenario
def metadata_has_ids_from_version_12_on(broker):
    """Versions 10 and 11 have the field, and may not use it."""
    c = broker.connect()
    make(c, "conf-by-id")
    topic_id = c.call("Metadata", 12, Topics=[{"Name": "conf-by-id"}])[
        "Topics"][0]["TopicId"]
    by_name = {"Name": "conf-by-id"}
    by_id = {"Name": None, "TopicId": topic_id}
    out = []
    for version in (10, 11, 12, 13):
        for topics in ([by_name], [by_id], [by_name, by_id],
                       [dict(by_name, TopicId=topic_id)],
                       [{"Name": None, "TopicId": uuid.UUID(int=7)}]):
            answer = c.call("Metadata", version, Topics=topics,
                            AllowAutoTopicCreation=False)
            out.append([len(answer["Brokers"]), sorted({
                (t["ErrorCode"], t["Name"] or "", t["TopicId"] == topic_id,
                 len(t["Partitions"])) for t in answer["Topics"]})])
    return out


@scenario
def producers_are_of_topics_with_names(broker):
    c = broker.connect()
    make(c, "conf-named")
    answer = c.call("DescribeProducers", 0, Topics=[
        {"Name": name, "PartitionIndexes": [0, 7]}
        for name in ("", "a b", ".", "conf-none", "conf-named")])
    return [[t["Name"], [(p["PartitionIndex"], p["ErrorCode"],
                          p["ErrorMessage"] is None
                          or p["ErrorCode"] == 3) for p in t["Partitions"]]]
            for t in answer["Topics"]]


# ---- records ----------------------------------------------------------------

@scenario
def who_read_in_an_epoch_to_come_is_out_of_range(broker):
    c = broker.connect()
    make(c, "conf-to-come")
    for _ in range(3):
        produce(c, "conf-to-come", batch([b"x"]))
    out = []
    for offset in (0, 1, 3):
        for epoch in (-1, 0, 1 << 20):
            answer = c.call("Fetch", 12, MinBytes=1, Topics=[
                {"Topic": "conf-to-come", "Partitions": [
                    {"Partition": 0, "FetchOffset": offset,
                     "LastFetchedEpoch": epoch,
                     "PartitionMaxBytes": 1 << 20}]}])
            part = answer["Responses"][0]["Partitions"][0]
            out.append([part["ErrorCode"], part["HighWatermark"],
                        part["LogStartOffset"], len(part["Records"] or b"")])
    return out


@scenario
def a_partition_gets_one_batch_at_a_time(broker):
    c = broker.connect()
    make(c, "conf-batches")
    two = batch([b"a"]) + batch([b"b"])
    return [produce(c, "conf-batches", two),
            produce(c, "conf-batches", two, version=3),
            offsets(c, "conf-batches", LATEST)]


@scenario
def records_of_the_future_are_refused(broker):
    c = broker.connect()
    make(c, "conf-future")
    make(c, "conf-stamped", message_timestamp_type="LogAppendTime")
    make(c, "conf-patient", message_timestamp_after_max_ms=str(3 * HOUR_MS))
    ahead = batch([b"x"], ts_ms=NOW_MS + 2 * HOUR_MS)
    far = batch([b"x"], ts_ms=NOW_MS + 4 * HOUR_MS)
    stamped = produce(c, "conf-stamped", far)
    return [produce(c, "conf-future", ahead),
            produce(c, "conf-future", batch([b"x"], ts_ms=NOW_MS + 60000)),
            produce(c, "conf-future", batch([b"x"], ts_ms=0)),
            produce(c, "conf-future", batch([b"x"], ts_ms=-1)),
            stamped["ErrorCode"], produce(c, "conf-patient", ahead),
            produce(c, "conf-patient", far)]


@scenario
def unknown_producers_may_begin_anywhere(broker):
    """Their records may have been deleted."""
    c = broker.connect()
    make(c, "conf-begin")
    return [produce(c, "conf-begin", batch([b"x"], (identity, epoch), seq))
            for identity, epoch, seq in (
                (7001, 0, 5), (7001, 0, 5), (7001, 0, 7), (7001, 0, 6),
                (7002, 3, 9), (7002, 4, 2), (7002, 4, 0))]


@scenario
def times_are_of_their_versions(broker):
    c = broker.connect()
    make(c, "conf-versions")
    produce(c, "conf-versions", batch([b"x"]))
    return [offsets(c, "conf-versions", timestamp, version)
            for timestamp in (EARLIEST, LARGEST, -4, -5, -6, -7)
            for version in (1, 6, 7, 8, 9, 10)]


@scenario
def producer_ids_are_asked_for_whole(broker):
    c = broker.connect()

    def init(**more):
        answer = c.call("InitProducerId", 4, TransactionalId=None,
                        TransactionTimeoutMs=60000, **more)
        return [answer["ErrorCode"], answer["ProducerId"] >= 0,
                answer["ProducerEpoch"]]
    while init()[0] == 14:  # COORDINATOR_LOAD_IN_PROGRESS
        pass
    return [init(), init(ProducerId=5), init(ProducerEpoch=5),
            init(ProducerId=5, ProducerEpoch=5)]


# ---- groups -----------------------------------------------------------------

@scenario
def any_offset_is_committed(broker):
    """One below 0 is none to those who ask, whatever the broker keeps."""
    c = broker.connect()
    make(c, "conf-any", 2)
    ready(c, "conf-any")

    def commit(offset, partition=0):
        answer = c.call(
            "OffsetCommit", 7, GroupId="conf-any",
            GenerationIdOrMemberEpoch=-1, MemberId="", Topics=[
                {"Name": "conf-any", "Partitions": [
                    {"PartitionIndex": partition, "CommittedOffset": offset,
                     "CommittedMetadata": "m"}]}])
        return answer["Topics"][0]["Partitions"][0]["ErrorCode"]

    def fetched():
        answer = c.call("OffsetFetch", 7, GroupId="conf-any", Topics=[
            {"Name": "conf-any", "PartitionIndexes": [0, 1]}])
        return [[p["ErrorCode"], max(p["CommittedOffset"], -1)]
                for p in answer["Topics"][0]["Partitions"]]
    return [commit(7), commit(8, 1), fetched(), commit(-1), fetched(),
            commit(-5, 1), fetched(), commit(0), fetched()]


@scenario
def a_commit_that_is_refused_makes_no_group(broker):
    c = broker.connect()
    make(c, "conf-unmade")
    ready(c, "conf-unmade")
    topic_id = c.call("Metadata", 12, Topics=[{"Name": "conf-unmade"}])[
        "Topics"][0]["TopicId"]

    def commit(number, generation, partition, version=7, length=1,
               **topic):
        group = "conf-unmade-%d" % number
        parts = [] if partition is None else [
            {"PartitionIndex": partition, "CommittedOffset": 1,
             "CommittedMetadata": "m" * length}]
        answer = c.call(
            "OffsetCommit", version, GroupId=group, MemberId="",
            GenerationIdOrMemberEpoch=generation,
            Topics=[dict(topic, Partitions=parts)] if topic else [])
        found = c.call("DescribeGroups", 5, Groups=[group])["Groups"][0]
        return [[[p["ErrorCode"] for p in t["Partitions"]]
                 for t in answer["Topics"] if t["Partitions"]],
                found["GroupState"]]
    here, there = {"Name": "conf-unmade"}, {"Name": "conf-none"}
    return [commit(*asked, **topic) for asked, topic in (
        ((0, -1, 0), there), ((1, -1, 9), here), ((2, -1, None), here),
        ((3, -1, None), {}), ((4, -1, 0, 7, 5000), here), ((5, 1, 0), here),
        ((6, 1, 0), there), ((7, -1, 0, 10), {"TopicId": uuid.uuid4()}),
        ((8, 1, 0, 10), {"TopicId": uuid.uuid4()}),
        ((9, -1, 0, 10), {"TopicId": topic_id}), ((10, -1, 0), here))]


@scenario
def no_group_has_no_name(broker):
    c = broker.connect()
    ready(c, "conf-nameless")
    return [clean(c.call("OffsetDelete", 0, GroupId="", Topics=[])),
            clean(c.call("DeleteGroups", 2, GroupsNames=[""])),
            clean(c.call("DescribeGroups", 5, Groups=[""]))]


# ---- who asks ---------------------------------------------------------------

@scenario
def software_has_a_name(broker):
    c = broker.connect()
    out = []
    for name, version in (("", ""), ("x", ""), ("", "1"), ("x", "1"),
                          ("-x", "1"), ("x.", "1"), ("a b", "1"),
                          ("a-b.c", "v1.0-2"), ("x", "1_0"), ("x" * 300, "1")):
        answer = c.call("ApiVersions", 3, ClientSoftwareName=name,
                        ClientSoftwareVersion=version)
        out.append([answer["ErrorCode"], len(answer["ApiKeys"]) > 0])
    return out


@scenario
def there_is_no_sasl_to_speak(broker):
    c = broker.connect()
    out = [sorted((k["ApiKey"], k["MinVersion"], k["MaxVersion"])
                  for k in c.call("ApiVersions", 0)["ApiKeys"]
                  if k["ApiKey"] in (17, 36))]
    out += [clean(c.call("SaslHandshake", v, Mechanism="PLAIN"))
            for v in (0, 1)]
    out += [clean(c.call("SaslAuthenticate", v, AuthBytes=b"\0me\0secret"))
            for v in (0, 1, 2)]
    # And the connection goes on.
    return out + [c.call("Metadata", 9, Topics=[])["Topics"]]


@scenario
def what_may_be_done_is_told_to_who_asks(broker):
    c = broker.connect()
    make(c, "conf-may")
    ready(c, "conf-may")
    c.call("OffsetCommit", 7, GroupId="conf-may", GenerationIdOrMemberEpoch=-1,
           MemberId="", Topics=[{"Name": "conf-may", "Partitions": [
               {"PartitionIndex": 0, "CommittedOffset": 1}]}])
    out = []
    for asks in (True, False):
        for version in (8, 10, 12):
            more = {} if version > 10 else {
                "IncludeClusterAuthorizedOperations": asks}
            answer = c.call("Metadata", version, Topics=[
                {"Name": "conf-may"}, {"Name": "conf-none"}],
                IncludeTopicAuthorizedOperations=asks,
                AllowAutoTopicCreation=False, **more)
            out.append([answer.get("ClusterAuthorizedOperations"), sorted(
                (t["Name"], t["TopicAuthorizedOperations"])
                for t in answer["Topics"])])
        out.append(c.call("DescribeCluster", 1,
                          IncludeClusterAuthorizedOperations=asks)[
            "ClusterAuthorizedOperations"])
        for version in (5, 6):
            out.append(sorted(
                (g["GroupId"], g["AuthorizedOperations"])
                for g in c.call("DescribeGroups", version, Groups=[
                    "conf-may", "conf-no-group"],
                    IncludeAuthorizedOperations=asks)["Groups"]))
    return out


# ---- settings of the broker -------------------------------------------------

OF_BROKER = (
    "auto.create.topics.enable", "compression.type", "connections.max.idle.ms",
    "fetch.max.bytes", "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms", "group.min.session.timeout.ms",
    "log.cleaner.delete.retention.ms", "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms", "log.cleanup.policy",
    "log.message.timestamp.after.max.ms", "log.message.timestamp.type",
    "log.retention.bytes", "log.retention.check.interval.ms",
    "log.retention.ms", "log.roll.ms", "log.segment.bytes",
    "max.connections", "message.max.bytes", "min.insync.replicas",
    "num.partitions", "offsets.retention.minutes", "socket.request.max.bytes")


@scenario
def settings_of_the_broker_have_its_names(broker):
    """The embedded broker has these and no others."""
    c = broker.connect()

    def described(names):
        answer = c.call("DescribeConfigs", 4, IncludeSynonyms=True, Resources=[
            {"ResourceType": 4, "ResourceName": "1",
             "ConfigurationKeys": names}])["Results"][0]
        return [answer["ErrorCode"], sorted(
            (s["Name"], s["ConfigType"]) for s in answer["Configs"])]
    asked = described(OF_BROKER)
    if broker.name == "embedded" and described(None) != asked:
        return described(None)
    return [asked, described(["num.partitions", "no.such"]),
            [c.call("IncrementalAlterConfigs", 1, Resources=[
                {"ResourceType": 4, "ResourceName": "9", "Configs": [
                    {"Name": "log.retention.ms", "ConfigOperation": 0,
                     "Value": "1"}]}])["Responses"][0]["ErrorCode"]]]
