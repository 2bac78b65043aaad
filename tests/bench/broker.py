"""broker -- the embedded broker beside librdkafka's mock cluster, a bare loop
on the same disk, and Apache Kafka.

The clients are the same program for all (records.c, roundtrip.c), in processes
of their own.  The mock keeps 5 MiB of a partition, in memory: what is produced
for it fits in that.
"""

import os
import shutil
import socket
import statistics
import time

from rig import ROOT, free_port, wait_for

PARTITIONS = 64
# Bytes of a record, records of a batch, records in all.
SHAPES = ((100, 1000, 2000000), (1024, 500, 288000))
FULL = ((100, 9000, 1998000), (1024, 900, 288000))  # a client's 1 MB
SINGLES = 30000
SHORT = 3  # times as many turns, of less than a second
GIGABYTE = 1000000  # records of 1 KiB
CONNECTIONS = 100
RATES = (100, 1000)  # records a second, each by itself to the disk
# ApiVersions, version 0, correlation id 1, no client id.
PING = bytes.fromhex("0000000a" "00120000" "00000001" "ffff")


def median(results, name="rate"):
    return statistics.median(r[name] for r in results)


def ping(port, sock=None):
    """Does a broker answer there?"""
    sock = sock or socket.create_connection(("127.0.0.1", port), 5)
    sock.settimeout(5)
    sock.sendall(PING)
    return sock if sock.recv(4096)[8:10] == b"\0\0" else None


class Subject:
    """A broker with its address and topics that nobody used yet."""

    def __init__(self, rig, name, address):
        self.rig = rig
        self.name = name
        self.address = address
        self.topics = 0

    def produce(self, partitions, count, size, acks, batch):
        self.topics += 1
        return self.rig.output(
            "records", "produce", self.address, "bench-%d" % self.topics,
            *map(str, (partitions, count, size, acks, batch)))

    def consume(self, partitions, count):
        """What the last produce left."""
        return self.rig.output(
            "records", "consume", self.address, "bench-%d" % self.topics,
            str(partitions), str(count))

    def both(self, say, partitions, count, size, acks, batch):
        """Consumed twice: at once, while the disk may still be busy with it,
        and again when it is at rest."""
        made = self.produce(partitions, count, size, acks, batch)
        fresh = self.consume(partitions, count)
        read = self.consume(partitions, count)
        say("%-8s %d bytes, batches of %d, acks=%s: produced %d/s, consumed "
            "%d/s at once and %d/s again" % (
                self.name, size, batch, acks, made["rate"], fresh["rate"],
                read["rate"]))
        return {"produce": made["rate"], "consume": read["rate"],
                "consume at once": fresh["rate"],
                "both": count / (made["seconds"] + fresh["seconds"])}


class Embedded(Subject):
    def __init__(self, rig):
        self.port = free_port()
        self.data = os.path.join(rig.data, "broker")
        self.flags = ()
        super().__init__(rig, "embedded", "127.0.0.1:%d" % self.port)
        self.start()

    def start(self):
        """Until it answers; how long that took, in ms."""
        env = {k: v for k, v in os.environ.items()
               if not k.startswith("MILLRACE_")}
        began = time.monotonic()
        self.process = self.rig.spawn("broker", [
            os.path.join(self.rig.build, "bin", "broker"),
            "--listen", self.address,
            "--data", self.data,
            "--fcgi", "unix:" + self.rig.socket_of("broker"), *self.flags],
            env)

        def answers():
            self.rig.check()
            return ping(self.port)
        wait_for("the broker answers", answers, 60, 0.002)
        return 1000 * (time.monotonic() - began)

    def stop(self):
        began = time.monotonic()
        self.rig.stop("broker")
        return 1000 * (time.monotonic() - began)

    def discard(self):
        self.stop()
        shutil.rmtree(self.data)

    def begin_anew(self, *flags):
        self.discard()
        self.flags = flags
        self.start()


class Kafka(Subject):
    """With the flush policy that the embedded broker has."""

    def __init__(self, rig):
        super().__init__(rig, "kafka", rig.brokers)
        rig.kafka_start("--override log.flush.interval.messages=1")
        rig.end("kafka")  # it is formatted now
        began = time.monotonic()
        rig.kafka_start("--override log.flush.interval.messages=1")
        wait_for("Kafka answers", lambda: ping(rig.kafka_port), 60, 0.002)
        self.start_ms = 1000 * (time.monotonic() - began)
        self.process = rig.processes["kafka"]


# ---- librdkafka's mock --------------------------------------------------------

def mock_turn(b, say, partitions, *shape):
    """A cluster without a past, so that its memory is as fresh as the topic."""
    rig = b.rig
    process = rig.spawn("mock", [rig.program("records"), "mock", "bench-1",
                                 str(partitions)])

    def address():
        with open(process.log) as f:
            words = f.read().split()
        return words[-1] if words and ":" in words[-1] else None
    try:
        subject = Subject(rig, "mock", wait_for("the mock is there", address))
        return subject.both(say, partitions, *shape)
    finally:
        rig.end("mock")
        os.unlink(process.log)


def beside_mock(b, say, ours):
    def our_turn(shape, *flags):
        """Without a past, like the mock: what was kept of earlier turns would
        leave it memory that nobody used yet, which virtual machines may have
        to ask for, a page at a time.  And without leaving the disk busy."""
        ours.begin_anew(*flags)
        result = ours.both(say, *shape)
        ours.begin_anew()
        return result

    def rows(shape, what, results, mock, target, more=""):
        b.add_ratio("broker", "acks=1, %d bytes in batches of %d, %s%s, to a "
                    "mock" % (shape[2], shape[4], what, more),
                    [r[what] for r in results], [r[what] for r in mock],
                    target, unit_of_rates="records/s")

    for size, batch, count in FULL:
        shape = (PARTITIONS, count, size, 1, batch)
        mock, subject, kernels = b.turns(
            lambda: mock_turn(b, say, *shape), lambda: our_turn(shape),
            lambda: our_turn(shape, "--flush", "interval"), times=SHORT)
        rows(shape, "produce", subject, mock, 1.0)
        rows(shape, "consume", subject, mock, 1.0)
        # By default readers see nothing before the disk has it.
        rows(shape, "consume at once", subject, mock, None)
        rows(shape, "consume at once", kernels, mock, None,
             ", --flush interval")
    for size, batch, count in SHAPES:
        shape = (PARTITIONS, count, size, 1, batch)
        mock, subject = b.turns(lambda: mock_turn(b, say, *shape),
                                lambda: our_turn(shape), times=SHORT)
        rows(shape, "produce", subject, mock, 1.0)
        rows(shape, "consume", subject, mock, 1.0)
    shape = (1, SINGLES, 100, 1, 1)
    mock, subject = b.turns(lambda: mock_turn(b, say, *shape),
                            lambda: our_turn(shape))
    for what, target in (("both", 10.0), ("produce", None),
                         ("consume", None)):
        b.add_ratio("broker", "acks=1, 100 bytes one by one, %s" % (
            "%d in and out" % SINGLES if what == "both" else what),
            [r[what] for r in subject], [r[what] for r in mock],
            target, unit_of_rates="records/s")


# ---- the disk -----------------------------------------------------------------

def beside_disk(b, say, ours):
    """Batches that all wait for the disk, beside a loop that writes and
    flushes one batch after another."""
    rig = b.rig
    for size, batch, count in SHAPES:
        count //= 4
        batches = count // batch

        def appended():
            return rig.metric("broker", "millrace_broker_appended_bytes_total")

        before = appended()
        ours.produce(1, count, size, "all", batch)
        each = int((appended() - before) / batches)

        def loop():
            result = rig.output("append", os.path.join(rig.data, "append"),
                                str(batches), str(each))
            say("append   %d times %d bytes: %d/s" % (batches, each,
                                                      result["rate"]))
            return result["rate"] * batch

        def produce():
            result = ours.produce(1, count, size, "all", batch)
            say("embedded %d bytes, acks=all: %d/s" % (size, result["rate"]))
            return result["rate"]
        base, subject = b.turns(loop, produce, times=SHORT)
        b.add_ratio("broker", "acks=all, %d bytes in batches of %d, to write "
                    "and fdatasync" % (size, batch), subject, base, 0.5,
                    unit_of_rates="records/s")


# ---- memory and times -----------------------------------------------------------

def with_a_gigabyte(b, say, ours):
    rig = b.rig
    ours.produce(4, GIGABYTE, 1024, 1, 500)
    peak = ours.process.memory_kib()["peak"]
    rig.end("broker")
    after_kill = ours.start()
    stop = ours.stop()
    start = ours.start()
    size = sum(os.path.getsize(os.path.join(folder, name))
               for folder, _, names in os.walk(ours.data)
               for name in names)
    held = [ping(ours.port) for _ in range(CONNECTIONS)]
    ours.consume(4, GIGABYTE)
    for sock in held:
        ping(ours.port, sock)
    memory = ours.process.memory_kib()
    for sock in held:
        sock.close()
    say("%.1f GB of log: start %.0f ms, after a kill %.0f ms, stop %.0f ms, "
        "%d KiB resident" % (size / 1e9, start, after_kill, stop,
                             memory["rss"]))
    of = " with %.1f GB of log" % (size / 1e9)
    b.add("broker", "start" + of, round(start), "ms", "< 1000 ms",
          start < 1000)
    b.add("broker", "start after kill -9" + of, round(after_kill), "ms",
          "< 1000 ms", after_kill < 1000)
    b.add("broker", "clean stop" + of, round(stop), "ms")
    b.add("broker", "resident%s, %d connections, all read" % (
        of, CONNECTIONS), round(memory["rss"] / 1024, 1), "MiB", "< 32 MiB",
        memory["rss"] < 32 * 1024, detail_kib=memory)
    b.add("broker", "  the most while that was written or read",
          round(max(peak, memory["peak"]) / 1024, 1), "MiB")


# ---- groups -----------------------------------------------------------------

def rebalance_row(b, say, subjects):
    """A member leaves, and the other one has its partitions."""
    heartbeat_ms = 100
    found = []
    for subject in subjects:
        found.append(b.rig.output("rebalance", subject.address,
                                  str(heartbeat_ms), str(5 * b.args.rounds)))
        say("%-8s a member's partitions are the other's after %.0f ms, %.0f "
            "at most" % (subject.name, found[-1]["p50"], found[-1]["most"]))
    b.add("broker", "from a clean leave to the other's having all, heartbeats "
          "of %d ms" % heartbeat_ms, ", ".join(
              "%s p50 %.0f, most %.0f" % (s.name, f["p50"], f["most"])
              for s, f in zip(subjects, found)), "ms",
          "embedded < 1000 ms", found[0]["most"] < 1000)


# ---- Apache Kafka -----------------------------------------------------------------

def latency(b, say, subject, rate):
    result = b.rig.output("roundtrip", subject.address, str(rate),
                          str(b.args.seconds))
    say("%-8s produced to consumed at %d/s: %d/s reached, p50 %.2f ms, "
        "p99 %.2f ms" % (subject.name, rate, result["rate"], result["p50"],
                         result["p99"]))
    return result


def latency_rows(b, say, subjects):
    """Where one can't keep up, its records wait for those before them."""
    for rate in RATES:
        results = {s: [] for s in subjects}
        for _ in range(b.args.rounds):
            for subject in subjects:
                results[subject].append(latency(b, say, subject, rate))
        for subject, list_ in results.items():
            b.add("broker", "acks=all to consumed at %d/s, %s" % (
                rate, subject.name), "%d/s: p50 %.2f, p99 %.2f" % tuple(
                    median(list_, name) for name in ("rate", "p50", "p99")),
                "ms")


def beside_kafka(b, say, ours):
    rig = b.rig
    ours.stop()
    start_ms = ours.start()
    if not os.path.isdir(os.path.join(ROOT, "build/kafka/libs")):
        b.add("broker", "Apache Kafka isn't there: make kafka BROKER=kafka",
              "not measured", "")
        latency_rows(b, say, [ours])
        rebalance_row(b, say, [ours])
        return
    kafka = Kafka(rig)
    for size, batch, count in SHAPES:
        shape = (4, count // 4, size, "all", batch)
        kafka.both(say, *shape)  # its code is compiled while it runs
        base, subject = b.turns(lambda: kafka.both(say, *shape),
                                lambda: ours.both(say, *shape))
        for what in ("produce", "consume"):
            b.add_ratio("broker", "acks=all, %d bytes in batches of %d, %s, "
                        "to Kafka" % (size, batch, what),
                        [r[what] for r in subject], [r[what] for r in base],
                        None, unit_of_rates="records/s")
    latency_rows(b, say, [ours, kafka])
    rebalance_row(b, say, [ours, kafka])
    b.add("broker", "start to the first answer, nothing in it",
          "%d, Kafka %d" % (start_ms, kafka.start_ms), "ms")
    b.add("broker", "resident after that", "%.1f, Kafka %.1f" % tuple(
        s.process.memory_kib()["rss"] / 1024 for s in (ours, kafka)), "MiB")
    rig.end("kafka")


PARTS = {"mock": beside_mock, "disk": beside_disk, "kafka": beside_kafka,
         "log": with_a_gigabyte}


def bench(b, say):
    for part in PARTS:
        if b.args.part and part not in b.args.part:
            continue
        # What another part left to be written doesn't slow this one down.
        ours = Embedded(b.rig)
        PARTS[part](b, say, ours)
        ours.discard()
