"""delivery -- at most once, at least once and exactly once, in numbers."""

import collections
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import worker
from lossy import HOST, Lossy
from stage import run_to_end
from system import Failure
from verify import sequences

TITLE = "Delivery: the same faults, three guarantees"
DELIVERIES = ("at-most-once", "at-least-once", "exactly-once")
SEEDS = dict(zip(DELIVERIES, (11, 12, 13)))  # an event's id begins with it
EVENTS, RATE = 1000, 2000
BREAKS_EVERY = 8
# Small requests, many of them, and no long pauses after a break.
QUICKLY = ("--batch-size", "3000", "--property", "reconnect.backoff.ms=20",
           "--property", "reconnect.backoff.max.ms=40",
           "--property", "retry.backoff.ms=20")
JOBS = 50
DEATHS = (10, 20, 30)
HEAD = ("delivery", "sent", "arrived", "lost", "twice")


def counted(ids, count):
    """(arrived, lost, twice) of things that were to be there once each."""
    seen = collections.Counter(ids)
    return len(seen), count - len(seen), sum(n - 1 for n in seen.values())


def produce(system, delivery):
    """Run the producer to its end, over a line that breaks; how often it did,
    before and after the broker had the records."""
    line = Lossy(system.kafka_port, BREAKS_EVERY)
    try:
        run_to_end(system, "event-producer", "--delivery", delivery,
                   "--count", str(EVENTS), "--rate", str(RATE),
                   "--seed", str(SEEDS[delivery]), "--drain-ms", "60s",
                   *QUICKLY, db=os.path.join(system.data, delivery + ".db"),
                   brokers="%s:%d" % (HOST, system.kafka_port))
    finally:
        line.close()
    return line.before, line.after


def arrived(kafka, delivery):
    """The ids of the events that a reader gets: Millrace's readers know a
    relay's repeats by their numbers and drop them."""
    ids = []
    for partition, records in enumerate(kafka.read_all("user-events")):
        own = [r for r in records if json.loads(r.value)["event_id"]
               .startswith("%d-" % SEEDS[delivery])]
        ids += [json.loads(r.value)["event_id"] for r in
                sequences(own, "partition %d" % partition)[0]]
    return ids


def tell_producers(tale, system, kafka):
    tale.step("From a producer to the broker")
    tale.say("""A producer sends, and waits for the broker's answer. If the
        line breaks, it can't know whether the records got there and the
        answer was lost, or whether they never arrived. Should it send them
        again?

        Here the line breaks at every %dth request, by turns before it has
        reached the broker, and after. Three producers send %d events each
        over it.""", BREAKS_EVERY, EVENTS)
    rows = []
    for delivery in DELIVERIES:
        with tale.waiting(delivery):
            breaks = produce(system, delivery)
        # The broker may be at it still, where nobody waited for an answer.
        last = [None]

        def is_quiet():
            before, last[0] = last[0], kafka.ends("user-events")
            return before == last[0]
        system.wait_for("all is written", is_quiet, every=0.2)
        rows.append((delivery, EVENTS, *counted(
            arrived(kafka, delivery), EVENTS), "%d + %d" % breaks))
    tale.table((*HEAD, "line broke"), rows)
    most, least, exactly = rows
    tale.holds(most[3] > 0 and most[4] == 0, "At most once (acks=0, no answer"
               " awaited) never sends again: %d lost, none twice.", most[3],
               otherwise="%r" % (most,))
    tale.holds(least[3] == 0 and least[4] > 0, "At least once (acks=all, and"
               " again until there is an answer) loses none, and %d are there"
               " twice.", least[4], otherwise="%r" % (least,))
    tale.holds(exactly[3:5] == (0, 0), "Exactly once: the producer numbers its"
               " batches, and the broker knows those that it has. None lost,"
               " none twice.", otherwise="%r" % (exactly,))


def do_jobs(system, way):
    """Let workers die at their places until one gets to the end; what was
    done."""
    path = os.path.join(system.data, way + ".db")
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path[:2]))
    for dies_at in (*DEATHS, -1):
        done = subprocess.run(
            [sys.executable, worker.__file__, str(system.kafka_port), path,
             way, str(dies_at)], env=env, capture_output=True, text=True)
        wanted = 0 if dies_at < 0 else -signal.SIGKILL
        if done.returncode != wanted:
            raise Failure("worker %s ended with status %d: %s" % (
                way, done.returncode, done.stderr[-300:]))
    db = sqlite3.connect(path)
    try:
        return [row[0] for row in db.execute("SELECT job FROM done")]
    finally:
        db.close()


def tell_consumers(tale, system, kafka):
    tale.step("From the broker to what a consumer does")
    tale.say("""A consumer has two things to do for each record: the work, and
        to note its place. It can die in between, and then the order of the
        two decides. Three workers do the same %d jobs; each is killed
        (kill -9) between the two steps of the jobs %s, and started again.""",
             JOBS, ", ".join(map(str, DEATHS)))
    kafka.create_topic(worker.TOPIC, 1)
    kafka.produce(worker.TOPIC, 0, [
        (None, b"job %d" % n, [], int(time.time() * 1000))
        for n in range(JOBS)])
    rows = []
    for way in ("commit-first", "work-first", "together"):
        with tale.waiting(way):
            rows.append((way, JOBS, *counted(do_jobs(system, way), JOBS)))
    tale.table(("order", "jobs", "done", "lost", "twice"), rows)
    deaths = len(DEATHS)
    tale.holds(rows[0][2:] == (JOBS - deaths, deaths, 0), "Place first, work"
               " then is at most once: the %d jobs at which it died were never"
               " done.", deaths, otherwise="%r" % (rows[0],))
    tale.holds(rows[1][2:] == (JOBS, 0, deaths), "Work first, place then is at"
               " least once: those %d were done twice.", deaths,
               otherwise="%r" % (rows[1],))
    tale.holds(rows[2][2:] == (JOBS, 0, 0), "There is no third order of two"
               " steps. What helps is one step: work and place in the same"
               " transaction of a database. Each job was done once.",
               otherwise="%r" % (rows[2],))


def tell(tale, system, rng):
    tale.say("""Two things happen to a record: somebody sends it, and somebody
        acts on it. In both places it can get lost, or happen twice. What does
        depends on nothing but the order in which things are done. Here the
        same faults meet all three orders, and the outcome is counted.""")
    with tale.waiting("a broker starts"):
        system.kafka_start(flags=("--advertise", HOST))
    kafka = system.kafka()
    tell_producers(tale, system, kafka)
    tell_consumers(tale, system, kafka)
    tale.say("""Millrace's services do both: they number what they send, and
        keep their place in the file that has their state. demo-exactly-once
        kills a whole system of them.""")
    kafka.close()
    tale.look(
        ("The worker and its three orders", "demo/worker.py"),
        ("What broke the line", "demo/lossy.py"),
        ("What the workers have done",
         "sqlite3 -readonly %s 'select job, count(*) from done group by 1"
         " having count(*) > 1'" % os.path.join(system.data,
                                                "work-first.db")),
        ("The producer's choice", "build/bin/event-producer --help"),
        ("Why", "docs/KAFKA-CONCEPTS.md#what-is-delivered-and-how-often"))
