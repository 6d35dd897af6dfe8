//! A browser at a page of ours: its language, the cookie by which its forms are known again, and its session, if it has one.
//!
//! The pages are served to everybody ([`super::Access::Page`]), so nothing here is a permission.

use std::net::IpAddr;

use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest, HttpResponse, HttpResponseBuilder,
    dev::Payload,
    http::{
        StatusCode,
        header::{
            ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, LOCATION, REFERRER_POLICY,
            USER_AGENT, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    web::Data,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::LocalBoxFuture;
use hookyard_chassis::{api_error::ApiError, request_id::RequestId};
use hookyard_domain::{
    audit::{Actor, ActorKind},
    person::{
        Locale,
        session::{self, Session},
    },
    vault::Vault,
};
use hookyard_portal::{Markup, POLICY};
use ring::hmac;

use super::{browser, peer};
use crate::context::Context;

/// The cookie by which a browser's forms are known again: random, of no other meaning.
pub(crate) const VISIT: &str = "visit";

/// The purpose of the key that signs the tokens of forms.
const CSRF: &str = "csrf tokens of forms";

/// The argument of handlers of pages.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    /// In which language to speak.
    pub(crate) locale: Locale,
    /// Whether the language was asked for in this request.
    pub(crate) locale_asked: bool,
    /// The live session of the browser.
    pub(crate) session: Option<Session>,
    /// The session's token, be it live or not.
    pub(crate) session_token: Option<String>,
    /// The address of the client, if it is known.
    pub(crate) peer: Option<IpAddr>,
    /// What the browser calls itself.
    pub(crate) user_agent: Option<String>,
    visit: String,
    is_new: bool,
    request_id: Option<RequestId>,
}

impl Visitor {
    /// The token for the forms of a page that this browser is shown now.
    pub(crate) fn csrf(&self, vault: &Vault) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&key(&vault.derive(CSRF)), &self.bound()))
    }

    /// Whether a form with this token was shown to this very browser, in this very session.
    pub(super) fn is_own_form(&self, vault: &Vault, shown: &str) -> bool {
        let Ok(shown) = URL_SAFE_NO_PAD.decode(shown) else { return false };
        !self.is_new
            && vault
                .derive_all(CSRF)
                .iter()
                .any(|derived| hmac::verify(&key(derived), &self.bound(), &shown).is_ok())
    }

    /// What the token is bound to: neither part holds a line feed.
    fn bound(&self) -> Vec<u8> {
        format!("{}\n{}", self.visit, self.session_token.as_deref().unwrap_or_default()).into_bytes()
    }

    /// A text that is known to come from this browser when it comes back within its time; for the steps of a log-in.
    pub(crate) fn visit(&self) -> &str {
        &self.visit
    }

    /// Who is said in the audit log to have done it: the person, or nobody who claims to be `name`.
    pub(crate) fn actor(&self, name: &str) -> Actor {
        let (kind, id, name) = match &self.session {
            Some(session) => (ActorKind::Person, Some(session.user_id.uuid()), session.email.as_str()),
            None => (ActorKind::Nobody, None, name),
        };
        Actor {
            kind,
            id,
            name: name.to_owned(),
            address: self.peer,
            request_id: self.request_id.as_ref().map(ToString::to_string),
        }
    }

    /// A page, with all that keeps it from being misused.
    pub(crate) fn show(&self, context: &Context, status: StatusCode, page: Markup) -> HttpResponse {
        self.show_with_policy(context, status, page, POLICY)
    }

    /// The same with a `Content-Security-Policy` of its own.
    pub(crate) fn show_with_policy(
        &self,
        context: &Context,
        status: StatusCode,
        page: Markup,
        policy: &str,
    ) -> HttpResponse {
        let mut response = HttpResponse::build(status);
        response.content_type("text/html; charset=utf-8").insert_header((CONTENT_SECURITY_POLICY, policy));
        self.answer(context, response, page.into_string())
    }

    /// On to another page (303: with GET). `to` is a path of ours, or was checked otherwise.
    pub(crate) fn redirect(&self, context: &Context, to: &str) -> HttpResponse {
        let mut response = HttpResponse::SeeOther();
        response.insert_header((LOCATION, to));
        self.answer(context, response, String::new())
    }

    /// Not `no-referrer`: browsers would then hide the origin of forms, too.
    fn answer(&self, context: &Context, mut response: HttpResponseBuilder, body: String) -> HttpResponse {
        response
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((X_FRAME_OPTIONS, "DENY"))
            .insert_header((REFERRER_POLICY, "same-origin"))
            .insert_header((CACHE_CONTROL, "no-store"));
        if self.is_new {
            response.cookie(context.browsers.cookie(VISIT, self.visit.clone()));
        }
        if self.locale_asked {
            response.cookie(context.browsers.cookie(LANGUAGE, self.locale.as_str().to_owned()));
        }
        response.body(body)
    }
}

fn key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

impl FromRequest for Visitor {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let Some(context) = request.app_data::<Data<Context>>().cloned() else {
                return Err(ApiError::internal(anyhow::anyhow!("a route without its context")));
            };
            of(&request, &context).await
        })
    }
}

/// The browser that makes a request.
pub(crate) async fn of(request: &HttpRequest, context: &Context) -> Result<Visitor, ApiError> {
    let mut visitor = without_session(request, context);
    if let Some(token) = &visitor.session_token {
        visitor.session = context.authenticator.session(token, context.clock.now()).await?;
    }
    if let Some(session) = &visitor.session {
        note_seen(context, session, context.clock.now());
        if !visitor.locale_asked {
            visitor.locale = Locale::of_stored(&session.locale);
        }
    }
    Ok(visitor)
}

/// How often the last use of a session is written.
const SEEN_EVERY: TimeDelta = TimeDelta::seconds(60);

/// Notes behind the answer that a person is still there.
pub(super) fn note_seen(context: &Context, session: &Session, now: DateTime<Utc>) {
    if now - session.last_seen_at < SEEN_EVERY {
        return;
    }
    let (db, id) = (context.db.clone(), session.id);
    context.afterwards.spawn(async move {
        if let Err(error) = db.once(move |conn| session::touch(conn, id, now)).await {
            tracing::debug!(error = error.chain(), "a session's last use was not written");
        }
    });
}

/// The same as far as it can be told without the database.
pub(crate) fn without_session(request: &HttpRequest, context: &Context) -> Visitor {
    let cookie = |name| request.cookie(&context.browsers.name(name)).map(|cookie| cookie.value().to_owned());
    let asked = asked_locale(request.query_string());
    let known = cookie(VISIT).filter(|visit| is_visit(visit));
    Visitor {
        locale: asked
            .or_else(|| cookie(LANGUAGE).as_deref().and_then(Locale::parse))
            .unwrap_or_else(|| accepted_locale(request.headers())),
        locale_asked: asked.is_some(),
        session: None,
        session_token: cookie(browser::SESSION).filter(|token| !token.is_empty()),
        peer: peer::of(request, &context.settings.http.trusted_proxies),
        user_agent: request
            .headers()
            .get(USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .map(|text| text.chars().take(200).collect()),
        is_new: known.is_none(),
        visit: known.unwrap_or_else(|| URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())),
        request_id: request.extensions().get::<RequestId>().cloned(),
    }
}

/// The cookie with the language that was asked for with `?lang=`.
pub(crate) const LANGUAGE: &str = "language";

/// Whether a cookie looks like one of ours.
fn is_visit(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// `?lang=fr`
fn asked_locale(query: &str) -> Option<Locale> {
    query.split('&').find_map(|pair| pair.strip_prefix("lang=")).and_then(Locale::parse)
}

/// The first language of ours by its weight in `Accept-Language` (RFC 9110 §12.5.4); English when there is none.
pub(crate) fn accepted_locale(headers: &HeaderMap) -> Locale {
    let text = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let weighed = text.split(',').take(20).filter_map(|range| {
        let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
        let weight = match parameters.trim().strip_prefix("q=") {
            Some(weight) => weight.parse::<f32>().ok()?,
            None => 1.0,
        };
        let language = tag.trim().split('-').next().unwrap_or_default().to_ascii_lowercase();
        Locale::parse(&language).filter(|_| weight > 0.0).map(|locale| (locale, weight))
    });
    let best = weighed.fold(None, |best: Option<(Locale, f32)>, (locale, weight)| match best {
        Some((_, most)) if most >= weight => best,
        _ => Some((locale, weight)),
    });
    best.map_or(Locale::En, |(locale, _)| locale)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn the_language_is_the_one_that_is_wanted_most() {
        for (text, expected) in [
            ("", Locale::En),
            ("fr", Locale::Fr),
            ("fr-CA,fr;q=0.9,en;q=0.8", Locale::Fr),
            ("en-GB,en;q=0.9,fr;q=0.8", Locale::En),
            ("de,fr;q=0.3,en;q=0.2", Locale::Fr),
            ("fr;q=0,en;q=0.1", Locale::En),
            ("de", Locale::En),
            ("fr;q=x", Locale::En),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static(text));
            assert_eq!(accepted_locale(&headers), expected, "{text}");
        }
        assert_eq!(asked_locale("a=1&lang=fr"), Some(Locale::Fr));
        assert_eq!(asked_locale("lang=de"), None);
    }
}
