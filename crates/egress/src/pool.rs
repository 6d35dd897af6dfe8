//! The client of deliveries: the pool and the connector that reqwest is made of, without what reqwest does around every request
//! for redirects, retries and cookies, which costs a tenth of a busy deliverer (docs/decisions/0069).

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue, USER_AGENT};
use http::{Response, Uri, uri::Scheme};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ExchangeError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::RootCertStore;
use tokio::net::TcpStream;
use tower::timeout::Timeout;
use tower::util::BoxCloneSyncService;

use crate::certificate::Pair;
use crate::client::{PING_EVERY, PING_TIMEOUT, Request, without_framing};
use crate::resolver::GuardedResolver;
use crate::settings::{Settings, SetupError};
use crate::tls;

/// A connection that says nothing is probed after this and so often, and is lost after three probes, as reqwest has it.
const PROBED_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 3;

/// For how long what was sent may stay without an acknowledgement (TCP).
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// How often a request that the other side has not looked at is sent anew.
const ANEW: u8 = 2;

type Connect = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, Box<dyn Error + Send + Sync>>;

/// Connections to receivers. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    client: Client<Connect, Full<Bytes>>,
    user_agent: HeaderValue,
}

/// Why a request was not answered.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Its URL is none that can be requested.
    Url,
    /// The exchange failed.
    Exchange(ExchangeError),
}

impl Pool {
    /// Names by this resolver; no redirects, no proxies.
    pub(crate) fn new(
        settings: &Settings,
        roots: &Arc<RootCertStore>,
        certificate: Option<Pair>,
        resolver: GuardedResolver,
    ) -> Result<Self, SetupError> {
        let (connect_timeout, user_agent) = settings.of_client()?;
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(PROBED_EVERY));
        tcp.set_keepalive_interval(Some(PROBED_EVERY));
        tcp.set_keepalive_retries(Some(PROBES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        let tls = tls::client_config(roots, certificate).map_err(SetupError::Tls)?;
        let connect = Timeout::new(HttpsConnector::from((tcp, tls)), connect_timeout);
        #[expect(clippy::disallowed_methods, reason = "this is the guard that the ban points to")]
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(settings.max_idle_per_host)
            .pool_idle_timeout(Duration::from_millis(settings.idle_timeout_ms))
            // As every document writes them: receivers that look headers up by their exact name find them.
            .http1_title_case_headers(true)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(BoxCloneSyncService::new(connect));
        Ok(Self { client, user_agent })
    }

    /// Sends a request and returns with the head of its reply.
    pub(crate) async fn begin(&self, request: Request) -> Result<Response<Incoming>, Unanswered> {
        let Request { method, url, mut headers, body, timeout: _ } = request;
        let uri: Uri = url.as_str().parse().map_err(|_too_long| Unanswered::Url)?;
        without_framing(&mut headers);
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.entry(USER_AGENT).or_insert_with(|| self.user_agent.clone());
        // Only HTTP/2 says that a request was not looked at, and without TLS nobody speaks it with us.
        let mut anew = if uri.scheme() == Some(&Scheme::HTTPS) { ANEW } else { 0 };
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        loop {
            let again = (0 < anew).then(|| request.clone());
            match (self.client.request(request).await, again) {
                (Err(error), Some(again)) if was_not_looked_at(&error) => request = again,
                (result, _) => return result.map_err(Unanswered::Exchange),
            }
            anew = anew.saturating_sub(1);
        }
    }
}

/// Whether the other side says that it has not processed the request (RFC 9113 §8.7): it is going away, or refused the stream.
fn was_not_looked_at(error: &(dyn Error + 'static)) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let leaves = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            let refuses = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (leaves || refuses);
        }
        cause = error.source();
    }
    false
}
