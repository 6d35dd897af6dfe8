//! The shapes of bodies under `/v2`: runs of actions, and the connections that they use, for the OpenAPI document.

use serde_json::Value;
use utoipa::ToSchema;

/// A run of an action that is asked for. All of it may be within `data`, where the input is called `inputs`.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct ActionRunRequest {
    /// The action's key, from `GET /v2/actions`.
    #[schema(example = "event.emit")]
    action: Option<String>,
    /// A connection, from `POST /v2/authentications`: for `http.request`.
    authentication: Option<String>,
    /// What the action takes.
    #[schema(value_type = Option<Object>)]
    input: Option<Value>,
    /// Where the result is told: https on a public address, at most 2048 characters.
    #[schema(max_length = 2048)]
    callback_url: Option<String>,
    /// The same members once more, for clients that wrap them.
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
}

/// A connection that is made. Which other members there are depends on `type`.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct AuthenticationRequest {
    /// What it is called.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// `bearer`, `basic`, `header` or `oauth2`.
    r#type: String,
    /// Where the credentials are tried, with GET. They are shown to its origin alone.
    #[schema(max_length = 2048)]
    url: String,
    /// Of `bearer`.
    token: Option<String>,
    /// Of `basic`.
    username: Option<String>,
    /// Of `basic`.
    password: Option<String>,
    /// Of `header`: its name.
    header: Option<String>,
    /// Of `header`.
    value: Option<String>,
    /// Of `oauth2`: where access tokens are fetched.
    token_url: Option<String>,
    /// Of `oauth2`.
    client_id: Option<String>,
    /// Of `oauth2`.
    client_secret: Option<String>,
    /// Of `oauth2`.
    scope: Option<String>,
}

/// What changes of a connection. What is not named stays as it is; the members are those of a new one.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the type describes the body in the OpenAPI document")]
pub(crate) struct AuthenticationChange {
    /// What it is called.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// `bearer`, `basic`, `header` or `oauth2`. Another one takes nothing over from the credentials.
    r#type: Option<String>,
    /// Where the credentials are tried, with GET. On another origin the secret has to be given again.
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// Of `bearer`.
    token: Option<String>,
    /// Of `basic`.
    username: Option<String>,
    /// Of `basic`.
    password: Option<String>,
    /// Of `header`: its name.
    header: Option<String>,
    /// Of `header`.
    value: Option<String>,
    /// Of `oauth2`: where access tokens are fetched. On another origin `client_secret` has to be given again.
    token_url: Option<String>,
    /// Of `oauth2`.
    client_id: Option<String>,
    /// Of `oauth2`.
    client_secret: Option<String>,
    /// Of `oauth2`; `null` for none.
    scope: Option<String>,
}
