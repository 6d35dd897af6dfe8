//! Changing a connection: what is not named stays as it is. But a secret is not sent where it was not sent before, unless
//! whoever changes the connection says it once more: nobody reads it by moving the connection home.

use url::Url;

use super::{Credentials, Draft, Wrong, store::Opened, wrong};
use crate::wire::{Json, Object};

/// What is said of a secret that would go elsewhere.
const SAY_IT_AGAIN: &str = "has to be given again, as it would be shown to another origin";

/// A checked change.
#[derive(Clone, Debug)]
pub struct Change {
    /// The connection as it is going to be.
    pub draft: Draft,
    /// Whether it has to be tried: all but a new name.
    pub needs_trial: bool,
}

impl Change {
    /// Checks `{name?, type?, url?, …}` against the connection as it is. Another `type` takes nothing over from the credentials.
    ///
    /// # Errors
    /// The first member that is not acceptable, or that has to be given and is not.
    pub fn parse(current: &Opened, change: &Object) -> Result<Self, Wrong> {
        let given = |name: &str| change.get(name).filter(|value| !value.is_null());
        let kind = current.credentials.kind();
        let same_kind = given("type").is_none_or(|value| value.as_str() == Some(kind));
        let mut object = Object::new();
        object.insert("name", Json::from(current.name.as_str()));
        object.insert("url", Json::from(current.test_url.as_str()));
        object.insert("type", Json::from(kind));
        if same_kind {
            for (name, value) in current.credentials.members() {
                object.insert(name, Json::from(value));
            }
        }
        let mut needs_trial = false;
        for (name, value) in change.iter() {
            needs_trial |= name.to_str_lossy() != "name";
            object.insert(name.clone(), value.clone());
        }
        let draft = Draft::parse(object)?;
        let secret = draft.credentials.secret();
        if same_kind && given(secret).is_none() && is_elsewhere(current, &draft) {
            return Err(wrong(secret, SAY_IT_AGAIN));
        }
        Ok(Self { draft, needs_trial })
    }
}

/// Whether the secret would be sent where it was not sent before.
fn is_elsewhere(current: &Opened, draft: &Draft) -> bool {
    let moved = |before: &Url, after: &Url| before.origin() != after.origin();
    match (&current.credentials, &draft.credentials) {
        (Credentials::Oauth2 { token_url: before, .. }, Credentials::Oauth2 { token_url: after, .. }) => {
            moved(before, after) || moved(&current.test_url, &draft.test_url)
        }
        _ => moved(&current.test_url, &draft.test_url),
    }
}

impl Credentials {
    /// The member that must not be told.
    const fn secret(&self) -> &'static str {
        match self {
            Self::Bearer { .. } => "token",
            Self::Basic { .. } => "password",
            Self::Header { .. } => "value",
            Self::Oauth2 { .. } => "client_secret",
        }
    }

    /// The members of the body that makes them.
    fn members(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Bearer { token } => vec![("token", token.clone())],
            Self::Basic { username, password } => {
                vec![("username", username.clone()), ("password", password.clone())]
            }
            Self::Header { name, value } => vec![("header", name.clone()), ("value", value.clone())],
            Self::Oauth2 { token_url, client_id, client_secret, scope } => {
                let mut members = vec![
                    ("token_url", token_url.to_string()),
                    ("client_id", client_id.clone()),
                    ("client_secret", client_secret.clone()),
                ];
                members.extend(scope.clone().map(|scope| ("scope", scope)));
                members
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::wire::parse;

    fn object(text: &str) -> Object {
        parse(text.as_bytes()).unwrap().into_object().unwrap()
    }

    fn opened(text: &str) -> Opened {
        let Draft { name, test_url, credentials } = Draft::parse(object(text)).unwrap();
        let origin = test_url.origin().ascii_serialization();
        Opened { name, origin, test_url, credentials, token: None, updated_at: DateTime::UNIX_EPOCH }
    }

    const BEARER: &str = r#"{"name":"Shop","url":"https://a.test/me","type":"bearer","token":"t"}"#;
    const OAUTH2: &str = r#"{"name":"Shop","url":"https://a.test/me","type":"oauth2","token_url":"https://id.test/t",
        "client_id":"c","client_secret":"s","scope":"read"}"#;

    #[test]
    fn what_is_not_named_stays() {
        let change = |text: &str| Change::parse(&opened(BEARER), &object(text)).unwrap();
        let renamed = change(r#"{"name":"Store"}"#);
        assert_eq!((renamed.draft.name.as_str(), renamed.needs_trial), ("Store", false));
        assert_eq!(renamed.draft.credentials.header(None).unwrap().1, "Bearer t");
        assert!(!change("{}").needs_trial);
        let rotated = change(r#"{"token":"u"}"#);
        assert_eq!(
            (rotated.draft.credentials.header(None).unwrap().1.as_str(), rotated.needs_trial),
            ("Bearer u", true)
        );
        let moved = change(r#"{"url":"https://a.test/health"}"#);
        assert_eq!(moved.draft.test_url.path(), "/health");
        let kept = change(r#"{"type":"bearer"}"#);
        assert_eq!(kept.draft.credentials.header(None).unwrap().1, "Bearer t");
        let scope =
            |text: &str| match Change::parse(&opened(OAUTH2), &object(text)).unwrap().draft.credentials {
                Credentials::Oauth2 { scope, .. } => scope,
                other => panic!("{other:?}"),
            };
        assert_eq!((scope("{}").as_deref(), scope(r#"{"scope":null}"#)), (Some("read"), None));
    }

    #[test]
    fn a_secret_does_not_go_elsewhere_unless_it_is_said_again() {
        let refused = |current: &str, text: &str| {
            Change::parse(&opened(current), &object(text)).map(drop).map_err(|error| error.to_string())
        };
        let again = |field: &str| Err(format!("{field} {SAY_IT_AGAIN}"));
        for url in ["https://b.test/me", "http://a.test/me", "https://a.test:444/me"] {
            assert_eq!(refused(BEARER, &format!(r#"{{"url":"{url}"}}"#)), again("token"), "{url}");
            assert_eq!(
                refused(BEARER, &format!(r#"{{"url":"{url}","token":null}}"#)),
                Err("token is missing".to_owned())
            );
            assert_eq!(refused(BEARER, &format!(r#"{{"url":"{url}","token":"t"}}"#)), Ok(()));
        }
        assert_eq!(refused(OAUTH2, r#"{"url":"https://b.test/me"}"#), again("client_secret"));
        assert_eq!(refused(OAUTH2, r#"{"token_url":"https://b.test/t"}"#), again("client_secret"));
        assert_eq!(refused(OAUTH2, r#"{"token_url":"https://id.test/token"}"#), Ok(()));
        assert_eq!(refused(OAUTH2, r#"{"token_url":"https://b.test/t","client_secret":"s"}"#), Ok(()));
        let other = r#"{"type":"basic","username":"a"}"#;
        assert_eq!(refused(BEARER, other), Err("password is missing".to_owned()), "nothing is taken over");
    }
}
