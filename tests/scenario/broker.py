"""broker -- the embedded broker killed, and its power cut.

What it calls while records are produced, a segment rolls, a log is compacted
or a topic is deleted is watched first.  Then it is killed at each of these
calls.  Its file system is shut down under load, as a power cut would.

It is started again and looked at each time: what was acknowledged is there, at
its offset; of compacted keys the latest; what is deleted is gone, or all of it
is still there.
"""

import os
import random
import subprocess
import threading
import time

from kafka_wire import EARLIEST, KafkaError
from scenario import scenario
from storage import disk_of
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
TRIES = 2


class Topic:
    """A topic, and what was ever acknowledged, tried and seen of it."""

    def __init__(self, name, compacted=False):
        self.name = name
        self.compacted = compacted
        self.acknowledged = {}  # offset: (key, value)
        self.seen = {}          # likewise, after a start
        self.tried = set()
        self.start = 0

    def produce(self, kafka, key, value, counts=lambda: True):
        """${counts}: an answer that comes now is one."""
        self.tried.add((key, value))
        offset = kafka.produce(self.name, 0, [
            (key, value, [], int(time.time() * 1000))])
        if not counts():
            return
        expect(offset not in self.seen and offset not in self.acknowledged,
               "%s: offset %d is given out again", self.name, offset)
        self.acknowledged[offset] = key, value

    def check(self, kafka):
        """After a start: nothing is missing, and nothing is another."""
        found = {r.offset: (r.key, r.value)
                 for r in kafka.read_all(self.name)[0]}
        start = kafka.offset(self.name, 0, EARLIEST)
        expect(start >= self.start or self.compacted,
               "%s: records are back that were deleted", self.name)
        for offset, record in found.items():
            expect(record in self.tried, "%s: nobody sent what is at %d",
                   self.name, offset)
            for before in (self.seen, self.acknowledged):
                expect(before.get(offset, record) == record,
                       "%s: what is at %d was something else", self.name,
                       offset)
        end = kafka.offset(self.name, 0)
        expect(end > max(self.acknowledged, default=-1),
               "%s ends at %d", self.name, end)
        # What was there after a start is on disk as well.
        needed = self._needed({**self.seen, **self.acknowledged})
        for offset, record in needed.items():
            expect(found.get(offset) == record or self.compacted and any(
                key == record[0] and o > offset
                for o, (key, _) in found.items()),
                   "%s: %d (key %r) is missing", self.name, offset, record[0])
        self.seen = found

    def _needed(self, records):
        if not self.compacted:
            return {o: r for o, r in records.items() if o >= self.start}
        latest = {key: offset for offset, (key, _) in sorted(records.items())}
        return {offset: records[offset] for offset in latest.values()}

    def trim(self, kafka, keep):
        """Delete all but that many of its records, for good."""
        start = kafka.offset(self.name, 0) - keep
        if start > self.start:
            kafka.delete_records(self.name, 0, start)
            self.start = start
            for records in (self.seen, self.acknowledged):
                for offset in [o for o in records if o < start]:
                    del records[offset]


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
        for _ in range(4):
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
            self.system.kafka_data, "topics")))

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
    with traced(system, "kafka", ["-e", "trace=" + CALLS]) as (path, _):
        work.run(operation)
    return [(operation,) + place for place in places_in(path, names)]


def kill_at(work, operation, place):
    """1 if it was reached.  Calls of two lives differ a little: where there
    were fewer each time, they are counted on through the next ones."""
    for rounds in [1] * TRIES + [8]:
        try:
            work.before(operation)
            with killed_at(work.system, "kafka", place):
                work.run(operation)
                for _ in range(rounds - 1):
                    work.before(operation)
                    work.run(operation)
        except (OSError, KafkaError):
            work.again()
            return 1
        if work.is_dead():
            work.again()
            return 1
    return 0


def about_embedded(system):
    if system.settings.broker != "embedded":
        raise Skip("it is about the embedded broker")


@scenario(kind="own", small=False)
def broker_killed_at_boundaries(context):
    """kill -9 of the embedded broker at the system calls of a produce, a
    roll, a compaction and a topic's deletion: some of them, all with
    --long."""
    system = context.system
    about_embedded(system)
    system.kafka_start(flags=FLAGS)
    work = Work(context)
    found = {operation: watch(work, operation)
             for operation in ("produce", "roll", "compact", "delete")}
    picks = []
    for operation, places in found.items():
        expect(len(places) > 4, "%s: only %r", operation, places)
        context.rng.shuffle(places)
        picks += places if context.options.long else places[:4]
    missed = [pick for pick in picks
              if not kill_at(work, pick[0], pick[1:])]
    work.check()
    expect(len(missed) < len(picks) * 0.1 + 2,
           "%d of %d calls were not reached: %r", len(missed), len(picks),
           missed)
    context.say("%d calls of %d (%s)%s" % (
        len(picks) - len(missed), sum(map(len, found.values())), ", ".join(
            "%s %d" % (o, len(p)) for o, p in found.items()),
        ", not reached: %r" % missed if missed else ""))


# ---- power cuts -------------------------------------------------------------

class Writer(threading.Thread):
    """Does one thing after the other, but for when the broker is away."""

    def __init__(self, system, seed):
        super().__init__(daemon=True)
        self.system = system
        self.rng = random.Random(seed)
        self.kafka = system.kafka()
        self.count = 0
        self.may_run = threading.Event()
        self.is_idle = threading.Event()
        self.is_over = threading.Event()
        self.error = None

    def run(self):
        while not self.is_over.is_set():
            if not self.may_run.is_set():
                self.is_idle.set()
                self.may_run.wait(0.01)
                continue
            self.is_idle.clear()
            cuts = self.system.power_cuts
            try:
                # No machine without power could answer anybody.
                self.step(lambda c=cuts: c == self.system.power_cuts)
                self.count += 1
            except (OSError, KafkaError):
                self.kafka.close()
                time.sleep(0.005)
            except Exception as error:  # for who waits for it
                self.error = error
                self.is_idle.set()
                return

    def expect_well(self):
        if self.error is not None:
            raise self.error


class Producer(Writer):
    def __init__(self, system, seed, topic):
        super().__init__(system, seed)
        self.topic = topic
        self.number = 0

    def step(self, counts):
        self.number += 1
        size = 60 << 10 if self.rng.random() < 0.2 else 50
        self.topic.produce(
            self.kafka, b"key %d" % self.rng.randrange(KEYS),
            (b"%d " % self.number).ljust(size, b"."), counts)

    def check(self, kafka):
        self.topic.check(kafka)
        if not self.topic.compacted:
            self.topic.trim(kafka, 20)


class Maker(Writer):
    """Makes topics and deletes them."""

    def __init__(self, system, seed):
        super().__init__(system, seed)
        self.made, self.deleted = [], set()  # as it was answered
        self.deleting = set()
        self.number = 0

    def step(self, counts):
        self.number += 1
        name = "made-%d" % self.number
        self.kafka.create_topic(name, 1)
        if counts():
            self.made.append(name)
        if len(self.made) > 2:
            name = self.made.pop(0)
            self.deleting.add(name)
            self.kafka.delete_topic(name)
            if counts():
                self.deleted.add(name)

    def check(self, kafka):
        for name in self.made:
            expect(kafka.partitions(name) == 1, "%s is missing", name)
        for name in self.deleted:
            expect(kafka.partitions(name) == 0, "%s is back", name)
        # What was neither is known now, and won't change.
        for name in self.deleting - self.deleted:
            if kafka.partitions(name):
                self.made.append(name)
            else:
                self.deleted.add(name)
        self.deleting.clear()


def cut(context, disk, writers):
    """The power goes under load, and comes back."""
    system = context.system
    counts = [w.count for w in writers]
    for writer in writers:
        writer.is_idle.clear()
        writer.may_run.set()
    more = context.rng.randrange(2, 30)
    system.wait_for("all write", lambda: all(
        w.error or w.count >= c + more for w, c in zip(writers, counts)),
                    every=0.001)
    disk.cut()
    for writer in writers:
        writer.may_run.clear()
    system.kafka_process.end()
    system.wait_for("nobody writes", lambda: all(
        w.is_idle.is_set() for w in writers))
    disk.unmount()
    disk.mount()
    system.kafka_start(flags=FLAGS)
    kafka = system.kafka()
    for writer in writers:
        writer.expect_well()
        writer.check(kafka)
    kafka.close()


@scenario(kind="own", small=False)
def broker_power_cuts(context):
    """The power fails again and again under load: the broker keeps what it
    has acknowledged, records and topics."""
    system = context.system
    about_embedded(system)
    wanted = 100 if context.options.long else 10
    with disk_of(system, 512) as disk:
        system.kafka_data = os.path.join(system.data, "broker")
        system.kafka_start(flags=FLAGS)
        kafka = system.kafka()
        kafka.create_topic("kept", 1, SEGMENT)
        kafka.create_topic("compacted", 1, COMPACTED)
        kafka.close()
        writers = [
            Producer(system, context.rng.random(), Topic("kept")),
            Producer(system, context.rng.random(), Topic("compacted", True)),
            Maker(system, context.rng.random())]
        for writer in writers:
            writer.start()
        try:
            for _ in range(wanted):
                cut(context, disk, writers)
        finally:
            for writer in writers:
                writer.is_over.set()
            system.kafka_process.end()
        context.say("%d cuts, %d acknowledgements" % (
            wanted, sum(w.count for w in writers)))


@scenario(kind=None, small=False)
def log_power_cuts(context):
    """The same of a partition's log alone, with what its header promises; and
    that the check finds what was acknowledged too early."""
    program = os.path.join(os.path.dirname(context.settings.bin),
                           "test/powercut")
    cuts = 100 if context.options.long else 10

    def run(*arguments):
        return subprocess.run(
            [program, "--seed", str(context.rng.randrange(1, 10 ** 9)),
             *arguments], capture_output=True, text=True)
    done = run("--cuts", str(cuts))
    if done.returncode == 2:
        raise Skip(done.stdout.strip().splitlines()[-1].lstrip("# "))
    expect(done.returncode == 0, "%s", done.stdout)
    planted = run("--cuts", str(cuts), "--plant")
    expect(planted.returncode == 1 and "missing" in planted.stdout,
           "what was planted isn't found: %s", planted.stdout)
    context.say("%d cuts" % cuts)
