//! What is said to everybody: each listener hears it, over both buses, and is told when it may have missed something.

use std::time::Duration;

use hookyard_domain::id::SubscriptionId;
use hookyard_messaging::{Bus, Heard, Listener, Message};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    road::Road,
    stage::{self, Names, PATIENCE, connected},
};

fn inboxes(numbers: std::ops::Range<u128>) -> Vec<SubscriptionId> {
    numbers.map(|number| SubscriptionId::from_uuid(Uuid::from_u128(number))).collect()
}

/// The next thing that is heard.
async fn heard(listener: &mut Listener) -> Heard {
    timeout(PATIENCE, listener.recv()).await.unwrap().unwrap()
}

/// Says something until the listener hears it: it may not be listening yet, or not again.
async fn until_heard(bus: &Bus, listener: &mut Listener, ids: &[SubscriptionId]) {
    let wanted = Heard::Message(Message::InboxFilled { inboxes: ids.to_vec() });
    let hear = async {
        loop {
            bus.ring_inboxes(ids);
            while let Ok(heard) = timeout(Duration::from_millis(50), listener.recv()).await {
                if heard.unwrap() == wanted {
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, hear).await.unwrap();
}

/// Nothing that was said before is left to be heard.
async fn silence(listener: &mut Listener) {
    while timeout(Duration::from_millis(200), listener.recv()).await.is_ok() {}
}

pub(super) async fn each_listener_hears_what_is_said_to_everybody(bus: Bus) {
    let (mut first, mut second) = (bus.listen(), bus.listen());
    for listener in [&mut first, &mut second] {
        until_heard(&bus, listener, &inboxes(0..1)).await;
    }
    for listener in [&mut first, &mut second] {
        silence(listener).await;
    }
    // Many inboxes are said in some messages, in order.
    let all = inboxes(10..610);
    bus.ring_inboxes(&all);
    bus.ring_inboxes(&[]);
    for listener in [&mut first, &mut second] {
        let mut named = Vec::new();
        while named.len() < all.len() {
            match heard(listener).await {
                Heard::Message(Message::InboxFilled { inboxes }) => named.extend(inboxes),
                other => unreachable!("{other:?}"),
            }
        }
        assert_eq!(named, all);
    }
    drop(first);
    bus.ring_inboxes(&inboxes(1..2));
    assert_eq!(heard(&mut second).await, Heard::Message(Message::InboxFilled { inboxes: inboxes(1..2) }));
    bus.close().await;
    assert_eq!(timeout(PATIENCE, second.recv()).await.unwrap(), None);
    // Nobody is there any more, which nobody minds.
    bus.ring_inboxes(&inboxes(1..2));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_cut_off_is_told_and_hears_again() {
    stage::on_broker(async |names: Names| {
        let road = Road::open().await;
        let bus = Bus::start(&names.settings(&road.url), &names.process()).unwrap();
        let mut listener = bus.listen();
        connected(&bus).await;
        until_heard(&bus, &mut listener, &inboxes(0..1)).await;
        silence(&mut listener).await;
        road.close().await;
        timeout(PATIENCE, bus.watch_connected().wait_for(|ready| !ready)).await.unwrap().unwrap();
        bus.ring_inboxes(&inboxes(5..6));
        road.reopen().await;
        connected(&bus).await;
        let again = timeout(PATIENCE, async { while heard(&mut listener).await != Heard::Missed {} });
        again.await.unwrap();
        until_heard(&bus, &mut listener, &inboxes(1..2)).await;
        bus.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_is_too_slow_is_told() {
    let bus = Bus::in_process();
    let mut listener = bus.listen();
    for number in 0..2_000 {
        bus.ring_inboxes(&inboxes(number..number + 1));
    }
    assert_eq!(heard(&mut listener).await, Heard::Missed);
    assert!(matches!(heard(&mut listener).await, Heard::Message(_)));
}
