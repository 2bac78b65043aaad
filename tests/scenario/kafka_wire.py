"""kafka_wire -- as much of Kafka's protocol as the tests need.

Producing any bytes at all, reading topics whole, the ends of partitions,
committing for a group, and making, widening, emptying and deleting topics,
each over a connection of its own to a single broker, or to the leaders in
a cluster.  Independent of librdkafka, so that what the services sent is read with other eyes.
"""

import collections
import socket
import struct
import time

PRODUCE, FETCH, LIST_OFFSETS, METADATA = 0, 1, 2, 3
OFFSET_COMMIT, OFFSET_FETCH = 8, 9
CREATE_TOPICS, DELETE_TOPICS, DELETE_RECORDS, CREATE_PARTITIONS = 19, 20, 21, 37
CREATE_ACLS, ELECT_LEADERS, DESCRIBE_QUORUM = 30, 43, 55
# Of access control lists: kinds of resources, and operations.
TOPIC, GROUP, CLUSTER = 2, 3, 4
READ, WRITE, CREATE, DESCRIBE = 3, 4, 5, 8
EARLIEST, LATEST = -2, -1
UNKNOWN_TOPIC = 3
ELECTION_NOT_NEEDED = 84
RETRIABLE = (3, 5, 6, 7, 8, 9, 13, 14, 15, 16)

Record = collections.namedtuple(
    "Record", "topic partition offset ts_ms key value headers")


class KafkaError(Exception):
    def __init__(self, what, code=None):
        super().__init__(what)
        self.code = code


def _crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ 0x82F63B78 if n & 1 else n >> 1
        table.append(n)
    return table


_TABLE = _crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _string(text):
    if text is None:
        return struct.pack(">h", -1)
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def _varint(n):
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _sized(raw):
    return _varint(-1) if raw is None else _varint(len(raw)) + raw


class Reader:
    def __init__(self, data, at=0):
        self.data = data
        self.at = at

    def take(self, fmt):
        value, = struct.unpack_from(">" + fmt, self.data, self.at)
        self.at += struct.calcsize(">" + fmt)
        return value

    def raw(self, size):
        if self.at + size > len(self.data):
            raise KafkaError("a response was cut short")
        self.at += size
        return self.data[self.at - size:self.at]

    def string(self):
        size = self.take("h")
        return None if size < 0 else self.raw(size).decode()

    def varint(self):
        shift = n = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            n |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return (n >> 1) ^ -(n & 1)
            shift += 7

    def sized(self):
        size = self.varint()
        return None if size < 0 else bytes(self.raw(size))


def encode_batch(records):
    """records: (key, value, headers[(name, value)], ts_ms), bytes or None."""
    first_ts = records[0][3]
    body = bytearray()
    for i, (key, value, headers, ts_ms) in enumerate(records):
        record = bytearray(b"\0")
        record += _varint(ts_ms - first_ts) + _varint(i)
        record += _sized(key) + _sized(value) + _varint(len(headers))
        for name, header in headers:
            record += _sized(name.encode()) + _sized(header)
        body += _varint(len(record)) + record
    checked = struct.pack(
        ">hiqqqhii", 0, len(records) - 1, first_ts,
        max(r[3] for r in records), -1, -1, -1, len(records)) + body
    return struct.pack(">qiibI", 0, len(checked) + 9, -1, 2,
                       crc32c(checked)) + checked


def decode_batches(topic, partition, data, out):
    at = 0
    while at + 61 <= len(data):
        base, size = struct.unpack_from(">qi", data, at)
        if at + 12 + size > len(data):
            break
        attributes, = struct.unpack_from(">h", data, at + 21)
        first_ts, = struct.unpack_from(">q", data, at + 27)
        count, = struct.unpack_from(">i", data, at + 57)
        if attributes & 7:
            raise KafkaError("a compressed batch, which isn't read here")
        if not attributes & 0x20:  # control records are left out
            r = Reader(data, at + 61)
            for _ in range(count):
                r.varint()
                r.take("b")
                ts_ms = first_ts + r.varint()
                offset = base + r.varint()
                key, value = r.sized(), r.sized()
                headers = {}
                for _ in range(r.varint()):
                    name = r.sized().decode()
                    headers[name] = r.sized()
                out.append(Record(topic, partition, offset, ts_ms, key,
                                  value, headers))
        at += 12 + size
    return out


def _expect_taken(r, what):
    code = r.take("h")
    if code:
        raise KafkaError("%s: error %d" % (what, code), code)


class Kafka:
    """One connection, made when it is needed; not for several threads."""

    def __init__(self, port, timeout=20):
        self.port = port
        self.timeout = timeout
        self.sock = None
        self.correlation = 0

    def close(self):
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def _read(self, size):
        out = bytearray()
        while len(out) < size:
            got = self.sock.recv(min(size - len(out), 1 << 20))
            if not got:
                raise ConnectionError("the broker closed the connection")
            out += got
        return bytes(out)

    def _send(self, api, version, body):
        self.correlation += 1
        request = struct.pack(">hhi", api, version, self.correlation) + \
            _string("scenario") + body
        try:
            if self.sock is None:
                self.sock = socket.create_connection(
                    ("127.0.0.1", self.port), self.timeout)
            self.sock.sendall(struct.pack(">i", len(request)) + request)
        except OSError:
            self.close()
            raise

    def _answer(self):
        try:
            size, = struct.unpack(">i", self._read(4))
            answer = self._read(size)
        except OSError:
            self.close()
            raise
        r = Reader(answer)
        if r.take("i") != self.correlation:
            self.close()
            raise KafkaError("an answer to another request")
        return r

    def _ask(self, api, version, body):
        self._send(api, version, body)
        return self._answer()

    def topics(self):
        """The names of all, but for the broker's own."""
        r = self._ask(METADATA, 1, struct.pack(">i", -1))
        for _ in range(r.take("i")):
            r.take("i"), r.string(), r.take("i"), r.string()
        r.take("i")
        found = set()
        for _ in range(r.take("i")):
            r.take("h")
            name, internal = r.string(), r.take("b")
            if not internal:
                found.add(name)
            for _ in range(r.take("i")):
                r.raw(10)
                for _ in range(2):  # replicas, and those in sync
                    r.raw(4 * r.take("i"))
        return found

    def partitions(self, topic):
        """How many partitions the topic has; 0 if it isn't there."""
        r = self._ask(METADATA, 1, struct.pack(">i", 1) + _string(topic))
        for _ in range(r.take("i")):
            r.take("i"), r.string(), r.take("i"), r.string()
        r.take("i")
        count = 0
        for _ in range(r.take("i")):
            r.take("h"), r.string(), r.take("b")
            count = r.take("i")
        return max(count, 0)

    def offset(self, topic, partition, when=LATEST, committed=False):
        """Where a record of that time is, or the end; as it is for those who
        read what is committed: not beyond the first open transaction."""
        r = self._ask(LIST_OFFSETS, 2, struct.pack(">ibi", -1, committed, 1) +
                      _string(topic) + struct.pack(">iiq", 1, partition, when))
        r.take("i"), r.take("i"), r.string(), r.take("i"), r.take("i")
        code = r.take("h")
        if code:
            raise KafkaError("offsets of %s/%d: error %d" %
                             (topic, partition, code), code)
        r.take("q")
        return r.take("q")

    def produce(self, topic, partition, records):
        """Returns the first record's offset."""
        batch = encode_batch(records)
        r = self._ask(PRODUCE, 3, _string(None) + struct.pack(">hii", -1,
                      10000, 1) + _string(topic) +
                      struct.pack(">iii", 1, partition, len(batch)) + batch)
        r.take("i"), r.string(), r.take("i"), r.take("i")
        code = r.take("h")
        if code:
            raise KafkaError("producing to %s/%d: error %d" %
                             (topic, partition, code), code)
        return r.take("q")

    def send(self, topic, partition, value, key=None, type_=None,
             headers=()):
        """One record of a stranger: no Millrace identity, unless given."""
        headers = list(headers)
        if type_ is not None:
            headers.append(("ce_type", type_.encode()))
        return self.produce(topic, partition, [
            (key, value, headers, int(time.time() * 1000))])

    def fetch(self, topic, partition, offset):
        """Some records at the offset and behind it, committed ones."""
        self.fetch_ask(topic, partition, offset)
        return self.fetch_answer(topic, partition, offset)

    def fetch_ask(self, topic, partition, offset):
        self._send(FETCH, 4, struct.pack(
            ">iiiibi", -1, 100, 1, 8 << 20, 1, 1) + _string(topic) +
            struct.pack(">iiqi", 1, partition, offset, 8 << 20))

    def fetch_answer(self, topic, partition, offset):
        r = self._answer()
        r.take("i"), r.take("i"), r.string(), r.take("i"), r.take("i")
        code = r.take("h")
        if code:
            raise KafkaError("fetching %s/%d at %d: error %d" %
                             (topic, partition, offset, code), code)
        r.take("q"), r.take("q")
        for _ in range(max(r.take("i"), 0)):
            r.take("q"), r.take("q")
        size = r.take("i")
        records = decode_batches(topic, partition, r.raw(max(size, 0)), [])
        return [x for x in records if x.offset >= offset]

    def read_all(self, topic):
        """All records, from the start to the end as of now, as a list for
        each partition."""
        out = []
        for partition in range(self.partitions(topic)):
            at = self.offset(topic, partition, EARLIEST)
            end = self.offset(topic, partition)
            records = []
            while at < end:
                some = [r for r in self.fetch(topic, partition, at)
                        if r.offset < end]
                if not some:
                    break
                records += some
                at = some[-1].offset + 1
            out.append(records)
        return out

    def group_offsets(self, group, topic):
        """What a group has committed: (offset or -1, metadata)."""
        count = self.partitions(topic)
        r = self._ask(OFFSET_FETCH, 1, _string(group) + struct.pack(
            ">i", 1) + _string(topic) + struct.pack(
            ">i%di" % count, count, *range(count)))
        r.take("i"), r.string()
        out = [None] * count
        for _ in range(r.take("i")):
            partition, offset, metadata = r.take("i"), r.take("q"), r.string()
            code = r.take("h")
            if code:
                raise KafkaError("offsets of group %s: error %d" %
                                 (group, code), code)
            out[partition] = (offset, metadata)
        return out

    def group_commit(self, group, topic, partition, offset):
        """Commit an offset for a group that has no members."""
        r = self._ask(OFFSET_COMMIT, 2, _string(group) + struct.pack(
            ">i", -1) + _string("") + struct.pack(">qi", -1, 1) +
            _string(topic) + struct.pack(">iiq", 1, partition, offset) +
            _string(""))
        r.take("i"), r.string(), r.take("i"), r.take("i")
        _expect_taken(r, "committing for group " + group)

    def ends(self, topic, committed=False):
        return [self.offset(topic, p, committed=committed)
                for p in range(self.partitions(topic))]

    # -- changing what there is --------------------------------------------

    def create_topic(self, topic, partitions, settings=None):
        settings = settings or {}
        r = self._ask(CREATE_TOPICS, 2, struct.pack(">i", 1) +
                      _string(topic) +
                      struct.pack(">ihii", partitions, 1, 0, len(settings)) +
                      b"".join(_string(k) + _string(v)
                               for k, v in settings.items()) +
                      struct.pack(">ib", 20000, 0))
        r.take("i"), r.take("i"), r.string()
        _expect_taken(r, "creating " + topic)

    def allow(self, user, kind, name, *operations):
        """Let a user do so with the resource of that name."""
        r = self._ask(CREATE_ACLS, 1, struct.pack(">i", len(operations)) +
                      b"".join(struct.pack("b", kind) + _string(name) +
                               struct.pack("b", 3) + _string("User:" + user) +
                               _string("*") + struct.pack("bb", operation, 3)
                               for operation in operations))
        r.take("i"), r.take("i")
        for _ in operations:
            _expect_taken(r, "allowing " + user)
            r.string()

    def delete_topic(self, topic):
        r = self._ask(DELETE_TOPICS, 1, struct.pack(">i", 1) +
                      _string(topic) + struct.pack(">i", 20000))
        r.take("i"), r.take("i"), r.string()
        _expect_taken(r, "deleting " + topic)

    def create_partitions(self, topic, count):
        """So many in all."""
        r = self._ask(CREATE_PARTITIONS, 0, struct.pack(">i", 1) +
                      _string(topic) + struct.pack(">iiib", count, -1, 20000,
                                                   0))
        r.take("i"), r.take("i"), r.string()
        _expect_taken(r, "partitions of " + topic)

    def delete_records(self, topic, partition, offset):
        """Those below the offset."""
        r = self._ask(DELETE_RECORDS, 0, struct.pack(">i", 1) +
                      _string(topic) + struct.pack(">iiqi", 1, partition,
                                                   offset, 20000))
        r.take("i"), r.take("i"), r.string(), r.take("i"), r.take("i")
        r.take("q")
        _expect_taken(r, "records of %s/%d" % (topic, partition))


class ClusterKafka(Kafka):
    """The same of a cluster: each partition is asked for where it is led."""

    def __init__(self, ports, timeout=20):
        """ports: those of the brokers 1, 2, ..."""
        super().__init__(ports[0], timeout)
        self.ports = ports
        self.nodes = {n + 1: Kafka(p, timeout) for n, p in enumerate(ports)}

    def close(self):
        super().close()
        for node in self.nodes.values():
            node.close()

    def _ask(self, api, version, body):
        """Any of them that answers."""
        for _ in self.ports[1:]:
            try:
                return super()._ask(api, version, body)
            except OSError:
                super().close()
                at = self.ports.index(self.port) + 1
                self.port = self.ports[at % len(self.ports)]
        return super()._ask(api, version, body)

    def leaders(self, topic):
        """{partition: the number of its leader, or -1}."""
        r = self._ask(METADATA, 1, struct.pack(">i", 1) + _string(topic))
        for _ in range(r.take("i")):
            r.take("i"), r.string(), r.take("i"), r.string()
        r.take("i")
        found = {}
        for _ in range(r.take("i")):
            r.take("h"), r.string(), r.take("b")
            for _ in range(r.take("i")):
                r.take("h")
                partition, leader = r.take("i"), r.take("i")
                for _ in range(2):  # replicas, and those in sync
                    for _ in range(r.take("i")):
                        r.take("i")
                found[partition] = leader
        return found

    def _leader(self, topic, partition):
        leader = self.leaders(topic).get(partition, -1)
        if leader not in self.nodes:
            raise KafkaError("%s/%d has no leader" % (topic, partition), 5)
        return self.nodes[leader]

    def offset(self, topic, partition, when=LATEST, committed=False):
        return self._leader(topic, partition).offset(
            topic, partition, when, committed)

    def fetch(self, topic, partition, offset):
        return self._leader(topic, partition).fetch(topic, partition, offset)

    def controller(self):
        """The number of the broker that leads the metadata's quorum."""
        # Flexible: counts are one more, and tags, of which there are none,
        # end the header and each structure.
        r = self._ask(DESCRIBE_QUORUM, 0, b"\0\2\x13__cluster_metadata"
                      b"\2" + struct.pack(">i", 0) + b"\0\0\0")
        r.take("b")
        _expect_taken(r, "asking for the controller")
        r.raw(1 + 1 + 18 + 1 + 4)
        _expect_taken(r, "asking for the controller")
        return r.take("i")

    def elect_preferred(self, topic, partitions):
        """Lead them by their first replicas; how many moved."""
        r = self._ask(ELECT_LEADERS, 1, struct.pack(">bi", 0, 1) +
                      _string(topic) + struct.pack(
                          ">i%dii" % len(partitions), len(partitions),
                          *partitions, 20000))
        r.take("i")
        _expect_taken(r, "electing leaders")
        moved = 0
        for _ in range(r.take("i")):
            r.string()
            for _ in range(r.take("i")):
                partition, code = r.take("i"), r.take("h")
                r.string()
                if code not in (0, ELECTION_NOT_NEEDED):
                    raise KafkaError("electing a leader of %s/%d: error %d" %
                                     (topic, partition, code), code)
                moved += code == 0
        return moved
