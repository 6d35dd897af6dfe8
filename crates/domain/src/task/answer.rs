//! What a question may be answered with: its choices, and its JSON Schema (draft 2020-12).
//!
//! A schema comes from a worker or a model and is applied to what anybody with the link sends, so that it is bounded before
//! it is compiled: nothing is fetched, nothing refers to itself, and what references repeat is counted each time. Patterns
//! are matched in linear time. `format` is checked where it is one that the draft defines.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::{run::cut, step::MAX_ANSWER_BYTES};

/// The largest schema, in bytes of its canonical JSON.
pub const MAX_SCHEMA_BYTES: usize = 16 << 10;
/// How many schemas may stand within each other, references followed.
pub const MAX_SCHEMA_DEPTH: usize = 32;
/// Values in a schema at most; what is referred to counts once for each reference.
pub const MAX_SCHEMA_VALUES: usize = 2_000;
/// Regular expressions in a schema at most, counted alike.
pub const MAX_SCHEMA_PATTERNS: usize = 20;
/// What a compiled regular expression may take, in bytes.
const MAX_PATTERN_BYTES: usize = 256 << 10;

/// The one draft that is understood, by its `$schema`.
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Why an answer is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// It is too large.
    #[error("must have at most {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// It is none of the choices.
    #[error("must be one of {choices}")]
    NoChoice {
        /// The choices, or the beginning of a long list.
        choices: String,
    },
    /// The schema does not allow it.
    #[error("does not follow the schema{} ({rule})", place(at))]
    Schema {
        /// The value that is not allowed, as a JSON Pointer (RFC 6901) into the answer; empty = the whole answer.
        at: String,
        /// The rule that it breaks, such as `minimum: 5`.
        rule: String,
    },
    /// It has half a surrogate pair, or is nested too deep, so that no schema can be applied to it.
    #[error("must be Unicode and nested less than 128 deep")]
    Unreadable,
}

fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" at {at}") }
}

/// Looks at an answer, given as canonical JSON. A stored schema that cannot be used, because it was asked with before
/// schemas were enforced, allows everything.
///
/// # Errors
/// The answer is not one that the question may have.
pub(super) fn check(answer: &str, choices: Option<&[String]>, schema: Option<&str>) -> Result<(), BadAnswer> {
    if answer.len() > MAX_ANSWER_BYTES {
        return Err(BadAnswer::TooLong);
    }
    if let Some(choices) = choices
        && !choices.iter().any(|choice| serde_json::to_string(choice).is_ok_and(|text| text == answer))
    {
        return Err(BadAnswer::NoChoice { choices: cut(&choices.join(", "), 150).to_owned() });
    }
    match schema.and_then(|text| Schema::parse(text).ok()) {
        Some(schema) => schema.check(answer),
        None => Ok(()),
    }
}

/// Whether a question may be asked with these: the schema is a usable one and allows each of the choices.
///
/// # Errors
/// What is wrong, continuing the word "schema".
pub fn check_schema(text: &str, choices: Option<&[String]>) -> Result<(), String> {
    let schema = Schema::parse(text)?;
    for choice in choices.unwrap_or_default() {
        if let Err(error) = schema.check_value(&Value::from(choice.as_str())) {
            return Err(format!("does not allow the choice “{}”, which {error}", cut(choice, 50)));
        }
    }
    Ok(())
}

/// What a text that somebody wrote into a form means under the question's schema: JSON if it is that and the schema allows
/// it, else the text itself if the schema allows that, else what it looks like.
#[must_use]
pub fn meant(schema: Option<&str>, text: &str) -> crate::wire::Json {
    let text = text.trim();
    let plain = || crate::wire::Json::from(text);
    let Some(schema) = schema else { return plain() };
    let Ok(json) = crate::wire::parse_as_javascript(text.as_bytes()) else { return plain() };
    let allows = |schema: &Schema, value: &Value| schema.check_value(value).is_ok();
    match Schema::parse(schema) {
        Ok(schema) if !allows(&schema, &json.to_serde()) && allows(&schema, &Value::from(text)) => plain(),
        Ok(_) | Err(_) => json,
    }
}

/// A schema that can be applied.
#[derive(Debug)]
struct Schema {
    value: Value,
    validator: Validator,
}

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    /// What is wrong, continuing the word "schema".
    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_SCHEMA_BYTES {
            return Err(format!("must have at most {MAX_SCHEMA_BYTES} bytes"));
        }
        let value: Value =
            serde_json::from_str(text).map_err(|_| "must be JSON, nested less than 128 deep".to_owned())?;
        if !value.is_object() {
            return Err("must be an object".to_owned());
        }
        Walk { root: &value, values: 0, patterns: 0, following: Vec::new() }.schema(&value, 1)?;
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            .should_validate_formats(true)
            .with_pattern_options(
                PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES),
            )
            .build(&value)
            .map_err(|error| {
                let (at, value) = (error.instance_path().as_str(), error.instance().to_string());
                let told = match at {
                    "" => cut(&error.masked().to_string(), 120).to_owned(),
                    at => format!("{} cannot stand at {}", cut(&value, 60), cut(at, 80)),
                };
                format!("is not one of JSON Schema 2020-12: {told}")
            })?;
        Ok(Self { value, validator })
    }

    /// Looks at an answer, given as canonical JSON.
    fn check(&self, answer: &str) -> Result<(), BadAnswer> {
        // It is canonical JSON: these are the two reasons for which serde_json does not read it.
        let answer: Value = serde_json::from_str(answer).map_err(|_| BadAnswer::Unreadable)?;
        self.check_value(&answer)
    }

    fn check_value(&self, answer: &Value) -> Result<(), BadAnswer> {
        self.validator.validate(answer).map_err(|error| {
            let keyword = error.kind().keyword();
            let wanted = self.value.pointer(error.schema_path().as_str()).map(Value::to_string);
            let rule = wanted
                .map_or_else(|| keyword.to_owned(), |wanted| format!("{keyword}: {}", cut(&wanted, 80)));
            BadAnswer::Schema { at: cut(error.instance_path().as_str(), 80).to_owned(), rule }
        })
    }
}

/// A walk through a schema, along its references.
struct Walk<'a> {
    root: &'a Value,
    values: usize,
    patterns: usize,
    /// The references that are being followed.
    following: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    /// `depth` counts from 1 at the root.
    fn schema(&mut self, schema: &'a Value, depth: usize) -> Result<(), String> {
        if depth > MAX_SCHEMA_DEPTH {
            return Err(format!("must be nested at most {MAX_SCHEMA_DEPTH} deep, references followed"));
        }
        self.count(1)?;
        // What is neither an object nor true or false is found when it is compiled.
        let Some(members) = schema.as_object() else { return Ok(()) };
        for (keyword, value) in members {
            match keyword.as_str() {
                "$ref" => self.reference(value, depth)?,
                "$dynamicRef" | "$recursiveRef" => {
                    return Err(format!("must not have {keyword}: write $ref with #/$defs/name"));
                }
                "$id" if depth > 1 || !self.following.is_empty() => {
                    return Err("must not have $id but at its top".to_owned());
                }
                "$schema" if value.as_str().is_none_or(|uri| uri.trim_end_matches('#') != DRAFT) => {
                    return Err(format!("must have no other $schema than {DRAFT}"));
                }
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
                    if keyword == "patternProperties" {
                        self.pattern(value.as_object().map_or(0, serde_json::Map::len))?;
                    }
                    self.count(1)?;
                    for schema in value.as_object().into_iter().flat_map(serde_json::Map::values) {
                        self.schema(schema, depth + 1)?;
                    }
                }
                "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
                    self.count(1)?;
                    for schema in value.as_array().into_iter().flatten() {
                        self.schema(schema, depth + 1)?;
                    }
                }
                "items"
                | "contains"
                | "additionalProperties"
                | "propertyNames"
                | "unevaluatedItems"
                | "unevaluatedProperties"
                | "contentSchema"
                | "not"
                | "if"
                | "then"
                | "else" => self.schema(value, depth + 1)?,
                "pattern" => {
                    self.pattern(1)?;
                    self.count(1)?;
                }
                _ => self.count(values_in(value))?,
            }
        }
        Ok(())
    }

    fn reference(&mut self, value: &'a Value, depth: usize) -> Result<(), String> {
        let target = value.as_str().ok_or("has a $ref that is no string")?;
        // Without percent-encoding, so that it cannot be read in two ways.
        let pointer = target.strip_prefix('#').filter(|pointer| !pointer.contains('%'));
        let pointer = pointer.filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let found = pointer.and_then(|pointer| self.root.pointer(pointer)).ok_or_else(|| {
            format!("has the $ref `{}`, which is no place within it, such as #/$defs/name", cut(target, 60))
        })?;
        if self.following.contains(&target) {
            return Err(format!("must not refer to itself, as `{}` does", cut(target, 60)));
        }
        self.following.push(target);
        self.schema(found, depth + 1)?;
        self.following.pop();
        Ok(())
    }

    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values += values;
        if self.values <= MAX_SCHEMA_VALUES {
            return Ok(());
        }
        Err(format!("must have at most {MAX_SCHEMA_VALUES} values, counted again for each $ref"))
    }

    fn pattern(&mut self, patterns: usize) -> Result<(), String> {
        self.patterns += patterns;
        if self.patterns <= MAX_SCHEMA_PATTERNS {
            return Ok(());
        }
        Err(format!("must have at most {MAX_SCHEMA_PATTERNS} patterns, counted again for each $ref"))
    }
}

/// Itself and everything within.
fn values_in(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(values_in).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(values_in).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
