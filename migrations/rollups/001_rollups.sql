-- Metrics by second, minute and hour of their own time.  Times are
-- milliseconds since the epoch, values thousandths.

-- How far each partition of system-metrics has come.  What is older than
-- settled_ms has been made minutes and hours of, or is about to be: what
-- comes later than that is late.
CREATE TABLE progress (
	partition INTEGER NOT NULL PRIMARY KEY,
	watermark_ms INTEGER NOT NULL, -- the newest time seen in it
	settled_ms INTEGER NOT NULL DEFAULT 0,
	samples INTEGER NOT NULL CHECK (samples > 0), -- late ones among them
	late INTEGER NOT NULL DEFAULT 0 CHECK (late BETWEEN 0 AND samples)
) STRICT;

-- A host's metric, as it comes through a partition.  A host is a key, so
-- there is one of each, unless it was sent without its key, or the topic was
-- given more partitions.
CREATE TABLE series (
	id INTEGER NOT NULL PRIMARY KEY,
	host TEXT NOT NULL,
	metric TEXT NOT NULL,
	partition INTEGER NOT NULL,
	UNIQUE (host, metric, partition)
) STRICT;

-- Every value of an hour that isn't settled, and how often it came in a
-- second: what minutes and hours are made of, exactly.
CREATE TABLE seconds (
	partition INTEGER NOT NULL,
	hour_ms INTEGER NOT NULL CHECK (hour_ms % 3600000 = 0),
	series INTEGER NOT NULL,
	second INTEGER NOT NULL CHECK (second BETWEEN 0 AND 3599),
	value_milli INTEGER NOT NULL,
	count INTEGER NOT NULL CHECK (count > 0),
	PRIMARY KEY (partition, hour_ms, series, second, value_milli)
) STRICT, WITHOUT ROWID;

-- Settled: an hour's minutes, and the hour.  Percentiles are by nearest rank,
-- of all values.
CREATE TABLE rollups (
	series INTEGER NOT NULL,
	step_ms INTEGER NOT NULL CHECK (step_ms IN (60000, 3600000)),
	start_ms INTEGER NOT NULL CHECK (start_ms % step_ms = 0),
	count INTEGER NOT NULL CHECK (count > 0),
	min_milli INTEGER NOT NULL,
	max_milli INTEGER NOT NULL CHECK (max_milli >= min_milli),
	mean_milli REAL NOT NULL,
	p50_milli INTEGER NOT NULL,
	p99_milli INTEGER NOT NULL CHECK (p99_milli >= p50_milli),
	PRIMARY KEY (series, step_ms, start_ms)
) STRICT, WITHOUT ROWID;

-- The series that was looked at last for what is kept no longer.
CREATE TABLE upkeep (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	series INTEGER NOT NULL
) STRICT;
INSERT INTO upkeep VALUES (1, 0);
