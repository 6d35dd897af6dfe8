//! `/v1/automation/worker`: what external workers say and hear (contract §5).
//!
//! A worker takes runs (`claim`), says how it goes (`going`) and how it ends (`ending`), and shows with each report the lease
//! token that it was given with the run. A token that is not the run's is stale (409 `STALE_LEASE`); one whose time is over,
//! or whose run has ended, comes too late (410 `RUN_ENDED`); a run of another tenant is not there (404).

mod applicant;
pub(crate) mod claim;
pub(crate) mod ending;
pub(crate) mod going;
pub(crate) mod hints;
pub(crate) mod report;

use actix_web::http::StatusCode;
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    task::{Refused, RunState},
};

use crate::problem;

/// The largest body that holds a chunk of output, whose bytes may be escaped.
pub(crate) const CHUNK: usize = 512 << 10;

/// The largest body that holds a result or a checkpoint, whose bytes may be escaped.
pub(crate) const LARGE: usize = 2 << 20;

fn stale() -> ApiError {
    ApiError::conflict(
        "STALE_LEASE",
        "the lease token is not the one under which the run is held now; stop the work",
    )
}

/// What a worker is told whose report was not taken.
fn of_refused(refused: &Refused) -> ApiError {
    match refused {
        Refused::Unknown => not_found(),
        Refused::Stale => stale(),
        Refused::Expired => gone("the lease is over, or the time of the attempt; stop the work"),
        Refused::Ended(state) => ended(*state),
        Refused::Field { field, reason } => problem::invalid("INVALID_FIELD", field, reason),
        Refused::Answer(bad) => problem::invalid("INVALID_FIELD", "answer", &bad.to_string()),
        Refused::Conflict(reason) => ApiError::conflict("CONFLICT", reason.clone()),
    }
}

fn gone(message: &str) -> ApiError {
    ApiError::new(StatusCode::GONE, "RUN_ENDED", message)
}

fn ended(state: RunState) -> ApiError {
    gone(&format!("the run has ended, it is {state}; stop the work"))
}

fn not_found() -> ApiError {
    problem::of(Error::NotFound { what: "run" })
}

/// Seconds from now, as a client counts them down; at least 0.
fn seconds_until(at: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    (at - now).num_milliseconds().max(0) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_status() {
        for (refused, expected) in [
            (Refused::Unknown, (404, "NOT_FOUND")),
            (Refused::Stale, (409, "STALE_LEASE")),
            (Refused::Conflict("no".to_owned()), (409, "CONFLICT")),
            (Refused::Expired, (410, "RUN_ENDED")),
            (Refused::Ended(RunState::Cancelled), (410, "RUN_ENDED")),
            (Refused::Field { field: "percent", reason: "must not fall".to_owned() }, (422, "INVALID_FIELD")),
        ] {
            let error = of_refused(&refused);
            assert_eq!((error.status().as_u16(), error.code()), expected);
        }
    }
}
