-- The stream core's tables, in every service's file.
--
-- Times are milliseconds since the epoch, unless a name says "boot".

-- Which file this is.  The last row is the file's database id now; a restored
-- file draws a new one, and rows of the outbox keep the one that they were
-- emitted under.  Group offsets committed under an earlier id are ours too.
CREATE TABLE database_ids (
	number INTEGER NOT NULL PRIMARY KEY,
	database_id TEXT NOT NULL CHECK (length(database_id) = 32),
	drawn_at_ms INTEGER NOT NULL
) STRICT;

-- Which cluster this file works with.  No row until it first met one.
CREATE TABLE cluster (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	cluster_id TEXT NOT NULL,
	met_at_ms INTEGER NOT NULL
) STRICT;

-- The offset of the next record to apply, moved by compare-and-set in the
-- same transaction as the effects of those before it.
CREATE TABLE positions (
	topic_id TEXT NOT NULL,
	partition INTEGER NOT NULL CHECK (partition >= 0),
	topic TEXT NOT NULL,
	next_offset INTEGER NOT NULL CHECK (next_offset >= 0),
	leader_epoch INTEGER NOT NULL,
	PRIMARY KEY (topic_id, partition)
) STRICT, WITHOUT ROWID;

-- The highest sequence number applied of each source, by the partition that
-- it came in.  What isn't above it is a relay's repeat.
CREATE TABLE marks (
	source TEXT NOT NULL,
	topic_id TEXT NOT NULL,
	partition INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	PRIMARY KEY (source, topic_id, partition)
) STRICT, WITHOUT ROWID;

-- Records emitted and not yet acknowledged by Kafka, in commit order.
CREATE TABLE outbox (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	database INTEGER NOT NULL REFERENCES database_ids (number),
	topic TEXT NOT NULL,
	partition INTEGER NOT NULL CHECK (partition >= 0),
	type TEXT NOT NULL,
	key BLOB,
	value BLOB,
	ts_ms INTEGER NOT NULL,
	predecessor INTEGER NOT NULL, -- seq before it in its partition; 0: none
	cause_topic TEXT,             -- the record that it was emitted for
	cause_partition INTEGER,
	cause_offset INTEGER,
	headers BLOB                  -- more headers: length-prefixed pairs
) STRICT;

-- The last sequence number emitted to each partition, and the offset of the
-- last record that Kafka acknowledged there: what a later life of this file
-- emitted lies behind it.  Partition -1 counts the records without a key,
-- which take partitions in turn.
CREATE TABLE output_tails (
	topic TEXT NOT NULL,
	partition INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	acked_offset INTEGER NOT NULL DEFAULT -1,
	PRIMARY KEY (topic, partition)
) STRICT, WITHOUT ROWID;

-- The instance that relays.  Taken over when it wasn't renewed for 5 s of
-- boot time, or in another boot.
CREATE TABLE relay (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	owner TEXT NOT NULL,
	epoch INTEGER NOT NULL,
	boot_id TEXT NOT NULL,
	renewed_boot_ms INTEGER NOT NULL
) STRICT;
INSERT INTO relay VALUES (1, '', 0, '', 0);

-- The time of the last tick of each kind, moved by compare-and-set.
CREATE TABLE ticks (
	name TEXT NOT NULL PRIMARY KEY,
	last_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Records that can't be applied, whole, with the reason.
CREATE TABLE dead_letters (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	topic TEXT NOT NULL,
	topic_id TEXT NOT NULL,
	partition INTEGER NOT NULL,
	record_offset INTEGER NOT NULL,
	ts_ms INTEGER NOT NULL,
	key BLOB,
	value BLOB,
	headers BLOB NOT NULL,
	reason TEXT NOT NULL,
	put_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_letters_by_time ON dead_letters (put_at_ms);

-- Answers already given, by the key that the client sent along.
CREATE TABLE idempotency_keys (
	scope TEXT NOT NULL, -- method and path
	key TEXT NOT NULL,
	request BLOB NOT NULL,
	status INTEGER NOT NULL,
	body BLOB NOT NULL,
	location TEXT NOT NULL,
	answered_at_ms INTEGER NOT NULL,
	PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (answered_at_ms);
