"""poison -- records that nobody can apply, and what must become of them."""

import collections
import json
import time
import uuid

from system import INPUTS, expect
from verify import read_topics

READERS = {}
for _name, _topic in INPUTS.items():
    READERS.setdefault(_topic, []).append(_name)

MEBI = 1 << 20
EMIT_BYTES_MOST = 1000000

# More than librdkafka reads of one record.
HEADERS_TOO_MANY = 100001

Sent = collections.namedtuple("Sent",
                              "topic partition offset key value headers")


def order(**changes):
    event = {"order_id": str(uuid.uuid4()), "item": "Laptop", "quantity": 1,
             "ts_ms": int(time.time() * 1000)}
    event.update(changes)
    return json.dumps({k: v for k, v in event.items()
                       if v is not None}).encode()


def price(**changes):
    event = {"symbol": "ACME", "price": 1.5,
             "ts_ms": int(time.time() * 1000)}
    event.update(changes)
    return json.dumps({k: v for k, v in event.items()
                       if v is not None}).encode()


def bytes_of_any_topic():
    """(value, key, headers) that are wrong wherever they are."""
    return [
        (b"", b"k", ()),
        (None, b"a tombstone", ()),
        (b"{", b"k", ()),
        (b"null", None, ()),
        (b"[" * 100000, b"k", ()),
        (b"\xff\xfe\x00\x01", b"\xff\xfe", ()),
        (b'{"item":"\xc3\x28"}', b"k", ()),
        (b'{"broken":"' + b"x" * 999000, b"k", ()),
        (b"\x00" * (MEBI - 600), b"as large as the broker takes", ()),
        (b"{}", b"k" * 600000, ()),
        (b"{}", b"k", (("big", b"h" * 400000), ("empty", b""),
                       ("null", None), ("ce_source", b"\xff" * 500))),
        (b"{}", b"too many", (("h", b""),) * HEADERS_TOO_MANY),
    ]


def records(topic):
    """(value, key, type, headers) that are wrong in this topic."""
    kind = {"order-events": "order.created",
            "inventory-events": "inventory.reserved",
            "stock-prices": "price.changed"}[topic]
    out = [(v, k, kind, h) for v, k, h in bytes_of_any_topic()]
    if topic == "stock-prices":
        for change in ({"symbol": "acme!"}, {"symbol": None}, {"price": -1},
                       {"price": "1"}, {"price": 1e300}, {"ts_ms": 1.5},
                       {"ts_ms": None}, {"symbol": "x" * 5000}):
            out.append((price(**change), b"ACME", kind, ()))
        return out
    for change in ({"quantity": 0}, {"quantity": -3}, {"quantity": "1"},
                   {"quantity": 1e18}, {"order_id": "1"}, {"order_id": None},
                   {"item": ""}, {"item": "a\tb"}, {"item": "x" * 65},
                   {"ts_ms": None}, {"item": ["Laptop"]}):
        out.append((order(**change), b"k", kind, ()))
    out.append((order(), b"k", "order.unheard-of", ()))
    out.append((order(), b"k", None, ()))
    # Right in itself, but of an order that was never placed.
    out.append((order(), b"k", "order.cancelled" if topic == "order-events"
                else "inventory.unheard-of", ()))
    return out


def send(system, kafka, topic, partition, value, key, kind, headers):
    offset = kafka.send(topic, partition, value, key, kind, headers)
    return Sent(topic, partition, offset, key, value, headers)


def send_all(system, rng):
    sent = []
    kafka = system.kafka()
    try:
        for topic in READERS:
            for value, key, kind, headers in records(topic):
                sent.append(send(system, kafka, topic, rng.randrange(3),
                                 value, key, kind, headers))
    finally:
        kafka.close()
    return sent


def small_one(system, kafka, topic, rng):
    """A short one, for loads."""
    return send(system, kafka, topic, rng.randrange(3), b"{", b"poison",
                "order.created", ())


def dead_letters(system):
    """{service: {(partition, offset): (key, value, reason)}}."""
    return {name: {row[:2]: row[2:] for row in system.select(
        name, "SELECT partition, record_offset, key, value, reason"
        " FROM dead_letters")} for name in INPUTS}


def compare(system, before, sent):
    """Each of ``sent``, and nothing else, has become a dead letter of each
    reader, whole in its file, cut to fit on its topic."""
    now = dead_letters(system)
    topics, _ = read_topics(system)
    for topic, readers in READERS.items():
        wanted = {(s.partition, s.offset): s for s in sent
                  if s.topic == topic}
        for name in readers:
            got = {k: v for k, v in now[name].items()
                   if k not in before[name]}
            missing = [s for k, s in wanted.items() if k not in got]
            more = [v for k, v in got.items() if k not in wanted]
            expect(not missing, "%s did not reject %d of %d, e.g. %.80r",
                   name, len(missing), len(wanted), missing[:1])
            expect(not more, "%s rejected %d good ones, e.g. %.200r", name,
                   len(more), more[:1])
            for place, s in wanted.items():
                key, value, reason = got[place]
                expect(key == s.key and value == s.value and reason,
                       "%s keeps %.40r as %.40r (%s)", name, s.value, value,
                       reason)
                expect(("headers are not kept" in reason) ==
                       (len(s.headers) >= HEADERS_TOO_MANY),
                       "%s says of %d headers: %s", name, len(s.headers),
                       reason)
            on_topic(name, topic, topics[name + ".dead-letter"], wanted)


def on_topic(name, topic, letters, wanted):
    by_place = {}
    for r in letters:
        place = (int(r.headers["dead_letter_partition"]),
                 int(r.headers["dead_letter_offset"]))
        by_place[place] = r
    for place, s in wanted.items():
        r = by_place.get(place)
        expect(r is not None, "%s: the dead letter of %s/%d offset %d isn't"
               " on its topic", name, topic, place[0], place[1])
        expect(r.headers["dead_letter_topic"] == topic.encode() and
               r.headers["dead_letter_reason"], "headers: %.200r", r.headers)
        for which, whole, cut in (("key", s.key, r.key),
                                  ("value", s.value, r.value)):
            size = int(r.headers["dead_letter_%s_bytes" % which])
            expect(size == len(whole or b""), "%s: %d bytes of %s, not %d",
                   name, len(whole or b""), which, size)
            expect((whole or b"").startswith(cut or b"") and
                   (len(cut or b"") == size or size > 400000),
                   "%s: the %s was changed: %.40r, %.40r", name, which,
                   whole, cut)
