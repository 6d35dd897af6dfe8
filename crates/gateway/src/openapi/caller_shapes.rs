//! The shapes of bodies about who may call: the keys of a tenant and its people, for the OpenAPI document.

use utoipa::ToSchema;

/// An API key to make.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct KeyRequest {
    /// Name, for people.
    #[schema(min_length = 1, max_length = 50)]
    name: String,
    /// What it may do: `hooks:read`, `hooks:write`, `events:read`, `events:write`, `admin`, and so on.
    #[schema(min_items = 1)]
    scopes: Vec<String>,
    /// Requests per minute; 0 is unlimited. The setting `gateway.rate_limit` by default.
    #[schema(minimum = 0)]
    rate_limit: Option<i32>,
    /// Subscribing, changing and unsubscribing hooks per minute; 0 is unlimited.
    #[schema(minimum = 0)]
    hook_write_limit: Option<i32>,
    /// How many more of these may pass within an hour; 0 is none.
    #[schema(minimum = 0)]
    hook_write_burst: Option<i32>,
    /// Samples per minute; 0 is unlimited.
    #[schema(minimum = 0)]
    sample_limit: Option<i32>,
    /// Until when it holds: RFC 3339 with an offset; without one it holds until it is revoked.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// What to change of an API key. `null` takes a limit or the end away.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct KeyPatch {
    /// Name, for people.
    #[schema(min_length = 1, max_length = 50)]
    name: Option<String>,
    /// All that it may do from now on.
    #[schema(min_items = 1)]
    scopes: Option<Vec<String>>,
    /// Requests per minute; 0 is unlimited.
    #[schema(minimum = 0)]
    rate_limit: Option<i32>,
    /// Subscribing, changing and unsubscribing hooks per minute; 0 is unlimited.
    #[schema(minimum = 0)]
    hook_write_limit: Option<i32>,
    /// How many more of these may pass within an hour; 0 is none.
    #[schema(minimum = 0)]
    hook_write_burst: Option<i32>,
    /// Samples per minute; 0 is unlimited.
    #[schema(minimum = 0)]
    sample_limit: Option<i32>,
    /// Until when it holds: RFC 3339 with an offset.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// A source key to make.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct SourceKeyRequest {
    /// Name, for people.
    #[schema(min_length = 1, max_length = 50)]
    name: String,
    /// The types of events, or patterns of them, that it may publish.
    #[schema(min_items = 1, max_items = 50)]
    event_types: Vec<String>,
    /// Requests per minute; 0 is unlimited. The setting `gateway.rate_limit` by default.
    #[schema(minimum = 0)]
    rate_limit: Option<i32>,
    /// Until when it holds: RFC 3339 with an offset; without one it holds until it is revoked.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// What to change of a session.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct SessionPatch {
    /// The tenant to look at: one of `tenants`.
    tenant_id: Option<String>,
    /// `en` or `fr`.
    locale: Option<String>,
}

/// A new password.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct PasswordChange {
    /// The one until now.
    current_password: String,
    /// The one from now on: 12 to 128 characters, none of the commonest, without the person's name or address.
    #[schema(min_length = 12, max_length = 128)]
    new_password: String,
}

/// Proof that it is the person who asks.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct PasswordProof {
    /// The password; not needed of somebody who has none.
    password: Option<String>,
}

/// Proof that the authenticator has the key.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct TotpCode {
    /// The 6 digits that it shows.
    code: String,
}

/// What to change of a person.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct UserPatch {
    /// `admin`, `developer` or `viewer`.
    role: String,
}

/// Whom to invite.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct InvitationRequest {
    /// E-mail address.
    #[schema(max_length = 254)]
    email: String,
    /// `admin`, `developer` or `viewer`.
    role: String,
}
