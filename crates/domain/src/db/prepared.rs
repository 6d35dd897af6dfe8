//! Statements that each connection prepares once.
//!
//! Diesel has a `sql_query` parsed and planned anew each time, because its text could be anything. For statements as short as
//! ours that costs Postgres several times what they do. What is run for every event or delivery has a fixed text (one per
//! partition) and is written with [`prepared`] instead; what is run now and then need not be.

use std::{borrow::Cow, marker::PhantomData};

use diesel::{
    QueryResult, RunQueryDsl,
    pg::{Pg, PgConnection},
    query_builder::{AstPass, Query, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{HasSqlType, Untyped},
};

/// Runs queries whose conditions may be absent (`$2 IS NULL OR …`) with plans made for their values: a plan for all values
/// could use no index for them. For what people ask now and then.
///
/// # Errors
/// What `work` fails with; when the database is away.
pub fn planned_for_values<T>(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> crate::Result<T>,
) -> crate::Result<T> {
    plan(conn, "force_custom_plan")?;
    let result = work(conn);
    // After an error within a transaction nothing more is taken, and the rollback takes the setting back, too.
    let back = plan(conn, "force_generic_plan");
    let value = result?;
    back?;
    Ok(value)
}

fn plan(conn: &mut PgConnection, mode: &'static str) -> crate::Result<()> {
    prepared(format!("SELECT set_config('plan_cache_mode', '{mode}', false)")).execute(conn)?;
    Ok(())
}

/// A statement whose text is one of few. Parameters are `$1`, `$2`, … in the order of [`Prepared::bind`].
pub fn prepared(sql: impl Into<Cow<'static, str>>) -> Prepared<()> {
    Prepared { sql: sql.into(), parameters: () }
}

/// A statement with its parameters.
#[derive(Clone, Debug)]
#[must_use]
pub struct Prepared<P> {
    sql: Cow<'static, str>,
    parameters: P,
}

/// A parameter behind others.
#[derive(Clone, Debug)]
pub struct Bound<P, V, T> {
    before: P,
    value: V,
    sql_type: PhantomData<T>,
}

impl<P> Prepared<P> {
    /// Adds the next parameter, a value of the SQL type `T`.
    pub fn bind<T, V>(self, value: V) -> Prepared<Bound<P, V, T>> {
        Prepared {
            sql: self.sql,
            parameters: Bound { before: self.parameters, value, sql_type: PhantomData },
        }
    }
}

impl<P: QueryFragment<Pg>> QueryFragment<Pg> for Prepared<P> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(&self.sql);
        self.parameters.walk_ast(out)
    }
}

impl<P: QueryFragment<Pg>, V: ToSql<T, Pg>, T> QueryFragment<Pg> for Bound<P, V, T>
where
    Pg: HasSqlType<T>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.before.walk_ast(out.reborrow())?;
        out.push_bind_param_value_only(&self.value)
    }
}

/// Found again by its text and the types of its parameters.
impl<P> QueryId for Prepared<P> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<P> Query for Prepared<P> {
    type SqlType = Untyped;
}

impl<Conn, P> RunQueryDsl<Conn> for Prepared<P> {}
