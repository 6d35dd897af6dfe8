//! Sends the events over a number of connections, as fast as they are accepted or at a fixed rate.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::template::Templates;
use crate::{
    http::Conn,
    latency::{Latency, now_ns},
};

/// What is to be sent.
pub(crate) struct Plan {
    /// HOST:PORT of the ingest API.
    pub(crate) addr: String,
    /// Events in all.
    pub(crate) events: u64,
    /// Events per request.
    pub(crate) batch: u64,
    /// Connections.
    pub(crate) conns: usize,
    /// Events per second; None: each connection sends its next event when the last one is accepted.
    pub(crate) rate: Option<f64>,
    /// The clock of the schedule.
    pub(crate) start: Instant,
    /// The same moment, nanoseconds since 1970.
    pub(crate) start_ns: u64,
    /// No event is sent after this.
    pub(crate) deadline: Instant,
}

/// What was sent.
#[derive(Default)]
pub(crate) struct Sent {
    /// Events answered 2xx.
    pub(crate) accepted: Cell<u64>,
    /// Events by status of the answer; 0 is a transport error.
    pub(crate) statuses: RefCell<BTreeMap<u16, u64>>,
    /// Time from request to answer.
    pub(crate) latency: RefCell<Latency>,
    /// At a fixed rate: time from when an event was due to its request, of those for which a connection was free then.
    pub(crate) late: RefCell<Latency>,
    next: Cell<u64>,
}

/// Sends everything in `plan`.
///
/// # Errors
/// When the ingest API cannot be connected to. Refused events are counted, not errors.
pub(crate) async fn send(plan: Plan, templates: &Templates) -> Result<Rc<Sent>> {
    let (plan, sent) = (Rc::new(plan), Rc::new(Sent::default()));
    let connections: Vec<_> = (0..plan.conns)
        .map(|_| tokio::task::spawn_local(connection(plan.clone(), sent.clone(), templates.clone())))
        .collect();
    for connection in connections {
        connection.await??;
    }
    Ok(sent)
}

async fn connection(plan: Rc<Plan>, sent: Rc<Sent>, mut templates: Templates) -> Result<()> {
    let connect =
        async || Conn::connect(&plan.addr).await.with_context(|| format!("cannot connect to {}", plan.addr));
    let mut conn = connect().await?;
    loop {
        let first = sent.next.get();
        if first >= plan.events || Instant::now() > plan.deadline {
            return Ok(());
        }
        sent.next.set(first + plan.batch);
        // At a fixed rate an event's age counts from when it was due, not from when a connection got free for it.
        let sent_ns = match plan.rate {
            None => now_ns(),
            Some(rate) => {
                let due = Duration::from_secs_f64(first as f64 / rate);
                let was_free = plan.start.elapsed() < due;
                tokio::time::sleep_until((plan.start + due).into()).await;
                if was_free {
                    let late = plan.start.elapsed().saturating_sub(due);
                    sent.late.borrow_mut().record_ns(late.as_nanos() as u64);
                }
                plan.start_ns + due.as_nanos() as u64
            }
        };
        let template = templates.of(first, plan.batch);
        template.patch(first, sent_ns);
        let start = Instant::now();
        let (status, keep_alive) = match conn.call(&template.bytes).await {
            Ok(response) => (response.status, response.keep_alive),
            Err(_) => (0, false),
        };
        sent.latency.borrow_mut().record_ns(start.elapsed().as_nanos() as u64);
        *sent.statuses.borrow_mut().entry(status).or_default() += plan.batch;
        if (200..300).contains(&status) {
            sent.accepted.set(sent.accepted.get() + plan.batch);
        }
        if !keep_alive {
            conn = connect().await?;
        }
    }
}
