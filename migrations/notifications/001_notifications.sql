-- What customers were told: once for each outcome of an order, which is what
-- the primary key says.
CREATE TABLE notifications (
	order_id TEXT NOT NULL CHECK (length(order_id) = 36),
	outcome TEXT NOT NULL CHECK
	    (outcome IN ('confirmed', 'rejected', 'cancelled')),
	message TEXT NOT NULL,
	created_at_ms INTEGER NOT NULL, -- the event's time
	seq INTEGER NOT NULL, -- of notifications_cursor; never changes
	PRIMARY KEY (order_id, outcome)
) STRICT, WITHOUT ROWID;
CREATE INDEX notifications_by_seq ON notifications (seq);
CREATE INDEX notifications_by_time ON notifications (created_at_ms);

-- The seq of the newest, which stays when old ones are deleted.
CREATE TABLE notifications_cursor (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	seq INTEGER NOT NULL
) STRICT;
INSERT INTO notifications_cursor VALUES (1, 0);
