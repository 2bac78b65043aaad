"""clusters -- three brokers of Apache Kafka, as `make kafka BROKERS=3` has them."""

import os
import re
import signal
import shutil
import subprocess
import tempfile
import threading
import time

import clients
from scenario import scenario
from system import ROOT, Failure, expect, free_port

ORDERING = ("orders", "inventory", "notifications")
ITEMS = ("Headphones", "Laptop", "Phone")


class Local:
    """deploy/local/ctl with folders and ports of its own."""

    def __init__(self, settings, base, ports, **environment):
        self.settings = settings
        self.base = base
        self.port = free_port(ports)
        # What make gives it, and little of who started this test.
        self.env = {k: v for k, v in os.environ.items()
                    if k == "KAFKA_OPTS" or not k.startswith(
                        ("MILLRACE_", "KAFKA_", "PORT_", "BROKER"))}
        self.env.update(
            MILLRACE_RUN=os.path.join(base, "run"),
            MILLRACE_DATA=os.path.join(base, "data"),
            MILLRACE_BUILD=os.path.dirname(settings.bin),
            MILLRACE_PORT=str(self.port), KAFKA_METRICS_PORT="0",
            WAIT_READY_S=str(int(60 * settings.patience)), **environment)

    def ctl(self, *words, status=0, **environment):
        done = subprocess.run(
            [os.path.join(ROOT, "deploy/local/ctl"), *words],
            env=dict(self.env, **environment), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=120 * self.settings.patience)
        expect(done.returncode == status, "ctl %s: %d\n%s", " ".join(words),
               done.returncode, done.stdout[-3000:])
        return done.stdout

    def pid(self, instance):
        with open(os.path.join(self.base, "run/sv", instance,
                               "supervise/pid")) as f:
            return int(f.read())

    def wait_for(self, what, condition, seconds=30):
        deadline = time.monotonic() + seconds * self.settings.patience
        while not condition():
            if time.monotonic() > deadline:
                raise Failure("%s: not in time\n%s" % (
                    what, self.ctl("logs", FOLLOW="0", LINES_SHOWN="6")))
            time.sleep(0.1)

    def order(self, item):
        """Place one and wait for what becomes of it."""
        answer = clients.web(self.port, "POST", "/orders",
                             {"item": item, "quantity": 1})
        expect(answer.status == 201, "POST /orders: %r", answer)
        path = "/orders/" + answer.json()["id"]

        def confirmed():
            return clients.web(self.port, "GET", path).json()["status"] == \
                "CONFIRMED"
        self.wait_for("an order is decided", confirmed)


def replicas(address):
    """{(topic, partition): (leader, replicas, in sync)}, as kcat tells."""
    told = subprocess.run(["kcat", "-b", address, "-L"], capture_output=True,
                          text=True, timeout=60, check=True).stdout
    topic, found = None, {}
    for line in told.splitlines():
        named = re.match(r' *topic "(.*)" with', line)
        about = re.match(r" *partition (\d+), leader (-?\d+), replicas: (\S*)"
                         r", isrs: (\S*)", line)
        if named:
            topic = named[1]
        if about:
            found[topic, int(about[1])] = (
                int(about[2]), set(about[3].split(",")),
                set(about[4].split(",")))
    return found


@scenario(kind=None, small=False, about_broker="kafka")
def three_brokers(context):
    """A cluster of three, a replica of everything on each: with one killed
    orders are decided, and it comes back.  Another Millrace uses the cluster
    by its addresses alone, and starts no broker."""
    base = tempfile.mkdtemp(prefix="millrace-cluster-")
    os.chmod(base, 0o755)
    ports = set()
    first = next(p for p in iter(lambda: free_port(ports), None)
                 if p % 3 == 0 and p < 31000)
    local = Local(context.settings, os.path.join(base, "a"), ports,
                  KAFKA_PORT=str(first),
                  KAFKA_CONTROLLER_PORT=str(first + 3))
    others = Local(context.settings, os.path.join(base, "b"), ports)
    try:
        began = time.monotonic()
        said = local.ctl("kafka", BROKERS="3")
        addresses = ",".join("127.0.0.1:%d" % (first + n) for n in range(3))
        expect("Kafka    " + addresses in said, "ctl kafka: %s", said)
        context.say("ready after %.1f s" % (time.monotonic() - began))
        refused = local.ctl("kafka", BROKERS="1", status=1)
        expect("is of three brokers" in refused, "of one: %s", refused)
        # They read from the one that is to be killed, where they can.
        local.ctl("up", ",".join(ORDERING), BROKER="kafka",
                  MILLRACE_PROPERTY="client.rack=rack-2")
        for item in ITEMS:
            local.order(item)
        of_topics = replicas(addresses)
        expect({topic for topic, _ in of_topics} >= {
            "order-events", "inventory-events", "__consumer_offsets"} and
            all(on == {"1", "2", "3"} for _, on, _ in of_topics.values()),
            "replicas: %r", of_topics)
        one_killed(context, local, addresses)
        others.ctl("up", "prices", MILLRACE_BROKERS=addresses)
        status = others.ctl("status")
        expect("Kafka: %s (not run here)" % addresses in status and
               not re.search("^kafka", status, re.M), "status: %s", status)
    finally:
        other = threading.Thread(target=others.ctl, args=("stop",))
        other.start()
        local.ctl("stop")
        other.join()
        if not context.settings.keep:
            shutil.rmtree(base, ignore_errors=True)


def one_killed(context, local, addresses):
    memory = sum(resident_mib(local.pid(i)) for i in
                 ("kafka", "kafka-2", "kafka-3"))
    context.say("%d MiB of memory" % memory)
    expect(memory < 1200, "three brokers take %d MiB", memory)
    os.kill(local.pid("kafka-2"), signal.SIGKILL)
    began = time.monotonic()
    for item in ITEMS:
        local.order(item)
    context.say("three orders %.1f s after one was killed" % (
        time.monotonic() - began))
    local.wait_for("its replicas are in sync again", lambda: all(
        in_sync == {"1", "2", "3"} for _, _, in_sync in
        replicas(addresses).values()), 60)


def resident_mib(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s*(\d+) kB", f.read())[1]) // 1024
