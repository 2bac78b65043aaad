"""system -- a whole Millrace of one's own: Kafka, services, nginx.

Everything lives below one temporary directory, on ports of its own.  Every
process is the leader of a process group that close() kills, whatever
happened.  A service that ends without having been told to is started again,
as its supervisor would, and its end is kept for the tests to look at.
"""

import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time

import clients
from kafka_wire import Kafka

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
SERVICES = ("orders", "inventory", "notifications", "prices",
            "price-producer")
INPUTS = {
    "orders": "inventory-events", "inventory": "order-events",
    "notifications": "inventory-events", "prices": "stock-prices",
}
OUTPUTS = ("order-events", "inventory-events", "stock-prices")


class Failure(Exception):
    """A test's expectation that wasn't met."""


class Skip(Exception):
    """What a scenario needs isn't here: it is neither passed nor failed."""


class Settings:
    """What the runner was told.

    ``slow`` stretches what the scenarios make last, sessions and pauses, and
    ``patience`` how long they wait for what has to come: it may come late on
    a busy machine, and costs nothing where it comes in time.
    """

    def __init__(self, bin_dir, failpoints_dir, slow, small, keep,
                 broker="embedded"):
        self.broker = broker  # or "kafka"
        self.bin = bin_dir
        self.failpoints_bin = failpoints_dir
        self.slow = slow
        self.patience = 3 * slow
        self.small = small
        self.keep = keep


def expect(condition, what, *args):
    if not condition:
        raise Failure(what % args if args else what)


def free_port(taken):
    """One of those that no connection is given, as one could have it while
    its owner is being started again."""
    while True:
        port = random.SystemRandom().randrange(10240, 32768)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in taken:
            taken.add(port)
            return port


def program_of(instance):
    name, _, number = instance.rpartition("-")
    return name if number.isdigit() else instance


class Process:
    """A program in a process group of its own, its output in a file."""

    def __init__(self, argv, log, env=None, cwd=None):
        self.argv = argv
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=env, cwd=cwd, start_new_session=True)
        self.pid = self.popen.pid

    def poll(self):
        return self.popen.poll()

    def signal(self, number):
        if self.popen.poll() is None:
            self.popen.send_signal(number)

    def end(self):
        """Kill what is left of the group, and wait."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self.popen.wait()


class System:
    def __init__(self, settings):
        self.settings = settings
        self.base = tempfile.mkdtemp(prefix="millrace-scenario-")
        os.chmod(self.base, 0o755)
        self.data = self._folder("data")
        self.run = self._folder("run")
        self.logs = self._folder("logs")
        self.copies = self._folder("copies")
        ports = set()
        self.kafka_port = free_port(ports)
        self.controller_port = free_port(ports)
        self.kafka_metrics_port = free_port(ports)
        self.brokers = "127.0.0.1:%d" % self.kafka_port  # for clients
        self.web_port = free_port(ports)
        self.kafka_data = os.path.join(self.base, "kafka-data")
        self.kafka_settings = {}  # for its environment
        self.kafka_process = None
        self.nginx_process = None
        self.lock = threading.RLock()
        self.services = {}  # instance: Process
        self.starts = {}    # instance: its last arguments to start()
        self.wanted = set()
        self.ends = []      # (instance, pid, status) nobody asked for
        self.plans = {}     # instance: failpoints for its next starts
        self.failpoints = {}  # instance: the one that it was started with
        self.starts_at = {}   # instance: its log's size at its last start
        self.power_cuts = 0   # begun; no answer gets out during one
        self.closing = threading.Event()
        self.keeper = None

    def _folder(self, name):
        path = os.path.join(self.base, name)
        os.mkdir(path)
        return path

    # -- waiting ----------------------------------------------------------

    def wait_for(self, what, condition, seconds=30, every=0.05):
        """Until condition() is true; returns what it returned.  Errors of
        files and sockets count as not yet."""
        deadline = time.monotonic() + seconds * self.settings.patience
        last = None
        while True:
            try:
                last = condition()
                if last:
                    return last
            except (OSError, sqlite3.Error) as error:
                last = error
            if time.monotonic() > deadline:
                raise Failure("%s: not within %d s (last: %r)" %
                              (what, seconds * self.settings.patience, last))
            time.sleep(every)

    # -- Kafka ------------------------------------------------------------

    def kafka(self):
        """A connection of the caller's own."""
        return Kafka(self.kafka_port)

    def _kafka_env(self):
        return dict(
            os.environ, KAFKA_PORT=str(self.kafka_port),
            KAFKA_CONTROLLER_PORT=str(self.controller_port),
            KAFKA_METRICS_PORT=str(self.kafka_metrics_port),
            KAFKA_DATA=self.kafka_data,
            KAFKA_RUN=os.path.join(self.base, "kafka-run"),
            KAFKA_HEAP="256m", **self.kafka_settings)

    def kafka_start(self, wait=True, flags=(), failpoints=False):
        """Flags and failpoints are the embedded broker's."""
        if self.settings.broker == "embedded":
            bin_from = self.settings.failpoints_bin if failpoints \
                else self.settings.bin
            argv = [os.path.join(bin_from, "broker"),
                    "--listen", "127.0.0.1:%d" % self.kafka_port,
                    "--data", self.kafka_data,
                    "--fcgi", "unix:" + self.socket_of("kafka")] + list(flags)
        else:
            argv = [os.path.join(ROOT, "deploy/local/kafka"), "run"]
        self.kafka_process = Process(
            argv, os.path.join(self.logs, "kafka.log"), self._kafka_env())
        if wait:
            self.kafka_wait()

    def kafka_wait(self):
        def answers():
            if self.kafka_process.poll() is not None:
                raise Failure("the broker ended with status %d" %
                              self.kafka_process.poll())
            return self.kafka_answers()
        self.wait_for("the broker answers", answers, 90, 0.1)

    def kafka_answers(self):
        """1 if the broker serves, 0 if it can't be reached."""
        try:
            kafka = self.kafka()
        except OSError:
            return 0
        try:
            kafka.partitions("order-events")
            return 1
        except OSError:
            return 0
        finally:
            kafka.close()

    def kafka_kill(self):
        """kill -9; it must not have ended by itself."""
        status = self.kafka_process.end()
        self.kafka_process = None
        expect(status == -signal.SIGKILL, "the broker ended with status %d",
               status)

    # -- nginx ------------------------------------------------------------

    def local_env(self):
        """For the scripts in deploy/local, to be about this system."""
        return dict(os.environ, MILLRACE_RUN=self.run,
                    MILLRACE_DATA=self.data,
                    MILLRACE_PORT=str(self.web_port),
                    MILLRACE_BUILD=os.path.dirname(self.settings.bin),
                    KAFKA_METRICS_PORT=str(self.kafka_metrics_port),
                    BROKER=self.settings.broker)

    def nginx_conf(self, scale=None):
        """Write its configuration; returns its path."""
        os.makedirs(os.path.join(self.run, "scale"), exist_ok=True)
        for program, count in (scale or {}).items():
            with open(os.path.join(self.run, "scale", program), "w") as f:
                f.write("%d\n" % count)
        made = subprocess.run(
            [os.path.join(ROOT, "deploy/local/nginx-conf")],
            env=self.local_env(), capture_output=True, text=True)
        expect(made.returncode in (0, 3), "nginx-conf: %s", made.stderr)
        return os.path.join(self.run, "nginx/nginx.conf")

    def nginx_scale(self, **scale):
        """Have nginx know so many instances of a program."""
        self.nginx_conf(scale)
        self.nginx_process.signal(signal.SIGHUP)

    def nginx_start(self, scale=None):
        conf = self.nginx_conf(scale)
        with open(conf) as f:
            if "user www-data;" in f.read():
                shutil.chown(self.run, group="www-data")
                os.chmod(self.run, 0o2755)
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        self.nginx_process = Process(
            ["nginx", "-e", "stderr", "-c", conf],
            os.path.join(self.logs, "nginx.log"),
            dict(os.environ, PATH=path))
        self.wait_for("nginx answers", lambda: clients.web(
            self.web_port, "GET", "/favicon.ico").status)

    def web(self, method, path, body=None, headers=None):
        return clients.web(self.web_port, method, path, body, headers,
                           30 * self.settings.patience)

    # -- services ---------------------------------------------------------

    def process_of(self, instance):
        """"kafka" is the broker."""
        if instance == "kafka":
            return self.kafka_process
        return self.services[instance]

    def socket_of(self, instance):
        return os.path.join(self.run, instance + ".sock")

    def db_of(self, instance):
        return os.path.join(self.data, program_of(instance) + ".db")

    def log_of(self, instance):
        return os.path.join(self.logs, instance + ".log")

    def start(self, instance, flags=(), failpoint=None, failpoints=False,
              brokers=None, db=None, session_ms=None, bin_dir=None,
              extra_env=None, within=()):
        """Start an instance; its arguments hold for restarts after an
        unexpected end, except for the failpoint.  within: a command that
        becomes its arguments, in surroundings of its own making."""
        bin_from = bin_dir or (self.settings.failpoints_bin if failpoints
                               else self.settings.bin)
        session_ms = session_ms or int(3000 * self.settings.slow)
        argv = list(within) + [
            os.path.join(bin_from, program_of(instance)),
            "--brokers", brokers or self.brokers,
            "--db", db or self.db_of(instance),
            "--fcgi", "unix:" + self.socket_of(instance),
            "--instance", instance, "--log-records-per-second", "5",
            "--property", "session.timeout.ms=%d" % session_ms,
            "--property", "heartbeat.interval.ms=%d" % (session_ms // 5),
        ] + list(flags)
        if program_of(instance) == "price-producer" and \
                "--interval-ms" not in argv:
            argv += ["--interval-ms", "200"]
        env = {k: v for k, v in os.environ.items()
               if not k.startswith("MILLRACE_")}
        env.update(extra_env or {})
        if failpoint:
            env["MILLRACE_FAILPOINT"] = failpoint
        with self.lock:
            expect(self.services.get(instance) is None or
                   self.services[instance].poll() is not None,
                   "%s runs already", instance)
            self.starts[instance] = dict(
                flags=flags, failpoints=failpoints, brokers=brokers, db=db,
                session_ms=session_ms, bin_dir=bin_dir, extra_env=extra_env,
                within=within)
            self.failpoints[instance] = failpoint
            self.starts_at[instance] = self.log_size(instance)
            self.services[instance] = Process(argv, self.log_of(instance),
                                              env)
            self.wanted.add(instance)
            if self.keeper is None:
                self.keeper = threading.Thread(target=self._keep, daemon=True)
                self.keeper.start()
        return self.services[instance].pid

    def start_all(self, instances=SERVICES, **how):
        for instance in instances:
            if not self.runs(instance):
                self.start(instance, **how)
        self.ready(*instances)

    def runs(self, instance):
        process = self.services.get(instance)
        return process is not None and process.poll() is None

    def running(self):
        return [i for i in self.services if self.runs(i)]

    def _keep(self):
        """The supervisor: start again what ended unasked, with the next
        failpoint of its plan."""
        while not self.closing.wait(0.02):
            with self.lock:
                for instance in sorted(self.wanted):
                    process = self.services[instance]
                    status = process.poll()
                    if status is None:
                        continue
                    self.ends.append((instance, process.pid, status))
                    self._again(instance)

    def _again(self, instance):
        plan = self.plans.get(instance)
        self.start(instance, failpoint=plan.pop(0) if plan else None,
                   **self.starts[instance])

    def kill(self, instance, restart=True):
        """kill -9, and start it again unless told otherwise."""
        with self.lock:
            process = self.services[instance]
            process.signal(signal.SIGKILL)
            process.popen.wait()
            if restart:
                self._again(instance)
            else:
                self.wanted.discard(instance)
        return process.pid

    def signal(self, instance, number):
        self.services[instance].signal(number)

    def stop(self, *instances, seconds=20):
        """SIGTERM to all, then wait for all; returns their statuses."""
        with self.lock:
            self.wanted.difference_update(instances)
            for instance in instances:
                self.signal(instance, signal.SIGTERM)
        statuses = []
        for instance in instances:
            process = self.services[instance]
            self.wait_for("%s stops" % instance,
                          lambda p=process: p.poll() is not None, seconds)
            statuses.append(process.poll())
        return statuses

    def stop_all(self):
        names = self.running()
        statuses = self.stop(*names)
        bad = ["%s: %d" % (n, s) for n, s in zip(names, statuses) if s]
        expect(not bad, "exit statuses after SIGTERM: %s", ", ".join(bad))

    def call(self, instance, method, path, body=b"", headers=None):
        return clients.fcgi(self.socket_of(instance), method, path, body,
                            headers, 30 * self.settings.patience)

    def readiness(self, instance):
        """(ready, the reason given)."""
        try:
            answer = self.call(instance, "GET", "/readyz")
        except OSError as error:
            return False, str(error)
        return answer.status == 200, answer.body.decode("utf-8", "replace")

    def ready(self, *instances, seconds=40):
        for instance in instances:
            def is_ready(i=instance):
                ok, why = self.readiness(i)
                if not ok:
                    raise OSError(why)
                return ok
            self.wait_for("%s is ready" % instance, is_ready, seconds)

    def metric(self, instance, name, labels=""):
        """The sum of a metric's samples whose labels contain a text."""
        text = self.call(instance, "GET", "/metrics").body.decode()
        found = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                 if (line.startswith(name + " ") or
                     line.startswith(name + "{")) and labels in line]
        return sum(found)

    def log(self, instance, since=0):
        try:
            with open(self.log_of(instance), "rb") as f:
                f.seek(since)
                return f.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def log_size(self, instance):
        try:
            return os.path.getsize(self.log_of(instance))
        except FileNotFoundError:
            return 0

    def select(self, service, sql, *args):
        path = "file:%s?mode=ro" % self.db_of(service)
        connection = sqlite3.connect(path, uri=True, timeout=10)
        try:
            return connection.execute(sql, args).fetchall()
        finally:
            connection.close()

    def value(self, service, sql, *args):
        """The first column of the first row; no row is an OSError, which
        wait_for() takes for not yet."""
        rows = self.select(service, sql, *args)
        if not rows:
            raise OSError("no rows: " + sql)
        return rows[0][0]

    # -- the end ----------------------------------------------------------

    def tails(self, lines=8):
        """What the logs say that may explain a failure."""
        out = []
        for name in sorted(os.listdir(self.logs)):
            with open(os.path.join(self.logs, name), "rb") as f:
                text = f.read()[-60000:].decode("utf-8", "replace")
            kept = text.splitlines()
            if name not in ("kafka.log", "nginx.log"):
                bad = [t for t in kept if "level=info" not in t]
                kept = bad[-lines:] + kept[-2:] if bad else kept[-3:]
            else:
                kept = kept[-4:]
            out.append("    -- %s" % name)
            out += ["    " + t[:300] for t in kept]
        return "\n".join(out)

    def close(self):
        self.closing.set()
        if self.keeper is not None:
            self.keeper.join()
        processes = list(self.services.values())
        processes += [self.kafka_process, self.nginx_process]
        for process in processes:
            if process is not None:
                process.end()
        if not self.settings.keep:
            shutil.rmtree(self.base, ignore_errors=True)
