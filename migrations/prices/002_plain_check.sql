-- SQLite fills a table for each row that it holds against IN with more than
-- two values.  The same check without one.
CREATE TABLE candles_again (
	symbol TEXT NOT NULL,
	interval TEXT NOT NULL CHECK
	    (interval = '1s' OR interval = '1m' OR interval = '1h'),
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
INSERT INTO candles_again SELECT * FROM candles;
DROP TABLE candles;
ALTER TABLE candles_again RENAME TO candles;
CREATE INDEX candles_by_seq ON candles (symbol, interval, seq);
