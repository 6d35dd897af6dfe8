-- Sending again what did not arrive, at a pace: jobs that a registry works through (docs/decisions/0045).
CREATE TABLE recoveries (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    subscription_id uuid NOT NULL REFERENCES subscriptions,
    -- 0 failed, 1 missing, 2 undelivered (both), 3 not arrived (those that were given up, too), 4 all
    which smallint NOT NULL,
    -- 0 counting, 1 running, 2 completed, 3 cancelled, 4 stopped
    state smallint NOT NULL,
    -- Why it was stopped.
    reason text,
    -- Events that were accepted in this time.
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    -- Only these types, as they were written, and what those stand for; NULL = all that the endpoint wants.
    event_types text[],
    patterns text[],
    per_second integer NOT NULL CHECK (per_second > 0),
    -- The last event that was counted, or looked at. Moves in the transaction that puts deliveries on their way.
    cursor_at uuid,
    -- Events to look at; grows while they are counted.
    total bigint NOT NULL DEFAULT 0,
    examined bigint NOT NULL DEFAULT 0,
    queued bigint NOT NULL DEFAULT 0,
    -- Events that were put on their way and had not ended at the last look.
    under_way uuid[] NOT NULL DEFAULT '{}',
    -- Who asked.
    actor_kind smallint NOT NULL,
    actor_id uuid,
    actor_name text NOT NULL,
    -- When the next step is due, by its pace; and until when who holds the claim, the fence of every step.
    due_at timestamptz NOT NULL,
    claim uuid NOT NULL,
    lease_until timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    ended_at timestamptz
);
-- One at a time for each endpoint.
CREATE UNIQUE INDEX recoveries_running ON recoveries (subscription_id) WHERE state < 2;
CREATE INDEX recoveries_due ON recoveries (due_at) WHERE state < 2;
CREATE INDEX recoveries_tenant ON recoveries (tenant_id, id);
CREATE INDEX recoveries_ended ON recoveries (ended_at) WHERE ended_at IS NOT NULL;

-- What ended without having arrived, for the message log. Only such rows, so that what arrives pays nothing.
CREATE INDEX deliveries_failed ON deliveries (tenant_id, event_id, subscription_id) WHERE state IN (2, 3, 4);

-- Since when a subscription is disabled: what it missed begins there.
ALTER TABLE subscriptions ADD COLUMN disabled_at timestamptz;
UPDATE subscriptions SET disabled_at = updated_at WHERE state = 3;
-- A trigger, because many ways lead there.
CREATE FUNCTION hookyard_disabled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.disabled_at := CASE WHEN NEW.state <> 3 THEN NULL
        WHEN TG_OP = 'UPDATE' AND OLD.state = 3 THEN OLD.disabled_at
        ELSE NEW.updated_at END;
    RETURN NEW;
END $$;
CREATE TRIGGER subscriptions_disabled BEFORE INSERT OR UPDATE OF state ON subscriptions
    FOR EACH ROW EXECUTE FUNCTION hookyard_disabled();
