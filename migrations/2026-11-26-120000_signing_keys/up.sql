-- The keys that callbacks are signed with (RS256). A row is one key: published from created_at on, used from use_from to
-- used_until, published still until kept_until. The last two are NULL while it has no successor.
CREATE TABLE signing_keys (
    id uuid PRIMARY KEY,
    -- What receivers find it by: the thumbprint of the public half (RFC 7638).
    kid text NOT NULL UNIQUE,
    -- PKCS#8, sealed.
    private_key bytea NOT NULL,
    private_key_sealed_by bytea GENERATED ALWAYS AS (hookyard_sealed_by(private_key)) STORED REFERENCES master_keys,
    -- The public half: big-endian, without leading zeros.
    modulus bytea NOT NULL,
    exponent bytea NOT NULL,
    created_at timestamptz NOT NULL,
    use_from timestamptz NOT NULL,
    used_until timestamptz,
    kept_until timestamptz,
    CHECK (used_until > use_from),
    CHECK ((used_until IS NULL) = (kept_until IS NULL) AND kept_until >= used_until)
);
-- There is one key at most that has no successor.
CREATE UNIQUE INDEX signing_keys_last ON signing_keys ((true)) WHERE used_until IS NULL;
