"""logs -- lines of many programs, searched, routed, and watched."""

import collections
import json
import os
import re
import time

from platform_ import find_logs, page_through
from stage import ask, open_up, run_to_end

TITLE = "Logs: written once, searched, routed and watched"
LINES = 2000
RULES = [{"name": "errors", "kind": "error_rate", "every_s": 10,
          "window_s": 30, "above": 0.3, "least": 5, "for_s": 20}]


def entries(system):
    return system.value("logs", "SELECT entries FROM logs_state")


def tell_two_readers(tale, system, kafka):
    tale.step("One topic, two readers")
    with tale.waiting("services log"):
        run_to_end(system, "log-producer", "--count", str(LINES),
                   "--rate", "0", "--seed", "5")
        system.wait_for("all lines are stored", lambda:
                        entries(system) == LINES)
        system.wait_for("all lines are watched", lambda: system.value(
            "alerts", "SELECT sum(records) FROM progress WHERE input = 0") ==
            LINES)
    lines = [json.loads(r.value) for records in
             kafka.read_all("application-logs") for r in records]
    tale.say("""log-producer plays a handful of services that write %d lines.
        Two services read them, each in a group of its own: logs stores them,
        alerts counts errors. Neither has to wait for the other, and the
        services that log know of neither.""", LINES)
    tale.table(("service", "debug", "info", "warn", "error"), [
        (service, *(sum(x["service"] == service and x["level"] == level
                        for x in lines)
                    for level in ("debug", "info", "warn", "error")))
        for service in sorted({x["service"] for x in lines})])
    tale.holds(True, "Both have read all %d.", LINES)
    return lines


def tell_search(tale, system, lines):
    tale.step("Search")
    word = collections.Counter(
        w for x in lines if x["level"] == "error"
        for w in re.findall(r"[a-z]{5,}", x["message"].lower())
    ).most_common(1)[0][0]
    tale.say("What do errors speak of? Of \"%s\", mostly. /logs?q=%s&"
             "level=error finds, newest first:", word, word)
    page = find_logs(system, "q=%s&level=error&limit=4" % word)
    tale.show(*("%-9s %s" % (e["service"], tale.marked(
        e["message"][:58], [h for h in e["message_hits"] if sum(h) <= 58]))
        for e in page["entries"]))
    found = page_through(system, "q=%s&level=error" % word)
    wanted = [x["message"] for x in lines if x["level"] == "error" and
              re.search(r"\b%s\b" % word, x["message"] + "\n" +
                        x.get("stack", ""), re.I)]
    tale.holds(sorted(found) == sorted(wanted), "%d lines, and no others, have"
               " the word and that level.", len(wanted),
               otherwise="%d were found" % len(found))


def tell_routes(tale, system, kafka, lines):
    tale.step("Routing: errors go on")
    errors = sorted(x["message"] for x in lines if x["level"] == "error")

    def routed():
        on = [json.loads(r.value)["message"] for records in
              kafka.read_all("application-errors") for r in records]
        return sorted(on) == errors
    system.wait_for("the errors have gone on", routed)
    tale.say("""A rule of logs sends each error on to another topic,
        application-errors, for whoever only wants those. That it was stored
        and that it went on are one transaction.""")
    tale.holds(routed(), "The %d errors are there, each once, and nothing"
               " else.", len(errors))


def tell_file(tale, system):
    tale.step("A program that only writes a file")
    path = os.path.join(system.base, "shop.log")

    def write(numbers):
        with open(path, "a", encoding="utf-8") as f:
            f.writelines("till %d opened\n" % n for n in numbers)
    write(range(30))
    system.start("log-producer", db=os.path.join(system.data, "file.db"),
                 flags=("--from-file", path, "--follow", "--service", "till"))
    with tale.waiting("the file is shipped"):
        system.wait_for("its first lines are found", lambda: len(
            page_through(system, "service=till")) == 30)
        os.rename(path, path + ".1")
        write(range(30, 60))
        system.wait_for("the others are found", lambda: len(
            page_through(system, "service=till")) >= 60)
    system.stop("log-producer")
    found = page_through(system, "service=till")
    tale.say("""shop.log is written to, then renamed, as logrotate does, and
        begun anew. log-producer --from-file shop.log --follow ships it, and
        keeps its place.""")
    tale.holds(sorted(found) == sorted("till %d opened" % n
                                       for n in range(60)),
               "All 60 lines are found, in spite of the rotation, each once.",
               otherwise="%d lines" % len(found))


def tell_bad(tale, system, kafka):
    tale.step("What can't be read")
    bad = b'{"service":"web","level":"loud","message":"hello","ts_ms":%d}' % (
        time.time() * 1000)
    at = entries(system)
    kafka.send("application-logs", 0, bad)
    kafka.send("application-logs", 0, bad.replace(b"loud", b"info"))
    system.wait_for("the good one is stored", lambda:
                    entries(system) == at + 1)
    reason = system.value("logs", "SELECT reason FROM dead_letters")
    tale.say("Somebody writes a line of the level \"loud\". It is put aside,"
             " a *dead letter*, with the reason, and can be looked at and"
             " tried again (millrace state dead-letters):")
    tale.show(reason)
    tale.holds("level" in reason, "The reason names the field, and the good"
               " line behind it was read: one bad record stops nobody.")


def tell_alert(tale, system, kafka):
    tale.step("An alert")
    start = (int(time.time()) + 60) * 1000
    lines = []
    for n in range(240):  # two a second
        burst = 80 <= n < 160
        lines.append((b"pay", json.dumps({
            "service": "pay", "level": "error" if burst and n % 2 else "info",
            "message": "payment %d" % n, "ts_ms": start + n * 500}).encode(),
            (), start + n * 500))
    kafka.produce("application-logs", 0, lines)
    tale.say("""The service pay writes two minutes of lines; half of those from
        second 40 to 80 are errors. The rule: more than 30 % within 30
        seconds, for at least 20 seconds. Time is the lines' own, so the two
        minutes are over at once.""")

    def transitions():
        rows = system.select(
            "alerts", "SELECT t.state, t.at_ms, t.value FROM transitions AS t"
            " JOIN alerts AS a ON a.id = t.alert WHERE a.service = 'pay'"
            " ORDER BY t.seq")
        return rows if len(rows) >= 3 else None
    rows = system.wait_for("the alert is resolved", transitions)
    tale.table(("second", "state", "errors"), [
        ((at - start) // 1000, state, "%.0f %%" % (100 * value))
        for state, at, value in rows])
    tale.holds([r[0] for r in rows] == ["pending", "firing", "resolved"] and
               rows[1][1] - rows[0][1] == 20000, "It was pending for 20"
               " seconds, then fired, and was resolved when the errors were"
               " over.", otherwise="%r" % (rows,))
    alert = ask(system, "GET", "/alerts?limit=1")["alerts"][0]
    tale.holds((alert["service"], alert["state"]) == ("pay", "resolved"),
               "GET /alerts says so, too.", otherwise="%r" % alert)


def tell(tale, system, rng):
    tale.say("""Programs write lines. Somebody wants to search them, somebody
        to be woken up, somebody to see errors alone, and next year there will
        be a fourth. With a topic in between, each of them is a reader of its
        own.""")
    kafka = open_up(tale, system, "logs", "alerts", rules=RULES)
    lines = tell_two_readers(tale, system, kafka)
    tell_search(tale, system, lines)
    tell_routes(tale, system, kafka, lines)
    tell_file(tale, system)
    tell_bad(tale, system, kafka)
    tell_alert(tale, system, kafka)
    kafka.close()
    site = "http://localhost:%d" % system.web_port
    tale.look(
        ("Search, and the live tail", site + "/ui/logs"),
        ("Alerts", site + "/ui/alerts"),
        ("The errors alone", "kcat -b localhost:%d -C -e -t"
         " application-errors" % system.kafka_port),
        ("What was put aside",
         "build/bin/millrace state dead-letters list --data " + system.data),
        ("The same with `make run`", "http://localhost:8000/ui/logs"))
