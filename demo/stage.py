"""stage -- what several demos do with the system that they run on."""

from alerting import write_rules
from system import Failure


def open_up(tale, system, *services, rules=None):
    """nginx, a broker, and services until they are ready; rules of alerts.
    Returns a connection to the broker."""
    with tale.waiting("a broker, nginx and the services start"):
        system.nginx_start()
        system.kafka_start()
        for service in services:
            system.start(service, flags=("--rules", write_rules(
                system, rules)) if service == "alerts" else ())
        system.ready(*services)
    return system.kafka()


def ask(system, method, path, body=None):
    """A request to nginx, and its answer as JSON."""
    answer = system.web(method, path, body)
    if answer.status >= 400:
        raise Failure("%s %s: %r" % (method, path, answer))
    return answer.json()


def run_to_end(system, instance, *flags, **how):
    """Start a program that ends by itself, and wait until it has."""
    with system.lock:  # before its keeper sees it end
        system.start(instance, flags=flags, **how)
        system.wanted.discard(instance)
    process = system.process_of(instance)
    system.wait_for("%s comes to its end" % instance,
                    lambda: process.poll() is not None)
    if process.poll() != 0:
        raise Failure("%s ended with status %d" % (instance, process.poll()))
