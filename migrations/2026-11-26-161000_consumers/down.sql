DROP TABLE delivery_bodies;
DROP TABLE endpoint_paces;
-- What waits for its time is sent now.
INSERT INTO event_groups (id, tenant_ids, event_ids, created_at)
    SELECT id, ARRAY[tenant_id], ARRAY[id], due_at FROM scheduled_events;
DROP TABLE scheduled_events;
ALTER TABLE deliveries DROP COLUMN expires_at;
DROP TABLE consumers;
DROP INDEX subscriptions_consumers;
DELETE FROM subscription_health WHERE subscription_id IN (SELECT id FROM subscriptions WHERE kind = 3);
DELETE FROM deliveries WHERE subscription_id IN (SELECT id FROM subscriptions WHERE kind = 3);
DELETE FROM subscriptions WHERE kind = 3;
DROP INDEX subscriptions_endpoints;
CREATE INDEX subscriptions_endpoints ON subscriptions (updated_at) WHERE kind > 0 AND state <> 4;
DROP INDEX subscriptions_removed_endpoints;
CREATE INDEX subscriptions_removed_endpoints ON subscriptions (updated_at) WHERE kind > 0 AND state = 4;
