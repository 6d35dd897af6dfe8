//! The signed number: the code of the documentation takes what real deliveries bring, in JavaScript and in Python.

use hookyard_messaging::Bus;
use hookyard_tests::{receiver::Received, tools};
use serde_json::{Value, json};

use crate::pipeline::stage::{Stage, text};

/// The first block of code in this language below this heading.
fn snippet(document: &str, heading: &str, language: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(document);
    let page = std::fs::read_to_string(path).unwrap();
    let section = page.split_once(&format!("\n## {heading}\n")).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let code = section.split_once(&format!("```{language}\n")).unwrap().1;
    code.split_once("```").unwrap().0.to_owned()
}

/// What node and Python say of the lines, with the code of a document.
fn verify(document: &str, heading: &str, lines: &str) -> [String; 2] {
    let mut node = tools::node("standardwebhooks");
    node.arg(tools::fixture("receivers/sequence.js")).arg(snippet(document, heading, "js"));
    let mut python = tools::python();
    python.arg(tools::fixture("receivers/sequence.py")).arg(snippet(document, heading, "python"));
    [tools::run(node, lines), tools::run(python, lines)]
}

fn line(got: &Received, secret: &Value, public_key: &Value) -> String {
    format!("{}\n", json!({"headers": got.headers, "secret": secret, "public_key": public_key}))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_of_the_documentation_takes_every_number_and_no_forged_one() {
    let stage = Stage::open(Bus::in_process()).await;
    let hook = stage.hook("hook", json!({"event_type": "order.created"})).await;
    let body = json!({"url": stage.receiver.url("consumer"), "eventTypes": ["order.created"]});
    let made = stage.client.post_json("/webhooks", &body).await.expect(201);
    let consumer = text(&made["id"]).to_owned();
    let mut lines = String::new();
    let hooks = stage.client.get(&format!("/v1/hooks/{hook}/secret")).await.expect(200);
    let first = stage.client.get(&format!("/webhooks/{consumer}/secret")).await.expect(200);
    for n in 0..3 {
        stage.post("order.created", json!({"n": n})).await;
        let got = stage.received("hook", n + 1).await.remove(n);
        lines.push_str(&line(&got, &hooks["signing_secret"], &Value::Null));
        let got = stage.received("consumer", n + 1).await.remove(n);
        lines.push_str(&line(&got, &first["secret"], &first["public_key"]));
    }
    // While a rotation overlaps, either of the secrets and keys is enough.
    let rotated = stage.client.post(&format!("/webhooks/{consumer}/secret/rotate"), "").await.expect(200);
    stage.post("order.created", json!({"n": 3})).await;
    let got = stage.received("consumer", 4).await.remove(3);
    for keys in [&first, &rotated] {
        lines.push_str(&line(&got, &keys["secret"], &keys["public_key"]));
    }
    let signatures: Vec<&str> = got.header("x-hookyard-sequence-signature").split(' ').collect();
    let versions: Vec<&str> = signatures.iter().map(|one| one.split(',').next().unwrap()).collect();
    assert_eq!(versions, ["v1", "v1", "v1a", "v1a"]);
    stage.close().await;
    let expected = "1 1 2 2 3 3 4 4\n".to_owned();
    for (document, heading) in [("webhooks.md", "Miss nothing"), ("webhooks.fr.md", "Ne rien manquer")] {
        assert_eq!(verify(document, heading, &lines), [expected.clone(), expected.clone()], "{document}");
    }
}
