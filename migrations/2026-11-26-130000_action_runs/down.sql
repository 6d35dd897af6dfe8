DROP INDEX subscriptions_endpoints;
CREATE INDEX subscriptions_endpoints ON subscriptions (updated_at) WHERE kind = 1 AND state <> 4;
DROP INDEX subscriptions_removed_endpoints;
CREATE INDEX subscriptions_removed_endpoints ON subscriptions (updated_at) WHERE kind = 1 AND state = 4;
DROP TABLE action_runs;
