-- Access: people, sessions, OAuth, sealed secrets, and the audit log.

-- Secrets at rest -----------------------------------------------------------------------------------------------------

-- The master keys that this database's secrets are sealed with. Never a key: its id, and a known text that only the right
-- key opens, so that a process with a wrong key refuses to start.
CREATE TABLE master_keys (
    -- The first 8 bytes of a hash of the key.
    id bytea PRIMARY KEY CHECK (length(id) = 8),
    canary bytea NOT NULL,
    created_at timestamptz NOT NULL
);

-- The master key that a sealed value names (domain::vault has the format); NULL when it is not sealed.
CREATE FUNCTION hookyard_sealed_by(sealed bytea) RETURNS bytea
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE WHEN substring(sealed FROM 1 FOR 4) = decode('ff485901', 'hex') THEN substring(sealed FROM 5 FOR 8) END;

-- What was text until now becomes sealed bytes: `hookyard migrate` and every process that starts seal what is there.
-- Beside each sealed column stands the key of its value: a key cannot go while something is sealed with it, and nothing can
-- be sealed with a key that is gone.
ALTER TABLE subscriptions ALTER signing_secret TYPE bytea USING convert_to(signing_secret, 'UTF8');
ALTER TABLE subscriptions ALTER webhook_secret TYPE bytea USING convert_to(webhook_secret, 'UTF8');
ALTER TABLE subscriptions
    ADD COLUMN signing_secret_sealed_by bytea
        GENERATED ALWAYS AS (hookyard_sealed_by(signing_secret)) STORED REFERENCES master_keys,
    ADD COLUMN webhook_secret_sealed_by bytea
        GENERATED ALWAYS AS (hookyard_sealed_by(webhook_secret)) STORED REFERENCES master_keys;
ALTER TABLE tenants ALTER webhook_secret TYPE bytea USING convert_to(webhook_secret, 'UTF8');
ALTER TABLE tenants
    ADD COLUMN webhook_secret_sealed_by bytea
        GENERATED ALWAYS AS (hookyard_sealed_by(webhook_secret)) STORED REFERENCES master_keys;

-- Credentials ---------------------------------------------------------------------------------------------------------

-- kind: 0 API key, 1 Zapier integration key, 2 source key, 3 OAuth access token
ALTER TABLE credentials ADD COLUMN event_types text[];      -- source keys: patterns of what may be published; NULL = all
ALTER TABLE credentials ADD COLUMN hook_write_burst integer CHECK (hook_write_burst >= 0);
ALTER TABLE credentials ADD COLUMN grant_id uuid;           -- OAuth access tokens: the grant they come from
ALTER TABLE credentials ADD COLUMN created_by uuid;         -- the person who made it, if one did
-- Exactly one live integration key (contract §1): the database says so, whoever rotates.
CREATE UNIQUE INDEX credentials_integration ON credentials (tenant_id) WHERE kind = 1 AND revoked_at IS NULL;
CREATE INDEX credentials_grant ON credentials (grant_id) WHERE grant_id IS NOT NULL;
CREATE INDEX credentials_ended ON credentials (expires_at) WHERE kind = 3;
DROP TRIGGER credentials_changed ON credentials;
CREATE TRIGGER credentials_changed
    BEFORE INSERT OR UPDATE OF scopes, rate_limit, hook_write_limit, hook_write_burst, sample_limit, expires_at, revoked_at,
        name, event_types
    ON credentials FOR EACH ROW EXECUTE FUNCTION hookyard_changed();

-- People --------------------------------------------------------------------------------------------------------------

-- A person who logs in. May belong to several tenants.
CREATE TABLE users (
    id uuid PRIMARY KEY,
    -- In lower case: people do not agree with themselves about capitals.
    email text NOT NULL UNIQUE CHECK (email = lower(email)),
    name text NOT NULL,
    -- 'en' or 'fr'
    locale text NOT NULL,
    -- Argon2id in PHC string form; NULL = logs in by OpenID Connect only.
    password_hash text,
    -- Sealed TOTP key (RFC 6238); NULL = no second factor.
    totp_key bytea,
    -- A key that was shown and not yet confirmed.
    totp_pending bytea,
    totp_key_sealed_by bytea GENERATED ALWAYS AS (hookyard_sealed_by(totp_key)) STORED REFERENCES master_keys,
    totp_pending_sealed_by bytea GENERATED ALWAYS AS (hookyard_sealed_by(totp_pending)) STORED REFERENCES master_keys,
    -- The time step of the last code that was taken: each is taken once.
    totp_step bigint NOT NULL DEFAULT 0,
    -- SHA-256 of recovery codes that were not used.
    recovery_codes bytea[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    disabled_at timestamptz,
    last_login_at timestamptz
);

-- Whom the external OpenID Connect provider means by a user.
CREATE TABLE user_identities (
    issuer text NOT NULL,
    subject text NOT NULL,
    user_id uuid NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject)
);

-- What a person may do at a tenant. role: 0 viewer, 1 developer, 2 admin
CREATE TABLE memberships (
    tenant_id uuid NOT NULL REFERENCES tenants,
    user_id uuid NOT NULL REFERENCES users,
    role smallint NOT NULL CHECK (role BETWEEN 0 AND 2),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX memberships_user ON memberships (user_id);

-- A link by which somebody becomes a user. Without a tenant it is the one-time set-up link of the installation, whose
-- owner names the first tenant.
CREATE TABLE invitations (
    id uuid PRIMARY KEY,
    tenant_id uuid REFERENCES tenants,
    email text CHECK (email = lower(email)),
    role smallint NOT NULL CHECK (role BETWEEN 0 AND 2),
    -- Whose password is set anew by the link; such a link has neither tenant nor e-mail address.
    resets uuid REFERENCES users,
    token_hash bytea NOT NULL UNIQUE,
    invited_by uuid REFERENCES users,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    accepted_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX invitations_tenant ON invitations (tenant_id, id);

-- Who is logged in: only the SHA-256 of the cookie is kept.
CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    token_hash bytea NOT NULL UNIQUE,
    user_id uuid NOT NULL REFERENCES users,
    -- The tenant that the person looks at.
    tenant_id uuid NOT NULL REFERENCES tenants,
    created_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    -- Whatever happens, the session ends then.
    expires_at timestamptz NOT NULL,
    address text,
    user_agent text
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- Failures by subject (an account, an address), for throttling. Unlogged: after a crash everybody starts anew.
CREATE UNLOGGED TABLE throttles (
    -- SHA-256 of what is throttled.
    subject bytea PRIMARY KEY,
    failures integer NOT NULL,
    -- How many pauses there were already: each is longer than the one before.
    pauses integer NOT NULL,
    started_at timestamptz NOT NULL,
    -- No further try before this.
    blocked_until timestamptz
);

-- Log-ins by OpenID Connect that are under way at the provider.
CREATE TABLE oidc_logins (
    -- SHA-256 of `state`, which is also in the browser's cookie.
    state_hash bytea PRIMARY KEY,
    nonce text NOT NULL,
    -- Sealed PKCE verifier.
    verifier bytea NOT NULL,
    -- Where to go afterwards: a path of ours.
    return_to text NOT NULL,
    -- The invitation that is being accepted, if one is.
    invitation_id uuid,
    created_at timestamptz NOT NULL
);

-- OAuth 2.0 -----------------------------------------------------------------------------------------------------------

-- Programs that people may let in, such as the Zapier app.
CREATE TABLE oauth_clients (
    id uuid PRIMARY KEY,
    -- NULL = made by the operator, for the people of every tenant.
    tenant_id uuid REFERENCES tenants,
    name text NOT NULL,
    -- SHA-256; NULL = a public client, which must use PKCE.
    secret_hash bytea,
    redirect_uris text[] NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX oauth_clients_tenant ON oauth_clients (tenant_id, id);

-- What a person allowed a client at a tenant: the family of all tokens that come from it.
CREATE TABLE oauth_grants (
    id uuid PRIMARY KEY,
    client_id uuid NOT NULL REFERENCES oauth_clients,
    tenant_id uuid NOT NULL REFERENCES tenants,
    user_id uuid NOT NULL REFERENCES users,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at timestamptz,
    -- Why, in a word: by_owner, by_client, reuse, code_replayed, user_disabled
    revoked_reason text
);
CREATE INDEX oauth_grants_tenant ON oauth_grants (tenant_id, id);
CREATE INDEX oauth_grants_user ON oauth_grants (user_id);
CREATE INDEX oauth_grants_client ON oauth_grants (client_id);

-- Authorization codes: single use, 60 s.
CREATE TABLE oauth_codes (
    code_hash bytea PRIMARY KEY,
    grant_id uuid NOT NULL REFERENCES oauth_grants,
    redirect_uri text NOT NULL,
    -- Whether the request named redirect_uri: the token request must then repeat it (RFC 6749 §4.1.3).
    redirect_named boolean NOT NULL,
    -- base64url(SHA-256(verifier)); NULL = no PKCE.
    challenge text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX oauth_codes_expiry ON oauth_codes (expires_at);

-- Refresh tokens: each is exchanged once, with some grace.
CREATE TABLE oauth_refresh_tokens (
    token_hash bytea PRIMARY KEY,
    grant_id uuid NOT NULL REFERENCES oauth_grants,
    created_at timestamptz NOT NULL,
    -- When it was exchanged first; the grace begins then.
    used_at timestamptz
);
CREATE INDEX oauth_refresh_tokens_grant ON oauth_refresh_tokens (grant_id);
-- For the upkeep: what was used long ago, or never.
CREATE INDEX oauth_refresh_tokens_ended ON oauth_refresh_tokens (used_at, created_at);

-- Audit ---------------------------------------------------------------------------------------------------------------

-- The end of each chain: the row is the lock under which the next entry is written. The nil UUID is the installation's own.
CREATE TABLE audit_heads (
    tenant_id uuid PRIMARY KEY,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    -- When the last entry was written: the next one is not older, whatever the clock of its writer says.
    at timestamptz NOT NULL
);

-- Who did what, when, from where. Append-only; each entry's hash covers the hash of the one before.
CREATE TABLE audit_log (
    tenant_id uuid NOT NULL,
    -- 1, 2, 3 … without a gap.
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    -- 0 system, 1 operator (the command line), 2 credential, 3 person, 4 nobody (not authenticated)
    actor_kind smallint NOT NULL,
    actor_id uuid,
    actor_name text NOT NULL,
    address text,
    request_id text,
    -- What was done, such as key.created.
    action text NOT NULL,
    object_kind text NOT NULL,
    object_id text NOT NULL,
    -- JSON without secrets; text, because the hash is over these bytes.
    before text,
    after text,
    hash bytea NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);
CREATE INDEX audit_log_action ON audit_log (tenant_id, action, seq);
CREATE INDEX audit_log_object ON audit_log (tenant_id, object_id, seq);
CREATE INDEX audit_log_actor ON audit_log (tenant_id, actor_id, seq);

CREATE FUNCTION hookyard_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION hookyard_append_only();
CREATE TRIGGER audit_log_not_truncated BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION hookyard_append_only();
