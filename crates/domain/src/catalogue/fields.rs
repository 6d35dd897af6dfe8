//! The members of a delivered event as Zapier maps them: one flat list of keys with labels, types and samples.
//!
//! Zapier joins the members of objects with `__` and those of lists of objects with `[]`: `payload__customer__name`,
//! `payload__lines[]sku`. From the schema of the payload, else from payloads that are there.

use chrono::DateTime;

use super::{
    example::given,
    schema::{followed, properties, types},
};
use crate::wire::Json;

/// Fields of a payload, at most.
pub const MAX_FIELDS: usize = 200;

/// Objects within each other that are taken apart, at most.
const MAX_LEVELS: usize = 8;

/// Words that are written in capitals.
const CAPITALS: [&str; 6] = ["id", "url", "uri", "ip", "api", "utc"];

/// A field of the output of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// What it is mapped by.
    pub key: String,
    /// What people read.
    pub label: String,
    /// What its values are; `None` when that is not known.
    pub kind: Option<FieldKind>,
    /// Whether its value is a list of such.
    pub list: bool,
    /// A value to show.
    pub sample: Option<Json>,
}

/// What values are, as Zapier calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// `string`
    Text,
    /// `number`
    Number,
    /// `integer`
    Integer,
    /// `boolean`
    Boolean,
    /// `datetime`
    Time,
}

impl FieldKind {
    /// The word that Zapier has for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Time => "datetime",
        }
    }
}

/// A name as a title: `bankAccounts.write_ok` is `Bank Accounts Write Ok`.
#[must_use]
pub fn title(name: &str) -> String {
    let mut words: Vec<String> = vec![String::new()];
    let mut before: Option<char> = None;
    for c in name.chars() {
        let joint = !c.is_alphanumeric();
        let hump =
            c.is_uppercase() && before.is_some_and(|before| before.is_lowercase() || before.is_numeric());
        if joint || hump {
            words.push(String::new());
        }
        if !joint && let Some(word) = words.last_mut() {
            word.push(c);
        }
        before = Some(c);
    }
    let titled = words.iter().filter(|word| !word.is_empty()).map(|word| {
        if CAPITALS.contains(&word.to_lowercase().as_str()) {
            return word.to_uppercase();
        }
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
    });
    titled.collect::<Vec<String>>().join(" ")
}

/// The fields of the payload that a schema describes, with samples from a payload.
#[must_use]
pub fn of_schema(schema: &Json, payload: Option<&Json>) -> Vec<Field> {
    let mut reader = Reader { root: Some(schema), fields: Vec::new() };
    reader.members(schema, &Place::payload(), payload, 0);
    reader.fields
}

/// The fields that payloads have; what a later one has in common with an earlier is the earlier's.
#[must_use]
pub fn of_payloads(payloads: &[Json]) -> Vec<Field> {
    let mut reader = Reader { root: None, fields: Vec::new() };
    for payload in payloads {
        reader.infer_members(payload, &Place::payload(), 0);
    }
    reader.fields
}

/// Where a value stands.
#[derive(Clone, Debug)]
struct Place {
    key: String,
    label: String,
    /// What stands between the key and that of a member.
    joint: &'static str,
}

impl Place {
    fn payload() -> Self {
        Self { key: "payload".to_owned(), label: String::new(), joint: "__" }
    }

    fn member(&self, name: &str, label: Option<&str>) -> Self {
        let own = label.filter(|text| !text.trim().is_empty()).map_or_else(|| title(name), str::to_owned);
        let label = if self.label.is_empty() { own } else { format!("{} {own}", self.label) };
        Self { key: format!("{}{}{name}", self.key, self.joint), label, joint: "__" }
    }

    /// The same for the members of what is in a list.
    fn each(&self) -> Self {
        Self { joint: "[]", ..self.clone() }
    }

    fn in_list(&self) -> bool {
        self.key.contains("[]") || self.joint == "[]"
    }
}

struct Reader<'a> {
    /// The whole schema, for its references.
    root: Option<&'a Json>,
    fields: Vec<Field>,
}

impl<'a> Reader<'a> {
    fn put(&mut self, place: &Place, kind: Option<FieldKind>, list: bool, sample: Option<&Json>) {
        let known = self.fields.iter().any(|field| field.key == place.key);
        if known || self.fields.len() >= MAX_FIELDS {
            return;
        }
        let label = if place.label.is_empty() { title(&place.key) } else { place.label.clone() };
        let sample = sample.filter(|value| !value.is_null()).cloned();
        self.fields.push(Field { key: place.key.clone(), label, kind, list, sample });
    }

    fn members(&mut self, schema: &'a Json, place: &Place, value: Option<&Json>, level: usize) {
        let Some(root) = self.root else { return };
        for (name, schema) in properties(root, schema) {
            if self.fields.len() >= MAX_FIELDS {
                return;
            }
            let name = name.to_str_lossy();
            let schema = followed(root, schema);
            let place = place.member(&name, schema.get("title").and_then(Json::as_str));
            self.value(schema, &place, value.and_then(|value| value.get(&name)), level + 1);
        }
    }

    fn value(&mut self, schema: &'a Json, place: &Place, value: Option<&Json>, level: usize) {
        let Some(root) = self.root else { return };
        let sample = value.or_else(|| given(schema));
        if level < MAX_LEVELS && !properties(root, schema).is_empty() {
            return self.members(schema, place, sample, level);
        }
        let schema = choice(root, schema);
        let words = types(schema);
        if words.contains(&"array") {
            let items = schema.get("items").map(|items| followed(root, items));
            return match items {
                Some(items)
                    if !place.in_list() && level < MAX_LEVELS && !properties(root, items).is_empty() =>
                {
                    let first = sample.and_then(Json::as_array).and_then(<[Json]>::first);
                    self.members(items, &place.each(), first, level);
                }
                Some(items) => self.put(place, kind_of(choice(root, items)), true, sample),
                None => self.put(place, None, true, sample),
            };
        }
        match sample {
            // An object of which the schema says no more.
            Some(Json::Object(_)) if words.contains(&"object") => {
                self.infer(sample.unwrap_or(&Json::Null), place, level)
            }
            _ => self.put(place, kind_of(schema), false, sample),
        }
    }

    fn infer_members(&mut self, value: &Json, place: &Place, level: usize) {
        for (name, value) in value.as_object().into_iter().flat_map(|members| members.iter()) {
            if self.fields.len() >= MAX_FIELDS {
                return;
            }
            self.infer(value, &place.member(&name.to_str_lossy(), None), level + 1);
        }
    }

    fn infer(&mut self, value: &Json, place: &Place, level: usize) {
        match value {
            Json::Object(members) if level < MAX_LEVELS && !members.is_empty() => {
                self.infer_members(value, place, level);
            }
            Json::Object(_) => self.put(place, None, false, Some(value)),
            Json::Array(items) => match items.first() {
                Some(Json::Object(_)) if !place.in_list() && level < MAX_LEVELS => {
                    // Items need not all have the same members.
                    for item in items.iter().take(20) {
                        self.infer_members(item, &place.each(), level);
                    }
                }
                first => self.put(place, first.and_then(inferred), true, Some(value)),
            },
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
                self.put(place, inferred(value), false, Some(value));
            }
        }
    }
}

/// Of several schemas for one value, the first that is not for `null`.
fn choice<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    let schema = followed(root, schema);
    if !types(schema).is_empty() {
        return schema;
    }
    let parts = ["anyOf", "oneOf", "allOf"]
        .iter()
        .filter_map(|keyword| schema.get(keyword).and_then(Json::as_array))
        .flatten()
        .map(|part| followed(root, part));
    parts.filter(|part| types(part) != ["null"]).find(|part| !types(part).is_empty()).unwrap_or(schema)
}

/// What the values of a schema are. `None` when they may be of several types, or of any.
fn kind_of(schema: &Json) -> Option<FieldKind> {
    let words: Vec<&str> = types(schema).into_iter().filter(|word| *word != "null").collect();
    let format = schema.get("format").and_then(Json::as_str);
    match words.as_slice() {
        ["string"] if matches!(format, Some("date-time" | "date")) => Some(FieldKind::Time),
        ["string"] => Some(FieldKind::Text),
        ["integer"] => Some(FieldKind::Integer),
        ["number"] | ["integer", "number"] | ["number", "integer"] => Some(FieldKind::Number),
        ["boolean"] => Some(FieldKind::Boolean),
        [] => given(schema).and_then(inferred),
        _ => None,
    }
}

/// What a value is. A number without a fraction may have one next time.
fn inferred(value: &Json) -> Option<FieldKind> {
    match value {
        Json::Bool(_) => Some(FieldKind::Boolean),
        Json::Number(_) => Some(FieldKind::Number),
        Json::String(text) => {
            let time = text.as_str().is_some_and(|text| DateTime::parse_from_rfc3339(text).is_ok());
            Some(if time { FieldKind::Time } else { FieldKind::Text })
        }
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{parse, to_canonical};

    fn json(text: &str) -> Json {
        parse(text.as_bytes()).unwrap()
    }

    /// `key (label): type list = sample`
    fn told(fields: &[Field]) -> Vec<String> {
        let told = |field: &Field| {
            let sample = field.sample.as_ref().map_or(String::new(), |sample| {
                format!(" = {}", String::from_utf8(to_canonical(sample)).unwrap())
            });
            let kind = field.kind.map_or("?", FieldKind::as_str);
            format!(
                "{} ({}): {kind}{}{sample}",
                field.key,
                field.label,
                if field.list { " list" } else { "" }
            )
        };
        fields.iter().map(told).collect()
    }

    #[test]
    fn names_become_titles() {
        for (name, expected) in [
            ("order.created", "Order Created"),
            ("bankAccounts.write.successful", "Bank Accounts Write Successful"),
            ("task.needs_input", "Task Needs Input"),
            ("referenceCompany", "Reference Company"),
            ("company-id", "Company ID"),
            ("linkUrl", "Link URL"),
            ("requestedOnUtc", "Requested On UTC"),
            ("v2Items", "V2 Items"),
            ("élan", "Élan"),
            ("__", ""),
        ] {
            assert_eq!(title(name), expected);
        }
    }

    #[test]
    fn a_schema_says_what_there_will_be() {
        let schema = json(
            r##"{"$defs":{"money":{"type":"object","properties":{"amount":{"type":"number"},"currency":{"type":"string","enum":["EUR","USD"]}}}},
                "properties":{"id":{"type":"integer","title":"Order Number"},"at":{"type":["string","null"],"format":"date-time"},
                "total":{"$ref":"#/$defs/money"},"paid":{"type":"boolean"},"tags":{"type":"array","items":{"type":"string"}},
                "lines":{"type":"array","items":{"properties":{"sku":{"type":"string"},"price":{"$ref":"#/$defs/money"},"more":{"type":"array","items":{"properties":{"x":{}}}}}}},
                "extra":{"type":"object"},"any":{},"either":{"anyOf":[{"type":"null"},{"type":"string"}]}}}"##,
        );
        let payload =
            json(r#"{"id":7,"total":{"amount":9.5},"tags":["a"],"lines":[{"sku":"S1"}],"extra":{"k":true}}"#);
        assert_eq!(
            told(&of_schema(&schema, Some(&payload))),
            [
                "payload__id (Order Number): integer = 7",
                "payload__at (At): datetime",
                "payload__total__amount (Total Amount): number = 9.5",
                r#"payload__total__currency (Total Currency): string = "EUR""#,
                "payload__paid (Paid): boolean",
                r#"payload__tags (Tags): string list = ["a"]"#,
                r#"payload__lines[]sku (Lines Sku): string = "S1""#,
                "payload__lines[]price__amount (Lines Price Amount): number",
                r#"payload__lines[]price__currency (Lines Price Currency): string = "EUR""#,
                "payload__lines[]more (Lines More): ? list",
                "payload__extra__k (Extra K): boolean = true",
                "payload__any (Any): ?",
                "payload__either (Either): string",
            ]
        );
    }

    #[test]
    fn payloads_say_what_there_was() {
        let payloads = [
            json(
                r#"{"id":7,"at":"2025-01-15T10:00:00Z","none":null,"lines":[{"a":1},{"b":"x"}],"tags":[],"o":{},"nested":[[1]]}"#,
            ),
            json(r#"{"id":"other","new":true}"#),
        ];
        assert_eq!(
            told(&of_payloads(&payloads)),
            [
                "payload__id (ID): number = 7",
                r#"payload__at (At): datetime = "2025-01-15T10:00:00Z""#,
                "payload__none (None): ?",
                "payload__lines[]a (Lines A): number = 1",
                r#"payload__lines[]b (Lines B): string = "x""#,
                "payload__tags (Tags): ? list = []",
                "payload__o (O): ? = {}",
                "payload__nested (Nested): ? list = [[1]]",
                "payload__new (New): boolean = true",
            ]
        );
    }

    #[test]
    fn there_are_at_most_200_and_circles_end() {
        let of = |count: usize| {
            let many: Vec<String> = (0..count).map(|n| format!(r#""p{n}":{{"type":"string"}}"#)).collect();
            of_schema(&json(&format!(r#"{{"properties":{{{}}}}}"#, many.join(","))), None).len()
        };
        assert_eq!((of(MAX_FIELDS), of(MAX_FIELDS + 1)), (MAX_FIELDS, MAX_FIELDS));
        let circle = json(
            r##"{"properties":{"a":{"$ref":"#"},"b":{"$ref":"#"},"c":{"type":"array","items":{"$ref":"#"}}}}"##,
        );
        assert!(of_schema(&circle, None).len() <= MAX_FIELDS);
    }
}
