-- How many records were made in all, for --count: symbols may come and go.
ALTER TABLE walk ADD COLUMN records INTEGER NOT NULL DEFAULT 0
    CHECK (records >= 0);
-- If they never did; else that many at the most.
UPDATE walk SET records = tick_count * (SELECT count(*) FROM walk_prices);
