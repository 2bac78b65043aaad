"""rooted -- the programs in an empty root that can't be written.

What an image FROM scratch has: the program, /etc/hosts and /etc/resolv.conf,
and two folders that are mounted into it, for the file and the socket.
"""

import json
import os
import shutil
import subprocess
import time

from scenario import scenario
from system import SERVICES, Failure, Process, expect

NOBODY = 65534

# $1 the root, $2 data, $3 run, then the program as it is called inside.
ENTER = """
root=$1
mount --bind "$root" "$root"
mount --bind "$2" "$root/data"
mount --bind "$3" "$root/run"
mount -o remount,bind,ro "$root"
shift 3
exec chroot %s "$root" "$@"
"""


class Root:
    """As root, programs run there as nobody; else as whoever runs this."""

    def __init__(self, system):
        self.system = system
        self.path = os.path.join(system.base, "root")
        for name in ("", "data", "run", "etc"):
            os.mkdir(os.path.join(self.path, name))
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
            for folder in (self.path, system.data, system.run):
                os.chown(folder, NOBODY, -1)

    def argv(self, program, *arguments):
        space = ["unshare", "--mount"] if self.is_root else \
            ["unshare", "--mount", "--map-root-user"]
        user = "--userspec=%d:%d" % (NOBODY, NOBODY) if self.is_root else ""
        return space + ["sh", "-ec", ENTER % user, "sh", self.path,
                        self.system.data, self.system.run, "/" + program,
                        *arguments]

    def run(self, program, *arguments, text=None):
        return subprocess.run(
            self.argv(program, *arguments), input=text, capture_output=True,
            text=True, timeout=60 * self.system.settings.patience, env={
                "PATH": os.environ["PATH"], "TMPDIR": "/data"})

    def start(self, program, *arguments):
        return Process(self.argv(program, *arguments),
                       self.system.log_of(program),
                       {"PATH": os.environ["PATH"]})


def unprivileged(system, pid):
    """That a process has no privilege left, and a root of its own."""
    with open("/proc/%d/status" % pid) as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f
                      if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        expect(int(status[name], 16) == 0, "%s is %s", name, status[name])
    expect(status["NoNewPrivs"] == "1", "it may gain privileges")
    expect(status["Seccomp"] == "2", "it has no filter of system calls")
    expect(status["Uid"].split()[1] != "0" or os.geteuid() != 0,
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


@scenario(kind="own", small=False)
def empty_root(context):
    """All programs in an empty read-only root as nobody: an order confirmed."""
    system = context.system
    system.kafka_start()  # while the folders are still its own user's
    root = Root(system)
    brokers = "localhost:%d" % system.kafka_port
    probe = root.run("orders", "--version")
    if probe.returncode != 0 and not root.is_root:
        context.say("left out: no user namespaces: " + probe.stderr.strip())
        return
    expect(probe.returncode == 0, "orders --version: %s", probe.stderr)
    system.nginx_start()
    for name in SERVICES:
        system.services[name] = root.start(
            name, "--brokers", brokers, "--fcgi", "unix:/run/%s.sock" % name)
    system.ready(*SERVICES)
    for name in SERVICES:
        unprivileged(system, system.services[name].pid)
    context.say("confirmed after %d ms" % confirmed(system))
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
    for name in SERVICES:
        process = system.services[name]
        process.signal(15)
        try:
            status = process.popen.wait(20 * system.settings.patience)
        except subprocess.TimeoutExpired:
            raise Failure("%s doesn't stop" % name)
        expect(status == 0, "%s: status %d after SIGTERM", name, status)
