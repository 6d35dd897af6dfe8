//! Real deliveries of hostile payloads, verified by real receivers: source 1's snippet and the npm package
//! `standardwebhooks` in node, the official Python package `standardwebhooks` in Python (contract §8).
//!
//! Whether JavaScript writes every payload as we do is asked with thousands of texts in `wire_node`; here each goes the
//! whole way.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hookyard_messaging::Bus;
use hookyard_tests::tools;
use serde_json::{Value, json};

use crate::pipeline::stage::{PATIENCE, Stage, text};

const SECRET: &str = "your_webhook_secret";

/// Payloads that have broken signatures before: a name, and the text as it is posted.
pub(crate) fn payloads() -> Vec<(String, String)> {
    let deep = |levels: usize| format!("{}1{}", r#"{"a":["#.repeat(levels / 2), "]}".repeat(levels / 2));
    let keys: String = (0..500).map(|n| format!(r#""{}":{n},"#, n * 7_919 % 1_009)).collect();
    let named = [
        ("empty", "{}".to_owned()),
        ("floats", r#"{"a":1.0,"b":1e21,"c":1e-7,"d":0.1,"e":1.10,"f":100000000000000000000,"g":5e-324,"h":1.7976931348623157e308,"i":4.35}"#.to_owned()),
        ("zeros", r#"{"a":-0,"b":-0.0,"c":0e5,"d":-0e-5,"e":1e-400}"#.to_owned()),
        ("exponents", r#"{"a":1E5,"b":1e+5,"c":123456789e12,"d":1e20,"e":0.000001,"f":9007199254740993.0}"#.to_owned()),
        ("safe integers", r#"{"a":9007199254740991,"b":-9007199254740991}"#.to_owned()),
        ("huge integers", r#"{"a":12345678901234567890,"b":-9007199254740993,"c":18446744073709551616,"d":123456789012345678901234567890}"#.to_owned()),
        ("integer-like keys", r#"{"b":0,"10":1,"9":2,"1":3,"0":4,"01":5,"-1":6,"4294967294":7,"4294967295":8,"a":9}"#.to_owned()),
        ("many keys", format!(r#"{{{keys}"z":0}}"#)),
        ("duplicate keys", r#"{"a":1,"b":2,"a":3,"\u0061":4,"c":{"x":1,"x":{"y":2}}}"#.to_owned()),
        ("lone surrogates", r#"{"a":"\ud83d","b":"\ude00\ud83d","\ud800":1,"c":"x\udfffy","d":"\ud83d\ude00"}"#.to_owned()),
        ("separators", "{\"a\":\"\u{2028}\u{2029}\",\"b\":\"\\u2028\",\"\u{2028}\":1}".to_owned()),
        ("emoji", "{\"a\":\"😀 👩‍👩‍👧‍👦 🏴󠁧󠁢󠁳󠁣󠁴󠁿 \u{fe0f}\",\"😀\":\"\\uD83D\\uDE00\"}".to_owned()),
        ("scripts", "{\"a\":\"café ☕ \u{202e}abc\u{202c} e\u{301} \u{e9} 漢字 \u{feff}\",\"b\":\"<!-- </script> ' & %\"}".to_owned()),
        ("controls", r#"{"a":"\u0000\u0001\u001f\u007f","\u0000":"\b\f\n\r\t\"\\\/","b":"\u0008\u000C"}"#.to_owned()),
        ("100 levels", deep(100)),
        ("empty keys", r#"{"":{"":{"":[{"":""}]}}," ":0}"#.to_owned()),
        ("prototypes", r#"{"__proto__":{"x":1},"constructor":{"prototype":1},"toString":1,"toJSON":"x","hasOwnProperty":0,"__proto__":{"y":2}}"#.to_owned()),
        ("literals", r#"{"a":[null,true,false,"",[],{},[[]],[{}]],"b":"null","c":"undefined"}"#.to_owned()),
        ("long text", format!(r#"{{"a":"{}"}}"#, "aé😀\\n".repeat(20_000))),
        ("long list", format!(r#"{{"a":[{}0]}}"#, "1.50,".repeat(20_000))),
        ("blanks", "{ \t\r\n \"a\" :\r\n[ 1 ,\t2 ] }".to_owned()),
    ];
    named.map(|(name, text)| (name.to_owned(), text)).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_in_javascript_and_python_accept_every_delivery() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("verify", json!({"secret": SECRET})).await;
    let shown = stage.client.get(&format!("/v1/hooks/{hook}/secret")).await.expect(200);
    let signing = text(&shown["signing_secret"]);
    let mut lines = String::new();
    let payloads = payloads();
    for (at, (name, payload)) in payloads.iter().enumerate() {
        let body = format!(
            r#"{{"event_type":"verify.me","payload":{payload},"metadata":{{"correlation_id":"corr {name}","v":{payload}}}}}"#
        );
        let reply = if body.len() < 60_000 {
            stage.client.post("/events", &body).await
        } else {
            stage.client.post("/events", format!(r#"{{"event_type":"verify.me","payload":{payload}}}"#)).await
        };
        assert_eq!(reply.status, 202, "{name}: {}", reply.text());
        let event = reply.json()["event_id"].clone();
        let got = stage.receiver.wait_for("verify", at + 1, PATIENCE).await.remove(at);
        assert_eq!(got.header("x-event-id"), text(&event), "{name}");
        let line = json!({
            "name": name,
            "body": STANDARD.encode(&got.body),
            "headers": got.headers,
            "secret": SECRET,
            "signing": signing,
        });
        lines.push_str(&format!("{line}\n"));
    }
    stage.close().await;
    let expected = format!("verified {}\n", payloads.len());
    let mut node = tools::node("standardwebhooks");
    node.arg(tools::fixture("receivers/verify.js"));
    assert_eq!(tools::run(node, &lines), expected);
    let mut python = tools::python();
    python.arg(tools::fixture("receivers/verify.py"));
    assert_eq!(tools::run(python, &lines), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_javascript_cannot_hold_is_refused_when_the_operator_wants_it() {
    let stage = Stage::with(Bus::in_process(), |options, _| {
        options.gateway.gateway.large_integers = serde_json::from_value(json!("refuse")).unwrap();
    })
    .await;
    let hook = stage.hook("strict", json!({})).await;
    for number in ["9007199254740993", "-12345678901234567890"] {
        let body = format!(r#"{{"event_type":"a.b","payload":{{"order":{{"id":{number}}}}}}}"#);
        let reply = stage.client.post("/events", body).await;
        let (status, _) = reply.error();
        let told = reply.json();
        assert!((400..423).contains(&status) && told["error"].as_str().unwrap().len() < 250, "{told}");
        assert!(told.to_string().contains("payload.order.id"), "it names the place: {told}");
    }
    let event = stage.post("a.b", json!({"n": 9_007_199_254_740_991_i64})).await;
    stage.ended(&event, &hook, "delivered").await;
    let events = stage.client.get("/v1/events").await.expect(200);
    assert_eq!(events["data"].as_array().map(Vec::len), Some(1), "{events}");
    let sent: Value = stage.receiver.at("strict")[0].json();
    assert_eq!(sent["payload"]["n"], 9_007_199_254_740_991_i64);
    stage.close().await;
}
