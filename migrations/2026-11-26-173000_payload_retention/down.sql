DROP INDEX scheduled_events_listed;
DROP TABLE purged_payloads;
DROP TABLE payload_days;
ALTER TABLE events DROP COLUMN payload_purged_at;
