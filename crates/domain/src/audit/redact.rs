//! What an entry may tell of the properties of a thing: no secrets, and not too much. Callers pass no secrets; this is
//! the second look, by the names of members.

use serde_json::{Map, Value, json};

use super::Digest;

/// The longest text of one side of an entry, in bytes.
pub const MAX_SIDE_BYTES: usize = 16 << 10;

/// Of a side that is longer, so much is kept. As a JSON text it takes twice as much at most.
const KEPT_BYTES: usize = 4 << 10;

/// Members are left out whose name has one of these in it, in whatever spelling.
const SECRET_PARTS: [&str; 10] = [
    "secret",
    "password",
    "passphrase",
    "passwd",
    "token",
    "totp",
    "recoverycode",
    "authorization",
    "cookie",
    "keymaterial",
];

/// Or whose name ends so: `key` itself, `api_key`, `private_key`, and not `key_id`.
const SECRET_END: &str = "key";

/// The JSON text of one side.
pub(super) fn side(value: &Value) -> String {
    let text = without_secrets(value).to_string();
    if text.len() <= MAX_SIDE_BYTES { text } else { cut(&text) }
}

/// In place of a side that is too long: how long it was, its hash, and how it begins.
fn cut(text: &str) -> String {
    let beginning = &text[..text.floor_char_boundary(KEPT_BYTES)];
    let hash = Digest::of_bytes(text.as_bytes()).to_string();
    json!({"cut": true, "size_bytes": text.len(), "sha256": hash, "beginning": beginning}).to_string()
}

fn without_secrets(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, _)| !is_secret(name));
            Value::Object(
                kept.map(|(name, value)| (name.clone(), without_secrets(value))).collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(without_secrets).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn is_secret(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    plain.ends_with(SECRET_END) || SECRET_PARTS.iter().any(|part| plain.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_like_a_secret_is_left_out_at_any_depth() {
        let told = side(&json!({
            "name": "zapier", "key_id": "key_1", "scopes": ["hooks:read"], "keys": 3, "signs": true,
            "secret": "x", "webhook_secret": "x", "Signing-Secret": "x", "clientSecret": {"a": "x"}, "password": "x",
            "PASSWORD_HASH": "x", "token": "x", "access_token": "x", "refreshToken": ["x"], "api_key": "x", "key": "x",
            "privateKey": "x", "key_material": "x", "totp_pending": "x", "recovery codes": ["x"], "Authorization": "x",
            "headers": [{"set-cookie": "x", "accept": "*"}, [{"deep": {"Token": "x", "kept": 1}}]],
        }));
        let expected = json!({
            "name": "zapier", "key_id": "key_1", "scopes": ["hooks:read"], "keys": 3, "signs": true,
            "headers": [{"accept": "*"}, [{"deep": {"kept": 1}}]],
        });
        assert_eq!(told, expected.to_string());
    }

    #[test]
    fn a_side_has_16_kib_and_what_is_longer_is_cut_with_a_marker() {
        let of_size = |size: usize| json!({"a": "x".repeat(size - r#"{"a":""}"#.len())});
        let longest = side(&of_size(MAX_SIDE_BYTES));
        assert_eq!((longest.len(), longest.starts_with(r#"{"a":"x"#)), (MAX_SIDE_BYTES, true));
        let told: Value = serde_json::from_str(&side(&of_size(MAX_SIDE_BYTES + 1))).unwrap();
        assert_eq!((&told["cut"], &told["size_bytes"]), (&json!(true), &json!(MAX_SIDE_BYTES + 1)));
        assert_eq!(told["beginning"].as_str().unwrap().len(), KEPT_BYTES);
        let hash = Digest::of_bytes(of_size(MAX_SIDE_BYTES + 1).to_string().as_bytes());
        assert_eq!(told["sha256"], hash.to_string());
    }

    #[test]
    fn what_is_cut_fits_whatever_is_in_it() {
        for part in ["\"", "\\", "\u{1}", "é", "☕", "\u{10ffff}", "\n"] {
            let told = side(&json!([part.repeat(MAX_SIDE_BYTES)]));
            assert!(told.len() <= MAX_SIDE_BYTES, "{part:?}: {}", told.len());
            assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["cut"], true, "{part:?}");
        }
    }
}
