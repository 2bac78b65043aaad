"""monitoring -- what an operator is told, by a real Prometheus."""

import glob
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import urllib.request

import clients
from faults import state_of
from kafka_wire import Kafka
from rooted import NOBODY
from scenario import scenario
from system import ROOT, Process, Skip, expect, free_port

RULES = os.path.join(ROOT, "deploy/monitoring/rules/*.yml")
DASHBOARDS = os.path.join(ROOT, "deploy/monitoring/grafana/dashboards")
PROGRAMS = ("promtool", "prometheus", "prometheus-alertmanager")
OTHERS = ("calls", "call-producer", "logs", "log-producer", "event-producer",
          "analytics", "metric-producer", "rollups", "alerts")
INSTANCES = ("kafka", "orders", "inventory", "notifications",
             "notifications-2", "prices", "price-producer") + OTHERS
# A family's name, as it is in a query or in the reference.
NAME = re.compile(r"\b(?:millrace|process)_[a-z0-9_]+\b")
SELECTOR = re.compile(
    r"\b((?:millrace:?|process_|up\b)[a-zA-Z0-9_:]*)(\{[^}]*\})?")
# In the reference, and only there with another --delivery.
OPTIONAL = {"millrace_direct_delivered_total",
            "millrace_direct_undelivered_total"}


def need(*programs):
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/bin"
    for program in programs:
        if not any(os.access(os.path.join(folder, program), os.X_OK)
                   for folder in path.split(":")):
            raise Skip("%s isn't installed" % program)


def run(argv, **how):
    done = subprocess.run(argv, capture_output=True, text=True, **how)
    expect(done.returncode == 0, "%s: %s%s", argv, done.stdout, done.stderr)
    return done.stdout


@scenario(kind=None)
def rules_are_sound(context):
    """promtool takes rules and their tests; each alert has a way out."""
    need("promtool")
    run(["promtool", "check", "rules"] + glob.glob(RULES))
    run(["promtool", "test", "rules", os.path.join(
        ROOT, "tests/monitoring/rules.yml")])
    run([os.path.join(ROOT, "deploy/monitoring/dashboards"), "--check"])
    with open(os.path.join(ROOT, "docs/RUNBOOK.md")) as f:
        anchors = {"docs/RUNBOOK.md#" + line[3:].strip().lower()
                   for line in f if line.startswith("## ")}
    with open(os.path.join(ROOT, "tests/monitoring/rules.yml")) as f:
        tests = f.read()
    told, alerts = set(), 0
    for path in glob.glob(RULES):
        with open(path) as f:
            blocks = f.read().split("- alert: ")[1:]
        for block in blocks:
            name = block.split()[0]
            said = dict(re.findall(
                r"^ {10}(summary|description|runbook): (.+)$", block, re.M))
            expect(len(said) == 3, "%s says only %s", name, sorted(said))
            expect(said["runbook"] in anchors, "%s: nothing is at %s", name,
                   said["runbook"])
            told.add(said["runbook"])
            expect(re.search(r'alertname(=~|!?=|: )"?' + name, tests) or
                   any(re.fullmatch(pattern, name) for pattern in re.findall(
                       r'alertname=~"([^"]+)"', tests)),
                   "no test has %s fire", name)
            alerts += 1
    expect(told == anchors, "no alert leads to %s", anchors - told)
    context.say("%d alerts" % alerts)


def start_all(context):
    """Everything that has metrics, and two instances of one service."""
    system = context.system
    system.start("notifications-2")
    for instance in OTHERS:
        system.start(instance, flags=(
            "--calls-per-minute", "6000") if instance == "call-producer"
                     else ())
    system.ready("notifications-2", *OTHERS)


def stop_others(system):
    system.stop("notifications-2", *OTHERS)


@scenario()
def every_metric_is_explained(context):
    """promtool finds no fault in any program's metrics, and each is in the
    reference; nothing else is."""
    need("promtool")
    system = context.system
    with open(os.path.join(ROOT, "docs/QUICK-REFERENCE.md")) as f:
        section = f.read().split("\n## Metrics\n")[1].split("\n## ")[0]
    explained = set(NAME.findall(section))
    start_all(context)
    found = set()
    for instance in INSTANCES:
        if instance == "kafka" and system.settings.broker != "embedded":
            continue
        answer = system.call(instance, "GET", "/metrics")
        text = answer.body.decode()
        run(["promtool", "check", "metrics"], input=text)
        families = set(re.findall(r"^# TYPE (\S+)", text, re.M))
        strange = families - explained
        expect(not strange, "%s has what docs/QUICK-REFERENCE.md doesn't: "
               "%s", instance, sorted(strange))
        expect("millrace_ready 1\n" in text, "%s isn't ready", instance)
        found |= families
        series = sum(not x.startswith("#") and "_bucket{" not in x
                     for x in text.splitlines())
        expect(series < 400, "%s has %d series", instance, series)
        other = system.call(instance, "GET", "/metrics", headers={
            "Accept": "application/openmetrics-text;version=1.0.0"})
        expect(other.headers["content-type"].startswith(
            "application/openmetrics-text; version=1.0.0") and
            other.body.endswith(b"\n# EOF\n"), "%s: %s", instance,
            other.headers)
    stop_others(system)
    if system.settings.broker == "embedded":
        gone = explained - found - OPTIONAL
        expect(not gone, "nothing has %s", sorted(gone))
    context.say("%d metrics" % len(found))


def unit_text(name):
    with open(os.path.join(ROOT, "deploy/systemd", name)) as f:
        return f.read()


def copy_unit(context, text, path):
    """The programs aren't installed here."""
    with open(path, "w") as f:
        f.write(text.replace("/usr/local/bin", context.settings.bin))


def takes_units(copies, units):
    """systemd-analyze finds no fault with them, which are in that folder."""
    done = subprocess.run(["systemd-analyze", "--man=no", "verify"] + units,
                          capture_output=True, text=True)
    faults = [x for x in done.stderr.splitlines() if copies in x or
              "millrace" in x]
    expect(done.returncode == 0 and not faults, "%s", done.stderr)


@scenario(kind=None)
def systemd_takes_the_units(context):
    """systemd-analyze finds no fault, and little exposed."""
    need("systemd-analyze")
    with tempfile.TemporaryDirectory() as copies:
        for name in os.listdir(os.path.join(ROOT, "deploy/systemd")):
            copy_unit(context, unit_text(name), os.path.join(copies, name))
        os.rename(os.path.join(copies, "millrace@.service"),
                  os.path.join(copies, "millrace@orders.service"))
        units = [os.path.join(copies, name) for name in (
            "millrace@orders.service", "millrace-broker.service",
            "millrace.target")]
        takes_units(copies, units)
        for path in units[:2]:
            run(["systemd-analyze", "security", "--offline=true",
                 "--threshold=15", path])


UNITS = ("millrace@.service", "millrace-broker.service")
SETTINGS = "-/etc/millrace/%s.env"
# What seccomp.c allows and no unit has to: only root gives files away, and
# nothing asks which pages are in memory.
NOT_UNDER_SYSTEMD = {"fchown", "mincore"}


def unit(name):
    """Its settings, each with its values in their order."""
    settings = {}
    for key, value in re.findall(r"(?m)^([A-Z]\w+)=(.*)$", unit_text(name)):
        settings.setdefault(key, []).append(value)
    return settings


@scenario(kind=None)
def units_read_what_is_for_all(context):
    """Each reads the settings for all and then its own."""
    for name, own in zip(UNITS, ("%i", "broker")):
        expect(unit(name)["EnvironmentFile"] == [
            SETTINGS % "millrace", SETTINGS % own], "%s: %s", name,
               unit(name)["EnvironmentFile"])


def further_instance():
    """What the README has added to the unit for it, with its settings."""
    text = unit_text("README.md").split("```ini\n")[1].split("```")[0]
    return text, [x.split("=", 1)[1] for x in text.splitlines()
                  if x.startswith("EnvironmentFile=")]


@scenario(kind=None)
def a_further_instance_is_set_like_the_first(context):
    """By the README, it reads all that the first one reads, and then its own;
    systemd-analyze finds no fault with it."""
    need("systemd-analyze")
    text, settings = further_instance()
    expect(settings == ["", SETTINGS % "millrace", SETTINGS % "notifications",
                        SETTINGS % "%i"], "it reads %s", settings)
    with tempfile.TemporaryDirectory() as copies:
        path = os.path.join(copies, "millrace@notifications-2.service")
        copy_unit(context, unit_text("millrace@.service"), path)
        os.mkdir(path + ".d")
        copy_unit(context, text, path + ".d/override.conf")
        takes_units(copies, [path])


def call_groups():
    """systemd's @groups of system calls, each with what it lists."""
    groups, names = {}, None
    for line in run(["systemd-analyze", "syscall-filter"]).splitlines():
        if line.startswith("@"):
            names = groups.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#"):
            names.append(line.strip())
    return groups


def calls_of(word, groups):
    if not word.startswith("@"):
        return {word}
    return {call for each in groups[word] for call in calls_of(each, groups)}


def calls_let_through(name):
    """By a unit's filter, whose later lines add to earlier ones or take."""
    groups, allowed = call_groups(), set()
    for line in unit(name)["SystemCallFilter"]:
        calls = {call for word in line.lstrip("~").split()
                 for call in calls_of(word, groups)}
        allowed = allowed - calls if line[0] == "~" else allowed | calls
    return allowed


def calls_needed():
    """Those that the programs keep for themselves, and those that they make
    by number, as to enter the sandbox."""
    with open(os.path.join(ROOT, "pkg/base/seccomp.c")) as f:
        text = f.read()
    kept = text.split(" allowed[] = {")[1].split("};")[0]
    needed = set(re.findall(r'"(\w+)"', kept))
    needed.update(re.findall(r"SCMP_SYS\((\w+)\)", text))
    for path in glob.glob(os.path.join(ROOT, "pkg/*/*.c")):
        with open(path) as f:
            needed.update(re.findall(r"\bSYS_(\w+)", f.read()))
    expect({"openat", "capset", "landlock_restrict_self", "sched_setattr"} <=
           needed, "read amiss: %s", sorted(needed))
    return needed - NOT_UNDER_SYSTEMD


@scenario(kind=None)
def units_leave_programs_their_calls(context):
    """The units' filters let through every system call that the programs make
    to work and to enter their sandbox."""
    need("systemd-analyze")
    for name in UNITS:
        lacking = calls_needed() - calls_let_through(name)
        expect(not lacking, "%s refuses %s", name, sorted(lacking))


@scenario(kind=None)
def units_keep_state_from_the_front(context):
    """nginx's user, who is in the group, gets to the sockets and to no file of
    a service."""
    for name in UNITS:
        settings = unit(name)
        expect(settings["UMask"] == ["0007"] and
               settings["RuntimeDirectoryMode"] == ["0750"],
               "%s keeps the front from its sockets", name)
        expect(settings["StateDirectoryMode"] == ["0700"],
               "%s gives its files to its group", name)


# One of the service's name and user, with users of its own as another unit has
# them, that stops with the right to write (pen.c).
HOLDER = """
import ctypes, fcntl, os, signal, sys
libc, user = ctypes.CDLL(None), int(sys.argv[3])
libc.prctl(15, sys.argv[2].encode())
os.setresgid(user, user, user)
os.setresuid(user, user, user)
libc.prctl(4, 1)
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o660)
fcntl.lockf(lock, fcntl.LOCK_EX, 1, 0)
assert libc.unshare(0x10000000) == 0
os.kill(os.getpid(), signal.SIGSTOP)
"""


def within_a_unit(name):
    """A command in front of a program: /proc and users as the unit has it."""
    settings = unit(name)
    hidden = settings.get("ProtectProc", ["off"])[0]
    users = "unshare --user --map-user=%d --map-group=%d" % (
        NOBODY, NOBODY) if settings["PrivateUsers"] == ["yes"] else ""
    return ("unshare", "--mount", "sh", "-ec",
            "mount -t proc -o hidepid=%s proc /proc; exec setpriv --reuid %d"
            ' --regid %d --clear-groups %s "$@"' % (
                hidden, NOBODY, NOBODY, users), "sh")


@scenario(kind="own", seconds=7)
def a_stopped_holder_is_killed_under_systemd(context):
    """What the unit hides of other processes isn't what an instance has to see
    of another one that stopped with the right to write."""
    if os.geteuid() != 0:
        raise Skip("it takes root to mount a /proc")
    probe = subprocess.run([*within_a_unit("millrace@.service"), "unshare",
                            "--user", "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        raise Skip("no /proc or users of its own: " + probe.stderr.strip())
    system = context.system
    system.kafka_start()
    for folder in (system.data, system.run):
        os.chown(folder, NOBODY, NOBODY)
    holder = Process([sys.executable, "-c", HOLDER, system.db_of("inventory") +
                      ".writer", "inventory", str(NOBODY)],
                     system.log_of("holder"))
    try:
        system.wait_for("it is stopped", lambda: state_of(holder.pid) == "T")
        system.start("inventory", within=within_a_unit("millrace@.service"))
        system.wait_for("it is killed", lambda:
                        holder.poll() == -signal.SIGKILL)
        system.ready("inventory")
    finally:
        holder.end()


SIZE = 1000000  # of a record; four are more than sockets take unread


def ask_and_not_read(port):
    """A reader whose answer is under way, and can't be written whole."""
    kafka = Kafka(port)
    kafka.create_topic("large", 1)
    for _ in range(4):
        kafka.send("large", 0, b"x" * SIZE)
    kafka.fetch_ask("large", 0, 0)
    expect(kafka.sock.recv(4, socket.MSG_PEEK), "no answer")
    return kafka


@scenario(kind=None)
def a_service_manager_is_told(context):
    """READY=1 when it serves, WATCHDOG=1 while it lives, and STOPPING=1 while
    requests are still being answered."""
    with tempfile.TemporaryDirectory() as folder:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(os.path.join(folder, "notify"))
        manager.settimeout(30 * context.settings.patience)
        port = free_port(set())
        process = subprocess.Popen(
            [os.path.join(context.settings.bin, "broker"), "--data",
             os.path.join(folder, "data"), "--listen", "127.0.0.1:%d" %
             port, "--drain-ms", "1m", "--fcgi", "unix:" +
             os.path.join(folder, "sock")],
            stderr=subprocess.DEVNULL,
            env=dict(os.environ, NOTIFY_SOCKET=manager.getsockname(),
                     WATCHDOG_USEC="200000"))
        try:
            expect(manager.recv(99) == b"READY=1", "no READY=1")
            expect(clients.fcgi(os.path.join(folder, "sock"), "GET",
                                "/livez").status == 200, "not alive")
            for _ in range(3):
                expect(manager.recv(99) == b"WATCHDOG=1", "no WATCHDOG=1")
            reader = ask_and_not_read(port)
            process.terminate()
            told = manager.recv(99)
            while told == b"WATCHDOG=1":
                told = manager.recv(99)
            expect(told == b"STOPPING=1", "%s", told)
            records = reader.fetch_answer("large", 0, 0)
            expect(len(records) == 4, "only %d records", len(records))
            reader.close()
            expect(process.wait(30 * context.settings.patience) == 0,
                   "status %s", process.returncode)
        finally:
            process.kill()
            process.wait()
            manager.close()


class Webhook(http.server.ThreadingHTTPServer):
    """Keeps what Alertmanager posts: (status, alert's labels)."""

    def __init__(self):
        self.told = []
        super().__init__(("127.0.0.1", 0), WebhookHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def has(self, status, **labels):
        return any(told == status and labels.items() <= have.items()
                   for told, have in list(self.told))


class WebhookHandler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for alert in json.loads(body)["alerts"]:
            self.server.told.append((alert["status"], alert["labels"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


class Monitoring:
    """`deploy/local/monitoring start`, in a hurry: a second for what takes
    a quarter of a minute there, and alerts that wait for two."""

    def __init__(self, system):
        self.system = system
        ports = set()
        self.port = free_port(ports)
        self.webhook = Webhook()
        rules = os.path.join(system.base, "rules.yml")
        with open(rules, "w") as out:
            groups = []
            for path in sorted(glob.glob(RULES)):
                with open(path) as f:
                    groups.append(f.read().split("groups:\n")[1])
            out.write("groups:\n" + re.sub(
                r"^( +for:) \S+$", r"\1 2s", "".join(groups), flags=re.M))
        self.env = dict(
            system.local_env(), SCRAPE_INTERVAL="1s", ALERT_RULES=rules,
            PROMETHEUS_PORT=str(self.port),
            ALERTMANAGER_PORT=str(free_port(ports)),
            ALERT_WEBHOOK="http://127.0.0.1:%d/" %
            self.webhook.server_address[1])

    def local(self, name, *args):
        run([os.path.join(ROOT, "deploy/local", name)] + list(args),
            env=self.env)

    def close(self):
        self.local("monitoring", "stop")
        self.webhook.shutdown()
        self.webhook.server_close()

    def get(self, path, **query):
        url = "http://127.0.0.1:%d/api/v1/%s?%s" % (
            self.port, path, urllib.parse.urlencode(query))
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def has_data(self, query):
        return len(self.get("query", query=query)["result"]) > 0


def queries():
    """What the panels ask, and of the rules each selector: an alert's whole
    query has data only when it fires."""
    asked = set()
    for path in glob.glob(os.path.join(DASHBOARDS, "*.json")):
        with open(path) as f:
            for panel in json.load(f)["panels"]:
                asked.update(x["expr"].replace("$__rate_interval", "1m")
                             .replace("$program", "orders")
                             for x in panel["targets"])
    for path in glob.glob(RULES):
        with open(path) as f:
            for expr in re.findall(
                    r"^ +expr: (?:>-\n)?((?:.+\n)(?:^ {10}\S.*\n)*)",
                    f.read(), re.M):
                asked.update(name + labels
                             for name, labels in SELECTOR.findall(expr))
    return sorted(asked)


def wait_for_data(context, monitoring):
    """Every query has data, once there were orders and time for a rate."""
    system, left = context.system, queries()
    context.say("%d queries" % len(left))
    others = r"\bkafka_" if system.settings.broker == "embedded" else (
        r"\bmillrace_broker_")
    left = [x for x in left if not re.search(others, x)]

    def all_have():
        system.web("POST", "/orders", json.dumps(
            {"item": "Laptop", "quantity": 1}),
                   {"Content-Type": "application/json"})
        left[:] = [x for x in left if not monitoring.has_data(x)]
        if left:
            raise OSError("no data: %s" % "; ".join(left))
        return True
    system.wait_for("every query has data", all_have, 30, 0.5)


def wait_until_found(context, monitoring):
    def all_up():
        have = {x["metric"]["instance"] for x in monitoring.get(
            "query", query='up{job="millrace"} == 1')["result"]}
        lacking = set(INSTANCES) - have
        if lacking:
            raise OSError("not found: %s" % sorted(lacking))
        return True
    context.system.wait_for("Prometheus finds all instances", all_up)


@scenario(spoils=True, seconds=20)
def alerts_reach_their_webhook(context):
    """A killed consumer's alert gets to the webhook and is taken back; all
    queries of rules and panels have data; all instances are found."""
    need(*PROGRAMS)
    system = context.system
    start_all(context)
    system.nginx_scale(notifications=2)
    monitoring = Monitoring(system)
    try:
        monitoring.local("targets", *INSTANCES)
        monitoring.local("monitoring", "start")
        wait_until_found(context, monitoring)
        wait_for_data(context, monitoring)
        system.kill("notifications-2", restart=False)
        labels = {"alertname": "MillraceDown", "instance": "notifications-2"}
        system.wait_for("the alert reaches the webhook", lambda:
                        monitoring.webhook.has("firing", **labels))
        expect(not monitoring.webhook.has("resolved", **labels),
               "it was taken back while the consumer was down")
        system.start("notifications-2")
        system.wait_for("the alert is taken back", lambda:
                        monitoring.webhook.has("resolved", **labels))
    finally:
        monitoring.close()
