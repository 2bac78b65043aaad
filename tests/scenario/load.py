"""load -- clients that place orders, and know what they were promised.

Every order is posted under an Idempotency-Key until it is answered, however
often the service dies in between: each key must become exactly one order.
"""

import http.client
import random
import threading
import time
import uuid

import clients
from system import Failure

ITEMS = ("Laptop", "Phone", "Headphones", "Monitor", "Keyboard")


def restock(system, ledger, item, quantity, instance="inventory"):
    """POST /stock until it is answered, once by its key."""
    key = str(uuid.uuid4())
    answer = post_until(system, instance, "/stock/" + item,
                        {"quantity": quantity}, key, 60)
    if answer.status not in (200, 201):
        raise Failure("restocking %s: %r" % (item, answer))
    ledger.received[item] = ledger.received.get(item, 0) + quantity


def post_until(system, instance, path, body, key, seconds, method="POST",
               given_up=None, web=False):
    """Ask, the service or (web) nginx, until there is an answer that isn't
    a 503, and that got out before the power failed."""
    deadline = time.monotonic() + seconds * system.settings.patience
    headers = {"Idempotency-Key": key} if key else {}
    last = None
    while time.monotonic() < deadline:
        cuts = system.power_cuts
        try:
            answer = system.web(method, path, body, headers) if web else \
                clients.fcgi(system.socket_of(instance), method, path, body,
                             headers, 20 * system.settings.patience)
            if answer.status != 503 and cuts == system.power_cuts:
                return answer
            last = answer
        except (OSError, http.client.HTTPException) as error:
            last = error
        if given_up is not None and given_up.is_set():
            break
        time.sleep(0.02)
    raise Failure("%s %s: no answer within %d s (last: %r)" % (
        method, path, seconds * system.settings.patience, last))


class Ledger:
    """All that was promised to anybody, over a system's life."""

    def __init__(self):
        self.lock = threading.Lock()
        self.orders = {}     # id: (item, quantity)
        self.cancelled = {}  # id: the status of the DELETE
        self.received = {}   # item: restocked and answered
        self.replayed = 0
        self.lost = set()    # ids whose event Kafka has lost, on purpose
        self.whole = True    # nothing was posted but by a ledger

    def add(self, order):
        with self.lock:
            if order["id"] in self.orders:
                raise Failure("order %s was given out twice" % order["id"])
            self.orders[order["id"]] = (order["item"], order["quantity"])

    def write(self, path):
        with open(path, "w") as f:
            for order_id in self.orders:
                f.write(order_id + "\n")


class Load:
    """Clients in threads; use as a context, or start() and stop()."""

    def __init__(self, system, ledger, seed, clients_count=4, pause_s=0.02,
                 seconds=60, instances=("orders",), web=False):
        self.system = system
        self.ledger = ledger
        self.rng = random.Random(seed)
        self.pause_s = pause_s
        self.seconds = seconds
        self.instances = instances
        self.web = web
        self.slowest_s = 0.0
        self.over = threading.Event()
        self.placed = 0
        self.failures = []
        self.threads = [
            threading.Thread(target=self._client, daemon=True,
                             args=(random.Random(self.rng.random()),))
            for _ in range(clients_count)]

    def _client(self, rng):
        try:
            while not self.over.is_set():
                self._order(rng)
                self.over.wait(self.pause_s * rng.random() * 2)
        except Exception as error:  # told to whoever stops the load
            self.failures.append(error)

    def _order(self, rng):
        item = rng.choice(ITEMS)
        quantity = rng.randint(1, 3)
        dice = rng.random()
        if dice < 0.05:
            item = "Unobtainium"
        elif dice < 0.08:
            quantity = 1000000
        key = "%032x" % rng.getrandbits(128)
        instance = rng.choice(self.instances)
        began = time.monotonic()
        answer = post_until(self.system, instance, "/orders",
                            {"item": item, "quantity": quantity}, key,
                            self.seconds, web=self.web)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        if answer.status != 201:
            raise Failure("POST /orders: %r" % answer)
        if "idempotency-replayed" in answer.headers:
            self.ledger.replayed += 1
        order = answer.json()
        self.ledger.add(order)
        self.placed += 1
        if rng.random() < 0.15:
            answer = post_until(self.system, instance,
                                "/orders/" + order["id"], b"", None,
                                self.seconds, "DELETE")
            if answer.status not in (200, 409):
                raise Failure("DELETE /orders/%s: %r" % (order["id"], answer))
            self.ledger.cancelled[order["id"]] = answer.status

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        if self.failures:
            raise self.failures[0]
        return self.placed

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.stop()
        else:
            self.over.set()
