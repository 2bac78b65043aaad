"""rig -- what the benches run on: a Kafka, an nginx and services of their own.

State lies beside the build, since a temporary folder in memory would make
fsync free.  Sockets and nginx's files lie in a temporary folder, since a
socket's path may have 107 bytes.  Every process is the leader of a process
group, and close() ends them all, whatever happened.
"""

import ctypes
import http.client
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.path.append(os.path.join(ROOT, "tests/scenario"))
import system  # noqa: E402

HERE = os.path.join(ROOT, "tests", "bench")
TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)
TAKEN = set()


def say(text):
    print("  " + text, file=sys.stderr, flush=True)


def free_port():
    return system.free_port(TAKEN)


def free_ports(count):
    """The first of so many in a row."""
    while True:
        first = free_port()
        try:
            for port in range(first, first + count):
                with socket.socket() as sock:
                    sock.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue


class Trouble(Exception):
    """The bench can't be done; the words say why."""


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_for(what, condition, seconds=60, every=0.05):
    """Until condition() is true; errors of files and sockets are not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            last = condition()
            if last:
                return last
        except (OSError, sqlite3.Error) as error:
            last = error
        if time.monotonic() > deadline:
            raise Trouble("%s: not within %d s (last: %s)" %
                          (what, seconds, last))
        time.sleep(every)


def cpu_s(pid):
    """CPU time of all of a process's threads, in seconds; a tick is 10 ms."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def fcgi_record(kind, content):
    return (bytes((1, kind, 0, 1)) + len(content).to_bytes(2, "big") +
            b"\0\0" + content)


def fcgi_param(name, value):
    name, value = name.encode(), value.encode()
    return (b"".join(
        bytes((n,)) if n < 128 else (n | 1 << 31).to_bytes(4, "big")
        for n in (len(name), len(value))) + name + value)


def fcgi(path, method, url, body=b""):
    """One FastCGI request over a unix socket: (status, body)."""
    params = b"".join(fcgi_param(name, value) for name, value in (
        ("REQUEST_METHOD", method), ("REQUEST_URI", url),
        ("QUERY_STRING", url.partition("?")[2]),
        ("CONTENT_TYPE", "application/json" if body else ""),
        ("CONTENT_LENGTH", str(len(body)) if body else ""),
        ("SERVER_PROTOCOL", "HTTP/1.1")))
    request = (fcgi_record(1, b"\0\1\0\0\0\0\0\0") + fcgi_record(4, params) +
               fcgi_record(4, b"") +
               (fcgi_record(5, body) if body else b"") + fcgi_record(5, b""))
    answer = b""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(path)
        sock.sendall(request)
        raw = b"".join(iter(lambda: sock.recv(65536), b""))
    while raw:
        size = int.from_bytes(raw[4:6], "big")
        if raw[1] == 6:
            answer += raw[8:8 + size]
        raw = raw[8 + size + raw[6]:]
    head, _, rest = answer.partition(b"\r\n\r\n")
    status = re.search(rb"^Status: (\d+)", head, re.M)
    return int(status.group(1)) if status else 200, rest


class Process:
    def __init__(self, argv, log, env=None):
        self.argv = argv
        self.log = log
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=env, start_new_session=True, preexec_fn=die_with_parent)
        self.pid = self.popen.pid

    def runs(self):
        return self.popen.poll() is None

    def end(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()

    def tail(self):
        with open(self.log, errors="replace") as f:
            return "".join(f.readlines()[-8:])

    def cpu_s(self):
        return cpu_s(self.pid)

    def memory_kib(self):
        """Resident memory in KiB: {total, anonymous, of files}."""
        with open("/proc/%d/status" % self.pid) as f:
            text = f.read()
        return {name: int(re.search(r"^%s:\s+(\d+) kB" % key, text,
                                    re.M).group(1))
                for name, key in (("rss", "VmRSS"), ("anonymous", "RssAnon"),
                                  ("file", "RssFile"), ("peak", "VmHWM"))}


class Rig:
    def __init__(self, build, broker="embedded"):
        self.build = build
        self.broker = broker
        self.base = os.path.join(build, "bench-work")
        shutil.rmtree(self.base, ignore_errors=True)
        self.data = os.path.join(self.base, "data")
        self.logs = os.path.join(self.base, "logs")
        os.makedirs(self.data)
        os.makedirs(self.logs)
        self.run = tempfile.mkdtemp(prefix="millrace-bench-")
        os.chmod(self.run, 0o755)
        self.kafka_port = free_ports(6)  # of three brokers and controllers
        self.kafka_brokers = 1
        self.web_port = free_port()
        self.processes = {}

    def close(self, keep):
        for process in reversed(list(self.processes.values())):
            process.end()
        shutil.rmtree(self.run, ignore_errors=True)
        if not keep:
            shutil.rmtree(self.base, ignore_errors=True)

    def spawn(self, name, argv, env=None):
        self.processes[name] = Process(
            argv, os.path.join(self.logs, name + ".log"), env)
        return self.processes[name]

    def check(self):
        for name, process in self.processes.items():
            if not process.runs():
                raise Trouble("%s ended with status %d:\n%s" % (
                    name, process.popen.returncode, process.tail()))

    def end(self, name):
        process = self.processes.pop(name, None)
        if process:
            process.end()

    def stop(self, name):
        """SIGTERM, and wait for the clean end."""
        process = self.processes.pop(name)
        process.popen.send_signal(signal.SIGTERM)
        if process.popen.wait(30) != 0:
            raise Trouble("%s ended with status %d:\n%s" % (
                name, process.popen.returncode, process.tail()))

    # -- a broker and nginx -----------------------------------------------

    @property
    def brokers(self):
        return ",".join("127.0.0.1:%d" % (self.kafka_port + n)
                        for n in range(self.kafka_brokers))

    def broker_start(self):
        """The one that was asked for, with the settings of `make run`."""
        if self.broker == "kafka":
            self.kafka_start()
        elif "broker" not in self.processes:
            self.spawn("broker", [
                os.path.join(self.build, "bin", "broker"),
                "--listen", self.brokers,
                "--data", os.path.join(self.data, "broker"),
                "--fcgi", "unix:" + self.socket_of("broker")])
            wait_for("the broker is ready",
                     lambda: self.call("broker", "GET", "/readyz")[0] == 200)

    def kafka_start(self, arguments="", brokers=1):
        """Apache Kafka: one broker, or a cluster of three."""
        if "kafka" in self.processes:
            return
        self.kafka_brokers = brokers
        script = os.path.join(ROOT, "deploy/local/kafka")
        env = dict(os.environ, KAFKA_BROKERS=str(brokers),
                   KAFKA_PORT=str(self.kafka_port),
                   KAFKA_CONTROLLER_PORT=str(self.kafka_port + brokers),
                   KAFKA_ARGS=arguments,
                   KAFKA_DATA=os.path.join(self.base, "kafka-data"),
                   KAFKA_RUN=os.path.join(self.base, "kafka-run"))
        # All at once, as one alone waits for the others.
        for n in range(1, brokers + 1):
            self.spawn("kafka" if n == 1 else "kafka-%d" % n,
                       [script, "run"], dict(env, KAFKA_NODE=str(n)))

        def answers():
            self.check()
            return subprocess.run([script, "wait"], capture_output=True,
                                  env=dict(env, KAFKA_WAIT="5")
                                  ).returncode == 0
        wait_for("Kafka answers", answers, 300, 0.2)

    def nginx_start(self):
        """nginx with the template of `make run`, on a port of its own."""
        if "nginx" in self.processes:
            return
        env = dict(os.environ, MILLRACE_RUN=self.run,
                   MILLRACE_DATA=self.data, MILLRACE_BUILD=self.build,
                   MILLRACE_PORT=str(self.web_port))
        made = subprocess.run([os.path.join(ROOT, "deploy/local/nginx-conf")],
                              env=env, capture_output=True, text=True)
        if made.returncode not in (0, 3):
            raise Trouble("nginx-conf: " + made.stderr)
        conf = os.path.join(self.run, "nginx", "nginx.conf")
        with open(conf) as f:
            if "user www-data;" in f.read():
                shutil.chown(self.run, group="www-data")
                os.chmod(self.run, 0o2755)
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        self.spawn("nginx", ["nginx", "-e", "stderr", "-c", conf],
                   dict(os.environ, PATH=path))
        wait_for("nginx answers", lambda: socket.create_connection(
            ("127.0.0.1", self.web_port)).close() is None)

    # -- programs ---------------------------------------------------------

    def socket_of(self, program):
        # The broker has the name that nginx passes to it by.
        return os.path.join(self.run, {"broker": "kafka"}.get(
            program, program) + ".sock")

    def db_of(self, program):
        return os.path.join(self.data, program + ".db")

    def start(self, program, *flags, ready=True):
        """A service with flags of its own, until it is ready."""
        env = {k: v for k, v in os.environ.items()
               if not k.startswith("MILLRACE_")}
        process = self.spawn(program, [
            os.path.join(self.build, "bin", program),
            "--brokers", self.brokers, "--db", self.db_of(program),
            "--fcgi", "unix:" + self.socket_of(program),
            "--log-records-per-second", "0"] + list(flags), env)

        def is_ready():
            self.check()
            status, body = self.call(program, "GET", "/readyz")
            if status != 200:
                raise OSError(body.decode(errors="replace"))
            return True
        if ready:
            wait_for(program + " is ready", is_ready)
        return process

    def nothing(self, program):
        """The do-nothing program, in a service's place behind nginx."""
        self.spawn("nothing", [self.program("nothing"),
                               self.socket_of(program)])
        wait_for("nothing answers",
                 lambda: fcgi(self.socket_of(program), "GET", "/")[0] == 200)

    def program(self, name):
        return os.path.join(self.build, "bench", name)

    def output(self, *argv):
        """What a program of the benches prints, as a dictionary."""
        done = subprocess.run([self.program(argv[0])] + list(argv[1:]),
                              capture_output=True, text=True,
                              preexec_fn=die_with_parent)
        if done.returncode != 0:
            raise Trouble("%s: %s" % (argv[0], done.stderr.strip()))
        pairs = (word.split("=") for word in done.stdout.split())
        return {name: float(value) for name, value in pairs}

    def call(self, program, method, url, body=b""):
        return fcgi(self.socket_of(program), method, url, body)

    def get(self, url, header=None):
        """Through nginx: (status, headers, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.web_port,
                                                timeout=30)
        try:
            connection.request("GET", url, headers=dict(
                [header.split(": ", 1)] if header else []))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def metric(self, program, name):
        """The sum over a metric's labels."""
        text = self.call(program, "GET", "/metrics")[1].decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if re.match(re.escape(name) + r"[ {]", line))

    def select(self, program, sql):
        connection = sqlite3.connect(
            "file:%s?mode=ro" % self.db_of(program), uri=True, timeout=10)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def cpu_s(self):
        """CPU time of all processes, nginx's workers included."""
        groups = {process.pid for process in self.processes.values()}
        total = 0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/stat" % pid) as f:
                    fields = f.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) in groups:
                total += int(fields[11]) + int(fields[12])
        return total / TICKS

    # -- measuring --------------------------------------------------------

    def wrk(self, url, seconds, script=None, headers=(), connections=16):
        """Requests a second, and latencies in ms.  Any answer but 2xx or
        3xx is trouble."""
        argv = ["wrk", "-t1", "-c%d" % connections, "-d%ds" % seconds,
                "--latency"]
        if script:
            argv += ["-s", os.path.join(HERE, script)]
        for header in headers:
            argv += ["-H", header]
        argv.append("http://127.0.0.1:%d%s" % (self.web_port, url))
        before = os.times()
        done = subprocess.run(argv, capture_output=True, text=True,
                              preexec_fn=die_with_parent)
        after = os.times()
        text = done.stdout
        self.check()
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors:.*",
                        text)
        if done.returncode != 0 or bad:
            raise Trouble("wrk on %s: %s" % (
                url, bad.group(0) if bad else done.stderr.strip()))
        result = {
            "rate": float(re.search(r"Requests/sec:\s+([\d.]+)",
                                    text).group(1)),
            "requests": int(re.search(r"(\d+) requests in", text).group(1)),
            "client_cpu_s": after.children_user + after.children_system -
            before.children_user - before.children_system}
        scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}
        for percent, value, unit in re.findall(
                r"^\s+(\d+)%\s+([\d.]+)(us|ms|s)$", text, re.M):
            result["p" + percent] = float(value) * scale[unit]
        return result

    def fsync_ms(self, count=200):
        """How long an append of a page and its fdatasync take here."""
        path = os.path.join(self.data, "fsync")
        took = []
        fd = os.open(path, os.O_CREAT | os.O_WRONLY)
        for i in range(count):
            os.pwrite(fd, b"\1" * 4096, 4096 * i)
            began = time.perf_counter()
            os.fdatasync(fd)
            took.append(1000 * (time.perf_counter() - began))
        os.close(fd)
        os.unlink(path)
        took.sort()
        return {"p50": took[count // 2], "p99": took[count * 99 // 100]}
