//! Limits of which so much is left that a request need not wait until it is counted: it passes, and is counted behind.
//!
//! That keeps limits exact. Of a limit with more than [`AMPLE`] left, a gateway lets at most [`UNCOUNTED`] requests pass
//! ahead of their counting, and only while it has looked within [`FRESH`]. To pass one request too many, other gateways
//! would have to use up [`AMPLE`] within that time: more than a million requests per second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use hookyard_domain::rate_limit::Grant;

use super::{Allowance, Subject};

/// So many requests have to be left of a limit. Limits below are always counted first; they are those of clients that
/// send no more than a thousand requests per second.
const AMPLE: u32 = 65_536;

/// Requests that may have passed and not been counted, of one limit at one gateway. [`AMPLE`] holds this of 64 gateways.
const UNCOUNTED: u32 = 1_024;

/// How long what is known of a limit counts.
const FRESH: Duration = Duration::from_millis(50);

/// Limits that are known at the same time; of others every request is counted first.
const KNOWN: usize = 4_096;

/// What is known of limits.
#[derive(Clone, Debug, Default)]
pub(super) struct Ample(Arc<Mutex<HashMap<Subject, Standing>>>);

#[derive(Clone, Copy, Debug)]
struct Standing {
    limit: u32,
    /// What was left when it was looked.
    remaining: u32,
    /// What passed since and has not been counted.
    uncounted: u32,
    resets_at: DateTime<Utc>,
    looked_at: Instant,
}

impl Ample {
    fn lock(&self) -> MutexGuard<'_, HashMap<Subject, Standing>> {
        // Nothing that runs under this lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request pass that is to be counted behind. `None` when it has to be counted first.
    pub(super) fn admit(
        &self,
        subject: Subject,
        limit: u32,
        (now, instant): (DateTime<Utc>, Instant),
    ) -> Option<Allowance> {
        let mut known = self.lock();
        let standing = known.get_mut(&subject)?;
        let ample = standing.limit == limit
            && AMPLE < standing.remaining
            && standing.uncounted < UNCOUNTED
            && now < standing.resets_at
            && instant.saturating_duration_since(standing.looked_at) < FRESH;
        if !ample {
            return None;
        }
        standing.uncounted += 1;
        let remaining = standing.remaining - standing.uncounted;
        Some(Allowance { granted: true, limit, remaining, resets_at: standing.resets_at, is_last: false })
    }

    /// Takes back what was admitted and will not be counted.
    pub(super) fn take_back(&self, subject: Subject) {
        if let Some(standing) = self.lock().get_mut(&subject) {
            standing.uncounted = standing.uncounted.saturating_sub(1);
        }
    }

    /// Notes what a count came to: `behind` of its requests had passed before. `looked_at` is when it was begun.
    pub(super) fn note(&self, subject: Subject, limit: u32, grant: &Grant, behind: u32, looked_at: Instant) {
        let mut known = self.lock();
        if known.len() >= KNOWN && !known.contains_key(&subject) {
            known.retain(|_, standing| standing.uncounted > 0 || standing.looked_at.elapsed() < FRESH);
            if known.len() >= KNOWN {
                return;
            }
        }
        let uncounted = known.get(&subject).map_or(0, |standing| standing.uncounted.saturating_sub(behind));
        let (remaining, resets_at) = (grant.remaining, grant.resets_at);
        known.insert(subject, Standing { limit, remaining, uncounted, resets_at, looked_at });
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use hookyard_domain::rate_limit::Bucket;
    use uuid::Uuid;

    use super::*;

    const SUBJECT: Subject = (Uuid::from_u128(1), Bucket::Requests);
    const LIMIT: u32 = 1_000_000;

    fn grant(remaining: u32) -> Grant {
        let resets_at = DateTime::UNIX_EPOCH + TimeDelta::seconds(60);
        Grant { granted: 1, remaining, resets_at, filled: remaining == 0 }
    }

    #[test]
    fn only_what_is_ample_passes_ahead_of_its_counting() {
        let (now, instant) = (DateTime::UNIX_EPOCH, Instant::now());
        for (remaining, limit, later_ms, clock_s, passes) in [
            (AMPLE + 1, LIMIT, 0, 0, true),
            (AMPLE, LIMIT, 0, 0, false),
            (AMPLE + 1, LIMIT - 1, 0, 0, false),
            (AMPLE + 1, LIMIT, 49, 0, true),
            (AMPLE + 1, LIMIT, 50, 0, false),
            (AMPLE + 1, LIMIT, 0, 59, true),
            (AMPLE + 1, LIMIT, 0, 60, false),
        ] {
            let ample = Ample::default();
            ample.note(SUBJECT, LIMIT, &grant(remaining), 0, instant);
            let at = (now + TimeDelta::seconds(clock_s), instant + Duration::from_millis(later_ms));
            assert_eq!(
                ample.admit(SUBJECT, limit, at).is_some(),
                passes,
                "{remaining} {limit} {later_ms} {clock_s}"
            );
        }
        assert_eq!(Ample::default().admit(SUBJECT, LIMIT, (now, instant)), None, "nothing is known");
    }

    #[test]
    fn so_many_pass_ahead_and_no_more_until_they_are_counted() {
        let at = (DateTime::UNIX_EPOCH, Instant::now());
        let ample = Ample::default();
        ample.note(SUBJECT, LIMIT, &grant(LIMIT / 2), 0, at.1);
        for passed in 1..=UNCOUNTED {
            assert_eq!(ample.admit(SUBJECT, LIMIT, at).unwrap().remaining, LIMIT / 2 - passed);
        }
        assert_eq!(ample.admit(SUBJECT, LIMIT, at), None);
        ample.take_back(SUBJECT);
        assert!(ample.admit(SUBJECT, LIMIT, at).is_some());
        ample.note(SUBJECT, LIMIT, &grant(LIMIT / 2 - 10), 10, at.1);
        let passing = (0..UNCOUNTED).take_while(|_| ample.admit(SUBJECT, LIMIT, at).is_some()).count();
        assert_eq!(passing, 10, "as many as were counted");
    }
}
