//! Showing a connection's credentials in a request: to its origin alone, with an access token that is kept while it is good.

use std::time::Duration;

use hookyard_domain::{
    Result,
    action_run::{Failure, FailureCode, action::HttpPlan, store::HeldRun},
    connection::{
        self, AccessToken,
        store::{self, Opened, Seen},
    },
    id::ConnectionId,
};
use hookyard_egress::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use super::Actions;

/// How long a token endpoint may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection whose credentials are in a request, as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    id: ConnectionId,
    seen: Seen,
}

impl Actions {
    /// Adds the credentials of the run's connection to its request; a failure ends the run.
    pub(super) async fn let_in(
        &self,
        held: &HeldRun,
        plan: &mut HttpPlan,
    ) -> Result<std::result::Result<Option<Shown>, Failure>> {
        let Some(id) = held.connection_id else { return Ok(Ok(None)) };
        let (vault, tenant, now) = (self.context.vault.clone(), held.tenant_id, self.context.clock.now());
        let opened = self.context.db.once(move |conn| store::open(conn, &vault, tenant, id, now)).await?;
        let refused =
            |title, detail: String| Ok(Err(Failure::new(FailureCode::Authentication, title, detail)));
        let Some(opened) = opened else {
            return refused("Connection not found", "the connection of this run was deleted".to_owned());
        };
        if !connection::is_within(&opened.origin, &plan.url) {
            let detail = format!("the credentials of this connection are for {} alone", opened.origin);
            return Ok(Err(Failure::new(FailureCode::User, "Another origin", detail)));
        }
        let token = match self.token(held, id, &opened).await? {
            Ok(token) => token,
            Err(reason) => return refused("Access token refused", reason),
        };
        if let Some((name, value)) = opened.credentials.header(token.as_deref()) {
            plan.headers.retain(|(there, _)| *there != name);
            plan.headers.push((name, value));
        }
        Ok(Ok(Some(Shown { id, seen: opened.seen() })))
    }

    /// The access token, if the connection needs one: the one that is kept, or a new one, which is kept.
    async fn token(
        &self,
        held: &HeldRun,
        id: ConnectionId,
        opened: &Opened,
    ) -> Result<std::result::Result<Option<String>, String>> {
        if let Some(kept) = &opened.token {
            return Ok(Ok(Some(kept.token.clone())));
        }
        let Some((url, authorization, form)) = opened.credentials.token_request() else {
            return Ok(Ok(None));
        };
        let mut headers = HeaderMap::with_capacity(2);
        for (name, value) in
            [("authorization", authorization.as_str()), ("content-type", "application/x-www-form-urlencoded")]
        {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let request = Request { method: Method::POST, url, headers, body: form.into(), timeout: PATIENCE };
        let reply = match self.egress.ask(request).await {
            Ok(reply) => reply,
            Err(failure) => {
                return Ok(Err(format!("the token endpoint cannot be asked: {}", failure.detail)));
            }
        };
        let fetched = connection::access_token(reply.status, &reply.excerpt, self.context.clock.now());
        let token = match fetched {
            Ok(token) => token,
            Err(reason) => return Ok(Err(reason)),
        };
        self.keep(held, Shown { id, seen: opened.seen() }, Some(token.clone())).await?;
        Ok(Ok(Some(token.token)))
    }

    /// Keeps an access token; `None` after it was refused, so that the next run fetches another.
    pub(super) async fn keep(
        &self,
        held: &HeldRun,
        Shown { id, seen }: Shown,
        token: Option<AccessToken>,
    ) -> Result<()> {
        let (vault, tenant) = (self.context.vault.clone(), held.tenant_id);
        self.context
            .db
            .once(move |conn| store::keep_token(conn, &vault, (tenant, id), seen, token.as_ref()))
            .await
    }
}
