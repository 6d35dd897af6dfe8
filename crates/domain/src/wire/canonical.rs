//! Writes a value exactly as ECMAScript's `JSON.stringify` does.
//!
//! There are no options: no indentation, no other order of members. The inverse is `parse`.

use super::{
    json::Json,
    text::{JsonString, Piece, plain_run},
};

/// The canonical body: `JSON.stringify(JSON.parse(body)) === body` holds for it.
pub fn to_canonical(value: &Json) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_canonical(value, &mut out);
    out
}

/// Appends the canonical form of a value.
///
/// Compact; numbers by `Number::toString`; strings raw but for `"`, `\`, controls below U+0020 and lone surrogates
/// (ECMA-262 `QuoteJSONString`); members in the order of [`Object`](super::Object). Recurses once per level.
pub fn write_canonical(value: &Json, out: &mut Vec<u8>) {
    match value {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(true) => out.extend_from_slice(b"true"),
        Json::Bool(false) => out.extend_from_slice(b"false"),
        Json::Number(number) => {
            let mut digits = ryu_js::Buffer::new();
            out.extend_from_slice(digits.format_finite(number.get()).as_bytes());
        }
        Json::String(string) => write_string(string, out),
        Json::Array(elements) => {
            out.push(b'[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_canonical(element, out);
            }
            out.push(b']');
        }
        Json::Object(object) => {
            out.push(b'{');
            let mut first = true;
            object.iter().for_each(|(name, member)| {
                if !first {
                    out.push(b',');
                }
                first = false;
                write_string(name, out);
                out.push(b':');
                write_canonical(member, out);
            });
            out.push(b'}');
        }
    }
}

fn write_string(string: &JsonString, out: &mut Vec<u8>) {
    out.push(b'"');
    match string.as_str() {
        Some(text) => write_run(text.as_bytes(), out),
        None => {
            for piece in string.pieces() {
                match piece {
                    Piece::Text(run) => write_run(run, out),
                    Piece::Surrogate(unit) => write_unit(unit, out),
                }
            }
        }
    }
    out.push(b'"');
}

fn write_run(mut rest: &[u8], out: &mut Vec<u8>) {
    loop {
        let (plain, special) = rest.split_at(plain_run(rest));
        out.extend_from_slice(plain);
        let Some((&byte, tail)) = special.split_first() else { return };
        match byte {
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            control => write_unit(u16::from(control), out),
        }
        rest = tail;
    }
}

/// `\u` and four lower-case digits.
fn write_unit(unit: u16, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |shift: u16| DIGITS[usize::from(unit >> shift & 0xf)];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

#[cfg(test)]
mod tests {
    use crate::wire::{Json, Number, Object, parse, to_canonical};

    fn canonical(text: &str) -> String {
        String::from_utf8(to_canonical(&parse(text.as_bytes()).unwrap())).unwrap()
    }

    #[test]
    fn numbers_are_printed_as_ecmascript_prints_them() {
        for (posted, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0e5", "0"),
            ("1.0", "1"),
            ("-1.50", "-1.5"),
            ("1E3", "1000"),
            ("1e20", "100000000000000000000"),
            ("1e21", "1e+21"),
            ("123456789012345680000.0", "123456789012345680000"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("1.5e-9", "1.5e-9"),
            ("0.1", "0.1"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("100", "100"),
            ("9007199254740991", "9007199254740991"),
            ("-9007199254740991", "-9007199254740991"),
            ("9007199254740993.0", "9007199254740992"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("5e-324", "5e-324"),
            ("2e-324", "0"),
            ("1e-400", "0"),
            ("4.35", "4.35"),
        ] {
            assert_eq!(canonical(posted), expected, "{posted}");
        }
    }

    #[test]
    fn strings_are_escaped_as_ecmascript_escapes_them() {
        for (posted, expected) in [
            (r#""""#, r#""""#),
            (r#""a\/b""#, r#""a/b""#),
            (r#""\b\t\n\f\r\"\\""#, r#""\b\t\n\f\r\"\\""#),
            (r#""\u0008\u0009\u000a\u000C\u000d""#, r#""\b\t\n\f\r""#),
            (r#""\u0000\u0001\u000b\u001F""#, r#""\u0000\u0001\u000b\u001f""#),
            (r#""\u007f""#, "\"\u{7f}\""),
            (r#""\u2028\u2029""#, "\"\u{2028}\u{2029}\""),
            ("\"\u{2028}\"", "\"\u{2028}\""),
            (r#""caf\u00e9 \u2615""#, "\"café ☕\""),
            (r#""\ud83d\ude00""#, "\"😀\""),
            (r#""\uD83D\uDE00""#, "\"😀\""),
            (r#""\ud800\udc00 \udbff\udfff""#, "\"\u{10000} \u{10ffff}\""),
            (r#""\ud7ff\udc00 \udbff\ue000""#, "\"\u{d7ff}\\udc00 \\udbff\u{e000}\""),
            (r#""\uD800""#, r#""\ud800""#),
            (r#""\udc00\ud800""#, r#""\udc00\ud800""#),
            (r#""\ud83d\ud83d\ude00x\uDFFF""#, r#""\ud83d😀x\udfff""#),
            (r#""\ud83d\n\ude00""#, r#""\ud83d\n\ude00""#),
            (r#""\ud83d\\ude00""#, r#""\ud83d\\ude00""#),
            (r#""\ufeff\ufffe\uffff""#, "\"\u{feff}\u{fffe}\u{ffff}\""),
            (r#""<\/script>&'""#, r#""</script>&'""#),
        ] {
            assert_eq!(canonical(posted), expected, "{posted}");
        }
    }

    #[test]
    fn containers_are_compact_and_members_ordered() {
        for (posted, expected) in [
            (" [ ] ", "[]"),
            ("\t{\r\n}\n", "{}"),
            ("[ 1 , [ 2 , { } ] , null , true , false ]", "[1,[2,{}],null,true,false]"),
            (r#"{ "b" : 1 , "a" : 2 }"#, r#"{"b":1,"a":2}"#),
            (r#"{"b":1,"10":2,"a":3,"9":4,"b":5,"01":6}"#, r#"{"9":4,"10":2,"b":5,"a":3,"01":6}"#),
            (r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#),
            (r#"{"\ud800":1,"\uD800":2,"\ud801":3}"#, r#"{"\ud800":2,"\ud801":3}"#),
            (
                r#"{"":1,"__proto__":{"toJSON":1},"constructor":2}"#,
                r#"{"":1,"__proto__":{"toJSON":1},"constructor":2}"#,
            ),
        ] {
            assert_eq!(canonical(posted), expected, "{posted}");
        }
    }

    #[test]
    fn a_built_value_is_written_like_a_parsed_one() {
        let mut object = Object::new();
        object.insert("event", "task_completed");
        object.insert("count", Number::new(1e21).unwrap());
        object.insert("error", Json::Null);
        let text = String::from_utf8(to_canonical(&object.into())).unwrap();
        assert_eq!(text, r#"{"event":"task_completed","count":1e+21,"error":null}"#);
    }
}
