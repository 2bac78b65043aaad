"""boundaries -- kill -9 at each system call by which an order leaves traces.

What a service does while one order passes is watched first.  Then it is
killed at each of these calls, told by its thread's name, the call's, and its
number since the order came: a sample of those that write, to its file, to
sockets and to its own threads; with --long all that it makes, but of those
that only wait (WAITS) one of each kind that a thread makes.  A kill there
leaves what one at the thread's next call does, for nothing changes in between
but memory, which is gone with the process; and how often a thread waits is
chance.  And an upgrade, likewise, at each call by which its file is migrated.

A call that isn't reached is tried again, alone.  In the end only waits may be
left, and are named.
"""

import collections
import contextlib
import glob
import os
import re
import shutil
import signal
import sqlite3
import uuid

import load
from scenario import scenario
from system import ROOT, Failure, Process, expect
from traced import (calls_of_main, killed_at, places_in, pool_of, threads_of,
                    traced, tracer)
from verify import settle_and_check

SERVICES = ("orders", "inventory", "notifications")
CALLS = ("pwrite64,write,writev,sendmsg,sendto,fdatasync,fsync,ftruncate,"
         "unlink,rename,openat,connect")
WAITS = ("futex", "poll", "ppoll", "epoll_wait", "accept4")
TRIES = 10
SESSION_MS = 1500


def place(context, seconds=60):
    """One order; answered, however often the service dies meanwhile."""
    item = context.rng.choice(load.ITEMS)
    answer = load.post_until(context.system, "orders", "/orders",
                             {"item": item, "quantity": 1},
                             str(uuid.uuid4()), seconds)
    expect(answer.status == 201, "POST /orders: %r", answer)
    context.ledger.add(answer.json())
    return answer.json()["id"]


def notified(system, order_id):
    return system.value("notifications", "SELECT count(*) FROM notifications"
                        " WHERE order_id = ?", order_id) > 0


def chosen(places):
    """All, but of the waits of each kind that threads of a name make the last
    alone, and none that only the tracer's coming has cut."""
    waits = {(pool_of(p[0]), p[1]): p
             for p in sorted(places, key=lambda p: p[2]) if p[1] in WAITS}
    return [p for p in places if p[1] not in WAITS + (
        "restart_syscall",)] + list(waits.values())


def watch(context):
    """{service: [(thread's name, call, number)]} of one order's life."""
    system = context.system
    names = {s: threads_of(system.services[s].pid) for s in SERVICES}
    calls = "all" if context.options.long else CALLS
    with contextlib.ExitStack() as stack:
        paths = {s: stack.enter_context(traced(
            system, s, ["-e", "trace=" + calls]))[0] for s in SERVICES}
        order_id = place(context)
        system.wait_for("it is notified of",
                        lambda: notified(system, order_id))
    return {s: chosen(places_in(path, names[s])) for s, path in paths.items()}


def watch_twice(context):
    """What two orders have in common: what a minute brings or a checkpoint, or
    a connection that librdkafka opens late and once, is no order's doing."""
    first, second = watch(context), watch(context)
    return {s: [p for p in first[s] if p in second[s]] for s in SERVICES}


def kill_at(context, picks, orders=20):
    """An order during which each service dies at its pick, {service: place};
    returns [(service, place)] of those that didn't.  The calls of two lives
    differ a little: there may be more orders."""
    system = context.system
    system.ready(*SERVICES)
    before = len(system.ends)
    with contextlib.ExitStack() as stack:
        pids = {s: stack.enter_context(killed_at(system, s, place_))[1]
                for s, place_ in picks.items()}

        def missed():
            gone = [pid for _, pid, _ in system.ends[before:]]
            return [(s, picks[s]) for s in picks if pids[s] not in gone]

        for _ in range(orders):
            order_id = place(context)
            system.wait_for("the order is notified of",
                            lambda i=order_id: notified(system, i), 60)
            if not missed():
                break
    return missed()


@scenario(kind="own", small=False, seconds=30)
def killed_at_boundaries(context):
    """kill -9 of each service at some of its writes, sends and syncs for one
    order; with --long at all system calls that do more than wait, and at one
    wait of each kind."""
    system = context.system
    system.kafka_start()
    system.start_all(SERVICES + ("prices",), session_ms=SESSION_MS)
    for _ in range(20 if context.options.long else 1):
        place(context)  # what only a thread's first order does is done
    found = watch_twice(context)
    for service, picks in found.items():
        expect(len(picks) > 4, "%s: only %r", service, picks)
        context.rng.shuffle(picks)
        if not context.options.long:
            del picks[4:]
    left = []
    for n in range(max(map(len, found.values()))):
        left += kill_at(context, {s: picks[n] for s, picks in found.items()
                                  if n < len(picks)},
                        20 if context.options.long else 3)
    for _ in range(TRIES):
        left = [pick for pick in left if kill_at(context, dict([pick]))]
    bad = [e for e in system.ends if e[2] != -9]
    expect(not bad, "ended otherwise: %r", bad[:3])
    system.ready(*SERVICES)
    settle_and_check(system, context.ledger)
    context.say("calls: %s; not reached: %s; %d orders" % (
        ", ".join("%s %d" % (s, len(p)) for s, p in found.items()),
        left or "none", len(context.ledger.orders)))
    expect(all(place_[1] in WAITS for _, place_ in left),
           "calls that aren't waits were never reached")


class Upgrade:
    """inventory's next version on a file of the present one's, no broker."""

    def __init__(self, context):
        self.system = context.system
        self.old = os.path.join(self.system.settings.bin, "inventory")
        self.new = os.path.join(os.path.dirname(self.system.settings.bin),
                                "test/newer/inventory")
        self.db = self.system.db_of("inventory")
        self.count = 0

    @contextlib.contextmanager
    def running(self, program, before=()):
        """The program and its log; it is killed in the end."""
        self.count += 1
        log = os.path.join(self.system.logs, "upgrade-%d" % self.count)
        process = Process(list(before) + [
            program, "--brokers", "127.0.0.1:1", "--db", self.db,
            "--instance", "inventory"], log)
        try:
            yield process, log
        finally:
            process.end()

    def says(self, log, what):
        with open(log, errors="replace") as f:
            return re.search(what, f.read())

    def make_old(self):
        """Files of the present version: one closed, one left open."""
        last = max(os.listdir(os.path.join(ROOT, "migrations/inventory")))
        name_of_last = re.match("[0-9]+_(.*)[.]sql$", last).group(1)
        for name, number in (("closed", signal.SIGTERM),
                             ("killed", signal.SIGKILL)):
            with self.running(self.old) as (process, log):
                self.system.wait_for("the file is made", lambda: self.says(
                    log, "name=" + name_of_last))
                process.signal(number)
                process.popen.wait()
            os.mkdir(os.path.join(self.system.copies, name))
            for path in glob.glob(self.db + "*"):
                shutil.move(path, os.path.join(self.system.copies, name))

    def put(self, name):
        for path in glob.glob(self.db + "*"):
            os.remove(path)
        for path in glob.glob(os.path.join(self.system.copies, name, "*")):
            shutil.copy(path, os.path.dirname(self.db))

    def state(self):
        """"old" or "new" and the stock, of a copy that is looked into."""
        place = os.path.join(self.system.copies, "look")
        shutil.rmtree(place, ignore_errors=True)
        os.mkdir(place)
        for path in glob.glob(self.db) + glob.glob(self.db + "-wal"):
            shutil.copy(path, place)
        db = sqlite3.connect(os.path.join(place, os.path.basename(self.db)))
        with contextlib.closing(db):
            whole = db.execute("PRAGMA integrity_check").fetchall()
            expect(whole == [("ok",)], "the file: %r", whole[:3])
            marks = [
                db.execute("SELECT user_version > 900"
                           " FROM pragma_user_version").fetchone(),
                db.execute("SELECT count(*) FROM schema_versions"
                           " WHERE version = 900").fetchone(),
                db.execute("SELECT count(*) FROM pragma_table_info("
                           "'reservations') WHERE name = 'shelf'").fetchone(),
                db.execute("SELECT count(*) FROM sqlite_schema WHERE name ="
                           " 'reservations_by_shelf'").fetchone()]
            expect(marks in ([(0,)] * 4, [(1,)] * 4), "between: %r", marks)
            return ("new" if marks[0][0] else "old",
                    db.execute("SELECT * FROM inventory").fetchall())

    def wait_new(self, process, log):
        """Until this start has the file as it should be, or is killed."""
        def is_new():
            if process.poll() is not None:
                return "killed"
            return self.says(log, "version=900") and "migrated"
        return self.system.wait_for("the file is migrated", is_new)

    def places(self, name):
        """(call, number) of what the main thread does, but wait, from opening
        the file until it is migrated."""
        self.put(name)
        trace = os.path.join(self.system.logs, "strace-" + name)
        with self.running(self.new, tracer(trace, "all")) as (process, log):
            expect(self.wait_new(process, log) == "migrated", "it ended: %s",
                   log)
        found, counts, opened = [], collections.Counter(), False
        for call, line in calls_of_main(trace):
            counts[call] += 1
            opened = opened or call != "execve" and \
                os.path.basename(self.db) + '"' in line
            if opened and call not in WAITS:
                found.append((call, counts[call]))
            if "version=900" in line:
                return found
        raise Failure("no migration in " + trace)

    def kill_at(self, name, call, number):
        """Killed there; returns what the file was then, None: it wasn't before
        it had migrated."""
        self.put(name)
        stock = self.state()[1]
        with self.running(self.new, tracer(
                os.devnull, call, "%s:signal=KILL:when=%d" % (
                    call, number))) as (process, log):
            killed = self.wait_new(process, log) == "killed" and \
                not self.says(log, "version=900")
        was, left = self.state()
        expect(left == stock, "the stock was %r, is %r", stock, left)
        with self.running(self.new) as (process, log):
            self.system.wait_for("the next start takes the file", lambda:
                                 self.says(log, "version=900" if was == "old"
                                           else "unclean exit|waiting for"))
        expect(self.state() == ("new", stock), "the next start: %r",
               self.state())
        return was if killed else None


@scenario(kind="own", small=False)
def migration_killed_at_boundaries(context):
    """kill -9 of an upgrade at the system calls by which it opens, copies and
    migrates a file: some of them, all with --long."""
    upgrade = Upgrade(context)
    upgrade.make_old()
    places = [[(name,) + place_ for place_ in upgrade.places(name)]
              for name in ("closed", "killed")]
    found = sum(places, [])
    # The migration itself is at the end.
    picks = found if context.options.long else context.rng.sample(
        found, 12) + context.rng.sample(sum((p[-80:] for p in places), []), 12)
    seen, left = [], picks
    for _ in range(TRIES):
        tried = [(pick, upgrade.kill_at(*pick)) for pick in left]
        seen += [was for _, was in tried if was]
        left = [pick for pick, was in tried if not was]
    expect(not left, "never reached: %s", left)
    if context.options.long:
        expect({"old", "new"} <= set(seen), "only ever %r", set(seen))
    context.say("%d calls of %d: %d times the old file, %d times the new" % (
        len(seen), len(found), seen.count("old"), seen.count("new")))
