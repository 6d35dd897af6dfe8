-- The outbox of mail: what is to be sent to people. Written in the transaction that gives the reason, sent by a runner.
CREATE TABLE emails (
    id uuid PRIMARY KEY,
    -- NULL = it concerns no tenant, such as a link for a new password.
    tenant_id uuid REFERENCES tenants,
    recipient text NOT NULL,
    subject text NOT NULL,
    -- The text, sealed: there may be a link in it by which somebody gets in. NULL when the mail is done with.
    body bytea,
    body_sealed_by bytea GENERATED ALWAYS AS (hookyard_sealed_by(body)) STORED REFERENCES master_keys,
    -- 0 queued, 1 sent, 2 failed
    state smallint NOT NULL,
    tries smallint NOT NULL,
    -- While queued: when somebody may (again) take it. A lease is an instant in the future.
    next_try_at timestamptz NOT NULL,
    -- Who holds the lease: the fence of every update.
    claim uuid NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    last_error text
);
CREATE INDEX emails_due ON emails (next_try_at) WHERE state = 0;
CREATE INDEX emails_age ON emails (created_at);
