//! An authorization request: from its query to what a person is asked, or to where the browser goes with an error, or to
//! nowhere. The same for showing the question and for taking the answer: nothing of it is believed a second time.

use hookyard_domain::{
    Error,
    credential::Scopes,
    id::ClientId,
    oauth::{
        ErrorCode, Refused,
        client::{self, Client, Destination},
        permission,
        pkce::Challenge,
        redirect,
    },
};
use hookyard_portal::consent::DeadEnd;

use super::parameters::{Parameters, raw};
use crate::context::Context;

/// The longest `state`, in bytes as it was sent.
pub(super) const MAX_STATE: usize = 2_048;

/// What is read of a request; each may be there once.
const NAMES: [&str; 9] = [
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "prompt",
];

/// Where an answer goes: the client's address, with its state.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) client: Client,
    pub(super) destination: Destination,
    state: Option<String>,
}

/// A request that can be answered by a person.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) way: Way,
    /// What is asked for; nothing in particular when there is none.
    pub(super) scopes: Option<Scopes>,
    pub(super) challenge: Option<Challenge>,
    /// `prompt=none`: nobody may be asked.
    pub(super) silent: bool,
    /// `prompt=consent`: the person is asked, though the answer is known.
    pub(super) ask_again: bool,
}

/// Why nobody is asked.
#[derive(Debug)]
pub(super) enum Unasked {
    /// The browser must not be sent anywhere: who would get the answer is not known to be the client.
    DeadEnd(DeadEnd),
    /// The client is told.
    Told(Box<Way>, Refused),
}

impl Way {
    /// The address with the answer, and with the issuer, so that a client of several servers knows whose it is (RFC 9207).
    pub(super) fn with(&self, issuer: &str, parameters: &[(&str, &str)]) -> String {
        let mut all = parameters.to_vec();
        all.push(("iss", issuer));
        redirect::with_parameters(&self.destination.uri, &all, self.state.as_deref())
    }

    /// The address with an error.
    pub(super) fn with_error(&self, issuer: &str, refused: &Refused) -> String {
        self.with(issuer, &[("error", refused.code.as_str()), ("error_description", &refused.description)])
    }
}

/// Reads a request.
///
/// # Errors
/// When the database is away.
pub(super) async fn read(context: &Context, query: &str) -> Result<Result<Asked, Unasked>, Error> {
    let parameters = Parameters::parse(query.as_bytes());
    if parameters.twice(&["client_id", "redirect_uri"]).is_some() {
        return Ok(Err(Unasked::DeadEnd(DeadEnd::Malformed)));
    }
    let found = match parameters.get("client_id").map(str::parse::<ClientId>) {
        Some(Ok(id)) => context.db.once(move |conn| client::find(conn, id)).await?,
        Some(Err(_)) | None => None,
    };
    let Some(client) = found else { return Ok(Err(Unasked::DeadEnd(DeadEnd::NoClient))) };
    let Ok(destination) = client.destination(parameters.get("redirect_uri")) else {
        return Ok(Err(Unasked::DeadEnd(DeadEnd::NoRedirect)));
    };
    // A state that is too long cannot be given back.
    let sent = raw(query, "state").filter(|state| !state.is_empty());
    let state = sent.filter(|state| state.len() <= MAX_STATE).map(str::to_owned);
    let is_too_long = sent.is_some() && state.is_none();
    let way = Way { client, destination, state };
    let refused = |code, description: &str| Refused::new(code, description);
    if is_too_long {
        let refused = refused(ErrorCode::InvalidRequest, "state is longer than 2048 bytes");
        return Ok(Err(Unasked::Told(Box::new(way), refused)));
    }
    Ok(match question(&parameters, &way.client) {
        Ok((scopes, challenge)) => {
            let prompt = |word: &str| {
                parameters.get("prompt").is_some_and(|text| text.split(' ').any(|one| one == word))
            };
            let (silent, ask_again) = (prompt("none"), prompt("consent"));
            Ok(Asked { way, scopes, challenge, silent, ask_again })
        }
        Err(refused) => Err(Unasked::Told(Box::new(way), refused)),
    })
}

/// What is asked, of a request whose answer has a way.
fn question(
    parameters: &Parameters,
    client: &Client,
) -> Result<(Option<Scopes>, Option<Challenge>), Refused> {
    let refused = |code, description: &str| Refused::new(code, description);
    if let Some(name) = parameters.twice(&NAMES) {
        return Err(refused(ErrorCode::InvalidRequest, &format!("{name} is given more than once")));
    }
    match parameters.get("response_type") {
        Some("code") => {}
        None => return Err(refused(ErrorCode::InvalidRequest, "response_type is missing; it must be code")),
        Some(_) => {
            return Err(refused(ErrorCode::UnsupportedResponseType, "response_type must be code"));
        }
    }
    if parameters.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(refused(ErrorCode::InvalidRequest, "response_mode must be query"));
    }
    let challenge = Challenge::read(
        parameters.get("code_challenge"),
        parameters.get("code_challenge_method"),
        client.is_public(),
    )
    .map_err(|reason| refused(ErrorCode::InvalidRequest, reason))?;
    let scopes = permission::read(parameters.get("scope"))
        .map_err(|reason| refused(ErrorCode::InvalidScope, &reason))?;
    Ok((scopes, challenge))
}
