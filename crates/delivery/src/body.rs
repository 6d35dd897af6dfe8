//! The bodies of deliveries: nearly always part of the event's, and what a consumer's transformation makes of it.

use std::sync::Arc;

use bytes::Bytes;
use hookyard_domain::{
    Error, Result,
    db::Db,
    delivery::body,
    subscription::{Subscription, consumer::Transformed},
    wire::parse_stored,
};
use tokio::sync::Semaphore;

use crate::{
    job::{Job, LoadedEvent},
    sender,
};

/// What is sent.
#[derive(Debug)]
pub(crate) enum Body {
    /// This.
    Sent(Bytes),
    /// Nothing: the transformation says so.
    Cancelled,
    /// Nothing: the transformation makes no body of it. Why, as a sentence.
    None(String),
}

/// Makes bodies. Transformations are made off the async threads, and a few at a time: a large event takes some milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    db: Db,
    places: Arc<Semaphore>,
}

impl Bodies {
    pub(crate) fn new(db: Db) -> Self {
        let places = std::thread::available_parallelism().map_or(1, usize::from);
        Self { db, places: Arc::new(Semaphore::new(places)) }
    }

    /// The body of a try: the same on every try of the delivery.
    ///
    /// # Errors
    /// When the database is away.
    pub(crate) async fn of(&self, job: &Job) -> Result<Body> {
        let plain = || Ok(Body::Sent(sender::body(job)));
        let Some(consumer) = &job.hook.consumer else { return plain() };
        let Some(since) = consumer.transformed_since else { return plain() };
        let (id, tried) = (job.held.id, job.held.attempts > 0);
        if tried && let Some(kept) = self.db.once(move |conn| body::find(conn, id)).await? {
            return Ok(Body::Sent(kept.into()));
        }
        // What was tried before there was a transformation was sent as it was.
        if consumer.transformation.is_none() || (tried && id.event.accepted_at() < since) {
            return plain();
        }
        let (hook, event) = (Arc::clone(&job.hook), Arc::clone(&job.event));
        let _place = self.places.acquire().await.map_err(|closed| Error::Database(Box::new(closed)))?;
        let made = tokio::task::spawn_blocking(move || transformed(&hook, &event));
        match made.await.map_err(|panicked| Error::Database(Box::new(panicked)))? {
            Ok(Some(Transformed::Body(body))) => {
                let kept = self.db.once(move |conn| body::keep(conn, id, body)).await?;
                Ok(Body::Sent(kept.into()))
            }
            Ok(Some(Transformed::Cancelled)) => Ok(Body::Cancelled),
            Ok(None) => Ok(Body::Sent(sender::body(job))),
            Err(reason) => Ok(Body::None(reason)),
        }
    }
}

fn transformed(hook: &Subscription, event: &LoadedEvent) -> Result<Option<Transformed>, String> {
    let Some(transformation) = hook.consumer.as_ref().and_then(|consumer| consumer.transformation.as_ref())
    else {
        return Ok(None);
    };
    let event = parse_stored(&event.body).map_err(|error| error.to_string())?;
    let made = transformation.apply(&event).map_err(|error| format!("the transformation {error}"))?;
    Ok(Some(made))
}
