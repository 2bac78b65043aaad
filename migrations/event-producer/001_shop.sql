-- Where the simulated shop stands, so that it goes on from there.

CREATE TABLE shop (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	seed INTEGER NOT NULL,
	-- the generator of random numbers: four words, each as a signed integer
	word0 INTEGER NOT NULL,
	word1 INTEGER NOT NULL,
	word2 INTEGER NOT NULL,
	word3 INTEGER NOT NULL,
	epoch_ms INTEGER NOT NULL, -- the time of day when its clock was at 0
	clock_ms REAL NOT NULL CHECK (clock_ms >= 0),
	events INTEGER NOT NULL CHECK (events >= 0), -- made so far
	signups INTEGER NOT NULL CHECK (signups >= 0)
) STRICT;

-- Who is in the shop, and at which page.
CREATE TABLE visits (
	slot INTEGER NOT NULL PRIMARY KEY CHECK (slot >= 0),
	user INTEGER NOT NULL CHECK (user > 0), -- user-7 is 7
	page INTEGER NOT NULL, -- as in cmd/event-producer/shop.h
	product INTEGER NOT NULL
) STRICT;
