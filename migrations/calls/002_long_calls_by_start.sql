-- What is to go is looked for four times a second, and is nearly never there:
-- without this all of them were read each time.
CREATE INDEX long_calls_by_start ON long_calls (started_ms);
