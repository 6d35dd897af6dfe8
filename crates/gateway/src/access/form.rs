//! Forms that pages of ours send back. Whoever takes one as an argument gets its fields only after it was seen that it comes
//! from a page of this site (what the browser says) that was shown to this very browser, in this very session (the hidden
//! field `csrf`, see [`super::visitor`]): no handler can forget it.

use std::collections::HashMap;

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::CONTENT_TYPE, web::Data};
use futures_util::{StreamExt as _, future::LocalBoxFuture};
use hookyard_chassis::api_error::ApiError;

use super::visitor::{self, Visitor};
use crate::context::Context;

/// The largest form: 16 KiB.
pub(crate) const MAX_FORM_BYTES: usize = 16 << 10;

/// More fields than any form of ours has.
const MAX_FIELDS: usize = 64;

/// The argument of a handler that takes a form (`application/x-www-form-urlencoded`).
///
/// Errors: 403 `CROSS_SITE_REQUEST`, 403 `CSRF_TOKEN_INVALID`, 413, 415, 408, 400 when a field is given twice.
#[derive(Debug)]
pub(crate) struct Form {
    /// The browser that sent it.
    pub(crate) visitor: Visitor,
    fields: HashMap<String, String>,
}

impl Form {
    /// A field; empty when it was not sent.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// A field without white space around it.
    pub(crate) fn trimmed(&self, name: &str) -> &str {
        self.text(name).trim()
    }
}

impl FromRequest for Form {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let Some(context) = request.app_data::<Data<Context>>().cloned() else {
                return Err(ApiError::internal(anyhow::anyhow!("a route without its context")));
            };
            read(&request, payload, &context).await
        })
    }
}

async fn read(request: &HttpRequest, payload: Payload, context: &Context) -> Result<Form, ApiError> {
    if context.browsers.is_cross_site(request.headers()) {
        let message = "this form was sent by a page of another site";
        return Err(ApiError::forbidden("CROSS_SITE_REQUEST", message));
    }
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(ApiError::unsupported_media_type("application/x-www-form-urlencoded"));
    }
    let patience = context.settings.http.body_timeout();
    let body = tokio::time::timeout(patience, collect(payload)).await.map_err(|_elapsed| {
        ApiError::new(
            actix_web::http::StatusCode::REQUEST_TIMEOUT,
            "REQUEST_TIMEOUT",
            "the form did not arrive in time",
        )
    })??;
    let fields = parse(&body)?;
    let visitor = visitor::of(request, context).await?;
    if !visitor.is_own_form(&context.vault, fields.get("csrf").map_or("", String::as_str)) {
        let message = "this form has expired, or cookies are switched off; go back and load the page again";
        return Err(ApiError::forbidden("CSRF_TOKEN_INVALID", message).field("csrf"));
    }
    Ok(Form { visitor, fields })
}

async fn collect(mut payload: Payload) -> Result<Vec<u8>, ApiError> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_broken| {
            ApiError::bad_request("INCOMPLETE_BODY", "the form ended before it was complete")
        })?;
        if body.len() + chunk.len() > MAX_FORM_BYTES {
            return Err(ApiError::payload_too_large(MAX_FORM_BYTES));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Fields by name; what Postgres has no place for is taken out of them.
fn parse(body: &[u8]) -> Result<HashMap<String, String>, ApiError> {
    let mut fields = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(body) {
        let twice = fields.insert(name.into_owned(), value.replace('\0', "")).is_some();
        if twice || fields.len() > MAX_FIELDS {
            return Err(ApiError::bad_request("INVALID_BODY", "a field of the form is given more than once"));
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_given_once() {
        let fields = parse(b"email=a%40b.example&password=a+b%00c&csrf=").unwrap();
        assert_eq!((fields["email"].as_str(), fields["password"].as_str()), ("a@b.example", "a bc"));
        assert_eq!(parse(b"a=1&a=2").unwrap_err().code(), "INVALID_BODY");
        let many = |count: usize| (0..count).map(|n| format!("f{n}=1&")).collect::<String>();
        assert!(parse(many(MAX_FIELDS).as_bytes()).is_ok());
        assert!(parse(many(MAX_FIELDS + 1).as_bytes()).is_err());
    }
}
