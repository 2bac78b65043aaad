"""replay -- the log read again: from the start, from a time, as of a time."""

import collections
import json
import os
import time

from kafka_wire import EARLIEST
from load import ITEMS
from stage import ask, open_up
from tools import state
from verify import CATALOGUE

TITLE = "Replay: what was, from the log alone"
TOPICS = ("order-events", "inventory-events")
ACTIONS = 16
STATES = {"order.created": "PENDING", "inventory.reserved": "CONFIRMED",
          "inventory.rejected": "REJECTED", "order.cancelled": "CANCELLED"}
# Of one request's events, which all bear its time, what comes first.
RANK = {"order.created": 0, "order.cancelled": 0}

Event = collections.namedtuple("Event", "ts_ms rank type order_id item amount"
                               " where")


def events_of(kafka):
    """All that happened, in the order of its time."""
    events = []
    for topic in TOPICS:
        for records in kafka.read_all(topic):
            for r in records:
                kind, body = r.headers["ce_type"].decode(), json.loads(r.value)
                events.append(Event(
                    r.ts_ms, RANK.get(kind, 1), kind, body.get("order_id"),
                    body["item"], body.get("quantity", body.get("delta")),
                    "%s/%d/%d" % (topic, r.partition, r.offset)))
    return sorted(events)


def orders_as_of(events, ts_ms):
    """{order: status}: nothing but the events up to that time is known."""
    orders = {}
    for e in events:
        if e.ts_ms <= ts_ms and e.type in STATES:
            orders[e.order_id] = STATES[e.type]
    return orders


def stock_as_of(events, ts_ms):
    stock = dict(CATALOGUE)
    sign = {"inventory.reserved": -1, "inventory.released": 1,
            "inventory.adjusted": 1}
    for e in events:
        if e.ts_ms <= ts_ms and e.type in sign:
            stock[e.item] = stock.get(e.item, 0) + sign[e.type] * e.amount
    return stock


class Shop:
    """Customers, and a photographer: what the services said, and when."""

    def __init__(self, system, rng):
        self.system = system
        self.rng = rng
        self.ids = []
        self.photos = []

    def act(self, number):
        """One thing that somebody does."""
        if number % 4 == 3:
            # Who was told that it is confirmed has second thoughts.
            good = [i for i, status in self.photos[-1][1].items()
                    if status == "CONFIRMED"]
            if good:
                ask(self.system, "DELETE",
                    "/orders/" + self.rng.choice(good), b"")
                return
        if number % 7 == 5:
            ask(self.system, "POST", "/stock/" + self.rng.choice(ITEMS),
                     {"quantity": self.rng.randrange(1, 50)})
            return
        item = "Unobtainium" if number % 6 == 1 else self.rng.choice(ITEMS)
        self.ids.append(ask(self.system, "POST", "/orders", {
            "item": item, "quantity": self.rng.randrange(1, 9)})["id"])

    def look(self):
        orders = ask(self.system, "GET", "/orders?limit=200")["orders"]
        stock = ask(self.system, "GET", "/stock")["stock"]
        return ({o["id"]: o["status"] for o in orders},
                {s["item"]: s["on_hand"] for s in stock})

    def photograph(self):
        """Once nothing moves any more; nothing else happens in that
        millisecond."""
        # A rejected order that is cancelled holds nothing to be released.
        def still():
            orders, _ = self.look()
            if "PENDING" not in orders.values() and not self.system.value(
                    "orders", "SELECT count(*) FROM outbox") and \
                self.system.value("inventory", "SELECT count(*) FROM"
                                  " reservations") == len(orders) and \
                self.system.value(
                    "inventory", "SELECT count(*) FROM reservations WHERE"
                    " status = 'released'") == sum(
                        s == "CANCELLED" for s in orders.values()):
                # Again: what was seen before that may have moved meanwhile.
                return self.look()
            return None
        orders, stock = self.system.wait_for("all is decided", still,
                                             every=0.01)
        at = int(time.time() * 1000)
        self.photos.append((at, orders, stock))
        while int(time.time() * 1000) <= at:
            time.sleep(0.0005)


def told(system):
    return sorted(system.select(
        "notifications", "SELECT order_id, outcome, message, created_at_ms"
        " FROM notifications"))


def tell_life(tale, events, shop):
    """One order, event by event."""
    cancelled = [e.order_id for e in events if e.type == "order.cancelled"]
    own = [e for e in events if e.order_id == cancelled[0]]
    began = shop.photos[0][0]
    rows, status = [], None
    for e in own:
        status = STATES.get(e.type, status)
        rows.append((e.ts_ms - began, e.type, "%d %s" % (e.amount, e.item),
                     status, e.where))
    tale.table(("ms", "event", "of", "then it is", "topic/partition/offset"),
               rows)
    return own


def tell_states(tale, events, shop):
    tale.step("Event sourcing: the state as of any time")
    tale.say("""The events are the truth, and state is what they add up to.
        Here is the life of one order, taken from the topics; no service and
        no file was asked:""")
    own = tell_life(tale, events, shop)
    before, after = own[0].ts_ms - 1, own[-1].ts_ms
    tale.holds([orders_as_of(events, t).get(own[0].order_id) for t in (
        before, after - 1, after)] == [None, "CONFIRMED", "CANCELLED"],
               "A millisecond before its first event it wasn't there; a"
               " millisecond before its cancellation it was confirmed; then it"
               " was cancelled.")
    tale.say("""While all this went on, a photographer asked the services
        after each step for all orders and the whole stock, and noted the
        time. Now, for each of these times, both are added up from the events
        that are not later:""")
    for at, orders, stock in shop.photos:
        tale.must(orders_as_of(events, at) == orders,
                  "the events make the orders as of %d" % at, orders)
        summed = stock_as_of(events, at)
        tale.must({i: summed[i] for i in stock} == stock,
                  "the events make the stock as of %d" % at, stock)
    tale.table(("ms", "orders", "confirmed", "rejected", "cancelled",
                "pieces in stock"), [
        (at - shop.photos[0][0], len(orders),
         *(sum(s == wanted for s in orders.values()) for wanted in
           ("CONFIRMED", "REJECTED", "CANCELLED")), sum(stock.values()))
        for at, orders, stock in shop.photos[::4]])
    tale.holds(True, "All %d photographs are what the events say.",
               len(shop.photos))


def tell_from_a_time(tale, kafka, events, shop):
    tale.step("From a time")
    at = shop.photos[len(shop.photos) // 2][0]
    tale.say("Somebody wants all since %s. The broker keeps an index of times,"
             " and says for each partition where to begin; nothing before that"
             " is read.", time.strftime("%H:%M:%S", time.localtime(
                 at / 1000)) + ".%03d" % (at % 1000))
    rows, found, early = [], 0, 0
    for topic in TOPICS:
        for partition in range(kafka.partitions(topic)):
            end = kafka.offset(topic, partition)
            begin = kafka.offset(topic, partition, at)
            begin = end if begin < 0 else begin
            rows.append(("%s/%d" % (topic, partition),
                         kafka.offset(topic, partition, EARLIEST), begin, end))
            records = kafka.fetch(topic, partition, begin) \
                if begin < end else []
            found += len(records)
            early += sum(r.ts_ms < at for r in records)
    tale.table(("partition", "first", "begin at", "end"), rows)
    wanted = sum(e.ts_ms >= at for e in events)
    tale.holds(found == wanted and early == 0, "These are the %d events since"
               " then, and none that is older.", wanted,
               otherwise="%d events, %d too old" % (found, early))


def tell_from_the_beginning(tale, system, shop):
    tale.step("From the beginning")
    tale.say("""Up to now nobody told the customers anything: the service
        notifications wasn't running. It comes late, and reads from the first
        record on, as if it had been there all the time.""")
    outcomes = sum(1 + (s == "CANCELLED") for s in
                   shop.photos[-1][1].values())
    with tale.waiting("it reads"):
        system.start("notifications")
        system.ready("notifications")
        system.wait_for("all is told", lambda: len(told(system)) == outcomes)
    first = told(system)
    tale.holds({row[0] for row in first} == set(shop.ids), "Each of the %d"
               " orders' customers was told, %d messages in all.",
               len(shop.ids), len(first))
    tale.say("""Then its file is lost. It is a view: all that is in it came
        out of the log, and can be had from there again.""")
    system.stop("notifications")
    with tale.waiting("its file is made anew"):
        said, _ = state(system, "rebuild", "--db",
                        system.db_of("notifications"), "--yes")
        tale.show("$ millrace state rebuild --db data/notifications.db",
                  "Done" if "Done" in said else said)
        system.start("notifications")
        system.ready("notifications")
        system.wait_for("all is told", lambda: len(told(system)) == outcomes)
    tale.holds(told(system) == first, "The file is back, and each of its %d"
               " rows is as it was.", len(first))


def tell(tale, system, rng):
    tale.say("""Reading takes nothing out of a topic, so it can be read again.
        Whoever comes late can catch up; whoever has made a mistake can begin
        anew; and whoever wants to know how things stood last Tuesday can add
        up what had happened by then. Here orders and inventory are at work,
        nginx in front, and %d things happen: orders, orders that can't be
        had, cancellations, deliveries.""" % ACTIONS)
    kafka = open_up(tale, system, "orders", "inventory")
    shop = Shop(system, rng)
    with tale.waiting("things happen"):
        for number in range(ACTIONS):
            shop.act(number)
            shop.photograph()
    system.wait_for("all is relayed", lambda: system.value(
        "inventory", "SELECT count(*) FROM outbox") == 0)
    events = events_of(kafka)
    kinds = collections.Counter(e.type for e in events)
    tale.bars(sorted(kinds.items()), " events")
    tell_states(tale, events, shop)
    tell_from_a_time(tale, kafka, events, shop)
    tell_from_the_beginning(tale, system, shop)
    kafka.close()
    broker = "localhost:%d" % system.kafka_port
    tale.look(
        ("The orders, and one with its trace",
         "curl http://localhost:%d/orders" % system.web_port),
        ("Their events", "kcat -b %s -C -e -t order-events -f '%%T %%k %%h"
         " %%s\\n'" % broker),
        ("Since a time, in epoch milliseconds",
         "kcat -b %s -C -e -t inventory-events -o s@%d" % (
             broker, shop.photos[len(shop.photos) // 2][0])),
        ("The view", "sqlite3 -readonly %s 'select * from notifications'" %
         os.path.join(system.data, "notifications.db")),
        ("How the events are added up", "demo/replay.py"))
