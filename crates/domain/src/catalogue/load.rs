//! How much a schema can make of one value: the most schemas that are applied to one place of a payload.
//!
//! A schema may apply many others to the same value (`anyOf`, `$ref`, …), and these again: thirty lines can ask for a thousand million
//! looks at one value. Whoever checks payloads would do all of them, so what a schema can ask for is bounded when it is taken.

use std::collections::{HashMap, HashSet};

use super::schema::{Violation, lookup, percent_decoded};
use crate::wire::{Json, MAX_DEPTH};

/// The most schemas that may be applied to one place of a payload.
const MAX_LOAD: u64 = 256;

/// References that lead to references, at most.
const MAX_CHAIN: usize = 100;

/// What a schema applies to the value that it is for, and to the values within.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Load {
    here: u64,
    /// By the name of a member (behind a dot), `*` for any member, `[]` for elements: the most at any place within.
    below: HashMap<String, u64>,
}

impl Load {
    fn one() -> Self {
        Self { here: 1, below: HashMap::new() }
    }

    /// Another schema for the same value.
    fn add(&mut self, other: Self) {
        self.here = self.here.saturating_add(other.here);
        for (place, load) in other.below {
            self.add_below(place, load);
        }
    }

    fn add_below(&mut self, place: String, load: u64) {
        let there = self.below.entry(place).or_default();
        *there = there.saturating_add(load);
    }

    /// At the place that gets the most.
    fn most(&self) -> u64 {
        let any = self.below.get("*").copied().unwrap_or(0);
        let below = self
            .below
            .iter()
            .map(|(place, load)| if place.starts_with('.') { load.saturating_add(any) } else { *load });
        below.max().unwrap_or(0).max(self.here)
    }
}

/// Refuses a schema that applies more than [`MAX_LOAD`] schemas to one place of some payload.
///
/// # Errors
/// As said.
pub(super) fn check(schema: &Json, anchors: &HashMap<String, &Json>) -> Result<(), Violation> {
    // What refers to itself is unfolded as often as a payload can be deep, or until that adds nothing.
    let mut assumed = HashMap::new();
    for _ in 0..MAX_DEPTH {
        let mut weigher = Weigher {
            root: schema,
            anchors,
            assumed: &assumed,
            known: HashMap::new(),
            open: HashSet::new(),
            circular: false,
            too_long: false,
        };
        let load = weigher.of(schema);
        if weigher.too_long {
            let reason = format!("has a chain of more than {MAX_CHAIN} references");
            return Err(Violation::at("", reason));
        }
        if load.most() > MAX_LOAD {
            let reason = format!("applies more than {MAX_LOAD} schemas to one value");
            return Err(Violation::at("", reason));
        }
        if !weigher.circular || weigher.known == assumed {
            return Ok(());
        }
        assumed = weigher.known;
    }
    Ok(())
}

struct Weigher<'a> {
    root: &'a Json,
    /// Schemas by their `$anchor`.
    anchors: &'a HashMap<String, &'a Json>,
    /// What the targets of references were found to ask for the last time.
    assumed: &'a HashMap<String, Load>,
    known: HashMap<String, Load>,
    /// Targets that are being weighed.
    open: HashSet<String>,
    circular: bool,
    too_long: bool,
}

impl Weigher<'_> {
    fn of(&mut self, schema: &Json) -> Load {
        let mut load = Load::one();
        // Of a member that has a name here it is not asked for.
        let additional = schema.get("additionalProperties").map_or(0, |more| self.of(more).most());
        if additional > 0 {
            load.add_below("*".to_owned(), additional);
        }
        for (name, value) in schema.as_object().into_iter().flat_map(|members| members.iter()) {
            let (list, members) = (value.as_array().unwrap_or_default(), value.as_object());
            let members = || members.into_iter().flat_map(|members| members.iter());
            match name.to_str_lossy().as_ref() {
                "$ref" | "$dynamicRef" => {
                    if let Some(target) = value.as_str() {
                        load.add(self.target(target));
                    }
                }
                "allOf" | "anyOf" | "oneOf" => list.iter().for_each(|part| load.add(self.of(part))),
                "not" | "if" | "then" | "else" => load.add(self.of(value)),
                "dependentSchemas" => members().for_each(|(_, part)| load.add(self.of(part))),
                "propertyNames" => load.here = load.here.saturating_add(self.of(value).most()),
                "properties" => {
                    for (name, part) in members() {
                        let part = self.of(part).most().saturating_sub(additional);
                        load.add_below(format!(".{}", name.to_str_lossy()), part);
                    }
                }
                "patternProperties" => {
                    members().for_each(|(_, part)| load.add_below("*".to_owned(), self.of(part).most()));
                }
                "unevaluatedProperties" => load.add_below("*".to_owned(), self.of(value).most()),
                "items" | "contains" | "unevaluatedItems" => {
                    load.add_below("[]".to_owned(), self.of(value).most());
                }
                "prefixItems" => {
                    let most = list.iter().map(|part| self.of(part).most()).max().unwrap_or(0);
                    load.add_below("[]".to_owned(), most);
                }
                _ => {}
            }
        }
        load
    }

    fn target(&mut self, reference: &str) -> Load {
        let Some(fragment) = reference.strip_prefix('#').and_then(percent_decoded) else {
            return Load::one();
        };
        if let Some(load) = self.known.get(&fragment) {
            return load.clone();
        }
        if self.open.contains(&fragment) {
            self.circular = true;
            return self.assumed.get(&fragment).cloned().unwrap_or_else(Load::one);
        }
        if self.open.len() >= MAX_CHAIN {
            self.too_long = true;
            return Load::one();
        }
        let target = lookup(self.root, &fragment).or_else(|| self.anchors.get(&fragment).copied());
        let Some(target) = target else { return Load::one() };
        self.open.insert(fragment.clone());
        let load = self.of(target);
        self.open.remove(&fragment);
        self.known.insert(fragment, load.clone());
        load
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue::schema, wire::parse};

    fn refused(text: &str) -> Option<String> {
        schema::check(&parse(text.as_bytes()).unwrap()).err().map(|error| error.to_string())
    }

    /// Each of so many definitions names the next twice.
    fn doubling(keyword: &str, times: usize) -> String {
        let definitions: Vec<String> = (0..times)
            .map(|n| {
                let next = format!(r##"{{"$ref":"#/$defs/d{}"}}"##, n + 1);
                format!(r#""d{n}":{{"{keyword}":[{next},{next}]}}"#)
            })
            .chain([format!(r#""d{times}":{{"type":"string"}}"#)])
            .collect();
        format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{}}}}}"##, definitions.join(","))
    }

    #[test]
    fn what_asks_for_too_much_is_refused() {
        let too_much = Some("applies more than 256 schemas to one value".to_owned());
        for keyword in ["allOf", "anyOf", "oneOf"] {
            // 1 + 2 of each reference and its target, doubled: 4 levels are 1 + 2 + 4 + … and 31 references.
            assert_eq!(refused(&doubling(keyword, 5)), None);
            assert_eq!(refused(&doubling(keyword, 30)), too_much);
        }
        let many = |count: usize| format!(r#"{{"anyOf":[{}]}}"#, vec!["{}"; count].join(","));
        assert_eq!(refused(&many(255)), None);
        assert_eq!(refused(&many(256)), too_much);
        let twice = r##"{"properties":{"a":{"$ref":"#"}}}"##;
        assert_eq!(refused(&format!(r#"{{"anyOf":[{twice},{twice}]}}"#)), too_much);
        let both = r##"{"properties":{"a":{"$ref":"#"}},"patternProperties":{"^a":{"$ref":"#"}}}"##;
        assert_eq!(refused(both), too_much);
        let anchored = r##"{"$ref":"#a","$defs":{"a":{"$anchor":"a","properties":{"x":{"allOf":[{"$ref":"#a"},{"$ref":"#a"}]}}}}}"##;
        assert_eq!(refused(anchored), too_much);
    }

    #[test]
    fn what_refers_to_itself_once_is_taken() {
        for schema in [
            r##"{"properties":{"left":{"$ref":"#"},"right":{"$ref":"#"},"all":{"type":"array","items":{"$ref":"#"}}}}"##,
            r##"{"anyOf":[{"type":"null"},{"properties":{"next":{"$ref":"#"}}}]}"##,
            r##"{"properties":{"a":{"$ref":"#"}},"additionalProperties":{"$ref":"#"}}"##,
            r##"{"anyOf":[{"properties":{"and":{"items":{"$ref":"#"}}}},{"properties":{"or":{"items":{"$ref":"#"}}}},{"properties":{"not":{"$ref":"#"}}}]}"##,
        ] {
            assert_eq!(refused(schema), None, "{schema}");
        }
    }

    #[test]
    fn a_chain_of_references_has_an_end() {
        let chain = |length: usize| {
            let definitions: Vec<String> = (0..length)
                .map(|n| format!(r##""d{n}":{{"properties":{{"x":{{"$ref":"#/$defs/d{}"}}}}}}"##, n + 1))
                .chain([format!(r#""d{length}":{{}}"#)])
                .collect();
            format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{}}}}}"##, definitions.join(","))
        };
        assert_eq!(refused(&chain(MAX_CHAIN - 1)), None);
        let told = refused(&chain(MAX_CHAIN)).unwrap_or_default();
        assert_eq!(told, "has a chain of more than 100 references");
    }
}
