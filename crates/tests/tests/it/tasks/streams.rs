//! Following a task: server-sent events.

use std::time::Duration;

use hookyard_domain::task::Step;
use hookyard_tests::system::System;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::api::{complete, held, report};

fn output(text: &str) -> Step {
    Step::Output { text: text.to_owned() }
}

/// Ids and names of the events in a stream.
fn events(text: &str) -> Vec<(String, String)> {
    let of = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("event:"));
    blocks.map(|block| (of(block, "id:"), of(block, "event:"))).collect()
}

fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(id, event)| ((*id).to_owned(), (*event).to_owned())).collect()
}

#[tokio::test]
async fn a_stream_tells_what_was_and_what_comes_and_ends_with_the_run() {
    let system = System::start().await;
    let client = system.client().await;
    let held = held(&system, &client, &json!({"title": "t", "description": "d"})).await;
    report(&system, &held, output("one")).await;
    let path = format!("/v1/automation/tasks/{}/events", held.task);
    let followed = {
        let (client, path) = (client.clone(), path.clone());
        tokio::spawn(async move { client.get(&path).await })
    };
    tokio::time::sleep(Duration::from_millis(600)).await;
    report(&system, &held, output("two\nlines")).await;
    report(&system, &held, complete("the end")).await;
    let reply = tokio::time::timeout(Duration::from_secs(10), followed).await.unwrap().unwrap();
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let all = [("1.1", "status"), ("1.2", "output"), ("1.3", "output"), ("1.4", "status"), ("1.4", "done")];
    assert_eq!(events(&reply.text()), named(&all), "{}", reply.text());
    assert!(reply.text().contains(r#"{"attempt":1,"text":"two\nlines"}"#));
    assert!(reply.text().contains(r#""result":"the end""#));
    // Whoever comes back goes on where it was.
    for (last, rest) in [("1.2", &all[2..]), ("1.4", &all[4..]), ("2.9", &all[..]), ("x", &all[..])] {
        let again = client.request("GET", &path).header("last-event-id", last).send().await;
        assert_eq!(events(&again.text()), named(rest), "{last}");
    }
    let by_query = client.get(&format!("{path}?last_event_id=1.3")).await;
    assert_eq!(events(&by_query.text()), named(&all[3..]));
}

#[tokio::test]
async fn many_lines_that_came_before_are_all_told_in_order() {
    let system = System::start().await;
    let client = system.client().await;
    let held = held(&system, &client, &json!({"title": "t", "description": "d"})).await;
    for n in 0..250 {
        report(&system, &held, output(&n.to_string())).await;
    }
    report(&system, &held, complete("x")).await;
    let reply = client.get(&format!("/v1/automation/tasks/{}/events", held.task)).await;
    let ids: Vec<String> = events(&reply.text()).into_iter().map(|(id, _)| id).collect();
    let mut expected: Vec<String> = (1..=252).map(|seq| format!("1.{seq}")).collect();
    expected.push("1.252".to_owned());
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_hundred_listeners_hear_the_same_and_a_gateway_that_stops_lets_them_go() {
    let mut system = System::start().await;
    let client = system.client().await;
    let first = held(&system, &client, &json!({"title": "t", "description": "d"})).await;
    let second = held(&system, &client, &json!({"title": "t", "description": "d"})).await;
    let listen = async |task: String| {
        let request = client.request("GET", &format!("/v1/automation/tasks/{task}/events")).bytes();
        let mut stream = tokio::net::TcpStream::connect(system.gateways[0].addr).await.unwrap();
        stream.write_all(&request).await.unwrap();
        stream
    };
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(listen(first.task.to_string()).await);
    }
    let mut waits = listen(second.task.to_string()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    report(&system, &first, output("hello")).await;
    report(&system, &first, complete("x")).await;
    for mut stream in streams {
        let mut text = String::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text))
            .await
            .unwrap()
            .unwrap();
        assert!(text.contains("event: output") && text.contains("event: done"), "{text}");
    }
    let stopped = async {
        let mut text = String::new();
        waits.read_to_string(&mut text).await.unwrap();
        assert!(!text.contains("event: done"));
    };
    tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(system.stop(), stopped) })
        .await
        .unwrap();
}
