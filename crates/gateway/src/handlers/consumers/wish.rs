//! What the owner of a consumer asks for: the members of a body, each checked by itself. What is not there is left as it is, and
//! `null` takes away what can be taken away.

use chrono::{DateTime, Utc};
use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    catalogue::CatalogueEntry,
    subscription::{
        Filter, FilterError,
        consumer::{
            self, ClientCertificate, Headers, MAX_DESCRIPTION_CHARS, MAX_EVENT_TYPES, MAX_RATE, Method,
            Place, TTL_S, Transformation,
            store::{ConsumerView, Terms},
            tags::{self, MAX_TAGS},
        },
        zapier,
    },
    wire::{Json, SigningSecret},
};
use hookyard_egress::Certificate;
use url::Url;

use crate::{
    context::Context,
    handlers::{
        fields::{Fields, invalid, text_of},
        zapier::Wanted,
    },
    problem,
};

/// What is said of a secret that would go elsewhere.
const SAY_IT_AGAIN: &str = "has to be given again or taken away, as it would be shown to another origin";

/// What is asked for. The outer `Option` says whether anything is said of it.
#[derive(Debug, Default)]
pub(super) struct Wish {
    pub(super) url: Option<String>,
    pub(super) event_types: Option<Vec<String>>,
    pub(super) disabled: Option<bool>,
    pub(super) secret: Option<SigningSecret>,
    pub(super) headers: Option<Headers>,
    pub(super) certificate: Option<Option<ClientCertificate>>,
    pub(super) transformation: Option<Option<Transformation>>,
    description: Option<String>,
    tags: Option<Vec<String>>,
    filter: Option<Option<String>>,
    method: Option<Method>,
    rate_limit: Option<Option<i32>>,
    ttl_s: Option<Option<i32>>,
    ordering_key: Option<Option<String>>,
}

impl Wish {
    /// Reads a body.
    ///
    /// # Errors
    /// The first member that is not acceptable.
    pub(super) fn parse(body: &[u8], context: &Context, now: DateTime<Utc>) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        /// What is said of a member that may be taken away.
        fn said<T>(
            fields: &Fields,
            name: &str,
            read: impl FnOnce(&Json) -> Result<T, ApiError>,
        ) -> Result<Option<Option<T>>, ApiError> {
            match fields.get(name) {
                Some(json) => Ok(Some(Some(read(json)?))),
                None if fields.mentions(name) => Ok(Some(None)),
                None => Ok(None),
            }
        }
        Ok(Self {
            url: fields.get("url").map(|json| url(json, context)).transpose()?,
            event_types: fields.get("eventTypes").map(|json| event_types(json, "eventTypes")).transpose()?,
            disabled: fields.flag("disabled")?,
            secret: fields.get("secret").map(secret).transpose()?,
            headers: said(&fields, "headers", headers)?.map(Option::unwrap_or_default),
            certificate: said(&fields, "client_certificate", |json| certificate(json, now))?,
            transformation: said(&fields, "transformation", transformation)?,
            description: said(&fields, "description", description)?.map(Option::unwrap_or_default),
            tags: said(&fields, "companyTags", |json| company_tags(json, "companyTags"))?
                .map(Option::unwrap_or_default),
            filter: said(&fields, "filter", filter)?,
            method: said(&fields, "method", method)?.map(Option::unwrap_or_default),
            rate_limit: said(&fields, "rate_limit", |_| {
                Ok(fields.integer("rate_limit", 1..=MAX_RATE)?.unwrap_or_default())
            })?,
            ttl_s: said(&fields, "ttl_seconds", |_| {
                Ok(fields.integer("ttl_seconds", TTL_S)?.unwrap_or_default())
            })?,
            ordering_key: said(&fields, "ordering_key", ordering_key)?,
        })
    }

    /// What is never shown is not sent where it was not sent before, unless whoever moves the consumer says it once more: nobody reads
    /// it by moving the consumer home.
    ///
    /// # Errors
    /// 422 `INVALID_HEADERS` or `INVALID_CERTIFICATE` when the URL gets another origin and nothing is said of those that there are.
    pub(super) fn gives_again(&self, before: &ConsumerView) -> Result<(), ApiError> {
        let Some(url) = &self.url else { return Ok(()) };
        if let (Ok(from), Ok(to)) = (Url::parse(&before.url), Url::parse(url))
            && from.origin() == to.origin()
        {
            return Ok(());
        }
        if self.headers.is_none() && !before.header_names.is_empty() {
            return Err(problem::invalid("INVALID_HEADERS", "headers", SAY_IT_AGAIN));
        }
        if self.certificate.is_none() && before.certificate.is_some() {
            return Err(problem::invalid("INVALID_CERTIFICATE", "client_certificate", SAY_IT_AGAIN));
        }
        Ok(())
    }

    /// What a new consumer is to be.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub(super) fn made(&self, catalogue: &[CatalogueEntry]) -> Result<Terms, ApiError> {
        let mut terms = self.apply(nothing(), catalogue)?;
        if self.description.is_none() {
            let types: Vec<&str> = terms.event_types.iter().map(String::as_str).collect();
            terms.description = zapier::description(&terms.url, &types).unwrap_or_default();
        }
        Ok(terms)
    }

    /// What it makes of what was said before.
    ///
    /// # Errors
    /// 422 `INVALID_EVENT_TYPE` for a name that is archived, or none.
    pub(super) fn apply(&self, before: Terms, catalogue: &[CatalogueEntry]) -> Result<Terms, ApiError> {
        let (event_types, patterns) = match &self.event_types {
            None => (before.event_types, before.patterns),
            Some(names) => (names.clone(), patterns(names, catalogue, "eventTypes")?),
        };
        let transformation =
            |made: &Option<Transformation>| made.as_ref().map(|made| made.canonical_text().to_owned());
        Ok(Terms {
            url: self.url.clone().unwrap_or(before.url),
            description: self.description.clone().unwrap_or(before.description),
            event_types,
            patterns,
            tags: self.tags.clone().unwrap_or(before.tags),
            filter: self.filter.clone().unwrap_or(before.filter),
            method: self.method.unwrap_or(before.method),
            rate_limit: self.rate_limit.unwrap_or(before.rate_limit),
            ttl_s: self.ttl_s.unwrap_or(before.ttl_s),
            ordering_key: self.ordering_key.clone().unwrap_or(before.ordering_key),
            transformation: self.transformation.as_ref().map_or(before.transformation, transformation),
        })
    }
}

/// Nothing said yet.
fn nothing() -> Terms {
    Terms {
        url: String::new(),
        description: String::new(),
        event_types: Vec::new(),
        patterns: Vec::new(),
        tags: Vec::new(),
        filter: None,
        method: Method::default(),
        rate_limit: None,
        ttl_s: None,
        ordering_key: None,
        transformation: None,
    }
}

/// The types or patterns that names stand for, each once.
///
/// # Errors
/// 422 `INVALID_EVENT_TYPE` for a name that is archived, or none, at its place in `member`.
pub(in crate::handlers) fn patterns(
    names: &[String],
    catalogue: &[CatalogueEntry],
    member: &str,
) -> Result<Vec<String>, ApiError> {
    let mut patterns: Vec<String> = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let wanted = Wanted::of(name, catalogue).map_err(|error| error.field(format!("{member}[{at}]")))?;
        if !patterns.contains(&wanted.pattern_text) {
            patterns.push(wanted.pattern_text);
        }
    }
    Ok(patterns)
}

fn url(json: &Json, context: &Context) -> Result<String, ApiError> {
    let refused = |reason: &str| problem::invalid("INVALID_WEBHOOK_URL", "url", reason);
    let text = text_of(json).map_err(refused)?;
    let checked = context.webhook_urls.check(text).map_err(|reason| refused(&reason))?;
    context.egress.check(&checked.url).map_err(|refusal| refused(&refusal.to_string()))?;
    Ok(text.to_owned())
}

/// The names in a list of at least one.
///
/// # Errors
/// 422 `INVALID_EVENT_TYPE`.
pub(in crate::handlers) fn event_types(json: &Json, member: &'static str) -> Result<Vec<String>, ApiError> {
    let wrong = |reason: &str| problem::invalid("INVALID_EVENT_TYPE", member, reason);
    let items = json.as_array().filter(|items| !items.is_empty());
    let items = items.ok_or_else(|| wrong("must be a list of at least one event type"))?;
    if items.len() > MAX_EVENT_TYPES {
        return Err(wrong(&format!("must have at most {MAX_EVENT_TYPES} entries, not {}", items.len())));
    }
    let mut names: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let name = text_of(item).map_err(|_| wrong("must be a list of strings"))?;
        if !names.iter().any(|there| there == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn secret(json: &Json) -> Result<SigningSecret, ApiError> {
    let wrong = |reason: &str| problem::invalid("INVALID_SECRET", "secret", reason);
    let text = text_of(json).map_err(wrong)?;
    SigningSecret::parse(text).map_err(|error| wrong(&format!("is none: {error}")))
}

fn headers(json: &Json) -> Result<Headers, ApiError> {
    let wrong = |field: &str, reason: &str| {
        ApiError::unprocessable("INVALID_HEADERS", format!("{field} {reason}"))
            .field(field.to_owned())
            .reason(reason)
    };
    let Some(object) = json.as_object() else {
        return Err(wrong("headers", "must be an object of names with their values"));
    };
    let mut given = Vec::with_capacity(object.len());
    for (name, value) in object.iter() {
        let shown = format!("headers.{}", name.to_str_lossy().chars().take(64).collect::<String>());
        let name = name.as_str().ok_or_else(|| wrong("headers", "must not have lone surrogates"))?;
        given.push((name, text_of(value).map_err(|reason| wrong(&shown, reason))?));
    }
    Headers::new(given).map_err(|(name, reason)| match name.as_str() {
        "" => wrong("headers", &reason),
        name => wrong(&format!("headers.{name}"), &reason),
    })
}

fn certificate(json: &Json, now: DateTime<Utc>) -> Result<ClientCertificate, ApiError> {
    let wrong = |reason: &str| problem::invalid("INVALID_CERTIFICATE", "client_certificate", reason);
    let text = |name: &'static str| {
        let text = json.get(name).and_then(|value| text_of(value).ok());
        text.ok_or_else(|| wrong("must be an object with certificate and private_key, both PEM texts"))
    };
    let (chain, key) = (text("certificate")?, text("private_key")?);
    let checked = Certificate::check(chain, key, now.into()).map_err(|error| wrong(&error.to_string()))?;
    Ok(ClientCertificate { chain: chain.to_owned(), key: key.to_owned(), until: checked.until.into() })
}

fn transformation(json: &Json) -> Result<Transformation, ApiError> {
    Transformation::parse(json)
        .map_err(|error| refused("INVALID_TRANSFORMATION", "the transformation", error))
}

/// A filter as it is stored.
///
/// # Errors
/// 422 `INVALID_FILTER`, with the place.
pub(in crate::handlers) fn filter(json: &Json) -> Result<String, ApiError> {
    let checked = Filter::parse(json).map_err(|error| refused("INVALID_FILTER", "the filter", error))?;
    Ok(checked.canonical_text())
}

fn refused(code: &'static str, what: &str, error: FilterError) -> ApiError {
    let message = format!("{what} cannot be used: {error}");
    ApiError::unprocessable(code, message).field(error.path).reason(error.reason)
}

fn description(json: &Json) -> Result<String, ApiError> {
    let text = text_of(json).map_err(|reason| invalid("description", reason))?;
    if text.chars().count() > MAX_DESCRIPTION_CHARS {
        let reason = format!("must have at most {MAX_DESCRIPTION_CHARS} characters");
        return Err(invalid("description", &reason));
    }
    Ok(text.to_owned())
}

/// The tags in a list, each once.
///
/// # Errors
/// 422 `INVALID_FIELD`, with the place.
pub(in crate::handlers) fn company_tags(json: &Json, member: &'static str) -> Result<Vec<String>, ApiError> {
    let wrong = |field: String, reason: &str| {
        ApiError::unprocessable("INVALID_FIELD", format!("{field} {reason}")).field(field).reason(reason)
    };
    let Some(items) = json.as_array() else {
        return Err(invalid(member, "must be a list of strings such as region:uk"));
    };
    if items.len() > MAX_TAGS {
        let reason = format!("must have at most {MAX_TAGS} entries, not {}", items.len());
        return Err(invalid(member, &reason));
    }
    let mut all: Vec<String> = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let field = format!("{member}[{at}]");
        let text = text_of(item).map_err(|reason| wrong(field.clone(), reason))?;
        tags::check(text).map_err(|reason| wrong(field, &reason))?;
        if !all.iter().any(|there| there == text) {
            all.push(text.to_owned());
        }
    }
    Ok(all)
}

fn method(json: &Json) -> Result<Method, ApiError> {
    let method = json.as_str().and_then(|text| text.parse().ok());
    method.ok_or_else(|| invalid("method", "must be POST or PUT"))
}

fn ordering_key(json: &Json) -> Result<String, ApiError> {
    let text = text_of(json).map_err(|reason| invalid("ordering_key", reason))?;
    Place::parse(text).map_err(|reason| invalid("ordering_key", &reason))?;
    Ok(text.to_owned())
}

/// 422 when the transformation makes of such an event what cannot be sent. An event that merely lacks something says nothing
/// about others.
pub(super) fn tried(transformation: &Transformation, event: &Json) -> Result<(), ApiError> {
    match transformation.apply(event) {
        Ok(_) | Err(consumer::TransformError::NoObject(consumer::NOTHING)) => Ok(()),
        Err(error) => {
            let of = event.get("event_type").and_then(Json::as_str).unwrap_or_default();
            let reason = format!("was tried on an event {of} and {error}");
            Err(problem::invalid("INVALID_TRANSFORMATION", "transformation", &reason))
        }
    }
}
