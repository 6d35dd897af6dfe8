DROP FUNCTION hookyard_claim_due(timestamptz, timestamptz, uuid, bigint);
DROP TABLE settlements, attempts, deliveries, event_groups, events, subscription_health, subscriptions, event_types,
    idempotency_keys, rate_windows, credentials, tenants;
DROP FUNCTION hookyard_changed();
