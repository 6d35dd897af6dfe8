//! What every part of a runner knows.

use std::sync::Arc;

use hookyard_domain::{
    clock::Clock,
    db::Db,
    task::{self, model::Models},
    vault::Vault,
};
use hookyard_egress::Services;
use hookyard_messaging::Bus;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, pulse::Pulse, settings::Settings, writer::Reports};

pub(crate) struct Context {
    pub(crate) db: Db,
    pub(crate) engine_db: Db,
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) vault: Vault,
    pub(crate) services: Services,
    pub(crate) models: Models,
    pub(crate) tasks: task::Settings,
    pub(crate) metrics: Metrics,
    /// To the writer.
    pub(crate) reports: Reports,
    pub(crate) pulse: Pulse,
    /// One for each run under way.
    pub(crate) slots: Arc<Semaphore>,
    /// Rung when there may be something to claim.
    pub(crate) room: Arc<Notify>,
    /// Rung when there may be an action run to take.
    pub(crate) actions: Arc<Notify>,
    /// Cancelled when what is under way has to be given back.
    pub(crate) hurry: CancellationToken,
    pub(crate) settings: Settings,
}
