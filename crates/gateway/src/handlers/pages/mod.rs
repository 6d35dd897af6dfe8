//! Pages for people: who they are, what they may do with their account, and how they get in. The HTML is the portal's.

use actix_web::{HttpResponse, dev::ServiceResponse, http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS}};
use hookyard_chassis::api_error::ApiError;
use hookyard_portal as portal;

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
    if let Some(wait) = response.headers().get(actix_web::http::header::RETRY_AFTER) {
        shown.headers_mut().insert(actix_web::http::header::RETRY_AFTER, wait.clone());
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
