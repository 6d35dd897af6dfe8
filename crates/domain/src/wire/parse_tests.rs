//! What the parser takes and refuses, as tables. How accepted values are written stands with `canonical`; that Node
//! agrees is tested in `crates/tests`.

use std::time::{Duration, Instant};

use super::*;
use crate::wire::to_canonical;

fn refused(text: &str) -> JsonError {
    parse(text.as_bytes()).expect_err(text)
}

#[test]
fn what_is_not_json_is_refused_with_its_kind_and_place() {
    use JsonErrorKind::*;
    for (text, kind, offset) in [
        ("", UnexpectedEnd, 0),
        ("  ", UnexpectedEnd, 2),
        ("[", UnexpectedEnd, 1),
        ("[1", UnexpectedEnd, 2),
        ("[1,", UnexpectedEnd, 3),
        ("{", UnexpectedEnd, 1),
        (r#"{"a""#, UnexpectedEnd, 4),
        (r#"{"a":"#, UnexpectedEnd, 5),
        (r#"{"a":1"#, UnexpectedEnd, 6),
        ("tru", UnexpectedEnd, 3),
        ("-", UnexpectedEnd, 1),
        ("1.", UnexpectedEnd, 2),
        ("1e", UnexpectedEnd, 2),
        ("1e+", UnexpectedEnd, 3),
        ("\"", UnexpectedEnd, 1),
        ("\"abcdefghijk", UnexpectedEnd, 12),
        ("\"\\", UnexpectedEnd, 2),
        (r#""\u12"#, UnexpectedEnd, 5),
        ("[1,]", UnexpectedCharacter, 3),
        ("[,1]", UnexpectedCharacter, 1),
        ("[1 2]", UnexpectedCharacter, 3),
        (r#"{"a":1,}"#, UnexpectedCharacter, 7),
        ("{a:1}", UnexpectedCharacter, 1),
        ("{'a':1}", UnexpectedCharacter, 1),
        ("{1:1}", UnexpectedCharacter, 1),
        (r#"{"a" 1}"#, UnexpectedCharacter, 5),
        (r#"{"a":1 "b":2}"#, UnexpectedCharacter, 7),
        ("[1}", UnexpectedCharacter, 2),
        ("]", UnexpectedCharacter, 0),
        ("'a'", UnexpectedCharacter, 0),
        ("NaN", UnexpectedCharacter, 0),
        ("Infinity", UnexpectedCharacter, 0),
        ("-Infinity", InvalidNumber, 1),
        ("undefined", UnexpectedCharacter, 0),
        ("True", UnexpectedCharacter, 0),
        ("trux", UnexpectedCharacter, 3),
        ("+1", UnexpectedCharacter, 0),
        (".5", UnexpectedCharacter, 0),
        ("// c\n1", UnexpectedCharacter, 0),
        ("\u{a0}1", UnexpectedCharacter, 0),
        ("\u{c}1", UnexpectedCharacter, 0),
        ("01", InvalidNumber, 0),
        ("-01", InvalidNumber, 0),
        ("00", InvalidNumber, 0),
        ("-a", InvalidNumber, 1),
        ("[1.]", InvalidNumber, 3),
        ("[1.e1]", InvalidNumber, 3),
        ("[1e]", InvalidNumber, 3),
        ("[1e+-1]", InvalidNumber, 4),
        ("1 2", TrailingCharacters, 2),
        ("{}{}", TrailingCharacters, 2),
        ("nullx", TrailingCharacters, 4),
        ("0x10", TrailingCharacters, 1),
        ("1_000", TrailingCharacters, 1),
        ("1\0", TrailingCharacters, 1),
        (r#""\x41""#, InvalidEscape, 1),
        (r#""\'""#, InvalidEscape, 1),
        (r#""\U0041""#, InvalidEscape, 1),
        (r#""\u+041""#, InvalidEscape, 1),
        (r#""\u00g0""#, InvalidEscape, 1),
        (r#""\u004""#, InvalidEscape, 1),
        ("\"a\nb\"", ControlCharacter, 2),
        ("\"\0\"", ControlCharacter, 1),
        ("\"\u{1f}\"", ControlCharacter, 1),
        ("\u{feff}{}", ByteOrderMark, 0),
    ] {
        let error = refused(text);
        assert_eq!((error.kind(), error.offset()), (kind, offset), "{text:?}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    for (bytes, offset) in [
        (&b"\"\xff\""[..], 1),
        (b"\"\xc0\x80\"", 1),
        (b"\"\xed\xa0\x80\"", 1),
        (b"\"\xf4\x90\x80\x80\"", 1),
        (b"\"\xe2\x98", 1),
        (b"\xff\xfe1\0", 0),
        (b"[1]\x80", 3),
    ] {
        let error = parse(bytes).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (JsonErrorKind::NotUtf8, offset), "{bytes:?}");
    }
}

#[test]
fn depth_ends_at_128_from_outside_and_at_160_in_our_own_texts() {
    for (read, limit) in [(parse as fn(&[u8]) -> _, MAX_DEPTH), (parse_stored, MAX_STORED_DEPTH)] {
        for (open, inner, close) in [("[", "", "]"), (r#"{"a":"#, "1", "}"), (r#"[{"a":"#, "[]", "}]")] {
            let nested = |times: usize| format!("{}{inner}{}", open.repeat(times), close.repeat(times));
            let levels = open.matches(['[', '{']).count();
            let inside = inner.len() / 2;
            let most = (limit - inside) / levels;
            let accepted = nested(most);
            assert_eq!(to_canonical(&read(accepted.as_bytes()).unwrap()), accepted.as_bytes());
            let error = read(nested(most + 1).as_bytes()).unwrap_err();
            assert_eq!(error.kind(), JsonErrorKind::TooDeep);
        }
    }
    // Levels that are closed do not count.
    assert!(parse(format!("[{}]", vec!["[[]]"; 500].join(",")).as_bytes()).is_ok());
}

#[test]
fn no_input_overflows_the_stack() {
    for piece in ["[", "{\"a\":", "[{\"\":", "[[],"] {
        let hostile = piece.repeat((1 << 20) / piece.len());
        let error = refused(&hostile);
        assert_eq!(error.kind(), JsonErrorKind::TooDeep, "{piece}");
        assert!(error.to_string().chars().count() < 250);
    }
}

#[test]
fn integers_end_at_two_to_the_53_less_one() {
    for text in [
        "9007199254740991",
        "-9007199254740991",
        "9007199254740992.0",
        "1e20",
        "-1E+300",
        "12345678901234567.5",
    ] {
        assert!(parse(text.as_bytes()).is_ok(), "{text}");
    }
    let long = "9".repeat(400);
    for text in
        ["9007199254740992", "-9007199254740992", "18446744073709551616", "100000000000000000000000", &long]
    {
        assert_eq!(refused(text).kind(), JsonErrorKind::UnsafeInteger, "{text}");
    }
    for (text, read) in
        [("9007199254740993", "9007199254740992"), ("1763689999123456789", "1763689999123456800")]
    {
        assert_eq!(to_canonical(&parse_as_javascript(text.as_bytes()).unwrap()), read.as_bytes());
    }
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse_as_javascript(deep(MAX_DEPTH).as_bytes()).is_ok());
    assert!(parse_as_javascript(deep(MAX_DEPTH + 1).as_bytes()).is_err(), "like any text from outside");
    for text in ["9007199254740992", "-100000000000000000000"] {
        assert_eq!(to_canonical(&parse_stored(text.as_bytes()).unwrap()), text.as_bytes());
    }
}

#[test]
fn numbers_end_at_the_largest_double() {
    assert_eq!(parse(b"1.7976931348623157e308").unwrap().as_f64(), Some(f64::MAX));
    assert_eq!(parse(b"1.797693134862315807e308").unwrap().as_f64(), Some(f64::MAX));
    for text in ["1.797693134862315808e308", "1.8e308", "1e400", "-1e400", "1e99999999999999999999"] {
        assert_eq!(refused(text).kind(), JsonErrorKind::NumberOverflow, "{text}");
    }
    let long = "9".repeat(400);
    assert_eq!(parse_stored(long.as_bytes()).unwrap_err().kind(), JsonErrorKind::NumberOverflow);
    for text in ["0e99999999999999999999", "-0", "1e-99999999999999999999"] {
        assert_eq!(parse(text.as_bytes()).unwrap().as_f64(), Some(0.0), "{text}");
    }
}

#[test]
fn the_text_of_an_error_names_the_value_and_the_way_out() {
    let number = "is an integer beyond 2^53-1, which JavaScript receivers would change; send it as a string";
    for (text, expected) in [
        (r#"{"payload":{"order_id":12345678901234567890}}"#, format!("`payload.order_id` {number}")),
        (r#"{"payload":[{},{"a b":[9007199254740992]}]}"#, format!(r#"`payload[1]["a b"][0]` {number}"#)),
        (r#"{"":{"\u202e\ud800":9007199254740992}}"#, format!(r#"`[""]["\u{{202e}}�"]` {number}"#)),
        ("9007199254740992", format!("the value {number}")),
        (
            r#"{"f":1e400}"#,
            "`f` is a number beyond the largest double, which JavaScript receivers would lose; send it as a string"
                .to_owned(),
        ),
        (r#"{"a":[1,2,]}"#, "invalid JSON at byte 10 in `a[2]`: unexpected character".to_owned()),
        ("[] []", "invalid JSON at byte 3: more text follows the value".to_owned()),
    ] {
        assert_eq!(refused(text).to_string(), expected);
    }
}

#[test]
fn the_text_of_an_error_is_short_whatever_was_posted() {
    let nested = |name: &str, times: usize, inner: &str| {
        format!("{}{inner}{}", format!("{{\"{name}\":").repeat(times), "}".repeat(times))
    };
    for name in ["n".repeat(8000), "\\u202e".repeat(1000), "\u{1f600}".repeat(1000), "a b".to_owned()] {
        for inner in ["9007199254740992", "1e400", "\"\u{1}\"", "[x", "01", "\"\\q\"", "\"", "[[[["] {
            for times in [1, 2, 125] {
                let text = refused(&nested(&name, times, inner)).to_string();
                assert!(text.chars().count() < 250, "{text}");
            }
        }
    }
    let path = refused(&nested("n", 125, "9007199254740992")).path().to_owned();
    assert_eq!(path.chars().count(), 120);
    assert!(path.starts_with("n.n.") && path.ends_with(".n.n") && path.contains('…'), "{path}");
    assert_eq!(refused(&nested(&"n".repeat(119), 1, "01")).path(), format!("{}…", "n".repeat(64)));
}

#[test]
fn a_hundred_thousand_names_are_not_quadratic() {
    type Spell = fn(u32) -> String;
    let spellings: [(&str, Spell, usize); 4] = [
        ("distinct", |number| format!("k{number:x}"), 100_000),
        ("descending indices", |number| format!("{}", 100_000 - number), 100_000),
        ("the same", |_| "k".to_owned(), 1),
        ("mixed", |number| if number % 2 == 0 { format!("{number}") } else { format!("x{number}") }, 100_000),
    ];
    for (case, spell, expected) in spellings {
        let members: Vec<String> = (0..100_000).map(|number| format!("\"{}\":0", spell(number))).collect();
        let text = format!("{{{}}}", members.join(","));
        let started = Instant::now();
        let value = parse(text.as_bytes()).unwrap();
        let canonical = to_canonical(&value);
        // Quadratic would be minutes; a slow machine under load takes a second.
        assert!(started.elapsed() < Duration::from_secs(20), "{case}: {:?}", started.elapsed());
        assert_eq!(value.as_object().map(Object::len), Some(expected), "{case}");
        assert_eq!(parse(&canonical).unwrap(), value, "{case}");
    }
}
