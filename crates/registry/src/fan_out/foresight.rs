//! Whoever stores small events asks what follows from them, and writes it with the same statement: within one process
//! (docs/decisions/0063), and in gateways over a broker (0068).

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use hookyard_domain::{delivery::fan_out::Foreseen, id::EventGroupId};
use hookyard_messaging::{Accepted, Foresight, Foretold};
use tokio_util::sync::CancellationToken;

use super::{FanOut, Written, numbered::Numbered, told};

/// Between two looks at the subscriptions: while a long transaction is open, a look may not make what is known new enough.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A registry that is asked before.
#[derive(Debug)]
pub(crate) struct Ahead {
    fan_out: Arc<FanOut>,
    /// Foresees nothing any more then.
    stop: CancellationToken,
    /// Whether somebody looks at the subscriptions now.
    looks: Arc<AtomicBool>,
}

impl Ahead {
    pub(crate) fn new(fan_out: Arc<FanOut>, stop: CancellationToken) -> Self {
        Self { fan_out, stop, looks: Arc::default() }
    }
}

impl Foresight for Ahead {
    fn foresee(&self, group: EventGroupId, accepted: &Accepted) -> Option<Foreseen> {
        // Who stops leaves it to whoever comes next: for him the group's row is there at once, a lease has to end first.
        // And while nobody can be rung, a relay comes sooner than the sweep.
        let context = &self.fan_out.context;
        if self.stop.is_cancelled() || !context.bus.connected() {
            return None;
        }
        told::foresee(&context.directory, group, accepted, self.fan_out.hold())
    }

    fn outdated(&self) {
        if self.looks.swap(true, Ordering::AcqRel) {
            return;
        }
        let (context, looks) = (self.fan_out.context.clone(), Arc::clone(&self.looks));
        tokio::spawn(async move {
            let directory = context.directory.clone();
            if let Err(error) = context.db.once(move |conn| directory.refresh(conn)).await {
                tracing::debug!(error = error.chain(), "subscriptions cannot be read yet");
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            looks.store(false, Ordering::Release);
        });
    }

    fn made(&self, foretold: Foretold) -> BoxFuture<'static, ()> {
        let fan_out = Arc::clone(&self.fan_out);
        Box::pin(async move {
            let Foretold {
                group,
                accepted,
                foreseen: Foreseen { standing, deliveries, hold },
                numbers,
                began,
            } = foretold;
            let written = Written {
                taken: HashSet::from([group]),
                events: accepted.events.len(),
                deliveries,
                large: false,
                numbered: Some(Numbered { numbers, standing }),
            };
            fan_out.context.metrics.foreseen(written.events);
            fan_out.behind(written, hold, began).await;
        })
    }
}
