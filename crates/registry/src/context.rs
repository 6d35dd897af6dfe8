//! What every part of a registry works with.

use std::time::Duration;

use chrono::TimeDelta;
use hookyard_domain::{clock::Clock, db::Db, subscription::directory::Directory, vault::Vault};
use hookyard_messaging::Bus;

use crate::{Deps, metrics::Metrics};

#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) db: Db,
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) directory: Directory,
    pub(crate) metrics: Metrics,
    /// For how long new deliveries belong to whoever hears their ring.
    pub(crate) lease: Duration,
    /// How owners are told by mail; `None` without a mail server.
    pub(crate) mail: Option<Mail>,
}

impl Context {
    /// That of a registry that begins, and knows no subscription yet.
    ///
    /// # Errors
    /// When a metric's name is taken.
    pub(crate) fn new(deps: Deps) -> anyhow::Result<Self> {
        let Deps { db, bus, clock, metrics, lease, mail } = deps;
        let metrics = Metrics::register(&metrics)?;
        Ok(Self { db, bus, clock, directory: Directory::default(), metrics, lease, mail })
    }

    /// For how long new deliveries belong to whoever hears their ring.
    pub(crate) fn lease(&self) -> TimeDelta {
        TimeDelta::from_std(self.lease).unwrap_or(TimeDelta::seconds(30))
    }
}

/// What mail to owners needs.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Seals its text.
    pub vault: Vault,
    /// Where the API is reached, without a slash at the end.
    pub origin: String,
}
