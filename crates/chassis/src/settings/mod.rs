//! Reads the settings of a process: a TOML file, then `HOOKYARD__SECTION__KEY`, then aliases such as `DATABASE_URL`.
//! Later sources win. Unknown keys, wrong types and values out of range are refused by name, and no text of a value
//! ever reaches an error message. It does not know what the sections are: each crate defines its own.
//!
//! Values from the environment are texts; the type of the field decides what they are read as:
//! - numbers and booleans (`true`/`false`, `1`/`0`, `yes`/`no`, `on`/`off`) are parsed,
//! - any list (`Vec<T>`, a set) is split at commas, blanks around the parts and empty parts are dropped:
//!   `HOOKYARD__EGRESS__ALLOW=127.0.0.0/8,10.0.0.0/8`; a part that holds a comma must come from the file,
//! - an empty text is `None` for an `Option<T>` (also in the file, as TOML has no null) and `[]` for a list.
//!
//! Sections and keys in the environment are case-insensitive; keys of the file are not.

mod secret;
mod sources;
mod tree;

use std::io;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use thiserror::Error;

pub use secret::{Secret, SecretUrl, mask_url};
pub use sources::Sources;

/// Why the settings were not accepted. There is one reaction to all of them: tell the operator and do not start.
///
/// No variant holds the text of a value: a refused `DATABASE_URL` must not end in a log.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read; for a file that was named, this includes that it does not exist.
    #[error("cannot read the settings file `{}`", path.display())]
    File {
        /// The file that was asked for.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("the settings file `{}` is not valid TOML, line {line}: {reason}", path.display())]
    Syntax {
        /// The file that was read.
        path: PathBuf,
        /// Where the parser stopped, counted from 1.
        line: usize,
        /// What the parser said, without the line itself.
        reason: String,
    },
    /// The name or encoding of an environment variable makes it unusable.
    #[error("the environment variable `{name}` {reason}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key that no section has: most often a typing error.
    #[error("unknown key `{key}` in {origin}, accepted here: {}", accepted.join(", "))]
    UnknownKey {
        /// The dotted path of the key, for example `http.listne`.
        key: String,
        /// The file or the environment variable that holds it.
        origin: String,
        /// The keys that are known at this place.
        accepted: Vec<String>,
    },
    /// A key without a default that no source sets.
    #[error("missing key `{key}`")]
    MissingKey {
        /// The dotted path of the key.
        key: String,
    },
    /// A value of the wrong type or out of range.
    #[error("invalid value for `{key}` in {origin}: {reason}")]
    InvalidValue {
        /// The dotted path of the key.
        key: String,
        /// The file or the environment variable that holds the value.
        origin: String,
        /// What is accepted, and the kind of thing that was found instead.
        reason: String,
    },
    /// Values that are acceptable one by one but not together; see [`SettingsError::contradiction`].
    #[error("invalid settings at `{key}`: {reason}")]
    Contradiction {
        /// The dotted path of the key that has to change.
        key: &'static str,
        /// Why the values do not go together.
        reason: String,
    },
}

impl SettingsError {
    /// For checks across several keys that a service makes after loading, so that they read like all others.
    /// `reason` must not hold a secret.
    pub fn contradiction(key: &'static str, reason: impl Into<String>) -> Self {
        Self::Contradiction { key, reason: reason.into() }
    }
}

/// Reads `T` from the sources. Give `T` and every section `#[serde(deny_unknown_fields, default)]`.
///
/// # Errors
/// The first thing that is wrong, see [`SettingsError`].
pub fn load<T: DeserializeOwned>(sources: Sources) -> Result<T, SettingsError> {
    let (tree, file) = sources.collect()?;
    T::deserialize(tree::Node::root(tree)).map_err(|refusal| refusal.into_error(file.as_deref()))
}

/// For `#[serde(deserialize_with = "chassis::settings::in_range::<_, u64, 1, 60_000>")]`: a whole number from `MIN`
/// to `MAX`, both included.
///
/// # Errors
/// A number outside of the range, or one that `T` cannot hold.
pub fn in_range<'de, D, T, const MIN: u64, const MAX: u64>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let refuse = || D::Error::custom(format_args!("expected a whole number from {MIN} to {MAX}"));
    // i128 takes what TOML and the environment can spell, so that -1 is told the range and not a type.
    let number = u64::try_from(i128::deserialize(deserializer)?).map_err(|_out| refuse())?;
    if !(MIN..=MAX).contains(&number) {
        return Err(refuse());
    }
    T::try_from(number).map_err(|_too_large| refuse())
}

#[cfg(test)]
mod tests;
