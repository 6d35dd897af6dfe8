//! One connection to the broker, for ever: opened, watched, and opened again when it is lost.
//!
//! Knows no channels; whoever uses the connection follows its [`LinkState`].

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{Connection, ConnectionProperties, Event, uri::AMQPUri};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::Context;
use crate::{
    backoff,
    counters::count,
    settings::{AmqpSettings, BrokerUrl},
};

/// A connection that lived this long was a good one: the next attempts start from the shortest wait.
const STABLE: Duration = Duration::from_secs(10);

/// How often the connection is asked whether it lives, should its event be missed.
const CHECK: Duration = Duration::from_secs(1);

/// The largest frame, in bytes, unless the broker's address names another (`?frame_max=`). lapin sets memory aside for 64
/// of them, which is 8 MiB of a service's memory with RabbitMQ's 128 KiB. Our messages have a few KiB; larger ones take more frames.
const FRAME_MAX: u32 = 32 << 10;

/// How long the broker has to answer our farewell.
const FAREWELL: Duration = Duration::from_secs(2);

/// The supervisor of a connection.
pub(super) struct Link {
    uri: AMQPUri,
    name: String,
    connect_timeout: Duration,
    state: watch::Sender<State>,
    context: Arc<Context>,
}

/// What the supervisor tells.
#[derive(Clone, Debug, Default)]
struct State {
    connection: Option<Arc<Connection>>,
    /// The broker is short of memory or disk and reads nothing from this connection.
    blocked: bool,
}

/// The view of whoever uses the connection.
#[derive(Clone, Debug)]
pub(super) struct LinkState {
    state: watch::Receiver<State>,
}

impl LinkState {
    /// The connection, as soon as there is one. Never returns once the supervisor has ended; race it with a token.
    pub(super) async fn up(&mut self) -> Arc<Connection> {
        let state = self.state.wait_for(|state| state.connection.is_some()).await;
        match state.ok().and_then(|state| state.connection.clone()) {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    /// Returns when this connection is lost, or when the broker begins or ceases to block it.
    pub(super) async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Whether this connection is still the one.
    pub(super) fn is(&self, connection: &Arc<Connection>) -> bool {
        self.state.borrow().connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection))
    }

    /// Whether the broker reads nothing from the connection at the moment.
    pub(super) fn blocked(&self) -> bool {
        self.state.borrow().blocked
    }
}

impl Link {
    pub(super) fn new(
        url: &BrokerUrl,
        settings: &AmqpSettings,
        name: String,
        context: Arc<Context>,
    ) -> (Self, LinkState) {
        let mut uri = url.uri().clone();
        uri.query.heartbeat = Some(settings.heartbeat_s);
        uri.query.connection_timeout = Some(settings.connect_timeout_ms);
        let connect_timeout = Duration::from_millis(settings.connect_timeout_ms);
        let state = watch::Sender::default();
        let view = LinkState { state: state.subscribe() };
        (Self { uri, name, connect_timeout, state, context }, view)
    }

    pub(super) async fn run(self) {
        let stopped = self.context.stopped.clone();
        let mut failures = 0;
        loop {
            let connected = tokio::select! {
                () = stopped.cancelled() => return,
                connected = self.connect() => connected,
            };
            match connected {
                Ok(connection) => {
                    let since = Instant::now();
                    self.state
                        .send_replace(State { connection: Some(Arc::clone(&connection)), blocked: false });
                    tracing::info!(connection = self.name, "connected to the broker");
                    let reason = tokio::select! {
                        () = stopped.cancelled() => return self.farewell(&connection).await,
                        reason = self.until_lost(&connection) => reason,
                    };
                    self.state.send_replace(State::default());
                    count(&self.context.tally.connections_lost);
                    tracing::warn!(connection = self.name, reason, "connection to the broker lost");
                    if STABLE <= since.elapsed() {
                        failures = 0;
                    }
                }
                Err(reason) => tracing::warn!(connection = self.name, reason, "broker cannot be reached"),
            }
            let wait = backoff::delay(failures, rand::random());
            failures = failures.saturating_add(1);
            tokio::select! {
                () = stopped.cancelled() => return,
                () = sleep(wait) => (),
            }
        }
    }

    async fn connect(&self) -> Result<Arc<Connection>, String> {
        let properties = ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let mut uri = self.uri.clone();
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        match timeout(self.connect_timeout, Connection::connect_uri(uri, properties)).await {
            Ok(Ok(connection)) => Ok(Arc::new(connection)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {:?}", self.connect_timeout)),
        }
    }

    async fn until_lost(&self, connection: &Connection) -> String {
        let mut events = std::pin::pin!(connection.events_listener());
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::Error(error)) => last = Some(error.to_string()),
                    Some(Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(connection = self.name, reason, "the broker takes no messages");
                        self.state.send_modify(|state| state.blocked = true);
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!(connection = self.name, "the broker takes messages again");
                        self.state.send_modify(|state| state.blocked = false);
                    }
                    // `Connected`, flow (lapin obeys it), and what later versions may tell.
                    Some(_) => (),
                    None => return "its events ended".to_owned(),
                },
                _ = check.tick() => (),
            }
            // A channel's error is an event as well; only the connection's own state says that it is lost.
            if !connection.status().connected() {
                return last.unwrap_or_else(|| "it is not open any more".to_owned());
            }
        }
    }

    async fn farewell(&self, connection: &Connection) {
        // Whether the broker answers makes no difference any more.
        let _ = timeout(FAREWELL, connection.close(200, "closed by its owner".into())).await;
    }
}
