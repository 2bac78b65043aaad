-- Counts the changes of the rules in force, so that an instance that started
-- with those before notices.
ALTER TABLE alerts_state ADD COLUMN rules_changes INTEGER NOT NULL DEFAULT 0;
