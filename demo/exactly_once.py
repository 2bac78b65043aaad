"""exactly_once -- a saga of three services, while they are being killed."""

import collections
import time

import verify
from load import ITEMS, Ledger, Load, restock
from stage import ask

TITLE = "Exactly once: a saga, while its services are killed"
SERVICES = ("orders", "inventory", "notifications")
KILLS = 12
BROKER_AT = 6  # the kill that is the broker's
SESSION_MS = 1500


def on_hand(system, item):
    return {s["item"]: s["on_hand"]
            for s in ask(system, "GET", "/stock")["stock"]}[item]


def order(system, ledger, item, quantity, status):
    """Place one, and wait until it is so; its trace."""
    placed = ask(system, "POST", "/orders",
                 {"item": item, "quantity": quantity})
    ledger.add(placed)
    path = "/orders/" + placed["id"]
    system.wait_for("the order is decided", lambda: ask(
        system, "GET", path)["status"] == status, every=0.01)
    return placed["id"], ask(system, "GET", path)["trace"]


def tell_trace(tale, trace):
    tale.table(("event", "topic/partition/offset", "changed"), [
        (t["type"], "%s/%d/%d" % (t["topic"], t["partition"], t["offset"]),
         ", ".join(r["file"] for r in t["rows"])) for t in trace])


def tell_saga(tale, system, ledger):
    tale.step("A saga that goes well")
    tale.say("""An order takes three services, each with a file of its own,
        and no transaction spans them. Each does its part in a transaction of
        its own, and says so in an event, on which the next one acts.""")
    _, trace = order(system, ledger, "Laptop", 2, "CONFIRMED")
    tell_trace(tale, trace)
    tale.holds([t["type"] for t in trace] == [
        "order.created", "inventory.reserved"], "orders took it, inventory"
               " reserved the pieces, orders confirmed.")

    tale.step("One that doesn't, and its compensation")
    _, trace = order(system, ledger, "Unobtainium", 1, "REJECTED")
    tell_trace(tale, trace)
    tale.holds(trace[-1]["type"] == "inventory.rejected", "What can't be had"
               " is rejected by whoever finds out: nothing was reserved, so"
               " nothing is to be undone.")
    before = on_hand(system, "Phone")
    key, _ = order(system, ledger, "Phone", 3, "CONFIRMED")
    during = on_hand(system, "Phone")
    ask(system, "DELETE", "/orders/" + key, b"")
    ledger.cancelled[key] = 200
    system.wait_for("its pieces are released", lambda: len(ask(
        system, "GET", "/orders/" + key)["trace"]) == 4, every=0.01)
    tell_trace(tale, ask(system, "GET", "/orders/" + key)["trace"])
    after = on_hand(system, "Phone")
    tale.holds((during, after) == (before - 3, before), "What was done can't"
               " be rolled back, as others have seen it: it is made good by"
               " another transaction. %d phones were on hand, then %d, and"
               " after the cancellation %d again.", before, during, after)


def kill_all_the_time(tale, system, rng, work):
    victims = collections.Counter()
    for number in range(KILLS):
        if number == BROKER_AT:
            system.kafka_kill()
            system.kafka_start(wait=False)
            victims["the broker"] += 1
        else:
            victim = rng.choice(SERVICES)
            system.kill(victim)
            victims[victim] += 1
        time.sleep(rng.uniform(0.1, 0.5))  # it may hit them anywhere
        if work.failures:
            raise work.failures[0]
    return victims


def tell_kills(tale, system, rng, ledger):
    tale.step("Now with kill -9")
    tale.say("""Three customers order as fast as they are answered, and cancel
        some of it. They repeat a request that got no answer, with the same
        Idempotency-Key. Meanwhile the services are killed at any moment, %d
        times in all, and once it is the broker; each is started again at
        once.""", KILLS)
    for item in ITEMS:
        restock(system, ledger, item, 1000)
    with Load(system, ledger, rng.random(), clients_count=3,
              pause_s=0.02) as work:
        with tale.waiting("orders come in, services die"):
            victims = kill_all_the_time(tale, system, rng, work)
    tale.bars(sorted(victims.items()), " times killed")
    with tale.waiting("what is under way comes to its end"):
        system.ready(*SERVICES)
        verify.settle(system, SERVICES)
        repeats = verify.check(system, ledger, SERVICES)
    counts = dict(system.select(
        "orders", "SELECT status, count(*) FROM orders GROUP BY 1"))
    tale.bars(sorted(counts.items()), " orders")
    tale.say("The customers have a list of what they were promised. It is held"
             " against the services' files and the topics, by the command"
             " `millrace state verify` and by another program:")
    tale.must(sum(victims.values()) == KILLS, "%d kills" % KILLS)
    tale.holds(sum(counts.values()) == len(ledger.orders), "Each of the %d"
               " orders that were promised is there, once, though %d requests"
               " had to be repeated and were recognised.",
               len(ledger.orders), ledger.replayed)
    tale.holds(set(counts) <= set(verify.STATUSES), "Each was decided once,"
               " and its customer told once what became of it.")
    rows = system.select("inventory", "SELECT item, received, on_hand,"
                         " reserved FROM inventory ORDER BY item")
    tale.table(("item", "came in", "on hand", "reserved"), rows)
    tale.holds(all(r[1] == r[2] + r[3] for r in rows), "To the piece: what"
               " came in is on hand or reserved for an order that stands;"
               " every cancellation gave back what it had.")
    tale.say("""How? A service's file holds its state, its place in each
        partition and the records that it has yet to send, and one transaction
        changes them together. What is sent again after a crash, %d records
        here, bears the number that it had, and is dropped by the next
        service.""", repeats)


def tell(tale, system, rng):
    tale.say("""Exactly once isn't a property of a wire: whatever is sent can
        get lost or come twice. It is a property of what is in the files in
        the end. Here are orders, inventory and notifications with a broker,
        and nginx in front.""")
    ledger = Ledger()
    with tale.waiting("the services start"):
        system.nginx_start()
        system.kafka_start()
        system.start_all(SERVICES, session_ms=SESSION_MS)
    tell_saga(tale, system, ledger)
    tell_kills(tale, system, rng, ledger)
    tale.look(
        ("An order and its trace",
         "curl 'http://localhost:%d/orders?limit=3'" % system.web_port),
        ("Whether it all adds up",
         "build/bin/millrace state verify --data %s --brokers localhost:%d" % (
             system.data, system.kafka_port)),
        ("Who was killed when", "grep -h msg=started %s/*.log" % system.logs),
        ("How it works", "docs/ARCHITECTURE.md"),
        ("Every failpoint, every system call, thousands of times",
         "tests/scenario/run --only killed-at-random --kills 2000"))
