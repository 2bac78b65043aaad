-- What the broker knows besides the records themselves.
--
-- Times are milliseconds since the epoch.

-- Who this broker is, how often it was started before (the leader epoch of
-- what is appended), and the first producer id that was never given out.
CREATE TABLE cluster (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	cluster_id TEXT NOT NULL,
	leader_epoch INTEGER NOT NULL,
	next_producer_id INTEGER NOT NULL CHECK (next_producer_id >= 0)
) STRICT;

-- A topic's records are in the folder topics/<topic_id>/<partition>.  A topic
-- that is made anew under its name has another id.
CREATE TABLE topics (
	topic_id TEXT NOT NULL PRIMARY KEY CHECK (length(topic_id) = 32),
	name TEXT NOT NULL UNIQUE,
	partitions INTEGER NOT NULL CHECK (partitions > 0),
	created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Settings of a topic that differ from the broker's.
CREATE TABLE topic_settings (
	topic_id TEXT NOT NULL REFERENCES topics (topic_id) ON DELETE CASCADE,
	name TEXT NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (topic_id, name)
) STRICT, WITHOUT ROWID;

-- The offsets that groups have committed: that of the next record to read.
CREATE TABLE group_offsets (
	group_id TEXT NOT NULL,
	topic_id TEXT NOT NULL REFERENCES topics (topic_id) ON DELETE CASCADE,
	partition INTEGER NOT NULL CHECK (partition >= 0),
	next_offset INTEGER NOT NULL CHECK (next_offset >= 0),
	leader_epoch INTEGER NOT NULL,
	metadata TEXT NOT NULL,
	committed_at_ms INTEGER NOT NULL,
	PRIMARY KEY (group_id, topic_id, partition)
) STRICT, WITHOUT ROWID;

-- For the deletion of a topic.
CREATE INDEX group_offsets_by_topic ON group_offsets (topic_id);
