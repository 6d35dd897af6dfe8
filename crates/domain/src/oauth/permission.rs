//! Scopes that a client gets: what it asks for, as far as it may have it and the person has it to give.

use crate::{
    credential::{Scope, Scopes},
    person::Role,
};

/// Reads the parameter `scope`: words separated by blanks (RFC 6749 §3.3). Without it, or empty, nothing was asked for in
/// particular.
///
/// # Errors
/// Names the word that is no scope.
pub fn read(text: Option<&str>) -> Result<Option<Scopes>, String> {
    let Some(text) = text else { return Ok(None) };
    let words = text.split(' ').filter(|word| !word.is_empty());
    let scopes: Scopes = words
        .map(|word| word.parse::<Scope>().map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    Ok((!scopes.is_empty()).then_some(scopes))
}

/// The scopes that a client gets of a person: asked for ∩ the client's ∩ the role's. A client that asks for nothing in
/// particular is given what it may have. `admin` on a side stands for all there.
#[must_use]
pub fn given(asked: Option<Scopes>, client: Scopes, role: Role) -> Scopes {
    let held = role.scopes();
    asked.unwrap_or(client).iter().filter(|scope| client.permit(*scope) && held.permit(*scope)).collect()
}

/// The scopes of a new access token of a grant: what the person allowed, as far as client and person still have it, and no
/// more than the client wants this time. Nothing when it wants more than was allowed (RFC 6749 §6).
#[must_use]
pub fn renewed(allowed: Scopes, wanted: Option<Scopes>, client: Scopes, role: Role) -> Option<Scopes> {
    if wanted.is_some_and(|wanted| wanted.iter().any(|scope| !allowed.contains(scope))) {
        return None;
    }
    Some(given(Some(wanted.unwrap_or(allowed)), client, role))
}

/// The words of a set as OAuth writes them.
#[must_use]
pub fn words(scopes: Scopes) -> String {
    scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Scopes {
        read(Some(text)).unwrap().unwrap_or_default()
    }

    #[test]
    fn scopes_are_words_between_blanks() {
        assert_eq!(read(None), Ok(None));
        assert_eq!(read(Some("")), Ok(None));
        assert_eq!(
            read(Some(" hooks:read  hooks:read events:read ")),
            Ok(Some(set("events:read hooks:read")))
        );
        for bad in ["hooks", "hooks:read,hooks:write", "HOOKS:READ", "hooks:read\thooks:write", "openid"] {
            assert!(read(Some(bad)).unwrap_err().contains("is not a scope"), "{bad}");
        }
        assert_eq!(words(set("events:read hooks:read")), "hooks:read events:read");
    }

    #[test]
    fn a_client_gets_what_all_three_have() {
        for (asked, client, role, expected) in [
            (Some("hooks:read hooks:write"), "hooks:read hooks:write", Role::Admin, "hooks:read hooks:write"),
            (Some("hooks:read hooks:write"), "hooks:read hooks:write", Role::Viewer, "hooks:read"),
            (Some("hooks:write"), "hooks:read hooks:write", Role::Viewer, ""),
            (Some("hooks:read events:write"), "hooks:read", Role::Admin, "hooks:read"),
            (Some("admin"), "hooks:read", Role::Admin, ""),
            (Some("admin"), "admin", Role::Admin, "admin"),
            (Some("admin"), "admin", Role::Developer, ""),
            (Some("hooks:write"), "admin", Role::Developer, "hooks:write"),
            (None, "hooks:read hooks:write", Role::Developer, "hooks:read hooks:write"),
            (None, "hooks:read hooks:write", Role::Viewer, "hooks:read"),
            (None, "admin", Role::Viewer, ""),
        ] {
            assert_eq!(given(asked.map(set), set(client), role), set(expected), "{asked:?} {client} {role}");
        }
    }

    #[test]
    fn a_refresh_never_gets_more_than_was_allowed() {
        let client = set("hooks:read hooks:write events:read");
        for (allowed, wanted, role, expected) in [
            ("hooks:read hooks:write", None, Role::Admin, Some("hooks:read hooks:write")),
            ("hooks:read hooks:write", None, Role::Viewer, Some("hooks:read")),
            ("hooks:write", None, Role::Viewer, Some("")),
            ("hooks:read hooks:write", Some("hooks:read"), Role::Admin, Some("hooks:read")),
            ("hooks:read", Some("hooks:read hooks:write"), Role::Admin, None),
            ("hooks:read", Some("events:read"), Role::Admin, None),
            ("hooks:read admin", None, Role::Admin, Some("hooks:read")),
        ] {
            let got = renewed(set(allowed), wanted.map(set), client, role);
            assert_eq!(got, expected.map(set), "{allowed} {wanted:?} {role}");
        }
    }
}
