//! Properties of reading and writing over generated values.

use proptest::prelude::*;

use super::{Json, JsonString, Number, Object, parse, parse_stored, to_canonical};

/// Any UTF-16 there is, halves of pairs included, by way of escapes.
fn string() -> impl Strategy<Value = JsonString> {
    let unit = prop_oneof![0..0x80_u16, 0xd800..0xe000_u16, any::<u16>()];
    prop::collection::vec(unit, 0..12).prop_map(|units| {
        let escapes: String = units.iter().map(|unit| format!("\\u{unit:04X}")).collect();
        let json = parse(format!("\"{escapes}\"").as_bytes()).unwrap();
        json.as_string().unwrap().clone()
    })
}

/// Names that meet: array indices, near misses, repetitions, anything.
fn name() -> impl Strategy<Value = JsonString> {
    prop_oneof![
        (0..30_u32).prop_map(|number| number.to_string().into()),
        any::<u64>().prop_map(|number| number.to_string().into()),
        "[a-c]{0,2}".prop_map(JsonString::from),
        "0[0-9]".prop_map(JsonString::from),
        string(),
    ]
}

fn json(number: impl Strategy<Value = f64> + 'static) -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        number.prop_map(|number| Number::new(number).map_or(Json::Null, Json::Number)),
        string().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 100, 24, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Json::from),
            prop::collection::vec((name(), inner), 0..24)
                .prop_map(|members| Json::from(Object::from_iter(members))),
        ]
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read_again(value in json(any::<f64>())) {
        let body = to_canonical(&value);
        let again = parse_stored(&body).unwrap();
        prop_assert_eq!(&again, &value);
        prop_assert_eq!(to_canonical(&again), body);
    }

    #[test]
    fn what_was_written_is_accepted_again_unless_it_has_large_integers(
        value in json(prop_oneof![-1e15..1e15, (-1000..1000_i32).prop_map(f64::from), 1e21..1e300]),
    ) {
        let body = to_canonical(&value);
        let again = parse(&body).unwrap();
        prop_assert_eq!(&again, &value);
        prop_assert_eq!(to_canonical(&again), body);
    }

    #[test]
    fn a_value_survives_serde(value in json(any::<f64>())) {
        let theirs = value.to_serde();
        prop_assert_eq!(Json::from_serde(&theirs).to_serde(), theirs);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn nothing_that_looks_like_json_makes_the_parser_panic(text in r#"[\[\]{}",:\\u0-9a-fA-F.eE+\-tnl \u{1}é]{0,40}"#) {
        if let Ok(value) = parse(text.as_bytes()) {
            let body = to_canonical(&value);
            prop_assert_eq!(parse_stored(&body).unwrap(), value);
        }
    }
}
