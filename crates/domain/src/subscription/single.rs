//! One subscription by itself, as matching sees it, without its secrets: for who asks what an endpoint would get, and not for all
//! endpoints at once as the [`directory`](super::directory) does.

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid},
};

use super::{
    Consumer, EventPattern, Filter, HookState, Kind, Subscription,
    consumer::{Place, Transformation, store::Terms},
};
use crate::{
    Error, Result,
    event::{EventType, Origin},
    id::{SubscriptionId, TenantId},
};

/// What a subscription says about which events it gets, as it is stored.
#[derive(Clone, Debug, QueryableByName)]
struct Row {
    #[diesel(sql_type = Uuid)]
    id: SubscriptionId,
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = SmallInt)]
    kind: Kind,
    #[diesel(sql_type = Text)]
    url: String,
    #[diesel(sql_type = Nullable<Text>)]
    pattern: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    filter: Option<String>,
    #[diesel(sql_type = SmallInt)]
    state: HookState,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    disabled_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Array<Text>>)]
    patterns: Option<Vec<String>>,
    #[diesel(sql_type = Nullable<Array<Text>>)]
    tags: Option<Vec<String>>,
    #[diesel(sql_type = Nullable<Integer>)]
    ttl_s: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    ordering_key: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    transformation: Option<String>,
}

/// A subscription, and since when it is disabled.
#[derive(Debug)]
pub struct Single {
    /// The subscription.
    pub subscription: Subscription,
    /// Since when nothing is delivered to it.
    pub disabled_at: Option<DateTime<Utc>>,
}

/// A subscription of a tenant of one of these kinds, in whatever state.
///
/// # Errors
/// When the database is away, or what is stored cannot be read.
pub fn find(
    conn: &mut PgConnection,
    tenant: TenantId,
    id: SubscriptionId,
    kinds: &[Kind],
) -> Result<Option<Single>> {
    let row: Option<Row> = sql_query(
        "SELECT s.id, s.tenant_id, s.kind, s.url, s.pattern, s.filter, s.state, s.expires_at, s.disabled_at, \
            COALESCE(c.patterns, i.patterns) AS patterns, COALESCE(c.tags, i.tags) AS tags, COALESCE(c.ttl_s, i.ttl_s) AS ttl_s, \
            c.ordering_key, c.transformation \
         FROM subscriptions s LEFT JOIN consumers c ON c.id = s.id LEFT JOIN inboxes i ON i.id = s.id \
         WHERE s.tenant_id = $1 AND s.id = $2 AND s.kind = ANY($3)",
    )
    .bind::<Uuid, _>(tenant)
    .bind::<Uuid, _>(id)
    .bind::<Array<SmallInt>, _>(kinds.iter().map(|kind| kind.code()).collect::<Vec<_>>())
    .get_result(conn)
    .optional()?;
    let Some(row) = row else { return Ok(None) };
    let disabled_at = row.disabled_at;
    // What is stored was read before; when it cannot be any more, that is our defect.
    let subscription = row.parsed().map_err(|reason| Error::Database(reason.into()))?;
    Ok(Some(Single { subscription, disabled_at }))
}

/// What a hook with this pattern and this filter would get.
///
/// # Errors
/// What cannot be read, as a sentence.
pub fn of_hook(
    (tenant, id): (TenantId, SubscriptionId),
    url: &str,
    pattern: Option<&str>,
    filter: Option<&str>,
) -> std::result::Result<Subscription, String> {
    let row = Row { pattern: pattern.map(str::to_owned), ..Row::of(Kind::Hook, tenant, id, url, filter) };
    row.parsed()
}

/// What a consumer on these terms would get.
///
/// # Errors
/// What cannot be read, as a sentence.
pub fn of_consumer(
    (tenant, id): (TenantId, SubscriptionId),
    terms: &Terms,
) -> std::result::Result<Subscription, String> {
    let row = Row {
        patterns: Some(terms.patterns.clone()),
        tags: Some(terms.tags.clone()),
        ttl_s: terms.ttl_s,
        ordering_key: terms.ordering_key.clone(),
        transformation: terms.transformation.clone(),
        ..Row::of(Kind::Consumer, tenant, id, &terms.url, terms.filter.as_deref())
    };
    row.parsed()
}

impl Row {
    fn of(kind: Kind, tenant: TenantId, id: SubscriptionId, url: &str, filter: Option<&str>) -> Self {
        Self {
            id,
            tenant_id: tenant,
            kind,
            url: url.to_owned(),
            pattern: None,
            filter: filter.map(str::to_owned),
            state: HookState::Active,
            expires_at: None,
            disabled_at: None,
            patterns: None,
            tags: None,
            ttl_s: None,
            ordering_key: None,
            transformation: None,
        }
    }

    fn parsed(self) -> std::result::Result<Subscription, String> {
        let consumer = Consumer {
            tags: self.tags.unwrap_or_default(),
            method: super::consumer::Method::default(),
            rate: None,
            ttl: self.ttl_s.map(|seconds| chrono::TimeDelta::seconds(i64::from(seconds))),
            ordering: self.ordering_key.as_deref().map(Place::parse).transpose()?,
            transformation: self.transformation.as_deref().map(Transformation::stored).transpose()?,
            transformed_since: None,
        };
        let patterns: std::result::Result<Box<[EventPattern]>, String> = match &self.patterns {
            Some(patterns) => &patterns[..],
            None => self.pattern.as_slice(),
        }
        .iter()
        .map(|text| text.parse().map_err(|error: super::PatternError| error.to_string()))
        .collect();
        Ok(Subscription {
            id: self.id,
            tenant: self.tenant_id,
            kind: self.kind,
            url: self.url.parse().map_err(|error: url::ParseError| error.to_string())?,
            patterns: patterns?,
            filter: self.filter.as_deref().map(Filter::stored).transpose()?,
            state: self.state,
            secrets: None,
            expires_at: self.expires_at,
            consumer: matches!(self.kind, Kind::Consumer | Kind::Inbox).then(|| Box::new(consumer)),
        })
    }
}

impl Subscription {
    /// Whether events of this type and origin are meant for it, whatever its state. Our own are only meant for whoever asks for
    /// them by name, and tests for nobody else.
    #[must_use]
    pub fn names(&self, event_type: &EventType, origin: Origin) -> bool {
        let named = self.patterns.iter().any(|pattern| pattern.matches(event_type));
        match origin {
            Origin::Posted => named || self.patterns.is_empty(),
            Origin::System => named,
            Origin::Test => false,
        }
    }

    /// The types that it names, when it names no patterns: for queries. `None` = it may want any.
    #[must_use]
    pub fn exact_types(&self) -> Option<Vec<&str>> {
        let exact: Option<Vec<&str>> =
            self.patterns.iter().map(|pattern| pattern.is_exact().map(EventType::as_str)).collect();
        exact.filter(|types| !types.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_events_go_to_whoever_names_them_and_tests_to_nobody() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let ids = (TenantId::new(now), SubscriptionId::new(now));
        let hook = |pattern| of_hook(ids, "https://a.example/", pattern, None).unwrap();
        let (posted, own) = ("order.created".parse().unwrap(), "hook.disabled".parse().unwrap());
        for (pattern, event_type, origin, expected) in [
            (None, &posted, Origin::Posted, true),
            (None, &own, Origin::System, false),
            (Some("hook.*"), &own, Origin::System, true),
            (Some("*"), &own, Origin::System, true),
            (Some("hook.*"), &posted, Origin::Posted, false),
            (None, &posted, Origin::Test, false),
            (Some("order.created"), &posted, Origin::Test, false),
        ] {
            assert_eq!(hook(pattern).names(event_type, origin), expected, "{pattern:?} {origin:?}");
        }
        assert_eq!(hook(None).exact_types(), None);
        assert_eq!(hook(Some("order.*")).exact_types(), None);
        assert_eq!(hook(Some("order.created")).exact_types(), Some(vec!["order.created"]));
    }
}
