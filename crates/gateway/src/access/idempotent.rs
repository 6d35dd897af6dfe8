//! `Idempotency-Key` for routes that create: the work and its answer are stored in one transaction, so the same
//! request a second time is answered with what was answered the first time (contract §1).
//!
//! Posted events have a lane of their own in `ingest`, with the same promises.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    body::BoxBody,
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HeaderName, HeaderValue},
    },
};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    Error,
    db::Conn,
    idempotency::{self, Earlier, Key, MAX_KEY_CHARS, PATIENCE_S},
};
use serde::Serialize;

use super::Caller;
use crate::{context::Context, problem};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Requests with keys that may hold a connection at the same time. They wait for each other while they hold it, and
/// must leave some to everybody else.
pub(crate) const AT_ONCE: usize = 3;

/// A JSON answer that can be stored and given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    status: StatusCode,
    body: Vec<u8>,
    replayed: bool,
    /// What is stored to be given again, where that is not the body.
    kept: Option<Vec<u8>>,
}

impl Reply {
    /// A JSON answer.
    pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(body).map_err(ApiError::internal)?;
        Ok(Self::bytes(status, body))
    }

    /// An answer that is JSON already.
    pub(crate) fn bytes(status: StatusCode, body: Vec<u8>) -> Self {
        Self { status, body, replayed: false, kept: None }
    }

    /// The same answer, which is shown once: `again` is stored and given to whoever repeats the request, so that no secret
    /// is kept.
    pub(crate) fn once(self, again: &impl Serialize) -> Result<Self, ApiError> {
        let kept = serde_json::to_vec(again).map_err(ApiError::internal)?;
        Ok(Self { kept: Some(kept), ..self })
    }

    /// The answer with more members, which are not kept with the key: what is shown once must not lie in the database.
    ///
    /// # Errors
    /// 500 when it is not JSON.
    pub(crate) fn with(self, add: impl FnOnce(&mut serde_json::Value)) -> Result<Self, ApiError> {
        let mut body = serde_json::from_slice(&self.body).map_err(ApiError::internal)?;
        add(&mut body);
        Ok(Self { body: body.to_string().into_bytes(), ..self })
    }

    /// What was answered before; 422 when that was to another request.
    pub(crate) fn again(earlier: Earlier) -> Result<Self, ApiError> {
        match earlier {
            Earlier::Same { status, body } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
                Ok(Self { status, body, replayed: true, kept: None })
            }
            Earlier::Different => {
                let message =
                    "this Idempotency-Key was used for another request; use a new key for a new request";
                Err(ApiError::unprocessable("IDEMPOTENCY_MISMATCH", message).field("Idempotency-Key"))
            }
        }
    }
}

impl Responder for Reply {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        if self.replayed {
            response.insert_header((REPLAYED, HeaderValue::from_static("true")));
        }
        response.body(self.body)
    }
}

/// Why the work did not come to an answer; the transaction is rolled back and the key is free again.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The domain refused.
    Domain(Error),
    /// The handler refused.
    Api(ApiError),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// The key of a request, if it has one. Another path, query or body makes it another request.
///
/// # Errors
/// 400 `INVALID_IDEMPOTENCY_KEY`.
pub(crate) fn key(request: &HttpRequest, caller: &Caller, body: &[u8]) -> Result<Option<Key>, ApiError> {
    let mut sent = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(value) = sent.next() else { return Ok(None) };
    let wrong = |reason: String| {
        ApiError::bad_request("INVALID_IDEMPOTENCY_KEY", format!("the Idempotency-Key {reason}"))
            .field("Idempotency-Key")
            .reason(reason)
    };
    if sent.next().is_some() {
        return Err(wrong("is given more than once".to_owned()));
    }
    let Ok(text) = value.to_str() else {
        return Err(wrong(format!("must have 1 to {MAX_KEY_CHARS} printable ASCII characters")));
    };
    let uri = request.uri();
    let mut hashed = Vec::with_capacity(uri.path().len() + body.len() + 2);
    for part in [uri.path().as_bytes(), uri.query().unwrap_or_default().as_bytes(), body] {
        hashed.extend_from_slice(part);
        hashed.push(b'\n');
    }
    Key::new(caller.tenant(), caller.route, text, &hashed).map(Some).map_err(|error| wrong(error.to_string()))
}

/// 409: the first request with this key has not ended within the time that is waited for it.
pub(crate) fn in_flight() -> ApiError {
    let message = "a request with this Idempotency-Key is still running, ask again later";
    ApiError::conflict("IDEMPOTENCY_IN_FLIGHT", message).retry_after(Duration::from_secs(1))
}

/// Does the work in one transaction: with a key only if no other request has done it, else its answer is given again.
///
/// `work` answers with 2xx, or refuses with an error, which leaves no trace.
///
/// # Errors
/// What `work` refuses with; 422 `IDEMPOTENCY_MISMATCH`; 409 `IDEMPOTENCY_IN_FLIGHT`; 503 when the database is away.
pub(crate) async fn idempotent<F>(context: &Context, key: Option<Key>, work: F) -> Result<Reply, ApiError>
where
    F: FnOnce(&mut Conn) -> Result<Reply, Refusal> + Send + 'static,
{
    let now = context.clock.now();
    let keyed = key.is_some();
    let _permit = if keyed {
        let patience = Duration::from_secs(u64::from(PATIENCE_S));
        let permit = tokio::time::timeout(patience, context.keyed.acquire()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(problem::overloaded("too many requests with an Idempotency-Key are running"));
        };
        Some(permit)
    } else {
        None
    };
    let transaction = move |conn: &mut Conn| {
        let Some(key) = key else { return work(conn) };
        // A placeholder holds the key; the answer is known when the work is done.
        let claims = [(key, 0, Vec::new())];
        if let Some(earlier) = idempotency::claim(conn, &claims, now)?.pop().flatten() {
            return Reply::again(earlier).map_err(Refusal::Api);
        }
        let reply = work(conn)?;
        let [(key, _, _)] = &claims;
        let kept = reply.kept.as_ref().unwrap_or(&reply.body);
        idempotency::overwrite(conn, key, reply.status.as_u16(), kept, now)?;
        Ok(reply)
    };
    // An error of ours has to roll back as the domain's do, and does not fit into one of them.
    let refused = Arc::new(OnceLock::new());
    let outcome = {
        let refused = Arc::clone(&refused);
        context.db.run(move |conn| {
            transaction(conn).map_err(|refusal| match refusal {
                Refusal::Domain(error) => error,
                Refusal::Api(error) => {
                    Error::Conflict { reason: refused.get_or_init(|| error).message().to_owned() }
                }
            })
        })
    }
    .await;
    outcome.map_err(|error| match (refused.get(), error) {
        (Some(refused), _) => refused.clone(),
        (None, Error::Locked) if keyed => in_flight(),
        (None, error) => problem::of(error),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix_web::test::TestRequest;
    use chrono::DateTime;
    use hookyard_domain::{
        credential::{Credential, Kind, Limits, Scopes},
        id::{CredentialId, TenantId},
    };

    use super::*;
    use crate::access::Principal;

    fn caller() -> Caller {
        let credential = Credential {
            id: CredentialId::new(DateTime::UNIX_EPOCH),
            tenant: TenantId::from_uuid(uuid::Uuid::from_u128(1)),
            kind: Kind::ApiKey,
            name: "test".to_owned(),
            scopes: Scopes::all(),
            event_types: None,
            work: hookyard_domain::credential::Work::default(),
            limits: Limits::default(),
            expires_at: None,
        };
        let principal = Principal::Credential(Arc::new(credential));
        Caller { principal, peer: None, route: "POST /x/{id}", request_id: None }
    }

    #[test]
    fn the_request_behind_a_key_is_its_path_its_query_and_its_body() {
        let hash = |uri: &str, body: &str| {
            let request =
                TestRequest::with_uri(uri).insert_header(("idempotency-key", "k")).to_http_request();
            key(&request, &caller(), body.as_bytes()).unwrap().unwrap().request_hash
        };
        assert_eq!(hash("/x/1", "{}"), hash("/x/1", "{}"));
        for other in [hash("/x/2", "{}"), hash("/x/1?a=1", "{}"), hash("/x/1", "{ }")] {
            assert_ne!(hash("/x/1", "{}"), other);
        }
    }

    #[test]
    fn keys_have_1_to_255_characters_and_come_once() {
        let code = |keys: &[&str]| {
            let mut request = TestRequest::default();
            for key in keys {
                request = request.append_header(("idempotency-key", *key));
            }
            key(&request.to_http_request(), &caller(), b"")
                .map(|key| key.is_some())
                .map_err(|error| error.code())
        };
        assert_eq!(code(&[]), Ok(false));
        assert_eq!(code(&[&"k".repeat(255)]), Ok(true));
        for bad in [&[&*"k".repeat(256)][..], &[""], &["  "], &["é"], &["a", "a"]] {
            assert_eq!(code(bad), Err("INVALID_IDEMPOTENCY_KEY"), "{bad:?}");
        }
    }
}
