"""traced -- system calls of running services: watched, failed, fatal."""

import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess

from system import Skip


def threads_of(pid):
    """{thread id: its name}"""
    names = {}
    for tid in os.listdir("/proc/%d/task" % pid):
        try:
            with open("/proc/%d/task/%s/comm" % (pid, tid)) as f:
                names[int(tid)] = f.read().strip()
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
    return names


def tracer(trace, calls, inject=None):
    """strace, to be put before a command."""
    if shutil.which("strace") is None:
        raise Skip("no strace")
    return ["strace", "-f", "-s", "300", "-o", trace, "-e", "trace=" + calls] + (
        ["-e", "inject=" + inject] if inject else [])


@contextlib.contextmanager
def traced(system, instance, options, threads=()):
    """Run strace on a service, or the broker ("kafka"), on these threads of
    it alone if there are any; gives the path of its output."""
    if shutil.which("strace") is None:
        raise Skip("no strace")
    pid = system.process_of(instance).pid
    trace = os.path.join(system.logs, "strace-" + instance)
    argv = ["strace", "-o", trace] + ([] if threads else ["-f"])
    for tid in threads or (pid,):
        argv += ["-p", str(tid)]
    tracer = subprocess.Popen(
        argv + options, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True)
    try:
        for _ in threads or (pid,):
            told = tracer.stderr.readline()
            if "attached" not in told:
                raise Skip("strace: " + told.strip())
        yield trace
    finally:
        tracer.send_signal(signal.SIGINT)  # it lets go of who still lives
        tracer.stderr.read()
        tracer.wait()


def injected(system, instance, inject, threads=()):
    """Have system calls of a service fail or kill, as strace says it."""
    return traced(system, instance, [
        "-e", "trace=" + inject.partition(":")[0], "-e", "inject=" + inject],
        threads)


def places_in(path, names):
    """[(thread's name, call, number)] of a trace of the threads of these
    names: where a life like the traced one can be ended."""
    most = collections.Counter()
    for (tid, call), count in collections.Counter(calls_in(path)).items():
        if tid in names:
            key = names[tid], call
            most[key] = max(most[key], count)
    return [key + (n,) for key in sorted(most)
            for n in range(1, most[key] + 1)]


def pool_of(name):
    """Which thread answers a request is chance: those are all alike."""
    return re.sub(r"^http-[0-9]+$", "http", name)


@contextlib.contextmanager
def killed_at(system, instance, place):
    """kill -9 at a place that places_in() gave; gives whether the thread is
    there."""
    name, call, number = place
    tids = [tid for tid, other in threads_of(
        system.process_of(instance).pid).items()
            if pool_of(other) == pool_of(name)]
    if not tids:
        yield False
        return
    with injected(system, instance, "%s:signal=KILL:when=%d" % (
            call, number), tids):
        yield True


def calls_of_main(path):
    """(call, line) of a trace that are the first thread's."""
    with open(path, errors="replace") as f:
        lines = f.readlines()
    main = lines[0].split()[0]
    for line in lines:
        found = re.match(r"(\d+) +([a-z0-9_]+)\(", line)
        if found and found.group(1) == main:
            yield found.group(2), line


def calls_in(path):
    """(thread id, call) of each line of a trace of several threads."""
    with open(path, errors="replace") as f:
        for line in f:
            found = re.match(r"(\d+) +([a-z0-9_]+)\(", line)
            if found:
                yield int(found.group(1)), found.group(2)
