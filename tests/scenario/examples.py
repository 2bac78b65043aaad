"""examples -- the Python examples beside the C ones, on the same topic."""

import os
import pty
import select
import subprocess

from scenario import scenario
from system import ROOT, expect

PYTHON = os.path.join(ROOT, "examples/python")
KEYS = ("alice", "bob", "carol", "dave")


def say(system, program, *arguments):
    """What it prints; it has to end well."""
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=60 * system.settings.patience,
        env=dict(os.environ, MILLRACE_BROKERS="127.0.0.1:%d" %
                 system.kafka_port))
    expect(done.returncode == 0, "%s: status %d: %s", program,
           done.returncode, done.stderr[-300:])
    return done.stdout.splitlines()


@scenario(kind="own", small=False)
def python_beside_c(context):
    """Python's records join C's in their partitions; a group reads both, and
    goes on where it was."""
    system = context.system
    system.kafka_start()
    c = os.path.join(system.settings.bin, "hello-producer")
    python = os.path.join(PYTHON, "hello_producer.py")
    reader = os.path.join(PYTHON, "hello_consumer.py")
    wanted = set()
    for key in KEYS:
        told = say(system, c, "--key", key, key + " from C") + \
            say(system, python, key, key + " from Python")
        places = [line.split(",")[0] for line in told]
        expect(places[0] == places[1], "%s is in %s", key, places)
        wanted |= {"%s, key '%s': %s" % (
            line.split(":")[0], key, line.split(": ")[1]) for line in told}
    read = say(system, reader, "readers")
    expect(set(read) >= wanted, "it read %r", read)
    say(system, python, KEYS[0], "one more")
    again = [x for x in say(system, reader, "readers") if "offset" in x]
    expect(len(again) == 1 and again[0].endswith("one more"),
           "the group read %r again", again)


def hello(system, name):
    """A program of the hello pair, and the environment it needs."""
    return os.path.join(system.settings.bin, name), dict(
        os.environ, MILLRACE_BROKERS="127.0.0.1:%d" % system.kafka_port)


def next_line(system, stream):
    """What it prints next, or b"" once it has waited long enough."""
    wait = 60 * system.settings.patience
    return stream.readline() if select.select([stream], [], [], wait)[0] \
        else b""


@scenario(kind="own", small=False)
def hello_by_hand(context):
    """The producer says where a line went before there is another one, and
    strips only lines; the consumer sees a topic that is made after its start,
    and commits nothing that it could not print."""
    system = context.system
    system.kafka_start()
    producer, env = hello(system, "hello-producer")
    consumer, _ = hello(system, "hello-consumer")
    early = subprocess.Popen([consumer, "--group", "early"], env=env,
                             stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, bufsize=0)
    try:
        told = next_line(system, early.stderr)
        expect(b"not available" in told, "it said %r", told)
        master, terminal = pty.openpty()
        typed = subprocess.Popen([producer], env=env, stdin=terminal,
                                 stdout=terminal)
        os.close(terminal)
        try:
            with open(master, "r+b", buffering=0) as hand:
                hand.write(b"by hand\n")
                told = [next_line(system, hand) for _ in range(2)]  # an echo
                hand.write(b"\4")  # the end of what is typed
                expect(told[1].endswith(b": by hand\r\n"), "it said %r", told)
                expect(typed.wait(60 * system.settings.patience) == 0,
                       "the producer ended with %s", typed.returncode)
        finally:
            typed.kill()
            typed.wait()
        read = b"given"
        while read.startswith(b"given"):
            read = next_line(system, early.stdout)
        expect(read.endswith(b": by hand\n"), "it read %r", read)
    finally:
        early.terminate()
        early.wait()
    told = say(system, producer, "two\nlines")
    expect(told[-1] == "lines", "it sent %r", told)
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [consumer, "--group", "late"], stdout=full, env=env,
            stderr=subprocess.PIPE, text=True,
            timeout=60 * system.settings.patience)
    expect(done.returncode == 1 and "not printed" in done.stderr,
           "with a full disk: status %d: %s", done.returncode, done.stderr)
    late = subprocess.Popen([consumer, "--group", "late"], env=env,
                            stdout=subprocess.PIPE, bufsize=0)
    try:
        read = b""
        while b": by hand\n" not in read or b": two\nlines\n" not in read:
            line = next_line(system, late.stdout)
            expect(line != b"", "what was not printed is lost: %r", read)
            read += line
    finally:
        late.terminate()
        late.wait()
