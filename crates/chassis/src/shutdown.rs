//! How a process ends: told by a signal, or because one of its services failed; all services together, within a
//! grace period. What a service does to stop is its own business: it is given a token.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// What the shell reports for a process that was interrupted.
const INTERRUPTED: i32 = 130;
/// Companions have nothing to finish.
const COMPANION_GRACE: Duration = Duration::from_secs(2);

/// Cancels `shutdown` at the first SIGTERM or SIGINT, and ends the process with status 130 at the second. To be called
/// once, inside of the runtime.
///
/// # Errors
/// The signals cannot be listened to.
pub fn on_signals(shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    tokio::spawn(async move {
        let name = first_of(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "told to stop, a second signal stops at once");
        shutdown.cancel();
        let name = first_of(&mut terminate, &mut interrupt).await;
        tracing::error!(signal = name, "told to stop again, work that had begun is left to the next start");
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}

async fn first_of(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Runs the services of a process: they start together and end together.
#[derive(Debug)]
pub struct Supervisor {
    shutdown: CancellationToken,
    grace: Duration,
    services: Group,
    companions: Group,
    companions_stop: CancellationToken,
}

impl Supervisor {
    /// `shutdown` is the token that the services were given; it is cancelled when one of them fails. `grace` is how
    /// long they may take to end from then on.
    pub fn new(shutdown: CancellationToken, grace: Duration) -> Self {
        let companions_stop = CancellationToken::new();
        Self { shutdown, grace, services: Group::default(), companions: Group::default(), companions_stop }
    }

    /// Starts a service. It has to run until `shutdown` is cancelled: one that ends before has failed.
    pub fn supervise(
        &mut self,
        name: &'static str,
        service: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.services.spawn(name, service);
    }

    /// Starts something that has to outlive the services, such as the probes' port: its token is cancelled when they
    /// have ended. It is supervised like a service.
    pub fn accompany<F>(&mut self, name: &'static str, start: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.companions.spawn(name, start(self.companions_stop.clone()));
    }

    /// Waits until all have ended. Services that are still running at the end of the grace period are dropped.
    ///
    /// # Errors
    /// The first failure: a service returned an error, panicked, ended by itself or did not end in time.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut first: Option<anyhow::Error> = None;
        let ended = tokio::select! {
            // Services that end because they were told to must not look as if they had ended early.
            biased;
            () = self.shutdown.cancelled() => None,
            Some(ended) = self.services.next() => Some(ended),
            Some(ended) = self.companions.next() => Some(ended),
            else => None,
        };
        match ended {
            // A service may see the token, and end, between two branches above.
            Some(Ended { outcome: Ok(()), .. }) if self.shutdown.is_cancelled() => {}
            Some(Ended { name, outcome: Ok(()) }) => {
                note(&mut first, name, anyhow!("ended without having been told to"))
            }
            Some(Ended { name, outcome: Err(error) }) => note(&mut first, name, error),
            None => {}
        }
        self.shutdown.cancel();
        self.services.end(self.grace, &mut first).await;
        self.companions_stop.cancel();
        self.companions.end(COMPANION_GRACE, &mut first).await;
        first.map_or(Ok(()), Err)
    }
}

/// Logged here, where each failure ends; only the first one is the reason why the process does.
fn note(first: &mut Option<anyhow::Error>, name: &'static str, error: anyhow::Error) {
    tracing::error!(service = name, error = format!("{error:#}"), "service failed, the process stops");
    first.get_or_insert_with(|| error.context(format!("service `{name}` failed")));
}

#[derive(Debug, Default)]
struct Group {
    tasks: JoinSet<anyhow::Result<()>>,
    /// Of those that are still running.
    names: Vec<(Id, &'static str)>,
}

struct Ended {
    name: &'static str,
    outcome: anyhow::Result<()>,
}

impl Group {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.names.push((handle.id(), name));
    }

    async fn next(&mut self) -> Option<Ended> {
        let (id, outcome) = match self.tasks.join_next_with_id().await? {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Err(panicked(error))),
        };
        let index = self.names.iter().position(|(known, _name)| *known == id);
        let name = index.map_or("unnamed", |index| self.names.swap_remove(index).1);
        Some(Ended { name, outcome })
    }

    /// Waits for those that have been told to end.
    async fn end(&mut self, grace: Duration, first: &mut Option<anyhow::Error>) {
        let all = async {
            while let Some(Ended { name, outcome }) = self.next().await {
                match outcome {
                    Ok(()) => tracing::info!(service = name, "service ended"),
                    Err(error) => note(first, name, error),
                }
            }
        };
        if tokio::time::timeout(grace, all).await.is_ok() {
            return;
        }
        for (_id, name) in self.names.drain(..) {
            note(first, name, anyhow!("still running {grace:?} after it was told to stop"));
        }
        self.tasks.shutdown().await;
    }
}

fn panicked(error: JoinError) -> anyhow::Error {
    match error.try_into_panic() {
        Ok(payload) => {
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            anyhow!("panicked: {}", text.unwrap_or("no message"))
        }
        Err(cancelled) => cancelled.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    async fn until(shutdown: CancellationToken) -> anyhow::Result<()> {
        shutdown.cancelled().await;
        Ok(())
    }

    fn supervisor() -> (CancellationToken, Supervisor) {
        let shutdown = CancellationToken::new();
        (shutdown.clone(), Supervisor::new(shutdown, GRACE))
    }

    #[tokio::test]
    async fn services_that_end_when_told_are_a_success() {
        let (shutdown, mut supervisor) = supervisor();
        supervisor.supervise("a", until(shutdown.clone()));
        supervisor.supervise("b", until(shutdown.clone()));
        shutdown.cancel();
        supervisor.run().await.unwrap();
    }

    #[tokio::test]
    async fn one_that_fails_stops_the_others_and_is_named() {
        let (shutdown, mut supervisor) = supervisor();
        supervisor.supervise("steady", until(shutdown.clone()));
        supervisor.supervise("broken", async { Err(anyhow!("no ground")) });
        let error = supervisor.run().await.unwrap_err();
        assert_eq!(format!("{error:#}"), "service `broken` failed: no ground");
        assert!(shutdown.is_cancelled());
    }

    #[tokio::test]
    async fn one_that_panics_or_ends_early_has_failed() {
        let (shutdown, mut early) = supervisor();
        early.supervise("steady", until(shutdown));
        early.supervise("early", async { Ok(()) });
        let error = early.run().await.unwrap_err();
        assert_eq!(format!("{error:#}"), "service `early` failed: ended without having been told to");

        let (_shutdown, mut panicking) = supervisor();
        panicking.supervise("panicking", async { panic!("on purpose") });
        let error = panicking.run().await.unwrap_err();
        assert_eq!(format!("{error:#}"), "service `panicking` failed: panicked: on purpose");
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_dropped_after_the_grace_period() {
        let shutdown = CancellationToken::new();
        let mut supervisor = Supervisor::new(shutdown.clone(), Duration::from_millis(10));
        supervisor.supervise("deaf", std::future::pending());
        shutdown.cancel();
        let error = supervisor.run().await.unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "service `deaf` failed: still running 10ms after it was told to stop"
        );
    }

    #[tokio::test]
    async fn a_companion_outlives_the_services() {
        let (shutdown, mut supervisor) = supervisor();
        let (service_ended, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (at_the_end, service_stop) = (Arc::clone(&service_ended), shutdown.clone());
        supervisor.supervise("service", async move {
            service_stop.cancelled().await;
            tokio::task::yield_now().await;
            at_the_end.store(true, Ordering::SeqCst);
            Ok(())
        });
        let at_my_end = Arc::clone(&seen);
        supervisor.accompany("companion", |stop| async move {
            stop.cancelled().await;
            at_my_end.store(service_ended.load(Ordering::SeqCst), Ordering::SeqCst);
            Ok(())
        });
        shutdown.cancel();
        supervisor.run().await.unwrap();
        assert!(seen.load(Ordering::SeqCst));
    }
}
