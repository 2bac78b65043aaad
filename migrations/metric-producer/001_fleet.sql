-- Where metric-producer stands: its simulated hosts' clock, and how many
-- samples it has made, of simulated hosts or of its own.

CREATE TABLE fleet (
	one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
	epoch_ms INTEGER NOT NULL, -- the time of day when the clock was at 0
	clock_ms INTEGER NOT NULL CHECK (clock_ms >= 0),
	slot INTEGER NOT NULL CHECK (slot >= 0), -- host and metric that is next
	samples INTEGER NOT NULL CHECK (samples >= 0)
) STRICT;
