//! JSON Schema (draft 2020-12) of payloads: which schemas are taken, and what a payload breaks in one.
//!
//! A schema is the text of somebody else and runs on every event of its type, so it is bounded in size and depth and in what it
//! can make of one value (`load`), its patterns match in linear time (no look-around, no back references), and nothing that it
//! refers to is fetched: it has to hold all of itself. `format` is asserted where the draft knows it; formats that it does not
//! know say nothing.

use std::{collections::HashMap, fmt, sync::OnceLock};

use jsonschema::{
    Draft, PatternOptions, ValidationOptions, Validator, ValidatorMap, error::ValidationErrorKind,
};
use serde_json::Value;

use super::{load, violation};
use crate::wire::{Json, JsonString, parse_stored, to_canonical};

/// The largest schema, as canonical JSON, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 64 << 10;

/// Arrays and objects within each other in a schema, at most.
pub const MAX_SCHEMA_DEPTH: usize = 32;

/// Things that are told of one payload, at most.
pub const MAX_VIOLATIONS: usize = 10;

/// The dialect; the only one that `$schema` may name.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What a compiled pattern may take, in bytes.
const PATTERN_BYTES: usize = 1 << 20;

/// Keywords whose values are data and no schemas.
pub(super) const DATA: [&str; 5] = ["const", "default", "enum", "example", "examples"];

/// Keywords whose values are schemas by names, which may be those of keywords.
pub(super) const NAMED: [&str; 5] =
    ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) within the schema or the payload; empty for the whole.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl Violation {
    /// Something that is wrong at a place.
    #[must_use]
    pub fn at(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.path, self.reason)
        }
    }
}

/// A step of a JSON Pointer, behind what leads to it.
#[must_use]
pub fn step(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// A schema that is ready to look at payloads.
#[derive(Debug)]
pub struct Compiled {
    validator: Validator,
    schema: Value,
    /// Each part by itself, made when the first payload breaks the schema.
    parts: OnceLock<Option<ValidatorMap>>,
}

impl Compiled {
    /// Compiles a schema that was stored.
    ///
    /// # Errors
    /// What is wrong with it, if it is none after all.
    pub fn stored(bytes: &[u8]) -> Result<Self, Violation> {
        let json = parse_stored(bytes).map_err(|error| Violation::at("", error.to_string()))?;
        compile(&json)
    }

    /// What a payload breaks, at most [`MAX_VIOLATIONS`] things; empty when it keeps the schema.
    #[must_use]
    pub fn violations(&self, payload: &Json) -> Vec<Violation> {
        let value = payload.to_serde();
        if self.validator.is_valid(&value) {
            return Vec::new();
        }
        let parts = self.parts.get_or_init(|| options().build_map(&self.schema).ok());
        violation::find(&self.schema, parts.as_ref(), &value)
    }
}

/// Checks a schema. Returns its canonical JSON, to be stored.
///
/// # Errors
/// What is wrong with it, and where in the schema.
pub fn check(schema: &Json) -> Result<Vec<u8>, Violation> {
    let Json::Object(_) = schema else {
        return Err(Violation::at("", "must be a JSON object"));
    };
    let bytes = to_canonical(schema);
    if bytes.len() > MAX_SCHEMA_BYTES {
        let reason = format!("must have at most {MAX_SCHEMA_BYTES} bytes, not {}", bytes.len());
        return Err(Violation::at("", reason));
    }
    if let Some(path) = too_deep(schema, String::new(), 1) {
        return Err(Violation::at(path, format!("is nested deeper than {MAX_SCHEMA_DEPTH} levels")));
    }
    if let Some(dialect) = schema.get("$schema") {
        let named = dialect.as_str().map(|text| text.trim_end_matches('#'));
        if named != Some(DIALECT) {
            return Err(Violation::at(
                "/$schema",
                format!("must be {DIALECT}, the only draft that is supported"),
            ));
        }
    }
    let anchors = check_references(schema)?;
    load::check(schema, &anchors)?;
    compile(schema)?;
    Ok(bytes)
}

fn compile(schema: &Json) -> Result<Compiled, Violation> {
    let schema = schema.to_serde();
    match options().build(&schema) {
        Ok(validator) => Ok(Compiled { validator, schema, parts: OnceLock::new() }),
        Err(error) => Err(match error.kind() {
            ValidationErrorKind::Referencing(reason) => {
                Violation::at("", format!("has a reference that leads nowhere: {reason}"))
            }
            // A pattern that the draft allows and that cannot be matched in linear time.
            ValidationErrorKind::Format { format } if format == "regex" => Violation::at(
                error.instance_path().as_str(),
                "is no regular expression, or one with look-around or back references, which are not supported",
            ),
            _ => Violation::at(error.instance_path().as_str(), error.to_string()),
        }),
    }
}

/// How schemas are read: see the head of this file.
pub(super) fn options() -> ValidationOptions<'static> {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES))
}

/// Where something is nested too deep.
fn too_deep(json: &Json, path: String, level: usize) -> Option<String> {
    if level > MAX_SCHEMA_DEPTH && (json.as_array().is_some() || json.as_object().is_some()) {
        return Some(path);
    }
    match json {
        Json::Array(items) => {
            items.iter().enumerate().find_map(|(at, item)| too_deep(item, format!("{path}/{at}"), level + 1))
        }
        Json::Object(members) => members
            .iter()
            .find_map(|(name, value)| too_deep(value, step(&path, &name.to_str_lossy()), level + 1)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
    }
}

/// Tells the place of a reference that leads out of the schema or nowhere; the compiler tells only that there is one. Parts cannot
/// have addresses of their own (`$id`). Returns the parts that have a name (`$anchor`).
fn check_references(schema: &Json) -> Result<HashMap<String, &Json>, Violation> {
    let mut found = References::default();
    found.walk(schema, "");
    if let Some(path) = found.addresses.into_iter().find(|path| path != "/$id") {
        return Err(Violation::at(
            path,
            "must not be there: parts of a schema cannot have addresses of their own",
        ));
    }
    for (path, text) in found.references {
        let Some(fragment) = text.strip_prefix('#').and_then(percent_decoded) else {
            let reason = format!("`{text}` is another document; a schema has to hold all that it refers to");
            return Err(Violation::at(path, reason));
        };
        if lookup(schema, &fragment).is_none() && !found.anchors.contains_key(&fragment) {
            return Err(Violation::at(path, format!("`{text}` leads nowhere")));
        }
    }
    Ok(found.anchors)
}

/// What a schema refers to, and what can be referred to.
#[derive(Default)]
struct References<'a> {
    /// With their places.
    references: Vec<(String, &'a str)>,
    anchors: HashMap<String, &'a Json>,
    /// Places of `$id`.
    addresses: Vec<String>,
}

impl<'a> References<'a> {
    fn walk(&mut self, json: &'a Json, path: &str) {
        match json {
            Json::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.walk(item, &format!("{path}/{at}"));
                }
            }
            Json::Object(members) => {
                for (name, value) in members.iter() {
                    let name = name.to_str_lossy();
                    let place = step(path, &name);
                    match (name.as_ref(), value.as_str()) {
                        ("$ref" | "$dynamicRef", Some(text)) => self.references.push((place, text)),
                        ("$anchor" | "$dynamicAnchor", Some(text)) => {
                            self.anchors.insert(text.to_owned(), json);
                        }
                        ("$id", Some(_)) => self.addresses.push(place),
                        (keyword, _) if DATA.contains(&keyword) => {}
                        (keyword, _) if NAMED.contains(&keyword) && value.as_object().is_some() => {
                            for (name, schema) in value.as_object().into_iter().flat_map(|them| them.iter()) {
                                self.walk(schema, &step(&place, &name.to_str_lossy()));
                            }
                        }
                        _ => self.walk(value, &place),
                    }
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
    }
}

/// What a JSON Pointer, possibly percent-encoded as in a fragment, leads to.
#[must_use]
pub fn lookup<'a>(root: &'a Json, pointer: &str) -> Option<&'a Json> {
    let decoded = percent_decoded(pointer)?;
    if decoded.is_empty() {
        return Some(root);
    }
    let mut at = root;
    for token in decoded.strip_prefix('/')?.split('/') {
        let name = token.replace("~1", "/").replace("~0", "~");
        at = match at {
            Json::Object(members) => members.get(&name)?,
            Json::Array(items) => items.get(name.parse::<usize>().ok()?)?,
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => return None,
        };
    }
    Some(at)
}

/// A text without its percent-encoding (RFC 3986 §2.1); `None` when it is none.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A schema for reading: its references within the document followed, as often as it takes, but not in circles.
#[must_use]
pub fn followed<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    let mut at = schema;
    for _ in 0..MAX_SCHEMA_DEPTH {
        let target = at.get("$ref").and_then(Json::as_str).and_then(|text| text.strip_prefix('#'));
        match target.and_then(|fragment| lookup(root, fragment)) {
            Some(next) => at = next,
            None => return at,
        }
    }
    at
}

/// The words of `type`: one, or several.
pub(super) fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(word)) => word.as_str().into_iter().collect(),
        Some(Json::Array(words)) => words.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The properties of an object, also those that `allOf`, `anyOf` and `oneOf` add; of a name that is there twice, the first.
pub(super) fn properties<'a>(root: &'a Json, schema: &'a Json) -> Vec<(&'a JsonString, &'a Json)> {
    fn collect<'a>(
        root: &'a Json,
        schema: &'a Json,
        level: usize,
        into: &mut Vec<(&'a JsonString, &'a Json)>,
    ) {
        let schema = followed(root, schema);
        for (name, value) in
            schema.get("properties").and_then(Json::as_object).into_iter().flat_map(|them| them.iter())
        {
            if into.iter().all(|(there, _)| *there != name) {
                into.push((name, value));
            }
        }
        if level < 4 {
            for keyword in ["allOf", "anyOf", "oneOf"] {
                for part in schema.get(keyword).and_then(Json::as_array).into_iter().flatten() {
                    collect(root, part, level + 1, into);
                }
            }
        }
    }
    let mut found = Vec::new();
    collect(root, schema, 0, &mut found);
    found
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
