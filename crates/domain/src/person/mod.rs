//! People: who logs in, and what they may do at a tenant.

pub mod invitation;
pub mod membership;
pub mod oidc;
pub mod password;
mod role;
pub mod session;
pub mod throttle;
pub mod totp;
pub mod user;

pub use role::{Role, RoleError};

/// The languages in which people are spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locale {
    /// English.
    #[default]
    En,
    /// French.
    Fr,
}

impl Locale {
    /// The word for it in the database, in HTML and in `Accept-Language` (ISO 639-1).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Fr => "fr",
        }
    }

    /// The language of a word, if it is one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::En, Self::Fr].into_iter().find(|locale| locale.as_str() == text)
    }

    /// The language of a stored word; English for one that this version does not know.
    #[must_use]
    pub fn of_stored(text: &str) -> Self {
        if text == "fr" { Self::Fr } else { Self::En }
    }
}
