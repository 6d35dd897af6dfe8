//! Deliveries that go one after the other: whoever ends one lets the next one go (`domain::delivery::ordered`).

use std::time::Duration;

use chrono::TimeDelta;
use hookyard_domain::{
    Result,
    clock::Clock,
    db::{Conn, Db},
    delivery::{Fate, Profile, Settled, ordered},
    id::{ClaimId, DeliveryId},
};
use hookyard_messaging::{Bus, Lane};
use tokio_util::sync::CancellationToken;

/// How often lines are looked through for what a crash has left behind.
const EVERY: Duration = Duration::from_secs(1);

/// Pending deliveries looked at in one statement, and statements in one walk: more goes on with the next.
const AT_ONCE: i64 = 2_000;
const STATEMENTS: usize = 5;

/// Lets deliveries go.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    pub(crate) db: Db,
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) lease: TimeDelta,
}

/// Whether something may be let go because of this: only deliveries of tasks stand in lines.
pub(crate) fn moves_a_line(settled: &Settled) -> bool {
    settled.held.profile == Profile::Task
        && match settled.fate {
            Fate::Ended(_) => true,
            Fate::Retry { .. } => settled.held.tries + 1 >= ordered::TRIES_BEFORE_GIVING_WAY,
            Fate::Deferred { .. } => false,
        }
}

impl Lines {
    /// Goes on with the lines of deliveries whose outcome is written down, beside everything else. What fails is found by the
    /// walk.
    pub(crate) fn go_on(&self, ids: Vec<DeliveryId>) {
        if ids.is_empty() {
            return;
        }
        let lines = self.clone();
        tokio::spawn(async move {
            let released = lines
                .release(move |conn, claim, now, until| {
                    ordered::release_behind(conn, &ids, claim, now, until)
                })
                .await;
            if let Err(error) = released {
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
            self.release(move |conn, claim, now, until| ordered::release(conn, &left, claim, now, until))
                .await?;
        }
        Ok(place)
    }

    async fn release(
        &self,
        work: impl FnOnce(
            &mut Conn,
            ClaimId,
            chrono::DateTime<chrono::Utc>,
            chrono::DateTime<chrono::Utc>,
        ) -> Result<Vec<DeliveryId>>
        + Send
        + 'static,
    ) -> Result<()> {
        let now = self.clock.now();
        let (claim, until) = (ClaimId::new(now), now + self.lease);
        let released = self.db.once(move |conn| work(conn, claim, now, until)).await?;
        if released.is_empty() {
            return Ok(());
        }
        let unheard = self.bus.ring_due(Lane::First, claim, &released).await;
        if !unheard.is_empty() {
            self.db.once(move |conn| ordered::give_back(conn, &unheard, claim, now)).await?;
        }
        Ok(())
    }
}
