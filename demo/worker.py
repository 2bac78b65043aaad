#!/usr/bin/env python3
"""worker -- does jobs from a topic, and keeps its place in one of three ways.

	worker PORT FILE WAY [DIES_AT]

A job is done by adding a line to the table `done` of FILE.  WAY is one of
	commit-first	the place is committed to Kafka, then the job is done
	work-first	the job is done, then the place is committed to Kafka
	together	both are one transaction of FILE
Between these two steps of the job at offset DIES_AT the program is killed.
"""

import os
import signal
import sqlite3
import sys

from kafka_wire import Kafka

TOPIC = "payments"
SCHEMA = """
CREATE TABLE IF NOT EXISTS done(job TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS place(next INTEGER NOT NULL) STRICT;
"""


def place_of(kafka, db, way):
    """The offset to go on at."""
    if way == "together":
        row = db.execute("SELECT next FROM place").fetchone()
        return row[0] if row else 0
    return max(kafka.group_offsets(way, TOPIC)[0][0], 0)


def work(kafka, db, way, record, die):
    """One job; ``die`` stands for what nobody has foreseen."""
    job, after = record.value.decode(), record.offset + 1
    sql_done = "INSERT INTO done VALUES (?)"
    if way == "commit-first":
        kafka.group_commit(way, TOPIC, 0, after)
        die()
        db.execute(sql_done, (job,))
    elif way == "work-first":
        db.execute(sql_done, (job,))
        die()
        kafka.group_commit(way, TOPIC, 0, after)
    else:
        db.execute("BEGIN IMMEDIATE")
        db.execute(sql_done, (job,))
        die()
        db.execute("DELETE FROM place")
        db.execute("INSERT INTO place VALUES (?)", (after,))
        db.execute("COMMIT")


def main(port, path, way, dies_at=-1):
    kafka = Kafka(int(port))
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(SCHEMA)
    at, end = place_of(kafka, db, way), kafka.offset(TOPIC, 0)
    while at < end:
        for record in kafka.fetch(TOPIC, 0, at):
            def die(here=record.offset == int(dies_at)):
                if here:
                    os.kill(os.getpid(), signal.SIGKILL)
            work(kafka, db, way, record, die)
            at = record.offset + 1


if __name__ == "__main__":
    main(*sys.argv[1:])
