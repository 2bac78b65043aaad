"""kafka -- what services make of Apache Kafka: the relay's two ways to send, a
backlog beside a bare consumer and a bare loop, orders over three brokers.

Each part has a Kafka of its own, started as `make kafka` does.
"""

import os
import time

import orders
from consumers import (
    bare, growth_of, inventory_turn, make_backlog, memory_of, rates_of,
    remove_file)
from orders import middle
from rig import Rig, Trouble, say, wait_for

OUTBOX_MOST = 100000  # records, above which a service takes no more


def anew(b, brokers=1):
    """Kafka with nothing in it, and no files of services; what was written
    before is on disk, as it would slow each commit down that follows."""
    b.rig.close(False)
    os.sync()
    b.rig = Rig(b.rig.build, "kafka")
    b.rig.kafka_start(brokers=brokers)
    return b.rig


def times_row(b, bench, what, other, subject, baseline, unit="ms"):
    """How much longer something takes than the baseline, the other."""
    b.add(bench, what, "%.1f, %s %.1f %s: %.2f" % (
        subject, other, baseline, unit, subject / baseline), "times",
        subject=subject, baseline=baseline)


# ---- relay ------------------------------------------------------------------

WAYS = ("idempotent", "transactional")


def way_check(rig, program, way):
    is_ = rig.metric(program, "millrace_relay_transactional")
    if is_ != (way == "transactional"):
        raise Trouble("%s doesn't relay as it was told: %s" % (program, way))


def full_turn(b, way):
    """Records a second of a relay that finds its outbox full."""
    rig, count = b.rig, min(b.args.records, OUTBOX_MOST)
    remove_file(rig.db_of("inventory"))
    rig.output("outbox", rig.db_of("inventory"), str(count))
    process = rig.start("inventory", "--relay", way, ready=False)

    def sent():
        rig.check()
        return rig.metric("inventory", "millrace_messages_relayed_total")

    at_first = wait_for("the relay sends", sent, every=0.002)
    first, cpu = time.monotonic(), process.cpu_s()
    wait_for("all is sent", lambda: sent() >= count, 300, 0.01)
    took, cpu = time.monotonic() - first, process.cpu_s() - cpu
    way_check(rig, "inventory", way)
    rig.stop("inventory")
    if rig.select("inventory", "SELECT count(*) FROM outbox")[0][0] != 0:
        raise Trouble("inventory ended with rows in its outbox")
    result = {"rate": (count - at_first) / took,
              "cpu_us": cpu * 1e6 / (count - at_first)}
    say("relay, %-13s: %d/s, CPU %.1f us each" % (
        way, result["rate"], result["cpu_us"]))
    return result


def paced_turn(b, way):
    """Orders at a steady pace, until a consumer of committed records has
    them: orders' relay alone."""
    rig = b.rig
    rig.start("orders", "--relay", way)

    def load(seconds):
        return rig.output("latency", str(rig.web_port), "kafka:" + rig.brokers,
                          str(b.args.rate), str(seconds))

    def transactions():
        return rig.metric("orders", "millrace_relay_transactions_total")
    load(2)
    before = transactions()
    result = load(b.args.seconds)
    result["lots"] = transactions() - before
    way_check(rig, "orders", way)
    rig.stop("orders")
    say("relay, %-13s: %d/s, answered after p50 %.2f ms, p99 %.2f ms; read "
        "after p50 %.2f ms, p99 %.2f ms" % (
            way, *(result[name] for name in (
                "rate", "post_p50", "post_p99", "p50", "p99"))))
    return result


def relays(b):
    """Those at a pace first: their commits would wait for the disk to have
    what the others wrote."""
    rig = anew(b)
    rig.nginx_start()
    orders.warm_up(b, lambda: paced_turn(b, WAYS[0]))
    trips, base, subject = b.turns(
        lambda: orders.round_trips(b),
        *(lambda w=way: paced_turn(b, w) for way in WAYS))
    for name in ("p50", "p99"):
        times_row(b, "relay", "order answered to read, transactional, " + name,
                  WAYS[0], middle(subject, name), middle(base, name))
    b.add("relay", "  orders in a transaction",
          round(middle(subject, "orders") / middle(subject, "lots"), 1), "")
    orders.parts(b, "relay", trips, subject)
    full_turn(b, WAYS[0])  # Kafka's code is compiled while it runs
    base, subject = b.turns(*(lambda w=way: full_turn(b, w) for way in WAYS),
                            times=2)
    rates_of(b, "relay", "%d records in the outbox, transactional" %
             min(b.args.records, OUTBOX_MOST), base, subject)
    times_row(b, "relay", "  CPU time a record, the service's threads",
              WAYS[0], middle(subject, "cpu_us"), middle(base, "cpu_us"), "us")


# ---- catch-up -----------------------------------------------------------------

def consumer_turn(b):
    """A bare client that reads the same records and drops them."""
    result = b.rig.output("records", "consume", b.rig.brokers, "order-events",
                          "3", str(b.args.records))
    result["cpu_us"] = result["cpu_s"] * 1e6 / b.args.records
    say("consumer: %d/s, CPU %.1f us each" % (result["rate"],
                                              result["cpu_us"]))
    return result


def catch_up(b):
    """Both baselines do a part of what the service does: it reads, applies
    and sends, and the broker is on the same processors."""
    anew(b)
    make_backlog(b)
    reads, loops, subject = b.turns(
        lambda: consumer_turn(b), lambda: bare(b, "loop"),
        lambda: inventory_turn(b))
    for name, base in (("consumer", reads), ("loop", loops)):
        rates_of(b, "catch-up", "inventory, %d orders, to a bare %s" % (
            b.args.records, name), base, subject)
    b.add("catch-up", "  CPU time a record, the service's threads",
          "%.1f, consumer %.1f, loop %.1f" % (
              middle(subject, "cpu_us"), middle(reads, "cpu_us"),
              1e6 * middle(loops, "cpu_s") / b.args.records), "us")
    b.add("catch-up", "  from its start until all are applied",
          round(middle(subject, "all_s"), 1), "s")
    b.add("catch-up", "  and until all that follows is in Kafka",
          round(middle(subject, "all_s") + middle(subject, "relayed_s"), 1),
          "s")
    memory_of(b, "catch-up", subject)
    growth_of(b, "catch-up", subject)


# ---- cluster --------------------------------------------------------------------

CLUSTERS = (1, 3)  # brokers


def clusters(b):
    """One after the other: what idles takes time of a processor, too."""
    found = []
    for brokers in CLUSTERS:
        rig = anew(b, brokers)
        orders.start(rig)
        trips, subject = orders.measure(b)
        found.append((trips, subject))
        b.add("cluster", "%d of Kafka: POST answered to notification committed"
              % brokers, "p50 %.2f, p99 %.2f" % (middle(subject, "p50"),
                                                 middle(subject, "p99")), "ms",
              error_ms=orders.ERROR_MS)
        orders.parts(b, "cluster", trips, subject)
        for name in ("p50", "p99"):
            b.add("cluster", "  as round trips of the same run, " + name,
                  round(middle(subject, name) / middle(trips, name), 1),
                  "times")
        orders.stop(rig)
    (base_trips, base), (trips, subject) = found
    for name in ("p50", "p99"):
        times_row(b, "cluster", "three brokers, an order's %s" % name, "one",
                  middle(subject, name), middle(base, name))
        times_row(b, "cluster", "three brokers, a round trip's %s" % name,
                  "one", middle(trips, name), middle(base_trips, name))


PARTS = {"relay": relays, "catch-up": catch_up, "cluster": clusters}


def bench(b):
    for part in PARTS:
        if not b.args.part or part in b.args.part:
            say("-- " + part)
            PARTS[part](b)
