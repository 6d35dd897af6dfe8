//! Groups of what waits to be stored: while one group commits, the next fills.

use std::{future, sync::Arc, time::Duration};

use hookyard_chassis::api_error::ApiError;
use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// The exit of a lane. The tasks that share it take turns.
#[derive(Debug)]
pub(crate) struct Exit<J>(Arc<Mutex<Door<J>>>);

impl<J> Clone for Exit<J> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Door<J> {
    jobs: mpsc::Receiver<J>,
    /// When the last group was taken.
    taken: Option<Instant>,
}

/// A lane that holds so many.
pub(crate) fn lane<J>(capacity: u32) -> (mpsc::Sender<J>, Exit<J>) {
    let (entrance, jobs) = mpsc::channel(capacity as usize);
    (entrance, Exit(Arc::new(Mutex::new(Door { jobs, taken: None }))))
}

/// What those are told who come too late.
pub(crate) fn stopping() -> ApiError {
    ApiError::unavailable("the gateway is stopping", Duration::from_secs(1))
}

impl<J> Exit<J> {
    /// What waits. Waits for the first, and until `pace` has passed since the last group was taken: what comes after a pause is
    /// taken at once, what follows closely waits for each other. `has_room` is told of each that is taken and says whether one
    /// more may be.
    ///
    /// `None` when there will be no more: the lane is closed when `stop` is cancelled; without one it ends when nobody is left
    /// who could put something into it.
    pub(crate) async fn group(
        &self,
        stop: Option<&CancellationToken>,
        pace: Duration,
        mut has_room: impl FnMut(&J) -> bool,
    ) -> Option<Vec<J>> {
        let Door { jobs, taken } = &mut *self.0.lock().await;
        let stopped = async {
            match stop {
                Some(stop) => stop.cancelled().await,
                None => future::pending().await,
            }
        };
        let first = tokio::select! {
            biased;
            first = jobs.recv() => first?,
            () = stopped => {
                jobs.close();
                jobs.recv().await?
            }
        };
        if let Some(taken) = *taken
            && !pace.is_zero()
        {
            tokio::time::sleep_until(taken + pace).await;
        }
        *taken = Some(Instant::now());
        let mut room = has_room(&first);
        let mut group = vec![first];
        while room && let Ok(job) = jobs.try_recv() {
            room = has_room(&job);
            group.push(job);
        }
        Some(group)
    }
}
