//! Limits where they are hardest: bursts of hook writes, many gateways at once, and every kind of answer.

use chrono::TimeDelta;
use hookyard_domain::credential::{Limits, Scope};
use hookyard_tests::{
    http::{Client, Reply},
    system::{Options, System, unlimited},
};
use serde_json::json;
use tokio::task::JoinSet;

use super::{EVENT, at_once, number, post_event};

/// Subscribes the n-th Zap.
fn subscribe(client: &Client, n: usize) -> impl Future<Output = Reply> + Send + use<> {
    let url = format!("https://hooks.zapier.com/hooks/standard/1/{n}/");
    client.request("POST", "/zapier/hook").json(json!({"url": url}).to_string()).send()
}

/// Subscribes so many at once, by turns at each gateway, and tells how many passed; the others are refused properly.
async fn passed(clients: &[Client], many: usize) -> usize {
    let all: JoinSet<Reply> =
        clients.iter().cycle().take(many).enumerate().map(|(n, client)| subscribe(client, n)).collect();
    let replies = all.join_all().await;
    for reply in &replies {
        match reply.status {
            200 => {}
            _ => {
                assert_eq!(reply.error(), (429, "RATE_LIMITED".to_owned()));
                assert!((1..=60).contains(&number(reply, "retry-after")), "{reply:?}");
            }
        }
        assert!(number(reply, "x-ratelimit-limit") > 0 && number(reply, "x-ratelimit-remaining") >= 0);
    }
    replies.iter().filter(|reply| reply.status == 200).count()
}

async fn clients(system: &System, limits: Limits) -> Vec<Client> {
    let (_, key) = system.key_of(system.tenant, &[Scope::HooksWrite], limits).await;
    system.gateways.iter().map(|gateway| Client::new(gateway.addr).with_key(&key)).collect()
}

#[tokio::test]
async fn hook_writes_pass_up_to_their_limit_and_their_burst_and_not_one_more() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    let limits = Limits { hook_writes: Some(4), hook_write_burst: Some(6), ..unlimited() };
    let zapier = clients(&system, limits).await;
    assert_eq!(passed(&zapier, 4).await, 4);
    let told = subscribe(&zapier[0], 100).await;
    assert_eq!((told.status, number(&told, "x-ratelimit-remaining")), (200, 0), "the burst has begun");
    assert_eq!(passed(&zapier, 30).await, 5, "4 and 6 in all");
    system.clock.advance(TimeDelta::seconds(60));
    assert_eq!(passed(&zapier, 30).await, 4, "a new minute, and the same hour");
    system.clock.advance(TimeDelta::seconds(3_540));
    assert_eq!(passed(&zapier, 30).await, 10, "a new hour");
    // Without a burst the limit is the limit.
    let plain = clients(&system, Limits { hook_write_burst: Some(0), ..limits }).await;
    assert_eq!(passed(&plain, 30).await, 4);
}

#[tokio::test]
async fn a_folder_of_twenty_zaps_is_turned_on_at_once() {
    let system = System::with(Options { gateways: 2, ..Options::default() }).await;
    let clients = clients(&system, Limits::default()).await;
    assert_eq!(passed(&clients, 20).await, 20);
    // The defaults: 10 in a minute, and 20 more in an hour.
    assert_eq!(passed(&clients, 20).await, 10);
}

#[tokio::test]
async fn three_gateways_let_no_more_pass_than_one() {
    let system = System::with(Options { gateways: 3, ..Options::default() }).await;
    let limits = Limits { requests: Some(25), ..unlimited() };
    let (_, key) = system.key_of(system.tenant, &[Scope::EventsWrite], limits).await;
    let clients: Vec<_> =
        system.gateways.iter().map(|gateway| Client::new(gateway.addr).with_key(&key)).collect();
    for round in 0..3 {
        let replies = at_once(&clients, 120, post_event).await;
        let passed = replies.iter().filter(|reply| reply.status == 202).count();
        let refused = replies.iter().filter(|reply| reply.status == 429).count();
        assert_eq!((passed, refused), (25, 95), "round {round}");
        system.clock.advance(TimeDelta::seconds(60));
    }
}

#[tokio::test]
async fn refusals_tell_the_limit_too() {
    let system = System::start().await;
    let (_, key) = system.key_of(system.tenant, &[Scope::EventsRead], Limits::default()).await;
    let limited = system.anonymous().with_key(&key);
    let (_, free) = system.key_of(system.tenant, &[Scope::EventsWrite], unlimited()).await;
    let free = system.anonymous().with_key(&free);
    let (_, spent) =
        system.key_of(system.tenant, &[Scope::EventsRead], Limits { requests: Some(1), ..unlimited() }).await;
    let spent = system.anonymous().with_key(&spent);
    assert_eq!(spent.get("/v1/events").await.status, 200);
    let told = |reply: &Reply, status: u16| {
        assert_eq!(reply.status, status, "{}", reply.text());
        for header in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"] {
            assert!(number(reply, header) >= 0);
        }
    };
    told(&limited.post("/events", EVENT).await, 403);
    told(&limited.request("DELETE", "/v1/events").send().await, 405);
    told(&spent.get("/v1/events").await, 429);
    told(&system.anonymous().with_key("ct_unknown").get("/v1/events").await, 401);
    assert_eq!(free.post("/events", EVENT).await.status, 202);
    system.database.set_away(true).await;
    told(&free.post("/events", EVENT).await, 503);
    let uncounted = limited.get("/v1/events").await;
    told(&uncounted, 503);
    assert_eq!(number(&uncounted, "x-ratelimit-remaining"), 0, "what is not known to be left is not left");
    system.database.set_away(false).await;
}
