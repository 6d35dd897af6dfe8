//! What the bus has counted since its start. Whoever reports metrics reads a snapshot.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident)+) => {
        /// Numbers since the start of the bus; each only grows.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)+
        }

        /// The living counters.
        #[derive(Debug, Default)]
        pub(crate) struct Tally {
            $(pub(crate) $name: AtomicU64,)+
        }

        impl Tally {
            pub(crate) fn snapshot(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

counters! {
    /// Messages that were handed to the bus.
    published
    /// Published messages that the queue has taken.
    confirmed
    /// Published messages whose queue did not exist.
    returned
    /// Published messages that the queue did not take: it was full, or the broker could not store them.
    refused
    /// Published messages of which nothing was heard in time.
    late
    /// Published messages that failed because the broker was away.
    disconnected
    /// Messages that were handed to a consumer.
    received
    /// Messages that were acknowledged.
    acknowledged
    /// Messages that were given back without an acknowledgement.
    given_back
    /// Messages that were put aside because nobody can read them.
    unreadable
    /// Connections to the broker that were lost.
    connections_lost
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
