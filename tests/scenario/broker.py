"""broker -- the embedded broker, ended at every system call of what it does.

What it calls while records are produced, a segment rolls, a log is compacted
or a topic is deleted is watched first.  Then it is killed at each of these
calls, started again and looked at: what was acknowledged is there, at its
offset; of compacted keys the latest; what is deleted is gone, or all of it is
still there.
"""

import os
import sqlite3
import time

from kafka_wire import EARLIEST, KafkaError
from scenario import scenario
from system import Skip, expect
from traced import killed_at, places_in, threads_of, traced

CALLS = ("pwrite64,write,sendto,sendfile,fdatasync,fsync,ftruncate,fallocate,"
         "unlink,unlinkat,rename,renameat,renameat2,mkdir,rmdir,openat")
FLAGS = ("--retention-check-ms", "100")
SEGMENT = {"segment.bytes": str(1 << 20)}
COMPACTED = dict(SEGMENT, **{"cleanup.policy": "compact",
                             "min.cleanable.dirty.ratio": "0"})
LARGE = 400 << 10
KEYS = 5
TRIES = 3


class Topic:
    """A topic, and what was ever acknowledged, tried and seen of it."""

    def __init__(self, name, compacted=False):
        self.name = name
        self.compacted = compacted
        self.acknowledged = {}  # offset: (key, value)
        self.seen = {}
        self.tried = set()

    def produce(self, kafka, key, value):
        self.tried.add((key, value))
        offset = kafka.produce(self.name, 0, [
            (key, value, [], int(time.time() * 1000))])
        expect(offset not in self.seen and offset not in self.acknowledged,
               "%s: offset %d is given out again", self.name, offset)
        self.acknowledged[offset] = key, value

    def check(self, kafka):
        """After a start: nothing is missing, and nothing is another."""
        found = {r.offset: (r.key, r.value)
                 for r in kafka.read_all(self.name)[0]}
        for offset, record in found.items():
            expect(record in self.tried, "%s: nobody sent what is at %d",
                   self.name, offset)
            for before in (self.seen, self.acknowledged):
                expect(before.get(offset, record) == record,
                       "%s: what is at %d was something else", self.name,
                       offset)
        self.seen.update(found)
        end = kafka.offset(self.name, 0)
        expect(end > max(self.acknowledged, default=-1),
               "%s ends at %d", self.name, end)
        for offset, (key, value) in self._needed().items():
            expect(found.get(offset) == (key, value) or
                   self.compacted and any(
                       k == key and o > offset for o, (k, _) in
                       found.items()),
                   "%s: %d (key %r) is missing", self.name, offset, key)

    def _needed(self):
        if not self.compacted:
            return self.acknowledged
        latest = {key: offset for offset, (key, _) in
                  sorted(self.acknowledged.items())}
        return {offset: self.acknowledged[offset]
                for offset in latest.values()}


class Work:
    """Operations: what comes before, and what the broker is killed in."""

    def __init__(self, context):
        self.context = context
        self.system = context.system
        self.kafka = self.system.kafka()
        self.count = 0
        self.small = Topic("small")
        self.rolled = Topic("rolled")
        self.compacted = Topic("compacted", compacted=True)
        self.doomed = None
        self.is_deleted = False
        self.kafka.create_topic("small", 1)
        self.kafka.create_topic("rolled", 1, SEGMENT)
        self.kafka.create_topic("compacted", 1, COMPACTED)

    def value(self, size=0):
        self.count += 1
        return (b"%d " % self.count).ljust(size, b".")

    def key(self):
        return b"key %d" % self.context.rng.randrange(KEYS)

    def before(self, operation):
        if operation == "delete" and self.doomed is None:
            self.doomed = Topic("doomed")
            self.is_deleted = False
            self.kafka.create_topic("doomed", 2)
            for _ in range(3):
                self.doomed.produce(self.kafka, None, self.value())
        elif operation == "compact":
            self.write_keys()

    def write_keys(self):
        """About a segment and a half, so that one is sealed."""
        for i in range(4):
            self.compacted.produce(self.kafka, b"large", self.value(LARGE))
            for _ in range(3):
                self.compacted.produce(self.kafka, self.key(), self.value())

    def run(self, operation):
        """Until it is done or the broker isn't there."""
        if operation == "produce":
            for _ in range(3):
                self.small.produce(self.kafka, self.key(), self.value())
        elif operation == "roll":
            for _ in range(3):
                self.rolled.produce(self.kafka, None, self.value(LARGE))
        elif operation == "compact":
            size = self.log_size()
            self.write_keys()
            self.system.wait_for("a log is compacted", lambda:
                                 self.is_dead() or self.tidied(size))
            if self.is_dead():
                raise ConnectionError("the broker is dead")
        elif operation == "delete" and self.doomed is not None:
            self.kafka.delete_topic("doomed")
            self.is_deleted = True
            # Its folder goes some time later.
            self.system.wait_for("its folder is removed", lambda:
                                 self.is_dead() or self.folders() == 3)
            self.doomed = None

    def is_dead(self):
        return self.system.kafka_process.poll() is not None

    def log_path(self):
        return os.path.join(self.system.logs, "kafka.log")

    def log_size(self):
        return os.path.getsize(self.log_path())

    def tidied(self, since):
        with open(self.log_path(), "rb") as f:
            f.seek(since)
            return any(b"log tidied" in line and b"topic=compacted" in line
                       for line in f)

    def folders(self):
        return len(os.listdir(os.path.join(
            self.system.base, "kafka-data/topics")))

    def again(self):
        """Start the broker that died, and look at everything."""
        self.system.wait_for("the broker is dead", self.is_dead)
        self.system.kafka_kill()
        self.system.kafka_start(flags=FLAGS)
        self.kafka.close()
        self.check()

    def check(self):
        for topic in (self.small, self.rolled, self.compacted):
            topic.check(self.kafka)
            topic.produce(self.kafka, self.key(), self.value())
        there = self.kafka.partitions("doomed")
        expect(self.folders() == 3 + (there > 0), "%d folders of topics",
               self.folders())
        if self.is_deleted:
            expect(there == 0, "a deleted topic is back")
        if self.doomed is not None:
            if there:
                expect(there == 2, "%d of 2 partitions are left", there)
                self.doomed.check(self.kafka)
            else:
                self.doomed = None


def watch(work, operation):
    """Where the broker can be killed in it."""
    system = work.system
    work.before(operation)
    names = threads_of(system.kafka_process.pid)
    with traced(system, "kafka", ["-e", "trace=" + CALLS]) as path:
        work.run(operation)
    return [(operation,) + place for place in places_in(path, names)]


def kill_at(work, operation, place):
    """1 if it was reached: calls of two lives differ a little."""
    for _ in range(TRIES):
        try:
            work.before(operation)
            with killed_at(work.system, "kafka", place):
                work.run(operation)
        except (OSError, KafkaError):
            work.again()
            return 1
        if work.is_dead():
            work.again()
            return 1
    return 0


@scenario(kind="own", small=False)
def broker_killed_at_boundaries(context):
    """kill -9 of the embedded broker at the system calls of a produce, a
    roll, a compaction and a topic's deletion: some of them, all with
    --long."""
    system = context.system
    if system.settings.broker != "embedded":
        raise Skip("it is about the embedded broker")
    system.kafka_start(flags=FLAGS)
    work = Work(context)
    found = {operation: watch(work, operation)
             for operation in ("produce", "roll", "compact", "delete")}
    picks = []
    for operation, places in found.items():
        expect(len(places) > 4, "%s: only %r", operation, places)
        context.rng.shuffle(places)
        picks += places if context.options.long else places[:4]
    reached = sum(kill_at(work, pick[0], pick[1:]) for pick in picks)
    work.check()
    expect(reached >= len(picks) * 0.6, "%d of %d calls were reached",
           reached, len(picks))
    context.say("%d calls of %d (%s)" % (
        reached, sum(map(len, found.values())), ", ".join(
            "%s %d" % (o, len(p)) for o, p in found.items())))
