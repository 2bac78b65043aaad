"""recovery -- how long after a fault's end orders are decided again."""

import time

import load
from system import expect

LIMIT_S = 15
# They are in a partition each of order-events.
ITEMS = ("Headphones", "Laptop", "Phone")


def measure(context, fault, since, limit_s=LIMIT_S):
    """Orders of three partitions are placed, decided and told of; since is
    when the fault's cause ended.  Says how long it took."""
    system, ids = context.system, []
    for item in ITEMS:
        answer = load.post_until(system, "orders", "/orders",
                                 {"item": item, "quantity": 1}, None, 60)
        expect(answer.status == 201, "POST /orders: %r", answer)
        context.ledger.add(answer.json())
        ids.append(answer.json()["id"])
    for order_id in ids:
        system.wait_for("an order after %s is told of" % fault, lambda i=
                        order_id: system.value(
                            "notifications", "SELECT count(*) FROM"
                            " notifications WHERE order_id = ?", i) and
                        system.value(
                            "orders", "SELECT status <> 'PENDING' FROM orders"
                            " WHERE id = ?", i), 60)
    seconds = time.monotonic() - since
    context.say("%s: %.1f s" % (fault, seconds))
    expect(seconds < limit_s, "%s: orders go on %.1f s later, not %d",
           fault, seconds, limit_s)
    return seconds
