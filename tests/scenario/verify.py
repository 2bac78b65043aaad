"""verify -- does everything that was promised add up?

settle() waits until nothing is under way.  check() then runs the checker
program, and looks itself as well, with other code, at files and topics.
"""

import os
import subprocess

from kafka_wire import KafkaError
from system import INPUTS, OUTPUTS, Failure, expect

CATALOGUE = {"Laptop": 1000, "Phone": 1000, "Headphones": 1000,
             "Monitor": 1000, "Keyboard": 1000}
ALL = ("orders", "inventory", "notifications", "prices")
MILLRACE = b"/millrace/"


def unsettled(system, kafka, services, lost):
    """What is still under way, or None."""
    for name in services:
        waiting = system.value(name, "SELECT count(*) FROM outbox")
        if waiting:
            return "%d rows in the outbox of %s" % (waiting, name)
    for name in services:
        topic = INPUTS.get(name)
        if topic is None:
            continue
        positions = dict(system.select(
            name, "SELECT partition, next_offset FROM positions"
            " WHERE topic = ?", topic))
        for partition, end in enumerate(kafka.ends(topic)):
            at = positions.get(partition, 0)
            if at != end:
                return "%s is at %d of %d in %s/%d" % (
                    name, at, end, topic, partition)
    if "orders" in services:
        pending = {row[0] for row in system.select(
            "orders", "SELECT id FROM orders WHERE status = 'PENDING'")}
        if pending - lost:
            return "%d orders are PENDING" % len(pending - lost)
    return None


def settle(system, services=ALL, seconds=60, lost=frozenset()):
    """Stop the prices first: nothing settles while something new comes.
    Orders whose event is lost stay pending."""
    kafka = system.kafka()
    last = [None]

    def settled():
        try:
            last[0] = unsettled(system, kafka, services, lost)
        except KafkaError as error:
            last[0] = str(error)
        if last[0] is not None:
            raise OSError(last[0])
        return True
    try:
        system.wait_for("all is settled", settled, seconds, 0.1)
        # Once more: an event may have been between a topic and a file.
        system.wait_for("all is settled", settled, seconds, 0.1)
    finally:
        kafka.close()


# -- topics ---------------------------------------------------------------

def sequences(records, where):
    """Drop the relays' repeats from a partition; complain of all else.

    Returns the records without repeats, and how many were dropped."""
    marks, kept, repeats = {}, [], 0
    for r in records:
        source = r.headers.get("ce_source") or b""
        if not source.startswith(MILLRACE) or \
                "ce_predecessor" not in r.headers:
            kept.append(r)
            continue
        seq = int(r.headers["ce_id"])
        before = int(r.headers["ce_predecessor"])
        mark = marks.get(source, 0)
        if seq <= mark:
            repeats += 1
            continue
        expect(before == mark or source not in marks and before == 0,
               "%s offset %d: seq %d of %s comes after %d, its predecessor"
               " is %d", where, r.offset, seq, source.decode(), mark, before)
        marks[source] = seq
        kept.append(r)
    return kept, repeats


def read_topics(system):
    """{topic: records without repeats}, repeats in all."""
    kafka = system.kafka()
    topics, repeats = {}, 0
    try:
        for topic in OUTPUTS + tuple(n + ".dead-letter" for n in INPUTS):
            topics[topic] = []
            for partition, records in enumerate(kafka.read_all(topic)):
                kept, dropped = sequences(records, "%s/%d" % (topic,
                                                              partition))
                topics[topic] += kept
                repeats += dropped
    finally:
        kafka.close()
    return topics, repeats


# -- files ----------------------------------------------------------------

OUTCOMES = {"reserved": {"confirmed"}, "rejected": {"rejected"},
            "released": {"confirmed", "cancelled"}}
STATUSES = {"CONFIRMED": ("reserved",), "REJECTED": ("rejected",),
            "CANCELLED": ("released", "rejected")}


def check_orders(system, ledger):
    orders = {row[0]: row[1:] for row in system.select(
        "orders", "SELECT id, status, item, quantity FROM orders")}
    lost = [i for i in ledger.orders if i not in orders]
    expect(not lost, "%d of %d acknowledged orders are lost, e.g. %s",
           len(lost), len(ledger.orders), lost[:3])
    if ledger.whole:
        expect(len(orders) == len(ledger.orders),
               "%d orders in the file, %d were acknowledged", len(orders),
               len(ledger.orders))
    for order_id, promised in ledger.orders.items():
        expect(orders[order_id][1:] == promised, "order %s is %r, was %r",
               order_id, orders[order_id][1:], promised)
    for order_id, status in ledger.cancelled.items():
        wanted = "CANCELLED" if status == 200 else "REJECTED"
        expect(orders[order_id][0] == wanted,
               "order %s is %s, its DELETE got %d", order_id,
               orders[order_id][0], status)
    return orders


def check_reservations(system, orders):
    reservations = {row[0]: row[1:] for row in system.select(
        "inventory", "SELECT order_id, status, item, quantity"
        " FROM reservations")}
    expect(set(orders) == set(reservations),
           "%d orders and %d reservations; only in one: %s", len(orders),
           len(reservations), list(set(orders) ^ set(reservations))[:3])
    both = rejected_and_cancelled(system)
    for order_id, (status, item, quantity) in orders.items():
        decided = reservations[order_id]
        expect(decided[0] in STATUSES.get(status, ()) and
               decided[1:] == (item, quantity),
               "order %s is %r, its reservation %r", order_id,
               (status, item, quantity), decided)
        expect(status != "CANCELLED" or decided[0] == "released" or
               order_id in both,
               "inventory never heard that order %s was cancelled", order_id)
    return reservations


def rejected_and_cancelled(system):
    return {row[0] for row in system.select(
        "inventory", "SELECT order_id FROM reservations"
        " WHERE cancelled_ms IS NOT NULL")}


def check_stock(system, ledger, reservations):
    reserved = {}
    for status, item, quantity in reservations.values():
        if status == "reserved":
            reserved[item] = reserved.get(item, 0) + quantity
    rows = system.select(
        "inventory", "SELECT item, on_hand, reserved, received FROM inventory")
    for item, on_hand, held, received in rows:
        expect(on_hand >= 0 and on_hand + held == received,
               "%s: %d on hand, %d reserved, %d received", item, on_hand,
               held, received)
        expect(held == reserved.get(item, 0),
               "%s: %d reserved, the reservations make %d", item, held,
               reserved.get(item, 0))
        if ledger.whole:
            came = CATALOGUE.get(item, 0) + ledger.received.get(item, 0)
            expect(received == came, "%s: %d received, %d came in", item,
                   received, came)


def check_notifications(system, reservations):
    told = {}
    for order_id, outcome in system.select(
            "notifications", "SELECT order_id, outcome FROM notifications"):
        told.setdefault(order_id, set()).add(outcome)
    cancelled = rejected_and_cancelled(system)
    for order_id, row in reservations.items():
        due = set(OUTCOMES[row[0]])
        if order_id in cancelled:
            due.add("cancelled")
        expect(told.get(order_id, set()) == due,
               "order %s was %s, its customer was told %s", order_id, row[0],
               sorted(told.get(order_id, ())))
    expect(len(told) == len(reservations),
           "%d orders were notified of, %d decided", len(told),
           len(reservations))


def check_topics(system, reservations, services):
    topics, repeats = read_topics(system)
    ours = [r for r in topics["order-events"]
            if (r.headers.get("ce_source") or b"").startswith(MILLRACE)]
    created = sum(r.headers["ce_type"] == b"order.created" for r in ours)
    expect(created == len(reservations),
           "%d order.created in the topic, %d reservations", created,
           len(reservations))
    ours = [r for r in topics["inventory-events"]
            if (r.headers.get("ce_source") or b"").startswith(MILLRACE)]
    decided = sum(r.headers["ce_type"] in (b"inventory.reserved",
                  b"inventory.rejected") for r in ours)
    expect(decided == len(reservations),
           "%d decisions in the topic, %d reservations", decided,
           len(reservations))
    for name in services:
        rows = system.value(name, "SELECT (SELECT count(*) FROM dead_letters)"
                            " + (SELECT count(*) FROM dead_letters_gone)")
        sent = len(topics[name + ".dead-letter"])
        expect(rows == sent, "%s has %d dead letters, with those that went,"
               " %d are in the topic", name, rows, sent)
    if "prices" in services:
        points = system.value("prices", "SELECT seq FROM prices_cursor")
        bad = system.value("prices", "SELECT count(*) FROM dead_letters")
        expect(points + bad == len(topics["stock-prices"]),
               "%d prices and %d dead letters of %d records", points, bad,
               len(topics["stock-prices"]))
    return topics, repeats


def check_files(system, services):
    for name in services:
        result = system.value(name, "PRAGMA quick_check")
        expect(result == "ok", "quick_check of %s: %s", name, result)


def run_checker(system, ledger):
    """The checker program, where it is built: its output, or None."""
    program = os.path.join(system.settings.bin, "millrace")
    if not os.path.exists(program):
        return None
    acknowledged = os.path.join(system.base, "acknowledged")
    ledger.write(acknowledged)
    done = subprocess.run(
        [program, "state", "verify", "--data", system.data, "--brokers",
         system.brokers, "--acknowledged", acknowledged, "--settled"], capture_output=True, text=True,
        timeout=120 * system.settings.patience)
    if done.returncode != 0:
        raise Failure("the checker says (status %d):\n%s%s" % (
            done.returncode, done.stdout, done.stderr))
    return done.stdout


def check(system, ledger, services=ALL):
    """Call it when settled.  Returns how many repeats the readers dropped."""
    orders = check_orders(system, ledger)
    reservations = check_reservations(system, orders)
    check_stock(system, ledger, reservations)
    check_notifications(system, reservations)
    _, repeats = check_topics(system, reservations, services)
    check_files(system, services)
    run_checker(system, ledger)
    return repeats


def check_orders_alone(system, ledger):
    """Where nothing makes prices."""
    return check(system, ledger, ("orders", "inventory", "notifications"))


def settle_and_check(system, ledger):
    """Let the prices stop, wait, check, and let them go on."""
    prices = system.runs("price-producer")
    if prices:
        # One that was killed leaves its lease of the relay for 5 s, and a
        # drain doesn't wait for what isn't its own to send.
        system.wait_for("prices are relayed", lambda: system.metric(
            "price-producer", "millrace_messages_relayed_total") > 0)
        system.stop("price-producer")
    settle(system, ALL + (("price-producer",) if prices else ()))
    repeats = check(system, ledger)
    if prices:
        system.start("price-producer", **system.starts["price-producer"])
        system.ready("price-producer")
    return repeats
