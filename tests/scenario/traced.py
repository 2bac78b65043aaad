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


attached = []  # instances that strace was on: so that is allowed


def attach(system, instance, argv, name):
    """strace on a process, or on its threads of a name, and its id.  An
    OSError: there are none, or they have just ended."""
    pid = system.process_of(instance).pid
    tids = [tid for tid, other in threads_of(pid).items()
            if name and pool_of(other) == pool_of(name)]
    if name and not tids:
        raise OSError("no thread of %s is called %s" % (instance, name))
    tids = tids or [pid]
    strace = subprocess.Popen(
        argv + ([] if name else ["-f"]) + ["-p%d" % tid for tid in tids],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True)
    told = [strace.stderr.readline().strip() for _ in tids]
    if not any("attached" in line for line in told):
        let_go(strace)
        why = "not attached: " + ", ".join(told)
        if not attached and not any("No such process" in t for t in told):
            raise Skip(why)
        raise OSError(why)
    attached.append(instance)
    return strace, pid


def let_go(strace):
    """End it; who still lives goes on."""
    strace.send_signal(signal.SIGINT)
    strace.stderr.read()
    strace.wait()


@contextlib.contextmanager
def traced(system, instance, options, name=None):
    """Run strace on a service, or the broker ("kafka"), or on its threads of
    a name alone; gives the path of its output and the process's id."""
    if shutil.which("strace") is None:
        raise Skip("no strace")
    trace = os.path.join(system.logs, "strace-" + instance)
    strace, pid = system.wait_for(
        "strace is on " + instance, lambda: attach(
            system, instance, ["strace", "-o", trace] + options, name), 5)
    try:
        yield trace, pid
    finally:
        let_go(strace)


def injected(system, instance, inject, name=None):
    """Have system calls of a service fail or kill, as strace says it."""
    return traced(system, instance, [
        "-e", "trace=" + inject.partition(":")[0], "-e", "inject=" + inject],
        name)


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


def killed_at(system, instance, place):
    """kill -9 at a place that places_in() gave; gives what traced() does."""
    name, call, number = place
    return injected(system, instance, "%s:signal=KILL:when=%d" % (
        call, number), name)


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
