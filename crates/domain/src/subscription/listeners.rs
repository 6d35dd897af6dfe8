//! Whether somebody asks for an event of our own: events that tell of what happens often are only stored where somebody does.

use diesel::{
    PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Bool, Text, Uuid},
};

use crate::{Result, event::EventType, id::TenantId};

/// Whether a live subscription of the tenant names this type, by itself or by a pattern.
///
/// # Errors
/// When the database is away.
pub fn any(conn: &mut PgConnection, tenant: TenantId, event_type: &EventType) -> Result<bool> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        listens: bool,
    }
    let found: Row = sql_query(
        "SELECT EXISTS (SELECT FROM subscriptions s WHERE s.tenant_id = $1 AND s.state < 3 \
            AND (s.kind = 0 AND s.pattern = ANY($2) \
               OR s.kind = 3 AND EXISTS (SELECT FROM consumers c WHERE c.id = s.id AND c.patterns && $2) \
               OR s.kind = 4 AND EXISTS (SELECT FROM inboxes i WHERE i.id = s.id AND i.patterns && $2))) AS listens",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Array<Text>, _>(patterns(event_type))
    .get_result(conn)?;
    Ok(found.listens)
}

/// Every pattern that matches a type: with `*` for any of its words, and `*` for all.
fn patterns(event_type: &EventType) -> Vec<String> {
    let mut patterns = vec![String::new()];
    for word in event_type.segments() {
        patterns = patterns
            .iter()
            .flat_map(|before| [word, "*"].map(|next| format!("{before}.{next}")))
            .map(|pattern| pattern.trim_start_matches('.').to_owned())
            .collect();
    }
    if !patterns.iter().any(|pattern| pattern == "*") {
        patterns.push("*".to_owned());
    }
    patterns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::EventPattern;

    #[test]
    fn every_pattern_matches_its_type() {
        for (text, count) in [("a", 2), ("rateLimit.reached", 5), ("a.b.c", 9)] {
            let event_type: EventType = text.parse().unwrap();
            let patterns = patterns(&event_type);
            assert_eq!(patterns.len(), count, "{patterns:?}");
            for pattern in patterns {
                assert!(pattern.parse::<EventPattern>().unwrap().matches(&event_type), "{pattern} {text}");
            }
        }
    }
}
