//! The way of new tasks to the database: they wait in a bounded queue, and those that wait are stored together with one
//! transaction. While one group commits, the next fills; there is no timer.

use std::sync::Arc;

use actix_web::web::Data;
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    id::TenantId,
    idempotency::{self, Earlier, Key},
    task::{AgentType, NewTask, budget, store},
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::rings;
use crate::{access::idempotent, body::Reserved, context::Context, problem};

/// Tasks that are stored together at most.
const GROUP: usize = 200;
/// Tasks that wait in each lane at most; more are refused at once.
const CAPACITY: usize = 2_000;
/// Groups of each lane that are stored at the same time.
const AT_ONCE: usize = 2;

/// The key of a request, and status and body of what is answered when it is the first.
pub(crate) type Claim = (Key, u16, Vec<u8>);

/// What became of a task.
#[derive(Debug)]
pub(crate) enum Made {
    /// It is stored.
    Stored,
    /// The same request came before: this was answered.
    Earlier(Earlier),
}

/// A task on its way.
#[derive(Debug)]
struct Job {
    task: NewTask,
    claim: Option<Claim>,
    _reserved: Reserved,
    answer: oneshot::Sender<Result<Made, ApiError>>,
}

/// The entrance.
#[derive(Debug)]
pub(crate) struct Intake {
    plain: mpsc::Sender<Job>,
    keyed: mpsc::Sender<Job>,
}

/// The exits of both lanes.
#[derive(Debug)]
pub(crate) struct Exits {
    lanes: [Arc<Mutex<mpsc::Receiver<Job>>>; 2],
}

impl Intake {
    pub(crate) fn new() -> (Self, Exits) {
        let (plain, plain_exit) = mpsc::channel(CAPACITY);
        let (keyed, keyed_exit) = mpsc::channel(CAPACITY);
        let lanes = [plain_exit, keyed_exit].map(|exit| Arc::new(Mutex::new(exit)));
        (Self { plain, keyed }, Exits { lanes })
    }

    /// Stores a task and returns when it is committed.
    ///
    /// # Errors
    /// 402 when the tenant's budget is used up; 409 and 422 of the key; 503 when too many wait or the database is away.
    pub(crate) async fn make(
        &self,
        task: NewTask,
        claim: Option<Claim>,
        reserved: Reserved,
    ) -> Result<Made, ApiError> {
        let lane = if claim.is_some() { &self.keyed } else { &self.plain };
        let (answer, answered) = oneshot::channel();
        let job = Job { task, claim, _reserved: reserved, answer };
        lane.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => problem::overloaded("too many tasks wait to be stored"),
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })?;
        answered.await.unwrap_or_else(|_ended| Err(stopping()))
    }
}

fn stopping() -> ApiError {
    ApiError::unavailable("the gateway is stopping", std::time::Duration::from_secs(1))
}

/// One of those that store.
#[derive(Debug)]
pub(crate) struct Maker {
    exit: Arc<Mutex<mpsc::Receiver<Job>>>,
    context: Data<Context>,
}

/// What a group came to.
struct Outcome {
    /// For each: why its tenant may make no task, or what was answered to the same request.
    each: Vec<Result<Option<Earlier>, String>>,
}

impl Maker {
    /// All of them.
    pub(crate) fn all(context: &Data<Context>, exits: &Exits) -> Vec<Self> {
        let lanes = exits.lanes.iter().flat_map(|exit| std::iter::repeat_n(exit, AT_ONCE));
        lanes.map(|exit| Self { exit: Arc::clone(exit), context: context.clone() }).collect()
    }

    /// Stores tasks until `stop` is cancelled and the queue is empty.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while let Some(group) = self.next(&stop).await {
            self.store(group).await;
        }
    }

    async fn next(&self, stop: &CancellationToken) -> Option<Vec<Job>> {
        let mut exit = self.exit.lock().await;
        let first = tokio::select! {
            biased;
            first = exit.recv() => first?,
            () = stop.cancelled() => {
                exit.close();
                exit.recv().await?
            }
        };
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(job) = exit.try_recv()
        {
            group.push(job);
        }
        Some(group)
    }

    async fn store(&self, group: Vec<Job>) {
        let now = self.context.clock.now();
        let parts: Arc<Vec<(NewTask, Option<Claim>)>> =
            Arc::new(group.iter().map(|job| (job.task.clone(), job.claim.clone())).collect());
        let (settings, vault) = (self.context.settings.tasks.clone(), self.context.vault.clone());
        let stored = {
            let parts = Arc::clone(&parts);
            self.context
                .db
                .run(move |conn| {
                    let tenants: Vec<TenantId> = parts.iter().map(|(task, _)| task.tenant).collect();
                    let spent = budget::spent(conn, &tenants, now)?;
                    let allowed = |task: &NewTask| !spent.contains_key(&task.tenant);
                    let claims: Vec<Claim> = parts
                        .iter()
                        .filter(|(task, _)| allowed(task))
                        .filter_map(|(_, claim)| claim.clone())
                        .collect();
                    let mut earlier =
                        if claims.is_empty() { Vec::new() } else { idempotency::claim(conn, &claims, now)? }
                            .into_iter();
                    let (mut each, mut new) = (Vec::with_capacity(parts.len()), Vec::new());
                    for (task, claim) in parts.iter() {
                        if let Some(reason) = spent.get(&task.tenant) {
                            each.push(Err(reason.clone()));
                            continue;
                        }
                        let before = if claim.is_some() { earlier.next().flatten() } else { None };
                        if before.is_none() {
                            new.push(task);
                        }
                        each.push(Ok(before));
                    }
                    store::put(conn, &settings, &vault, &new, now)?;
                    Ok(Outcome { each })
                })
                .await
        };
        match stored {
            Ok(outcome) => self.answer(group, outcome),
            // Somebody's key is held, or somebody's task is refused: the others must not pay for it.
            Err(Error::Locked | Error::Database(_)) if group.len() > 1 => {
                drop(parts);
                for job in group {
                    Box::pin(self.store(vec![job])).await;
                }
            }
            Err(Error::Locked) if group.iter().all(|job| job.claim.is_some()) => {
                refuse(group, &idempotent::in_flight());
            }
            Err(error) => refuse(group, &problem::of(error)),
        }
    }

    fn answer(&self, group: Vec<Job>, outcome: Outcome) {
        let mut queued: Vec<(TenantId, AgentType)> = Vec::new();
        for (job, each) in group.into_iter().zip(outcome.each) {
            let told = match each {
                Ok(None) => {
                    let waits = (job.task.tenant, job.task.agent_type);
                    if !queued.contains(&waits) {
                        queued.push(waits);
                    }
                    Ok(Made::Stored)
                }
                Ok(Some(earlier)) => Ok(Made::Earlier(earlier)),
                Err(reason) => Err(problem::of(Error::BudgetExceeded { reason })),
            };
            // Whoever asked may have gone.
            let _gone = job.answer.send(told);
        }
        rings::queued(&self.context, &queued);
    }
}

fn refuse(group: Vec<Job>, error: &ApiError) {
    for job in group {
        let _gone = job.answer.send(Err(error.clone()));
    }
}
