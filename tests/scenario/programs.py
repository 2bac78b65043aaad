"""programs -- what each program is as a file."""

import os
import shutil
import signal
import subprocess
import tempfile

from scenario import scenario
from system import SERVICES, Skip, expect

SIZE_MOST = 12 * 1000 * 1000


def is_sanitized(path):
    """Does a sanitizer's runtime sit in it?"""
    try:
        out = subprocess.run(["readelf", "-Ws", "--dyn-syms", path],
                             capture_output=True, text=True)
    except OSError:
        return False
    return "__asan_" in out.stdout or "__tsan_" in out.stdout


def all_programs(settings):
    return sorted(n for n in os.listdir(settings.bin)
                  if os.access(os.path.join(settings.bin, n), os.X_OK) and
                  not n.endswith(".new"))


def readelf(flags, path):
    return subprocess.run(["readelf", flags, path], capture_output=True,
                          text=True, check=True).stdout


@scenario(kind=None, small=False)
def static_and_small(context):
    """Each program is static-pie, hardened, at most 12 MB stripped."""
    names = all_programs(context.settings)
    expect(set(SERVICES) <= set(names), "programs are missing: %s", names)
    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = os.path.join(context.settings.bin, name)
            expect("Type:                              DYN" in
                   readelf("-hW", path), "%s isn't position-independent",
                   name)
            headers = readelf("-lW", path)
            expect("INTERP" not in headers, "%s asks for a loader", name)
            expect("GNU_RELRO" in headers, "%s lacks RELRO", name)
            stack = [x for x in headers.splitlines() if "GNU_STACK" in x]
            expect(stack and "E" not in stack[0].split()[-2],
                   "%s has an executable stack", name)
            dynamic = readelf("-dW", path)
            expect("NEEDED" not in dynamic, "%s needs libraries", name)
            expect("NOW" in dynamic, "%s isn't bound at start", name)
            out = os.path.join(folder, name)
            subprocess.run(["strip", "-o", out, path], check=True)
            sizes.append("%s %.2f" % (name, os.path.getsize(out) / 1e6))
            expect("rd_kafka_mock_handle" not in readelf("-sW", path),
                   "%s has librdkafka's mock cluster", name)
            expect(os.path.getsize(out) <= SIZE_MOST,
                   "%s has %d bytes stripped", name, os.path.getsize(out))
    context.say("MB stripped: " + ", ".join(sizes))


@scenario(kind=None, small=False)
def empty_chroot(context):
    """--help and --version run in an empty chroot."""
    names = all_programs(context.settings)
    if os.geteuid() != 0:
        raise Skip("only root may chroot")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(os.path.join(context.settings.bin, name), folder)
            for flag in ("--help", "--version"):
                done = subprocess.run(
                    ["/" + name, flag], capture_output=True, text=True,
                    stdin=subprocess.DEVNULL, timeout=30, env={}, cwd="/",
                    preexec_fn=lambda f=folder: os.chroot(f))
                expect(done.returncode == 0 and name in done.stdout,
                       "%s %s in an empty chroot: status %d, %s%s", name,
                       flag, done.returncode, done.stdout[:200],
                       done.stderr[:200])
    context.say("%d programs" % len(names))


@scenario(kind=None, small=False)
def names_without_modules(context):
    """localhost is resolved without opening the host's NSS modules."""
    if shutil.which("strace") is None:
        raise Skip("no strace")
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "trace")
        # Nothing listens on port 1: names are resolved nonetheless.
        process = subprocess.Popen(
            ["strace", "-f", "-qq", "-e", "trace=open,openat,connect", "-o",
             log, os.path.join(context.settings.bin, "notifications"),
             "--db", os.path.join(folder, "n.db"), "--brokers",
             "localhost:1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            for line in process.stderr:
                if "waiting for the broker" in line:
                    break
        finally:
            # strace ignores it and ends with what it traces.
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            process.stderr.close()
        with open(log) as f:
            trace = f.read()
    tried = [x for x in trace.splitlines()
             if "sin_port=htons(1)" in x or "sin6_port=htons(1)" in x]
    expect(tried, "localhost was not resolved: nothing was connected to")
    bad = [x for x in trace.splitlines() if "libnss" in x or ".so" in x]
    expect(not bad, "it opened %s", bad[:2])
    context.say("%d attempts to connect" % len(tried))
