DROP INDEX tasks_endpoint;
DROP INDEX subscriptions_removed_endpoints;
DROP INDEX subscriptions_endpoints;
DELETE FROM deliveries WHERE profile = 3;
DELETE FROM subscription_health WHERE subscription_id IN (SELECT id FROM subscriptions WHERE kind = 1);
DELETE FROM subscriptions WHERE kind = 1;
DROP INDEX deliveries_ordering;
ALTER TABLE deliveries DROP COLUMN ordering;
