#!/usr/bin/python3
"""stranger -- somebody else's transaction on a topic of ours.

	stranger.py BROKERS TOPIC PARTITIONS COUNT TIMEOUT-MS abort|hang

Writes so many orders that look like ours to each partition, in a
transaction that it aborts, or leaves open until it is killed: "open" on
standard output says that the broker has them.  Run by the system's Python,
which has librdkafka's.
"""

import json
import sys
import time
import uuid

import confluent_kafka


def order():
    return json.dumps({"order_id": str(uuid.uuid4()), "item": "Laptop",
                       "quantity": 1, "ts_ms": int(time.time() * 1000)})


def main(brokers, topic, partitions, count, timeout_ms, how):
    refused = []
    producer = confluent_kafka.Producer({
        "bootstrap.servers": brokers, "linger.ms": 5,
        "transactional.id": "stranger-%s" % uuid.uuid4(),
        "transaction.timeout.ms": int(timeout_ms)})
    producer.init_transactions(60)
    producer.begin_transaction()
    for partition in range(int(partitions)):
        for _ in range(int(count)):
            producer.produce(
                topic, order(), "Laptop", partition,
                headers={"ce_type": b"order.created"},
                on_delivery=lambda error, _: error and refused.append(error))
    producer.flush(60)
    if refused:
        sys.exit("not written: %s" % refused[0])
    print("open", flush=True)
    if how == "abort":
        producer.abort_transaction(60)
    else:
        time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
