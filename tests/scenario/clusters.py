"""clusters -- three brokers of Apache Kafka, as `make kafka BROKERS=3` has them."""

import json
import os
import re
import signal
import shutil
import subprocess
import tempfile
import threading
import time

import clients
import load
import recovery
import verify
from faults import more_orders, work_of
from kafka_wire import ClusterKafka
from scenario import scenario
from system import ROOT, Failure, System, expect, free_port

ORDERING = ("orders", "inventory", "notifications")
ITEMS = ("Headphones", "Laptop", "Phone")
TOPICS = ("order-events", "inventory-events")


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
        return answer.json()


class Attached(System):
    """The services that ctl runs, and three brokers, for load and checker.

    What it is asked to start and to stop are further processes."""

    def __init__(self, settings, local, ports):
        super().__init__(settings)
        self.data = local.env["MILLRACE_DATA"]
        self.run = local.env["MILLRACE_RUN"]
        self.kafka_ports = ports
        self.brokers = addresses_of(ports)

    def kafka(self):
        return ClusterKafka(self.kafka_ports)


def addresses_of(ports):
    return ",".join("127.0.0.1:%d" % port for port in ports)


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


def whole(addresses):
    """Every replica of every partition is in sync; not if nobody says so."""
    try:
        found = replicas(addresses)
    except subprocess.SubprocessError:
        return False
    return found and all(in_sync == {"1", "2", "3"}
                         for _, _, in_sync in found.values())


class Brokers:
    """Those of a cluster, under runit: what happens to one of them, and when
    its cause is over."""

    def __init__(self, local, system):
        self.local = local
        self.system = system
        self.names = ("kafka", "kafka-2", "kafka-3")

    def wait_whole(self):
        self.local.wait_for("all replicas are in sync", lambda: whole(
            self.system.brokers), 60)

    def pid(self, number):
        return self.local.pid(self.names[number - 1])

    def controller(self):
        kafka = self.system.kafka()
        try:
            return kafka.controller()
        finally:
            kafka.close()

    def kill(self, number):
        """runit starts it again."""
        os.kill(self.pid(number), signal.SIGKILL)
        return time.monotonic()

    def pause(self, number, seconds):
        """Stopped for longer than its session, which is 3 s, and woken."""
        pid = self.pid(number)
        os.kill(pid, signal.SIGSTOP)
        try:
            # How long it doesn't answer is what is tested.
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        return time.monotonic()

    def restart(self, number):
        """It is told to stop, and gives its partitions away before."""
        before = self.pid(number)
        os.kill(before, signal.SIGTERM)
        self.local.wait_for("broker %d stops" % number, lambda:
                            not os.path.exists("/proc/%d" % before))
        return time.monotonic()

    def move_leaders(self):
        """Back to where they were first: those that followed who died."""
        kafka = self.system.kafka()
        try:
            moved = sum(kafka.elect_preferred(topic, range(3))
                        for topic in TOPICS)
        finally:
            kafka.close()
        return time.monotonic(), moved

    def reassign(self, shift, count):
        """Each partition gets ``count`` replicas, on brokers that are so many
        further on than its number, the first of which is to lead it.  How many
        have another leader then: some may get it before they are told to."""
        before = replicas(self.system.brokers)
        wanted = {(topic, p): [(p + shift + n) % 3 + 1 for n in range(count)]
                  for topic in TOPICS for p in range(3)}
        path = os.path.join(self.local.base, "reassign.json")
        with open(path, "w") as f:
            json.dump({"version": 1, "partitions": [
                {"topic": topic, "partition": p, "replicas": on}
                for (topic, p), on in wanted.items()]}, f)
        done = subprocess.run(
            [os.path.join(ROOT, "deploy/local/kafka"), "tool",
             "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
             "--bootstrap-server", self.system.brokers, "--execute",
             "--reassignment-json-file", path], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=60)
        expect(done.returncode == 0 and "Successfully" in done.stdout,
               "reassigning: %d: %s", done.returncode, done.stdout)

        def there():
            found = replicas(self.system.brokers)
            return all(found[of][1] == found[of][2] == {str(n) for n in on}
                       for of, on in wanted.items())

        def led():
            found = replicas(self.system.brokers)
            return all(found[of][0] == on[0] for of, on in wanted.items())

        self.local.wait_for("partitions are where they are to be", there, 60)
        since, _ = self.move_leaders()
        self.local.wait_for("the first replicas lead", led, 60)
        return since, sum(before[of][0] != on[0]
                          for of, on in wanted.items())


@scenario(kind=None, small=False, about_broker="kafka", seconds=75)
def three_brokers(context):
    """A cluster of three, a replica of everything on each, under load: with
    one killed, the controller killed, leaders moved, one paused, and partitions
    taken from one and given to others, orders go on by themselves, and nothing
    is lost or done twice; with --long, restarted one after the other.  Another
    Millrace uses the cluster by its addresses alone, and starts no broker."""
    base = tempfile.mkdtemp(prefix="millrace-cluster-")
    os.chmod(base, 0o755)
    ports = set()
    first = next(p for p in iter(lambda: free_port(ports), None)
                 if p % 3 == 0 and p < 31000)
    brokers = [first + n for n in range(3)]
    local = Local(context.settings, os.path.join(base, "a"), ports,
                  KAFKA_PORT=str(first),
                  KAFKA_CONTROLLER_PORT=str(first + 3))
    others = Local(context.settings, os.path.join(base, "b"), ports)
    context.system, context.ledger = None, load.Ledger()
    try:
        began = time.monotonic()
        said = local.ctl("kafka", BROKERS="3")
        addresses = addresses_of(brokers)
        expect("Kafka    " + addresses in said, "ctl kafka: %s", said)
        context.say("ready after %.1f s" % (time.monotonic() - began))
        refused = local.ctl("kafka", BROKERS="1", status=1)
        expect("is of three brokers" in refused, "of one: %s", refused)
        # They read from the one that is to be killed, where they can.
        local.ctl("up", ",".join(ORDERING), BROKER="kafka",
                  MILLRACE_PROPERTY="client.rack=rack-2")
        for item in ITEMS:
            context.ledger.add(local.order(item))
        of_topics = replicas(addresses)
        expect({topic for topic, _ in of_topics} >= {
            "order-events", "inventory-events", "__consumer_offsets"} and
            all(on == {"1", "2", "3"} for _, on, _ in of_topics.values()),
            "replicas: %r", of_topics)
        context.system = Attached(context.settings, local, brokers)
        brokers_fail(context, Brokers(local, context.system))
        others.ctl("up", "prices", MILLRACE_BROKERS=addresses)
        status = others.ctl("status")
        expect("Kafka: %s (not run here)" % addresses in status and
               not re.search("^kafka", status, re.M), "status: %s", status)
    finally:
        if context.system is not None:
            context.system.close()
        other = threading.Thread(target=others.ctl, args=("stop",))
        other.start()
        local.ctl("stop")
        other.join()
        if not context.settings.keep:
            shutil.rmtree(base, ignore_errors=True)


def brokers_fail(context, brokers):
    system = context.system
    memory = sum(resident_mib(brokers.pid(n)) for n in (1, 2, 3))
    context.say("%d MiB of memory" % memory)
    expect(memory < 1200, "three brokers take %d MiB", memory)
    for item in load.ITEMS:
        load.restock(system, context.ledger, item, 10 ** 6)
    with work_of(context, clients_count=2, pause_s=0.05, seconds=120) as work:
        more_orders(context, work, 20)
        recovery.measure(context, "a broker killed", brokers.kill(2))
        brokers.wait_whole()
        recovery.measure(context, "the controller killed",
                         brokers.kill(brokers.controller()))
        brokers.wait_whole()
        since, moved = brokers.move_leaders()
        expect(moved > 0, "no leader moved")
        recovery.measure(context, "%d leaders moved" % moved, since)
        recovery.measure(context, "one paused for 8 s", brokers.pause(3, 8))
        brokers.wait_whole()
        # What one gives up is deleted there, and copied when it is back.
        for shift, count in ((1, 2), (2, 3)):
            placed = work.placed
            since, moved = brokers.reassign(shift, count)
            expect(moved > 0 and work.placed > placed, "%d leaders moved, %d"
                   " orders meanwhile", moved, work.placed - placed)
            recovery.measure(context, "to %d replicas elsewhere" % count,
                             since)
        if context.options.long:
            rolling_restart(context, brokers)
    brokers.wait_whole()
    verify.settle(system, ORDERING)
    repeats = verify.check_orders_alone(system, context.ledger)
    context.say("%d orders, %d repeats dropped" % (
        len(context.ledger.orders), repeats))


def rolling_restart(context, brokers):
    for number in (1, 2, 3):
        brokers.wait_whole()
        recovery.measure(context, "broker %d restarted" % number,
                         brokers.restart(number))


def resident_mib(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s*(\d+) kB", f.read())[1]) // 1024
