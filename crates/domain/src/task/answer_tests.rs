//! Schemas that may be asked with, and answers under them.

use serde_json::json;

use super::*;

fn parse(schema: &Value) -> Result<(), String> {
    Schema::parse(&schema.to_string()).map(drop)
}

fn told(schema: &Value, answer: &Value) -> Option<String> {
    check(&answer.to_string(), None, Some(&schema.to_string())).err().map(|error| error.to_string())
}

#[test]
fn an_answer_that_breaks_a_rule_is_told_where_and_which() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "amount": {"$ref": "#/$defs/money"},
            "when": {"type": "string", "format": "date"},
            "lines": {"type": "array", "items": {"type": "object", "required": ["sku"]}},
            "code": {"pattern": "^[A-Z]{2}$"},
            "never": false
        },
        "required": ["amount"],
        "additionalProperties": false,
        "$defs": {"money": {"type": "integer", "minimum": 5}}
    });
    let good = json!({"amount": 5, "when": "2026-02-28", "lines": [{"sku": 1}], "code": "AB"});
    assert_eq!(told(&schema, &good), None);
    for (answer, expected) in [
        (json!("x"), "does not follow the schema (type: \"object\")"),
        (json!({}), "does not follow the schema (required: [\"amount\"])"),
        (json!({"amount": 4}), "does not follow the schema at /amount (minimum: 5)"),
        (json!({"amount": "5"}), "does not follow the schema at /amount (type: \"integer\")"),
        (json!({"amount": 5, "x": 1}), "does not follow the schema (additionalProperties: false)"),
        (
            json!({"amount": 5, "when": "2026-02-30"}),
            "does not follow the schema at /when (format: \"date\")",
        ),
        (
            json!({"amount": 5, "lines": [{"sku": 1}, {}]}),
            "does not follow the schema at /lines/1 (required: [\"sku\"])",
        ),
        (json!({"amount": 5, "code": "ab"}), "does not follow the schema at /code (pattern: \"^[A-Z]{2}$\")"),
    ] {
        assert_eq!(told(&schema, &answer).as_deref(), Some(expected), "{answer}");
    }
    let never = told(&schema, &json!({"amount": 5, "never": 1})).unwrap();
    assert!(never.starts_with("does not follow the schema at /never ("), "{never}");
    let deep = format!("{}{}", "[".repeat(130), "]".repeat(130));
    assert!(check(&deep, None, Some("{}")).is_err());
}

#[test]
fn a_long_value_does_not_make_a_long_text() {
    let name = "n".repeat(10_000);
    let schema = json!({"properties": {&name: {"enum": [&name[..4_000]]}}});
    let error = told(&schema, &json!({ &name: 1 })).unwrap();
    assert!(error.chars().count() < 250, "{error}");
}

#[test]
fn a_schema_that_cannot_be_used_is_told_why() {
    for (schema, part) in [
        (json!([]), "must be an object"),
        (json!({"type": "strin"}), "is not one of JSON Schema 2020-12: \"strin\" cannot stand at /type"),
        (json!({"properties": {"a": {"minimum": "5"}}}), "\"5\" cannot stand at /properties/a/minimum"),
        (json!({"pattern": "("}), "\"(\" cannot stand at /pattern"),
        // Patterns that look around cannot be matched in linear time.
        (json!({"pattern": "(?=a)"}), "2020-12"),
        (json!({"pattern": "(a{1000}){1000}"}), "2020-12"),
        (json!({"$schema": "http://json-schema.org/draft-07/schema#"}), "must have no other $schema"),
        (json!({"$ref": "https://example.com/other.json"}), "`https://example.com/other.json`"),
        (json!({"$ref": "other.json"}), "`other.json`"),
        (json!({"$ref": "file:///etc/passwd"}), "`file:///etc/passwd`"),
        (json!({"$ref": "#/$defs/no"}), "`#/$defs/no`"),
        (json!({"$ref": "#name", "$defs": {"a": {"$anchor": "name"}}}), "`#name`"),
        (json!({"$ref": 5}), "$ref that is no string"),
        (json!({"$ref": "#"}), "must not refer to itself"),
        (json!({"properties": {"next": {"$ref": "#"}}}), "must not refer to itself"),
        (
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
            "must not refer to itself",
        ),
        (json!({"$dynamicRef": "#"}), "must not have $dynamicRef"),
        (json!({"items": {"$id": "https://example.com/x"}}), "$id"),
    ] {
        let reason = parse(&schema).expect_err(&schema.to_string());
        assert!(reason.contains(part) && reason.chars().count() < 230, "{schema}: {reason}");
    }
    for good in [
        json!({}),
        json!({"$id": "https://example.com/root", "$ref": "#/$defs/a", "$defs": {"a": true}}),
        json!({"properties": {"$ref": {"type": "string"}, "default": {"enum": [{"$ref": "x"}]}}}),
        json!({"enum": [{"$ref": "https://example.com/"}], "default": {"$id": 5}}),
        json!({"format": "something-of-ours", "x-note": 5}),
    ] {
        assert_eq!(parse(&good), Ok(()), "{good}");
    }
}

#[test]
fn the_bounds_of_a_schema_hold_at_n_and_break_at_n_plus_1() {
    let sized = |bytes: usize| {
        let empty = json!({"title": ""}).to_string().len();
        json!({"title": "x".repeat(bytes - empty)})
    };
    assert_eq!(parse(&sized(MAX_SCHEMA_BYTES)), Ok(()));
    assert!(parse(&sized(MAX_SCHEMA_BYTES + 1)).unwrap_err().contains("16384 bytes"));

    let nested = |depth: usize| (1..depth).fold(json!({}), |inner, _| json!({"items": inner}));
    assert_eq!(parse(&nested(MAX_SCHEMA_DEPTH)), Ok(()));
    assert!(parse(&nested(MAX_SCHEMA_DEPTH + 1)).unwrap_err().contains("32 deep"));
    // Along references, too.
    let chained = |length: usize| {
        let mut schemas = serde_json::Map::new();
        for n in 1..length {
            schemas.insert(format!("s{n}"), json!({"$ref": format!("#/$defs/s{}", n + 1)}));
        }
        schemas.insert(format!("s{length}"), json!({}));
        json!({"$ref": "#/$defs/s1", "$defs": schemas})
    };
    // The chain is looked at from the root and from each of its links, that from the root is the longest.
    assert_eq!(parse(&chained(MAX_SCHEMA_DEPTH - 1)), Ok(()));
    assert!(parse(&chained(MAX_SCHEMA_DEPTH)).unwrap_err().contains("32 deep"));

    // The schema, the list, and what is in it.
    let listed = |values: usize| json!({"enum": (0..values - 2).collect::<Vec<_>>()});
    assert_eq!(parse(&listed(MAX_SCHEMA_VALUES)), Ok(()));
    assert!(parse(&listed(MAX_SCHEMA_VALUES + 1)).unwrap_err().contains("2000 values"));

    let patterns = |count: usize| json!({"allOf": vec![json!({"pattern": "a"}); count]});
    assert_eq!(parse(&patterns(MAX_SCHEMA_PATTERNS)), Ok(()));
    assert!(parse(&patterns(MAX_SCHEMA_PATTERNS + 1)).unwrap_err().contains("20 patterns"));
}

#[test]
fn what_doubles_with_each_reference_is_refused_at_once() {
    let mut schemas = serde_json::Map::new();
    for n in 0..14 {
        let next = json!({"$ref": format!("#/$defs/s{}", n + 1)});
        schemas.insert(format!("s{n}"), json!({"allOf": [next, next]}));
    }
    schemas.insert("s14".to_owned(), json!({"type": "string"}));
    let bomb = json!({"$ref": "#/$defs/s0", "$defs": schemas});
    assert!(parse(&bomb).unwrap_err().contains("2000 values"));
}

#[test]
fn the_choices_of_a_question_must_be_possible() {
    let choices = ["a".to_owned(), "bb".to_owned()];
    assert_eq!(check_schema(r#"{"type":"string"}"#, Some(&choices)), Ok(()));
    let reason = check_schema(r#"{"maxLength":1}"#, Some(&choices)).unwrap_err();
    assert_eq!(reason, "does not allow the choice “bb”, which does not follow the schema (maxLength: 1)");
    let both = |answer: &str| check(answer, Some(&choices), Some(r#"{"type":"string"}"#));
    assert_eq!(both("\"a\""), Ok(()));
    assert_eq!(both("\"c\""), Err(BadAnswer::NoChoice { choices: "a, bb".to_owned() }));
    let long = format!("\"{}\"", "x".repeat(MAX_ANSWER_BYTES - 2));
    assert_eq!(check(&long, None, None), Ok(()));
    assert_eq!(check(&format!("{long} "), None, None), Err(BadAnswer::TooLong));
    assert_eq!(check("5", None, Some("no schema")), Ok(()), "of a question from before");
}

#[test]
fn a_text_in_a_form_is_what_the_schema_allows() {
    for (schema, text, meant) in [
        (None, "42", json!("42")),
        (Some(r#"{"type":"integer"}"#), " 42 ", json!(42)),
        (Some(r#"{"type":"string"}"#), "42", json!("42")),
        (Some(r#"{"type":"string"}"#), "true\r\n", json!("true")),
        (Some(r#"{"type":["string","integer"]}"#), "42", json!(42)),
        (Some(r#"{"type":"object"}"#), "{\"a\":1}", json!({"a": 1})),
        (Some(r#"{"type":"object"}"#), "{\"a\":", json!("{\"a\":")),
        (Some(r#"{"type":"array"}"#), "7", json!(7)),
        (Some("no schema"), "7", json!(7)),
    ] {
        assert_eq!(super::meant(schema, text).to_serde(), meant, "{schema:?} {text}");
    }
}
