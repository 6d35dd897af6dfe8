//! The queues there are, and what they are called.
//!
//! Every queue has one kind of reader: the processes of a service compete for its messages.

/// Into how many queues the deliveries of a lane are divided by their endpoint. Deliverers read all of them today; the
/// division is there so that each can be given some, and the state of an endpoint then lives in one place.
pub const PARTITIONS: u16 = 4;

/// How often a message may come back unacknowledged before it is put aside: it is likely the message that ends its reader.
pub const DELIVERY_LIMIT: u32 = 20;

/// First tries and retries never wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Deliveries that were never tried.
    First,
    /// Deliveries that failed before.
    Retry,
}

/// Where a message waits for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// [`EventAccepted`](crate::Message::EventAccepted), for the registry.
    EventAccepted,
    /// [`DeliverySettled`](crate::Message::DeliverySettled), for the registry.
    DeliverySettled,
    /// [`DeliveryDue`](crate::Message::DeliveryDue), for the deliverers.
    DeliveryDue {
        /// First tries or retries.
        lane: Lane,
        /// Which part of the endpoints; taken modulo [`PARTITIONS`].
        partition: u16,
    },
    /// [`TaskQueued`](crate::Message::TaskQueued), for the runners.
    TaskQueued,
}

impl Queue {
    /// Every queue.
    pub fn all() -> impl Iterator<Item = Self> {
        let lane = |lane| (0..PARTITIONS).map(move |partition| Self::DeliveryDue { lane, partition });
        [Self::EventAccepted, Self::DeliverySettled]
            .into_iter()
            .chain(lane(Lane::First))
            .chain(lane(Lane::Retry))
            .chain([Self::TaskQueued])
    }

    /// The place of this queue in a table of all queues.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::EventAccepted => 0,
            Self::DeliverySettled => 1,
            Self::DeliveryDue { lane: Lane::First, partition } => 2 + usize::from(partition % PARTITIONS),
            Self::DeliveryDue { lane: Lane::Retry, partition } => {
                2 + usize::from(PARTITIONS) + usize::from(partition % PARTITIONS)
            }
            Self::TaskQueued => 2 + 2 * usize::from(PARTITIONS),
        }
    }

    /// The name without the namespace, such as `delivery.due.retry.3`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::EventAccepted => "event.accepted".to_owned(),
            Self::DeliverySettled => "delivery.settled".to_owned(),
            Self::DeliveryDue { lane: Lane::First, partition } => {
                format!("delivery.due.first.{}", partition % PARTITIONS)
            }
            Self::DeliveryDue { lane: Lane::Retry, partition } => {
                format!("delivery.due.retry.{}", partition % PARTITIONS)
            }
            Self::TaskQueued => "task.queued".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_one_place_and_one_name() {
        let all: Vec<Queue> = Queue::all().collect();
        assert_eq!(
            all.iter().map(|queue| queue.index()).collect::<Vec<_>>(),
            (0..all.len()).collect::<Vec<_>>()
        );
        let names: Vec<String> = all.iter().map(|queue| queue.name()).collect();
        assert_eq!(
            names,
            [
                "event.accepted",
                "delivery.settled",
                "delivery.due.first.0",
                "delivery.due.first.1",
                "delivery.due.first.2",
                "delivery.due.first.3",
                "delivery.due.retry.0",
                "delivery.due.retry.1",
                "delivery.due.retry.2",
                "delivery.due.retry.3",
                "task.queued",
            ]
        );
        let beyond = Queue::DeliveryDue { lane: Lane::Retry, partition: PARTITIONS + 1 };
        assert_eq!((beyond.index(), beyond.name()), (7, "delivery.due.retry.1".to_owned()));
    }
}
