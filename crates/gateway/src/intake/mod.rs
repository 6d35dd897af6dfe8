//! The way of new tasks and action runs to the database: they wait in a bounded queue, and those that wait are stored together
//! with one transaction. While one group commits, the next fills.

mod action_runs;
mod tasks;

use std::{collections::HashMap, fmt::Debug, sync::Arc, time::Duration};

use actix_web::web::Data;
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error, Result as DomainResult,
    db::Conn,
    idempotency::{self, Earlier, Key},
    task::NewTask,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub(crate) use action_runs::AskedRun;

use crate::{
    access::idempotent,
    body::Reserved,
    context::Context,
    gather::{self, Exit, stopping},
    problem,
};

/// Items that are stored together at most.
const GROUP: usize = 200;
/// Groups of each lane that are stored at the same time.
const AT_ONCE: usize = 2;

/// The key of a request, and status and body of what is answered when it is the first.
pub(crate) type Claim = (Key, u16, Vec<u8>);

/// What becomes of an item: `None` when it is stored now, what was answered before when its key was used.
pub(crate) type Made = Result<Option<Earlier>, ApiError>;

/// What is stored in groups.
pub(crate) trait Item: Clone + Debug + Send + Sync + 'static {
    /// What they are called: "tasks".
    const PLURAL: &'static str;

    /// The least time between the beginnings of two groups: what comes after a pause is stored at once, what follows closely
    /// waits for each other.
    const PACE: Duration;

    /// Which of them may not be stored, and why.
    ///
    /// # Errors
    /// When the database is away.
    fn refused(conn: &mut Conn, items: &[&Self], now: DateTime<Utc>) -> DomainResult<Vec<Option<ApiError>>>;

    /// Stores them, in the transaction that keeps their keys.
    ///
    /// # Errors
    /// When the database is away, or refuses one.
    fn put(conn: &mut Conn, context: &Context, items: &[&Self], now: DateTime<Utc>) -> DomainResult<()>;

    /// Rings for those who wait for such.
    fn ring(context: &Data<Context>, stored: &[Self]);
}

/// An item on its way.
#[derive(Debug)]
struct Job<T> {
    item: T,
    claim: Option<Claim>,
    _reserved: Reserved,
    answer: oneshot::Sender<Made>,
}

/// The entrance. Items with a key may have to wait for another request, and have a lane of their own.
#[derive(Debug)]
pub(crate) struct Intake<T> {
    plain: mpsc::Sender<Job<T>>,
    keyed: mpsc::Sender<Job<T>>,
}

/// The exits of both lanes.
#[derive(Debug)]
pub(crate) struct Exits<T>([Exit<Job<T>>; 2]);

/// Both entrances.
#[derive(Debug)]
pub(crate) struct Intakes {
    /// Of tasks.
    pub(crate) tasks: Intake<NewTask>,
    /// Of action runs.
    pub(crate) action_runs: Intake<AskedRun>,
}

/// Both pairs of exits.
#[derive(Debug)]
pub(crate) struct AllExits {
    tasks: Exits<NewTask>,
    action_runs: Exits<AskedRun>,
}

impl Intakes {
    /// With room for so many requests in each lane.
    pub(crate) fn new(capacity: u32) -> (Self, AllExits) {
        let (tasks, task_exits) = Intake::new(capacity);
        let (action_runs, run_exits) = Intake::new(capacity);
        (Self { tasks, action_runs }, AllExits { tasks: task_exits, action_runs: run_exits })
    }
}

impl AllExits {
    /// Starts those that store; they end when `stop` is cancelled and nothing waits.
    pub(crate) fn start(self, context: &Data<Context>, running: &mut JoinSet<()>, stop: &CancellationToken) {
        self.tasks.start(context, running, stop);
        self.action_runs.start(context, running, stop);
    }
}

impl<T: Item> Exits<T> {
    fn start(self, context: &Data<Context>, running: &mut JoinSet<()>, stop: &CancellationToken) {
        for exit in self.0.iter().flat_map(|exit| std::iter::repeat_n(exit, AT_ONCE)) {
            let maker = Maker { exit: exit.clone(), context: context.clone() };
            running.spawn(maker.run(stop.clone()));
        }
    }
}

impl<T: Item> Intake<T> {
    fn new(capacity: u32) -> (Self, Exits<T>) {
        let ((plain, plain_exit), (keyed, keyed_exit)) = (gather::lane(capacity), gather::lane(capacity));
        (Self { plain, keyed }, Exits([plain_exit, keyed_exit]))
    }

    /// Stores an item and returns when it is committed.
    ///
    /// # Errors
    /// What it is refused with; 409 and 422 of the key; 503 when too many wait or the database is away.
    pub(crate) async fn make(&self, item: T, claim: Option<Claim>, reserved: Reserved) -> Made {
        let lane = if claim.is_some() { &self.keyed } else { &self.plain };
        let (answer, answered) = oneshot::channel();
        let job = Job { item, claim, _reserved: reserved, answer };
        lane.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                problem::overloaded(&format!("too many {} wait to be stored", T::PLURAL))
            }
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })?;
        answered.await.unwrap_or_else(|_ended| Err(stopping()))
    }
}

/// One of those that store.
#[derive(Debug)]
struct Maker<T> {
    exit: Exit<Job<T>>,
    context: Data<Context>,
}

impl<T: Item> Maker<T> {
    async fn run(self, stop: CancellationToken) {
        while let Some(group) = self.next(&stop).await {
            self.store(group).await;
        }
    }

    async fn next(&self, stop: &CancellationToken) -> Option<Vec<Job<T>>> {
        let mut taken = 0;
        let has_room = |_: &Job<T>| {
            taken += 1;
            taken < GROUP
        };
        self.exit.group(Some(stop), T::PACE, has_room).await
    }

    async fn store(&self, group: Vec<Job<T>>) {
        let now = self.context.clock.now();
        let parts: Arc<Vec<(T, Option<Claim>)>> =
            Arc::new(group.iter().map(|job| (job.item.clone(), job.claim.clone())).collect());
        let stored = {
            let (parts, context) = (Arc::clone(&parts), self.context.clone().into_inner());
            self.context.db.run(move |conn| write(conn, &context, &parts, now)).await
        };
        match stored {
            Ok(each) => self.answer(group, each),
            // Somebody's key is held, or somebody's item is refused: the others must not pay for it.
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

    fn answer(&self, group: Vec<Job<T>>, each: Vec<Made>) {
        let mut stored = Vec::with_capacity(group.len());
        for (job, made) in group.into_iter().zip(each) {
            if matches!(made, Ok(None)) {
                stored.push(job.item);
            }
            // Whoever asked may have gone.
            let _gone = job.answer.send(made);
        }
        if !stored.is_empty() {
            T::ring(&self.context, &stored);
        }
    }
}

/// One transaction for all. An answer that was given before is given again whatever holds now; what is refused leaves no
/// key, and what stood behind it with the same key is refused, too, or, being another request, is looked at by itself.
fn write<T: Item>(
    conn: &mut Conn,
    context: &Context,
    parts: &[(T, Option<Claim>)],
    now: DateTime<Utc>,
) -> DomainResult<Vec<Made>> {
    let mut each: Vec<Made> = parts.iter().map(|_| Ok(None)).collect();
    let mut new = Vec::with_capacity(parts.len());
    let mut open: Vec<usize> = (0..parts.len()).collect();
    // Each round settles at least one request of every key.
    while !open.is_empty() {
        let claims: Vec<Claim> = open.iter().filter_map(|at| parts[*at].1.clone()).collect();
        let earlier = if claims.is_empty() { Vec::new() } else { idempotency::claim(conn, &claims, now)? };
        let mut earlier = earlier.into_iter();
        let (mut fresh, mut answered) = (Vec::with_capacity(open.len()), Vec::new());
        for at in open {
            match parts[at].1.as_ref().and_then(|claim| Some((claim, earlier.next()??))) {
                None => fresh.push(at),
                Some(((key, _, _), earlier)) => answered.push((at, key, earlier)),
            }
        }
        let items: Vec<&T> = fresh.iter().map(|at| &parts[*at].0).collect();
        let mut freed = HashMap::new();
        for (at, refusal) in fresh.into_iter().zip(T::refused(conn, &items, now)?) {
            let Some(error) = refusal else {
                each[at] = Ok(None);
                new.push(at);
                continue;
            };
            if let Some((key, _, _)) = &parts[at].1 {
                idempotency::release(conn, key)?;
                freed.insert(key.place(), error.clone());
            }
            each[at] = Err(error);
        }
        open = Vec::new();
        for (at, key, earlier) in answered {
            each[at] = match (freed.get(&key.place()), earlier) {
                // It would be told of what does not come to be.
                (Some(error), Earlier::Same { .. }) => Err(error.clone()),
                (Some(_), Earlier::Different) => {
                    open.push(at);
                    continue;
                }
                (None, earlier) => Ok(Some(earlier)),
            };
        }
    }
    if !new.is_empty() {
        let new: Vec<&T> = new.into_iter().map(|at| &parts[at].0).collect();
        T::put(conn, context, &new, now)?;
    }
    Ok(each)
}

fn refuse<T>(group: Vec<Job<T>>, error: &ApiError) {
    for job in group {
        let _gone = job.answer.send(Err(error.clone()));
    }
}
