//! Within one process, whoever stores small events asks what follows from them, and writes it with the same statement
//! (docs/decisions/0063).

use std::{collections::HashSet, sync::Arc};

use futures_util::future::BoxFuture;
use hookyard_domain::{delivery::fan_out::Foreseen, id::EventGroupId};
use hookyard_messaging::{Accepted, Foresight, Foretold};
use tokio_util::sync::CancellationToken;

use super::{FanOut, Written, numbered::Numbered, told};

/// A registry that is asked before.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) fan_out: Arc<FanOut>,
    /// Foresees nothing any more then.
    pub(crate) stop: CancellationToken,
}

impl Foresight for Ahead {
    fn foresee(&self, group: EventGroupId, accepted: &Accepted) -> Option<Foreseen> {
        // Who stops leaves it to whoever comes next: for him the group's row is there at once, a lease has to end first.
        if self.stop.is_cancelled() {
            return None;
        }
        told::foresee(&self.fan_out.context.directory, group, accepted, self.fan_out.hold())
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
