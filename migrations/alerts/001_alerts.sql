-- What rules say of logs and metrics, by steps of the records' own time.
-- Times are milliseconds since the epoch; a step is called by its end.

-- How far each partition of an input has come: 0 application-logs,
-- 1 system-metrics.
CREATE TABLE progress (
	input INTEGER NOT NULL CHECK (input IN (0, 1)),
	partition INTEGER NOT NULL,
	watermark_ms INTEGER NOT NULL, -- the newest time seen in it
	records INTEGER NOT NULL CHECK (records > 0), -- late ones among them
	late INTEGER NOT NULL DEFAULT 0 CHECK (late BETWEEN 0 AND records),
	PRIMARY KEY (input, partition)
) STRICT, WITHOUT ROWID;

-- The rules in force, as they were read.  One that reads otherwise at the
-- next start begins anew.
CREATE TABLE rules (
	name TEXT NOT NULL PRIMARY KEY,
	definition TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What a rule judges: a service's lines, or a host's metric, as it comes
-- through a partition.
CREATE TABLE series (
	id INTEGER NOT NULL PRIMARY KEY,
	rule TEXT NOT NULL,
	input INTEGER NOT NULL,
	partition INTEGER NOT NULL,
	subject TEXT NOT NULL, -- the service or host
	metric TEXT NOT NULL, -- '' with logs
	state INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)),
	alert INTEGER NOT NULL DEFAULT 0, -- the one that isn't resolved; 0: none
	started_ms INTEGER NOT NULL DEFAULT 0,
	cool_ms INTEGER NOT NULL DEFAULT 0, -- no alert begins before
	-- Without a further step the alert is resolved then, or, if there is
	-- none, the series forgotten.
	due_ms INTEGER NOT NULL,
	UNIQUE (rule, input, partition, subject, metric),
	CHECK ((state = 0) = (alert = 0))
) STRICT;
CREATE INDEX series_due ON series (input, partition, due_ms, id);

-- Steps that can still change.
CREATE TABLE steps (
	input INTEGER NOT NULL,
	partition INTEGER NOT NULL,
	end_ms INTEGER NOT NULL,
	series INTEGER NOT NULL,
	count INTEGER NOT NULL CHECK (count > 0), -- lines, or samples
	sum INTEGER NOT NULL, -- errors among them, or thousandths
	PRIMARY KEY (input, partition, end_ms, series)
) STRICT, WITHOUT ROWID;

-- Steps that were judged, as far back as their rule looks.
CREATE TABLE history (
	series INTEGER NOT NULL,
	end_ms INTEGER NOT NULL,
	count INTEGER NOT NULL CHECK (count > 0),
	sum INTEGER NOT NULL,
	PRIMARY KEY (series, end_ms)
) STRICT, WITHOUT ROWID;

-- What a series is at an hour of the day (UTC), see pkg/score.
CREATE TABLE seasons (
	series INTEGER NOT NULL,
	hour INTEGER NOT NULL CHECK (hour BETWEEN 0 AND 23),
	count INTEGER NOT NULL,
	level REAL NOT NULL,
	variance REAL NOT NULL,
	PRIMARY KEY (series, hour)
) STRICT, WITHOUT ROWID;

-- Alerts of rules that are no more, for the next tick to resolve.
CREATE TABLE ending (
	alert INTEGER NOT NULL PRIMARY KEY
) STRICT;

CREATE TABLE alerts (
	id INTEGER NOT NULL PRIMARY KEY, -- of alerts_state
	rule TEXT NOT NULL,
	kind TEXT NOT NULL,
	severity TEXT NOT NULL,
	summary TEXT NOT NULL,
	service TEXT NOT NULL, -- '': about a host
	host TEXT NOT NULL, -- likewise
	metric TEXT NOT NULL,
	partition INTEGER NOT NULL,
	bound REAL NOT NULL,
	state TEXT NOT NULL CHECK (state IN ('pending', 'firing', 'resolved')),
	value REAL NOT NULL, -- at its last transition, like score
	score REAL, -- NULL: of a rule without
	started_ms INTEGER NOT NULL,
	fired_ms INTEGER CHECK (fired_ms >= started_ms), -- NULL: never
	resolved_ms INTEGER CHECK ((resolved_ms IS NULL) = (state <> 'resolved')),
	acknowledged_ms INTEGER, -- NULL: by nobody
	last_seq INTEGER NOT NULL -- of its transitions
) STRICT;
CREATE INDEX alerts_by_state ON alerts (state, id);
CREATE INDEX alerts_by_rule ON alerts (rule, id);
CREATE INDEX alerts_resolved ON alerts (resolved_ms) WHERE state = 'resolved';

-- Each has been a record on the topic alerts, too.
CREATE TABLE transitions (
	seq INTEGER NOT NULL PRIMARY KEY, -- of alerts_state
	alert INTEGER NOT NULL,
	state TEXT NOT NULL,
	at_ms INTEGER NOT NULL,
	value REAL NOT NULL,
	score REAL,
	-- why it was resolved: 'cleared', 'silent' or 'rule changed'; else ''
	reason TEXT NOT NULL,
	fingerprint TEXT NOT NULL
) STRICT;
CREATE INDEX transitions_by_alert ON transitions (alert, seq);

-- The last ids given, which stay when old alerts go.
CREATE TABLE alerts_state (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	alert INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	acknowledged INTEGER NOT NULL,
	expired INTEGER NOT NULL
) STRICT;
INSERT INTO alerts_state VALUES (1, 0, 0, 0, 0);

-- Where transitions are delivered to, and how far.
CREATE TABLE deliveries (
	target TEXT NOT NULL PRIMARY KEY, -- 'webhook' or 'alertmanager'
	seq INTEGER NOT NULL, -- all up to this one are delivered
	delivered INTEGER NOT NULL DEFAULT 0,
	failed INTEGER NOT NULL DEFAULT 0, -- attempts, in all
	attempts INTEGER NOT NULL DEFAULT 0, -- that failed at the next one
	retry_ms INTEGER NOT NULL DEFAULT 0, -- not before; the machine's time
	error TEXT NOT NULL DEFAULT '' -- of the last attempt
) STRICT, WITHOUT ROWID;

-- For people: sqlite3 -readonly data/alerts.db 'select * from alert limit 5'
CREATE VIEW alert AS
    SELECT id, rule, severity, service || host AS subject, metric, state,
	strftime('%Y-%m-%d %H:%M:%S', coalesce(fired_ms, started_ms) / 1000.0,
	    'unixepoch') AS since, value, score, bound
    FROM alerts ORDER BY id DESC;
