//! Mail to people: letters and their outbox.
//!
//! A mail is written as a row, in the transaction that gives the reason for it, and sent by a runner: what was promised is sent
//! once the mail server is there, and nobody waits for it. Without a mail server in the settings nothing is written.

pub mod letter;
mod settings;
pub mod store;

use chrono::{DateTime, TimeDelta, Utc};

pub use settings::{Password, Settings, Tls};

/// A mail to be sent: plain text to one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// To whom, from [`crate::person::user::parse_email`].
    pub to: String,
    /// One line.
    pub subject: String,
    /// Lines end with a line feed.
    pub text: String,
}

/// The longest subject, in characters: what comes of a title of somebody else is cut.
pub const MAX_SUBJECT_CHARS: usize = 150;

impl Email {
    /// A mail. Line feeds and control characters in the subject become blanks, so that nobody adds a header of his own, and
    /// a long one is cut.
    #[must_use]
    pub fn new(to: impl Into<String>, subject: &str, text: impl Into<String>) -> Self {
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let mut line: String = subject.chars().map(clean).take(MAX_SUBJECT_CHARS).collect();
        if subject.chars().count() > MAX_SUBJECT_CHARS {
            line.pop();
            line.push('…');
        }
        Self { to: to.into(), subject: line, text: text.into() }
    }
}

/// The waits between tries; then the mail has failed. A mail server that is away for an afternoon is nothing special.
const WAITS: [TimeDelta; 7] = [
    TimeDelta::seconds(30),
    TimeDelta::minutes(2),
    TimeDelta::minutes(10),
    TimeDelta::hours(1),
    TimeDelta::hours(3),
    TimeDelta::hours(8),
    TimeDelta::hours(12),
];

/// When a mail is tried again that has failed `tries` times; `None` when it has failed for good: the server refused it (5yz,
/// RFC 5321 §4.2.1), or all tries are spent.
#[must_use]
pub fn next_try(tries: u16, refused: bool, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let wait = WAITS.get(usize::from(tries.saturating_sub(1)))?;
    if refused { None } else { now.checked_add_signed(*wait) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_tries_in_a_day_and_a_refusal_is_final() {
        let now = DateTime::UNIX_EPOCH;
        let waits: Vec<Option<i64>> =
            (1..=8).map(|tries| next_try(tries, false, now).map(|at| at.timestamp())).collect();
        let expected = [30, 120, 600, 3_600, 10_800, 28_800, 43_200].map(Some);
        assert_eq!(waits[..7], expected);
        assert_eq!(waits[7], None);
        assert_eq!(next_try(1, true, now), None);
    }

    #[test]
    fn a_subject_is_one_line_and_not_too_long() {
        let of = |subject: &str| Email::new("a@b", subject, "").subject;
        assert_eq!(of("a\r\nBcc: x@y\u{7f}"), "a  Bcc: x@y ");
        let long = "é".repeat(MAX_SUBJECT_CHARS);
        assert_eq!(of(&long), long);
        let cut = of(&format!("{long}x"));
        assert_eq!((cut.chars().count(), cut.chars().last()), (MAX_SUBJECT_CHARS, Some('…')));
    }
}
