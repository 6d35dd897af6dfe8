//! `hookyard events`: what an operator does with single events.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use hookyard_domain::{
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    clock::Clock,
    event::wire_time,
    id::{EventId, TenantId},
    retention::purge::{self, Outcome},
};
use serde_json::json;

use crate::{
    command::{self, operator},
    process,
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Purges the payload of an event for good; the event, its deliveries and their tries stay listed
    Purge(Purge),
}

#[derive(Debug, Args)]
pub(crate) struct Purge {
    /// The tenant's id.
    #[arg(long)]
    tenant: TenantId,
    /// The event's id.
    #[arg(long)]
    event: EventId,
    /// Cancel the deliveries that are under way; without it, nothing is purged while there are any.
    #[arg(long)]
    cancel_pending: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: Command, settings: Settings) -> anyhow::Result<()> {
    let Command::Purge(Purge { tenant, event, cancel_pending, json }) = command;
    process::block_on(&settings.clone(), async move {
        let db = command::database(&settings)?;
        let now = Clock::system().now();
        let purged = db.run(move |conn| {
            let outcome = purge::purge(conn, tenant, event, cancel_pending, now)?;
            if let Outcome::Purged { cancelled, before: false, .. } = outcome {
                let entry =
                    Entry::new(tenant, Action::EventPayloadPurged, ObjectRef::new(ObjectKind::Event, event))
                        .after(json!({"cancelled_deliveries": cancelled}));
                audit::record(conn, &operator::actor(), &entry, now)?;
            }
            Ok(outcome)
        });
        match purged.await.with_context(|| format!("cannot purge {event}"))? {
            Outcome::Purged { at, cancelled, before } => {
                let at = wire_time(at);
                if json {
                    println!(
                        "{}",
                        json!({"event_id": event.to_string(), "payload_purged_at": at, "cancelled_deliveries": cancelled})
                    );
                } else if before {
                    println!("the payload of {event} was purged at {at} already");
                } else {
                    println!("the payload of {event} is purged, {cancelled} deliveries were cancelled");
                }
                Ok(())
            }
            Outcome::Wanted { scheduled: true, .. } => {
                anyhow::bail!("{event} waits for its deliver_at: with --cancel-pending it is sent to nobody")
            }
            Outcome::Wanted { deliveries, scheduled: false } => anyhow::bail!(
                "deliveries of {event} are under way ({deliveries}): wait for them, or cancel them with --cancel-pending"
            ),
            Outcome::FanningOut => anyhow::bail!("{event} is being fanned out at this moment: try again"),
        }
    })
}
