"""tools -- what operators do with millrace state, while the system is at work."""

import base64
import datetime
import glob
import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import uuid

import clients
import load
import recovery
import verify
from faults import adds_up, more_orders, work_of
from scenario import scenario
from system import INPUTS, SERVICES, expect


def plain_env():
    return {k: v for k, v in os.environ.items()
            if not k.startswith("MILLRACE_")}


def state(system, *words, status=0, brokers=True):
    """Run millrace state ...; what it said on stdout and stderr."""
    argv = [os.path.join(system.settings.bin, "millrace"), "state"]
    argv += list(words)
    if brokers:
        argv += ["--brokers", "127.0.0.1:%d" % system.kafka_port]
    done = subprocess.run(argv, capture_output=True, text=True, env=plain_env(),
                          stdin=subprocess.DEVNULL,
                          timeout=120 * system.settings.patience)
    expect(done.returncode == status, "%s: status %d, not %d: %s%s",
           " ".join(words), done.returncode, status, done.stdout,
           done.stderr)
    return done.stdout, done.stderr


def backup(system, *services):
    """{service: path} of new backups."""
    folder = os.path.join(system.copies, "backups")
    words = ["backup", "--data", system.data, "--to", folder, "-o", "json"]
    for service in services:
        words += ["--service", service]
    rows = json.loads(state(system, *words, brokers=False)[0])
    return {row["service"]: row["backup"] for row in rows}


def backup_by_table(system, service):
    """The path of a new backup, which its table has to name."""
    folder = os.path.join(system.copies, "tabled")
    before = glob.glob(folder + "/*")
    table, _ = state(system, "backup", "--data", system.data, "--to", folder,
                     "--service", service, brokers=False)
    path, = set(glob.glob(folder + "/*")) - set(before)
    heads, row = [line.split() for line in table.splitlines()]
    expect(heads[0] == "SERVICE" and row[0] == service and path in row,
           "backup: %s", table)
    return path


def restore(system, service, path):
    told = json.loads(state(
        system, "restore", "--db", system.db_of(service), "--from", path,
        "--yes", "-o", "json", brokers=False)[0])
    expect(told["done"], "restore: %r", told)
    return told["says"]


def plan_unasked(system, *words, brokers=True):
    """What a command would do, of its JSON, without doing it."""
    out, err = state(system, *words, "-o", "json", status=1, brokers=brokers)
    told = json.loads(out)
    expect(not told["done"] and told["says"] == "not agreed" and
           told["plan"] in err, "unasked: %s%s", out, err)
    return told["plan"]


def database_id(system, service):
    return system.value(service, "SELECT database_id FROM database_ids"
                        " ORDER BY number DESC LIMIT 1")


def adds_up_by_files(context):
    """Where topics have records of lives that are lost."""
    system = context.system
    prices = system.runs("price-producer")
    if prices:
        system.stop("price-producer")
    verify.settle(system, verify.ALL + ("price-producer",))
    orders = verify.check_orders(system, context.ledger)
    reservations = verify.check_reservations(system, orders)
    verify.check_stock(system, context.ledger, reservations)
    verify.check_notifications(system, reservations)
    verify.check_files(system, SERVICES)
    verify.run_checker(system, context.ledger)
    context.say("%d orders" % len(orders))


@scenario(small=False)
def backup_and_restore(context):
    """Backups taken under load and put back: nothing is lost downstream,
    nothing happens twice."""
    system = context.system
    victims = ("inventory", "notifications", "prices")
    with work_of(context) as work:
        more_orders(context, work, 40)
        copies = backup(system)
        expect(set(copies) == set(SERVICES), "copied: %r", copies)
        more_orders(context, work, 60)
        out, err = state(system, "restore", "--db", system.db_of("inventory"),
                         "--from", copies["inventory"], "--yes", status=2,
                         brokers=False)
        expect("stop the service first" in err, "while it runs: %s", err)
        for service in victims:
            old = database_id(system, service)
            system.stop(service)
            out, _ = state(system, "restore", "--db", system.db_of(service),
                           "--from", copies[service], status=1, brokers=False)
            expect("Nothing was changed" in out and "will be applied again" in
                   out, "unasked: %s", out)
            plan = plan_unasked(system, "restore", "--db", system.db_of(
                service), "--from", copies[service])
            expect("will be applied again" in plan, "its plan: %s", plan)
            says = restore(system, service, copies[service])
            kept = glob.glob(system.db_of(service) + ".replaced-*Z")
            expect(len(kept) == 1 and kept[0] in says, "kept: %r", kept)
            system.start(service)
            system.ready(service)
            expect(database_id(system, service) != old, "the old id is used")
            more_orders(context, work, 20)
        # Once more, and the group's offsets are still taken for its own.
        system.stop("inventory")
        restore(system, "inventory", copies["inventory"])
        system.start("inventory")
        system.ready("inventory")
        more_orders(context, work, 20)
    adds_up_by_files(context)
    system.start_all()


backup_and_restore.spoils = True  # topics have records of lost lives


@scenario(small=False)
def folder_with_other_files(context):
    """What isn't a service's file is named and left out by what reads them all;
    a damaged one is told of, and so are two of one service."""
    system = context.system
    with work_of(context) as work:
        more_orders(context, work, 10)
    copies = backup(system)
    here = ("--data", system.data)
    odd = {n: os.path.join(system.data, n + ".db") for n in (
        "a-pipe", "a-folder", "a-text", "b-empty", "foreign")}
    os.mkfifo(odd["a-pipe"])
    os.mkdir(odd["a-folder"])
    for name, text in (("a-text", "SQLite it isn't\n"), ("b-empty", "")):
        with open(odd[name], "w", encoding="ascii") as f:
            f.write(text)
    with sqlite3.connect(odd["foreign"]) as own:
        own.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    own.close()
    named = "left out, as no service's file: " + ", ".join(
        odd[n] for n in ("a-text", "b-empty", "foreign")) + "\n"
    for words in (("verify",), ("positions",), ("outbox", "list"),
                  ("dead-letters", "list")):
        out, err = state(system, *words, *here,
                         brokers=words[0] in ("verify", "positions"))
        expect(err.endswith(named) and err.count("\n") == 1,
               "%s: %s", " ".join(words), err)
    for path in odd.values():
        (os.rmdir if os.path.isdir(path) else os.unlink)(path)
    # Damage isn't foreign: the lock says so.
    folder = os.path.join(system.copies, "damaged")
    os.mkdir(folder)
    shutil.copy(copies["orders"], os.path.join(folder, "orders.db"))
    for name in ("inventory.db", "inventory.db.writer"):
        with open(os.path.join(folder, name), "w", encoding="ascii") as f:
            f.write("zeros, say")
    out, err = state(system, "positions", "--data", folder, status=2)
    expect("inventory.db" in err and "left out" not in err and
           "inventory-events" in out, "a damaged file: %s%s", out, err)
    before = sorted(os.listdir(system.data))
    _, err = state(system, "backup", *here, "--to", system.data + "/.",
                   status=2, brokers=False)
    expect("say another folder" in err, "backup among the files: %s", err)
    expect(sorted(os.listdir(system.data)) == before, "it left something")
    # One of those that were asked for isn't there: the others are copied.
    asked = os.path.join(system.copies, "asked-for")
    out, err = state(system, "backup", *here, "--to", asked, "--service",
                     "orders", "--service", "inventroy", "-o", "json",
                     status=2, brokers=False)
    expect("has no file of the service inventroy" in err and
           "orders" not in err, "one without a file: %s", err)
    row, = json.loads(out)
    expect(row["service"] == "orders" and
           os.listdir(asked) == [os.path.basename(row["backup"])],
           "the other one: %s, %r", out, os.listdir(asked))
    second = os.path.join(system.data, "orders-2.db")
    shutil.copy(copies["orders"], second)
    _, err = state(system, "verify", *here, status=2)
    os.unlink(second)
    expect("is a file of the service orders as well" in err,
           "two files of orders: %s", err)


def judged(system, *words, status=0):
    """What verify says in JSON: all of it, and {invariant: its line}."""
    told = json.loads(state(system, "verify", *words, "-o", "json",
                            status=status)[0])
    return told, {line["name"]: line for line in told["invariants"]}


def shown(system, *words, status=0, brokers=False):
    """The rows of a list, of its JSON; its table has to name the same."""
    words += ("--data", system.data)
    rows = json.loads(state(system, *words, "-o", "json", status=status,
                            brokers=brokers)[0])
    table = state(system, *words, status=status, brokers=brokers)[0]
    lines = [line.split() for line in table.splitlines()]
    for row, line in zip(rows, lines[1:]):
        cells = ("-" if v is None else str(v) for v in row.values())
        expect(" ".join(cells).split() == line, "%s: %r is %r in its table",
               words[0], row, line)
    expect(len(lines) == 1 + len(rows), "%s: %d rows, and a table:\n%s",
           words[0], len(rows), table)
    if rows:
        names = " ".join(rows[0]).upper().replace("_", " ")
        expect(lines[0] == names.split(), "%s: %r over %r", words[0],
               lines[0], names)
    return rows


def of_rows(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


def order_each(context, *items):
    for item in items:
        answer = context.system.call("orders", "POST", "/orders",
                                     {"item": item, "quantity": 1})
        expect(answer.status == 201, "POST /orders: %r", answer)
        context.ledger.add(answer.json())


@scenario(small=False, about_broker=True, seconds=15)
def lists_tell_what_there_is(context):
    """How far a stopped service is behind, what waits while Kafka is away, and
    what was rejected: as JSON and as tables."""
    system = context.system
    ordering = ("orders", "inventory", "notifications")
    topic, headings = "order-events", ("partition", "position", "end", "lag")
    positions = ("positions", "--service", "inventory")
    # Of a partition that nothing came of there is no position, but lag.
    order_each(context, recovery.ITEMS[1])
    verify.settle(system, ordering)
    system.stop("inventory")
    kafka = system.kafka()
    at = kafka.ends(topic)
    order_each(context, "Laptop", "Laptop", "Laptop", *recovery.ITEMS[::2])
    system.wait_for("they are sent", lambda: sum(kafka.ends(topic)) ==
                    sum(at) + 5)
    ends = kafka.ends(topic)
    kafka.close()
    rows = shown(system, *positions, brokers=True)
    expect({row["service"] for row in rows} == {"inventory"} and
           {row["topic"] for row in rows} == {topic}, "positions: %r", rows)
    expect(len(at) == 3 and sorted(of_rows(rows, *headings)) == [
        (p, at[p] or None, ends[p], ends[p] - at[p]) for p in range(len(at))],
        "positions: %r, not from %r to %r", rows, at, ends)
    expect(sum(row["lag"] for row in rows) == 5, "lags: %r", rows)
    system.start("inventory")
    verify.settle(system, ordering)
    rows = shown(system, *positions, brokers=True)
    expect(of_rows(rows, *headings) == [
        (p, ends[p], ends[p], 0) for p in range(len(ends))],
        "caught up: %r, not %r", rows, ends)

    issued = system.value("orders", "SELECT seq FROM sqlite_sequence"
                          " WHERE name = 'outbox'")
    system.kafka_kill()
    order_each(context, *recovery.ITEMS)
    outbox = ("outbox", "list", "--service", "orders")
    rows = shown(system, *outbox)
    expect(of_rows(rows, "service", "topic", "partition", "type", "key") == [
        ("orders", topic, p, "order.created", item)
        for p, item in enumerate(recovery.ITEMS)], "the outbox: %r", rows)
    expect(issued < rows[0]["seq"] < rows[1]["seq"] < rows[2]["seq"] and
           of_rows(rows, "seq", "bytes") == system.select(
               "orders", "SELECT seq, length(value) FROM outbox"
               " ORDER BY seq"), "after %d: %r", issued, rows)
    expect(shown(system, *outbox, "--limit", "2") == rows[:2], "the first two")
    rows = shown(system, *positions, status=2, brokers=True)
    expect(of_rows(rows, *headings) == [
        (p, ends[p], None, None) for p in range(len(ends)) if ends[p]],
        "without a broker: %r", rows)
    system.kafka_start()
    verify.settle(system, ordering)
    expect(not shown(system, *outbox), "the outbox isn't empty")

    kafka = system.kafka()
    sent = [(p, kafka.send(topic, p, value, b"k", "order.created"))
            for p, value in ((2, b"{"), (0, b'{"item": 7}'))]
    kafka.close()
    verify.settle(system, ordering)
    letters = ("dead-letters", "list", "--service", "inventory")
    rows = shown(system, *letters, "--limit", "2")
    # The newest first, which of two partitions may be either.
    expect(sorted(of_rows(rows, "service", "topic", "partition", "offset",
                          "bytes")) == [
        ("inventory", topic, *sent[1], 11), ("inventory", topic, *sent[0], 1)
    ] and rows[0]["id"] > rows[1]["id"], "dead letters: %r, sent %r", rows,
        sent)
    reasons = {row["partition"]: row["reason"] for row in rows}
    expect("JSON" in reasons[2] and "order_id" in reasons[0], "reasons: %r",
           reasons)
    expect(of_rows(shown(system, *letters), "id", "put_away")[:2] ==
           of_rows(rows, "id", "put_away"), "more of them: %r", rows)
    adds_up(context)


@scenario(small=False)
def verified_alone(context):
    """One service's file is judged alone, in a folder of its own or among
    others; what needs another's is named as not judged, and isn't failed."""
    system = context.system
    with work_of(context) as work:
        more_orders(context, work, 10)
    verify.settle(system, ("orders", "inventory", "notifications"))
    copies = backup(system)
    folder = os.path.join(system.copies, "alone")
    os.mkdir(folder)
    shutil.copy(copies["orders"], os.path.join(folder, "orders.db"))
    whole = judged(system, "--data", system.data)[0]
    for words in (("--data", folder),
                  ("--data", system.data, "--service", "orders")):
        told, lines = judged(system, *words)
        verdicts = {name: line["verdict"] for name, line in lines.items()}
        expect(told["files"] == 1 and told["holds"], "%r: %r", words, told)
        for name in ("announced", "statuses", "trace", "sequence", "issued",
                     "foreign"):
            expect(verdicts[name] == "ok" and lines[name]["judged"] > 0,
                   "%r: %r", words, lines[name])
        for name in ("decisions", "outcomes", "stock", "notifications",
                     "prices"):
            expect(verdicts[name] == "not judged" and "file of" in
                   lines[name]["detail"], "%r: %r", words, lines[name])
        expect(re.search("of inventory.* not judged",
                         lines["foreign"]["detail"]), "%r: %r", words,
               lines["foreign"])
    # By name, the topics of others aren't read, nor a file that can't be.
    expect(told["records"] < whole["records"], "%d of %d records",
           told["records"], whole["records"])
    for name in ("inventory.db", "inventory.db.writer"):
        with open(os.path.join(folder, name), "w", encoding="ascii") as f:
            f.write("zeros, say")
    state(system, "verify", "--data", folder, status=2)
    judged(system, "--data", folder, "--service", "orders")
    _, lines = judged(system, "--data", system.data, "--service",
                      "notifications")
    expect(lines["notifications"]["verdict"] == "ok" and
           lines["foreign"]["verdict"] == "not judged", "%r", lines)
    _, err = state(system, "verify", "--data", folder, "--service", "prices",
                   status=2)
    expect("no file of the service prices" in err, "not there: %s", err)


@scenario(small=False)
def silent_partition(context):
    """verify at a broker that never answers a fetch of one topic: that is
    named as not read, and the rest is judged."""
    system = context.system
    with work_of(context) as work:
        more_orders(context, work, 10)
    verify.settle(system, ("orders", "inventory", "notifications"))
    topic_id, = system.select("notifications", "SELECT topic_id FROM"
                              " positions WHERE topic = 'inventory-events'"
                              " LIMIT 1")[0]
    mute = (b"inventory-events",
            base64.urlsafe_b64decode(topic_id + "=="))
    with clients.mute_broker(system.kafka_port, mute) as port:
        out, err = state(system, "verify", "--data", system.data, "--stall",
                         "3s", "-o", "json", "--brokers",
                         "127.0.0.1:%d" % port, status=2, brokers=False)
    told = json.loads(out)
    lines = {line["name"]: line for line in told["invariants"]}
    expect(lines and {u["topic"] for u in told["unread"]} ==
           {"inventory-events"} and all("nothing came" in u["why"]
                                        for u in told["unread"]),
           "unread: %r", told["unread"])
    expect("inventory-events" in err and not told["holds"], "%s", err)
    for name in ("announced", "decisions", "orders", "positions"):
        expect(lines[name]["verdict"] == "ok" and lines[name]["judged"] > 0,
               "%r", lines[name])
    expect(all(line["verdict"] != "FAIL" for line in lines.values()),
           "%r", lines)


@scenario(small=False)
def damaged_file_restored(context):
    """Over a file that can't be read, a copy is put that is of the service
    that the file is named for, and no other one's."""
    system = context.system
    with work_of(context) as work:
        more_orders(context, work, 10)
    copies = backup(system)
    folder = os.path.join(system.copies, "restored")
    os.mkdir(folder)

    def put(name, service, status):
        return state(system, "restore", "--db", os.path.join(folder, name),
                     "--from", copies[service], "--yes", status=status,
                     brokers=False)
    for name in ("inventory.db", "mine.db"):
        with open(os.path.join(folder, name), "w", encoding="ascii") as f:
            f.write("not a database")
        _, err = put(name, "orders", 2)
        expect("belongs to the service orders" in err and
               "move that away first" in err, "%s: %s", name, err)
    # Readable as far as whose it is, though not sound.
    unsound = os.path.join(folder, "unsound.db")
    shutil.copy(copies["inventory"], unsound)
    with sqlite3.connect(unsound) as own:
        own.execute("DELETE FROM database_ids")
    own.execute("VACUUM")
    own.close()
    _, err = put("unsound.db", "orders", 2)
    expect("belongs to the service inventory" in err, "unsound: %s", err)
    for name in ("inventory.db", "unsound.db", "new.db"):
        out, _ = put(name, "inventory", 0)
        expect("Done" in out, "%s: %s", name, out)
    # By a link, the file that it leads to is replaced.
    linked = os.path.join(system.copies, "linked.db")
    os.symlink(os.path.join(folder, "inventory.db"), linked)
    out, _ = put(linked, "inventory", 0)
    expect(os.path.islink(linked) and "kept as %s/inventory.db.replaced-" %
           os.path.realpath(folder) in out, "by a link: %s", out)
    expect(not glob.glob(linked + ".*"), "beside the link: %r",
           glob.glob(linked + ".*"))
    with sqlite3.connect(os.path.join(folder, "inventory.db")) as own:
        found = own.execute("SELECT service FROM store_identity").fetchall()
    own.close()
    expect(found == [("inventory",)], "it is of %r", found)


def spoil(path, offset, spoilt):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(spoilt)


def spoil_byte(path):
    """A byte of a page that no transaction writes any more."""
    with sqlite3.connect("file:%s?mode=ro" % path, uri=True) as own:
        root, = own.execute("SELECT rootpage FROM sqlite_schema WHERE name ="
                            " 'store_identity'").fetchone()
        size, = own.execute("PRAGMA page_size").fetchone()
    own.close()
    at = (root - 1) * size + size // 2
    with open(path, "rb") as f:
        f.seek(at)
        byte, = f.read(1)
    spoil(path, at, bytes([byte ^ 4]))


def bytes_of(path):
    """Of a file and of its log."""
    found = {}
    for name in (path, path + "-wal"):
        if os.path.exists(name):
            with open(name, "rb") as f:
                found[name] = f.read()
    return found


def refused(system, instance, reason):
    """It doesn't start on its file, says why and what helps, and changes
    nothing."""
    path = system.db_of(instance)
    before = bytes_of(path)
    done = clients.run_to_end(
        [os.path.join(system.settings.bin, instance), "--brokers",
         system.brokers, "--db", path, "--instance", instance, "--fcgi",
         "unix:" + system.socket_of(instance)], 30 * system.settings.patience)
    told = done.stdout + done.stderr
    expect(done.returncode > 0 and any(
        path in line and reason in line and "millrace state restore" in line
        for line in told.splitlines()), "%s: status %d: %s", reason,
        done.returncode, told)
    expect(bytes_of(path) == before, "%s: the file was changed", reason)


@scenario(spoils=True, small=False)
def damaged_file_is_refused(context):
    """A service doesn't start on a file that was spoilt while it was down:
    it names the command that puts a backup back, which helps, every time."""
    system = context.system
    path = system.db_of("inventory")
    copied = os.path.join(system.copies, "copied.db")
    count = "SELECT count(*) FROM reservations"
    with work_of(context) as work:
        def text():
            spoil(path, 0, b"This was a shopping list.\n" * 40)

        def changed_byte():
            spoil_byte(path)

        def cut_short():
            os.truncate(path, os.path.getsize(path) // 8192 * 4096)

        def left_its_log():
            os.unlink(path)  # as rsync would put it there
            shutil.copy(copied, path)
        for spoiling, killed, reason in (
                (text, False, "not a database"),
                (changed_byte, True, "damaged"),
                (cut_short, False, "malformed"),
                (left_its_log, False, "was copied while it was open")):
            more_orders(context, work, 20)
            copy = backup_by_table(system, "inventory")
            shutil.copy(path, copied)
            more_orders(context, work, 20)
            if killed:
                system.stop("inventory")
                system.start("inventory")
                system.ready("inventory")
                had = system.value("inventory", count)
                system.wait_for("it has written", lambda n=had: system.value(
                    "inventory", count) > n)
                system.kill("inventory", restart=False)
            else:
                system.stop("inventory")
            spoiling()
            refused(system, "inventory", reason)
            out, _ = state(system, "restore", "--db", path, "--from", copy,
                           "--yes", brokers=False)
            expect("Done" in out, "restore: %s", out)
            system.start("inventory")
            system.ready("inventory")
    adds_up_by_files(context)


def at_terminal(system, types, *words, piped=False):
    """Run millrace state ... for somebody at a terminal, who types when asked:
    its status, what the terminal shows, and what else it wrote to a pipe."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [os.path.join(system.settings.bin, "millrace"), "state", *words],
        stdin=theirs, stderr=theirs, env=plain_env(), start_new_session=True,
        stdout=subprocess.PIPE if piped else theirs)
    os.close(theirs)
    shows = b""
    try:
        while select.select([ours], [], [], 20 * system.settings.patience)[0]:
            try:
                shows += os.read(ours, 4096)
            except OSError:  # EIO: nobody has the other end any more
                break
            if types and shows.endswith(b"Go on? [y/N] "):
                os.write(ours, types)
                types = b""
        out = process.communicate(timeout=20)[0] if piped else b""
        return process.wait(20), shows.decode(), out
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@scenario(small=False)
def asked_at_a_terminal(context):
    """What changes a file asks at a terminal, and does it for a yes alone; who
    isn't at one has to say --yes."""
    system = context.system
    copy = backup(system, "inventory")["inventory"]
    folder = os.path.join(system.copies, "asked")
    os.mkdir(folder)
    db = os.path.join(folder, "inventory.db")
    shutil.copy(copy, db)
    words = ("restore", "--db", db, "--from", copy)

    def looks():
        # Looking may change its journal's mode, and statistics.
        with sqlite3.connect("file:%s?mode=ro" % db, uri=True) as own:
            ids = own.execute("SELECT * FROM database_ids").fetchall()
        own.close()
        return os.stat(db).st_ino, ids, glob.glob(db + ".re*")
    before = looks()
    out, _ = state(system, *words, status=1, brokers=False)
    expect("Go on?" not in out and "--yes does it" in out and
           looks() == before, "without a terminal: %s", out)
    for types in (b"n\n", b"\n", b"no, yes\n", b"\4"):
        status, shows, _ = at_terminal(system, types, *words)
        expect(status == 1 and "will take its place" in shows and
               "Nothing was changed." in shows and looks() == before,
               "%r: %d %s", types, status, shows)
        status, shows, out = at_terminal(system, types, *words, "-o", "json",
                                         piped=True)
        told = json.loads(out)
        expect(status == 1 and not told["done"] and told["plan"] in shows and
               told["says"] == "not agreed" and looks() == before,
               "%r, in JSON: %d %s%s", types, status, shows, out)
    status, shows, _ = at_terminal(system, b"y\n", *words)
    kept = glob.glob(db + ".replaced-*Z")
    expect(status == 0 and len(kept) == 1 and "Done, the file that was there"
           " is " + kept[0] in shows, "yes: %d %s", status, shows)
    status, shows, out = at_terminal(system, b"Y\n", *words, "-o", "json",
                                     piped=True)
    expect(status == 0 and json.loads(out)["done"] and
           len(glob.glob(db + ".replaced-*Z")) == 2,
           "yes, in JSON: %d %s%s", status, shows, out)
    status, shows, _ = at_terminal(system, b"", *words, "--yes")
    expect(status == 0 and "Go on?" not in shows and "Done" in shows,
           "--yes at a terminal: %d %s", status, shows)


@scenario(spoils=True, small=False, about_broker=True)
def orders_restored(context):
    """orders.db put back by the command: what clients wrote since is lost
    and nothing else, and nothing new is taken for a repeat."""
    system = context.system
    with work_of(context) as work:
        more_orders(context, work, 40)
        copy = backup(system, "orders")["orders"]
        more_orders(context, work, 40)
    verify.settle(system, ("orders", "inventory", "notifications"))
    system.stop("orders")
    with sqlite3.connect("file:%s?mode=ro" % copy, uri=True) as connection:
        kept = {row[0] for row in connection.execute("SELECT id FROM orders")}
    lost = set(context.ledger.orders) - kept
    restore(system, "orders", copy)
    system.start("orders")
    system.ready("orders")
    with work_of(context) as work:
        more_orders(context, work, 40)
    verify.settle(system, ("orders", "inventory", "notifications"))
    here = dict(system.select("orders", "SELECT id, status FROM orders"))
    wanted = set(context.ledger.orders) - lost
    expect(set(here) == wanted, "orders here but not promised, or the other"
           " way: %r", list(set(here) ^ wanted)[:3])
    reservations = {row[0]: row[1:] for row in system.select(
        "inventory", "SELECT order_id, status, item, quantity"
        " FROM reservations")}
    missing = set(context.ledger.orders) - set(reservations)
    expect(not missing, "%d orders never reached inventory", len(missing))
    for order_id in wanted:
        expect(reservations[order_id][0] in
               verify.STATUSES.get(here[order_id], ()), "order %s is %s,"
               " its reservation %r", order_id, here[order_id],
               reservations[order_id])
    verify.check_notifications(system, reservations)
    context.say("%d kept, %d lost, %d after" % (
        len(kept), len(lost), len(wanted - kept)))


def interrupted(system, number, making, *words, within=()):
    """Run millrace state ..., which gets the signal in the midst of it, once
    there is something of a file of that name; its status."""
    process = subprocess.Popen(
        [*within, os.path.join(system.settings.bin, "millrace"), "state",
         *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=plain_env(),
        start_new_session=True)
    try:
        def begun():
            expect(process.poll() is None, "%s was faster", words[0])
            return [p for p in glob.glob(making) if os.path.getsize(p)]
        system.wait_for("there is some of %s" % making, begun, every=0.001)
        process.send_signal(number)
        return process.wait(20 * system.settings.patience)
    finally:
        process.kill()
        process.wait()


@scenario(small=False)
def interrupted_in_copying(context):
    """Who is interrupted in copying a file, or in putting one back, leaves
    nothing of what isn't whole; what a kill leaves of the latter, the next one
    removes."""
    system = context.system
    folder, to = (os.path.join(system.copies, n) for n in ("large", "to"))
    os.mkdir(folder)
    os.mkdir(to)
    db = os.path.join(folder, "orders.db")
    shutil.copy(backup(system, "orders")["orders"], db)
    with sqlite3.connect(db) as own:
        own.executemany(
            "INSERT INTO dead_letters (topic_id, topic, partition,"
            " record_offset, ts_ms, value, headers, reason, put_at_ms)"
            " VALUES ('x', 'x', 0, ?, 0, zeroblob(1000000), x'', 'large', 0)",
            [(i,) for i in range(64)])
    own.execute("VACUUM")
    own.close()
    copying = ("backup", "--data", folder, "--to", to)
    large = json.loads(state(system, *copying, "-o", "json", brokers=False)[0])
    large = large[0]["backup"]
    restoring = ("restore", "--db", db, "--from", large, "--yes")
    state(system, *restoring, brokers=False)

    def there():
        # A reader that ends in the midst leaves the file its log, empty.
        return sorted(p for f in (folder, to) for p in glob.glob(f + "/*")
                      if p not in (db + "-wal", db + "-shm"))
    before = there()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for making, words in ((to + "/*.partial", copying),
                              (db + ".making*", restoring)):
            status = interrupted(system, number, making, *words)
            expect(status == 128 + number, "%s: status %d", words[0], status)
            expect(there() == before, "%s: %r, and not %r", words[0], there(),
                   before)
    status = interrupted(system, signal.SIGKILL, db + ".making*", *restoring)
    expect(status == -signal.SIGKILL and glob.glob(db + ".making*"),
           "killed: %d", status)
    state(system, *restoring, brokers=False)
    left = set(there()) - set(before)
    expect(left and all(p.startswith(db + ".replaced-") for p in left),
           "left: %r", left)
    status = interrupted(system, signal.SIGHUP, to + "/*.partial", *copying,
                         within=("nohup",))
    expect(status == 0, "under nohup: status %d", status)


def make_older(system, service):
    """The file as of version 2 of the core's schema."""
    with sqlite3.connect(system.db_of(service), timeout=10) as own:
        version, = own.execute("PRAGMA user_version").fetchone()
        own.execute("ALTER TABLE relay DROP COLUMN transactional")
        own.execute("ALTER TABLE database_ids DROP COLUMN file")
        own.execute("DROP TABLE dead_letters_gone")
        own.execute("DROP TABLE placements")
        outbox, = own.execute("SELECT sql FROM sqlite_schema WHERE name ="
                              " 'outbox'").fetchone()
        own.execute("DROP TABLE outbox")  # all of it was sent
        own.execute(outbox.replace("PRIMARY KEY", "PRIMARY KEY AUTOINCREMENT"))
        later = own.execute("DELETE FROM schema_versions WHERE component ="
                            " 'core' AND version > 2").rowcount
        own.execute("PRAGMA user_version = %d" % (version - later))
    own.execute("VACUUM")  # or its pages would have no more their sums
    return version - later


@scenario(spoils=True, small=False)
def upgraded_and_rolled_back(context):
    """An upgrade leaves a checked copy from before its migrations; going
    back to it loses what clients wrote since, their keys among it, and
    nothing else."""
    system = context.system

    def order_by_key():
        answer = system.call("orders", "POST", "/orders", {
            "item": "Laptop", "quantity": 1}, {"Idempotency-Key": key})
        expect(answer.status == 201, "POST /orders: %r", answer)
        return answer.json()
    key = str(uuid.uuid4())
    with work_of(context) as work:
        more_orders(context, work, 30)
    verify.settle_and_check(system, context.ledger)
    system.stop("orders")
    older = make_older(system, "orders")
    # This version's checker, before a service of this version.
    state(system, "verify", "--data", system.data)
    system.start("orders")
    system.ready("orders")
    copies = glob.glob(system.db_of("orders") + ".upgrade-*-v%d" % older)
    expect(len(copies) == 1, "copies: %r", copies)
    expect("backed up before migrating" in system.log("orders"), "no line")
    kept = set(context.ledger.orders)
    with work_of(context) as work:
        more_orders(context, work, 30)
        known = order_by_key()
        context.ledger.add(known)
        expect(order_by_key()["id"] == known["id"], "a key counts twice")
    adds_up(context)
    system.stop("orders")
    restore(system, "orders", copies[0])
    here = {row[0] for row in system.select("orders",
                                            "SELECT id FROM orders")}
    expect(here == kept, "%d orders in the copy, %d before the upgrade",
           len(here), len(kept))
    expect(system.value("orders", "PRAGMA user_version") == older,
           "the restored file is migrated")
    lost = set(context.ledger.orders) - kept
    # The program that knows this version would be started now; this one
    # migrates again, and makes another copy.
    system.start("orders")
    system.ready("orders")
    with work_of(context) as work:
        anew = order_by_key()
        context.ledger.add(anew)
        expect(anew["id"] != known["id"], "the lost key is known")
        more_orders(context, work, 30)
    verify.settle(system, ("orders", "inventory", "notifications"))
    here = {row[0] for row in system.select("orders",
                                            "SELECT id FROM orders")}
    expect(here == set(context.ledger.orders) - lost, "orders are missing")
    reservations = {row[0]: row[1:] for row in system.select(
        "inventory", "SELECT order_id, status, item, quantity"
        " FROM reservations")}
    expect(not set(context.ledger.orders) - set(reservations),
           "orders never reached inventory")
    verify.check_notifications(system, reservations)
    issued = judged(system, "--data", system.data)[1]["issued"]["detail"]
    counted = re.match(r"(\d+) records on topics are of a file that was put"
                       " back", issued)
    # Of one that was cancelled there are two.
    cancelled = sum(context.ledger.cancelled.get(i) == 200 for i in lost)
    expect(counted and int(counted.group(1)) == len(lost) + cancelled,
           "%d lost, %d of them cancelled: %s", len(lost), cancelled, issued)
    context.say("%d kept, %d lost" % (len(kept), len(lost)))


@scenario(spoils=True, small=False, seconds=15)
def rolled_back_to_the_old_program(context):
    """A newer program has migrated a file and worked with it; the old one
    refuses that by name, and goes on with the copy from before.  What clients
    wrote since is lost; what came of topics is applied again, once."""
    system = context.system
    newer = os.path.join(os.path.dirname(system.settings.bin), "test/newer")
    with work_of(context) as work:
        more_orders(context, work, 20)
    load.restock(system, context.ledger, "Laptop", 7)
    verify.settle_and_check(system, context.ledger)
    older = system.value("inventory", "PRAGMA user_version")
    kept = dict(context.ledger.received)
    decided = system.value("inventory", "SELECT count(*) FROM reservations")
    system.stop("inventory")
    system.start("inventory", bin_dir=newer)
    system.ready("inventory")
    copies = glob.glob(system.db_of("inventory") + ".upgrade-*-v%d" % older)
    expect(len(copies) == 1, "copies: %r", copies)
    with work_of(context) as work:
        more_orders(context, work, 30)
    load.restock(system, context.ledger, "Phone", 9)
    adds_up(context)
    system.stop("inventory")

    refused = clients.run_to_end(
        [os.path.join(system.settings.bin, "inventory"), "--brokers",
         system.brokers, "--db", system.db_of("inventory"), "--instance",
         "old"], 20 * system.settings.patience)
    expect(refused.returncode == 1 and "has service schema 900" in
           refused.stderr + refused.stdout, "on the newer's file: %r", refused)
    says = restore(system, "inventory", copies[0])
    expect(".replaced-" in says and decided == system.value(
        "inventory", "SELECT count(*) FROM reservations"), "put back: %s",
        says)
    context.ledger.received = kept
    system.start("inventory")
    system.ready("inventory")
    with work_of(context) as work:
        more_orders(context, work, 20)
    adds_up_by_files(context)
    expect(system.value("inventory", "PRAGMA user_version") == older,
           "the old program has migrated it")


@scenario(small=False, about_broker=True)
def rebuilt_from_the_log(context):
    """notifications and prices are made anew from their topics; those that
    can't be say why."""
    system = context.system
    with work_of(context) as work:
        more_orders(context, work, 20)
        for service, why in (("orders", "answers commands"),
                             ("inventory", "answers commands"),
                             ("price-producer", "reads no topic")):
            _, err = state(system, "rebuild", "--db", system.db_of(service),
                           "--yes", status=2)
            expect(why in err, "%s: %s", service, err)
        # It answers no command, and writes.
        logs = os.path.join(system.copies, "logs.db")
        system.start("logs", db=logs)
        system.ready("logs")
        system.stop("logs")
        _, err = state(system, "rebuild", "--db", logs, "--yes", status=2)
        expect("writes to application-errors, and would emit everything again"
               in err, "logs: %s", err)
        _, err = state(system, "rebuild", "--db",
                       system.db_of("notifications"), "--yes", status=2)
        expect("stop the service first" in err, "while it runs: %s", err)
        for service in ("notifications", "prices"):
            system.stop(service)
            out, _ = state(system, "rebuild", "--db", system.db_of(service),
                           status=1)
            expect("will read from the start" in out, "unasked: %s", out)
            plan = plan_unasked(system, "rebuild", "--db",
                                system.db_of(service))
            expect("will read from the start" in plan, "its plan: %s", plan)
            _, err = state(system, "accept-gap", "--db", system.db_of(service),
                           "--topic", "order-events", status=2)
            expect("it reads %s" % INPUTS[service] in err,
                   "of a topic that it doesn't read: %s", err)
            state(system, "rebuild", "--db", system.db_of(service), "--yes")
            system.start(service)
            system.ready(service)
        more_orders(context, work, 20)
    adds_up(context)


def change_stopped(system, service, sql):
    """By hand, as it is to be done: the pages have their sums again."""
    with sqlite3.connect(system.db_of(service), timeout=10) as own:
        own.execute(sql)
    own.execute("VACUUM")
    own.close()


# A header that would colour a terminal, in C0 and C1, by name and by value.
COLOURED = (("na\x1b[31mme\u009b", "\x07\u00e9\u009b31m\x7f".encode()),)
SHOWN = r"header na\x1b[31mme\xc2\x9b  \x07" "\u00e9" r"\xc2\x9b31m\x7f"
CONTROLS = "[\x00-\x09\x0b-\x1f\x7f-\x9f]"


def at_ms(ts_ms):
    whole = datetime.datetime.fromtimestamp(ts_ms // 1000,
                                            datetime.timezone.utc)
    return whole.strftime("%Y-%m-%dT%H:%M:%S") + ".%03dZ" % (ts_ms % 1000)


def letter_shown(system, letter, offset):
    """All that is kept of the record {} at ${offset}, as JSON and as text."""
    words = ("dead-letters", "show", "--data", system.data, "notifications",
             str(letter))
    told = json.loads(state(system, *words, "-o", "json", brokers=False)[0])
    row, = system.select("notifications", "SELECT topic_id, ts_ms, put_at_ms,"
                         " reason FROM dead_letters WHERE id = ?", letter)
    shown = {field["what"]: field["is"] for field in told}
    wanted = {"topic": "inventory-events", "topic id": row[0], "partition": "0",
              "offset": str(offset), "time": at_ms(row[1]),
              "put away": at_ms(row[2]), "reason": row[3],
              SHOWN[:SHOWN.index("  ")]: SHOWN[SHOWN.index("  ") + 2:],
              "header ce_type": "inventory.reserved", "key": "x", "value": "{}"}
    expect(len(told) == len(wanted) and shown == wanted, "shown: %r, not %r",
           told, wanted)
    out, _ = state(system, *words, brokers=False)
    for what, value in wanted.items():
        expect([line for line in out.splitlines() if line.split() ==
                ("%s %s" % (what, value)).split()], "%s isn't shown: %s",
               what, out)
    expect(SHOWN in out.splitlines() and not re.search(CONTROLS, out),
           "what a terminal would obey: %r", out)


def refused_for_a_copy(system, letter):
    """A copy's rows have the same numbers: the live service is asked, and
    drops none of its own."""
    folder = os.path.join(system.copies, "copied")
    os.mkdir(folder)
    state(system, "restore", "--db", os.path.join(folder, "notifications.db"),
          "--from", backup(system, "notifications")["notifications"], "--yes",
          brokers=False)
    words = ("dead-letters", "drop", "--data", folder, "--run", system.run,
             "--yes", "-o", "json", "notifications", str(letter))
    row, = json.loads(state(system, *words, status=1, brokers=False)[0])
    expect(row["outcome"].startswith("notifications works with another file"),
           "dropped by the copy's folder: %r", row)
    expect(system.value("notifications", "SELECT count(*) FROM dead_letters"
                        " WHERE id = ?", letter) == 1, "it is gone")


@scenario(small=False)
def dead_letters_again(context):
    """A dead letter is applied once more by its service, or dropped; nginx
    lets nobody do it, and files and topics add up all the while."""
    system = context.system
    verify.settle(system, ("orders", "inventory", "notifications"))
    # A version that doesn't know what it reads.
    system.stop("notifications")
    change_stopped(system, "notifications", "CREATE TRIGGER unknown BEFORE"
                   " INSERT ON notifications BEGIN"
                   " SELECT RAISE(ABORT, 'not known yet'); END")
    system.start("notifications")
    system.ready("notifications")
    count = "SELECT count(*) FROM dead_letters"
    before = system.value("notifications", count)
    answer = system.call("orders", "POST", "/orders",
                         {"item": "Laptop", "quantity": 1})
    expect(answer.status == 201, "POST /orders: %r", answer)
    context.ledger.add(answer.json())
    system.wait_for("it is a dead letter", lambda: system.value(
        "notifications", count) == before + 1)
    kafka = system.kafka()
    offsets = [kafka.send("inventory-events", 0, value, b"x",
                          "inventory.reserved", COLOURED)
               for value in (b"{}", b"[]")]
    kafka.close()
    system.wait_for("they are dead letters", lambda: system.value(
        "notifications", count) == before + 3)
    ids = [row[0] for row in system.select(
        "notifications", "SELECT id FROM dead_letters ORDER BY id")][-3:]
    where = ("--data", system.data, "--run", system.run)

    def letters(verb, *words, status=0):
        return state(system, "dead-letters", verb, *where, "--yes", "-o",
                     "json", "notifications", *words, status=status,
                     brokers=False)
    letter_shown(system, ids[1], offsets[0])
    for verb, will in (("replay", "1 dead letter will be applied once more"),
                       ("drop", "1 dead letter will be dropped for good, by the"
                        " service at unix:%s" % system.socket_of(
                            "notifications"))):
        plan = plan_unasked(system, "dead-letters", verb, *where,
                            "notifications", str(ids[0]), brokers=False)
        expect(plan.startswith(will), "the plan of %s: %s", verb, plan)
    _, err = letters("drop", "--fcgi", "unix:/nowhere.sock", str(ids[0]),
                     status=2)
    expect("stop the service first" in err, "behind its back: %s", err)
    out, err = state(system, "dead-letters", "show", "--data", system.data,
                     "notifications", "999999", status=2, brokers=False)
    expect(out == "" and "has no dead letter 999999" in err,
           "one that isn't there: %r %s", out, err)
    refused_for_a_copy(system, ids[2])
    # The service ends under the second of three.
    stub = os.path.join(system.copies, "stub")
    with clients.fcgi_stub(stub, (b"{}", b'{"outcome":"applied"}', None)):
        out, err = letters("replay", "--fcgi", "unix:" + stub,
                           *map(str, ids), status=2)
    outcomes = [(r["id"], r["outcome"].split(":")[0])
                for r in json.loads(out)]
    expect(outcomes == [(ids[0], "applied"), (ids[1], "not known")] and
           "didn't answer" in err, "cut short: %s%s", out, err)
    system.stop("notifications")
    change_stopped(system, "notifications", "DROP TRIGGER unknown")
    system.start("notifications")
    system.ready("notifications")
    # One is said twice, and is asked for once.
    rows = json.loads(letters("replay", str(ids[0]), str(ids[1]), str(ids[1]),
                              status=1)[0])
    expect([r["outcome"] == "applied" for r in rows] == [True, False],
           "outcomes: %r", rows)
    told = system.select("notifications", "SELECT outcome FROM notifications"
                         " WHERE order_id = ?", answer.json()["id"])
    expect(told == [("confirmed",)], "notified: %r", told)
    _, err = letters("replay", str(ids[0]), status=2)
    expect("has no dead letter" in err, "twice: %s", err)
    adds_up(context)
    table, _ = state(system, "dead-letters", "drop", *where, "--yes",
                     "notifications", str(ids[1]), brokers=False)
    heads, row = [line.split() for line in table.splitlines()[-2:]]
    expect(heads == "SERVICE ID TOPIC PARTITION OFFSET REASON OUTCOME".split()
           and row[:5] == ["notifications", str(ids[1]), "inventory-events",
                           "0", str(offsets[0])] and row[-1] == "dropped",
           "a table of what was dropped: %s", table)
    adds_up(context)
    route = "/admin/dead-letters/%s/%d" % (
        database_id(system, "notifications"), ids[2])
    for method, path in (("POST", route + "/replay"), ("DELETE", route)):
        for prefix in ("", "/services/notifications", "/notifications"):
            answer = system.web(method, prefix + path)
            expect(answer.status in (404, 405), "%s %s%s: %r", method, prefix,
                   path, answer)
    system.stop("notifications")
    _, err = letters("replay", str(ids[2]), status=2)
    expect("start it" in err, "while it is down: %s", err)
    letters("drop", str(ids[2]))
    left = system.select("notifications", "SELECT id FROM dead_letters"
                         " WHERE id >= ?", ids[0])
    expect(not left, "left: %r", left)
    system.start("notifications")
    system.ready("notifications")
    adds_up(context)


@scenario(spoils=True, small=False)
def placed_by_other_counts(context):
    """Keys are placed among more partitions in a life of the file that is lost,
    and not by hash at all: each record is judged by what placed it."""
    system = context.system
    readers = ("orders", "notifications")
    refresh = ("--property", "topic.metadata.refresh.interval.ms=1000")
    system.stop("price-producer", *readers)
    system.start("price-producer", flags=("--partitioner", "round-robin"))
    for service in readers:
        system.start(service, flags=refresh)
    system.ready("price-producer", *readers)
    with work_of(context) as work:
        more_orders(context, work, 20)
        copy = backup(system, "inventory")["inventory"]
        kafka = system.kafka()
        kafka.create_partitions("inventory-events", 5)
        system.stop("inventory")
        system.start("inventory")
        system.ready("inventory")
        system.wait_for("the added ones have records", lambda: all(
            end > 0 for end in kafka.ends("inventory-events")))
        kafka.close()
        more_orders(context, work, 20)
        system.stop("inventory")
        restore(system, "inventory", copy)
        system.start("inventory")
        system.ready("inventory")
        more_orders(context, work, 20)
    adds_up_by_files(context)
    counts = system.select("inventory", "SELECT partitions FROM placements"
                           " WHERE topic = 'inventory-events'"
                           " ORDER BY number")
    expect(counts == [(3,), (5,)], "inventory placed by %r", counts)
    counts = system.select("price-producer", "SELECT partitions FROM"
                           " placements ORDER BY number")
    expect(counts == [(3,), (0,)], "price-producer placed by %r", counts)
