-- By the number of the file and the time it was made, drawn together: where a
-- start found this id.  Another one at a later start, and the file is a copy,
-- or was moved.  0: not started yet.
ALTER TABLE database_ids ADD COLUMN file INTEGER NOT NULL DEFAULT 0;
