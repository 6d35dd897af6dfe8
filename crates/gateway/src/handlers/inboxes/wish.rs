//! What the owner of an inbox asks for: the members of a body, each checked by itself. What is not there is left as it is, and `null` takes
//! away what can be taken away.

use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    catalogue::CatalogueEntry,
    subscription::{
        consumer::TTL_S,
        inbox::{DEFAULT_MAX_LEASES, MAX_LEASES, MAX_NAME_CHARS, store::Terms},
    },
    wire::Json,
};

use crate::handlers::{
    consumers::wish::{company_tags, event_types, filter, patterns},
    fields::{Fields, invalid, text_of},
};

/// What is asked for. The outer `Option` says whether anything is said of it.
#[derive(Debug, Default)]
pub(super) struct Wish {
    pub(super) name: Option<String>,
    pub(super) paused: Option<bool>,
    event_types: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    filter: Option<Option<String>>,
    max_leases: Option<i16>,
    ttl_s: Option<Option<i32>>,
}

impl Wish {
    /// Reads a body.
    ///
    /// # Errors
    /// The first member that is not acceptable.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        let read_types = |json: &Json| match json.as_array() {
            // Everything.
            Some([]) => Ok(Vec::new()),
            Some(_) | None => event_types(json, "event_types"),
        };
        let taken_away = |name| (fields.mentions(name) && fields.get(name).is_none()).then_some(None);
        let max_leases = fields.integer("max_leases", MAX_LEASES)?;
        Ok(Self {
            name: fields.get("name").map(name).transpose()?,
            paused: fields.flag("paused")?,
            event_types: match fields.get("event_types") {
                Some(json) => Some(read_types(json)?),
                None => fields.mentions("event_types").then(Vec::new),
            },
            tags: match fields.get("tags") {
                Some(json) => Some(company_tags(json, "tags")?),
                None => fields.mentions("tags").then(Vec::new),
            },
            filter: match fields.get("filter") {
                Some(json) => Some(Some(filter(json)?)),
                None => taken_away("filter"),
            },
            max_leases: match max_leases {
                Some(most) => i16::try_from(most).ok(),
                None => fields.mentions("max_leases").then_some(nothing().max_leases),
            },
            ttl_s: match fields.integer("ttl_seconds", TTL_S)? {
                Some(seconds) => Some(Some(seconds)),
                None => fields.mentions("ttl_seconds").then_some(None),
            },
        })
    }

    /// What it makes of what was said before.
    ///
    /// # Errors
    /// 422 `INVALID_EVENT_TYPE` for a name that is archived, or none.
    pub(super) fn apply(&self, before: Terms, catalogue: &[CatalogueEntry]) -> Result<Terms, ApiError> {
        let (event_types, patterns) = match &self.event_types {
            None => (before.event_types, before.patterns),
            Some(names) => (names.clone(), patterns(names, catalogue, "event_types")?),
        };
        Ok(Terms {
            name: self.name.clone().unwrap_or(before.name),
            event_types,
            patterns,
            tags: self.tags.clone().unwrap_or(before.tags),
            filter: self.filter.clone().unwrap_or(before.filter),
            max_leases: self.max_leases.unwrap_or(before.max_leases),
            ttl_s: self.ttl_s.unwrap_or(before.ttl_s),
        })
    }
}

/// Nothing said yet.
pub(super) fn nothing() -> Terms {
    Terms {
        name: String::new(),
        event_types: Vec::new(),
        patterns: Vec::new(),
        tags: Vec::new(),
        filter: None,
        max_leases: i16::try_from(DEFAULT_MAX_LEASES).unwrap_or(i16::MAX),
        ttl_s: None,
    }
}

fn name(json: &Json) -> Result<String, ApiError> {
    let text = text_of(json).map_err(|reason| invalid("name", reason))?;
    let chars = text.chars().count();
    if text.trim().is_empty() || chars > MAX_NAME_CHARS {
        return Err(invalid("name", &format!("must have 1 to {MAX_NAME_CHARS} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid("name", "must not have control characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_takes_away_and_what_is_not_said_stays() {
        let before = Terms {
            name: "n".to_owned(),
            event_types: vec!["a.b".to_owned()],
            patterns: vec!["a.b".to_owned()],
            tags: vec!["k:v".to_owned()],
            filter: Some("{}".to_owned()),
            max_leases: 3,
            ttl_s: Some(60),
        };
        let after = |body: &str| {
            let terms = Wish::parse(body.as_bytes()).unwrap().apply(before.clone(), &[]).unwrap();
            (terms.name, terms.patterns.len(), terms.tags.len(), terms.filter, terms.max_leases, terms.ttl_s)
        };
        assert_eq!(after("{}"), ("n".to_owned(), 1, 1, Some("{}".to_owned()), 3, Some(60)));
        let nothing =
            r#"{"event_types":null,"tags":null,"filter":null,"max_leases":null,"ttl_seconds":null}"#;
        assert_eq!(after(nothing), ("n".to_owned(), 0, 0, None, 10, None));
        assert_eq!(after(r#"{"event_types":[],"name":"m"}"#).1, 0);
    }
}
