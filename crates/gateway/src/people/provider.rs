//! The identity provider: what it says about itself, and whom it vouches for. OpenID Connect itself (what an ID token has to
//! hold, and how it is signed) is the library's; every request goes through the guarded client.

use std::{
    error::Error,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use hookyard_chassis::settings::SettingsError;
use hookyard_domain::clock::Clock;
use hookyard_egress::{Egress, Failure, FailureKind, Request};
use openidconnect::{
    AuthType, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret,
    CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IssuerUrl, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    SignatureVerificationError, TokenResponse as _,
    core::{
        CoreClient, CoreClientAuthMethod, CoreIdTokenClaims, CoreProviderMetadata, CoreResponseType,
        CoreTokenResponse, CoreUserInfoClaims,
    },
};
use url::Url;

use crate::settings::OidcSettings;

/// Most time for one request to the provider.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long what the provider says about itself, its keys among it, is used.
const KNOWN_FOR: TimeDelta = TimeDelta::minutes(5);

/// Provider metadata gives it where to authorize; the rest may be missing.
type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// Somebody whom the provider vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vouched {
    /// The provider.
    pub(crate) issuer: String,
    /// Whom it means, for ever.
    pub(crate) subject: String,
    /// The e-mail address, if the provider has verified it; as it writes it.
    pub(crate) email: Option<String>,
    /// The name.
    pub(crate) name: Option<String>,
}

/// What was made up for one log-in, and has to fit together at its end.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    /// What the browser brings back.
    pub(crate) state: String,
    /// What the ID token repeats.
    pub(crate) nonce: String,
    /// What proves that who began is who ends (PKCE).
    pub(crate) verifier: String,
}

/// What the provider says about itself, and since when we know.
type Known = (DateTime<Utc>, Arc<CoreProviderMetadata>);

/// The identity provider of the settings.
#[derive(Debug)]
pub(crate) struct Provider {
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: Option<ClientSecret>,
    egress: Egress,
    clock: Clock,
    known: Mutex<Option<Known>>,
}

impl Provider {
    /// The provider of the settings, if they name one. Asks it nothing yet.
    pub(crate) fn of(
        settings: &OidcSettings,
        egress: &Egress,
        clock: &Clock,
    ) -> Result<Option<Self>, SettingsError> {
        let Some(issuer) = settings.issuer.clone() else { return Ok(None) };
        let issuer = IssuerUrl::new(issuer)
            .map_err(|error| SettingsError::contradiction("oidc.issuer", error.to_string()))?;
        let secret = settings.secret()?.map(|secret| ClientSecret::new(secret.expose().to_owned()));
        Ok(Some(Self {
            issuer,
            client_id: ClientId::new(settings.client_id.clone().unwrap_or_default()),
            client_secret: secret,
            egress: egress.clone(),
            clock: clock.clone(),
            known: Mutex::new(None),
        }))
    }

    /// Who it is, as in what it signs.
    pub(crate) fn issuer(&self) -> &str {
        self.issuer.as_str()
    }

    /// Where a browser goes to log in.
    pub(crate) async fn entrance(&self, secrets: &Secrets, back: &str) -> anyhow::Result<Url> {
        let client = self.client(back).await?;
        let (state, nonce) = (secrets.state.clone(), secrets.nonce.clone());
        let verifier = PkceCodeVerifier::new(secrets.verifier.clone());
        let (url, _state, _nonce) = client
            .authorize_url(
                AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            .add_scope(Scope::new("email".to_owned()))
            .add_scope(Scope::new("profile".to_owned()))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .url();
        Ok(url)
    }

    /// Exchanges the code that a browser brought back, and verifies whom it stands for.
    pub(crate) async fn vouch(
        &self,
        code: String,
        nonce: String,
        verifier: String,
        back: &str,
    ) -> anyhow::Result<Vouched> {
        let http = self.http();
        let mut client = self.client(back).await?;
        let tokens = client
            .exchange_code(AuthorizationCode::new(code))?
            .set_pkce_verifier(PkceCodeVerifier::new(verifier))
            .request_async(&http)
            .await
            .map_err(told)?;
        let nonce = Nonce::new(nonce);
        let claims = match self.claims(&client, &tokens, &nonce) {
            // Signed with a key that is newer than what we know.
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                self.forget();
                client = self.client(back).await?;
                self.claims(&client, &tokens, &nonce)?
            }
            claims => claims?,
        };
        let mut vouched = Vouched {
            issuer: claims.issuer().as_str().to_owned(),
            subject: claims.subject().as_str().to_owned(),
            email: verified(claims.email().map(|email| email.as_str()), claims.email_verified()),
            name: claims.name().and_then(|name| name.get(None)).map(|name| name.as_str().to_owned()),
        };
        // Providers may leave it out of the ID token when there is another way to it (OpenID Connect Core §5.4).
        if claims.email().is_none() && client.user_info_url().is_some() {
            let more: CoreUserInfoClaims = client
                .user_info(tokens.access_token().clone(), Some(claims.subject().clone()))?
                .request_async(&http)
                .await?;
            vouched.email = verified(more.email().map(|email| email.as_str()), more.email_verified());
            let name = more.name().and_then(|name| name.get(None)).map(|name| name.as_str().to_owned());
            vouched.name = vouched.name.or(name);
        }
        Ok(vouched)
    }

    /// What the ID token says, when it may be believed: issuer, audience, signature, end, nonce.
    fn claims(
        &self,
        client: &Client,
        tokens: &CoreTokenResponse,
        nonce: &Nonce,
    ) -> Result<CoreIdTokenClaims, ClaimsVerificationError> {
        let Some(token) = tokens.id_token() else {
            return Err(ClaimsVerificationError::Other("there is no ID token".to_owned()));
        };
        let now = self.clock.now();
        token.claims(&client.id_token_verifier().set_time_fn(move || now), nonce).cloned()
    }

    async fn client(&self, back: &str) -> anyhow::Result<Client> {
        let metadata = self.metadata().await?;
        let by_form = metadata.token_endpoint_auth_methods_supported().is_some_and(|methods| {
            methods.contains(&CoreClientAuthMethod::ClientSecretPost)
                && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
        });
        let client = CoreClient::from_provider_metadata(
            (*metadata).clone(),
            self.client_id.clone(),
            self.client_secret.clone(),
        )
        .set_redirect_uri(RedirectUrl::new(back.to_owned())?)
        .set_auth_type(if by_form { AuthType::RequestBody } else { AuthType::BasicAuth });
        Ok(client)
    }

    /// What the provider says about itself: asked for at first use, and anew when that is a while ago.
    async fn metadata(&self) -> anyhow::Result<Arc<CoreProviderMetadata>> {
        let now = self.clock.now();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((since, metadata)) = known
            && now - since < KNOWN_FOR
        {
            return Ok(metadata);
        }
        let metadata =
            Arc::new(CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http()).await?);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&metadata)));
        Ok(metadata)
    }

    fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The library's HTTP client: ours.
    fn http(&self) -> impl Fn(HttpRequest) -> Asked + use<> {
        let egress = self.egress.clone();
        move |request| -> Asked { Box::pin(ask(egress.clone(), request)) }
    }
}

/// An answer to come.
type Asked = Pin<Box<dyn Future<Output = Result<HttpResponse, Failure>> + Send>>;

async fn ask(egress: Egress, request: HttpRequest) -> Result<HttpResponse, Failure> {
    let (head, body) = request.into_parts();
    let unusable =
        |detail: String| Failure { kind: FailureKind::InvalidUrl, detail, latency: Duration::ZERO };
    let url = Url::parse(&head.uri.to_string()).map_err(|error| unusable(error.to_string()))?;
    let fetched = egress
        .fetch(Request {
            method: head.method,
            url,
            headers: head.headers,
            body: Bytes::from(body),
            timeout: PATIENCE,
        })
        .await?;
    let mut response = HttpResponse::new(fetched.body);
    *response.headers_mut() = fetched.headers;
    *response.status_mut() = openidconnect::http::StatusCode::from_u16(fetched.status)
        .map_err(|error| unusable(error.to_string()))?;
    Ok(response)
}

/// The refusal in the provider's words: the library's own text leaves them out of its causes.
fn told<E: Error + Send + Sync + 'static>(
    error: RequestTokenError<E, impl openidconnect::ErrorResponse + 'static>,
) -> anyhow::Error {
    match error {
        RequestTokenError::Request(cause) => {
            anyhow::Error::new(cause).context("the code cannot be exchanged")
        }
        // Neither the body nor the parser's error: they may hold tokens.
        RequestTokenError::Parse(cause, _body) => {
            anyhow::anyhow!("the reply with the tokens cannot be read at `{}`", cause.path())
        }
        other => anyhow::anyhow!("the code was not exchanged: {other}"),
    }
}

fn verified(email: Option<&str>, is_verified: Option<bool>) -> Option<String> {
    email.filter(|_| is_verified == Some(true)).map(str::to_owned)
}
