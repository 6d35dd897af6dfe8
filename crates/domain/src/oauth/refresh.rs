//! What becomes of a refresh token that is presented: the rule of rotation, pure.

use chrono::{DateTime, Utc};

use super::{GRACE, UNUSED_LIFE};

/// What a presented refresh token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not used yet: it is exchanged.
    First,
    /// Used a moment ago: whoever shares it gets a pair of their own.
    WithinGrace,
    /// Used long ago. Two have it, and one of them should not: the family ends.
    Reused,
    /// Nobody used it for so long that it is no longer taken.
    Expired,
}

/// Judges a refresh token by when it was made and first used. A token that is in use never expires, as each use makes a new
/// one.
#[must_use]
pub fn judge(created_at: DateTime<Utc>, used_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Verdict {
    match used_at {
        None if now - created_at > UNUSED_LIFE => Verdict::Expired,
        None => Verdict::First,
        Some(used_at) if now - used_at <= GRACE => Verdict::WithinGrace,
        Some(_) => Verdict::Reused,
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_token_is_judged_by_its_first_use() {
        let made = DateTime::UNIX_EPOCH;
        let (day, second) = (TimeDelta::days(1), TimeDelta::seconds(1));
        for (used_after, asked_after, expected) in [
            (None, second, Verdict::First),
            (None, day * 180, Verdict::First),
            (None, day * 180 + TimeDelta::microseconds(1), Verdict::Expired),
            (Some(day), day, Verdict::WithinGrace),
            (Some(day), day + second * 60, Verdict::WithinGrace),
            (Some(day), day + second * 60 + TimeDelta::microseconds(1), Verdict::Reused),
            (Some(day), day + second * 61, Verdict::Reused),
            (Some(day), day * 400, Verdict::Reused),
            // The clock of another gateway is a little ahead.
            (Some(day + second), day, Verdict::WithinGrace),
        ] {
            let used_at = used_after.map(|after| made + after);
            assert_eq!(judge(made, used_at, made + asked_after), expected, "{used_after:?} {asked_after}");
        }
    }
}
