//! The bodies of errors, ours and actix's, as a caller gets them.

use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::web::{Bytes, Json, Path, Query};
use actix_web::{App, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::request_id::RequestIds;

const LIMIT_BYTES: usize = 64;

#[derive(Deserialize)]
struct Body {
    #[expect(dead_code, reason = "only its type matters here")]
    name: String,
}

#[derive(Deserialize)]
struct Paging {
    #[expect(dead_code, reason = "only its type matters here")]
    limit: u32,
}

async fn json_body(_body: Json<Body>) -> HttpResponse {
    HttpResponse::Ok().finish()
}

async fn raw_body(_body: Bytes) -> HttpResponse {
    HttpResponse::Ok().finish()
}

async fn path_and_query(_path: Path<u32>, _query: Query<Paging>) -> HttpResponse {
    HttpResponse::Ok().finish()
}

async fn refuse() -> Result<HttpResponse, ApiError> {
    Err(ApiError::unprocessable("INVALID_WEBHOOK_URL", "the url is not acceptable")
        .field("data.url")
        .reason("has to be https"))
}

async fn fail() -> Result<HttpResponse, ApiError> {
    Err(ApiError::internal(anyhow::anyhow!("password of the database is hunter2")))
}

async fn panics() -> HttpResponse {
    panic!("on purpose")
}

async fn exhausted() -> Result<HttpResponse, ApiError> {
    Err(ApiError::too_many_requests(
        "RATE_LIMITED",
        "60 requests per minute are allowed",
        Duration::from_millis(1),
    ))
}

async fn own_error() -> HttpResponse {
    HttpResponse::BadRequest().body("rendered by the handler")
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource("/json")
                .route(web::post().to(json_body))
                .default_service(method_not_allowed("POST")),
        )
        .route("/raw", web::post().to(raw_body))
        .route("/path/{number}", web::get().to(path_and_query))
        .route("/refuse", web::get().to(refuse))
        .route("/fail", web::get().to(fail))
        .route("/panics", web::get().to(panics))
        .route("/exhausted", web::get().to(exhausted))
        .route("/own", web::get().to(own_error))
        .service(
            web::scope("/blocked")
                .wrap(actix_web::middleware::from_fn(block))
                .route("", web::get().to(refuse)),
        )
        .service(web::scope("/v2").route("/refuse", web::get().to(refuse)));
}

/// A middleware that answers instead of the handler, as one for credentials does.
async fn block(
    _request: actix_web::dev::ServiceRequest,
    _next: actix_web::middleware::Next<impl actix_web::body::MessageBody>,
) -> Result<actix_web::dev::ServiceResponse, actix_web::Error> {
    Err(ApiError::unauthorized("no credential was sent").into())
}

/// Status, headers and body of an answer to a request with the id `r-1`.
async fn answer(request: TestRequest) -> (u16, HeaderMap, String) {
    let app =
        init_service(App::new().configure(configure(LIMIT_BYTES)).configure(routes).wrap(RequestIds)).await;
    let request = request.insert_header(("x-request-id", "r-1")).to_request();
    let response = match actix_web::test::try_call_service(&app, request).await {
        Ok(response) => response.into_parts().1.map_into_boxed_body(),
        // As the dispatcher does it.
        Err(error) => error.error_response(),
    };
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn error(request: TestRequest) -> (u16, Value) {
    let (status, headers, body) = answer(request).await;
    assert_eq!(headers.get("content-type").unwrap(), "application/json", "{body}");
    assert_eq!(headers.get("x-request-id").unwrap(), "r-1", "{body}");
    (status, serde_json::from_str(&body).unwrap())
}

fn native(error: &str, code: &str) -> Value {
    json!({"error": error, "error_code": code, "request_id": "r-1"})
}

fn post_json(path: &str, body: impl Into<Bytes>) -> TestRequest {
    TestRequest::post().uri(path).insert_header(("content-type", "application/json")).set_payload(body)
}

#[actix_web::test]
async fn a_refusal_has_the_shape_of_its_path() {
    assert_eq!(
        error(TestRequest::get().uri("/refuse")).await,
        (
            422,
            json!({
                "error": "the url is not acceptable",
                "error_code": "INVALID_WEBHOOK_URL",
                "details": {"field": "data.url", "reason": "has to be https"},
                "request_id": "r-1",
            })
        ),
    );
    assert_eq!(
        error(TestRequest::get().uri("/v2/refuse")).await,
        (
            422,
            json!({"errors": [{
                "status": "422",
                "code": "INVALID_WEBHOOK_URL",
                "title": "Unprocessable Entity",
                "detail": "the url is not acceptable: has to be https",
                "source": {"pointer": "/data/url"},
            }]})
        ),
    );
    assert_eq!(
        error(TestRequest::get().uri("/v2/nothing")).await.1["errors"][0]["code"],
        "NOT_FOUND",
        "also where no handler was reached"
    );
}

#[actix_web::test]
async fn what_actix_refuses_is_json() {
    let not_found = native("there is nothing at this path", "NOT_FOUND");
    assert_eq!(error(TestRequest::get().uri("/nothing")).await, (404, not_found));
    let media_type = native("the Content-Type has to be application/json", "UNSUPPORTED_MEDIA_TYPE");
    assert_eq!(error(TestRequest::post().uri("/json").set_payload("{}")).await, (415, media_type));
    for (request, status, code) in [
        (post_json("/json", "{"), 400, "INVALID_JSON"),
        (post_json("/json", &b"\xff\xfe"[..]), 400, "INVALID_JSON"),
        (post_json("/json", r#"{"name": 1}"#), 400, "INVALID_BODY"),
        (TestRequest::get().uri("/path/x?limit=1"), 400, "INVALID_PATH"),
        (TestRequest::get().uri("/path/1?limit=x"), 400, "INVALID_QUERY"),
        (TestRequest::get().uri("/path/1"), 400, "INVALID_QUERY"),
    ] {
        let (found, body) = error(request).await;
        assert_eq!((found, &body["error_code"]), (status, &json!(code)), "{body}");
        assert!(body["details"]["reason"].is_string(), "{body}");
    }
}

#[actix_web::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let (status, headers, body) = answer(TestRequest::get().uri("/json")).await;
    assert_eq!((status, headers.get("allow").unwrap().to_str().unwrap()), (405, "POST"));
    let expected = native("this method is not allowed here, allowed: POST", "METHOD_NOT_ALLOWED");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    // A resource that was not given a default service is not mute either.
    let resource_only =
        App::new().service(web::resource("/r").route(web::post().to(raw_body))).wrap(RequestIds);
    let app = init_service(resource_only).await;
    let response = call_service(&app, TestRequest::get().uri("/r").to_request()).await;
    assert_eq!(response.status(), 405);
    let body: Value = serde_json::from_slice(&read_body(response).await).unwrap();
    assert_eq!(body["error_code"], "METHOD_NOT_ALLOWED");
}

#[actix_web::test]
async fn a_body_may_have_the_limit_and_not_one_byte_more() {
    let padded = |bytes: usize| format!(r#"{{"name":"{}"}}"#, "x".repeat(bytes - r#"{"name":""}"#.len()));
    for path in ["/json", "/raw"] {
        assert_eq!(answer(post_json(path, padded(LIMIT_BYTES))).await.0, 200, "{path}");
        let (status, body) = error(post_json(path, padded(LIMIT_BYTES + 1))).await;
        assert_eq!((status, &body["error_code"]), (413, &json!("PAYLOAD_TOO_LARGE")), "{path}");
    }
}

#[actix_web::test]
async fn a_failure_of_ours_is_not_explained() {
    let message = "something went wrong on our side, the request id finds it in our logs";
    assert_eq!(error(TestRequest::get().uri("/fail")).await, (500, native(message, "INTERNAL")));
    assert_eq!(error(TestRequest::get().uri("/panics")).await, (500, native(message, "INTERNAL")));
}

#[actix_web::test]
async fn an_error_of_a_middleware_is_complete() {
    let (status, headers, body) = answer(TestRequest::get().uri("/blocked")).await;
    assert_eq!((status, headers.get("www-authenticate").unwrap().to_str().unwrap()), (401, "Bearer"));
    assert_eq!(headers.get("x-request-id").unwrap(), "r-1");
    let expected = native("no credential was sent", "UNAUTHORIZED");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
}

#[actix_web::test]
async fn a_response_that_a_handler_rendered_is_left_alone() {
    let (status, headers, body) = answer(TestRequest::get().uri("/own")).await;
    assert_eq!((status, body.as_str()), (400, "rendered by the handler"));
    assert_eq!(headers.get("x-request-id").unwrap(), "r-1");
}

#[actix_web::test]
async fn an_invalid_request_id_is_replaced() {
    let app = init_service(App::new().configure(routes).wrap(RequestIds)).await;
    for sent in ["", "a b", "a,b", &"a".repeat(129)] {
        let request = TestRequest::get().uri("/own").insert_header(("x-request-id", sent)).to_request();
        let response = call_service(&app, request).await;
        let id = response.headers().get("x-request-id").unwrap().to_str().unwrap();
        assert_eq!(RequestId::parse(id).map(|id| id.as_str().len()), Some(32), "{sent:?} became {id:?}");
    }
}

#[actix_web::test]
async fn waits_are_whole_seconds() {
    let (status, headers, _body) = answer(TestRequest::get().uri("/exhausted")).await;
    assert_eq!((status, headers.get("retry-after").unwrap().to_str().unwrap()), (429, "1"));
    for (millis, seconds) in [(0, "1"), (999, "1"), (1000, "1"), (1001, "2"), (60_000, "60")] {
        let error = ApiError::unavailable("later", Duration::from_millis(millis));
        let response = error.error_response();
        assert_eq!(response.headers().get("retry-after").unwrap(), seconds, "{millis} ms");
    }
}

#[test]
fn texts_have_fewer_than_250_characters() {
    for (text, len) in
        [("a".repeat(249), 249), ("a".repeat(250), 249), ("é".repeat(1000), 249), ("☕".repeat(249), 249)]
    {
        assert_eq!(shorten(&text).chars().count(), len);
    }
    assert_eq!(shorten(&"é".repeat(249)), "é".repeat(249));
    assert_eq!(shorten(&"é".repeat(250)), "é".repeat(248) + "…");
}

#[test]
fn only_paths_under_v2_have_its_shape() {
    for (path, shape) in [
        ("/v2", Shape::V2),
        ("/v2/x", Shape::V2),
        ("/v2x", Shape::Native),
        ("/", Shape::Native),
        ("/v1/v2/", Shape::Native),
    ] {
        assert_eq!(Shape::of_path(path), shape, "{path}");
    }
}
