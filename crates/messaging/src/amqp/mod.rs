//! The bus over RabbitMQ (AMQP 0-9-1).
//!
//! Two connections: one publishes, one consumes, because a broker that is short of memory blocks whoever publishes, and
//! acknowledgements must still get through. Each is supervised by [`link`]; the publisher and every consumer are tasks that
//! open a channel on the link's connection, work until it is lost, and begin again. lapin's own recovery stays off (it has
//! open bugs, amqp-rs/lapin#450).

mod broadcast;
mod consumer;
mod link;
mod publisher;
mod topology;
mod window;

use std::{sync::Arc, time::Duration};

use hookyard_domain::trace::TraceContext;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub(crate) use broadcast::Ears;
use broadcast::Voice;
pub(crate) use consumer::{Deliveries, Receipt};
use link::{Link, LinkState};
use publisher::{Publisher, Request};
use topology::Names;

use crate::{
    bus::PublishError,
    counters::{Tally, count},
    message::Message,
    queue::Queue,
    readiness::Readiness,
    settings::{AmqpSettings, BrokerUrl},
};

/// Publish calls that may wait for a place on the channel, beside those that are on it.
const REQUESTS: usize = 4_096;

/// A handle; clones are the same bus.
#[derive(Clone, Debug)]
pub(crate) struct Amqp {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    context: Arc<Context>,
    requests: mpsc::Sender<Request>,
    /// Speaks to everybody.
    voice: Voice,
    consuming: LinkState,
    /// The publisher and the consumers.
    workers: TaskTracker,
    /// The supervisors of the connections.
    links: TaskTracker,
    /// The runtime of the tasks: a consumer may be asked for on another.
    runtime: Handle,
    close_timeout: Duration,
    /// Ends the tasks when the last handle is dropped without `close`.
    _guard: DropGuard,
}

/// What every task of the bus needs.
#[derive(Debug)]
struct Context {
    names: Names,
    readiness: Readiness,
    tally: Arc<Tally>,
    publish_timeout: Duration,
    /// Take nothing new, finish what is on its way.
    closing: CancellationToken,
    /// Stop now. Also cancels `closing`.
    stopped: CancellationToken,
}

impl Amqp {
    pub(crate) fn start(url: &BrokerUrl, settings: &AmqpSettings, process: &str, runtime: Handle) -> Self {
        let stopped = CancellationToken::new();
        let context = Arc::new(Context {
            names: Names::new(&settings.namespace),
            readiness: Readiness::new(),
            tally: Arc::default(),
            publish_timeout: Duration::from_millis(settings.publish_timeout_ms),
            closing: stopped.child_token(),
            stopped: stopped.clone(),
        });
        let (links, workers) = (TaskTracker::new(), TaskTracker::new());
        let start_link = |role: &str| {
            let (link, state) = Link::new(url, settings, format!("{process} {role}"), Arc::clone(&context));
            links.spawn_on(link.run(), &runtime);
            state
        };
        let (publishing, consuming) = (start_link("publisher"), start_link("consumer"));
        let (requests, waiting) = mpsc::channel(REQUESTS);
        let (voice, speaker) = broadcast::speaker(publishing.clone(), Arc::clone(&context));
        workers.spawn_on(speaker, &runtime);
        workers.spawn_on(Publisher::new(waiting, publishing, Arc::clone(&context)).run(), &runtime);
        let shared = Shared {
            context,
            requests,
            voice,
            consuming,
            workers,
            links,
            runtime,
            close_timeout: Duration::from_millis(settings.close_timeout_ms),
            _guard: stopped.drop_guard(),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) async fn publish(
        &self,
        queue: Queue,
        message: &Message,
        trace: &TraceContext,
    ) -> Result<(), PublishError> {
        let context = &self.shared.context;
        let payload = message.to_bytes().map_err(|error| {
            tracing::error!(?error, ?message, "message cannot be written");
            PublishError::Full { queue }
        })?;
        count(&context.tally.published);
        let (answer, answered) = oneshot::channel();
        let request = Request { queue, payload, traceparent: trace.to_string(), answer };
        let ask = async {
            // The publisher answers at once while it is disconnected.
            self.shared.requests.send(request).await.map_err(|_| PublishError::Closed)?;
            answered.await.map_err(|_| self.unanswered())?
        };
        let waited = context.publish_timeout;
        let outcome = timeout(waited, ask).await.unwrap_or(Err(PublishError::Timeout { waited }));
        match outcome {
            Ok(()) => count(&context.tally.confirmed),
            Err(PublishError::Disconnected | PublishError::Lost | PublishError::Closed) => {
                count(&context.tally.disconnected)
            }
            Err(PublishError::Full { .. }) => count(&context.tally.refused),
            Err(PublishError::Returned { .. }) => count(&context.tally.returned),
            Err(PublishError::Timeout { .. }) => count(&context.tally.late),
        }
        outcome
    }

    /// The publisher drops the answers of a channel that was lost, and all of them when the bus ends.
    fn unanswered(&self) -> PublishError {
        match self.shared.context.stopped.is_cancelled() {
            true => PublishError::Closed,
            false => PublishError::Lost,
        }
    }

    pub(crate) fn consume(&self, queue: Queue, prefetch: u16) -> Deliveries {
        let shared = &self.shared;
        let (worker, deliveries) = consumer::open(
            queue,
            prefetch,
            shared.consuming.clone(),
            Arc::clone(&shared.context),
            self.clone(),
        );
        shared.workers.spawn_on(worker.run(), &shared.runtime);
        deliveries
    }

    /// Says a message to everybody; what cannot be said now is lost.
    pub(crate) fn broadcast(&self, message: &Message) {
        match message.to_bytes() {
            Ok(bytes) => {
                if self.shared.voice.try_send(bytes).is_err() {
                    tracing::debug!("a message to everybody was lost");
                }
            }
            Err(error) => tracing::error!(?error, ?message, "message cannot be written"),
        }
    }

    pub(crate) fn listen(&self) -> Ears {
        let shared = &self.shared;
        let (ears, listener) =
            broadcast::listener(shared.consuming.clone(), Arc::clone(&shared.context), self.clone());
        shared.workers.spawn_on(listener, &shared.runtime);
        ears
    }

    pub(crate) fn readiness(&self) -> &Readiness {
        &self.shared.context.readiness
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.shared.context.tally
    }

    pub(crate) async fn close(&self) {
        let Shared { context, workers, links, close_timeout, .. } = &*self.shared;
        context.closing.cancel();
        workers.close();
        if timeout(*close_timeout, workers.wait()).await.is_err() {
            tracing::warn!("bus closed with messages on their way; the broker gives them to another reader");
        }
        context.stopped.cancel();
        links.close();
        // Supervisors bound their farewell themselves.
        links.wait().await;
    }
}

/// A branch of a `select!` that is there or not.
async fn maybe<F: Future + Unpin>(future: Option<F>) -> Option<F::Output> {
    Some(future?.await)
}
