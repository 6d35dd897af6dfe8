//! Which events a hook wants, beyond their type: a declarative filter over the stored event.
//!
//! A filter is an object; all its members must hold. A member names a place in the event, as a dotted path
//! (`"payload.amount"`) or as nested objects, and what must be there: a value, or operators:
//!
//! ```json
//! {"payload.amount": {"$gte": 100}, "payload": {"plan": "pro"}, "$not": {"metadata.source": "test"}}
//! ```
//!
//! Operators: `$eq $ne $gt $gte $lt $lte $in $nin $exists $startsWith $endsWith $contains`; around members: `$and $or`
//! (lists of filters) and `$not`. Where the event has a list, it is enough that one of its items fits. Where the event has
//! nothing, only `$exists: false`, `$ne`, `$nin` and `$not` hold. A dot in a key of the event cannot be written as a path;
//! nested objects name such keys.

use std::collections::HashSet;

use crate::wire::{Json, JsonString, Object, parse_stored, to_canonical};

/// The largest filter, as canonical JSON.
pub(crate) const MAX_BYTES: usize = 4096;
/// The most conditions.
pub(crate) const MAX_CONDITIONS: usize = 64;
/// How many objects may stand within each other.
pub(crate) const MAX_DEPTH: usize = 8;

/// A checked filter.
#[derive(Clone, Debug)]
pub struct Filter {
    all: Vec<Clause>,
    text: String,
}

/// Why a filter is not acceptable, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` {reason}")]
pub struct FilterError {
    /// The place in the filter.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

#[derive(Clone, Debug)]
enum Clause {
    At(Vec<String>, Test),
    And(Vec<Vec<Clause>>),
    Or(Vec<Vec<Clause>>),
    Not(Vec<Clause>),
}

#[derive(Clone, Debug)]
enum Test {
    Equal(Json),
    NotEqual(Json),
    Order(Order, Json),
    In(Scalars),
    NotIn(Scalars),
    Exists(bool),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
}

/// The list of `$in`, so that a look-up does not cost its length: a list of 1,000 against an event with 340,000 items
/// is 340 million comparisons otherwise, in the fan-out of every tenant.
#[derive(Clone, Debug, Default)]
struct Scalars {
    texts: HashSet<JsonString>,
    /// Sorted.
    numbers: Vec<f64>,
    yes: bool,
    no: bool,
    null: bool,
}

impl Scalars {
    /// `None` when an item is a list or an object.
    fn of(items: &[Json]) -> Option<Self> {
        let mut scalars = Self::default();
        for item in items {
            match item {
                Json::Null => scalars.null = true,
                Json::Bool(true) => scalars.yes = true,
                Json::Bool(false) => scalars.no = true,
                Json::Number(number) => scalars.numbers.push(number.get()),
                Json::String(text) => {
                    scalars.texts.insert(text.clone());
                }
                Json::Array(_) | Json::Object(_) => return None,
            }
        }
        scalars.numbers.sort_by(f64::total_cmp);
        Some(scalars)
    }

    fn contain(&self, value: &Json) -> bool {
        match value {
            Json::Null => self.null,
            Json::Bool(true) => self.yes,
            Json::Bool(false) => self.no,
            Json::Number(number) => {
                self.numbers.binary_search_by(|wanted| wanted.total_cmp(&number.get())).is_ok()
            }
            Json::String(text) => self.texts.contains(text),
            Json::Array(_) | Json::Object(_) => false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Filter {
    /// Reads a filter that is stored as canonical JSON.
    ///
    /// # Errors
    /// What cannot be read, as a sentence: it was checked before it was stored.
    pub(crate) fn stored(text: &str) -> Result<Self, String> {
        let json = parse_stored(text.as_bytes()).map_err(|error| error.to_string())?;
        Self::parse(&json).map_err(|error| error.to_string())
    }

    /// Checks a filter.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(json: &Json) -> Result<Self, FilterError> {
        let Json::Object(object) = json else {
            return Err(wrong("filter", "must be a JSON object"));
        };
        let text = String::from_utf8(to_canonical(&in_order(json))).unwrap_or_default();
        if text.len() > MAX_BYTES {
            return Err(wrong("filter", format!("must have at most {MAX_BYTES} bytes as compact JSON")));
        }
        let mut compiler = Compiler { conditions: 0 };
        let all = compiler.clauses(object, &[], "filter", 1)?;
        if compiler.conditions == 0 {
            return Err(wrong("filter", "must have at least one condition"));
        }
        Ok(Self { all, text })
    }

    /// Whether the filter lets an event through.
    #[must_use]
    pub fn matches(&self, event: &Json) -> bool {
        hold(&self.all, event)
    }

    /// The filter as canonical JSON with its members in order of their names: what it is stored and recognised by.
    #[must_use]
    pub fn canonical_text(&self) -> String {
        self.text.clone()
    }
}

pub(super) fn wrong(path: &str, reason: impl Into<String>) -> FilterError {
    // Paths come from outside; a text for a person stays short.
    let path: String = path.chars().map(|c| if c.is_control() { '�' } else { c }).take(80).collect();
    FilterError { path, reason: reason.into() }
}

struct Compiler {
    conditions: usize,
}

impl Compiler {
    fn clauses(
        &mut self,
        object: &Object,
        place: &[String],
        path: &str,
        depth: usize,
    ) -> Result<Vec<Clause>, FilterError> {
        if depth > MAX_DEPTH {
            return Err(wrong(path, format!("is nested deeper than {MAX_DEPTH} levels")));
        }
        let mut clauses = Vec::new();
        for (key, value) in object.iter() {
            let Some(key) = key.as_str() else {
                return Err(wrong(path, "has a key with a lone surrogate"));
            };
            let here = format!("{path}.{key}");
            match key {
                "$and" => clauses.push(Clause::And(self.list(value, place, &here, depth)?)),
                "$or" => clauses.push(Clause::Or(self.list(value, place, &here, depth)?)),
                "$not" => {
                    let Json::Object(inner) = value else { return Err(wrong(&here, "must be an object")) };
                    if inner.is_empty() {
                        return Err(wrong(&here, "must not be empty"));
                    }
                    clauses.push(Clause::Not(self.clauses(inner, place, &here, depth + 1)?));
                }
                operator if operator.starts_with('$') => {
                    if place.is_empty() {
                        return Err(wrong(&here, "is an operator without a place in the event before it"));
                    }
                    self.count(&here)?;
                    clauses.push(Clause::At(place.to_vec(), test(operator, value, &here)?));
                }
                _ => {
                    let mut place = place.to_vec();
                    // A nested key is taken as it is, so that keys with dots can be named.
                    if place.is_empty() {
                        place.extend(key.split('.').map(str::to_owned));
                    } else {
                        place.push(key.to_owned());
                    }
                    clauses.extend(self.at(value, place, &here, depth)?);
                }
            }
        }
        Ok(clauses)
    }

    fn at(
        &mut self,
        value: &Json,
        place: Vec<String>,
        path: &str,
        depth: usize,
    ) -> Result<Vec<Clause>, FilterError> {
        match value {
            Json::Object(inner) if !inner.is_empty() => self.clauses(inner, &place, path, depth + 1),
            Json::Object(_) => Err(wrong(path, "must not be an empty object")),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
                self.count(path)?;
                Ok(vec![Clause::At(place, Test::Equal(value.clone()))])
            }
        }
    }

    fn list(
        &mut self,
        value: &Json,
        place: &[String],
        path: &str,
        depth: usize,
    ) -> Result<Vec<Vec<Clause>>, FilterError> {
        let items = value.as_array().filter(|items| !items.is_empty());
        let Some(items) = items else { return Err(wrong(path, "must be a list of at least one filter")) };
        let mut compiled = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let here = format!("{path}[{index}]");
            let Json::Object(inner) = item else { return Err(wrong(&here, "must be an object")) };
            if inner.is_empty() {
                return Err(wrong(&here, "must not be empty"));
            }
            compiled.push(self.clauses(inner, place, &here, depth + 1)?);
        }
        Ok(compiled)
    }

    fn count(&mut self, path: &str) -> Result<(), FilterError> {
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS {
            return Err(wrong(
                path,
                format!("is one condition too many; a filter may have {MAX_CONDITIONS}"),
            ));
        }
        Ok(())
    }
}

fn test(operator: &str, operand: &Json, path: &str) -> Result<Test, FilterError> {
    let text = || operand.as_str().map(str::to_owned).ok_or_else(|| wrong(path, "needs a text"));
    let list = || {
        let scalars = operand.as_array().and_then(Scalars::of);
        scalars.ok_or_else(|| wrong(path, "needs a list of texts, numbers, booleans or null"))
    };
    let order = |order| match operand {
        Json::Number(_) | Json::String(_) => Ok(Test::Order(order, operand.clone())),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
            Err(wrong(path, "needs a number or a text"))
        }
    };
    match operator {
        "$eq" => Ok(Test::Equal(operand.clone())),
        "$ne" => Ok(Test::NotEqual(operand.clone())),
        "$gt" => order(Order::Greater),
        "$gte" => order(Order::GreaterOrEqual),
        "$lt" => order(Order::Less),
        "$lte" => order(Order::LessOrEqual),
        "$in" => Ok(Test::In(list()?)),
        "$nin" => Ok(Test::NotIn(list()?)),
        "$exists" => operand.as_bool().map(Test::Exists).ok_or_else(|| wrong(path, "needs true or false")),
        "$startsWith" => Ok(Test::StartsWith(text()?)),
        "$endsWith" => Ok(Test::EndsWith(text()?)),
        "$contains" => Ok(Test::Contains(text()?)),
        _ => Err(wrong(
            path,
            "is not an operator; there are $eq $ne $gt $gte $lt $lte $in $nin $exists $startsWith $endsWith $contains \
             $and $or $not",
        )),
    }
}

fn hold(clauses: &[Clause], event: &Json) -> bool {
    clauses.iter().all(|clause| match clause {
        Clause::At(place, test) => holds_at(place, test, event),
        Clause::And(filters) => filters.iter().all(|filter| hold(filter, event)),
        Clause::Or(filters) => filters.iter().any(|filter| hold(filter, event)),
        Clause::Not(filter) => !hold(filter, event),
    })
}

fn holds_at(place: &[String], test: &Test, event: &Json) -> bool {
    let found = place.iter().try_fold(event, |value, key| value.get(key));
    match test {
        Test::Exists(wanted) => found.is_some() == *wanted,
        Test::NotEqual(unwanted) => !found.is_some_and(|value| fits(value, |item| same(item, unwanted))),
        Test::NotIn(unwanted) => !found.is_some_and(|value| fits(value, |item| unwanted.contain(item))),
        Test::Equal(wanted) => found.is_some_and(|value| fits(value, |item| same(item, wanted))),
        Test::In(wanted) => found.is_some_and(|value| fits(value, |item| wanted.contain(item))),
        Test::Order(order, bound) => {
            found.is_some_and(|value| fits(value, |item| ordered(*order, item, bound)))
        }
        Test::StartsWith(start) => texts(found, |text| text.starts_with(start.as_str())),
        Test::EndsWith(end) => texts(found, |text| text.ends_with(end.as_str())),
        Test::Contains(part) => texts(found, |text| text.contains(part.as_str())),
    }
}

/// Whether the value fits, or, where it is a list, one of its items.
fn fits(value: &Json, test: impl Fn(&Json) -> bool) -> bool {
    test(value) || value.as_array().is_some_and(|items| items.iter().any(test))
}

fn texts(found: Option<&Json>, test: impl Fn(&str) -> bool) -> bool {
    found.is_some_and(|value| fits(value, |item| item.as_str().is_some_and(&test)))
}

/// The same value with the members of every object in order of their names.
fn in_order(json: &Json) -> Json {
    match json {
        Json::Array(items) => Json::Array(items.iter().map(in_order).collect()),
        Json::Object(object) => {
            let mut members: Vec<_> =
                object.iter().map(|(name, value)| (name.clone(), in_order(value))).collect();
            members.sort_by_cached_key(|(name, _)| to_canonical(&Json::String(name.clone())));
            Json::Object(members.into_iter().collect())
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => json.clone(),
    }
}

/// Equality of JSON values, whatever the order of members.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, value)| b.iter().any(|(other, wanted)| key == other && same(value, wanted)))
        }
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (a, b) => a == b,
    }
}

/// Numbers among numbers, texts among texts (by code points, so that RFC 3339 times in UTC compare as times).
fn ordered(order: Order, value: &Json, bound: &Json) -> bool {
    let compared = match (value, bound) {
        (Json::Number(_), Json::Number(_)) => value.as_f64().partial_cmp(&bound.as_f64()),
        (Json::String(_), Json::String(_)) => value.as_str().zip(bound.as_str()).map(|(a, b)| a.cmp(b)),
        _ => None,
    };
    compared.is_some_and(|compared| match order {
        Order::Greater => compared.is_gt(),
        Order::GreaterOrEqual => compared.is_ge(),
        Order::Less => compared.is_lt(),
        Order::LessOrEqual => compared.is_le(),
    })
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
