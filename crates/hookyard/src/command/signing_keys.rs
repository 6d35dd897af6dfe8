//! `hookyard keys rotate-signing` and `list-signing`: the keys of the installation that callbacks are signed with.

use chrono::{DateTime, TimeDelta, Utc};
use hookyard_domain::{
    audit::{self, Action, Entry, ObjectKind, ObjectRef},
    db::Db,
    event::wire_time,
    signing_key::{SigningKey, store},
};
use serde_json::{Value, json};

use crate::{
    command::{listing, operator},
    secrets,
    settings::Settings,
};

/// Publishes the next key.
pub(super) async fn rotate(
    settings: &Settings,
    db: &Db,
    lead_hours: i64,
    json: bool,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let vault = secrets::of_command(settings, db).await?;
    let fresh = store::fresh().await?;
    let key = db
        .run(move |conn| {
            let key = store::rotate(conn, &vault, &fresh, TimeDelta::hours(lead_hours), now)?;
            let entry =
                Entry::new(None, Action::SigningKeyRotated, ObjectRef::new(ObjectKind::SigningKey, key.id))
                    .after(json!({"kid": key.kid, "use_from": wire_time(key.use_from)}));
            audit::record(conn, &operator::actor(), &entry, now)?;
            Ok(key)
        })
        .await?;
    if json {
        println!("{}", as_json(&key, now));
    } else {
        println!("{}\n(published now, used from {} on)", key.kid, wire_time(key.use_from));
    }
    Ok(())
}

/// Shows them, the oldest first.
pub(super) async fn list(db: &Db, json: bool, now: DateTime<Utc>) -> anyhow::Result<()> {
    let line = |key: &SigningKey| {
        if json {
            return as_json(key, now).to_string();
        }
        format!("{}  {}  from {}", key.kid, key.stage(now).as_str(), wire_time(key.use_from))
    };
    let keys = db.once(store::list).await?;
    listing::lines(keys.iter().map(|key| Ok(line(key))))
}

fn as_json(key: &SigningKey, now: DateTime<Utc>) -> Value {
    json!({
        "kid": key.kid,
        "stage": key.stage(now).as_str(),
        "created_at": wire_time(key.created_at),
        "use_from": wire_time(key.use_from),
        "used_until": key.used_until.map(wire_time),
        "kept_until": key.kept_until.map(wire_time),
    })
}
