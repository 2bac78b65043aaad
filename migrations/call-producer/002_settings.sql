-- The rate and the profile that the next call was drawn by: with others it is
-- drawn anew.  0 calls a minute: not known, it stays as it is.
ALTER TABLE center ADD COLUMN calls_per_minute REAL NOT NULL DEFAULT 0
    CHECK (calls_per_minute >= 0);
-- as in cmd/call-producer/center.h
ALTER TABLE center ADD COLUMN profile INTEGER NOT NULL DEFAULT 0;
