"""consumer_groups -- who reads what, as readers come and go."""

import os
import re
import signal
import subprocess

from system import Process

TITLE = "Consumer groups: one topic, many readers"
TOPIC = "jobs"
PARTITIONS = 3
CUSTOMERS = ("ada", "bela", "carl", "dora", "emil", "fay", "gus", "hana")
STEPS = 6


class Member:
    """kcat as a member of a group; it hears of a change in a tenth of a
    second, and is given up a second after its last sign of life."""

    def __init__(self, system, group, name):
        self.name = name
        self.out = os.path.join(system.logs, "%s-%s" % (group, name))
        argv = ["kcat", "-b", "127.0.0.1:%d" % system.kafka_port, "-G", group,
                "-X", "heartbeat.interval.ms=100",
                "-X", "session.timeout.ms=1000",
                "-X", "topic.auto.offset.reset=earliest",
                "-X", "auto.commit.interval.ms=100",
                "-u", "-f", "record %p %o %k %s\n", TOPIC]
        self.process = Process(argv, self.out)
        # Whatever happens, it ends with the system.
        system.services["%s-%s" % (group, name)] = self.process

    def _lines(self):
        with open(self.out, encoding="utf-8") as f:
            return f.read().splitlines()

    def assigned(self):
        """Its partitions, or None while it has yet to be told."""
        told = [x for x in self._lines() if " assigned:" in x or
                " revoked:" in x]
        if not told or " revoked:" in told[-1]:
            return None
        return tuple(int(n) for n in re.findall(r"\[(\d+)\]", told[-1]))

    def records(self):
        """[(partition, offset, key, value)] in the order it got them."""
        return [(int(p), int(o), k, v) for _, p, o, k, v in (
            x.split(" ", 4) for x in self._lines() if x.startswith("record "))]

    def leave(self, number=signal.SIGTERM):
        self.process.signal(number)
        self.process.popen.wait()


def write(system, lines):
    """kcat again; a key's partition as Java's clients choose it."""
    subprocess.run(
        ["kcat", "-b", "127.0.0.1:%d" % system.kafka_port, "-P", "-t", TOPIC,
         "-K", ":", "-X", "partitioner=murmur2_random"],
        input="".join("%s:%s\n" % line for line in lines), text=True,
        check=True)


def dealt(system, *members):
    """Wait until each partition has one of them; who has which."""
    def all_dealt():
        hands = [m.assigned() for m in members]
        if None in hands or sorted(sum(hands, ())) != list(range(PARTITIONS)):
            return None
        return hands
    return dict(zip((m.name for m in members),
                    system.wait_for("the partitions are dealt out",
                                    all_dealt)))


def tell_hands(tale, hands):
    tale.table(("member", *("partition %d" % p for p in range(PARTITIONS))), [
        (name, *("reads it" if p in hand else "" for p in range(PARTITIONS)))
        for name, hand in hands.items()])


def lag_of(kafka, group):
    return [end - max(at, 0) for end, (at, _) in zip(
        kafka.ends(TOPIC), kafka.group_offsets(group, TOPIC))]


def tell_order(tale, sent, seen):
    """Order within a key, and none across partitions."""
    tale.step("Order within a key, and none beyond it")
    customer = CUSTOMERS[0]
    tale.say("The writer went round: step 1 of every customer, then step 2 of"
             " every customer, and so on. One reader of all three partitions"
             " saw this; the number is the place that a record had when it"
             " was written:")
    order = {record: n for n, record in enumerate(sent, 1)}
    got = [(key, value) for _, _, key, value in seen]
    tale.show(" ".join("%d" % order[r] for r in got[:24]) + " ...",
              "and of %s alone: %s" % (customer, ", ".join(
                  value for key, value in got if key == customer)))
    for key in CUSTOMERS:
        own = [value for k, value in got if k == key]
        tale.must(own == [value for k, value in sent if k == key],
                  "%s's steps are read in order" % key, ", ".join(own))
    tale.holds(True, "Every customer's %d steps were read in the order in"
               " which they were written: a key has one partition, and a"
               " partition is a log.", STEPS)
    tale.holds(got != sent, "Across partitions the order was another than"
               " that of writing. What must stay in order has to share a"
               " key.")


def tell(tale, system, rng):
    tale.say("""A queue hands each message to one reader, and forgets it. A
        newsletter goes to every reader. A Kafka topic is neither: it is a
        log that stays, and readers say by the name of their *group* which of
        the two they want. Here are a topic named jobs with three partitions,
        and kcat as its readers.""")
    with tale.waiting("a broker starts"):
        system.kafka_start()
    kafka = system.kafka()
    kafka.create_topic(TOPIC, PARTITIONS)
    sent = [(key, "step-%d" % n) for n in range(1, STEPS + 1)
            for key in CUSTOMERS]
    write(system, sent)
    total = len(sent)
    tale.say("%d records are written first, %d steps of each of %d customers,"
             " with the customer's name as key.", total, STEPS,
             len(CUSTOMERS))
    tale.bars([("partition %d" % p, end)
               for p, end in enumerate(kafka.ends(TOPIC))], " records")

    tale.step("Publish and subscribe: a group each")
    tale.say("billing and audit are two groups. Neither knows of the other.")
    billing = Member(system, "billing", "billing-1")
    audit = Member(system, "audit", "audit-1")
    with tale.waiting("both read"):
        for member in billing, audit:
            dealt(system, member)
            system.wait_for("all is read", lambda m=member:
                            len(m.records()) >= total)
    tale.holds(sorted(r[2:] for r in billing.records()) == sorted(sent) and
               sorted(r[2:] for r in audit.records()) == sorted(sent),
               "Both have read all %d records: reading takes nothing away"
               " from others.", total)
    tell_order(tale, sent, audit.records())
    audit.leave()

    tale.step("Work queue: one group, several members")
    tale.say("Now a second and a third reader join the group billing, and its"
             " partitions are dealt out anew. That is a rebalance.")
    second = Member(system, "billing", "billing-2")
    with tale.waiting("the group rebalances"):
        dealt(system, billing, second)
        third = Member(system, "billing", "billing-3")
        tell_hands(tale, dealt(system, billing, second, third))
    before = {m: len(m.records()) for m in (billing, second, third)}
    write(system, sent)
    with tale.waiting("they share the work"):
        system.wait_for("all is read", lambda: sum(
            len(m.records()) - n for m, n in before.items()) >= total)
    shares = [(m.name, len(m.records()) - n) for m, n in before.items()]
    tale.say("The same %d jobs are sent once more:", total)
    tale.bars(shares, " jobs")
    done = [r[:2] for m, n in before.items() for r in m.records()[n:]]
    tale.holds(len(done) == total and len(set(done)) == total,
               "Each of the %d jobs was done by one member, and by one only.",
               total, otherwise="%d done, %d different" % (
                   len(done), len(set(done))))

    tale.step("One too many, one that leaves, one that dies")
    tale.say("A fourth member gets nothing to do: three partitions keep three"
             " readers busy, and it stands by.")
    fourth = Member(system, "billing", "billing-4")
    with tale.waiting("the group rebalances"):
        hands = dealt(system, billing, second, third, fourth)
    tell_hands(tale, hands)
    tale.holds(sorted(map(len, hands.values())) == [0, 1, 1, 1],
               "Four members, three partitions: one is idle.")
    busy = [m for m in (billing, second, third, fourth) if m.assigned()]
    idle = next(m for m in (billing, second, third, fourth)
                if not m.assigned())
    tale.say("%s says goodbye (SIGTERM): the others are told at once.",
             busy[0].name)
    busy[0].leave()
    with tale.waiting("the group rebalances"):
        hands = dealt(system, busy[1], busy[2], idle)
    tell_hands(tale, hands)
    tale.holds(hands[idle.name], "%s, which stood by, has work now.",
               idle.name)
    tale.say("%s dies without a word (kill -9). Nobody knows until its session"
             " times out, here after a second, by default after 45; then its"
             " partitions go to the two that are left.", busy[1].name)
    busy[1].leave(signal.SIGKILL)
    with tale.waiting("its session times out"):
        hands = dealt(system, busy[2], idle)
    tell_hands(tale, hands)
    tale.holds(True, "All partitions are being read again.")

    tale.step("Lag: how far behind a group is")
    for member in busy[2], idle:
        member.leave()
    write(system, sent)
    lag = lag_of(kafka, "billing")
    tale.say("The last two go home, and %d more jobs come in. The group's"
             " positions are kept by Kafka, so what it is behind by can be"
             " told though nobody is there:", total)
    tale.bars([("partition %d" % p, n) for p, n in enumerate(lag)], " behind")
    tale.holds(sum(lag) == total, "The group's lag is the %d jobs that nobody"
               " has read.", total, otherwise=str(lag))
    back = Member(system, "billing", "billing-5")
    with tale.waiting("it catches up"):
        dealt(system, back)
        system.wait_for("the lag is gone", lambda: not any(
            lag_of(kafka, "billing")))
    tale.holds(len(back.records()) == total, "A member that comes back goes"
               " on where the group was, reads those %d, and the lag is 0.",
               total, otherwise="it read %d" % len(back.records()))
    kafka.close()
    tale.look(
        ("The group's members, by hand; start it in two terminals",
         "kcat -b localhost:%d -G billing %s" % (system.kafka_port, TOPIC)),
        ("What was written, and where it lies",
         "kcat -b localhost:%d -C -e -t %s -f '%%p/%%o %%k %%s\\n'" % (
             system.kafka_port, TOPIC)),
        ("The same in a hundred lines of C", "cmd/hello-consumer/main.c"),
        ("Why", "docs/KAFKA-CONCEPTS.md#consumer-groups"))
