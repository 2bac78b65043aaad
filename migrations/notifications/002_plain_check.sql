-- SQLite fills a table for each row that it holds against IN with more than
-- two values.  The same check without one.
CREATE TABLE notifications_again (
	order_id TEXT NOT NULL CHECK (length(order_id) = 36),
	outcome TEXT NOT NULL CHECK (outcome = 'confirmed'
	    OR outcome = 'rejected' OR outcome = 'cancelled'),
	message TEXT NOT NULL,
	created_at_ms INTEGER NOT NULL, -- the event's time
	seq INTEGER NOT NULL, -- of notifications_cursor; never changes
	PRIMARY KEY (order_id, outcome)
) STRICT, WITHOUT ROWID;
INSERT INTO notifications_again SELECT * FROM notifications;
DROP TABLE notifications;
ALTER TABLE notifications_again RENAME TO notifications;
CREATE INDEX notifications_by_seq ON notifications (seq);
CREATE INDEX notifications_by_time ON notifications (created_at_ms);
