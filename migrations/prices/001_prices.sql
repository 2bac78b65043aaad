-- Prices are in hundredths.  A seq counts the records applied, over all
-- symbols; readers remember the last one that they saw.

-- The newest of each symbol.  One that arrives late doesn't replace it, but
-- moves seq.
CREATE TABLE symbols (
	symbol TEXT NOT NULL PRIMARY KEY CHECK
	    (length(symbol) BETWEEN 1 AND 12),
	price_minor INTEGER NOT NULL CHECK (price_minor > 0),
	ts_ms INTEGER NOT NULL,
	before_minor INTEGER NOT NULL CHECK (before_minor > 0),
	seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Every price, for as long as --keep-points says.
CREATE TABLE price_points (
	symbol TEXT NOT NULL,
	ts_ms INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	price_minor INTEGER NOT NULL CHECK (price_minor > 0),
	PRIMARY KEY (symbol, ts_ms, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX price_points_by_seq ON price_points (symbol, seq);

-- Open, high, low and close of each second, minute and hour.  The first and
-- the last time keep open and close right when records arrive out of order.
CREATE TABLE candles (
	symbol TEXT NOT NULL,
	interval TEXT NOT NULL CHECK (interval IN ('1s', '1m', '1h')),
	start_ms INTEGER NOT NULL,
	open_minor INTEGER NOT NULL,
	high_minor INTEGER NOT NULL,
	low_minor INTEGER NOT NULL,
	close_minor INTEGER NOT NULL,
	count INTEGER NOT NULL CHECK (count > 0),
	first_ts_ms INTEGER NOT NULL,
	last_ts_ms INTEGER NOT NULL,
	seq INTEGER NOT NULL, -- of the last record that changed it
	PRIMARY KEY (symbol, interval, start_ms),
	CHECK (low_minor BETWEEN 1 AND high_minor),
	CHECK (open_minor BETWEEN low_minor AND high_minor),
	CHECK (close_minor BETWEEN low_minor AND high_minor),
	CHECK (first_ts_ms BETWEEN start_ms AND last_ts_ms)
) STRICT, WITHOUT ROWID;
CREATE INDEX candles_by_seq ON candles (symbol, interval, seq);

-- The last seq given, which stays when old points are deleted.
CREATE TABLE prices_cursor (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	seq INTEGER NOT NULL
) STRICT;
INSERT INTO prices_cursor VALUES (1, 0);
