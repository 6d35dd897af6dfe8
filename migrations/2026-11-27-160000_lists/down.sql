DROP INDEX recoveries_state;
DROP INDEX recoveries_endpoint_state;
DROP INDEX recoveries_endpoint;
DROP INDEX credentials_listed;
DROP INDEX subscriptions_hooks_of_type;
DROP INDEX subscriptions_hooks_in_state;
DROP INDEX subscriptions_live;
