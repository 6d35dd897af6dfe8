ALTER TABLE tasks DROP COLUMN notify_language;
