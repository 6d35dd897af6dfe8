//! `/v2`: action runs and what can be run (contract §6).

pub(crate) mod actions;
pub(crate) mod asked;
pub(crate) mod authentications;
pub(crate) mod authentications_change;
pub(crate) mod run_view;
pub(crate) mod runs;
mod trial;

use hookyard_chassis::api_error::ApiError;

/// 400 with a pointer to the field; `reason` continues its name: "is missing".
fn refused(code: &'static str, field: String, reason: &str) -> ApiError {
    let name = field.rsplit('.').next().unwrap_or_default().to_owned();
    ApiError::bad_request(code, format!("{name} {reason}")).field(field)
}
