//! Whether the process lives, and whether it can do its work. Services add the checks; what a check looks at (a
//! database, a broker) is theirs.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use futures_util::future::{BoxFuture, FutureExt, join_all};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::api_error::shorten;
use crate::settings::mask_url;

/// A check that has not answered by then counts as failed.
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// Probes of several balancers cost one check in this time.
const FRESH_FOR: Duration = Duration::from_millis(250);

type Verdict = Result<(), String>;

/// The health of one process. Clones are handles on the same checks.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    shutdown: CancellationToken,
    time_limit: Duration,
    checks: Mutex<Vec<Arc<Check>>>,
}

struct Check {
    name: String,
    run: Box<dyn Fn() -> BoxFuture<'static, Verdict> + Send + Sync>,
    /// Also keeps callers in line, so that a hanging database is asked once and not once per probe.
    last: tokio::sync::Mutex<Option<(Instant, Verdict)>>,
}

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// One word for all of it.
    pub status: ReadinessStatus,
    /// In the order in which they were added.
    pub checks: Vec<CheckReport>,
}

/// One word for the readiness of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadinessStatus {
    /// Every check succeeded.
    Ready,
    /// At least one check failed.
    NotReady,
    /// The process has been told to stop and takes no new work.
    Draining,
}

/// One check of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The name that the service gave it.
    pub name: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// Why it failed, under 250 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Health {
    /// A process without checks is ready until `shutdown` is cancelled; from then on it is draining.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self::with_time_limit(shutdown, TIME_LIMIT)
    }

    /// Tests of hanging checks should not take two seconds.
    fn with_time_limit(shutdown: CancellationToken, time_limit: Duration) -> Self {
        Self(Arc::new(Inner { shutdown, time_limit, checks: Mutex::new(Vec::new()) }))
    }

    /// Adds a check that must succeed for the process to be ready. The text of a failure is shown to whoever can
    /// reach `/readyz`. A check that takes longer than 2 s, or panics, has failed; an answer is used for 250 ms.
    pub fn add<F, Fut>(&self, name: impl Into<String>, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        let run = Box::new(move || check().boxed());
        let check = Check { name: name.into(), run, last: tokio::sync::Mutex::new(None) };
        // A panic while the lock was held leaves a whole list: entries are only ever added.
        self.0.checks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(check));
    }

    /// Whether the process has been told to stop.
    pub fn is_draining(&self) -> bool {
        self.0.shutdown.is_cancelled()
    }

    /// Runs all checks, side by side.
    pub async fn readiness(&self) -> Readiness {
        let checks = self.0.checks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let checks = join_all(checks.iter().map(|check| check.report(self.0.time_limit))).await;
        let status = match (self.is_draining(), checks.iter().all(|check| check.ok)) {
            (true, _) => ReadinessStatus::Draining,
            (false, true) => ReadinessStatus::Ready,
            (false, false) => ReadinessStatus::NotReady,
        };
        Readiness { status, checks }
    }

    /// The answer of `/readyz`: 200 when ready, else 503.
    pub(crate) async fn readyz(&self) -> HttpResponse {
        let readiness = self.readiness().await;
        let status = match readiness.status {
            ReadinessStatus::Ready => StatusCode::OK,
            ReadinessStatus::NotReady | ReadinessStatus::Draining => StatusCode::SERVICE_UNAVAILABLE,
        };
        HttpResponse::build(status).insert_header((CACHE_CONTROL, "no-store")).json(readiness)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("draining", &self.is_draining()).finish_non_exhaustive()
    }
}

impl Check {
    async fn report(&self, time_limit: Duration) -> CheckReport {
        let reason = self.verdict(time_limit).await.err().map(|reason| shorten(&mask_url(&reason)));
        CheckReport { name: self.name.clone(), ok: reason.is_none(), reason }
    }

    async fn verdict(&self, time_limit: Duration) -> Verdict {
        let mut last = self.last.lock().await;
        if let Some((at, verdict)) = &*last
            && at.elapsed() < FRESH_FOR
        {
            return verdict.clone();
        }
        let run = AssertUnwindSafe(async { (self.run)().await }).catch_unwind();
        let verdict = match tokio::time::timeout(time_limit, run).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_panic)) => Err("the check panicked".to_owned()),
            Err(_elapsed) => Err(format!("no answer within {time_limit:?}")),
        };
        *last = Some((Instant::now(), verdict.clone()));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn report(name: &str, reason: Option<&str>) -> CheckReport {
        CheckReport { name: name.to_owned(), ok: reason.is_none(), reason: reason.map(str::to_owned) }
    }

    #[tokio::test]
    async fn each_check_is_told_with_its_reason() {
        let health = Health::with_time_limit(CancellationToken::new(), Duration::from_millis(20));
        assert_eq!(health.readiness().await, Readiness { status: ReadinessStatus::Ready, checks: vec![] });
        health.add("fine", || async { Ok(()) });
        health.add("broken", || async { Err("amqp://u:p@h is away".to_owned()) });
        health.add("hanging", std::future::pending);
        health.add("panicking", || async { panic!("on purpose") });
        let checks = vec![
            report("fine", None),
            report("broken", Some("amqp://u:•••@h is away")),
            report("hanging", Some("no answer within 20ms")),
            report("panicking", Some("the check panicked")),
        ];
        assert_eq!(health.readiness().await, Readiness { status: ReadinessStatus::NotReady, checks });
    }

    #[tokio::test]
    async fn a_process_that_stops_is_draining_whatever_its_checks_say() {
        let shutdown = CancellationToken::new();
        let health = Health::new(shutdown.clone());
        health.add("fine", || async { Ok(()) });
        assert_eq!(health.readyz().await.status(), StatusCode::OK);
        shutdown.cancel();
        assert_eq!(health.readiness().await.status, ReadinessStatus::Draining);
        assert_eq!(health.readyz().await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn many_probes_are_one_check() {
        let health = Health::new(CancellationToken::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        health.add("counted", move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        });
        join_all((0..50).map(|_| health.readiness())).await;
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }
}
