//! Up to a hundred events at a time, each answered for itself.

use std::collections::BTreeSet;

use hookyard_tests::system::System;
use serde_json::{Value, json};

use super::{MIB, count_events, event, event_of};

#[tokio::test]
async fn a_batch_is_answered_item_by_item() {
    let system = System::start().await;
    let client = system.client().await;
    let large = event_of(MIB + 1);
    let body = format!(
        r#"{{"events":[{},5,{{"event_type":"b","payload":{{"n":1e999}}}},{large},{}]}}"#,
        event("a", &json!({"n": 1})),
        event_of(MIB),
    );
    let reply = client.post("/events/batch", &body).await.expect(202);
    assert_eq!((&reply["accepted"], &reply["rejected"]), (&json!(2), &json!(3)));
    let results = reply["results"].as_array().unwrap();
    for (index, (result, status)) in
        results.iter().zip(["accepted", "rejected", "rejected", "rejected", "accepted"]).enumerate()
    {
        assert_eq!((&result["index"], &result["status"]), (&json!(index), &json!(status)), "{result}");
        if status == "accepted" {
            let id = result["event_id"].as_str().unwrap();
            let shown = client.get(&format!("/v1/events/{id}")).await.expect(200);
            assert_eq!(shown["created_at"], result["created_at"]);
        } else {
            assert!(result["error"].is_string(), "{result}");
        }
    }
    assert_eq!(
        results.iter().map(|result| result["error_code"].clone()).collect::<Vec<_>>(),
        [Value::Null, json!("INVALID_EVENT"), json!("INVALID_JSON"), json!("PAYLOAD_TOO_LARGE"), Value::Null]
    );
    assert_eq!(results[2]["details"]["field"], "payload.n");
    assert_eq!(system.db.once(count_events).await.unwrap(), 2);
}

#[tokio::test]
async fn a_batch_has_1_to_100_events_and_10_mebibytes() {
    let system = System::start().await;
    let client = system.client().await;
    let batch =
        |length: usize| format!(r#"{{"events":[{}]}}"#, vec![event("a", &json!({})); length].join(","));
    let reply = client.post("/events/batch", batch(100)).await.expect(202);
    let unique: BTreeSet<&str> = reply["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["event_id"].as_str().unwrap())
        .collect();
    assert_eq!(unique.len(), 100);
    for length in [0, 101, 5_000] {
        let reply = client.post("/events/batch", batch(length)).await;
        assert_eq!(reply.error(), (422, "INVALID_BATCH".to_owned()), "{length}");
    }
    let padded = |bytes: usize| {
        let batch = batch(1);
        format!("{batch}{}", " ".repeat(bytes - batch.len()))
    };
    assert_eq!(client.post("/events/batch", padded(10 * MIB)).await.status, 202);
    for bytes in [10 * MIB + 1, 30 * MIB] {
        assert_eq!(client.post("/events/batch", padded(bytes)).await.error().0, 413);
    }
    for (body, code, status) in [
        (&b""[..], "INVALID_JSON", 400),
        (b"{\"events\":[{}", "INVALID_JSON", 400),
        (b"{\"events\":[\"\xff\"]}", "INVALID_JSON", 400),
        (b"{}", "INVALID_BATCH", 422),
        (b"[{}]", "INVALID_BATCH", 422),
        (b"{\"events\":{}}", "INVALID_BATCH", 422),
        (b"{\"events\":\"x\"}", "INVALID_BATCH", 422),
    ] {
        let reply = client.post("/events/batch", body).await;
        assert_eq!(reply.error(), (status, code.to_owned()), "{}", reply.text());
    }
    assert_eq!(system.db.once(count_events).await.unwrap(), 101);
}
