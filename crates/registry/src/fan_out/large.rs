//! Events that very many hooks want are fanned out part by part, at a pace, so that nobody else waits for it
//! (docs/decisions/0056). What is left to do stands in Postgres: another registry goes on where this one ends.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use hookyard_domain::{
    Result,
    db::Conn,
    delivery::{
        NewDelivery, Profile,
        fan_out::{self, Claimed, Hold},
    },
    event::waiting::{self, Waiting},
    id::{ClaimId, DeliveryId, EventGroupId},
    subscription::directory::Directory,
};
use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::rings::Rings;
use crate::{context::Context, matching, settings::Settings};

/// An event with more deliveries than this is large.
pub(super) const LARGE: usize = 512;

/// Large events that a registry goes on with at once; the others wait for another registry, or for their turn.
const AT_ONCE: usize = 16;

/// From one part to the next.
const PERIOD: Duration = Duration::from_millis(50);

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

/// A claimed event, with the deliveries that are still to be made, in the order of their hooks.
struct Large {
    group: EventGroupId,
    missing: VecDeque<NewDelivery>,
}

/// Goes on with large events until `stop`.
pub(super) async fn run(
    context: Context,
    rings: Rings,
    found: Found,
    settings: Settings,
    stop: CancellationToken,
) {
    let part = part(settings.large_fan_out_per_s);
    let mut look = tokio::time::interval(Duration::from_millis(settings.relay_interval_ms));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pace = tokio::time::interval(PERIOD);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One claim for all: what is claimed by a registry that was killed is told apart by it.
    let claim = ClaimId::new(context.clock.now());
    let mut under_way: VecDeque<Large> = VecDeque::new();
    loop {
        let may_claim = under_way.len() < AT_ONCE;
        let worked = tokio::select! {
            () = stop.cancelled() => break,
            () = found.0.notified(), if may_claim => claim_some(&context, claim, &mut under_way).await,
            _ = look.tick(), if may_claim => claim_some(&context, claim, &mut under_way).await,
            _ = pace.tick(), if !under_way.is_empty() => go_on(&context, &rings, claim, &mut under_way, part).await,
        };
        if let Err(error) = worked {
            tracing::warn!(error = error.chain(), "events cannot be fanned out yet");
            tokio::time::sleep(AFTER_AN_ERROR).await;
        }
    }
    let groups: Vec<EventGroupId> = under_way.iter().map(|large| large.group).collect();
    let hold = hold(&context, claim);
    if !groups.is_empty()
        && let Err(error) = context.db.once(move |conn| fan_out::give_back(conn, &groups, hold)).await
    {
        tracing::debug!(error = error.chain(), "claims could not be ended; they end by themselves");
    }
}

/// Deliveries of one part.
fn part(per_s: u32) -> usize {
    (per_s as usize * PERIOD.as_millis() as usize / 1_000).max(1)
}

fn hold(context: &Context, claim: ClaimId) -> Hold {
    let now = context.clock.now();
    Hold { claim, now, until: now + context.lease() }
}

async fn claim_some(context: &Context, claim: ClaimId, under_way: &mut VecDeque<Large>) -> Result<()> {
    while under_way.len() < AT_ONCE {
        let (directory, hold) = (context.directory.clone(), hold(context, claim));
        let claimed = context.db.once(move |conn| {
            let Some(claimed) = fan_out::claim(conn, hold)? else { return Ok(None) };
            read(conn, &directory, claimed, hold).map(Some)
        });
        match claimed.await? {
            Some(large) => {
                // Ours before, until its claim ended unnoticed.
                under_way.retain(|other| other.group != large.group);
                under_way.push_back(large);
            }
            None => break,
        }
    }
    Ok(())
}

/// What is still to be made of a claimed event; nothing, if it is not kept any more.
fn read(conn: &mut Conn, directory: &Directory, claimed: Claimed, hold: Hold) -> Result<Large> {
    let Waiting { mut events, behind } = waiting::read(conn, &[claimed.group], &directory.standing())?;
    if behind {
        directory.refresh(conn)?;
        waiting::add_bodies(conn, &mut events)?;
    }
    let mut missing = Vec::new();
    for event in &events {
        for (hook, _line) in matching::wanting(directory, event, hold.now) {
            let profile = hook.kind.profile();
            if profile == Profile::Hook && hook.id > claimed.made_up_to {
                let id = DeliveryId { event: event.id, subscription: hook.id };
                missing.push(NewDelivery::plain(id, event.tenant, profile));
            }
        }
    }
    missing.sort_unstable_by_key(|new| new.id.subscription);
    Ok(Large { group: claimed.group, missing: missing.into() })
}

/// Makes the next part of the event that has waited longest for it, and rings.
async fn go_on(
    context: &Context,
    rings: &Rings,
    claim: ClaimId,
    under_way: &mut VecDeque<Large>,
    part: usize,
) -> Result<()> {
    let Some(large) = under_way.front() else { return Ok(()) };
    let (group, hold) = (large.group, hold(context, claim));
    let made: Vec<NewDelivery> = large.missing.iter().take(part).copied().collect();
    let done = made.len() == large.missing.len();
    let up_to = if done { None } else { made.last().map(|new| new.id.subscription) };
    let owed: Vec<fan_out::Owed> = made.iter().map(|new| (group, *new)).collect();
    // Made twice when we do not hear of the commit: what is there stays as it is.
    let held = context.db.once(move |conn| fan_out::go_on(conn, group, &owed, up_to, hold)).await?;
    let Some(mut large) = under_way.pop_front() else { return Ok(()) };
    if !held {
        // Our claim has ended, and somebody else goes on.
        return Ok(());
    }
    context.metrics.fanned_out(0, made.len());
    large.missing.drain(..made.len());
    rings.ring(hold, made).await;
    if !done {
        under_way.push_back(large);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_what_the_pace_allows_in_its_time_and_never_nothing() {
        assert_eq!([1, 20, 1_000, 1_000_000].map(part), [1, 1, 50, 50_000]);
    }
}
