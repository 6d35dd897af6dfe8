//! Samples: what Zapier's editor shows before there is a hook, and what it learns from real events.

use serde_json::{Value, json};

use super::{hook, post, start, state, zap};

const MEMBERS: [&str; 7] = ["id", "event_id", "event_type", "timestamp", "payload", "metadata", "created_at"];

fn list(reply: &Value) -> Vec<Value> {
    reply.as_array().expect("always a list").clone()
}

/// A sample is a list of 1 to 3 whole events with ids of their own.
fn check(samples: &[Value]) {
    assert!((1..=3).contains(&samples.len()), "{samples:?}");
    for sample in samples {
        let members: Vec<&String> = sample.as_object().unwrap().keys().collect();
        let mut expected = MEMBERS.to_vec();
        expected.sort_unstable();
        assert_eq!(members, expected, "{sample}");
        assert_eq!(sample["id"], sample["event_id"]);
        assert!(sample["payload"].is_object());
        for name in ["correlation_id", "source_ip", "user_agent"] {
            assert!(sample["metadata"].as_object().unwrap().contains_key(name), "{sample}");
        }
        for time in ["timestamp", "created_at"] {
            let text = sample[time].as_str().unwrap();
            assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
        }
    }
    let mut ids: Vec<&str> = samples.iter().map(|sample| sample["id"].as_str().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), samples.len());
    assert!(
        samples.is_sorted_by(|a, b| a["created_at"].as_str() >= b["created_at"].as_str()),
        "newest first"
    );
}

#[tokio::test]
async fn before_there_are_events_samples_are_made_up_and_stay_the_same() {
    let (_system, client) = start().await;
    for (query, types) in [
        ("", &["test_event"][..]),
        ("?event_type=", &["test_event"]),
        ("?event_type=*", &["test_event"]),
        ("?event_type=order.created", &["order.created"]),
        ("?event_type=order.*", &["order.example"]),
        ("?event_type=read.completed.initial", &["read.completed.initial"]),
        ("?event_type=NewCompanySynchronized", &["read.completed.initial"]),
        ("?event_type=task_completed&limit=1", &["task.completed"]),
        ("?event_type=hook.*", &["hook.disabled", "hook.removed", "hook.warning"]),
        ("?zapier=ignored&limit=2", &["test_event"]),
    ] {
        let first = client.get(&format!("/zapier/hook/sample{query}")).await;
        let samples = list(&first.expect(200));
        check(&samples);
        let mut told: Vec<&str> =
            samples.iter().map(|sample| sample["event_type"].as_str().unwrap()).collect();
        told.sort_unstable();
        assert_eq!(told, types, "{query}");
        let again = client.get(&format!("/zapier/hook/sample{query}")).await;
        assert_eq!(again.text(), first.text(), "{query}");
    }
    for limit in 1..=3 {
        let samples =
            client.get(&format!("/zapier/hook/sample?event_type=*.write.successful&limit={limit}")).await;
        let samples = list(&samples.expect(200));
        check(&samples);
        assert_eq!(samples.len(), limit);
    }
}

#[tokio::test]
async fn real_events_are_the_samples_byte_for_byte() {
    let (_system, client) = start().await;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(post(&client, "order.created", json!({"n": number, "text": "é\u{2028}\u{0}"})).await);
        ids.push(post(&client, "order.paid", json!({"n": number})).await);
    }
    post(&client, "user.created", json!({})).await;
    let take = |query: &'static str| {
        let client = client.clone();
        async move {
            let samples = list(&client.get(&format!("/zapier/hook/sample{query}")).await.expect(200));
            check(&samples);
            samples.iter().map(|sample| sample["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    let latest = |places: &[usize]| places.iter().map(|place| ids[*place].clone()).collect::<Vec<_>>();
    assert_eq!(take("?event_type=order.created").await, latest(&[6, 4, 2]));
    assert_eq!(take("?event_type=order.created&limit=1").await, latest(&[6]));
    assert_eq!(take("?event_type=order.*").await, latest(&[7, 6, 5]));
    assert_eq!(take("?event_type=*.paid&limit=2").await, latest(&[7, 5]));
    assert_eq!(take("?limit=3").await[1..], latest(&[7, 6]));
    // As it is stored, and so as it is delivered.
    let sample = client.get("/zapier/hook/sample?event_type=order.created&limit=1").await.text();
    let shown = client.get(&format!("/v1/events/{}", ids[6])).await.text();
    let body = sample.strip_prefix('[').unwrap().strip_suffix("}]").unwrap();
    assert!(shown.starts_with(body), "{shown}\n{body}");
}

#[tokio::test]
async fn tests_and_our_own_events_are_no_samples() {
    let (_system, client) = start().await;
    let id = hook(&client, &json!({"url": zap("a"), "event_type": "order.created"})).await;
    client.post(&format!("/v1/hooks/{id}/test"), "").await.expect(202);
    client.post(&format!("/v1/hooks/{id}/disable"), "").await.expect(200);
    let samples = list(&client.get("/zapier/hook/sample").await.expect(200));
    assert_eq!(samples[0]["event_type"], "test_event");
    let samples = list(&client.get("/zapier/hook/sample?event_type=hook.disabled").await.expect(200));
    assert_eq!(samples[0]["metadata"]["correlation_id"], "sample");
}

#[tokio::test]
async fn whoever_sees_a_sample_makes_pending_hooks_active() {
    let (system, client) = start().await;
    let ours = hook(&client, &json!({"url": zap("a"), "event_type": "a.b"})).await;
    let all = hook(&client, &json!({"url": zap("b")})).await;
    let other = hook(&client, &json!({"url": zap("c"), "event_type": "c.d"})).await;
    let tenant = system.tenant("Other").await;
    let key = system.key_of(
        tenant,
        &[hookyard_domain::credential::Scope::Admin],
        hookyard_tests::system::unlimited(),
    );
    client.with_key(&key.await.1).get("/zapier/hook/sample").await.expect(200);
    assert_eq!(state(&client, &ours).await, "pending", "somebody else's sample");
    client.get("/zapier/hook/sample?event_type=a.b").await.expect(200);
    let states = [state(&client, &ours).await, state(&client, &all).await, state(&client, &other).await];
    assert_eq!(states, ["active", "active", "pending"]);
}

#[tokio::test]
async fn a_limit_is_1_to_3() {
    let (_system, client) = start().await;
    for limit in ["0", "4", "-1", "x", "", "1.5"] {
        let reply = client.get(&format!("/zapier/hook/sample?limit={limit}")).await;
        assert_eq!(reply.error(), (400, "INVALID_PARAMETER".to_owned()), "{limit}");
    }
    let reply = client.get("/zapier/hook/sample?event_type=not%20a%20type").await;
    assert_eq!(reply.error(), (422, "INVALID_EVENT_TYPE".to_owned()));
}
