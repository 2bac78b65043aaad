-- What there is of each item.  What came in is either on hand or reserved,
-- and never less than nothing.
CREATE TABLE inventory (
	item TEXT NOT NULL PRIMARY KEY CHECK (length(item) BETWEEN 1 AND 64),
	on_hand INTEGER NOT NULL CHECK (on_hand >= 0),
	reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
	received INTEGER NOT NULL CHECK (received <= 1000000000000000),
	revision INTEGER NOT NULL DEFAULT 1, -- counts changes of the row
	CHECK (on_hand + reserved = received)
) STRICT, WITHOUT ROWID;

-- What became of each order.  The primary key is what makes an order that
-- is seen twice take stock once.
CREATE TABLE reservations (
	order_id TEXT NOT NULL PRIMARY KEY CHECK (length(order_id) = 36),
	item TEXT NOT NULL,
	quantity INTEGER NOT NULL CHECK (quantity > 0),
	status TEXT NOT NULL CHECK
	    (status IN ('reserved', 'rejected', 'released')),
	reason TEXT, -- why it was rejected
	ts_ms INTEGER NOT NULL, -- of the event that decided last
	CHECK ((status = 'rejected') = (reason IS NOT NULL))
) STRICT, WITHOUT ROWID;
