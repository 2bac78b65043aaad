"""sandboxes -- what the programs have given up, and still have if they are told
not to.
"""

import ctypes
import os
import re

import clients
from faults import adds_up, more_orders, work_of
from scenario import scenario
from system import Process, Skip, expect

CREATE_RULESET, CREATE_VERSION = 444, 1
PRIVILEGES = ("NoNewPrivs", "Seccomp", "Seccomp_filters", "CapPrm", "CapEff",
              "CapBnd")


def status_of(pid):
    with open("/proc/%s/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f
                    if ":\t" in line)


def landlock_version():
    """The kernel's; below 1 it has none, or has it turned off."""
    return ctypes.CDLL(None).syscall(
        ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0),
        ctypes.c_uint(CREATE_VERSION))


def sandboxed(pid, log):
    """That a process has no privilege left, a filter of its calls and, as its
    log says, folders that it is kept to."""
    status = status_of(pid)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        expect(int(status[name], 16) == 0, "%s is %s", name, status[name])
    expect(status["NoNewPrivs"] == "1", "it may gain privileges")
    expect(status["Seccomp"] == "2", "it has no filter of system calls")
    # Its own and, since it listens, that no more is bound; older kernels
    # don't count them.
    more = int(status.get("Seccomp_filters", 2)) - \
        int(status_of("self").get("Seccomp_filters", 0))
    expect(more == 2, "it has %d filters", more)
    version = landlock_version()
    said = [line for line in log.splitlines() if "msg=sandboxed" in line]
    expect(said and (version < 1 or 'landlock="version %d"' % version in
                     said[-1]), "Landlock's version is %d: %r", version, said)


def unsandboxed(pid, how):
    """That it has what we have: in a container that may be less than all."""
    status, own = status_of(pid), status_of("self")
    for name in PRIVILEGES:
        expect(status.get(name) == own.get(name), "%s: %s is %s, not %s", how,
               name, status.get(name), own.get(name))


@scenario(small=False)
def sandbox_turned_off(context):
    """--no-sandbox leaves a service the privileges of who starts it; without
    it they are gone."""
    system = context.system
    for flags, env in (((), None), (("--no-sandbox",), None),
                       ((), {"MILLRACE_SANDBOX": "no"})):
        system.stop("inventory")
        system.start("inventory", flags=flags, extra_env=env)
        system.ready("inventory")
        pid = system.services["inventory"].pid
        if flags or env:
            unsandboxed(pid, "%s %s" % (flags, env))
        else:
            sandboxed(pid, system.log("inventory",
                                      system.starts_at["inventory"]))
    system.stop("inventory")
    system.start("inventory")
    adds_up(context)


@scenario(small=False)
def tool_sandbox_turned_off(context):
    """millrace at work may not gain privileges and has a filter of its calls;
    with --no-sandbox it has what who starts it has."""
    system = context.system
    with work_of(context) as work:
        more_orders(context, work, 10)
    own = status_of("self")
    for flags in ((), ("--no-sandbox",)):
        with clients.mute_broker(system.kafka_port, (b"",)) as port:
            process = Process(
                [os.path.join(system.settings.bin, "millrace"), "state",
                 "verify", "--data", system.data, "--stall", "10m",
                 "--brokers", "127.0.0.1:%d" % port, *flags],
                system.log_of("millrace"), {"PATH": os.environ["PATH"]})
            try:
                # It starts none before it has read its flags.
                system.wait_for("it has threads", lambda p=process.pid:
                                status_of(p)["Threads"] != "1")
                status = status_of(process.pid)
                if flags:
                    unsandboxed(process.pid, flags)
                    continue
            finally:
                process.end()
        expect(status["NoNewPrivs"] == "1", "it may gain privileges")
        expect(status["Seccomp"] == "2", "it has no filter of system calls")
        for name in ("CapPrm", "CapEff", "CapBnd"):
            expect(status[name] == own[name], "%s is %s, not %s", name,
                   status[name], own[name])


def tried(system, name, since):
    """What came of a program's attempts to escape: {file: outcome}."""
    return dict(re.findall(
        r'msg="escape tried" path=\S*/(\w+) outcome="?([^"\n]+)',
        system.log(name, since)))


@scenario(kind="own", small=False)
def escapes_refused(context):
    """A service and the embedded broker open and make no file in a folder
    that isn't theirs; with --no-sandbox they do."""
    system = context.system
    names = ("kafka", "inventory") if system.settings.broker == "embedded" \
        else ("inventory",)
    version = landlock_version()
    folders = {name: os.path.join(system.base, "not-of-" + name)
               for name in names}
    env = {name: {"MILLRACE_FAILPOINT": "store.commit.before=escape",
                  "MILLRACE_OUTSIDE": folder}
           for name, folder in folders.items()}
    for folder in folders.values():
        os.mkdir(folder)
        with open(os.path.join(folder, "read"), "w") as f:
            f.write("not yours")
    system.kafka_settings = env.get("kafka", {})
    for flags, outcome in (((), "Permission denied"),
                           (("--no-sandbox",), "opened")):
        sizes = {name: system.log_size(name) for name in names}
        if system.kafka_process is None or "kafka" in names:
            system.kafka_start(flags=flags, failpoints=True)
        kafka = system.kafka()
        kafka.create_topic("named-%s" % outcome.split()[0], 1)
        kafka.close()
        system.start("inventory", flags=flags, failpoints=True,
                     extra_env=env["inventory"])
        system.ready("inventory")
        for name in names:
            pid = system.process_of(name).pid
            system.wait_for("%s tries" % name, lambda n=name, s=sizes: len(
                tried(system, n, s[n])) == 2)
            if flags:
                unsandboxed(pid, "%s %s" % (name, flags))
            else:
                sandboxed(pid, system.log(name))
            got = tried(system, name, sizes[name])
            expect(version < 1 or got == {"read": outcome, "made": outcome},
                   "%s %s: %r", name, flags, got)
            expect(version < 1 or os.path.exists(os.path.join(
                folders[name], "made")) == bool(flags), "%s %s: made or not",
                   name, flags)
        system.stop("inventory")
        if "kafka" in names:
            system.kafka_kill()
    if version < 1:
        raise Skip("the kernel has no Landlock")
