-- Deliveries that go one after the other, and the endpoints of tasks.

-- What a delivery stands in line behind: of deliveries to one subscription with the same value, only that of the oldest event
-- is tried (docs/decisions/0025). NULL = it waits for nobody. While it has to wait, next_attempt_at is 'infinity'.
ALTER TABLE deliveries ADD COLUMN ordering uuid;
-- The lines: only what is under way, so that hooks pay nothing for it.
CREATE INDEX deliveries_ordering ON deliveries (ordering, event_id) WHERE state = 0 AND ordering IS NOT NULL;

-- subscriptions.kind: 0 REST hook, 1 endpoint of tasks (a webhook_url; nobody subscribed, no event is matched with it).
-- For the upkeep: endpoints that nobody has named for a while.
CREATE INDEX subscriptions_endpoints ON subscriptions (updated_at) WHERE kind = 1 AND state <> 4;
-- Endpoints that were removed long ago go altogether.
CREATE INDEX subscriptions_removed_endpoints ON subscriptions (updated_at) WHERE kind = 1 AND state = 4;
-- Tasks keep their endpoint.
CREATE INDEX tasks_endpoint ON tasks (endpoint_id) WHERE endpoint_id IS NOT NULL;
