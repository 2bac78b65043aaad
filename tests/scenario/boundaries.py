"""boundaries -- kill -9 at each system call by which an order leaves traces.

What a service writes, to its file, to sockets and to its own threads, while
one order passes is watched first.  Then it is killed at each of these calls,
told by its thread's name, the call's, and its number since the order came.
"""

import contextlib
import uuid

import load
from scenario import scenario
from system import expect
from traced import killed_at, places_in, threads_of, traced
from verify import settle_and_check

SERVICES = ("orders", "inventory", "notifications")
CALLS = ("pwrite64,write,writev,sendmsg,sendto,fdatasync,fsync,ftruncate,"
         "unlink,rename,openat")
SESSION_MS = 1500


def place(context, seconds=60):
    """One order; answered, however often the service dies meanwhile."""
    item = context.rng.choice(load.ITEMS)
    answer = load.post_until(context.system, "orders", "/orders",
                             {"item": item, "quantity": 1},
                             str(uuid.uuid4()), seconds)
    expect(answer.status == 201, "POST /orders: %r", answer)
    context.ledger.add(answer.json())
    return answer.json()["id"]


def notified(system, order_id):
    return system.value("notifications", "SELECT count(*) FROM notifications"
                        " WHERE order_id = ?", order_id) > 0


def watch(context):
    """{service: [(thread's name, call, number)]} of one order's life."""
    system = context.system
    names = {s: threads_of(system.services[s].pid) for s in SERVICES}
    with contextlib.ExitStack() as stack:
        paths = {s: stack.enter_context(traced(
            system, s, ["-e", "trace=" + CALLS])) for s in SERVICES}
        order_id = place(context)
        system.wait_for("it is notified of",
                        lambda: notified(system, order_id))
    return {s: places_in(path, names[s]) for s, path in paths.items()}


def kill_at(context, picks):
    """An order during which each service dies at its pick; returns how many
    did.  The calls of two lives differ a little: there are more orders."""
    system = context.system
    ends = len(system.ends)
    with contextlib.ExitStack() as stack:
        for service, place_ in picks.items():
            stack.enter_context(killed_at(system, service, place_))
        for _ in range(3):
            order_id = place(context)
            system.wait_for("the order is notified of",
                            lambda i=order_id: notified(system, i), 60)
            if len(system.ends) - ends >= len(picks):
                break
    return len(system.ends) - ends


@scenario(kind="own", small=False)
def killed_at_boundaries(context):
    """kill -9 of each service at its writes, sends and syncs for one order:
    some of them, all with --long."""
    system = context.system
    system.kafka_start()
    system.start_all(SERVICES + ("prices",), session_ms=SESSION_MS)
    place(context)  # what only the first order does is done
    found = watch(context)
    for service, picks in found.items():
        expect(len(picks) > 4, "%s: only %r", service, picks)
        context.rng.shuffle(picks)
    rounds = max(map(len, found.values())) if context.options.long else 4
    wanted = reached = 0
    for n in range(rounds):
        picks = {s: found[s][n] for s in SERVICES if n < len(found[s])}
        system.ready(*SERVICES)
        wanted += len(picks)
        reached += kill_at(context, picks)
    bad = [e for e in system.ends if e[2] != -9]
    expect(not bad, "ended otherwise: %r", bad[:3])
    system.ready(*SERVICES)
    settle_and_check(system, context.ledger)
    expect(reached >= wanted * 0.6, "%d of %d calls were reached", reached,
           wanted)
    context.say("%d calls of %d (%s), %d orders" % (
        reached, sum(map(len, found.values())), ", ".join(
            "%s %d" % (s, len(found[s])) for s in SERVICES),
        len(context.ledger.orders)))
