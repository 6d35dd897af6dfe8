//! Mails about tasks: one when a run ends, and one when it needs an answer.

use chrono::{DateTime, Utc};
use diesel::PgConnection;

use super::{Run, respond::RespondLinks, rows::Row, run::cut, step::Telling};
use crate::{
    Result,
    email::{self, Email},
    event::wire_time,
    id::TenantId,
    vault::Vault,
};

/// A mail that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) tenant: TenantId,
    pub(super) to: String,
    pub(super) subject: String,
    pub(super) text: String,
}

/// The mail for what is told, if one is wanted.
pub(super) fn of(row: &Row, run: &Run, telling: &Telling, links: &RespondLinks) -> Option<Notice> {
    let to = row.notify_email.clone()?;
    // A subject is one line.
    let title: String = row.title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let (what, body) = match telling {
        Telling::Started | Telling::Progress => return None,
        Telling::Completed => ("Completed", run.result.clone().unwrap_or_default()),
        Telling::Failed => ("Failed", run.error.clone().unwrap_or_default()),
        Telling::Cancelled => ("Cancelled", run.error.clone().unwrap_or_default()),
        Telling::NeedsInput { input, question, expires_at } => {
            let mut text = question.question.clone();
            if let Some(choices) = &question.choices {
                text.push_str("\n\n");
                text.push_str(&choices.iter().map(|choice| format!("- {choice}\n")).collect::<String>());
            }
            text.push_str(&format!(
                "\n\nAnswer here until {}:\n{}",
                wire_time(*expires_at),
                links.link(*input)
            ));
            ("Needs an answer", text)
        }
    };
    let text = format!("{title}\n\n{}\n\nTask {}, run {}\n", cut(&body, 100_000), row.task_id, row.id);
    Some(Notice { tenant: row.tenant_id, to, subject: format!("{what}: {title}"), text })
}

/// Puts mails into the outbox, in the caller's transaction.
pub(super) fn enqueue(
    conn: &mut PgConnection,
    vault: &Vault,
    notices: &[Notice],
    now: DateTime<Utc>,
) -> Result<()> {
    for notice in notices {
        let email = Email::new(&notice.to, &notice.subject, &notice.text);
        email::store::enqueue(conn, vault, Some(notice.tenant), &email, now)?;
    }
    Ok(())
}
