//! Pages for people: who they are, what they may do with their account, and how they get in. The HTML is the portal's.

pub(crate) mod account;
pub(crate) mod join;
pub(crate) mod login;
pub(crate) mod oidc;
pub(crate) mod respond;

use actix_web::{
    HttpResponse,
    dev::ServiceResponse,
    http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
};
use hookyard_chassis::api_error::ApiError;
use hookyard_portal as portal;
use url::Url;

use crate::{access::visitor, context::Context};

/// An error of a page, as a page. Other answers stay as they are.
pub(crate) fn errors_as_pages(response: ServiceResponse, context: &Context) -> ServiceResponse {
    let Some(error) = response.response().error() else { return response };
    let (status, code) = match error.as_error::<ApiError>() {
        Some(error) => (error.status(), error.code()),
        None => (error.as_response_error().status_code(), ""),
    };
    let request = response.request().clone();
    let visitor = visitor::without_session(&request, context);
    let page = portal::error::error(visitor.locale, status.as_u16(), code);
    let mut shown = visitor.show(context, status, page);
    if let Some(wait) = response.headers().get(RETRY_AFTER) {
        shown.headers_mut().insert(RETRY_AFTER, wait.clone());
    }
    ServiceResponse::new(request, shown)
}

/// Show the style sheet of the pages
#[utoipa::path(
    get,
    path = "/login/assets/portal.css",
    operation_id = "show_portal_style",
    tag = "Pages",
    responses((status = 200, description = "The style sheet.", body = String, content_type = "text/css"))
)]
pub(crate) async fn style() -> HttpResponse {
    asset("text/css; charset=utf-8", portal::STYLE)
}

/// Show the script of the pages
#[utoipa::path(
    get,
    path = "/login/assets/portal.js",
    operation_id = "show_portal_script",
    tag = "Pages",
    responses((status = 200, description = "The script.", body = String, content_type = "text/javascript"))
)]
pub(crate) async fn script() -> HttpResponse {
    asset("text/javascript; charset=utf-8", portal::SCRIPT)
}

fn asset(content_type: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CACHE_CONTROL, "public, max-age=300"))
        .body(text)
}

/// Where to go when nothing else is wanted.
const HOME: &str = "/account";

/// The longest of such paths: an authorization request with a `redirect_uri` and a `state` that are as long as they may be.
const MAX_RETURN: usize = 8_000;

/// Where somebody wants to go afterwards, if it is a path of ours: nothing that a browser would read as another site, such
/// as `//evil.example` or `/\evil.example`.
pub(crate) fn return_to(wanted: &str) -> &str {
    let is_plain =
        wanted.len() <= MAX_RETURN && !wanted.chars().any(|c| c.is_control() || c == '\\' || c == ' ');
    let is_path = wanted.starts_with('/') && !wanted.starts_with("//");
    // What browsers make of it: the same origin, and a path that does not begin with two slashes after all.
    let ours = Url::parse("https://ours.invalid").ok();
    let joined = ours.as_ref().and_then(|ours| ours.join(wanted).ok());
    let stays = joined.is_some_and(|url| {
        url.scheme() == "https" && url.host_str() == Some("ours.invalid") && !url.path().starts_with("//")
    });
    if is_plain && is_path && stays { wanted } else { HOME }
}

/// The same as an encoded query string; nothing for home.
fn return_query(to: &str) -> String {
    if to == HOME {
        return String::new();
    }
    url::form_urlencoded::Serializer::new(String::new()).append_pair("return_to", to).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_ours_are_gone_to() {
        for to in ["/account", "/oauth/authorize?client_id=1&state=a%2Fb", "/invitations/inv_x", "/a//b"] {
            assert_eq!(return_to(to), to);
        }
        let long = format!("/{}", "a".repeat(MAX_RETURN));
        for to in [
            "",
            "account",
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example",
            "/ /evil.example",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/\n/evil.example",
            "/.//evil.example",
            "/..//evil.example",
            &long,
        ] {
            assert_eq!(return_to(to), HOME, "{to}");
        }
        assert_eq!(return_query("/account"), "");
        assert_eq!(return_query("/a?b=c&d"), "return_to=%2Fa%3Fb%3Dc%26d");
    }
}
