"""orders -- from a POST's answer to its notification's commit, through all
three services, beside what Kafka itself takes.
"""

import statistics
import time

from rig import say

PROGRAMS = ("orders", "inventory", "notifications")
WARM_UP_S = 60
WARM_MS = 10
ERROR_MS = "+1 at most, +0.5 on average: read every 1 ms"


def start(rig):
    rig.nginx_start()
    for program in PROGRAMS:
        rig.start(program)
    rig.call("inventory", "POST", "/stock/Laptop", b'{"quantity":1000000}')


def stop(rig):
    for program in PROGRAMS:
        rig.stop(program)


def measure(b):
    """Turns of Kafka's round trips, and of orders: (of those, of these)."""
    rig = b.rig

    def orders(seconds):
        result = rig.output("latency", str(rig.web_port),
                            "file:" + rig.db_of("notifications"),
                            str(b.args.rate), str(seconds))
        say("orders: %d/s, p50 %.2f ms, p99 %.2f ms" % (
            result["rate"], result["p50"], result["p99"]))
        return result

    warm_up(b, lambda: orders(b.args.seconds))
    return b.turns(lambda: round_trips(b), lambda: orders(b.args.seconds))


def warm_up(b, measure):
    """Apache Kafka's code is compiled while it runs, which for three brokers
    takes two processors a minute: until its round trips don't queue."""
    until = time.monotonic() + WARM_UP_S
    warm = False
    while not warm and time.monotonic() < until:
        measure()
        warm = round_trips(b)["p50"] < WARM_MS


def round_trips(b):
    """Kafka's own, at the same pace."""
    result = b.rig.output("roundtrip", b.rig.brokers, str(b.args.rate),
                          str(b.args.seconds))
    say("round trip: %d/s, p50 %.2f ms, p99 %.2f ms" % (
        result["rate"], result["p50"], result["p99"]))
    return result


def middle(results, name):
    return statistics.median(r[name] for r in results)


def parts(b, bench, bare, subject):
    """The rows of what such a latency is made of."""
    b.add(bench, "  of it, Kafka's round trips: one takes",
          "p50 %.2f, p99 %.2f" % (middle(bare, "p50"), middle(bare, "p99")),
          "ms")
    b.add(bench, "  round trips a second reached",
          round(middle(bare, "rate")), "1/s")
    b.add(bench, "  and fsyncs: one takes",
          "p50 %(p50).2f, p99 %(p99).2f" % b.rig.fsync_ms(), "ms")
    b.add(bench, "  POST to its answer", "p50 %.2f, p99 %.2f" % (
        middle(subject, "post_p50"), middle(subject, "post_p99")), "ms")
    b.add(bench, "  orders a second reached",
          round(middle(subject, "rate")), "1/s")
