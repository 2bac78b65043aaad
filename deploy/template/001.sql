-- How many events each key had.
CREATE TABLE @IDENT@_counts (
	key TEXT NOT NULL PRIMARY KEY,
	events INTEGER NOT NULL DEFAULT 1 CHECK (events > 0)
) STRICT, WITHOUT ROWID;
