-- When a rejected order was cancelled: it was so before its customer could
-- know.  Nothing is given back then, but its cancellation is told, once.
ALTER TABLE reservations ADD COLUMN cancelled_ms INTEGER
    CHECK (cancelled_ms IS NULL OR status = 'rejected');
