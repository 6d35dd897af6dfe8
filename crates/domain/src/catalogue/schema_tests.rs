//! Schemas that are taken and refused, what a payload breaks of one, and schemas that mean harm.

use std::time::Instant;

use super::*;
use crate::wire::parse;

fn json(text: &str) -> Json {
    parse(text.as_bytes()).unwrap()
}

fn refused(text: &str) -> String {
    check(&json(text)).unwrap_err().to_string()
}

#[test]
fn what_is_no_schema_is_told_with_its_place() {
    for (text, beginning) in [
        ("true", "must be a JSON object"),
        (r#"{"type":"objekt"}"#, "/type: "),
        (r#"{"properties":{"a":{"minLength":-1}}}"#, "/properties/a/minLength: "),
        (r#"{"properties":{"a/b":{"required":"x"}}}"#, "/properties/a~1b/required: "),
        (r#"{"$schema":"http://json-schema.org/draft-07/schema#"}"#, "/$schema: must be "),
        (
            r#"{"$ref":"https://example.com/a.json"}"#,
            "/$ref: `https://example.com/a.json` is another document",
        ),
        (r#"{"properties":{"a":{"$ref":"file:///etc/passwd"}}}"#, "/properties/a/$ref: `file:"),
        (r##"{"items":{"$ref":"#/$defs/no"}}"##, "/items/$ref: `#/$defs/no` leads nowhere"),
        (r##"{"$id":"https://a.b/c","items":{"$ref":"other"}}"##, "/items/$ref: `other` is another document"),
        (r##"{"items":{"$id":"https://a.b/c"}}"##, "/items/$id: must not be there"),
        (
            r##"{"properties":{"default":{"$ref":"#/$defs/no"}}}"##,
            "/properties/default/$ref: `#/$defs/no` leads nowhere",
        ),
        (r##"{"$defs":{"enum":{"$ref":"other"}}}"##, "/$defs/enum/$ref: `other` is another document"),
        (r#"{"pattern":"("}"#, "/pattern: is no regular expression"),
        (r#"{"pattern":"(?=a)b"}"#, "/pattern: is no regular expression, or one with look-around"),
        (r#"{"patternProperties":{"(a)\\1":{}}}"#, "/patternProperties"),
    ] {
        let told = refused(text);
        assert!(told.starts_with(beginning), "{text}: {told}");
    }
}

#[test]
fn a_schema_refers_to_itself() {
    for text in [
        r##"{"$defs":{"a b":{"type":"string"}},"properties":{"x":{"$ref":"#/$defs/a%20b"}}}"##,
        r##"{"properties":{"child":{"$ref":"#"}}}"##,
        r##"{"$defs":{"n":{"$anchor":"node"}},"items":{"$ref":"#node"}}"##,
        r#"{"const":{"$ref":"nowhere"}}"#,
        r#"{"properties":{"const":{"const":{"$ref":"nowhere"}},"$id":{"type":"string"},"$ref":{"type":"string"}}}"#,
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","unknown":1}"#,
    ] {
        assert_eq!(check(&json(text)).map(|_| ()), Ok(()), "{text}");
    }
}

#[test]
fn size_and_depth_have_limits() {
    let of_size = |bytes: usize| format!(r#"{{"title":"{}"}}"#, "x".repeat(bytes - r#"{"title":""}"#.len()));
    assert_eq!(check(&json(&of_size(MAX_SCHEMA_BYTES))).unwrap().len(), MAX_SCHEMA_BYTES);
    assert!(refused(&of_size(MAX_SCHEMA_BYTES + 1)).contains("at most 65536 bytes, not 65537"));
    let of_depth = |depth: usize| format!("{}{{}}{}", r#"{"not":"#.repeat(depth - 1), "}".repeat(depth - 1));
    assert!(check(&json(&of_depth(MAX_SCHEMA_DEPTH))).is_ok());
    assert!(refused(&of_depth(MAX_SCHEMA_DEPTH + 1)).ends_with("is nested deeper than 32 levels"));
}

#[test]
fn a_payload_is_told_where_it_breaks_the_schema() {
    let schema = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},
        "lines":{"items":{"properties":{"price":{"type":"number","minimum":0},"at":{"format":"date-time"}}}}}}"#;
    let compiled = Compiled::stored(&check(&json(schema)).unwrap()).unwrap();
    let told = |payload: &str| -> Vec<String> {
        compiled.violations(&json(payload)).iter().map(ToString::to_string).collect()
    };
    assert!(told(r#"{"id":1.0,"lines":[{"price":0,"at":"2025-01-15T10:00:00Z"}],"more":1}"#).is_empty());
    assert_eq!(told("{}"), [r#""id" is a required property"#]);
    assert_eq!(
        told(r#"{"id":1.5,"lines":[{},{"price":-1,"at":"today"}]}"#),
        [
            r#"/id: value is not of type "integer""#,
            r#"/lines/1/at: value is not a "date-time""#,
            r#"/lines/1/price: value is less than the minimum of 0"#
        ]
    );
    let many = format!(r#"{{"id":1,"lines":[{}]}}"#, vec![r#"{"price":"x"}"#; MAX_VIOLATIONS + 5].join(","));
    assert_eq!(told(&many).len(), MAX_VIOLATIONS);
}

/// Whoever writes a pattern must not be able to stop a gateway with it.
#[test]
fn a_pattern_that_means_harm_takes_no_time() {
    let schema = json(r#"{"additionalProperties":{"pattern":"^(a+)+$"}}"#);
    let payload = json(&format!(r#"{{"a":"{}!"}}"#, "a".repeat(50_000)));
    let started = Instant::now();
    let compiled = Compiled::stored(&check(&schema).unwrap()).unwrap();
    assert_eq!(compiled.violations(&payload)[0].path, "/a");
    assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
}

/// The most that a schema may ask for, of a payload that is as deep as one can be.
#[test]
fn what_is_taken_can_be_looked_at_in_no_time() {
    let choice = r##"{"required":["z"],"properties":{"p":{"$ref":"#"},"q":{"type":"string"}}}"##;
    let other = r##"{"required":["y"],"properties":{"r":{"$ref":"#"}}}"##;
    let schema = json(&format!(r#"{{"anyOf":[{choice},{other}]}}"#));
    let compiled = Compiled::stored(&check(&schema).unwrap()).unwrap();
    let deep = format!("{}1{}", r#"{"p":"#.repeat(120), "}".repeat(120));
    let started = Instant::now();
    assert!(!compiled.violations(&json(&deep)).is_empty());
    let wide = format!(r#"{{"q":[{}]}}"#, vec!["1"; 400_000].join(","));
    assert!(!compiled.violations(&json(&wide)).is_empty());
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}
