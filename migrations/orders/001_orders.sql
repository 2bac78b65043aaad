-- Orders, as they stand now.  An id is a UUIDv7, so that id order is the
-- order in which they were placed.
CREATE TABLE orders (
	id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 36),
	item TEXT NOT NULL CHECK (length(item) BETWEEN 1 AND 64),
	quantity INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 1000000),
	status TEXT NOT NULL CHECK
	    (status IN ('PENDING', 'CONFIRMED', 'REJECTED', 'CANCELLED')),
	reason TEXT, -- why it was rejected
	created_at_ms INTEGER NOT NULL,
	revision INTEGER NOT NULL, -- of orders_revision, at its last change
	CHECK ((status = 'REJECTED') = (reason IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX orders_by_status ON orders (status, id);

-- Where in Kafka an order's events are: its own as the cause that inventory's
-- events name, inventory's as the records that were applied.
CREATE TABLE order_trace (
	order_id TEXT NOT NULL,
	topic TEXT NOT NULL,
	partition INTEGER NOT NULL CHECK (partition >= 0),
	offset INTEGER NOT NULL CHECK (offset >= 0),
	type TEXT NOT NULL,
	ts_ms INTEGER NOT NULL,
	PRIMARY KEY (order_id, topic, partition, offset)
) STRICT, WITHOUT ROWID;

-- Counts every change of an order or its trace, so that a reader can ask
-- "is there anything new?" with one lookup.
CREATE TABLE orders_revision (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	revision INTEGER NOT NULL
) STRICT;
INSERT INTO orders_revision VALUES (1, 0);
