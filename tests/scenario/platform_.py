"""platform_ -- the streaming platform's services, each by itself."""

import json
import time

from scenario import scenario
from system import expect


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
