-- Lists of which a page could go through all that a tenant has, or had: each now goes by an index. Deleted consumers of a type or a tag
-- are still looked for among the tenant's deleted consumers.

-- Hooks, consumers and inboxes that are not deleted: who subscribes and unsubscribes all day leaves many behind that are, and callbacks
-- make endpoints of their own.
CREATE INDEX subscriptions_live ON subscriptions (tenant_id, kind, id) WHERE state <> 4;
CREATE INDEX subscriptions_hooks_in_state ON subscriptions (tenant_id, state, id) WHERE kind = 0;
CREATE INDEX subscriptions_hooks_of_type ON subscriptions (tenant_id, event_type, id) WHERE kind = 0 AND state <> 4;
CREATE INDEX subscriptions_deleted_hooks_of_type ON subscriptions (tenant_id, event_type, id) WHERE kind = 0 AND state = 4;

-- Keys of a kind: a tenant has few that people made, and a token of each connection.
CREATE INDEX credentials_listed ON credentials (tenant_id, kind, id);
DROP INDEX credentials_tenant;

-- Recoveries to an endpoint, in a state, or both.
CREATE INDEX recoveries_endpoint ON recoveries (subscription_id, id);
CREATE INDEX recoveries_endpoint_state ON recoveries (subscription_id, state, id);
CREATE INDEX recoveries_state ON recoveries (tenant_id, state, id);
