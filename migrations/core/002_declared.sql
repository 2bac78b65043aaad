-- What the service does, as of its last start.  A file whose rows all come of
-- its inputs can be made anew from the log; one that answers commands, or that
-- others have heard of, can't.
CREATE TABLE declared (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	inputs TEXT NOT NULL,  -- topics, with blanks between
	outputs TEXT NOT NULL, -- likewise, without the dead letters'
	commands INTEGER NOT NULL CHECK (commands IN (0, 1))
) STRICT;
