//! The door to services that the operator named: language models, today. Its key fits no other door.
//!
//! A model may run beside us, on an address that the guard rightly refuses to tenants (Ollama on the loopback address,
//! vLLM in the cluster). So an address is not judged here; instead a request goes to one of the named origins (scheme,
//! host, port) or nowhere. The origins come from the settings, never from a tenant, and the connections are kept apart
//! from those of [`Egress`](crate::Egress), so that nothing which is open here can be reached from there.
//!
//! Replies are streams of unknown length: they are read piece by piece, each within a time of silence, all within the
//! time and the number of bytes that the caller gives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HeaderMap;
use tokio::time::timeout;
use url::{Origin, Url};

use crate::client::{Request, client, outgoing};
use crate::failure::{Failure, FailureKind, classify, refused};
use crate::resolver::{OpenResolver, SystemResolver};
use crate::retry_after::{RetryAfter, retry_after};
use crate::settings::{Settings, SetupError};
use crate::target::{Refusal, form};
use crate::tls;

/// A client that reaches the services it was made for. Cloning shares its pool of connections.
#[derive(Clone, Debug)]
pub struct Services {
    client: reqwest::Client,
    origins: Arc<[Origin]>,
    connect_timeout: Duration,
}

/// A reply whose body is still coming: any status at all, redirects included. Dropping it ends the exchange.
#[derive(Debug)]
pub struct Opened {
    response: reqwest::Response,
    connect_timeout: Duration,
    started: Instant,
    total: Duration,
    silence: Duration,
    left: u64,
}

impl Services {
    /// A client for the origins of these URLs.
    ///
    /// # Errors
    /// [`SetupError`] names the setting, or the URL, that cannot be used.
    pub fn new(settings: &Settings, urls: &[Url]) -> Result<Self, SetupError> {
        for url in urls {
            form(url).map_err(|refusal| SetupError::Service { url: url.clone(), refusal })?;
        }
        let resolver = OpenResolver(Arc::new(SystemResolver::new()));
        let roots = tls::roots(settings.extra_ca_file.as_deref())?;
        let client = client(settings, &roots, resolver)?;
        let connect_timeout = Duration::from_millis(settings.connect_timeout_ms);
        Ok(Self { client, origins: urls.iter().map(Url::origin).collect(), connect_timeout })
    }

    /// Sends one request and returns with the head of its reply. `request.timeout` is for the whole exchange, `silence`
    /// for the wait until the head and for each wait between two pieces of the body, `limit` for the bytes of the body.
    ///
    /// # Errors
    /// [`Failure`] when there is no head in time; [`FailureKind::InvalidUrl`] when the URL is not one of the services.
    pub async fn open(&self, request: Request, silence: Duration, limit: u64) -> Result<Opened, Failure> {
        let started = Instant::now();
        let total = request.timeout;
        let failed = |(kind, detail)| Failure { kind, detail, latency: started.elapsed() };
        form(&request.url).map_err(|refusal| failed(refused(refusal)))?;
        if !self.origins.contains(&request.url.origin()) {
            return Err(failed(refused(Refusal::NoService)));
        }
        let patience = silence.min(total);
        let response = timeout(patience, self.client.execute(outgoing(request)))
            .await
            .map_err(|_elapsed| failed(silent(patience)))?
            .map_err(|error| failed(classify(&error, error.is_connect(), self.connect_timeout)))?;
        let connect_timeout = self.connect_timeout;
        Ok(Opened { response, connect_timeout, started, total, silence, left: limit })
    }
}

impl Opened {
    /// The status code as received.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The headers as received.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The `Retry-After` header when it can be read.
    #[must_use]
    pub fn retry_after(&self) -> Option<RetryAfter> {
        retry_after(self.response.headers())
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`FailureKind::Timeout`] after a silence or when the time for the whole is over, [`FailureKind::Reset`] when the
    /// connection ends before the body does, [`FailureKind::Protocol`] for a body with more bytes than were allowed.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let failed = |(kind, detail), latency| Failure { kind, detail, latency };
        let left = self.total.saturating_sub(self.started.elapsed());
        let patience = self.silence.min(left);
        let piece = match timeout(patience, self.response.chunk()).await {
            Ok(Ok(piece)) => piece,
            Ok(Err(error)) => {
                return Err(failed(classify(&error, false, self.connect_timeout), self.started.elapsed()));
            }
            Err(_elapsed) if left <= self.silence => {
                let detail = format!("the reply did not end within {} ms", self.total.as_millis());
                return Err(failed((FailureKind::Timeout, detail), self.started.elapsed()));
            }
            Err(_elapsed) => return Err(failed(silent(patience), self.started.elapsed())),
        };
        if let Some(piece) = &piece {
            let Some(left) = self.left.checked_sub(piece.len() as u64) else {
                let detail = "the reply has more bytes than are read".to_owned();
                return Err(failed((FailureKind::Protocol, detail), self.started.elapsed()));
            };
            self.left = left;
        }
        Ok(piece)
    }

    /// The beginning of the body, for the text of an error: what comes within the limits, at most `most` bytes. Never
    /// fails: what cannot be read is left out.
    pub async fn beginning(mut self, most: usize) -> Vec<u8> {
        let mut kept = Vec::new();
        while kept.len() < most
            && let Ok(Some(piece)) = self.next().await
        {
            let room = most - kept.len();
            kept.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        kept
    }
}

fn silent(patience: Duration) -> (FailureKind, String) {
    (FailureKind::Timeout, format!("nothing was heard within {} ms", patience.as_millis()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Method, header::HeaderMap};
    use url::Url;

    use super::Services;
    use crate::{FailureKind, Request, Settings};

    fn services(urls: &[&str]) -> Services {
        let urls: Vec<Url> = urls.iter().map(|url| url.parse().unwrap()).collect();
        Services::new(&Settings::default(), &urls).unwrap()
    }

    #[tokio::test]
    async fn only_the_named_origins_can_be_reached() {
        let services = services(&["http://127.0.0.1:11434/v1", "https://api.example.com"]);
        for url in [
            "http://127.0.0.1:11435/v1/chat/completions",
            "https://127.0.0.1:11434/v1",
            "http://localhost:11434/v1",
            "http://127.0.0.2:11434/v1",
            "https://api.example.com.evil.test/",
            "http://api.example.com/",
            "https://api.example.com:444/",
            "https://user@api.example.com/",
            "file:///etc/passwd",
        ] {
            let request = Request {
                method: Method::POST,
                url: url.parse().unwrap(),
                headers: HeaderMap::new(),
                body: Bytes::new(),
                timeout: Duration::from_secs(1),
            };
            let failure = services.open(request, Duration::from_secs(1), 1).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::InvalidUrl, "{url}");
        }
    }

    #[test]
    fn a_url_that_is_no_address_of_a_service_is_refused_at_the_start() {
        for url in ["ftp://127.0.0.1/", "http://user:secret@127.0.0.1/", "http://./"] {
            assert!(Services::new(&Settings::default(), &[url.parse().unwrap()]).is_err(), "{url}");
        }
    }
}
