//! `/v2/actions`: what can be run, and with which input.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::action_run::action::{ACTIONS, Action};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{access::Caller, context::Context, paging::Query};

/// An action.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Action)]
pub(crate) struct View {
    /// Always `action`.
    #[serde(rename = "type")]
    #[schema(example = "action")]
    kind: &'static str,
    /// What a run names it by.
    #[schema(example = "event.emit")]
    id: &'static str,
    /// The same.
    #[schema(example = "event.emit")]
    key: &'static str,
    /// What it is called.
    #[schema(example = "Emit an event")]
    title: &'static str,
    /// What it does.
    description: &'static str,
    /// Whether it can be run here: sending mail needs a mail server.
    available: bool,
    /// Its input, as JSON Schema.
    #[schema(value_type = Object)]
    input_schema: Value,
}

impl View {
    fn new(action: &Action, mail: bool) -> Self {
        Self {
            kind: "action",
            id: action.key,
            key: action.key,
            title: action.title,
            description: action.description,
            available: mail || action.key != "email.send",
            input_schema: (action.fields)(),
        }
    }
}

/// Every action.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActionList)]
pub(crate) struct Listed {
    /// The actions, by key.
    data: Vec<View>,
}

/// One action.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ActionShown)]
pub(crate) struct Shown {
    data: View,
}

/// List the actions
///
/// What `POST /v2/action-runs` can run, each with its input as JSON Schema.
#[utoipa::path(
    get,
    path = "/v2/actions",
    operation_id = "list_actions",
    tag = "Action runs",
    responses((status = 200, description = "The actions.", body = Listed))
)]
pub(crate) async fn list(
    context: Data<Context>,
    _caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let mail = context.settings.mail.is_on();
    Ok(HttpResponse::Ok()
        .json(Listed { data: ACTIONS.iter().map(|action| View::new(action, mail)).collect() }))
}

/// Show an action
#[utoipa::path(
    get,
    path = "/v2/actions/{key}",
    operation_id = "show_action",
    tag = "Action runs",
    params(("key" = String, Path, description = "The action's key.", example = "event.emit")),
    responses((status = 200, description = "The action.", body = Shown))
)]
pub(crate) async fn show(
    context: Data<Context>,
    _caller: Caller,
    key: Path<String>,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let action = Action::find(&key).ok_or_else(|| ApiError::not_found("action not found"))?;
    Ok(HttpResponse::Ok().json(Shown { data: View::new(action, context.settings.mail.is_on()) }))
}
