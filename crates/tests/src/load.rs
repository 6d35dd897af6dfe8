//! Load for fault tests: clients that post as clients should, and remember what they were promised.
//!
//! Two tenants with three hooks each: one takes every event, the others every fifth. A client keeps its connections, posts batches and single events with a key, waits
//! as it is told and tries again; without a key a repetition is a new event, with one it is the same. What was answered
//! with 202 has to reach every hook of its tenant, whatever happens meanwhile: [`Load::settle`] checks it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpStream, task::JoinSet, time::sleep};

use crate::{
    http::Client,
    ledger::{self, Ledger, Report},
    processes::{Environment, new_tenant},
    sink::{HOOKS, Sink, header},
};

/// An answer that takes longer is a hang.
const HANG: Duration = Duration::from_secs(20);

/// Tenants, and connections of each.
const TENANTS: usize = 2;
const CONNECTIONS: usize = 4;

/// One in so many events goes to all hooks, the others only to the first.
const WANTED: usize = 5;

/// One in so many events is refused for ever by one hook.
const POISON: usize = 500;

/// An event that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its tenant.
    pub tenant: usize,
    /// Its id.
    pub id: String,
    /// What was posted.
    pub kind: Kind,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For the first hook.
    Plain,
    /// For all hooks.
    Wanted,
    /// For all hooks, and the last refuses it for ever.
    Poison,
}

/// What is posted.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Events at the least, of all tenants.
    pub events: usize,
    /// Events per second, of all tenants; 0 = as fast as the answers come.
    pub per_second: usize,
    /// Connections of each tenant.
    pub connections: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { events: 20_000, per_second: 600, connections: CONNECTIONS }
    }
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Tally {
    /// Events that were accepted.
    pub accepted: Vec<Accepted>,
    /// By idempotency key: the id that was answered, every time.
    pub keyed: HashMap<String, String>,
    /// Answers that were not 202, by status.
    pub refused: HashMap<u16, usize>,
    /// Connections that broke or could not be made.
    pub broken: usize,
    /// The longest that an answer took.
    pub slowest: Duration,
    /// Answers that break a promise, and requests without an answer.
    pub wrong: Vec<String>,
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    sink: Sink,
    posts: JoinSet<()>,
    shared: Arc<Shared>,
    plan: Plan,
}

#[derive(Debug)]
struct Shared {
    api: SocketAddr,
    keys: Vec<String>,
    tally: Mutex<Tally>,
    accepted: AtomicUsize,
    enough: AtomicBool,
}

impl Load {
    /// Makes tenants and hooks and begins to post. The gateway has to be ready.
    ///
    /// # Panics
    /// When the tenants and hooks cannot be made.
    pub async fn start(sink: &Sink, api: SocketAddr, environment: &Environment, plan: Plan) -> Self {
        let mut keys = Vec::new();
        for tenant in 0..TENANTS {
            let (_id, key) = new_tenant(&format!("Tenant {tenant}"), environment);
            let client = Client::new(api).with_key(&key);
            for hook in 0..HOOKS {
                let wanted = if hook == 0 { "order.*" } else { "order.created" };
                let body = json!({ "url": sink.url(tenant, hook), "event_type": wanted });
                subscribe(&client, &body).await;
            }
            keys.push(key);
        }
        let shared = Shared {
            api,
            keys,
            tally: Mutex::default(),
            accepted: AtomicUsize::new(0),
            enough: AtomicBool::new(false),
        };
        let shared = Arc::new(shared);
        let mut posts = JoinSet::new();
        for tenant in 0..TENANTS {
            for number in 0..plan.connections {
                let poster = Poster { tenant, number, shared: Arc::clone(&shared), stream: None, made: 0 };
                posts.spawn(poster.run(plan));
            }
        }
        Self { sink: sink.clone(), posts, shared, plan }
    }

    /// Events accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Waits until so many more events were accepted than now.
    ///
    /// # Panics
    /// When they are not in two minutes.
    pub async fn go_on(&self, events: usize) {
        let (goal, end) = (self.accepted() + events, Instant::now() + Duration::from_secs(120));
        while self.accepted() < goal {
            assert!(Instant::now() < end, "only {} of {goal} events were accepted", self.accepted());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until something more arrives than now.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub async fn arrives(&self, requests: usize) {
        let (goal, end) = (self.sink.requests() + requests, Instant::now() + Duration::from_secs(60));
        while self.sink.requests() < goal {
            assert!(Instant::now() < end, "only {} of {goal} requests arrived", self.sink.requests());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Posts until there were enough events, then waits until all has arrived and is written down, and checks it.
    ///
    /// # Panics
    /// When something that was accepted does not arrive, or arrives where it should not.
    pub async fn settle(mut self, name: &str, database: &str) -> Report {
        let began = Instant::now();
        let more = self.plan.events.saturating_sub(self.accepted());
        if more > 0 {
            self.go_on(more).await;
        }
        self.shared.enough.store(true, Ordering::Relaxed);
        while self.posts.join_next().await.is_some() {}
        let tally = std::mem::take(&mut *self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut last, mut progress) = (0, Instant::now());
        while !ledger::is_settled(database).await {
            let seen = self.sink.requests();
            if seen != last {
                (last, progress) = (seen, Instant::now());
            }
            // Leases end after 16 s.
            if Duration::from_secs(45) < progress.elapsed() {
                panic!("{name}: nothing arrives any more: {:?}", Ledger::read(database).await);
            }
            sleep(Duration::from_millis(200)).await;
        }
        let ledger = Ledger::read(database).await;
        Report::check(name, &self.sink, tally, ledger, began.elapsed())
    }
}

/// Subscribes; while the service starts it is asked again.
async fn subscribe(client: &Client, body: &Value) {
    for left in (0..100).rev() {
        let reply = client.post_json("/zapier/hook", body).await;
        match reply.status {
            503 if left > 0 => sleep(Duration::from_millis(100)).await,
            _ => return drop(reply.expect(200)),
        }
    }
}

/// One connection of a client.
struct Poster {
    tenant: usize,
    number: usize,
    shared: Arc<Shared>,
    stream: Option<TcpStream>,
    made: usize,
}

/// An answer: status, head and body.
type Answer = (u16, String, Vec<u8>);

impl Poster {
    async fn run(mut self, plan: Plan) {
        let share = plan.per_second as f64 / (TENANTS * plan.connections) as f64;
        let mut due = Instant::now();
        for round in 0_usize.. {
            if self.shared.enough.load(Ordering::Relaxed) {
                return;
            }
            let posted =
                if round % 4 == 3 { self.post_keyed(round).await } else { self.post_batch(round).await };
            if plan.per_second > 0 {
                due += Duration::from_secs_f64(posted as f64 / share);
                let now = Instant::now();
                // What a fault has delayed is not made up for: the load stays what it is.
                due = due.max(now);
                sleep(due - now).await;
            }
        }
    }

    fn event(&mut self) -> (Value, Kind) {
        self.made += 1;
        let kind = match self.made {
            made if made.is_multiple_of(POISON) => Kind::Poison,
            made if made.is_multiple_of(WANTED) => Kind::Wanted,
            _ => Kind::Plain,
        };
        let poison = kind == Kind::Poison;
        let event_type = if kind == Kind::Plain { "order.updated" } else { "order.created" };
        let payload =
            json!({ "tenant": self.tenant, "number": self.made, "poison": poison, "text": "x".repeat(200) });
        (json!({ "event_type": event_type, "payload": payload }), kind)
    }

    /// Between 10 and 100 events at once.
    async fn post_batch(&mut self, round: usize) -> usize {
        let (events, kinds): (Vec<Value>, Vec<Kind>) =
            (0..10 + (round * 37 + self.number * 11) % 91).map(|_| self.event()).unzip();
        let body = json!({ "events": events }).to_string();
        loop {
            let answer = self.ask("/events/batch", "", &body).await;
            if let Some((202, _, reply)) = &answer {
                let reply: Value = serde_json::from_slice(reply).unwrap_or_default();
                let ids: Vec<&str> = reply["results"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|one| one["event_id"].as_str())
                    .collect();
                if ids.len() != events.len() {
                    self.wrong(format!("a batch of {} was answered {reply}", events.len()));
                }
                let tenant = self.tenant;
                let accepted =
                    ids.into_iter().zip(kinds).map(|(id, kind)| Accepted { tenant, id: id.to_owned(), kind });
                self.accepted(accepted.collect());
                return events.len();
            }
            self.hear(answer).await;
            if self.shared.enough.load(Ordering::Relaxed) {
                return 0;
            }
        }
    }

    /// Three events one by one, each with a key: repeated until it is known to be stored, and now and then once more.
    async fn post_keyed(&mut self, round: usize) -> usize {
        for index in 0..3 {
            let (mut event, kind) = self.event();
            let key = format!("{}-{}-{round}-{index}", self.tenant, self.number);
            event["payload"]["once"] = Value::from(key.as_str());
            let (body, extra) = (event.to_string(), format!("idempotency-key: {key}\r\n"));
            let mut again = index == 0;
            loop {
                let answer = self.ask("/events", &extra, &body).await;
                let Some((202, _, reply)) = &answer else {
                    // Until it is known: whether it was stored cannot be told by a connection that broke.
                    self.hear(answer).await;
                    continue;
                };
                let reply: Value = serde_json::from_slice(reply).unwrap_or_default();
                let id = reply["event_id"].as_str().unwrap_or_default().to_owned();
                let before = self.tally(|tally| tally.keyed.insert(key.clone(), id.clone()));
                match before {
                    None => self.accepted(vec![Accepted { tenant: self.tenant, id, kind }]),
                    Some(before) if before != id => {
                        self.wrong(format!("key {key} was answered {before}, then {id}"))
                    }
                    Some(_) => {}
                }
                if !std::mem::take(&mut again) {
                    break;
                }
            }
        }
        3
    }

    fn tally<T>(&self, work: impl FnOnce(&mut Tally) -> T) -> T {
        work(&mut self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn accepted(&self, events: Vec<Accepted>) {
        self.shared.accepted.fetch_add(events.len(), Ordering::Relaxed);
        self.tally(|tally| tally.accepted.extend(events));
    }

    fn wrong(&self, what: String) {
        self.tally(|tally| tally.wrong.push(what));
    }

    /// What a client does with an answer that is not 202: notes it and waits as it is told.
    async fn hear(&self, answer: Option<Answer>) {
        let Some((status, head, body)) = answer else {
            self.tally(|tally| tally.broken += 1);
            return sleep(Duration::from_millis(50)).await;
        };
        self.tally(|tally| *tally.refused.entry(status).or_default() += 1);
        let told = header(&head, "retry-after").map(str::parse::<u64>);
        let body = String::from_utf8_lossy(&body);
        match (status, told) {
            (409 | 429 | 503, Some(Ok(1..=60))) => {}
            (409, None) => {}
            _ => self.wrong(format!("{status}: {head}{body}")),
        }
        // A client with better things to do would wait for what was asked; this one keeps up the pressure.
        sleep(Duration::from_millis(200)).await;
    }

    /// One request; `None` when the connection broke.
    async fn ask(&mut self, path: &str, extra: &str, body: &str) -> Option<Answer> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n{extra}\
             content-length: {}\r\n\r\n{body}",
            self.shared.keys[self.tenant],
            body.len()
        );
        let (asked, api) = (Instant::now(), self.shared.api);
        let stream = self.stream.take();
        let exchange = async {
            let mut stream = match stream {
                Some(stream) => stream,
                None => TcpStream::connect(api).await.ok()?,
            };
            stream.write_all(request.as_bytes()).await.ok()?;
            let answer = read_answer(&mut stream).await?;
            Some((stream, answer))
        };
        match tokio::time::timeout(HANG, exchange).await {
            Err(_elapsed) => {
                self.wrong(format!("POST {path} hangs: no answer within {HANG:?}"));
                None
            }
            Ok(None) => None,
            Ok(Some((stream, answer))) => {
                if header(&answer.1, "connection") != Some("close") {
                    self.stream = Some(stream);
                }
                let took = asked.elapsed();
                self.tally(|tally| tally.slowest = tally.slowest.max(took));
                Some(answer)
            }
        }
    }
}

async fn read_answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end + 2]).into_owned();
            let length: usize = header(&head, "content-length")?.parse().ok()?;
            while buffer.len() < end + 4 + length {
                if stream.read_buf(&mut buffer).await.ok()? == 0 {
                    return None;
                }
            }
            let status = head.split(' ').nth(1)?.parse().ok()?;
            return Some((status, head, buffer.split_off(end + 4)));
        }
        if stream.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
}
