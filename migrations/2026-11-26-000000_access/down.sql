ALTER TABLE subscriptions DROP COLUMN signing_secret_sealed_by, DROP COLUMN webhook_secret_sealed_by;
ALTER TABLE tenants DROP COLUMN webhook_secret_sealed_by;
DROP TABLE audit_log, audit_heads, oauth_refresh_tokens, oauth_codes, oauth_grants, oauth_clients, oidc_logins, throttles,
    sessions, invitations, memberships, user_identities, users, master_keys;
DROP FUNCTION hookyard_append_only();
DROP FUNCTION hookyard_sealed_by(bytea);
-- Kinds that the program before does not know.
DELETE FROM credentials WHERE kind > 0;
DROP TRIGGER credentials_changed ON credentials;
DROP INDEX credentials_integration, credentials_grant, credentials_ended;
ALTER TABLE credentials DROP COLUMN event_types, DROP COLUMN hook_write_burst, DROP COLUMN grant_id, DROP COLUMN created_by;
CREATE TRIGGER credentials_changed
    BEFORE INSERT OR UPDATE OF scopes, rate_limit, hook_write_limit, sample_limit, expires_at, revoked_at, name
    ON credentials FOR EACH ROW EXECUTE FUNCTION hookyard_changed();
-- Sealed secrets cannot be read without the master key: they become hexadecimal text, and hooks have to be subscribed anew.
ALTER TABLE subscriptions ALTER signing_secret TYPE text USING encode(signing_secret, 'hex');
ALTER TABLE subscriptions ALTER webhook_secret TYPE text USING encode(webhook_secret, 'hex');
ALTER TABLE tenants ALTER webhook_secret TYPE text USING encode(webhook_secret, 'hex');
