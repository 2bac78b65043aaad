"""events -- what users do, written once, and kept as several views."""

import collections
import json
import textwrap
import time

from platform_ import Shop, answers_agree, rows_agree
from stage import ask, open_up, run_to_end
from tools import state

TITLE = "User events: one log, and views made of it (CQRS)"
EVENTS = 3000
HOURS = 3
GRACE_MS = 60000


def tell_writing(tale, system, kafka):
    tale.step("The side that writes")
    begin_ms = int(time.time() * 1000) - HOURS * 3600000
    with tale.waiting("people are in the shop"):
        run_to_end(system, "event-producer", "--count", str(EVENTS),
                   "--rate", "0", "--pace", str(EVENTS / HOURS / 3600),
                   "--users", "200", "--sessions", "20", "--late-share",
                   "0.05", "--late-by", "90s", "--start-ms", str(begin_ms))
    partitions = kafka.read_all("user-events")
    events = [json.loads(r.value) for records in partitions for r in records]
    tale.say("event-producer makes up %d hours of a shop, %d events of 200"
             " users, and is done with it in no time. It says what happened,"
             " and no more: whatever anybody may want to know of it later is"
             " none of its business. The last one:", HOURS, len(events))
    tale.show(*textwrap.wrap(partitions[0][-1].value.decode().replace(
        ',"', ', "'), 70))
    tale.bars(sorted(collections.Counter(
        e["event"] for e in events).items()), " events")
    homes = collections.defaultdict(set)
    for number, records in enumerate(partitions):
        for r in records:
            homes[json.loads(r.value)["user_id"]].add(number)
    tale.holds(len(events) == EVENTS and
               all(len(home) == 1 for home in homes.values()),
               "All %d are in the topic, and each user's are in one partition,"
               " since the user is the key.", EVENTS)
    return partitions


def tell_windows(tale, system, shop):
    tale.step("The side that reads: views, fit for their questions")
    tale.say("analytics reads the topic and keeps tables, by the time at which"
             " things happened, not at which it heard of them: what comes out"
             " of order still falls into its minute. After a minute of grace a"
             " minute is closed, and who comes then is counted as late: not"
             " mixed in, and not lost.")
    first, last = min(shop.users), max(shop.users)
    span = "from=%d&to=%d" % (first, last + 60000)
    windows = ask(system, "GET", "/analytics/windows?limit=1440&" +
                  span)["windows"]
    tale.curve("events by minute", [
        w["click"] + w["purchase"] + w["signup"] for w in windows])
    funnel = ask(system, "GET", "/analytics/funnel?" + span)["funnel"]
    tale.bars([(f["step"], f["sessions"]) for f in funnel], " sessions")
    revenue = ask(system, "GET", "/analytics/summary?" + span)["revenue"]
    tale.table(("currency", "purchases", "revenue"), [
        (r["currency"], r["purchases"], "%.2f" % (r["amount_minor"] / 100))
        for r in revenue])
    late = sum(shop.late.values())
    ever = ask(system, "GET", "/analytics/summary")["ever"]
    tale.holds((ever["events"], ever["late"]) == (EVENTS, late) and late > 0,
               "%d in time and %d late are %d: none is missing.",
               EVENTS - late, late, EVENTS, otherwise="%r" % ever)
    answers_agree(system, shop)
    rows_agree(system, shop)
    tale.holds(True, "Each window, each session, the funnel and the top users"
               " are what a program of its own computes from the same topic.")


def tell_again(tale, system, shop):
    tale.step("A view can be thrown away")
    tale.say("""That is what it takes to separate the two: Command Query
        Responsibility Segregation, CQRS. Writing knows nothing of the views;
        so a view can be changed, added a year later, or lost. This one is
        lost now, and made anew from the log:""")
    system.stop("analytics")
    with tale.waiting("the view is made anew"):
        said, _ = state(system, "rebuild", "--db", system.db_of("analytics"),
                        "--yes")
        tale.show("$ millrace state rebuild --db data/analytics.db",
                  "Done" if "Done" in said else said)
        start_reading(system)
    rows_agree(system, shop)
    answers_agree(system, shop)
    tale.holds(True, "Every row is as it was.")


def start_reading(system):
    system.start("analytics", flags=("--grace", "%dms" % GRACE_MS))
    system.ready("analytics")
    system.wait_for("all is counted", lambda: system.value(
        "analytics", "SELECT sum(events) FROM progress") == EVENTS)


def tell(tale, system, rng):
    tale.say("""A table that is written to in one way and asked in ten is good
        at none. Here what happens is written to a topic, as events, and the
        questions are answered from views that others make of it.""")
    kafka = open_up(tale, system)
    partitions = tell_writing(tale, system, kafka)
    shop = Shop(partitions, GRACE_MS)
    with tale.waiting("analytics reads"):
        start_reading(system)
    tell_windows(tale, system, shop)
    tell_again(tale, system, shop)
    kafka.close()
    site = "http://localhost:%d" % system.web_port
    tale.look(
        ("The view as a page", site + "/ui/analytics"),
        ("and its questions", "curl '%s/analytics/funnel'" % site),
        ("The events", "kcat -b localhost:%d -C -e -t user-events -c 5" %
         system.kafka_port),
        ("The tables", "sqlite3 -readonly %s .schema" %
         system.db_of("analytics")),
        ("The same with `make run`", "http://localhost:8000/ui/analytics"))
