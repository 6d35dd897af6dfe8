//! `Json`: a value as ECMAScript holds it after `JSON.parse`.
//!
//! It is not `serde_json::Value`: numbers are doubles, strings may hold lone surrogates, members have an order.
//! Reading is in `parse`, writing in `canonical`, members in `object`.

use super::{object::Object, text::JsonString};

/// ECMAScript's `Number.MAX_SAFE_INTEGER`, 2^53 - 1: every integer up to here is a double of its own.
pub const MAX_SAFE_INTEGER: u64 = 9_007_199_254_740_991;

/// A JSON value.
///
/// Two values are equal when their canonical bytes are, hence the order of members counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A finite double.
    Number(Number),
    /// A text, possibly with lone surrogates.
    String(JsonString),
    /// Values in order.
    Array(Vec<Json>),
    /// Members in ECMAScript's order.
    Object(Object),
}

/// A finite double, the only number JavaScript has. Never negative zero, because `JSON.stringify` writes that as `0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(f64);

/// Holds because a `Number` is never NaN.
impl Eq for Number {}

impl Number {
    /// Takes a double; `None` when it is infinite or NaN, for which JSON has no word.
    pub fn new(value: f64) -> Option<Self> {
        // -0.0 + 0.0 is 0.0; no other value changes.
        value.is_finite().then_some(Self(value + 0.0))
    }

    /// Takes an integer; `None` when its magnitude is beyond [`MAX_SAFE_INTEGER`].
    pub fn from_integer(value: i64) -> Option<Self> {
        (value.unsigned_abs() <= MAX_SAFE_INTEGER).then_some(Self(value as f64))
    }

    /// The value.
    pub fn get(self) -> f64 {
        self.0
    }

    /// The value when it is an integer of magnitude up to [`MAX_SAFE_INTEGER`].
    pub fn as_integer(self) -> Option<i64> {
        let safe = self.0.fract() == 0.0 && self.0.abs() <= MAX_SAFE_INTEGER as f64;
        safe.then_some(self.0 as i64)
    }
}

impl Json {
    /// The member of this name, when this is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.as_object()?.get(name)
    }

    /// Moves the member of this name out of an object; costs what [`Object::remove`] costs.
    pub fn take(&mut self, name: &str) -> Option<Json> {
        self.as_object_mut()?.remove(name)
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The truth value, when this is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The number, when this is one.
    pub fn as_f64(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(number.get()) } else { None }
    }

    /// The integer, when this is a number that is one and JavaScript holds it exactly.
    pub fn as_integer(&self) -> Option<i64> {
        if let Self::Number(number) = self { number.as_integer() } else { None }
    }

    /// The text, when this is a string without lone surrogates; see [`Json::as_string`] for the others.
    pub fn as_str(&self) -> Option<&str> {
        self.as_string()?.as_str()
    }

    /// The string, when this is one.
    pub fn as_string(&self) -> Option<&JsonString> {
        if let Self::String(string) = self { Some(string) } else { None }
    }

    /// The elements, when this is an array.
    pub fn as_array(&self) -> Option<&[Json]> {
        if let Self::Array(elements) = self { Some(elements) } else { None }
    }

    /// The members, when this is an object.
    pub fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// The members to be changed, when this is an object.
    pub fn as_object_mut(&mut self) -> Option<&mut Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// The members themselves; the value comes back when it is no object.
    ///
    /// # Errors
    /// The value, unchanged, when it is something else.
    pub fn into_object(self) -> Result<Object, Json> {
        if let Self::Object(object) = self { Ok(object) } else { Err(self) }
    }

    /// Takes a value of our own making (an example of the catalogue, a row's `jsonb`).
    ///
    /// Integers beyond [`MAX_SAFE_INTEGER`] become the nearest double, as JavaScript reads them; payloads from outside
    /// go through [`parse`](super::parse()), which refuses them.
    pub fn from_serde(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => {
                // `None` cannot be without serde_json's `arbitrary_precision`; then it is what `JSON.stringify`
                // makes of an infinity.
                number.as_f64().and_then(Number::new).map_or(Self::Null, Self::Number)
            }
            serde_json::Value::String(text) => Self::from(text.as_str()),
            serde_json::Value::Array(elements) => {
                Self::Array(elements.iter().map(Self::from_serde).collect())
            }
            serde_json::Value::Object(members) => Self::Object(
                members.iter().map(|(name, value)| (name.as_str(), Self::from_serde(value))).collect(),
            ),
        }
    }

    /// The value for libraries that speak serde_json: lone surrogates become U+FFFD, members lose their order.
    pub fn to_serde(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(number) => match number.as_integer() {
                Some(integer) => integer.into(),
                None => number.get().into(),
            },
            Self::String(string) => string.to_str_lossy().into(),
            Self::Array(elements) => elements.iter().map(Self::to_serde).collect(),
            Self::Object(object) => {
                object.iter().map(|(name, value)| (name.to_str_lossy(), value.to_serde())).collect()
            }
        }
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for Json {
    fn from(value: i32) -> Self {
        Self::Number(Number(f64::from(value)))
    }
}

impl From<u32> for Json {
    fn from(value: u32) -> Self {
        Self::Number(Number(f64::from(value)))
    }
}

impl From<Number> for Json {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<JsonString> for Json {
    fn from(string: JsonString) -> Self {
        Self::String(string)
    }
}

impl From<Vec<Json>> for Json {
    fn from(elements: Vec<Json>) -> Self {
        Self::Array(elements)
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

/// `None` becomes `null`.
impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::parse;

    #[test]
    fn a_number_is_finite_and_never_negative_zero() {
        assert_eq!(Number::new(f64::NAN), None);
        assert_eq!(Number::new(f64::INFINITY), None);
        assert_eq!(Number::new(f64::NEG_INFINITY), None);
        assert!(Number::new(-0.0).unwrap().get().is_sign_positive());
        assert_eq!(Number::new(f64::MAX).unwrap().get(), f64::MAX);
        assert_eq!(Number::new(-5e-324).unwrap().get(), -5e-324);
    }

    #[test]
    fn an_integer_ends_where_javascript_ends() {
        let limit = 9_007_199_254_740_991;
        assert_eq!(Number::from_integer(limit).unwrap().as_integer(), Some(limit));
        assert_eq!(Number::from_integer(-limit).unwrap().as_integer(), Some(-limit));
        assert_eq!(Number::from_integer(limit + 1), None);
        assert_eq!(Number::from_integer(-limit - 1), None);
        assert_eq!(Number::from_integer(i64::MIN), None);
        assert_eq!(Number::new(9_007_199_254_740_992.0).unwrap().as_integer(), None);
        assert_eq!(Number::new(1.5).unwrap().as_integer(), None);
    }

    #[test]
    fn every_accessor_answers_for_its_own_kind_only() {
        let json =
            parse(br#"{"n":null,"b":true,"i":7,"f":1.5,"s":"x","l":"\ud800","a":[1],"o":{}}"#).unwrap();
        let of = |name| json.get(name).unwrap();
        assert!(of("n").is_null() && !of("b").is_null());
        assert_eq!((of("b").as_bool(), of("n").as_bool()), (Some(true), None));
        assert_eq!((of("f").as_f64(), of("s").as_f64()), (Some(1.5), None));
        assert_eq!((of("i").as_integer(), of("f").as_integer(), of("s").as_integer()), (Some(7), None, None));
        assert_eq!((of("s").as_str(), of("l").as_str(), of("i").as_str()), (Some("x"), None, None));
        assert!(of("l").as_string().is_some() && of("i").as_string().is_none());
        assert_eq!((of("a").as_array().map(<[Json]>::len), of("o").as_array()), (Some(1), None));
        assert_eq!((of("o").as_object().map(Object::len), of("a").as_object()), (Some(0), None));
        assert_eq!((json.get("absent"), of("a").get("0")), (None, None));
        assert_eq!(of("s").clone().into_object(), Err(Json::from("x")));
    }

    #[test]
    fn a_member_can_be_moved_out() {
        let mut json = parse(br#"{"payload":{"a":1},"event_type":"t"}"#).unwrap();
        assert_eq!(json.take("payload"), Some(parse(br#"{"a":1}"#).unwrap()));
        assert_eq!(json.take("payload"), None);
        assert_eq!(json, parse(br#"{"event_type":"t"}"#).unwrap());
        assert_eq!(Json::Null.take("payload"), None);
    }

    #[test]
    fn serde_values_come_and_go() {
        let value = json!({"a": [1, -1.5, 1e300, true, null, "caf\u{e9}"], "b": {}});
        assert_eq!(Json::from_serde(&value).to_serde(), value);
        assert_eq!(Json::from_serde(&json!(u64::MAX)).as_f64(), Some(18_446_744_073_709_551_615.0));
        assert_eq!(parse(b"1.0").unwrap().to_serde(), json!(1));
        assert_eq!(parse(br#"{"\udc00":"a\ud800b"}"#).unwrap().to_serde(), json!({"\u{fffd}": "a\u{fffd}b"}));
    }

    #[test]
    fn plain_values_become_json() {
        let object = Object::from_iter([
            ("text", Json::from("x")),
            ("none", Json::from(None::<String>)),
            ("some", Json::from(Some(true))),
            ("small", Json::from(-3_i32)),
            ("unsigned", Json::from(3_u32)),
            ("list", Json::from(vec![Json::Null])),
        ]);
        let expected = br#"{"text":"x","none":null,"some":true,"small":-3,"unsigned":3,"list":[null]}"#;
        assert_eq!(Json::from(object), parse(expected).unwrap());
    }
}
