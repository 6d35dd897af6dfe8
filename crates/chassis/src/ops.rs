//! `/livez`, `/readyz` and `/metrics`: on a port of their own for any process, or mounted into another server.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpResponse, HttpServer, Resource, Route, guard};
use anyhow::Context;
use serde::{Deserialize, Serialize, Serializer};
use tokio_util::sync::CancellationToken;

use crate::api_error::{self, ApiError, method_not_allowed};
use crate::health::Health;
use crate::metrics::{self, Registry};
use crate::request_id::RequestIds;
use crate::settings::in_range;

/// These routes take no bodies.
const BODY_LIMIT_BYTES: usize = 1024;

/// Section `[ops]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpsSettings {
    /// Where `/livez`, `/readyz` and `/metrics` are served, as address and port. Empty: nowhere.
    /// Default: `127.0.0.1:8081`.
    #[serde(serialize_with = "listen_text")]
    pub listen: Option<SocketAddr>,
    /// How long, in milliseconds, a process that has been told to stop may finish what it has begun.
    /// From 0 to 600,000. Default: 25,000, which is below the 30 s that Kubernetes waits.
    #[serde(deserialize_with = "in_range::<_, _, 0, 600_000>")]
    pub shutdown_grace_ms: u64,
}

impl Default for OpsSettings {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 8081))), shutdown_grace_ms: 25_000 }
    }
}

impl OpsSettings {
    /// `shutdown_grace_ms` as a duration.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }
}

/// So that what `config show` prints means the same when it is read: an absent key would mean the default.
fn listen_text<S: Serializer>(listen: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    match listen {
        Some(address) => serializer.collect_str(address),
        None => serializer.serialize_str(""),
    }
}

/// For `App::configure`: the three routes.
pub fn configure(health: Health, registry: Registry) -> impl FnOnce(&mut ServiceConfig) + Clone {
    move |config| {
        let ready = move || {
            let health = health.clone();
            async move { health.readyz().await }
        };
        let figures = move || {
            let answer = render(&registry);
            async move { answer }
        };
        config
            .service(read_only("/livez", || web::route().to(livez)))
            .service(read_only("/readyz", || web::route().to(ready.clone())))
            .service(read_only("/metrics", || web::route().to(figures.clone())));
    }
}

fn read_only(path: &str, route: impl Fn() -> Route) -> Resource {
    // actix does not send the body of an answer to HEAD.
    web::resource(path)
        .route(route().guard(guard::Any(guard::Get()).or(guard::Head())))
        .default_service(method_not_allowed("GET, HEAD"))
}

async fn livez() -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(serde_json::json!({"status": "alive"}))
}

fn render(registry: &Registry) -> Result<HttpResponse, ApiError> {
    let text = registry.render().map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, metrics::CONTENT_TYPE)).body(text))
}

/// The server for `[ops]`.
#[derive(Debug)]
pub struct Ops {
    listener: Option<TcpListener>,
    addr: Option<SocketAddr>,
    health: Health,
    registry: Registry,
}

impl Ops {
    /// Takes the port, so that a second process on it fails here and not later.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn bind(settings: &OpsSettings, health: Health, registry: Registry) -> anyhow::Result<Self> {
        let listener = settings.listen.map(listen).transpose()?;
        let addr = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(Self { listener, addr, health, registry })
    }

    /// Where it listens; `None` when it is switched off.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Serves until `shutdown` is cancelled. Let that be after all services have ended, so that `/readyz` can be asked
    /// while they drain: see [`crate::shutdown::Supervisor::accompany`].
    ///
    /// # Errors
    /// The server broke down.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Some(listener) = self.listener else {
            shutdown.cancelled().await;
            return Ok(());
        };
        let (health, registry) = (self.health, self.registry);
        let server = HttpServer::new(move || {
            App::new()
                .configure(api_error::configure(BODY_LIMIT_BYTES))
                .configure(configure(health.clone(), registry.clone()))
                .wrap(RequestIds)
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(listener)?
        .run();
        let handle = server.handle();
        tokio::pin!(server);
        tokio::select! {
            outcome = &mut server => return outcome.context("the ops server broke down"),
            () = shutdown.cancelled() => {}
        }
        // `stop` is carried out by the server, which has to be polled for it.
        let (outcome, ()) = tokio::join!(server, handle.stop(true));
        outcome.context("the ops server broke down")
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound: io::Result<TcpListener> = TcpListener::bind(address);
    bound.with_context(|| format!("cannot listen on {address} (ops.listen)"))
}

#[cfg(test)]
mod tests;
