//! Transformations without code (contract §4): which events a consumer does not get after all, and what the body of the others
//! looks like. A transformation is a JSON object:
//!
//! ```json
//! {"cancel": {"payload.amount": {"$lt": 10}},
//!  "body": {"order": {"$from": "payload.id"}, "who": {"$from": "payload.customer.name", "$default": "unknown"}, "v": 2}}
//! ```
//!
//! `cancel` is a filter over the event (`subscription::filter`): what it matches is not sent. `body` is a template: an object with
//! `$from` stands for what is at that place in the event (with `$default`, or left out, when there is nothing), one with `$value`
//! for a value as it is written, everything else for itself. Instead of `body`, `pick` and `rename` change the payload within
//! the envelope: which of its places are kept, and what they are called.
//!
//! There are no loops and no functions, so that what it costs is known before it is done: the event is read once, each place of
//! the transformation is looked up once, and building ends when the body is too large.

use super::place::Place;
use crate::{
    subscription::filter::{Filter, FilterError},
    wire::{Json, JsonString, Object, parse_stored, to_canonical, write_canonical},
};

/// The largest transformation, as canonical JSON, in bytes.
const MAX_BYTES: usize = 16 << 10;
/// The most entries of `pick`, of `rename`, and the most references of a template.
const MAX_PLACES: usize = 128;
/// How many objects and lists of a template may stand within each other.
const MAX_DEPTH: usize = 16;
/// The largest body that it may make, in bytes.
pub const MAX_RESULT_BYTES: usize = 1 << 20;

/// A checked transformation.
#[derive(Clone, Debug)]
pub struct Transformation {
    cancel: Option<Filter>,
    shape: Shape,
    text: String,
}

#[derive(Clone, Debug)]
enum Shape {
    /// The envelope, with this done to its payload.
    Payload { pick: Option<Vec<Place>>, rename: Vec<(Place, Place)> },
    /// This instead of the envelope.
    Body(Template),
}

#[derive(Clone, Debug)]
enum Template {
    Constant(Json),
    From { place: Place, default: Option<Json> },
    Object(Vec<(JsonString, Template)>),
    Array(Vec<Template>),
}

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transformed {
    /// This is sent.
    Body(Vec<u8>),
    /// It is not sent.
    Cancelled,
}

/// What is made where the place that is sent is not in the event.
pub const NOTHING: &str = "nothing";

/// Why an event cannot be transformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// The body is a text, a number, a list, …
    #[error("makes {0} of it, and a body has to be an object")]
    NoObject(&'static str),
    /// The body is larger than [`MAX_RESULT_BYTES`].
    #[error("makes a body of it that is larger than {MAX_RESULT_BYTES} bytes")]
    TooLarge,
}

impl Transformation {
    /// Reads a transformation that is stored as canonical JSON.
    ///
    /// # Errors
    /// What cannot be read, as a sentence: it was checked before it was stored.
    pub(crate) fn stored(text: &str) -> Result<Self, String> {
        let json = parse_stored(text.as_bytes()).map_err(|error| error.to_string())?;
        Self::parse(&json).map_err(|error| error.to_string())
    }

    /// Checks a transformation.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(json: &Json) -> Result<Self, FilterError> {
        let Json::Object(object) = json else {
            return Err(wrong("transformation", "must be a JSON object"));
        };
        let text = to_canonical(json);
        if text.len() > MAX_BYTES {
            return Err(wrong(
                "transformation",
                format!("must have at most {MAX_BYTES} bytes as compact JSON"),
            ));
        }
        let given = |name: &str| object.get(name).filter(|value| !value.is_null());
        for (name, _) in object.iter() {
            let known = ["cancel", "pick", "rename", "body"].into_iter().any(|known| name == known);
            if !known {
                let path = format!("transformation.{}", name.to_str_lossy());
                return Err(wrong(&path, "is not known; there are cancel, pick, rename and body"));
            }
        }
        let cancel = given("cancel").map(Filter::parse).transpose().map_err(|error| {
            let path = error.path.replacen("filter", "transformation.cancel", 1);
            FilterError { path, reason: error.reason }
        })?;
        let shape = match (given("body"), given("pick"), given("rename")) {
            (Some(body), None, None) => {
                let mut compiler = Compiler { places: 0 };
                let template = compiler.template(body, "transformation.body", 1)?;
                if !matches!(template, Template::Object(_) | Template::From { .. }) {
                    return Err(wrong("transformation.body", "must be an object, for that is what is sent"));
                }
                Shape::Body(template)
            }
            (Some(_), _, _) => {
                return Err(wrong(
                    "transformation.body",
                    "replaces all that is sent; pick and rename cannot stand beside it",
                ));
            }
            (None, None, None) if cancel.is_none() => {
                return Err(wrong("transformation", "must have cancel, pick, rename or body"));
            }
            (None, pick, rename) => Shape::Payload {
                pick: pick.map(picked).transpose()?,
                rename: rename.map(renamed).transpose()?.unwrap_or_default(),
            },
        };
        Ok(Self { cancel, shape, text: String::from_utf8(text).unwrap_or_default() })
    }

    /// The transformation as canonical JSON: what is stored.
    #[must_use]
    pub fn canonical_text(&self) -> &str {
        &self.text
    }

    /// Transforms a stored event.
    ///
    /// # Errors
    /// [`TransformError`] when what it makes cannot be sent.
    pub fn apply(&self, event: &Json) -> Result<Transformed, TransformError> {
        if self.cancel.as_ref().is_some_and(|cancel| cancel.matches(event)) {
            return Ok(Transformed::Cancelled);
        }
        let body = match &self.shape {
            Shape::Payload { pick, rename } => envelope(event, payload(event, pick.as_deref(), rename)?),
            Shape::Body(template) => {
                let mut budget = MAX_RESULT_BYTES;
                template.build(event, &mut budget)?.unwrap_or(Json::Null)
            }
        };
        if body.as_object().is_none() {
            return Err(TransformError::NoObject(kind(&body)));
        }
        let mut bytes = Vec::with_capacity(256);
        write_canonical(&body, &mut bytes);
        if bytes.len() > MAX_RESULT_BYTES {
            Err(TransformError::TooLarge)
        } else {
            Ok(Transformed::Body(bytes))
        }
    }
}

fn wrong(path: &str, reason: impl Into<String>) -> FilterError {
    crate::subscription::filter::wrong(path, reason)
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => NOTHING,
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// The envelope of a consumer around a payload (contract §4).
fn envelope(event: &Json, payload: Object) -> Json {
    let of = |name: &str| event.get(name).cloned().unwrap_or(Json::Null);
    let mut envelope = Object::new();
    envelope.insert("id", of("id"));
    envelope.insert("eventType", of("event_type"));
    envelope.insert("generatedDate", of("timestamp"));
    envelope.insert("payload", payload);
    envelope.into()
}

/// A copy of a value, when the bytes that may still be copied are enough for it. Counted before it is made, so that places
/// that lie within each other, or are named many times, cannot make a large event many times larger.
fn copied(value: &Json, budget: &mut usize) -> Result<Json, TransformError> {
    let bytes = to_canonical(value).len();
    *budget = budget.checked_sub(bytes).ok_or(TransformError::TooLarge)?;
    Ok(value.clone())
}

fn payload(
    event: &Json,
    pick: Option<&[Place]>,
    rename: &[(Place, Place)],
) -> Result<Object, TransformError> {
    let whole = event.get("payload").unwrap_or(&Json::Null);
    let mut payload = match pick {
        None => whole.as_object().cloned().unwrap_or_default(),
        Some(places) => {
            let (mut picked, mut budget) = (Object::new(), MAX_RESULT_BYTES);
            for place in places {
                if let Some(value) = place.find(whole) {
                    place.put(&mut picked, copied(value, &mut budget)?);
                }
            }
            picked
        }
    };
    for (from, to) in rename {
        if let Some(value) = from.take(&mut payload) {
            to.put(&mut payload, value);
        }
    }
    Ok(payload)
}

/// `pick`: a list of places, each once.
fn picked(json: &Json) -> Result<Vec<Place>, FilterError> {
    const PATH: &str = "transformation.pick";
    let items = json.as_array().filter(|items| !items.is_empty());
    let items = items.ok_or_else(|| wrong(PATH, "must be a list of at least one place in the payload"))?;
    if items.len() > MAX_PLACES {
        return Err(wrong(PATH, format!("must have at most {MAX_PLACES} places, not {}", items.len())));
    }
    let mut places = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let place = place(item, &format!("{PATH}[{at}]"))?;
        if !places.contains(&place) {
            places.push(place);
        }
    }
    Ok(places)
}

/// `rename`: an object of places with what they are called instead.
fn renamed(json: &Json) -> Result<Vec<(Place, Place)>, FilterError> {
    const PATH: &str = "transformation.rename";
    let object = json.as_object().filter(|object| !object.is_empty());
    let object = object
        .ok_or_else(|| wrong(PATH, "must be an object of places in the payload with their new places"))?;
    if object.len() > MAX_PLACES {
        return Err(wrong(PATH, format!("must have at most {MAX_PLACES} places, not {}", object.len())));
    }
    let mut places = Vec::with_capacity(object.len());
    for (from, to) in object.iter() {
        let path = format!("{PATH}.{}", from.to_str_lossy());
        let from = Json::String(from.clone());
        places.push((place(&from, &path)?, place(to, &path)?));
    }
    Ok(places)
}

fn place(json: &Json, path: &str) -> Result<Place, FilterError> {
    let text = json.as_str().ok_or_else(|| wrong(path, "must be a place such as customer.name"))?;
    Place::parse(text).map_err(|reason| wrong(path, reason))
}

struct Compiler {
    places: usize,
}

impl Compiler {
    fn template(&mut self, json: &Json, path: &str, depth: usize) -> Result<Template, FilterError> {
        if depth > MAX_DEPTH {
            return Err(wrong(path, format!("is nested deeper than {MAX_DEPTH} levels")));
        }
        match json {
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
                Ok(Template::Constant(json.clone()))
            }
            Json::Array(items) => {
                let templates = items.iter().enumerate();
                let templates =
                    templates.map(|(at, item)| self.template(item, &format!("{path}[{at}]"), depth + 1));
                Ok(Template::Array(templates.collect::<Result<_, _>>()?))
            }
            Json::Object(object) => {
                match object.iter().find(|(name, _)| name.to_str_lossy().starts_with('$')) {
                    Some(_) => self.special(object, path),
                    None => {
                        let mut members = Vec::with_capacity(object.len());
                        for (name, value) in object.iter() {
                            let here = format!("{path}.{}", name.to_str_lossy());
                            members.push((name.clone(), self.template(value, &here, depth + 1)?));
                        }
                        Ok(Template::Object(members))
                    }
                }
            }
        }
    }

    /// `{"$from": …, "$default": …}` or `{"$value": …}`.
    fn special(&mut self, object: &Object, path: &str) -> Result<Template, FilterError> {
        for (name, _) in object.iter() {
            if !["$from", "$default", "$value"].into_iter().any(|known| name == known) {
                let here = format!("{path}.{}", name.to_str_lossy());
                return Err(wrong(
                    &here,
                    "cannot stand here; there are $from with $default, and $value alone",
                ));
            }
        }
        match (object.get("$from"), object.get("$value")) {
            (Some(from), None) => {
                self.places += 1;
                let here = format!("{path}.$from");
                if self.places > MAX_PLACES {
                    return Err(wrong(&here, format!("is one too many; a template may have {MAX_PLACES}")));
                }
                Ok(Template::From { place: place(from, &here)?, default: object.get("$default").cloned() })
            }
            (None, Some(value)) if object.len() == 1 => Ok(Template::Constant(value.clone())),
            (Some(_) | None, _) => Err(wrong(path, "must have either $from or $value")),
        }
    }
}

impl Template {
    /// What it stands for; `None` where the event has nothing.
    fn build(&self, event: &Json, budget: &mut usize) -> Result<Option<Json>, TransformError> {
        match self {
            Self::Constant(value) => Ok(Some(copied(value, budget)?)),
            Self::From { place, default } => {
                place.find(event).or(default.as_ref()).map(|value| copied(value, budget)).transpose()
            }
            Self::Object(members) => {
                let mut object = Object::new();
                for (name, template) in members {
                    if let Some(value) = template.build(event, budget)? {
                        object.insert(name.clone(), value);
                    }
                }
                Ok(Some(object.into()))
            }
            Self::Array(items) => {
                let mut array = Vec::with_capacity(items.len());
                for item in items {
                    array.push(item.build(event, budget)?.unwrap_or(Json::Null));
                }
                Ok(Some(Json::Array(array)))
            }
        }
    }
}

#[cfg(test)]
#[path = "transformation_tests.rs"]
mod tests;
