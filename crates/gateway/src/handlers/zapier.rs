//! `/zapier/hook`: the handshake of REST hooks as Zapier speaks it (contract §3, source 4). Samples are in `samples`.
//!
//! Forgiving where Zapier's client is careless: unknown members and parameters are ignored, an empty optional member is
//! the same as none, and every answer is JSON.

pub(crate) mod event_types;
pub(crate) mod subscribe;
pub(crate) mod unsubscribe;

use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    catalogue::{CatalogueEntry, former_pattern, resolve},
    subscription::EventPattern,
    wire::Json,
};

use super::fields::text_of;
use crate::problem;

/// What a subscriber calls the events it wants, and what that stands for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// As written: a type, an alias, a former name, or a pattern.
    pub(super) written: String,
    /// The type or pattern that is matched.
    pub(super) pattern: EventPattern,
    /// The same as text.
    pub(super) pattern_text: String,
}

impl Wanted {
    /// Looks a name up in the catalogue. A name that is not there is a type or a pattern of its own: events may be
    /// posted without an entry in the catalogue.
    ///
    /// # Errors
    /// 422 `INVALID_EVENT_TYPE`.
    pub(super) fn of(written: &str, catalogue: &[CatalogueEntry]) -> Result<Self, ApiError> {
        let pattern_text = match (resolve(catalogue, written), former_pattern(written)) {
            (Some(entry), _) if entry.archived => return Err(wrong("is archived and takes no new hooks")),
            (Some(entry), _) => entry.name.as_str(),
            (None, Some(pattern)) => pattern,
            (None, None) => written,
        };
        let pattern: EventPattern = pattern_text.parse().map_err(|error| wrong(&format!("{error}")))?;
        Ok(Self { written: written.to_owned(), pattern, pattern_text: pattern_text.to_owned() })
    }
}

/// The name in `event_type`: a text, or a list of one. Empty is none.
///
/// # Errors
/// 422 `INVALID_EVENT_TYPE`.
pub(super) fn event_type_of(value: &Json) -> Result<Option<&str>, ApiError> {
    let value = match value.as_array() {
        None => value,
        Some([one]) => one,
        Some(list) => {
            return Err(wrong(&format!(
                "must be one type, not {}; subscribe once for each, or with a pattern",
                list.len()
            )));
        }
    };
    let text = text_of(value).map_err(wrong)?;
    Ok((!text.is_empty()).then_some(text))
}

fn wrong(reason: &str) -> ApiError {
    problem::invalid("INVALID_EVENT_TYPE", "event_type", reason)
}

#[cfg(test)]
mod tests {
    use hookyard_domain::{
        catalogue::{SeedType, seed},
        wire::parse,
    };

    use super::*;

    fn pattern(written: &str) -> Result<String, &'static str> {
        let catalogue: Vec<CatalogueEntry> = seed()
            .iter()
            .map(SeedType::entry)
            .map(|entry| CatalogueEntry { archived: entry.name.as_str() == "hook.removed", ..entry })
            .collect();
        Wanted::of(written, &catalogue).map(|wanted| wanted.pattern_text).map_err(|error| error.code())
    }

    #[test]
    fn names_lead_to_what_is_matched() {
        for (written, expected) in [
            ("order.created", Ok("order.created")),
            ("read.completed.initial", Ok("read.completed.initial")),
            ("NewCompanySynchronized", Ok("read.completed.initial")),
            ("task_completed", Ok("task.completed")),
            ("DataConnectionStatusChanged", Ok("connection.*")),
            ("*.write.successful", Ok("*.write.successful")),
            ("hook.removed", Err("INVALID_EVENT_TYPE")),
            ("not a type", Err("INVALID_EVENT_TYPE")),
            ("a..b", Err("INVALID_EVENT_TYPE")),
        ] {
            assert_eq!(pattern(written), expected.map(str::to_owned), "{written}");
        }
    }

    #[test]
    fn an_event_type_is_a_text_or_a_list_of_one() {
        for (text, expected) in [
            (r#""a""#, Ok(Some("a"))),
            (r#"["a"]"#, Ok(Some("a"))),
            (r#""""#, Ok(None)),
            ("[]", Err("INVALID_EVENT_TYPE")),
            (r#"["a","b"]"#, Err("INVALID_EVENT_TYPE")),
            (r#"[["a"]]"#, Err("INVALID_EVENT_TYPE")),
            ("5", Err("INVALID_EVENT_TYPE")),
            ("{}", Err("INVALID_EVENT_TYPE")),
            (r#""\u0000""#, Err("INVALID_EVENT_TYPE")),
        ] {
            let json = parse(text.as_bytes()).unwrap();
            assert_eq!(event_type_of(&json).map_err(|error| error.code()), expected, "{text}");
        }
    }
}
