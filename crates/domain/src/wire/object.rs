//! `Object`: the members of a JSON object, in the order in which ECMAScript writes them.
//!
//! It is not a general map: names are JSON strings, and equality looks at the order.

use std::{collections::BTreeMap, hash::Hash, mem};

use indexmap::{Equivalent, IndexMap};

use super::{json::Json, text::JsonString};

/// Up to here a look at every name is quicker than a hash of one.
const FEW: usize = 16;

/// The members of an object.
///
/// Order is that of ECMA-262 `OrdinaryOwnPropertyKeys`: names that are array indices (`"0"` to `"4294967294"`, written
/// without leading zeros) ascending, then all others as they were first inserted. Inserting a name again replaces the
/// value and keeps the place.
///
/// Every operation on one member costs O(log n) or less, except [`Object::remove`].
#[derive(Clone, Debug, Default)]
pub struct Object(Members);

#[derive(Clone, Debug)]
enum Members {
    /// At most [`FEW`], none of them an array index: nearly every object there is.
    Few(Vec<(JsonString, Json)>),
    /// Anything.
    Many(Box<Many>),
}

#[derive(Clone, Debug, Default)]
struct Many {
    /// The array indices.
    indexed: BTreeMap<u32, (JsonString, Json)>,
    /// All other names. Hashed with a random key, so that nobody can post names that collide.
    named: IndexMap<JsonString, Json>,
}

/// A name to look up, without a `JsonString` around it.
#[derive(Hash)]
struct Name<'a>(&'a [u8]);

impl Equivalent<JsonString> for Name<'_> {
    fn equivalent(&self, key: &JsonString) -> bool {
        self.0 == key.as_bytes()
    }
}

impl Default for Members {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Object {
    /// An object without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Members::Few(few) => few.len(),
            Members::Many(many) => many.indexed.len() + many.named.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The member of this name.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match &self.0 {
            Members::Few(few) => few.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            Members::Many(many) => match array_index(name.as_bytes()) {
                Some(index) => many.indexed.get(&index).map(|(_, value)| value),
                None => many.named.get(&Name(name.as_bytes())),
            },
        }
    }

    /// The member of this name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Json> {
        match &mut self.0 {
            Members::Few(few) => few.iter_mut().find(|(key, _)| key == name).map(|(_, value)| value),
            Members::Many(many) => match array_index(name.as_bytes()) {
                Some(index) => many.indexed.get_mut(&index).map(|(_, value)| value),
                None => many.named.get_mut(&Name(name.as_bytes())),
            },
        }
    }

    /// Sets a member and returns its former value; a new name comes last (an array index where it belongs).
    pub fn insert(&mut self, name: impl Into<JsonString>, value: impl Into<Json>) -> Option<Json> {
        self.put(name.into(), value.into())
    }

    /// Moves a member out; the others keep their order. O(n): meant for the few fields of an envelope.
    pub fn remove(&mut self, name: &str) -> Option<Json> {
        match &mut self.0 {
            Members::Few(few) => {
                let at = few.iter().position(|(key, _)| key == name)?;
                Some(few.remove(at).1)
            }
            Members::Many(many) => match array_index(name.as_bytes()) {
                Some(index) => many.indexed.remove(&index).map(|(_, value)| value),
                None => many.named.shift_remove(&Name(name.as_bytes())),
            },
        }
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&JsonString, &Json)> {
        let (few, many) = match &self.0 {
            Members::Few(few) => (few.as_slice(), None),
            Members::Many(many) => (&[][..], Some(many)),
        };
        let many = many.into_iter().flat_map(|many| {
            let indexed = many.indexed.values().map(|(name, value)| (name, value));
            indexed.chain(&many.named)
        });
        few.iter().map(|(name, value)| (name, value)).chain(many)
    }

    fn put(&mut self, name: JsonString, value: Json) -> Option<Json> {
        let index = array_index(name.as_bytes());
        if let Members::Few(few) = &mut self.0 {
            if index.is_none() {
                if let Some((_, old)) = few.iter_mut().find(|(key, _)| *key == name) {
                    return Some(mem::replace(old, value));
                }
                if few.len() < FEW {
                    few.push((name, value));
                    return None;
                }
            }
            let named = mem::take(few).into_iter().collect();
            self.0 = Members::Many(Box::new(Many { indexed: BTreeMap::new(), named }));
        }
        match (&mut self.0, index) {
            (Members::Many(many), Some(index)) => {
                many.indexed.insert(index, (name, value)).map(|(_, old)| old)
            }
            (Members::Many(many), None) => many.named.insert(name, value),
            // The block above has left `Few` behind.
            (Members::Few(_), _) => None,
        }
    }
}

impl<K: Into<JsonString>, V: Into<Json>> FromIterator<(K, V)> for Object {
    /// Inserts one after another: the last value of a name wins, at the place of the first.
    fn from_iter<T: IntoIterator<Item = (K, V)>>(members: T) -> Self {
        let members = members.into_iter();
        let mut object = Self(Members::Few(Vec::with_capacity(members.size_hint().0.min(FEW))));
        for (name, value) in members {
            object.put(name.into(), value.into());
        }
        object
    }
}

impl IntoIterator for Object {
    type Item = (JsonString, Json);
    type IntoIter = std::vec::IntoIter<(JsonString, Json)>;

    /// The members themselves, in order.
    fn into_iter(self) -> Self::IntoIter {
        match self.0 {
            Members::Few(few) => few.into_iter(),
            Members::Many(many) => {
                many.indexed.into_values().chain(many.named).collect::<Vec<_>>().into_iter()
            }
        }
    }
}

/// The same members in the same order; how they are kept does not matter.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Object {}

/// The name as an array index of ECMA-262 §6.1.7: `0` to 2^32 - 2 in canonical decimal form.
fn array_index(name: &[u8]) -> Option<u32> {
    match name {
        [b'0'] => Some(0),
        [b'1'..=b'9', rest @ ..] if rest.len() < 10 && rest.iter().all(u8::is_ascii_digit) => {
            let value = name.iter().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
            u32::try_from(value).ok().filter(|index| *index < u32::MAX)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(object: &Object) -> Vec<&str> {
        object.iter().map(|(name, _)| name.as_str().unwrap()).collect()
    }

    #[test]
    fn an_array_index_is_canonical_and_below_two_to_the_32_less_one() {
        for (name, expected) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("10", Some(10)),
            ("4294967294", Some(4_294_967_294)),
            ("4294967295", None),
            ("4294967296", None),
            ("9999999999", None),
            ("10000000000", None),
            ("00", None),
            ("01", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("1e3", None),
            (" 1", None),
            ("", None),
            ("\u{661}", None),
        ] {
            assert_eq!(array_index(name.as_bytes()), expected, "{name:?}");
        }
    }

    #[test]
    fn array_indices_come_first_and_the_rest_as_inserted() {
        let mut object = Object::new();
        for name in ["b", "10", "01", "2", "a", "4294967295", "4294967294", "0", "-1"] {
            assert_eq!(object.insert(name, true), None);
        }
        assert_eq!(names(&object), ["0", "2", "10", "4294967294", "b", "01", "a", "4294967295", "-1"]);
    }

    #[test]
    fn the_last_value_stands_at_the_first_place() {
        for extra in [0, FEW] {
            let mut object = Object::new();
            object.insert("a", 1_u32);
            object.insert("b", 2_u32);
            for number in 0..extra {
                object.insert(format!("x{number}"), Json::Null);
            }
            assert_eq!(object.insert("a", 3_u32), Some(Json::from(1_u32)), "{extra} more");
            assert_eq!(object.insert("7", 3_u32), None);
            assert_eq!(object.insert("7", 4_u32), Some(Json::from(3_u32)));
            assert_eq!(object.get("a"), Some(&Json::from(3_u32)));
            assert_eq!(object.get("7"), Some(&Json::from(4_u32)));
            assert_eq!(names(&object)[..3], ["7", "a", "b"]);
            assert_eq!(object.len(), extra + 3);
        }
    }

    #[test]
    fn few_and_many_members_behave_alike() {
        for count in [0, 1, FEW - 1, FEW, FEW + 1, 1000] {
            let expected: Vec<String> = (0..count).map(|number| format!("k{number}")).collect();
            let mut object = Object::from_iter(expected.iter().map(|name| (name.as_str(), Json::Null)));
            assert_eq!(names(&object), expected, "{count}");
            assert_eq!((object.len(), object.is_empty()), (count, count == 0));
            assert_eq!(object.get("k"), None);
            assert!(expected.iter().all(|name| object.get(name) == Some(&Json::Null)));
            let owned: Vec<_> = object.clone().into_iter().map(|(name, _)| name).collect();
            assert_eq!(owned, expected.iter().map(|name| name.as_str().into()).collect::<Vec<JsonString>>());
            if count > 0 {
                assert_eq!(object.remove("k0"), Some(Json::Null));
                assert_eq!(object.remove("k0"), None);
                assert_eq!(names(&object), expected[1..]);
            }
        }
    }

    #[test]
    fn equality_sees_order_and_not_how_members_are_kept() {
        let few = Object::from_iter([("a", true), ("b", true)]);
        let mut many = few.clone();
        many.insert("1", true);
        assert_ne!(few, many);
        assert_eq!(many.remove("1"), Some(Json::Bool(true)));
        assert!(matches!(many.0, Members::Many(_)));
        assert_eq!(few, many);
        assert_ne!(few, Object::from_iter([("b", true), ("a", true)]));
    }
}
