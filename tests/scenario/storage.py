"""storage -- what the disk, and others on it, do to services.

The services' files are on a file system of the test's own, ext4 in a file
on a loop device, which takes root; elsewhere these scenarios are skipped.
"""

import contextlib
import errno
import fcntl
import glob
import os
import sqlite3
import struct
import subprocess
import time

import clients
from load import Load
from scenario import scenario
from system import Skip, expect
from traced import injected
from verify import settle_and_check

SERVICES = ("orders", "inventory", "notifications")
SHUTDOWN = 0x8004587d  # EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
UNKNOWN = 70           # a service's status: a commit's outcome is unknown
NO_LOG_FLUSH = 2       # what the journal hasn't on disk yet is lost


def command(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    expect(done.returncode == 0, "%s: %s", " ".join(argv), done.stderr)


class Disk:
    """An ext4 of its own, mounted where a system has its files."""

    def __init__(self, system, size_mib):
        self.system = system
        self.image = os.path.join(system.base, "disk.img")
        with open(self.image, "wb") as f:
            f.truncate(size_mib << 20)
        command("mkfs.ext4", "-q", "-m", "0", self.image)

    def mount(self):
        command("mount", "-o", "loop,errors=remount-ro", self.image,
                self.system.data)

    def fail(self):
        """The file system finds an error, and is read-only from now on."""
        device = os.path.basename(subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", self.system.data],
            capture_output=True, text=True, check=True).stdout.strip())
        trigger = "/sys/fs/ext4/%s/trigger_fs_error" % device
        if not os.access(trigger, os.W_OK):
            raise Skip("no " + trigger)
        with open(trigger, "w") as f:
            f.write("planted")

    def unmount(self):
        """Whoever made a mount namespace meanwhile has a copy of the mount,
        and with it the file system: mounted again it would be the same one,
        shut down, and all that is done to it would fail (EIO)."""
        command("umount", self.system.data)
        self.system.wait_for("nobody has the file system any more",
                             lambda: not self._devices())

    def _devices(self):
        """Loop devices on the image."""
        found = []
        for path in glob.glob("/sys/block/loop*/loop/backing_file"):
            with contextlib.suppress(OSError), open(path) as f:
                if f.read().strip() == self.image:
                    found.append(path)
        return found

    def cut(self):
        """From now on nothing reaches the disk, and every write fails but
        those under way: of these ext4 may report an fsync that never was.
        No machine without power could tell anybody, hence the count."""
        self.system.power_cuts += 1
        fd = os.open(self.system.data, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)


@contextlib.contextmanager
def disk_of(system, size_mib):
    if os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        raise Skip("a loop mount takes root and /dev/loop-control")
    disk = Disk(system, size_mib)
    try:
        disk.mount()
    except Exception as error:
        raise Skip("no loop mount here: %s" % error) from error
    try:
        yield disk
    finally:
        # Whatever happened: nobody is left on it, and it goes.
        end_all(system)
        subprocess.run(["umount", "-l", system.data], capture_output=True)


def end_all(system):
    """Kill every service; nobody starts them again."""
    with system.lock:
        system.wanted.clear()
        for process in system.services.values():
            process.end()


@scenario(kind="own", small=False, seconds=12)
def power_cuts(context):
    """The power fails again and again under load: what was answered is kept,
    and all adds up."""
    system = context.system
    wanted = 100 if context.options.long else 25
    system.kafka_start()
    with disk_of(system, 256) as disk:
        system.start_all(SERVICES)
        with Load(system, context.ledger, context.rng.random(),
                  pause_s=0.005) as load:
            for _ in range(wanted):
                placed = load.placed
                system.wait_for("orders are placed between two cuts",
                                lambda: load.placed > placed)
                time.sleep(context.rng.random() * 0.1)
                with system.lock:  # the supervisor has no power either
                    disk.cut()
                    end_all(system)
                disk.unmount()
                disk.mount()
                for name in SERVICES:
                    system.start(name, **system.starts[name])
        system.start("prices")
        system.ready(*SERVICES, "prices")
        settle_and_check(system, context.ledger)
        context.say("%d cuts, %d orders" % (wanted, load.placed))


def fill(path):
    """Write until there is no space left."""
    with open(path, "wb", buffering=0) as f:
        for size in (1 << 20, 4096):
            try:
                while True:
                    f.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def post(system):
    return clients.fcgi(system.socket_of("orders"), "POST", "/orders",
                        {"item": "Laptop", "quantity": 1}, {},
                        30 * system.settings.patience)


@scenario(kind="own", small=False)
def disk_full(context):
    """No space is left: 503, nothing half-written, and it heals by itself."""
    system, ledger = context.system, context.ledger
    system.kafka_start()
    with disk_of(system, 32):
        pids = {name: system.start(name) for name in SERVICES + ("prices",)}
        system.ready(*pids)
        ballast = os.path.join(system.data, "ballast")
        fill(ballast)

        def restock():
            answer = system.call("inventory", "POST", "/stock/Laptop",
                                 {"quantity": 1})
            if answer.status == 200:
                ledger.received["Laptop"] = ledger.received.get(
                    "Laptop", 0) + 1
            return answer

        def order():
            answer = post(system)
            if answer.status == 201:
                ledger.add(answer.json())
            return answer
        for ask in (order, restock):
            def refused(asked=ask):
                # The log's pages are used again first, and take some more.
                answer = asked()
                if answer.status in (200, 201):
                    fill(ballast + "2")
                    return None
                return answer
            answer = system.wait_for("a write is refused", refused, 60, 0)
            expect(answer.status == 503 and "retry-after" in answer.headers,
                   "a full disk was answered %r", answer)
        os.unlink(ballast)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(ballast + "2")
        with Load(system, ledger, context.rng.random()) as load:
            system.wait_for("orders are taken again",
                            lambda: load.placed >= 20)
        settle_and_check(system, ledger)
        expect(not system.ends, "ended: %r", system.ends)
        expect(all(system.services[n].pid == pid for n, pid in pids.items()),
               "a service was started again")
        context.say("%d orders in all" % len(ledger.orders))


def refused(system, ledger, log_has):
    """nginx answers 503 to an order, and the log of orders says why."""
    size = system.starts_at["orders"]

    def is_refused():
        answer = system.web("POST", "/orders",
                            {"item": "Laptop", "quantity": 1})
        if answer.status != 201:
            return answer
        ledger.add(answer.json())
        return None
    answer = system.wait_for("an order is refused", is_refused, 20)
    expect(answer.status == 503 and "retry-after" in answer.headers,
           "it was answered %r", answer)
    system.wait_for("its log says why",
                    lambda: log_has in system.log("orders", size), 20)


def begin_logs_anew(system, services):
    """The next commits overwrite what their logs have, and need no journal:
    of a flush that makes a file longer ext4 may say that it worked, though it
    gave up its journal meanwhile (pkg/store/vfs.c)."""
    for name in services:
        with contextlib.closing(sqlite3.connect(system.db_of(name),
                                                timeout=10)) as db:
            busy = db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0]
        expect(not busy, "the log of %s can't begin anew", name)


@scenario(kind="own", small=False)
def read_only_disk(context):
    """The file system becomes read-only under load: 503, and a log that says
    so; all is there when it can be written again."""
    system, ledger = context.system, context.ledger
    system.kafka_start()
    with disk_of(system, 64) as disk:
        system.nginx_start()
        system.start_all(SERVICES + ("prices",))
        with Load(system, ledger, context.rng.random()) as load:
            system.wait_for("orders are placed", lambda: load.placed >= 60)
            begin_logs_anew(system, SERVICES)
            placed = load.placed
            system.wait_for("orders are placed in the log begun anew",
                            lambda: load.placed >= placed + 5)
            disk.fail()
            refused(system, ledger, "mount its file system for writing again")
            system.wait_for("somebody ends", lambda: system.ends)
            bad = [e for e in system.ends if e[2] not in (1, UNKNOWN)]
            expect(not bad, "ended otherwise: %r", bad[:3])
            # To mount it anew nobody may be on it.
            with system.lock:
                end_all(system)
                disk.unmount()
                disk.mount()
                for name in SERVICES + ("prices",):
                    system.start(name, **system.starts[name])
            placed = load.placed
            system.wait_for("orders are taken again",
                            lambda: load.placed >= placed + 20)
        system.ready(*SERVICES, "prices")
        settle_and_check(system, ledger)
        context.say("%d orders in all" % len(ledger.orders))


# -- system calls that fail ------------------------------------------------

@scenario(small=False, seconds=25)
def io_errors(context):
    """EIO on a write, and on a flush, of each service: it ends with what is
    on disk unknown, and the next start finds out; all adds up."""
    system = context.system
    first = len(system.ends)
    with Load(system, context.ledger, context.rng.random(),
              clients_count=2) as load:
        for call in ("pwrite64", "fdatasync"):
            sizes = {name: system.log_size(name) for name in SERVICES}
            before = len(system.ends)
            with contextlib.ExitStack() as traced:
                for name in SERVICES:
                    traced.enter_context(injected(
                        system, name, "%s:error=EIO:when=%d" % (
                            call, context.rng.randint(1, 8))))
                system.wait_for("all end of " + call, lambda b=before:
                                len(system.ends) - b >= len(SERVICES))
            for name, size in sizes.items():
                log = system.log(name, size)
                expect("Input/output error; check the disk (dmesg)" in log,
                       "the log of %s doesn't say it: %s", name, log)
            system.ready(*SERVICES)
            placed = load.placed
            system.wait_for("orders go on",
                            lambda p=placed: load.placed >= p + 20)
    ended = sorted((name, status)
                   for name, _, status in system.ends[first:])
    expect(ended == sorted((name, UNKNOWN) for name in SERVICES * 2),
           "ended: %r", ended)
    settle_and_check(system, context.ledger)
    context.say("%d orders" % load.placed)


# -- others that have the file open ----------------------------------------

@contextlib.contextmanager
def connected(system, service, begin):
    """A connection that knows nothing of Millrace, in a transaction."""
    connection = sqlite3.connect(system.db_of(service), timeout=10,
                                 isolation_level=None)
    try:
        connection.execute(begin)
        yield connection
    finally:
        connection.close()


@scenario(small=False)
def file_locked(context):
    """A stranger holds the write lock for long: 503, named in the log, then
    it goes on."""
    system = context.system
    process = system.services["orders"]
    size = system.log_size("orders")
    with connected(system, "orders", "BEGIN IMMEDIATE"):
        answer = post(system)
        expect(answer.status == 503 and "retry-after" in answer.headers,
               "a locked file was answered %r", answer)
        expect("another program holds it" in system.log("orders", size),
               "the log doesn't say that it is locked")
        answer = system.call("orders", "GET", "/orders?limit=1")
        expect(answer.status == 200, "reading was answered %r", answer)
    with Load(system, context.ledger, context.rng.random()) as load:
        system.wait_for("orders are taken again", lambda: load.placed >= 20)
    expect(system.services["orders"].pid == process.pid, "it was restarted")
    settle_and_check(system, context.ledger)


def wal_size(system, service):
    return os.path.getsize(system.db_of(service) + "-wal")


def wal_generation(system, service):
    """The checkpoint counter in its header (SQLite's file format, 4.1)."""
    with open(system.db_of(service) + "-wal", "rb") as f:
        return struct.unpack(">I", f.read(16)[12:])[0]


@scenario(small=False)
def log_pinned_by_a_reader(context):
    """A reader that never ends keeps the log growing: it is reported, does no
    harm otherwise, and is used again from its start afterwards."""
    system = context.system
    limit = 17 << 20  # a checkpoint comes after 16 MB
    with Load(system, context.ledger, context.rng.random(), clients_count=8,
              pause_s=0.001) as load:
        with connected(system, "orders", "BEGIN") as reader:
            seen = reader.execute("SELECT count(*) FROM orders").fetchall()
            system.wait_for("the log grows past its checkpoint", lambda:
                            wal_size(system, "orders") > limit, 60)
            system.wait_for("the metric says so", lambda: system.metric(
                "orders", "millrace_store_log_bytes") > limit)
            expect(seen == reader.execute(
                "SELECT count(*) FROM orders").fetchall(),
                "the reader's snapshot moved")
            pinned = wal_generation(system, "orders")
        grown = wal_size(system, "orders")
        system.wait_for("the log is begun anew", lambda: wal_generation(
            system, "orders") != pinned, 60)
        placed = load.placed
        system.wait_for("orders go on", lambda: load.placed >= placed + 20)
    expect(wal_size(system, "orders") <= grown + limit,
           "it grew from %d to %d bytes", grown, wal_size(system, "orders"))
    settle_and_check(system, context.ledger)
    context.say("%.1f MB of log, %d orders" % (grown / 1e6, load.placed))
