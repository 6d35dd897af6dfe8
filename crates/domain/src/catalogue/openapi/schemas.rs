//! The schema of a payload, taken out of its document with all that it refers to, so that it stands alone.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{Reader, weigh};
use crate::{
    catalogue::schema::{DATA, MAX_SCHEMA_BYTES, NAMED, Violation, lookup},
    wire::{Json, Object},
};

/// References that one schema is gathered from, at most.
const MAX_PARTS: usize = 1_000;

/// What one schema is gathered from, in bytes (those of texts and names, and one for each value), at most. What comes of it may be
/// smaller: long references get short names.
pub(super) const MAX_SOURCE_BYTES: usize = 4 * MAX_SCHEMA_BYTES;

impl<'a> Reader<'a> {
    /// A schema with all that it refers to in the document, as one that stands alone.
    pub(super) fn gathered(&self, schema: &'a Json) -> Result<Json, Violation> {
        let mut parts = Parts::default();
        let mut whole = match self.rewritten(schema, &mut parts)? {
            Json::Object(whole) => whole,
            // `true` and `false` are schemas, too.
            other => return Ok(other),
        };
        let mut definitions = match whole.remove("$defs") {
            Some(Json::Object(there)) => there,
            Some(_) | None => Object::new(),
        };
        while let Some((pointer, name)) = parts.waiting.pop_front() {
            if definitions.len() >= MAX_PARTS {
                return Err(Violation::at("", format!("refers to more than {MAX_PARTS} other schemas")));
            }
            let part = lookup(self.document, &pointer).ok_or_else(|| {
                Violation::at("", format!("refers to `#{pointer}`, which is not in the document"))
            })?;
            let part = self.rewritten(part, &mut parts)?;
            definitions.insert(name, part);
        }
        if !definitions.is_empty() {
            whole.insert("$defs", Json::Object(definitions));
        }
        Ok(Json::Object(whole))
    }

    /// A schema with its references into the document led into `$defs`, and in the spelling of 2020-12.
    fn rewritten(&self, schema: &Json, parts: &mut Parts) -> Result<Json, Violation> {
        match schema {
            Json::Array(items) => {
                self.source(parts, 1)?;
                let items: Result<_, _> = items.iter().map(|item| self.rewritten(item, parts)).collect();
                Ok(Json::Array(items?))
            }
            Json::Object(members) => {
                self.source(parts, 1)?;
                let mut object = Object::new();
                for (name, value) in members.iter() {
                    let keyword = name.to_str_lossy();
                    self.source(parts, keyword.len())?;
                    let value = match (keyword.as_ref(), value) {
                        ("$ref", Json::String(text)) => {
                            self.source(parts, text.to_str_lossy().len())?;
                            match text.as_str().and_then(|text| text.strip_prefix('#')) {
                                Some(pointer) => Json::from(format!("#/$defs/{}", parts.named(pointer))),
                                None => value.clone(),
                            }
                        }
                        (keyword, _) if DATA.contains(&keyword) => self.copied(value, parts)?,
                        (keyword, Json::Object(schemas)) if NAMED.contains(&keyword) => {
                            self.each_rewritten(schemas, parts)?
                        }
                        _ => self.rewritten(value, parts)?,
                    };
                    object.insert(name.clone(), value);
                }
                if self.old {
                    modernised(&mut object);
                }
                Ok(Json::Object(object))
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => self.copied(schema, parts),
        }
    }

    /// Schemas by names, which may be those of keywords.
    fn each_rewritten(&self, schemas: &Object, parts: &mut Parts) -> Result<Json, Violation> {
        self.source(parts, 1)?;
        let mut object = Object::new();
        for (name, schema) in schemas.iter() {
            self.source(parts, name.to_str_lossy().len())?;
            object.insert(name.clone(), self.rewritten(schema, parts)?);
        }
        Ok(Json::Object(object))
    }

    fn copied(&self, value: &Json, parts: &mut Parts) -> Result<Json, Violation> {
        weigh(value, &mut |bytes| self.source(parts, bytes))?;
        Ok(value.clone())
    }

    /// Counts what a schema is gathered from.
    fn source(&self, parts: &mut Parts, bytes: usize) -> Result<(), Violation> {
        self.spend(bytes)?;
        parts.bytes = parts.bytes.saturating_add(bytes);
        if parts.bytes <= MAX_SOURCE_BYTES {
            return Ok(());
        }
        let reason = format!("has more than {MAX_SOURCE_BYTES} bytes with all that it refers to");
        Err(Violation::at("", reason))
    }
}

/// What a schema is gathered from.
#[derive(Default)]
struct Parts {
    /// The name in `$defs` of what stands at a pointer.
    names: HashMap<String, String>,
    /// All of these names.
    taken: HashSet<String>,
    /// How many have been made of the same word.
    numbers: HashMap<String, usize>,
    /// Pointers that have not been gathered yet.
    waiting: VecDeque<(String, String)>,
    /// How much of [`MAX_SOURCE_BYTES`] is used.
    bytes: usize,
}

impl Parts {
    fn named(&mut self, pointer: &str) -> String {
        if let Some(name) = self.names.get(pointer) {
            return name.clone();
        }
        let last = pointer.rsplit('/').next().unwrap_or_default();
        let plain: String =
            last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(60).collect();
        let plain = if plain.is_empty() { "whole".to_owned() } else { plain };
        let mut name = plain.clone();
        let number = self.numbers.entry(plain.clone()).or_insert(1);
        while self.taken.contains(&name) {
            *number += 1;
            name = format!("{plain}_{number}");
        }
        self.taken.insert(name.clone());
        self.names.insert(pointer.to_owned(), name.clone());
        self.waiting.push_back((pointer.to_owned(), name.clone()));
        name
    }
}

/// What OpenAPI 3.0 writes otherwise than 2020-12: `nullable`, and bounds that exclude by a flag.
fn modernised(schema: &mut Object) {
    if schema.remove("nullable").and_then(|flag| flag.as_bool()) == Some(true) {
        if let Some(Json::String(word)) = schema.get("type").cloned() {
            schema.insert("type", Json::Array(vec![Json::String(word), Json::from("null")]));
        }
        if let Some(Json::Array(mut values)) = schema.get("enum").cloned()
            && !values.contains(&Json::Null)
        {
            values.push(Json::Null);
            schema.insert("enum", Json::Array(values));
        }
    }
    for (flag, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if let Some(exclusive) = schema.get(flag).and_then(Json::as_bool) {
            schema.remove(flag);
            if exclusive && let Some(limit) = schema.remove(bound) {
                schema.insert(flag, limit);
            }
        }
    }
}
