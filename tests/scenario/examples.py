"""examples -- the Python examples beside the C ones, on the same topic."""

import os
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
