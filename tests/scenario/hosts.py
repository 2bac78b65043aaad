"""hosts -- services on a host of their own, which is cut off from Kafka's.

The host is a network namespace, its cable a pair of virtual interfaces, and
what cuts it a rule that drops packets in silence, both ways or one.  Names
have the number of this process in them: what one that was killed has left
is removed by the next.
"""

import os
import re
import shutil
import signal
import subprocess
import time

import recovery
import verify
from faults import more_orders, work_of
from scenario import scenario
from system import Failure, Skip, expect, free_port

# IN is what comes to the host, OUT what leaves it.
CUTS = {"cut off": ("INPUT", "OUTPUT"), "deaf": ("INPUT",),
        "mute": ("OUTPUT",)}
TOOLS = ("ip", "iptables")


def tool(*argv):
    """Status, and what it said."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    done = subprocess.run(argv, env=dict(os.environ, PATH=path),
                          stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.strip()


def command(*argv):
    status, said = tool(*argv)
    if status != 0:
        raise Failure("%s: status %d: %s" % (" ".join(argv), status, said))
    return said


def remove(pid):
    """The host of that process, with whoever still works there."""
    name = "millrace-%d" % pid
    for worker in tool("ip", "netns", "pids", name)[1].split():
        if worker.isdigit():
            os.kill(int(worker), signal.SIGKILL)
    tool("ip", "link", "delete", "mr%dk" % pid)
    tool("ip", "netns", "delete", name)


def remove_leftovers():
    for pid in re.findall(r"^millrace-(\d+)\b", tool("ip", "netns", "list")[1],
                          re.M):
        if not os.path.exists("/proc/" + pid):
            remove(int(pid))


class Host:
    """It is reached under ``address``, and reaches Kafka at ``gateway``."""

    def __init__(self):
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        missing = [t for t in TOOLS if not shutil.which(t, path=path)]
        if missing or os.geteuid() != 0:
            raise Skip("a network namespace takes root, and %s" %
                       " and ".join(TOOLS))
        remove_leftovers()
        pid = os.getpid()
        self.name = "millrace-%d" % pid
        self.within = ("ip", "netns", "exec", self.name)
        self.cable = "mr%dn" % pid
        # Of the addresses for tests of networks, those of this process.
        net = "198.18.%d.%%d" % (pid % 256)
        low = pid // 256 % 64 * 4
        self.gateway, self.address = net % (low + 1), net % (low + 2)
        status, said = tool("ip", "netns", "add", self.name)
        if status != 0:
            raise Skip("no network namespace can be made here: " + said)
        try:
            self._connect("mr%dk" % pid)
        except Failure as why:
            self.close()
            raise Skip("no network can be laid here: %s" % why) from None

    def _connect(self, end):
        command("ip", "link", "add", end, "type", "veth", "peer", "name",
                self.cable, "netns", self.name)
        command("ip", "address", "add", self.gateway + "/30", "dev", end)
        command("ip", "link", "set", end, "up")
        for words in (("address", "add", self.address + "/30", "dev",
                       self.cable), ("link", "set", self.cable, "up"),
                      ("link", "set", "lo", "up")):
            command("ip", "-n", self.name, *words)
        self.heal()

    def cut(self, *chains):
        for chain in chains:
            command(*self.within, "iptables", "-w", "-A", chain, "-j", "DROP")

    def heal(self):
        command(*self.within, "iptables", "-w", "-F")

    def close(self):
        remove(os.getpid())


def listen_to(system, host):
    """Kafka has a listener for that host; its address."""
    port = free_port({system.kafka_port, system.controller_port})
    local = "LOCAL://127.0.0.1:%d" % system.kafka_port
    other = "HOST://%s:%d" % (host.gateway, port)
    path = os.path.join(system.copies, "host.properties")
    with open(path, "w") as f:
        f.write("listeners=%s,%s,CONTROLLER://127.0.0.1:%d\n"
                "advertised.listeners=%s,%s\n"
                "listener.security.protocol.map=LOCAL:PLAINTEXT,"
                "HOST:PLAINTEXT,CONTROLLER:PLAINTEXT\n" % (
                    local, other, system.controller_port, local, other))
    system.kafka_settings = {"KAFKA_PROPERTIES": path}
    return "%s:%d" % (host.gateway, port)


@scenario(kind="own", small=False, about_broker="kafka", seconds=25)
def host_cut_off(context):
    """The host of orders and inventory is cut off from Kafka's, both ways and
    one way: orders are taken meanwhile, and decided soon after its end."""
    system = context.system
    host = Host()
    try:
        brokers = listen_to(system, host)
        system.kafka_start()
        for instance in ("orders", "inventory"):
            system.start(instance, brokers=brokers, within=host.within)
        system.start("notifications")
        system.ready("orders", "inventory", "notifications")
        seconds = 30 if context.options.long else 5
        for how, chains in CUTS.items():
            cut_off(context, host, how, chains, seconds)
        verify.settle(system, ("orders", "inventory", "notifications"))
        repeats = verify.check_orders_alone(system, context.ledger)
        context.say("%d orders, %d repeats dropped" % (
            len(context.ledger.orders), repeats))
        expect(not system.ends, "ended by themselves: %r", system.ends[:3])
    finally:
        host.close()


def cut_off(context, host, how, chains, seconds):
    system = context.system
    with work_of(context, clients_count=2, pause_s=0.05, seconds=60) as work:
        more_orders(context, work, 10)
        host.cut(*chains)
        before = system.value("notifications",
                              "SELECT count(*) FROM notifications")
        placed = work.placed
        # How long the silence lasts is what is tested.
        time.sleep(seconds)
        after = system.value("notifications",
                             "SELECT count(*) FROM notifications")
        expect(work.placed > placed, "%s: no order is taken", how)
        expect(after - before < work.placed - placed or after == before,
               "%s: %d orders were taken, %d told of", how,
               work.placed - placed, after - before)
        host.heal()
        recovery.measure(context, "%s for %d s" % (how, seconds),
                         time.monotonic())
