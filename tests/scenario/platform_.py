"""platform_ -- the streaming platform's services, each by itself."""

import collections
import json
import os
import signal
import subprocess
import time

import clients
from scenario import scenario
from system import Process, expect


def log_line(number, now_ms):
    """Every tenth an error, and every hundredth one that can't be read."""
    if number % 100 == 99:
        return b'{"service":"web","level":"loud"}'
    return json.dumps({
        "service": "web-%d" % (number % 3),
        "level": "error" if number % 10 == 0 else "info",
        "message": "request n%d took its time" % number,
        "ts_ms": now_ms + number}).encode()


def find_logs(system, query):
    answer = system.web("GET", "/logs?" + query)
    expect(answer.status == 200, "/logs?%s: %r", query, answer)
    return answer.json()


def page_through(system, query):
    """All messages, in pages, newest first."""
    found, after = [], ""
    while True:
        page = find_logs(system, "%s&limit=1000%s" % (query, after))
        found += [e["message"] for e in page["entries"]]
        if page["next_after"] is None:
            return found
        after = "&after=%d" % page["next_after"]


@scenario(kind="own")
def logs_are_found_once(context):
    """Killed while lines arrive: each is found once, errors go on once."""
    system = context.system
    system.kafka_start()
    system.nginx_start()
    system.start("logs")
    system.ready("logs")
    count = 2000 if context.settings.small else 10000
    now_ms = int(time.time() * 1000)
    kafka = system.kafka()
    kills = 0
    for begin in range(0, count, 500):
        numbers = range(begin, min(begin + 500, count))
        for partition in (0, 1):
            kafka.produce("application-logs", partition, [
                (b"web", log_line(n, now_ms), (), now_ms + n)
                for n in numbers if n % 2 == partition])
        if begin == count // 2 or context.rng.random() < 0.15:
            system.kill("logs")
            kills += 1
    wanted = {"request n%d took its time" % n for n in range(count)
              if n % 100 != 99}
    system.wait_for("all lines are there", lambda: system.select(
        "logs", "SELECT entries FROM logs_state")[0][0] == len(wanted), 60)
    system.ready("logs")
    found = page_through(system, "q=took+time")
    expect(len(found) == len(wanted) and set(found) == wanted,
           "%d lines of %d, %d different", len(found), len(wanted),
           len(set(found)))
    one = find_logs(system, "q=n1230")
    expect([e["level"] for e in one["entries"]] == ["error"] and
           one["entries"][0]["message_hits"] == [[8, 5]], "%r", one)
    expect(len(page_through(system, "level=error&service=web-0")) ==
           len([n for n in range(count) if n % 30 == 0]), "errors of web-0")
    rejected = system.select("logs", "SELECT count(*) FROM dead_letters")
    expect(rejected[0][0] == count // 100, "%d dead letters", rejected[0][0])

    def routed():
        # A relay that was killed repeats: a reader drops what it has seen.
        seen = {(r.partition, r.headers["ce_id"]): r.value
                for records in kafka.read_all("application-errors")
                for r in records}
        return len(seen) == count // 10 and \
            len(set(seen.values())) == count // 10
    system.wait_for("errors have gone on", routed)
    kafka.close()
    expect(system.stop("logs") == [0], "it didn't stop well")
    context.say("%d lines, %d kills" % (count, kills))


class Shop:
    """What analytics has to say of user-events, computed anew: the records
    of each partition in their order, repeats of a killed relay left out."""

    STEPS = (("visit", lambda e: True),
             ("product", lambda e: e["page"].split("/")[1] == "product"),
             ("cart", lambda e: e["page"] == "/cart"),
             ("checkout", lambda e: e["page"] == "/checkout"),
             ("purchase", lambda e: e["event"] == "purchase"),
             ("search", lambda e: e["page"] == "/search"),
             ("signup", lambda e: e["event"] == "signup"))

    def __init__(self, partitions, grace_ms):
        self.minutes = collections.Counter()
        self.amounts = collections.Counter()
        self.late = collections.Counter()
        self.users = collections.defaultdict(collections.Counter)
        self.progress = []
        self.ids = set()
        events = []
        for number, records in enumerate(partitions):
            newest, seen, late = 0, set(), 0
            for record in records:
                if record.headers["ce_id"] in seen:
                    continue
                seen.add(record.headers["ce_id"])
                event = json.loads(record.value)
                self.ids.add(event["event_id"])
                newest = max(newest, event["ts_ms"])
                minute = event["ts_ms"] // 60000 * 60000
                key = (minute, event["event"], event.get("currency", ""))
                if minute + 60000 + grace_ms <= newest:
                    self.late[key] += 1
                    late += 1
                    continue
                self.minutes[key] += 1
                self.amounts[key] += event.get("amount_minor", 0)
                self.users[minute][event["user_id"]] += 1
                events.append(event)
            self.progress.append((number, newest, newest - grace_ms,
                                  len(seen), late))
        self.sessions = self._sessions(events)

    def _sessions(self, events):
        by_user = collections.defaultdict(list)
        for event in events:
            by_user[event["user_id"]].append(event)
        sessions = []
        for user, own in by_user.items():
            own.sort(key=lambda e: e["ts_ms"])
            begin = 0
            for i in range(1, len(own) + 1):
                if i == len(own) or \
                        own[i]["ts_ms"] - own[i - 1]["ts_ms"] >= 1800000:
                    sessions.append((
                        user, own[begin]["ts_ms"], own[i - 1]["ts_ms"],
                        i - begin, sum(
                            1 << bit for bit, (_, has) in
                            enumerate(self.STEPS)
                            if any(has(e) for e in own[begin:i]))))
                    begin = i
        return sorted(sessions)

    def rows(self):
        keys = set(self.minutes) | set(self.late)
        return sorted((*key, self.minutes[key], self.amounts[key],
                       self.late[key]) for key in keys)

    def hops(self, start):
        """Events, late ones, unique users and amounts of five minutes."""
        within = range(start, start + 300000, 60000)
        keys = [k for k in self.minutes if k[0] in within]
        amounts = collections.Counter()
        for key in keys:
            if key[1] == "purchase":
                amounts[key[2]] += self.amounts[key]
        users = set().union(*(self.users[m] for m in within
                              if m in self.users))
        return (*(sum(self.minutes[k] for k in keys if k[1] == event)
                  for event in ("click", "purchase", "signup")),
                sum(n for k, n in self.late.items() if k[0] in within),
                len(users), dict(amounts))

    def funnel(self):
        return [sum(1 for s in self.sessions
                    if s[4] & ((2 << k) - 1) == (2 << k) - 1)
                for k in range(5)]


def answers_agree(system, shop):
    first, last = min(shop.users), max(shop.users)
    everything = "from=%d&to=%d" % (first, last + 60000)

    def ask(what):
        answer = system.web("GET", "/analytics/" + what + everything)
        expect(answer.status == 200, "%s: %r", what, answer)
        return answer.json()
    windows = ask("windows?kind=hopping&limit=1440&")["windows"]
    expect(len(windows) > 60, "only %d windows", len(windows))
    for w in windows:
        said = (w["click"], w["purchase"], w["signup"], w["late"], w["users"],
                w["amount_minor"])
        expect(said == shop.hops(w["start_ms"]), "%r is %r", w,
               shop.hops(w["start_ms"]))
    funnel = ask("funnel?")
    expect([f["sessions"] for f in funnel["funnel"]] == shop.funnel(),
           "%r is %r", funnel, shop.funnel())
    users = sum(shop.users.values(), collections.Counter())
    top = ask("top?what=users&limit=5&")["top"]
    expect([(t["name"], t["events"]) for t in top] ==
           sorted(users.items(), key=lambda u: (-u[1], u[0]))[:5],
           "top users: %r", top)


def rows_agree(system, shop):
    for what, wanted, sql in (
            ("progress", shop.progress, "SELECT partition, watermark_ms,"
             " closed_ms, events, late FROM progress ORDER BY 1"),
            ("minutes", shop.rows(), "SELECT start_ms, event, currency, count,"
             " amount_minor, late FROM minutes ORDER BY 1, 2, 3"),
            ("sessions", shop.sessions, "SELECT user_id, start_ms, last_ms,"
             " events, steps FROM sessions ORDER BY 1, 2")):
        found = [tuple(row) for row in system.select("analytics", sql)]
        differs = [(a, b) for a, b in zip(found, wanted) if a != b]
        expect(len(found) == len(wanted) and not differs,
               "%s: %d rows of %d, %r", what, len(found), len(wanted),
               differs[:1])


def kill_until_counted(context, producer, made_sql, consumer, counted_sql,
                       count):
    """Let the producer make its records while it, the consumer and a second
    instance of that are killed, each coming back to a rebalance; until all
    that was made is counted.  How many kills it took."""
    system = context.system
    second = consumer + "-2"
    system.start(second, flags=system.starts[consumer]["flags"])
    system.ready(producer, second)
    kills = 0

    def made():
        return (system.select(producer, made_sql) or [(0,)])[0][0]
    while made() < count:
        least = min(made() + count // 8, count)
        system.wait_for("more records", lambda: made() >= least, 60)
        system.kill(context.rng.choice((producer, consumer, second)))
        kills += 1
    system.wait_for("the outbox is empty", lambda: system.value(
        producer, "SELECT count(*) FROM outbox") == 0, 60)
    with system.lock:
        system.wanted.discard(producer)
    system.wait_for("all records are counted", lambda: system.value(
        consumer, counted_sql) == count, 90)
    system.ready(consumer)
    return kills


@scenario(kind="own", seconds=10)
def analytics_equals_python(context):
    """Killed at random, events out of order: windows are those of Python."""
    system = context.system
    count = 4000 if context.settings.small else 8000
    system.kafka_start()
    system.nginx_start()
    # Four seconds, which are three hours of the shop's own time.
    system.start("analytics")
    system.ready("analytics")
    system.start("event-producer", flags=(
        "--rate", str(count / 4), "--pace", str(count / 10000), "--count", str(count),
        "--users", "200", "--sessions", "20", "--late-share", "0.05",
        "--late-by", "90s", "--seed", str(context.rng.randrange(1000))))
    kills = kill_until_counted(
        context, "event-producer", "SELECT events FROM shop", "analytics",
        "SELECT sum(events) FROM progress", count)
    kafka = system.kafka()
    shop = Shop(kafka.read_all("user-events"), 60000)
    kafka.close()
    expect(len(shop.ids) == count, "%d events", len(shop.ids))
    expect(sum(shop.late.values()) > 0, "nothing was late")
    rows_agree(system, shop)
    answers_agree(system, shop)
    context.say("%d events, %d late, %d sessions, %d kills" % (
        count, sum(shop.late.values()), len(shop.sessions), kills))


@scenario(kind="own")
def counted_producers_send_all(context):
    """A producer that has made its --count ends once Kafka has all of it,
    whatever time there is to drain; one told to stop says what it keeps."""
    system = context.system
    system.kafka_start()
    count = 20000

    def producer(*flags):
        return [os.path.join(system.settings.bin, "event-producer"),
                "--brokers", "127.0.0.1:%d" % system.kafka_port, "--db",
                system.db_of("event-producer"), "--drain-ms", "0", *flags]

    def made():
        return system.value("event-producer", "SELECT events FROM shop")

    def waiting():
        return system.value("event-producer", "SELECT count(*) FROM outbox")
    done = clients.run_to_end(producer("--rate", "0", "--count", str(count)),
                              60 * system.settings.patience)
    expect(done.returncode == 0 and "drained=yes" in done.stderr + done.stdout,
           "its end: %d, %s", done.returncode, done.stderr[-300:])
    kafka = system.kafka()
    sent = sum(kafka.ends("user-events"))
    kafka.close()
    expect(sent == count, "%d of %d records arrived", sent, count)

    # Killed, and begun anew before what it held of the relay has run out.
    process = Process(producer("--rate", "200"),
                      os.path.join(system.logs, "killed"))
    try:
        system.wait_for("it makes some more", lambda: made() > count + 20)
    finally:
        process.end()
    count += 1000
    done = clients.run_to_end(producer("--rate", "0", "--count", str(count)),
                              60 * system.settings.patience)
    expect(done.returncode == 0 and made() == count and waiting() == 0,
           "%d made, %d wait; its end: %d, %s", made(), waiting(),
           done.returncode, done.stderr[-300:])

    log = os.path.join(system.logs, "told-to-stop")
    process = Process(producer("--rate", "100"), log)
    try:
        system.wait_for("it sends", lambda: made() > count + 50)
        system.kafka_kill()
        before = made()
        system.wait_for("records wait for the broker",
                        lambda: made() > before + 20)
        process.signal(signal.SIGTERM)
        status = process.popen.wait(30 * system.settings.patience)
    finally:
        process.end()
    with open(log) as f:
        said = f.read()
    expect(status == 0 and "drained=no unsent=%d" % waiting() in said,
           "%d wait; its end: %d, %s", waiting(), status, said[-300:])


class Samples:
    """What rollups has to say of system-metrics, computed anew: the records
    of each partition in their order, repeats of a killed relay left out."""

    HOUR = 3600000

    def __init__(self, partitions, keep_ms):
        self.values = collections.defaultdict(list)  # by host, metric, second
        self.progress = []
        for number, records in enumerate(partitions):
            newest, seen, late = 0, set(), 0
            for record in records:
                if record.headers["ce_id"] in seen:
                    continue
                seen.add(record.headers["ce_id"])
                sample = json.loads(record.value)
                newest = max(newest, sample["ts_ms"])
                if (sample["ts_ms"] // self.HOUR + 1) * self.HOUR <= \
                        newest - keep_ms:
                    late += 1
                    continue
                self.values[sample["host"], sample["metric"],
                            sample["ts_ms"] // 1000 * 1000].append(
                                round(1000 * sample["value"]))
            if seen:
                self.progress.append((number, newest, len(seen), late))

    def points(self, host, metric, step_ms):
        by_step = collections.defaultdict(list)
        for (h, m, second), values in self.values.items():
            if (h, m) == (host, metric):
                by_step[second // step_ms * step_ms] += values
        points = []
        for start, values in sorted(by_step.items()):
            values.sort()
            n = len(values)
            points.append((
                start, n, values[0] / 1000, values[-1] / 1000,
                sum(values) / n / 1000, values[(n * 50 + 99) // 100 - 1] / 1000,
                values[(n * 99 + 99) // 100 - 1] / 1000))
        return points


def parts_are_put_together(system, kafka, at_ms):
    """A host's samples came through two partitions: they are one series, but
    that a settled minute's percentiles aren't known."""
    def produce(partition, value, ts_ms):
        kafka.produce("system-metrics", partition, [(None, json.dumps({
            "host": "both", "metric": "m", "value": value,
            "ts_ms": ts_ms}).encode(), (), ts_ms)])

    def point():
        points = system.web(
            "GET", "/metrics-history?host=both&metric=m&from=%d&to=%d" % (
                at_ms, at_ms + 1)).json()["points"]
        return [points[0][key] for key in (
            "count", "min", "max", "mean", "p50", "p99")] if points else None
    for partition, value in (0, 1), (0, 2), (1, 9):
        produce(partition, value, at_ms)
    system.wait_for("one point of both", lambda: point() ==
                    [3, 1, 9, 4, 2, 9])
    for partition in 0, 1:
        produce(partition, 5, at_ms + 3 * Samples.HOUR)
    system.wait_for("both are settled", lambda: point() ==
                    [3, 1, 9, 4, None, None])


@scenario(kind="own", seconds=10)
def rollups_equal_python(context):
    """Killed at random, samples late: percentiles and all are Python's."""
    system = context.system
    count = 6000 if context.settings.small else 12000
    system.kafka_start()
    system.nginx_start()
    system.start("rollups", flags=("--keep-seconds", "30m", "--ahead", "7d"))
    system.ready("rollups")
    # Four seconds, which are six hours of the hosts' own time; a broker takes
    # no record whose time is to come, and there are some of a day later.
    start_ms = int(time.time() * 1000) - 30 * Samples.HOUR
    system.start("metric-producer", flags=(
        "--simulate", "3", "--rate", str(count / 4), "--count", str(count),
        "--every", str(6 * Samples.HOUR * 24 // count) + "ms",
        "--start-ms", str(start_ms), "--late-share", "0.1", "--late-by",
        "20m", "--seed", str(context.rng.randrange(1000))))
    kills = kill_until_counted(
        context, "metric-producer", "SELECT samples FROM fleet", "rollups",
        "SELECT sum(samples) FROM progress", count)
    kafka = system.kafka()
    samples = Samples(kafka.read_all("system-metrics"), 1800000)
    late = sum(p[3] for p in samples.progress)
    found = [tuple(row) for row in system.select(
        "rollups", "SELECT partition, watermark_ms, samples, late"
        " FROM progress ORDER BY 1")]
    expect(found == samples.progress, "%r is %r", found, samples.progress)
    expect(late > 0, "nothing was late")
    system.wait_for("hours are settled", lambda: system.value(
        "rollups", "SELECT count(*) FROM progress AS p WHERE (SELECT"
        " min(hour_ms) + 3600000 FROM seconds AS s WHERE s.partition ="
        " p.partition) <= watermark_ms - 1800000") == 0)
    for table in "rollups", "seconds":
        expect(system.value("rollups", "SELECT count(*) FROM " + table) > 0,
               "%s are all or none", table)
    series = system.web("GET", "/metrics-history/series").json()["series"]
    expect({(s["host"], s["metric"]) for s in series} ==
           {key[:2] for key in samples.values} and len(series) == 24,
           "series: %r", series)
    compared = 0
    for host, metric in (series[n].values() for n in range(0, 24, 5)):
        for step, step_ms in (("1m", 60000), ("1h", Samples.HOUR)):
            answer = system.web(
                "GET", "/metrics-history?host=%s&metric=%s&step=%s&from=%d"
                "&to=%d" % (host, metric, step, start_ms - 2 * Samples.HOUR,
                            start_ms + 8 * Samples.HOUR))
            expect(answer.status == 200, "%r", answer)
            said = [tuple(p[key] for key in (
                "ts_ms", "count", "min", "max", "mean", "p50", "p99"))
                for p in answer.json()["points"]]
            wanted = samples.points(host, metric, step_ms)
            differs = [(a, b) for a, b in zip(said, wanted) if a != b]
            expect(len(said) == len(wanted) and not differs,
                   "%s %s %s: %d points of %d, %r", host, metric, step,
                   len(said), len(wanted), differs[:1])
            compared += len(said)
    parts_are_put_together(system, kafka, start_ms + 24 * Samples.HOUR)
    kafka.close()
    context.say("%d samples, %d late, %d points compared, %d kills" % (
        count, late, compared, kills))


@scenario(kind="own", seconds=22)
def a_log_file_is_shipped_once(context):
    """Written to, rotated, cut, its shipper killed: each line is found once."""
    system = context.system
    system.kafka_start()
    system.start("logs")
    path = os.path.join(system.data, "shop.log")
    with open(path, "w", encoding="ascii"):
        pass
    system.start("log-producer", flags=(
        "--from-file", path, "--follow", "--service", "shop"))
    system.ready("logs", "log-producer")
    written, kills, size = 0, 0, 0

    def write(count, how="WARN line n%d is here\n"):
        nonlocal written
        with open(path, "a", encoding="ascii") as log:
            for _ in range(count):
                log.write(how % written)
                written += 1

    def arrived(count):
        system.wait_for("%d lines" % count, lambda: system.value(
            "logs", "SELECT entries FROM logs_state") == count, 60)
    for part in range(8):
        write(500)
        if part in (1, 4):
            system.kill("log-producer")
            kills += 1
        if part == 2:
            # Who writes learns of it later, and hasn't ended its last line.
            arrived(written)
            with open(path, "a", encoding="ascii") as old:
                os.rename(path, path + ".1")
                write(10)
                system.wait_for("it is noticed", lambda: "was rotated" in
                                system.log("log-producer"))
                old.write("WARN line n%d is here\nWARN line n%d is" %
                          (written, written + 1))
                old.flush()
                arrived(written + 1 - 10)
                old.write(" here\nWARN line n%d is here" % (written + 2))
                written += 3
        if part == 3:
            arrived(written)
            system.kill("log-producer", restart=False)
            write(10)
            os.rename(path, path + ".1")
            write(1, "ERROR line n%d is here\n\tat f()\n")
            system.start("log-producer",
                         **system.starts["log-producer"])
            kills += 1
        if part == 5:
            arrived(written)
            size = os.path.getsize(path)
            os.truncate(path, 0)
    arrived(written)
    expect(size > 0, "it was never cut")
    found = {row[0] for row in system.select(
        "logs", "SELECT message FROM entries")}
    expect(len(found) == written, "%d lines of %d", len(found), written)
    expect(system.value("logs", "SELECT count(*) FROM entries WHERE stack ="
                        " char(9) || 'at f()' AND severity = 3") == 1,
           "the stack trace isn't there")
    expect(system.stop("log-producer") == [0], "it didn't stop well")
    piped = subprocess.run(
        [os.path.join(context.settings.bin, "log-producer"), "--from-stdin",
         "--brokers", "127.0.0.1:%d" % system.kafka_port, "--service", "pipe",
         "--compression", "zstd", "--db",
         os.path.join(system.data, "piped.db")],
        input=b"".join(b"WARN line n%d is piped\n" % n for n in range(1000)),
        stderr=subprocess.PIPE, timeout=60)
    expect(piped.returncode == 0, "%r", piped.stderr[-500:])
    arrived(written + 1000)
    expect(system.value("logs", "SELECT count(DISTINCT message) FROM entries"
                        " WHERE message GLOB 'WARN line n* is piped'") == 1000,
           "what was piped in isn't all there")
    context.say("%d lines, 1000 piped in, %d kills" % (written, kills))
