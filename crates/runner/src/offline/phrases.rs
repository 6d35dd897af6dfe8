//! What a text is about: runs of words between stop words and punctuation (RAKE, Rose et al. 2010), weighted by how often
//! their words come back in any form. RAKE's own weight prefers long runs that come once, which reads badly as a topic.

use std::collections::HashMap;

use crate::offline::words::{Text, Word};

/// Most words of a phrase.
const MAX_WORDS: usize = 3;

/// The phrases that tell most, best first; as they are first written.
pub(crate) fn of(text: &Text<'_>, most: usize) -> Vec<String> {
    let mut weights: HashMap<&str, f64> = HashMap::new();
    for word in text.words().filter(|word| !word.is_stop && is_telling(word)) {
        *weights.entry(&word.stem).or_default() += 1.0;
    }
    let mut phrases: HashMap<String, Phrase> = HashMap::new();
    let mut order = 0;
    for sentence in &text.sentences {
        let mut run: Vec<&Word<'_>> = Vec::new();
        for word in &sentence.words {
            if word.begins_phrase || word.is_stop || !is_telling(word) {
                collect(&mut run, &weights, &mut phrases, &mut order);
            }
            if !word.is_stop && is_telling(word) {
                run.push(word);
            }
        }
        collect(&mut run, &weights, &mut phrases, &mut order);
    }
    let mut ranked: Vec<Phrase> = phrases.into_values().collect();
    // Equal ones in the order of the text: the same text gives the same result.
    ranked.sort_by(|a, b| b.score().total_cmp(&a.score()).then(a.order.cmp(&b.order)));
    let mut chosen: Vec<Phrase> = Vec::new();
    for phrase in ranked {
        if chosen.len() == most {
            break;
        }
        // "Support" says nothing new after "customer support".
        let told = |stem: &String| chosen.iter().any(|other| other.stems.contains(stem));
        if !phrase.stems.iter().all(told) {
            chosen.push(phrase);
        }
    }
    chosen.into_iter().map(|phrase| phrase.written).collect()
}

struct Phrase {
    written: String,
    stems: Vec<String>,
    weight: f64,
    times: f64,
    order: usize,
}

impl Phrase {
    fn score(&self) -> f64 {
        // Two words tell more than one, three no more than two.
        let length = if self.stems.len() == 1 { 1.0 } else { 1.5 };
        self.weight / self.stems.len() as f64 * length * self.times.sqrt()
    }
}

fn collect(
    run: &mut Vec<&Word<'_>>,
    weights: &HashMap<&str, f64>,
    phrases: &mut HashMap<String, Phrase>,
    order: &mut usize,
) {
    for part in run.chunks(MAX_WORDS) {
        let stems: Vec<String> = part.iter().map(|word| word.stem.clone()).collect();
        let key = stems.join(" ");
        *order += 1;
        phrases
            .entry(key)
            .or_insert_with(|| Phrase {
                written: part.iter().map(|word| written(word)).collect::<Vec<_>>().join(" "),
                weight: stems.iter().filter_map(|stem| weights.get(&**stem)).sum(),
                stems,
                times: 0.0,
                order: *order,
            })
            .times += 1.0;
    }
    run.clear();
}

/// In lower case, unless it is an abbreviation or holds digits.
fn written(word: &Word<'_>) -> String {
    let upper = word.text.chars().filter(|c| c.is_uppercase()).count();
    if upper > 1 { word.text.to_owned() } else { word.lower.clone() }
}

fn is_telling(word: &Word<'_>) -> bool {
    word.lower.chars().count() > 2 && word.lower.chars().any(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use whatlang::Lang;

    use super::*;

    #[test]
    fn what_comes_back_in_any_form_is_a_topic() {
        let text = Text::new(
            "The pricing is confusing. I love the mobile app, but pricing for the mobile app went up. \
             Prices went up twice! The mobile app crashes.",
            Some(Lang::Eng),
        );
        let topics = of(&text, 3);
        assert_eq!(topics[0], "mobile app", "{topics:?}");
        assert!(topics.iter().any(|topic| topic.contains("pric")), "{topics:?}");
    }

    #[test]
    fn no_more_than_asked_for_and_nothing_from_nothing() {
        assert!(of(&Text::new("", None), 5).is_empty());
        assert!(of(&Text::new("it is what it is", Some(Lang::Eng)), 5).is_empty());
        let text = Text::new("alpha. beta. gamma. delta.", Some(Lang::Eng));
        assert_eq!(of(&text, 2), ["alpha", "beta"]);
    }
}
