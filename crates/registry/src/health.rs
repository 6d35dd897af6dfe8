//! What outcomes make of hooks: takes settlements, applies the rule, writes its consequences.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use hookyard_domain::{
    Result,
    audit::{self, Action, Actor, Entry, ObjectKind, ObjectRef},
    db::Conn,
    delivery,
    id::{EventGroupId, SettlementId, SubscriptionId},
    subscription::{
        self, Ended, Ending, Health, HealthChange, HookState, Kind, Report, apply, condition,
        diagnosis::Problem,
        directory::Directory,
        warning::{self, Told},
    },
    trace::TraceContext,
};
use hookyard_messaging::{Consumer, Incoming, Message, Queue};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, Mail};

/// Rings answered in one transaction.
const RINGS_AT_ONCE: usize = 32;

/// Answers rings until `stop`.
pub(crate) async fn serve(context: Arc<Context>, mut consumer: Consumer, stop: CancellationToken) {
    let mut rings = Vec::new();
    loop {
        let taken = tokio::select! {
            () = stop.cancelled() => return,
            taken = consumer.recv_many(&mut rings, RINGS_AT_ONCE) => taken,
        };
        if taken == 0 {
            return;
        }
        let rings = std::mem::take(&mut rings);
        let settlements: Vec<SettlementId> = rings.iter().flat_map(settlements).copied().collect();
        let mut wait = Duration::from_millis(50);
        loop {
            match settle(&context, settlements.clone()).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "outcomes cannot be applied to hooks yet")
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(2)),
            }
        }
        Incoming::ack_all(rings);
    }
}

fn settlements(ring: &Incoming) -> &[SettlementId] {
    match ring.message() {
        Message::DeliverySettled { settlements } => settlements,
        other => {
            tracing::error!(message = ?other, "a message stands in a queue that is not for it");
            &[]
        }
    }
}

/// Applies settlements, those of them that nobody else has.
pub(crate) async fn settle(context: &Context, settlements: Vec<SettlementId>) -> Result<()> {
    let now = context.clock.now();
    let (mail, directory) = (context.mail.clone(), context.directory.clone());
    let groups = context
        .db
        .run(move |conn| {
            let reports = delivery::settlement::take_settlements(conn, &settlements)?;
            write(conn, reports, (mail.as_ref(), &directory), now)
        })
        .await?;
    announce(context, groups).await;
    Ok(())
}

/// Rings the events that were written; the relay rings those that get lost.
pub(crate) async fn announce(context: &Context, groups: Vec<EventGroupId>) {
    for group in groups {
        let message = Message::EventAccepted { group, accepted: None };
        if let Err(error) = context.bus.publish(Queue::EventAccepted, &message, &TraceContext::fresh()).await
        {
            tracing::debug!(%error, "an event was not rung; the relay will");
        }
    }
}

fn write(
    conn: &mut Conn,
    reports: Vec<Report>,
    (mail, directory): (Option<&Mail>, &Directory),
    now: DateTime<Utc>,
) -> Result<Vec<EventGroupId>> {
    let mut by_hook: BTreeMap<SubscriptionId, Report> = BTreeMap::new();
    for report in reports {
        match by_hook.get_mut(&report.subscription) {
            Some(before) => before.append(report),
            None => {
                by_hook.insert(report.subscription, report);
            }
        }
    }
    if by_hook.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<SubscriptionId> = by_hook.keys().copied().collect();
    let mut changes: Vec<(&Report, HealthChange)> = Vec::with_capacity(ids.len());
    let (mut groups, mut told) = (Vec::new(), Vec::new());
    let mut troubled: Vec<Troubled> = Vec::new();
    if by_hook.values().any(|report| report.dead > 0) {
        directory.refresh(conn)?;
    }
    for (id, url, health) in subscription::lock_health(conn, &ids)? {
        let Some(report) = by_hook.get(&id) else { continue };
        let change = apply(health, report);
        told.extend(entries(&health, &change, report, &url));
        if !matches!(health.kind, Kind::Task | Kind::Callback)
            && delivery::failed::is_told(directory, report, now)
        {
            groups.push(delivery::failed::tell(conn, report, &url, now)?);
        }
        if let Some(stage) = warning::stage(&health, &change, report) {
            troubled.push(Troubled {
                url: url.clone(),
                kind: health.kind,
                stage,
                change: change.clone(),
                report,
            });
        }
        if change.state != health.state {
            let reason = reason(&change, report);
            subscription::store::set_state(conn, report.tenant, id, change.state, reason.as_deref(), now)?;
            if let Some(ended) = change.ended {
                if !health.kind.is_matched() {
                    // Nobody subscribed it: there is nobody to say good-bye to, and what its tasks report shows the end.
                    delivery::cancelling::begin(conn, report.tenant, id, now, "task_endpoint.disabled")?;
                    tracing::info!(hook.id = %id, tenant.id = %report.tenant, reason = reason.as_deref(), "an endpoint of tasks was disabled");
                    changes.push((report, change));
                    continue;
                }
                let ending = match ended {
                    Ended::Gone => Ending::Removed,
                    Ended::Refused | Ended::Disabled | Ended::Hopeless => Ending::Disabled,
                };
                tracing::info!(hook.id = %id, tenant.id = %report.tenant, reason = reason.as_deref(), "a hook ended");
                let reason = reason.unwrap_or_default();
                if let Some(mail) = mail.filter(|_| ending == Ending::Disabled) {
                    let problem = condition::problem_of(conn, report)?;
                    mail.tell(conn, report, (health.kind, &url), (100, problem), now)?;
                }
                groups.push(subscription::end(
                    conn,
                    (ending, health.kind),
                    (report.tenant, id, &url),
                    &reason,
                    now,
                )?);
            }
        }
        changes.push((report, change));
    }
    let changes: Vec<(&Report, &HealthChange)> =
        changes.iter().map(|(report, change)| (*report, change)).collect();
    subscription::add_to_health(conn, &changes)?;
    groups.extend(warn(conn, &troubled, mail, now)?);
    audit::record_all(conn, &actor(), &told, now)?;
    Ok(groups)
}

/// A subscription that has come to a stage on its way to being disabled.
struct Troubled<'a> {
    url: String,
    kind: Kind,
    stage: u8,
    change: HealthChange,
    report: &'a Report,
}

/// Tells owners, once for each stage and run of failures: by event, and by mail where there is a mail server.
fn warn(
    conn: &mut Conn,
    troubled: &[Troubled<'_>],
    mail: Option<&Mail>,
    now: DateTime<Utc>,
) -> Result<Vec<EventGroupId>> {
    let stages: Vec<(SubscriptionId, u8)> =
        troubled.iter().map(|one| (one.report.subscription, one.stage)).collect();
    let mut groups = Vec::new();
    for raised in warning::raise(conn, &stages)? {
        let Some(one) = troubled.iter().find(|one| one.report.subscription == raised.subscription_id) else {
            continue;
        };
        tracing::info!(hook.id = %raised.subscription_id, tenant.id = %one.report.tenant, percent = one.stage, "a hook is on its way to being disabled");
        let problem = condition::problem_of(conn, one.report)?;
        let of = (one.report, &one.change, one.kind);
        groups.push(warning::tell(conn, &raised, of, problem, &one.url, now)?);
        if let Some(mail) = mail {
            mail.tell(conn, one.report, (one.kind, &one.url), (one.stage, problem), now)?;
        }
    }
    Ok(groups)
}

impl Mail {
    fn tell(
        &self,
        conn: &mut Conn,
        report: &Report,
        (kind, url): (Kind, &str),
        (percent, problem): (u8, Option<Problem>),
        now: DateTime<Utc>,
    ) -> Result<()> {
        let place = match kind {
            Kind::Consumer => "webhooks",
            // Nothing is sent to inboxes: there is nothing to warn of.
            Kind::Hook | Kind::Task | Kind::Callback | Kind::Inbox => "v1/hooks",
        };
        let link = format!("{}/{place}/{}/health", self.origin, report.subscription);
        let told = Told { subscription: report.subscription, url, percent, problem, link: &link };
        warning::mail(conn, &self.vault, report.tenant, &told, now)
    }
}

/// Who does what the rules say.
pub(crate) fn actor() -> Actor {
    Actor::system("registry")
}

/// What the audit log is told: the end of a hook, and an address that must not be spoken to. Not that a hook fails or
/// works again, which comes and goes.
fn entries(health: &Health, change: &HealthChange, report: &Report, url: &str) -> Vec<Entry> {
    let (kind, forbidden, disabled) = match health.kind {
        Kind::Hook => (ObjectKind::Hook, Action::HookAddressForbidden, Action::HookDisabled),
        Kind::Consumer => (ObjectKind::Consumer, Action::ConsumerAddressForbidden, Action::ConsumerDisabled),
        Kind::Task => {
            (ObjectKind::TaskEndpoint, Action::TaskEndpointAddressForbidden, Action::TaskEndpointDisabled)
        }
        // Nothing is sent to an inbox, so that nothing is ever told of one here.
        Kind::Inbox => (ObjectKind::Inbox, Action::InboxUpdated, Action::InboxUpdated),
        // Nothing disables a callback: each run that names it is tried.
        Kind::Callback => (ObjectKind::Callback, Action::CallbackAddressForbidden, Action::HookDisabled),
    };
    let entry = |action| Entry::new(report.tenant, action, ObjectRef::new(kind, report.subscription));
    let forbidden =
        change.turned_forbidden.then(|| entry(forbidden).after(json!({"url": url, "sent": false})));
    let ended = change.ended.map(|ended| {
        let action = match ended {
            Ended::Gone => Action::HookRemoved,
            Ended::Refused | Ended::Disabled | Ended::Hopeless => disabled,
        };
        entry(action).before(json!({"state": health.state.as_str(), "url": url})).after(
            json!({"state": change.state.as_str(), "state_reason": reason(change, report), "url": url}),
        )
    });
    forbidden.into_iter().chain(ended).collect()
}

/// Why a hook is in its new state, for its owner.
fn reason(change: &HealthChange, report: &Report) -> Option<String> {
    match (change.ended, change.state) {
        (Some(Ended::Gone), _) => Some("the receiver answered 410 Gone".to_owned()),
        (Some(Ended::Refused), _) => Some(format!(
            "the receiver refused {} deliveries in a row, the last with {}",
            change.consecutive_refusals, report.last_reason
        )),
        (Some(Ended::Hopeless), _) => {
            Some(format!("nothing has arrived for five days, the last try ended with {}", report.last_reason))
        }
        (Some(Ended::Disabled), _) | (None, HookState::Failing) => Some(report.last_reason.clone()),
        (None, HookState::Pending | HookState::Active | HookState::Disabled | HookState::Deleted) => None,
    }
}
