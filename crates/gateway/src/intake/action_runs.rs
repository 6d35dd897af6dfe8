//! Action runs: their connections are there, the endpoints of their callbacks are found or made, and the runners are rung.

use std::time::Duration;

use actix_web::web::Data;
use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Result as DomainResult,
    action_run::store::{self, NewRun},
    connection,
    db::Conn,
    subscription::{
        Kind,
        endpoint::{self, Named},
    },
    trace::TraceContext,
};
use hookyard_messaging::{Message, Queue};
use url::Url;

use super::Item;
use crate::context::Context;

/// A run that was asked for and is to be stored.
#[derive(Clone, Debug)]
pub(crate) struct AskedRun {
    /// The run; its endpoint is not known yet.
    pub(crate) run: NewRun,
    /// Where its callback goes.
    pub(crate) callback: Option<Url>,
    /// What is answered when its connection is not there.
    pub(crate) unknown_connection: ApiError,
}

impl Item for AskedRun {
    const PLURAL: &'static str = "action runs";
    /// Everything behind a group goes by groups, too.
    const PACE: Duration = Duration::from_millis(2);

    fn refused(conn: &mut Conn, items: &[&Self], _now: DateTime<Utc>) -> DomainResult<Vec<Option<ApiError>>> {
        let asked = |item: &&Self| Some((item.run.tenant, item.run.connection?));
        let named: Vec<_> = items.iter().filter_map(asked).collect();
        let there = connection::store::which_exist(conn, &named)?;
        let refused = |item: &&Self| {
            let missing = asked(item).is_some_and(|named| !there.contains(&named));
            missing.then(|| item.unknown_connection.clone())
        };
        Ok(items.iter().map(refused).collect())
    }

    fn put(conn: &mut Conn, context: &Context, items: &[&Self], now: DateTime<Utc>) -> DomainResult<()> {
        let named: Vec<Named<'_>> = items
            .iter()
            .filter_map(|item| {
                let url = item.callback.as_ref()?;
                Some(Named { kind: Kind::Callback, tenant: item.run.tenant, url, secret: None })
            })
            .collect();
        let endpoints = if named.is_empty() {
            Vec::new()
        } else {
            endpoint::of_tasks(conn, &context.vault, &named, now)?
        };
        let mut endpoints = endpoints.into_iter();
        let runs: Vec<NewRun> = items
            .iter()
            .map(|item| {
                let endpoint = item.callback.as_ref().and_then(|_| endpoints.next());
                NewRun { endpoint, ..item.run.clone() }
            })
            .collect();
        store::insert(conn, &runs, now)
    }

    /// A lost ring is found by the runners' polling.
    fn ring(context: &Data<Context>, _stored: &[Self]) {
        let bus = context.bus.clone();
        context.afterwards.spawn(async move {
            let rung = bus.publish(Queue::TaskQueued, &Message::TaskQueued {}, &TraceContext::fresh()).await;
            if let Err(error) = rung {
                tracing::debug!(%error, "action runs were not rung; runners look by themselves");
            }
        });
    }
}
