//! What can go wrong when a caller asks the domain for something, by what the caller can do about it.

use std::time::Duration;

use crate::vault::VaultError;

/// The result of a domain operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a domain operation failed. Display never repeats its source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object does not exist, or belongs to another tenant.
    #[error("{what} not found")]
    NotFound {
        /// The noun, such as `hook`.
        what: &'static str,
    },
    /// The request contradicts what is there.
    #[error("{reason}")]
    Conflict {
        /// What contradicts, as a sentence a caller can act on.
        reason: String,
    },
    /// A value is not acceptable.
    #[error("{reason}")]
    Invalid {
        /// The field that holds the value.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What the tenant may use in a month is used up (contract §5).
    #[error("{reason}")]
    BudgetExceeded {
        /// Which budget, as a sentence a caller can act on.
        reason: String,
    },
    /// No database connection became free in time; worth another try later.
    #[error("no database connection within {waited:?}")]
    Busy {
        /// How long the caller waited.
        waited: Duration,
    },
    /// The database cannot be reached or is shutting down; worth another try later.
    #[error("the database is away")]
    Away(#[source] Source),
    /// Another transaction held a lock longer than this one was ready to wait, or the two waited for each other and this one was given up;
    /// worth another try at once.
    #[error("another request holds the lock")]
    Locked,
    /// A secret cannot be opened: the master keys of this process do not fit, or the row was changed.
    #[error("a sealed secret cannot be opened")]
    Sealed(#[source] VaultError),
    /// The database refused a statement: a defect of ours.
    #[error("database failure")]
    Database(#[source] Source),
}

/// The cause of an [`Error`].
pub type Source = Box<dyn std::error::Error + Send + Sync>;

impl Error {
    /// Whether the same operation may succeed a little later without any change.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Away(_) | Self::Locked => true,
            Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::Invalid { .. }
            | Self::BudgetExceeded { .. }
            | Self::Sealed(_)
            | Self::Database(_) => false,
        }
    }

    /// Display of the error with the chain of its sources, for one log line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::{DatabaseErrorKind, Error as Diesel};
        match error {
            Diesel::NotFound => Self::NotFound { what: "row" },
            // Diesel has no kind for 40P01 (deadlock), 57P01 (admin shutdown), 57P03 (starting up) or a lost socket: their
            // texts are libpq's and the server's, in English by `lc_messages` and libpq's own catalogue.
            Diesel::DatabaseError(DatabaseErrorKind::ClosedConnection, _) => Self::Away(Box::new(error)),
            Diesel::BrokenTransactionManager => Self::Away(Box::new(error)),
            Diesel::DatabaseError(_, ref info) => {
                let text = info.message();
                if text.contains("lock timeout") || text.contains("deadlock detected") {
                    Self::Locked
                } else if LOST.iter().any(|lost| text.contains(lost)) {
                    Self::Away(Box::new(error))
                } else {
                    Self::Database(Box::new(error))
                }
            }
            other => Self::Database(Box::new(other)),
        }
    }
}

/// Parts of the messages with which a connection to Postgres ends or a server that starts or stops refuses work.
const LOST: [&str; 9] = [
    "server closed the connection",
    "terminating connection",
    "the database system is",
    "no connection to the server",
    "could not connect",
    "connection to server",
    "could not receive data",
    "could not send data",
    "canceling statement due to",
];

#[cfg(test)]
mod tests {
    use diesel::result::{DatabaseErrorKind, Error as Diesel};

    use super::*;

    #[test]
    fn what_passes_is_told_from_what_is_ours() {
        let of = |text: &str| {
            Error::from(Diesel::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned())))
        };
        for text in ["canceling statement due to lock timeout", "deadlock detected"] {
            assert!(matches!(of(text), Error::Locked), "{text}");
        }
        for text in
            ["canceling statement due to statement timeout", "server closed the connection unexpectedly"]
        {
            assert!(matches!(of(text), Error::Away(_)), "{text}");
        }
        let ours = of("relation \"x\" does not exist");
        assert!(matches!(ours, Error::Database(_)) && !ours.is_passing());
        assert!(of("deadlock detected").is_passing());
    }
}
