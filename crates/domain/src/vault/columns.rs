//! Everything that is sealed: which columns, and how a value is bound to its row. What is not in this table cannot be
//! sealed, and what is in it is rotated.

use std::fmt;

/// A column of sealed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    table: &'static str,
    name: &'static str,
}

/// Standard Webhooks secret of a hook; its row is the hook's id.
pub const SIGNING_SECRET: Column = Column::new("subscriptions", "signing_secret");
/// Key of `X-TriggersAPI-Signature` of a hook; its row is the hook's id.
pub const HOOK_WEBHOOK_SECRET: Column = Column::new("subscriptions", "webhook_secret");
/// The same for hooks that have none of their own; its row is the tenant's id.
pub const TENANT_WEBHOOK_SECRET: Column = Column::new("tenants", "webhook_secret");
/// Key of a person's second factor; its row is the person's id.
pub const TOTP_KEY: Column = Column::new("users", "totp_key");
/// One that was shown and not yet confirmed; its row is the person's id.
pub const TOTP_PENDING: Column = Column::new("users", "totp_pending");

/// Text of a mail that waits to be sent; its row is the mail's id.
pub const EMAIL_BODY: Column = Column::new("emails", "body");
/// Key of a tenant at a provider of language models; its row is the key's id.
pub const LLM_API_KEY: Column = Column::new("llm_keys", "api_key");
/// Private half of a key that callbacks are signed with, as PKCS#8; its row is the key's id.
pub const SIGNING_PRIVATE_KEY: Column = Column::new("signing_keys", "private_key");
/// Credentials of a connection; its row is the connection's id.
pub const CONNECTION_SECRET: Column = Column::new("connections", "secret");
/// Access token of a connection; its row is the connection's id.
pub const CONNECTION_TOKEN: Column = Column::new("connections", "token");

/// Further headers of a consumer, as JSON; its row is the consumer's id, as are those of the others.
pub const CONSUMER_HEADERS: Column = Column::new("consumers", "headers");
/// Seed of the ed25519 key of a consumer.
pub const CONSUMER_SIGNING_KEY: Column = Column::new("consumers", "signing_key");
/// Standard Webhooks secret of a consumer before its last rotation.
pub const CONSUMER_PREVIOUS_SECRET: Column = Column::new("consumers", "previous_secret");
/// Seed of its ed25519 key before its last rotation.
pub const CONSUMER_PREVIOUS_KEY: Column = Column::new("consumers", "previous_key");
/// Key of the client certificate of a consumer, as PEM.
pub const CONSUMER_CERTIFICATE_KEY: Column = Column::new("consumers", "certificate_key");

/// What is rotated. Each is `bytea` in a table with a primary key `id` of type `uuid`, and has beside it a column
/// `…_sealed_by` that the database computes from the value and holds against `master_keys`.
pub const ROTATED: [Column; 15] = [
    SIGNING_SECRET,
    HOOK_WEBHOOK_SECRET,
    TENANT_WEBHOOK_SECRET,
    TOTP_KEY,
    TOTP_PENDING,
    EMAIL_BODY,
    LLM_API_KEY,
    SIGNING_PRIVATE_KEY,
    CONNECTION_SECRET,
    CONNECTION_TOKEN,
    CONSUMER_HEADERS,
    CONSUMER_SIGNING_KEY,
    CONSUMER_PREVIOUS_SECRET,
    CONSUMER_PREVIOUS_KEY,
    CONSUMER_CERTIFICATE_KEY,
];

/// PKCE verifier of a log-in that is under way at a provider; its row is the hash of `state`. It lives for minutes and is
/// not rotated: whoever logs in while its key goes begins again.
pub const OIDC_VERIFIER: Column = Column::new("oidc_logins", "verifier");

/// The text by which a process knows that a key is the right one; its row is the key's id.
pub(super) const CANARY: Column = Column::new("master_keys", "canary");

impl Column {
    const fn new(table: &'static str, name: &'static str) -> Self {
        Self { table, name }
    }

    /// The value of this column in the row with this key.
    #[must_use]
    pub fn at(self, row: impl AsRef<[u8]>) -> Place {
        // The names are ours and hold no zero byte: no two places read alike.
        let row = row.as_ref();
        let mut bytes = Vec::with_capacity(self.table.len() + self.name.len() + row.len() + 2);
        for name in [self.table, self.name] {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
        }
        bytes.extend_from_slice(row);
        Place(bytes)
    }

    /// The table.
    #[must_use]
    pub fn table(self) -> &'static str {
        self.table
    }

    /// The column's name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }
}

/// As `table.column`.
impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.name)
    }
}

/// Where a sealed value stands. It is part of what is authenticated: a value that is copied to another place does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(Vec<u8>);

impl Place {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
