//! Tasks: no more than their tenants' budgets allow, and the executors are rung.

use std::time::Duration;

use actix_web::web::Data;
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error, Result as DomainResult,
    db::Conn,
    id::TenantId,
    task::{AgentType, NewTask, budget, store},
};

use super::Item;
use crate::{context::Context, problem, tasks};

impl Item for NewTask {
    const PLURAL: &'static str = "tasks";
    const PACE: Duration = Duration::ZERO;

    fn refused(conn: &mut Conn, items: &[&Self], now: DateTime<Utc>) -> DomainResult<Vec<Option<ApiError>>> {
        let tenants: Vec<TenantId> = items.iter().map(|task| task.tenant).collect();
        let spent = budget::spent(conn, &tenants, now)?;
        let refused = |task: &&Self| {
            let reason = spent.get(&task.tenant)?;
            Some(problem::of(Error::BudgetExceeded { reason: reason.clone() }))
        };
        Ok(items.iter().map(refused).collect())
    }

    fn put(conn: &mut Conn, context: &Context, items: &[&Self], now: DateTime<Utc>) -> DomainResult<()> {
        store::put(conn, &context.settings.tasks, &context.vault, items, now)
    }

    fn ring(context: &Data<Context>, stored: &[Self]) {
        let mut queued: Vec<(TenantId, AgentType)> = Vec::new();
        for task in stored {
            let waits = (task.tenant, task.agent_type);
            if !queued.contains(&waits) {
                queued.push(waits);
            }
        }
        tasks::queued(context, &queued);
    }
}
