//! A look at the queues on the broker, for operators: how much waits in each, and whether anybody reads it. Declares nothing and
//! takes nothing.

use std::time::Duration;

use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use tokio::time::timeout;

use crate::{queue::Queue, settings::AmqpSettings};

/// A queue as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The name without the namespace.
    pub queue: String,
    /// Messages that wait; `None` when there is no such queue.
    pub messages: Option<u32>,
    /// Who reads it.
    pub readers: u32,
}

/// The queues of these settings, and last the one of dead messages. `None` without a broker.
///
/// # Errors
/// Why the broker cannot be asked, without what is secret in its URL.
pub async fn depths(settings: &AmqpSettings) -> Result<Option<Vec<Depth>>, String> {
    let Some(url) = &settings.url else { return Ok(None) };
    let patience = Duration::from_millis(settings.connect_timeout_ms);
    let mut uri = url.uri().clone();
    uri.query.heartbeat = Some(settings.heartbeat_s);
    uri.query.connection_timeout = Some(settings.connect_timeout_ms);
    let properties = ConnectionProperties::default().with_connection_name("hookyard doctor".into());
    let asked = async {
        let connection = Connection::connect_uri(uri, properties).await.map_err(|error| error.to_string())?;
        let mut depths = Vec::new();
        for name in Queue::all().map(Queue::name).chain(["dead".to_owned()]) {
            depths.push(depth(&connection, &settings.namespace, name).await?);
        }
        // Whether the broker answers a good-bye makes no difference any more.
        let _gone = connection.close(200, "looked".into()).await;
        Ok(Some(depths))
    };
    timeout(patience * 2, asked).await.map_err(|_elapsed| format!("no answer within {:?}", patience * 2))?
}

async fn depth(connection: &Connection, namespace: &str, name: String) -> Result<Depth, String> {
    // The broker closes the channel on which a queue was asked for that is not there.
    let channel = connection.create_channel().await.map_err(|error| error.to_string())?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let full = format!("{namespace}{name}");
    match channel.queue_declare(full.into(), passive, FieldTable::default()).await {
        Ok(queue) => {
            let _closed = channel.close(200, "looked".into()).await;
            Ok(Depth { queue: name, messages: Some(queue.message_count()), readers: queue.consumer_count() })
        }
        Err(error) if error.to_string().contains("NOT_FOUND") || error.to_string().contains("NOT-FOUND") => {
            Ok(Depth { queue: name, messages: None, readers: 0 })
        }
        Err(error) => Err(error.to_string()),
    }
}
