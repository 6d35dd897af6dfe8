-- The language of mail about a task: en or fr; NULL = nobody said, and then English. What is there stays English.
ALTER TABLE tasks ADD COLUMN notify_language text;
