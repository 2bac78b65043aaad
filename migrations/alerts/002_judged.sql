-- The time up to which a partition's steps are judged, or about to be: what
-- comes for them is late, also once --grace is longer than it was.
ALTER TABLE progress ADD COLUMN judged_ms INTEGER NOT NULL DEFAULT 0;
-- Which grace there was isn't known; what was judged last is, with most rules.
UPDATE progress SET judged_ms = coalesce((SELECT max(end_ms) FROM series
    JOIN history ON history.series = series.id
    WHERE series.input = progress.input
    AND series.partition = progress.partition), 0);
-- What was opened again meanwhile can't be judged, and held all behind it.
DELETE FROM steps WHERE EXISTS (SELECT 1 FROM history
    WHERE history.series = steps.series AND history.end_ms = steps.end_ms);
