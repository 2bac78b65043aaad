"""kafka_tools -- Apache Kafka's own tools and kcat, run against both brokers.

A scenario gives back what they printed and how they ended, cleaned of what
may differ.  The tools are those of two generations: Kafka 4.x, which the
project runs, and 3.x, from build/kafka/libs-3 (tests/conformance/pom.xml).
"""

import json
import os
import re
import subprocess
import tempfile
import time

import scenarios
from scenarios import NOW_MS, ROOT, batch, make, produce, scenario

# What runs a class of either; its script knows of the archive of classes.
JAVA = {
    "4": [os.path.join(ROOT, "deploy/local/kafka"), "tool"],
    "3": ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
          "-Dlog4j2.configurationFile=" +
          os.path.join(ROOT, "deploy/kafka/log4j2.xml"),
          "-cp", os.path.join(ROOT, "build/kafka/libs-3/*")]}
TOOLS = "org.apache.kafka.tools."
GROUPS = TOOLS + "consumer.group.ConsumerGroupCommand"
# Each is there for what never comes: on a busy machine, where starting Java and
# joining a group take a minute, nothing else may reach it.
LIMIT_S = 400
PATIENCE_MS = 180000
# The tool's own 5 s begin before it has loaded what it connects with.
PATIENT = ("--timeout", PATIENCE_MS)

# What differs between two brokers, and between two runs.
CLEANED = (
    (re.compile(r"(127\.0\.0\.1|localhost|\[::1\]):\d+"), "HOST:PORT"),
    (re.compile(r"TopicId: [\w-]{22}"), "TopicId: ID"),
    (re.compile(r"[\w-]*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"^\[?\d{4}-[\d-]+[ T][\d:,.Z]+\]? (ERROR|WARN|INFO) "),
     r"\1 "),
    # What deploy/kafka/server.properties.in says, and not the topic.
    (re.compile(r"\b(min\.insync\.replicas=1|segment\.bytes=268435456),?"),
     ""),
    (re.compile(r", (DEFAULT|STATIC_BROKER)_CONFIG:[\w.]+=[^,}]*"), ""),
    (re.compile(r"\s*Elr:.*"), ""),
    # Words of an error are the broker's own; its kind isn't.
    (re.compile(r"(\w+Exception): .*"), r"\1"),
    (re.compile(r"(Error while executing .*command) ?: .*"), r"\1"),
    (re.compile(r"[ \t]+"), " "),
)
NOISE = re.compile(r"^(SLF4J|log4j|WARN|at |\(\w+\)$|\(org\.apache|$)")


def clean_lines(text):
    lines = []
    for line in text.splitlines():
        for pattern, other in CLEANED:
            line = pattern.sub(other, line)
        line = line.strip()
        if not NOISE.match(line):
            lines.append(line)
    return lines


def run_as_is(argv, text=None):
    """Exit status, and all that it printed."""
    try:
        done = subprocess.run(
            argv, input=text if text is not None else "", text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as late:
        raise TimeoutError("%s: stopped after %d s; it had said:\n%s" % (
            " ".join(argv[-8:]), LIMIT_S,
            (late.stdout or b"").decode(errors="replace"))) from None
    return done.returncode, done.stdout


def run(argv, text=None):
    status, printed = run_as_is(argv, text)
    return [status] + clean_lines(printed)


def tool(broker, name, *arguments, text=None, generation="4",
         option="--bootstrap-server"):
    """Exit status and lines of one of Kafka's tools."""
    if not name.startswith("kafka."):
        name = name if name.startswith(TOOLS) else TOOLS + name
    return run(
        JAVA[generation] + [name, option, "127.0.0.1:%d" % broker.port] +
        [str(a) for a in arguments], text)


def kcat(broker, *arguments, text=None):
    return run(["kcat", "-b", "127.0.0.1:%d" % broker.port,
                "-X", "allow.auto.create.topics=false"] + list(arguments),
               text)


def numbers(lines, *wanted):
    """Of a table with a head: these columns of its rows, sorted."""
    for at, line in enumerate(lines):
        head = str(line).split()
        if all(w in head for w in wanted):
            break
    else:
        return lines
    columns = [head.index(w) for w in wanted]
    rows = [line.split() for line in lines[at + 1:]]
    return sorted([row[c] for c in columns] for row in rows
                  if len(row) > max(columns))


def file_of(text):
    with tempfile.NamedTemporaryFile("w", delete=False) as f:
        f.write(text)
    return f.name


# ---- topics and settings -------------------------------------------------

def topics_of(broker, generation):
    name = "tools-topic-" + generation

    def command(*arguments):
        return tool(broker, "TopicCommand", *arguments, "--topic", name,
                    generation=generation)
    return [
        command("--create", "--partitions", 3, "--config",
                "retention.ms=86400000", "--config", "cleanup.policy=compact"),
        command("--create", "--partitions", 3),
        command("--create", "--if-not-exists"),
        command("--describe"),
        command("--alter", "--partitions", 5),
        command("--alter", "--partitions", 2),
        [line for line in tool(broker, "TopicCommand", "--list",
                               generation=generation) if line == name],
        command("--delete"),
        command("--delete"),
        command("--describe"),
    ]


@scenario
def kafka_topics(broker):
    return topics_of(broker, "4")


@scenario
def kafka_topics_of_3(broker):
    return topics_of(broker, "3")


@scenario
def kafka_configs(broker):
    make(broker.connect(), "tools-configs")

    def command(*arguments):
        return tool(broker, "kafka.admin.ConfigCommand", "--entity-type",
                    "topics", "--entity-name", "tools-configs", *arguments)
    return [
        command("--alter", "--add-config",
                "retention.ms=1000000,max.message.bytes=2000"),
        command("--describe"),
        command("--alter", "--delete-config", "retention.ms"),
        command("--describe"),
        command("--alter", "--add-config", "retention.ms=soon")[:2],
        command("--alter", "--delete-config", "segment.bytes")[:2],
    ]


# ---- records ----------------------------------------------------------------

@scenario
def kafka_console_producer_and_consumer(broker):
    make(broker.connect(), "tools-console")
    sent = tool(broker, "ConsoleProducer", "--topic", "tools-console",
                "--property", "parse.key=true", "--property",
                "key.separator=:", text="a:1\nb:2\nc:3\n")
    taken = tool(broker, "consumer.ConsoleConsumer", "--topic",
                 "tools-console", "--from-beginning", "--max-messages", 3,
                 "--timeout-ms", PATIENCE_MS, "--property", "print.key=true",
                 "--property", "print.offset=true", "--property",
                 "print.partition=true")
    return [sent, taken, kcat(broker, "-C", "-t", "tools-console", "-o",
                              "beginning", "-e", "-q", "-f", "%o %k %s\\n")]


def performance_of(broker, generation):
    topic = "tools-performance-" + generation
    make(broker.connect(), topic, 2)
    sent = run(
        JAVA[generation] + [TOOLS + "ProducerPerformance",
         "--topic", topic, "--num-records", "5000", "--record-size", "100",
         "--throughput", "-1", "--producer-props",
         "bootstrap.servers=127.0.0.1:%d" % broker.port, "acks=all",
         "compression.type=zstd"])
    taken = tool(broker, "ConsumerPerformance", "--topic", topic,
                 "--messages", 5000, "--timeout", PATIENCE_MS,
                 generation=generation)
    count = [line.split(",")[4].strip() for line in taken
             if re.match(r"\d{4}-", str(line))]
    return [sent[0], [line.split(",")[0] for line in sent[1:]][-1:],
            taken[0], count]


@scenario
def kafka_performance_tools(broker):
    return performance_of(broker, "4")


@scenario
def kafka_performance_tools_of_3(broker):
    return performance_of(broker, "3")


@scenario
def kafka_get_offsets(broker):
    c = broker.connect()
    make(c, "tools-offsets", 2)
    for i in range(4):
        produce(c, "tools-offsets", batch([b"x", b"y"],
                                          ts_ms=NOW_MS - 4000 + 1000 * i))
    found = [tool(broker, "GetOffsetShell", "--topic", "tools-offsets",
                  "--time", when)
             for when in ("-1", "-2", "-3", NOW_MS - 2500, NOW_MS + 99999)]
    # kcat asks by time, too.
    found.append(kcat(broker, "-Q", "-t", "tools-offsets:0:%d" % (
        NOW_MS - 2500)))
    return found


@scenario
def kafka_delete_records_and_log_dirs(broker):
    c = broker.connect()
    make(c, "tools-deleted")
    for _ in range(3):
        produce(c, "tools-deleted", batch([b"x"] * 10))
    path = file_of(json.dumps({"version": 1, "partitions": [
        {"topic": "tools-deleted", "partition": 0, "offset": 20}]}))
    try:
        deleted = tool(broker, "DeleteRecordsCommand",
                       "--offset-json-file", path)
    finally:
        os.unlink(path)
    found = tool(broker, "GetOffsetShell", "--topic", "tools-deleted",
                 "--time", "-2")
    dirs = tool(broker, "LogDirsCommand", "--describe", "--topic-list",
                "tools-deleted")
    parsed = [json.loads(line) for line in dirs if str(line)[:1] == "{"]
    return [deleted, found, dirs[0],
            [[d["partition"] for d in b["logDirs"][0]["partitions"]]
             for b in parsed[0]["brokers"]] if parsed else dirs]


# ---- groups -----------------------------------------------------------------

RESETS = (
    ("--to-earliest",), ("--to-latest",), ("--to-offset", 3),
    ("--shift-by", 2), ("--shift-by", -4), ("--to-current",),
    ("--by-duration", "PT0S"), ("--to-datetime", None), ("--from-file", None),
)


def moved(broker, group, topic, how, generation):
    """Where a reset says that it goes, and where the group is then."""
    path = None
    if how[0] == "--to-datetime":
        when = time.gmtime((NOW_MS - 2500) / 1000)
        how = (how[0], time.strftime("%Y-%m-%dT%H:%M:%S.500", when))
    elif how[0] == "--from-file":
        path = file_of("%s,0,1\n" % topic)
        how = (how[0], path)
    try:
        return numbers(tool(
            broker, GROUPS, "--group", group, *PATIENT, "--reset-offsets",
            *(() if path else ("--topic", topic)), *how, "--execute",
            generation=generation), "TOPIC", "PARTITION", "NEW-OFFSET")
    finally:
        if path:
            os.unlink(path)


def groups_of(broker, generation, resets):
    topic = group = "tools-group-" + generation
    c = broker.connect()
    make(c, topic)
    scenarios.ready(c, group)
    for i in range(4):
        produce(c, topic, batch([b"x", b"y"],
                                ts_ms=NOW_MS - 4000 + 1000 * i))
    command = tool(broker, "consumer.ConsoleConsumer", "--topic", topic,
                   "--group", group, "--from-beginning", "--max-messages", 5,
                   "--timeout-ms", PATIENCE_MS, generation=generation)

    def ask(*arguments):
        return tool(broker, GROUPS, "--group", group, *PATIENT, *arguments,
                    generation=generation)
    found = [sorted(map(str, command)),
             numbers(ask("--describe"), "GROUP", "TOPIC", "PARTITION",
                     "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"),
             ask("--describe", "--state"), ask("--describe", "--members")]
    for how in resets:
        found.append([how[0], moved(broker, group, topic, how, generation)])
    found += [
        ask("--reset-offsets", "--topic", topic + ":0", "--to-offset", 5,
            "--dry-run"),
        ask("--delete-offsets", "--topic", topic),
        ask("--delete"), ask("--delete"), ask("--describe")]
    return found


@scenario
def kafka_consumer_groups(broker):
    return groups_of(broker, "4", RESETS)


@scenario
def kafka_consumer_groups_of_3(broker):
    return groups_of(broker, "3", RESETS[:1])


# ---- others -----------------------------------------------------------------

@scenario
def kcat_lists_and_groups(broker):
    """Metadata as JSON, a balanced consumer, keys, headers and tombstones."""
    make(broker.connect(), "tools-kcat", 2)
    sent = kcat(broker, "-P", "-t", "tools-kcat", "-p", "1", "-K", ":", "-Z",
                "-H", "h=1", text="k:v\nk:\n")
    group = kcat(broker, "-G", "tools-kcat", "-c", "2", "-q", "-X",
                 "auto.offset.reset=earliest", "-f", "%p %o %k %S %h\\n",
                 "tools-kcat")
    listed = run(["kcat", "-J", "-L", "-b", "127.0.0.1:%d" % broker.port,
                  "-t", "tools-kcat"])
    topics = [json.loads(line)["topics"] for line in listed
              if str(line).startswith("{")]
    return [sent, [line for line in group if not str(line).startswith("%")],
            topics]


@scenario
def java_producers_transactions_are_refused_at_once(broker):
    """On the embedded broker, which has none."""
    if broker.name != "embedded":
        return []
    make(broker.connect(), "tools-transaction")
    # Who asks again does so for ten minutes, which is more than LIMIT_S.
    status, said = run_as_is(
        JAVA["4"] + [TOOLS + "ProducerPerformance",
         "--topic", "tools-transaction",
         "--num-records", "10", "--record-size", "10", "--throughput", "-1",
         "--transactional-id", "t", "--transaction-duration-ms", "1000",
         "--producer-props", "max.block.ms=600000",
         "bootstrap.servers=127.0.0.1:%d" % broker.port])
    if status != 0 and "this broker has no transactions" in said:
        return []
    return [status, said]


@scenario
def java_consumers_of_newer_groups_give_up_at_once(broker):
    """On the embedded broker, which has the classic kind alone."""
    if broker.name != "embedded":
        return []
    make(broker.connect(), "tools-newer")
    # Of whom only the second tells what to do.
    kinds = (("ConsoleShareConsumer", [], "UnsupportedVersionException"),
             ("ConsoleConsumer", ["--command-property",
                                  "group.protocol=consumer"],
              "Set group.protocol=classic"))
    out = []
    for name, more, wanted in kinds:
        status, said = run_as_is(
            JAVA["4"] + [TOOLS + "consumer." + name, "--bootstrap-server",
                         "127.0.0.1:%d" % broker.port, "--topic",
                         "tools-newer", "--group", "tools-newer",
                         "--timeout-ms", "1000"] + more)
        if wanted not in said:
            out += [status, said]
    return out
