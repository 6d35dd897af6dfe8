//! Passwords: which are good enough, and how they are kept.
//!
//! Argon2id with OWASP's parameters (Password Storage Cheat Sheet). Hashing takes 19 MiB and a good part of a core for tens
//! of milliseconds, hence off the threads that serve requests and few at a time. An account that is not there costs the same
//! work as one that is.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use tokio::sync::Semaphore;

use crate::{Error, Result};

/// The fewest characters of a password.
pub const MIN_CHARS: usize = 12;

/// The most characters of a password.
pub const MAX_CHARS: usize = 128;

/// Passwords that are hashed at the same time, in a process.
const AT_ONCE: usize = 2;

/// How long a password waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// A part of an e-mail address or a name that has fewer characters is in too many good passwords.
const MIN_PERSONAL_CHARS: usize = 4;

/// The fewest different characters.
const MIN_DISTINCT_CHARS: usize = 5;

/// What the commonest passwords are made of, once digits and signs are taken away: `password`, `Password2026!`,
/// `qwertyqwerty`.
const COMMON: [&str; 40] = [
    "password",
    "passwort",
    "passw",
    "pass",
    "motdepasse",
    "secret",
    "qwerty",
    "qwertyuiop",
    "azerty",
    "azertyuiop",
    "qwertz",
    "qwertzuiop",
    "asdfghjkl",
    "zxcvbnm",
    "iloveyou",
    "jetaime",
    "letmein",
    "welcome",
    "bienvenue",
    "bonjour",
    "admin",
    "administrator",
    "administrateur",
    "root",
    "user",
    "login",
    "changeme",
    "changeit",
    "default",
    "test",
    "monkey",
    "dragon",
    "football",
    "baseball",
    "sunshine",
    "princess",
    "superman",
    "soleil",
    "hookyard",
    "zapier",
];

/// Why a password is not good enough. Display continues "password".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Fewer than [`MIN_CHARS`].
    #[error("must have at least {MIN_CHARS} characters")]
    TooShort,
    /// More than [`MAX_CHARS`].
    #[error("must have at most {MAX_CHARS} characters")]
    TooLong,
    /// One of those that everybody tries first.
    #[error("is one of the commonest; choose one that nobody else has")]
    Common,
    /// It tells whose it is.
    #[error("must not contain the e-mail address or the name")]
    Personal,
}

/// Whether a password is good enough for this person.
///
/// # Errors
/// [`Weakness`].
pub fn check(password: &str, email: &str, name: &str) -> Result<(), Weakness> {
    let length = password.chars().count();
    if length < MIN_CHARS {
        return Err(Weakness::TooShort);
    }
    if length > MAX_CHARS {
        return Err(Weakness::TooLong);
    }
    let password = password.to_lowercase();
    let local = email.split('@').next().unwrap_or_default();
    let own = name.split_whitespace().chain([local, email]).map(str::to_lowercase);
    if own.filter(|part| part.chars().count() >= MIN_PERSONAL_CHARS).any(|part| password.contains(&part)) {
        return Err(Weakness::Personal);
    }
    if is_common(&password) { Err(Weakness::Common) } else { Ok(()) }
}

fn is_common(password: &str) -> bool {
    let mut distinct: Vec<char> = password.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    let runs = password.as_bytes().windows(2).filter(|pair| {
        let (a, b) = (pair[0], pair[1]);
        b == a.wrapping_add(1) || a == b.wrapping_add(1) || (a.min(b), a.max(b)) == (b'0', b'9')
    });
    let is_run = runs.count() + 2 >= password.len();
    let letters: String = password.chars().filter(|c| c.is_alphabetic()).collect();
    let is_word =
        COMMON.iter().any(|word| letters.len() >= word.len() && letters.replace(word, "").is_empty());
    distinct.len() < MIN_DISTINCT_CHARS || is_run || is_word
}

/// How much work a hash is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Cost {
    /// OWASP's: 19 MiB, two passes, one lane.
    pub const STANDARD: Self = Self { memory_kib: 19 * 1024, passes: 2 };
}

/// Makes and checks hashes. Clones share the places in which it works.
#[derive(Clone)]
pub struct Hasher {
    params: Params,
    places: Arc<Semaphore>,
    done: Arc<AtomicU64>,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("free", &self.places.available_permits()).finish_non_exhaustive()
    }
}

impl Hasher {
    /// A hasher that makes hashes of this cost; hashes that are there are checked with their own.
    ///
    /// # Errors
    /// [`Error::Database`] when Argon2 does not take the cost.
    pub fn new(cost: Cost) -> Result<Self> {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None).map_err(broken)?;
        Ok(Self { params, places: Arc::new(Semaphore::new(AT_ONCE)), done: Arc::default() })
    }

    /// How many hashes were made or checked so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// What is kept of a password: a PHC string.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many are hashed.
    pub async fn hash(&self, password: String) -> Result<String> {
        let params = self.params.clone();
        self.work(move || hash(&params, &password)).await?
    }

    /// Whether a password is the one that is kept; without one that is kept, the same work and `false`.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many are hashed, [`Error::Database`] when what is kept is no hash.
    pub async fn verify(&self, password: String, kept: Option<String>) -> Result<bool> {
        let params = self.params.clone();
        self.work(move || match &kept {
            Some(kept) => match Argon2::default().verify_password(password.as_bytes(), kept.as_str()) {
                Ok(()) => Ok(true),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(broken(error)),
            },
            None => hash(&params, &password).map(|_hash| false),
        })
        .await?
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let place = tokio::time::timeout(PATIENCE, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_elapsed| Error::Busy { waited: PATIENCE })?
            .map_err(|closed| Error::Database(Box::new(closed)))?;
        self.done.fetch_add(1, Ordering::Relaxed);
        let worked = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        worked.await.map_err(|panicked| Error::Database(Box::new(panicked)))
    }
}

fn hash(params: &Params, password: &str) -> Result<String> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let salt: [u8; 16] = rand::random();
    let hash = argon2.hash_password_with_salt(password.as_bytes(), &salt).map_err(broken)?;
    Ok(hash.to_string())
}

fn broken(error: impl fmt::Display) -> Error {
    Error::Database(format!("a password cannot be hashed: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Cost = Cost { memory_kib: 64, passes: 1 };

    #[test]
    fn passwords_have_12_to_128_characters() {
        let made =
            |length: usize| "correct horse é battery ".chars().cycle().take(length).collect::<String>();
        for (length, expected) in
            [(11, Err(Weakness::TooShort)), (12, Ok(())), (128, Ok(())), (129, Err(Weakness::TooLong))]
        {
            assert_eq!(check(&made(length), "a@b.example", "A"), expected, "{length}");
        }
    }

    #[test]
    fn what_everybody_tries_first_is_refused() {
        for password in [
            "Password2026!",
            "password1234",
            "motdepasse123",
            "qwertyqwerty",
            "azertyuiop12",
            "123456789012",
            "098765432109",
            "aaaaaaaaaaaa",
            "abababababab",
            "abcdefghijkl",
            "Hookyard2026!!",
            "letmein-letmein",
        ] {
            assert_eq!(check(password, "a@b.example", "A"), Err(Weakness::Common), "{password}");
        }
        for password in ["correct horse battery", "my password is a poem", "8f2k-9sd1-qpw7"] {
            assert_eq!(check(password, "a@b.example", "A"), Ok(()), "{password}");
        }
    }

    #[test]
    fn a_password_does_not_tell_whose_it_is() {
        let check = |password| check(password, "marie.curie@example.com", "Marie Skłodowska Li");
        for password in ["marie.curie-1903", "I am Marie of Paris", "SKŁODOWSKA-1903"] {
            assert_eq!(check(password), Err(Weakness::Personal), "{password}");
        }
        assert_eq!(check("li is too short to count"), Ok(()));
    }

    #[tokio::test]
    async fn a_hash_is_argon2id_and_fits_its_password_only() {
        let hasher = Hasher::new(Cost::STANDARD).unwrap();
        let kept = hasher.hash("correct horse".to_owned()).await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        let other = Hasher::new(TINY).unwrap();
        for (password, kept, expected) in [
            ("correct horse", Some(kept.clone()), true),
            ("correct horsf", Some(kept), false),
            ("correct horse", None, false),
        ] {
            let before = other.done();
            assert_eq!(other.verify(password.to_owned(), kept).await.unwrap(), expected);
            assert_eq!(other.done(), before + 1, "the same work, account or not");
        }
        assert!(other.verify("x".to_owned(), Some("no hash".to_owned())).await.is_err());
    }
}
