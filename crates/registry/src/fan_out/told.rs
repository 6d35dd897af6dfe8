//! Groups of which their rings tell all: they are fanned out without being read. Where anything else is needed (the content of an
//! event, a line, a newer snapshot), they are left for the way that reads.

use hookyard_domain::{
    Result,
    db::Conn,
    delivery::{
        NewDelivery,
        fan_out::{self, Foreseen, Hold, Owed, Taken, Told},
    },
    event::{Origin, waiting::WaitingEvent},
    id::EventGroupId,
    subscription::directory::{Directory, Standing},
};
use hookyard_messaging::Accepted;

use super::{Rung, Written, large::LARGE, numbered::Numbered, of_event};

/// Of more deliveries at once than this nothing is left at hand: reading them costs little for each.
const HANDED_OVER: usize = 64;

/// Groups that can be tried.
pub(super) struct Whole {
    events: Vec<WaitingEvent>,
    told: Told,
    directory: Directory,
}

/// What was rung, if all of it was told and nobody looks at its content; with the `numbers` of its deliveries, if somebody wants them.
pub(super) fn of(directory: &Directory, rung: &[Rung], numbers: bool) -> Option<Whole> {
    let standing = directory.standing();
    let mut events = Vec::new();
    for Rung { group, accepted } in rung {
        events.extend(unread(&standing, *group, accepted.as_ref()?)?);
    }
    let told = events.iter().map(|event| (event.group, event.tenant, event.id)).collect();
    Some(Whole { events, told: Told { standing, events: told, numbers }, directory: directory.clone() })
}

/// What will follow from events of which no more is known, if it is as little as is left at hand.
pub(super) fn foresee(
    directory: &Directory,
    group: EventGroupId,
    accepted: &Accepted,
    hold: Hold,
) -> Option<Foreseen> {
    let standing = directory.standing();
    let owed = plain(directory, &unread(&standing, group, accepted)?, hold)?;
    let deliveries: Vec<NewDelivery> = owed.into_iter().map(|(_, new)| new).collect();
    (deliveries.len() <= HANDED_OVER).then_some(Foreseen { standing, deliveries, hold })
}

/// The events of a group, if nobody looks at their content.
fn unread(standing: &Standing, group: EventGroupId, accepted: &Accepted) -> Option<Vec<WaitingEvent>> {
    let events = accepted.events.iter().map(|event| WaitingEvent {
        group,
        tenant: event.tenant,
        id: event.id,
        event_type: event.event_type.clone(),
        origin: Origin::Posted,
        body: None,
        since: accepted.since,
    });
    let filters = accepted.events.iter().any(|event| standing.may_filter(event.tenant));
    (!filters).then(|| events.collect())
}

/// The deliveries of these events, if none of them waits for others or expires, and no event has very many.
fn plain(directory: &Directory, events: &[WaitingEvent], hold: Hold) -> Option<Vec<Owed>> {
    let mut owed = Vec::with_capacity(events.len());
    for event in events {
        let deliveries = of_event(directory, event, hold);
        let plain = deliveries.iter().all(|new| new.ordering.is_none() && new.expires_at.is_none());
        if !plain || deliveries.len() > LARGE {
            return None;
        }
        owed.extend(deliveries.into_iter().map(|new| (event.group, new)));
    }
    Some(owed)
}

impl Whole {
    /// Makes the deliveries of the groups that are as they were told, unless something stands against it.
    ///
    /// # Errors
    /// When the database is away.
    pub(super) fn write(mut self, conn: &mut Conn, groups: &[EventGroupId], hold: Hold) -> Result<Written> {
        let Some(owed) = plain(&self.directory, &self.events, hold) else { return Ok(Written::default()) };
        self.told.numbers &= owed.len() <= HANDED_OVER;
        let Taken { groups, numbers } = fan_out::take_told(conn, groups, &self.told, &owed, hold)?;
        let numbered = self.told.numbers.then_some(Numbered { numbers, standing: self.told.standing });
        Ok(Written { numbered, ..Written::of(groups, &self.events, owed) })
    }
}
