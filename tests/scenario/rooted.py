"""rooted -- the programs in an empty root that can't be written.

What an image FROM scratch has: the program, /etc/hosts and /etc/resolv.conf,
and folders that are mounted into it, for the file, the socket and, if it is
the broker, its topics.
"""

import json
import os
import shutil
import subprocess
import time

from programs import all_programs
from sandboxes import sandboxed, status_of
from scenario import scenario
from system import SERVICES, Failure, Process, Skip, expect

NOBODY = 65534
CONSUMERS = ("alerts", "analytics", "calls", "logs", "rollups")
# A root of its own has no /proc: hosts are simulated.
PRODUCERS = {"call-producer": ("--calls-per-minute", "6000"),
             "event-producer": (), "log-producer": (),
             "metric-producer": ("--simulate", "2")}
# Started by themselves.
OTHERS = ("broker", "hello-consumer", "hello-producer", "millrace")

# $1 the root, $2 data, $3 run, $4 the broker's data, then the program as it is
# called inside.
ENTER = """
root=$1
mount --bind "$root" "$root"
mount --bind "$2" "$root/data"
mount --bind "$3" "$root/run"
mount --bind "$4" "$root/topics"
mount -o remount,bind,ro "$root"
shift 4
exec chroot %s "$root" "$@"
"""


class Root:
    """As root, programs run there as nobody; else as whoever runs this."""

    def __init__(self, system):
        self.system = system
        self.path = os.path.join(system.base, "root")
        for name in ("", "data", "run", "topics", "etc"):
            os.mkdir(os.path.join(self.path, name))
        os.makedirs(system.kafka_data, exist_ok=True)
        with open(os.path.join(self.path, "etc/hosts"), "w") as f:
            f.write("127.0.0.1 localhost\n::1 localhost\n")
        with open(os.path.join(self.path, "etc/resolv.conf"), "w") as f:
            f.write("nameserver 127.0.0.1\n")
        for name in os.listdir(system.settings.bin):
            if not name.endswith((".new", ".log")):
                shutil.copy(os.path.join(system.settings.bin, name),
                            self.path)
        self.is_root = os.geteuid() == 0
        if self.is_root:
            # The root too: it is the file system that refuses, not its mode.
            for folder in (self.path, system.data, system.run,
                           system.kafka_data):
                os.chown(folder, NOBODY, -1)

    def argv(self, program, *arguments):
        space = ["unshare", "--mount"] if self.is_root else \
            ["unshare", "--mount", "--map-root-user"]
        user = "--userspec=%d:%d" % (NOBODY, NOBODY) if self.is_root else ""
        return space + ["sh", "-ec", ENTER % user, "sh", self.path,
                        self.system.data, self.system.run,
                        self.system.kafka_data, "/" + program, *arguments]

    def run(self, program, *arguments, text=None):
        return subprocess.run(
            self.argv(program, *arguments), input=text, capture_output=True,
            text=True, timeout=60 * self.system.settings.patience, env={
                "PATH": os.environ["PATH"], "TMPDIR": "/data"})

    def start(self, program, *arguments):
        return Process(self.argv(program, *arguments),
                       self.system.log_of(program),
                       {"PATH": os.environ["PATH"]})


def unprivileged(system, name, pid):
    """That it is sandboxed, and isn't root."""
    sandboxed(pid, system.log(name))
    expect(status_of(pid)["Uid"].split()[1] != "0" or os.geteuid() != 0,
           "it runs as root")


def hello(root, brokers):
    """The pair: one writes a line, the other prints it."""
    done = root.run("hello-producer", "--brokers", brokers, "from nowhere")
    expect(done.returncode == 0 and "from nowhere" in done.stdout,
           "hello-producer: status %d, %s%s", done.returncode, done.stdout,
           done.stderr)
    consumer = root.start("hello-consumer", "--brokers", brokers)
    try:
        root.system.wait_for(
            "hello-consumer prints it",
            lambda: "from nowhere" in root.system.log("hello-consumer"))
    finally:
        consumer.end()


def confirmed(system):
    began = time.monotonic()
    answer = system.web("POST", "/orders", json.dumps(
        {"item": "Laptop", "quantity": 1}).encode(),
        {"Content-Type": "application/json"})
    expect(answer.status == 201, "POST /orders: %r", answer)
    path = "/orders/" + answer.json()["id"]

    def is_confirmed():
        status = system.web("GET", path).json()["status"]
        if status != "CONFIRMED":
            raise OSError(status)
        return True
    system.wait_for("the order is confirmed", is_confirmed)
    return 1000 * (time.monotonic() - began)


def broker_start(root):
    """In the root too, if it is that of this tree."""
    system = root.system
    system.kafka_process = root.start(
        "broker", "--listen", "127.0.0.1:%d" % system.kafka_port,
        "--data", "/topics", "--fcgi", "unix:/run/kafka.sock")
    system.kafka_wait()
    unprivileged(system, "broker", system.kafka_process.pid)


def others(system):
    """What producers make gets to those that count it."""
    for name in (*PRODUCERS, "price-producer"):
        system.wait_for("%s produces" % name, lambda n=name: system.metric(
            n, "millrace_messages_relayed_total"))
    for name in CONSUMERS:
        system.wait_for("%s consumes" % name, lambda n=name: system.metric(
            n, "millrace_messages_consumed_total"))


def ended(system, name, process):
    process.signal(15)
    try:
        status = process.popen.wait(20 * system.settings.patience)
    except subprocess.TimeoutExpired:
        raise Failure("%s doesn't stop" % name)
    expect(status == 0, "%s: status %d after SIGTERM", name, status)


@scenario(kind="own", small=False)
def empty_root(context):
    """All programs in an empty read-only root as nobody: an order confirmed."""
    system = context.system
    is_embedded = system.settings.broker == "embedded"
    if not is_embedded:
        system.kafka_start()  # while the folders are still its own user's
    root = Root(system)
    brokers = "localhost:%d" % system.kafka_port
    probe = root.run("orders", "--version")
    if probe.returncode != 0 and not root.is_root:
        raise Skip("no user namespaces: " + probe.stderr.strip())
    expect(probe.returncode == 0, "orders --version: %s", probe.stderr)
    started = (*SERVICES, *CONSUMERS, *PRODUCERS)
    expect({*started, *OTHERS} == set(all_programs(system.settings)),
           "there are other programs: %s", all_programs(system.settings))
    if is_embedded:
        broker_start(root)
    system.nginx_start()
    for name in started:
        system.services[name] = root.start(
            name, "--brokers", brokers, "--fcgi", "unix:/run/%s.sock" % name,
            *PRODUCERS.get(name, ()))
    system.ready(*started)
    for name in started:
        unprivileged(system, name, system.services[name].pid)
    context.say("confirmed after %d ms" % confirmed(system))
    others(system)
    hello(root, brokers)
    elsewhere = root.run("orders", "--brokers", brokers, "--db",
                         "/elsewhere.db")
    expect(elsewhere.returncode == 1 and "ead-only" in elsewhere.stderr,
           "a file in the root itself: status %d, %s", elsewhere.returncode,
           elsewhere.stderr)
    done = root.run("millrace", "state", "verify", "--data", "/data",
                    "--brokers", brokers)
    expect(done.returncode == 0, "millrace state verify: status %d, %s%s",
           done.returncode, done.stdout, done.stderr)
    for name in started:
        ended(system, name, system.services[name])
    if is_embedded:
        ended(system, "broker", system.kafka_process)
    context.say("%d programs" % (len(started) + len(OTHERS) -
                                 (not is_embedded)))
