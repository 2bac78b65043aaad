"""kafka_faults -- what Kafka can do to a service, and how it is accepted.

Each fault halts what it concerns, is named together with the command that
accepts it, and is accepted by that command.  Then what was promised to
clients is compared with what the files say.  Where a topic has lost records
the checker would rightly complain of that, so these scenarios look at files,
and share a system: what one of them has lost on purpose, the next knows.
"""

import glob
import json
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import time

import load
import verify
from broker import about_embedded
from faults import adds_up, more_orders, work_of
from kafka_wire import RETRIABLE, KafkaError
from scenario import scenario
from system import ROOT, SERVICES, Skip, expect
from tools import adds_up_by_files, plan_unasked, state

ORDERING = ("orders", "inventory", "notifications")
# Of three partitions, and of six, the item's is this one.
ITEM_OF = ("Headphones", "Laptop", "Phone")
MIB = 1 << 20


# -- helpers ----------------------------------------------------------------

def order_at(context, instance, item="Laptop"):
    """An order that this instance takes; its id."""
    answer = load.post_until(context.system, instance, "/orders",
                             {"item": item, "quantity": 1}, None, 60)
    expect(answer.status == 201, "POST /orders: %r", answer)
    context.ledger.add(answer.json())
    return answer.json()["id"]


def place(context, count, item="Laptop"):
    """Orders of one item, so of one partition; their ids."""
    return [order_at(context, "orders", item) for _ in range(count)]


def relayed(system, service="orders"):
    system.wait_for("the outbox of %s is empty" % service, lambda:
                    system.value(service, "SELECT count(*) FROM outbox") == 0)


def halted(system, instance, topic, partition, *parts, seconds=60):
    """Wait until its log says so, with a reason that has all these parts."""
    where = 'msg="partition halted" topic=%s partition=%d ' % (topic,
                                                               partition)

    def says():
        lines = [t for t in system.log(
            instance, system.starts_at[instance]).splitlines() if where in t]
        return lines and all(part in lines[-1] for part in parts)
    system.wait_for("%s/%d is halted: %r" % (topic, partition, parts), says,
                    seconds)
    expect(system.metric(instance, "millrace_partition_halted",
                         'topic="%s",partition="%d"' % (topic, partition)),
           "%s/%d isn't halted, by the metric", topic, partition)
    system.wait_for("/readyz says so", lambda: "halted" in
                    system.readiness(instance)[1])


def accept(system, service, topic, partition=0):
    out, _ = state(system, "accept-gap", "--db", system.db_of(service),
                   "--topic", topic, "--partition", str(partition), "--yes")
    expect("Done" in out, "accept-gap: %s", out)
    return out


def rebind(system, db, *words):
    words = ("rebind", "--db", db, *words)
    expect(plan_unasked(system, *words) == plan_unasked(system, *words),
           "rebind changed %s before it was told to", db)
    out, _ = state(system, *words, "--yes")
    expect("Done" in out, "rebind: %s", out)
    return out


def millrace_topics(system, *words, status=0):
    """Run millrace topics ...; what it said on stdout."""
    done = subprocess.run(
        [os.path.join(system.settings.bin, "millrace"), "topics", *words,
         "--brokers", system.brokers], capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=60 * system.settings.patience)
    expect(done.returncode == status, "topics %s: status %d, not %d: %s%s",
           " ".join(words), done.returncode, status, done.stdout, done.stderr)
    return done.stdout


def reservations_of(system):
    return {row[0]: row[1:] for row in system.select(
        "inventory", "SELECT order_id, status, item, quantity"
        " FROM reservations")}


def check_promises(context):
    """Every order but those whose event is lost is decided once, and its
    customer told; the lost ones are pending and nothing more."""
    system, ledger = context.system, context.ledger
    verify.settle(system, ORDERING, lost=ledger.lost)
    orders = dict(system.select("orders", "SELECT id, status FROM orders"))
    expect(set(ledger.orders) == set(orders), "promised and kept differ: %r",
           list(set(ledger.orders) ^ set(orders))[:3])
    reservations = reservations_of(system)
    expect(set(reservations) == set(orders) - ledger.lost, "decided: %r",
           list(set(reservations) ^ (set(orders) - ledger.lost))[:3])
    for order_id in ledger.lost:
        expect(orders[order_id] == "PENDING", "order %s, whose event is"
               " lost, is %s", order_id, orders[order_id])
    for order_id, decided in reservations.items():
        expect(decided[0] in verify.STATUSES.get(orders[order_id], ()),
               "order %s is %s, its reservation %r", order_id,
               orders[order_id], decided)
    verify.check_stock(system, ledger, reservations)
    verify.check_notifications(system, reservations)
    verify.check_files(system, ORDERING)
    context.say("%d orders by now, %d of them lost" % (
        len(orders), len(ledger.lost)))


def goes_on(context, *services):
    """What was accepted works, and new orders are decided."""
    for service in services:
        context.system.start(service)
    context.system.ready(*services, seconds=60)
    with work_of(context) as work:
        more_orders(context, work, 20)
    check_promises(context)


def settled_orders(context, count):
    """Orders that are placed, decided and notified of."""
    with work_of(context) as work:
        more_orders(context, work, count)
    verify.settle(context.system, ORDERING, lost=context.ledger.lost)


def ends_of(system, topic):
    """Where its partitions end, once the broker leads them all."""
    kafka = system.kafka()

    def led():
        try:
            return kafka.ends(topic)
        except KafkaError as error:
            if error.code not in RETRIABLE:
                raise
            return None
    try:
        return system.wait_for("%s is led" % topic, led)
    finally:
        kafka.close()


def log_folder(system, topic, partition):
    """Where the broker keeps a partition."""
    data = system.kafka_data
    if system.settings.broker != "embedded":
        return os.path.join(data, "%s-%d" % (topic, partition))
    topic_id, = [i for i, name in rows_of(
        os.path.join(data, "broker.db"), "SELECT topic_id, name FROM topics")
        if name == topic]
    return os.path.join(data, "topics", topic_id, str(partition))


def without_indexes(folder, to):
    """Copy a partition; its broker makes indexes anew."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(
        "*.index", "*.timeindex", "*.snapshot"))


# -- away ---------------------------------------------------------------------

@scenario(about_broker=True, seconds=65)
def broker_away(context):
    """Kafka is away under load: orders are taken up to the outbox's ceiling,
    then 503 with Retry-After, in bounded memory; all goes on by itself."""
    system = context.system
    seconds = 180 if context.options.long else 60
    system.stop("orders")
    system.start("orders", flags=("--outbox-most", "1000"))
    system.ready("orders")
    with work_of(context, clients_count=8, pause_s=0.001,
                 seconds=seconds + 120) as work:
        more_orders(context, work, 100)
        memory = Memory(system)
        system.kafka_kill()
        placed, began = work.placed, time.monotonic()
        system.wait_for("/readyz says why", lambda: "wait for Kafka" in
                        system.readiness("orders")[1], 60)
        while time.monotonic() - began < seconds:
            answer = system.call("orders", "POST", "/orders",
                                 {"item": "Phone", "quantity": 1})
            expect(answer.status == 503 and
                   int(answer.headers["retry-after"]) > 0,
                   "above the ceiling: %r %r", answer, answer.headers)
            answer = system.call("orders", "GET", "/orders?limit=1")
            expect(answer.status == 200, "reading: %r", answer)
            memory.look()
        # A few may be in the queue while the ceiling is noticed.
        depth = system.value("orders", "SELECT count(*) FROM outbox")
        expect(1000 <= depth <= 1020, "%d rows in the outbox", depth)
        placed = work.placed - placed
        system.kafka_start()
        began = time.monotonic()

        def is_ready():
            memory.look()
            ok, why = system.readiness("orders")
            if not ok:
                raise OSError(why)
            return ok
        system.wait_for("orders is ready", is_ready, 60)
        context.say("%d accepted meanwhile, ready again %.1f s after Kafka" % (
            placed, time.monotonic() - began))
        more_orders(context, work, 50)
        memory.look()
    memory.judge(context)
    system.stop("orders")
    system.start("orders")
    system.ready(*SERVICES)
    adds_up(context)


@scenario(kind="own", small=False)
def smaller_batches_than_a_lot(context):
    """A broker takes smaller batches than what has come together while it was
    away: each record would fit, so they go out in as many as it takes."""
    system = context.system
    if system.settings.broker != "embedded":
        raise Skip("the embedded broker's flag")
    system.kafka_start()
    system.start("orders")
    system.ready("orders")
    system.kafka_kill()
    place(context, 300)
    system.kafka_start(flags=("--message-most", "8k"))
    relayed(system)
    place(context, 20)
    relayed(system)
    expect(system.stop("orders") == [0], "it didn't stop well")


class Memory:
    """How far the services' memory rises above what it was."""

    ALLOWED = 16 * MIB

    def __init__(self, system):
        self.system = system
        self.before = {s: self._of(s) for s in SERVICES}
        self.most = dict(self.before)

    def _of(self, service):
        return self.system.metric(service, "process_resident_memory_bytes")

    def look(self):
        for service in SERVICES:
            self.most[service] = max(self.most[service], self._of(service))

    def judge(self, context):
        rise = {s: self.most[s] - self.before[s] for s in SERVICES}
        for service in SERVICES:
            # The address sanitizer keeps what was freed.
            expect(rise[service] < self.ALLOWED or
                   context.settings.small, "memory of %s rose by %.1f"
                   " MiB to %.1f", service, rise[service] / MIB,
                   self.most[service] / MIB)
        context.say("memory rose by %.1f MiB at most" % (
            max(rise.values()) / MIB))


# -- damage ------------------------------------------------------------------

def damage(path, position, end):
    """A bit of each batch from here to there."""
    with open(path, "r+b") as f:
        while position < end:
            f.seek(position + 8)
            size = 12 + struct.unpack(">i", f.read(4))[0]
            f.seek(position + size - 1)
            byte = f.read(1)[0]
            f.seek(position + size - 1)
            f.write(bytes([byte ^ 1]))
            position += size


def place_apart(context, times, orders=3):
    """Orders in batches of their own, as many a time: the log of order-events/1,
    where each time's begin in it, in offsets and bytes, and their ids."""
    system = context.system
    log, = glob.glob(os.path.join(log_folder(system, "order-events", 1),
                                  "*.log"))
    places, ids = [], []
    for _ in range(times):
        places.append((ends_of(system, "order-events")[1],
                       os.path.getsize(log)))
        ids.append(place(context, orders, ITEM_OF[1]))
        relayed(system)
    return log, places, ids


def halts_until_accepted(system, began, ended):
    """Inventory, at what can't be read of order-events/1; one word takes it."""
    system.start("inventory")
    halted(system, "inventory", "order-events", 1,
           "offset %d can't be read" % began, "millrace state accept-gap")
    system.stop("inventory")
    out = accept(system, "inventory", "order-events", 1)
    expect("records %d to %d of order-events/1 can't be read" % (
        began, ended - 1) in out, "accept-gap: %s", out)


def adds_up_but(context, ranges):
    """The checker says so, and what of order-events/1 it can't read."""
    system = context.system
    system.wait_for("prices are relayed", lambda: system.metric(
        "price-producer", "millrace_messages_relayed_total") > 0)
    system.stop("price-producer")
    verify.settle(system, SERVICES, lost=context.ledger.lost)
    says = verify.run_checker(system, context.ledger)
    notes = re.findall(r"^note  records (\d+) to (\d+) of order-events/1 "
                       r"can't be read", says, re.M)
    expect([(int(a), int(b) + 1) for a, b in notes] == ranges and
           says.count("\nnote") == len(notes), "the checker says:\n%s", says)
    lost = len(context.ledger.lost)
    for name in ("pending", "announced"):
        expect(re.search(r"^ok +%s .*\b%d may be right by what can't be read" %
                         (name, lost), says, re.M),
               "%s: the checker says:\n%s", name, says)


@scenario(spoils=True, about_broker=True)
def damaged_in_the_middle(context):
    """Batches of the broker's log change on its disk before they are read: the
    partition halts, and one word takes all of them up to one that is whole,
    a second those behind it.  The checker tells what it can't read, and holds
    against nobody what is missing because of it."""
    system = context.system
    settled_orders(context, 10)
    system.stop("inventory")
    log, places, ids = place_apart(context, 6)
    lost, kept = ids[0] + ids[1] + ids[2] + ids[4], ids[3] + ids[5]
    context.ledger.lost.update(lost)
    # Apache Kafka cuts such a log when it starts, and reads what changes.
    restarts = context.settings.broker == "embedded"
    if restarts:
        system.kafka_kill()
    for first, behind in ((0, 3), (4, 5)):
        damage(log, places[first][1], places[behind][1])
    if restarts:
        system.kafka_start()
    for first, behind in ((0, 3), (4, 5)):
        halts_until_accepted(system, places[first][0], places[behind][0])
    goes_on(context, "inventory")
    decided = set(reservations_of(system))
    expect(set(kept) <= decided and not set(lost) & decided, "not those")
    adds_up_but(context, [(places[f][0], places[b][0])
                          for f, b in ((0, 3), (4, 5))])


@scenario(spoils=True)
def damaged_as_it_runs(context):
    """The head of a batch changes on the disk of a broker that has written it
    itself: the reader that comes to it later halts, as behind a restart."""
    system = context.system
    about_embedded(system)
    settled_orders(context, 10)
    system.stop("inventory")
    log, places, ids = place_apart(context, 2, 1)
    (began, position), (ended, _) = places
    context.ledger.lost.update(ids[0])
    with open(log, "r+b") as f:
        f.seek(position + 8)
        f.write(b"\0\xff\xff\xff")
    halts_until_accepted(system, began, ended)
    goes_on(context, "inventory")
    decided = set(reservations_of(system))
    expect(set(ids[1]) <= decided and not set(ids[0]) & decided, "not those")
    adds_up_but(context, [(began, ended)])


# -- partitions added -----------------------------------------------------------

@scenario(spoils="topics", about_broker=True)
def partitions_added(context):
    """Partitions that are added are read from their first record on, and an
    instance that runs since before places keys as one that counted them."""
    system = context.system
    system.stop("inventory")
    system.start("inventory", flags=(
        "--property", "topic.metadata.refresh.interval.ms=1000"))
    system.start("orders-2")
    system.ready("inventory", "orders-2")
    settled_orders(context, 20)
    order_at(context, "orders-2")
    kafka = system.kafka()
    kafka.create_partitions("order-events", 6)
    system.stop("orders")
    system.start("orders")  # it counts its outputs' partitions at its start
    system.ready("orders")
    with work_of(context) as work:
        system.wait_for("two of them have records", lambda: sum(
            end > 0 for end in kafka.ends("order-events")[3:]) == 2)
        more_orders(context, work, 10)
    kafka.close()
    for item in ("Monitor", "Keyboard"):  # among six they are elsewhere
        order_at(context, "orders-2", item)
        order_at(context, "orders", item)
    check_promises(context)
    counts = system.select("orders", "SELECT partitions FROM placements"
                           " WHERE topic = 'order-events' ORDER BY number")
    expect(counts == [(3,), (6,)], "placed by %r", counts)
    system.stop("inventory", "orders-2")
    system.start("inventory")
    system.ready("inventory")
    adds_up(context)


# -- records that are gone ------------------------------------------------------

@scenario(spoils="topics", about_broker=True)
def retention_outran(context):
    """Records are deleted before a stopped service has read them: it halts,
    is told to go on, and just those orders stay pending."""
    system = context.system
    settled_orders(context, 20)
    system.stop("inventory")
    end = ends_of(system, "order-events")[1]
    context.ledger.lost.update(place(context, 5, ITEM_OF[1]))
    relayed(system)
    kafka = system.kafka()
    kafka.delete_records("order-events", 1, end + 5)
    kafka.close()
    kept = place(context, 3, ITEM_OF[1])
    system.start("inventory")
    halted(system, "inventory", "order-events", 1, "deleted by retention",
           "millrace state accept-gap", "records %d to %d" % (end, end + 4))
    _, err = state(system, "accept-gap", "--db", system.db_of("inventory"),
                   "--topic", "order-events", "--partition", "1", "--yes",
                   status=2)
    expect("stop the service first" in err, "while it runs: %s", err)
    expect(not set(kept) & set(reservations_of(system)), "it went on")
    system.stop("inventory")
    accept(system, "inventory", "order-events", 1)
    goes_on(context, "inventory")


@scenario(spoils="topics", about_broker=True)
def logs_cut(context):
    """Logs lose their ends.  One is shorter than what was read of it; one has
    grown past it again; of one, what is lost was never read.  Each is halted
    for what it is, is told to go on, and just what was never read is lost."""
    system = context.system
    settled_orders(context, 20)
    folders = {p: log_folder(system, "order-events", p) for p in range(3)}
    for partition, folder in folders.items():
        without_indexes(folder, os.path.join(
            system.copies, "order-events-%d" % partition))
    ends = ends_of(system, "order-events")
    place(context, 4, ITEM_OF[0])
    place(context, 4, ITEM_OF[2])
    verify.settle(system, ORDERING, lost=context.ledger.lost)
    system.stop("inventory")
    context.ledger.lost.update(place(context, 4, ITEM_OF[1]))
    relayed(system)
    system.stop("orders")  # it would fill the gaps with new records
    system.kafka_kill()
    for partition, folder in folders.items():
        shutil.rmtree(folder)
        shutil.move(os.path.join(system.copies, "order-events-%d" %
                                 partition), folder)
    system.kafka_start()
    expect(ends_of(system, "order-events")[:3] == ends[:3], "not cut")
    system.start("orders")
    system.ready("orders", seconds=60)
    after = place(context, 6, ITEM_OF[2]) + place(context, 3, ITEM_OF[1])
    relayed(system)
    system.start("inventory")
    halted(system, "inventory", "order-events", 0, "it was truncated",
           "the log ends at %d" % ends[0], "millrace state accept-gap")
    halted(system, "inventory", "order-events", 1, "are missing before seq",
           "millrace state accept-gap")
    halted(system, "inventory", "order-events", 2, "has grown again",
           "cut below %d" % (ends[2] + 4), "millrace state accept-gap")
    expect(not set(after) & set(reservations_of(system)), "it went on")
    system.stop("inventory")
    for partition in range(3):
        accept(system, "inventory", "order-events", partition)
    goes_on(context, "inventory")


# -- another topic, another cluster ------------------------------------------------

def make_anew(system, *topics):
    kafka = system.kafka()
    counts = {t: kafka.partitions(t) for t in topics}
    for topic in topics:
        kafka.delete_topic(topic)
    for topic, count in counts.items():
        system.wait_for(topic + " is gone",
                        lambda t=topic: kafka.partitions(t) == 0)
        kafka.create_topic(topic, count)
    kafka.close()


def positions_of_the_old(system, service, topic):
    """What was read of a topic that is gone has no end, and no lag behind the
    one that has its name."""
    old = {row[0] for row in system.select(
        service, "SELECT topic_id FROM positions WHERE topic = ?", topic)}
    out, err = state(system, "positions", "--data", system.data, "--service",
                     service, "-o", "json", status=2)
    rows = [row for row in json.loads(out) if row["topic"] == topic]
    gone = [row for row in rows if row["topic_id"] in old]
    expect(gone and all(row["position"] > 0 and row["end"] is None and
                        row["lag"] is None for row in gone),
           "positions of what is gone: %s", out)
    for row in gone:
        expect("partition %d of %s with the id %s isn't there any more" % (
            row["partition"], topic, row["topic_id"]) in err, "said: %s", err)
    expect(all(row["lag"] >= 0 for row in rows if row not in gone),
           "lags: %s", out)


@scenario(spoils="topics", about_broker=True)
def topic_made_anew(context):
    """Topics are deleted and made again, under a reader that runs and one
    that is stopped: both halt, are told to go on at the start, and nothing
    is done twice."""
    system = context.system
    settled_orders(context, 20)
    system.stop("inventory")
    make_anew(system, "order-events", "stock-prices")
    system.start("inventory")
    for partition in range(3):
        halted(system, "inventory", "order-events", partition, "made anew",
               "millrace state accept-gap")
    meanwhile = place(context, 5)
    relayed(system)
    expect(not set(meanwhile) & set(reservations_of(system)), "it went on")
    # Seen as gone by who asked in between.
    halted(system, "prices", "stock-prices", 0, "millrace state accept-gap")
    system.stop("inventory", "prices")
    positions_of_the_old(system, "inventory", "order-events")
    positions_of_the_old(system, "prices", "stock-prices")
    accept(system, "inventory", "order-events")
    accept(system, "prices", "stock-prices")
    before = system.value("prices", "SELECT seq FROM prices_cursor")
    goes_on(context, "inventory", "prices")
    system.wait_for("prices come", lambda: system.value(
        "prices", "SELECT seq FROM prices_cursor") > before)


@scenario(spoils="topics", about_broker=True)
def two_files_in_one_group(context):
    """Two hosts with files of their own in one group: the second halts and
    does nothing, until it is told that the first is no more; then the first
    halts, until it is told the same."""
    system = context.system
    settled_orders(context, 20)
    kafka = system.kafka()
    # Before the first file has said so, nobody can know of it.
    system.wait_for("the group has offsets", lambda: all(
        offset > 0 for offset, _ in kafka.group_offsets(
            "notifications", "inventory-events")))
    other = os.path.join(system.copies, "notifications.db")
    system.start("notifications-7", db=other)
    halted(system, "notifications-7", "inventory-events", 0,
           "two files in one group", "millrace state rebind")
    for command in ("rebind", "accept-cursor"):
        _, err = state(system, command, "--db", other, "--yes", status=2)
        expect("stop the service first" in err, "%s while it runs: %s",
               command, err)
    system.stop("notifications", "notifications-7")
    expect(told_by(other) == set(), "the second notified")
    rebind(system, other)  # which has read nothing, and knows what it reads
    system.start("notifications-7", db=other)
    system.ready("notifications-7")
    (second,), = rows_of(other, "SELECT database_id FROM database_ids"
                         " ORDER BY number DESC LIMIT 1")
    ends = [(end, second) for end in kafka.ends("inventory-events")]
    system.wait_for("the group's offsets are the second's", lambda: ends ==
                    kafka.group_offsets("notifications", "inventory-events"))
    kafka.close()
    expect(told_by(other) == set(reservations_of(system)), "the second didn't"
           " read all")
    system.stop("notifications-7")
    system.start("notifications")
    halted(system, "notifications", "inventory-events", 0,
           "two files in one group", "millrace state rebind")
    system.stop("notifications")
    rebind(system, system.db_of("notifications"))
    goes_on(context, "notifications")


@scenario(kind="own", about_broker=True, seconds=15)
def copies_of_one_file_in_use(context):
    """A copy of orders' file is started while the original is in use, as on
    another host: no order of either is lost, and the original halts.  Told that
    the copy is no more it goes on: its orders are decided, nothing is done
    twice, and what is for the copy's is a dead letter."""
    system = context.system
    system.kafka_start()
    for service in ORDERING:
        system.start(service)
    system.ready(*ORDERING)
    mine = {order_at(context, "orders") for _ in range(20)}
    theirs = set()
    system.stop("orders")
    other = os.path.join(system.copies, "orders.db")
    shutil.copy(system.db_of("orders"), other)
    system.start("orders")
    system.ready("orders")
    system.start("orders-7", db=other)
    # Until the original has seen it both are ready, and take orders.
    system.wait_for("the copy is ready", lambda: system.readiness(
        "orders-7")[0])
    expect("this file is a copy" in system.log("orders-7"), "no warning")
    for _ in range(40):
        mine.add(order_at(context, "orders"))
        theirs.add(order_at(context, "orders-7"))
    expect((len(mine), len(theirs)) == (60, 40), "%d and %d ids", len(mine),
           len(theirs))
    system.wait_for("inventory has all orders", lambda: mine | theirs <= set(
        reservations_of(system)))
    halts_for_the_copy(system, "orders")
    system.stop("orders", "orders-7")
    rebind(system, system.db_of("orders"))
    system.start("orders")
    system.ready("orders", seconds=60)
    mine.add(order_at(context, "orders"))
    verify.settle(system, ORDERING)
    here = dict(system.select("orders", "SELECT id, status FROM orders"))
    expect(here == dict.fromkeys(mine, "CONFIRMED"), "the original has %r",
           here)
    reservations = reservations_of(system)
    expect(set(reservations) == mine | theirs, "decided: %d of %d",
           len(reservations), len(mine | theirs))
    verify.check_stock(system, context.ledger, reservations)
    verify.check_notifications(system, reservations)
    topics, _ = verify.read_topics(system)
    created = sorted(json.loads(r.value)["order_id"]
                     for r in topics["order-events"])
    expect(created == sorted(mine | theirs), "%d orders are announced, of %d",
           len(created), len(mine | theirs))
    unknown = sorted(json.loads(row[0])["order_id"] for row in system.select(
        "orders", "SELECT value FROM dead_letters"))
    expect(unknown == sorted(theirs), "%d dead letters for the copy's %d",
           len(unknown), len(theirs))
    verify.check_files(system, ORDERING)
    own = load.Ledger()
    own.orders = {i: context.ledger.orders[i] for i in mine}
    verify.run_checker(system, own)


def halts_for_the_copy(system, service):
    """The original does, once it has seen the copy in its group."""
    def says():
        return "two files in one group" in system.log(
            service, system.starts_at[service])
    system.wait_for("the original halts", says)
    system.wait_for("/readyz says so", lambda: "halted" in
                    system.readiness(service)[1])
    expect("millrace state rebind" in system.log(
        service, system.starts_at[service]), "it doesn't name the command")


@scenario(spoils=True, about_broker=True, seconds=20)
def copies_of_the_stock_in_use(context):
    """The same with inventory's file: the two share the partitions until the
    original halts.  Told that the copy is no more it decides what that has
    decided once more, and no stock is held twice."""
    system = context.system
    settled_orders(context, 20)
    system.stop("inventory")
    other = os.path.join(system.copies, "inventory.db")
    shutil.copy(system.db_of("inventory"), other)
    before = set(reservations_of(system))
    system.start("inventory")
    system.ready("inventory")
    system.start("inventory-7", db=other)
    with work_of(context) as work:
        halts_for_the_copy(system, "inventory")
        more_orders(context, work, 20)
    expect("this file is a copy" in system.log("inventory-7"), "no warning")
    system.stop("inventory", "inventory-7")
    copys = {row[0] for row in rows_of(
        other, "SELECT order_id FROM reservations")} - before
    again = copys - set(reservations_of(system))
    expect(again, "all %d that the copy decided the original has as well",
           len(copys))
    rebind(system, system.db_of("inventory"))
    system.start("inventory")
    system.ready("inventory", seconds=60)
    with work_of(context) as work:
        more_orders(context, work, 20)
    adds_up_by_files(context)
    context.say("the copy decided %d, %d of them alone" % (
        len(copys), len(again)))


def rows_of(db, sql):
    connection = sqlite3.connect("file:%s?mode=ro" % db, uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def told_by(db):
    return {row[0] for row in rows_of(
        db, "SELECT order_id FROM notifications")}


@scenario(spoils="topics", about_broker=True)
def another_cluster(context):
    """Another cluster answers at the same address: nobody works with it until
    told to; then the files go on, and no order is decided twice."""
    system = context.system
    settled_orders(context, 20)
    system.stop_all()
    system.kafka_kill()
    shutil.rmtree(system.kafka_data)
    system.kafka_start()
    for service in ORDERING:
        system.start(service)
    for service in ORDERING:
        system.wait_for("%s says why" % service, lambda s=service: all(
            part in system.readiness(s)[1] for part in (
                "works with another one", "millrace state rebind")), 60)
    answer = system.call("orders", "POST", "/orders",
                         {"item": "Phone", "quantity": 1})
    expect(answer.status == 503, "it is taken: %r", answer)
    kafka = system.kafka()
    expect(not any(kafka.partitions(t) for t in ("order-events",
                                                 "inventory-events")),
           "topics were made on a cluster that isn't ours")
    kafka.close()
    system.stop(*ORDERING)
    _, err = state(system, "accept-gap", "--db", system.db_of("inventory"),
                   "--topic", "order-events", "--partition", "0", "--yes",
                   status=2)
    expect("is cluster" in err and "millrace state rebind" in err,
           "accept-gap before it is bound: %s", err)
    for service in ORDERING:
        out = rebind(system, system.db_of(service))
        expect("until now with" in out, "rebind: %s", out)
        system.start(service)
    # The topics there have other ids.
    reads = {s: verify.INPUTS[s] for s in ORDERING}
    for service, topic in reads.items():
        halted(system, service, topic, 0, "made anew",
               "millrace state accept-gap")
    system.stop(*ORDERING)
    for service, topic in reads.items():
        accept(system, service, topic)
    goes_on(context, *ORDERING)


@scenario(kind="own", about_broker=True)
def made_anew_with_fewer_partitions(context):
    """A topic is made anew with one partition under an output's relay, which
    halts, and its reader, which accepts it; the reader's file is as sound as
    before: it can be backed up and rebuilt."""
    system = context.system
    system.kafka_start()
    for service in ORDERING:
        system.start(service)
    system.ready(*ORDERING)
    for item in ITEM_OF:
        place(context, 5, item)
    verify.settle(system, ORDERING)
    system.stop("notifications")
    kafka = system.kafka()
    kafka.delete_topic("inventory-events")
    system.wait_for("it's gone", lambda: kafka.partitions(
        "inventory-events") == 0)
    kafka.create_topic("inventory-events", 1)
    # An order's id, so chance, says which partition its event is for.
    system.wait_for("the relay is halted", lambda: place(context, 1) and all(
        part in system.readiness("inventory")[1] for part in (
            "the relay is halted", "inventory-events, which has only 1 ")))
    db = system.db_of("notifications")
    plan = plan_unasked(system, "accept-gap", "--db", db, "--topic",
                        "inventory-events")
    expect("was made anew" in plan, "its plan: %s", plan)
    out, _ = state(system, "accept-gap", "--db", db, "--topic",
                   "inventory-events", "--yes")
    expect("Done" in out, "accept-gap: %s", out)
    marks = system.value("notifications", "SELECT max(partition) FROM marks")
    expect(marks > 0, "no mark of a partition that is gone: %d", marks)
    state(system, "backup", "--data", system.data, "--service",
          "notifications", "--to", os.path.join(system.base, "copies"),
          brokers=False)
    state(system, "rebuild", "--db", db, "--yes")
    millrace_topics(system, "ensure", "--alter", "--yes", "inventory-events")
    relayed(system, "inventory")
    system.ready("inventory")
    kafka.close()


@scenario(kind="own", about_broker=True)
def another_cluster_with_fewer_partitions(context):
    """Orders that wait in the outbox are for partitions that the topic of the
    new cluster doesn't have: the relay halts and says so, and goes on by itself
    once there are as many."""
    system = context.system
    system.kafka_start()
    system.start("orders")
    system.ready("orders")
    system.kafka_kill()
    for item in ITEM_OF:
        place(context, 2, item)
    system.stop("orders")
    shutil.rmtree(system.kafka_data)
    system.kafka_start()
    kafka = system.kafka()
    kafka.create_topic("order-events", 1)
    kafka.close()
    rebind(system, system.db_of("orders"))
    system.start("orders")
    system.wait_for("it says why", lambda: all(
        part in system.readiness("orders")[1] for part in (
            "the relay is halted", "of topic order-events, which has only 1",
            "millrace topics ensure --alter")))
    expect(system.metric("orders", "millrace_relay_halted"), "by the metric")
    millrace_topics(system, "ensure", "--alter", "--yes", "order-events")
    relayed(system)
    system.ready("orders")
    # Those of a lot that was begun may have been sent before it halted.
    topics, _ = verify.read_topics(system)
    ids = {r.headers["ce_id"] for r in topics["order-events"]}
    expect(len(ids) == 2 * len(ITEM_OF), "%d of them came", len(ids))
    expect(not system.metric("orders", "millrace_relay_halted"), "still")


def says_of_topics(settings):
    """All topics that the programs of `make run` say that they work with."""
    with open(os.path.join(ROOT, "deploy/local/services")) as f:
        names = [line.split()[0] for line in f if not line.startswith("#")]
    found = set()
    for name in names:
        said = subprocess.run(
            [os.path.join(settings.bin, name), "--topics"],
            capture_output=True, text=True, check=True).stdout.split()
        expect(said, "%s says nothing", name)
        found.update(said)
    return found


@scenario(kind="own", about_broker=True)
def topics_before_services(context):
    """Topics are made for services that may not make any: all that their
    programs say that they need.  Where one has to be altered, nothing is made
    either before somebody has agreed."""
    system = context.system
    system.kafka_start()
    kafka = system.kafka()
    kafka.create_topic("order-events", 1)
    two = ("ensure", "--alter", "order-events", "inventory-events")
    plan = "partitions of order-events will be 3 and not 1"
    out = millrace_topics(system, *two, status=1)
    expect(plan in out and "inventory-events will be made" in out and
           "Nothing was changed" in out, "unasked: %s", out)
    expect(kafka.topics() == {"order-events"} and
           kafka.partitions("order-events") == 1, "it changed something: %r",
           kafka.topics())
    out = millrace_topics(system, *two, "--yes")
    expect(plan in out and "inventory-events will be made" in out and
           "2 topics are as declared" in out, "agreed to: %s", out)
    expect({t: kafka.partitions(t) for t in kafka.topics()} == {
        "order-events": 3, "inventory-events": 3}, "not both: %r",
        kafka.topics())

    wanted = says_of_topics(context.settings)
    out = millrace_topics(system, "ensure")
    there = kafka.topics()
    kafka.close()
    expect(wanted <= there, "not made: %r", wanted - there)
    unused = {t for t in there - wanted if t.endswith(".dead-letter")}
    expect(not unused, "made for nobody: %r", unused)
    all_are = "%d topics are as declared.\n" % len(there)
    expect(out == all_are and
           millrace_topics(system, "diff") == all_are,
           "%d are there: %s", len(there), out)
    context.say("%d topics" % len(there))
