//! `/oauth/authorize`: a person lets a program in, or does not. How the person logs in is not decided here.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    credential::Scopes,
    oauth::{
        ErrorCode, Refused,
        grant::{self, Consent},
        permission, redirect,
    },
    person::session::Session,
    tenant,
};
use hookyard_portal::{
    self as portal,
    consent::{Question, consent, dead_end},
};

use utoipa::ToSchema;

use super::request::{self, Asked, Unasked, Way};
use crate::{
    access::{form::Form as OwnForm, stranger, visitor::Visitor},
    context::Context,
    problem,
};

/// Ask a person to let an app in
///
/// RFC 6749 §4.1.1. Whoever is not logged in is asked to first. The answer goes to `redirect_uri` with `code` or `error`, with
/// `state` as it was sent and with `iss` (RFC 9207). An unknown `client_id` or another `redirect_uri` than those that are
/// registered is answered with a page, never with a redirect. A client without a secret has to use PKCE with `S256`.
#[utoipa::path(
    get,
    path = "/oauth/authorize",
    operation_id = "show_consent",
    tag = "OAuth",
    params(
        ("response_type" = String, Query, description = "`code`"),
        ("client_id" = String, Query, description = "The client's id.", example = "oac_01hzy3v9k2s8d4f6g8h0j2k4m6"),
        ("redirect_uri" = Option<String>, Query, description = "One of the client's, byte by byte; of a loopback URI the port may vary. May be left out when the client has one only."),
        ("scope" = Option<String>, Query, description = "Scopes, separated by blanks; all of the client's by default.", example = "hooks:read hooks:write"),
        ("state" = Option<String>, Query, description = "Comes back as it was sent; at most 2048 bytes."),
        ("code_challenge" = Option<String>, Query, description = "PKCE (RFC 7636): base64url(SHA-256(verifier))."),
        ("code_challenge_method" = Option<String>, Query, description = "`S256`"),
        ("prompt" = Option<String>, Query, description = "`consent` asks the person though the answer is known, `none` asks nobody.")
    ),
    responses(
        (status = 200, description = "The question, as a page.", body = String, content_type = "text/html"),
        (status = 303, description = "To the log-in, or back to the client."),
        (status = 400, description = "The client or its redirect_uri is wrong, as a page.", body = String, content_type = "text/html")
    )
)]
pub(crate) async fn show(
    context: Data<Context>,
    request: HttpRequest,
    visitor: Visitor,
) -> Result<HttpResponse, ApiError> {
    let asked = match begin(&context, &request, &visitor).await? {
        Ok(asked) => asked,
        Err(answer) => return Ok(answer),
    };
    let (session, scopes) = match permitted(&context, &request, &visitor, &asked)? {
        Ok(permitted) => permitted,
        Err(answer) => return Ok(answer),
    };
    // Only who owns an https address is known to be the client (RFC 8252 §8.6): others ask each time.
    let may_remember = !asked.ask_again && redirect::is_claimed(&asked.way.destination.uri);
    if may_remember && is_given(&context, &asked, &session, scopes).await? {
        return allow(&context, &visitor, asked, &session, scopes).await;
    }
    if asked.silent {
        let refused = Refused::new(ErrorCode::ConsentRequired, "the person has to be asked");
        return Ok(back(&context, &visitor, &asked.way, &refused));
    }
    let tenant_id = session.tenant_id;
    let tenant =
        context.db.once(move |conn| tenant::store::find(conn, tenant_id)).await.map_err(problem::of)?;
    let leads_to = redirect::source(&asked.way.destination.uri);
    let wanted = asked.scopes.unwrap_or_else(|| asked.way.client.scopes());
    let csrf = visitor.csrf(&context.vault);
    let page = consent(
        visitor.locale,
        &Question {
            app: &asked.way.client.name,
            tenant: tenant.as_ref().map_or("", |tenant| &tenant.name),
            email: &session.email,
            role: session.role,
            scopes,
            asked_for_more: wanted.iter().any(|scope| !scopes.contains(scope)),
            leads_to: &leads_to,
            query: request.query_string(),
            csrf: &csrf,
        },
    );
    Ok(visitor.show_with_policy(&context, StatusCode::OK, page, &portal::policy_with_forms_to(&leads_to)))
}

/// Answer the question whether an app is let in
///
/// The form of the page; the query is that of the request.
#[utoipa::path(
    post,
    path = "/oauth/authorize",
    operation_id = "decide_consent",
    tag = "OAuth",
    request_body(content = Decision, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "Back to the client, with `code` or `error=access_denied`."),
        (status = 400, description = "The client or its redirect_uri is wrong, as a page.", body = String, content_type = "text/html"),
        (status = 403, description = "The form was not shown to this browser by us, as a page.", body = String, content_type = "text/html")
    )
)]
pub(crate) async fn decide(
    context: Data<Context>,
    request: HttpRequest,
    form: OwnForm,
) -> Result<HttpResponse, ApiError> {
    let visitor = &form.visitor;
    let asked = match begin(&context, &request, visitor).await? {
        Ok(asked) => asked,
        Err(answer) => return Ok(answer),
    };
    let (session, scopes) = match permitted(&context, &request, visitor, &asked)? {
        Ok(permitted) => permitted,
        Err(answer) => return Ok(answer),
    };
    if form.text("decision") == "allow" {
        return allow(&context, visitor, asked, &session, scopes).await;
    }
    let refused = Refused::new(ErrorCode::AccessDenied, "the person did not allow it");
    Ok(back(&context, visitor, &asked.way, &refused))
}

/// What a person decided.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the form in the OpenAPI document")]
pub(crate) struct Decision {
    /// `allow` lets the app in; everything else does not.
    decision: String,
    /// The token of the page.
    csrf: String,
}

/// Counts and reads a request; or the answer to one that nobody is asked about.
async fn begin(
    context: &Context,
    request: &HttpRequest,
    visitor: &Visitor,
) -> Result<Result<Asked, HttpResponse>, ApiError> {
    match &visitor.session {
        Some(session) => stranger::count_person(context, session.user_id).await?,
        None => stranger::count(context, visitor.peer).await?,
    }
    let read = request::read(context, request.query_string()).await.map_err(problem::of)?;
    Ok(read.map_err(|unasked| match unasked {
        Unasked::DeadEnd(why) => {
            visitor.show(context, StatusCode::BAD_REQUEST, dead_end(visitor.locale, why))
        }
        Unasked::Told(way, refused) => back(context, visitor, &way, &refused),
    }))
}

/// Who is asked, and what the client would get of that person; or the answer when there is nobody or nothing.
fn permitted(
    context: &Context,
    request: &HttpRequest,
    visitor: &Visitor,
    asked: &Asked,
) -> Result<Result<(Session, Scopes), HttpResponse>, ApiError> {
    let told = |code, description: &str| {
        Ok(Err(back(context, visitor, &asked.way, &Refused::new(code, description))))
    };
    let Some(session) = visitor.session.clone() else {
        if asked.silent {
            return told(ErrorCode::LoginRequired, "nobody is logged in");
        }
        let here = format!("/oauth/authorize?{}", request.query_string());
        let here: String = url::form_urlencoded::byte_serialize(here.as_bytes()).collect();
        return Ok(Err(visitor.redirect(context, &format!("/login?return_to={here}"))));
    };
    let client = &asked.way.client;
    if !client.serves(session.tenant_id) {
        return told(
            ErrorCode::AccessDenied,
            "the app belongs to another tenant than the person is logged in at",
        );
    }
    let scopes = permission::given(asked.scopes, client.scopes(), session.role);
    if scopes.is_empty() {
        return told(
            ErrorCode::AccessDenied,
            "the app may have, or the person may give, nothing of what is asked for",
        );
    }
    Ok(Ok((session, scopes)))
}

async fn is_given(
    context: &Context,
    asked: &Asked,
    session: &Session,
    scopes: Scopes,
) -> Result<bool, ApiError> {
    let client = asked.way.client.clone();
    let (tenant, user) = (session.tenant_id, session.user_id);
    let given = context.db.once(move |conn| grant::is_given(conn, &client, tenant, user, scopes)).await;
    given.map_err(problem::of)
}

/// Back to the client with a code.
async fn allow(
    context: &Context,
    visitor: &Visitor,
    asked: Asked,
    session: &Session,
    scopes: Scopes,
) -> Result<HttpResponse, ApiError> {
    let consent = Consent {
        client: asked.way.client.id,
        tenant: session.tenant_id,
        user: session.user_id,
        scopes,
        destination: asked.way.destination.clone(),
        challenge: asked.challenge,
    };
    let (actor, now) = (visitor.actor(""), context.clock.now());
    let code =
        context.db.run(move |conn| grant::give(conn, &consent, &actor, now)).await.map_err(problem::of)?;
    Ok(visitor.redirect(context, &asked.way.with(&context.issuer(), &[("code", code.expose())])))
}

/// Back to the client with an error.
fn back(context: &Context, visitor: &Visitor, way: &Way, refused: &Refused) -> HttpResponse {
    visitor.redirect(context, &way.with_error(&context.issuer(), refused))
}
