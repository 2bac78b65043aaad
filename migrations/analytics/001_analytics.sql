-- What users did, by minutes of their own time, and their sessions.  Times
-- are milliseconds since the epoch, amounts in the currency's smallest unit.

-- How far each partition of user-events has come.  Its watermark is the
-- newest time seen in it: what is older than that by more than --grace is
-- late, whatever other partitions have.
CREATE TABLE progress (
	partition INTEGER NOT NULL PRIMARY KEY,
	watermark_ms INTEGER NOT NULL,
	events INTEGER NOT NULL CHECK (events > 0), -- late ones among them
	late INTEGER NOT NULL DEFAULT 0 CHECK (late BETWEEN 0 AND events)
) STRICT;

-- Tumbling windows of a minute, by kind of event and currency ('': no
-- purchase).  Five of them in a row make a hopping window.  Late events are
-- counted beside.
CREATE TABLE minutes (
	start_ms INTEGER NOT NULL CHECK (start_ms % 60000 = 0),
	event TEXT NOT NULL CHECK (event IN ('click', 'purchase', 'signup')),
	currency TEXT NOT NULL,
	count INTEGER NOT NULL CHECK (count >= 0),
	amount_minor INTEGER NOT NULL CHECK (amount_minor >= 0),
	late INTEGER NOT NULL CHECK (late >= 0),
	PRIMARY KEY (start_ms, event, currency)
) STRICT, WITHOUT ROWID;

-- Which users were active in a minute: unique users are counted exactly, also
-- over many minutes.
CREATE TABLE minute_users (
	start_ms INTEGER NOT NULL,
	user_id TEXT NOT NULL,
	events INTEGER NOT NULL CHECK (events > 0),
	PRIMARY KEY (start_ms, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE minute_pages (
	start_ms INTEGER NOT NULL,
	page TEXT NOT NULL,
	events INTEGER NOT NULL CHECK (events > 0),
	PRIMARY KEY (start_ms, page)
) STRICT, WITHOUT ROWID;

-- Session windows: a user's events with less than 30 minutes between
-- neighbours.  An event that comes between two sessions makes them one.  What
-- happened in a session is a set of bits, which are those of a table below.
CREATE TABLE sessions (
	user_id TEXT NOT NULL,
	start_ms INTEGER NOT NULL,
	last_ms INTEGER NOT NULL,
	events INTEGER NOT NULL CHECK (events > 0),
	steps INTEGER NOT NULL,
	PRIMARY KEY (user_id, start_ms),
	CHECK (last_ms >= start_ms)
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_start ON sessions (start_ms, steps, last_ms, events);

-- The steps of a funnel, in its order, and two more (null: none of them).
CREATE TABLE steps (
	bit INTEGER NOT NULL PRIMARY KEY,
	step TEXT NOT NULL UNIQUE,
	funnel INTEGER
) STRICT;
INSERT INTO steps VALUES (1, 'visit', 1), (2, 'product', 2), (4, 'cart', 3),
    (8, 'checkout', 4), (16, 'purchase', 5), (32, 'search', NULL),
    (64, 'signup', NULL);
