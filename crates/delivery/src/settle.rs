//! Writing down what happened: grouped, one statement for hundreds of tries (invariant 5).
//!
//! While one group commits the next gathers, and nothing that fills no group is written at once: nobody waits for it. A result
//! is held until it is written: when the database is away, tries under way keep their slots and nothing new begins.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
    vec::Drain,
};

use chrono::{DateTime, Utc};
use hookyard_domain::{
    clock::Clock,
    db::{Conn, Db},
    delivery::{DeliveryState, Effect, Fate, HeldDelivery, Outcome, Profile, Settled, settlement, store},
    id::{SettlementId, SubscriptionId},
    subscription::{
        Report,
        breaker::{self, Change},
    },
    trace::TraceContext,
};
use hookyard_messaging::{Bus, Message, Queue};
use tokio::sync::mpsc;

use crate::{
    lines::{self, Lines},
    metrics::Metrics,
};

/// What became of a delivery that was in memory.
#[derive(Debug)]
pub(crate) enum Note {
    /// It was tried.
    Tried { settled: Settled, outcome: Outcome, effect: Effect },
    /// It goes back to the schedule untried; the dispatcher numbers those of which it wants to know when they are written.
    Parked { held: HeldDelivery, at: DateTime<Utc>, number: Option<u64> },
    /// It ends untried, for this reason.
    Cancelled { held: HeldDelivery, reason: &'static str },
    /// The breaker of an endpoint has changed.
    Breaker { endpoint: SubscriptionId, change: Change },
}

impl Note {
    /// Whether the next of a line waits for it.
    fn is_awaited(&self) -> bool {
        match self {
            Self::Tried { settled, .. } => lines::moves_a_line(settled),
            Self::Cancelled { held, .. } => held.ordered,
            Self::Parked { .. } | Self::Breaker { .. } => false,
        }
    }
}

/// Where notes go.
#[derive(Clone, Debug)]
pub(crate) struct Settler {
    notes: mpsc::Sender<Note>,
    parked: Arc<AtomicU64>,
}

impl Settler {
    /// Up to which number what goes back to the schedule is written.
    pub(crate) fn parked(&self) -> u64 {
        self.parked.load(Ordering::Acquire)
    }

    /// Hands a note on; waits while the writing is behind.
    pub(crate) async fn note(&self, note: Note) {
        if self.notes.send(note).await.is_err() {
            tracing::error!(
                "an outcome came after the writing had stopped; its lease will end and it will be tried again"
            );
        }
    }
}

/// The writing end.
pub(crate) struct Writer {
    notes: mpsc::Receiver<Note>,
    parked: Arc<AtomicU64>,
    db: Db,
    bus: Bus,
    clock: Clock,
    metrics: Metrics,
    batch: usize,
    lines: Lines,
    /// Settlements that are to be rung together.
    unrung: Arc<Mutex<Vec<SettlementId>>>,
}

/// How long outcomes are gathered before they are written. A deliverer that is killed meanwhile leaves these deliveries to be
/// tried again, as it does those that are being written.
const PACE: Duration = Duration::from_millis(10);

/// The same where the next of a line waits for one of them.
const PACE_OF_LINES: Duration = Duration::from_millis(5);

/// How long settlements are gathered before they are rung. The counters of hooks may be behind for so long; a ring, and a
/// transaction of the registry, for every try would cost more than the try.
const GATHER: Duration = Duration::from_millis(50);

/// Settlements in one message at the most.
const RING_AT_ONCE: usize = 64;

/// A settler and its writer.
pub(crate) fn channel(
    db: Db,
    bus: Bus,
    clock: Clock,
    metrics: Metrics,
    batch: usize,
    lines: Lines,
) -> (Settler, Writer) {
    let (sender, notes) = mpsc::channel(batch * 4);
    let parked = Arc::<AtomicU64>::default();
    (
        Settler { notes: sender, parked: Arc::clone(&parked) },
        Writer { notes, parked, db, bus, clock, metrics, batch, lines, unrung: Arc::default() },
    )
}

impl Writer {
    /// Writes until every [`Settler`] is gone and everything is written.
    pub(crate) async fn run(mut self) {
        let mut notes = Vec::with_capacity(self.batch);
        while self.notes.recv_many(&mut notes, self.batch).await > 0 {
            let began = tokio::time::Instant::now();
            while notes.len() < self.batch {
                let room = self.batch - notes.len();
                let pace = if notes.iter().any(Note::is_awaited) { PACE_OF_LINES } else { PACE };
                match tokio::time::timeout_at(began + pace, self.notes.recv_many(&mut notes, room)).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            self.write(notes.drain(..)).await;
        }
    }

    /// Takes the notes out of where they were gathered, which is used again: growing it anew each time takes many times its size.
    async fn write(&self, notes: Drain<'_, Note>) {
        let now = self.clock.now();
        let (mut tried, mut parked, mut numbered) = (Vec::with_capacity(notes.len()), Vec::new(), None);
        let mut cancelled: BTreeMap<&'static str, Vec<HeldDelivery>> = BTreeMap::new();
        let mut reports: Vec<Report> = Vec::new();
        let mut moved = Vec::new();
        let mut breakers: BTreeMap<SubscriptionId, Change> = BTreeMap::new();
        let mut places: HashMap<SubscriptionId, usize> = HashMap::new();
        for note in notes {
            let is_awaited = note.is_awaited();
            match note {
                Note::Tried { settled, outcome, effect } => {
                    // A farewell says nothing about the health of a hook that has ended.
                    if settled.held.profile != Profile::Farewell {
                        let id = settled.held.id.subscription;
                        let place = *places.entry(id).or_insert_with(|| {
                            reports.push(Report::new(id, settled.held.tenant, now));
                            reports.len() - 1
                        });
                        reports[place].note(&outcome, effect, now);
                        if matches!(settled.fate, Fate::Ended(DeliveryState::Dead)) {
                            reports[place].bury(settled.held.id.event);
                        }
                    }
                    if is_awaited {
                        moved.push(settled.held.id);
                    }
                    tried.push(settled);
                }
                Note::Parked { held, at, number } => {
                    numbered = numbered.max(number);
                    parked.push((held, at));
                }
                Note::Cancelled { held, reason } => {
                    if is_awaited {
                        moved.push(held.id);
                    }
                    cancelled.entry(reason).or_default().push(held);
                }
                // The last of several counts.
                Note::Breaker { endpoint, change } => {
                    breakers.insert(endpoint, change);
                }
            }
        }
        // In order, so that two who write the same deliveries wait one way.
        tried.sort_unstable_by_key(|settled| settled.held.id);
        parked.sort_unstable_by_key(|(held, _)| held.id);
        for held in cancelled.values_mut() {
            held.sort_unstable_by_key(|held| held.id);
        }
        let settlement = (!tried.is_empty()).then(|| SettlementId::new(now));
        self.metrics.settled(tried.len());
        let breakers: Vec<(SubscriptionId, Change)> = breakers.into_iter().collect();
        let group = Arc::new((tried, parked, cancelled, reports, breakers));
        self.until_written(move |conn| {
            let (tried, parked, cancelled, reports, breakers) = &*group;
            if let Some(settlement) = settlement {
                settlement::settle(conn, tried, settlement, reports, now)?;
            }
            store::park(conn, parked)?;
            for (reason, held) in cancelled {
                store::cancel_held(conn, held, now, reason)?;
            }
            breaker::tell(conn, breakers)
        })
        .await;
        // Notes come in order, and are written in order.
        if let Some(number) = numbered {
            self.parked.store(number, Ordering::Release);
        }
        self.lines.go_on(moved);
        if let Some(settlement) = settlement {
            self.ring(settlement);
        }
    }

    /// Each statement is its own transaction and harmless when repeated: what was written down is written once.
    async fn until_written<F>(&self, write: F)
    where
        F: Fn(&mut Conn) -> hookyard_domain::Result<()> + Send + Sync + 'static,
    {
        let write = Arc::new(write);
        let mut wait = Duration::from_millis(50);
        for failures in 0_u32.. {
            let once = Arc::clone(&write);
            match self.db.once(move |conn| once(conn)).await {
                Ok(()) => return,
                Err(error) if error.is_passing() || failures < 5 => {
                    tracing::warn!(error = error.chain(), "outcomes cannot be written yet");
                }
                Err(error) => {
                    // The leases end, and the deliveries are tried again: a duplicate, but no loss.
                    tracing::error!(error = error.chain(), "outcomes cannot be written and are dropped");
                    return;
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }

    /// Rings in a little while, with the others that come until then. The relay rings what is lost.
    fn ring(&self, settlement: SettlementId) {
        let first = {
            let mut unrung = self.unrung.lock().unwrap_or_else(PoisonError::into_inner);
            unrung.push(settlement);
            unrung.len() == 1
        };
        if !first {
            return;
        }
        let (bus, unrung) = (self.bus.clone(), Arc::clone(&self.unrung));
        tokio::spawn(async move {
            tokio::time::sleep(GATHER).await;
            let gathered = std::mem::take(&mut *unrung.lock().unwrap_or_else(PoisonError::into_inner));
            for settlements in gathered.chunks(RING_AT_ONCE) {
                let message = Message::DeliverySettled { settlements: settlements.to_vec() };
                let rung = bus.publish(Queue::DeliverySettled, &message, &TraceContext::fresh()).await;
                if let Err(error) = rung {
                    tracing::debug!(%error, "settlements were not rung; the relay will");
                }
            }
        });
    }
}
