-- SQLite fills a table for each row that it holds against IN with more than
-- two values.  The same check without one.
CREATE TABLE minutes_again (
	start_ms INTEGER NOT NULL CHECK (start_ms % 60000 = 0),
	event TEXT NOT NULL CHECK
	    (event = 'click' OR event = 'purchase' OR event = 'signup'),
	currency TEXT NOT NULL,
	count INTEGER NOT NULL CHECK (count >= 0),
	amount_minor INTEGER NOT NULL CHECK (amount_minor >= 0),
	late INTEGER NOT NULL CHECK (late >= 0),
	PRIMARY KEY (start_ms, event, currency)
) STRICT, WITHOUT ROWID;
INSERT INTO minutes_again SELECT * FROM minutes;
DROP TABLE minutes;
ALTER TABLE minutes_again RENAME TO minutes;
