//! The sentences that say most of a text, in its order: TextRank (Mihalcea & Tarau 2004) over the words they share.

use std::collections::HashMap;

use crate::offline::words::{Sentence, Text};

/// Longest sentence that is quoted whole, in characters.
const MAX_SENTENCE: usize = 400;
/// A sentence with fewer words of meaning is a greeting or a heading, if there are others.
const MIN_WORDS: usize = 3;
const ROUNDS: usize = 20;
const DAMPING: f64 = 0.85;
/// The first sentence of a text mostly says what it is about.
const FIRST: f64 = 1.3;

/// The sentences; as many as were asked for, else some that fit the text's length.
pub(crate) fn of(text: &Text<'_>, asked: Option<usize>) -> Vec<String> {
    let meaning = |sentence: &Sentence<'_>| sentence.words.iter().filter(|word| !word.is_stop).count();
    let mut candidates: Vec<&Sentence<'_>> =
        text.sentences.iter().filter(|sentence| meaning(sentence) >= MIN_WORDS).collect();
    if candidates.is_empty() {
        candidates = text.sentences.iter().collect();
    }
    let most = asked.unwrap_or_else(|| (candidates.len() / 4).clamp(2, 5));
    let mut chosen =
        if candidates.len() <= most { (0..candidates.len()).collect() } else { best(&candidates, most) };
    chosen.sort_unstable();
    chosen.into_iter().map(|at| shorten(candidates[at].text)).collect()
}

fn best(sentences: &[&Sentence<'_>], most: usize) -> Vec<usize> {
    let words = meanings(sentences);
    let edges = edges(&words);
    let strength: Vec<f64> = edges.iter().map(|of| of.iter().map(|(_, weight)| weight).sum()).collect();
    let mut rank = vec![1.0; sentences.len()];
    for _ in 0..ROUNDS {
        rank = edges
            .iter()
            .map(|of| {
                let flow: f64 = of.iter().map(|(from, weight)| rank[*from] * weight / strength[*from]).sum();
                1.0 - DAMPING + DAMPING * flow
            })
            .collect();
    }
    rank[0] *= FIRST;
    let mut order: Vec<usize> = (0..sentences.len()).collect();
    order.sort_by(|a, b| rank[*b].total_cmp(&rank[*a]).then(a.cmp(b)));
    // What was said is not said again in other words.
    let mut chosen: Vec<usize> = Vec::new();
    for at in order {
        if chosen.len() == most {
            break;
        }
        let again = |other: &usize| shared(&words[at], &words[*other]) * 10 >= words[at].len() * 7;
        if words[at].is_empty() || !chosen.iter().any(again) {
            chosen.push(at);
        }
    }
    chosen
}

/// Of each sentence the numbers of its words with meaning, sorted.
fn meanings<'a>(sentences: &[&'a Sentence<'_>]) -> Vec<Vec<usize>> {
    let mut numbers: HashMap<&'a str, usize> = HashMap::new();
    sentences
        .iter()
        .map(|sentence| {
            let mut words: Vec<usize> = sentence
                .words
                .iter()
                .filter(|word| !word.is_stop)
                .map(|word| {
                    let next = numbers.len();
                    *numbers.entry(&word.stem).or_insert(next)
                })
                .collect();
            words.sort_unstable();
            words.dedup();
            words
        })
        .collect()
}

/// Of each sentence the others that share words with it, and how much.
fn edges(words: &[Vec<usize>]) -> Vec<Vec<(usize, f64)>> {
    let mut edges = vec![Vec::new(); words.len()];
    for a in 0..words.len() {
        for b in a + 1..words.len() {
            let shared = shared(&words[a], &words[b]);
            if shared > 0 {
                let size = (words[a].len() as f64 + 1.0).ln() + (words[b].len() as f64 + 1.0).ln();
                let weight = shared as f64 / size;
                edges[a].push((b, weight));
                edges[b].push((a, weight));
            }
        }
    }
    edges
}

fn shared(a: &[usize], b: &[usize]) -> usize {
    let (mut a, mut b, mut count) = (a, b, 0);
    while let (Some((x, rest_a)), Some((y, rest_b))) = (a.split_first(), b.split_first()) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => a = rest_a,
            std::cmp::Ordering::Greater => b = rest_b,
            std::cmp::Ordering::Equal => {
                count += 1;
                (a, b) = (rest_a, rest_b);
            }
        }
    }
    count
}

/// A sentence on one line, not longer than is read at a glance.
pub(crate) fn shorten(sentence: &str) -> String {
    let line = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_SENTENCE) {
        None => line,
        Some((at, _)) => format!("{}…", line[..at].trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use whatlang::Lang;

    use super::*;

    const TEXT: &str = "Hello all,\nThe quarterly report shows that revenue grew by twelve percent. Revenue growth came \
        from the new subscription plans. The weather was nice. Subscription plans also reduced churn of customers. \
        We had lunch. Customers asked for better reporting in the subscription plans. The office plants were watered. \
        The revenue of the next quarter depends on subscription plans and churn.";

    #[test]
    fn the_sentences_that_say_most_are_chosen_in_order() {
        let text = Text::new(TEXT, Some(Lang::Eng));
        let summary = of(&text, None);
        assert_eq!(summary.len(), 2, "{summary:?}");
        assert!(
            summary
                .iter()
                .all(|sentence| sentence.to_lowercase().contains("subscription")
                    || sentence.contains("revenue")),
            "{summary:?}"
        );
        let three = of(&text, Some(3));
        let places: Vec<usize> = three.iter().map(|sentence| TEXT.find(&**sentence).unwrap()).collect();
        assert!(places.is_sorted() && three.len() == 3, "{three:?}");
    }

    #[test]
    fn short_texts_are_their_own_summary() {
        assert!(of(&Text::new("", None), None).is_empty());
        assert_eq!(of(&Text::new("Thanks!", None), None), ["Thanks!"]);
        let long = "word ".repeat(58);
        assert_eq!(of(&Text::new(&long, None), None), [long.trim()]);
        assert_eq!(shorten(&"x".repeat(MAX_SENTENCE)).chars().count(), MAX_SENTENCE);
        assert_eq!(shorten(&"x".repeat(MAX_SENTENCE + 1)).chars().count(), MAX_SENTENCE + 1);
    }

    #[test]
    fn the_same_sentence_is_not_said_twice() {
        let text = "The printer on floor two is broken again. The printer on floor two is broken again. \
                    Nobody repairs the broken printer. We need a new printer contract soon.";
        let summary = of(&Text::new(text, Some(Lang::Eng)), Some(2));
        assert_ne!(summary[0], summary[1]);
    }
}
