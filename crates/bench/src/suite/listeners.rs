//! What those cost who only listen and wait: streams of events of tasks, and workers in a long poll, all at one gateway.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{case::label, system::System};
use crate::{
    cost::Watch,
    http::{self, Conn},
    load::Report,
};

/// For how long they are held, so that each stream is kept alive once (every 15 s); a long poll may last 30 s.
const HELD: Duration = Duration::from_secs(20);
/// How long anything that is asked may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many of them.
struct Crowd {
    listeners: usize,
    workers: usize,
    /// Listeners whose task ends while they listen.
    ended: usize,
}

/// Holds them and measures; each listener has a task of its own.
///
/// # Errors
/// When one of them is not served as it should be.
pub(crate) async fn measure(system: &System, quick: bool) -> Result<Report> {
    let crowd = if quick {
        Crowd { listeners: 100, workers: 20, ended: 10 }
    } else {
        Crowd { listeners: 1_000, workers: 200, ended: 50 }
    };
    let key = system.make_key(false)?;
    let mut watch = Watch::start(&system.charged()?)?;
    let began = Instant::now();
    let mut api = Api::connect(system.api, &key).await?;
    let token = api.post("/v1/automation/worker-tokens", &json!({"name": "bench"})).await?;
    let token = text(&token, "token")?;
    // Nobody does what is to be built: the workers want to explore.
    let mut listeners = Vec::with_capacity(crowd.listeners);
    for _ in 0..crowd.listeners {
        let task = api.post("/v1/automation/tasks", &task("build")).await?;
        let task = text(&task, "task_id")?;
        let request = request(&key, system.api, "GET", &format!("/v1/automation/tasks/{task}/events"), None);
        let mut stream = Stream::open(system.api, &request).await?;
        stream.until("retry: ").await?;
        listeners.push((task, stream));
    }
    let mut workers = Vec::with_capacity(crowd.workers);
    for n in 0..crowd.workers {
        let worker = json!({"name": format!("bench-{n}"), "agent_types": ["explore"]});
        let body = json!({"worker": worker, "wait_seconds": 30});
        let request = request(&token, system.api, "POST", "/v1/automation/worker/claim", Some(&body));
        workers.push(Stream::open(system.api, &request).await?);
    }
    let end = Instant::now() + HELD;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1)).await;
        watch.sample();
    }
    // They are there and hear what happens.
    api.post("/v1/automation/tasks", &task("explore")).await?;
    let given = tokio::time::timeout(PATIENCE, one_is_given(&mut workers)).await;
    given.context("no worker was given the task that was made")??;
    for (task, _) in listeners.iter().take(crowd.ended) {
        api.post(&format!("/v1/automation/tasks/{task}/cancel"), &json!({})).await?;
    }
    for (_, stream) in listeners.iter_mut().take(crowd.ended) {
        stream.until("event: done").await?;
    }
    let (usage, other_cpu_s) = watch.finish();
    Ok(Report {
        label: label::LISTENERS.into(),
        target: "hookyard".into(),
        n: crowd.listeners as u64,
        conns: crowd.listeners + crowd.workers,
        usage,
        other_cpu_s,
        watched_s: began.elapsed().as_secs_f64(),
        ..Report::default()
    })
}

fn task(agent_type: &str) -> Value {
    json!({"title": "bench", "description": "is never done", "agent_type": agent_type})
}

pub(super) fn text(reply: &Value, field: &str) -> Result<String> {
    let value = reply.get(field).and_then(Value::as_str);
    Ok(value.with_context(|| format!("no {field} in {reply}"))?.to_owned())
}

fn request(key: &str, api: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Vec<u8> {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = body.map(Value::to_string).unwrap_or_default();
    http::request(method, &api.to_string(), path, &headers, body.as_bytes())
}

/// Requests that are answered at once, on one connection.
pub(super) struct Api {
    conn: Conn,
    addr: SocketAddr,
    key: String,
}

impl Api {
    pub(super) async fn connect(addr: SocketAddr, key: &str) -> Result<Self> {
        Ok(Self { conn: Conn::connect(&addr.to_string()).await?, addr, key: key.to_owned() })
    }

    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        self.ask("POST", path, Some(body)).await
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Value> {
        self.ask("GET", path, None).await
    }

    async fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let request = request(&self.key, self.addr, method, path, body);
        let answer = tokio::time::timeout(PATIENCE, self.conn.call(&request)).await;
        let answer = answer.with_context(|| format!("{path} is not answered"))??;
        let text = String::from_utf8_lossy(answer.body).into_owned();
        ensure!((200..300).contains(&answer.status), "{path} is answered {}: {text}", answer.status);
        serde_json::from_str(&text).with_context(|| format!("{path} is not answered with JSON: {text}"))
    }
}

/// An answer that comes bit by bit.
struct Stream {
    stream: TcpStream,
    heard: String,
}

impl Stream {
    async fn open(addr: SocketAddr, request: &[u8]) -> Result<Self> {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(request).await?;
        Ok(Self { stream, heard: String::new() })
    }

    /// Reads until this was heard.
    async fn until(&mut self, word: &str) -> Result<()> {
        let read = async {
            while !self.heard.contains(word) {
                let mut buffer = [0; 2048];
                let read = self.stream.read(&mut buffer).await?;
                ensure!(read > 0, "a stream ended without `{word}`: {}", self.heard);
                self.heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
            Ok(())
        };
        let read = tokio::time::timeout(PATIENCE, read).await;
        read.with_context(|| format!("a stream does not say `{word}`"))?
    }
}

/// Waits until one of the workers is answered, and makes sure that it is with a task.
async fn one_is_given(workers: &mut [Stream]) -> Result<()> {
    loop {
        for worker in &mut *workers {
            let mut buffer = [0; 4096];
            match worker.stream.try_read(&mut buffer) {
                Ok(read) => {
                    let answer = String::from_utf8_lossy(&buffer[..read]);
                    ensure!(answer.contains("\"lease_token\""), "a worker was answered {answer}");
                    return Ok(());
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("a worker lost its connection"),
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
