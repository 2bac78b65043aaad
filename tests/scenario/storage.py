"""storage -- what the disk does to services: power cuts, and no space left.

The services' files are on a file system of the test's own, ext4 in a file
on a loop device, which takes root; elsewhere these scenarios are skipped.
"""

import contextlib
import errno
import fcntl
import os
import struct
import subprocess
import time

import clients
from load import Load
from scenario import scenario
from system import Skip, expect
from verify import settle_and_check

SERVICES = ("orders", "inventory", "notifications")
SHUTDOWN = 0x8004587d  # EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
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
        command("mount", "-o", "loop", self.image, self.system.data)

    def unmount(self):
        command("umount", self.system.data)

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


@scenario(kind="own", small=False)
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
                        30 * system.settings.slow)


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

        def refused():
            # The log's pages are used again first, and take some more.
            answer = post(system)
            if answer.status == 201:
                ledger.add(answer.json())
                fill(ballast + "2")
                return None
            return answer
        answer = system.wait_for("an order is refused", refused, 60, 0)
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
