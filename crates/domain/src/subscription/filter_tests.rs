//! Filters against an event, and filters that are refused.

use super::*;
use crate::wire::parse;

const EVENT: &str = r#"{"event_type":"order.created","timestamp":"2026-11-21T10:00:00.000Z",
    "payload":{"amount":120.5,"plan":"pro","tags":["new","vip"],"items":[{"sku":"A"},{"sku":"B"}],"none":null,
               "customer":{"country":"FR","a.b":1},"paid":true},
    "metadata":{"correlation_id":"c-1","source_ip":null}}"#;

fn filter(text: &str) -> Result<Filter, String> {
    Filter::parse(&parse(text.as_bytes()).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn filters_hold_or_do_not() {
    let event = parse(EVENT.as_bytes()).unwrap();
    let table = [
        (r#"{"event_type":"order.created"}"#, true),
        (r#"{"event_type":"order.paid"}"#, false),
        (r#"{"payload.amount":120.5}"#, true),
        (r#"{"payload":{"amount":120.5,"plan":"pro"}}"#, true),
        (r#"{"payload":{"amount":120.5,"plan":"free"}}"#, false),
        (r#"{"payload.amount":{"$gt":120.5}}"#, false),
        (r#"{"payload.amount":{"$gte":120.5}}"#, true),
        (r#"{"payload.amount":{"$lt":120.5}}"#, false),
        (r#"{"payload.amount":{"$lte":120.5}}"#, true),
        (r#"{"payload.amount":{"$gt":100,"$lt":200}}"#, true),
        (r#"{"payload.amount":{"$gt":100,"$lt":110}}"#, false),
        (r#"{"payload.amount":{"$gt":"100"}}"#, false),
        (r#"{"payload.amount":"120.5"}"#, false),
        (r#"{"timestamp":{"$gte":"2026-01-01T00:00:00Z"}}"#, true),
        (r#"{"payload.plan":{"$in":["pro","team"]}}"#, true),
        (r#"{"payload.plan":{"$in":[]}}"#, false),
        (r#"{"payload.amount":{"$in":[1,120.50]}}"#, true),
        (r#"{"payload.amount":{"$in":["120.5"]}}"#, false),
        (r#"{"payload.tags":{"$in":["x","vip"]}}"#, true),
        (r#"{"payload.none":{"$in":[null]}}"#, true),
        (r#"{"payload.paid":{"$in":[false,1,"true"]}}"#, false),
        (r#"{"payload.paid":{"$in":[true]}}"#, true),
        (r#"{"payload.amount":{"$in":[300,120.5,-1]}}"#, true),
        (r#"{"payload.missing":{"$in":[null]}}"#, false),
        (r#"{"payload.tags":{"$nin":["vip"]}}"#, false),
        (r#"{"payload.plan":{"$nin":["pro","team"]}}"#, false),
        (r#"{"payload.plan":{"$ne":"free"}}"#, true),
        (r#"{"payload.plan":{"$ne":"pro"}}"#, false),
        (r#"{"payload.plan":{"$startsWith":"pr"}}"#, true),
        (r#"{"payload.plan":{"$endsWith":"ro"}}"#, true),
        (r#"{"payload.plan":{"$contains":"r"}}"#, true),
        (r#"{"payload.plan":{"$contains":"x"}}"#, false),
        (r#"{"payload.tags":"vip"}"#, true),
        (r#"{"payload.tags":"old"}"#, false),
        (r#"{"payload.tags":["new","vip"]}"#, true),
        (r#"{"payload.tags":["vip","new"]}"#, false),
        (r#"{"payload.tags":{"$ne":"vip"}}"#, false),
        (r#"{"payload.tags":{"$startsWith":"vi"}}"#, true),
        (r#"{"payload.items":{"$eq":{"sku":"B"}}}"#, true),
        (r#"{"payload.none":null}"#, true),
        (r#"{"payload.missing":null}"#, false),
        (r#"{"payload.none":{"$exists":true}}"#, true),
        (r#"{"payload.missing":{"$exists":false}}"#, true),
        (r#"{"payload.missing":{"$exists":true}}"#, false),
        (r#"{"payload.missing":{"$ne":1}}"#, true),
        (r#"{"payload.missing":{"$nin":[1]}}"#, true),
        (r#"{"payload.missing":{"$gt":0}}"#, false),
        (r#"{"payload.missing.deeper":{"$exists":false}}"#, true),
        (r#"{"payload.plan.deeper":{"$exists":true}}"#, false),
        (r#"{"payload.customer":{"country":"FR"}}"#, true),
        (r#"{"payload.customer":{"$eq":{"a.b":1,"country":"FR"}}}"#, true),
        (r#"{"payload":{"customer":{"a.b":1}}}"#, true),
        (r#"{"payload.customer.a.b":1}"#, false),
        (r#"{"payload.paid":true}"#, true),
        (r#"{"$or":[{"payload.plan":"free"},{"payload.amount":{"$gt":100}}]}"#, true),
        (r#"{"$or":[{"payload.plan":"free"},{"payload.amount":{"$gt":200}}]}"#, false),
        (r#"{"$and":[{"payload.plan":"pro"},{"payload.amount":{"$gt":100}}]}"#, true),
        (r#"{"$and":[{"payload.plan":"pro"}],"payload.paid":false}"#, false),
        (r#"{"$not":{"payload.plan":"pro"}}"#, false),
        (r#"{"$not":{"payload.missing":1}}"#, true),
        (r#"{"payload.amount":{"$not":{"$gt":200}}}"#, true),
        (r#"{"payload.amount":{"$or":[{"$lt":1},{"$gt":100}]}}"#, true),
        (r#"{"metadata.source_ip":null,"metadata.correlation_id":{"$startsWith":"c-"}}"#, true),
    ];
    for (text, expected) in table {
        assert_eq!(filter(text).unwrap().matches(&event), expected, "{text}");
    }
}

#[test]
fn what_is_no_filter_is_refused_with_its_place() {
    let table = [
        ("[]", "`filter` must be a JSON object"),
        ("{}", "`filter` must have at least one condition"),
        (r#"{"$gt":1}"#, "`filter.$gt` is an operator without a place in the event before it"),
        (r#"{"a":{"$gt":true}}"#, "`filter.a.$gt` needs a number or a text"),
        (r#"{"a":{"$in":"x"}}"#, "`filter.a.$in` needs a list of texts, numbers, booleans or null"),
        (r#"{"a":{"$nin":[1,[2]]}}"#, "`filter.a.$nin` needs a list of texts, numbers, booleans or null"),
        (r#"{"a":{"$exists":1}}"#, "`filter.a.$exists` needs true or false"),
        (r#"{"a":{"$contains":1}}"#, "`filter.a.$contains` needs a text"),
        (r#"{"a":{}}"#, "`filter.a` must not be an empty object"),
        (r#"{"$or":[]}"#, "`filter.$or` must be a list of at least one filter"),
        (r#"{"$or":[{"a":1},3]}"#, "`filter.$or[1]` must be an object"),
        (r#"{"$and":[{}]}"#, "`filter.$and[0]` must not be empty"),
        (r#"{"$not":[]}"#, "`filter.$not` must be an object"),
        (r#"{"$not":{}}"#, "`filter.$not` must not be empty"),
    ];
    for (text, expected) in table {
        assert_eq!(filter(text).unwrap_err(), expected, "{text}");
    }
    let unknown = filter(r#"{"a":{"$regex":"x"}}"#).unwrap_err();
    assert!(unknown.starts_with("`filter.a.$regex` is not an operator; there are $eq"), "{unknown}");
    let long = filter(&format!(r#"{{"{}":{{"$regex":1}}}}"#, "x".repeat(3_000))).unwrap_err();
    // The gateway puts «filter is not valid: » before it; texts for people stay under 250 characters (contract §1).
    assert!(long.chars().count() < 229, "{long}");
}

#[test]
fn the_bounds_hold_at_n_and_n_plus_one() {
    let sized = |bytes: usize| filter(&format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8)));
    assert!(sized(MAX_BYTES).is_ok());
    assert!(sized(MAX_BYTES + 1).is_err());
    let wide = |n: usize| {
        let members: Vec<String> = (0..n).map(|i| format!(r#""k{i}":1"#)).collect();
        filter(&format!("{{{}}}", members.join(",")))
    };
    assert!(wide(MAX_CONDITIONS).is_ok());
    assert!(wide(MAX_CONDITIONS + 1).is_err());
    let deep = |n: usize| filter(&format!("{}1{}", r#"{"a":"#.repeat(n), "}".repeat(n)));
    assert!(deep(MAX_DEPTH).is_ok());
    assert!(deep(MAX_DEPTH + 1).is_err());
}

#[test]
fn a_filter_is_known_by_its_canonical_text() {
    let text = filter(r#"{ "payload.amount" : {"$gte": 1.0} }"#).unwrap().canonical_text();
    assert_eq!(text, r#"{"payload.amount":{"$gte":1}}"#);
    let same = [r#"{"b":1,"a":{"$lt":2,"$gt":1}}"#, r#"{"a":{"$gt":1,"$lt":2},"b":1}"#];
    assert_eq!(same.map(|text| filter(text).unwrap().canonical_text()), [same[1]; 2]);
}
