#!/usr/bin/python3
"""hello_producer -- sends lines of text to the topic hello, from Python.

	hello_producer.py [KEY TEXT...]

Without arguments each line of its input is sent, without a key.  It is
cmd/hello-producer in another language: the client is Debian's
python3-confluent-kafka, which is librdkafka as well.
"""

import os
import sys

from confluent_kafka import Producer

failed = 0


def on_delivery(error, message):
    """What became of a record; poll and flush call it."""
    global failed
    if error is not None:
        failed += 1
        print("not sent: %s" % error, file=sys.stderr)
    else:
        print("partition %d, offset %d: %s" % (
            message.partition(), message.offset(), message.value().decode()))


def main():
    producer = Producer({
        "bootstrap.servers": os.environ.get("MILLRACE_BROKERS",
                                            "localhost:9092"),
        # A key's partition as Java's clients and Millrace choose it;
        # librdkafka's own default is another, and would split a key's records.
        "partitioner": "murmur2_random",
        "enable.idempotence": True,  # what is sent again isn't there twice
    })
    key = sys.argv[1] if len(sys.argv) > 1 else None
    for text in sys.argv[2:] or (x.rstrip("\n") for x in sys.stdin):
        while True:
            try:
                producer.produce("hello", text, key, on_delivery=on_delivery)
                break
            except BufferError:  # its queue is full: let some leave
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()  # nothing is sure before its delivery was reported
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
