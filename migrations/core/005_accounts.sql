-- What a check of the files against the topics couldn't know otherwise.

-- Dead letters whose rows went on purpose.  Kept for as long as the rows would
-- have been; their records stay on the dead-letter topic.
CREATE TABLE dead_letters_gone (
	id INTEGER NOT NULL PRIMARY KEY, -- of the row in dead_letters
	topic TEXT NOT NULL,
	partition INTEGER NOT NULL,
	record_offset INTEGER NOT NULL,
	put_at_ms INTEGER NOT NULL,
	outcome TEXT NOT NULL CHECK (outcome IN ('applied', 'dropped')),
	gone_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_letters_gone_by_time ON dead_letters_gone (put_at_ms);

-- Among how many partitions of an output the keys are spread, from which seq
-- on; 0: a partitioner of the service's own places records.  The last row of a
-- topic is how it is now.  No row: nothing with a key was emitted to it since
-- this table is there.
CREATE TABLE placements (
	number INTEGER NOT NULL PRIMARY KEY,
	topic TEXT NOT NULL,
	from_seq INTEGER NOT NULL CHECK (from_seq > 0),
	partitions INTEGER NOT NULL CHECK (partitions >= 0)
) STRICT;
