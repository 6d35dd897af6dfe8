//! The exchange of one request for one reply under one deadline: with receivers over the [pool](Pool), with services that we ask over a client that
//! is shared likewise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustls::RootCertStore;
use tokio::time::timeout;
use url::Url;

use crate::address::Guard;
use crate::certificate::{self, CertificateError, Identity};
use crate::failure::{Failure, FailureKind, classify, refused, unrequestable};
use crate::pool::{Pool, Unanswered};
use crate::resolver::{GuardedResolver, Resolver, SystemResolver};
use crate::retry_after::{RetryAfter, retry_after};
use crate::settings::{Settings, SetupError};
use crate::target::{Refusal, check};
use crate::tls;

/// Most bytes of a reply's body that are read. More ends the reading, not the exchange: the status counts.
pub const MAX_READ: usize = 64 * 1024;

/// Most bytes of a reply's body that are kept.
pub const MAX_KEPT: usize = 1024;

/// Most bytes of a body that is fetched: 1 MiB. More is a failure.
pub const MAX_FETCHED: usize = 1 << 20;

/// How often a connection that carries HTTP/2 streams is asked for a sign of life, and how long it may take to give
/// one. All requests to a host share such a connection: when it is dead they would wait for their deadlines together.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(10);
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What is sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to. A fragment is not sent.
    pub url: Url,
    /// Headers of the request; a `User-Agent` here replaces the configured one. `Host`, `Connection`, `Upgrade`,
    /// `Content-Length` and `Transfer-Encoding` are ours to say and are dropped.
    pub headers: HeaderMap,
    /// The bytes of the body; sharing, not copying, is what cloning them does.
    pub body: Bytes,
    /// Most time for the whole exchange: name, connection, TLS, headers and body.
    pub timeout: Duration,
}

/// What came back: any status at all, redirects included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code as received.
    pub status: u16,
    /// The `Retry-After` header when it can be read.
    pub retry_after: Option<RetryAfter>,
    /// The first [`MAX_KEPT`] bytes of the body as they were sent; of [`Egress::ask`] the first [`MAX_READ`].
    pub excerpt: Vec<u8>,
    /// From the call of `send` to the end of the body (or of what is read of it).
    pub latency: Duration,
}

/// What was fetched: any status at all, redirects included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The status code as received.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The whole body, of at most [`MAX_FETCHED`] bytes.
    pub body: Vec<u8>,
}

/// The guarded client. Cloning shares its connections; a process has one.
#[derive(Clone, Debug)]
pub struct Egress {
    pool: Pool,
    /// For what is fetched.
    client: reqwest::Client,
    guard: Guard,
    connect_timeout: Duration,
    /// What further clients are made with, for requests that show a client certificate.
    made_with: Arc<MadeWith>,
}

#[derive(Debug)]
struct MadeWith {
    settings: Settings,
    roots: Arc<RootCertStore>,
    resolver: GuardedResolver,
}

impl Egress {
    /// A client that asks the operating system for names. Reads certificates from disk.
    ///
    /// # Errors
    /// [`SetupError`] names the setting that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        Self::with_resolver(settings, Arc::new(SystemResolver::new()))
    }

    /// As [`Egress::new`], with another source of names. Its answers are judged like any other.
    ///
    /// # Errors
    /// [`SetupError`] names the setting that cannot be used.
    pub fn with_resolver(settings: &Settings, resolver: Arc<dyn Resolver>) -> Result<Self, SetupError> {
        let guard = Guard::new(&settings.allow);
        let roots = tls::roots(settings.extra_ca_file.as_deref())?;
        let resolver = GuardedResolver { inner: resolver, guard: guard.clone() };
        let pool = Pool::new(settings, &roots, None, resolver.clone())?;
        let client = client(settings, &roots, resolver.clone())?;
        let connect_timeout = Duration::from_millis(settings.connect_timeout_ms);
        let made_with = Arc::new(MadeWith { settings: settings.clone(), roots, resolver });
        Ok(Self { pool, client, guard, connect_timeout, made_with })
    }

    /// A client certificate with its key, ready to be shown by [`Egress::send_as`]. Its connections are its own: none of them is
    /// shared with requests that show another one, or none. Whether it has expired is for whoever registers it to ask
    /// ([`Certificate::check`](crate::Certificate::check)), and for the receiver.
    ///
    /// # Errors
    /// [`CertificateError`] when it is none.
    pub fn identity(&self, chain: &str, key: &str) -> Result<Identity, CertificateError> {
        let MadeWith { settings, roots, resolver } = &*self.made_with;
        let pair = certificate::read(chain, key)?;
        let pool = Pool::new(settings, roots, Some(pair), resolver.clone())
            .map_err(|error| CertificateError::Refused(error.to_string()))?;
        Ok(Identity { pool })
    }

    /// As [`Egress::send`], and shows a client certificate to a receiver that asks for one.
    ///
    /// # Errors
    /// As [`Egress::send`].
    pub async fn send_as(&self, identity: &Identity, request: Request) -> Result<Reply, Failure> {
        self.keeping(&identity.pool, request, MAX_KEPT).await
    }

    /// What can be refused without asking a name server: for the moment at which somebody registers a URL. A name
    /// that passes may still be refused by its addresses when something is sent.
    ///
    /// # Errors
    /// [`Refusal`] says what is wrong with the URL.
    pub fn check(&self, url: &Url) -> Result<(), Refusal> {
        check(&self.guard, url)
    }

    /// Sends one request and reads its reply. Dropping the future ends the exchange.
    ///
    /// # Errors
    /// [`Failure`] when there is no complete reply in time; a reply of any status is `Ok`.
    pub async fn send(&self, request: Request) -> Result<Reply, Failure> {
        self.keeping(&self.pool, request, MAX_KEPT).await
    }

    /// As [`Egress::send`], for a receiver that may say something in its reply: what is read of it is kept, up to
    /// [`MAX_READ`] bytes.
    ///
    /// # Errors
    /// As [`Egress::send`].
    pub async fn ask(&self, request: Request) -> Result<Reply, Failure> {
        self.keeping(&self.pool, request, MAX_READ).await
    }

    async fn keeping(&self, pool: &Pool, request: Request, most: usize) -> Result<Reply, Failure> {
        let started = Instant::now();
        self.exchange(pool, request, started, most).await.map_err(|(kind, detail)| Failure {
            kind,
            detail,
            latency: started.elapsed(),
        })
    }

    /// Sends one request for the sake of its reply, which is read as a whole. For services that we ask, not for receivers.
    ///
    /// # Errors
    /// As [`Egress::send`], and [`FailureKind::Protocol`] for a body of more than [`MAX_FETCHED`] bytes.
    pub async fn fetch(&self, request: Request) -> Result<Fetched, Failure> {
        let (started, limit) = (Instant::now(), request.timeout);
        let fetched = async {
            let mut response = self.ask_service(request).await?;
            let left = limit.saturating_sub(started.elapsed());
            let body =
                timeout(left, self.whole(&mut response)).await.map_err(|_elapsed| endless(limit))??;
            let status = response.status().as_u16();
            Ok(Fetched { status, headers: std::mem::take(response.headers_mut()), body })
        };
        fetched.await.map_err(|(kind, detail)| Failure { kind, detail, latency: started.elapsed() })
    }

    async fn exchange(
        &self,
        pool: &Pool,
        request: Request,
        started: Instant,
        most: usize,
    ) -> Result<Reply, (FailureKind, String)> {
        let limit = request.timeout;
        self.check(&request.url).map_err(refused)?;
        let response = timeout(limit, pool.begin(request))
            .await
            .map_err(|_elapsed| late("no reply", limit))?
            .map_err(|unanswered| match unanswered {
                Unanswered::Url => unrequestable(),
                Unanswered::Exchange(error) => classify(&error, error.is_connect(), self.connect_timeout),
            })?;
        let (head, body) = response.into_parts();
        let left = limit.saturating_sub(started.elapsed());
        let excerpt = timeout(left, excerpt(body, most))
            .await
            .map_err(|_elapsed| endless(limit))?
            .map_err(|error| classify(&error, false, self.connect_timeout))?;
        Ok(Reply {
            status: head.status.as_u16(),
            retry_after: retry_after(&head.headers),
            excerpt,
            latency: started.elapsed(),
        })
    }

    /// Up to the head of a service's reply.
    async fn ask_service(&self, request: Request) -> Result<reqwest::Response, (FailureKind, String)> {
        let limit = request.timeout;
        self.check(&request.url).map_err(refused)?;
        timeout(limit, self.client.execute(outgoing(request)))
            .await
            .map_err(|_elapsed| late("no reply", limit))?
            .map_err(|error| classify(&error, error.is_connect(), self.connect_timeout))
    }

    /// The whole body.
    async fn whole(&self, response: &mut reqwest::Response) -> Result<Vec<u8>, (FailureKind, String)> {
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| classify(&error, false, self.connect_timeout))?
        {
            if body.len() + chunk.len() > MAX_FETCHED {
                let detail = format!("the reply has more than {MAX_FETCHED} bytes");
                return Err((FailureKind::Protocol, detail));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The one way in which clients of services are made: no redirects, no proxies of the environment, names by this resolver.
pub(crate) fn client(
    settings: &Settings,
    roots: &Arc<RootCertStore>,
    resolver: impl reqwest::dns::Resolve + 'static,
) -> Result<reqwest::Client, SetupError> {
    let (connect_timeout, user_agent) = settings.of_client()?;
    #[expect(clippy::disallowed_methods, reason = "this is the guard that the ban points to")]
    let builder = reqwest::Client::builder();
    builder
        .tls_backend_preconfigured(tls::client_config(roots, None).map_err(SetupError::Tls)?)
        .dns_resolver(resolver)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .user_agent(user_agent)
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(settings.max_idle_per_host)
        .pool_idle_timeout(Duration::from_millis(settings.idle_timeout_ms))
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build()
        .map_err(SetupError::Client)
}

/// Removes what is ours to say.
pub(crate) fn without_framing(headers: &mut HeaderMap) {
    for framing in [HOST, CONNECTION, UPGRADE, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(framing);
    }
}

/// A request to a service as it is sent.
pub(crate) fn outgoing(request: Request) -> reqwest::Request {
    let Request { method, url, mut headers, body, timeout: _ } = request;
    without_framing(&mut headers);
    let mut outgoing = reqwest::Request::new(method, url);
    *outgoing.headers_mut() = headers;
    *outgoing.body_mut() = Some(body.into());
    outgoing
}

fn late(what: &str, limit: Duration) -> (FailureKind, String) {
    (FailureKind::Timeout, format!("{what} within {} ms", limit.as_millis()))
}

fn endless(limit: Duration) -> (FailureKind, String) {
    late("the body of the reply did not end", limit)
}

/// Reads to the end, so that the connection can be used again, or until [`MAX_READ`], after which dropping the
/// body closes the connection (or resets the stream).
async fn excerpt(mut body: Incoming, most: usize) -> Result<Vec<u8>, hyper::Error> {
    let mut kept = Vec::new();
    let mut read = 0;
    while read < MAX_READ {
        let Some(frame) = body.frame().await else { break };
        let Ok(chunk) = frame?.into_data() else { continue };
        let room = most - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        read += chunk.len();
    }
    Ok(kept)
}
