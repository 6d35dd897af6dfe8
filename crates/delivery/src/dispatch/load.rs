//! How full the lanes are, for those who would bring more.

use hookyard_messaging::Lane;
use tokio::sync::watch;

/// While so many wait in memory in one lane, and of no endpoint more than a quarter of them, no more of it is read.
pub(super) const ENOUGH: usize = 4_096;

/// How many deliveries wait in memory, first tries and retries, for those who would bring more; of one endpoint no more than are pressing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load(watch::Sender<(usize, usize)>);

impl Load {
    /// Whether a lane takes more.
    pub(crate) fn has_room(&self, lane: Lane) -> bool {
        has_room(lane, &self.0.borrow())
    }

    /// Returns when a lane takes more.
    pub(crate) async fn room(&self, lane: Lane) {
        let mut load = self.0.subscribe();
        // Cannot fail: we have a sender.
        let _waiting = load.wait_for(|waiting| has_room(lane, waiting)).await;
    }

    pub(super) fn is(&self, first: usize, retry: usize) {
        self.0.send_if_modified(|waiting| std::mem::replace(waiting, (first, retry)) != (first, retry));
    }
}

fn has_room(lane: Lane, (first, retry): &(usize, usize)) -> bool {
    let waiting = match lane {
        Lane::First => *first,
        Lane::Retry => *retry,
    };
    waiting < ENOUGH
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_lane_is_waited_for_and_not_the_other() {
        let load = Load::default();
        let waits = |lane| load.room(lane).now_or_never().is_none();
        load.is(ENOUGH - 1, ENOUGH);
        assert_eq!((waits(Lane::First), waits(Lane::Retry)), (false, true));
        assert_eq!((load.has_room(Lane::First), load.has_room(Lane::Retry)), (true, false));
        load.is(ENOUGH, ENOUGH - 1);
        assert_eq!((waits(Lane::First), waits(Lane::Retry)), (true, false));
        let (waiting, less) = (load.clone(), load.clone());
        let waiting = tokio::spawn(async move { waiting.room(Lane::First).await });
        tokio::task::yield_now().await;
        less.is(ENOUGH - 1, ENOUGH);
        waiting.await.unwrap();
    }
}
