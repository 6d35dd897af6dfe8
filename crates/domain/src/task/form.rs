//! The form that a schema asks for: a field for each property of a flat object, or the answers it may have.
//!
//! What a form cannot say, a person writes as JSON. The form only gathers an answer: whether it is one is the schema's
//! business, as for every other way in.

use serde_json::{Map, Value};

use crate::wire::{Json, Object, parse_as_javascript};

/// Properties of an object that a form has fields for, at most.
pub const MAX_FIELDS: usize = 20;
/// Answers that a person is shown to choose from, at most.
const MAX_OPTIONS: usize = 50;

/// What a person is asked to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// One text, which may be JSON.
    Text,
    /// Yes or no.
    YesOrNo,
    /// One of these.
    OneOf(Vec<String>),
    /// An object's members.
    Fields(Vec<Field>),
}

/// A member of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What a person reads: its `title`, else its name.
    pub label: String,
    /// Its `description`.
    pub hint: Option<String>,
    /// Whether the answer must have it.
    pub required: bool,
    /// What it takes.
    pub takes: Takes,
    /// What it says as long as nobody has written anything: its `default`.
    pub preset: String,
}

/// What a field takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Text.
    Text,
    /// A day, such as `2026-11-26` (`format: date`).
    Date,
    /// An address (`format: email`).
    Email,
    /// A number.
    Number,
    /// A number without fraction.
    Integer,
    /// `true` or `false`.
    Flag,
    /// One of these texts.
    OneOf(Vec<String>),
}

/// The form of a question with this schema.
#[must_use]
pub fn of(schema: Option<&str>) -> Form {
    let parsed = schema.and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    parsed.as_ref().and_then(read).unwrap_or(Form::Text)
}

/// What the form makes of the values that were sent with it: `value` gives what was written into a field. An empty field
/// is a member that is missing.
#[must_use]
pub fn filled<'a>(fields: &[Field], value: impl Fn(&str) -> Option<&'a str>) -> Json {
    let members = fields.iter().filter_map(|field| {
        let text = value(&field.name).unwrap_or_default();
        Some((field.name.as_str(), field.takes.meant(text)?))
    });
    Json::from(members.collect::<Object>())
}

impl Takes {
    /// What a text in the field means. A number that is none stays a text, which the schema refuses by its name.
    fn meant(&self, text: &str) -> Option<Json> {
        match self {
            _ if text.trim().is_empty() => None,
            Self::Flag if text == "true" => Some(Json::from(true)),
            Self::Flag if text == "false" => Some(Json::from(false)),
            Self::Number | Self::Integer => {
                let number = parse_as_javascript(text.trim().as_bytes()).ok();
                Some(number.filter(|json| json.as_f64().is_some()).unwrap_or_else(|| Json::from(text)))
            }
            Self::Text | Self::Date | Self::Email | Self::Flag | Self::OneOf(_) => Some(Json::from(text)),
        }
    }
}

fn read(schema: &Map<String, Value>) -> Option<Form> {
    if let Some(options) = options(schema) {
        return Some(Form::OneOf(options?));
    }
    match schema.get("type")?.as_str()? {
        "boolean" => Some(Form::YesOrNo),
        "object" => fields(schema).map(Form::Fields),
        _ => None,
    }
}

/// The texts that a schema lists; `Some(None)` when it lists what cannot be shown as one.
fn options(schema: &Map<String, Value>) -> Option<Option<Vec<String>>> {
    let listed = schema.get("enum")?.as_array()?;
    let texts: Option<Vec<_>> = listed.iter().map(|option| option.as_str().map(str::to_owned)).collect();
    Some(texts.filter(|texts| {
        !texts.is_empty() && texts.len() <= MAX_OPTIONS && texts.iter().all(|text| !text.trim().is_empty())
    }))
}

/// Keywords of an object that a flat form with its properties says in full, or that the answer is checked with afterwards.
const OF_OBJECTS: &[&str] = &[
    "$schema",
    "$comment",
    "type",
    "title",
    "description",
    "properties",
    "required",
    "additionalProperties",
    "default",
    "examples",
];

fn fields(schema: &Map<String, Value>) -> Option<Vec<Field>> {
    if schema.keys().any(|keyword| !OF_OBJECTS.contains(&keyword.as_str())) {
        return None;
    }
    let properties = schema.get("properties")?.as_object()?;
    let required: Vec<&str> = match schema.get("required") {
        Some(required) => required.as_array()?.iter().filter_map(Value::as_str).collect(),
        None => Vec::new(),
    };
    let is_unnamed = |name: &&str| !properties.contains_key(*name);
    if properties.is_empty() || properties.len() > MAX_FIELDS || required.iter().any(is_unnamed) {
        return None;
    }
    properties
        .iter()
        .map(|(name, schema)| field(name, schema.as_object()?, required.contains(&name.as_str())))
        .collect()
}

fn field(name: &str, schema: &Map<String, Value>, required: bool) -> Option<Field> {
    let text = |keyword: &str| schema.get(keyword).and_then(Value::as_str);
    let takes = match (options(schema), text("type")) {
        (Some(options), None | Some("string")) => Takes::OneOf(options?),
        (None, Some("string")) => match text("format") {
            Some("date") => Takes::Date,
            Some("email") => Takes::Email,
            _ => Takes::Text,
        },
        (None, Some("number")) => Takes::Number,
        (None, Some("integer")) => Takes::Integer,
        (None, Some("boolean")) => Takes::Flag,
        _ => return None,
    };
    let preset = match schema.get("default") {
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        _ => String::new(),
    };
    Some(Field {
        name: name.to_owned(),
        label: text("title").filter(|title| !title.trim().is_empty()).unwrap_or(name).to_owned(),
        hint: text("description").filter(|hint| !hint.trim().is_empty()).map(str::to_owned),
        required,
        takes,
        preset,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form(schema: &Value) -> Form {
        of(Some(&schema.to_string()))
    }

    #[test]
    fn a_flat_object_has_a_field_for_each_property() {
        let schema = json!({"type": "object", "required": ["day"], "properties": {
            "day": {"type": "string", "format": "date", "title": "Day", "description": "When?"},
            "seats": {"type": "integer", "minimum": 1, "default": 2},
            "price": {"type": "number"},
            "window": {"type": "boolean"},
            "class": {"enum": ["first", "second"]},
            "mail": {"type": "string", "format": "email"},
            "note": {"type": "string", "maxLength": 50}}});
        let Form::Fields(fields) = form(&schema) else { panic!("no fields") };
        let takes: Vec<_> = fields.iter().map(|field| (field.name.as_str(), field.takes.clone())).collect();
        let of_class = Takes::OneOf(vec!["first".to_owned(), "second".to_owned()]);
        for wanted in [
            ("day", Takes::Date),
            ("seats", Takes::Integer),
            ("price", Takes::Number),
            ("window", Takes::Flag),
            ("class", of_class),
            ("mail", Takes::Email),
            ("note", Takes::Text),
        ] {
            assert!(takes.contains(&wanted), "{wanted:?} in {takes:?}");
        }
        let day = fields.iter().find(|field| field.name == "day").unwrap();
        assert!(day.required && day.label == "Day" && day.hint.as_deref() == Some("When?"));
        let seats = fields.iter().find(|field| field.name == "seats").unwrap();
        assert!(!seats.required && seats.preset == "2" && seats.label == "seats");

        let sent =
            [("day", "2026-11-26"), ("seats", " 3 "), ("price", "a lot"), ("window", "true"), ("note", "  ")];
        let made =
            filled(&fields, |name| sent.iter().find(|(sent, _)| *sent == name).map(|(_, value)| *value));
        let expected = json!({"day": "2026-11-26", "seats": 3, "price": "a lot", "window": true});
        assert_eq!(made.to_serde(), expected.clone(), "{made:?}");
    }

    #[test]
    fn plain_answers_are_chosen() {
        assert_eq!(form(&json!({"type": "boolean"})), Form::YesOrNo);
        assert_eq!(form(&json!({"enum": ["a", "b"]})), Form::OneOf(vec!["a".to_owned(), "b".to_owned()]));
        let many: Vec<_> = (0..MAX_OPTIONS).map(|n| n.to_string()).collect();
        assert!(matches!(form(&json!({"enum": many})), Form::OneOf(_)));
        let too_many: Vec<_> = (0..=MAX_OPTIONS).map(|n| n.to_string()).collect();
        assert_eq!(form(&json!({"enum": too_many})), Form::Text);
    }

    #[test]
    fn what_a_form_cannot_say_is_written_as_json() {
        let properties = |count: usize| {
            let properties: Map<_, _> =
                (0..count).map(|n| (n.to_string(), json!({"type": "string"}))).collect();
            json!({"type": "object", "properties": properties})
        };
        assert!(matches!(form(&properties(MAX_FIELDS)), Form::Fields(_)));
        for schema in [
            properties(MAX_FIELDS + 1),
            properties(0),
            json!({"type": "object"}),
            json!({"type": "array"}),
            json!({"type": ["object"], "properties": {"a": {"type": "string"}}}),
            json!({"type": "object", "properties": {"a": {"type": "object"}}}),
            json!({"type": "object", "properties": {"a": true}}),
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "oneOf": [true]}),
            json!({"type": "object", "properties": {"a": {"enum": [1, 2]}}}),
            json!({"enum": [1, "a"]}),
            json!({"enum": [" "]}),
            json!({}),
        ] {
            assert_eq!(form(&schema), Form::Text, "{schema}");
        }
        assert_eq!(of(None), Form::Text);
        assert_eq!(of(Some("[")), Form::Text);
    }
}
