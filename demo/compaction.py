"""compaction -- a log that keeps the latest of each key, and is a table."""

import time

TITLE = "Compaction: a topic that is a table"
TOPIC = "prices-now"
ITEMS = ("Headphones", "Keyboard", "Laptop", "Monitor", "Phone")
CHANGES = 400
SEGMENT_MS = 200


def write(kafka, changes):
    for key, value in changes:
        kafka.produce(TOPIC, 0, [(
            key.encode(), None if value is None else str(value).encode(), [],
            int(time.time() * 1000))])


def table_of(records):
    """What every reader of such a topic does: the last one wins, and no value
    is no more."""
    table = {}
    for r in records:
        if r.value is None:
            table.pop(r.key.decode(), None)
        else:
            table[r.key.decode()] = int(r.value)
    return table


def tell(tale, system, rng):
    tale.say("""Retention forgets what is old. Compaction forgets what is
        outdated: of each key at least the latest record stays, for ever. Such
        a topic is less of a history and more of a table, which can be read by
        anybody, at any time, from the beginning.

        The topic %s holds the prices of a shop, with the item as key. It is
        made with cleanup.policy=compact, and with settings that have the
        broker tidy up within a second instead of within days.""", TOPIC)
    with tale.waiting("a broker starts"):
        system.kafka_start(flags=("--retention-check-ms", "100"))
    kafka = system.kafka()
    kafka.create_topic(TOPIC, 1, {
        "cleanup.policy": "compact", "segment.ms": str(SEGMENT_MS),
        "min.cleanable.dirty.ratio": "0"})
    prices = {item: rng.randrange(20, 2000) for item in ITEMS}

    tale.step("A price changes, again and again")
    changes = []
    for _ in range(CHANGES):
        item = rng.choice(ITEMS)
        prices[item] += rng.choice((-5, -1, 1, 5))
        changes.append((item, prices[item]))
    changes.append(("Phone", None))
    wanted = dict(prices)
    del wanted["Phone"]
    kafka.produce(TOPIC, 0, [(
        key.encode(), None if value is None else b"%d" % value, [],
        int(time.time() * 1000)) for key, value in changes])
    before = kafka.read_all(TOPIC)[0]
    tale.say("%d changes are written, and then a record with the key Phone and"
             " no value at all, a *tombstone*: phones aren't sold any more.",
             CHANGES)
    tale.bars([(item, sum(r.key.decode() == item for r in before))
               for item in ITEMS], " records")
    tale.holds(len(before) == CHANGES + 1, "The log has all %d records, each"
               " price that ever was.", CHANGES + 1,
               otherwise="%d records" % len(before))

    tale.step("The broker tidies up")
    tale.say("""The file that is being written to is left alone, so one more
        record, of a key of its own, has the broker begin another file. Then
        it may compact what lies behind.""")
    time.sleep(SEGMENT_MS / 1000)  # the age at which a file is full
    write(kafka, [("Stand", 15)])
    wanted["Stand"] = 15

    def tidied():
        records = kafka.read_all(TOPIC)[0]
        return records if len({r.key for r in records}) == len(records) \
            else None
    with tale.waiting("the broker tidies up"):
        after = system.wait_for("the log is compacted", tidied)
    tale.table(("offset", "key", "value"), [
        (r.offset, r.key.decode(), "-" if r.value is None
         else r.value.decode()) for r in after])
    tale.holds(table_of(after) == wanted, "Of %d records %d are left: of"
               " each item the latest.", len(before) + 1, len(after),
               otherwise="%r" % table_of(after))
    tale.say("The tombstone stays for some time, a day by default, so that a"
             " reader that is on its way gets to know, too.")
    tale.holds(table_of(before) == {k: v for k, v in table_of(after).items()
                                    if k != "Stand"},
               "Who read everything before and who reads the rest now come to"
               " the same table.")

    tale.step("Offsets are names, not counts")
    at = {(r.offset, r.key, r.value) for r in before}
    kept = [r for r in after if r.key != b"Stand"]
    tale.holds(all((r.offset, r.key, r.value) in at for r in kept),
               "Each record that stayed has the offset that it always had;"
               " there are gaps between them now.")
    end = kafka.offset(TOPIC, 0)
    tale.holds(end == len(changes) + 1, "The log still ends at %d: a reader's"
               " position means what it meant.", end)
    asked = kept[0].offset - 1
    found = kafka.fetch(TOPIC, 0, asked)[0]
    tale.holds(found.offset == kept[0].offset, "Who asks for offset %d, which"
               " is gone, is given the next one there is, %d.", asked,
               found.offset)

    tale.step("It goes on")
    write(kafka, [("Laptop", 899)])
    wanted["Laptop"] = 899
    rows = kafka.read_all(TOPIC)[0]
    tale.say("Laptop is 899 from now on. Until the broker has tidied up again,"
             " its old price is in the log as well: that the latest is there"
             " is promised, and not that it is there alone.")
    tale.holds(table_of(rows) == wanted, "A reader for whom the last one wins"
               " isn't misled: %s.", ", ".join(
                   "%s %d" % row for row in sorted(table_of(rows).items())))
    kafka.close()
    tale.look(
        ("The topic, offsets and all",
         "kcat -b localhost:%d -C -e -Z -t %s -f '%%o  %%k  %%s\\n'" % (
             system.kafka_port, TOPIC)),
        ("Its files", "ls -l %s/topics/*/0" % system.kafka_data),
        ("Why, and how else", "docs/KAFKA-CONCEPTS.md#compaction"))
