-- Where the simulated prices stand, so that they go on from there.

-- The generator of random numbers: four words, each as a signed integer.
CREATE TABLE walk (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	seed INTEGER NOT NULL,
	word0 INTEGER NOT NULL,
	word1 INTEGER NOT NULL,
	word2 INTEGER NOT NULL,
	word3 INTEGER NOT NULL,
	tick_count INTEGER NOT NULL CHECK (tick_count >= 0)
) STRICT;

-- A symbol's price, in whole units of currency and not rounded, and the one
-- that it began at.
CREATE TABLE walk_prices (
	symbol TEXT NOT NULL PRIMARY KEY CHECK
	    (length(symbol) BETWEEN 1 AND 12),
	price REAL NOT NULL CHECK (price > 0),
	start_price REAL NOT NULL CHECK (start_price > 0)
) STRICT, WITHOUT ROWID;
