//! Wire: the bytes that leave, and the signatures over them (contract §8).
//!
//! A payload comes in as somebody's JSON and goes out as the JSON that ECMAScript would write for it, so that a
//! receiver who verifies `HMAC(JSON.stringify(JSON.parse(body)))` verifies exactly the bytes that were sent:
//!
//! ```text
//! posted bytes -- parse --> Json -- write_canonical --> body -- sign --> headers
//! ```
//!
//! This module knows JSON and HMAC. It does not know which fields an envelope has (that stands with the event, the
//! task and the delivery), it does no I/O, and it does not validate payloads against schemas.

mod canonical;
mod ed25519;
mod json;
mod object;
mod parse;
mod parse_error;
#[cfg(test)]
mod properties;
mod signature;
mod text;

pub use canonical::{to_canonical, write_canonical};
pub use ed25519::{SeedError, SigningKey};
pub use json::{Json, MAX_SAFE_INTEGER, Number};
pub use object::Object;
pub use parse::{MAX_DEPTH, MAX_STORED_DEPTH, parse, parse_as_javascript, parse_stored};
pub use parse_error::{JsonError, JsonErrorKind};
pub use signature::{SecretError, SigningSecret, WebhookSecret, standard_webhooks_header};
pub use text::JsonString;
