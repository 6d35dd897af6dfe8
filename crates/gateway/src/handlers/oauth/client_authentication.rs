//! Which client asks: by its id and secret in the form or in `Authorization: Basic` (RFC 6749 §2.3.1), never in both; a public
//! client by its id alone.

use actix_web::{
    HttpMessage as _, HttpRequest,
    http::header::{AUTHORIZATION, HeaderValue},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hookyard_chassis::request_id::RequestId;
use hookyard_domain::{
    audit::{Actor, ActorKind},
    id::ClientId,
    oauth::client::{self, Client},
};

use super::{answer::Failure, parameters::Parameters};
use crate::{
    access::{peer, stranger},
    context::Context,
};

/// What a client shows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    id: String,
    secret: Option<String>,
    basic: bool,
}

/// The live client behind a request. One that shows its secret is counted by nothing; all else, and whoever is wrong, by the
/// peer's address.
pub(super) async fn authenticate(
    context: &Context,
    request: &HttpRequest,
    form: &Parameters,
) -> Result<Client, Failure> {
    let address = peer::of(request, &context.settings.http.trusted_proxies);
    let shown = match shown(request, form) {
        Ok(shown) => shown,
        Err(failure) => {
            stranger::count(context, address).await?;
            return Err(failure);
        }
    };
    // A secret is looked at before anything is counted: many people's clients may share an address, and one of them must not be
    // able to lock the others out.
    if shown.secret.is_none() {
        stranger::count(context, address).await?;
    }
    let found = match shown.id.parse::<ClientId>() {
        Ok(id) => context.db.once(move |conn| client::find(conn, id)).await?,
        Err(_none) => None,
    };
    let is_it = |client: &Client| match &shown.secret {
        Some(secret) => client.has_secret(secret),
        None => client.is_public(),
    };
    if let Some(client) = found.filter(is_it) {
        return Ok(client);
    }
    if shown.secret.is_some() {
        stranger::count(context, address).await?;
    }
    Err(Failure::WrongClient { basic: shown.basic })
}

/// Who is said in the audit log to have done it.
pub(super) fn actor(context: &Context, request: &HttpRequest, client: &Client) -> Actor {
    Actor {
        kind: ActorKind::Credential,
        id: Some(client.id.uuid()),
        name: format!("OAuth client {}", client.name),
        address: peer::of(request, &context.settings.http.trusted_proxies),
        request_id: request.extensions().get::<RequestId>().map(ToString::to_string),
    }
}

fn shown(request: &HttpRequest, form: &Parameters) -> Result<Shown, Failure> {
    let id = form.owned("client_id");
    let secret = form.owned("client_secret");
    // Other schemes are no authentication of a client: an app may send its expired access token along with every request, this
    // one too.
    let Some(header) = request.headers().get(AUTHORIZATION).filter(|value| is_basic(value)) else {
        let id = id.ok_or_else(|| Failure::invalid_request("client_id is missing"))?;
        return Ok(Shown { id, secret, basic: false });
    };
    if secret.is_some() {
        return Err(Failure::invalid_request(
            "the client shows its secret in the form and in Authorization; use one of them",
        ));
    }
    let Some((basic_id, basic_secret)) = header.to_str().ok().and_then(basic) else {
        return Err(Failure::WrongClient { basic: true });
    };
    if id.is_some_and(|id| id != basic_id) {
        return Err(Failure::invalid_request("client_id in the form is another than in Authorization"));
    }
    Ok(Shown { id: basic_id, secret: Some(basic_secret).filter(|secret| !secret.is_empty()), basic: true })
}

fn is_basic(header: &HeaderValue) -> bool {
    let scheme = header.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"basic")
}

/// Id and secret; each is form-encoded before they are put together (RFC 6749 §2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let (_scheme, encoded) = header.split_once(' ')?;
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((form_decoded(id)?, form_decoded(secret)?))
}

/// `+` is a blank and `%xx` a byte; anything that is no text is no id and no secret.
fn form_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn told(header: Option<&str>, form: &str) -> Result<Shown, &'static str> {
        let mut request = TestRequest::default();
        if let Some(header) = header {
            request = request.insert_header((AUTHORIZATION, header));
        }
        shown(&request.to_http_request(), &Parameters::parse(form.as_bytes())).map_err(
            |failure| match failure {
                Failure::Refused(_) => "invalid_request",
                Failure::WrongClient { basic: true } => "invalid_client, basic",
                Failure::WrongClient { basic: false } => "invalid_client",
                Failure::Api(_) => "api",
            },
        )
    }

    #[test]
    fn a_client_shows_itself_in_one_way() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let is = |id: &str, secret: Option<&str>, basic| {
            Ok(Shown { id: id.to_owned(), secret: secret.map(str::to_owned), basic })
        };
        for (header, form, expected) in [
            (None, "client_id=a&client_secret=s", is("a", Some("s"), false)),
            (None, "client_id=a", is("a", None, false)),
            (None, "client_id=a&client_secret=", is("a", None, false)),
            (None, "client_secret=s", Err("invalid_request")),
            (Some(basic("a:s")), "", is("a", Some("s"), true)),
            (Some(basic("a%3Ab:s%2B+%25")), "", is("a:b", Some("s+ %"), true)),
            (Some(basic("a:")), "", is("a", None, true)),
            (Some(basic("a:s")), "client_id=a", is("a", Some("s"), true)),
            (Some(basic("a:s")), "client_id=b", Err("invalid_request")),
            (Some(basic("a:s")), "client_id=a&client_secret=s", Err("invalid_request")),
            (Some(basic("a:%zz")), "", Err("invalid_client, basic")),
            (Some(basic("a:%f")), "", Err("invalid_client, basic")),
            (Some(basic("nothing")), "", Err("invalid_client, basic")),
            (Some("Basic ***".to_owned()), "", Err("invalid_client, basic")),
            (Some("Basic".to_owned()), "client_id=a", Err("invalid_client, basic")),
            (Some("Bearer x".to_owned()), "client_id=a&client_secret=s", is("a", Some("s"), false)),
            (Some("Bearer x".to_owned()), "client_id=a", is("a", None, false)),
        ] {
            assert_eq!(told(header.as_deref(), form), expected, "{header:?} {form}");
        }
    }
}
