"""processes -- programs that are stopped, killed, replaced and starved."""

import os
import resource
import shutil
import signal
import socket
import struct
import time
import uuid

import clients
import load
import tools
from faults import adds_up, more_orders, state_of, work_of
from scenario import scenario
from system import SERVICES, expect

DAY_MS = 86400000


@scenario(small=False, seconds=15)
def old_version_stopped_in_a_transaction(context):
    """An older binary that stopped in a transaction is named and killed.

    Sandboxed or not: its file is another than that of who waits for it."""
    system = context.system
    old = os.path.join(system.copies, "old")
    os.makedirs(old)
    shutil.copy(os.path.join(system.settings.failpoints_bin, "inventory"),
                old)
    for flags in ((), ("--no-sandbox",)):
        system.stop("inventory")
        system.start("inventory", failpoints=True, bin_dir=old, flags=flags,
                     failpoint="batch.applied=stop@9")
        stopped = system.services["inventory"]
        ends = len(system.ends)
        with work_of(context) as work:
            system.wait_for("the old one stops", lambda p=stopped.pid:
                            state_of(p) == "T", 40)
            system.start("inventory-2", failpoints=True, flags=flags)
            system.wait_for("the new one kills it", lambda e=ends:
                            len(system.ends) > e, 40)
            expect(system.ends[-1] == ("inventory", stopped.pid,
                                       -signal.SIGKILL),
                   "ended: %r", system.ends[ends:])
            expect("holder_pid=%d" % stopped.pid in system.log("inventory-2"),
                   "inventory-2 doesn't name pid %d", stopped.pid)
            more_orders(context, work, 20)
        system.stop("inventory-2")
    system.stop("inventory")
    system.start("inventory")
    adds_up(context)


@scenario(small=False)
def nginx_killed(context):
    """kill -9 of nginx's workers, then of all of it, under load through it."""
    system = context.system
    with work_of(context, web=True) as work:
        for _ in range(3):
            more_orders(context, work, 15)
            for pid in children(system.nginx_process.pid):
                os.kill(pid, signal.SIGKILL)
        for _ in range(2):
            more_orders(context, work, 15)
            system.nginx_process.end()
            began = time.monotonic()
            system.nginx_start()
            more_orders(context, work, 1)
            context.say("orders again after %.2f s" % (
                time.monotonic() - began))
        more_orders(context, work, 15)
    adds_up(context)


def children(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return [int(x) for x in f.read().split()]


POST_PLACES = ("batch.begun", "batch.applied", "commit.before",
               "commit.after", "batch.answered", "relay.sent")


@scenario(small=False, seconds=15)
def killed_in_a_post(context):
    """The service dies at each step of POSTs: one order for one key."""
    system = context.system
    before = system.value("orders", "SELECT count(*) FROM orders")
    posts = replays = again = 0
    places = list(POST_PLACES)
    while places:
        place = places.pop(0)
        system.stop("orders")
        system.start("orders", failpoints=True,
                     failpoint="%s=kill@%d" % (place, context.rng.randint(
                         2, 6)))
        ends = len(system.ends)
        began = time.monotonic()
        while len(system.ends) == ends:
            # Nothing is sent before the lease of who was killed is over.
            expect(time.monotonic() - began < 30, "nothing dies at %s", place)
            posts += 1
            replays += post_twice(context)
        # The transaction that it died behind may have had no POST in it.
        if not places and not replays and again < 20:
            again += 1
            places.append("commit.after")
    after = system.value("orders", "SELECT count(*) FROM orders")
    expect(after - before == posts, "%d keys, %d orders", posts,
           after - before)
    expect(replays > 0, "no answer was lost behind its commit")
    system.stop("orders")
    system.start("orders")
    context.say("%d keys, %d answered by what was stored before a kill" % (
        posts, replays))
    adds_up(context)


def post_twice(context):
    """One order by one key; was its first answer that of a life before?"""
    key = str(uuid.uuid4())
    body = {"item": "Phone", "quantity": 1}
    first, again = (load.post_until(context.system, "orders", "/orders", body,
                                    key, 60, web=True) for _ in range(2))
    expect(first.status == 201, "POST: %r", first)
    context.ledger.add(first.json())
    expect(again.status == 201 and again.body == first.body and
           "idempotency-replayed" in again.headers, "the same key again: %r",
           again)
    return "idempotency-replayed" in first.headers


@scenario(spoils=True, small=False, seconds=10)
def upgraded_underneath(context):
    """A rolling restart with a migration in it, under load.

    The old instance leaves when the file is migrated, its successor goes
    on, and the old version is refused from then on."""
    system = context.system
    newer = os.path.join(os.path.dirname(system.settings.bin), "test/newer")
    place = os.path.join(system.copies, "installed")
    os.makedirs(place)
    shutil.copy(os.path.join(system.settings.bin, "inventory"), place)
    system.stop("inventory")
    for instance in ("inventory", "inventory-2"):
        system.start(instance, bin_dir=place)
    system.ready("inventory", "inventory-2")
    version = schema_of(system)
    with work_of(context) as work:
        more_orders(context, work, 40)
        # As an installation does it: beside, then over it.
        shutil.copy(os.path.join(newer, "inventory"), place + "/new")
        os.rename(place + "/new", place + "/inventory")
        old = system.services["inventory"].pid
        size, ends = system.log_size("inventory"), len(system.ends)
        expect(system.stop("inventory-2") == [0], "its exit status")
        system.start("inventory-2", bin_dir=place)
        system.wait_for("the old one leaves", lambda: len(system.ends) > ends,
                        40)
        expect(system.ends[ends][:2] == ("inventory", old) and
               system.ends[ends][2] > 0, "ended: %r", system.ends[ends:])
        expect(schema_of(system) > version, "the schema is %d", version)
        more_orders(context, work, 40)
        system.ready("inventory", "inventory-2")
        expect("migrated by another program" in system.log("inventory", size),
               "the old one doesn't say why it left")
        more_orders(context, work, 20)
    expect(len(system.ends) == ends + 1, "ended: %r", system.ends[ends:])
    refused = clients.run_to_end(
        [os.path.join(system.settings.bin, "inventory"), "--brokers",
         "127.0.0.1:%d" % system.kafka_port, "--db",
         system.db_of("inventory"), "--instance", "old"],
        20 * system.settings.patience)
    expect(refused.returncode > 0 and "newer" in refused.stderr +
           refused.stdout, "the old version on the new file: %r", refused)
    system.stop("inventory", "inventory-2")
    for words in (("accept-gap", "--topic", "order-events"), ("rebind",),
                  ("accept-cursor",)):
        _, err = tools.state(system, *words, "--db", system.db_of("inventory"),
                             "--yes", status=2)
        expect("has service schema 900" in err and "or newer" in err,
               "%s on the new file: %s", words[0], err)
    for instance in ("inventory", "inventory-2"):
        system.start(instance, bin_dir=place)
    system.ready("inventory", "inventory-2")
    adds_up(context)


def schema_of(system):
    return system.value("inventory", "SELECT max(version) FROM"
                        " schema_versions WHERE component = 'service'")


@scenario(small=False)
def clock_jumps(context):
    """Wall clocks jump two days on and ten back under load.

    Ticks go on, keys and lists stay whole, prices go on, nothing is lost or
    done twice."""
    system = context.system
    shift = os.path.join(system.copies, "clock")
    set_clock(shift, 0)
    system.stop(*system.running())
    for name in SERVICES:
        system.start(name, failpoints=True,
                     extra_env={"MILLRACE_CLOCK_SHIFT": shift})
    system.ready(*SERVICES)
    body = {"item": "Monitor", "quantity": 1}
    with work_of(context) as work:
        for days in (2, -10, 0, -1, 0):
            key = str(uuid.uuid4())
            first = keyed(context, body, key)
            set_clock(shift, days * DAY_MS)
            ticks = system.value("price-producer",
                                 "SELECT tick_count FROM walk")
            more_orders(context, work, 25)
            system.wait_for("prices go on", lambda t=ticks: system.value(
                "price-producer", "SELECT tick_count FROM walk") > t + 3)
            system.ready(*SERVICES)
            if days < 0:  # a day on may well be the end of a key
                again = keyed(context, body, key)
                expect(again.json()["id"] == first.json()["id"],
                       "a key was forgotten after %d days", days)
        system.wait_for("the newest prices are of now",
                        lambda: prices_are_of_now(system))
    listed = listed_orders(system)
    whole = {r[0] for r in system.select("orders", "SELECT id FROM orders")}
    expect(len(listed) == len(set(listed)) and set(listed) == whole,
           "%d listed, %d different, %d there", len(listed),
           len(set(listed)), len(whole))
    for name in SERVICES:
        sums_are_sane(system, name)
    system.stop(*SERVICES)
    system.start_all()
    adds_up(context)


def set_clock(path, shift_ms):
    with open(path, "r+b" if os.path.exists(path) else "wb") as f:
        f.write(struct.pack("=q", shift_ms))


def prices_are_of_now(system):
    symbols = system.call("prices", "GET", "/prices").json()["symbols"]
    now_ms = time.time() * 1000
    return all(abs(s["ts_ms"] - now_ms) < 60000 for s in symbols)


def keyed(context, body, key):
    answer = load.post_until(context.system, "orders", "/orders", body, key,
                             30)
    expect(answer.status == 201, "POST: %r", answer)
    if "idempotency-replayed" not in answer.headers:
        context.ledger.add(answer.json())
    return answer


def listed_orders(system):
    seen, after = [], ""
    while True:
        page = system.call("orders", "GET", "/orders?limit=200" +
                           after).json()
        seen += [o["id"] for o in page["orders"]]
        if page["next_after"] is None:
            return seen
        after = "&after=" + page["next_after"]


def sums_are_sane(system, name):
    """No duration was taken from a clock that jumps."""
    text = system.call(name, "GET", "/metrics").body.decode()
    for line in text.splitlines():
        if "_seconds_sum" in line:
            value = float(line.rsplit(" ", 1)[1])
            expect(0 <= value < 100000, "%s of %s", line, name)


@scenario(small=False)
def descriptors_exhausted(context):
    """A service without descriptors neither spins nor ends; it heals."""
    system = context.system
    pid = system.services["orders"].pid
    with work_of(context) as work:
        more_orders(context, work, 10)
        size = system.log_size("orders")
        old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE,
                         (lowest_free(pid), old[1]))
        began, used = time.monotonic(), cpu_s(pid)
        waiting = [connecting(system.socket_of("orders")) for _ in range(40)]
        # A thread that sleeps in accept() has its descriptor already: who
        # leaves has it ask for another.
        for _ in range(20):
            waiting.pop(0).close()
        system.wait_for("its log says so", lambda: "Too many open files" in
                        system.log("orders", size), 10)
        system.wait_for("3 s have passed", lambda:
                        time.monotonic() - began > 3)
        now = cpu_s(pid)
        spent = {t: now[t] - used.get(t, 0) for t in now}
        share = sum(spent.values()) / (time.monotonic() - began)
        lines = system.log("orders", size).count("accepting a connection")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
        for sock in waiting:
            sock.close()
        expect(share < 0.4, "it used %d %% of a core: %r", 100 * share,
               sorted(spent.items(), key=lambda x: -x[1])[:4])
        expect(lines <= 6 * system.settings.slow, "%d lines of it", lines)
        more_orders(context, work, 20)
    expect(system.services["orders"].pid == pid, "it was restarted")
    system.ready("orders")
    context.say("%d %% of a core, most by %s, %d lines meanwhile" % (
        100 * share, max(spent, key=spent.get).split()[0], lines))
    adds_up(context)


def lowest_free(pid):
    """A limit of this leaves nothing.  (poll() fails at once, and whoever
    calls it spins, where there may be fewer than it is to look at.)"""
    there = {int(x) for x in os.listdir("/proc/%d/fd" % pid)}
    return min(set(range(len(there) + 1)) - there)


def connecting(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        sock.connect(path)
    except BlockingIOError:
        pass  # its queue is full
    return sock


def cpu_s(pid):
    """{thread: its seconds so far}."""
    used = {}
    for thread in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/stat" % (pid, thread)) as f:
            name, _, rest = f.read().partition("(")[2].rpartition(")")
        fields = rest.split()
        used[name + " " + thread] = (int(fields[11]) + int(fields[12])) / \
            os.sysconf("SC_CLK_TCK")
    return used
