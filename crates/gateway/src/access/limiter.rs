//! Rate limits, exact over all gateways. One task asks Postgres for all requests that wait at that moment, so that a
//! request pays a share of a statement and not a round trip; where a limit is far from spent, not even that ([`ample`]).
//!
//! The windows themselves are `domain::rate_limit`'s. A limit that is spent stays spent until its window ends: that is
//! remembered, so that refusing costs no query.

mod ample;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    clock::Clock,
    db::Db,
    rate_limit::{self, Ask, Bucket, Grant},
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::ample::Ample;
use crate::problem;

/// Requests that may wait for the limiter; more are told to come back.
const QUEUE: usize = 16_384;

/// Requests that are counted in one statement.
const GROUP: usize = 1_024;

/// How long requests that have passed already are gathered before they are counted. Short against the time for which what is
/// known of a limit counts (`ample::FRESH`).
const BEHIND: Duration = Duration::from_millis(10);

/// Spent limits that are remembered. One that is forgotten costs a statement per request, and stays spent.
const REMEMBERED: usize = 65_536;

type Subject = (Uuid, Bucket);

/// What a limit leaves to whoever has just asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Whether the request may pass.
    pub(crate) granted: bool,
    /// Requests in a window.
    pub(crate) limit: u32,
    /// Requests that may still pass in this window.
    pub(crate) remaining: u32,
    /// When the window ends.
    pub(crate) resets_at: DateTime<Utc>,
    /// Whether this was the last request that may pass: true for one request in a window, over all gateways.
    pub(crate) is_last: bool,
}

/// The door to the counting task.
#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    waiting: mpsc::Sender<Waiting>,
    /// Told when somebody waits for the answer.
    urgent: Arc<Notify>,
    spent: Spent,
    ample: Ample,
}

/// The counting task.
#[derive(Debug)]
pub(crate) struct Counter {
    waiting: mpsc::Receiver<Waiting>,
    urgent: Arc<Notify>,
    spent: Spent,
    ample: Ample,
    db: Db,
    clock: Clock,
}

#[derive(Debug)]
struct Waiting {
    subject: Subject,
    limit: u32,
    /// Whoever waits for the answer; nobody does when the request has passed already.
    answer: Option<oneshot::Sender<Result<Allowance, ApiError>>>,
}

/// The limits that are spent.
#[derive(Clone, Debug, Default)]
struct Spent(Arc<Mutex<SpentLimits>>);

/// By subject: the limit, and until when it is spent.
type SpentLimits = HashMap<Subject, (u32, DateTime<Utc>)>;

impl Limiter {
    /// A limiter and the task that has to run for it.
    pub(crate) fn new(db: Db, clock: Clock) -> (Self, Counter) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (spent, ample) = (Spent::default(), Ample::default());
        let urgent = Arc::new(Notify::new());
        let counter = Counter {
            waiting: receiver,
            urgent: Arc::clone(&urgent),
            spent: spent.clone(),
            ample: ample.clone(),
            db,
            clock,
        };
        (Self { waiting: sender, urgent, spent, ample }, counter)
    }

    /// Counts one request. `limit` is not 0.
    ///
    /// # Errors
    /// 503 when it cannot be counted: a limit that is not known to hold is not passed.
    pub(crate) async fn ask(
        &self,
        subject: Subject,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<Allowance, ApiError> {
        if let Some(refused) = self.spent(subject, limit, now) {
            return Ok(refused);
        }
        let full = |_full| problem::overloaded("too many requests wait to be counted");
        if let Some(admitted) = self.ample.admit(subject, limit, (now, Instant::now())) {
            let sent = self.waiting.try_send(Waiting { subject, limit, answer: None });
            return sent.map(|()| admitted).map_err(|error| {
                self.ample.take_back(subject);
                full(error)
            });
        }
        let (answer, answered) = oneshot::channel();
        self.waiting.try_send(Waiting { subject, limit, answer: Some(answer) }).map_err(full)?;
        self.urgent.notify_one();
        answered
            .await
            .map_err(|_ended| ApiError::unavailable("the gateway is stopping", Duration::from_secs(1)))?
    }

    /// The refusal, if it is known without asking that this limit is spent.
    pub(crate) fn spent(&self, subject: Subject, limit: u32, now: DateTime<Utc>) -> Option<Allowance> {
        let (spent, resets_at) = self.spent.lock().get(&subject).copied()?;
        (spent >= limit && now < resets_at).then_some(Allowance {
            granted: false,
            limit,
            remaining: 0,
            resets_at,
            is_last: false,
        })
    }
}

impl Spent {
    fn lock(&self) -> MutexGuard<'_, SpentLimits> {
        // Nothing that runs under this lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, subject: Subject, limit: u32, resets_at: DateTime<Utc>, now: DateTime<Utc>) {
        let mut spent = self.lock();
        if spent.len() >= REMEMBERED {
            spent.retain(|_, (_, until)| now < *until);
        }
        if spent.len() < REMEMBERED {
            spent.insert(subject, (limit, resets_at));
        }
    }
}

impl Counter {
    /// Counts until `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            let received = tokio::select! {
                biased;
                received = self.waiting.recv_many(&mut group, GROUP) => received,
                () = stop.cancelled() => return,
            };
            if received == 0 {
                return;
            }
            if group.iter().all(|waiting| waiting.answer.is_none()) {
                // Nobody waits: some more may come, and are counted with the same statement.
                tokio::select! {
                    () = tokio::time::sleep(BEHIND) => {}
                    () = self.urgent.notified() => {}
                    () = stop.cancelled() => {}
                }
                while group.len() < GROUP
                    && let Ok(waiting) = self.waiting.try_recv()
                {
                    group.push(waiting);
                }
            }
            self.count(std::mem::take(&mut group)).await;
        }
    }

    async fn count(&self, group: Vec<Waiting>) {
        let (now, looked_at) = (self.clock.now(), Instant::now());
        let (asks, members) = sum(group);
        let asks = Arc::new(asks);
        let counted = {
            let asks = Arc::clone(&asks);
            self.db.once(move |conn| rate_limit::count(conn, &asks, now)).await
        };
        match counted {
            Ok(grants) => {
                for ((ask, grant), members) in asks.iter().zip(grants).zip(members) {
                    let subject = (ask.subject, ask.bucket);
                    if grant.remaining == 0 {
                        self.spent.remember(subject, ask.limit, grant.resets_at, now);
                    }
                    let behind = members.iter().filter(|waiting| waiting.answer.is_none()).count();
                    let behind = u32::try_from(behind).unwrap_or(u32::MAX);
                    self.ample.note(subject, ask.limit, &grant, behind, looked_at);
                    hand_out(ask.limit, grant, members);
                }
            }
            Err(error) => {
                let refusal = problem::of(error);
                for waiting in members.into_iter().flatten() {
                    match waiting.answer {
                        // Whoever no longer waits does not need to be told.
                        Some(answer) => drop(answer.send(Err(refusal.clone()))),
                        // It has passed, and is never counted: the database went away meanwhile.
                        None => self.ample.take_back(waiting.subject),
                    }
                }
            }
        }
    }
}

/// One ask for each subject, and who is behind it, in the order in which they came.
fn sum(group: Vec<Waiting>) -> (Vec<Ask>, Vec<Vec<Waiting>>) {
    let mut places: HashMap<Subject, usize> = HashMap::new();
    let mut asks: Vec<Ask> = Vec::new();
    let mut members: Vec<Vec<Waiting>> = Vec::new();
    for waiting in group {
        let (subject, bucket) = waiting.subject;
        let place = *places.entry(waiting.subject).or_insert(asks.len());
        if place == asks.len() {
            asks.push(Ask { subject, bucket, requests: 0, limit: waiting.limit });
            members.push(Vec::new());
        }
        asks[place].requests += 1;
        // A limit that was changed just now: the later one.
        asks[place].limit = waiting.limit;
        members[place].push(waiting);
    }
    (asks, members)
}

fn hand_out(limit: u32, grant: Grant, members: Vec<Waiting>) {
    for (waiting, place) in members.into_iter().zip(0_u32..) {
        let granted = place < grant.granted;
        let behind = if granted { grant.granted - place - 1 } else { 0 };
        let remaining = if granted { grant.remaining + behind } else { 0 };
        let is_last = grant.filled && place + 1 == grant.granted;
        let allowance = Allowance { granted, limit, remaining, resets_at: grant.resets_at, is_last };
        if let Some(answer) = waiting.answer {
            let _gone = answer.send(Ok(allowance));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(subject: u128, limit: u32) -> (Waiting, oneshot::Receiver<Result<Allowance, ApiError>>) {
        let (answer, answered) = oneshot::channel();
        let subject = (Uuid::from_u128(subject), Bucket::Requests);
        (Waiting { subject, limit, answer: Some(answer) }, answered)
    }

    #[test]
    fn grants_are_handed_out_in_order() {
        let (group, answers): (Vec<_>, Vec<_>) = (0..5).map(|_| waiting(1, 10)).unzip();
        let (asks, mut members) = sum(group);
        assert_eq!((asks.len(), asks[0].requests), (1, 5));
        let grant = Grant { granted: 3, remaining: 0, resets_at: DateTime::UNIX_EPOCH, filled: true };
        hand_out(10, grant, members.remove(0));
        let told: Vec<(bool, u32, bool)> = answers
            .into_iter()
            .map(|mut answer| answer.try_recv().unwrap().unwrap())
            .map(|allowance| (allowance.granted, allowance.remaining, allowance.is_last))
            .collect();
        let expected =
            [(true, 2, false), (true, 1, false), (true, 0, true), (false, 0, false), (false, 0, false)];
        assert_eq!(told, expected);
    }

    #[test]
    fn subjects_are_summed_apart() {
        let group = [1, 2, 1].map(|subject| waiting(subject, 10).0).into();
        let (asks, members) = sum(group);
        assert_eq!(asks.iter().map(|ask| ask.requests).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(members.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn what_is_spent_is_remembered_until_its_window_ends() {
        let spent = Spent::default();
        let (sender, _receiver) = mpsc::channel(1);
        let limiter = Limiter {
            waiting: sender,
            urgent: Arc::default(),
            spent: spent.clone(),
            ample: Ample::default(),
        };
        let subject = (Uuid::from_u128(1), Bucket::Samples);
        let now = DateTime::UNIX_EPOCH;
        let end = now + chrono::TimeDelta::seconds(60);
        assert_eq!(limiter.spent(subject, 5, now), None);
        spent.remember(subject, 5, end, now);
        assert!(limiter.spent(subject, 5, now).is_some_and(|refusal| !refusal.granted));
        assert_eq!(limiter.spent(subject, 6, now), None, "the limit was raised");
        assert_eq!(limiter.spent(subject, 5, end), None, "the window is over");
    }
}
