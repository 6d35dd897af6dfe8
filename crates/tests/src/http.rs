//! An HTTP/1.1 client for tests, as plain as can be: a connection per request, any bytes as method, path, header or
//! body, and an answer that is read even when the server refuses the body before it has been sent.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An answer that takes longer is a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Speaks to one server, with one key.
#[derive(Clone, Debug)]
pub struct Client {
    addr: SocketAddr,
    key: Option<String>,
}

impl Client {
    /// A client without a key.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, key: None }
    }

    /// The same server with a key, sent as `Authorization: Bearer`.
    pub fn with_key(&self, key: &str) -> Self {
        Self { addr: self.addr, key: Some(key.to_owned()) }
    }

    /// The same key at another server.
    pub fn at(&self, addr: SocketAddr) -> Self {
        Self { addr, key: self.key.clone() }
    }

    /// A request to be completed.
    pub fn request(&self, method: &str, path: &str) -> Request {
        let request = Request {
            addr: self.addr,
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        };
        match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    /// GET.
    ///
    /// # Panics
    /// As [`Request::send`].
    pub async fn get(&self, path: &str) -> Reply {
        self.request("GET", path).send().await
    }

    /// POST of a JSON text.
    ///
    /// # Panics
    /// As [`Request::send`].
    pub async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.request("POST", path).json(body).send().await
    }

    /// POST of a JSON value.
    ///
    /// # Panics
    /// As [`Request::send`].
    pub async fn post_json(&self, path: &str, body: &Value) -> Reply {
        self.post(path, body.to_string()).await
    }

    /// DELETE without a body.
    ///
    /// # Panics
    /// As [`Request::send`].
    pub async fn delete(&self, path: &str) -> Reply {
        self.request("DELETE", path).send().await
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    addr: SocketAddr,
    method: String,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// A body with its length.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// A JSON body.
    #[must_use]
    pub fn json(self, body: impl AsRef<[u8]>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// The bytes of the request.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n", self.method, self.path)
                .into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Panics
    /// When there is no answer: the connection was dropped, or nothing came for a minute.
    pub async fn send(self) -> Reply {
        let bytes = self.bytes();
        let what = format!("{} {}", self.method, self.path.chars().take(80).collect::<String>());
        raw(self.addr, bytes).await.unwrap_or_else(|| panic!("{what} was not answered"))
    }
}

/// Sends bytes and reads an answer until the server closes; `None` when it closes without one.
///
/// # Panics
/// When the server cannot be reached, hangs, or answers something that is not HTTP.
pub async fn raw(addr: SocketAddr, bytes: Vec<u8>) -> Option<Reply> {
    let mut stream = TcpStream::connect(addr).await.expect("the server takes connections");
    let (mut from, mut to) = stream.split();
    let mut answer = Vec::new();
    let both = async {
        // A server that refuses a body may close before it has read all of it.
        let sent = async { to.write_all(&bytes).await.is_ok() };
        // Reading may end with a reset after the answer; what came before counts.
        let (_sent, _read) = tokio::join!(sent, from.read_to_end(&mut answer));
    };
    tokio::time::timeout(PATIENCE, both).await.expect("the server does not hang");
    (!answer.is_empty()).then(|| Reply::parse(&answer))
}

/// The body in its chunks (RFC 9112 §7.1).
fn unchunked(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = chunks.windows(2).position(|window| window == b"\r\n").expect("a chunk has a size");
        let size =
            std::str::from_utf8(&chunks[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let (size, rest) = (size.expect("a size is hexadecimal"), &chunks[line + 2..]);
        assert!(rest.len() >= size + 2, "the answer broke off");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..size]);
        chunks = &rest[size + 2..];
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Reads an answer.
    ///
    /// # Panics
    /// When it is not HTTP, or shorter than it says.
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut reply = Self { status, headers, body: bytes[end + 4..].to_vec() };
        if reply.header("transfer-encoding") == Some("chunked") {
            reply.body = unchunked(&reply.body);
        }
        if let Some(length) = reply.header("content-length") {
            let complete = reply.body.is_empty() || length == reply.body.len().to_string();
            assert!(complete, "the body has {} bytes, {length} were announced", reply.body.len());
        }
        reply
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as JSON of an answer with this status.
    ///
    /// # Panics
    /// When the status is another.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// Status and code of an error in one of the contract's shapes: all its members are checked.
    ///
    /// # Panics
    /// When it is not in the contract's shape.
    #[track_caller]
    pub fn error(&self) -> (u16, String) {
        let body = self.json();
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        if let Some([error]) = body["errors"].as_array().map(Vec::as_slice) {
            let text = |name: &str| {
                error[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {body}")).to_owned()
            };
            assert_eq!(text("status"), self.status.to_string(), "{body}");
            assert!(!text("title").is_empty() && text("detail").chars().count() < 250, "{body}");
            let pointer = &error["source"]["pointer"];
            assert!(pointer.is_null() || pointer.as_str().is_some_and(|at| at.starts_with('/')), "{body}");
            return (self.status, text("code"));
        }
        let text = body["error"].as_str().unwrap_or_else(|| panic!("no `error` in {body}"));
        assert!(!text.is_empty() && text.chars().count() < 250, "{text}");
        let code = body["error_code"].as_str().unwrap_or_else(|| panic!("no `error_code` in {body}"));
        assert!(code.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_')), "{code}");
        assert_eq!(body["request_id"].as_str(), self.header("x-request-id"), "{self:?}");
        assert!(body["details"].is_null() || body["details"].is_object(), "{body}");
        (self.status, code.to_owned())
    }
}
