//! The OAuth 2.0 server (contract §1): RFC 6749 with PKCE, revocation (RFC 7009), introspection (RFC 7662), metadata
//! (RFC 8414) and the issuer in answers (RFC 9207). Rules and rows are `domain::oauth`'s; here is how requests and answers
//! look.

pub(crate) mod answer;
pub(crate) mod authorize;
mod client_authentication;
pub(crate) mod clients;
pub(crate) mod grants;
pub(crate) mod introspect;
pub(crate) mod metadata;
mod parameters;
mod request;
pub(crate) mod token;

/// The largest body of a request to these routes: 16 KiB.
pub(crate) const MAX_FORM: usize = 16 << 10;
