//! How posted events come in: from bytes to a checked event, through a bounded queue to the tasks that store them in
//! groups, and back with what became of them.
//!
//! A request waits for the commit that holds its events. Those whose `Idempotency-Key` was used, or is being used by another
//! request, change to a lane of their own: they may have to wait, and must not keep the others waiting.

pub(crate) mod batch;
mod flusher;
mod pace;
mod parse;

use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    event::NewEvent,
    idempotency::{Earlier, Key},
};
use tokio::sync::{mpsc, oneshot};

pub(crate) use flusher::{Flusher, Lane, Limits};
pub(crate) use pace::Pace;
pub(crate) use parse::{Source, Taken, event, on_thread, trace_of};

use crate::{
    body::Reserved,
    gather::{self, Exit, stopping},
    metrics::Metrics,
    problem,
};

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
pub(crate) struct Job {
    events: Vec<NewEvent>,
    claim: Option<Claim>,
    /// Memory that the events take, until they are stored. Stays with them when the client goes away.
    _reserved: Reserved,
    answer: oneshot::Sender<Outcome>,
}

/// The entrance of the queue.
#[derive(Debug)]
pub(crate) struct Ingest {
    entrance: Entrance,
}

/// Where one lane begins.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    jobs: mpsc::Sender<Job>,
    metrics: Metrics,
}

/// What the tasks of both lanes work on.
#[derive(Debug)]
pub(crate) struct Exits {
    /// All requests.
    pub(crate) first: Exit<Job>,
    /// Where the first lane's tasks put those whose key was used.
    pub(crate) change: Entrance,
    /// Those.
    pub(crate) again: Exit<Job>,
}

impl Ingest {
    /// A queue in which each lane holds so many requests.
    pub(crate) fn new(capacity: u32, metrics: Metrics) -> (Self, Exits) {
        let lane = || {
            let (jobs, exit) = gather::lane(capacity);
            (Entrance { jobs, metrics: metrics.clone() }, exit)
        };
        let ((entrance, first), (change, again)) = (lane(), lane());
        (Self { entrance }, Exits { first, change, again })
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
        let (answer, answered) = oneshot::channel();
        self.entrance.enter(Job { events, claim, _reserved: reserved, answer });
        answered.await.unwrap_or_else(|_ended| Err(stopping()))
    }
}

impl Entrance {
    /// Puts a request into the lane, or refuses it at once.
    fn enter(&self, job: Job) {
        // Counted before it is sent, as it may be taken at once.
        self.metrics.waiting.inc();
        let Err(refused) = self.jobs.try_send(job) else { return };
        self.metrics.waiting.dec();
        let (job, error) = match refused {
            mpsc::error::TrySendError::Full(job) => {
                self.metrics.refused.inc();
                (job, problem::overloaded("too many events wait to be stored"))
            }
            mpsc::error::TrySendError::Closed(job) => (job, stopping()),
        };
        job.end(Err(error));
    }
}

impl Job {
    /// Tells the client what became of it.
    fn end(self, outcome: Outcome) {
        // A client that went away does not need to be told.
        let _gone = self.answer.send(outcome);
    }
}
