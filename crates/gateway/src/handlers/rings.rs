//! Rings that go out behind an answer. One that is lost is harmless: what it tells of is committed, and whoever should
//! hear it looks by itself a little later (invariant 1).

use hookyard_domain::{id::EventGroupId, trace::TraceContext};
use hookyard_messaging::{Message, Queue};

use crate::context::Context;

/// Events of our own wait for their fan-out.
pub(crate) fn events_accepted(context: &Context, group: EventGroupId) {
    let bus = context.bus.clone();
    context.afterwards.spawn(async move {
        let message = Message::EventAccepted { group, accepted: None };
        if let Err(error) = bus.publish(Queue::EventAccepted, &message, &TraceContext::fresh()).await {
            tracing::debug!(%error, "a ring was lost");
        }
    });
}
