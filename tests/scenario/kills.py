"""kills -- kill -9 at every step, and at random."""

import os
import re
import signal
import threading
import time

import load
import poison
import verify
from scenario import scenario
from system import INPUTS, ROOT, SERVICES, Failure, expect

SESSION_MS = 1500


def failpoints_named(*modules):
    """The names of all failpoints in the sources of some modules."""
    names = set()
    for module in modules:
        folder = os.path.join(ROOT, "pkg", module)
        for name in os.listdir(folder):
            if name.endswith(".c"):
                with open(os.path.join(folder, name)) as f:
                    names |= set(re.findall(r'FAILPOINT\("([^"]+)"\)',
                                            f.read()))
    return sorted(names)


def plan_of(instance, rng, passes):
    """kill at each failpoint: the first time, and later ones."""
    plan = []
    for name in failpoints_named("stream", "store"):
        if name.startswith(("store.migrate.", "transaction.")):
            continue  # at the first start only; by plain-reader-sees-once
        if name == "record.applied" and instance not in INPUTS:
            continue
        if instance == "price-producer" or instance in ("orders",
                                                        "inventory"):
            most = 12
        else:
            most = 3 if name.startswith("relay.") else 12
        plan.append("%s=kill@0" % name)
        for _ in range(passes):
            plan.append("%s=kill@%d" % (name, rng.randint(1, most)))
    rng.shuffle(plan)
    return plan


class Poisoner(threading.Thread):
    """A bad record to each topic now and then, so that every service has
    something to relay."""

    def __init__(self, system, rng, pause_s):
        super().__init__(daemon=True)
        self.system = system
        self.rng = rng
        self.pause_s = pause_s
        self.over = threading.Event()
        self.sent = 0
        self.error = None

    def run(self):
        kafka = self.system.kafka()
        try:
            while not self.over.wait(self.pause_s):
                for topic in poison.READERS:
                    poison.small_one(self.system, kafka, topic, self.rng)
                    self.sent += 1
        except Exception as error:
            self.error = error
        finally:
            kafka.close()

    def stop(self):
        self.over.set()
        self.join()
        if self.error is not None:
            raise self.error


def first_starts(system):
    """Kill each service in and after each of its first two migrations."""
    count = 0
    for instance in SERVICES:
        plan = ["store.migrate.sql=kill@0", "store.migrate.done=kill@0"] * 2
        system.plans[instance] = plan
        count += len(plan)
        system.start(instance, failpoints=True, session_ms=SESSION_MS,
                     failpoint=plan.pop(0))
    return count


def watch_plans(system, seconds):
    """Wait until all plans are worked off and everything runs unplanned."""
    since = {}
    while True:
        busy = False
        with system.lock:
            now = time.monotonic()
            for instance, plan in system.plans.items():
                pid = system.services[instance].pid
                current = system.failpoints.get(instance)
                if since.get(instance, (None,))[0] != pid:
                    since[instance] = (pid, now)
                if current is None and not plan:
                    continue
                busy = True
                if now - since[instance][1] > seconds:
                    raise Failure("%s (pid %d) did not come to %s in %d s" % (
                        instance, pid, current, seconds))
        if not busy:
            return
        time.sleep(0.05)


@scenario(kind="own", about_broker=True, seconds=60)
def killed_at_failpoints(context):
    """kill -9 of each service at each failpoint, first and later passes."""
    system = context.system
    settings = context.settings
    expect(os.path.exists(os.path.join(settings.failpoints_bin, "orders")),
           "no programs with failpoints in %s", settings.failpoints_bin)
    system.kafka_start()
    planned = first_starts(system)
    watch_plans(system, 30 * settings.slow)
    system.ready(*SERVICES)
    for item in load.ITEMS:
        load.restock(system, context.ledger, item, 100000)
    passes = 6 if context.options.long else 0 if settings.small else 1
    poisoner = Poisoner(system, context.rng, 0.2)
    poisoner.start()
    with load.Load(system, context.ledger, context.rng.random(),
                   clients_count=3, pause_s=0.03) as work:
        for instance in SERVICES:
            plan = plan_of(instance, context.rng, passes)
            planned += len(plan)
            with system.lock:
                system.plans[instance] = plan
                system.kill(instance)
        watch_plans(system, 40 * settings.slow)
    poisoner.stop()
    killed = 0
    for instance in SERVICES:
        log = system.log(instance)
        killed += log.count('msg="failpoint reached"')
    bad = [e for e in system.ends if e[2] != -signal.SIGKILL]
    expect(not bad, "ended otherwise: %r", bad[:3])
    expect(killed == planned, "%d of %d failpoints killed", killed, planned)
    system.ready(*SERVICES)
    repeats = verify.settle_and_check(system, context.ledger)
    context.say("%d kills, %d orders, %d replayed answers, %d dead letters, "
                "%d repeats dropped" % (
                    killed, work.placed, context.ledger.replayed,
                    poisoner.sent, repeats))


VICTIMS = ("orders", "inventory", "inventory-2", "notifications",
           "notifications-2", "prices", "price-producer")
BROKER = "broker"


@scenario(kind="own", about_broker=True, seconds=90)
def killed_at_random(context):
    """kill -9 of any service at any moment, many times, under load; the
    broker of this tree is one of them."""
    system = context.system
    rng = context.rng
    system.kafka_start()
    system.start_all(VICTIMS, session_ms=SESSION_MS)
    for item in load.ITEMS:
        load.restock(system, context.ledger, item, 500000)
    began = time.monotonic()
    kills = at_work = of_broker = 0
    victims = VICTIMS
    if context.settings.broker == "embedded":
        victims += (BROKER,)
    with load.Load(system, context.ledger, rng.random(), clients_count=4,
                   pause_s=0.02, seconds=120) as work:
        while kills < context.options.kills and \
                time.monotonic() - began < context.options.budget_s:
            name, was_at_work = pick(system, victims, rng)
            at_work += was_at_work
            if name == BROKER:
                system.kafka_kill()
                system.kafka_start(wait=False)
                of_broker += 1
            else:
                system.kill(name)
            kills += 1
            # A pause of random length is what is tested here.
            time.sleep(rng.expovariate(1 / 0.4) * system.settings.slow)
            expect(not work.failures, "%s", work.failures)
    seconds = time.monotonic() - began
    expect(not system.ends, "ended by themselves: %r", system.ends[:3])
    system.ready(*VICTIMS)
    repeats = verify.settle_and_check(system, context.ledger)
    context.say("%d of %d kills in %.0f s (%d of ready ones, %d of the "
                "broker), %d orders, %d replayed answers, %d prices, "
                "%d repeats dropped" % (
                    kills, context.options.kills, seconds, at_work,
                    of_broker, work.placed, context.ledger.replayed,
                    system.value("prices", "SELECT seq FROM prices_cursor"),
                    repeats))
    expect(work.placed > kills, "%d orders during %d kills", work.placed,
           kills)
    # A slow machine runs out of time before it has made them all; but what
    # killed next to nothing at work has shown nothing.
    least = max(1, context.options.kills // 4)
    expect(at_work >= least, "only %d kills of ready ones, below %d", at_work,
           least)


def pick(system, victims, rng):
    """Mostly one that is ready, sometimes one that is just starting."""
    names = [i for i in victims if i == BROKER or system.runs(i)]
    rng.shuffle(names)
    if rng.random() < 0.8:
        for name in names:
            if system.kafka_answers() if name == BROKER else \
                    system.readiness(name)[0]:
                return name, 1
    return names[0], 0
