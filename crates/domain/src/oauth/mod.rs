//! OAuth 2.0: programs that act for a person at a tenant (RFC 6749, hardened as RFC 9700 has it).
//!
//! A *client* is a program. A *grant* is what a person allowed a client at a tenant; each authorization makes one of its own, and
//! it is the family of all tokens that come from it: who ends it ends them all. A *code* is exchanged once for a pair of tokens, a
//! *refresh token* for the next pair. Access tokens are credentials of the kind `OAuthAccess`, so that gateways know, count
//! and refuse them as they do every other (docs/decisions/0017).
//!
//! Rules are pure and stand in [`redirect`], [`pkce`], [`permission`] and [`refresh`]; the other modules are queries. How
//! requests and pages look is the gateway's.

pub mod client;
pub mod exchange;
pub mod grant;
pub mod permission;
pub mod pkce;
pub mod redirect;
pub mod refresh;
pub mod token;

use chrono::TimeDelta;

/// How long a code may be exchanged.
pub const CODE_LIFE: TimeDelta = TimeDelta::seconds(60);

/// How long an access token holds.
pub const ACCESS_LIFE: TimeDelta = TimeDelta::seconds(3_600);

/// For so long after its first use a refresh token may be used again: many Zaps share one connection and refresh at the same
/// moment (contract §1).
pub const GRACE: TimeDelta = TimeDelta::seconds(60);

/// A refresh token that nobody used for so long is no longer taken.
pub const UNUSED_LIFE: TimeDelta = TimeDelta::days(180);

/// What is kept of tokens and grants after their end, to recognise those that come back.
pub const REMEMBERED: TimeDelta = TimeDelta::days(30);

/// What codes begin with.
pub const CODE_PREFIX: &str = "ac_";

/// What refresh tokens begin with.
pub const REFRESH_PREFIX: &str = "rt_";

/// What secrets of clients begin with.
pub const SECRET_PREFIX: &str = "cs_";

/// The errors of OAuth, by the names they have on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// A parameter is missing, twice there, or unusable.
    InvalidRequest,
    /// The client is unknown, or is not who it says it is.
    InvalidClient,
    /// The code or refresh token is unknown, ended, or another's.
    InvalidGrant,
    /// The client may not do this.
    UnauthorizedClient,
    /// There is no such way to get tokens.
    UnsupportedGrantType,
    /// There is no such kind of answer.
    UnsupportedResponseType,
    /// A scope is unknown, or more than there is.
    InvalidScope,
    /// The person said no, or has nothing to give.
    AccessDenied,
    /// Nobody is logged in, and nobody may be asked to (`prompt=none`).
    LoginRequired,
    /// Nobody consented yet, and nobody may be asked to (`prompt=none`).
    ConsentRequired,
}

impl ErrorCode {
    /// Every error.
    pub const ALL: [Self; 10] = [
        Self::InvalidRequest,
        Self::InvalidClient,
        Self::InvalidGrant,
        Self::UnauthorizedClient,
        Self::UnsupportedGrantType,
        Self::UnsupportedResponseType,
        Self::InvalidScope,
        Self::AccessDenied,
        Self::LoginRequired,
        Self::ConsentRequired,
    ];

    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::AccessDenied => "access_denied",
            Self::LoginRequired => "login_required",
            Self::ConsentRequired => "consent_required",
        }
    }
}

/// A request that is refused as OAuth has it. Not a failure: what it changed, such as the end of a grant, is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// By which name.
    pub code: ErrorCode,
    /// Why, for the developer of the client: printable ASCII without quotes and backslashes (RFC 6749 §5.2).
    pub description: String,
    /// Whether tokens were ended by it: the caller then waits until that is known everywhere.
    pub ended_tokens: bool,
}

impl Refused {
    /// A refusal with its reason. What the wire does not allow is replaced.
    #[must_use]
    pub fn new(code: ErrorCode, description: impl AsRef<str>) -> Self {
        let plain = |c: char| match c {
            '"' | '\\' => '\'',
            ' '..='~' => c,
            _ => '?',
        };
        let description = description.as_ref().chars().take(240).map(plain).collect();
        Self { code, description, ended_tokens: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_holds_only_what_the_wire_allows() {
        let refused = Refused::new(ErrorCode::InvalidScope, "`a\"b\\é\n` is none");
        assert_eq!(refused.description, "`a'b'??` is none");
        assert_eq!(Refused::new(ErrorCode::InvalidScope, "x".repeat(500)).description.len(), 240);
    }

    #[test]
    fn each_error_has_a_name_of_its_own() {
        for (at, code) in ErrorCode::ALL.iter().enumerate() {
            assert!(ErrorCode::ALL[..at].iter().all(|other| other.as_str() != code.as_str()), "{code:?}");
        }
    }
}
