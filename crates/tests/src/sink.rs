//! A receiver for load: as cheap as can be, it remembers how often each event came to each hook and what it answered.
//!
//! Paths are `/<tenant>/<hook>`. The last hook of a tenant answers 500 to the first try of every twentieth event, and to
//! every try of events that say `"poison":true`.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Hooks of a tenant.
pub const HOOKS: usize = 3;

/// How long an answer takes, so that whoever is killed has something under way.
const PAUSE: Duration = Duration::from_millis(20);

/// The hook that fails now and then.
const MOODY: usize = HOOKS - 1;

/// What came of an event to a hook.
#[derive(Clone, Copy, Debug, Default)]
pub struct Visits {
    /// Requests.
    pub tries: u32,
    /// Requests that were answered with 200.
    pub taken: u32,
}

/// A request for something that had been taken before.
#[derive(Clone, Debug)]
pub struct Duplicate {
    /// How long before it was taken the first time.
    pub after: Duration,
    /// When, since the sink was started.
    pub at: Duration,
}

impl Duplicate {
    /// When it had been taken the first time, since the sink was started.
    pub fn first(&self) -> Duration {
        self.at.saturating_sub(self.after)
    }
}

#[derive(Debug, Default)]
struct State {
    /// Per tenant and hook, by event id.
    visits: HashMap<(usize, usize), HashMap<String, (Visits, Instant)>>,
    duplicates: Vec<Duplicate>,
    /// Per tenant and hook, by number: the event that came with it.
    numbers: HashMap<(usize, usize), HashMap<u64, String>>,
    misnumbered: Vec<String>,
    foreign: Vec<String>,
    strange: Vec<String>,
}

/// A running sink; it ends with the test's runtime.
#[derive(Clone, Debug)]
pub struct Sink {
    addr: SocketAddr,
    started: Instant,
    requests: Arc<AtomicUsize>,
    state: Arc<Mutex<State>>,
}

impl Sink {
    /// Starts one on a free port of the loopback address.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let sink = Self { addr, started: Instant::now(), requests: Arc::default(), state: Arc::default() };
        let served = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                // A deliverer that is killed leaves half a request.
                tokio::spawn(async move { served.serve(stream).await.ok() });
            }
        });
        sink
    }

    /// What the hooks begin with.
    pub fn prefix(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// The URL of a hook.
    pub fn url(&self, tenant: usize, hook: usize) -> String {
        format!("http://{}/{tenant}/{hook}", self.addr)
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often an event came to a hook.
    pub fn visits(&self, tenant: usize, hook: usize, event: &str) -> Visits {
        let state = self.state();
        let visits = state.visits.get(&(tenant, hook)).and_then(|events| events.get(event));
        visits.map(|(visits, _)| *visits).unwrap_or_default()
    }

    /// How many events came to a hook.
    pub fn events(&self, tenant: usize, hook: usize) -> usize {
        self.state().visits.get(&(tenant, hook)).map_or(0, HashMap::len)
    }

    /// How long it runs.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Requests for what had been taken before.
    pub fn duplicates(&self) -> Vec<Duplicate> {
        self.state().duplicates.clone()
    }

    /// Requests that told of another tenant's event.
    pub fn foreign(&self) -> Vec<String> {
        self.state().foreign.clone()
    }

    /// Requests without a number, and numbers that came with two events.
    pub fn misnumbered(&self) -> Vec<String> {
        self.state().misnumbered.clone()
    }

    /// Requests that nobody should have made.
    pub fn strange(&self) -> Vec<String> {
        self.state().strange.clone()
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut buffer = Vec::with_capacity(8192);
        loop {
            let head = loop {
                if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break end + 4;
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
            let length = header(&text, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            while buffer.len() < head + length {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            }
            let taken = self.note(&text, &buffer[head..head + length]);
            buffer.drain(..head + length);
            tokio::time::sleep(PAUSE).await;
            let answer: &[u8] = if taken {
                b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
            } else {
                b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
            };
            stream.write_all(answer).await?;
        }
    }

    /// Remembers a request; says whether it is taken.
    fn note(&self, head: &str, body: &[u8]) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let place = head.strip_prefix("POST /").and_then(|rest| {
            let (tenant, hook) = rest.split(' ').next()?.split_once('/')?;
            Some((tenant.parse::<usize>().ok()?, hook.parse::<usize>().ok()?))
        });
        let mut state = self.state();
        let (Some((tenant, hook)), Some(event)) = (place, header(head, "x-event-id")) else {
            state.strange.push(head.to_owned());
            return true;
        };
        if !contains(body, format!("\"tenant\":{tenant}").as_bytes()) {
            state.foreign.push(format!("{event} came to tenant {tenant}: {}", String::from_utf8_lossy(body)));
        }
        let number = header(head, "x-hookyard-sequence").and_then(|number| number.parse().ok());
        let known = number.map(|number| {
            let numbers = state.numbers.entry((tenant, hook)).or_default();
            numbers.entry(number).or_insert_with(|| event.to_owned()).clone()
        });
        if known.as_deref() != Some(event) {
            state
                .misnumbered
                .push(format!("{event} came to {tenant}/{hook} as {number:?}, as {known:?} had"));
        }
        let now = Instant::now();
        let (visits, first) = state
            .visits
            .entry((tenant, hook))
            .or_default()
            .entry(event.to_owned())
            .or_insert_with(|| (Visits::default(), now));
        visits.tries += 1;
        if hook == MOODY && (contains(body, b"\"poison\":true") || visits.tries == 1 && fails_first(event)) {
            return false;
        }
        visits.taken += 1;
        if visits.taken == 1 {
            *first = now;
        } else {
            let duplicate = Duplicate { after: now - *first, at: now - self.started };
            state.duplicates.push(duplicate);
        }
        true
    }
}

/// Whether the first try of an event fails at the moody hook.
fn fails_first(event: &str) -> bool {
    event.bytes().map(u32::from).sum::<u32>().is_multiple_of(20)
}

fn contains(body: &[u8], what: &[u8]) -> bool {
    body.windows(what.len()).any(|window| window == what)
}

/// A header of a head; names in any case.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (there, value) = line.split_once(':')?;
        there.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
