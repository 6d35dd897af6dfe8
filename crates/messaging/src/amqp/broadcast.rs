//! What everybody hears: a fanout exchange, and a queue for each process that listens, which goes with its connection.
//!
//! Unlike the queues of the services it keeps nothing for those who are away: messages are transient and unconfirmed. Whoever listens
//! is told when it may have missed some ([`Heard::Missed`](crate::Heard)), and looks by itself.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{Amqp, Context, link::LinkState};
use crate::{backoff, broadcast::Heard, message::Message};

/// Messages that may wait to be sent; more are dropped.
const WAITING: usize = 1_024;

/// Messages that may wait for a listener in this process.
const UNHEARD: usize = 256;

/// Messages that the broker keeps for a process that does not read; the oldest give way.
const MAX_LENGTH: i64 = 10_000;

/// How long the broker may take to open a channel, and to take a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// AMQP's delivery mode of what need not be written to disk.
const TRANSIENT: u8 = 1;

/// Where messages to everybody go.
pub(super) type Voice = mpsc::Sender<Vec<u8>>;

/// A voice, and the task that speaks.
pub(super) fn speaker(link: LinkState, context: Arc<Context>) -> (Voice, impl Future<Output = ()> + Send) {
    let (voice, mut waiting) = mpsc::channel(WAITING);
    let speak = async move {
        let (stopped, closing) = (context.stopped.clone(), context.closing.clone());
        tokio::select! {
            () = stopped.cancelled() => (),
            () = closing.cancelled() => (),
            () = speak(link, &context, &mut waiting) => (),
        }
    };
    (voice, speak)
}

/// Returns when nobody has a voice any more.
async fn speak(mut link: LinkState, context: &Context, waiting: &mut mpsc::Receiver<Vec<u8>>) {
    let mut failures = 0;
    loop {
        let connection = link.up().await;
        match opened(&connection, context).await {
            Ok(channel) => {
                failures = 0;
                while let Some(message) = waiting.recv().await {
                    // Nobody need hear what is said while the broker takes nothing.
                    if link.blocked() {
                        continue;
                    }
                    if let Err(reason) = say(&channel, context.names.everybody(), &message).await {
                        tracing::debug!(reason, "a message to everybody was lost");
                        break;
                    }
                }
                if waiting.is_closed() && waiting.is_empty() {
                    return;
                }
            }
            Err(reason) => tracing::debug!(reason, "the channel for messages to everybody cannot be opened"),
        }
        sleep(backoff::delay(failures, rand::random())).await;
        failures = failures.saturating_add(1);
        // What waited is of no use any more: who listens looks by itself.
        while waiting.try_recv().is_ok() {}
    }
}

async fn say(channel: &Channel, exchange: ShortString, message: &[u8]) -> Result<(), String> {
    let properties =
        BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(TRANSIENT);
    let published = channel.basic_publish(
        exchange,
        ShortString::default(),
        BasicPublishOptions::default(),
        message,
        properties,
    );
    match timeout(PATIENCE, published).await {
        // The channel is not in confirm mode: there is nothing to wait for.
        Ok(Ok(_unconfirmed)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the broker took nothing within {PATIENCE:?}")),
    }
}

/// A channel on which the exchange is declared.
async fn opened(connection: &Connection, context: &Context) -> Result<Channel, String> {
    let open = async {
        let channel = connection.create_channel().await?;
        let exchange = context.names.everybody();
        let options = ExchangeDeclareOptions::default();
        channel.exchange_declare(exchange, ExchangeKind::Fanout, options, FieldTable::default()).await?;
        Ok::<_, lapin::Error>(channel)
    };
    match timeout(PATIENCE, open).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

/// A listener, and its task.
pub(super) fn listener(
    link: LinkState,
    context: Arc<Context>,
    bus: Amqp,
) -> (Ears, impl Future<Output = ()> + Send) {
    let (heard, ears) = mpsc::channel(UNHEARD);
    let listen = async move {
        let (stopped, closing, left) = (context.stopped.clone(), context.closing.clone(), heard.clone());
        tokio::select! {
            () = stopped.cancelled() => (),
            () = closing.cancelled() => (),
            () = left.closed() => (),
            () = listen(link, &context, heard) => (),
        }
    };
    (Ears { heard: ears, _bus: bus }, listen)
}

/// The listener's end.
#[derive(Debug)]
pub(crate) struct Ears {
    heard: mpsc::Receiver<Heard>,
    /// The bus lives as long as somebody listens.
    _bus: Amqp,
}

impl Ears {
    pub(crate) async fn recv(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }
}

async fn listen(mut link: LinkState, context: &Context, heard: mpsc::Sender<Heard>) {
    let mut failures = 0;
    loop {
        let connection = link.up().await;
        match consuming(&connection, context).await {
            Ok((_channel, mut consumer)) => {
                failures = 0;
                // What was said before this queue was there.
                if heard.send(Heard::Missed).await.is_err() {
                    return;
                }
                loop {
                    let delivery = tokio::select! {
                        delivery = consumer.next() => delivery,
                        // The stream of deliveries ends as well; that it does is not taken for granted.
                        () = link.changed() => if link.is(&connection) { continue } else { break },
                    };
                    let Some(Ok(delivery)) = delivery else { break };
                    match Message::from_bytes(&delivery.data) {
                        Ok(message) => {
                            if heard.send(Heard::Message(message)).await.is_err() {
                                return;
                            }
                        }
                        // A later version may say what this one does not know.
                        Err(error) => tracing::debug!(%error, "a message to everybody is passed over"),
                    }
                }
                tracing::debug!("the queue of messages to everybody was lost, opening another");
            }
            Err(reason) => tracing::debug!(reason, "messages to everybody cannot be heard yet"),
        }
        sleep(backoff::delay(failures, rand::random())).await;
        failures = failures.saturating_add(1);
    }
}

async fn consuming(connection: &Connection, context: &Context) -> Result<(Channel, lapin::Consumer), String> {
    let channel = opened(connection, context).await?;
    let open = async {
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MAX_LENGTH));
        // Within our names, as the user of the broker may have no others.
        let name = format!("{}.{:032x}", context.names.everybody(), rand::random::<u128>());
        let queue = channel.queue_declare(name.into(), options, arguments).await?.name().clone();
        let (exchange, nothing) = (context.names.everybody(), ShortString::default());
        let bind = QueueBindOptions::default();
        channel.queue_bind(queue.clone(), exchange, nothing.clone(), bind, FieldTable::default()).await?;
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        channel.basic_consume(queue, nothing, options, FieldTable::default()).await
    };
    match timeout(PATIENCE, open).await {
        Ok(Ok(consumer)) => Ok((channel, consumer)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}
