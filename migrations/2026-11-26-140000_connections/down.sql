ALTER TABLE action_runs DROP COLUMN connection_id;
DROP TABLE connections;
