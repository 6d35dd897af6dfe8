//! Does a real JavaScript engine agree with our JSON?
//!
//! One Node process reads cases from its standard input: what was posted, and what we made of it. For every text that
//! we accept it asserts contract §8, `JSON.stringify(JSON.parse(body)) === body`, and that it would have written the
//! same body for the posted text, signed alike; for every text that we call malformed it asserts that `JSON.parse`
//! throws. It is not a test of speed or limits; those stand beside the code in `hookyard_domain::wire`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "all of this file is a test, its helpers too")]

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
};

use hookyard_domain::wire::{JsonErrorKind, WebhookSecret, parse, parse_stored, to_canonical};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

const SECRET: &str = "your_webhook_secret";

/// Each line: `[posted, canonical, signature]`, the last two null when we refused. Prints one line per disagreement,
/// then the count of cases.
const SCRIPT: &str = r#"
const { createHmac } = require("crypto");
const lines = require("fs").readFileSync(0, "utf8").split("\n").filter((line) => line !== "");
const written = (text) => JSON.stringify(JSON.parse(text));
for (const line of lines) {
  const [posted, canonical, signature] = JSON.parse(line);
  const complain = (what, got) => console.log(JSON.stringify({ what, posted, canonical, got }).slice(0, 2000));
  try {
    if (canonical === null) {
      let value;
      try { value = written(posted); } catch { continue; }
      complain("node accepts what we call malformed", value);
      continue;
    }
    if (written(canonical) !== canonical) complain("canonical is no fixed point", written(canonical));
    if (written(posted) !== canonical) complain("node writes the posted text otherwise", written(posted));
    // The receiver's snippet of source 1: it signs what it has parsed and written again.
    const body = JSON.stringify(JSON.parse(canonical));
    const expected = "sha256=" + createHmac("sha256", "your_webhook_secret").update(body).digest("hex");
    if (expected !== signature) complain("the signature differs", expected);
  } catch (error) {
    complain("node refuses what we accept", String(error));
  }
}
console.log("cases " + lines.length);
"#;

/// A text and what we say about it, as Node reads it.
fn case(posted: &str) -> Option<serde_json::Value> {
    let value = match parse(posted.as_bytes()) {
        Ok(value) => value,
        Err(error) => {
            return match error.kind() {
                // JSON for JavaScript, refused by decision.
                JsonErrorKind::TooDeep | JsonErrorKind::UnsafeInteger | JsonErrorKind::NumberOverflow => None,
                JsonErrorKind::NotUtf8
                | JsonErrorKind::ByteOrderMark
                | JsonErrorKind::UnexpectedEnd
                | JsonErrorKind::UnexpectedCharacter
                | JsonErrorKind::TrailingCharacters
                | JsonErrorKind::InvalidNumber
                | JsonErrorKind::InvalidEscape
                | JsonErrorKind::ControlCharacter => Some(serde_json::json!([posted, null, null])),
            };
        }
    };
    let canonical = to_canonical(&value);
    let again = parse_stored(&canonical).expect("what was written is read again");
    assert_eq!(again, value, "{posted}");
    assert_eq!(to_canonical(&again), canonical, "{posted}");
    let signature = WebhookSecret::parse(SECRET).unwrap().codetether(&canonical);
    Some(serde_json::json!([posted, String::from_utf8(canonical).unwrap(), signature]))
}

/// Runs Node over the cases and returns what it printed.
fn node(cases: &[serde_json::Value]) -> String {
    let mut child = Command::new("node")
        .args(["-e", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("this test needs `node` on the PATH, no run without it is a pass: {error}")
        });
    let mut stdin = child.stdin.take().unwrap();
    let lines: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let feeder = thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "node failed: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Texts that have broken serialisers before.
fn corpus() -> Vec<String> {
    let mut texts: Vec<String> = [
        // Numbers.
        "0", "-0", "-0.0", "0e5", "-0e-5", "1.0", "1.10", "1E5", "1e+5", "1e-7", "0.000001", "0.0000001", "1e20", "1e21",
        "1e22", "123456789e12", "999999999999999900000.0", "1e-400", "5e-324", "4.9e-324", "2.4703282292062327e-324",
        "2.4703282292062328e-324", "2.2250738585072011e-308", "2.2250738585072014e-308", "1.7976931348623157e308",
        "1.797693134862315807e308", "9007199254740991", "-9007199254740991", "9007199254740993.0", "9007199254740993e0",
        "90071992547409935e-1", "0.1", "0.2", "0.30000000000000004", "1.005", "4.35", "123.456", "1e23", "8.5e22",
        "9.5367431640625e-7", "100000000000000000000e0", "4503599627370497.5", "0.500000000000000166533453693773481063544750213623046875",
        // Strings.
        r#""""#, r#""\u0000""#, r#""\u001f\u0020\u007f\u0080\u009f\u00a0\u00ad""#, "\"\u{7f}\u{80}\u{9f}\"", r#""\/""#,
        r#""\b\f\n\r\t\"\\\/""#, r#""\u0008\u000C\u000a\u000D\u0009""#, "\"\u{2028}\u{2029}\"", r#""\u2028\u2029""#,
        r#""\ud83d\ude00""#, r#""\uD83D\uDE00""#, r#""\ud83d""#, r#""\ude00\ud83d""#, r#""\ud83d\ud83d\ude00\ude00""#,
        r#""\ud83dx\ude00""#, r#""\ud83d\\ude00""#, r#""\ud83d\u0000""#, r#""\udbff\udfff\ud800\udc00\uffff\ufffe\ufeff""#,
        r#""café ☕ \u0063\u0061\u0066\u00e9""#, "\"e\u{301} \u{e9} \u{202e} \u{200d}\"", r#""<!-- </script> ' & %""#,
        // Objects.
        r#"{}"#, r#"{"a":1,"a":2,"b":3,"a":4}"#, r#"{"a":1,"\u0061":2}"#, r#"{"b":0,"a":0,"":0," ":0}"#,
        r#"{"z":0,"10":0,"9":0,"1":0,"0":0,"-1":0,"01":0,"1.0":0,"1e0":0,"+1":0}"#,
        r#"{"b":0,"4294967293":0,"4294967294":0,"4294967295":0,"4294967296":0,"a":0,"2147483647":0,"2147483648":0,"9007199254740991":0,"18446744073709551616":0,"1":0}"#,
        r#"{"x":0,"2":"a","2":"b","1":0,"2":"c"}"#, r#"{"__proto__":{"x":1},"a":0,"__proto__":{"y":2}}"#, r#"{"__proto__":null}"#,
        r#"{"constructor":1,"toString":2,"hasOwnProperty":3,"length":4,"toJSON":5,"valueOf":6}"#, r#"{"toJSON":{"toJSON":null}}"#,
        r#"{"\ud800":1,"\uD800":2,"\udc00":3,"\ud800\udc00":4,"𐀀":5}"#, r#"{"\u0000":1,"\u0001":2,"\n":3}"#, r#"{"é":1,"é":2}"#,
        // Whitespace and containers.
        " \t\r\n[ \t\r\n1 , 2 , [ ] , { } ]\t\r\n ", "[[],[[]],{},[{}],null,true,false,\"\",0]", "[1,\n2]", "null", "true", "false",
        // What JavaScript refuses as well.
        "", " ", "[1,]", "{\"a\":1,}", "[1,,2]", "[", "]", "{", "}", "\"", "01", "-01", "1.", ".5", "-", "+1", "1e", "1e+", "0x1",
        "1_0", "1n", "NaN", "Infinity", "-Infinity", "undefined", "True", "'a'", "{a:1}", "{'a':1}", "{1:1}", "\"\t\"", "\"\n\"",
        "\"\u{0}\"", "\"\u{1f}\"", r#""\x41""#, r#""\u{41}""#, r#""\u004""#, r#""\u00g0""#, r#""\'""#, r#""\0""#, r#""\v""#, r#""\a""#, "1 2",
        "[] []", "\u{feff}1", "1\u{feff}", "\u{a0}1", "\u{2028}1", "\u{b}1", "\u{c}1", "\u{3000}1", "\u{85}1", "/**/1", "1//", "nul",
        "nulll", "\u{661}", "[1\u{0}]", "\\u0031", "\"\\", "\"\\u", "{\"a\"}", "{\"a\":}", "{:1}", "{,}", "[:]", "--1", "1.2.3", "1e1e1",
    ]
    .map(str::to_owned)
    .into();
    texts.push(format!("{}{}", "[".repeat(128), "]".repeat(128)));
    texts.push(format!("{}1{}", "{\"a\":".repeat(128), "}".repeat(128)));
    for (count, step) in [(15, 1), (16, 1), (17, 1), (18, 1), (3000, 7919)] {
        let named = (0..count).map(|number| format!("\"k{}\":{number}", number * step % count));
        texts.push(format!("{{{}}}", named.collect::<Vec<_>>().join(",")));
        let indexed = (0..count).map(|number| format!("\"{}\":{number}", number * step % 1009));
        texts.push(format!("{{\"x\":0,{},\"y\":0}}", indexed.collect::<Vec<_>>().join(",")));
    }
    // Sparse indices, so many that V8 keeps them in a dictionary.
    let sparse = (0..2000_u64).map(|number| format!("\"{}\":0", number * 2_654_435_761 % 4_294_967_300));
    texts.push(format!("{{{}}}", sparse.collect::<Vec<_>>().join(",")));
    texts.push(format!("\"{}\"", (0..=0xffff).map(|unit| format!("\\u{unit:04x}")).collect::<String>()));
    texts.push(format!(
        "\"{}\"",
        ('\u{20}'..='\u{10ffff}').filter(|c| !matches!(c, '"' | '\\')).step_by(7).collect::<String>()
    ));
    texts
}

/// Writes one random value in one of the many ways in which JSON may spell it.
fn spell(rng: &mut StdRng, depth: usize, text: &mut String) {
    space(rng, text);
    match rng.random_range(0..if depth == 0 { 6 } else { 10 }) {
        0 => text.push_str(["null", "true", "false"].choose(rng).unwrap()),
        1 | 2 => spell_number(rng, text),
        3..=5 => spell_string(rng, text),
        6 | 7 => {
            text.push('[');
            for index in 0..rng.random_range(0..6) {
                text.push_str(if index == 0 { "" } else { "," });
                spell(rng, depth - 1, text);
            }
            text.push(']');
        }
        _ => {
            text.push('{');
            for index in 0..if rng.random_ratio(1, 8) { 40 } else { rng.random_range(0..8) } {
                text.push_str(if index == 0 { "" } else { "," });
                space(rng, text);
                match rng.random_range(0..4) {
                    0 => text.push_str(&format!("\"{}\"", rng.random_range(0..20))),
                    1 => text.push_str(&format!("\"{}\"", rng.random::<u64>() >> rng.random_range(0..64))),
                    2 => text
                        .push_str(["\"a\"", "\"b\"", "\"\\u0061\"", "\"\"", "\"01\""].choose(rng).unwrap()),
                    _ => spell_string(rng, text),
                }
                space(rng, text);
                text.push(':');
                spell(rng, depth - 1, text);
            }
            text.push('}');
        }
    }
    space(rng, text);
}

fn spell_number(rng: &mut StdRng, text: &mut String) {
    match rng.random_range(0..6) {
        0 => text.push_str(&rng.random_range(-1000..1000).to_string()),
        1 => text.push_str(&(rng.random::<i64>() >> rng.random_range(10..64)).to_string()),
        // Any double there is, in Rust's spelling: all digits or an exponent.
        2 => {
            let number = f64::from_bits(rng.random());
            let number = if number.is_finite() { number } else { 0.5 };
            text.push_str(&format!("{number:e}"));
        }
        3 => text.push_str(&format!("{}.{:03}", rng.random_range(-99..99), rng.random_range(0..1000))),
        4 => {
            let exponent = rng.random_range(-330..308);
            text.push_str(&format!("{}E{exponent:+}", rng.random_range(1..10)));
        }
        // More digits than a double has, where rounding is hardest.
        _ => {
            let digits: String = (0..rng.random_range(1..40)).map(|_| rng.random_range('0'..='9')).collect();
            text.push_str(&format!("{}.{digits}e{}", rng.random_range(0..10), rng.random_range(-30..30)));
        }
    }
}

fn spell_string(rng: &mut StdRng, text: &mut String) {
    text.push('"');
    for _ in 0..rng.random_range(0..12) {
        match rng.random_range(0..8) {
            0 => {
                text.push_str(["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"].choose(rng).unwrap())
            }
            1 => text.push_str(&format!("\\u{:04x}", rng.random::<u16>())),
            2 => text.push_str(&format!("\\u{:04X}", rng.random_range(0xd7f0..0xe010))),
            3 => text.push_str(&format!("\\u00{:02x}", rng.random_range(0..0x80))),
            4 => text.push(rng.random_range('\u{80}'..='\u{10ffff}')),
            _ => text.push_str(
                ["plain", " text ", "é", "☕", "😀", "\u{7f}", "'", "\u{2028}"].choose(rng).unwrap(),
            ),
        }
    }
    text.push('"');
}

fn space(rng: &mut StdRng, text: &mut String) {
    if rng.random_ratio(1, 6) {
        text.push([' ', '\n', '\r', '\t'][rng.random_range(0..4)]);
    }
}

/// Changes, drops or doubles a few characters.
fn spoil(rng: &mut StdRng, text: &str) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..characters.len());
        match rng.random_range(0..3) {
            0 => {
                characters[at] = *['"', '\\', ',', ':', '{', '}', '[', ']', '0', 'e', '-', '.', '\n', 'u']
                    .choose(rng)
                    .unwrap()
            }
            1 => characters.insert(at, characters[at]),
            _ if characters.len() > 1 => drop(characters.remove(at)),
            _ => (),
        }
    }
    characters.into_iter().collect()
}

#[test]
fn javascript_writes_every_accepted_payload_exactly_as_we_do() {
    let mut texts = corpus();
    let listed = texts.len();
    let mut rng = StdRng::seed_from_u64(20_250_119);
    for _ in 0..4000 {
        let mut text = String::new();
        spell(&mut rng, 4, &mut text);
        if rng.random_ratio(1, 3) {
            texts.push(spoil(&mut rng, &text));
        }
        texts.push(text);
    }
    let cases: Vec<_> = texts.iter().filter_map(|text| case(text)).collect();
    let accepted = cases.iter().filter(|case| case[1].is_string()).count();
    // Otherwise the generator has gone astray and the test proves little.
    assert!(listed < cases.len() && 3000 < accepted, "{accepted} of {} accepted", cases.len());
    assert!(500 < cases.len() - accepted, "{accepted} of {} accepted", cases.len());
    let printed = node(&cases);
    assert_eq!(printed, format!("cases {}\n", cases.len()));
}
