//! A browser for tests: keeps cookies, follows redirects, and sends the forms of pages with what is hidden in them.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_json::Value;

use crate::http::{Client, Reply};

/// What a person has in front of them.
#[derive(Clone, Debug)]
pub struct Browser {
    addr: SocketAddr,
    /// By name, as the server set them.
    pub cookies: BTreeMap<String, String>,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// The page that is shown.
    pub page: String,
}

impl Browser {
    /// A browser that was never here.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, cookies: BTreeMap::new(), headers: Vec::new(), page: String::new() }
    }

    /// The same browser at another server.
    #[must_use]
    pub fn at(&self, addr: SocketAddr) -> Self {
        Self { addr, ..self.clone() }
    }

    /// The same with a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A request with the cookies, whose answer's cookies are kept. `body` with its type.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn request(&mut self, method: &str, path: &str, body: Option<(&str, String)>) -> Reply {
        let mut request = Client::new(self.addr).request(method, path);
        if !self.cookies.is_empty() {
            let cookies: Vec<String> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", cookies.join("; "));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some((content_type, body)) = body {
            request = request.header("content-type", content_type).body(body);
        }
        let reply = request.send().await;
        for (_, cookie) in reply.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) =
                cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        if reply.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
            self.page = reply.text();
        }
        reply
    }

    /// Goes somewhere, without following redirects.
    ///
    /// # Panics
    /// As [`Browser::request`].
    pub async fn get(&mut self, path: &str) -> Reply {
        self.request("GET", path, None).await
    }

    /// Goes somewhere, and on where that leads.
    ///
    /// # Panics
    /// When it leads in circles.
    pub async fn visit(&mut self, path: &str) -> Reply {
        let reply = self.get(path).await;
        self.follow(reply).await
    }

    async fn follow(&mut self, mut reply: Reply) -> Reply {
        for _ in 0..5 {
            if reply.status != 303 {
                return reply;
            }
            let to = reply.header("location").expect("a redirect leads somewhere").to_owned();
            reply = self.get(&to).await;
        }
        panic!("in circles");
    }

    /// A hidden field of the page that is shown.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn hidden(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let at = self.page.find(&start).unwrap_or_else(|| panic!("no `{name}` in {}", self.page));
        let rest = &self.page[at + start.len()..];
        rest.split('"').next().expect("a value ends").replace("&amp;", "&")
    }

    /// Sends a form of the page that is shown, without following where it leads.
    ///
    /// # Panics
    /// As [`Browser::request`].
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let csrf = self.hidden("csrf");
        self.post_raw(path, &[fields, &[("csrf", csrf.as_str())]].concat()).await
    }

    /// Sends these fields and no other.
    ///
    /// # Panics
    /// As [`Browser::request`].
    pub async fn post_raw(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let body: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        self.request("POST", path, Some(("application/x-www-form-urlencoded", body.join("&")))).await
    }

    /// Sends a form and follows where it leads.
    ///
    /// # Panics
    /// As [`Browser::request`].
    pub async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let reply = self.post(path, fields).await;
        self.follow(reply).await
    }

    /// Logs in from the page to log in.
    ///
    /// # Panics
    /// As [`Browser::request`].
    pub async fn log_in(&mut self, email: &str, password: &str) -> Reply {
        self.get("/login").await;
        self.submit("/login", &[("email", email), ("password", password)]).await
    }

    /// What `GET /v1/session` tells; its status when it is not 200.
    ///
    /// # Panics
    /// As [`Browser::request`].
    pub async fn session(&mut self) -> Result<Value, u16> {
        let reply = self.get("/v1/session").await;
        if reply.status == 200 { Ok(reply.json()) } else { Err(reply.status) }
    }

    /// A request of a script of our pages: with the session's token.
    ///
    /// # Panics
    /// When nobody is logged in.
    pub async fn api(&mut self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let session = self.session().await.expect("somebody is logged in");
        let token = session["csrf_token"].as_str().expect("a token").to_owned();
        let mut with = self.clone().with_header("x-csrf-token", &token);
        let body = body.map(|body| ("application/json", body.to_string()));
        let reply = with.request(method, path, body).await;
        self.cookies = with.cookies;
        reply
    }
}

/// Percent-encodes whatever is not plain (application/x-www-form-urlencoded).
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
