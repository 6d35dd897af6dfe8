//! Where the tests of the pipeline take place: the whole product, a receiver, and questions that are asked until they are
//! answered.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_chassis::metrics::Registry;
use hookyard_domain::id::{DeliveryId, EventId, SubscriptionId};
use hookyard_messaging::Bus;
use hookyard_tests::{
    engine::Engine,
    http::Client,
    receiver::{Answer, Received, Receiver},
    system::{Options, System},
};
use serde_json::{Value, json};

use crate::retention::number;

/// Longer than anything here may take on a busy machine, and longer than a lease: what a broker drops in passing comes then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// A running product, a client that may do everything without limits, and a receiver.
pub(crate) struct Stage {
    pub(crate) system: System,
    pub(crate) client: Client,
    pub(crate) receiver: Receiver,
}

impl Stage {
    pub(crate) async fn open(bus: Bus) -> Self {
        Self::with(bus, |_, _| {}).await
    }

    /// A stage with other settings.
    pub(crate) async fn with(bus: Bus, change: impl FnOnce(&mut Options, &mut Engine)) -> Self {
        let receiver = Receiver::start().await;
        let mut options = Options::whole(bus, vec![receiver.prefix()]);
        let mut engine = options.engine.take().unwrap();
        change(&mut options, &mut engine);
        options.engine = Some(engine);
        let system = System::with(options).await;
        let client = system.client().await;
        Self { system, client, receiver }
    }

    /// A stage on which nothing is fanned out or sent.
    pub(crate) async fn still() -> Self {
        Self::with(Bus::in_process(), |_, engine| (engine.registries, engine.deliverers) = (0, 0)).await
    }

    /// Ends it as SIGTERM would: services that do not end fail the test.
    pub(crate) async fn close(mut self) {
        self.system.stop().await;
    }

    /// Subscribes `/path` of the receiver, with these members besides, and returns the id of the hook.
    pub(crate) async fn hook(&self, path: &str, more: Value) -> String {
        self.hook_at(&self.receiver.url(path), more).await
    }

    /// Subscribes a URL.
    pub(crate) async fn hook_at(&self, url: &str, more: Value) -> String {
        subscribe(&self.client, url, more).await
    }

    /// Posts an event and returns its id.
    pub(crate) async fn post(&self, event_type: &str, payload: Value) -> String {
        post(&self.client, event_type, payload).await
    }

    /// A hook as its owner sees it.
    pub(crate) async fn shown(&self, hook: &str) -> Value {
        self.client.get(&format!("/v1/hooks/{hook}")).await.expect(200)
    }

    /// Waits until the hook is in this state, and returns it.
    pub(crate) async fn in_state(&self, hook: &str, state: &str) -> Value {
        until(&format!("{hook} is {state}"), async || {
            let shown = self.shown(hook).await;
            if shown["state"] == state { Ok(shown) } else { Err(shown) }
        })
        .await
    }

    /// Waits until so many deliveries and failed tries of a hook are counted.
    pub(crate) async fn counted(&self, hook: &str, delivered: u32, failed: u32) {
        until(&format!("{delivered} delivered and {failed} failed are counted"), async || {
            let shown = self.shown(hook).await;
            let counts = json!([shown["delivery_count"], shown["failure_count"]]);
            if counts == json!([delivered, failed]) { Ok(()) } else { Err(counts) }
        })
        .await;
    }

    /// A delivery with its tries.
    pub(crate) async fn delivery(&self, event: &str, hook: &str) -> Value {
        self.client.get(&format!("/v1/deliveries/{}", delivery_id(event, hook))).await.expect(200)
    }

    /// Waits until so many tries of a delivery are written down, and returns it.
    pub(crate) async fn tried(&self, event: &str, hook: &str, attempts: i64) -> Value {
        self.delivery_until(event, hook, &format!("{attempts} tries"), |delivery| {
            delivery["attempts"].as_i64().unwrap() >= attempts
        })
        .await
    }

    /// Waits until a delivery is in this state, and returns it.
    pub(crate) async fn ended(&self, event: &str, hook: &str, state: &str) -> Value {
        self.delivery_until(event, hook, state, |delivery| delivery["state"] == state).await
    }

    /// Waits until a delivery is there and satisfies the condition, and returns it.
    pub(crate) async fn delivery_until(
        &self,
        event: &str,
        hook: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let path = format!("/v1/deliveries/{}", delivery_id(event, hook));
        until(&format!("delivery to {hook}: {what}"), async || {
            let reply = self.client.get(&path).await;
            if reply.status == 200 && holds(&reply.json()) { Ok(reply.json()) } else { Err(reply.json()) }
        })
        .await
    }

    /// Waits until an event was fanned out, and returns to which hooks it goes, sorted.
    pub(crate) async fn goes_to(&self, event: &str) -> Vec<String> {
        until("the event is fanned out", async || {
            let shown = self.client.get(&format!("/v1/events/{event}")).await.expect(200);
            if shown["state"] == "accepted" { Err(shown) } else { Ok(()) }
        })
        .await;
        let page = self.client.get(&format!("/v1/events/{event}/deliveries?limit=100")).await.expect(200);
        let mut hooks: Vec<String> =
            page["data"].as_array().unwrap().iter().map(|one| text(&one["hook_id"]).to_owned()).collect();
        hooks.sort();
        hooks
    }

    /// Waits until `n` requests came to `/path`, and returns them.
    pub(crate) async fn received(&self, path: &str, n: usize) -> Vec<Received> {
        self.receiver.wait_for(path, n, PATIENCE).await
    }

    /// Waits until the outcome of every try is written down. A receiver hears of a delivery before that, and were the time
    /// moved beyond its lease in between, it would rightly come again.
    async fn nothing_under_way(&self) {
        let held = "SELECT count(*) AS n FROM deliveries WHERE state = 0 AND profile <> 5 \
            AND claim <> '00000000-0000-0000-0000-000000000000'";
        until("no delivery is under way", async || {
            let held = number(&self.system.db, held).await;
            if held == 0 { Ok(()) } else { Err(held) }
        })
        .await;
    }

    /// Moves the time.
    pub(crate) fn advance(&self, milliseconds: i64) {
        self.system.clock.advance(TimeDelta::milliseconds(milliseconds));
    }

    /// Moves the time to shortly after this moment.
    pub(crate) fn advance_beyond(&self, at: DateTime<Utc>) {
        let wait = (at - self.system.clock.now()).max(TimeDelta::zero());
        self.system.clock.advance(wait + TimeDelta::milliseconds(1));
    }

    /// Answers `/path` with this status from now on.
    pub(crate) fn answer(&self, path: &str, status: u16) {
        self.receiver.answer(path, Answer::status(status));
    }

    /// Posts an event that fails three times at the hook on `/path`, so that its last try is nine seconds away.
    pub(crate) async fn post_and_fail(&self, event_type: &str, path: &str, hook: &str) -> String {
        self.receiver.script(path, [500; 3].map(Answer::status));
        let event = self.post(event_type, json!({})).await;
        for (number, wait) in [(1, 1_000), (2, 4_000), (3, 0)] {
            let delivery = self.tried(&event, hook, number).await;
            assert_eq!(delivery["state"], "pending", "{delivery}");
            self.advance(wait);
        }
        event
    }

    /// Moves the time far beyond every retry, and waits until a fresh event has gone through: whatever was due was done.
    pub(crate) async fn let_everything_happen(&self) {
        self.nothing_under_way().await;
        self.advance(60_000);
        for _ in 0..2 {
            let probe = format!("probe{}", rand::random::<u64>());
            let hook = self.hook(&probe, json!({"event_type": format!("stage.{probe}")})).await;
            let event = self.post(&format!("stage.{probe}"), json!({})).await;
            self.ended(&event, &hook, "delivered").await;
            self.client.delete(&format!("/v1/hooks/{hook}")).await.expect(200);
            self.advance(1_000);
        }
    }
}

/// What a counter without labels shows.
pub(crate) fn counted(metrics: &Registry, counter: &str) -> u64 {
    let metrics = metrics.render().unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(counter)).unwrap();
    line.trim().parse().unwrap()
}

/// Asks until there is an answer.
pub(crate) async fn until<T, E: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(instead) if end < Instant::now() => panic!("not within {PATIENCE:?}: {what}; {instead:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

pub(crate) async fn subscribe(client: &Client, url: &str, more: Value) -> String {
    let mut body = json!({"url": url});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    text(&client.post_json("/zapier/hook", &body).await.expect(200)["id"]).to_owned()
}

pub(crate) async fn post(client: &Client, event_type: &str, payload: Value) -> String {
    let body = json!({"event_type": event_type, "payload": payload});
    text(&client.post_json("/events", &body).await.expect(202)["event_id"]).to_owned()
}

/// Posts so many events of a type at once.
pub(crate) async fn flood(client: &Client, event_type: &str, count: usize) {
    let events: Vec<_> = (0..count).map(|n| json!({"event_type": event_type, "payload": {"n": n}})).collect();
    for events in events.chunks(100) {
        let answer = client.post_json("/events/batch", &json!({"events": events})).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}

pub(crate) fn delivery_id(event: &str, hook: &str) -> String {
    let event: EventId = event.parse().unwrap();
    DeliveryId { event, subscription: hook.parse::<SubscriptionId>().unwrap() }.to_string()
}

/// A text that has to be one.
#[track_caller]
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// A time that has to be one.
#[track_caller]
pub(crate) fn time(value: &Value) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text(value)).unwrap().to_utc()
}

/// When a try ended.
pub(crate) fn end_of(attempt: &Value) -> DateTime<Utc> {
    time(&attempt["started_at"]) + TimeDelta::milliseconds(attempt["latency_ms"].as_i64().unwrap())
}
