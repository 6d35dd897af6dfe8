//! A receiver of webhooks that does what a test tells it, and remembers what it got.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::StatusCode, web};
use tokio::sync::watch;

/// How one request is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers, besides the usual.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
    /// Wait before the answer.
    pub delay: Duration,
}

impl Answer {
    /// An answer with this status at once.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: "{\"status\":\"success\"}".to_owned(),
            delay: Duration::ZERO,
        }
    }

    /// Adds a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Waits before the answer.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// The bytes of the body.
    pub body: Vec<u8>,
    /// When it was complete.
    pub at: Instant,
}

impl Received {
    /// A header that has to be there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name} in {:?}", self.headers))
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a delivery is JSON")
    }
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    scripts: HashMap<String, VecDeque<Answer>>,
    standing: HashMap<String, Answer>,
    /// Paths whose answers wait; dropped to let them go.
    held: HashMap<String, watch::Sender<()>>,
    in_flight: HashMap<String, InFlight>,
}

#[derive(Clone, Copy, Default)]
struct InFlight {
    now: usize,
    most: usize,
}

/// A running receiver; it ends with the test's runtime.
#[derive(Clone)]
pub struct Receiver {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    /// Starts a receiver on a free port of the loopback address. It answers 200 unless told otherwise.
    pub async fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let served = web::Data::from(Arc::clone(&state));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(served.clone())
                .app_data(web::PayloadConfig::new(16 << 20))
                .default_service(web::to(receive))
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .expect("a free port");
        let addr = server.addrs()[0];
        tokio::spawn(server.run());
        Self { addr, state }
    }

    /// What hooks of this receiver begin with.
    pub fn prefix(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.addr)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next requests to `/path` get these answers, one each; then the standing answer again.
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.state().scripts.entry(format!("/{path}")).or_default().extend(answers);
    }

    /// What requests to `/path` get from now on.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.state().standing.insert(format!("/{path}"), answer);
    }

    /// Requests to `/path` are not answered until [`Self::release`].
    pub fn hold(&self, path: &str) {
        self.state().held.entry(format!("/{path}")).or_insert_with(|| watch::Sender::new(()));
    }

    /// Answers what is held at `/path`, and no longer holds.
    pub fn release(&self, path: &str) {
        self.state().held.remove(&format!("/{path}"));
    }

    /// The most requests to `/path` that were unanswered at the same time.
    pub fn most_in_flight(&self, path: &str) -> usize {
        self.state().in_flight.get(&format!("/{path}")).map_or(0, |in_flight| in_flight.most)
    }

    /// Everything that came, in order.
    pub fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    /// What came to `/path`, in order.
    pub fn at(&self, path: &str) -> Vec<Received> {
        let path = format!("/{path}");
        self.state().received.iter().filter(|received| received.path == path).cloned().collect()
    }

    /// How many requests came to `/path`.
    pub fn count(&self, path: &str) -> usize {
        let path = format!("/{path}");
        self.state().received.iter().filter(|received| received.path == path).count()
    }

    /// Waits until `n` requests came to `/path`, and returns them.
    ///
    /// # Panics
    /// When they do not come in time.
    pub async fn wait_for(&self, path: &str, n: usize, patience: Duration) -> Vec<Received> {
        let end = Instant::now() + patience;
        loop {
            let count = self.count(path);
            if count >= n {
                return self.at(path);
            }
            assert!(Instant::now() < end, "only {count} of {n} requests came to /{path} within {patience:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn receive(request: HttpRequest, body: web::Bytes, state: web::Data<Mutex<State>>) -> HttpResponse {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let (answer, held) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let headers = request.headers().iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let received = Received {
            method: request.method().to_string(),
            path: path.clone(),
            headers: headers.collect(),
            body: body.to_vec(),
            at: Instant::now(),
        };
        state.received.push(received);
        let in_flight = state.in_flight.entry(path.clone()).or_default();
        in_flight.now += 1;
        in_flight.most = in_flight.most.max(in_flight.now);
        let scripted = state.scripts.get_mut(&path).and_then(VecDeque::pop_front);
        let answer = scripted.or_else(|| state.standing.get(&path).cloned());
        (answer.unwrap_or_else(|| Answer::status(200)), state.held.get(&path).map(watch::Sender::subscribe))
    };
    // A caller that gives up drops this future; it is not under way any more then.
    let _under_way = UnderWay { state: state.clone(), path };
    if let Some(mut held) = held {
        // Ends when the sender is dropped.
        let _released = held.changed().await;
    }
    tokio::time::sleep(answer.delay).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = HttpResponse::build(status);
    for (name, value) in &answer.headers {
        response.insert_header((name.as_str(), value.as_str()));
    }
    response.content_type("application/json").body(answer.body)
}

struct UnderWay {
    state: web::Data<Mutex<State>>,
    path: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(in_flight) = state.in_flight.get_mut(&self.path) {
            in_flight.now -= 1;
        }
    }
}
