//! `/v1/automation/usage` and `/v1/automation/budget`: what was used, and what may be.

use actix_web::{HttpResponse, web::Data};
use chrono::{Months, NaiveDate};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    audit::{Action, Entry, ObjectKind, ObjectRef},
    db::Conn,
    task::{
        Usage,
        budget::{self, Budget, Used},
    },
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::task_view::UsageView;
use crate::{
    access::Caller,
    body::{JsonBody, SMALL},
    context::Context,
    handlers::{
        audited,
        fields::{Fields, invalid},
    },
    paging::{Query, invalid_parameter},
    problem,
};

/// Months that are shown when nothing is said.
const MONTHS: u32 = 12;

/// What was used in a month, of one model by one type of agent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsageRow)]
pub(crate) struct Row {
    /// The month, UTC.
    #[schema(example = "2025-01")]
    month: String,
    /// The model, by the name that tasks call it.
    #[schema(example = "claude-sonnet")]
    model: String,
    /// The type of agent.
    #[schema(example = "general")]
    agent_type: &'static str,
    /// Runs that ended.
    #[schema(example = 120)]
    runs: i64,
    /// What they used.
    #[serde(flatten)]
    usage: UsageView,
}

/// What was used.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsageReport)]
pub(crate) struct Report {
    /// By month, model and type of agent, the latest month first.
    usage: Vec<Row>,
    /// All of it together.
    total: UsageView,
}

fn month(text: &str) -> Option<NaiveDate> {
    (text.len() == 7).then(|| NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok()).flatten()
}

/// Show what was used
///
/// By month, model and type of agent.
#[utoipa::path(
    get,
    path = "/v1/automation/usage",
    operation_id = "show_usage",
    tag = "Automation",
    params(
        ("from" = Option<String>, Query, description = "The first month, such as `2025-01`; eleven months before `to` by default."),
        ("to" = Option<String>, Query, description = "The last month; the present one by default.")
    ),
    responses((status = 200, description = "What was used.", body = Report))
)]
pub(crate) async fn usage(
    context: Data<Context>,
    caller: Caller,
    mut query: Query,
) -> Result<HttpResponse, ApiError> {
    let mut read = |name: &'static str| match query.text(name) {
        None => Ok(None),
        Some(text) => {
            month(&text).map(Some).ok_or_else(|| invalid_parameter(name, "must be a month, such as 2025-01"))
        }
    };
    let (from, to) = (read("from")?, read("to")?);
    query.finish()?;
    let to = to.unwrap_or_else(|| budget::month(context.clock.now()));
    let from = from.or_else(|| to.checked_sub_months(Months::new(MONTHS - 1))).unwrap_or(to);
    let tenant = caller.tenant();
    let used =
        context.db.once(move |conn| budget::used(conn, tenant, (from, to))).await.map_err(problem::of)?;
    let total = used.iter().fold(Usage::default(), |sum, used| sum.plus(of(used)));
    let usage = used
        .iter()
        .map(|used| Row {
            month: used.month.format("%Y-%m").to_string(),
            model: used.model.clone(),
            agent_type: used.agent_type.as_str(),
            runs: used.runs,
            usage: of(used).into(),
        })
        .collect();
    Ok(HttpResponse::Ok().json(Report { usage, total: total.into() }))
}

fn of(used: &Used) -> Usage {
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    Usage {
        input_tokens: unsigned(used.input_tokens),
        output_tokens: unsigned(used.output_tokens),
        cost_micros: unsigned(used.cost_micros),
    }
}

/// What a tenant may use in a month, and has used in this one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskBudget)]
pub(crate) struct View {
    /// Tokens, read and written; `null` = no limit.
    #[schema(example = 1_000_000)]
    monthly_tokens: Option<i64>,
    /// US dollars; `null` = no limit.
    #[schema(example = 20.0)]
    monthly_cost: Option<f64>,
    /// The month that it is, UTC.
    #[schema(example = "2025-01")]
    month: String,
    /// What was used in it.
    used: UsageView,
}

fn view(
    conn: &mut Conn,
    caller: &Caller,
    now: chrono::DateTime<chrono::Utc>,
) -> hookyard_domain::Result<View> {
    let (tenant, month) = (caller.tenant(), budget::month(now));
    let found = budget::find(conn, tenant)?;
    let used = budget::used(conn, tenant, (month, month))?;
    Ok(View {
        monthly_tokens: found.monthly_tokens,
        monthly_cost: found.monthly_cost_micros.map(|micros| micros as f64 / 1e6),
        month: month.format("%Y-%m").to_string(),
        used: used.iter().fold(Usage::default(), |sum, used| sum.plus(of(used))).into(),
    })
}

/// Show the budget
///
/// What the tenant may use in a month. When it is used up, new tasks are refused with 402 `BUDGET_EXCEEDED` and running ones
/// fail with `budget_exceeded`.
#[utoipa::path(
    get,
    path = "/v1/automation/budget",
    operation_id = "show_budget",
    tag = "Automation",
    responses((status = 200, description = "The budget.", body = View))
)]
pub(crate) async fn show(
    context: Data<Context>,
    caller: Caller,
    query: Query,
) -> Result<HttpResponse, ApiError> {
    query.finish()?;
    let now = context.clock.now();
    let view = context.db.run(move |conn| view(conn, &caller, now)).await.map_err(problem::of)?;
    Ok(HttpResponse::Ok().json(view))
}

/// Set the budget
///
/// Both limits at once; one that is not given is taken away.
#[utoipa::path(
    put,
    path = "/v1/automation/budget",
    operation_id = "set_budget",
    tag = "Automation",
    request_body(content = crate::openapi::BudgetRequest, example = json!({"monthly_tokens": 1_000_000, "monthly_cost": 20.0})),
    responses((status = 200, description = "The budget as it is now.", body = View)),
    extensions(("x-errors" = json!(["INVALID_FIELD", "INVALID_BODY"])))
)]
pub(crate) async fn set(
    context: Data<Context>,
    caller: Caller,
    body: JsonBody<SMALL>,
) -> Result<HttpResponse, ApiError> {
    let fields = Fields::parse(&body)?;
    let monthly_tokens = fields
        .get("monthly_tokens")
        .map(|value| {
            let tokens = value.as_integer().filter(|tokens| *tokens >= 0);
            tokens.ok_or_else(|| invalid("monthly_tokens", "must be a whole number of at least 0"))
        })
        .transpose()?;
    let monthly_cost_micros = fields
        .get("monthly_cost")
        .map(|value| {
            let dollars = value.as_f64().filter(|dollars| (0.0..=1e9).contains(dollars));
            let told = || invalid("monthly_cost", "must be US dollars from 0 to 1,000,000,000");
            dollars.map(|dollars| (dollars * 1e6).round() as i64).ok_or_else(told)
        })
        .transpose()?;
    let budget = Budget { monthly_tokens, monthly_cost_micros };
    let now = context.clock.now();
    let work = move |conn: &mut Conn| {
        let tenant = caller.tenant();
        let before = budget::find(conn, tenant)?;
        budget::set(conn, tenant, budget, now)?;
        let shown = view(conn, &caller, now)?;
        if before != budget {
            let told = |budget: Budget| json!({"monthly_tokens": budget.monthly_tokens, "monthly_cost_micros": budget.monthly_cost_micros});
            let entry = Entry::new(tenant, Action::BudgetSet, ObjectRef::new(ObjectKind::Budget, "monthly"))
                .before(told(before))
                .after(told(budget));
            audited::record(conn, &caller, &entry, now)?;
        }
        Ok(shown)
    };
    Ok(HttpResponse::Ok().json(context.db.run(work).await.map_err(problem::of)?))
}
