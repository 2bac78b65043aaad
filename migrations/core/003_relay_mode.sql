-- How the rows of the outbox are sent: each lot in a Kafka transaction that
-- moves a cursor along with it (1), or by an idempotent producer alone (0).
-- Changes only with an outbox of which nothing was sent yet, so what is said
-- here is true of all rows that are there.
ALTER TABLE relay ADD COLUMN transactional INTEGER NOT NULL DEFAULT 0
	CHECK (transactional IN (0, 1));
