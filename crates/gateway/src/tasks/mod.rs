//! What the gateway keeps running for tasks: their way to the database in groups, the listeners of runs, and the rings that
//! follow what the ledger wrote.

mod intake;
mod listeners;
mod rings;
mod work;

pub(crate) use intake::{Exits, Intake, Made, Maker};
pub(crate) use listeners::{Heard, LINES, Listeners};
pub(crate) use rings::{follow, queued};
pub(crate) use work::{Wish, Work};
