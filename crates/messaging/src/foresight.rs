//! Whoever knows, in this process, what will follow from an event: whoever stores it can write that with the same statement
//! (docs/decisions/0063).

use std::{
    fmt::Debug,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Instant,
};

use futures_util::future::BoxFuture;
use hookyard_domain::{
    delivery::fan_out::{Foreseen, Numbers},
    id::EventGroupId,
};

use crate::message::Accepted;

/// Tells what follows from events.
pub trait Foresight: Debug + Send + Sync {
    /// What follows from events that are about to be stored, as a group, with nothing else. `None` when that is not known before they
    /// are read, or is much: then a ring asks for it.
    fn foresee(&self, group: EventGroupId, accepted: &Accepted) -> Option<Foreseen>;

    /// What was told is no longer so: subscriptions have changed. Returns at once.
    fn outdated(&self);

    /// It was written, by a statement that began then: does what follows the commit.
    fn made(&self, foretold: Foretold) -> BoxFuture<'static, ()>;
}

/// What was foreseen of a group, and written with it.
#[derive(Clone, Debug)]
pub struct Foretold {
    /// The group.
    pub group: EventGroupId,
    /// Its events.
    pub accepted: Accepted,
    /// What was foreseen.
    pub foreseen: Foreseen,
    /// The numbers of the deliveries.
    pub numbers: Numbers,
    /// When writing it began.
    pub began: Instant,
}

/// Where whoever has foresight is found, while he is there.
#[derive(Debug, Default)]
pub(crate) struct Place(RwLock<Option<Weak<dyn Foresight>>>);

impl Place {
    pub(crate) fn fill(&self, foresight: Weak<dyn Foresight>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(foresight);
    }

    pub(crate) fn get(&self) -> Option<Arc<dyn Foresight>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.upgrade()
    }
}
