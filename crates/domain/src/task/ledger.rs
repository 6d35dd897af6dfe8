//! The one writer of runs: whatever happens to a run goes through [`Ledger::apply`].
//!
//! One transaction for a batch of moves: the runs are locked, each move is decided by the pure rules, and everything that
//! follows is written with a few statements: the runs, what listeners see, the events, the webhook deliveries, what was used.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use diesel::PgConnection;
use uuid::Uuid;

use super::{
    AgentType, Refused, Run, RunState, Settings, Step, Usage, budget, input, notice,
    respond::RespondLinks,
    rows::{self, Changed, Row, UsageKey},
    run::{Left, Scene},
    step::{Effect, Telling, Voice},
    told::{self, LineKind, NewLine},
};
use crate::{
    Result,
    delivery::{self, NewDelivery, Profile},
    event::{self, NewEvent},
    id::{ClaimId, DeliveryId, EventGroupId, EventId, LeaseId, RunId, SubscriptionId, TaskId, TenantId},
    vault::Vault,
};

/// How long the deliveries that are made here belong to whoever is rung for them; then the sweep takes them.
const DELIVERY_LEASE: TimeDelta = TimeDelta::seconds(30);

/// Who moves a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Whoever shows this lease.
    Holder(LeaseId),
    /// Its owner.
    Owner(TenantId),
    /// The clock.
    Clock,
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which run.
    pub run: RunId,
    /// Who says so.
    pub by: By,
    /// What.
    pub step: Step,
}

/// A move that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The run.
    pub run: RunId,
    /// Its task.
    pub task: TaskId,
    /// Its owner.
    pub tenant: TenantId,
    /// Where the run stands now.
    pub state: RunState,
    /// What it had before this move.
    pub before: RunState,
    /// Whether anything was changed: what was so already, and a tick for which nothing is due, changes nothing.
    pub changed: bool,
}

/// What was written, and what is to be rung after the commit.
#[derive(Clone, Debug)]
pub struct Written {
    /// One for each move, in their order.
    pub results: Vec<Result<Applied, Refused>>,
    /// Events: to be rung as accepted.
    pub group: Option<EventGroupId>,
    /// Webhook deliveries that stand in line: to be released with `delivery::ordered::release`, and rung.
    pub ordered: Vec<(SubscriptionId, Uuid)>,
    /// The claim under which they were made.
    pub claim: ClaimId,
    /// When that ends.
    pub lease_until: DateTime<Utc>,
    /// Whose runs can be taken: to be rung.
    pub queued: Vec<(TenantId, AgentType)>,
}

/// The writer.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// How runs are queued, held and given up.
    pub settings: Settings,
    /// Makes links by which questions are answered.
    pub links: RespondLinks,
    /// Seals mail; `None` where none is sent.
    pub mail: Option<Vault>,
}

/// A run that is being moved.
struct Open {
    row: Row,
    run: Run,
    changed: bool,
    checkpoint: Option<String>,
    seq: i64,
    last_event: Option<EventId>,
}

/// What a batch writes.
#[derive(Default)]
struct Batch {
    lines: Vec<NewLine>,
    events: Vec<NewEvent>,
    deliveries: Vec<NewDelivery>,
    ordered: Vec<(SubscriptionId, Uuid)>,
    usage: BTreeMap<UsageKey, (i64, Usage)>,
    questions: input::Changes,
    notices: Vec<notice::Notice>,
    queued: Vec<(TenantId, AgentType)>,
}

impl Ledger {
    /// A writer with these rules, links, and what seals mail where mail is sent.
    #[must_use]
    pub fn new(settings: Settings, links: RespondLinks, mail: Option<Vault>) -> Self {
        Self { settings, links, mail }
    }

    /// Makes moves, in their order. Those that are refused change nothing and harm no other. Belongs into a transaction.
    ///
    /// # Errors
    /// When the database is away, or a defect of ours; nothing is written then.
    pub fn apply(&self, conn: &mut PgConnection, moves: &[Move], now: DateTime<Utc>) -> Result<Written> {
        let mut ids: Vec<RunId> = moves.iter().map(|step| step.run).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut open: BTreeMap<RunId, Open> =
            rows::lock(conn, &ids)?.into_iter().map(|row| (row.id, Open::of(row))).collect();
        let mut left = self.left(conn, moves, &open, now)?;
        let mut batch = Batch::default();
        let mut results = Vec::with_capacity(moves.len());
        for step in moves {
            results.push(match open.get_mut(&step.run) {
                None => Err(Refused::Unknown),
                Some(open) => {
                    let left = left.entry(open.row.tenant_id).or_default();
                    let scene = Scene { settings: &self.settings, now, left };
                    self.make(step, open, scene, &mut batch)?
                }
            });
        }
        let changed: Vec<Changed> =
            open.into_values().filter(|open| open.changed).map(Open::written).collect();
        let (claim, lease_until) = (ClaimId::new(now), now + DELIVERY_LEASE);
        let group = (!batch.events.is_empty()).then(|| EventGroupId::new(now));
        rows::write(conn, &self.settings, &changed)?;
        input::write(conn, &batch.questions, now)?;
        rows::insert_lines(conn, &batch.lines)?;
        if let Some(group) = group {
            event::store::insert_group(conn, group, &batch.events)?;
        }
        delivery::store::insert(conn, &batch.deliveries, claim, now, lease_until)?;
        rows::add_usage(conn, &batch.usage)?;
        notice::enqueue(conn, self.mail.as_ref(), &batch.notices, now)?;
        dedup(&mut batch.ordered);
        dedup(&mut batch.queued);
        Ok(Written { results, group, ordered: batch.ordered, claim, lease_until, queued: batch.queued })
    }

    /// What the tenants may still use whose runs report that they used something.
    fn left(
        &self,
        conn: &mut PgConnection,
        moves: &[Move],
        open: &BTreeMap<RunId, Open>,
        now: DateTime<Utc>,
    ) -> Result<HashMap<TenantId, Left>> {
        let spends = |step: &Step| match step {
            Step::Spent { usage }
            | Step::Ask { usage, .. }
            | Step::Complete { usage, .. }
            | Step::Fail { usage, .. } => *usage != Usage::default(),
            Step::Started
            | Step::Progress { .. }
            | Step::Output { .. }
            | Step::Checkpoint { .. }
            | Step::Release
            | Step::Cancel { .. }
            | Step::Answer { .. }
            | Step::Tick => false,
        };
        let spending = moves.iter().filter(|step| spends(&step.step));
        let tenants: HashSet<TenantId> =
            spending.filter_map(|step| open.get(&step.run)).map(|open| open.row.tenant_id).collect();
        if tenants.is_empty() {
            return Ok(HashMap::new());
        }
        budget::left(conn, &tenants.into_iter().collect::<Vec<_>>(), now)
    }

    fn make(
        &self,
        step: &Move,
        open: &mut Open,
        mut scene: Scene<'_>,
        batch: &mut Batch,
    ) -> Result<Result<Applied, Refused>> {
        let voice = match step.by {
            By::Holder(lease) => Voice::Holder(lease),
            By::Owner(tenant) if tenant == open.row.tenant_id => Voice::Owner,
            By::Owner(_) => return Ok(Err(Refused::Unknown)),
            By::Clock => Voice::Clock,
        };
        let (before, now) = (open.run.state, scene.now);
        let effects = match open.run.step(voice, step.step.clone(), &mut scene) {
            Ok(effects) => effects,
            Err(refused) => return Ok(Err(refused)),
        };
        let changed = !effects.is_empty();
        // A tick that found nothing due was set too early: another setting, or a heartbeat since.
        open.changed |=
            changed || (voice == Voice::Clock && open.run.due_at(&self.settings) != open.row.due_at);
        for effect in effects {
            self.follow(effect, open, batch, now)?;
        }
        Ok(Ok(Applied {
            run: open.row.id,
            task: open.row.task_id,
            tenant: open.row.tenant_id,
            state: open.run.state,
            before,
            changed,
        }))
    }

    fn follow(&self, effect: Effect, open: &mut Open, batch: &mut Batch, now: DateTime<Utc>) -> Result<()> {
        match effect {
            Effect::Tell(telling) => self.tell(&telling, open, batch, now)?,
            Effect::Output(text) => {
                let data = told::output_line(&open.run, &text);
                open.line(LineKind::Output, data, batch);
            }
            Effect::Checkpoint(data) => open.checkpoint = Some(data),
            Effect::Advanced => {
                let data = told::progress_line(&open.run, now);
                open.line(LineKind::Progress, data, batch);
            }
            Effect::Moved => {
                let data = told::status_line(&open.run, now);
                open.line(LineKind::Status, data, batch);
            }
            Effect::Keep { input, question, expires_at } => {
                batch.questions.keep((open.row.id, open.row.tenant_id), input, question, expires_at);
            }
            Effect::Answered { input, answer, by } => batch.questions.answer(input, answer, by),
            Effect::Close => batch.questions.close(open.row.id),
            Effect::Queued => batch.queued.push((open.row.tenant_id, open.row.agent_type)),
            Effect::Used(usage) => {
                let sum = &mut batch.usage(open, now).1;
                *sum = sum.plus(usage);
            }
        }
        Ok(())
    }

    /// An event, its delivery to the task's endpoint, a line for listeners, and a mail where one is wanted.
    fn tell(&self, telling: &Telling, open: &mut Open, batch: &mut Batch, now: DateTime<Utc>) -> Result<()> {
        // Ids of a run's events rise, whatever the clock does.
        let at = open.last_event.map_or(now, |last| now.max(instant_of(last) + TimeDelta::milliseconds(1)));
        let event = told::event(&open.row, &open.run, telling, &self.links, at)?;
        open.last_event = Some(event.id);
        if let Some(endpoint) = open.row.endpoint_id.filter(|_| open.row.webhook_events().has(telling)) {
            let ordering = open.row.id.uuid();
            let id = DeliveryId { event: event.id, subscription: endpoint };
            let plain = NewDelivery::plain(id, open.row.tenant_id, Profile::Task);
            batch.deliveries.push(NewDelivery { ordering: Some(ordering), ..plain });
            batch.ordered.push((endpoint, ordering));
        }
        batch.events.push(event);
        match telling {
            Telling::Progress => {
                let data = told::progress_line(&open.run, now);
                open.line(LineKind::Progress, data, batch);
            }
            Telling::Started => {
                // What follows in the same move may be its end: this line tells how it began.
                let mut begun = open.run.clone();
                begun.state = RunState::Running;
                (begun.error, begun.error_code) = (None, None);
                open.line(LineKind::Status, told::status_line(&begun, now), batch);
            }
            Telling::Completed | Telling::Failed | Telling::Cancelled | Telling::NeedsInput { .. } => {
                let data = told::status_line(&open.run, now);
                open.line(LineKind::Status, data, batch);
            }
        }
        if open.run.state.is_terminal() && !matches!(telling, Telling::Started | Telling::Progress) {
            batch.usage(open, now).0 += 1;
        }
        if let Some(notice) = notice::of(&open.row, &open.run, telling, &self.links) {
            batch.notices.push(notice);
        }
        Ok(())
    }
}

impl Batch {
    fn usage(&mut self, open: &Open, now: DateTime<Utc>) -> &mut (i64, Usage) {
        let key = UsageKey {
            tenant: open.row.tenant_id,
            month: month_of(now),
            model: open.row.model.clone(),
            agent_type: open.row.agent_type,
        };
        self.usage.entry(key).or_default()
    }
}

impl Open {
    fn of(row: Row) -> Self {
        let run = row.run();
        Self { seq: row.output_seq, last_event: row.last_event, run, row, changed: false, checkpoint: None }
    }

    fn line(&mut self, kind: LineKind, data: String, batch: &mut Batch) {
        self.seq += 1;
        batch.lines.push(NewLine { run: self.row.id, seq: self.seq, kind, data });
    }

    fn written(self) -> Changed {
        Changed {
            id: self.row.id,
            run: self.run,
            checkpoint: self.checkpoint,
            output_seq: self.seq,
            last_event: self.last_event,
        }
    }
}

/// The first day of the month, UTC.
pub(super) fn month_of(at: DateTime<Utc>) -> NaiveDate {
    let date = at.date_naive();
    date.with_day(1).unwrap_or(date)
}

/// The time in an id.
fn instant_of(id: EventId) -> DateTime<Utc> {
    let millis = id.uuid().as_u128() >> 80;
    i64::try_from(millis).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default()
}

fn dedup<T: Copy + Eq + std::hash::Hash>(list: &mut Vec<T>) {
    let mut seen = HashSet::with_capacity(list.len());
    list.retain(|item| seen.insert(*item));
}
