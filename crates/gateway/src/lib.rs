//! Hookyard's public HTTP edge: who may call and how often, events in, everything that can be read or changed from
//! outside.
//!
//! A gateway keeps nothing that another could not do as well: limits, idempotency and events are in Postgres, so any
//! number of gateways stand side by side. It delivers nothing and matches nothing; it rings for those who do.

mod access;
mod body;
mod context;
mod gather;
mod handlers;
mod inbox;
mod ingest;
mod intake;
mod metrics;
mod openapi;
mod paging;
mod people;
mod problem;
mod routes;
mod settings;
mod tasks;
mod upkeep;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_web::{App, HttpServer, dev::Server, web::Data};
use anyhow::{Context as _, anyhow};
use hookyard_chassis::request_id::RequestIds;
use hookyard_domain::task;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use context::Deps;
pub use settings::{GatewaySettings, HttpSettings, LargeIntegers, OidcSettings, Settings};

use crate::{
    access::limiter::{Counter, Limiter},
    context::Context,
    ingest::{Exits, Flusher, Ingest, Lane, Limits, Pace},
    intake::Intakes,
    metrics::Metrics,
    people::provider::Provider,
};

/// Connections that may wait to be taken; the kernel bounds it by `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// How long rings for accepted events may take when the gateway stops. The relay rings for those that are lost.
const LAST_RINGS: Duration = Duration::from_secs(5);

/// The gateway service.
#[derive(Debug)]
pub struct Gateway {
    listener: TcpListener,
    addr: SocketAddr,
    context: Data<Context>,
    counter: Counter,
    exits: Exits,
    intake_exits: intake::AllExits,
}

impl Gateway {
    /// Takes the port. Needs no database yet: until there is one, requests are answered with 503.
    ///
    /// # Errors
    /// Settings that do not go together, or an address that cannot be listened on.
    pub fn bind(deps: Deps, mut settings: Settings) -> anyhow::Result<Self> {
        settings.check()?;
        let address = settings.http.listen;
        let listener =
            listen(address).with_context(|| format!("cannot listen on {address} (http.listen)"))?;
        let addr = listener.local_addr()?;
        // Links name the port, be it one that the system chose.
        settings.http.listen = addr;
        let metrics = Metrics::new(&deps.registry)?;
        let (limiter, counter) = Limiter::new(deps.db.clone(), deps.clock.clone());
        let (ingest, exits) = Ingest::new(settings.gateway.queue_requests, metrics.clone());
        let (intakes, intake_exits) = Intakes::new(settings.gateway.queue_requests);
        let models = task::model::Models::new(&settings.llm).map_err(anyhow::Error::msg)?;
        let provider = Provider::of(&settings.oidc, &deps.egress, &deps.clock)?;
        let context = Context::new(deps, settings, limiter, (ingest, intakes), metrics, provider, models);
        let (bodies, budget) =
            (context.bodies.clone(), f64::from(context.settings.http.max_body_bytes_in_flight));
        let passwords = context.passwords.clone();
        context.registry.read_gauge(
            "hookyard_password_hashes",
            "Passwords that were hashed or checked since the start.",
            move || passwords.done() as f64,
        )?;
        context.registry.read_gauge("hookyard_http_body_bytes", "Bytes of bodies in memory.", move || {
            budget - bodies.free() as f64
        })?;
        let context = Data::new(context);
        let listened = context.clone();
        context.registry.read_gauge(
            "hookyard_task_streams",
            "Runs of tasks that somebody listens to at this gateway.",
            move || listened.listeners.count() as f64,
        )?;
        let waited = context.clone();
        context.registry.read_gauge(
            "hookyard_workers_waiting",
            "Claims of external workers that wait for work at this gateway.",
            move || waited.work.count() as f64,
        )?;
        let (waited, followed) = (context.clone(), context.clone());
        context.registry.read_gauge(
            "hookyard_inbox_readers_waiting",
            "Readers of inboxes that wait for a message at this gateway.",
            move || waited.inboxes.readers() as f64,
        )?;
        context.registry.read_gauge(
            "hookyard_inbox_streams",
            "Streams of inboxes that somebody follows at this gateway.",
            move || followed.inboxes.streams() as f64,
        )?;
        Ok(Self { listener, addr, context, counter, exits, intake_exits })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown` is cancelled. Then takes no more connections, answers what was asked, stores and rings
    /// for what was accepted, and returns.
    ///
    /// # Errors
    /// The server or one of its tasks broke down.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { listener, addr, context, counter, exits, intake_exits } = self;
        // The tasks behind the server outlive it: what it took is theirs.
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(counter.run(stop.clone()));
        for flusher in flushers(&context, exits) {
            tasks.spawn(flusher.run(stop.clone()));
        }
        intake_exits.start(&context, &mut tasks, &stop);
        let (listened, until) = (context.clone(), stop.clone());
        tasks.spawn(async move { listened.listeners.run(&listened.db, until).await });
        let (waited, until) = (context.clone(), stop.clone());
        tasks.spawn(async move { waited.work.run(&waited.db, until).await });
        let (waited, until) = (context.clone(), stop.clone());
        tasks.spawn(async move { waited.inboxes.run(&waited.db, until).await });
        let (rung, until) = (context.clone(), stop.clone());
        tasks.spawn(async move { rung.inboxes.hear(&rung.bus, until).await });
        // Streams would keep the server from ending.
        let (closed, ending, until) = (context.clone(), shutdown.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = ending.cancelled() => closed.listeners.close(),
                () = until.cancelled() => return,
            }
            until.cancelled().await;
        });
        upkeep::start(&context, &mut tasks, &stop);
        let server = serve(listener, &context)?;
        tracing::info!(%addr, "the gateway listens");
        let outcome = attend(server, &mut tasks, shutdown).await;
        stop.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.context("a task of the gateway broke down")?;
        }
        context.usage.write(&context.db).await;
        finish(&context.afterwards).await;
        outcome
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // std asks for a backlog of 128; asking again is how POSIX changes it.
    socket2::SockRef::from(&listener).listen(BACKLOG)?;
    Ok(listener)
}

fn flushers(context: &Data<Context>, exits: Exits) -> Vec<Flusher> {
    let settings = &context.settings.gateway;
    let limits = Limits { events: settings.flush_events as usize, bytes: settings.flush_bytes as usize };
    let flusher = |lane, exit: &gather::Exit<ingest::Job>, pace: &Pace| Flusher {
        lane,
        exit: exit.clone(),
        limits,
        db: context.db.clone(),
        bus: context.bus.clone(),
        clock: context.clock.clone(),
        metrics: context.metrics.clone(),
        afterwards: context.afterwards.clone(),
        pace: pace.clone(),
    };
    let (first_pace, again_pace) = (Pace::default(), Pace::default());
    let Exits { first, change, again } = exits;
    let firsts = (0..settings.flushers).map(|_| flusher(Lane::First(change.clone()), &first, &first_pace));
    let agains = (0..settings.flushers.min(2)).map(|_| flusher(Lane::Again, &again, &again_pace));
    firsts.chain(agains).collect()
}

fn serve(listener: TcpListener, context: &Data<Context>) -> io::Result<Server> {
    let http = &context.settings.http;
    let (workers, context) = (http.worker_count(), context.clone());
    let connections = (http.max_connections as usize).div_ceil(workers).max(1);
    let keep_alive = Duration::from_millis(http.keep_alive_ms);
    let head_timeout = Duration::from_millis(http.head_timeout_ms);
    let disconnect_timeout = Duration::from_millis(http.disconnect_timeout_ms);
    let shutdown_s = http.shutdown_timeout_ms.div_ceil(1000);
    let server =
        HttpServer::new(move || App::new().configure(routes::configure(context.clone())).wrap(RequestIds))
            .workers(workers)
            .max_connections(connections)
            .keep_alive(keep_alive)
            .tcp_nodelay(true)
            // Who has closed his side has gone: a long poll of his must not be given a task.
            .h1_allow_half_closed(false)
            .client_request_timeout(head_timeout)
            .client_disconnect_timeout(disconnect_timeout)
            .disable_signals()
            .shutdown_timeout(shutdown_s)
            .listen(listener)?
            .run();
    Ok(server)
}

/// Runs the server until it is told to stop, breaks down, or loses one of the tasks it needs.
async fn attend(server: Server, tasks: &mut JoinSet<()>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let handle = server.handle();
    tokio::pin!(server);
    let outcome = tokio::select! {
        outcome = &mut server => return outcome.context("the HTTP server broke down"),
        Some(ended) = tasks.join_next() => Err(match ended {
            Ok(()) => anyhow!("a task of the gateway ended early"),
            Err(error) => anyhow::Error::new(error).context("a task of the gateway broke down"),
        }),
        () = shutdown.cancelled() => Ok(()),
    };
    // `stop` is carried out by the server, which has to be polled for it.
    let (stopped, ()) = tokio::join!(server, handle.stop(true));
    outcome.and(stopped.context("the HTTP server broke down"))
}

async fn finish(afterwards: &TaskTracker) {
    afterwards.close();
    if tokio::time::timeout(LAST_RINGS, afterwards.wait()).await.is_err() {
        tracing::warn!(left = afterwards.len(), "rings were not heard in time, the relay rings again");
    }
}
