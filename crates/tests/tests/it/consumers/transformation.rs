//! Transformations on their way: what is sent, what is not, and that a delivery is the same on every try.

use hookyard_messaging::Bus;
use hookyard_tests::receiver::Answer;
use serde_json::{Value, json};

use super::{body, consumer, count, made, patch, start};
use crate::pipeline::stage::{Stage, text};

#[tokio::test(flavor = "multi_thread")]
async fn events_are_sent_as_the_transformation_makes_them() {
    let stage = Stage::open(Bus::in_process()).await;
    let transformation = json!({
        "cancel": {"payload.total": {"$lt": 10}},
        "body": {"order": {"$from": "payload.id"}, "who": {"$from": "payload.customer", "$default": "unknown"}, "v": 2}
    });
    let id = consumer(&stage, "body", json!({"transformation": transformation})).await;
    let picked = json!({"pick": ["id", "total"], "rename": {"id": "number"}});
    consumer(&stage, "pick", json!({"transformation": picked})).await;
    let event = stage.post("order.created", json!({"id": 7, "total": 10, "secret": "x"})).await;
    let got = stage.received("body", 1).await.remove(0);
    assert_eq!(String::from_utf8(got.body).unwrap(), r#"{"order":7,"v":2,"who":"unknown"}"#);
    let got = stage.received("pick", 1).await.remove(0).json();
    assert_eq!(
        got,
        json!({"id": event, "eventType": "order.created", "generatedDate": got["generatedDate"],
            "payload": {"total": 10, "number": 7}})
    );
    let small = stage.post("order.created", json!({"id": 8, "total": 9.99})).await;
    let cancelled = stage.ended(&small, &id, "cancelled").await;
    assert_eq!(
        (&cancelled["last_reason"], &cancelled["attempts"]),
        (&json!("cancelled_by_transformation"), &json!(0))
    );
    stage.received("pick", 2).await;
    assert_eq!(stage.receiver.count("body"), 1);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_the_same_on_every_try_whatever_becomes_of_the_transformation() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "in", json!({"transformation": {"body": {"n": {"$from": "payload.n"}}}})).await;
    stage.receiver.script("in", [500, 500, 500].map(Answer::status));
    let event = stage.post("order.created", json!({"n": 1})).await;
    stage.tried(&event, &id, 1).await;
    patch(&stage.client, &id, &json!({"transformation": {"body": {"m": {"$from": "payload.n"}}}}))
        .await
        .expect(200);
    stage.advance(6_100);
    stage.tried(&event, &id, 2).await;
    patch(&stage.client, &id, &json!({"transformation": null})).await.expect(200);
    stage.advance(360_100);
    stage.tried(&event, &id, 3).await;
    for got in stage.received("in", 3).await {
        assert_eq!(got.body, br#"{"n":1}"#);
    }
    // An event that was tried without one stays without one; the next event gets it.
    let plain = stage.post("order.created", json!({"n": 2})).await;
    stage.ended(&plain, &id, "delivered").await;
    stage.receiver.script("in", [Answer::status(500)]);
    let before = stage.post("order.created", json!({"n": 3})).await;
    stage.tried(&before, &id, 1).await;
    stage.advance(5);
    patch(&stage.client, &id, &json!({"transformation": {"body": {"k": {"$from": "payload.n"}}}}))
        .await
        .expect(200);
    stage.advance(6_100);
    stage.ended(&before, &id, "delivered").await;
    let after = stage.post("order.created", json!({"n": 4})).await;
    stage.ended(&after, &id, "delivered").await;
    let got = stage.received("in", 7).await;
    assert_eq!(got[4].body, got[5].body);
    assert_eq!(got[5].json()["payload"], json!({"n": 3}));
    assert_eq!(got[6].body, br#"{"k":4}"#);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_a_dead_letter_that_says_why_and_can_be_retried() {
    let stage = Stage::open(Bus::in_process()).await;
    let id = consumer(&stage, "in", json!({"transformation": {"body": {"$from": "payload.lines"}}})).await;
    let event = stage.post("order.created", json!({"lines": [1]})).await;
    let dead = stage.ended(&event, &id, "dead").await;
    assert_eq!(dead["last_reason"], "untransformable");
    let told = text(&dead["tries"][0]["reply"]);
    assert_eq!(told, "the transformation makes a list of it, and a body has to be an object");
    assert_eq!(stage.receiver.count("in"), 0);
    patch(&stage.client, &id, &json!({"transformation": {"body": {"lines": {"$from": "payload.lines"}}}}))
        .await
        .expect(200);
    stage.client.post(&format!("/v1/deliveries/{}/retry", text(&dead["id"])), "").await.expect(202);
    stage.ended(&event, &id, "delivered").await;
    assert_eq!(stage.received("in", 1).await[0].body, br#"{"lines":[1]}"#);
    // An event larger than what may be made of it.
    let large = "x".repeat(700_000);
    patch(
        &stage.client,
        &id,
        &json!({"transformation": {"body": {"a": {"$from": "payload"}, "b": {"$from": "payload"}}}}),
    )
    .await
    .expect(200);
    let event = stage.post("order.created", json!({"t": large})).await;
    let dead = stage.ended(&event, &id, "dead").await;
    assert_eq!(
        text(&dead["tries"][0]["reply"]),
        "the transformation makes a body of it that is larger than 1048576 bytes"
    );
    stage.close().await;
}

#[tokio::test]
async fn one_that_makes_what_cannot_be_sent_of_the_types_example_is_refused_when_it_is_saved() {
    let (_system, client) = start().await;
    let example = json!({"name": "order.created", "description": "x", "example": {"id": 7, "lines": [1]}});
    client.post_json("/v1/event-types", &example).await.expect(201);
    for (place, what) in [("payload.lines", "a list"), ("payload.id", "a number"), ("event_type", "a text")] {
        let asked = body(json!({"transformation": {"body": {"$from": place}}}));
        let reply = client.post_json("/webhooks", &asked).await;
        assert_eq!(reply.error(), (422, "INVALID_TRANSFORMATION".to_owned()), "{place}");
        assert!(reply.text().contains(what) && reply.text().contains("order.created"), "{}", reply.text());
    }
    assert_eq!(count(&client).await, 0);
    // What the example lacks, another event may have.
    for place in ["payload", "payload.customer"] {
        made(&client, json!({"transformation": {"body": {"$from": place}}})).await;
    }
}

/// A transformation that copies the text of the event so often into a list of this name.
fn copying(name: &str, times: usize) -> Value {
    json!({"transformation": {"body": {name: vec![json!({"$from": "payload.t"}); times]}}})
}

#[tokio::test]
async fn one_that_makes_too_much_of_the_types_example_is_refused_when_it_is_saved() {
    let (_system, client) = start().await;
    // {"tenletters":["…","…"]}: 17 texts in quotes, 16 commas and 17 bytes around them are exactly 1 MiB.
    let (long, name) = ("x".repeat(61_677), "tenletters");
    assert_eq!(17 * (long.len() + 2) + 16 + "{\"\":[]}".len() + name.len(), 1 << 20);
    let example = json!({"name": "order.created", "description": "x", "example": {"t": long}});
    client.post_json("/v1/event-types", &example).await.expect(201);
    let too_much = [copying(name, 18), copying("elevenchars", 17)];
    let refused = |reply: hookyard_tests::http::Reply| {
        assert_eq!(reply.error(), (422, "INVALID_TRANSFORMATION".to_owned()));
        let told = "order.created and makes a body of it that is larger than 1048576 bytes";
        assert!(reply.text().contains(told), "{}", reply.text());
    };
    for more in &too_much {
        refused(client.post_json("/webhooks", &body(more.clone())).await);
    }
    assert_eq!(count(&client).await, 0, "nothing is stored");
    let most = made(&client, copying(name, 17)).await;
    assert_eq!(count(&client).await, 1);
    // A change is looked at in the same way, of one that has a transformation and of one that has none.
    let id = text(&most["id"]).to_owned();
    for more in &too_much {
        refused(patch(&client, &id, more).await);
        assert_eq!(client.get(&format!("/webhooks/{id}")).await.expect(200), most);
    }
    let plain = made(&client, json!({})).await;
    let id = text(&plain["id"]).to_owned();
    refused(patch(&client, &id, &too_much[0]).await);
    assert_eq!(client.get(&format!("/webhooks/{id}")).await.expect(200), plain);
    let changed = patch(&client, &id, &copying(name, 17)).await.expect(200);
    assert_eq!(changed["transformation"], most["transformation"]);
}
