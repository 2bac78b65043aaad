-- Where the call centre stands, so that it goes on from there.

CREATE TABLE center (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	seed INTEGER NOT NULL,
	-- the generator of random numbers: four words, each as a signed integer
	word0 INTEGER NOT NULL,
	word1 INTEGER NOT NULL,
	word2 INTEGER NOT NULL,
	word3 INTEGER NOT NULL,
	epoch_ms INTEGER NOT NULL, -- the time of day when its clock was at 0
	clock_ms REAL NOT NULL CHECK (clock_ms >= 0),
	next_ms REAL NOT NULL CHECK (next_ms >= 0), -- when the next call comes
	calls INTEGER NOT NULL CHECK (calls >= 0),
	duration_ms INTEGER NOT NULL CHECK (duration_ms >= 0)
) STRICT;

-- How many calls there were of each bucket of durations that metrics show.
CREATE TABLE center_durations (
	bound INTEGER NOT NULL PRIMARY KEY,
	calls INTEGER NOT NULL CHECK (calls >= 0)
) STRICT;
