//! One exchange with a provider: the request, the stream of its reply, and what stands in an error.

use std::{
    ops::ControlFlow,
    time::{Duration, SystemTime},
};

use hookyard_egress::{FailureKind, HeaderMap, HeaderValue, Method, Request, RetryAfter, Services};
use serde_json::Value;
use tokio::time::Instant;

use crate::executor::{
    Api, End, Job, Piece, Tokens, anthropic, openai,
    sse::{Event, Events},
};

/// Most bytes of a reply's stream. Every token comes in an event of some hundred bytes.
const MAX_STREAM: u64 = 64 << 20;

/// Most bytes of a reply's text; it has to fit into a result (contract of tasks: 256 KiB).
const MAX_TEXT: usize = 240 << 10;

/// Most bytes of an error that are read.
const MAX_ERROR: usize = 16 << 10;

/// Most time for reading the rest of an error.
const ERROR_PATIENCE: Duration = Duration::from_secs(5);

/// A reply to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) end: End,
}

/// No reply, or not all of it.
#[derive(Debug)]
pub(crate) enum Interrupted {
    /// Whoever heard said so.
    Stopped,
    Trouble(Trouble),
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// An answer other than 200.
    Status { status: u16, kind: String, message: String, retry_after: Option<Duration> },
    /// An error inside the stream.
    InStream { kind: String, message: String },
    /// No answer, or none that ends.
    Network { kind: FailureKind, detail: String },
    /// The stream ended before the reply did.
    Cut,
    /// What came is not what the API says.
    Unreadable(&'static str),
    /// The reply is longer than a result may be.
    TooLong,
}

impl From<Trouble> for Interrupted {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// What one event of a stream means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) text: Option<String>,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) end: Option<End>,
    /// Nothing follows.
    pub(crate) last: bool,
}

/// Makes one call. Whatever is known about tokens is told at once, guesses first, so that nothing is spent unheard.
pub(crate) async fn call(
    services: &Services,
    job: &Job,
    end: Instant,
    silence: Duration,
    piece: &mut (dyn FnMut(Piece<'_>) -> ControlFlow<()> + Send),
) -> Result<Reply, Interrupted> {
    let sent: usize = job.system.len() + job.turns.iter().map(|turn| turn.text.len()).sum::<usize>();
    let mut meter = Meter { guess: true, tokens: Tokens { input: guess(sent), output: 0 }, output_bytes: 0 };
    tell(piece, Piece::Spent(meter.tokens))?;
    let mut opened = services
        .open(request(job, end)?, silence, MAX_STREAM)
        .await
        .map_err(|failure| network(failure.kind, failure.detail))?;
    if opened.status() != 200 {
        let (status, retry_after) = (opened.status(), opened.retry_after().map(wait_of));
        let body =
            tokio::time::timeout(ERROR_PATIENCE, opened.beginning(MAX_ERROR)).await.unwrap_or_default();
        let (kind, message) = error_of(&body);
        // Nobody charges for what was refused.
        tell(piece, Piece::Spent(Tokens::default()))?;
        return Err(Trouble::Status { status, kind, message, retry_after }.into());
    }
    let mut events = Events::default();
    let mut reply = Reply { text: String::new(), end: End::Complete };
    let mut ended = false;
    loop {
        let bytes = opened.next().await.map_err(|failure| network(failure.kind, failure.detail))?;
        let Some(bytes) = bytes else { break };
        let complete = events.push(&bytes).map_err(|_too_long| Trouble::Unreadable("an endless event"))?;
        for event in complete {
            let meaning = read(job.provider.api, &event)?;
            if let Some(text) = &meaning.text {
                if reply.text.len() + text.len() > MAX_TEXT {
                    return Err(Trouble::TooLong.into());
                }
                reply.text.push_str(text);
                tell(piece, Piece::Text(text))?;
            }
            if meter.take(&meaning) {
                tell(piece, Piece::Spent(meter.tokens))?;
            }
            if let Some(end) = meaning.end {
                (reply.end, ended) = (end, true);
            }
            if meaning.last {
                return Ok(reply);
            }
        }
    }
    // Some servers that speak OpenAI's API leave out the last line; a reason to end is as good.
    if ended && job.provider.api == Api::OpenAi { Ok(reply) } else { Err(Trouble::Cut.into()) }
}

fn tell(
    piece: &mut (dyn FnMut(Piece<'_>) -> ControlFlow<()> + Send),
    what: Piece<'_>,
) -> Result<(), Interrupted> {
    match piece(what) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Interrupted::Stopped),
    }
}

/// What is spent: what the provider says, and until then a guess that is rather too high than too low.
struct Meter {
    guess: bool,
    tokens: Tokens,
    output_bytes: usize,
}

impl Meter {
    /// Whether the figures have changed.
    fn take(&mut self, meaning: &Meaning) -> bool {
        let before = self.tokens;
        if let Some(text) = &meaning.text {
            self.output_bytes += text.len();
            if self.guess {
                self.tokens.output = self.tokens.output.max(guess(self.output_bytes));
            }
        }
        if let Some(input) = meaning.input_tokens {
            self.tokens.input = input;
        }
        if let Some(output) = meaning.output_tokens {
            (self.tokens.output, self.guess) = (output, false);
        }
        self.tokens != before
    }
}

fn guess(bytes: usize) -> u64 {
    bytes.div_ceil(4) as u64
}

fn request(job: &Job, end: Instant) -> Result<Request, Trouble> {
    let provider = &job.provider;
    let (url, headers, body) = match provider.api {
        Api::Anthropic => (anthropic::url(&provider.base_url), anthropic::headers(), anthropic::body(job)),
        Api::OpenAi => (openai::url(&provider.base_url), HeaderMap::new(), openai::body(job)),
    };
    let mut headers: HeaderMap = headers;
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("accept", HeaderValue::from_static("text/event-stream"));
    if let Some(key) = &provider.key {
        let (name, value) = match provider.api {
            Api::Anthropic => ("x-api-key", HeaderValue::from_str(key)),
            Api::OpenAi => ("authorization", HeaderValue::from_str(&format!("Bearer {key}"))),
        };
        let mut value = value.map_err(|_invalid| Trouble::Unreadable("the api key is no header value"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(Request {
        method: Method::POST,
        url,
        headers,
        body: body.to_string().into(),
        timeout: end.saturating_duration_since(Instant::now()),
    })
}

fn read(api: Api, event: &Event) -> Result<Meaning, Trouble> {
    match api {
        Api::Anthropic => anthropic::read(event),
        Api::OpenAi => openai::read(event),
    }
}

fn network(kind: FailureKind, detail: String) -> Trouble {
    Trouble::Network { kind, detail }
}

/// Dates are turned into waits here, where the answer came in.
fn wait_of(after: RetryAfter) -> Duration {
    match after {
        RetryAfter::Seconds(seconds) => Duration::from_secs(seconds.min(86_400)),
        RetryAfter::At(moment) => moment.duration_since(SystemTime::now()).unwrap_or_default(),
    }
}

/// Kind and text of an error: both APIs have them in `error.type` (or `error.code`) and `error.message`.
fn error_of(body: &[u8]) -> (String, String) {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    named(&value["error"]).unwrap_or_else(|| {
        (String::new(), value["error"].as_str().or(value["message"].as_str()).map(short).unwrap_or_default())
    })
}

/// As they stand in an object `error`.
pub(crate) fn named(error: &Value) -> Option<(String, String)> {
    let text = |name: &str| error[name].as_str().filter(|text| !text.is_empty());
    // `insufficient_quota` is a code; its type says the same.
    let kind = text("code").or(text("type"));
    let message = text("message");
    (kind.is_some() || message.is_some())
        .then(|| (kind.map(short).unwrap_or_default(), message.map(short).unwrap_or_default()))
}

/// One line, bounded: it ends in a row and in a webhook.
fn short(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(150).collect();
    line.trim().to_owned()
}
