//! Trying credentials where they are for: the access token is fetched, if they need one, and the service is asked.

use std::time::Duration;

use hookyard_domain::connection::{self, AccessToken, Draft, Wrong};
use hookyard_egress::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use url::Url;

use crate::context::Context;

/// How long each request of a trial may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries credentials; no connection of the database is held meanwhile. Returns the access token that was fetched.
///
/// # Errors
/// The member of the connection that keeps it from being let in: 401, 403, or nobody there.
pub(super) async fn of(context: &Context, draft: &Draft) -> Result<Option<AccessToken>, Wrong> {
    let wrong = |field: &'static str, reason: String| Wrong { field, reason };
    let now = context.clock.now();
    let mut token = None;
    if let Some((url, authorization, form)) = draft.credentials.token_request() {
        let headers = [
            ("authorization", authorization),
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
        ];
        let (status, body) = ask(context, Method::POST, url, &headers, form)
            .await
            .map_err(|reason| wrong("token_url", format!("cannot be asked: {reason}")))?;
        let fetched = connection::access_token(status, &body, now)
            .map_err(|reason| wrong("client_secret", format!("is not taken: {reason}")))?;
        token = Some(fetched);
    }
    let header = draft.credentials.header(token.as_ref().map(|token| token.token.as_str()));
    let headers: Vec<(&str, String)> =
        header.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let (status, _) = ask(context, Method::GET, draft.test_url.clone(), &headers, String::new())
        .await
        .map_err(|reason| wrong("url", format!("cannot be asked: {reason}")))?;
    if matches!(status, 401 | 403) {
        return Err(wrong("url", format!("does not let these credentials in: it answered {status}")));
    }
    Ok(token)
}

async fn ask(
    context: &Context,
    method: Method,
    url: Url,
    headers: &[(&str, String)],
    body: String,
) -> Result<(u16, Vec<u8>), String> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::from_str(value)) {
            map.insert(name, value);
        }
    }
    let request = Request { method, url, headers: map, body: body.into(), timeout: PATIENCE };
    let reply = context.egress.ask(request).await.map_err(|failure| failure.detail)?;
    Ok((reply.status, reply.excerpt))
}
