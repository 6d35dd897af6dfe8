//! The bus on RabbitMQ: what it declares, and how it takes the broker's misfortunes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hookyard_domain::trace::TraceContext;
use hookyard_messaging::{AmqpSettings, Bus, DELIVERY_LIMIT, PublishError, Queue};
use lapin::{
    BasicProperties,
    options::{BasicGetOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{
    process::Command,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::road::Road;
use super::stage::{
    self, BROKER, Names, PATIENCE, QUEUE, Side, connected, drain, next, nothing_more, number, publish, ring,
};

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_durable_quorum_queues_with_a_bound_and_a_dead_letter_queue() {
    stage::on_broker(async |names: Names| {
        let bus = Bus::start(&names.settings(BROKER), &names.process()).unwrap();
        connected(&bus).await;
        let text = |text: &str| AMQPValue::LongString(text.into());
        let arguments = |limit| {
            let mut table = FieldTable::default();
            table.insert("x-queue-type".into(), text("quorum"));
            table.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit));
            table.insert("x-dead-letter-exchange".into(), text(&names.dead()));
            table.insert("x-dead-letter-strategy".into(), text("at-least-once"));
            table.insert("x-max-length".into(), AMQPValue::LongLongInt(1_000_000));
            table.insert("x-overflow".into(), text("reject-publish"));
            table
        };
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        let side = Side::open().await;
        // The broker accepts a declaration of what exists only when it is the same.
        for queue in Queue::all() {
            side.channel.queue_declare(names.queue(queue).into(), durable, arguments(20)).await.unwrap();
        }
        let different = side.channel.queue_declare(names.queue(QUEUE).into(), durable, arguments(21)).await;
        assert!(different.unwrap_err().is_amqp_soft_error());
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let side = Side::open().await;
        side.channel.queue_declare(names.dead().into(), passive, FieldTable::default()).await.unwrap();
        bus.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_ends_in_the_dead_letter_queue() {
    stage::on_broker(async |names: Names| {
        let bus = Bus::start(&names.settings(BROKER), &names.process()).unwrap();
        let mut consumer = bus.consume(QUEUE, 2).await;
        connected(&bus).await;
        let side = Side::open().await;
        let rubbish: [&[u8]; 3] = [b"", b"\xff{", br#"{"kind":"task_burnt"}"#];
        for bytes in rubbish {
            let (exchange, queue) = ("".into(), names.queue(QUEUE).into());
            let sent = side.channel.basic_publish(
                exchange,
                queue,
                Default::default(),
                bytes,
                BasicProperties::default(),
            );
            sent.await.unwrap();
        }
        for bytes in rubbish {
            assert_eq!(dead_letter(&side, &names).await, bytes);
        }
        publish(&bus, 1).await;
        let incoming = next(&mut consumer).await;
        assert_eq!(number(&incoming), 1, "the reader goes on");
        incoming.ack();
        assert_eq!(bus.counters().unreadable, 3);

        publish(&bus, 2).await;
        for _ in 0..=DELIVERY_LIMIT {
            drop(next(&mut consumer).await);
        }
        let dead: serde_json::Value = serde_json::from_slice(&dead_letter(&side, &names).await).unwrap();
        assert_eq!(dead, serde_json::to_value(ring(2)).unwrap());
        bus.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_an_error_and_is_declared_again() {
    stage::on_broker(async |names: Names| {
        let bus = Bus::start(&names.settings(BROKER), &names.process()).unwrap();
        connected(&bus).await;
        let side = Side::open().await;
        side.channel.queue_delete(names.queue(QUEUE).into(), Default::default()).await.unwrap();
        let gone = bus.publish(QUEUE, &ring(1), &TraceContext::fresh()).await;
        assert_eq!(gone, Err(PublishError::Returned { queue: QUEUE }));
        publish_until_confirmed(&bus, 2).await;

        // The same under a reader.
        let mut consumer = bus.consume(QUEUE, 2).await;
        let incoming = next(&mut consumer).await;
        assert_eq!(number(&incoming), 2);
        incoming.ack();
        side.channel.queue_delete(names.queue(QUEUE).into(), Default::default()).await.unwrap();
        let mut ready = bus.watch_connected();
        timeout(PATIENCE, ready.wait_for(|ready| !ready)).await.unwrap().unwrap();
        connected(&bus).await;
        publish_until_confirmed(&bus, 3).await;
        assert_eq!(number(&next(&mut consumer).await), 3);
        bus.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_arguments_keeps_the_bus_from_being_ready() {
    stage::on_broker(async |names: Names| {
        let side = Side::open().await;
        side.channel
            .queue_declare(names.queue(QUEUE).into(), QueueDeclareOptions::default(), FieldTable::default())
            .await
            .unwrap();
        let bus = Bus::start(&names.settings(BROKER), &names.process()).unwrap();
        sleep(Duration::from_secs(1)).await;
        assert!(!bus.connected());
        assert_eq!(
            bus.publish(QUEUE, &ring(1), &TraceContext::fresh()).await,
            Err(PublishError::Disconnected)
        );
        side.channel.queue_delete(names.queue(QUEUE).into(), Default::default()).await.unwrap();
        connected(&bus).await;
        publish(&bus, 1).await;
        bus.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_publishing_fails_at_once_and_comes_back_by_itself() {
    stage::on_broker(async |names: Names| {
        let road = Road::open().await;
        let bus = Bus::start(&names.settings(&road.url), &names.process()).unwrap();
        let mut consumer = bus.consume(QUEUE, 4).await;
        connected(&bus).await;
        publish(&bus, 1).await;
        let (before, ()) = (next(&mut consumer).await, road.close().await);
        timeout(PATIENCE, bus.watch_connected().wait_for(|ready| !ready)).await.unwrap().unwrap();
        let asked = Instant::now();
        // Lost, when the consumer's channel has noticed before the publisher's has.
        let refused = bus.publish(QUEUE, &ring(2), &TraceContext::fresh()).await;
        assert!(
            matches!(refused, Err(PublishError::Disconnected | PublishError::Lost)),
            "without a broker: {refused:?}"
        );
        assert!(asked.elapsed() < Duration::from_millis(100), "{:?}", asked.elapsed());

        road.reopen().await;
        connected(&bus).await;
        let again = next(&mut consumer).await;
        assert_eq!((number(&again), again.redelivered()), (1, true));
        // The broker numbers from 1 again; an old acknowledgement must not hit the new message of that number.
        before.ack();
        publish(&bus, 3).await;
        let after = next(&mut consumer).await;
        assert_eq!(number(&after), 3);
        after.ack();
        drop(again);
        let again = next(&mut consumer).await;
        assert_eq!(number(&again), 1);
        again.ack();
        nothing_more(&mut consumer).await;
        bus.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_falls_silent_is_given_up() {
    stage::on_broker(async |names: Names| {
        let road = Road::open().await;
        let settings = AmqpSettings { heartbeat_s: 5, publish_timeout_ms: 500, ..names.settings(&road.url) };
        let bus = Bus::start(&settings, &names.process()).unwrap();
        let mut consumer = bus.consume(QUEUE, 4).await;
        connected(&bus).await;
        road.silence();
        let unheard = bus.publish(QUEUE, &ring(1), &TraceContext::fresh()).await;
        assert_eq!(unheard, Err(PublishError::Timeout { waited: Duration::from_millis(500) }));
        timeout(PATIENCE, bus.watch_connected().wait_for(|ready| !ready)).await.unwrap().unwrap();
        road.close().await;
        road.reopen().await;
        connected(&bus).await;
        publish(&bus, 2).await;
        // The broker had the first one all the time: unheard is not unsent.
        assert_eq!(drain(&mut consumer, 2).await, [1, 2]);
        bus.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_fails_is_a_broker_out_of_reach() {
    // The port speaks no TLS. What counts is that the client gets as far as trying, with the one TLS provider it has.
    let url = BROKER.replace("amqp:", "amqps:");
    let bus =
        Bus::start(&AmqpSettings { url: Some(url.parse().unwrap()), ..AmqpSettings::default() }, "test")
            .unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bus.publish(QUEUE, &ring(1), &TraceContext::fresh()).await, Err(PublishError::Disconnected));
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_confirmed_is_lost_when_connections_break_under_load() {
    stage::on_broker(async |names: Names| {
        let road = Road::open().await;
        let bus = Bus::start(&names.settings(&road.url), &names.process()).unwrap();
        let lost = under_load(&bus, async || {
            for _ in 0..4 {
                connected(&bus).await;
                sleep(Duration::from_millis(200)).await;
                road.close().await;
                timeout(PATIENCE, bus.watch_connected().wait_for(|ready| !ready)).await.unwrap().unwrap();
                road.reopen().await;
            }
        });
        assert_eq!(lost.await, 8, "both connections, each time");
        bus.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_confirmed_is_lost_when_the_broker_closes_our_connections() {
    stage::on_broker(async |names: Names| {
        let bus = Bus::start(&names.settings(BROKER), &names.process()).unwrap();
        let process = names.process();
        let lost = under_load(&bus, async || {
            sleep(Duration::from_millis(200)).await;
            let listed = control(&["-q", "list_connections", "pid", "client_properties"]).await;
            let ours: Vec<&str> = listed.lines().filter(|line| line.contains(&process)).collect();
            assert_eq!(ours.len(), 2, "{listed}");
            for line in ours {
                let pid = line.split_whitespace().next().unwrap();
                control(&["-q", "close_connection", pid, "a test of hookyard"]).await;
            }
        });
        assert_eq!(lost.await, 2);
        bus.close().await;
    })
    .await;
}

/// Publishes and reads while the harm is done, and a little longer. Checks that everything confirmed was read, and tells how
/// many connections were lost.
async fn under_load(bus: &Bus, harm: impl AsyncFnOnce()) -> u64 {
    let mut consumer = bus.consume(QUEUE, 64).await;
    connected(bus).await;
    let done = Arc::new(Mutex::new(false));
    let mut publishers = JoinSet::new();
    for publisher in 0..16_u128 {
        let (bus, done) = (bus.clone(), Arc::clone(&done));
        publishers.spawn(async move {
            let mut confirmed = BTreeSet::new();
            for number in 0.. {
                if *done.lock().unwrap() {
                    break;
                }
                let number = publisher << 64 | number;
                match bus.publish(QUEUE, &ring(number), &TraceContext::fresh()).await {
                    Ok(()) => drop(confirmed.insert(number)),
                    Err(_) => sleep(Duration::from_millis(5)).await,
                }
            }
            confirmed
        });
    }
    let read = Arc::new(Mutex::new(BTreeSet::new()));
    let reader = tokio::spawn({
        let read = Arc::clone(&read);
        async move {
            let mut batch = Vec::new();
            while consumer.recv_many(&mut batch, 64).await != 0 {
                read.lock().unwrap().extend(batch.iter().map(number));
                hookyard_messaging::Incoming::ack_all(batch.drain(..));
            }
        }
    });
    harm().await;
    connected(bus).await;
    sleep(Duration::from_millis(200)).await;
    *done.lock().unwrap() = true;
    let confirmed: BTreeSet<u128> = publishers.join_all().await.into_iter().flatten().collect();
    let begun = Instant::now();
    let missing = loop {
        let missing = confirmed.difference(&read.lock().unwrap()).count();
        if missing == 0 || PATIENCE < begun.elapsed() {
            break missing;
        }
        sleep(Duration::from_millis(20)).await;
    };
    reader.abort();
    assert_eq!(missing, 0, "of {} confirmed", confirmed.len());
    assert!(100 < confirmed.len(), "{}", confirmed.len());
    println!("{} confirmed, {:?}", confirmed.len(), bus.counters());
    bus.counters().connections_lost
}

async fn publish_until_confirmed(bus: &Bus, number: u128) {
    let confirmed = async {
        while bus.publish(QUEUE, &ring(number), &TraceContext::fresh()).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, confirmed).await.unwrap();
}

async fn dead_letter(side: &Side, names: &Names) -> Vec<u8> {
    let taken = async {
        loop {
            let got =
                side.channel.basic_get(names.dead().into(), BasicGetOptions { no_ack: true }).await.unwrap();
            match got {
                Some(message) => return message.delivery.data,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, taken).await.unwrap()
}

/// Asks the broker's command line.
async fn control(arguments: &[&str]) -> String {
    let output = Command::new("rabbitmqctl").args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
