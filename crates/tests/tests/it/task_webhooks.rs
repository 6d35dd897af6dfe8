//! Webhooks of tasks, from their rows to the receiver: order, giving way, bytes and signatures, endpoints and their ends.
//!
//! Runs are written here as the ledger of tasks writes them: an event and its delivery in one transaction, released after it.

mod answers;
mod bytes;
mod endpoints;
mod ends;
mod kills;
mod order;

use hookyard_domain::{
    Result,
    db::{Conn, Db},
    delivery::{self, NewDelivery, Profile, ordered},
    event::{self, Draft, NewEvent, Origin, Provenance},
    id::{ClaimId, DeliveryId, EventGroupId, EventId, SubscriptionId, TenantId},
    subscription::{
        Kind,
        endpoint::{self, Named},
    },
    trace::TraceContext,
    wire::{WebhookSecret, parse_as_javascript},
};
use hookyard_messaging::{Bus, Lane};
use hookyard_tests::{receiver::Received, secrets::vault};
use serde_json::{Value, json};

use crate::pipeline::stage::Stage;

macro_rules! over_both {
    ($($module:ident::$name:ident)+) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                Box::pin(super::$module::$name(hookyard_messaging::Bus::in_process())).await;
            })+
        }
        mod amqp {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                Box::pin(hookyard_tests::amqp::with_bus(super::$module::$name)).await;
            })+
        }
    };
}

over_both! {
    order::the_steps_of_a_run_come_one_after_the_other_whatever_fails
    order::many_runs_at_once_keep_their_order_with_two_deliverers
    order::a_step_gives_way_after_two_failures_and_not_after_one
    order::what_a_crash_left_behind_goes_within_a_moment
    ends::gone_disables_the_endpoint_and_cancels_what_waits
    answers::a_reply_to_a_question_answers_it
}

/// A run whose webhooks go to one endpoint.
#[derive(Clone, Copy)]
struct Run {
    tenant: TenantId,
    endpoint: SubscriptionId,
    id: uuid::Uuid,
}

/// The endpoint of this path of the receiver, with this secret.
async fn endpoint(stage: &Stage, path: &str, secret: Option<&str>) -> SubscriptionId {
    let url = stage.receiver.url(path).parse().unwrap();
    let secret = secret.map(|secret| WebhookSecret::parse(secret).unwrap());
    let (tenant, now) = (stage.system.tenant, stage.system.clock.now());
    let work = move |conn: &mut Conn| {
        let named = Named { kind: Kind::Task, tenant, url: &url, secret: secret.as_ref() };
        Ok(endpoint::of_tasks(conn, &vault(), &[named], now)?.remove(0))
    };
    stage.system.db.run(work).await.unwrap()
}

impl Run {
    async fn to(stage: &Stage, path: &str) -> Self {
        let endpoint = endpoint(stage, path, None).await;
        Self { tenant: stage.system.tenant, endpoint, id: uuid::Uuid::now_v7() }
    }

    /// The event of a step, with a payload as source 1 has it.
    fn event(self, step: &str, result: &Value, now: chrono::DateTime<chrono::Utc>) -> NewEvent {
        let payload = json!({
            "event": format!("task_{step}"), "run_id": self.id, "task_id": self.id, "status": step,
            "result": result, "error": null, "timestamp": event::wire_time(now),
        });
        self.event_of(step, &payload.to_string(), now)
    }

    fn event_of(self, step: &str, payload: &str, now: chrono::DateTime<chrono::Utc>) -> NewEvent {
        let posted = format!(r#"{{"event_type":"task.{step}","payload":{payload}}}"#);
        Draft::parse(parse_as_javascript(posted.as_bytes()).unwrap(), now).unwrap().accept(
            Origin::System,
            &Provenance {
                tenant: self.tenant,
                now,
                source_ip: None,
                user_agent: Some("Hookyard"),
                request_id: "run",
                trace: TraceContext::fresh(),
            },
        )
    }

    /// What the ledger writes.
    fn write(self, conn: &mut Conn, event: NewEvent, now: chrono::DateTime<chrono::Utc>) -> Result<()> {
        let id = DeliveryId { event: event.id, subscription: self.endpoint };
        event::store::insert_group(conn, EventGroupId::new(now), &[event])?;
        let (profile, ordering) = (Profile::Task, Some(self.id));
        let new = NewDelivery { ordering, ..NewDelivery::plain(id, self.tenant, profile) };
        delivery::store::insert(conn, &[new], ClaimId::new(now), now, now)
    }

    /// Writes steps in one transaction and crashes before they are let go.
    async fn write_and_crash(self, stage: &Stage, steps: &[&str]) -> Vec<EventId> {
        let mut events = Vec::new();
        for step in steps {
            // Ids of a run's events rise: a millisecond each.
            stage.advance(1);
            events.push(self.event(step, &json!("café ☕"), stage.system.clock.now()));
        }
        let ids = events.iter().map(|event| event.id).collect();
        let now = stage.system.clock.now();
        let work =
            move |conn: &mut Conn| events.into_iter().try_for_each(|event| self.write(conn, event, now));
        stage.system.db.run(work).await.unwrap();
        ids
    }

    /// Writes steps, and lets go what may.
    async fn report(self, stage: &Stage, steps: &[&str]) -> Vec<EventId> {
        let ids = self.write_and_crash(stage, steps).await;
        self.let_go(&stage.system.db, &stage.system.bus, stage.system.clock.now()).await;
        ids
    }

    async fn let_go(self, db: &Db, bus: &Bus, now: chrono::DateTime<chrono::Utc>) {
        let (claim, lease) = (ClaimId::new(now), chrono::TimeDelta::seconds(30));
        let lines = [(self.endpoint, self.id)];
        let go = move |conn: &mut Conn| ordered::release(conn, &lines, claim, now, now + lease);
        let released = db.once(go).await.unwrap();
        let unheard = bus.ring_due(Lane::First, claim, &released).await;
        assert!(unheard.is_empty());
    }

    fn delivery(self, event: EventId) -> DeliveryId {
        DeliveryId { event, subscription: self.endpoint }
    }
}

/// A delivery as the API shows it.
async fn shown(stage: &Stage, id: DeliveryId) -> Value {
    stage.client.get(&format!("/v1/deliveries/{id}")).await.expect(200)
}

/// Waits until the delivery is in this state, after so many tries, and returns it.
async fn settled(stage: &Stage, id: DeliveryId, state: &str, attempts: i64) -> Value {
    crate::pipeline::stage::until(&format!("{id} is {state} after {attempts} tries"), async || {
        let shown = shown(stage, id).await;
        if shown["state"] == state && shown["attempts"] == attempts { Ok(shown) } else { Err(shown) }
    })
    .await
}

/// The events that came, in order.
fn came(received: &[Received]) -> Vec<EventId> {
    received.iter().map(|one| one.header("x-event-id").parse().unwrap()).collect()
}
