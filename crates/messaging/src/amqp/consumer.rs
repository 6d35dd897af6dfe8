//! A reader of one queue: a task that owns a channel, hands its messages out and brings the acknowledgements back.
//!
//! The channel has one life for each connection. A [`Receipt`] remembers the life it was written in, so that an
//! acknowledgement of an earlier one falls to the ground: the broker has given that message to somebody else already, and
//! its tag now belongs to another.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use hookyard_domain::trace::TraceContext;
use lapin::{
    Channel, Connection,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Amqp, Context,
    link::LinkState,
    maybe, topology,
    window::{Frame, Verdict, Window},
};
use crate::{backoff, counters::count, incoming::Incoming, message::Message, queue::Queue};

/// How long the broker may take to open a channel with its consumer, and to cancel it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long acknowledgements are gathered, so that one frame does for many: nobody waits for them, and each costs the broker as much
/// as a message. What is given back or refused is told at once, and so is a quarter of what the broker sends ahead.
const GATHER: Duration = Duration::from_millis(20);

/// A reader and its task.
pub(super) fn open(
    queue: Queue,
    prefetch: u16,
    link: LinkState,
    context: Arc<Context>,
    bus: Amqp,
) -> (Worker, Deliveries) {
    // 0 would mean "without bound" to the broker.
    let prefetch = prefetch.max(1);
    let (handed_out, deliveries) = mpsc::channel(usize::from(prefetch));
    let (settle, settled) = mpsc::unbounded_channel();
    context.readiness.update(|parts| parts.consumers += 1);
    let context_of_deliveries = Arc::clone(&context);
    let worker =
        Worker { queue, prefetch, link, context, handed_out: Some(handed_out), settle, settled, life: 0 };
    (worker, Deliveries { deliveries, context: context_of_deliveries, _bus: bus })
}

/// The reader's end.
#[derive(Debug)]
pub(crate) struct Deliveries {
    deliveries: mpsc::Receiver<Incoming>,
    context: Arc<Context>,
    /// The bus lives as long as somebody reads from it.
    _bus: Amqp,
}

impl Deliveries {
    pub(crate) async fn recv(&mut self) -> Option<Incoming> {
        if self.context.closing.is_cancelled() {
            // What was not handed out goes back before the channel closes.
            self.end(&mut Vec::new());
            return None;
        }
        self.deliveries.recv().await
    }

    /// What is at hand; nothing comes any more.
    pub(crate) fn end(&mut self, into: &mut Vec<Incoming>) -> usize {
        self.deliveries.close();
        self.take(into, usize::MAX)
    }

    pub(crate) fn take(&mut self, into: &mut Vec<Incoming>, max: usize) -> usize {
        let before = into.len();
        while into.len() - before < max
            && let Ok(incoming) = self.deliveries.try_recv()
        {
            into.push(incoming);
        }
        into.len() - before
    }
}

/// The right to settle one message.
#[derive(Debug)]
pub(crate) struct Receipt {
    life: u64,
    tag: u64,
    settle: mpsc::UnboundedSender<Settled>,
}

#[derive(Debug)]
struct Settled {
    life: u64,
    tag: u64,
    verdict: Verdict,
}

impl Receipt {
    pub(crate) fn acknowledge(&self) {
        self.tell(Verdict::Acknowledged);
    }

    pub(crate) fn give_back(&self) {
        self.tell(Verdict::GivenBack);
    }

    fn tell(&self, verdict: Verdict) {
        // Without its task the channel is closed, and the broker has given the message back. There are never more of these
        // on the way than messages handed out.
        let _ = self.settle.send(Settled { life: self.life, tag: self.tag, verdict });
    }
}

/// The task.
pub(super) struct Worker {
    queue: Queue,
    prefetch: u16,
    link: LinkState,
    context: Arc<Context>,
    /// None when no more messages are to be handed out.
    handed_out: Option<mpsc::Sender<Incoming>>,
    settle: mpsc::UnboundedSender<Settled>,
    settled: mpsc::UnboundedReceiver<Settled>,
    /// Grows with every channel.
    life: u64,
}

impl Worker {
    pub(super) async fn run(mut self) {
        let stopped = self.context.stopped.clone();
        tokio::select! {
            () = stopped.cancelled() => (),
            () = self.read_on() => (),
        }
        self.context.readiness.update(|parts| parts.consumers -= 1);
    }

    /// Returns when nobody reads any more.
    async fn read_on(&mut self) {
        let mut failures = 0;
        while let Some(handed_out) = self.handed_out.clone() {
            let (closing, mut link) = (self.context.closing.clone(), self.link.clone());
            let connection = tokio::select! {
                () = closing.cancelled() => return,
                () = handed_out.closed() => return,
                connection = link.up() => connection,
            };
            drop(handed_out);
            let queue = self.queue.name();
            match timeout(PATIENCE, self.open_channel(&connection)).await.unwrap_or(Err(Lost::Silent)) {
                Ok((channel, consumer)) => {
                    failures = 0;
                    self.context.readiness.update(|parts| parts.served += 1);
                    let ended = self.serve(&connection, channel, consumer).await;
                    self.context.readiness.update(|parts| parts.served -= 1);
                    match ended {
                        Ok(()) => return,
                        Err(reason) => tracing::warn!(queue, %reason, "consumer lost, opening it again"),
                    }
                }
                Err(reason) => tracing::warn!(queue, %reason, "consumer cannot be opened"),
            }
            tokio::select! {
                () = closing.cancelled() => return,
                () = sleep(backoff::delay(failures, rand::random())) => (),
            }
            failures = failures.saturating_add(1);
        }
    }

    async fn open_channel(&self, connection: &Connection) -> Result<(Channel, lapin::Consumer), Lost> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(self.prefetch, BasicQosOptions { global: false }).await?;
        // The queue may have been deleted since the publisher declared it.
        topology::declare_queue(&channel, &self.context.names, self.queue).await?;
        let (name, tag) = (self.context.names.of(self.queue), ShortString::default());
        let consumer =
            channel.basic_consume(name, tag, BasicConsumeOptions::default(), FieldTable::default()).await?;
        Ok((channel, consumer))
    }

    /// One life of the channel. Ends well only when nobody reads any more and everything is settled.
    async fn serve(
        &mut self,
        connection: &Arc<Connection>,
        channel: Channel,
        mut consumer: lapin::Consumer,
    ) -> Result<(), Lost> {
        self.life += 1;
        let mut link = self.link.clone();
        let mut window = Window::default();
        let mut telling: Option<BoxFuture<'static, lapin::Result<()>>> = None;
        let mut waiting: Option<Incoming> = None;
        let mut gathered_since: Option<Instant> = None;
        let closing = self.context.closing.clone();
        let mut cancelled = false;
        loop {
            let tell_at = self.tell_at(&window, &mut gathered_since);
            // One at a time: what is settled while these frames are written travels with the next ones.
            if telling.is_none() && tell_at.is_some_and(|at| at <= Instant::now()) {
                gathered_since = None;
                telling = Some(tell(channel.clone(), window.frames()).boxed());
            }
            if self.handed_out.is_none() && window.held() == 0 && telling.is_none() && cancelled {
                // The broker gives back what it sent after the cancellation.
                let _ = timeout(PATIENCE, channel.close(200, "no reader".into())).await;
                return Ok(());
            }
            let handed_out = self.handed_out.clone();
            tokio::select! {
                Some(result) = maybe(telling.as_mut()) => {
                    telling = None;
                    result?;
                }
                Some(settled) = self.settled.recv() => {
                    self.note(&mut window, settled);
                    while let Ok(settled) = self.settled.try_recv() {
                        self.note(&mut window, settled);
                    }
                }
                () = sleep_until(tell_at.unwrap_or_else(Instant::now)), if telling.is_none() && tell_at.is_some() => {}
                delivery = consumer.next(), if waiting.is_none() && !cancelled => {
                    let delivery = delivery.ok_or(Lost::Cancelled)??;
                    window.deliver(delivery.delivery_tag);
                    let tag = delivery.delivery_tag;
                    match (self.read(delivery), &handed_out) {
                        (Some(incoming), Some(handed_out)) => waiting = handed_out.try_send(incoming).err().map(|error| error.into_inner()),
                        (Some(incoming), None) => drop(incoming),
                        (None, _) => window.decide(tag, Verdict::Refused),
                    }
                }
                Some(place) = room(handed_out.as_ref()), if waiting.is_some() => {
                    if let (Ok(place), Some(incoming)) = (place, waiting.take()) {
                        place.send(incoming);
                    }
                }
                // The stream of deliveries ends as well; that it does is not taken for granted.
                () = link.changed() => if !link.is(connection) {
                    return Err(Lost::Connection);
                },
                () = nobody_reads(handed_out.as_ref(), &closing), if handed_out.is_some() => {
                    self.handed_out = None;
                    waiting = None;
                    let tag = consumer.tag();
                    timeout(PATIENCE, channel.basic_cancel(tag, BasicCancelOptions::default())).await.map_err(|_| Lost::Silent)??;
                    cancelled = true;
                    // Back at once, for readers elsewhere, and not when the last message in work here is settled.
                    while let Some(Some(Ok(delivery))) = consumer.next().now_or_never() {
                        window.deliver(delivery.delivery_tag);
                        window.decide(delivery.delivery_tag, Verdict::GivenBack);
                    }
                }
            }
        }
    }

    /// When the broker is to be told what was settled; `None` when nothing was.
    fn tell_at(&self, window: &Window, gathered_since: &mut Option<Instant>) -> Option<Instant> {
        let (settled, only_acknowledged) = window.untold();
        if settled == 0 {
            *gathered_since = None;
            return None;
        }
        let since = *gathered_since.get_or_insert_with(Instant::now);
        let many = usize::from(self.prefetch).div_ceil(4);
        let at_once = !only_acknowledged || settled >= many || self.handed_out.is_none();
        Some(if at_once { since } else { since + GATHER })
    }

    fn note(&self, window: &mut Window, Settled { life, tag, verdict }: Settled) {
        let tally = &self.context.tally;
        match verdict {
            Verdict::Acknowledged => count(&tally.acknowledged),
            Verdict::GivenBack => count(&tally.given_back),
            Verdict::Refused => (),
        }
        if life == self.life {
            window.decide(tag, verdict);
        }
    }

    /// The message, or none if it is not one.
    fn read(&self, delivery: Delivery) -> Option<Incoming> {
        let tally = &self.context.tally;
        let message = Message::from_bytes(&delivery.data)
            .inspect_err(|error| {
                count(&tally.unreadable);
                let (queue, size_bytes) = (self.queue.name(), delivery.data.len());
                tracing::error!(queue, size_bytes, %error, cause = ?std::error::Error::source(error), "unreadable message goes to the dead-letter queue");
            })
            .ok()?;
        count(&tally.received);
        let receipt = Receipt { life: self.life, tag: delivery.delivery_tag, settle: self.settle.clone() };
        Some(Incoming::from_amqp(message, trace_of(&delivery), delivery.redelivered, receipt))
    }
}

/// Why a channel is of no more use.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Broken(#[from] lapin::Error),
    #[error("the broker cancelled it (queue deleted or moved)")]
    Cancelled,
    #[error("its connection is lost")]
    Connection,
    #[error("the broker did not answer within {PATIENCE:?}")]
    Silent,
}

/// Writes the frames in their order.
async fn tell(channel: Channel, frames: Vec<Frame>) -> lapin::Result<()> {
    let channel = &channel;
    let nack = |requeue| BasicNackOptions { multiple: false, requeue };
    let written = frames.into_iter().map(|frame| async move {
        match frame {
            Frame::AckUpTo(tag) => channel.basic_ack(tag, BasicAckOptions { multiple: true }).await,
            Frame::Ack(tag) => channel.basic_ack(tag, BasicAckOptions { multiple: false }).await,
            Frame::Requeue(tag) => channel.basic_nack(tag, nack(true)).await,
            Frame::Refuse(tag) => channel.basic_nack(tag, nack(false)).await,
        }
    });
    // Each is queued when it is first polled, which happens in this order; then all are written together.
    futures_util::future::try_join_all(written).await.map(drop)
}

async fn room(
    handed_out: Option<&mpsc::Sender<Incoming>>,
) -> Option<Result<mpsc::Permit<'_, Incoming>, mpsc::error::SendError<()>>> {
    Some(handed_out?.reserve().await)
}

async fn nobody_reads(
    handed_out: Option<&mpsc::Sender<Incoming>>,
    closing: &tokio_util::sync::CancellationToken,
) {
    let Some(handed_out) = handed_out else { return };
    tokio::select! {
        () = handed_out.closed() => (),
        () = closing.cancelled() => (),
    }
}

fn trace_of(delivery: &Delivery) -> Option<TraceContext> {
    match delivery.properties.headers().as_ref()?.inner().get("traceparent")? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok()?.parse().ok(),
        _ => None,
    }
}
