"""readers -- consumers of other makes, that know nothing of Millrace.

Each reads committed records of topics from their beginning to their end, and
gives (partition, ce_source, ce_id) for each of them, as it sees them.
"""

import os
import subprocess

from system import ROOT, Failure

# Without a record for so long it ends: Java's has no better way to.
IDLE_MS = 5000
LIMIT_S = 600


def run(*argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=LIMIT_S)
    if done.returncode != 0:
        raise Failure("%s: status %d: %s" % (
            argv[0], done.returncode, done.stderr[-1000:]))
    return done.stdout.splitlines()


def record(partition, headers, between):
    fields = dict(h.split(between, 1) for h in headers.split(",")
                  if between in h)
    return int(partition), fields["ce_source"], int(fields["ce_id"])


def kcat(addresses, *topics):
    """librdkafka's."""
    return [record(*line.split(" ", 1), "=") for topic in topics
            for line in run(
                "kcat", "-C", "-q", "-e", "-o", "beginning", "-t", topic,
                "-b", addresses, "-X", "isolation.level=read_committed",
                "-f", "%p %h\\n")]


def java(addresses, *topics):
    """Kafka's own, in a group that is new."""
    seen = run(os.path.join(ROOT, "deploy/local/kafka"), "tool",
               "org.apache.kafka.tools.consumer.ConsoleConsumer",
               "--bootstrap-server", addresses, "--include",
               "|".join(topics), "--from-beginning", "--isolation-level",
               "read_committed", "--timeout-ms", str(IDLE_MS),
               "--formatter-property", "print.partition=true",
               "--formatter-property", "print.headers=true",
               "--formatter-property", "print.value=false")
    return [record(*line.removeprefix("Partition:").split("\t")[:2], ":")
            for line in seen if line.startswith("Partition:")]


KINDS = {"kcat": kcat, "Java's": java}
