//! What transformations make of events, and which of them are none.

use std::time::Instant;

use super::*;
use crate::wire::{parse, parse_stored};

const EVENT: &str = r#"{"id":"evt_1","event_id":"evt_1","event_type":"order.created","timestamp":"2025-01-01T00:00:00.000Z",
    "payload":{"id":7,"total":1e21,"customer":{"name":"Ann","mail":"a@example.com"},"lines":[{"sku":"x"}],"nul":null},
    "metadata":{"correlation_id":"c"},"created_at":"2025-01-01T00:00:00.001Z"}"#;

fn parsed(text: &str) -> Result<Transformation, String> {
    Transformation::parse(&parse(text.as_bytes()).unwrap()).map_err(|error| error.to_string())
}

fn made(text: &str) -> String {
    match parsed(text).unwrap().apply(&parse_stored(EVENT.as_bytes()).unwrap()) {
        Ok(Transformed::Body(body)) => String::from_utf8(body).unwrap(),
        Ok(Transformed::Cancelled) => "cancelled".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn events_become_what_the_transformation_says() {
    let around = |payload: &str| {
        format!(
            r#"{{"id":"evt_1","eventType":"order.created","generatedDate":"2025-01-01T00:00:00.000Z","payload":{payload}}}"#
        )
    };
    let table = [
        (r#"{"cancel":{"payload.id":7}}"#, "cancelled".to_owned()),
        (r#"{"cancel":{"payload.id":8},"pick":["id"]}"#, around(r#"{"id":7}"#)),
        (
            r#"{"pick":["customer.name","total","gone","lines.0","customer.name"]}"#,
            around(r#"{"customer":{"name":"Ann"},"total":1e+21,"lines":{"0":{"sku":"x"}}}"#),
        ),
        (
            r#"{"pick":["id","customer"],"rename":{"customer.name":"who","id":"order.number","gone":"x"}}"#,
            around(r#"{"customer":{"mail":"a@example.com"},"who":"Ann","order":{"number":7}}"#),
        ),
        (
            r#"{"body":{"a":{"$from":"payload.id"},"b":{"$from":"payload.gone"},"c":{"$from":"payload.gone","$default":[1]}}}"#,
            r#"{"a":7,"c":[1]}"#.to_owned(),
        ),
        (
            r#"{"body":{"n":{"$from":"payload.nul","$default":1},"l":[{"$from":"payload.gone"},{"$from":"event_type"}]}}"#,
            r#"{"n":null,"l":[null,"order.created"]}"#.to_owned(),
        ),
        (
            r#"{"body":{"v":{"$value":{"$from":"payload.id"}},"é":"☕","deep":{"er":[true,null,-0]}}}"#,
            r#"{"v":{"$from":"payload.id"},"é":"☕","deep":{"er":[true,null,0]}}"#.to_owned(),
        ),
        (r#"{"body":{"$from":"payload.customer"}}"#, r#"{"name":"Ann","mail":"a@example.com"}"#.to_owned()),
        (
            r#"{"body":{"$from":"payload.lines"}}"#,
            "makes a list of it, and a body has to be an object".to_owned(),
        ),
        (
            r#"{"body":{"$from":"payload.id"}}"#,
            "makes a number of it, and a body has to be an object".to_owned(),
        ),
        (
            r#"{"body":{"$from":"payload.gone"}}"#,
            "makes nothing of it, and a body has to be an object".to_owned(),
        ),
        (r#"{"body":{}}"#, "{}".to_owned()),
    ];
    for (text, expected) in table {
        assert_eq!(made(text), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let table = [
        ("[]", "`transformation` must be a JSON object"),
        ("{}", "`transformation` must have cancel, pick, rename or body"),
        (r#"{"code":"x"}"#, "`transformation.code` is not known; there are cancel, pick, rename and body"),
        (
            r#"{"cancel":{"payload.x":{"$near":1}}}"#,
            "`transformation.cancel.payload.x.$near` is not an operator",
        ),
        (r#"{"cancel":{}}"#, "`transformation.cancel` must have at least one condition"),
        (r#"{"pick":[]}"#, "`transformation.pick` must be a list of at least one place in the payload"),
        (r#"{"pick":["a",5]}"#, "`transformation.pick[1]` must be a place such as customer.name"),
        (r#"{"pick":["a..b"]}"#, "`transformation.pick[0]` must be words with dots between them"),
        (r#"{"rename":{"a":7}}"#, "`transformation.rename.a` must be a place such as customer.name"),
        (r#"{"rename":[]}"#, "`transformation.rename` must be an object of places"),
        (r#"{"body":[]}"#, "`transformation.body` must be an object, for that is what is sent"),
        (r#"{"body":"x"}"#, "`transformation.body` must be an object, for that is what is sent"),
        (r#"{"body":{"$value":{}}}"#, "`transformation.body` must be an object, for that is what is sent"),
        (r#"{"body":{},"pick":["a"]}"#, "`transformation.body` replaces all that is sent"),
        (r#"{"body":{"a":{"b":[{"$from":7}]}}}"#, "`transformation.body.a.b[0].$from` must be a place"),
        (r#"{"body":{"a":{"$from":"x","y":1}}}"#, "`transformation.body.a.y` cannot stand here"),
        (r#"{"body":{"a":{"$eval":"1+1"}}}"#, "`transformation.body.a.$eval` cannot stand here"),
        (r#"{"body":{"a":{"$default":1}}}"#, "`transformation.body.a` must have either $from or $value"),
        (
            r#"{"body":{"a":{"$from":"x","$value":1}}}"#,
            "`transformation.body.a` must have either $from or $value",
        ),
    ];
    for (text, expected) in table {
        let told = parsed(text).unwrap_err();
        assert!(told.starts_with(expected), "{text}: {told}");
    }
}

#[test]
fn a_transformation_is_bounded() {
    let picks = |count: usize| {
        let places: Vec<String> = (0..count).map(|at| format!("\"p{at}\"")).collect();
        parsed(&format!(r#"{{"pick":[{}]}}"#, places.join(","))).is_ok()
    };
    assert!(picks(MAX_PLACES) && !picks(MAX_PLACES + 1));
    let renames = |count: usize| {
        let places: Vec<String> = (0..count).map(|at| format!("\"p{at}\":\"q{at}\"")).collect();
        parsed(&format!(r#"{{"rename":{{{}}}}}"#, places.join(","))).is_ok()
    };
    assert!(renames(MAX_PLACES) && !renames(MAX_PLACES + 1));
    let references = |count: usize| {
        parsed(&format!(r#"{{"body":{{"l":[{}]}}}}"#, vec![r#"{"$from":"id"}"#; count].join(","))).is_ok()
    };
    assert!(references(MAX_PLACES) && !references(MAX_PLACES + 1));
    // The body is level one, its list level two.
    let deep = |levels: usize| {
        parsed(&format!(r#"{{"body":{{"l":{}{}}}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1))).is_ok()
    };
    assert!(deep(MAX_DEPTH) && !deep(MAX_DEPTH + 1));
    let long = |bytes: usize| {
        let around = r#"{"body":{"t":""}}"#.len();
        parsed(&format!(r#"{{"body":{{"t":"{}"}}}}"#, "x".repeat(bytes - around))).is_ok()
    };
    assert!(long(MAX_BYTES) && !long(MAX_BYTES + 1));
}

#[test]
fn a_large_event_is_not_made_many_times_larger_and_it_takes_no_time() {
    let event = |bytes: usize| {
        parse_stored(format!(r#"{{"payload":{{"t":"{}"}}}}"#, "x".repeat(bytes)).as_bytes()).unwrap()
    };
    let once = parsed(r#"{"body":{"t":{"$from":"payload.t"}}}"#).unwrap();
    // {"t":"…"} is 8 bytes around the text.
    let fits = MAX_RESULT_BYTES - 8;
    assert!(
        matches!(once.apply(&event(fits)), Ok(Transformed::Body(body)) if body.len() == MAX_RESULT_BYTES)
    );
    assert_eq!(once.apply(&event(fits + 1)), Err(TransformError::TooLarge));
    let many = vec![r#"{"$from":"payload.t"}"#; MAX_PLACES].join(",");
    let many = parsed(&format!(r#"{{"body":{{"l":[{many}]}}}}"#)).unwrap();
    let started = Instant::now();
    assert_eq!(many.apply(&event(1 << 20)), Err(TransformError::TooLarge));
    assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
}

#[test]
fn places_that_lie_within_each_other_are_copied_as_often_as_is_allowed_and_no_more() {
    let event = |bytes: usize| {
        parse_stored(format!(r#"{{"payload":{{"l":["{}"]}}}}"#, "x".repeat(bytes)).as_bytes()).unwrap()
    };
    let made = |places: &[&str], bytes: usize| {
        let pick =
            crate::wire::parse(format!(r#"{{"pick":{}}}"#, serde_json::json!(places)).as_bytes()).unwrap();
        Transformation::parse(&pick).unwrap().apply(&event(bytes))
    };
    // A list with a text is 4 bytes more than the text, the text 2: together what may be copied.
    let half = (MAX_RESULT_BYTES - 6) / 2;
    assert_eq!(4 + half + 2 + half, MAX_RESULT_BYTES);
    assert!(
        matches!(made(&["l", "l.0"], half), Ok(Transformed::Body(body)) if body.len() < MAX_RESULT_BYTES)
    );
    assert_eq!(made(&["l", "l.0"], half + 1), Err(TransformError::TooLarge));
    // Only one of these is the item's number.
    assert!(matches!(made(&["l.0", "l.00", "l.+0"], half), Ok(Transformed::Body(_))));
    assert_eq!(made(&["l.00"], 10), made(&["gone"], 10));
    // One place alone: the envelope around it is counted, too.
    let Ok(Transformed::Body(empty)) = made(&["l"], 0) else { panic!("it fits") };
    let fits = MAX_RESULT_BYTES - empty.len();
    assert!(matches!(made(&["l"], fits), Ok(Transformed::Body(body)) if body.len() == MAX_RESULT_BYTES));
    assert_eq!(made(&["l"], fits + 1), Err(TransformError::TooLarge));
}

#[test]
fn what_is_stored_reads_back_the_same() {
    let text = r#"{"cancel":{"payload.a":1},"body":{"z":{"$from":"payload.b"},"a":1.0}}"#;
    let first = parsed(text).unwrap();
    let again = parsed(first.canonical_text()).unwrap();
    assert_eq!(first.canonical_text(), again.canonical_text());
    assert!(first.canonical_text().ends_with(r#""a":1}}"#));
}
