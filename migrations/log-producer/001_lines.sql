-- Where log-producer stands: in its simulated services, and in the file that
-- it ships.

CREATE TABLE traffic (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	seed INTEGER NOT NULL,
	-- the generator of random numbers: four words, each as a signed integer
	word0 INTEGER NOT NULL,
	word1 INTEGER NOT NULL,
	word2 INTEGER NOT NULL,
	word3 INTEGER NOT NULL,
	lines INTEGER NOT NULL CHECK (lines >= 0), -- made so far
	requests INTEGER NOT NULL CHECK (requests >= 0), -- begun so far
	burst_service INTEGER NOT NULL, -- whose errors abound
	burst_left INTEGER NOT NULL CHECK (burst_left >= 0) -- for so many lines
) STRICT;

-- Requests on their way through the services.
CREATE TABLE requests (
	slot INTEGER NOT NULL PRIMARY KEY CHECK (slot >= 0),
	number INTEGER NOT NULL,
	step INTEGER NOT NULL,
	user INTEGER NOT NULL
) STRICT;

-- What was read of a file: it is known by its inode, whatever it is called
-- now, and by its first bytes, since inodes are used again.
CREATE TABLE shipped (
	path TEXT NOT NULL PRIMARY KEY,
	device INTEGER NOT NULL,
	inode INTEGER NOT NULL,
	offset_bytes INTEGER NOT NULL CHECK (offset_bytes >= 0),
	head BLOB NOT NULL,
	lines INTEGER NOT NULL CHECK (lines >= 0) -- records made of it
) STRICT;
