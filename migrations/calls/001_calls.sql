-- What became of the calls, by input partition: sums are merged when read, and
-- are those of the partition up to its position.  Durations are milliseconds.

CREATE TABLE call_totals (
	partition INTEGER NOT NULL PRIMARY KEY CHECK (partition >= 0),
	calls INTEGER NOT NULL CHECK (calls > 0),
	duration_ms INTEGER NOT NULL CHECK (duration_ms >= 0)
) STRICT;

-- By the minute that they began in, for as long as --keep-minutes says.
CREATE TABLE call_minutes (
	start_ms INTEGER NOT NULL CHECK (start_ms % 60000 = 0),
	partition INTEGER NOT NULL,
	calls INTEGER NOT NULL CHECK (calls > 0),
	duration_ms INTEGER NOT NULL CHECK (duration_ms >= 0),
	PRIMARY KEY (start_ms, partition)
) STRICT, WITHOUT ROWID;

-- How many lasted how long: bucket n has those above 5 n seconds and up to
-- 5 (n + 1), bucket 0 those of no length too, bucket 120 all above 600 s.
CREATE TABLE call_durations (
	bucket INTEGER NOT NULL CHECK (bucket BETWEEN 0 AND 120),
	partition INTEGER NOT NULL,
	calls INTEGER NOT NULL CHECK (calls > 0),
	PRIMARY KEY (bucket, partition)
) STRICT, WITHOUT ROWID;

-- Calls longer than --long-call-s, for as long as --keep-long-calls says.
-- seq is the order of their commits; it is in their log lines.
CREATE TABLE long_calls (
	seq INTEGER NOT NULL PRIMARY KEY,
	call_id TEXT NOT NULL,
	caller TEXT NOT NULL,
	callee TEXT NOT NULL,
	started_ms INTEGER NOT NULL,
	duration_ms INTEGER NOT NULL CHECK (duration_ms > 0)
) STRICT;

-- The last seq given, and the last one whose line is known to be in the log.
CREATE TABLE long_call_log (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	given INTEGER NOT NULL,
	logged INTEGER NOT NULL CHECK (logged BETWEEN 0 AND given)
) STRICT;
INSERT INTO long_call_log VALUES (1, 0, 0);
