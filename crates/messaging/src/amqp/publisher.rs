//! The publishing side: a task that owns a channel in confirm mode and has many messages on the way at once.
//!
//! A caller learns at once when there is no channel. It learns of a message what the broker said of it: stored, refused,
//! or returned because the queue does not exist. Such a queue is declared again on the spot.

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{Context, link::LinkState, maybe, topology};
use crate::{backoff, bus::PublishError, queue::Queue};

/// Messages on the channel that wait for their confirmation.
const IN_FLIGHT: usize = 4_096;

/// Messages taken from the callers in one go.
const BATCH: usize = 256;

/// Confirmations that may fail to appear before the channel is thrown away. Below it, a queue without a majority costs the
/// callers of the others nothing; above it, forgotten messages would pile up in the client.
const LATE_LIMIT: usize = 1_000;

/// How long the broker may take to open the channel and to declare the queues (a cluster may need long for new ones).
const PATIENCE: Duration = Duration::from_secs(30);

/// Written to disk before it is confirmed.
const PERSISTENT: u8 = 2;

/// A caller and what it wants to say.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) queue: Queue,
    pub(super) payload: Vec<u8>,
    pub(super) traceparent: String,
    pub(super) answer: oneshot::Sender<Result<(), PublishError>>,
}

/// A message that was on the way.
struct Sent {
    queue: Queue,
    answer: oneshot::Sender<Result<(), PublishError>>,
    /// None when nothing was heard in time.
    outcome: Option<lapin::Result<Confirmation>>,
}

/// The task.
pub(super) struct Publisher {
    requests: mpsc::Receiver<Request>,
    link: LinkState,
    context: Arc<Context>,
}

/// Why a channel is no longer served.
enum Ended {
    /// All callers are answered and the bus is closing.
    Closed,
    /// To be opened again.
    Lost(String),
}

impl Publisher {
    pub(super) fn new(requests: mpsc::Receiver<Request>, link: LinkState, context: Arc<Context>) -> Self {
        Self { requests, link, context }
    }

    pub(super) async fn run(mut self) {
        let stopped = self.context.stopped.clone();
        tokio::select! {
            () = stopped.cancelled() => (),
            () = self.publish_on() => (),
        }
        self.context.readiness.update(|parts| parts.publisher = false);
    }

    /// Returns when the bus is closing and every caller is answered.
    async fn publish_on(&mut self) {
        let mut failures = 0;
        loop {
            let opening = open(self.link.clone(), Arc::clone(&self.context));
            match self.refusing(opening).await {
                None => return,
                Some(Ok((connection, channel))) => {
                    failures = 0;
                    let ended = self.serve(&connection, Arc::new(channel)).await;
                    self.context.readiness.update(|parts| parts.publisher = false);
                    match ended {
                        Ended::Closed => return,
                        Ended::Lost(reason) => {
                            tracing::warn!(reason, "publishing channel lost, opening it again")
                        }
                    }
                }
                Some(Err(reason)) => tracing::warn!(reason, "publishing channel cannot be opened"),
            }
            if self.refusing(sleep(backoff::delay(failures, rand::random()))).await.is_none() {
                return;
            }
            failures = failures.saturating_add(1);
        }
    }

    /// Does the work, and tells every caller meanwhile that there is no connection. None when the bus is closing.
    async fn refusing<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                () = self.context.closing.cancelled() => {
                    self.requests.close();
                    while let Ok(request) = self.requests.try_recv() {
                        tell(request.answer, Err(PublishError::Disconnected));
                    }
                    return None;
                }
                Some(request) = self.requests.recv() => tell(request.answer, Err(PublishError::Disconnected)),
                done = &mut work => return Some(done),
            }
        }
    }

    /// One life of the channel.
    async fn serve(&mut self, connection: &Arc<Connection>, channel: Arc<Channel>) -> Ended {
        let Self { requests, link, context } = self;
        let mut link = link.clone();
        let closing = context.closing.clone();
        let mut life = Life { context: Arc::clone(context), channel, missing: HashSet::new(), late: 0 };
        let mut in_flight = FuturesUnordered::new();
        let mut healing: Option<BoxFuture<'static, lapin::Result<Vec<Queue>>>> = None;
        let mut batch = Vec::with_capacity(BATCH);
        let mut drained = false;
        context.readiness.update(|parts| parts.publisher = !link.blocked());
        loop {
            if drained && in_flight.is_empty() {
                return Ended::Closed;
            }
            if healing.is_none() && !life.missing.is_empty() {
                healing =
                    Some(heal(Arc::clone(&life.channel), Arc::clone(context), life.missing.clone()).boxed());
            }
            tokio::select! {
                taken = requests.recv_many(&mut batch, BATCH), if in_flight.len() < IN_FLIGHT && !drained => {
                    drained = taken == 0;
                    for request in batch.drain(..) {
                        match life.refuses(request.queue, link.blocked()) {
                            Some(error) => tell(request.answer, Err(error)),
                            None => in_flight.push(life.send(request)),
                        }
                    }
                }
                Some(sent) = in_flight.next() => if let Err(reason) = life.hear(sent) {
                    return Ended::Lost(reason);
                },
                Some(healed) = maybe(healing.as_mut()) => {
                    healing = None;
                    match healed {
                        Ok(queues) => life.missing.retain(|queue| !queues.contains(queue)),
                        Err(error) => return Ended::Lost(error.to_string()),
                    }
                }
                () = link.changed() => {
                    if !link.is(connection) {
                        return Ended::Lost("its connection is lost".to_owned());
                    }
                    context.readiness.update(|parts| parts.publisher = !link.blocked());
                }
                // What the callers have handed over until now is still sent.
                () = closing.cancelled(), if !requests.is_closed() => requests.close(),
            }
        }
    }
}

/// What is known about a channel.
struct Life {
    context: Arc<Context>,
    channel: Arc<Channel>,
    /// Queues that are gone and not yet declared again.
    missing: HashSet<Queue>,
    late: usize,
}

impl Life {
    /// Why a message for this queue need not be sent.
    fn refuses(&self, queue: Queue, blocked: bool) -> Option<PublishError> {
        if blocked {
            Some(PublishError::Disconnected)
        } else if self.missing.contains(&queue) {
            Some(PublishError::Returned { queue })
        } else {
            None
        }
    }

    fn send(&self, request: Request) -> impl Future<Output = Sent> + use<> {
        let Request { queue, payload, traceparent, answer } = request;
        let (channel, patience) = (Arc::clone(&self.channel), self.context.publish_timeout);
        let name = self.context.names.of(queue);
        async move {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let published = async {
                let default_exchange = ShortString::default();
                channel
                    .basic_publish(default_exchange, name, options, &payload, properties(traceparent))
                    .await?
                    .await
            };
            let outcome = timeout(patience, published).await.ok();
            Sent { queue, answer, outcome }
        }
    }

    /// Answers the caller of a message. An error says why the channel is of no more use.
    fn hear(&mut self, sent: Sent) -> Result<(), String> {
        let Sent { queue, answer, outcome } = sent;
        let (told, useful) = match outcome {
            Some(Ok(Confirmation::Ack(returned))) => {
                self.note(returned);
                let gone = self.missing.contains(&queue);
                (if gone { Err(PublishError::Returned { queue }) } else { Ok(()) }, Ok(()))
            }
            Some(Ok(Confirmation::Nack(returned))) => {
                self.note(returned);
                (Err(PublishError::Full { queue }), Ok(()))
            }
            Some(Ok(Confirmation::NotRequested)) => {
                (Err(PublishError::Disconnected), Err("it is not in confirm mode".to_owned()))
            }
            Some(Err(error)) => {
                let useful = if self.channel.status().connected() { Ok(()) } else { Err(error.to_string()) };
                (Err(PublishError::Lost), useful)
            }
            None => {
                self.late += 1;
                let useful =
                    if self.late < LATE_LIMIT { Ok(()) } else { Err("confirmations are missing".to_owned()) };
                (Err(PublishError::Timeout { waited: self.context.publish_timeout }), useful)
            }
        };
        tell(answer, told);
        useful
    }

    /// A message came back. lapin hands it over with the next confirmation, which may be that of another message, so only
    /// the queue it was meant for is believed: that one is gone, and so is all that it was confirmed to hold.
    fn note(&mut self, returned: Option<BasicReturnMessage>) {
        if let Some(message) = returned
            && let Some(queue) = self.context.names.find(message.routing_key.as_str())
            && self.missing.insert(queue)
        {
            tracing::error!(queue = queue.name(), "queue is gone from the broker, declaring it again");
        }
    }
}

async fn open(mut link: LinkState, context: Arc<Context>) -> Result<(Arc<Connection>, Channel), String> {
    let connection = link.up().await;
    let opened = timeout(PATIENCE, async {
        let channel = connection.create_channel().await?;
        topology::declare(&channel, &context.names).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok::<_, lapin::Error>(channel)
    });
    match opened.await {
        Ok(Ok(channel)) => Ok((connection, channel)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

async fn heal(
    channel: Arc<Channel>,
    context: Arc<Context>,
    missing: HashSet<Queue>,
) -> lapin::Result<Vec<Queue>> {
    for queue in &missing {
        topology::declare_queue(&channel, &context.names, *queue).await?;
    }
    Ok(missing.into_iter().collect())
}

fn properties(traceparent: String) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}

/// A caller that has gone away needs no answer.
fn tell(answer: oneshot::Sender<Result<(), PublishError>>, told: Result<(), PublishError>) {
    let _ = answer.send(told);
}
