//! Requests that a browser makes for a person who is logged in: the session's cookie, and what keeps other sites from using
//! it.
//!
//! Every request that changes something has to show, besides the cookie that any site can make the browser send, a token
//! that only our own pages can know (OWASP, Cross-Site Request Forgery Prevention), and must not come from another site
//! by what the browser itself says (`Sec-Fetch-Site`, `Origin`). How people log in is not decided here.

use actix_web::{
    cookie::{Cookie, SameSite, time::Duration as CookieDuration},
    http::{
        Method,
        header::{HOST, HeaderMap, HeaderName, ORIGIN},
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use subtle::ConstantTimeEq as _;
use url::Url;

/// The header in which our pages show the token.
pub(crate) const X_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How long the browser keeps the cookie, in days; the session itself decides.
const COOKIE_DAYS: i64 = 30;

/// How this gateway names its cookies, and where browsers find it.
#[derive(Clone, Debug)]
pub(crate) struct Browsers {
    /// Where people find us, from the settings.
    public_url: Option<Url>,
}

impl Browsers {
    pub(crate) const fn new(public_url: Option<Url>) -> Self {
        Self { public_url }
    }

    /// Whether browsers reach us over TLS. Then the cookie is for this host alone, and never sent in the clear
    /// (RFC 6265bis §4.1.3.2, the `__Host-` prefix).
    pub(crate) fn is_secure(&self) -> bool {
        self.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
    }

    /// The full name of a cookie of ours.
    pub(crate) fn name(&self, name: &str) -> String {
        if self.is_secure() { format!("__Host-hookyard-{name}") } else { format!("hookyard-{name}") }
    }

    /// A cookie of ours, for this browser session.
    pub(crate) fn cookie(&self, name: &str, value: String) -> Cookie<'static> {
        Cookie::build(self.name(name), value)
            .path("/")
            .http_only(true)
            .secure(self.is_secure())
            // Lax, not Strict: whoever comes back from an OpenID Connect provider, or from Zapier to consent, is logged in.
            .same_site(SameSite::Lax)
            .finish()
    }

    /// The cookie of a session.
    pub(crate) fn session_cookie(&self, token: &str) -> Cookie<'static> {
        let mut cookie = self.cookie(SESSION, token.to_owned());
        cookie.set_max_age(CookieDuration::days(COOKIE_DAYS));
        cookie
    }

    /// What makes a browser forget a cookie.
    pub(crate) fn forget(&self, name: &str) -> Cookie<'static> {
        let mut cookie = self.cookie(name, String::new());
        cookie.set_max_age(CookieDuration::ZERO);
        cookie
    }

    /// Whether a request was made by a page of another site, as far as the browser says.
    pub(crate) fn is_cross_site(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        if text(SEC_FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return true;
        }
        let Some(origin) = text(ORIGIN) else { return false };
        let ours = match &self.public_url {
            Some(url) => url.origin().ascii_serialization() == origin,
            None => Url::parse(origin).is_ok_and(|origin| text(HOST) == Some(authority(&origin))),
        };
        !ours
    }
}

/// The name of the session's cookie.
pub(crate) const SESSION: &str = "session";

/// Host and port as they stand in the URL.
fn authority(url: &Url) -> &str {
    &url[url::Position::BeforeHost..url::Position::AfterPort]
}

/// The token that pages of this session show. It is made of the session's, so that nothing has to be kept.
pub(crate) fn csrf_token(session_token: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, session_token.as_bytes());
    URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"hookyard csrf token"))
}

/// Whether this is the token of the session. Compares in constant time.
pub(crate) fn is_csrf_token(shown: &str, session_token: &str) -> bool {
    csrf_token(session_token).as_bytes().ct_eq(shown.as_bytes()).into()
}

/// Whether a method changes nothing (RFC 9110 §9.2.1).
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn browsers(public_url: Option<&str>) -> Browsers {
        Browsers::new(public_url.map(|url| Url::parse(url).unwrap()))
    }

    #[test]
    fn cookies_are_for_this_host_alone_where_there_is_tls() {
        let cookie = browsers(Some("https://hooks.example.com")).session_cookie("t");
        assert_eq!(
            cookie.to_string(),
            "__Host-hookyard-session=t; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=2592000"
        );
        let cookie = browsers(None).session_cookie("t");
        assert_eq!(cookie.to_string(), "hookyard-session=t; HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000");
    }

    #[test]
    fn other_sites_are_told_from_ours() {
        let named = browsers(Some("https://hooks.example.com"));
        let unnamed = browsers(None);
        for (ours, headers, cross) in [
            (&named, &[][..], false),
            (&named, &[("sec-fetch-site", "same-origin")], false),
            (&named, &[("sec-fetch-site", "none")], false),
            (&named, &[("sec-fetch-site", "same-site")], true),
            (&named, &[("sec-fetch-site", "cross-site")], true),
            (&named, &[("origin", "https://hooks.example.com")], false),
            (&named, &[("origin", "https://hooks.example.com:8443")], true),
            (&named, &[("origin", "http://hooks.example.com")], true),
            (&named, &[("origin", "https://evil.example")], true),
            (&named, &[("origin", "null")], true),
            (&named, &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")], true),
            (&unnamed, &[("host", "localhost:8080"), ("origin", "http://localhost:8080")], false),
            (&unnamed, &[("host", "localhost:8080"), ("origin", "http://localhost:8081")], true),
            (&unnamed, &[("host", "localhost"), ("origin", "http://localhost")], false),
            (&unnamed, &[("origin", "http://localhost")], true),
            (&unnamed, &[("host", "localhost"), ("origin", "null")], true),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(ours.is_cross_site(&map), cross, "{headers:?}");
        }
    }

    #[test]
    fn a_token_belongs_to_one_session() {
        let token = csrf_token("one");
        assert!(is_csrf_token(&token, "one") && !is_csrf_token(&token, "two") && !is_csrf_token("", "one"));
    }
}
