DROP INDEX recoveries_state;
DROP INDEX recoveries_endpoint_state;
DROP INDEX recoveries_endpoint;
CREATE INDEX credentials_tenant ON credentials (tenant_id);
DROP INDEX credentials_listed;
DROP INDEX subscriptions_deleted_hooks_of_type;
DROP INDEX subscriptions_hooks_of_type;
DROP INDEX subscriptions_hooks_in_state;
DROP INDEX subscriptions_live;
