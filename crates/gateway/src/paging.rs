//! Query strings and pages: parameters that are checked by name, keyset cursors, and the shape of a list
//! (`{"data", "next_cursor", "has_more"}`). What a page is filled with is the handler's.

use std::{borrow::Cow, fmt, str::FromStr};

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, http::header::CONTENT_TYPE};
use chrono::{DateTime, Datelike, Utc};
use hookyard_chassis::api_error::ApiError;
use serde::Serialize;

/// Entries on a page when the caller does not say.
pub(crate) const DEFAULT_LIMIT: i64 = 50;

/// Entries on a page at most.
pub(crate) const MAX_LIMIT: i64 = 100;

/// Parameters in a query string at most.
const MAX_PARAMETERS: usize = 50;

/// The parameters of a request. Take those the route knows, then [`Query::finish`] refuses what is left by name.
///
/// As the argument of a handler it fails with 400 `INVALID_PARAMETER` when a parameter is given twice.
#[derive(Debug)]
pub(crate) struct Query {
    given: Vec<(String, String)>,
    known: Vec<Cow<'static, str>>,
}

/// 400 `INVALID_PARAMETER`; `reason` continues the name: "must be a number".
pub(crate) fn invalid_parameter(name: &str, reason: impl fmt::Display) -> ApiError {
    let shown: String = name.chars().take(60).collect();
    ApiError::bad_request("INVALID_PARAMETER", format!("the parameter `{shown}` {reason}"))
        .field(shown)
        .reason(reason.to_string())
}

impl Query {
    /// Reads `a=1&b=2` (application/x-www-form-urlencoded).
    ///
    /// # Errors
    /// 400 for a parameter that is given twice, or too many of them.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut given: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if given.iter().any(|(there, _)| *there == name) {
                return Err(invalid_parameter(&name, "is given more than once"));
            }
            if given.len() == MAX_PARAMETERS {
                return Err(invalid_parameter(
                    &name,
                    format!("is more than the {MAX_PARAMETERS} that are read"),
                ));
            }
            given.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self { given, known: Vec::new() })
    }

    /// The value of a parameter, if it is given. An empty value is a value.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(Cow::Borrowed(name));
        let at = self.given.iter().position(|(given, _)| given == name)?;
        Some(self.given.swap_remove(at).1)
    }

    /// All parameters whose name begins so, without that beginning: `metadata.` for `metadata.order=7`.
    pub(crate) fn with_prefix(&mut self, prefix: &'static str) -> Vec<(String, String)> {
        self.known.push(Cow::Owned(format!("{prefix}<key>")));
        let (taken, left) =
            std::mem::take(&mut self.given).into_iter().partition(|(name, _)| name.starts_with(prefix));
        self.given = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(name, value)| (name[prefix.len()..].to_owned(), value)).collect()
    }

    /// A parameter of any type that is read from text.
    ///
    /// # Errors
    /// 400 that names the parameter, with `expected`, which continues "must be".
    pub(crate) fn value<T: FromStr>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
        self.text(name)
            .map(|text| text.parse().map_err(|_| invalid_parameter(name, format!("must be {expected}"))))
            .transpose()
    }

    /// A whole number in digits, from the first to the last of the range.
    ///
    /// # Errors
    /// 400 that names the parameter and the range.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        (least, most): (i64, i64),
    ) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        // Digits only: `+5` is a number to Rust and a mistake in a URL.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<i64>().ok().filter(|number| digits && (least..=most).contains(number));
        number
            .map(Some)
            .ok_or_else(|| invalid_parameter(name, format!("must be a whole number from {least} to {most}")))
    }

    /// An identifier; the error says how one looks.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(crate) fn id<T: FromStr<Err: fmt::Display>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, ApiError> {
        self.text(name)
            .map(|text| {
                text.parse().map_err(|error| invalid_parameter(name, format!("is not an id: {error}")))
            })
            .transpose()
    }

    /// A time: RFC 3339 with an offset, in the years 1970 to 9999.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(crate) fn time(&mut self, name: &'static str) -> Result<Option<DateTime<Utc>>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        // A `+` that was not escaped reads as a blank.
        let parsed = DateTime::parse_from_rfc3339(&text)
            .or_else(|_| DateTime::parse_from_rfc3339(&text.replace(' ', "+")));
        parsed
            .map(|time| time.to_utc())
            .ok()
            .filter(|time| (1970..=9999).contains(&time.year()))
            .map(Some)
            .ok_or_else(|| {
                invalid_parameter(
                    name,
                    "must be an RFC 3339 time with an offset, such as 2026-11-21T10:30:00.000Z",
                )
            })
    }

    /// `true` or `false`; absent is `false`.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, ApiError> {
        Ok(self.value(name, "true or false")?.unwrap_or(false))
    }

    /// `limit`: 1 to [`MAX_LIMIT`], by default [`DEFAULT_LIMIT`].
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(crate) fn limit(&mut self) -> Result<i64, ApiError> {
        Ok(self.number("limit", (1, MAX_LIMIT))?.unwrap_or(DEFAULT_LIMIT))
    }

    /// `cursor`: what an earlier page gave as `next_cursor`.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(crate) fn cursor<T: FromStr>(&mut self) -> Result<Option<T>, ApiError> {
        self.value("cursor", "the `next_cursor` of an earlier page of this list")
    }

    /// Refuses parameters that nobody took.
    ///
    /// # Errors
    /// 400 that names the first of them, and those that are known.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.given.first() {
            None => Ok(()),
            Some((name, _)) if self.known.is_empty() => {
                Err(invalid_parameter(name, "is not known here; none is"))
            }
            Some((name, _)) => {
                Err(invalid_parameter(name, format!("is not known here; known: {}", self.known.join(", "))))
            }
        }
    }
}

impl FromRequest for Query {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        std::future::ready(Self::parse(request.query_string()))
    }
}

/// `{id}` of the path as an identifier; 400 `INVALID_ID` when it is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id<T>(pub(crate) T);

impl<T: FromStr<Err: fmt::Display>> FromRequest for Id<T> {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let text = request.match_info().get("id").unwrap_or_default();
        let id = text.parse().map(Self).map_err(|error: T::Err| {
            ApiError::bad_request("INVALID_ID", format!("the id in the path is not one: {error}"))
                .field("id")
                .reason(error.to_string())
        });
        std::future::ready(id)
    }
}

/// A page of a list: at most `limit` entries, and where the next page begins.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    data: Vec<T>,
    next_cursor: Option<String>,
    has_more: bool,
}

impl<R> Page<R> {
    /// Makes a page of rows that were asked for with one more than `limit`: the one more tells whether there is a next
    /// page. `cursor` names the place of a row.
    pub(crate) fn new<C: fmt::Display>(mut rows: Vec<R>, limit: i64, cursor: impl Fn(&R) -> C) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        Self::cut(rows, has_more, cursor)
    }

    /// A page whose end was decided otherwise.
    pub(crate) fn cut<C: fmt::Display>(data: Vec<R>, has_more: bool, cursor: impl Fn(&R) -> C) -> Self {
        let next_cursor = data.last().filter(|_| has_more).map(|row| cursor(row).to_string());
        Self { data, next_cursor, has_more }
    }

    /// A page that ended before it was full: it goes on behind this place.
    pub(crate) fn stopped_at(data: Vec<R>, cursor: impl fmt::Display) -> Self {
        Self { data, next_cursor: Some(cursor.to_string()), has_more: true }
    }

    /// The same page of what leaves for each row.
    pub(crate) fn map<T>(self, view: impl FnMut(R) -> T) -> Page<T> {
        let Self { data, next_cursor, has_more } = self;
        Page { data: data.into_iter().map(view).collect(), next_cursor, has_more }
    }

    /// The same page of what leaves for each row, unless one of them cannot leave.
    ///
    /// # Errors
    /// That of the first row that cannot.
    pub(crate) fn try_map<T, E>(self, view: impl FnMut(R) -> Result<T, E>) -> Result<Page<T>, E> {
        let Self { data, next_cursor, has_more } = self;
        Ok(Page { data: data.into_iter().map(view).collect::<Result<_, _>>()?, next_cursor, has_more })
    }
}

impl<T: Serialize> Page<T> {
    /// 200 with the list.
    pub(crate) fn respond(&self) -> HttpResponse {
        HttpResponse::Ok().json(self)
    }
}

impl Page<Vec<u8>> {
    /// 200 with a list whose entries are JSON already: they are copied, not parsed.
    pub(crate) fn respond_spliced(&self) -> HttpResponse {
        let mut body = Vec::with_capacity(self.data.iter().map(|entry| entry.len() + 1).sum::<usize>() + 96);
        body.extend_from_slice(b"{\"data\":[");
        for (at, entry) in self.data.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            body.extend_from_slice(entry);
        }
        // A cursor is the text of an id or a number: nothing in it needs an escape.
        let next =
            self.next_cursor.as_ref().map_or_else(|| "null".to_owned(), |cursor| format!("\"{cursor}\""));
        body.extend_from_slice(
            format!("],\"next_cursor\":{next},\"has_more\":{}}}", self.has_more).as_bytes(),
        );
        HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(body)
    }
}

#[cfg(test)]
mod tests {
    use hookyard_domain::id::EventId;

    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    #[test]
    fn a_limit_is_1_to_100_and_50_by_default() {
        assert_eq!(query("").limit().unwrap(), 50);
        for (text, expected) in [("1", Some(1)), ("100", Some(100)), ("0", None), ("101", None), ("", None)] {
            assert_eq!(query(&format!("limit={text}")).limit().ok(), expected, "{text}");
        }
        for text in ["-1", "%2B5", "5.0", "1e1", "99999999999999999999", "five", " 5", "٥"] {
            assert_eq!(
                query(&format!("limit={text}")).limit().unwrap_err().code(),
                "INVALID_PARAMETER",
                "{text}"
            );
        }
    }

    #[test]
    fn times_need_an_offset() {
        let time = |text: &str| query(&format!("since={text}")).time("since");
        let expected = DateTime::from_timestamp_millis(1_763_720_000_123).unwrap();
        for good in
            ["2025-11-21T10:13:20.123Z", "2025-11-21T11:13:20.123%2B01:00", "2025-11-21T11:13:20.123+01:00"]
        {
            assert_eq!(time(good).unwrap(), Some(expected), "{good}");
        }
        for bad in
            ["", "yesterday", "2025-11-21", "2025-11-21T10:13:20", "1763720000", "0001-01-01T00:00:00Z"]
        {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert_eq!(query("").time("since").unwrap(), None);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let mut unknown = query("limit=5&lmit=6");
        assert_eq!(unknown.limit().unwrap(), 5);
        assert_eq!(
            unknown.finish().unwrap_err().message(),
            "the parameter `lmit` is not known here; known: limit"
        );
        assert!(query("a=1").finish().unwrap_err().message().ends_with("none is"));
        assert!(query("").finish().is_ok());
        assert!(Query::parse("a=1&b=2&a=1").is_err());
        let many: String = (0..51).map(|n| format!("p{n}=1&")).collect();
        assert!(Query::parse(&many).is_err());
    }

    #[test]
    fn parameters_with_a_prefix_are_taken_together() {
        let mut query = query("metadata.a=1&limit=2&metadata.b.c=x%20y");
        let taken = query.with_prefix("metadata.");
        assert_eq!(taken, [("a".to_owned(), "1".to_owned()), ("b.c".to_owned(), "x y".to_owned())]);
        assert_eq!(query.limit().unwrap(), 2);
        assert!(query.finish().is_ok());
    }

    #[test]
    fn cursors_are_ids() {
        let id = EventId::from_uuid(uuid::Uuid::from_u128(7));
        assert_eq!(query(&format!("cursor={id}")).cursor().unwrap(), Some(id));
        assert!(query("cursor=evt_7").cursor::<EventId>().is_err());
        assert!(query("event=hook_7").id::<EventId>("event").unwrap_err().message().contains("evt_01"));
    }

    #[test]
    fn a_page_tells_whether_there_is_another() {
        let page = |rows: &[u32]| Page::new(rows.to_vec(), 2, |row| *row);
        let json = |page: &Page<u32>| serde_json::to_string(page).unwrap();
        assert_eq!(json(&page(&[])), r#"{"data":[],"next_cursor":null,"has_more":false}"#);
        assert_eq!(json(&page(&[9, 8])), r#"{"data":[9,8],"next_cursor":null,"has_more":false}"#);
        assert_eq!(json(&page(&[9, 8, 7])), r#"{"data":[9,8],"next_cursor":"8","has_more":true}"#);
    }
}
