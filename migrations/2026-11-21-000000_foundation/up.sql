-- Hookyard's first schema. Postgres is the truth: every row here was promised to somebody.

-- `changed_in` of a row is the transaction that wrote it last. Snapshots held in memory are brought up to date by
-- reading what changed since the oldest transaction that was open at the last look, which misses nothing however
-- transactions overlap (docs/decisions/0006).
CREATE FUNCTION hookyard_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$;

-- A customer of the installation.
CREATE TABLE tenants (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    -- Key of X-TriggersAPI-Signature for hooks that have none of their own.
    webhook_secret text,
    created_at timestamptz NOT NULL
);

-- Who may call: only the SHA-256 of the token is kept.
CREATE TABLE credentials (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    kind smallint NOT NULL,
    name text NOT NULL,
    prefix text NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL,
    -- Per minute; NULL = the default of the settings, 0 = unlimited.
    rate_limit integer CHECK (rate_limit >= 0),
    hook_write_limit integer CHECK (hook_write_limit >= 0),
    sample_limit integer CHECK (sample_limit >= 0),
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    changed_in bigint NOT NULL DEFAULT 0
);
CREATE INDEX credentials_tenant ON credentials (tenant_id);
CREATE INDEX credentials_changed ON credentials (changed_in);
-- Not on last_used_at: that is written every minute and nobody's snapshot needs it.
CREATE TRIGGER credentials_changed
    BEFORE INSERT OR UPDATE OF scopes, rate_limit, hook_write_limit, sample_limit, expires_at, revoked_at, name
    ON credentials FOR EACH ROW EXECUTE FUNCTION hookyard_changed();

-- How much of a rate limit was used in the running window. Unlogged: after a crash of Postgres windows start anew.
CREATE UNLOGGED TABLE rate_windows (
    credential_id uuid NOT NULL,
    bucket smallint NOT NULL,
    started_at timestamptz NOT NULL,
    used bigint NOT NULL,
    PRIMARY KEY (credential_id, bucket)
) WITH (fillfactor = 50);

-- What was answered to a request with an Idempotency-Key; written in the transaction that did the work.
CREATE TABLE idempotency_keys (
    tenant_id uuid NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    status smallint NOT NULL,
    response bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, route, key)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

-- The tenant's own event types; the starting catalogue is part of the program.
CREATE TABLE event_types (
    tenant_id uuid NOT NULL REFERENCES tenants,
    name text NOT NULL,
    description text NOT NULL,
    -- Canonical JSON of an example payload.
    example bytea,
    aliases text[] NOT NULL,
    deprecated boolean NOT NULL,
    archived boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

-- Who wants which events where. Kept after deletion, so that deliveries can be read with their hook.
CREATE TABLE subscriptions (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    -- 0 REST hook
    kind smallint NOT NULL,
    url text NOT NULL,
    -- As the subscriber wrote it (may be an alias); `pattern` is what is matched. NULL = everything.
    event_type text,
    pattern text,
    -- Canonical JSON of the filter.
    filter text,
    -- SHA-256 over url, event_type and filter: a subscription is unique by these within its tenant.
    identity bytea NOT NULL,
    -- 0 pending, 1 active, 2 failing, 3 disabled, 4 deleted
    state smallint NOT NULL,
    state_reason text,
    -- Standard Webhooks secret, `whsec_…`.
    signing_secret text NOT NULL,
    -- Key of X-TriggersAPI-Signature; NULL = the tenant's, if it has one.
    webhook_secret text,
    credential_id uuid,
    expires_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    changed_in bigint NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX subscriptions_identity ON subscriptions (tenant_id, identity) WHERE state <> 4;
CREATE INDEX subscriptions_tenant ON subscriptions (tenant_id, id);
CREATE INDEX subscriptions_url ON subscriptions (tenant_id, url) WHERE state <> 4;
CREATE INDEX subscriptions_changed ON subscriptions (changed_in);
CREATE INDEX subscriptions_expiry ON subscriptions (expires_at) WHERE state < 3 AND expires_at IS NOT NULL;
CREATE TRIGGER subscriptions_changed BEFORE INSERT OR UPDATE ON subscriptions
    FOR EACH ROW EXECUTE FUNCTION hookyard_changed();

-- What happened at a subscription so far. Apart from `subscriptions`, because it changes with every settlement.
CREATE TABLE subscription_health (
    subscription_id uuid PRIMARY KEY REFERENCES subscriptions,
    delivery_count bigint NOT NULL DEFAULT 0,
    failure_count bigint NOT NULL DEFAULT 0,
    consecutive_failures integer NOT NULL DEFAULT 0,
    -- 401 and 403 in a row.
    consecutive_refusals integer NOT NULL DEFAULT 0,
    first_failure_at timestamptz,
    last_delivered_at timestamptz,
    last_attempt_at timestamptz,
    last_status smallint,
    last_reason text
) WITH (fillfactor = 50);

-- Events, for ever as they were accepted. `body` is the canonical body: the bytes that are signed and sent.
CREATE TABLE events (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    event_type text NOT NULL,
    -- 0 posted, 1 our own (hook.*), 2 a test of one hook
    origin smallint NOT NULL,
    occurred_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    metadata jsonb NOT NULL,
    trace uuid NOT NULL,
    sampled boolean NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant_id, id)
) PARTITION BY RANGE (id);
CREATE INDEX events_type ON events (tenant_id, event_type, id);

-- The outbox: events that were accepted in one commit and not fanned out yet. One row per commit, deleted by the fan-out.
CREATE TABLE event_groups (
    id uuid PRIMARY KEY,
    tenant_ids uuid[] NOT NULL,
    event_ids uuid[] NOT NULL,
    created_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- One event on its way to one subscription.
CREATE TABLE deliveries (
    event_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    profile smallint NOT NULL,
    -- 0 pending, 1 delivered, 2 dead, 3 cancelled, 4 discarded
    state smallint NOT NULL,
    -- Tries that count, since the delivery was made or replayed.
    tries smallint NOT NULL,
    -- All tries ever: the number of the last row in `attempts`.
    attempts smallint NOT NULL,
    deferrals smallint NOT NULL,
    -- When the present try was first due; unlike next_attempt_at it is not moved by leases and waits.
    due_at timestamptz NOT NULL,
    -- While pending: when somebody may (again) take it. A lease is an instant in the future.
    next_attempt_at timestamptz NOT NULL,
    -- Who holds the lease: the fence of every update.
    claim uuid NOT NULL,
    settled_at timestamptz,
    last_status smallint,
    last_reason text,
    PRIMARY KEY (event_id, subscription_id)
) PARTITION BY RANGE (event_id);
CREATE INDEX deliveries_due ON deliveries (next_attempt_at) WHERE state = 0;
-- Pending or dead: «undelivered since», dead letters, cancelling.
CREATE INDEX deliveries_undelivered ON deliveries (tenant_id, event_id, subscription_id) WHERE state IN (0, 2);
CREATE INDEX deliveries_subscription ON deliveries (subscription_id, event_id);

-- Claims what is due. A function, because its plan over all partitions is kept: the schedule is asked many times a second.
CREATE FUNCTION hookyard_claim_due(as_of timestamptz, lease_until timestamptz, claimed_by uuid, at_most bigint)
    RETURNS SETOF deliveries LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT d.event_id, d.subscription_id FROM deliveries d
        WHERE d.state = 0 AND d.next_attempt_at <= as_of
        ORDER BY d.next_attempt_at LIMIT at_most FOR UPDATE SKIP LOCKED)
    UPDATE deliveries d SET claim = claimed_by, next_attempt_at = lease_until FROM due
    WHERE d.event_id = due.event_id AND d.subscription_id = due.subscription_id
    RETURNING d.*;
END $$;

-- One try.
CREATE TABLE attempts (
    event_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    number smallint NOT NULL,
    started_at timestamptz NOT NULL,
    latency_ms integer NOT NULL,
    -- HTTP status; NULL when there was none.
    status smallint,
    reason text NOT NULL,
    -- The first KiB of the reply.
    reply bytea,
    PRIMARY KEY (event_id, subscription_id, number)
) PARTITION BY RANGE (event_id);

-- Outcomes of deliveries not yet applied to the health of their subscriptions. One row per commit, deleted when applied.
CREATE TABLE settlements (
    id uuid PRIMARY KEY,
    reports jsonb NOT NULL,
    created_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
