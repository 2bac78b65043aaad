"""plain -- what readers see that know nothing of sources and marks."""

import json
import os
import shutil
import time
import uuid

import load
import readers
import verify
from kills import SESSION_MS, failpoints_named, watch_plans
from scenario import scenario
from system import expect
from tools import backup, database_id, plan_unasked, state

TOPICS = {"orders": "order-events", "inventory": "inventory-events",
          "price-producer": "stock-prices"}
SERVICES = tuple(TOPICS)
TRANSACTIONAL = ("--relay", "transactional")


def addresses(system):
    return "127.0.0.1:%d" % system.kafka_port


def repeats_of(system, service, seen, above=0):
    """How many records with a higher number a plain reader has seen more than
    once; one that is missing fails."""
    ids = [n for _, source, n in seen
           if source.split("/")[2] == service and n > above]
    issued = issued_by(system, service)
    missing = set(range(above + 1, issued + 1)) - set(ids)
    if service == "inventory":  # it has dead letters' topic, unused here
        expect(system.value(service, "SELECT count(*) FROM dead_letters")
               == 0, "dead letters of inventory")
    expect(not missing, "%s: %d of %d records are missing: %r", service,
           len(missing), issued - above, sorted(missing)[:3])
    return len(ids) - len(set(ids))


def issued_by(system, service):
    return system.value(
        service, "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")


def kill_all(context, work, plan_of, seconds=60):
    """Work off a plan of failpoints for each service, at the same time."""
    system = context.system
    count = 0
    for service in SERVICES:
        plan = plan_of(service)
        count += len(plan)
        with system.lock:
            system.plans[service] = plan
            system.kill(service)
    watch_plans(system, seconds * system.settings.slow)
    expect(not work.failures, "%s", work.failures)
    return count


def stopped(system):
    """Stop them once they have sent all, which a stop does where it is the
    instance's turn to send; prices don't cease before."""
    system.ready(*SERVICES)
    for service in ("orders", "inventory"):
        system.wait_for("the outbox of %s is empty" % service, lambda:
                        system.value(service, "SELECT count(*) FROM outbox")
                        == 0, 60)
    system.wait_for("price-producer sends", lambda: system.metric(
        "price-producer", "millrace_messages_relayed_total") > 0, 60)
    system.stop(*SERVICES)
    left = {s: system.value(s, "SELECT count(*) FROM outbox")
            for s in SERVICES}
    expect(not any(left.values()), "left in outboxes: %r", left)


@scenario(kind="own", small=False, about_broker="kafka", seconds=60)
def plain_reader_sees_once(context):
    """kcat and Java's console consumer, reading committed records, while owners
    of the relay are killed at every step and at random, and the broker as well:
    transactional, each record once; idempotent, which is the control, some
    twice."""
    system = context.system
    rng = context.rng
    system.kafka_start()
    system.start_all(SERVICES, failpoints=True, session_ms=SESSION_MS)
    for item in load.ITEMS:
        load.restock(system, context.ledger, item, 100000)
    with load.Load(system, context.ledger, rng.random(), clients_count=2,
                   pause_s=0.03, seconds=120) as work:
        kills = kill_all(context, work, lambda _: ["relay.acked=kill@1"])
    stopped(system)
    seen = readers.kcat(addresses(system), *TOPICS.values())
    control = {s: repeats_of(system, s, seen) for s in SERVICES}
    repeats = sum(control.values())
    expect(repeats > 0, "the control, idempotent, has repeated nothing")
    context.say("idempotent: %d kills, %d records seen again" % (
        kills, repeats))
    above = change_to_transactional(system)
    points = [p for p in failpoints_named("stream")
              if p.startswith("transaction.")] + ["relay.sent"]
    rng.shuffle(points)
    plans = {s: ["%s=kill@0" % p for p in points[i::len(SERVICES)]]
             for i, s in enumerate(SERVICES)}
    with load.Load(system, context.ledger, rng.random(), clients_count=2,
                   pause_s=0.03, seconds=120) as work:
        kills = kill_all(context, work, plans.get)
        kills += kill_at_random(context)
        expect(not work.failures, "%s", work.failures)
    stopped(system)
    for name, reader in readers.KINDS.items():
        seen = reader(addresses(system), *TOPICS.values())
        for service in SERVICES:
            again = repeats_of(system, service, seen, above[service])
            expect(again == 0, "%s: %d records are seen again by %s", service,
                   again, name)
            expect(repeats_of(system, service, seen) > 0 or
                   not control[service],
                   "%s: %s doesn't see the control's repeats", service, name)
    verify.check_files(system, SERVICES)
    context.say("transactional: %d kills, %d records, each seen once" % (
        kills, sum(issued_by(system, s) - above[s] for s in SERVICES)))


def change_to_transactional(system):
    """Start again in the other way; what each had given out before."""
    above = {s: issued_by(system, s) for s in SERVICES}
    for service in SERVICES:
        system.start(service, failpoints=True, session_ms=SESSION_MS,
                     flags=TRANSACTIONAL)
    system.wait_for("all relay by transactions", lambda: all(
        system.value(s, "SELECT transactional FROM relay") == 1
        for s in SERVICES), 30)
    # What was sent before the change went the old way.
    return {s: max(above[s], issued_by(system, s)) for s in SERVICES}


def kill_at_random(context, rounds=2):
    """Each round one service, and once the broker."""
    system, rng = context.system, context.rng
    for n in range(rounds):
        # A pause of random length is what is tested here.
        time.sleep(rng.uniform(0.5, 1.5) * system.settings.slow)
        system.kill(rng.choice(SERVICES))
        if n == 0:
            system.kafka_kill()
            system.kafka_start()
    return rounds


def start_orders(system):
    system.start("orders", flags=TRANSACTIONAL)
    system.ready("orders")
    system.wait_for("it relays by transactions", lambda: system.value(
        "orders", "SELECT transactional FROM relay") == 1, 30)


def order(context, count):
    """Orders that are answered, sent or not."""
    for _ in range(count):
        answer = load.post_until(
            context.system, "orders", "/orders",
            {"item": "Laptop", "quantity": 1}, str(uuid.uuid4()), 60)
        expect(answer.status == 201, "an order: %r", answer)


def all_sent(system):
    system.wait_for("the outbox of orders is empty", lambda: system.value(
        "orders", "SELECT count(*) FROM outbox") == 0, 60)


def lives_seen(system, service):
    """{database id: how many records}; none may be there twice."""
    lives = {}
    for _, source, n in readers.kcat(addresses(system), TOPICS[service]):
        lives.setdefault(source.rsplit("/", 1)[1], []).append(n)
    for life, ids in lives.items():
        expect(len(set(ids)) == len(ids), "%s: %d records are seen again",
               life, len(ids) - len(set(ids)))
    return {life: len(ids) for life, ids in lives.items()}


def accepted(system, *words):
    words += ("--db", system.db_of("orders"))
    expect(plan_unasked(system, *words) == plan_unasked(system, *words),
           "%s changed the file before it was told to", words[0])
    told = json.loads(state(system, *words, "--yes", "-o", "json")[0])
    expect(told["done"], "%s: %r", words[0], told)


@scenario(kind="own", small=False, about_broker="kafka", seconds=20)
def transactional_copies(context):
    """A copy whose outbox was sent after it was taken: restored by the
    command, and put back by hand, which halts until it is accepted.  kcat,
    reading committed records, sees each record of each life once."""
    system = context.system
    system.kafka_start()
    start_orders(system)
    order(context, 10)
    all_sent(system)
    system.kafka_kill()
    order(context, 10)  # they wait
    copy = backup(system, "orders")["orders"]
    system.kafka_start()
    all_sent(system)
    first = database_id(system, "orders")

    system.stop("orders")
    accepted(system, "restore", "--from", copy)
    start_orders(system)
    second = database_id(system, "orders")
    order(context, 5)
    all_sent(system)
    expect(lives_seen(system, "orders") == {first: 20, second: 5},
           "restored: %r", lives_seen(system, "orders"))

    older = os.path.join(system.copies, "older.db")
    system.stop("orders")
    shutil.copy(system.db_of("orders"), older)
    start_orders(system)
    order(context, 7)
    all_sent(system)
    system.stop("orders")
    shutil.copy(older, system.db_of("orders"))
    size = system.log_size("orders")
    system.start("orders", flags=TRANSACTIONAL)
    system.wait_for("the older file is told", lambda: "accept-cursor" in
                    system.log("orders", size), 30)
    system.stop("orders")
    accepted(system, "accept-cursor")
    start_orders(system)
    third = database_id(system, "orders")
    order(context, 3)
    all_sent(system)
    system.stop("orders")
    expect(lives_seen(system, "orders") == {first: 20, second: 12, third: 3},
           "accepted: %r", lives_seen(system, "orders"))
    verify.check_files(system, ("orders",))
    context.say("three lives: %r" % list(lives_seen(
        system, "orders").values()))
