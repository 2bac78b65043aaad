"""alerting -- the service alerts: what it finds, and whom it tells."""

import collections
import http.server
import json
import math
import os
import statistics
import threading
import time

from platform_ import kill_until_counted
from scenario import scenario
from system import expect

MINUTE = 60000
RULES = [
    {"name": "errors", "kind": "error_rate", "every_s": 10, "window_s": 60,
     "above": 0.3, "least": 5, "for_s": 20, "cooldown_s": 120,
     "silent_s": 60},
    {"name": "cpu", "kind": "threshold", "metric": "cpu_percent",
     "every_s": 60, "above": 40, "for_s": 180, "cooldown_s": 600},
    {"name": "idle", "kind": "threshold", "metric": "load_1m",
     "host": "host-2", "every_s": 120, "below": 0.5, "silent_s": 120},
    {"name": "unusual", "kind": "zscore", "every_s": 60, "points": 30,
     "score": 6, "cooldown_s": 0},
    {"name": "unseasonal", "kind": "seasonal", "every_s": 60, "least": 20,
     "alpha": 0.1, "score": 5, "for_s": 60},
]


def write_rules(system, rules):
    path = os.path.join(system.base, "alert-rules.json")
    with open(path, "w", encoding="ascii") as out:
        json.dump({"rules": rules}, out)
    return path


def scale_of(deviation, centre):
    return max(deviation, 0.02 * abs(centre), 0.1)


class Watched:
    """What a rule has to say of a series: its steps, judged in order."""

    def __init__(self, rule):
        self.rule = rule
        self.steps = collections.defaultdict(list)

    def verdicts(self, ends):
        """(end, truth, value, score) of each step."""
        past, seasons = [], collections.defaultdict(lambda: (0, 0.0, 0.0))
        rule = self.rule
        for end in ends:
            values = self.steps[end]
            value, score = sum(values) / len(values) / 1000, None
            if rule["kind"] == "error_rate":
                seen = [e for s in ends for e in self.steps[s]
                        if end - rule["window_s"] * 1000 < s <= end]
                value = sum(seen) / len(seen)
                truth = len(seen) >= rule["least"] and value > rule["above"]
            elif rule["kind"] == "threshold":
                truth = (value > rule["above"] if "above" in rule
                         else value < rule["below"])
            elif rule["kind"] == "zscore":
                before = past[-rule["points"]:]
                if len(before) >= 12:
                    middle = statistics.median(before)
                    score = (value - middle) / scale_of(
                        1.4826 * statistics.median(
                            abs(x - middle) for x in before), middle)
                past.append(value)
            else:
                hour = (end - rule["every_s"] * 1000) // 3600000 % 24
                seasons[hour], score = self.follow(seasons[hour], value)
            if rule["kind"] in ("zscore", "seasonal"):
                truth = score is not None and abs(score) >= rule["score"]
            yield end, truth, value, score

    def follow(self, season, value):
        count, level, variance = season
        scale, away = scale_of(math.sqrt(variance), level), value - level
        score = None
        if count >= self.rule["least"]:
            score = away / scale
            most = self.rule["score"] * scale
            away = max(min(away, most), -most)
        weight = max(self.rule["alpha"], 1 / (count + 1))
        return (count + 1, level + weight * away, (1 - weight) * (
            variance + away * (weight * away))), score

    def transitions(self, until):
        """(state, at, value, score, reason), by a watermark less grace."""
        rule = self.rule
        wait = rule.get("for_s", 0) * 1000
        silent = rule.get("silent_s", 600) * 1000
        cool = rule.get("cooldown_s", 300) * 1000
        state, began, cold, last = None, 0, 0, 0
        ends = sorted(end for end in self.steps if end <= until)
        for end, truth, value, score in self.verdicts(ends):
            if state and last + silent < end:
                yield "resolved", last + silent, 0, None, "silent"
                cold = last + silent + cool if state == "firing" else cold
                state = None
            last = end
            if state and not truth:
                yield "resolved", end, value, score, "cleared"
                cold = end + cool if state == "firing" else cold
                state = None
            elif truth and state != "firing":
                if state is None and end < cold:
                    continue
                began = began if state else end
                now = "firing" if end - began >= wait else "pending"
                if now != state:
                    yield now, end, value, score, ""
                state = now
        if state and last + silent <= until:
            yield "resolved", last + silent, 0, None, "silent"


def watch(partitions, about, grace_ms):
    """All transitions of an input's partitions, and how many records were
    late.  ${about} gives of a record (subject, metric, kind fits, number)."""
    found, late = [], 0
    for number, records in enumerate(partitions):
        newest, seen, series = 0, set(), {}
        for record in records:
            if record.headers.get("ce_id") in seen:
                continue
            if "ce_id" in record.headers:
                seen.add(record.headers["ce_id"])
            value = json.loads(record.value)
            newest = max(newest, value["ts_ms"])
            missed = False
            for rule in RULES:
                told = about(rule, value)
                if told is None:
                    continue
                every = rule["every_s"] * 1000
                end = (value["ts_ms"] // every + 1) * every
                if end + grace_ms <= newest:
                    missed = True
                    continue
                key = (rule["name"], told[0], told[1], number)
                series.setdefault(key, Watched(rule)).steps[end].append(
                    told[2])
            late += missed
        for key, watched in series.items():
            found += [key + t
                      for t in watched.transitions(newest - grace_ms)]
    return found, late


def of_metric(rule, value):
    if rule["kind"] == "error_rate" or \
            rule.get("metric", value["metric"]) != value["metric"] or \
            rule.get("host", value["host"]) != value["host"]:
        return None
    return value["host"], value["metric"], round(1000 * value["value"])


def of_line(rule, value):
    if rule["kind"] != "error_rate":
        return None
    return value["service"], "", value["level"] in ("error", "fatal")


def produce_lines(context, kafka, count, start_ms):
    """Bursts of errors of three services, out of order, some late."""
    rng = context.rng
    for partition in 0, 1:
        lines = []
        for n in range(count):
            at = n * 500
            burst = at // 90000 % 3 == partition
            name = "svc-%d" % (2 * rng.randrange(3) + partition)
            # One goes silent in the middle of its burst.
            if name.endswith("2") and at // 45000 % 6 in (1, 2):
                name = "svc-0"
            level = "error" if rng.random() < (0.6 if burst else 0.05) \
                else "info"
            ts = start_ms + at - rng.choice((0, 0, 0, 3000, 20000))
            lines.append((name.encode(), json.dumps({
                "service": name, "level": level, "message": "m",
                "ts_ms": ts}).encode(), (), start_ms + at))
        kafka.produce("application-logs", partition, lines)


@scenario(kind="own", seconds=10)
def alerts_equal_python(context):
    """Killed at random, records late: transitions are those of Python."""
    system = context.system
    count = 5000 if context.settings.small else 8000
    system.kafka_start()
    system.nginx_start()
    rules = write_rules(system, RULES)
    system.start("alerts", flags=("--rules", rules, "--grace", "10s",
                                  "--ahead", "7d"))
    system.ready("alerts")
    start_ms = int(time.time() * 1000)
    kafka = system.kafka()
    produce_lines(context, kafka, 1000, start_ms)
    # Four seconds, which are eight hours of the hosts' own time.
    system.start("metric-producer", flags=(
        "--simulate", "2", "--rate", str(count / 4), "--count", str(count),
        "--every", str(8 * 60 * MINUTE * 16 // count) + "ms",
        "--anomaly-every", "1h", "--start-ms", str(start_ms),
        "--late-share", "0.1", "--late-by", "40s",
        "--seed", str(context.rng.randrange(1000))))
    kills = kill_until_counted(
        context, "metric-producer", "SELECT samples FROM fleet", "alerts",
        "SELECT sum(records) FROM progress WHERE input = 1", count)
    system.wait_for("all lines are counted", lambda: system.value(
        "alerts", "SELECT sum(records) FROM progress WHERE input = 0") == 2000)
    system.wait_for("nothing is due", lambda: system.value(
        "alerts", "SELECT count(*) FROM steps JOIN progress AS p USING"
        " (input, partition) WHERE end_ms <= watermark_ms - 10000") == 0)
    wanted, late = [], 0
    for topic, about in (("application-logs", of_line),
                         ("system-metrics", of_metric)):
        found, missed = watch(kafka.read_all(topic), about, 10000)
        wanted, late = wanted + found, late + missed
    # Whether a host is ever so busy, or so idle, is up to the seed.
    expect({t[0] for t in wanted} >= {"errors", "unusual", "unseasonal"},
           "only %r have alerts", {t[0] for t in wanted})
    expect({t[-1] for t in wanted} == {"", "cleared", "silent"}, "reasons")
    found = [tuple(row) for row in system.select(
        "alerts", "SELECT a.rule, service || host, metric, partition, t.state,"
        " t.at_ms, t.value, t.score, t.reason FROM transitions AS t"
        " JOIN alerts AS a ON a.id = t.alert ORDER BY t.seq")]
    by_series = (lambda t: t[:4])
    found.sort(key=by_series)
    wanted.sort(key=by_series)
    differs = [(a, b) for a, b in zip(found, wanted) if a != b]
    expect(len(found) == len(wanted) and not differs,
           "%d transitions of %d, %r", len(found), len(wanted), differs[:1])
    expect(system.value("alerts", "SELECT sum(late) FROM progress") == late
           and late > 0, "not %d records were late", late)
    records_agree(system, kafka, len(wanted))
    answers_agree(system, found)
    kafka.close()
    context.say("%d transitions, %d late, %d kills" % (
        len(wanted), late, kills))


def answers_agree(system, transitions):
    """Through nginx: the same again, and an acknowledgement, once."""
    ids, after = [], ""
    while after is not None:
        page = system.web("GET", "/alerts?limit=20" + after).json()
        ids += [a["id"] for a in page["alerts"]]
        after = page["next_after"] and "&after=%d" % page["next_after"]
    told = [(a["rule"], a.get("service") or a["host"], a.get("metric", ""),
             t["state"], t["at_ms"], t["value"], t["score"],
             t.get("reason", "")) for a in (
                 system.web("GET", "/alerts/%d" % n).json() for n in ids)
            for t in a["transitions"]]
    wanted = [t[:3] + t[4:] for t in transitions]
    expect(sorted(told, key=repr) == sorted(wanted, key=repr),
           "%d transitions told of %d", len(told), len(wanted))
    url = "/alerts/%d/acknowledge" % ids[0]
    first, second = (system.web("POST", url) for _ in range(2))
    expect(first.status == second.status == 200 and
           first.json() == second.json(), "%r, %r", first, second)
    expect(b"alerts.js" in system.web("GET", "/ui/alerts").body, "no page")


def records_agree(system, kafka, count):
    """Each transition is a record, once, in their order."""
    def told():
        seen = {r.headers["ce_id"]: json.loads(r.value)["fingerprint"]
                for r in kafka.read_all("alerts")[0]}
        return list(seen.values())
    system.wait_for("all records are there", lambda: len(told()) >= count)
    rows = [row[0] for row in system.select(
        "alerts", "SELECT fingerprint FROM transitions ORDER BY seq")]
    expect(told() == rows and len(set(rows)) == count,
           "%d records, %d rows", len(told()), len(rows))


class Hook(http.server.ThreadingHTTPServer):
    """Takes what is posted; answers as its plan says, then with 200."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, plan, port=0):
        self.plan = list(plan)
        self.posted = []  # (path, key, body) that got a 200
        self.repeated = []  # bodies of those without a key
        self.refused = 0
        self.over = threading.Event()
        super().__init__(("127.0.0.1", port), HookHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def end(self):
        self.over.set()
        self.shutdown()
        self.server_close()
        return self.server_address[1]


class HookHandler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        hook = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        how = hook.plan.pop(0) if hook.plan else 200
        if how == "hang":
            hook.refused += 1
            hook.over.wait(30)
        elif how == 200:
            key, body = self.headers["Idempotency-Key"], json.loads(body)
            if key:
                hook.posted.append((self.path, key, body))
            else:
                hook.repeated.append(body)
            self.send_response(200)
            self.end_headers()
        else:
            hook.refused += 1
            self.send_response(how)
            self.end_headers()

    def log_message(self, *_):
        pass


def make_alerts(kafka, names, start_ms):
    """Each service has an error, then a line without; the last one is for
    the time to go on."""
    for n, name in enumerate(names):
        kafka.produce("application-logs", 0, [(name.encode(), json.dumps({
            "service": name, "level": level, "message": "m",
            "ts_ms": start_ms + 20000 * n + at}).encode(), (), start_ms)
            for level, at in (("error", 0), ("info", 10000), ("info", 20000))])


@scenario(kind="own")
def alerts_are_delivered_at_last(context):
    """To a webhook that fails, hangs and goes away, and to Alertmanager's
    API: all, in order, across restarts of either side."""
    system = context.system
    hook, manager = Hook([500, "hang", "hang"]), Hook([503])
    system.kafka_start()
    rules = write_rules(system, [{
        "name": "errors", "kind": "error_rate", "every_s": 10,
        "window_s": 10, "above": 0.5, "least": 1, "cooldown_s": 0}])
    system.start("alerts", flags=(
        "--rules", rules, "--grace", "0", "--deliver-timeout-ms", "300",
        "--webhook", "http://127.0.0.1:%d/hook?x=1" % hook.server_address[1],
        "--alertmanager", "http://localhost:%d/" % manager.server_address[1]))
    system.ready("alerts")
    kafka = system.kafka()
    start_ms = int(time.time() * 1000) // 10000 * 10000
    make_alerts(kafka, ["a", "b", "c"], start_ms)
    system.wait_for("it was refused thrice", lambda: hook.refused == 3)
    system.kill("alerts")
    system.wait_for("six are delivered", lambda: len(hook.posted) >= 6)
    first = list(hook.posted)
    port = hook.end()
    make_alerts(kafka, ["d", "e"], start_ms + 60000)
    system.wait_for("it is noticed that nobody listens", lambda: "refused" in
                    system.select("alerts", "SELECT error FROM deliveries"
                                  " WHERE target = 'webhook'")[0][0])
    hook = Hook([], port)
    rows = [tuple(row) for row in system.select(
        "alerts", "SELECT t.fingerprint, t.state FROM transitions AS t"
        " ORDER BY t.seq")]
    expect(len(rows) == 10, "%d transitions", len(rows))
    for what, posts in (("hook", lambda: first + hook.posted),
                        ("manager", lambda: manager.posted)):
        system.wait_for("all are delivered to the " + what, lambda: len(
            {p[1] for p in posts()}) == 10)
        keys = list(dict.fromkeys(p[1] for p in posts()))
        expect(keys == [r[0] for r in rows], "%s: %r, not %r", what, keys,
               rows)
    for path, key, body in first + hook.posted:
        expect(path == "/hook?x=1" and body["fingerprint"] == key and
               (key, body["state"]) in rows, "%r", body)
    path, key, body = manager.posted[0]
    expect(path == "/api/v2/alerts" and body[0]["labels"] == {
        "alertname": "errors", "severity": "warning", "kind": "error_rate",
        "service": "a"} and body[0]["startsAt"] < body[0]["endsAt"],
        "%s: %r", path, body)
    system.wait_for("it is noted", lambda: [tuple(r) for r in system.select(
        "alerts", "SELECT delivered, attempts, error FROM deliveries")] ==
        [(10, 0, "")] * 2)
    failed = system.value("alerts", "SELECT sum(failed) FROM deliveries")
    expect(failed >= 4, "only %d attempts failed", failed)
    expect(system.stop("alerts") == [0], "it didn't stop well")
    hook.end()
    manager.end()
    kafka.close()
    context.say("10 transitions to each, %d attempts failed" % failed)


@scenario(kind="own")
def alerts_of_instances_told_otherwise(context):
    """One that isn't to deliver leaves it to the one that is; and one that
    has started with other rules ends those that haven't."""
    system = context.system
    hook = Hook([])
    errors = {"name": "errors", "kind": "error_rate", "every_s": 10,
              "window_s": 10, "above": 0.5, "least": 1, "cooldown_s": 0}
    more = dict(errors, name="more", level="fatal")
    system.kafka_start()
    rules = write_rules(system, [errors, more])
    flags = ("--rules", rules, "--grace", "0")
    system.start("alerts", flags=flags + (
        "--webhook", "http://127.0.0.1:%d/" % hook.server_address[1]))
    system.ready("alerts")
    kafka = system.kafka()
    start_ms = int(time.time() * 1000) // 10000 * 10000 - 600000
    make_alerts(kafka, ["a"], start_ms)
    system.wait_for("two are delivered", lambda: len(hook.posted) == 2)
    system.start("alerts-2", flags=flags)
    system.ready("alerts-2")
    make_alerts(kafka, ["b"], start_ms + 60000)
    system.wait_for("four are delivered", lambda: len(hook.posted) == 4)
    expect(system.stop("alerts-2") == [0], "it didn't stop well")
    write_rules(system, [errors])
    system.start("alerts-2", flags=flags)
    system.ready("alerts-2")
    system.wait_for("the other one ends", lambda: "started with other rules"
                    in system.log("alerts"))
    system.ready("alerts")
    make_alerts(kafka, ["c"], start_ms + 120000)
    system.wait_for("six are delivered", lambda: len(hook.posted) == 6)
    expect(system.value("alerts", "SELECT count(*) FROM series"
                        " WHERE rule = 'more'") == 0, "series of no rule")
    expect(system.stop("alerts", "alerts-2") == [0, 0], "they didn't stop well")
    hook.end()
    kafka.close()
