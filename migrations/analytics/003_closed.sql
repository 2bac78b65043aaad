-- The time up to which a partition's minutes are closed: what comes for them
-- is late, also once --grace is longer than it was.  Which grace there was
-- isn't known here; the next tick, or event, goes by that in force.
ALTER TABLE progress ADD COLUMN closed_ms INTEGER NOT NULL DEFAULT 0
    CHECK (closed_ms >= 0);
