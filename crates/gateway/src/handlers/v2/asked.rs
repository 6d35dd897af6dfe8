//! What `POST /v2/action-runs` takes, in both shapes: `{action, authentication, input, callback_url}` and the same within `data`,
//! where the input is called `inputs`.

use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    action_run::action::{Action, Wrong},
    id::ConnectionId,
    wire::{Json, Object, parse_as_javascript},
};

use super::refused;
use crate::problem;

/// The code of everything that is wrong with a run that is asked for, but for its callback.
const INVALID: &str = "INVALID_ACTION_RUN";

/// What is wrong with an authentication that is not there.
const UNKNOWN: &str = "is not one of those that GET /v2/authentications lists";

/// A run that somebody asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) action: &'static Action,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) input: Object,
    pub(crate) callback_url: Option<String>,
    /// The path of the members: empty, or `data.`.
    within: &'static str,
    /// What the input is called.
    input_name: &'static str,
}

impl Asked {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 with a pointer to what is missing or not acceptable.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let json = parse_as_javascript(body).map_err(|error| problem::of_json(&error))?;
        let not_object = || ApiError::bad_request("INVALID_BODY", "the body has to be a JSON object");
        let mut object = json.into_object().map_err(|_| not_object())?;
        let (mut members, within) = match object.remove("data") {
            None => (object, ""),
            Some(Json::Object(members)) => (members, "data."),
            Some(_) => return Err(refused(INVALID, "data".to_owned(), "must be an object")),
        };
        let at = |name: &str| format!("{within}{name}");
        let key = match members.remove("action") {
            None | Some(Json::Null) => return Err(refused(INVALID, at("action"), "is missing")),
            Some(value) => match value.as_str() {
                None => return Err(refused(INVALID, at("action"), "must be a string")),
                Some(key) => key.to_owned(),
            },
        };
        let action = Action::find(&key).ok_or_else(|| {
            refused(INVALID, at("action"), "is not one of those that GET /v2/actions lists")
        })?;
        let connection = match members.remove("authentication") {
            None | Some(Json::Null) => None,
            Some(value) => {
                let id = value.as_str().and_then(|text| text.parse().ok());
                let unknown = || refused(INVALID, at("authentication"), UNKNOWN);
                Some(id.ok_or_else(unknown)?)
            }
        };
        let (mut input, mut input_name) = (Object::new(), if within.is_empty() { "input" } else { "inputs" });
        for name in ["input", "inputs"] {
            match members.remove(name) {
                None | Some(Json::Null) => {}
                Some(Json::Object(given)) => (input, input_name) = (given, name),
                Some(_) => return Err(refused(INVALID, at(name), "must be an object")),
            }
        }
        let callback_url = match members.remove("callback_url") {
            None | Some(Json::Null) => None,
            Some(value) => match value.as_str() {
                Some(url) => Some(url.to_owned()),
                None => return Err(refused("INVALID_CALLBACK_URL", at("callback_url"), "must be a string")),
            },
        };
        Ok(Self { action, connection, input, callback_url, within, input_name })
    }

    /// 400 for a field of the input.
    pub(crate) fn wrong_input(&self, wrong: &Wrong) -> ApiError {
        let field = format!("{}{}.{}", self.within, self.input_name, wrong.field);
        let error = refused(INVALID, field, &wrong.reason);
        if wrong.path.is_empty() { error } else { error.path(wrong.path.as_str()) }
    }

    /// 400 for a connection that is not there.
    pub(crate) fn unknown_connection(&self) -> ApiError {
        refused(INVALID, format!("{}authentication", self.within), UNKNOWN)
    }

    /// 400 for the URL of the callback.
    pub(crate) fn wrong_callback(&self, reason: &str) -> ApiError {
        refused("INVALID_CALLBACK_URL", format!("{}callback_url", self.within), reason)
    }
}

#[cfg(test)]
mod tests {
    use hookyard_chassis::api_error::Shape;

    use super::*;

    #[test]
    fn both_shapes_are_read() {
        for body in [
            r#"{"action":"event.emit","authentication":null,"input":{"a":1},"callback_url":"https://a.b/"}"#,
            r#"{"data":{"action":"event.emit","inputs":{"a":1},"callback_url":"https://a.b/"}}"#,
        ] {
            let asked = Asked::parse(body.as_bytes()).unwrap();
            assert_eq!((asked.action.key, asked.input.len()), ("event.emit", 1));
            assert_eq!(asked.callback_url.as_deref(), Some("https://a.b/"));
        }
        assert!(Asked::parse(br#"{"action":"event.emit"}"#).unwrap().input.is_empty());
    }

    #[test]
    fn what_is_wrong_is_pointed_to() {
        for (body, pointer, detail) in [
            ("{}", "/action", "action is missing"),
            (r#"{"data":{}}"#, "/data/action", "action is missing"),
            (r#"{"data":5}"#, "/data", "data must be an object"),
            (r#"{"action":5}"#, "/action", "action must be a string"),
            (r#"{"action":"core:1"}"#, "/action", "action is not one of those that GET /v2/actions lists"),
            (r#"{"action":"event.emit","input":[]}"#, "/input", "input must be an object"),
            (r#"{"data":{"action":"event.emit","inputs":1}}"#, "/data/inputs", "inputs must be an object"),
            (r#"{"action":"event.emit","callback_url":1}"#, "/callback_url", "callback_url must be a string"),
            (
                r#"{"action":"event.emit","authentication":"x"}"#,
                "/authentication",
                "authentication is not one of those that GET /v2/authentications lists",
            ),
        ] {
            let told = Asked::parse(body.as_bytes()).unwrap_err().body(Shape::V2, None);
            assert_eq!(told["errors"][0]["source"]["pointer"], pointer, "{body}");
            assert_eq!(told["errors"][0]["detail"], detail, "{body}");
            assert_eq!(told["errors"][0]["status"], "400");
        }
    }
}
