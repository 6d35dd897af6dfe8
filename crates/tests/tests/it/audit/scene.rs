//! A tenant whose key acts, and what the audit log is told of each request.

use hookyard_domain::{
    credential::Scope,
    delivery::DeliveryState,
    id::{CredentialId, DeliveryId, EventId, SubscriptionId},
};
use hookyard_tests::{
    http::{Client, Request},
    outcomes::settle_due,
    system::{System, unlimited},
};
use serde_json::{Value, json};

use super::exported;

/// A tenant whose key acts, and what it has done so far.
pub(super) struct Scene {
    pub(super) system: System,
    pub(super) client: Client,
    pub(super) key: (CredentialId, String),
    told: usize,
}

impl Scene {
    pub(super) async fn start() -> Self {
        let system = System::start().await;
        let key = system.key_of(system.tenant, &[Scope::Admin], unlimited()).await;
        let client = system.anonymous().with_key(&key.1);
        Self { system, client, key, told: 0 }
    }

    /// Sends a request, and returns the entries that it left; all of them by this key, from here, in this request.
    pub(super) async fn entries(&mut self, request: Request, status: u16) -> (Value, Vec<Value>) {
        let id = format!("audit-{}", rand::random::<u32>());
        let reply = request.header("x-request-id", &id).send().await;
        let answer = reply.expect(status);
        let entries = exported(&self.client).await.split_off(self.told);
        self.told += entries.len();
        for entry in &entries {
            let actor = json!({"kind": "credential", "id": self.key.0.to_string(), "name": "API key test",
                "address": "127.0.0.1", "request_id": id});
            assert_eq!(entry["actor"], actor, "{entry}");
            assert_eq!(entry["tenant_id"], json!(self.system.tenant.to_string()));
        }
        (answer, entries)
    }

    /// The same for a request that leaves one entry, about this thing.
    pub(super) async fn one(
        &mut self,
        request: Request,
        status: u16,
        action: &str,
        object: (&str, &str),
    ) -> (Value, Value) {
        let (answer, mut entries) = self.entries(request, status).await;
        assert_eq!(entries.len(), 1, "{entries:?}");
        let entry = entries.remove(0);
        assert_eq!(entry["action"], action, "{entry}");
        assert_eq!(entry["object"], json!({"kind": object.0, "id": object.1}), "{entry}");
        (answer, entry)
    }

    pub(super) async fn none(&mut self, request: Request, status: u16) -> Value {
        let (answer, entries) = self.entries(request, status).await;
        assert_eq!(entries, [] as [Value; 0]);
        answer
    }

    pub(super) fn request(&self, method: &str, path: impl AsRef<str>) -> Request {
        self.client.request(method, path.as_ref())
    }

    pub(super) fn post(&self, path: impl AsRef<str>, body: Value) -> Request {
        self.request("POST", path).json(body.to_string())
    }

    /// Subscribes, and returns the hook.
    pub(super) async fn hook(&mut self, body: Value) -> String {
        let (answer, mut entries) = self.entries(self.post("/zapier/hook", body), 200).await;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries.remove(0)["action"], "hook.subscribed");
        text(&answer["id"])
    }

    /// Posts events and puts them on their way to a hook; returns the deliveries.
    pub(super) async fn deliver(&mut self, hook: &str, count: usize) -> Vec<String> {
        let mut deliveries = Vec::new();
        for n in 0..count {
            let event = json!({"event_type": "a.b", "payload": {"n": n}});
            let event: EventId =
                text(&self.none(self.post("/events", event), 202).await["event_id"]).parse().unwrap();
            let path = format!("/v1/hooks/{hook}/replay");
            self.one(
                self.post(path, json!({"event_id": event.to_string()})),
                202,
                "hook.replayed",
                ("hook", hook),
            )
            .await;
            let subscription: SubscriptionId = hook.parse().unwrap();
            deliveries.push(DeliveryId { event, subscription }.to_string());
        }
        deliveries
    }

    pub(super) async fn settle(&self, state: DeliveryState) {
        settle_due(&self.system, state, 500, b"").await;
    }
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

pub(super) fn url(path: &str) -> String {
    format!("https://hooks.zapier.com/hooks/standard/1/{path}/")
}
