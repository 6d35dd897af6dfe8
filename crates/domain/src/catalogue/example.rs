//! An example payload made of a schema, for types of which there is none: what its author gives as examples, defaults and
//! constants, else something of the right type. It is for looking at; patterns and rules between members are not looked for.

use super::schema::{followed, properties, types};
use crate::wire::{Json, Number, Object};

/// Values in an example, at most.
const MAX_VALUES: usize = 300;

/// Objects and lists within each other in an example, at most.
const MAX_LEVELS: usize = 8;

/// An example of what the schema describes; an object, as payloads are.
#[must_use]
pub fn of(schema: &Json) -> Object {
    let mut maker = Maker { root: schema, left: MAX_VALUES };
    maker.value(schema, 0).into_object().unwrap_or_default()
}

/// What the author of a schema gives for a value.
pub(super) fn given(schema: &Json) -> Option<&Json> {
    let first = |keyword: &str| schema.get(keyword).and_then(Json::as_array).and_then(<[Json]>::first);
    first("examples")
        .or_else(|| schema.get("example"))
        .or_else(|| schema.get("default"))
        .or_else(|| schema.get("const"))
        .or_else(|| first("enum"))
}

struct Maker<'a> {
    root: &'a Json,
    left: usize,
}

impl Maker<'_> {
    fn value(&mut self, schema: &Json, level: usize) -> Json {
        let root = self.root;
        let schema = followed(root, schema);
        if self.left == 0 {
            return Json::Null;
        }
        self.left -= 1;
        if let Some(given) = given(schema) {
            return given.clone();
        }
        let members = properties(root, schema);
        let kind = types(schema).into_iter().find(|word| *word != "null");
        match kind {
            None if !members.is_empty() => self.object(&members, level),
            None => ["allOf", "anyOf", "oneOf"]
                .iter()
                .find_map(|keyword| schema.get(keyword).and_then(Json::as_array)?.first())
                .filter(|_| level < MAX_LEVELS)
                .map_or(Json::Null, |first| self.value(first, level + 1)),
            Some("object") => self.object(&members, level),
            Some("array") => match schema.get("items") {
                Some(items) if level < MAX_LEVELS => Json::Array(vec![self.value(items, level + 1)]),
                Some(_) | None => Json::Array(Vec::new()),
            },
            Some("boolean") => Json::Bool(true),
            Some("integer" | "number") => number(schema),
            Some("string") => Json::from(text(schema)),
            Some(_) => Json::Null,
        }
    }

    fn object(&mut self, members: &[(&crate::wire::JsonString, &Json)], level: usize) -> Json {
        let mut object = Object::new();
        if level < MAX_LEVELS {
            for (name, schema) in members {
                if self.left == 0 {
                    break;
                }
                object.insert((*name).clone(), self.value(schema, level + 1));
            }
        }
        Json::Object(object)
    }
}

/// The least that is allowed, else 1.
fn number(schema: &Json) -> Json {
    let bound = |keyword: &str| schema.get(keyword).and_then(Json::as_f64);
    let least = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|least| least + 1.0));
    let most = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|most| most - 1.0));
    let value = match (least, most) {
        (Some(least), _) if least > 1.0 => least,
        (_, Some(most)) if most < 1.0 => most,
        _ => 1.0,
    };
    Number::new(value).map_or(Json::Null, Json::Number)
}

fn text(schema: &Json) -> String {
    let format = schema.get("format").and_then(Json::as_str).unwrap_or_default();
    let text = match format {
        "date-time" => "2025-01-15T10:00:00.000Z",
        "date" => "2025-01-15",
        "time" => "10:00:00Z",
        "email" | "idn-email" => "ada@example.com",
        "uri" | "iri" | "uri-reference" | "url" => "https://example.com/",
        "uuid" => "8a210b68-6988-11ed-a1eb-0242ac120002",
        "ipv4" => "192.0.2.1",
        "ipv6" => "2001:db8::1",
        "hostname" | "idn-hostname" => "example.com",
        _ => "text",
    };
    let bound = |keyword: &str| {
        schema.get(keyword).and_then(Json::as_integer).and_then(|length| usize::try_from(length).ok())
    };
    let (least, most) =
        (bound("minLength").unwrap_or(0).min(1_000), bound("maxLength").unwrap_or(usize::MAX));
    let mut text: String = text.chars().take(most).collect();
    while text.chars().count() < least {
        text.push('x');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalogue::schema::{Compiled, check},
        wire::{parse, to_canonical},
    };

    fn made(schema: &str) -> String {
        let json = parse(schema.as_bytes()).unwrap();
        let example = Json::Object(of(&json));
        let compiled = Compiled::stored(&check(&json).unwrap()).unwrap();
        assert!(compiled.violations(&example).is_empty(), "{example:?} of {schema}");
        String::from_utf8(to_canonical(&example)).unwrap()
    }

    #[test]
    fn an_example_keeps_its_schema() {
        for (schema, expected) in [
            ("{}", "{}"),
            (
                r#"{"type":"object","properties":{"id":{"type":"integer","minimum":7},"at":{"type":["null","string"],"format":"date-time"},
                    "to":{"type":"string","format":"email"},"ok":{"type":"boolean"},"kind":{"enum":["new","used"]},
                    "name":{"type":"string","examples":["Ada"]},"code":{"type":"string","minLength":6},"rate":{"type":"number","maximum":0.5}}}"#,
                r#"{"id":7,"at":"2025-01-15T10:00:00.000Z","to":"ada@example.com","ok":true,"kind":"new","name":"Ada","code":"textxx","rate":0.5}"#,
            ),
            (
                r##"{"$defs":{"line":{"type":"object","properties":{"sku":{"type":"string"}}}},
                    "properties":{"lines":{"type":"array","items":{"$ref":"#/$defs/line"}}},"allOf":[{"properties":{"more":{"const":1}}}]}"##,
                r#"{"lines":[{"sku":"text"}],"more":1}"#,
            ),
            (r#"{"properties":{"a":{"anyOf":[{"type":"string"},{"type":"number"}]}}}"#, r#"{"a":"text"}"#),
        ] {
            assert_eq!(made(schema), expected, "{schema}");
        }
    }

    #[test]
    fn circles_and_multitudes_end() {
        let circle =
            r##"{"properties":{"child":{"$ref":"#"},"list":{"type":"array","items":{"$ref":"#"}}}}"##;
        assert!(made(circle).len() < 20_000);
        let many: Vec<String> = (0..1_000).map(|n| format!(r#""p{n}":{{"type":"null"}}"#)).collect();
        assert!(made(&format!(r#"{{"properties":{{{}}}}}"#, many.join(","))).len() < 10_000);
        let json = parse(br##"{"$ref":"#"}"##).unwrap();
        assert!(of(&json).is_empty());
    }
}
