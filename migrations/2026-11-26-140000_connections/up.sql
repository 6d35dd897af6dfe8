-- Connections: how actions are let in elsewhere.

-- A row is one connection of a tenant: who it is elsewhere, and where that may be shown.
CREATE TABLE connections (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    name text NOT NULL,
    -- bearer, basic, header or oauth2
    kind text NOT NULL,
    -- The credentials are shown to this origin and to no other.
    origin text NOT NULL,
    -- The credentials as JSON, sealed.
    secret bytea NOT NULL,
    secret_sealed_by bytea GENERATED ALWAYS AS (hookyard_sealed_by(secret)) STORED REFERENCES master_keys,
    -- Of oauth2: the access token that is good until token_until, sealed.
    token bytea,
    token_sealed_by bytea GENERATED ALWAYS AS (hookyard_sealed_by(token)) STORED REFERENCES master_keys,
    token_until timestamptz,
    created_at timestamptz NOT NULL
);
CREATE INDEX connections_listed ON connections (tenant_id, id DESC);

-- NULL = the run shows no credentials.
ALTER TABLE action_runs ADD COLUMN connection_id uuid;
