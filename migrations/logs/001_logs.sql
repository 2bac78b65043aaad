-- A line of a log each, in the order in which they arrived.  Times are
-- milliseconds since the epoch, and the writer's own.

-- What levels are called, by severity.
CREATE TABLE levels (
	severity INTEGER NOT NULL PRIMARY KEY,
	level TEXT NOT NULL
) STRICT;
INSERT INTO levels VALUES
    (0, 'debug'), (1, 'info'), (2, 'warn'), (3, 'error'), (4, 'fatal');

CREATE TABLE entries (
	id INTEGER NOT NULL PRIMARY KEY, -- of logs_state
	ts_ms INTEGER NOT NULL,
	service TEXT NOT NULL,
	severity INTEGER NOT NULL REFERENCES levels,
	host TEXT NOT NULL, -- '': not said; likewise below
	request_id TEXT NOT NULL,
	message TEXT NOT NULL,
	stack TEXT NOT NULL, -- a stack trace, many lines
	bytes INTEGER NOT NULL -- of the record's value, for --keep-bytes
) STRICT;
CREATE INDEX entries_by_service ON entries (service, id);
CREATE INDEX entries_by_request ON entries (request_id, id)
    WHERE request_id <> '';
CREATE INDEX entries_by_time ON entries (ts_ms);

-- The words of messages and stack traces.  It holds no text of its own, and
-- can be made anew: INSERT INTO words(words) VALUES ('rebuild').
CREATE VIRTUAL TABLE words USING fts5 (message, stack,
    content = 'entries', content_rowid = 'id', tokenize = 'unicode61');

-- The last id given, which stays when old lines go, and what there is.
CREATE TABLE logs_state (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	last_id INTEGER NOT NULL,
	entries INTEGER NOT NULL CHECK (entries >= 0),
	bytes INTEGER NOT NULL CHECK (bytes >= 0)
) STRICT;
INSERT INTO logs_state VALUES (1, 0, 0, 0);

-- For people: sqlite3 -readonly data/logs.db 'select * from log limit 5'
CREATE VIEW log AS
    SELECT e.id, strftime('%Y-%m-%d %H:%M:%f', e.ts_ms / 1000.0, 'unixepoch')
	AS at, l.level, e.service, e.host, e.request_id, e.message, e.stack
    FROM entries AS e JOIN levels AS l USING (severity) ORDER BY e.id DESC;
