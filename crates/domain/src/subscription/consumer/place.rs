//! Places in an event, written as dotted paths: `payload.company.id`.

use crate::wire::{Json, Object};

/// The longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 256;
/// The most words of a path.
pub const MAX_WORDS: usize = 16;

/// A place in an event. In a list, a word of digits without leading zeros is the number of an item: each item has one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place(Vec<String>);

impl Place {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it, continuing its name.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATH_BYTES {
            return Err(format!("must have at most {MAX_PATH_BYTES} bytes"));
        }
        let words: Vec<String> = text.split('.').map(str::to_owned).collect();
        if words.iter().any(String::is_empty) {
            return Err("must be words with dots between them, such as payload.company.id".to_owned());
        }
        if words.len() > MAX_WORDS {
            return Err(format!("must have at most {MAX_WORDS} words"));
        }
        Ok(Self(words))
    }

    /// What is there.
    #[must_use]
    pub fn find<'a>(&self, json: &'a Json) -> Option<&'a Json> {
        self.0.iter().try_fold(json, |value, word| match value {
            Json::Array(items) => number(word).and_then(|at| items.get(at)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_) => {
                value.get(word)
            }
        })
    }

    /// Puts a value there. Objects on the way are made; whatever else stands in the way is replaced.
    pub(super) fn put(&self, object: &mut Object, value: Json) {
        put(object, &self.0, value);
    }

    /// Moves the value out of there, if it is a member of an object.
    pub(super) fn take(&self, object: &mut Object) -> Option<Json> {
        take(object, &self.0)
    }
}

/// The number that a word is when it is written as numbers are: not `00`, nor `+0`.
fn number(word: &str) -> Option<usize> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if digits { word.parse().ok() } else { None }
}

fn put(object: &mut Object, words: &[String], value: Json) {
    let Some((word, rest)) = words.split_first() else { return };
    if rest.is_empty() {
        object.insert(word.as_str(), value);
        return;
    }
    let mut inner = match object.get(word) {
        Some(Json::Object(_)) => match within(object, word) {
            Some(inner) => return put(inner, rest, value),
            None => Object::new(),
        },
        Some(_) | None => Object::new(),
    };
    put(&mut inner, rest, value);
    object.insert(word.as_str(), inner);
}

fn take(object: &mut Object, words: &[String]) -> Option<Json> {
    let (word, rest) = words.split_first()?;
    if rest.is_empty() { object.remove(word) } else { take(within(object, word)?, rest) }
}

fn within<'a>(object: &'a mut Object, word: &str) -> Option<&'a mut Object> {
    object.get_mut(word)?.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{parse, to_canonical};

    fn place(text: &str) -> Place {
        Place::parse(text).unwrap()
    }

    #[test]
    fn a_path_leads_through_objects_and_lists() {
        let json = parse(br#"{"a":{"b":[1,{"c":"x"}],"0":2,"01":3}}"#).unwrap();
        for (path, expected) in [
            ("a.b.0", Some("1")),
            ("a.b.1.c", Some("\"x\"")),
            ("a.0", Some("2")),
            ("a.b.2", None),
            ("a.b.00", None),
            ("a.b.01.c", None),
            ("a.b.+0", None),
            ("a.b.99999999999999999999", None),
            // Members are called what they are called.
            ("a.01", Some("3")),
            ("a.b.c", None),
            ("a.b.1.c.d", None),
            ("b", None),
        ] {
            let found = place(path).find(&json).map(|value| String::from_utf8(to_canonical(value)).unwrap());
            assert_eq!(found.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn a_path_is_bounded() {
        assert!(Place::parse(&"a".repeat(MAX_PATH_BYTES)).is_ok());
        assert!(Place::parse(&"a".repeat(MAX_PATH_BYTES + 1)).is_err());
        assert!(Place::parse(&vec!["a"; MAX_WORDS].join(".")).is_ok());
        assert!(Place::parse(&vec!["a"; MAX_WORDS + 1].join(".")).is_err());
        for bad in ["", ".", "a.", ".a", "a..b"] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_put_and_taken() {
        let mut object = parse(br#"{"a":{"b":1},"c":2}"#).unwrap().into_object().unwrap();
        place("a.x").put(&mut object, Json::from("new"));
        place("c.d").put(&mut object, Json::from(3));
        place("e.f.g").put(&mut object, Json::Null);
        assert_eq!(place("a.b").take(&mut object), Some(Json::from(1)));
        assert_eq!(place("a.b").take(&mut object), None);
        assert_eq!(place("a.x.y").take(&mut object), None);
        let text = String::from_utf8(to_canonical(&object.into())).unwrap();
        assert_eq!(text, r#"{"a":{"x":"new"},"c":{"d":3},"e":{"f":{"g":null}}}"#);
    }
}
