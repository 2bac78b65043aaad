#!/usr/bin/python3
"""hello_consumer -- prints what is in the topic hello, from Python.

	hello_consumer.py [GROUP]

Prints what the group has not read yet, and ends when nothing has come for
two seconds.  It is cmd/hello-consumer in another language, and can be a
member of the same group: Kafka doesn't know, nor care.
"""

import os
import sys

from confluent_kafka import Consumer

QUIET_S = 2


def on_assign(consumer, partitions):
    for p in sorted(p.partition for p in partitions):
        print("given partition %d" % p)


def main():
    consumer = Consumer({
        "bootstrap.servers": os.environ.get("MILLRACE_BROKERS",
                                            "localhost:9092"),
        "group.id": sys.argv[1] if len(sys.argv) > 1 else "hello-consumer",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    })
    consumer.subscribe(["hello"], on_assign=on_assign)
    waits = 30  # for the group to be dealt out, the first time
    try:
        while (message := consumer.poll(waits)) is not None:
            if message.error():
                print(message.error(), file=sys.stderr)
                continue
            waits = QUIET_S
            key = message.key()
            print("partition %d, offset %d, key '%s': %s" % (
                message.partition(), message.offset(),
                key.decode() if key else "", message.value().decode()))
            # The work first, then the place: what comes in between may
            # repeat the work, and can't lose it.
            consumer.commit(message, asynchronous=False)
    finally:
        consumer.close()  # others take over at once


if __name__ == "__main__":
    main()
