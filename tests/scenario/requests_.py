"""requests_ -- what the HTTP faces promise, good requests and bad ones."""

import json
import os
import re
import socket
import threading
import time
import urllib.parse
import uuid

import clients
import load
import verify
from scenario import scenario
from system import ROOT, expect

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-"
                   r"[0-9a-f]{12}\Z")
JSON = {"Content-Type": "application/json"}


def place(context, item="Laptop", quantity=1):
    answer = context.system.web("POST", "/orders",
                                {"item": item, "quantity": quantity})
    expect(answer.status == 201, "POST /orders: %r", answer)
    context.ledger.add(answer.json())
    return answer


def become(context, order_id, status, events):
    """Wait until an order has a status and so many events in its trace."""
    def there():
        answer = context.system.web("GET", "/orders/" + order_id)
        order = answer.json()
        if order["status"] != status or len(order["trace"]) < events:
            raise OSError(repr(answer))
        return order
    return context.system.wait_for("order is " + status, there)


def notified(context, order_id, outcomes):
    def there():
        answer = context.system.web(
            "GET", "/notifications?order_id=" + order_id)
        got = [n["outcome"] for n in answer.json()["notifications"]]
        if got != outcomes:
            raise OSError(repr(got))
        return True
    context.system.wait_for("notifications %s" % outcomes, there)


def problem(answer, status, what):
    """An RFC 9457 document of this status."""
    expect(answer.status == status, "%s: %r, not %d", what, answer, status)
    kind = answer.headers.get("content-type", "")
    expect(kind.startswith("application/problem+json"), "%s: a %s", what,
           kind)
    body = answer.json()
    expect(body["status"] == status and body["title"] and body["type"],
           "%s: %r", what, body)
    return body


def names(answer, field):
    """A 422 that names this one field."""
    body = problem(answer, 422, field)
    expect([e["field"] for e in body.get("errors", ())] == [field] and
           body["errors"][0]["message"], "%s: %r", field, body)


def traced(order, *types):
    expect(sorted(e["type"] for e in order["trace"]) == list(types),
           "trace: %r", order["trace"])


@scenario()
def pages_are_served(context):
    """Each page is where the others' links say, and nothing else is."""
    pages = sorted(os.listdir(os.path.join(ROOT, "www/ui")))
    expect(pages, "there are no pages")
    paths = ["/"] + ["/ui/" + name.removesuffix(".html") for name in pages]
    for path in paths:
        answer = context.system.web("GET", path)
        expect(answer.status == 200 and
               answer.headers["content-type"].startswith("text/html") and
               b"</html>" in answer.body, "%s: %r", path, answer)
    answer = context.system.web("GET", "/ui/nothing")
    expect(answer.status == 404, "/ui/nothing: %r", answer)
    context.say(", ".join(paths))


@scenario(about_broker=True)
def happy_path(context):
    """An order's way through nginx: 201, CONFIRMED, trace, notification."""
    began = time.monotonic()
    answer = place(context)
    order = answer.json()
    expect(set(order) == {"id", "item", "quantity", "status", "created_at"},
           "the order is %r", order)
    expect(UUID7.match(order["id"]), "%s is no UUIDv7", order["id"])
    expect(order["item"] == "Laptop" and order["quantity"] == 1 and
           order["status"] == "PENDING", "the order is %r", order)
    expect(answer.headers["location"] == "/orders/" + order["id"],
           "Location is %s", answer.headers.get("location"))
    there = become(context, order["id"], "CONFIRMED", 2)
    context.say("confirmed after %d ms" % (
        1000 * (time.monotonic() - began)))
    types = [e["type"] for e in there["trace"]]
    expect(types == ["order.created", "inventory.reserved"], "trace: %s",
           types)
    kafka = context.system.kafka()
    for event in there["trace"]:
        record = kafka.fetch(event["topic"], event["partition"],
                             event["offset"])[0]
        expect(record.headers["ce_type"] == event["type"].encode() and
               json.loads(record.value)["order_id"] == order["id"] and
               event["rows"], "the trace says %r, the topic has %r", event,
               record)
    kafka.close()
    notified(context, order["id"], ["confirmed"])
    rows = context.system.select("notifications",
                                 "SELECT outcome FROM notifications"
                                 " WHERE order_id = ?", order["id"])
    expect(rows == [("confirmed",)], "rows: %r", rows)
    expect("text=\"Your order of 1 Laptop is confirmed\"" in
           context.system.log("notifications"), "no log line of it")


@scenario()
def rejected_and_cancelled(context):
    """Rejections say why; DELETE is 200, 409, 404, and 200 again."""
    system = context.system
    unknown = place(context, "Unobtainium").json()["id"]
    greedy = place(context, "Phone", 1000000).json()["id"]
    good = place(context, "Monitor", 2).json()["id"]
    order = become(context, unknown, "REJECTED", 2)
    expect(order["reason"] == "unknown item", "reason: %r", order)
    order = become(context, greedy, "REJECTED", 2)
    expect("not enough stock" in order["reason"], "reason: %r", order)
    become(context, good, "CONFIRMED", 2)
    notified(context, unknown, ["rejected"])
    for what, order_id, status in (("rejected", unknown, 409),
                                   ("unknown", str(uuid.uuid4()), 404),
                                   ("malformed", "nonsense", 404)):
        problem(system.web("DELETE", "/orders/" + order_id), status, what)
    before = stock(system, "Monitor")
    for turn, written in (("first", good), ("second", good.upper())):
        answer = system.web("DELETE", "/orders/" + written)
        expect(answer.status == 200 and
               answer.json()["status"] == "CANCELLED", "the %s DELETE: %r",
               turn, answer)
    context.ledger.cancelled[good] = 200
    traced(become(context, good, "CANCELLED", 4), "inventory.released",
           "inventory.reserved", "order.cancelled", "order.created")
    expect(become(context, good.upper(), "CANCELLED", 4)["id"] == good,
           "its id in upper case")
    notified(context, good.upper(), ["confirmed", "cancelled"])
    expect(stock(system, "Monitor") == before + 2, "the stock wasn't given"
           " back: %d, then %d", before, stock(system, "Monitor"))


@scenario()
def cancelled_before_it_is_rejected(context):
    """Both outcomes are told and traced, and the stock stays as it is."""
    system = context.system
    before = stock(system, "Phone")
    system.stop("inventory")
    greedy = place(context, "Phone", 1000000).json()["id"]
    answer = system.web("DELETE", "/orders/" + greedy)
    expect(answer.status == 200, "DELETE: %r", answer)
    context.ledger.cancelled[greedy] = 200
    system.start("inventory")
    system.ready("inventory")
    traced(become(context, greedy, "CANCELLED", 4), "inventory.cancelled",
           "inventory.rejected", "order.cancelled", "order.created")
    notified(context, greedy, ["rejected", "cancelled"])
    expect(stock(system, "Phone") == before, "the stock moved: %d, then %d",
           before, stock(system, "Phone"))


def stock(system, item):
    for row in system.web("GET", "/stock").json()["stock"]:
        if row["item"] == item:
            return row["on_hand"]
    return None


@scenario()
def lists_and_cursors(context):
    """GET /orders pages, filters and answers 304; /notifications has since."""
    system = context.system
    placed = [place(context, "Keyboard").json()["id"] for _ in range(7)]
    for order_id in placed:
        become(context, order_id, "CONFIRMED", 2)
    seen, after, pages = [], "", 0
    while True:
        page = system.web("GET", "/orders?limit=3" + after).json()
        seen += [o["id"] for o in page["orders"]]
        pages += 1
        if page["next_after"] is None:
            break
        after = "&after=" + page["next_after"]
    expect(len(set(seen)) == len(seen) and set(placed) <= set(seen) and
           seen == sorted(seen, reverse=True) and pages >= 3,
           "%d pages, %d orders, %d of them different", pages, len(seen),
           len(set(seen)))
    whole = system.value("orders", "SELECT count(*) FROM orders")
    expect(len(seen) == whole, "%d of %d orders were listed", len(seen),
           whole)
    for status in ("CONFIRMED", "REJECTED", "CANCELLED", "PENDING"):
        page = system.web("GET", "/orders?limit=200&status=" + status).json()
        expect(all(o["status"] == status for o in page["orders"]),
               "status=%s gives others", status)
    for name, value in (("status", "LOST"), ("limit", "0"), ("after", "7")):
        names(system.web("GET", "/orders?%s=%s" % (name, value)), name)
    names(system.web("GET", "/notifications?order_id=7"), "order_id")
    first = system.web("GET", "/orders")
    again = system.web("GET", "/orders",
                       headers={"If-None-Match": first.headers["etag"]})
    expect(again.status == 304 and not again.body, "with its ETag: %r", again)
    expect(first.json()["poll_ms"] > 0, "no poll_ms")
    page = system.web("GET", "/notifications").json()
    place(context, "Keyboard")

    def newer():
        later = system.web("GET", "/notifications?since=%d" %
                           page["cursor"]).json()["notifications"]
        return later if later else None
    later = system.wait_for("a new notification", newer)
    expect(len(later) == 1 and later[0]["seq"] == page["cursor"] + 1,
           "since the cursor: %r", later)


@scenario()
def restocking(context):
    """POST /stock: a new item 201, a known one 200, and it counts."""
    system = context.system
    item = "AC/DC + 5%% %s" % uuid.uuid4().hex[:8]
    path = "/stock/" + urllib.parse.quote(item, safe="")
    for status, total in ((201, 5), (200, 10)):
        answer = system.web("POST", path, {"quantity": 5})
        expect(answer.status == status and answer.json()["on_hand"] == total,
               "restocking: %r", answer)
        context.ledger.received[item] = total
    expect(stock(system, item) == 10, "stock: %r", stock(system, item))
    order = place(context, item, 10).json()["id"]
    become(context, order, "CONFIRMED", 2)
    expect(stock(system, item) == 0, "stock: %r", stock(system, item))
    become(context, place(context, item).json()["id"], "REJECTED", 2)
    for quantity in (0, -5, 1000001, "5", 1.5, None):
        names(system.web("POST", path, {"quantity": quantity}), "quantity")
    for name in ("x" * 65, "a%2F..%2Fb"):
        names(system.web("POST", "/stock/" + name, {"quantity": 1}), "item")


@scenario()
def prices_and_candles(context):
    """Prices arrive, by cursor and window; candles agree with the points."""
    system = context.system

    def symbols():
        return system.web("GET", "/prices").json()["symbols"]
    expect(len(system.wait_for("five symbols", lambda: (
        lambda s: s if len(s) == 5 else None)(symbols()))) == 5, "symbols")
    path = "/prices/ACME"
    first = system.web("GET", path)
    cursor = first.json()["cursor"]

    def newer():
        page = system.web("GET", "%s?since=%d" % (path, cursor)).json()
        return page if page["points"] else None
    page = system.wait_for("a newer price", newer)
    expect(page["cursor"] > cursor, "the cursor stayed")
    again = system.web("GET", path, headers={
        "If-None-Match": first.headers["etag"]})
    expect(again.status == 200, "something new has a new ETag: %r", again)
    problem(system.web("GET", "/prices/NOPE"), 404, "an unknown symbol")
    names(system.web("GET", path + "/candles?interval=2m"), "interval")
    system.stop("price-producer")
    verify.settle(system)
    points = system.web("GET", path + "?window=86400").json()["points"]
    for interval in ("1s", "1m", "1h"):
        candles = system.web("GET", "%s/candles?interval=%s" % (
            path, interval)).json()["candles"]
        expect(sum(c["count"] for c in candles) == len(points),
               "%s: candles count %d, there are %d points", interval,
               sum(c["count"] for c in candles), len(points))
        expect(candles[0]["open"] == points[0]["price"] and
               candles[-1]["close"] == points[-1]["price"] and
               max(c["high"] for c in candles) ==
               max(p["price"] for p in points) and
               min(c["low"] for c in candles) ==
               min(p["price"] for p in points),
               "%s candles don't agree with the points", interval)
    rows = system.value("price-producer", "SELECT tick_count FROM walk")
    expect(rows == len(points), "%d ticks, %d prices", rows, len(points))
    context.say("%d prices" % (5 * len(points)))


BAD_BODIES = (
    (400, b"", ()), (400, b"{", ()), (400, b"[]", ()), (400, b"\xff\xfe", ()),
    (400, b'{"item":"Laptop","quantity":1}x', ()),
    (400, b"[" * 5000, ()),
    (422, b"{}", ("item", "quantity")),
    (422, b'{"item":"","quantity":0}', ("item", "quantity")),
    (422, b'{"item":7,"quantity":"1"}', ("item", "quantity")),
    (422, b'{"item":"..","quantity":1}', ("item",)),
    (422, b'{"item":"a/../b","quantity":1}', ("item",)),
    (422, b'{"item":"Laptop","quantity":-1}', ("quantity",)),
    (422, b'{"item":"Laptop","quantity":1.5}', ("quantity",)),
    (422, b'{"item":"Laptop","quantity":1e30}', ("quantity",)),
    (422, b'{"item":"Laptop","quantity":1,"price":0}', ("price",)),
    (422, b'{"item":"' + b"x" * 65 + b'","quantity":1}', ("item",)),
    (422, b'{"item":"a\\nb","quantity":1}', ("item",)),
    (422, b'{"item":"a\\u0000b","quantity":1}', ("item",)),
    (422, b'{"item":"Laptop","quantity":1e400}', ("quantity",)),
    (422, b'{"item":"Laptop","quantity":1,"quantity":2}', ("quantity",)),
)


@scenario()
def bad_bodies(context):
    """400 and 422 with every offending field, and nothing is written."""
    system = context.system
    before = system.value("orders", "SELECT count(*) FROM orders")
    for status, body, fields in BAD_BODIES:
        what = repr(body[:60])
        document = problem(system.web("POST", "/orders", body, JSON), status,
                           what)
        named = tuple(sorted(e["field"] for e in document.get("errors", ())))
        expect(named == fields, "%s: names %s", what, named)
    for header in ("text/plain", "application/x-www-form-urlencoded", "",
                   "application/json; charset=utf-16"):
        problem(system.web("POST", "/orders", b'{"item":"Laptop",'
                           b'"quantity":1}', {"Content-Type": header}), 415,
                "a %r" % header)
    large = b'{"item":"Laptop","quantity":1' + b" " * 70000 + b"}"
    problem(system.web("POST", "/orders", large, JSON), 413, "70,000 bytes")
    problem(clients.fcgi(system.socket_of("orders"), "POST", "/orders", large,
                         JSON), 413, "70,000 bytes to the socket")
    for key in ("", "x" * 256, "a b"):
        problem(system.web("POST", "/orders", {"item": "Laptop",
                           "quantity": 1}, {"Idempotency-Key": key}), 400,
                "Idempotency-Key %r" % key[:20])
    after = system.value("orders", "SELECT count(*) FROM orders")
    expect(before == after, "%d orders came of bad requests", after - before)
    context.say("%d requests" % (len(BAD_BODIES) + 8))


@scenario()
def bad_requests(context):
    """404, 405 with Allow, foreign Origin, wrong Host, short bodies."""
    system = context.system
    good = {"item": "Laptop", "quantity": 1}
    before = system.value("orders", "SELECT count(*) FROM orders")
    for path in ("/nowhere", "/orders/", "/orders/a/b", "/orders/x",
                 "/stock/", "/services/orders/nothing", "/services/no/readyz"):
        problem(system.web("GET", path), 404, path)
    for method, path, allow in (
            ("PUT", "/orders", {"GET", "HEAD", "POST"}),
            ("POST", "/orders/" + str(uuid.uuid4()),
             {"GET", "HEAD", "DELETE"}),
            ("DELETE", "/notifications", {"GET", "HEAD"})):
        answer = system.web(method, path)
        problem(answer, 405, method + " " + path)
        got = set(re.split(r",\s*", answer.headers.get("allow", "")))
        expect(got == allow, "Allow of %s is %s", path, got)
    for headers in ({"Origin": "http://evil.example"},
                    {"Sec-Fetch-Site": "cross-site"}):
        problem(system.web("POST", "/orders", good, headers), 403,
                str(headers))
    answer = system.web("GET", "/orders", headers={"Host": "evil.example"})
    problem(answer, 421, "another Host")
    text = b'{"item":"Laptop","quantity":1}'
    # Shorter than it claims: to the socket, then through nginx.
    for claimed in (len(text) + 1, len(text) + 1000):
        try:
            answer = clients.fcgi(system.socket_of("orders"), "POST",
                                  "/orders", text, JSON, size=claimed)
            expect(answer.status >= 400, "a short body got %r", answer)
        except ConnectionError:
            pass  # no request, no answer
    back = clients.raw(system.web_port, b"POST /orders HTTP/1.1\r\nHost: "
                       b"localhost\r\nContent-Type: application/json\r\n"
                       b"Content-Length: 100\r\n\r\n" + text, half_close=True)
    expect(b" 201 " not in back[:20], "a short body through nginx got %r",
           back[:80])
    back = clients.raw(system.web_port, b"nonsense\r\n\r\n")
    expect(b"400" in back[:200], "nonsense got %r", back[:80])
    answer = clients.fcgi(system.socket_of("orders"), "GET", "/orders")
    expect(answer.status == 200, "it doesn't answer any more: %r", answer)
    after = system.value("orders", "SELECT count(*) FROM orders")
    expect(before == after, "%d orders came of bad requests", after - before)


@scenario()
def same_key_at_once(context):
    """One Idempotency-Key from 50 clients: one order, 50 equal answers."""
    system = context.system
    key = str(uuid.uuid4())
    body = {"item": "Headphones", "quantity": 1}
    before = system.value("orders", "SELECT count(*) FROM orders")
    answers, errors = [], []
    gate = threading.Barrier(50)

    def ask():
        try:
            gate.wait()
            answers.append(system.web("POST", "/orders", body,
                                      {"Idempotency-Key": key}))
        except Exception as error:
            errors.append(error)
    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(not errors, "%d clients failed: %r", len(errors), errors[:1])
    different = {(a.status, a.body, a.headers.get("location"))
                 for a in answers}
    expect(len(answers) == 50 and len(different) == 1 and
           answers[0].status == 201, "%d answers, %d different: %r",
           len(answers), len(different), list(different)[:2])
    context.ledger.add(answers[0].json())
    replayed = sum("idempotency-replayed" in a.headers for a in answers)
    expect(replayed == 49, "%d of 50 were replayed", replayed)
    problem(system.web("POST", "/orders", {"item": "Phone", "quantity": 1},
                       {"Idempotency-Key": key}), 422, "another body")
    answer = system.web("POST", "/stock/Headphones", {"quantity": 1},
                        {"Idempotency-Key": key})
    expect(answer.status == 200, "the key in another scope: %r", answer)
    context.ledger.received["Headphones"] = \
        context.ledger.received.get("Headphones", 0) + 1
    after = system.value("orders", "SELECT count(*) FROM orders")
    expect(after == before + 1, "%d orders came of it", after - before)


@scenario()
def client_leaves(context):
    """Clients that leave in mid-POST: nothing is half done, nothing hangs."""
    system = context.system
    text = b'{"item":"Laptop","quantity":1}'
    before = system.value("orders", "SELECT count(*) FROM orders")
    for sent in range(0, len(text), 3):
        clients.fcgi_leave(system.socket_of("orders"), "POST", "/orders",
                           text, sent)
    head = b"POST /orders HTTP/1.1\r\nHost: localhost\r\n" \
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % \
        len(text)
    for sent in range(0, len(text), 5):
        with socket.create_connection(("127.0.0.1", system.web_port)) as sock:
            sock.sendall(head + text[:sent])
    # Whole, but nobody waits for the answer: an order, or none.
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", system.web_port)) as sock:
            sock.sendall(head + text)
    answers = [place(context).status for _ in range(20)]
    expect(answers == [201] * 20, "%s", answers)
    made = [row[0] for row in system.select(
        "orders", "SELECT id FROM orders")]
    unasked = [i for i in made if i not in context.ledger.orders]
    expect(len(unasked) <= 20, "%d orders came of 20 whole requests",
           len(unasked))
    for order_id in unasked:
        context.ledger.orders[order_id] = ("Laptop", 1)
    expect(system.runs("orders"), "orders ended")
    context.say("%d of 20 whole requests without a reader became orders"
                % (len(made) - before - 20))


@scenario(about_broker=True)
def everything_adds_up(context):
    """After some load, files, topics and what was answered agree."""
    with load.Load(context.system, context.ledger, context.rng.random(),
                   clients_count=8, pause_s=0.005) as work:
        context.system.wait_for("300 orders", lambda: work.placed >= 300, 60)
    repeats = verify.settle_and_check(context.system, context.ledger)
    context.say("%d orders, %d repeats" % (len(context.ledger.orders),
                                           repeats))
