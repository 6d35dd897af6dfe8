//! Where a payload breaks a schema.
//!
//! The library that validates collects every mistake before it tells the first, and of a choice (`anyOf`) it tells only that no part
//! of it fits. So the places are looked for here: from the whole to its parts, asking for each only whether it is valid, until
//! enough are found. What a place breaks by itself is told by the library again.

use jsonschema::ValidatorMap;
use serde_json::{Map, Value, json};

use super::schema::{MAX_VIOLATIONS, Violation, options, percent_decoded, step};

/// Parts of schemas that are broken and looked into, at most.
const MAX_BROKEN: usize = 200;

/// Keywords that say something about a value itself and not about its parts, nor by other schemas.
const OF_ITSELF: [&str; 21] = [
    "type",
    "enum",
    "const",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "format",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxProperties",
    "minProperties",
    "required",
    "dependentRequired",
    "contentEncoding",
    "contentMediaType",
];

/// The places at which a value breaks a schema, at most [`MAX_VIOLATIONS`] and at least one.
pub(super) fn find(schema: &Value, parts: Option<&ValidatorMap>, value: &Value) -> Vec<Violation> {
    let mut finder = Finder { root: schema, parts, found: Vec::new(), told: 0, broken: MAX_BROKEN };
    finder.look("#", schema, value, "");
    if finder.found.is_empty() {
        finder.found.push(Violation::at("", "does not match the schema"));
    }
    finder.found
}

struct Finder<'a> {
    root: &'a Value,
    parts: Option<&'a ValidatorMap>,
    found: Vec<Violation>,
    /// How often something was told, also what was told before.
    told: usize,
    broken: usize,
}

impl<'a> Finder<'a> {
    fn is_full(&self) -> bool {
        self.found.len() >= MAX_VIOLATIONS || self.broken == 0
    }

    fn put(&mut self, violation: Violation) {
        self.told += 1;
        if self.found.len() < MAX_VIOLATIONS && !self.found.contains(&violation) {
            self.found.push(violation);
        }
    }

    /// Looks for what `value` at `path` breaks of the part of the schema at `pointer`, a URI fragment.
    fn look(&mut self, pointer: &str, schema: &'a Value, value: &Value, path: &str) {
        let valid = self.parts.and_then(|parts| parts.get(pointer)).map(|part| part.is_valid(value));
        if self.is_full() || valid == Some(true) {
            return;
        }
        self.broken -= 1;
        let before = self.told;
        let Value::Object(keywords) = schema else {
            return self.put(Violation::at(path, "must not be there"));
        };
        self.of_itself(keywords, value, path);
        if valid.is_some() {
            self.of_parts(pointer, keywords, value, path);
            self.of_others(pointer, keywords, value, path);
        }
        if self.told == before {
            let reason =
                match ["anyOf", "oneOf", "not"].iter().find(|keyword| keywords.contains_key(**keyword)) {
                    Some(keyword) => format!("does not match `{keyword}` of the schema at {pointer}"),
                    None => format!("does not match the schema at {pointer}"),
                };
            self.put(Violation::at(path, reason));
        }
    }

    /// What the value breaks by itself.
    fn of_itself(&mut self, keywords: &Map<String, Value>, value: &Value, path: &str) {
        let mut alone: Map<String, Value> = keywords
            .iter()
            .filter(|(name, _)| OF_ITSELF.contains(&name.as_str()))
            .map(|(name, keyword)| (name.clone(), keyword.clone()))
            .collect();
        if keywords.get("additionalProperties") == Some(&Value::Bool(false)) {
            // Which names are known; what stands under them is looked at elsewhere.
            for known in ["properties", "patternProperties"] {
                if let Some(Value::Object(names)) = keywords.get(known) {
                    let any = names.keys().map(|name| (name.clone(), json!(true))).collect();
                    alone.insert(known.to_owned(), Value::Object(any));
                }
            }
            alone.insert("additionalProperties".to_owned(), json!(false));
        }
        let Ok(validator) = options().build(&Value::Object(alone)) else { return };
        for error in validator.iter_errors(value).take(MAX_VIOLATIONS) {
            self.put(Violation::at(path, error.masked().to_string()));
        }
    }

    /// What its members and elements break.
    fn of_parts(&mut self, pointer: &str, keywords: &'a Map<String, Value>, value: &Value, path: &str) {
        if let Value::Object(members) = value {
            let known = keywords.get("properties").and_then(Value::as_object);
            for (name, member) in members {
                let place = step(path, name);
                if let Some(schema) = known.and_then(|known| known.get(name)) {
                    let part = step(&format!("{pointer}/properties"), name);
                    self.look(&part, schema, member, &place);
                } else if let Some(more) =
                    keywords.get("additionalProperties").filter(|more| more.is_object())
                    && !keywords.contains_key("patternProperties")
                {
                    self.look(&format!("{pointer}/additionalProperties"), more, member, &place);
                }
                if self.is_full() {
                    return;
                }
            }
        }
        if let Value::Array(elements) = value {
            let first = keywords.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            for (at, element) in elements.iter().enumerate() {
                let place = format!("{path}/{at}");
                if let Some(schema) = first.get(at) {
                    self.look(&format!("{pointer}/prefixItems/{at}"), schema, element, &place);
                } else if let Some(schema) = keywords.get("items") {
                    self.look(&format!("{pointer}/items"), schema, element, &place);
                }
                if self.is_full() {
                    return;
                }
            }
        }
    }

    /// What it breaks of other schemas for the same value. Of several that it may choose from, only where there is but one choice.
    fn of_others(&mut self, pointer: &str, keywords: &'a Map<String, Value>, value: &Value, path: &str) {
        let target = keywords.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
        if let Some(target) = target.and_then(percent_decoded)
            && let Some(schema) = self.root.pointer(&target)
        {
            self.look(&format!("#{target}"), schema, value, path);
        }
        let list =
            |keyword: &str| keywords.get(keyword).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (at, schema) in list("allOf").iter().enumerate() {
            self.look(&format!("{pointer}/allOf/{at}"), schema, value, path);
        }
        for keyword in ["anyOf", "oneOf"] {
            let null = |schema: &Value| schema.get("type") == Some(&json!("null"));
            let mut choices = list(keyword).iter().enumerate().filter(|(_, schema)| !null(schema));
            if let (Some((at, schema)), None) = (choices.next(), choices.next())
                && !value.is_null()
            {
                self.look(&format!("{pointer}/{keyword}/{at}"), schema, value, path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalogue::schema::{Compiled, check},
        wire::parse,
    };

    fn told(schema: &str, payload: &str) -> Vec<String> {
        let stored =
            check(&parse(schema.as_bytes()).unwrap()).unwrap_or_else(|error| panic!("{schema}: {error}"));
        let payload = parse(payload.as_bytes()).unwrap();
        let violations = Compiled::stored(&stored).unwrap().violations(&payload);
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_innermost_place_is_told() {
        for (schema, payload, expected) in [
            (
                r##"{"$defs":{"a/b c":{"properties":{"x":{"type":"string"}}}},"properties":{"p":{"$ref":"#/$defs/a~1b%20c"}}}"##,
                r#"{"p":{"x":1}}"#,
                r#"/p/x: value is not of type "string""#,
            ),
            (
                r##"{"properties":{"child":{"$ref":"#"},"n":{"type":"integer"}}}"##,
                r#"{"child":{"child":{"n":0.5}}}"#,
                r#"/child/child/n: value is not of type "integer""#,
            ),
            (
                r#"{"properties":{"a/b":{"type":"array","prefixItems":[{}],"items":{"minimum":3}}}}"#,
                r#"{"a/b":[1,2]}"#,
                "/a~1b/1: value is less than the minimum of 3",
            ),
            (
                r#"{"properties":{"a":{"anyOf":[{"type":"null"},{"properties":{"b":{"enum":["x"]}}}]}}}"#,
                r#"{"a":{"b":"y"}}"#,
                r#"/a/b: value is not one of "x""#,
            ),
            (
                r#"{"properties":{"a":{"oneOf":[{"type":"string"},{"type":"number"}]}}}"#,
                r#"{"a":true}"#,
                "/a: does not match `oneOf` of the schema at #/properties/a",
            ),
            (
                r#"{"properties":{"a":{}},"additionalProperties":false}"#,
                r#"{"a":1,"b":2}"#,
                "Additional properties are not allowed ('b' was unexpected)",
            ),
            (
                r#"{"additionalProperties":{"type":"string"}}"#,
                r#"{"b":2}"#,
                r#"/b: value is not of type "string""#,
            ),
            (r#"{"properties":{"a":false}}"#, r#"{"a":1}"#, "/a: must not be there"),
            (
                r#"{"allOf":[{"required":["a"]},{"required":["b"]}]}"#,
                r#"{"b":1}"#,
                r#""a" is a required property"#,
            ),
            (
                r#"{"if":{"required":["a"]},"then":{"required":["b"]}}"#,
                r#"{"a":1}"#,
                "does not match the schema at #",
            ),
            (
                r##"{"$defs":{"n":{"$anchor":"node","type":"string"}},"properties":{"a":{"$ref":"#node"}}}"##,
                r#"{"a":1}"#,
                "/a: does not match the schema at #/properties/a",
            ),
        ] {
            assert_eq!(told(schema, payload), [expected], "{schema} {payload}");
        }
    }

    #[test]
    fn what_is_wrong_twice_is_told_once_and_not_everything_is_told() {
        let twice = r##"{"required":["a"],"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}],"$defs":{"a":{"required":["a"]}}}"##;
        assert_eq!(told(twice, "{}"), [r#""a" is a required property"#]);
        let many = format!(r#"{{"a":[{}]}}"#, ["true"; MAX_VIOLATIONS + 1].join(","));
        let schema = r#"{"properties":{"a":{"items":{"type":"string"}}}}"#;
        assert_eq!(told(schema, &many).len(), MAX_VIOLATIONS);
    }
}
