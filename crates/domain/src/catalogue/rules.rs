//! What is taken of each type, in memory: which types are archived, and the compiled schemas of those whose payloads are checked.
//!
//! Only such types are here, so that an event of any other costs a look-up by tenant. Refreshed by what changed (see
//! `subscription::directory`), and like credentials never used when older than [`MAX_AGE`]: whoever waits for
//! [`known_everywhere`](crate::credential::directory::known_everywhere) after the commit of a change knows that it counts
//! wherever events come in (docs/decisions/0039).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Instant,
};

use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    sql_types::{BigInt, Binary, Bool, Nullable, SmallInt, Text, Uuid},
};

use super::{
    Validation,
    schema::{Compiled, Violation},
};
use crate::{
    Result,
    credential::directory::MAX_AGE,
    db::{Db, prepared::prepared, snapshot::HORIZON},
    event::EventType,
    id::TenantId,
    wire::Json,
};

/// The rules of all tenants. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    inner: Arc<RwLock<Inner>>,
    /// Held from the reading of rows until they are taken, so that the older of two readings is not taken last.
    looking: Arc<Mutex<()>>,
    /// Held by whoever brings them up to date, so that all who need it ask once.
    refreshing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Transactions below this one had ended when we last looked.
    seen: i64,
    /// When the last refresh began.
    as_of: Option<Instant>,
    by_tenant: HashMap<TenantId, Arc<TenantRules>>,
}

/// The rules of one tenant.
#[derive(Clone, Debug, Default)]
pub struct TenantRules(HashMap<EventType, Arc<Rule>>);

#[derive(Debug)]
struct Rule {
    archived: bool,
    validation: Validation,
    schema: Option<Vec<u8>>,
    /// Compiled when it is first needed: a gateway that starts would else compile those of all tenants.
    compiled: OnceLock<Option<Compiled>>,
}

/// Why an event is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its type is archived.
    Archived,
    /// Its payload breaks the schema of its type, in these places.
    Schema(Vec<Violation>),
}

impl Refused {
    /// What is wrong, continuing the name of the member that is at fault.
    #[must_use]
    pub fn reason(&self, event_type: &EventType) -> String {
        match self {
            Self::Archived => format!("`{event_type}` is archived and takes no new events"),
            Self::Schema(violations) => {
                let first = violations.first().map(ToString::to_string).unwrap_or_default();
                format!("does not match the schema of `{event_type}`: {first}")
            }
        }
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    horizon: i64,
    #[diesel(sql_type = Nullable<Uuid>)]
    tenant_id: Option<TenantId>,
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<EventType>,
    #[diesel(sql_type = Nullable<Bool>)]
    archived: Option<bool>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    validation: Option<Validation>,
    #[diesel(sql_type = Nullable<Binary>)]
    schema: Option<Vec<u8>>,
}

/// As in `subscription::directory`: horizon and rows are of the same instant. Rows without a rule are read to be forgotten.
fn refresh_statement() -> String {
    format!(
        "SELECT h.horizon, t.tenant_id, t.name, t.archived, t.validation, \
     CASE WHEN t.validation <> 0 THEN t.schema END AS schema \
     FROM {HORIZON} \
     LEFT JOIN event_types t ON t.changed_in >= $1 AND ($1 = 0 OR t.changed_in < h.ceiling) \
     AND ($1 > 0 OR t.archived OR t.validation <> 0)"
    )
}

impl Rules {
    /// The rules of a tenant as they count now; `None` when it has none. Costs no query while they are fresh.
    ///
    /// # Errors
    /// When they are too old and the database is away.
    pub async fn known(&self, db: &Db, tenant: TenantId) -> Result<Option<Arc<TenantRules>>> {
        if !self.is_fresh() {
            let _one_asks = self.refreshing.lock().await;
            if !self.is_fresh() {
                self.refresh_with(db).await?;
            }
        }
        Ok(self.read().by_tenant.get(&tenant).cloned())
    }

    /// Brings the rules up to date.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn refresh_with(&self, db: &Db) -> Result<()> {
        let (rules, as_of) = (self.clone(), Instant::now());
        db.once(move |conn| rules.refresh(conn, as_of)).await
    }

    /// Brings the rules up to what was committed at `as_of`, the instant at which the caller began to ask.
    ///
    /// # Errors
    /// When the database is away; the rules then stay as they were.
    pub fn refresh(&self, conn: &mut PgConnection, as_of: Instant) -> Result<()> {
        let _one_at_a_time = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = self.read().seen;
        let rows: Vec<Row> = prepared(refresh_statement()).bind::<BigInt, _>(seen).load(conn)?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            inner.seen = row.horizon;
            inner.take(row);
        }
        inner.as_of = inner.as_of.max(Some(as_of));
        Ok(())
    }

    /// How many types have a rule.
    #[must_use]
    pub fn count(&self) -> usize {
        self.read().by_tenant.values().map(|rules| rules.0.len()).sum()
    }

    fn is_fresh(&self) -> bool {
        self.read().as_of.is_some_and(|as_of| as_of.elapsed() <= MAX_AGE)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, row: Row) {
        let Some((tenant, name)) = row.tenant_id.zip(row.name) else { return };
        let archived = row.archived.unwrap_or(false);
        if archived || row.schema.is_some() {
            let rule = Rule {
                archived,
                validation: row.validation.unwrap_or_default(),
                schema: row.schema,
                compiled: OnceLock::new(),
            };
            let rules = self.by_tenant.entry(tenant).or_default();
            Arc::make_mut(rules).0.insert(name, Arc::new(rule));
            return;
        }
        if let Some(rules) = self.by_tenant.get_mut(&tenant) {
            Arc::make_mut(rules).0.remove(&name);
            if rules.0.is_empty() {
                self.by_tenant.remove(&tenant);
            }
        }
    }
}

impl TenantRules {
    /// Whether a posted event is taken. Returns what its payload breaks although it is taken.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn judge(
        &self,
        event_type: &EventType,
        payload: &Json,
    ) -> std::result::Result<Vec<Violation>, Refused> {
        let Some(rule) = self.0.get(event_type) else { return Ok(Vec::new()) };
        if rule.archived {
            return Err(Refused::Archived);
        }
        let Some(compiled) = rule.compiled(event_type) else { return Ok(Vec::new()) };
        let violations = compiled.violations(payload);
        match rule.validation {
            Validation::Reject if !violations.is_empty() => Err(Refused::Schema(violations)),
            Validation::Off | Validation::Warn | Validation::Reject => Ok(violations),
        }
    }
}

impl Rule {
    fn compiled(&self, event_type: &EventType) -> Option<&Compiled> {
        let schema = self.schema.as_ref()?;
        let compile = || match Compiled::stored(schema) {
            Ok(compiled) => Some(compiled),
            Err(reason) => {
                tracing::error!(event_type = %event_type, %reason, "a stored schema cannot be used; payloads of its type are not checked");
                None
            }
        };
        self.compiled.get_or_init(compile).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    fn row(name: &str, archived: bool, validation: Validation, schema: Option<&str>) -> Row {
        Row {
            horizon: 1,
            tenant_id: Some(TenantId::from_uuid(uuid::Uuid::nil())),
            name: Some(name.parse().unwrap()),
            archived: Some(archived),
            validation: Some(validation),
            schema: schema.map(|text| text.as_bytes().to_vec()),
        }
    }

    #[test]
    fn rules_decide_what_is_taken() {
        let schema = Some(r#"{"required":["id"]}"#);
        let mut inner = Inner::default();
        inner.take(row("a", true, Validation::Off, None));
        inner.take(row("w", false, Validation::Warn, schema));
        inner.take(row("r", false, Validation::Reject, schema));
        inner.take(row("d", false, Validation::Reject, Some(r#"{"type":5}"#)));
        let tenant = TenantId::from_uuid(uuid::Uuid::nil());
        let rules = Arc::clone(&inner.by_tenant[&tenant]);
        let judged = |name: &str, payload: &str| {
            rules
                .judge(&name.parse().unwrap(), &parse(payload.as_bytes()).unwrap())
                .map(|violations| violations.len())
                .map_err(|refused| refused.reason(&name.parse().unwrap()))
        };
        let misses = r#"does not match the schema of `r`: "id" is a required property"#;
        for (name, payload, expected) in [
            ("a", "{}", Err("`a` is archived and takes no new events".to_owned())),
            ("w", "{}", Ok(1)),
            ("w", r#"{"id":1}"#, Ok(0)),
            ("r", "{}", Err(misses.to_owned())),
            ("r", r#"{"id":1}"#, Ok(0)),
            // A schema that a version before has taken and this one does not holds nobody up.
            ("d", "{}", Ok(0)),
            ("other", "{}", Ok(0)),
        ] {
            assert_eq!(judged(name, payload), expected, "{name} {payload}");
        }
    }

    #[test]
    fn what_has_no_rule_any_more_is_forgotten() {
        let mut inner = Inner::default();
        inner.take(row("a", true, Validation::Off, None));
        inner.take(row("b", true, Validation::Off, None));
        inner.take(row("a", false, Validation::Off, None));
        assert_eq!(inner.by_tenant.values().map(|rules| rules.0.len()).sum::<usize>(), 1);
        inner.take(row("b", false, Validation::Warn, None));
        assert!(inner.by_tenant.is_empty());
    }
}
