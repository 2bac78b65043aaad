-- What a next version of inventory might add.
ALTER TABLE reservations ADD COLUMN shelf TEXT;
CREATE INDEX reservations_by_shelf ON reservations (shelf);
