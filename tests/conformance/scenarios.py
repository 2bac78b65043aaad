"""scenarios -- what is asked of both brokers.

Each takes a broker and returns what came back, as lists and dicts.  Names of
topics and groups are the scenario's own.
"""

import gzip
import os
import re
import struct
import sys
import time
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/scenario"))
from kafka_wire import crc32c  # noqa: E402
from protocol import uvarint, versions  # noqa: E402

LATEST, EARLIEST, LARGEST = -1, -2, -3
CONTROL = 0x20  # an attribute of batches
ALL = []
# Young enough for retention, and the same for both brokers.
NOW_MS = int(time.time()) * 1000

# What two brokers may differ in.
HIDDEN = {"ThrottleTimeMs", "ErrorMessage", "ClusterId", "Host", "Port",
          "LeaderEpoch", "CommittedLeaderEpoch", "LogDir", "TotalBytes",
          "UsableBytes", "LogAppendTimeMs", "ControllerId",
          "FinalizedFeaturesEpoch", "SupportedFeatures", "FinalizedFeatures",
          "NodeEndpoints", "LastTimestamp", "RecordErrors",
          "SessionId"}


def scenario(function):
    ALL.append((function.__name__.replace("_", "-"), function))
    return function


def clean(value, ids=None):
    """Without what may differ; ids by the order in which they come up."""
    ids = {} if ids is None else ids
    if isinstance(value, dict):
        return {k: clean(v, ids) for k, v in value.items()
                if k not in HIDDEN}
    if isinstance(value, list):
        return [clean(v, ids) for v in value]
    if isinstance(value, uuid.UUID) and value.int:
        return ids.setdefault(value, "id %d" % len(ids))
    if isinstance(value, bytes):
        return value.hex()
    return value


def varint(n):
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def batch(values, producer=(-1, -1), sequence=-1, ts_ms=NOW_MS,
          magic=2, crc_off=0, key=None, attributes=0, later_ms=None,
          pack=bytes):
    """A record batch as a client sends it; `later_ms`: than the first."""
    records = b""
    later_ms = later_ms or [0] * len(values)
    for i, value in enumerate(values):
        body = b"\0" + varint(later_ms[i]) + varint(i)
        body += varint(-1) if key is None else varint(len(key)) + key
        body += varint(-1) if value is None else varint(len(value)) + value
        body += varint(0)
        records += varint(len(body)) + body
    tail = struct.pack(">hiqqqhii", attributes, len(values) - 1, ts_ms,
                       ts_ms + max(later_ms), producer[0], producer[1],
                       sequence, len(values)) + pack(records)
    return struct.pack(">qiibI", 0, len(tail) + 9, -1, magic,
                       (crc32c(tail) + crc_off) & 0xFFFFFFFF) + tail


def snappy(data):
    return uvarint(len(data)) + bytes([60 << 2, len(data) - 1]) + data


def snappy_java(data):
    """As Java's clients frame it."""
    out = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
    for piece in data[:9], data[9:]:
        block = snappy(piece)
        out += struct.pack(">i", len(block)) + block
    return out


def lz4(data):
    return b"\x04\x22\x4d\x18\x60\x40\x82" + struct.pack(
        "<I", len(data) | 1 << 31) + data + bytes(4)


def zstd(data):
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(data)]) + struct.pack(
        "<I", len(data) << 3 | 1)[:3] + data


# By the number of the codec, and not smaller than what is in them.
PACKERS = [(0, bytes), (1, gzip.compress), (2, snappy), (2, snappy_java),
           (3, lz4), (4, zstd)]


def make(connection, name, partitions=1, **settings):
    """Create, and wait until the broker leads it."""
    connection.call("CreateTopics", 5, Topics=[
        {"Name": name, "NumPartitions": partitions, "ReplicationFactor": 1,
         "Configs": [{"Name": k.replace("_", "."), "Value": v}
                     for k, v in settings.items()]}])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = connection.call("ListOffsets", 2, ReplicaId=-1, Topics=[
            {"Name": name, "Partitions": [
                {"PartitionIndex": i, "Timestamp": LATEST}
                for i in range(partitions)]}])
        if all(p["ErrorCode"] == 0
               for p in found["Topics"][0]["Partitions"]):
            return
        time.sleep(0.05)
    raise TimeoutError(name)


def produce(connection, topic, records, acks=-1, partition=0, version=9):
    answer = connection.call("Produce", version, Acks=acks, TimeoutMs=10000,
                             TopicData=[{"Name": topic, "PartitionData": [
                                 {"Index": partition, "Records": records}]}])
    return clean(answer["Responses"][0]["PartitionResponses"][0])


def fetch(connection, topic, offset, partition=0, wait_ms=0, version=11,
          max_bytes=1 << 20):
    answer = connection.call(
        "Fetch", version, MaxWaitMs=wait_ms, MinBytes=1, Topics=[
            {"Topic": topic, "Partitions": [
                {"Partition": partition, "FetchOffset": offset,
                 "PartitionMaxBytes": max_bytes}]}])
    part = answer["Responses"][0]["Partitions"][0]
    records = part.pop("Records") or b""
    part["AbortedTransactions"] = part.get("AbortedTransactions") or []
    part["Batches"], at = [], 0
    while at + 61 <= len(records):
        base, length = struct.unpack_from(">qi", records, at)
        # All but the leader epoch, which is the broker's.
        part["Batches"].append([base, length, records[
            at + 16:at + 12 + length].hex()])
        at += 12 + length
    return clean(part)


def offsets(connection, topic, timestamp, version=7):
    return clean(connection.call(
        "ListOffsets", version, ReplicaId=-1, Topics=[
            {"Name": topic, "Partitions": [
                {"PartitionIndex": 0, "Timestamp": timestamp}]}]))


def ready(connection, group):
    """Until the group's coordinator is loaded."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = connection.call("FindCoordinator", 2, Key=group, KeyType=0)
        if found["ErrorCode"] == 0:
            error = connection.call(
                "Heartbeat", 0, GroupId=group, GenerationId=1,
                MemberId="x")["ErrorCode"]
            if error == 25:
                return
        time.sleep(0.1)
    raise TimeoutError(group)


# ---- topics -----------------------------------------------------------------

@scenario
def topics_are_made_as_they_are_asked_for(broker):
    c = broker.connect()
    answers = [create_one(c, *arguments) for arguments in (
        ("conf-a", 3, 1, {}), ("conf-a", 3, 1, {}), ("conf-b", 0, 1, {}),
        ("conf-b", 1, 3, {}), ("bad name", 1, 1, {}), ("..", 1, 1, {}),
        ("x" * 250, 1, 1, {}), ("", 1, 1, {}),
        ("conf-b", 1, 1, {"no.such.setting": "1"}),
        ("conf-b", 1, 1, {"retention.ms": "soon"}),
        ("conf-b", -1, -1, {"cleanup.policy": "compact"}))]
    tried = c.call("CreateTopics", 5, validateOnly=True, Topics=[
        {"Name": "conf-tried", "NumPartitions": 1, "ReplicationFactor": 1}])
    twice = c.call("CreateTopics", 5, Topics=[
        {"Name": "conf-two", "NumPartitions": 1, "ReplicationFactor": 1}] * 2)
    listed = c.call("Metadata", 9, Topics=[
        {"Name": n} for n in ("conf-a", "conf-tried", "bad name")],
        AllowAutoTopicCreation=False)
    return [answers, tried["Topics"][0]["ErrorCode"],
            sorted({t["ErrorCode"] for t in twice["Topics"]}),
            sorted((t["Name"], t["ErrorCode"], len(t["Partitions"]))
                   for t in listed["Topics"])]


def create_one(c, name, partitions, replicas, settings):
    answer = c.call("CreateTopics", 7, Topics=[
        {"Name": name, "NumPartitions": partitions,
         "ReplicationFactor": replicas, "Configs": [
             {"Name": k, "Value": v} for k, v in settings.items()]}])
    topic = answer["Topics"][0]
    return [topic["ErrorCode"], topic["NumPartitions"],
            topic["ReplicationFactor"]]


@scenario
def topics_are_deleted_and_their_ids_with_them(broker):
    c = broker.connect()
    make(c, "conf-gone", 2)
    before = c.call("Metadata", 12, Topics=[{"Name": "conf-gone"}])
    topic_id = before["Topics"][0]["TopicId"]
    gone = c.call("DeleteTopics", 5, TopicNames=["conf-gone", "conf-none"],
                  TimeoutMs=10000)
    deadline = time.monotonic() + 20
    while True:
        after = c.call("Metadata", 12, Topics=[
            {"Name": None, "TopicId": topic_id}])
        if after["Topics"][0]["ErrorCode"] or time.monotonic() > deadline:
            break
    by_id = c.call("DeleteTopics", 6, TimeoutMs=10000, Topics=[
        {"Name": None, "TopicId": topic_id}])
    gone["Responses"].sort(key=lambda r: r["Name"])
    return [clean(gone), after["Topics"][0]["ErrorCode"], clean(by_id)]


@scenario
def partitions_are_added(broker):
    c = broker.connect()
    make(c, "conf-grow", 2)
    answers = []
    for name, count in (("conf-grow", 1), ("conf-grow", 2), ("conf-none", 9),
                        ("conf-grow", 4)):
        answers.append(clean(c.call("CreatePartitions", 3, Topics=[
            {"Name": name, "Count": count, "Assignments": None}],
            TimeoutMs=10000)))
    for brokers in ([[1]], [[1], [7]], [[1, 1], [1]]):
        answers.append(clean(c.call("CreatePartitions", 3, Topics=[
            {"Name": "conf-grow", "Count": 6, "Assignments": [
                {"BrokerIds": ids} for ids in brokers]}], TimeoutMs=10000)))
    make(c, "conf-grow", 4)
    return answers


@scenario
def settings_are_described_and_altered(broker):
    c = broker.connect()
    make(c, "conf-settings", 1, retention_ms="1000")
    names = ["retention.ms", "cleanup.policy", "max.message.bytes"]

    def settings():
        answer = c.call("DescribeConfigs", 4, Resources=[
            {"ResourceType": 2, "ResourceName": "conf-settings",
             "ConfigurationKeys": names},
            {"ResourceType": 2, "ResourceName": "conf-none",
             "ConfigurationKeys": names}])
        return [[r["ErrorCode"], sorted(
            (s["Name"], s["Value"], s["ConfigSource"] == 1, s["ConfigType"],
             s["ReadOnly"], s["IsSensitive"]) for s in r["Configs"])]
            for r in answer["Results"]]

    def described(name, value):
        """Once that is so: Kafka's controller answers before its brokers
        know."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = settings()
            if any(s[:2] == (name, value) for s in found[0][1]):
                break
        return found

    def alter(name, operation, value, topic="conf-settings", kind=2):
        answer = c.call("IncrementalAlterConfigs", 1, Resources=[
            {"ResourceType": kind, "ResourceName": topic, "Configs": [
                {"Name": name, "ConfigOperation": operation,
                 "Value": value}]}])
        return answer["Responses"][0]["ErrorCode"]

    out = [described("retention.ms", "1000")]
    out.append([alter("retention.ms", 0, "2000"),
                alter("cleanup.policy", 2, "compact"),
                alter("retention.ms", 0, "soon"),
                alter("no.such.setting", 0, "1"),
                alter("retention.ms", 0, "1", "conf-none"),
                alter("retention.ms", 0, None),
                alter("retention.ms", 2, "1"), alter("cleanup.policy", 2, None),
                alter("cleanup.policy", 2, "shred"),
                alter("retention.ms", 0, "1", kind=4),
                alter("no.such.setting", 1, None)])
    twice = {"Name": "retention.ms", "ConfigOperation": 0, "Value": "5"}
    resource = {"ResourceType": 2, "ResourceName": "conf-settings"}
    out.append([[r["ErrorCode"] for r in c.call(
        "IncrementalAlterConfigs", 1, Resources=resources)["Responses"]]
        for resources in ([dict(resource, Configs=[twice, twice])],
                          [dict(resource, Configs=[twice])] * 2)])
    out.append([[r["ErrorCode"] for r in c.call(
        "AlterConfigs", 2, Resources=[dict(resource, Configs=[
            {"Name": name, "Value": value} for name, value in configs])])[
                "Responses"]]
        for configs in ((("retention.ms", None),),
                        (("retention.ms", "1"), ("retention.ms", "1")),
                        (("no.such.setting", "1"),))])
    out.append(described("cleanup.policy", "delete,compact"))
    out.append([alter("cleanup.policy", 3, "delete"),
                alter("retention.ms", 1, None)])
    out.append(described("retention.ms", "604800000"))
    answer = c.call("AlterConfigs", 2, Resources=[
        {"ResourceType": 2, "ResourceName": "conf-settings", "Configs": [
            {"Name": "max.message.bytes", "Value": "5000"}]}])
    out += [answer["Responses"][0]["ErrorCode"], described("max.message.bytes", "5000")]
    return out


# ---- records ----------------------------------------------------------------

@scenario
def records_come_back_as_they_were_sent(broker):
    c = broker.connect()
    make(c, "conf-log")
    out = [produce(c, "conf-log", batch([b"a", b"b"])),
           produce(c, "conf-log", batch([b"c"], ts_ms=NOW_MS + 1000), acks=1),
           produce(c, "conf-log", batch([b"d"]), version=3),
           fetch(c, "conf-log", 0), fetch(c, "conf-log", 1),
           fetch(c, "conf-log", 3), fetch(c, "conf-log", 4),
           fetch(c, "conf-log", 5), fetch(c, "conf-log", -1),
           fetch(c, "conf-log", 0, max_bytes=1),
           fetch(c, "conf-log", 0, partition=9),
           fetch(c, "conf-none", 0)]
    for version in range(4, 13):
        out.append(fetch(c, "conf-log", 0, version=version))
    return out


@scenario
def bad_batches_are_refused(broker):
    c = broker.connect()
    make(c, "conf-bad", max_message_bytes="1000")
    make(c, "conf-bad-compacted", cleanup_policy="compact")
    return [produce(c, "conf-bad", batch([b"x"], crc_off=1)),
            produce(c, "conf-bad", batch([b"x" * 2000])),
            produce(c, "conf-bad", batch([b"x"]), partition=7),
            produce(c, "conf-none", batch([b"x"])),
            produce(c, "conf-bad", batch([b"x"]), acks=2),
            produce(c, "conf-bad", batch([b"x"], magic=0)),
            produce(c, "conf-bad", batch([b"x"], magic=1)),
            produce(c, "conf-bad", batch([b"x"], attributes=CONTROL)),
            produce(c, "conf-bad-compacted", batch([b"x"])),
            produce(c, "conf-bad-compacted", batch([b"x"], key=b"k")),
            [produce(c, "conf-bad-compacted", batch(
                [b"x" * 20], key=key, attributes=codec, pack=pack))
             for codec, pack in PACKERS for key in (None, b"k")],
            offsets(c, "conf-bad", LATEST)]


@scenario
def idempotent_producers_are_held_to_their_sequence(broker):
    c = broker.connect()
    make(c, "conf-idem")
    while True:
        given = c.call("InitProducerId", 4, TransactionalId=None,
                       TransactionTimeoutMs=60000)
        if given["ErrorCode"] != 14:  # COORDINATOR_LOAD_IN_PROGRESS
            break
        time.sleep(0.1)
    pid = given["ProducerId"]
    out = [given["ErrorCode"], given["ProducerEpoch"]]

    def send(sequence, n=1, epoch=0):
        return produce(c, "conf-idem", batch(
            [b"%d" % (sequence + i) for i in range(n)], (pid, epoch),
            sequence))

    out += [send(0, 2), send(2), send(2), send(0, 2), send(5), send(3),
            send(3, epoch=1), send(0, epoch=1), send(1, epoch=0)]
    for n in range(1, 8):
        out.append(send(n, epoch=1))
    out += [send(7, epoch=1), send(4, epoch=1), send(1, epoch=1),
            offsets(c, "conf-idem", LATEST)]
    return out


@scenario
def offsets_are_found_by_time(broker):
    c = broker.connect()
    make(c, "conf-times")
    out = [offsets(c, "conf-times", t)
           for t in (LATEST, EARLIEST, LARGEST, 0)]
    for i in range(3):
        produce(c, "conf-times", batch([b"a", b"b"], ts_ms=NOW_MS + 1000 * i))
    out += [offsets(c, "conf-times", t) for t in (
        LATEST, EARLIEST, LARGEST, 0, NOW_MS, NOW_MS + 1, NOW_MS + 2000,
        NOW_MS + 2001)]
    return out


@scenario
def offsets_are_found_by_time_in_compressed_batches(broker):
    c, out = broker.connect(), []
    for codec, pack in PACKERS:
        topic = "conf-times-" + pack.__name__.replace("_", "-")
        make(c, topic)
        out.append(produce(c, topic, batch(
            [b"a", b"b", b"c", b"d", b"e"], ts_ms=NOW_MS, attributes=codec,
            later_ms=[0, 300, 100, 400, 200], pack=pack)))
        out.append([offsets(c, topic, t) for t in (
            LATEST, EARLIEST, LARGEST, 0, NOW_MS, NOW_MS + 1, NOW_MS + 300,
            NOW_MS + 301, NOW_MS + 400, NOW_MS + 401)])
    return out


@scenario
def a_fetch_waits_for_records(broker):
    c, writer = broker.connect(), broker.connect()
    make(c, "conf-wait")
    # The embedded broker lets a new reader's first ones wait less.
    settled = time.monotonic() + 0.3
    while time.monotonic() < settled:
        fetch(c, "conf-wait", 0, wait_ms=100)
    began = time.monotonic()
    empty = fetch(c, "conf-wait", 0, wait_ms=300)
    waited = time.monotonic() - began
    c.send("Fetch", 11, {"MaxWaitMs": 20000, "MinBytes": 1, "Topics": [
        {"Topic": "conf-wait", "Partitions": [
            {"Partition": 0, "FetchOffset": 0,
             "PartitionMaxBytes": 1000}]}]})
    began = time.monotonic()
    produce(writer, "conf-wait", batch([b"x"]))
    answer = c.receive("Fetch", 11)
    woken = time.monotonic() - began
    return [empty, 0.25 < waited < 5, woken < 10,
            len(answer["Responses"][0]["Partitions"][0]["Records"]) > 0]


@scenario
def a_fetch_waits_though_others_name_other_partitions(broker):
    """As clients do that leave out what they have records of."""
    c = broker.connect()
    make(c, "conf-wait-other", partitions=2)

    def wait(partitions, wait_ms):
        began = time.monotonic()
        c.call("Fetch", 11, MaxWaitMs=wait_ms, MinBytes=1, Topics=[
            {"Topic": "conf-wait-other", "Partitions": [
                {"Partition": i, "FetchOffset": 0, "PartitionMaxBytes": 1000}
                for i in partitions]}])
        return time.monotonic() - began

    settled = time.monotonic() + 0.3
    while time.monotonic() < settled:
        wait([0, 1], 100)
    return [wait(partitions, 300) > 0.25 for partitions in (
        [0], [0, 1], [1], [0, 1], [0], [0, 1])]


@scenario
def records_are_deleted(broker):
    c = broker.connect()
    make(c, "conf-delete")
    for _ in range(5):
        produce(c, "conf-delete", batch([b"x"]))

    def delete(offset, partition=0):
        return clean(c.call("DeleteRecords", 2, TimeoutMs=10000, Topics=[
            {"Name": "conf-delete", "Partitions": [
                {"PartitionIndex": partition, "Offset": offset}]}]))

    return [delete(2), delete(1), delete(99), delete(0, 5),
            offsets(c, "conf-delete", EARLIEST), fetch(c, "conf-delete", 1),
            fetch(c, "conf-delete", 2), delete(-1),
            offsets(c, "conf-delete", EARLIEST),
            offsets(c, "conf-delete", LATEST)]


@scenario
def topics_are_named_by_id_in_new_versions(broker):
    c = broker.connect()
    make(c, "conf-ids")
    topic_id = c.call("Metadata", 12, Topics=[
        {"Name": "conf-ids"}])["Topics"][0]["TopicId"]
    out = []
    for name in (topic_id, uuid.UUID(int=7)):
        answer = c.call("Produce", 13, Acks=-1, TimeoutMs=1000, TopicData=[
            {"TopicId": name, "PartitionData": [
                {"Index": 0, "Records": batch([b"x"])}]}])
        out.append(clean(answer["Responses"]))
        answer = c.call("Fetch", 13, MaxWaitMs=0, MinBytes=0, Topics=[
            {"TopicId": name, "Partitions": [
                {"Partition": 0, "FetchOffset": 0,
                 "PartitionMaxBytes": 1000}]}])
        part = answer["Responses"][0]["Partitions"][0]
        out.append([part["ErrorCode"], part["HighWatermark"],
                    len(part["Records"] or b"")])
    return out


# ---- groups -----------------------------------------------------------------

class Member:
    def __init__(self, broker, group, version=7, instance=None,
                 timeout_ms=10000):
        self.c = broker.connect()
        self.timeout_ms = timeout_ms
        self.group, self.version, self.instance = group, version, instance
        self.id, self.generation = "", -1

    def _optional(self):
        return {"GroupInstanceId": self.instance} if self.instance else {}

    def join_send(self, protocols=("range",), member=None):
        self.c.send("JoinGroup", self.version, dict(
            self._optional(), GroupId=self.group, SessionTimeoutMs=10000,
            RebalanceTimeoutMs=self.timeout_ms,
            MemberId=self.id if member is None else member,
            ProtocolType="consumer", Protocols=[
                {"Name": p, "Metadata": b"\0\0\0\0\0\1\0\1t\0\0\0\0"}
                for p in protocols]))

    def join_receive(self):
        answer = self.c.receive("JoinGroup", self.version)
        if answer["ErrorCode"] in (0, 79):
            self.id = answer["MemberId"]
        if answer["ErrorCode"] == 0:
            self.generation = answer["GenerationId"]
        return [answer["ErrorCode"], answer["GenerationId"],
                answer["ProtocolName"],
                answer["Leader"] == answer["MemberId"],
                len(answer["Members"])]

    def join(self, **more):
        self.join_send(**more)
        answer = self.join_receive()
        if answer[0] == 79:
            self.join_send(**more)
            return [answer, self.join_receive()]
        return [answer]

    def sync(self, assignments=None, generation=None):
        answer = self.c.call(
            "SyncGroup", 4, GroupId=self.group, MemberId=self.id,
            GenerationId=self.generation if generation is None
            else generation,
            Assignments=[{"MemberId": m, "Assignment": a}
                         for m, a in (assignments or {}).items()])
        return clean(answer)

    def beat(self, generation=None, member=None):
        return self.c.call(
            "Heartbeat", 4, GroupId=self.group, MemberId=member or self.id,
            GenerationId=self.generation if generation is None
            else generation)["ErrorCode"]

    def leave(self):
        return clean(self.c.call(
            "LeaveGroup", 4, GroupId=self.group, Members=[
                dict(self._optional(), MemberId=self.id)]))["ErrorCode"]


@scenario
def a_group_rebalances_when_members_come_and_go(broker):
    one, two = Member(broker, "conf-g"), Member(broker, "conf-g")
    ready(one.c, "conf-g")
    out = [one.join(), one.sync({one.id: b"all"}), one.beat()]
    two.join_send()
    out.append(two.join_receive())
    two.join_send()
    deadline = time.monotonic() + 10
    while one.beat() == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    out.append(one.beat())
    one.join_send()
    out += [one.join_receive(), two.join_receive()]
    out += [one.sync({one.id: b"left", two.id: b"right"}), two.sync(),
            one.beat(), two.beat()]
    out += [one.beat(generation=1), one.beat(member="nobody"),
            one.sync(generation=1)]
    out += [two.leave(), one.beat(), two.beat(), two.leave()]
    out += [one.join(), one.sync({one.id: b"all"}), one.leave(), one.beat()]
    return out


@scenario
def a_first_member_waits_for_nobody_who_only_got_an_id(broker):
    gone, one = Member(broker, "conf-gone"), Member(broker, "conf-gone")
    ready(one.c, "conf-gone")
    gone.join_send()
    out = [gone.join_receive()]
    gone.c.close()
    began = time.monotonic()
    out += [one.join(), one.sync({one.id: b"all"}), one.beat()]
    return out + [time.monotonic() - began < 8]


@scenario
def who_never_syncs_is_dropped_though_it_beats(broker):
    one, two = [Member(broker, "conf-mute", timeout_ms=2000)
                for _ in range(2)]
    ready(one.c, "conf-mute")
    out = [one.join(), one.sync({one.id: b"all"})]
    two.join_send()
    out.append(two.join_receive())
    two.join_send()
    deadline = time.monotonic() + 10
    while one.beat() == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    one.join_send()
    out += [one.join_receive(), two.join_receive(),
            one.sync({one.id: b"left", two.id: b"right"}), one.beat(),
            two.beat()]
    deadline = time.monotonic() + 10
    while (said := two.beat()) == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    out += [said, one.beat(), time.monotonic() < deadline]
    one.join_send()
    return out + [one.join_receive()]


@scenario
def joins_that_can_not_be_are_refused(broker):
    one = Member(broker, "conf-refused")
    ready(one.c, "conf-refused")
    out = [one.join(), one.sync({one.id: b"all"})]
    other = Member(broker, "conf-refused")
    out.append(other.join(protocols=("sticky",)))
    other.join_send(member="stranger")
    out.append(other.join_receive())
    unnamed = Member(broker, "")
    unnamed.join_send()
    out.append(unnamed.join_receive()[0])
    hasty = broker.connect().call(
        "JoinGroup", 5, GroupId="conf-refused", SessionTimeoutMs=1,
        RebalanceTimeoutMs=1, MemberId="", ProtocolType="consumer",
        Protocols=[{"Name": "range", "Metadata": b""}])
    return out + [hasty["ErrorCode"]]


@scenario
def static_members_keep_their_place(broker):
    one = Member(broker, "conf-static", instance="one")
    ready(one.c, "conf-static")
    out = [one.join(), one.sync({one.id: b"mine"})]
    again = Member(broker, "conf-static", instance="one")
    out += [again.join()[-1][:3], again.sync({again.id: b"mine"})]
    fenced = one.c.call("Heartbeat", 4, GroupId="conf-static",
                        MemberId=one.id, GenerationId=one.generation,
                        GroupInstanceId="one")
    out.append(fenced["ErrorCode"])
    removed = one.c.call("LeaveGroup", 4, GroupId="conf-static", Members=[
        {"MemberId": "", "GroupInstanceId": "one"},
        {"MemberId": "", "GroupInstanceId": "two"}])
    return out + [sorted((m["GroupInstanceId"], m["ErrorCode"])
                         for m in removed["Members"])]


@scenario
def a_static_leader_that_is_back_leads(broker):
    """Asks again with the id that it was given, as where a topic got more
    partitions: that is a rebalance, which it leads."""
    out = []
    for version in (5, 7, 9):
        group = "conf-static-%d" % version
        one = Member(broker, group, version, "one")
        ready(one.c, group)
        out += [one.join(), one.sync({one.id: b"mine"})]
        again = Member(broker, group, version, "one")
        out += [again.join(), again.join(), again.sync({again.id: b"other"})]
    return out


@scenario
def offsets_are_committed_by_members_and_strangers(broker):
    one = Member(broker, "conf-commit")
    make(one.c, "conf-committed", 2)
    ready(one.c, "conf-commit")

    def commit(generation, member, offset=5, topic="conf-committed",
               partition=0, metadata="m"):
        answer = one.c.call(
            "OffsetCommit", 7, GroupId="conf-commit",
            GenerationIdOrMemberEpoch=generation, MemberId=member, Topics=[
                {"Name": topic, "Partitions": [
                    {"PartitionIndex": partition, "CommittedOffset": offset,
                     "CommittedMetadata": metadata}]}])
        return answer["Topics"][0]["Partitions"][0]["ErrorCode"]

    def fetched(version=7):
        if version >= 8:
            return clean(one.c.call("OffsetFetch", version, Groups=[
                {"GroupId": "conf-commit", "Topics": None}]))
        return clean(one.c.call(
            "OffsetFetch", version, GroupId="conf-commit", Topics=[
                {"Name": "conf-committed", "PartitionIndexes": [0, 1, 9]}]))

    out = [commit(-1, ""), fetched(), commit(3, "x"),
           commit(-1, "", topic="conf-none"), commit(-1, "", partition=9),
           commit(-1, "", metadata="m" * 5000)]
    out += [one.join(), commit(-1, ""), commit(one.generation, one.id, 6),
            one.sync({one.id: b"all"}),
            commit(one.generation, one.id, 7, metadata=None),
            commit(one.generation + 1, one.id), commit(one.generation, "x"),
            fetched(), fetched(8), one.leave(), commit(-1, "", 9)]
    deleted = one.c.call("OffsetDelete", 0, GroupId="conf-commit", Topics=[
        {"Name": "conf-committed", "Partitions": [{"PartitionIndex": 0}]}])
    out += [clean(deleted), fetched()]
    nothing = one.c.call("OffsetDelete", 0, GroupId="conf-no-group", Topics=[])
    return out + [nothing["ErrorCode"]]


@scenario
def groups_are_listed_described_and_deleted(broker):
    one = Member(broker, "conf-listed")
    ready(one.c, "conf-listed")
    one.join()

    def described():
        answer = one.c.call("DescribeGroups", 5,
                            Groups=["conf-listed", "conf-no-group"])
        return [[g["ErrorCode"], g["GroupState"], g["ProtocolType"],
                 g["ProtocolData"], len(g["Members"]),
                 [[m["MemberAssignment"].hex(), m["ClientId"],
                   m["ClientHost"]] for m in g["Members"]]]
                for g in sorted(answer["Groups"],
                                key=lambda g: g["GroupId"])]

    def listed(*states):
        answer = one.c.call("ListGroups", 4, StatesFilter=list(states))
        return [[g["ProtocolType"], g["GroupState"]]
                for g in answer["Groups"] if g["GroupId"] == "conf-listed"]

    def deleted():
        answer = one.c.call("DeleteGroups", 2, GroupsNames=[
            "conf-listed", "conf-no-group"])
        return sorted((r["GroupId"], r["ErrorCode"])
                      for r in answer["Results"])

    out = [described()]
    one.sync({one.id: b"mine"})
    out += [described(), listed(), listed("Stable"), listed("Empty"),
            deleted(), one.leave(), described(), listed("Empty"), deleted(),
            described()]
    return out


# ---- the rest ---------------------------------------------------------------

@scenario
def versions_that_are_not_spoken_are_answered(broker):
    c = broker.connect()
    c.send("ApiVersions", 99, {}, raw=b"\0\1\2\3")
    answer = c.receive("ApiVersions", 0)
    known = c.call("ApiVersions", 3, ClientSoftwareName="test",
                   ClientSoftwareVersion="1")
    closed = broker.connect()
    closed.send("Heartbeat", 99, {}, raw=b"")
    try:
        closed.receive("Heartbeat", 0)
        ended = "answered"
    except OSError:
        ended = "closed"
    produce_least = [k["MinVersion"] for k in known["ApiKeys"]
                     if k["ApiKey"] == 0]
    return [answer["ErrorCode"], [k["ApiKey"] for k in answer["ApiKeys"]],
            known["ErrorCode"], ended, produce_least]


@scenario
def epochs_end_where_the_log_does(broker):
    c = broker.connect()
    make(c, "conf-epochs")
    produce(c, "conf-epochs", batch([b"x"]))
    epoch = c.call("Metadata", 9, Topics=[{"Name": "conf-epochs"}])[
        "Topics"][0]["Partitions"][0]["LeaderEpoch"]
    out = []
    for wanted, current in ((epoch, -1), (epoch + 5, -1), (epoch, epoch),
                            (epoch, epoch + 1)):
        answer = c.call("OffsetForLeaderEpoch", 4, Topics=[
            {"Topic": "conf-epochs", "Partitions": [
                {"Partition": 0, "CurrentLeaderEpoch": current,
                 "LeaderEpoch": wanted}]}])
        out.append(clean(answer))
    return out


@scenario
def the_cluster_is_described(broker):
    c = broker.connect()
    answer = c.call("DescribeCluster", 1)
    dirs = c.call("DescribeLogDirs", 4, Topics=[])
    refused = [c.call("DescribeCluster", 2, EndpointType=kind)
               for kind in (0, 2, 3, -1)]
    return [[(r["ErrorCode"], r["EndpointType"], r["Brokers"])
             for r in refused], answer["ErrorCode"], [b["BrokerId"] for b in answer["Brokers"]],
            [d["ErrorCode"] for d in dirs["Results"]]]


@scenario
def transactions_are_refused_alike(broker):
    """Wherever a transactional producer of the embedded broker begins, it is
    told not to ask again: by old versions, which have no error for that, that
    it may not."""
    if broker.name != "embedded":
        return []
    c = broker.connect()
    found = [c.call("FindCoordinator", 2, Key="t", KeyType=1)["ErrorCode"],
             c.call("FindCoordinator", 4, CoordinatorKeys=["t"], KeyType=1)[
                 "Coordinators"][0]["ErrorCode"],
             c.call("InitProducerId", 4, TransactionalId="t",
                    TransactionTimeoutMs=60000)["ErrorCode"]]
    return [] if found == [53, 35, 35] else found


def set_group_version(connection, level):
    """Whether the cluster has the newer kind of consumer group."""
    answer = connection.call(
        "UpdateFeatures", 1, timeoutMs=10000, FeatureUpdates=[
            {"Feature": "group.version", "MaxVersionLevel": level,
             "UpgradeType": 1 if level else 2}])
    if answer["ErrorCode"] != 0:
        raise ValueError(answer["ErrorMessage"])


@scenario
def the_newer_kind_of_group_is_declined(broker):
    """As by a Kafka that has had it switched off, which is done for so long."""
    c = broker.connect()

    def ask(version):
        return clean(c.call(
            "ConsumerGroupHeartbeat", version, GroupId="conf-newer",
            MemberId="x", RebalanceTimeoutMs=1000, TopicPartitions=[],
            SubscribedTopicNames=["conf-newer"]))
    ready(c, "conf-newer")
    spoken = [k for k in c.call("ApiVersions", 0)["ApiKeys"]
              if k["ApiKey"] == 68]
    if broker.name == "embedded":
        return [spoken, ask(0), ask(1)]
    set_group_version(c, 0)
    try:
        deadline = time.monotonic() + 30
        while ask(1)["ErrorCode"] != 35 and time.monotonic() < deadline:
            time.sleep(0.1)
        return [spoken, ask(0), ask(1)]
    finally:
        set_group_version(c, 1)


@scenario
def coordinators_of_no_type(broker):
    c = broker.connect()
    return [c.call("FindCoordinator", 2, Key="t", KeyType=9)["ErrorCode"]]


def listed(heading):
    """What docs/ARCHITECTURE.md quotes in the paragraph that begins so."""
    with open(os.path.join(ROOT, "docs/ARCHITECTURE.md")) as f:
        text = f.read()
    text = text[text.index(heading):]
    return set(re.findall(r"`([^`]+)`", text[:text.index("\n\n")]))


def compared(heading, missing):
    """No more, no fewer."""
    found = listed(heading)
    if found == missing:
        return "complete"
    return {"not listed": sorted(missing - found),
            "listed in vain": sorted(found - missing)}


@scenario
def what_is_not_spoken_is_listed(broker):
    """docs/ARCHITECTURE.md lists the APIs that clients could ask for and that
    the embedded broker doesn't have, and the versions of those it has."""
    if broker.name != "embedded":
        return ["complete"] * 2
    spoken = {k["ApiKey"]: k for k in broker.connect().call(
        "ApiVersions", 0)["ApiKeys"]}
    apis, newer = set(), set()
    for name, request in broker.definitions.requests.items():
        least, most = versions(request.definition["validVersions"])
        if "broker" not in request.definition.get("listeners", []) or \
                most < least:
            continue
        if request.key not in spoken:
            apis.add(name)
            continue
        own = spoken[request.key]
        newer |= {"%s %d" % (name, v) for v in range(least, most + 1)
                  if not own["MinVersion"] <= v <= own["MaxVersion"]}
    return [compared("APIs that aren't spoken:", apis),
            compared("Versions that aren't spoken,", newer)]


@scenario
def settings_that_are_refused_are_listed(broker):
    """So are the settings of Kafka's topics that the broker refuses."""
    c = broker.connect()
    make(c, "conf-all-settings")
    answer = c.call("DescribeConfigs", 4, Resources=[
        {"ResourceType": 2, "ResourceName": "conf-all-settings",
         "ConfigurationKeys": None}])
    names = [s["Name"] for s in answer["Results"][0]["Configs"]]
    if broker.name == "embedded":
        names += listed("Settings of topics that are refused:")
    return sorted(names)


@scenario
def sessions_and_compressing_are_declined(broker):
    """What else the embedded broker doesn't have: a client that asks for a
    session of fetches is given none, whoever comes with one is told that it
    isn't there, and a topic that has its records compressed anew is not made.
    The rest of that list is compared where batches are refused."""
    c = broker.connect()
    make(c, "conf-declined")

    def session(identity, epoch):
        return c.call("Fetch", 11, SessionId=identity, SessionEpoch=epoch,
                      MaxWaitMs=0, Topics=[])
    stranger = [session(77, 5)["ErrorCode"], session(0, 5)["ErrorCode"]]
    if broker.name != "embedded":
        return stranger
    asked = session(0, 0)
    made = c.call("CreateTopics", 5, Topics=[
        {"Name": "conf-compressed", "NumPartitions": 1, "ReplicationFactor": 1,
         "Configs": [{"Name": "compression.type", "Value": "gzip"}]}])
    said = made["Topics"][0]
    if (asked["ErrorCode"], asked["SessionId"]) != (0, 0) or \
            said["ErrorCode"] != 40 or "producer" not in said["ErrorMessage"]:
        return [asked, said]
    return stranger


# ---- housekeeping -----------------------------------------------------------

def until(is_so, what, patience_s=30):
    deadline = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.1)


def set_to(connection, name, **settings):
    answer = connection.call("IncrementalAlterConfigs", 1, Resources=[
        {"ResourceType": 2, "ResourceName": name, "Configs": [
            {"Name": k.replace("_", "."), "ConfigOperation": 0, "Value": v}
            for k, v in settings.items()]}])
    return answer["Responses"][0]["ErrorCode"]


def at(connection, name, timestamp, partition=0):
    return connection.call("ListOffsets", 2, ReplicaId=-1, Topics=[
        {"Name": name, "Partitions": [
            {"PartitionIndex": partition, "Timestamp": timestamp}]}])[
                "Topics"][0]["Partitions"][0]["Offset"]


def fill(connection, name, batches, key=b"k"):
    """Ten of these and a segment of 1 MiB is full."""
    for _ in range(batches):
        produce(connection, name, batch([b"x" * 100000], key=key))


@scenario
def what_compaction_emptied_expires(broker):
    c = broker.connect()
    make(c, "conf-emptied", cleanup_policy="compact,delete",
         segment_bytes="1048576", min_cleanable_dirty_ratio="0.01")
    fill(c, "conf-emptied", 35)

    def first():
        return fetch(c, "conf-emptied", 0)["Batches"][0][0]

    until(lambda: first() > 10, "compaction")
    out = [at(c, "conf-emptied", EARLIEST), at(c, "conf-emptied", LATEST),
           set_to(c, "conf-emptied", retention_ms="1000")]
    until(lambda: at(c, "conf-emptied", EARLIEST) == 35, "retention")
    return out


@scenario
def all_partitions_expire_within_seconds(broker):
    c = broker.connect()
    make(c, "conf-many", 30)
    for i in range(30):
        produce(c, "conf-many", batch([b"x"]), partition=i)
    out = [set_to(c, "conf-many", retention_ms="1000")]
    until(lambda: all(at(c, "conf-many", EARLIEST, i) == 1
                      for i in range(30)), "retention", patience_s=15)
    return out


@scenario
def a_tombstone_stays_from_its_first_compaction_on(broker):
    """However old it is by then: KIP-534."""
    kept_s = 4
    c = broker.connect()
    make(c, "conf-tombstone", cleanup_policy="compact",
         segment_bytes="1048576", min_cleanable_dirty_ratio="0.01",
         min_compaction_lag_ms="3600000",
         delete_retention_ms=str(kept_s * 1000))
    now_ms = int(time.time() * 1000)

    def put(key, value=b"x" * 100000, count=1):
        for _ in range(count):
            produce(c, "conf-tombstone", batch([value], key=key,
                                               ts_ms=now_ms))

    def first(of):
        """The base offset of the first batch at or behind that offset."""
        return fetch(c, "conf-tombstone", of)["Batches"][0][0]

    put(b"d", b"v")  # 0
    put(b"d", None)  # 1
    put(b"k", count=21)  # and two segments are full
    time.sleep(kept_s + 1)
    out = [first(0), set_to(c, "conf-tombstone", min_compaction_lag_ms="0")]
    until(lambda: first(0) == 1, "a first round")
    began = time.monotonic()
    out.append(first(2) > 2)
    last = first(2)
    put(b"k", count=11)
    until(lambda: first(2) > last, "a second round")
    if time.monotonic() - began < kept_s:
        out.append(first(1))
    else:
        out.append(1)  # too slow to tell
    time.sleep(max(0, began + kept_s + 1 - time.monotonic()))
    put(b"k", count=11)
    until(lambda: first(0) > 1, "a third round")
    return out
