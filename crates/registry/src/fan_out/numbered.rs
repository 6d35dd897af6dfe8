//! Deliveries whose numbers are known: whoever sends them in this process need not read them (docs/decisions/0062).

use std::{collections::HashMap, sync::Arc, time::Instant};

use hookyard_domain::{
    delivery::{NewDelivery, fan_out::Hold, rung::EventToSend},
    id::{DeliveryId, EventId},
    subscription::directory::Standing,
};
use hookyard_messaging::{AtHand, Made};

/// The numbers of deliveries that were made, and of what.
pub(super) struct Numbered {
    pub(super) numbers: HashMap<DeliveryId, i64>,
    pub(super) standing: Standing,
}

impl Numbered {
    /// Puts deliveries at hand whose events are.
    pub(super) fn hand_over(self, at_hand: &AtHand, made: &[NewDelivery], hold: Hold, now: Instant) {
        let standing = Arc::new(self.standing);
        let mut events: HashMap<EventId, Option<Arc<EventToSend>>> = HashMap::new();
        let made = made.iter().filter_map(|new| {
            let sequence = *self.numbers.get(&new.id)?;
            let id = new.id.event;
            let event = events.entry(id).or_insert_with(|| at_hand.take_event(id).map(Arc::new)).clone()?;
            Some(Made { held: new.held(hold, Some(sequence)), event, standing: Arc::clone(&standing) })
        });
        at_hand.put_deliveries(made.collect(), now);
    }
}
