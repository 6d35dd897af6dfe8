//! How a recovery looks wherever one is shown.

use hookyard_domain::{
    audit::ActorKind,
    event::wire_time,
    id::{CredentialId, UserId},
    person::Locale,
    recovery::{RecoveryState, store::Recovery},
};
use serde::Serialize;
use utoipa::ToSchema;

/// A recovery: a job that sends again what did not arrive.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Recovery)]
pub(crate) struct View {
    /// Identity.
    #[schema(example = "rec_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: String,
    /// To which hook, consumer or inbox.
    #[schema(example = "hook_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    endpoint_id: String,
    /// `failed`, `missing`, `undelivered` or `all`.
    which: &'static str,
    /// `counting`, `running`, `completed`, `cancelled` or `stopped`.
    #[schema(example = "running")]
    state: &'static str,
    /// Why it was stopped.
    reason: Option<String>,
    /// How far it is, in words.
    summary: String,
    /// Events accepted at or after.
    #[schema(format = DateTime)]
    since: String,
    /// Events accepted before.
    #[schema(format = DateTime)]
    until: String,
    /// Only of these types; `null` = of all that the endpoint wants.
    event_types: Option<Vec<String>>,
    /// Deliveries per second at the most.
    #[schema(minimum = 1)]
    per_second: i32,
    /// Events to look at, as far as they are counted.
    #[schema(minimum = 0)]
    total: i64,
    /// Events that were looked at.
    #[schema(minimum = 0)]
    examined: i64,
    /// Deliveries that were put on their way.
    #[schema(minimum = 0)]
    queued: i64,
    /// Events that were looked at and not sent: not wanted, or on their way already.
    #[schema(minimum = 0)]
    skipped: i64,
    /// Deliveries of this recovery that had not ended at the last look; it waits when they are too many. 0 for an inbox.
    #[schema(minimum = 0)]
    under_way: usize,
    /// Who asked.
    requested_by: RequestedBy,
    /// When it was asked for.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it last went on.
    #[schema(format = DateTime)]
    updated_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
}

/// Who asked for a recovery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecoveryRequestedBy)]
pub(crate) struct RequestedBy {
    /// `credential` or `person`.
    #[schema(example = "credential")]
    kind: Option<&'static str>,
    /// Which.
    #[schema(example = "key_01hzy3v9k2s8d4f6g8h0j2k4m6")]
    id: Option<String>,
    /// By name at that time.
    name: String,
}

impl View {
    pub(in crate::handlers) fn of(recovery: Recovery, locale: Locale) -> Self {
        let kind = ActorKind::of_code(recovery.actor_kind);
        let id = recovery.actor_id.map(|id| match kind {
            Some(ActorKind::Person) => UserId::from_uuid(id).to_string(),
            Some(ActorKind::Credential | ActorKind::System | ActorKind::Operator | ActorKind::Nobody)
            | None => CredentialId::from_uuid(id).to_string(),
        });
        Self {
            summary: summary(&recovery, locale),
            id: recovery.id.to_string(),
            endpoint_id: recovery.subscription_id.to_string(),
            which: recovery.which.as_str(),
            state: recovery.state.as_str(),
            reason: recovery.reason,
            since: wire_time(recovery.since),
            until: wire_time(recovery.until),
            event_types: recovery.event_types,
            per_second: recovery.per_second,
            total: recovery.total,
            examined: recovery.examined,
            queued: recovery.queued,
            skipped: (recovery.examined - recovery.queued).max(0),
            under_way: recovery.under_way.len(),
            requested_by: RequestedBy { kind: kind.map(ActorKind::as_str), id, name: recovery.actor_name },
            created_at: wire_time(recovery.created_at),
            updated_at: wire_time(recovery.updated_at),
            ended_at: recovery.ended_at.map(wire_time),
        }
    }
}

/// How far it is, in a sentence.
fn summary(recovery: &Recovery, locale: Locale) -> String {
    let Recovery { total, examined, queued, .. } = recovery;
    match (recovery.state, locale) {
        (RecoveryState::Counting, Locale::En) => {
            format!("It counts what there is to look at: {total} events so far.")
        }
        (RecoveryState::Counting, Locale::Fr) => {
            format!("Il compte ce qu'il y a à regarder : {total} événements jusqu'ici.")
        }
        (RecoveryState::Running, Locale::En) => {
            format!("{examined} of {total} events have been looked at, {queued} were put on their way.")
        }
        (RecoveryState::Running, Locale::Fr) => {
            format!("{examined} événements sur {total} ont été regardés, {queued} ont été mis en route.")
        }
        (RecoveryState::Completed, Locale::En) => {
            format!("All {examined} events have been looked at, {queued} were put on their way.")
        }
        (RecoveryState::Completed, Locale::Fr) => {
            format!("Les {examined} événements ont tous été regardés, {queued} ont été mis en route.")
        }
        (RecoveryState::Cancelled, Locale::En) => {
            format!("It was cancelled after {examined} of {total} events; {queued} were put on their way.")
        }
        (RecoveryState::Cancelled, Locale::Fr) => {
            format!(
                "Il a été annulé après {examined} événements sur {total} ; {queued} ont été mis en route."
            )
        }
        (RecoveryState::Stopped, Locale::En) => format!(
            "It was stopped after {examined} of {total} events, because the endpoint takes none any more; {queued} were put on their way."
        ),
        (RecoveryState::Stopped, Locale::Fr) => format!(
            "Il a été arrêté après {examined} événements sur {total}, car le destinataire n'en accepte plus ; {queued} ont été mis en route."
        ),
    }
}
