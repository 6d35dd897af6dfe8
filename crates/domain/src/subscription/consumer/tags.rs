//! Tags: of which companies a consumer wants to hear (contract §4). A consumer with tags gets the events that have at least one of
//! them; letters count as they are written.
//!
//! An event's tags are the texts `key:value` in its `metadata.tags` (a list, or an object of keys with their values), and the
//! members of `tags` of the company that its payload is about: `payload.company` or `payload.referenceCompany`, where Codat has them.

use crate::wire::Json;

/// The most tags of a consumer.
pub const MAX_TAGS: usize = 10;
/// The longest tag, in characters.
pub const MAX_TAG_CHARS: usize = 128;

/// Checks a tag: a key, a colon, a value.
///
/// # Errors
/// What is wrong with it, continuing its name.
pub fn check(text: &str) -> Result<(), String> {
    if text.chars().count() > MAX_TAG_CHARS {
        return Err(format!("must have at most {MAX_TAG_CHARS} characters"));
    }
    let whole =
        text.split_once(':').is_some_and(|(key, value)| !key.trim().is_empty() && !value.trim().is_empty());
    if !whole {
        return Err("must be a key and a value with a colon between them, such as region:uk".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("must not have control characters".to_owned());
    }
    Ok(())
}

/// Whether an event has one of these tags.
#[must_use]
pub fn any_of(wanted: &[String], event: &Json) -> bool {
    let metadata = event.get("metadata").and_then(|metadata| metadata.get("tags"));
    let payload = event.get("payload");
    let company =
        |name: &str| payload.and_then(|payload| payload.get(name)).and_then(|company| company.get("tags"));
    [metadata, company("company"), company("referenceCompany")]
        .into_iter()
        .flatten()
        .any(|tags| among(wanted, tags))
}

fn among(wanted: &[String], tags: &Json) -> bool {
    match tags {
        Json::Array(items) => {
            items.iter().filter_map(Json::as_str).any(|tag| wanted.iter().any(|wanted| wanted == tag))
        }
        Json::Object(members) => wanted
            .iter()
            .filter_map(|tag| tag.split_once(':'))
            .any(|(key, value)| members.get(key).and_then(Json::as_str) == Some(value)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    #[test]
    fn a_tag_is_a_key_and_a_value() {
        for good in ["region:uk", "a:b:c", "k: v", "ключ:значение"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", ":", "region", "region:", ":uk", " : ", "a:b\n"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(check(&format!("k:{}", "é".repeat(MAX_TAG_CHARS - 2))).is_ok());
        assert!(check(&format!("k:{}", "é".repeat(MAX_TAG_CHARS - 1))).is_err());
    }

    #[test]
    fn one_tag_is_enough_and_letters_count() {
        let wanted = ["region:uk".to_owned(), "tier:a:b".to_owned()];
        for (event, expected) in [
            (r#"{"metadata":{"tags":["x:y","region:uk"]}}"#, true),
            (r#"{"metadata":{"tags":{"region":"uk"}}}"#, true),
            (r#"{"metadata":{"tags":{"tier":"a:b"}}}"#, true),
            (r#"{"payload":{"company":{"tags":{"region":"uk"}}}}"#, true),
            (r#"{"payload":{"referenceCompany":{"tags":{"region":"uk"}}}}"#, true),
            (r#"{"metadata":{"tags":["Region:uk","region:UK","region"]}}"#, false),
            (r#"{"metadata":{"tags":"region:uk"}}"#, false),
            (r#"{"payload":{"tags":{"region":"uk"}}}"#, false),
            (r#"{"metadata":{"tags":[]}}"#, false),
            ("{}", false),
        ] {
            assert_eq!(any_of(&wanted, &parse(event.as_bytes()).unwrap()), expected, "{event}");
        }
    }
}
