//! Whether the bus works right now: readiness tells the truth (invariant 12).

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// The bus is ready while it can publish and every consumer is served.
#[derive(Debug)]
pub(crate) struct Readiness {
    parts: Mutex<Parts>,
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// The broker takes our messages.
    pub(crate) publisher: bool,
    /// Consumers that were asked for.
    pub(crate) consumers: usize,
    /// Those of them that the broker serves.
    pub(crate) served: usize,
}

impl Readiness {
    pub(crate) fn new() -> Self {
        Self { parts: Mutex::default(), ready: watch::Sender::new(false) }
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Parts)) {
        // A panic inside `change` cannot leave numbers half written.
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        let ready = parts.publisher && parts.served == parts.consumers;
        // Sent under the lock, so that two changes cannot be told in the wrong order.
        self.ready.send_if_modified(|was| std::mem::replace(was, ready) != ready);
    }

    pub(crate) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bus_is_ready_while_all_its_parts_work() {
        let readiness = Readiness::new();
        let after = |change: fn(&mut Parts)| {
            readiness.update(change);
            readiness.is_ready()
        };
        assert!(!after(|_| ()));
        assert!(after(|parts| parts.publisher = true));
        assert!(!after(|parts| parts.consumers += 1));
        assert!(after(|parts| parts.served += 1));
        assert!(!after(|parts| parts.publisher = false));
    }
}
