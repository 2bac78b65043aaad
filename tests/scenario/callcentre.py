"""callcentre -- calls are counted to the last one."""

import json
import os
import signal
import sqlite3

import clients
from scenario import scenario
from system import expect

READERS = ("calls", "calls-2", "calls-3")
SESSION_MS = 1500
# Long enough for a dozen kills: a call each tenth of a millisecond.
FLAGS = {"call-producer": (
    "--calls-per-minute", "6000", "--speedup", "100", "--batch", "5000",
    "--interval-ms", "20", "--mean-duration-s", "30")}
# Sums as they are in the files, and everything that has to agree with them.
SQL_COUNTED = "SELECT sum(calls), sum(duration_ms) FROM %s"
SQL_MADE = "SELECT calls, duration_ms FROM center"


def counted(system, table="call_totals"):
    return tuple(x or 0 for x in system.select(
        "calls", SQL_COUNTED % table)[0])


class Told:
    """What a topic's records come to: each call once, however often its
    record is there."""

    def __init__(self, partitions):
        self.records = sum(len(records) for records in partitions)
        seen = {}
        for records in partitions:
            for record in records:
                seen.setdefault(record.headers["ce_id"], record.value)
        calls = [json.loads(value) for value in seen.values()]
        lasted = [round(call["duration_s"] * 1000) for call in calls]
        self.sums = (len(calls), sum(lasted))
        self.ids = {call["call_id"] for call in calls}
        self.long = {call["call_id"] for call, ms in zip(calls, lasted)
                     if ms > 60000}


def all_counted(system, count):
    try:
        return counted(system)[0] >= count
    except (OSError, sqlite3.Error):
        return False  # the tables aren't there yet


def disturb(context, most, seconds_between):
    """Kill, or stop and start, one after another until all is counted, at
    most so often; returns how often."""
    system, done = context.system, 0
    while done < most and not all_counted(system, context.options.calls):
        victim = context.rng.choice(READERS + ("call-producer",))
        # One that has only begun doesn't know how to drain.
        if context.rng.random() < 0.3 and "msg=started" in system.log(
                victim, system.starts_at[victim]):
            status, = system.stop(victim)
            expect(status == 0, "%s ended with status %d", victim, status)
            system.start(victim, **system.starts[victim])
        else:
            system.kill(victim)
        done += 1
        system.closing.wait(seconds_between)
    return done


def check_log(system, told):
    """Each long call has one line, and its row's number."""
    with open(os.path.join(system.data, "long-calls.log")) as f:
        lines = [json.loads(line) for line in f]
    expect([line["seq"] for line in lines] == list(range(
        1, len(lines) + 1)), "lines are missing, repeated or out of order")
    names = [line["call_id"] for line in lines]
    expect(len(names) == len(set(names)) and set(names) == told.long,
           "%d lines (%d calls), %d long calls in the topic", len(names),
           len(set(names)), len(told.long))


@scenario(kind="own", small=False, about_broker=True, seconds=15)
def calls_add_up(context):
    """Calls and durations are those of the topic to the last one, over kills
    and rebalances of three readers and the producer (--calls)."""
    system, count = context.system, context.options.calls
    system.kafka_start()
    for instance in READERS + ("call-producer",):
        flags = FLAGS.get(instance, ())
        if instance == "call-producer":
            flags += ("--count", str(count))
        system.start(instance, flags=flags, session_ms=SESSION_MS)
    kills = disturb(context, count // 4000, 0.5)
    system.wait_for("all calls are counted",
                    lambda: all_counted(system, count), 60 + count // 2000)
    system.ready(*READERS)
    made = system.select("call-producer", SQL_MADE)[0]
    expect(made[0] == count, "%d of %d calls were made", made[0], count)
    for table in ("call_totals", "call_minutes"):
        expect(counted(system, table) == made, "%s has %s, made were %s",
               table, counted(system, table), made)
    expect(system.value("calls", "SELECT sum(calls) FROM call_durations") ==
           count, "durations of another number of calls")
    kafka = system.kafka()
    told = Told(kafka.read_all("calls"))
    kafka.close()
    expect(told.sums == made and len(told.ids) == count,
           "the topic has %s, of %d names, made were %s", told.sums,
           len(told.ids), made)
    expect(system.value("calls", "SELECT count(*) FROM long_calls") ==
           len(told.long), "rows of another number of long calls")
    system.wait_for("all long calls have a line", lambda: system.value(
        "calls", "SELECT given = logged FROM long_call_log"))
    check_log(system, told)
    context.say("%d calls, %.1f h, %d long; %d kills and stops, %d records "
                "sent twice" % (count, made[1] / 3.6e6, len(told.long),
                                kills, told.records - count))
    # It has made all and ends as often as it is started: SIGTERM might meet
    # it before it can take any.
    system.kill("call-producer", restart=False)
    system.stop_all()


TRANSACTIONAL = ("--delivery", "transactional", "--calls-per-minute", "6000",
                 "--speedup", "1000", "--batch", "500", "--interval-ms", "5")
KILLS = 4


def stopped_amid_one(system, kafka):
    """Stop the producer where it left a transaction open: one whose commit
    was on its way is ended within the pause."""
    system.signal("call-producer", signal.SIGSTOP)
    system.closing.wait(0.1)
    if sum(kafka.ends("calls", committed=True)) < sum(kafka.ends("calls")):
        return True
    system.signal("call-producer", signal.SIGCONT)
    return False


@scenario(kind="own", about_broker=True)
def transactions_are_whole(context):
    """Produced in transactions and killed amid them, calls are counted that
    were committed, and no others; a broker without transactions ends it."""
    system = context.system
    system.kafka_start()
    if system.settings.broker == "embedded":
        ended = clients.run_to_end(
            [os.path.join(system.settings.bin, "call-producer"), "--brokers",
             "127.0.0.1:%d" % system.kafka_port, "--db",
             system.db_of("call-producer")] + list(TRANSACTIONAL), 30)
        expect(ended.returncode == 1 and
               "no transactions; use Apache Kafka, or another --delivery" in
               ended.stderr, "status %d, said %s", ended.returncode,
               ended.stderr)
        return
    system.start("calls", session_ms=SESSION_MS)
    system.start("call-producer", flags=TRANSACTIONAL)
    system.ready("calls", "call-producer")
    kafka = system.kafka()
    for _ in range(KILLS):
        before = sum(kafka.ends("calls"))
        system.wait_for("calls are written",
                        lambda: sum(kafka.ends("calls")) > before + 600)
        system.wait_for("a transaction is left open",
                        lambda: stopped_amid_one(system, kafka))
        system.kill("call-producer")
    system.ready("call-producer")
    status, = system.stop("call-producer")
    expect(status == 0, "call-producer ended with status %d", status)
    # A transaction's markers may follow its producer's end.
    system.wait_for("calls is at the end", lambda: system.value(
        "calls", "SELECT sum(next_offset) FROM positions") ==
        sum(kafka.ends("calls")))
    made, = system.select("call-producer", "SELECT calls FROM center")[0]
    seen = counted(system)[0]
    written = sum(len(records) for records in kafka.read_all("calls"))
    kafka.close()
    expect(made <= seen <= made + KILLS * 500,
           "%d calls were made, %d counted", made, seen)
    expect(written > seen, "no transaction was undone: %d written, %d counted",
           written, seen)
    context.say("%d calls made, %d counted, %d written; %d kills" %
                (made, seen, written, KILLS))
