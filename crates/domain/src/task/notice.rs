//! Mails about tasks: one when a run ends, and one when it needs an answer.

use chrono::{DateTime, Utc};
use diesel::PgConnection;

use super::{Run, respond::RespondLinks, rows::Row, step::Telling};
use crate::{
    Result,
    email::{self, Email, letter::Letter},
    id::TenantId,
    vault::Vault,
};

/// A mail that is to be sent, and whom it concerns.
pub(super) type Notice = (TenantId, Email);

/// The mail for what is told, if one is wanted.
pub(super) fn of(row: &Row, run: &Run, telling: &Telling, links: &RespondLinks) -> Option<Notice> {
    let to = row.notify_email.as_deref()?;
    let (title, place, locale) = (row.title.as_str(), links.task(row.task_id), row.notify_locale());
    let ended = |text: Option<&str>| {
        let (status, text) = (run.state.as_str(), text.unwrap_or_default());
        Letter::TaskEnded { title, status, text, link: &place }.to(to, locale)
    };
    let email = match telling {
        Telling::Started | Telling::Progress => return None,
        Telling::Completed => ended(run.result.as_deref()),
        Telling::Failed | Telling::Cancelled => ended(run.error.as_deref()),
        Telling::NeedsInput { input, question, .. } => {
            let link = links.link(*input);
            Letter::TaskAsks { title, question: &question.question, link: &link }.to(to, locale)
        }
    };
    Some((row.tenant_id, email))
}

/// Puts mails into the outbox, in the caller's transaction; nowhere when there is none.
pub(super) fn enqueue(
    conn: &mut PgConnection,
    outbox: Option<&Vault>,
    notices: &[Notice],
    now: DateTime<Utc>,
) -> Result<()> {
    let Some(vault) = outbox else { return Ok(()) };
    for (tenant, email) in notices {
        email::store::enqueue(conn, vault, Some(*tenant), email, now)?;
    }
    Ok(())
}
