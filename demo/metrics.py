"""metrics -- samples of many hosts, rolled up, with what is unusual found."""

import collections
import json
import time

from platform_ import Samples
from stage import ask, open_up, run_to_end

TITLE = "Metrics: many small writers, one order each"
HOSTS, METRICS, HOURS = 3, 8, 6
SAMPLES = HOSTS * METRICS * HOURS * 60  # one a minute
KEEP_MS = 2 * Samples.HOUR
SPIKES = (100, 200, 300)  # the minutes of those that are planted
RULES = [{"name": "unusual", "kind": "zscore", "host": "pump",
          "metric": "pressure", "every_s": 60, "points": 30, "score": 8,
          "cooldown_s": 0}]


def tell_partitions(tale, system, kafka, start_ms):
    tale.step("Key: host")
    with tale.waiting("hosts are sampled"):
        run_to_end(system, "metric-producer", "--simulate", str(HOSTS),
                   "--count", str(SAMPLES), "--rate", "0", "--every", "60s",
                   "--anomaly-every", "2h", "--start-ms", str(start_ms),
                   "--seed", "4")
    partitions = kafka.read_all("system-metrics")
    tale.say("metric-producer plays %d hosts for %d hours: %d metrics a"
             " minute, %d samples. The host is the key. That is how sensors of"
             " any kind come into Kafka: many small writers, one stream.",
             HOSTS, HOURS, METRICS, SAMPLES)
    homes, newest = collections.defaultdict(set), {}
    in_order = True
    rows = []
    for number, records in enumerate(partitions):
        hosts = collections.Counter()
        for r in records:
            sample = json.loads(r.value)
            hosts[sample["host"]] += 1
            homes[sample["host"]].add(number)
            key = sample["host"], sample["metric"]
            in_order &= newest.get(key, 0) < sample["ts_ms"]
            newest[key] = sample["ts_ms"]
        rows.append(("partition %d" % number, len(records),
                     " ".join(sorted(hosts))))
    tale.table(("", "samples", "of"), rows)
    tale.holds(len(homes) == HOSTS and all(len(h) == 1 for h in homes.values())
               and in_order, "Each host has one partition, and its samples are"
               " there in the order in which they were taken. Between hosts"
               " there is no order, and nobody misses it. Three keys needn't"
               " fill four partitions: few keys, lopsided partitions.")
    return partitions


def tell_rollups(tale, system, samples, start_ms):
    tale.step("Rolled up")
    span = "from=%d&to=%d" % (start_ms - Samples.HOUR,
                              start_ms + (HOURS + 1) * Samples.HOUR)
    day = ask(system, "GET", "/metrics-history?host=host-1&metric="
              "cpu_percent&step=1m&" + span)["points"]
    tale.say("rollups keeps each metric by second, minute and hour, with"
             " least, greatest, mean and percentiles. One host's processor, by minute"
             " and by hour:")
    tale.curve("cpu_percent", [p["mean"] for p in day])
    hours = ask(system, "GET", "/metrics-history?host=host-1&metric="
                "cpu_percent&step=1h&" + span)["points"]
    tale.table(("hour", "samples", "least", "mean", "p99", "greatest"), [
        (n, p["count"], *("%.1f" % p[k] for k in ("min", "mean", "p99",
                                                  "max")))
        for n, p in enumerate(hours)])
    compared = 0
    for host, metric in sorted({key[:2] for key in samples.values}):
        said = [tuple(p[key] for key in ("ts_ms", "count", "min", "max",
                                         "mean", "p50", "p99"))
                for p in ask(system, "GET", "/metrics-history?host=%s&metric="
                             "%s&step=1h&%s" % (host, metric, span))["points"]]
        tale.must(said == samples.points(host, metric, Samples.HOUR),
                  "the hours of %s's %s are those of Python" % (host, metric),
                  said[:2])
        compared += len(said)
    tale.holds(compared >= HOSTS * METRICS * HOURS, "All %d hours of all %d"
               " metrics are what another program computes from the topic, to"
               " the last digit, percentiles too.", compared, HOSTS * METRICS)


def tell_unusual(tale, system, kafka, rng, start_ms):
    tale.step("What is unusual")
    begin = start_ms // 60000 * 60000
    values = [rng.gauss(50, 0.5) + (25 if n in SPIKES else 0)
              for n in range(360)]
    kafka.produce("system-metrics", 0, [(b"pump", json.dumps({
        "host": "pump", "metric": "pressure", "value": round(value, 3),
        "ts_ms": begin + n * 60000}).encode(), (), begin + n * 60000)
        for n, value in enumerate(values)])
    path = "/metrics-history?host=pump&metric=pressure&step=1m&from=%d&to=%d" \
        % (begin, begin + 360 * 60000)
    points = system.wait_for("its minutes are there", lambda: (
        lambda found: found if len(found) == 360 else None)(
            ask(system, "GET", path)["points"]))
    tale.say("A pump reports its pressure, calm but for three moments, the"
             " minutes %s. Nobody has said what is too much: a point is"
             " unusual if it is far from the median of the sixty before, as"
             " they scatter.", ", ".join(map(str, SPIKES)))
    tale.curve("pressure", [
        max(p["mean"] for p in points[n:n + 6]) for n in range(0, 360, 6)])
    found = [(p["ts_ms"] - begin) // 60000 for p in points if p["unusual"]]
    tale.holds(found == list(SPIKES), "These three are marked as unusual, and"
               " no other of 360.", otherwise="%r" % found)

    def fired():
        rows = system.select(
            "alerts", "SELECT t.at_ms FROM transitions AS t JOIN alerts AS a"
            " ON a.id = t.alert WHERE t.state = 'firing' ORDER BY t.seq")
        return rows if len(rows) >= len(SPIKES) else None
    rows = system.wait_for("alerts has fired", fired)
    at = [(row[0] - begin) // 60000 - 1 for row in rows]
    tale.holds(at == list(SPIKES), "alerts, which reads the same topic by"
               " itself, has fired for these minutes.", otherwise="%r" % at)


def tell(tale, system, rng):
    tale.say("""A thousand hosts, or pumps, or cars, each of which says how it
        is, every minute. Each message is small and worth little; together
        they are a lot, and what matters is the order of one device's, and
        what they come to.""")
    kafka = open_up(tale, system, "rollups", "alerts", rules=RULES)
    start_ms = int(time.time() * 1000) - HOURS * Samples.HOUR
    partitions = tell_partitions(tale, system, kafka, start_ms)
    with tale.waiting("rollups reads"):
        system.wait_for("all samples are rolled up", lambda: system.value(
            "rollups", "SELECT sum(samples) FROM progress") == SAMPLES)
    tell_rollups(tale, system, Samples(partitions, KEEP_MS), start_ms)
    tell_unusual(tale, system, kafka, rng, start_ms)
    kafka.close()
    site = "http://localhost:%d" % system.web_port
    tale.look(
        ("The curves, with what is unusual marked", site +
         "/ui/metrics?host=pump&metric=pressure"),
        ("The alerts", site + "/ui/alerts"),
        ("The samples", "kcat -b localhost:%d -C -t system-metrics -o -5 -e" %
         system.kafka_port),
        ("This machine's own, with `make run`",
         "http://localhost:8000/ui/metrics"))
