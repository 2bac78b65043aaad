"""consumers -- services that work off a backlog: how fast, and what memory
they have on the way; beside bare loops that do the same to SQLite.
"""

import os
import shutil
import statistics
import subprocess
import time

from rig import Trouble, say, wait_for

# The parts of a backlog after which memory is looked at.
MARKS = (0.1, 0.25, 0.5, 1)


def work_off(b, program, topic, *flags):
    """Start a consumer and time it from the first commit to the last, seen
    by reading the positions: every 10 ms until it has begun, then four times
    a second, and every 20 ms near the end, since looking takes a processor's
    time as well.  Records a second, and the memory at each of MARKS."""
    rig = b.rig
    began = moved = time.monotonic()
    process = rig.start(program, "--drain-ms", "30000", *flags, ready=False)
    first = last = None
    done = 0
    memory = []
    wait_for(program + " has made its file", lambda: rig.select(
        program, "SELECT 1 FROM positions") is not None, every=0.005)
    while done < b.args.records:
        now, before = time.monotonic(), done
        done = rig.select(program, "SELECT coalesce(sum(next_offset), 0)"
                          " FROM positions WHERE topic = '%s'" % topic)[0][0]
        if done and first is None:
            first, at_first, cpu = now, done, process.cpu_s()
        while (len(memory) < len(MARKS) and
               done >= b.args.records * MARKS[len(memory)]):
            memory.append(process.memory_kib())
        if done != before:
            moved = now
        last = now
        rig.check()
        if now > moved + 60:
            raise Trouble("%s stays at %d of %d records" %
                          (program, done, b.args.records))
        time.sleep(0.01 if first is None else
                   0.25 if done < 0.9 * b.args.records else 0.02)
    result = {"start_ms": 1000 * (first - began), "all_s": last - began,
              "rate": (done - at_first) / (last - first),
              "cpu_us": (process.cpu_s() - cpu) * 1e6 / (done - at_first),
              "memory": memory}
    wait_for("the outbox is empty", lambda: rig.select(
        program, "SELECT count(*) FROM outbox")[0][0] == 0, 120)
    result["relayed_s"] = time.monotonic() - last
    result["life_cpu_us"] = process.cpu_s() * 1e6 / b.args.records
    result["after"] = process.memory_kib()
    say("%s: %d/s, CPU %.1f us each, KiB resident on the way: %s" % (
        program, result["rate"], result["cpu_us"],
        ", ".join(str(m["rss"]) for m in memory)))
    return result


def bare(b, name):
    """One turn of a bare loop, on a file of its own."""
    path = b.rig.db_of("loop")
    remove_file(path)
    result = b.rig.output(name, path, str(b.args.records), "500")
    remove_file(path)
    say("%s: %d/s, CPU %.1f us each" % (
        name, result["rate"], result["cpu_s"] * 1e6 / b.args.records))
    return result


def rates_of(b, bench, what, base, subject, target=None):
    b.add_ratio(bench, what, [r["rate"] for r in subject],
                [r["rate"] for r in base], target, unit_of_rates="records/s")


def ratio_of(b, bench, what, base, subject, target=0.60):
    """The rows that all consumers have."""
    rates_of(b, bench, what, base, subject, target)
    b.add(bench, "  CPU time a record, the service's threads",
          round(statistics.median(r["cpu_us"] for r in subject), 1), "us")


def memory_of(b, bench, subject):
    worst = max((r["after"] for r in subject), key=lambda m: m["rss"])
    b.add(bench, "  resident after %d records" % b.args.records,
          round(worst["rss"] / 1024, 1), "MiB", "< 25 MiB",
          worst["rss"] < 25 * 1024, detail_kib=worst)


def growth_of(b, bench, subject):
    """That memory doesn't grow with what was read."""
    worst = max((r["memory"] for r in subject),
                key=lambda memory: memory[-1]["rss"] - memory[-2]["rss"])
    growth = worst[-1]["rss"] - worst[-2]["rss"]
    b.add(bench, "  of which in the second half",
          round(growth / 1024, 1), "MiB", "< 2 MiB", growth < 2048)
    for what, key in (("resident", "rss"), ("its peak", "peak")):
        b.add(bench, "  %s after %s %% of them" % (what, ", ".join(
            "%d" % (100 * part) for part in MARKS)),
            ", ".join("%.1f" % (m[key] / 1024) for m in worst), "MiB",
            detail_kib=worst)


# ---- files ----------------------------------------------------------------------

def remove_file(path):
    for suffix in ("", "-wal", "-shm", ".writer"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)


def put_back(rig, program):
    """The program's empty file, in place of the one that it has filled."""
    done = subprocess.run(
        [os.path.join(rig.build, "bin", "millrace"), "state", "restore",
         "--db", rig.db_of(program), "--from", rig.db_of(program + "-empty"),
         "--yes"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Trouble("millrace state restore: " + done.stderr[-500:])
    for name in os.listdir(rig.data):
        if name.startswith(program + ".db.replaced-"):
            os.unlink(os.path.join(rig.data, name))


# ---- inventory and its orders ----------------------------------------------------

ITEMS = ("Laptop", "Phone", "Headphones", "Monitor", "Keyboard")
RECORDS_A_STOCK = 2000000  # a million of each item is enough for more


def make_backlog(b):
    """Inventory's file with stock in it, and the orders in Kafka."""
    rig = b.rig
    rig.broker_start()
    rig.start("inventory")
    for item in ITEMS * (1 + b.args.records // RECORDS_A_STOCK):
        status, body = rig.call("inventory", "POST", "/stock/" + item,
                                b'{"quantity":1000000}')
        if status != 200:
            raise Trouble("restocking: %d %s" % (status, body))
    rig.stop("inventory")
    shutil.copy(rig.db_of("inventory"), rig.db_of("inventory-empty"))
    made = rig.output("backlog", rig.brokers, str(b.args.records))
    say("published %(records)d orders in %(seconds).1f s" % made)


def inventory_turn(b):
    rig = b.rig
    put_back(rig, "inventory")
    result = work_off(b, "inventory", "order-events")
    count = rig.select("inventory", "SELECT count(*) FROM reservations"
                       " WHERE status = 'reserved'")[0][0]
    if count != b.args.records:
        raise Trouble("%d reservations of %d orders" %
                      (count, b.args.records))
    rig.stop("inventory")
    return result
