//! From events to deliveries: one statement that writes for some groups of events, then the rings.
//!
//! A ring and the relay run the same code: the group's row says whether the work is still to be done.

mod foresight;
mod large;
mod numbered;
mod rings;
mod told;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use hookyard_domain::{
    Result,
    db::Conn,
    delivery::{
        NewDelivery, Profile,
        fan_out::{self, Hold, Owed, Rest},
    },
    event::waiting::{self, Waiting, WaitingEvent},
    id::{ClaimId, DeliveryId, EventGroupId},
    subscription::directory::Directory,
};
use hookyard_messaging::{Accepted, Consumer, Incoming, Message};
use tokio_util::sync::CancellationToken;

pub(crate) use foresight::Ahead;

use crate::{context::Context, lines, matching, settings::Settings};
use large::LARGE;
use numbered::Numbered;
use rings::Rings;

/// Groups fanned out in one statement.
const GROUPS_AT_ONCE: usize = 8;

#[derive(Debug)]
pub(crate) struct FanOut {
    context: Context,
    rings: Rings,
    found: large::Found,
}

impl FanOut {
    pub(crate) fn new(context: Context) -> Self {
        Self { rings: Rings::new(context.clone()), context, found: large::Found::default() }
    }

    /// Goes on with events that very many hooks want, until `stop`.
    pub(crate) async fn go_on_with_large(&self, settings: Settings, stop: CancellationToken) {
        large::run(self.context.clone(), self.rings.clone(), self.found.clone(), settings, stop).await;
    }

    /// Answers rings until `stop`.
    pub(crate) async fn serve(&self, mut consumer: Consumer, stop: CancellationToken) {
        let mut rings = Vec::new();
        loop {
            let taken = tokio::select! {
                () = stop.cancelled() => return,
                taken = consumer.recv_many(&mut rings, GROUPS_AT_ONCE) => taken,
            };
            if taken == 0 {
                return;
            }
            let rings = std::mem::take(&mut rings);
            let rung = rings.iter().filter_map(Rung::of).collect();
            // Given back when we stop meanwhile; the row is there for whoever comes next.
            if self.fan_out_until_done(rung, &stop).await {
                Incoming::ack_all(rings);
            }
        }
    }

    async fn fan_out_until_done(&self, mut rung: Vec<Rung>, stop: &CancellationToken) -> bool {
        let mut wait = Duration::from_millis(50);
        loop {
            match self.fan_out_rung(&mut rung).await {
                Ok(()) => return true,
                Err(error) => tracing::warn!(error = error.chain(), "events cannot be fanned out yet"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(2)),
            }
        }
    }

    /// Fans out what was rung; first without reading it, where the rings tell all, and then what is left.
    async fn fan_out_rung(&self, rung: &mut Vec<Rung>) -> Result<()> {
        let began = Instant::now();
        let groups: Vec<EventGroupId> = rung.iter().map(|rung| rung.group).collect();
        let numbers = self.context.bus.at_hand().is_some();
        if let Some(told) = told::of(&self.context.directory, rung, numbers) {
            let hold = self.hold();
            let written = self.context.db.in_place(move |conn| told.write(conn, &groups, hold)).await?;
            rung.retain(|rung| !written.taken.contains(&rung.group));
            self.behind(written, hold, began).await;
        }
        let left = rung.iter().map(|rung| rung.group).collect();
        self.fan_out_since(began, left).await?;
        Ok(())
    }

    /// Fans groups out, those of them that nobody else has. Returns the number of events.
    pub(crate) async fn fan_out(&self, groups: Vec<EventGroupId>) -> Result<usize> {
        self.fan_out_since(Instant::now(), groups).await
    }

    async fn fan_out_since(&self, began: Instant, groups: Vec<EventGroupId>) -> Result<usize> {
        if groups.is_empty() {
            return Ok(0);
        }
        let (hold, directory) = (self.hold(), self.context.directory.clone());
        let written = self.context.db.in_place(move |conn| write(conn, &directory, &groups, hold)).await?;
        let events = written.events;
        self.behind(written, hold, began).await;
        Ok(events)
    }

    fn hold(&self) -> Hold {
        let now = self.context.clock.now();
        Hold { claim: ClaimId::new(now), now, until: now + self.context.lease() }
    }

    /// What follows the commit: whoever has work hears of it.
    async fn behind(&self, written: Written, hold: Hold, began: Instant) {
        let Written { events, deliveries, large, numbered, .. } = written;
        self.context.metrics.fanned_out(events, deliveries.len(), began.elapsed());
        if large {
            self.found.tell();
        }
        let (fetched, sent): (Vec<NewDelivery>, Vec<NewDelivery>) =
            deliveries.into_iter().partition(|delivery| delivery.profile == Profile::Inbox);
        self.rings.ring_inboxes(&fetched);
        let (waiting, ready): (Vec<NewDelivery>, Vec<NewDelivery>) =
            sent.into_iter().partition(|delivery| delivery.ordering.is_some());
        if let (Some(at_hand), Some(numbered)) = (self.context.bus.at_hand(), numbered) {
            numbered.hand_over(at_hand, &ready, hold, self.context.clock.instant());
        }
        self.rings.ring(hold, ready).await;
        lines::let_go(&self.context, &waiting);
    }
}

/// A group as its ring tells of it.
#[derive(Clone, Debug)]
struct Rung {
    group: EventGroupId,
    accepted: Option<Accepted>,
}

impl Rung {
    fn of(ring: &Incoming) -> Option<Self> {
        match ring.message() {
            Message::EventAccepted { group, accepted } => {
                Some(Self { group: *group, accepted: accepted.clone() })
            }
            other => {
                tracing::error!(message = ?other, "a message stands in a queue that is not for it");
                None
            }
        }
    }
}

/// What was written of some groups.
#[derive(Default)]
struct Written {
    taken: HashSet<EventGroupId>,
    events: usize,
    deliveries: Vec<NewDelivery>,
    /// Whether something is left of one of them.
    large: bool,
    /// What whoever sends them in this process need not read.
    numbered: Option<Numbered>,
}

fn write(conn: &mut Conn, directory: &Directory, groups: &[EventGroupId], hold: Hold) -> Result<Written> {
    let Waiting { mut events, behind } = waiting::read(conn, groups, &directory.standing())?;
    // Whoever subscribed before the events were accepted is seen by the statement that saw them.
    if behind {
        directory.refresh(conn)?;
        waiting::add_bodies(conn, &mut events)?;
    }
    let (mut owed, mut rests) = (Vec::with_capacity(events.len()), Vec::new());
    for event in &events {
        let deliveries = of_event(directory, event, hold);
        // Those that stand in lines and wait in inboxes are few, and have to be there when their group is gone.
        let is_large = deliveries.len() > LARGE;
        let (later, now): (Vec<NewDelivery>, Vec<NewDelivery>) =
            deliveries.into_iter().partition(|new| is_large && new.profile == Profile::Hook);
        owed.extend(now.into_iter().map(|new| (event.group, new)));
        if !later.is_empty() {
            let WaitingEvent { group, tenant, id, since, .. } = *event;
            let wanted = later.iter().map(|new| new.id.subscription).collect();
            rests.push(Rest { group, tenant, event: id, since, wanted });
        }
    }
    // Until here nothing was taken: whoever is first with this statement has the groups.
    let taken = fan_out::take(conn, groups, &owed, &rests, hold)?;
    let large = rests.iter().any(|rest| taken.contains(&rest.group));
    Ok(Written { large, ..Written::of(taken, &events, owed) })
}

impl Written {
    /// Of what was wanted, that of the groups that were taken.
    fn of(taken: HashSet<EventGroupId>, events: &[WaitingEvent], owed: Vec<Owed>) -> Self {
        let events = events.iter().filter(|event| taken.contains(&event.group)).count();
        let made = owed.into_iter().filter(|(group, _)| taken.contains(group)).map(|(_, new)| new);
        Self { events, deliveries: made.collect(), taken, large: false, numbered: None }
    }
}

fn of_event(directory: &Directory, event: &WaitingEvent, hold: Hold) -> Vec<NewDelivery> {
    let wanting = matching::wanting(directory, event, hold.now).into_iter();
    wanting
        .map(|(hook, ordering)| {
            let id = DeliveryId { event: event.id, subscription: hook.id };
            let ttl = hook.consumer.as_ref().and_then(|consumer| consumer.ttl);
            let expires_at = ttl.map(|ttl| event.since + ttl);
            NewDelivery { ordering, expires_at, ..NewDelivery::plain(id, event.tenant, hook.kind.profile()) }
        })
        .collect()
}
