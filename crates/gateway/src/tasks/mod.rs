//! What the gateway keeps running for tasks: the listeners of runs, workers that wait, and the rings that follow what the
//! ledger wrote. Their way to the database is `intake`.

mod listeners;
mod rings;
mod work;

pub(crate) use listeners::{Heard, LINES, Listeners};
pub(crate) use rings::{follow, queued};
pub(crate) use work::{Wish, Work};
