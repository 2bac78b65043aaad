-- SQLite fills a table for each row that it holds against IN with more than
-- two values.  The same check without one.
CREATE TABLE reservations_again (
	order_id TEXT NOT NULL PRIMARY KEY CHECK (length(order_id) = 36),
	item TEXT NOT NULL,
	quantity INTEGER NOT NULL CHECK (quantity > 0),
	status TEXT NOT NULL CHECK (status = 'reserved'
	    OR status = 'rejected' OR status = 'released'),
	reason TEXT, -- why it was rejected
	ts_ms INTEGER NOT NULL, -- of the event that decided last
	CHECK ((status = 'rejected') = (reason IS NOT NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO reservations_again SELECT * FROM reservations;
DROP TABLE reservations;
ALTER TABLE reservations_again RENAME TO reservations;
