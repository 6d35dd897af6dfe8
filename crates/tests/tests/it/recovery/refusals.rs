//! What is not acceptable about a recovery, and whose it is.

use hookyard_domain::credential::Scope;
use hookyard_messaging::Bus;
use hookyard_tests::system::unlimited;
use serde_json::{Value, json};

use super::{beginning, consumer, recover};
use crate::pipeline::stage::{Stage, text};

#[tokio::test(flavor = "multi_thread")]
async fn bounds_are_kept_and_nothing_is_stored_that_is_refused() {
    let stage = Stage::with(Bus::in_process(), |options, engine| {
        options.gateway.gateway.recovery_max_per_second = 200;
        engine.registries = 0;
    })
    .await;
    let id = consumer(&stage, "a", json!({})).await;
    let since = beginning(&stage);
    let ask = |more: Value| {
        let mut body = json!({"endpoint_id": id, "since": since, "dry_run": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let client = stage.client.clone();
        async move { client.post_json("/v1/recoveries", &body).await }
    };
    let types =
        |count: usize| json!({"event_types": (0..count).map(|n| format!("order.t{n}")).collect::<Vec<_>>()});
    for good in [
        json!({}),
        json!({"per_second": 1}),
        json!({"per_second": 200}),
        types(1),
        types(100),
        json!({"event_types": ["order.*", "NewCompanySynchronized"]}),
        json!({"until": (stage.system.clock.now() + chrono::TimeDelta::days(1)).to_rfc3339()}),
    ] {
        ask(good.clone()).await.expect(200);
    }
    for (bad, status, code) in [
        (json!({"per_second": 0}), 422, "INVALID_FIELD"),
        (json!({"per_second": 201}), 422, "INVALID_FIELD"),
        (json!({"per_second": 1.5}), 422, "INVALID_FIELD"),
        (types(0), 422, "INVALID_FIELD"),
        (types(101), 422, "INVALID_FIELD"),
        (json!({"event_types": ["a..b"]}), 422, "INVALID_EVENT_TYPE"),
        (json!({"event_types": "order.*"}), 422, "INVALID_FIELD"),
        (json!({"which": "missed"}), 422, "INVALID_FIELD"),
        (json!({"which": 1}), 422, "INVALID_FIELD"),
        (json!({"until": since}), 422, "INVALID_FIELD"),
        (json!({"since": "yesterday"}), 422, "INVALID_FIELD"),
        (
            json!({"since": (stage.system.clock.now() + chrono::TimeDelta::hours(1)).to_rfc3339()}),
            422,
            "INVALID_FIELD",
        ),
        (json!({"since": null}), 400, "MISSING_SELECTION"),
        (json!({"endpoint_id": null}), 400, "MISSING_SELECTION"),
        (json!({"endpoint_id": "rec_1"}), 422, "INVALID_FIELD"),
        (json!({"dry_run": "no"}), 422, "INVALID_FIELD"),
        (json!({"endpoint_id": "hook_01hzy3v9k2s8d4f6g8h0j2k4m6"}), 404, "NOT_FOUND"),
    ] {
        for dry_run in [true, false] {
            let mut asked = bad.clone();
            if bad.get("dry_run").is_none() {
                asked["dry_run"] = json!(dry_run);
            }
            assert_eq!(ask(asked).await.error(), (status, code.to_owned()), "{bad}");
        }
    }
    for query in ["state=over", "endpoint_id=7", "cursor=hook_1", "limit=101", "hook_id=7"] {
        let reply = stage.client.get(&format!("/v1/recoveries?{query}")).await;
        assert_eq!(reply.error(), (400, "INVALID_PARAMETER".to_owned()), "{query}");
    }
    assert_eq!(stage.client.get("/v1/recoveries").await.expect(200)["data"], json!([]));
    // One at a time, by whatever way, and one for each key.
    let request = || {
        let body = json!({"endpoint_id": id, "since": since}).to_string();
        stage.client.request("POST", "/v1/recoveries").header("idempotency-key", "k").json(body).send()
    };
    let first = request().await.expect(202);
    assert_eq!(request().await.expect(202), first);
    assert_eq!(first["state"], "counting");
    assert_eq!((&first["requested_by"]["kind"], &first["per_second"]), (&json!("credential"), &json!(50)));
    let second = ask(json!({"dry_run": false})).await;
    assert_eq!(second.error(), (409, "RECOVERY_RUNNING".to_owned()));
    let counting = stage.client.get("/v1/recoveries?state=counting").await.expect(200);
    assert_eq!(counting["data"], json!([first]));
    assert_eq!(stage.client.get("/v1/recoveries?state=running").await.expect(200)["data"], json!([]));
    // An endpoint that takes nothing.
    stage.client.post(&format!("/webhooks/{id}/disable"), "").await.expect(200);
    assert_eq!(ask(json!({"dry_run": false})).await.error(), (409, "CONSUMER_DISABLED".to_owned()));
    ask(json!({})).await.expect(200);
    stage.client.delete(&format!("/webhooks/{id}")).await.expect(200);
    assert_eq!(ask(json!({"dry_run": false})).await.error(), (409, "CONSUMER_DELETED".to_owned()));
    let hook = stage.hook("h", json!({})).await;
    stage.client.post(&format!("/v1/hooks/{hook}/disable"), "").await.expect(200);
    assert_eq!(
        ask(json!({"endpoint_id": hook, "dry_run": false})).await.error(),
        (409, "HOOK_DISABLED".to_owned())
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_or_touches_what_is_another_tenants() {
    let stage = Stage::with(Bus::in_process(), |_, engine| engine.registries = 0).await;
    let id = consumer(&stage, "a", json!({})).await;
    let hook = stage.hook("h", json!({})).await;
    let job = recover(&stage, &id, json!({})).await;
    let job = text(&job["id"]);
    let other = stage.system.tenant("Other").await;
    let (_, key) = stage.system.key_of(other, &[Scope::Admin], unlimited()).await;
    let other = stage.client.with_key(&key);
    let since = beginning(&stage);
    for (method, path, body) in [
        ("GET", format!("/v1/recoveries/{job}"), json!({})),
        ("POST", format!("/v1/recoveries/{job}/cancel"), json!({})),
        ("POST", "/v1/recoveries".to_owned(), json!({"endpoint_id": id, "since": since})),
        ("POST", "/v1/recoveries".to_owned(), json!({"endpoint_id": hook, "since": since, "dry_run": true})),
        ("POST", format!("/webhooks/{id}/preview"), json!({})),
        ("POST", format!("/v1/hooks/{hook}/preview"), json!({})),
        ("GET", format!("/webhooks/{id}/activity"), json!({})),
        ("GET", format!("/v1/hooks/{hook}/activity"), json!({})),
        ("POST", format!("/webhooks/{id}/replay"), json!({"since": since})),
        ("POST", format!("/webhooks/{id}/enable"), json!({"replay": true})),
        // Nor is a consumer a hook.
    ] {
        let reply = other.request(method, &path).json(body.to_string()).send().await;
        assert_eq!(reply.error().0, 404, "{method} {path}");
    }
    for path in ["/v1/recoveries", "/v1/messages"] {
        assert_eq!(other.get(path).await.expect(200)["data"], json!([]), "{path}");
    }
    for (path, status) in [
        (format!("/v1/hooks/{id}/activity"), 404),
        (format!("/webhooks/{hook}/activity"), 404),
        (format!("/webhooks/{id}/activity"), 200),
    ] {
        assert_eq!(stage.client.get(&path).await.status, status, "{path}");
    }
    assert_eq!(stage.client.get(&format!("/v1/recoveries/{job}")).await.expect(200)["state"], "counting");
    stage.close().await;
}
