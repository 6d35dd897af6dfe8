//! What the system under test costs: CPU and memory from `/proc`, growth and commits from Postgres' own counters.

mod database;
mod process;

pub(crate) use self::{
    database::{Counters, checkpoint, psql},
    process::{Proc, Usage, Watch, is_alive, named, parent, rss_bytes},
};
