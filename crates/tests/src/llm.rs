//! A provider of language models that says what a test tells it: Anthropic's Messages API and OpenAI's chat completions,
//! with the shapes of their streams and errors as their public documentation gives them, over plain sockets so that a
//! stream can be slow, fall silent, or be cut anywhere.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
};

/// The key that the provider accepts.
pub const KEY: &str = "sk-test-0123456789";

/// How one call is answered.
#[derive(Clone, Debug)]
pub struct Say {
    status: u16,
    headers: Vec<(String, String)>,
    /// Kind and text of an error: of the answer, or inside of the stream.
    error: Option<(String, String)>,
    text: String,
    between: Duration,
    first: Duration,
    input_tokens: u64,
    output_tokens: u64,
    stop: &'static str,
    /// What happens after so many pieces.
    after: Option<(usize, Mishap)>,
    with_usage: bool,
}

/// What may happen to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    Cut,
    Error,
    Silence,
}

impl Say {
    /// Answers with this text, a word at a time.
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            status: 200,
            headers: Vec::new(),
            error: None,
            output_tokens: text.split_inclusive(' ').count() as u64,
            text,
            between: Duration::ZERO,
            first: Duration::ZERO,
            input_tokens: 20,
            stop: "end_turn",
            after: None,
            with_usage: true,
        }
    }

    /// Answers with an error instead.
    pub fn error(status: u16, kind: &str, message: &str) -> Self {
        Self { status, error: Some((kind.to_owned(), message.to_owned())), ..Self::text("") }
    }

    /// Adds a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Waits before every word.
    pub fn slowly(self, between: Duration) -> Self {
        Self { between, ..self }
    }

    /// Waits before the head of the answer.
    pub fn late(self, first: Duration) -> Self {
        Self { first, ..self }
    }

    /// The usage that is told.
    pub fn tokens(self, input_tokens: u64, output_tokens: u64) -> Self {
        Self { input_tokens, output_tokens, ..self }
    }

    /// Why it ends, in Anthropic's words: `end_turn`, `max_tokens`, `refusal`.
    pub fn stops(self, stop: &'static str) -> Self {
        Self { stop, ..self }
    }

    /// The connection ends after so many words.
    pub fn cut_after(self, words: usize) -> Self {
        Self { after: Some((words, Mishap::Cut)), ..self }
    }

    /// Nothing comes any more after so many words.
    pub fn silent_after(self, words: usize) -> Self {
        Self { after: Some((words, Mishap::Silence)), ..self }
    }

    /// An error stands in the stream after so many words.
    pub fn fails_after(self, words: usize, kind: &str, message: &str) -> Self {
        let error = Some((kind.to_owned(), message.to_owned()));
        Self { after: Some((words, Mishap::Error)), error, ..self }
    }

    /// The stream has no usage, as with some servers that speak OpenAI's API.
    pub fn without_usage(self) -> Self {
        Self { with_usage: false, ..self }
    }
}

/// One call as it came.
#[derive(Clone, Debug)]
pub struct Call {
    /// Path.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// Body.
    pub body: Value,
    /// When it was complete.
    pub at: Instant,
}

#[derive(Default)]
struct State {
    script: VecDeque<Say>,
    standing: Option<Say>,
    calls: Vec<Call>,
    open: usize,
    abandoned: usize,
    finished: usize,
}

/// A running provider; it ends with the test's runtime.
#[derive(Clone)]
pub struct FakeLlm {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FakeLlm {
    /// Starts a provider on a free port of the loopback address. It says "Done." unless told otherwise.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let llm = Self { addr, state: Arc::default() };
        let served = llm.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                tokio::spawn(async move { served.serve(stream).await });
            }
        });
        llm
    }

    /// The base URL for both APIs.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next calls are answered so, one each; then as always.
    pub fn script(&self, says: impl IntoIterator<Item = Say>) {
        self.state().script.extend(says);
    }

    /// How calls are answered from now on.
    pub fn answer(&self, say: Say) {
        self.state().standing = Some(say);
    }

    /// Every call that came, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Streams that are under way.
    pub fn open(&self) -> usize {
        self.state().open
    }

    /// Streams that the caller has left before their end.
    pub fn abandoned(&self) -> usize {
        self.state().abandoned
    }

    /// Answers that were sent to their end.
    pub fn finished(&self) -> usize {
        self.state().finished
    }

    /// Waits until the condition holds.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < end, "{what}: it does not happen");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn serve(self, stream: TcpStream) {
        let _nodelay = stream.set_nodelay(true);
        let (mut reading, mut writing) = stream.into_split();
        let mut buffer = Vec::new();
        while let Some(call) = read(&mut reading, &mut buffer).await {
            let say = {
                let mut state = self.state();
                state.calls.push(call.clone());
                state.open += 1;
                state
                    .script
                    .pop_front()
                    .or_else(|| state.standing.clone())
                    .unwrap_or_else(|| Say::text("Done."))
            };
            let end = tokio::select! {
                end = answer(&mut writing, &call, refusal(&call).unwrap_or(say)) => end,
                // A caller says nothing before he has his answer: he can only go.
                _gone = reading.read_u8() => End::Abandoned,
            };
            let mut state = self.state();
            state.open -= 1;
            match end {
                End::Finished => state.finished += 1,
                End::Abandoned => state.abandoned += 1,
                End::Cut => {}
            }
            drop(state);
            if end != End::Finished {
                return;
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Finished,
    Abandoned,
    Cut,
}

async fn read(reading: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> Option<Call> {
    let head = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if reading.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
    let mut lines = text.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while buffer.len() < head + 4 + length {
        if reading.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let rest = buffer.split_off(head + 4 + length);
    let body = serde_json::from_slice(&buffer[head + 4..]).unwrap_or(Value::Null);
    *buffer = rest;
    Some(Call { path, headers, body, at: Instant::now() })
}

fn is_anthropic(call: &Call) -> bool {
    call.path.ends_with("/messages")
}

/// What the real ones refuse.
fn refusal(call: &Call) -> Option<Say> {
    let header = |name: &str| call.headers.get(name).map(String::as_str);
    let wrong = |message: &str| Some(Say::error(400, "invalid_request_error", message));
    let messages = call.body["messages"].as_array();
    if is_anthropic(call) {
        if header("x-api-key") != Some(KEY) {
            return Some(Say::error(401, "authentication_error", "invalid x-api-key"));
        }
        if header("anthropic-version") != Some("2023-06-01") {
            return wrong("anthropic-version: header is required");
        }
        if !call.body["max_tokens"].is_u64() {
            return wrong("max_tokens: Field required");
        }
        let roles: Vec<&str> = messages?.iter().filter_map(|message| message["role"].as_str()).collect();
        if roles.first() != Some(&"user") || roles.contains(&"system") {
            return wrong("messages: first message must use the \"user\" role");
        }
    } else {
        let bearer = format!("Bearer {KEY}");
        if header("authorization").is_some_and(|sent| sent != bearer) {
            return Some(Say::error(401, "invalid_api_key", "Incorrect API key provided"));
        }
        if messages.is_none_or(Vec::is_empty) {
            return wrong("Invalid 'messages': empty array.");
        }
    }
    if call.body["stream"] != true || !call.body["model"].is_string() {
        return wrong("the tests' provider only streams, and wants a model");
    }
    None
}

async fn answer(writing: &mut OwnedWriteHalf, call: &Call, say: Say) -> End {
    tokio::time::sleep(say.first).await;
    if say.status != 200 {
        let (kind, message) = say.error.clone().unwrap_or_default();
        let body = if is_anthropic(call) {
            json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"})
        } else {
            json!({"error": {"message": message, "type": kind, "param": null, "code": kind}})
        }
        .to_string();
        let mut head = format!(
            "HTTP/1.1 {} Tests\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            say.status,
            body.len()
        );
        for (name, value) in &say.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let sent = writing.write_all(format!("{head}\r\n{body}").as_bytes()).await;
        return if sent.is_ok() { End::Finished } else { End::Abandoned };
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    if writing.write_all(head.as_bytes()).await.is_err() {
        return End::Abandoned;
    }
    let stream = if is_anthropic(call) { anthropic(call, &say) } else { openai(call, &say) };
    let mut words = 0;
    for part in stream.parts {
        if part.is_word {
            if let Some((after, mishap)) = say.after
                && words == after
            {
                match mishap {
                    Mishap::Cut => return End::Cut,
                    Mishap::Silence => std::future::pending().await,
                    Mishap::Error => {
                        let _gone = send(writing, &stream.error).await;
                        let _gone = writing.write_all(b"0\r\n\r\n").await;
                        return End::Finished;
                    }
                }
            }
            words += 1;
            tokio::time::sleep(say.between).await;
        }
        if send(writing, &part.text).await.is_err() {
            return End::Abandoned;
        }
    }
    match writing.write_all(b"0\r\n\r\n").await {
        Ok(()) => End::Finished,
        Err(_) => End::Abandoned,
    }
}

async fn send(writing: &mut OwnedWriteHalf, text: &str) -> std::io::Result<()> {
    writing.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await
}

struct Stream {
    parts: Vec<Part>,
    /// What stands in the stream when it fails.
    error: String,
}

struct Part {
    text: String,
    is_word: bool,
}

fn anthropic(call: &Call, say: &Say) -> Stream {
    let event = |data: Value| {
        let name = data["type"].as_str().unwrap_or_default();
        format!("event: {name}\ndata: {data}\n\n")
    };
    let mut parts = vec![
        event(json!({"type": "message_start", "message": {
            "id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "content": [],
            "model": call.body["model"], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": say.input_tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
        }})),
        event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
        event(json!({"type": "ping"})),
    ]
    .into_iter()
    .map(|text| Part { text, is_word: false })
    .collect::<Vec<_>>();
    parts.extend(say.text.split_inclusive(' ').map(|word| Part {
        text: event(
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}),
        ),
        is_word: true,
    }));
    parts.extend(
        [
            event(json!({"type": "content_block_stop", "index": 0})),
            event(json!({"type": "message_delta", "delta": {"stop_reason": say.stop, "stop_sequence": null},
                         "usage": {"output_tokens": say.output_tokens}})),
            event(json!({"type": "message_stop"})),
        ]
        .into_iter()
        .map(|text| Part { text, is_word: false }),
    );
    let (kind, message) = say.error.clone().unwrap_or_default();
    Stream { parts, error: event(json!({"type": "error", "error": {"type": kind, "message": message}})) }
}

fn openai(call: &Call, say: &Say) -> Stream {
    let wants_usage = call.body["stream_options"]["include_usage"] == true && say.with_usage;
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1_694_268_190, "model": call.body["model"],
            "system_fingerprint": "fp_44709d6fcb", "choices": choices,
        });
        if wants_usage {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n")
    };
    let choice = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
    let mut parts = vec![Part {
        text: chunk(choice(json!({"role": "assistant", "content": ""}), Value::Null), Value::Null),
        is_word: false,
    }];
    parts.extend(say.text.split_inclusive(' ').map(|word| Part {
        text: chunk(choice(json!({"content": word}), Value::Null), Value::Null),
        is_word: true,
    }));
    let finish = match say.stop {
        "max_tokens" => "length",
        "refusal" => "content_filter",
        _ => "stop",
    };
    let mut ending = vec![chunk(choice(json!({}), finish.into()), Value::Null)];
    if wants_usage {
        let (input, output) = (say.input_tokens, say.output_tokens);
        ending.push(chunk(
            json!([]),
            json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output}),
        ));
    }
    ending.push("data: [DONE]\n\n".to_owned());
    parts.extend(ending.into_iter().map(|text| Part { text, is_word: false }));
    let (kind, message) = say.error.clone().unwrap_or_default();
    let error = json!({"error": {"message": message, "type": kind, "param": null, "code": null}});
    Stream { parts, error: format!("data: {error}\n\n") }
}
