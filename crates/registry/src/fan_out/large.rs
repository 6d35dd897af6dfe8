//! Events that very many hooks want are fanned out part by part, at a pace, so that nobody else waits for them
//! (docs/decisions/0056). What is left to do stands in Postgres: another registry goes on where this one ends.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use hookyard_domain::{
    delivery::{
        fan_out::Hold,
        large::{self, Large, Step},
    },
    id::{ClaimId, EventGroupId, TenantId},
};
use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::rings::Rings;
use crate::{context::Context, settings::Settings};

/// An event with more deliveries than this is large.
pub(super) const LARGE: usize = 512;

/// Large events that a registry goes on with at once, and those of one tenant among them; the others wait for another registry, or for
/// their turn.
const AT_ONCE: usize = 16;
const OF_ONE_TENANT: usize = 4;

/// From one part to the next.
const PERIOD: Duration = Duration::from_millis(50);

/// Deliveries of one part at the most, whatever the pace.
const PART: usize = 2_000;

/// For each of these that the oldest event waits, the pace goes up once more: what comes in faster than the pace is not left behind
/// for ever.
const PATIENCE_S: i64 = 15;

/// Before the next try when Postgres is away.
const AFTER_AN_ERROR: Duration = Duration::from_millis(500);

/// Told when a large event was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found(Arc<Notify>);

impl Found {
    pub(super) fn tell(&self) {
        self.0.notify_one();
    }
}

/// Goes on with large events until `stop`.
pub(super) async fn run(
    context: Context,
    rings: Rings,
    found: Found,
    settings: Settings,
    stop: CancellationToken,
) {
    let mut look = tokio::time::interval(Duration::from_millis(settings.relay_interval_ms));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pace = tokio::time::interval(PERIOD);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One claim for all that this registry holds.
    let claim = ClaimId::new(context.clock.now());
    let (mut turns, mut may_find) = (Turns::default(), true);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = found.0.notified() => may_find = true,
            _ = look.tick() => may_find = true,
            _ = pace.tick(), if may_find || !turns.under_way.is_empty() => {
                // One in each period, so that other registries have their share.
                if may_find {
                    may_find = claim_one(&context, claim, &mut turns).await;
                }
                let part = part(settings.large_fan_out_per_s, turns.oldest(), context.clock.now());
                go_on(&context, &rings, claim, &mut turns, part).await;
            }
        }
    }
    let (groups, now) =
        (turns.under_way.iter().map(|large| large.group).collect::<Vec<_>>(), context.clock.now());
    if !groups.is_empty()
        && let Err(error) = context.db.once(move |conn| large::give_back(conn, &groups, claim, now)).await
    {
        tracing::debug!(error = error.chain(), "claims could not be ended; they end by themselves");
    }
}

/// Deliveries of one part, when the oldest event waits since then.
fn part(per_s: u32, oldest: Option<DateTime<Utc>>, now: DateTime<Utc>) -> usize {
    let waits_s = oldest.map_or(0, |since| (now - since).num_seconds().max(0));
    let times = 1 + usize::try_from(waits_s / PATIENCE_S).unwrap_or(0);
    let part = per_s as usize * PERIOD.as_millis() as usize / 1_000;
    part.saturating_mul(times).clamp(1, PART)
}

/// The events under way, and whose turn it is: that of the tenant who has waited longest for one, and of those of one tenant in a
/// circle.
#[derive(Debug, Default)]
struct Turns {
    under_way: Vec<Large>,
    /// The last turn of each tenant.
    last: HashMap<TenantId, u64>,
    turn: u64,
}

impl Turns {
    fn add(&mut self, large: Large) {
        // Ours before, until its claim ended unnoticed.
        self.under_way.retain(|other| other.group != large.group);
        self.under_way.push(large);
    }

    /// The next event. It is behind the others of its tenant then.
    fn next(&mut self) -> Option<Large> {
        let last = |large: &Large| self.last.get(&large.tenant).copied().unwrap_or(0);
        let (at, _) = self.under_way.iter().enumerate().min_by_key(|(at, large)| (last(large), *at))?;
        let large = self.under_way.remove(at);
        self.under_way.push(large);
        self.turn += 1;
        self.last.insert(large.tenant, self.turn);
        Some(large)
    }

    fn remove(&mut self, group: EventGroupId) {
        self.under_way.retain(|large| large.group != group);
        let under_way = &self.under_way;
        self.last.retain(|tenant, _| under_way.iter().any(|large| large.tenant == *tenant));
    }

    fn oldest(&self) -> Option<DateTime<Utc>> {
        self.under_way.iter().map(|large| large.since).min()
    }

    /// The tenants of which so many or more are under way.
    fn with_at_least(&self, count: usize) -> Vec<TenantId> {
        let mut counts: HashMap<TenantId, usize> = HashMap::new();
        for large in &self.under_way {
            *counts.entry(large.tenant).or_default() += 1;
        }
        counts.into_iter().filter(|(_, n)| *n >= count).map(|(tenant, _)| tenant).collect()
    }
}

fn hold(context: &Context, claim: ClaimId) -> Hold {
    let now = context.clock.now();
    Hold { claim, now, until: now + context.lease() }
}

/// Claims another event; whether there may be more.
async fn claim_one(context: &Context, claim: ClaimId, turns: &mut Turns) -> bool {
    if turns.under_way.len() >= AT_ONCE {
        return false;
    }
    let hold = hold(context, claim);
    let (busy, enough) = (turns.with_at_least(1), turns.with_at_least(OF_ONE_TENANT));
    match context.db.once(move |conn| large::claim(conn, &busy, &enough, hold)).await {
        Ok(Some(large)) => {
            turns.add(large);
            true
        }
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(error = error.chain(), "large events cannot be gone on with yet");
            false
        }
    }
}

/// Makes the next part of the event whose turn it is, and rings.
async fn go_on(context: &Context, rings: &Rings, claim: ClaimId, turns: &mut Turns, part: usize) {
    let Some(Large { group, .. }) = turns.next() else { return };
    // Each part has a lease of its own: whoever hears a ring takes that part.
    let hold = hold(context, ClaimId::new(context.clock.now()));
    let most = i32::try_from(part).unwrap_or(i32::MAX);
    match context.db.once(move |conn| large::go_on(conn, group, claim, most, hold)).await {
        Ok(Some(Step { made, is_last })) => {
            context.metrics.made(made.len());
            rings.ring(hold, made).await;
            if is_last {
                turns.remove(group);
                if let Err(error) = context.db.once(move |conn| large::finish(conn, group, claim)).await {
                    tracing::debug!(
                        error = error.chain(),
                        "a large event could not be removed; whoever claims it does"
                    );
                }
            }
        }
        // Our claim has ended, and somebody else goes on; or nobody wants it any more.
        Ok(None) => turns.remove(group),
        Err(error) => {
            tracing::warn!(error = error.chain(), "a large event cannot be gone on with yet");
            // The others go on; this one when its claim has ended, unless it is Postgres that is away.
            if !error.is_passing() {
                turns.remove(group);
            }
            tokio::time::sleep(AFTER_AN_ERROR).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_part_is_what_the_pace_allows_and_more_the_longer_somebody_waits() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        assert_eq!(
            [1, 20, 1_000, 40_000, 1_000_000].map(|per_s| part(per_s, None, now)),
            [1, 1, 50, 2_000, 2_000]
        );
        let after = |seconds| part(1_000, Some(now - TimeDelta::seconds(seconds)), now);
        assert_eq!(
            [-5, 0, 14, 15, 29, 30, 600, i64::from(i32::MAX)].map(after),
            [50, 50, 50, 100, 100, 150, 2_000, 2_000]
        );
    }

    #[test]
    fn turns_go_round_the_tenants_and_the_events_of_each() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (one, other) = (TenantId::new(now), TenantId::new(now));
        let large = |tenant| Large { group: EventGroupId::new(now), tenant, since: now };
        let events = [large(one), large(one), large(one), large(other)];
        let mut turns = Turns::default();
        events.into_iter().for_each(|event| turns.add(event));
        let mut order = Vec::new();
        for _ in 0..6 {
            let next = turns.next().unwrap();
            order.push(events.iter().position(|event| *event == next).unwrap());
        }
        assert_eq!(order, [0, 3, 1, 3, 2, 3]);
        assert_eq!(turns.with_at_least(3), [one]);
        assert_eq!(turns.with_at_least(4), []);
        turns.remove(events[3].group);
        assert_eq!(turns.next(), Some(events[0]));
        assert_eq!(turns.last.len(), 1, "of a tenant without events nothing is kept");
        turns.add(events[0]);
        assert_eq!(turns.under_way.len(), 3, "an event is there once");
    }
}
