//! Deliveries that go one after the other: whoever ends one lets the next one go (`domain::delivery::ordered`).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    Result,
    clock::Clock,
    db::{Conn, Db},
    delivery::{
        Fate, Profile, Settled,
        ordered::{self, Line, Released},
    },
    id::{ClaimId, DeliveryId},
};
use hookyard_messaging::{Bus, Lane};
use tokio_util::sync::CancellationToken;

/// How often lines are looked through for what a crash has left behind.
const EVERY: Duration = Duration::from_secs(1);

/// Pending deliveries looked at in one statement, and statements in one walk: more goes on with the next.
const AT_ONCE: i64 = 2_000;
const STATEMENTS: usize = 5;

/// A query that lets deliveries go, under a claim, now, until the end of the lease.
trait Release:
    FnOnce(&mut Conn, ClaimId, DateTime<Utc>, DateTime<Utc>) -> Result<Released> + Send + 'static
{
}
impl<F> Release for F where
    F: FnOnce(&mut Conn, ClaimId, DateTime<Utc>, DateTime<Utc>) -> Result<Released> + Send + 'static
{
}

/// Lets deliveries go.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    pub(crate) db: Db,
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) lease: TimeDelta,
}

/// Whether something may be let go because of this.
pub(crate) fn moves_a_line(settled: &Settled) -> bool {
    settled.held.ordered
        && match settled.fate {
            Fate::Ended(_) => true,
            Fate::Retry { .. } => {
                settled.held.profile == Profile::Task
                    && settled.held.tries + 1 >= ordered::TRIES_BEFORE_GIVING_WAY
            }
            Fate::Deferred { .. } => false,
        }
}

impl Lines {
    /// Goes on with the lines of deliveries whose outcome is written down, beside everything else. What fails is found by the
    /// walk.
    pub(crate) fn go_on(&self, ids: Vec<DeliveryId>) {
        if !ids.is_empty() {
            self.beside(move |conn, claim, now, until| {
                ordered::release_behind(conn, &ids, claim, now, until)
            });
        }
    }

    /// The same for lines that somebody has just written into.
    pub(crate) fn go_on_with(&self, lines: Vec<Line>) {
        if !lines.is_empty() {
            self.beside(move |conn, claim, now, until| ordered::release_any(conn, &lines, claim, now, until));
        }
    }

    fn beside(&self, work: impl Release) {
        let lines = self.clone();
        tokio::spawn(async move {
            let mut outcome = lines.release(work).await;
            for wait in ordered::LOOKS {
                let Ok(blocked) = &mut outcome else { break };
                if blocked.is_empty() {
                    return;
                }
                let blocked = std::mem::take(blocked);
                tokio::time::sleep(wait).await;
                outcome = lines
                    .release(move |conn, claim, now, until| {
                        ordered::release_any(conn, &blocked, claim, now, until)
                    })
                    .await;
            }
            if let Err(error) = outcome {
                tracing::debug!(error = error.chain(), "lines could not be gone on with; the walk will");
            }
        });
    }

    /// Looks through the lines until `stop`.
    pub(crate) async fn walk(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut after = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            for _statement in 0..STATEMENTS {
                match self.look(after).await {
                    Ok(place) => after = place,
                    Err(error) => {
                        tracing::debug!(error = error.chain(), "lines cannot be looked through yet");
                        break;
                    }
                }
                if after.is_none() {
                    break;
                }
            }
        }
    }

    async fn look(&self, after: Option<uuid::Uuid>) -> Result<Option<uuid::Uuid>> {
        let (left, place) = self.db.once(move |conn| ordered::left_behind(conn, after, AT_ONCE)).await?;
        if !left.is_empty() {
            self.release(move |conn, claim, now, until| ordered::release_any(conn, &left, claim, now, until))
                .await?;
        }
        Ok(place)
    }

    /// Returns the lines that are worth another look in a moment.
    async fn release(&self, work: impl Release) -> Result<Vec<Line>> {
        let now = self.clock.now();
        let (claim, until) = (ClaimId::new(now), now + self.lease);
        let released = self.db.once(move |conn| work(conn, claim, now, until)).await?;
        if released.ids.is_empty() {
            return Ok(released.blocked);
        }
        let unheard = self.bus.ring_due(Lane::First, claim, &released.ids).await;
        if !unheard.is_empty() {
            self.db.once(move |conn| ordered::give_back(conn, &unheard, claim, now)).await?;
        }
        Ok(released.blocked)
    }
}
