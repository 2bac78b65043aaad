"""inputs -- requests and records that mean harm, in shape, size or number."""

import re
import socket
import subprocess
import time

import clients
import poison
import verify
from faults import adds_up, more_orders, work_of
from scenario import scenario
from system import expect

ORDER = b'{"item":"Laptop","quantity":1}'
H = b"Host: localhost"
T = b"Content-Type: application/json"


def post(*headers, body=ORDER, target=b"/orders", line_end=b"\r\n"):
    """POST /orders with just these headers, names and values as given."""
    return line_end.join((b"POST " + target + b" HTTP/1.1",) + headers) + \
        line_end * 2 + body


def length(size):
    return b"Content-Length: %d" % size


# A second request that a front and a service may see differently.
L = length(len(ORDER))
HIDDEN = post(H, T, L)
CHUNKED = b"Transfer-Encoding: chunked"
CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(ORDER), ORDER)

# (what, bytes, the statuses that may be answered, orders that may be made)
SHAPES = (
    ("CL and TE", post(H, T, L, CHUNKED, body=CHUNK), {400}, 0),
    ("TE and CL 0", post(H, T, length(0), CHUNKED, body=CHUNK), {400}, 0),
    ("CL over a hidden request", post(
        H, T, L, CHUNKED, body=b"0\r\n\r\n" + HIDDEN), {400}, 0),
    ("two lengths, different", post(H, T, L, length(5)), {400}, 0),
    ("two lengths, the same", post(H, T, L, L), {400}, 0),
    ("a list of lengths", post(H, T, b"Content-Length: 30, 30"), {400}, 0),
    ("a signed length", post(H, T, b"Content-Length: +30"), {400}, 0),
    ("a negative length", post(H, T, b"Content-Length: -1"), {400}, 0),
    ("a length in hexadecimal", post(H, T, b"Content-Length: 0x1e"), {400},
     0),
    ("a length past 64 bits", post(
        H, T, b"Content-Length: 18446744073709551646"), {400, 413}, 0),
    ("a blank before the colon", post(H, T, b"Content-Length : 30"), {400},
     0),
    ("a folded header", post(H, T, L, b"X-A: b\r\n c"), {400}, 0),
    ("a folded TE", post(H, T, L, b"Transfer-Encoding:\r\n chunked"),
     {400}, 0),
    ("TE twice", post(H, T, CHUNKED, CHUNKED, body=CHUNK), {400}, 0),
    ("TE identity", post(H, T, L, b"Transfer-Encoding: identity"),
     {400, 501}, 0),
    ("TE xchunked", post(H, T, b"Transfer-Encoding: xchunked", body=CHUNK),
     {400, 501}, 0),
    ("TE chunked, identity", post(
        H, T, b"Transfer-Encoding: chunked, identity", body=CHUNK),
     {400, 501}, 0),
    ("TE behind a vertical tab", post(
        H, T, b"Transfer-Encoding: \x0bchunked", body=CHUNK), {400, 501}, 0),
    ("chunks", post(H, T, CHUNKED, body=CHUNK), {201}, 1),
    ("chunk size with a sign", post(
        H, T, CHUNKED, body=b"+1e\r\n" + ORDER + b"\r\n0\r\n\r\n"), {400}, 0),
    ("chunk size 0x", post(
        H, T, CHUNKED, body=b"0x1e\r\n" + ORDER + b"\r\n0\r\n\r\n"), {400},
     0),
    ("chunk size past 64 bits", post(
        H, T, CHUNKED, body=b"1000000000000001e\r\n" + ORDER +
        b"\r\n0\r\n\r\n"), {400, 413}, 0),
    ("a chunk that is too long", post(
        H, T, CHUNKED, body=b"5\r\n" + ORDER + b"\r\n0\r\n\r\n"), {400}, 0),
    ("bare LF", post(H, T, L, line_end=b"\n"), {201, 400}, 1),
    ("a NUL in a header", post(H, T, L, b"X-A: b\0c"), {400}, 0),
    ("a bare CR in a header", post(H, T, L, b"X-A: b\rX-B: c"), {201, 400},
     1),
    ("no Host", post(T, L), {400}, 0),
    ("two Hosts", post(H, b"Host: evil.example", T, L), {400}, 0),
    ("absolute form, another host", post(
        H, T, L, target=b"http://evil.example/orders"), {421}, 0),
    ("absolute form, our host", post(
        b"Host: evil.example", T, L, target=b"http://localhost/orders"),
     {201, 400, 421}, 1),
    ("a path with a line end", post(
        H, T, L, target=b"/orders%0d%0aX-A:%20b"), {404}, 0),
    ("a path with a NUL", post(H, T, L, target=b"/orders%00"), {400, 404},
     0),
    ("dots in the path", post(H, T, L, target=b"/stock/../orders"), {404},
     0),
    ("HTTP/0.9", b"GET /orders\r\n", {400, 421}, 0),
    ("HTTP/2.0", HIDDEN.replace(b"HTTP/1.1", b"HTTP/2.0"), {400, 505}, 0),
    ("a parameter of the gateway's", post(
        H, T, L, b"Request_Method: DELETE", b"Content_Length: 3",
        b"Script-Name: /x", b"Proxy: http://evil.example"), {201}, 1),
)


def exchange(port, text, quiet_s=1.0):
    """All that comes back until it is closed or nothing comes for a while."""
    out = bytearray()
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(text)
        sock.settimeout(quiet_s if not out else 0.2)
        try:
            while True:
                got = sock.recv(65536)
                if not got:
                    break
                out += got
                sock.settimeout(0.2)
        except (socket.timeout, ConnectionResetError):
            pass
    return bytes(out)


def statuses(text):
    found = [int(x) for x in re.findall(rb"HTTP/1\.[01] (\d{3}) ", text)]
    if not found and text:
        # HTTP/0.9 has no status line.
        found = [int(x) for x in re.findall(rb'"status":(\d{3})', text)]
    return found


def orders_there(system):
    return {row[0] for row in system.select("orders",
                                            "SELECT id FROM orders")}


def adopt(context, before):
    """Orders made by requests of no ledger: take them into it."""
    rows = context.system.select("orders", "SELECT id, item, quantity"
                                 " FROM orders")
    for order_id, item, quantity in rows:
        if order_id not in before:
            context.ledger.orders.setdefault(order_id, (item, quantity))


@scenario()
def smuggled_requests(context):
    """Shapes that two readers may take apart differently: one request, or none.

    Each is refused or is one request to front and service; none brings a
    second one in."""
    system = context.system
    at_start = orders_there(system)
    wrong = []
    for what, text, allowed, most in SHAPES:
        before = len(orders_there(system))
        got = statuses(exchange(system.web_port, text))
        made = len(orders_there(system)) - before
        if not got or got[0] not in allowed or made > most or \
                made != got.count(201):
            wrong.append("%s: %s and %d orders, not %s" % (
                what, got, made, sorted(allowed)))
    expect(not wrong, "%s", "; ".join(wrong))
    adopt(context, at_start)
    context.say("%d shapes" % len(SHAPES))
    adds_up(context)


@scenario()
def forged_parameters(context):
    """Forged FastCGI parameters inject no header, and the service lives."""
    system = context.system
    pid, before = system.services["orders"].pid, orders_there(system)
    size = len(ORDER)
    for changes in (
            {"HTTP_HOST": "localhost\r\nX-Injected: yes"},
            {"REQUEST_URI": "/orders\r\nX-Injected: yes"},
            {"REQUEST_URI": "/orders/" + "a" * 60000},
            {"REQUEST_METHOD": "POST\r\nX-Injected: yes"},
            {"REQUEST_METHOD": ""}, {"REQUEST_URI": ""},
            {"CONTENT_LENGTH": "-1"}, {"CONTENT_LENGTH": "1e9"},
            {"CONTENT_LENGTH": str(size) + " "},
            {"CONTENT_LENGTH": "99999999999999999999"},
            {"HTTP_IDEMPOTENCY_KEY": "a\r\nX-Injected: yes"},
            {"HTTP_TRACEPARENT": "\r\nX-Injected: yes",
             "REQUEST_URI": "/nowhere"},
            {"HTTP_IF_NONE_MATCH": "\"\r\nX-Injected: yes",
             "REQUEST_METHOD": "GET"}):
        try:
            answer = clients.fcgi(
                system.socket_of("orders"), "POST", "/orders", ORDER,
                {"Content-Type": "application/json"}, params=changes)
            expect("x-injected" not in answer.headers, "%r was injected",
                   changes)
        except ConnectionError:
            pass  # no request, no answer
    adopt(context, before)
    expect(len(orders_there(system)) - len(before) <= 2,
           "%d orders came of it", len(orders_there(system)) - len(before))
    answer = system.call("orders", "GET", "/orders?limit=1")
    expect(answer.status == 200 and system.services["orders"].pid == pid,
           "it doesn't live: %r", answer)


@scenario()
def oversized_everything(context):
    """URLs, headers, bodies, keys and values at and above their limits."""
    system = context.system
    before = orders_there(system)

    def refused(what, allowed, method, path, body=None, headers=None):
        try:
            answer = system.web(method, path, body, headers)
        except (ConnectionResetError, BrokenPipeError):
            return  # it was told so while it was still sending
        expect(answer.status in allowed, "%s: %r, not %s", what, answer,
               allowed)
    json_type = {"Content-Type": "application/json"}
    for size in (9000, 40000, 200000):
        refused("a URL of %d" % size, (404, 414), "GET", "/orders/" +
                "a" * size)
        refused("a query of %d" % size, (400, 414, 422), "GET",
                "/orders?after=" + "a" * size)
        refused("a header of %d" % size, (431,), "GET", "/orders", None,
                {"X-Large": "a" * size})
    refused("1,000 headers", (400, 431), "GET", "/orders", None,
            {"X-%d" % i: "a" * 60 for i in range(1000)})
    for name in ("limit", "after", "status"):
        refused("a long " + name, (400, 422), "GET", "/orders?%s=%s" % (
            name, "9" * 3000))
    refused("1,000 query values", (200, 400, 414, 422), "GET", "/orders?" +
            "&".join("a%d=1" % i for i in range(1000)))

    def padded(size):
        return ORDER[:-1] + b" " * (size - len(ORDER)) + b"}"
    for size, status in ((65536, 201), (65537, 413), (10 << 20, 413)):
        refused("a body of %d" % size, (status,), "POST", "/orders",
                padded(size), json_type)
    for size, status in ((255, 201), (256, 400)):
        refused("a key of %d" % size, (status,), "POST", "/orders", ORDER,
                dict(json_type, **{"Idempotency-Key": "k" * size}))
    for item, status in (("x" * 64, 201), ("x" * 65, 422),
                         ("\u00e4" * 32, 201), ("\u00e4" * 33, 422)):
        refused("an item of %d" % len(item), (status,), "POST", "/orders",
                {"item": item, "quantity": 1})
    made = len(orders_there(system)) - len(before)
    expect(made == 4, "%d orders, not the 4 that are within limits", made)
    adopt(context, before)
    adds_up(context)


SLOW = (("-H", "slow headers", ()),
        ("-B", "slow bodies", ("-s", "8192")),
        ("-X", "slow readers", ("-w", "16", "-y", "32", "-n", "5", "-z",
                                "8", "-k", "3")))


def most_connected(text):
    """The most connections at a time in what slowhttptest says each few
    seconds, in colours; it says how many it wants as well."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return max(map(int, re.findall(r"^connected: +(\d+)", plain, re.M)),
               default=0)


@scenario(small=False, seconds=30)
def slow_clients(context):
    """1,000 clients with slow headers, bodies and reading, beside a load."""
    system = context.system
    with work_of(context, web=True) as work:
        more_orders(context, work, 20)
        for flag, what, more in SLOW:
            # On a busy machine it may not come to open them in its time.
            for _ in range(3):
                work.slowest_s, placed = 0.0, work.placed
                slow = subprocess.run(
                    ["slowhttptest", flag, "-c", "1000", "-r", "500", "-i",
                     "2", "-l", "8", "-x", "10", "-t", "POST" if flag == "-B"
                     else "GET", "-u", "http://127.0.0.1:%d/orders" %
                     system.web_port] + list(more), capture_output=True,
                    text=True, timeout=120, check=False)
                most = most_connected(slow.stdout)
                if most >= 900:
                    break
            expect(most >= 900, "slowhttptest had %d connections: %.300s"
                   "%.300s", most, slow.stdout[-300:], slow.stderr)
            placed = work.placed - placed
            expect(placed >= 50 and work.slowest_s < 2,
                   "beside %s: %d orders, the slowest took %.1f s", what,
                   placed, work.slowest_s)
            context.say("%s: %d connections, %d orders, at most %d ms" % (
                what, most, placed, 1000 * work.slowest_s))
        more_orders(context, work, 20)
    adds_up(context)


@scenario(small=False, about_broker=True, seconds=15)
def many_poison_records(context):
    """10,000 poison records among 100,000 good ones, each counted once."""
    system = context.system
    good, bad = (10000, 1000) if system.settings.small else (100000, 10000)
    system.stop("price-producer")
    verify.settle(system)
    cursor = system.value("prices", "SELECT seq FROM prices_cursor")
    letters = system.value("prices", "SELECT count(*) FROM dead_letters")
    places = send_mixed(system, context.rng, good, bad)
    began = time.monotonic()
    verify.settle(system, seconds=120)
    context.say("%d records in %.1f s" % (good + bad,
                                          time.monotonic() - began))
    got = system.value("prices", "SELECT seq FROM prices_cursor") - cursor
    expect(got == good, "%d of %d good ones were applied", got, good)
    rows = set(system.select(
        "prices", "SELECT partition, record_offset FROM dead_letters"
        " WHERE key = ?", b"bulk"))
    got = system.value("prices", "SELECT count(*) FROM dead_letters") - \
        letters
    expect(got == bad and rows == places, "%d dead letters of %d bad ones,"
           " %d of them the right ones", got, bad, len(rows & places))
    got = system.value("prices", "SELECT sum(count) FROM candles WHERE"
                       " interval = '1h' AND symbol IN ('BULK0', 'BULK1',"
                       " 'BULK2')")
    expect(got == good, "candles count %r prices of %d", got, good)
    system.start("price-producer")
    system.ready("price-producer")
    adds_up(context)


def send_mixed(system, rng, good, bad):
    """To stock-prices; returns where the bad ones are."""
    kinds = [True] * good + [False] * bad
    rng.shuffle(kinds)
    values = [v for v, _, _, _ in poison.records("stock-prices")
              if v is not None and len(v) < 200]
    now_ms, places = int(time.time() * 1000), set()
    headers = [("ce_type", b"price.changed")]
    kafka = system.kafka()
    try:
        for at in range(0, len(kinds), 2000):
            partition = at // 2000 % 3
            lot = kinds[at:at + 2000]
            first = kafka.produce("stock-prices", partition, [
                (b"g", b'{"symbol":"BULK%d","price":1.5,"ts_ms":%d}' % (
                    partition, now_ms), headers, now_ms) if fine else
                (b"bulk", rng.choice(values), headers, now_ms)
                for fine in lot])
            places |= {(partition, first + i) for i, fine in enumerate(lot)
                       if not fine}
    finally:
        kafka.close()
    return places
