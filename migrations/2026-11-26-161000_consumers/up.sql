-- Consumers (contract §4), and the options that come with them: order by a key, expiry, a pace, a time to be sent at.

-- subscriptions.kind: 0 REST hook, 1 endpoint of tasks, 2 endpoint of callbacks, 3 consumer. The upkeep is of 1 and 2.
DROP INDEX subscriptions_endpoints;
CREATE INDEX subscriptions_endpoints ON subscriptions (updated_at) WHERE kind IN (1, 2) AND state <> 4;
DROP INDEX subscriptions_removed_endpoints;
CREATE INDEX subscriptions_removed_endpoints ON subscriptions (updated_at) WHERE kind IN (1, 2) AND state = 4;
CREATE INDEX subscriptions_consumers ON subscriptions (tenant_id, id) WHERE kind = 3;

-- What a consumer has beside its subscription. Whoever changes a row changes the subscription's, too, so that snapshots hear of it.
CREATE TABLE consumers (
    id uuid PRIMARY KEY REFERENCES subscriptions,
    description text NOT NULL,
    -- As they were written (may be aliases); `patterns` are what is matched.
    event_types text[] NOT NULL,
    patterns text[] NOT NULL,
    -- Of the company that an event is about, at least one of them; none = any event.
    tags text[] NOT NULL,
    -- POST or PUT
    method text NOT NULL,
    -- Further headers: their names, and the whole as JSON, sealed.
    header_names text[] NOT NULL,
    headers bytea,
    headers_sealed_by bytea GENERATED ALWAYS AS (hookyard_sealed_by(headers)) STORED REFERENCES master_keys,
    -- The seed of the ed25519 key of `v1a` signatures, sealed, and the public half as `whpk_…`.
    signing_key bytea NOT NULL,
    signing_key_sealed_by bytea GENERATED ALWAYS AS (hookyard_sealed_by(signing_key)) STORED REFERENCES master_keys,
    public_key text NOT NULL,
    -- Secret and key from before the last rotation, which sign beside the new ones until previous_until.
    previous_secret bytea,
    previous_secret_sealed_by bytea GENERATED ALWAYS AS (hookyard_sealed_by(previous_secret)) STORED REFERENCES master_keys,
    previous_key bytea,
    previous_key_sealed_by bytea GENERATED ALWAYS AS (hookyard_sealed_by(previous_key)) STORED REFERENCES master_keys,
    previous_public_key text,
    previous_until timestamptz,
    -- Deliveries per second; NULL = as fast as it takes them.
    rate_limit integer CHECK (rate_limit > 0),
    -- Seconds after which an event that has not arrived is not sent any more; NULL = as long as there are tries.
    ttl_s integer CHECK (ttl_s > 0),
    -- The place in an event whose value it is ordered by; NULL = in no order.
    ordering_key text,
    -- Canonical JSON of the transformation.
    transformation text,
    -- Since when it has one, or when it got the one that it had.
    transformed_since timestamptz,
    -- What it shows to receivers that ask for a client certificate: the chain as PEM, the key as PEM, sealed.
    certificate text,
    certificate_until timestamptz,
    certificate_key bytea,
    certificate_key_sealed_by bytea GENERATED ALWAYS AS (hookyard_sealed_by(certificate_key)) STORED REFERENCES master_keys
);

-- When it is not sent any more; NULL = never.
ALTER TABLE deliveries ADD COLUMN expires_at timestamptz;

-- Events that were accepted for later: a registry puts them to those that wait for their fan-out when they are due.
CREATE TABLE scheduled_events (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    due_at timestamptz NOT NULL
);
CREATE INDEX scheduled_events_due ON scheduled_events (due_at);

-- Until when the pace of an endpoint is given away to deliverers. Unlogged: after a crash of Postgres it begins anew.
CREATE UNLOGGED TABLE endpoint_paces (
    subscription_id uuid PRIMARY KEY,
    taken_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Bodies that a transformation has made, from the first try on: what is sent again is the same (contract §8).
CREATE TABLE delivery_bodies (
    event_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (event_id, subscription_id)
) PARTITION BY RANGE (event_id);
