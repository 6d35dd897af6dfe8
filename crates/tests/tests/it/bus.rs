//! The bus, over both of its transports: what a service may rely on without knowing which one it has.
//!
//! What only a broker can do (be lost, lose a queue, hold rubbish) is in `broker`.

#![expect(clippy::unwrap_used, reason = "a broken harness should stop its test")]

mod broker;
mod everybody;
mod road;
mod stage;

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use hookyard_domain::{
    id::{ClaimId, DeliveryId, EventGroupId, EventId, SettlementId, SubscriptionId},
    trace::TraceContext,
};
use hookyard_messaging::{Bus, DELIVERY_LIMIT, Incoming, Lane, Message, PublishError, Queue};
use uuid::Uuid;

use everybody::each_listener_hears_what_is_said_to_everybody;
use stage::{QUEUE, drain, next, nothing_more, number, publish, ring};

macro_rules! over_both {
    ($($name:ident)+) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::stage::over_memory(super::$name).await;
            })+
        }
        mod amqp {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::stage::over_amqp(super::$name).await;
            })+
        }
    };
}

over_both! {
    every_message_arrives_as_it_was_sent
    readers_of_a_queue_share_its_messages
    a_message_that_is_dropped_comes_back_and_says_so
    a_message_that_comes_back_too_often_is_put_aside
    a_reader_holds_no_more_than_its_prefetch
    messages_keep_their_order
    a_thousand_calls_publish_at_once
    a_reader_that_leaves_gives_back_what_it_was_not_given
    a_wait_that_is_dropped_loses_nothing
    closing_ends_readers_and_publishers
    each_listener_hears_what_is_said_to_everybody
}

async fn every_message_arrives_as_it_was_sent(bus: Bus) {
    let uuid = Uuid::from_u128;
    let deliveries = (0..256).map(|number| DeliveryId {
        event: EventId::from_uuid(uuid(number)),
        subscription: SubscriptionId::from_uuid(uuid(u128::MAX - number)),
    });
    let due = Message::DeliveryDue { claim: ClaimId::from_uuid(uuid(1)), deliveries: deliveries.collect() };
    for queue in Queue::all() {
        let message = match queue {
            Queue::EventAccepted => {
                Message::EventAccepted { group: EventGroupId::from_uuid(uuid(2)), accepted: None }
            }
            Queue::DeliverySettled => {
                Message::DeliverySettled { settlements: vec![SettlementId::from_uuid(uuid(3))] }
            }
            Queue::DeliveryDue { lane: Lane::First | Lane::Retry, partition: _ } => due.clone(),
            Queue::TaskQueued => Message::TaskQueued {},
        };
        let trace = TraceContext { sampled: true, ..TraceContext::fresh() };
        assert_eq!(bus.publish(queue, &message, &trace).await, Ok(()));
        let mut consumer = bus.consume(queue, 1).await;
        let incoming = next(&mut consumer).await;
        assert_eq!(
            (incoming.message(), incoming.trace(), incoming.redelivered()),
            (&message, Some(trace), false)
        );
        incoming.ack();
    }
}

async fn readers_of_a_queue_share_its_messages(bus: Bus) {
    let (mut first, mut second) = (bus.consume(QUEUE, 8).await, bus.consume(QUEUE, 8).await);
    stage::connected(&bus).await;
    join_all((0..200).map(|number| publish(&bus, number))).await;
    let mut shares = [BTreeSet::new(), BTreeSet::new()];
    while shares[0].len() + shares[1].len() < 200 {
        let (reader, incoming) = tokio::select! {
            incoming = next(&mut first) => (0, incoming),
            incoming = next(&mut second) => (1, incoming),
        };
        assert!(shares[reader].insert(number(&incoming)));
        incoming.ack();
    }
    assert!(shares[0].is_disjoint(&shares[1]), "nobody gets what another one has");
    assert!(shares.iter().all(|share| 20 < share.len()), "{} and {}", shares[0].len(), shares[1].len());
}

async fn a_message_that_is_dropped_comes_back_and_says_so(bus: Bus) {
    let mut consumer = bus.consume(QUEUE, 1).await;
    publish(&bus, 1).await;
    publish(&bus, 2).await;
    drop(next(&mut consumer).await);
    let again = next(&mut consumer).await;
    assert_eq!((number(&again), again.redelivered()), (1, true));
    again.ack();
    let other = next(&mut consumer).await;
    assert_eq!((number(&other), other.redelivered()), (2, false));
    other.ack();
    nothing_more(&mut consumer).await;
}

async fn a_message_that_comes_back_too_often_is_put_aside(bus: Bus) {
    let mut consumer = bus.consume(QUEUE, 1).await;
    publish(&bus, 1).await;
    for _ in 0..=DELIVERY_LIMIT {
        drop(next(&mut consumer).await);
    }
    nothing_more(&mut consumer).await;
    publish(&bus, 2).await;
    let next = next(&mut consumer).await;
    assert_eq!((number(&next), next.redelivered()), (2, false));
}

async fn a_reader_holds_no_more_than_its_prefetch(bus: Bus) {
    let mut consumer = bus.consume(QUEUE, 5).await;
    join_all((0..20).map(|number| publish(&bus, number))).await;
    let mut held = Vec::new();
    while held.len() < 5 {
        consumer.recv_many(&mut held, 100).await;
    }
    assert_eq!(held.len(), 5);
    nothing_more(&mut consumer).await;
    // Acknowledged out of order: the older ones in work hold nothing up.
    held.pop().unwrap().ack();
    held.push(next(&mut consumer).await);
    nothing_more(&mut consumer).await;
    Incoming::ack_all(held);
    assert_eq!(drain(&mut consumer, 14).await.len(), 14);
}

async fn messages_keep_their_order(bus: Bus) {
    let mut consumer = bus.consume(QUEUE, 64).await;
    let sent: Vec<u128> = (0..300).collect();
    for number in &sent {
        publish(&bus, *number).await;
    }
    assert_eq!(drain(&mut consumer, sent.len()).await, sent);
}

async fn a_thousand_calls_publish_at_once(bus: Bus) {
    let results = join_all((0..1_000).map(|number| {
        let bus = bus.clone();
        async move { bus.publish(QUEUE, &ring(number), &TraceContext::fresh()).await }
    }));
    assert!(results.await.into_iter().all(|result| result == Ok(())));
    let mut consumer = bus.consume(QUEUE, 256).await;
    let mut received = drain(&mut consumer, 1_000).await;
    received.sort_unstable();
    assert_eq!(received, (0..1_000).collect::<Vec<_>>());
    let counters = bus.counters();
    assert_eq!((counters.published, counters.confirmed, counters.received), (1_000, 1_000, 1_000));
}

async fn a_reader_that_leaves_gives_back_what_it_was_not_given(bus: Bus) {
    let mut leaving = bus.consume(QUEUE, 10).await;
    join_all((0..10).map(|number| publish(&bus, number))).await;
    let taken = next(&mut leaving).await;
    drop(leaving);
    let mut staying = bus.consume(QUEUE, 10).await;
    let mut received = drain(&mut staying, 9).await;
    assert!(!received.contains(&number(&taken)));
    received.push(number(&taken));
    received.sort_unstable();
    assert_eq!(received, (0..10).collect::<Vec<_>>());
    // What it was given it may still acknowledge.
    taken.ack();
    nothing_more(&mut staying).await;
}

async fn a_wait_that_is_dropped_loses_nothing(bus: Bus) {
    let mut consumer = bus.consume(QUEUE, 16).await;
    let publisher = tokio::spawn({
        let bus = bus.clone();
        async move {
            for number in 0..200 {
                publish(&bus, number).await;
            }
        }
    });
    let mut received = Vec::new();
    while received.len() < 200 {
        if let Ok(incoming) = tokio::time::timeout(Duration::from_micros(50), consumer.recv()).await {
            let incoming = incoming.unwrap();
            received.push(number(&incoming));
            incoming.ack();
        }
    }
    publisher.await.unwrap();
    assert_eq!(received, (0..200).collect::<Vec<_>>());
}

async fn closing_ends_readers_and_publishers(bus: Bus) {
    let (mut consumer, mut idle) = (bus.consume(QUEUE, 4).await, bus.consume(Queue::EventAccepted, 4).await);
    stage::connected(&bus).await;
    let waiting = tokio::spawn(async move { idle.recv().await.is_none() });
    join_all((0..8).map(|number| publish(&bus, number))).await;
    let (kept, worked) = (next(&mut consumer).await, next(&mut consumer).await);
    worked.ack();
    let closing = tokio::spawn({
        let bus = bus.clone();
        async move { bus.close().await }
    });
    assert!(waiting.await.unwrap(), "a reader that waits is told");
    while let Some(incoming) = consumer.recv().await {
        drop(incoming);
    }
    kept.ack();
    closing.await.unwrap();
    assert!(consumer.recv().await.is_none());
    assert_eq!(consumer.recv_many(&mut Vec::new(), 9).await, 0);
    assert_eq!(bus.publish(QUEUE, &ring(9), &TraceContext::fresh()).await, Err(PublishError::Closed));
    assert!(!bus.connected());
}
