//! Event types in an OpenAPI document (3.0, 3.1 and later 3.x): what it sends under `webhooks` (`x-webhooks` in 3.0) and in
//! `callbacks`.
//!
//! The name of a webhook or callback is the type; the JSON body of its POST is the payload, and its schema is taken out of the
//! document with all that it refers to. What cannot be taken is told with its place in the document.

mod schemas;

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
};

use super::{
    CatalogueEntry, MAX_DESCRIPTION_CHARS, MAX_EXAMPLE_BYTES, check_group,
    example::given,
    schema::{self, Compiled, Violation, step},
};
use crate::{
    event::EventType,
    wire::{Json, Object, to_canonical},
};

/// The largest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;

/// Webhooks and callbacks that are looked at, at most.
const MAX_ITEMS: usize = 2_000;

/// What is taken and looked at in a document, in bytes (those of texts and names, and one for each value), at most: many references
/// may lead to the same large part.
const MAX_READ_BYTES: usize = 4 * MAX_DOCUMENT_BYTES;

/// How a document is read.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The member of the described body that is the payload, where the document describes an envelope.
    pub payload_member: Option<String>,
}

/// An event type that a document describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it stands in the document: a JSON Pointer.
    pub path: String,
    /// What it says: name, description, schema, example, deprecated and feature group.
    pub entry: CatalogueEntry,
}

/// What a document holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The types, in the order of the document.
    pub items: Vec<Item>,
    /// What describes an event and cannot be taken, with its place.
    pub problems: Vec<Violation>,
}

/// Finds the event types of a document.
///
/// # Errors
/// When it is no such document.
pub fn read(document: &Json, reading: &Reading) -> Result<Found, Violation> {
    let version = match document.get("openapi").map(Json::as_str) {
        Some(Some(version)) => version,
        Some(None) => return Err(Violation::at("/openapi", "must be a string")),
        None if document.get("swagger").is_some() => {
            return Err(Violation::at("/swagger", "is not supported; OpenAPI 3.0 or later is"));
        }
        None => return Err(Violation::at("/openapi", "is missing: this is no OpenAPI document")),
    };
    if !version.starts_with("3.") {
        return Err(Violation::at("/openapi", format!("must be a version 3, not `{version}`")));
    }
    let reader = Reader { document, old: version.starts_with("3.0"), reading, read: Cell::new(0) };
    let places = reader.places()?;
    if places.is_empty() {
        return Err(Violation::at("", "has neither webhooks nor callbacks"));
    }
    if places.len() > MAX_ITEMS {
        return Err(Violation::at("", format!("has more than {MAX_ITEMS} webhooks and callbacks")));
    }
    let mut found = Found::default();
    let mut seen: HashMap<EventType, usize> = HashMap::new();
    for (name, path, item) in places {
        let item = reader.item(&name, path.clone(), item);
        // Not the fault of one of them.
        reader.spend(0)?;
        match item {
            Err(problem) => found.problems.push(problem),
            Ok(item) => match seen.get(&item.entry.name).and_then(|at| found.items.get(*at)) {
                // The same callback at several operations.
                Some(first) if first.entry == item.entry => {}
                Some(first) => {
                    let reason = format!("describes `{name}` otherwise than {}", first.path);
                    found.problems.push(Violation::at(path, reason));
                }
                None => {
                    seen.insert(item.entry.name.clone(), found.items.len());
                    found.items.push(item);
                }
            },
        }
    }
    Ok(found)
}

struct Reader<'a> {
    document: &'a Json,
    /// Whether schemas are written as 3.0 has them.
    old: bool,
    reading: &'a Reading,
    /// How much of [`MAX_READ_BYTES`] is used.
    read: Cell<usize>,
}

/// Every path item that somebody else is asked by: its name, its place, and what it is.
type Places<'a> = Vec<(String, String, &'a Json)>;

impl<'a> Reader<'a> {
    /// Counts what is taken or looked at.
    fn spend(&self, bytes: usize) -> Result<(), Violation> {
        self.read.set(self.read.get().saturating_add(bytes));
        if self.read.get() <= MAX_READ_BYTES {
            return Ok(());
        }
        let reason = format!("has more than {MAX_READ_BYTES} bytes when its references are followed");
        Err(Violation::at("", reason))
    }

    /// The members of an object with their names as text.
    fn members(&self, object: Option<&'a Json>) -> Result<Vec<(String, &'a Json)>, Violation> {
        let members = object.and_then(Json::as_object).into_iter().flat_map(Object::iter);
        members
            .map(|(name, value)| {
                let name = name.to_str_lossy().into_owned();
                self.spend(1 + name.len()).map(|()| (name, value))
            })
            .collect()
    }

    /// Nothing more is looked for when there are too many.
    fn places(&self) -> Result<Places<'a>, Violation> {
        let mut places = Vec::new();
        for keyword in ["webhooks", "x-webhooks"] {
            for (name, item) in self.members(self.document.get(keyword))? {
                let path = step(&format!("/{keyword}"), &name);
                self.place(name, path, item, &mut places)?;
            }
        }
        let components = self.document.get("components").and_then(|components| components.get("callbacks"));
        self.callbacks(components, "/components/callbacks", &mut places)?;
        for (path, item) in self.members(self.document.get("paths"))? {
            let path = step("/paths", &path);
            for (method, operation) in self.members(Some(self.followed(item)))? {
                if let Some(callbacks) = operation.get("callbacks") {
                    self.spend(path.len() + method.len())?;
                    self.callbacks(Some(callbacks), &format!("{path}/{method}/callbacks"), &mut places)?;
                }
            }
        }
        Ok(places)
    }

    fn callbacks(
        &self,
        callbacks: Option<&'a Json>,
        path: &str,
        places: &mut Places<'a>,
    ) -> Result<(), Violation> {
        for (name, callback) in self.members(callbacks)? {
            let path = step(path, &name);
            self.spend(path.len())?;
            for (expression, item) in self.members(Some(self.followed(callback)))? {
                if !expression.starts_with("x-") {
                    self.place(name.clone(), step(&path, &expression), item, places)?;
                }
            }
        }
        Ok(())
    }

    fn place(
        &self,
        name: String,
        path: String,
        item: &'a Json,
        places: &mut Places<'a>,
    ) -> Result<(), Violation> {
        if places.len() <= MAX_ITEMS {
            self.spend(name.len() + path.len())?;
            places.push((name, path, self.followed(item)));
        }
        Ok(())
    }

    /// What an object is, if it is a reference.
    fn followed(&self, object: &'a Json) -> &'a Json {
        schema::followed(self.document, object)
    }

    fn item(&self, name: &str, path: String, item: &'a Json) -> Result<Item, Violation> {
        let name: EventType = name
            .parse()
            .map_err(|error| Violation::at(&path, format!("`{name}` is no event type: it {error}")))?;
        let operation = ["post", "put", "patch"].iter().find_map(|method| Some((*method, item.get(method)?)));
        let Some((method, operation)) = operation else {
            return Err(Violation::at(path, "has no POST, PUT or PATCH that would bring a payload"));
        };
        let path = format!("{path}/{method}");
        let mut entry = CatalogueEntry::new(name);
        let texts = ["summary", "description"].iter().filter_map(|keyword| operation.get(keyword)?.as_str());
        let text = texts.map(str::trim).find(|text| !text.is_empty()).unwrap_or_default();
        entry.description = text.chars().filter(|c| *c != '\0').take(MAX_DESCRIPTION_CHARS).collect();
        entry.deprecated = operation.get("deprecated").and_then(Json::as_bool).unwrap_or(false);
        let tag =
            operation.get("tags").and_then(Json::as_array).and_then(<[Json]>::first).and_then(Json::as_str);
        entry.feature_group = tag.filter(|tag| check_group(tag).is_ok()).map(str::to_owned);
        self.payload(&mut entry, operation, &path)?;
        Ok(Item { path, entry })
    }

    /// Schema and example of the payload.
    fn payload(&self, entry: &mut CatalogueEntry, operation: &'a Json, path: &str) -> Result<(), Violation> {
        let Some(body) = operation.get("requestBody").map(|body| self.followed(body)) else { return Ok(()) };
        let json = self.members(body.get("content"))?.into_iter().find(|(media_type, _)| {
            let plain = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            plain == "application/json" || plain.ends_with("+json")
        });
        let Some((media_type, media)) = json else { return Ok(()) };
        let path = step(&format!("{path}/requestBody/content"), &media_type);
        let (mut schema, mut example) = (media.get("schema"), self.example(media));
        if let Some(member) = &self.reading.payload_member {
            let inner = schema.map(|whole| self.property(whole, member)).transpose()?.flatten();
            if schema.is_some() && inner.is_none() {
                return Err(Violation::at(format!("{path}/schema"), format!("has no property `{member}`")));
            }
            schema = inner;
            example = example.and_then(|whole| whole.get(member));
        }
        if let Some(schema) = schema {
            let path = format!("{path}/schema");
            let within = |inner: Violation| Violation::at(format!("{path}{}", inner.path), inner.reason);
            let gathered = self.gathered(schema).map_err(within)?;
            entry.schema = Some(schema::check(&gathered).map_err(within)?);
            example = example.or_else(|| given(self.followed(schema)));
        }
        let Some(example) = example.filter(|example| example.as_object().is_some()) else { return Ok(()) };
        let at = |reason: String| Violation::at(&path, format!("has an example that {reason}"));
        let too_large = || at(format!("has more than {MAX_EXAMPLE_BYTES} bytes"));
        let mut least = 0;
        weigh(example, &mut |bytes| {
            least += bytes;
            self.spend(bytes)?;
            if least > MAX_EXAMPLE_BYTES { Err(too_large()) } else { Ok(()) }
        })?;
        let bytes = to_canonical(example);
        if bytes.len() > MAX_EXAMPLE_BYTES {
            return Err(too_large());
        }
        if let Some(schema) = &entry.schema {
            let violations = Compiled::stored(schema)?.violations(example);
            if let Some(first) = violations.first() {
                return Err(at(format!("does not match the schema: {first}")));
            }
        }
        entry.example = Some(bytes);
        Ok(())
    }

    /// `example`, or the first of `examples`.
    fn example(&self, media: &'a Json) -> Option<&'a Json> {
        let first = || {
            let (_, first) = media.get("examples")?.as_object()?.iter().next()?;
            self.followed(first).get("value")
        };
        media.get("example").or_else(first)
    }

    /// The property of this name, of the schema itself or of what `allOf`, `anyOf` and `oneOf` add.
    fn property(&self, schema: &'a Json, name: &str) -> Result<Option<&'a Json>, Violation> {
        let mut open = vec![schema];
        let mut seen: HashSet<*const Json> = HashSet::new();
        while let Some(schema) = open.pop().map(|schema| self.followed(schema)) {
            if !seen.insert(std::ptr::from_ref(schema)) {
                continue;
            }
            if let Some(found) = schema.get("properties").and_then(|properties| properties.get(name)) {
                return Ok(Some(found));
            }
            // The last is looked at first.
            for keyword in ["oneOf", "anyOf", "allOf"] {
                let parts = schema.get(keyword).and_then(Json::as_array).unwrap_or_default();
                self.spend(parts.len())?;
                open.extend(parts.iter().rev());
            }
        }
        Ok(None)
    }
}

/// Tells the bytes of a value piece by piece: those of texts and names, and one for each value, so never more than its canonical
/// JSON has.
fn weigh(value: &Json, told: &mut dyn FnMut(usize) -> Result<(), Violation>) -> Result<(), Violation> {
    match value {
        Json::Array(items) => {
            told(1)?;
            items.iter().try_for_each(|item| weigh(item, told))
        }
        Json::Object(members) => {
            told(1)?;
            members.iter().try_for_each(|(name, value)| {
                told(name.to_str_lossy().len())?;
                weigh(value, told)
            })
        }
        Json::String(text) => told(1 + text.to_str_lossy().len()),
        Json::Null | Json::Bool(_) | Json::Number(_) => told(1),
    }
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
