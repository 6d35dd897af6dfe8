//! Runs of actions: an action with its input, done once, whose end is told by a signed callback (contract §6).
//!
//! What an action is stands in [`action`]: it makes a plan of its input. What is within our own database (an event, a mail, a
//! task) is written in the transaction that ends the run or lets it wait, so that it happens once whoever is killed. What is
//! not, a request to somebody else, is noted before it is sent.

pub mod action;
pub mod claim;
mod end;
pub mod store;

use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    sql_types::SmallInt,
};

pub use end::{Effect, End, Ended, apply};

use crate::{
    id::ActionRunId,
    wire::{Json, Object},
};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SmallInt)]
pub enum RunState {
    /// Nobody has begun.
    Queued,
    /// Somebody has it, or it waits for something that it has begun.
    Running,
    /// It did what it should.
    Success,
    /// It did not.
    Error,
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Queued, Self::Running, Self::Success, Self::Error];

    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Success => "success",
            Self::Error => "error",
        }
    }

    /// How the database keeps it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Queued => 0,
            Self::Running => 1,
            Self::Success => 2,
            Self::Error => 3,
        }
    }
}

impl std::str::FromStr for RunState {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

impl FromSql<SmallInt, Pg> for RunState {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let code = <i16 as FromSql<SmallInt, Pg>>::from_sql(bytes)?;
        Self::ALL
            .into_iter()
            .find(|state| state.code() == code)
            .ok_or_else(|| format!("no state of an action run {code}").into())
    }
}

/// Whose fault it is that a run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCode {
    /// Of whoever asked: the input, or what it names.
    User,
    /// The connection is not let in.
    Authentication,
    /// Of whoever was asked.
    Partner,
    /// Ours.
    System,
    /// Whoever was asked has had too many requests.
    Throttled,
    /// What the input refers to cannot be had.
    Hydration,
}

impl FailureCode {
    /// The word for it on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Authentication => "authentication",
            Self::Partner => "partner",
            Self::System => "system",
            Self::Throttled => "throttled",
            Self::Hydration => "hydration",
        }
    }
}

/// Why a run failed, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub code: FailureCode,
    /// What happened, in some words.
    pub title: &'static str,
    /// In a sentence.
    pub detail: String,
}

impl Failure {
    /// A failure.
    #[must_use]
    pub fn new(code: FailureCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { code, title, detail: detail.into() }
    }
}

/// What came of a run.
pub type Outcome = Result<Vec<Json>, Failure>;

/// `results` and `errors`: one of them is empty.
fn told(outcome: &Outcome) -> (Json, Json) {
    match outcome {
        Ok(results) => (Json::Array(results.clone()), Json::Array(Vec::new())),
        Err(failure) => {
            let mut error = Object::new();
            error.insert("code", Json::from(failure.code.as_str()));
            error.insert("title", Json::from(failure.title));
            error.insert("detail", Json::from(failure.detail.as_str()));
            (Json::Array(Vec::new()), Json::Array(vec![Json::Object(error)]))
        }
    }
}

/// The body of a callback, in the order of contract §6.
fn callback(run: ActionRunId, outcome: &Outcome) -> Object {
    let (results, errors) = told(outcome);
    let mut data = Object::new();
    data.insert("type", Json::from("run"));
    data.insert("id", Json::from(run.to_string()));
    data.insert("status", Json::from(if outcome.is_ok() { "success" } else { "error" }));
    data.insert("results", results);
    data.insert("errors", errors);
    let mut body = Object::new();
    body.insert("data", Json::Object(data));
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::to_canonical;

    #[test]
    fn the_body_of_a_callback_is_that_of_source_3() {
        let run = ActionRunId::from_uuid(uuid::Uuid::from_u128(5));
        let body = |outcome: &Outcome| {
            String::from_utf8(to_canonical(&Json::Object(callback(run, outcome)))).unwrap()
        };
        assert_eq!(
            body(&Ok(vec![Json::Object(Object::new())])),
            r#"{"data":{"type":"run","id":"arun_00000000000000000000000005","status":"success","results":[{}],"errors":[]}}"#
        );
        let failure = Failure::new(
            FailureCode::User,
            "Record not found",
            "The specified record could not be found in the target app.",
        );
        assert_eq!(
            body(&Err(failure)),
            concat!(
                r#"{"data":{"type":"run","id":"arun_00000000000000000000000005","status":"error","results":[],"#,
                r#""errors":[{"code":"user","title":"Record not found","#,
                r#""detail":"The specified record could not be found in the target app."}]}}"#
            )
        );
    }
}
