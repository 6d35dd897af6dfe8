//! Groups of which their rings tell all: they are fanned out without being read. Where anything else is needed (the content of an
//! event, a line, a newer snapshot), they are left for the way that reads.

use hookyard_domain::{
    Result,
    db::Conn,
    delivery::fan_out::{self, Hold, Owed, Taken, Told},
    event::{Origin, waiting::WaitingEvent},
    id::EventGroupId,
    subscription::directory::Directory,
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
        let Accepted { since, events: accepted } = accepted.as_ref()?;
        for event in accepted {
            if standing.may_filter(event.tenant) {
                return None;
            }
            events.push(WaitingEvent {
                group: *group,
                tenant: event.tenant,
                id: event.id,
                event_type: event.event_type.clone(),
                origin: Origin::Posted,
                body: None,
                since: *since,
            });
        }
    }
    let told = events.iter().map(|event| (event.group, event.tenant, event.id)).collect();
    Some(Whole { events, told: Told { standing, events: told, numbers }, directory: directory.clone() })
}

impl Whole {
    /// Makes the deliveries of the groups that are as they were told, unless something stands against it.
    ///
    /// # Errors
    /// When the database is away.
    pub(super) fn write(mut self, conn: &mut Conn, groups: &[EventGroupId], hold: Hold) -> Result<Written> {
        let mut owed: Vec<Owed> = Vec::with_capacity(self.events.len());
        for event in &self.events {
            let deliveries = of_event(&self.directory, event, hold);
            let plain = deliveries.iter().all(|new| new.ordering.is_none() && new.expires_at.is_none());
            if !plain || deliveries.len() > LARGE {
                return Ok(Written::default());
            }
            owed.extend(deliveries.into_iter().map(|new| (event.group, new)));
        }
        self.told.numbers &= owed.len() <= HANDED_OVER;
        let Taken { groups, numbers } = fan_out::take_told(conn, groups, &self.told, &owed, hold)?;
        let numbered = self.told.numbers.then_some(Numbered { numbers, standing: self.told.standing });
        Ok(Written { numbered, ..Written::of(groups, &self.events, owed) })
    }
}
