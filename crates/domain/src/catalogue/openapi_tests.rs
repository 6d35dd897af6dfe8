//! What becomes of OpenAPI documents.

use super::{schemas::MAX_SOURCE_BYTES, *};
use crate::wire::parse;

fn found(text: &str, payload_member: Option<&str>) -> Result<Found, String> {
    let reading = Reading { payload_member: payload_member.map(str::to_owned) };
    read(&parse(text.as_bytes()).unwrap(), &reading).map_err(|problem| problem.to_string())
}

fn text(bytes: Option<&Vec<u8>>) -> &str {
    bytes.map_or("", |bytes| std::str::from_utf8(bytes).unwrap())
}

const DOCUMENT: &str = r##"{"openapi":"3.1.0","info":{"title":"Shop","version":"1"},
    "webhooks":{
        "order.created":{"post":{"summary":" An order was placed. ","tags":["Orders"],"deprecated":true,
            "requestBody":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Order"},"example":{"id":1,"customer":{"name":"Ada"}}}}}}},
        "order.deleted":{"$ref":"#/components/pathItems/Deleted"},
        "no type":{"post":{}},
        "order.read":{"get":{}}},
    "paths":{"/jobs":{"post":{"callbacks":{"job.done":{"{$request.body#/url}":{"post":{"requestBody":{"$ref":"#/components/requestBodies/Done"}}}}}}}},
    "components":{
        "schemas":{"Order":{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"customer":{"$ref":"#/components/schemas/Customer"}}},
            "Customer":{"properties":{"name":{"type":"string"},"friends":{"type":"array","items":{"$ref":"#/components/schemas/Customer"}}}}},
        "pathItems":{"Deleted":{"post":{"description":"Gone."}}},
        "requestBodies":{"Done":{"content":{"application/vnd.shop+json":{"schema":{"type":"object","properties":{"ok":{"type":"boolean"}},"examples":[{"ok":true}]}}}}}}}"##;

#[test]
fn webhooks_and_callbacks_become_types() {
    let found = found(DOCUMENT, None).unwrap();
    let names: Vec<&str> = found.items.iter().map(|item| item.entry.name.as_str()).collect();
    assert_eq!(names, ["order.created", "order.deleted", "job.done"]);
    let order = &found.items[0];
    assert_eq!(order.path, "/webhooks/order.created/post");
    let entry = &order.entry;
    assert_eq!(
        (entry.description.as_str(), entry.feature_group.as_deref(), entry.deprecated),
        ("An order was placed.", Some("Orders"), true)
    );
    assert_eq!(
        text(entry.schema.as_ref()),
        r##"{"$ref":"#/$defs/Order","$defs":{"Order":{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"customer":{"$ref":"#/$defs/Customer"}}},"Customer":{"properties":{"name":{"type":"string"},"friends":{"type":"array","items":{"$ref":"#/$defs/Customer"}}}}}}"##
    );
    assert_eq!(text(entry.example.as_ref()), r#"{"id":1,"customer":{"name":"Ada"}}"#);
    assert_eq!(found.items[1].entry.description, "Gone.");
    assert_eq!(found.items[2].path, "/paths/~1jobs/post/callbacks/job.done/{$request.body#~1url}/post");
    assert_eq!(text(found.items[2].entry.example.as_ref()), r#"{"ok":true}"#);
    let problems: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2);
    assert!(problems[0].starts_with("/webhooks/no type: `no type` is no event type"), "{problems:?}");
    assert!(problems[1].starts_with("/webhooks/order.read: has no POST"), "{problems:?}");
}

#[test]
fn the_payload_may_be_within_an_envelope() {
    let document = r##"{"openapi":"3.1.0","webhooks":{"a.b":{"post":{"requestBody":{"content":{"application/json":{
        "schema":{"properties":{"eventType":{},"payload":{"$ref":"#/components/schemas/P"}}},"example":{"eventType":"a.b","payload":{"n":1}}}}}}}},
        "components":{"schemas":{"P":{"type":"object","properties":{"n":{"type":"number"}}}}}}"##;
    let item = found(document, Some("payload")).unwrap().items.remove(0);
    assert_eq!(text(item.entry.example.as_ref()), r#"{"n":1}"#);
    assert!(text(item.entry.schema.as_ref()).contains(r##""$ref":"#/$defs/P""##));
    let problems = found(document, Some("data")).unwrap().problems;
    assert_eq!(problems[0].reason, "has no property `data`");
}

#[test]
fn openapi_3_0_is_read_in_its_own_spelling() {
    let document = r#"{"openapi":"3.0.3","x-webhooks":{"a.b":{"post":{"requestBody":{"content":{"application/json; charset=utf-8":{
        "schema":{"type":"object","properties":{"n":{"type":"number","nullable":true,"minimum":0,"exclusiveMinimum":true},"e":{"type":"string","enum":["x"],"nullable":true},"m":{"maximum":5,"exclusiveMaximum":false}}}}}}}}}}"#;
    let item = found(document, None).unwrap().items.remove(0);
    assert_eq!(
        text(item.entry.schema.as_ref()),
        r#"{"type":"object","properties":{"n":{"type":["number","null"],"exclusiveMinimum":0},"e":{"type":["string","null"],"enum":["x",null]},"m":{"maximum":5}}}"#
    );
}

#[test]
fn what_is_no_such_document_is_told() {
    for (document, expected) in [
        ("{}", "/openapi: is missing: this is no OpenAPI document"),
        (r#"{"swagger":"2.0"}"#, "/swagger: is not supported; OpenAPI 3.0 or later is"),
        (r#"{"openapi":3.1}"#, "/openapi: must be a string"),
        (r#"{"openapi":"4.0.0"}"#, "/openapi: must be a version 3, not `4.0.0`"),
        (r#"{"openapi":"3.1.0","paths":{"/a":{"get":{}}}}"#, "has neither webhooks nor callbacks"),
        (r#"{"openapi":"3.1.0","webhooks":[]}"#, "has neither webhooks nor callbacks"),
    ] {
        assert_eq!(found(document, None), Err(expected.to_owned()), "{document}");
    }
}

#[test]
fn what_cannot_be_taken_is_told_with_its_place() {
    let with = |media: &str| {
        let document = format!(
            r#"{{"openapi":"3.1.0","webhooks":{{"a":{{"post":{{"requestBody":{{"content":{{"application/json":{media}}}}}}}}}}}}}"#
        );
        found(&document, None).unwrap().problems.remove(0).to_string()
    };
    let at = "/webhooks/a/post/requestBody/content/application~1json";
    for (media, place, told) in [
        (r#"{"schema":{"type":"objekt"}}"#, "/schema/type", ""),
        (
            r##"{"schema":{"$ref":"#/components/schemas/No"}}"##,
            "/schema",
            "refers to `#/components/schemas/No`, which is not in the document",
        ),
        (r#"{"schema":{"$ref":"other.yaml"}}"#, "/schema/$ref", "`other.yaml` is another document"),
        (
            r#"{"schema":{"required":["id"]},"example":{}}"#,
            "",
            "has an example that does not match the schema",
        ),
        (r#"{"schema":true}"#, "/schema", "must be a JSON object"),
    ] {
        let problem = with(media);
        assert!(problem.starts_with(&format!("{at}{place}: {told}")), "{media}: {problem}");
    }
}

#[test]
fn one_callback_at_several_operations_is_one_type() {
    let callback = r#"{"job.done":{"{$url}":{"post":{"summary":"Done."}}}}"#;
    let other = r#"{"job.done":{"{$url}":{"post":{"summary":"Otherwise."}}}}"#;
    let document = |second: &str| {
        format!(
            r#"{{"openapi":"3.1.0","paths":{{"/a":{{"post":{{"callbacks":{callback}}}}},"/b":{{"post":{{"callbacks":{second}}}}}}}}}"#
        )
    };
    let same = found(&document(callback), None).unwrap();
    assert_eq!((same.items.len(), same.problems.len()), (1, 0));
    let differing = found(&document(other), None).unwrap();
    assert!(differing.problems[0].reason.starts_with("describes `job.done` otherwise than /paths/~1a"));
}

/// A document with so many webhooks, each with this media type.
fn webhooks(count: usize, media: &str, components: &str) -> String {
    let webhooks: Vec<String> = (0..count)
        .map(|n| {
            let content = format!(r#"{{"application/json":{media}}}"#);
            format!(r#""order.{n}":{{"post":{{"requestBody":{{"content":{content}}}}}}}"#)
        })
        .collect();
    let webhooks = webhooks.join(",");
    format!(r#"{{"openapi":"3.0.0","x-webhooks":{{{webhooks}}},"components":{components}}}"#)
}

#[test]
fn properties_may_be_called_as_keywords_are() {
    let media = r##"{"schema":{"type":"object",
        "properties":{"nullable":{"type":"boolean","nullable":true},"default":{"$ref":"#/components/schemas/P"},"enum":{"$ref":"#/components/schemas/P"},
            "example":{"$ref":"#/components/schemas/P"},"const":{"default":{"$ref":"#/x"}},"exclusiveMinimum":{"type":"boolean"},"minimum":{"type":"number"}}}}"##;
    let document = webhooks(1, media, r#"{"schemas":{"P":{"type":"string"}}}"#);
    let item = found(&document, None).unwrap().items.remove(0);
    assert_eq!(
        text(item.entry.schema.as_ref()),
        r##"{"type":"object","properties":{"nullable":{"type":["boolean","null"]},"default":{"$ref":"#/$defs/P"},"enum":{"$ref":"#/$defs/P"},"example":{"$ref":"#/$defs/P"},"const":{"default":{"$ref":"#/x"}},"exclusiveMinimum":{"type":"boolean"},"minimum":{"type":"number"}},"$defs":{"P":{"type":"string"}}}"##
    );
}

#[test]
fn what_one_schema_is_gathered_from_has_a_limit() {
    // {"title":"…"} is two values and five bytes of a name besides the text.
    let with = |bytes: usize| {
        let media = format!(r#"{{"schema":{{"title":"{}"}}}}"#, "x".repeat(bytes - 7));
        found(&webhooks(1, &media, "{}"), None).unwrap().problems.remove(0).reason
    };
    assert!(with(MAX_SOURCE_BYTES).starts_with("must have at most 65536 bytes"));
    assert_eq!(with(MAX_SOURCE_BYTES + 1), "has more than 262144 bytes with all that it refers to");
    let data = format!(r#"{{"schema":{{"default":{{"a":["{}"]}}}}}}"#, "x".repeat(MAX_SOURCE_BYTES));
    let problems = found(&webhooks(1, &data, "{}"), None).unwrap().problems;
    assert!(problems[0].reason.starts_with("has more than 262144 bytes"), "{problems:?}");
}

#[test]
fn what_is_read_of_one_document_has_a_limit() {
    let told = "has more than 16777216 bytes when its references are followed";
    let document = parse(br#"{"openapi":"3.1.0"}"#).unwrap();
    let reading = Reading::default();
    let reader = Reader { document: &document, old: false, reading: &reading, read: Cell::new(0) };
    assert_eq!(reader.spend(MAX_READ_BYTES), Ok(()));
    assert_eq!(reader.spend(1), Err(Violation::at("", told)));
    // The same large part at many places: as a schema, as an example, and as callbacks.
    let large = "x".repeat(50_000);
    let schemas = format!(r#"{{"schemas":{{"P":{{"title":"{large}"}}}}}}"#);
    let schema = r##"{"schema":{"$ref":"#/components/schemas/P"}}"##;
    assert_eq!(found(&webhooks(100, schema, &schemas), None).unwrap().items.len(), 100);
    assert_eq!(found(&webhooks(400, schema, &schemas), None), Err(told.to_owned()));
    let examples = format!(r#"{{"examples":{{"P":{{"value":{{"x":"{large}"}}}}}}}}"#);
    let example = r##"{"examples":{"P":{"$ref":"#/components/examples/P"}}}"##;
    assert_eq!(found(&webhooks(100, example, &examples), None).unwrap().items.len(), 100);
    assert_eq!(found(&webhooks(400, example, &examples), None), Err(told.to_owned()));
    let expressions: Vec<String> = (0..2_001).map(|n| format!(r#""x-{n}":{{}}"#)).collect();
    let callbacks = |operations: usize| {
        let paths: Vec<String> = (0..operations)
            .map(|n| {
                format!(
                    r##""/{n}":{{"post":{{"callbacks":{{"a":{{"$ref":"#/components/callbacks/C"}}}}}}}}"##
                )
            })
            .collect();
        let paths = paths.join(",");
        let shared = expressions.join(",");
        format!(
            r#"{{"openapi":"3.1.0","paths":{{{paths}}},"webhooks":{{"a":{{}}}},"components":{{"callbacks":{{"C":{{{shared}}}}}}}}}"#
        )
    };
    assert!(found(&callbacks(100), None).is_ok());
    assert_eq!(found(&callbacks(2_000), None), Err(told.to_owned()));
}

#[test]
fn a_document_has_at_most_two_thousand_types() {
    assert_eq!(found(&webhooks(MAX_ITEMS, "{}", "{}"), None).unwrap().items.len(), MAX_ITEMS);
    let told = found(&webhooks(MAX_ITEMS + 1, "{}", "{}"), None);
    assert_eq!(told, Err("has more than 2000 webhooks and callbacks".to_owned()));
}

#[test]
fn the_payload_is_found_in_an_envelope_of_many_parts() {
    // Each of them all of the others: as many ways as there are, and one look at each.
    let parts: Vec<String> =
        (0..50).map(|n| format!(r##"{{"$ref":"#/components/schemas/S{n}"}}"##)).collect();
    let parts = parts.join(",");
    let mut schemas: Vec<String> = (0..50).map(|n| format!(r#""S{n}":{{"allOf":[{parts}]}}"#)).collect();
    schemas.push(r#""Last":{"properties":{"data":{"type":"object"}}}"#.to_owned());
    let schemas = format!(r#"{{"schemas":{{{}}}}}"#, schemas.join(","));
    let media =
        r##"{"schema":{"anyOf":[{"$ref":"#/components/schemas/S0"},{"$ref":"#/components/schemas/Last"}]}}"##;
    let item = found(&webhooks(1, media, &schemas), Some("data")).unwrap().items.remove(0);
    assert_eq!(text(item.entry.schema.as_ref()), r#"{"type":"object"}"#);
}
