//! The members of a JSON object that a route takes, one by one and checked by name. Members that no route asks for are
//! ignored (contract §3: Zapier sends extra ones); `null` is the same as not given.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use chrono::{DateTime, Datelike, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::wire::{Json, Object, parse_stored};

use crate::problem;

/// The object in a body.
#[derive(Debug)]
pub(super) struct Fields(Object);

impl Fields {
    /// Reads a body; an empty one is an object without members.
    ///
    /// # Errors
    /// 400 `INVALID_JSON`, or 400 `INVALID_BODY` when it is something else than an object.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(Object::new()));
        }
        // Large integers are taken here: they may stand in a member that is ignored.
        let json = parse_stored(body).map_err(|error| {
            ApiError::bad_request("INVALID_JSON", error.to_string()).reason(error.reason())
        })?;
        match json.into_object() {
            Ok(object) => Ok(Self(object)),
            Err(_other) => Err(ApiError::bad_request("INVALID_BODY", "the body has to be a JSON object")),
        }
    }

    /// A member, unless it is `null`.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Whether the member is there, be it `null`.
    pub(super) fn mentions(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    /// A text that can be stored.
    ///
    /// # Errors
    /// 422 `INVALID_FIELD`.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, ApiError> {
        self.get(name).map(|value| text_of(value).map_err(|reason| invalid(name, reason))).transpose()
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// 422 `INVALID_FIELD`.
    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, ApiError> {
        self.get(name)
            .map(|value| value.as_bool().ok_or_else(|| invalid(name, "must be true or false")))
            .transpose()
    }

    /// The members of an object.
    ///
    /// # Errors
    /// 422 `INVALID_FIELD`.
    pub(super) fn object(&self, name: &'static str) -> Result<Option<Self>, ApiError> {
        let object = |value: &Json| match value.as_object() {
            Some(object) => Ok(Self(object.clone())),
            None => Err(invalid(name, "must be an object")),
        };
        self.get(name).map(object).transpose()
    }

    /// A whole number in a range.
    ///
    /// # Errors
    /// 422 `INVALID_FIELD`.
    pub(super) fn integer(
        &self,
        name: &'static str,
        range: RangeInclusive<i32>,
    ) -> Result<Option<i32>, ApiError> {
        let read = |value: &Json| {
            let number = value.as_integer().and_then(|number| i32::try_from(number).ok());
            number.filter(|number| range.contains(number)).ok_or_else(|| {
                invalid(name, &format!("must be a whole number from {} to {}", range.start(), range.end()))
            })
        };
        self.get(name).map(read).transpose()
    }

    /// An identifier; the error says how one looks.
    ///
    /// # Errors
    /// 422 `INVALID_FIELD`.
    pub(super) fn id<T: FromStr<Err: fmt::Display>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|error: T::Err| invalid(name, &format!("is not an id: {error}")))
        };
        self.text(name)?.map(parse).transpose()
    }

    /// A time: RFC 3339 with an offset, in the years 1970 to 9999.
    ///
    /// # Errors
    /// 422 `INVALID_FIELD`.
    pub(super) fn time(&self, name: &'static str) -> Result<Option<DateTime<Utc>>, ApiError> {
        self.text(name)?.map(|text| parse_time(text).map_err(|reason| invalid(name, reason))).transpose()
    }

    /// Texts that can be stored.
    ///
    /// # Errors
    /// 422 `INVALID_FIELD`.
    pub(super) fn texts(&self, name: &'static str, max: usize) -> Result<Option<Vec<&str>>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let list = value.as_array().ok_or_else(|| invalid(name, "must be a list of strings"))?;
        if list.len() > max {
            return Err(invalid(name, &format!("must have at most {max} entries, not {}", list.len())));
        }
        let texts: Result<Vec<&str>, _> = list.iter().map(text_of).collect();
        texts.map(Some).map_err(|_reason| invalid(name, "must be a list of strings"))
    }
}

/// 422 `INVALID_FIELD`; `reason` continues the name: "must be a string".
pub(super) fn invalid(name: &'static str, reason: &str) -> ApiError {
    problem::invalid("INVALID_FIELD", name, reason)
}

/// A text without lone surrogates, which UTF-8 has no bytes for, and without U+0000, which Postgres has no place for.
pub(super) fn text_of(value: &Json) -> Result<&str, &'static str> {
    let text =
        value.as_string().ok_or("must be a string")?.as_str().ok_or("must not have lone surrogates")?;
    if text.contains('\0') { Err("must not have the character U+0000") } else { Ok(text) }
}

/// RFC 3339 with an offset; the years that every client prints with four digits.
pub(super) fn parse_time(text: &str) -> Result<DateTime<Utc>, &'static str> {
    let time = DateTime::parse_from_rfc3339(text)
        .map_err(|_| "must be an RFC 3339 time with an offset, such as 2026-11-21T10:30:00.000Z")?
        .to_utc();
    if (1970..=9999).contains(&time.year()) {
        Ok(time)
    } else {
        Err("must lie between the years 1970 and 9999")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn nothing_is_an_object_without_members() {
        for text in ["", " \n", "{}"] {
            assert!(fields(text).get("url").is_none());
        }
        for (text, code) in [
            ("[]", "INVALID_BODY"),
            ("null", "INVALID_BODY"),
            ("{", "INVALID_JSON"),
            ("\u{feff}{}", "INVALID_JSON"),
        ] {
            assert_eq!(Fields::parse(text.as_bytes()).unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn a_large_number_in_a_member_that_is_ignored_is_ignored() {
        assert_eq!(fields(r#"{"zap_id":12345678901234567890,"url":"u"}"#).text("url").unwrap(), Some("u"));
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
        for text in [r#"{"a":"\u0000"}"#, r#"{"a":"\ud800"}"#, r#"{"a":5}"#, r#"{"a":["x"]}"#] {
            assert_eq!(fields(text).text("a").unwrap_err().code(), "INVALID_FIELD", "{text}");
        }
        assert_eq!(fields(r#"{"a":null}"#).text("a").unwrap(), None);
        assert!(fields(r#"{"a":null}"#).mentions("a") && !fields("{}").mentions("a"));
    }

    #[test]
    fn lists_are_bounded() {
        let list = |length: usize| format!(r#"{{"a":[{}]}}"#, vec![r#""x""#; length].join(","));
        assert_eq!(fields(&list(3)).texts("a", 3).unwrap().unwrap().len(), 3);
        assert!(fields(&list(4)).texts("a", 3).is_err());
        assert!(fields(r#"{"a":"x"}"#).texts("a", 3).is_err());
        assert!(fields(r#"{"a":[1]}"#).texts("a", 3).is_err());
    }
}
