"""faults -- instances, brokers and files that stop, die or come back."""

import os
import re
import shutil
import signal
import subprocess
import time

import load
import poison
import recovery
import verify
from scenario import scenario
from system import SERVICES, Failure, expect


def work_of(context, **how):
    return load.Load(context.system, context.ledger, context.rng.random(),
                     **how)


def more_orders(context, work, count, seconds=60):
    """Wait until the load has placed so many more."""
    until = work.placed + count

    def there():
        if work.failures:
            raise work.failures[0]
        return work.placed >= until
    context.system.wait_for("%d more orders" % count, there, seconds)


def adds_up(context):
    repeats = verify.settle_and_check(context.system, context.ledger)
    context.say("%d orders by now, %d repeats dropped" % (
        len(context.ledger.orders), repeats))


def assigned(system, instance, since=0):
    """The partitions that an instance has, as its log tells it."""
    has = set()
    for what, topic, number in re.findall(
            r'msg="partition (assigned|revoked|lost)" topic=(\S+)'
            r' partition=(\d+)', system.log(instance, since)):
        if what == "assigned":
            has.add((topic, number))
        else:
            has.discard((topic, number))
    return has


def both_assigned(system, *instances):
    def there():
        has = [assigned(system, i, system.starts_at[i]) for i in instances]
        return all(has) and sum(len(x) for x in has) == 3
    system.wait_for("partitions of %s are shared" % (instances,), there, 40)


@scenario()
def stops_and_starts(context):
    """SIGTERM to all under load drains and exits 0; all goes on."""
    system = context.system
    with work_of(context) as work:
        for name in SERVICES:
            more_orders(context, work, 5)
            began = time.monotonic()
            expect(system.stop(name) == [0], "%s didn't exit with 0", name)
            took = time.monotonic() - began
            expect("drained=yes" in system.log(name), "%s didn't drain", name)
            context.say("%s %.1f s" % (name, took))
            system.start(name)
            system.ready(name)
        more_orders(context, work, 5)
    adds_up(context)


@scenario(about_broker=True)
def notifications_catch_up(context):
    """Orders placed while notifications is down are all notified, once."""
    system = context.system
    system.stop("notifications")
    before = system.value("notifications",
                          "SELECT count(*) FROM notifications")
    with work_of(context, clients_count=8, pause_s=0.005) as work:
        more_orders(context, work, 200)
    verify.settle(system, ("orders", "inventory"))
    expect(before == system.value(
        "notifications", "SELECT count(*) FROM notifications"),
        "somebody else notifies")
    began = time.monotonic()
    system.start("notifications")
    verify.settle(system, ("orders", "inventory", "notifications"))
    context.say("caught up after %.1f s" % (time.monotonic() - began))
    adds_up(context)


@scenario(about_broker=True, seconds=10)
def two_instances(context):
    """Two of notifications and of inventory share; one of each is killed."""
    system = context.system
    others = ("inventory-2", "notifications-2")
    system.start_all(others)
    both_assigned(system, "inventory", "inventory-2")
    both_assigned(system, "notifications", "notifications-2")
    with work_of(context) as work:
        more_orders(context, work, 60)
        system.kill("inventory", restart=False)
        system.kill("notifications-2", restart=False)
        began = time.monotonic()

        def taken_over():
            return len(assigned(system, "inventory-2")) == 3 and \
                len(assigned(system, "notifications")) >= 3
        system.wait_for("the survivors have it all", taken_over, 40)
        context.say("taken over after %.1f s" % (time.monotonic() - began))
        more_orders(context, work, 60)
        system.start_all(("inventory", "notifications-2"))
        more_orders(context, work, 30)
    adds_up(context)
    system.stop(*others)


@scenario(about_broker=True, seconds=15)
def stopped_and_woken(context):
    """An instance stopped past its session's end and woken does no harm."""
    system = context.system
    system.start_all(("inventory-2",))
    both_assigned(system, "inventory", "inventory-2")
    ends = len(system.ends)
    with work_of(context) as work:
        for sleeper, other in (("inventory", "inventory-2"),
                               ("inventory-2", "inventory")):
            more_orders(context, work, 20)
            before = len(system.ends)
            system.signal(sleeper, signal.SIGSTOP)
            # One that held the pen is killed for it, and comes back at once.
            system.wait_for(
                "%s has all partitions" % other, lambda o=other, b=before:
                len(assigned(system, o, system.starts_at[o])) == 3 or
                len(system.ends) > b, 40)
            more_orders(context, work, 40)
            size = system.log_size(sleeper)
            if len(system.ends) == before:
                system.signal(sleeper, signal.SIGCONT)
                system.wait_for(
                    "%s has partitions again" % sleeper,
                    lambda s=sleeper, z=size: "partition assigned" in
                    system.log(s, z), 40)
            system.ready(sleeper, other)
        more_orders(context, work, 20)
    killed = len(system.ends) - ends
    if killed:
        context.say("%d held the pen and were killed for it" % killed)
    adds_up(context)
    system.stop("inventory-2")


@scenario(small=False, seconds=40)
def stopped_in_a_transaction(context):
    """One stopped inside a transaction is killed by the waiter, one outside
    does no harm."""
    system = context.system
    stop_at(context, "batch.applied", True)
    stop_at(context, "positions.written", True)
    stop_at(context, "commit.after", False)
    # The relay's thread stops all, whatever the other one is at.
    stop_at(context, "relay.sent", None)
    system.stop("inventory")
    system.start("inventory")
    adds_up(context)
    system.stop("inventory-2")


def stop_at(context, where, dies):
    system = context.system
    # Of the same program: only such a one is killed.
    for instance in ("inventory", "inventory-2"):
        if system.runs(instance):
            system.stop(instance)
    system.start("inventory", failpoints=True, failpoint=where + "=stop@9")
    if not where.startswith("relay."):  # that one has to be the owner
        system.start("inventory-2", failpoints=True)
        system.ready("inventory-2")
    stopped = system.services["inventory"]
    size, ends = system.log_size("inventory-2"), len(system.ends)
    with work_of(context) as work:
        system.wait_for("it stops at " + where, lambda: len(system.ends) >
                        ends or state_of(stopped.pid) == "T", 40)
        expect(dies is not False or len(system.ends) == ends,
               "it ended instead: %r", system.ends[ends:])
        if not system.runs("inventory-2"):
            system.start("inventory-2", failpoints=True)
        if dies:
            system.wait_for("the waiter kills it",
                            lambda: len(system.ends) > ends, 40)
            expect(system.ends[-1][0] == "inventory" and
                   system.ends[-1][2] == -signal.SIGKILL,
                   "ended: %r", system.ends[-1])
            expect("holder_pid=%d" % stopped.pid in
                   system.log("inventory-2", size),
                   "inventory-2 doesn't name pid %d", stopped.pid)
        else:
            system.wait_for(
                "inventory-2 has all partitions", lambda: dies is None and
                len(system.ends) > ends or len(assigned(
                    system, "inventory-2",
                    system.starts_at["inventory-2"])) == 3, 40)
            more_orders(context, work, 30)
            expect(dies is None or len(system.ends) == ends,
                   "somebody was killed: %r", system.ends[ends:])
            stopped.signal(signal.SIGCONT)
        more_orders(context, work, 30)
    system.ready("inventory")


def state_of(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return "?"


def relay_owner(system, instances):
    """The instance whose log tells of the epoch that is in the file."""
    epoch = system.value("inventory", "SELECT epoch FROM relay"
                         " WHERE owner <> ''")
    line = 'msg="taking over the relay" epoch=%d\n' % epoch
    for instance in instances:
        if line in system.log(instance):
            return instance
    raise OSError("nobody's log has epoch %d" % epoch)


@scenario(about_broker=True, seconds=20)
def relay_owner_dies(context):
    """The relay's owner is killed; then stopped for 8 s and woken."""
    system = context.system
    both = ("inventory", "inventory-2")
    system.start_all(("inventory-2",))
    both_assigned(system, *both)
    with work_of(context) as work:
        for how in ("killed", "stopped"):
            more_orders(context, work, 30)
            owner = system.wait_for("there is an owner", lambda:
                                    relay_owner(system, both))
            other = both[1 - both.index(owner)]
            size = system.log_size(other)
            began = time.monotonic()
            if how == "killed":
                system.kill(owner, restart=False)
            else:
                system.signal(owner, signal.SIGSTOP)
            system.wait_for("%s takes the relay over" % other, lambda z=size,
                            o=other: "taking over the relay" in
                            system.log(o, z), 40)
            context.say("%s: taken over after %.1f s" % (
                how, time.monotonic() - began))
            if how == "killed":
                system.start(owner)
            else:
                system.wait_for("8 s have passed", lambda b=began:
                                time.monotonic() - b > 8)
                system.signal(owner, signal.SIGCONT)
            more_orders(context, work, 30)
            system.ready(*both)
    adds_up(context)
    system.stop("inventory-2")


@scenario(about_broker=True)
def broker_killed(context):
    """kill -9 of the broker under load, twice: orders are taken meanwhile,
    and nothing is lost or done twice."""
    system = context.system
    with work_of(context, clients_count=2) as work:
        for _ in range(2):
            more_orders(context, work, 20)
            system.kafka_kill()
            more_orders(context, work, 20)
            expect(system.value("orders", "SELECT count(*) FROM outbox"),
                   "the outbox is empty without a broker")
            system.kafka_start()
            began = time.monotonic()
            system.wait_for(
                "the outbox falls", lambda: system.value(
                    "orders", "SELECT count(*) FROM outbox") < 20, 60)
            context.say("relayed again after %.1f s" % (
                time.monotonic() - began))
        more_orders(context, work, 20)
    system.ready(*SERVICES)
    adds_up(context)


@scenario(about_broker=True, seconds=10)
def poison_records(context):
    """Broken and oversized records among good ones: the good are applied,
    the bad are dead letters, whole in the file."""
    system = context.system
    before = poison.dead_letters(system)
    with work_of(context) as work:
        more_orders(context, work, 20)
        sent = poison.send_all(system, context.rng)
        more_orders(context, work, 20)
    verify.settle(system, seconds=90)
    poison.compare(system, before, sent)
    context.say("%d bad records to %d topics, the largest of %d bytes" % (
        len(sent), len({s.topic for s in sent}),
        max(len(s.value or b"") for s in sent)))
    adds_up(context)


@scenario(kind="own", about_broker=True)
def broker_absent_at_start(context):
    """Services started before the broker wait, say so, and go on."""
    system = context.system
    pids = {name: system.start(name) for name in SERVICES}
    for name in SERVICES:
        def waits(n=name):
            ready, why = system.readiness(n)
            expect(not ready, "%s is ready without a broker", n)
            return "waiting for the broker" in why
        system.wait_for("%s says that it waits" % name, waits, 40)
        answer = system.call(name, "GET", "/readyz")
        expect(answer.status == 503, "%s: %r", name, answer)
        answer = system.call(name, "GET", "/livez")
        expect(answer.status == 200, "%s: %r", name, answer)
        system.wait_for("its log says so", lambda n=name:
                        "waiting for the broker" in system.log(n))
    answer = system.call("orders", "POST", "/orders",
                         {"item": "Laptop", "quantity": 1})
    expect(answer.status == 503 and int(answer.headers["retry-after"]) > 0,
           "POST without a broker ever: %r", answer)
    system.kafka_start()
    began = time.monotonic()
    system.ready(*SERVICES, seconds=60)
    context.say("all ready %.1f s after Kafka" % (time.monotonic() - began))
    for name, pid in pids.items():
        expect(system.services[name].pid == pid, "%s was restarted", name)
    with work_of(context) as work:
        more_orders(context, work, 20)
    adds_up(context)


@scenario(spoils=True, about_broker=True)
def older_copy_of_orders(context):
    """orders.db put back from an older copy: a new database id is drawn, and
    no order is lost downstream."""
    system = context.system
    with work_of(context) as work:
        more_orders(context, work, 40)
    verify.settle_and_check(system, context.ledger)
    system.stop("orders")
    copy = os.path.join(system.copies, "orders.db")
    shutil.copy(system.db_of("orders"), copy)
    expect(not os.path.exists(system.db_of("orders") + "-wal") or
           os.path.getsize(system.db_of("orders") + "-wal") == 0,
           "a clean stop leaves a WAL")
    old = set(context.ledger.orders)
    system.start("orders")
    with work_of(context) as work:
        more_orders(context, work, 40)
    verify.settle(system, ("orders", "inventory", "notifications"))
    system.stop("orders")
    lost = set(context.ledger.orders) - old
    size = system.log_size("orders")
    for suffix in ("-wal", "-shm"):
        if os.path.exists(system.db_of("orders") + suffix):
            os.unlink(system.db_of("orders") + suffix)
    shutil.copy(copy, system.db_of("orders"))
    system.start("orders")
    system.ready("orders")
    expect("drawing a new database id" in system.log("orders", size),
           "no new database id was drawn")
    expect(system.value("orders", "SELECT count(*) FROM database_ids") == 2,
           "database_ids")
    with work_of(context) as work:
        more_orders(context, work, 40)
    verify.settle(system, ("orders", "inventory", "notifications"))
    reservations = {row[0]: row[1:] for row in system.select(
        "inventory", "SELECT order_id, status, item, quantity"
        " FROM reservations")}
    missing = [i for i in context.ledger.orders if i not in reservations]
    expect(not missing, "%d of %d orders never reached inventory, e.g. %s",
           len(missing), len(context.ledger.orders), missing[:3])
    verify.check_notifications(system, reservations)
    verify.check_stock(system, context.ledger, reservations)
    here = dict(system.select("orders", "SELECT id, status FROM orders"))
    expect(not lost & set(here), "orders that the old file can't have")
    for order_id in set(context.ledger.orders) - lost:
        expect(here[order_id] in verify.STATUSES and
               reservations[order_id][0] in verify.STATUSES[here[order_id]],
               "order %s is %s, reservation %s", order_id,
               here.get(order_id), reservations[order_id])
    topics, _ = verify.read_topics(system)
    sources = {r.headers["ce_source"] for r in topics["order-events"]
               if "ce_source" in r.headers}
    expect(len(sources) == 2, "%d sources in order-events", len(sources))
    context.say("%d orders from before, %d of the lost part, %d after" % (
        len(old), len(lost), len(context.ledger.orders) - len(old) -
        len(lost)))


def group_lag(system, group, topic):
    """By what the group has told Kafka, as tools for lag see it."""
    kafka = system.kafka()
    try:
        return sum(end - max(offset, 0) for end, (offset, _) in zip(
            kafka.ends(topic), kafka.group_offsets(group, topic)))
    finally:
        kafka.close()


@scenario(about_broker=True, small=False)
def scaled_under_load(context):
    """1 to 3 to 2 instances while orders flow: what one keeps isn't taken from
    it for a moment, and lag is seen to rise and fall."""
    system = context.system
    names = ["notifications", "notifications-2", "notifications-3"]
    with work_of(context) as work:
        system.stop("notifications")
        system.wait_for("there is lag", lambda: group_lag(
            system, "notifications", "inventory-events") > 60)
        system.start("notifications")
        system.wait_for("the lag is gone", lambda: group_lag(
            system, "notifications", "inventory-events") < 30)
        system.start_all(names[1:])
        shared(system, names)
        more_orders(context, work, 30)
        expect(revoked(system, "notifications") == 2,
               "of three partitions %d were taken from the first",
               revoked(system, "notifications"))
        system.stop("notifications-3")
        shared(system, names[:2])
        more_orders(context, work, 30)
        expect([revoked(system, n) for n in names[:2]] == [2, 0],
               "a partition was taken from who stays")
        lags = [system.metric(n, "millrace_consumer_lag_records")
                for n in names[:2]]
        expect(sum(lags) < 1000, "lags: %r", lags)
    adds_up(context)
    system.stop("notifications-2")


def shared(system, names):
    """Each has one of the three partitions, or as fair a share of them."""
    def fairly():
        has = [len(assigned(system, n, system.starts_at[n])) for n in names]
        return sum(has) == 3 and max(has) - min(has) <= 1
    system.wait_for("partitions are shared by %d" % len(names), fairly, 40)


def revoked(system, name):
    return len(re.findall('msg="partition (?:revoked|lost)"', system.log(
        name, system.starts_at[name])))


STRANGER = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        "stranger.py")
OPEN_MS = 4000


def stranger(context, how):
    """Its process, once its transaction is written."""
    child = subprocess.Popen(
        [STRANGER, context.system.brokers, "order-events", "3", "100",
         str(OPEN_MS), how], stdout=subprocess.PIPE, text=True)
    said = child.stdout.readline()
    if said != "open\n":
        child.kill()
        raise Failure("a stranger says %r, status %d" % (said, child.wait()))
    return child


@scenario(about_broker="kafka", small=False)
def strangers_transactions(context):
    """Transactions of strangers on order-events: what they abort is never
    applied, and one that hangs holds orders up until it times out."""
    system = context.system
    with work_of(context) as work:
        child = stranger(context, "abort")
        with child:
            expect(child.wait(60 * system.settings.patience) == 0,
                   "it ended with %d", child.returncode)
        recovery.measure(context, "300 records aborted", time.monotonic())
        child = stranger(context, "hang")
        try:
            began = time.monotonic()
            more_orders(context, work, 20)
            seconds = recovery.measure(
                context, "a transaction of %d s hung" % (OPEN_MS // 1000),
                began + OPEN_MS / 1000)
            expect(seconds > -OPEN_MS / 2000,
                   "it held nothing up: %.1f s before its end", -seconds)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
    adds_up(context)
