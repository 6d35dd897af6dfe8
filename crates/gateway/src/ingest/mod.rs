//! How posted events come in: from bytes to a checked event, through a bounded queue to the tasks that store them in
//! groups, and back with what became of them.
//!
//! A request waits for the commit that holds its events. Two lanes lead there: events with an `Idempotency-Key` may have
//! to wait for another request with the same key, and must not keep the others waiting.

pub(crate) mod batch;
mod flusher;
mod parse;

use std::{sync::Arc, time::Duration};

use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    event::NewEvent,
    idempotency::{Earlier, Key},
};
use tokio::sync::{Mutex, mpsc, oneshot};

pub(crate) use flusher::{Flusher, Lane, Limits};
pub(crate) use parse::{Source, Taken, event, on_thread, trace_of};

use crate::{body::Reserved, metrics::Metrics, problem};

/// The key of a request and what is answered when it is the first.
#[derive(Debug)]
pub(crate) struct Claim {
    /// The key.
    pub(crate) key: Key,
    /// Status of the answer.
    pub(crate) status: u16,
    /// Body of the answer.
    pub(crate) body: Vec<u8>,
}

/// What became of a request's events: `None` when they are stored now.
type Outcome = Result<Option<Earlier>, ApiError>;

/// One request's events on their way.
#[derive(Debug)]
struct Job {
    events: Vec<NewEvent>,
    claim: Option<Claim>,
    /// Memory that the events take, until they are stored. Stays with them when the client goes away.
    _reserved: Reserved,
    answer: oneshot::Sender<Outcome>,
}

/// The entrance of the queue.
#[derive(Debug)]
pub(crate) struct Ingest {
    plain: mpsc::Sender<Job>,
    keyed: mpsc::Sender<Job>,
    metrics: Metrics,
}

/// The exit of the queue, for the tasks of both lanes.
#[derive(Debug)]
pub(crate) struct Exits {
    /// Events without a key.
    pub(crate) plain: Exit,
    /// Events with a key.
    pub(crate) keyed: Exit,
}

/// The exit of one lane. The tasks that share it take turns.
#[derive(Clone, Debug)]
pub(crate) struct Exit(Arc<Mutex<Door>>);

#[derive(Debug)]
struct Door {
    jobs: mpsc::Receiver<Job>,
    /// When the last group was taken.
    taken: Option<tokio::time::Instant>,
}

impl Ingest {
    /// A queue in which each lane holds so many requests.
    pub(crate) fn new(capacity: u32, metrics: Metrics) -> (Self, Exits) {
        let (plain, plain_exit) = mpsc::channel(capacity as usize);
        let (keyed, keyed_exit) = mpsc::channel(capacity as usize);
        let exit = |jobs| Exit(Arc::new(Mutex::new(Door { jobs, taken: None })));
        (Self { plain, keyed, metrics }, Exits { plain: exit(plain_exit), keyed: exit(keyed_exit) })
    }

    /// Stores events and returns when they are committed; with what was answered before, when the claim's key was used.
    ///
    /// # Errors
    /// 503 `OVERLOADED` at once when too many wait; 503 when the database is away; 409 when another request with the key
    /// does not end. Nothing is stored then, unless the connection broke while it was committed.
    pub(crate) async fn accept(
        &self,
        events: Vec<NewEvent>,
        claim: Option<Claim>,
        reserved: Reserved,
    ) -> Outcome {
        let lane = if claim.is_some() { &self.keyed } else { &self.plain };
        let (answer, answered) = oneshot::channel();
        // Counted before it is sent, as it may be taken at once.
        self.metrics.waiting.inc();
        let job = Job { events, claim, _reserved: reserved, answer };
        if let Err(refused) = lane.try_send(job) {
            self.metrics.waiting.dec();
            return Err(match refused {
                mpsc::error::TrySendError::Full(_) => {
                    self.metrics.refused.inc();
                    problem::overloaded("too many events wait to be stored")
                }
                mpsc::error::TrySendError::Closed(_) => stopping(),
            });
        }
        answered.await.unwrap_or_else(|_ended| Err(stopping()))
    }
}

fn stopping() -> ApiError {
    ApiError::unavailable("the gateway is stopping", Duration::from_secs(1))
}
