//! What waits in a deliverer's memory: a delivery with all that its try needs.

use std::sync::Arc;

use bytes::Bytes;
use hookyard_domain::{
    delivery::{HeldDelivery, rung::EventToSend},
    id::EventId,
    subscription::{Secrets, Subscription},
    trace::TraceContext,
};
use hookyard_messaging::Lane;
use tokio::sync::OwnedSemaphorePermit;

use crate::memory::Share;

/// The type of the events by which runs ask.
const ASKS: &str = "task.needs_input";

/// An event in memory, shared by all of its deliveries that are at hand.
#[derive(Debug)]
pub(crate) struct LoadedEvent {
    pub(crate) id: EventId,
    pub(crate) correlation_id: Option<String>,
    pub(crate) trace: TraceContext,
    /// Whether it is a question, which a receiver of its webhook may answer in the reply.
    pub(crate) asks: bool,
    pub(crate) body: Bytes,
    /// The body's share of the memory for bodies, given back when the last delivery is done.
    _memory: OwnedSemaphorePermit,
}

impl LoadedEvent {
    pub(crate) fn new(event: EventToSend, memory: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self {
            id: event.id,
            correlation_id: event.correlation_id,
            asks: event.event_type.as_str() == ASKS,
            trace: TraceContext::of(event.trace, event.sampled),
            body: event.body.into(),
            _memory: memory,
        })
    }
}

/// A delivery that is ready to be tried.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) held: HeldDelivery,
    pub(crate) lane: Lane,
    pub(crate) hook: Arc<Subscription>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) event: Arc<LoadedEvent>,
    /// What its body takes of its endpoint's share of the memory, once it waits,
    pub(crate) held_bytes: Option<Share>,
    /// and of what may be on its way to it, once it is.
    pub(crate) sent_bytes: Option<Share>,
}
