//! The keys that callbacks are signed with: made once, published before and after they are used, rotated by the operator.

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    Error,
    clock::Clock,
    db::Db,
    signing_key::{Claims, store},
};
use hookyard_tests::{
    processes::{environment, operate, run},
    secrets::vault,
    system::System,
    tools,
};
use serde_json::{Value, json};

const BODY: &str = r#"{"data":{"type":"run","id":"arun_1","status":"success","results":[],"errors":[]}}"#;

/// What receivers with source 3's snippet say to each case.
pub(crate) fn verified(url: &str, cases: &[Value]) -> Vec<String> {
    let mut python = tools::python();
    python.arg(tools::fixture("verify_callback.py")).arg(url);
    let lines: String = cases.iter().map(|case| format!("{case}\n")).collect();
    tools::run(python, &lines).lines().map(str::to_owned).collect()
}

/// A token made now, with the key that is in use at another time: receivers have the real clock.
async fn token(db: &Db, at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let ring = store::ring(db, &vault(), at).await.unwrap();
    let claims = Claims {
        issuer: "https://hooks.example.com",
        subject: "arun_1",
        delivery: "dlv_1",
        body: BODY.as_bytes(),
        now,
    };
    ring.in_use(at).unwrap().sign(&claims).unwrap()
}

async fn rotate(system: &System) -> Result<(), Error> {
    let (fresh, now) = (store::fresh().await.unwrap(), system.clock.now());
    let lead = TimeDelta::hours(1);
    system.db.run(move |conn| store::rotate(conn, &vault(), &fresh, lead, now).map(drop)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_keeps_the_set_for_a_day_verifies_through_two_rotations() {
    let system = System::start().await;
    let real = Clock::system();
    let (mut cases, mut kids) = (Vec::new(), Vec::new());
    let mut kept = Value::Null;
    for hours in (0..=144).step_by(6) {
        // Just before a day is over, so that the set is as old as it may be.
        if hours % 24 == 0 {
            let reply = system.anonymous().get("/.well-known/jwks.json").await;
            assert_eq!(reply.header("cache-control"), Some("public, max-age=3600"));
            kept = reply.expect(200);
        }
        if hours == 30 || hours == 78 {
            rotate(&system).await.unwrap();
            let again = rotate(&system).await.unwrap_err();
            assert!(matches!(again, Error::Conflict { .. }), "{again:?}");
        }
        let token = token(&system.db, system.clock.now(), real.now()).await;
        let kid = token.split('.').next().unwrap().to_owned();
        if kids.last() != Some(&kid) {
            kids.push(kid);
        }
        cases.push(json!({"jwks": kept, "token": token, "body": BODY}));
        system.clock.advance(TimeDelta::hours(6));
    }
    assert_eq!(kids.len(), 3, "three keys were used");
    assert_eq!(verified("", &cases), vec!["ok"; cases.len()]);
    let last = system.anonymous().get("/.well-known/jwks.json").await.expect(200);
    assert_eq!(last["keys"].as_array().unwrap().len(), 1, "the others are over: {last}");
    let old = &cases[0];
    let late = json!({"jwks": last, "token": old["token"], "body": BODY});
    assert_eq!(verified("", &[late]), ["ValueError"], "a key that is over is unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snippet_of_source_3_refuses_what_is_tampered_expired_or_foreign() {
    let (system, other) = (System::start().await, System::start().await);
    let url = format!("http://{}/.well-known/jwks.json", system.gateways[0].addr);
    let now = Clock::system().now();
    let good = token(&system.db, system.clock.now(), now).await;
    let parts: Vec<&str> = good.split('.').collect();
    let tampered = format!("{}.{}.{}", parts[0], parts[1].replacen('J', "K", 1), parts[2]);
    let old = token(&system.db, system.clock.now(), now - TimeDelta::seconds(240)).await;
    let expired = token(&system.db, system.clock.now(), now - TimeDelta::seconds(299)).await;
    let foreign = token(&other.db, other.clock.now(), now).await;
    let cases = [
        json!({"token": good, "body": BODY}),
        json!({"token": old, "body": BODY}),
        json!({"token": good, "body": "{}"}),
        json!({"token": tampered, "body": BODY}),
        json!({"token": expired, "body": BODY}),
        json!({"token": foreign, "body": BODY}),
        json!({"token": "", "body": BODY}),
    ];
    let said = verified(&url, &cases);
    assert_eq!(said[..3], ["ok", "ok", "AssertionError"], "{said:?}");
    assert!(["DecodeError", "InvalidSignatureError"].contains(&said[3].as_str()), "{said:?}");
    assert_eq!(said[4..], ["ExpiredSignatureError", "ValueError", "ValueError"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_is_made_once_and_the_operator_rotates_it() {
    let system = System::start().await;
    let asked = futures_util::future::join_all((0..4).map(|_| {
        let client = system.anonymous();
        async move { client.get("/.well-known/jwks.json").await.expect(200) }
    }))
    .await;
    assert!(asked.iter().all(|set| set == &asked[0]), "{asked:?}");
    let key = &asked[0]["keys"][0];
    assert_eq!(
        (&key["kty"], &key["alg"], &key["use"], &key["e"]),
        (&json!("RSA"), &json!("RS256"), &json!("sig"), &json!("AQAB"))
    );
    assert_eq!(key["n"].as_str().unwrap().len(), 342, "2048 bits");

    let environment = environment("", &[("DATABASE_URL", &system.database.url())]);
    let next = operate(&["keys", "rotate-signing", "--lead-hours", "48", "--json"], &environment);
    assert_eq!(next["stage"], "next");
    let time = |name: &str| next[name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert_eq!(time("use_from") - time("created_at"), TimeDelta::hours(48));
    let output = run(&["keys", "rotate-signing"], &environment);
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("published already")
    );
    assert!(!run(&["keys", "rotate-signing", "--lead-hours", "23"], &environment).status.success());
    let listed = run(&["keys", "list-signing"], &environment);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("in use") && listed.contains(next["kid"].as_str().unwrap()), "{listed}");
    let both = system.anonymous().get("/.well-known/jwks.json").await.expect(200);
    assert_eq!(both["keys"].as_array().unwrap().len(), 2);
    assert_eq!(system.audited(None).await, ["signing_key.rotated"]);
    assert!(!both.to_string().contains("\"d\""), "nothing private");
}
