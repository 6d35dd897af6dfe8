//! A text in sentences and words, with what the words are reduced to.

use std::{collections::HashSet, sync::LazyLock};

use rust_stemmers::{Algorithm, Stemmer};
use unicode_segmentation::UnicodeSegmentation;
use whatlang::Lang;

use crate::offline::language;

/// Longest word, in bytes: what is longer is no word.
const MAX_WORD: usize = 40;
/// Most words of a sentence; what is longer (a table, a log) is cut into pieces of so many.
const MAX_WORDS: usize = 60;
/// Most sentences that are looked at.
const MAX_SENTENCES: usize = 600;

/// A text that was taken apart.
pub(crate) struct Text<'a> {
    pub(crate) language: Option<Lang>,
    pub(crate) sentences: Vec<Sentence<'a>>,
}

/// A sentence.
pub(crate) struct Sentence<'a> {
    /// As it stands in the text, without blanks around it.
    pub(crate) text: &'a str,
    pub(crate) words: Vec<Word<'a>>,
}

/// A word.
pub(crate) struct Word<'a> {
    /// As it stands in the text.
    pub(crate) text: &'a str,
    /// In lower case, without an elided article.
    pub(crate) lower: String,
    /// What its forms have in common; the same as `lower` where no stemmer is known.
    pub(crate) stem: String,
    /// It carries no meaning of its own.
    pub(crate) is_stop: bool,
    /// Something other than a blank stands between the word before and this one.
    pub(crate) begins_phrase: bool,
}

static ENGLISH: LazyLock<HashSet<&'static str>> = LazyLock::new(|| stop_words("en"));
static FRENCH: LazyLock<HashSet<&'static str>> = LazyLock::new(|| stop_words("fr"));

fn stop_words(code: &str) -> HashSet<&'static str> {
    stop_words::lookup(code).unwrap_or_default().iter().copied().collect()
}

impl<'a> Text<'a> {
    pub(crate) fn new(text: &'a str, language: Option<Lang>) -> Self {
        let other;
        let stops = match language.map(language::code) {
            None | Some("en") => &*ENGLISH,
            Some("fr") => &*FRENCH,
            Some(code) => {
                other = stop_words(code);
                &other
            }
        };
        let stemmer = stemmer(language);
        let mut sentences = Vec::new();
        // Lines end sentences: titles, lists and greetings have no full stop.
        for line in text.lines() {
            for sentence in line.unicode_sentences() {
                take_apart(sentence, stops, stemmer.as_ref(), language, &mut sentences);
                if sentences.len() >= MAX_SENTENCES {
                    sentences.truncate(MAX_SENTENCES);
                    return Self { language, sentences };
                }
            }
        }
        Self { language, sentences }
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = &Word<'a>> {
        self.sentences.iter().flat_map(|sentence| &sentence.words)
    }
}

pub(crate) fn stemmer(language: Option<Lang>) -> Option<Stemmer> {
    let algorithm = match language.unwrap_or(Lang::Eng) {
        Lang::Eng => Algorithm::English,
        Lang::Fra => Algorithm::French,
        Lang::Deu => Algorithm::German,
        Lang::Spa => Algorithm::Spanish,
        Lang::Ita => Algorithm::Italian,
        Lang::Por => Algorithm::Portuguese,
        Lang::Nld => Algorithm::Dutch,
        Lang::Rus => Algorithm::Russian,
        _ => return None,
    };
    Some(Stemmer::create(algorithm))
}

fn take_apart<'a>(
    sentence: &'a str,
    stops: &HashSet<&'static str>,
    stemmer: Option<&Stemmer>,
    language: Option<Lang>,
    sentences: &mut Vec<Sentence<'a>>,
) {
    let mut words = Vec::new();
    let mut start = 0;
    let mut before = 0;
    for (at, text) in pieces(sentence) {
        if words.len() == MAX_WORDS {
            sentences.extend(finish(&sentence[start..at], std::mem::take(&mut words)));
            start = at;
        }
        let between = &sentence[before.max(start)..at];
        before = at + text.len();
        let mut lower = text.to_lowercase().replace('’', "'");
        if language == Some(Lang::Fra)
            && let Some((article, rest)) = lower.split_once('\'')
            && article.len() <= 2
            && !rest.is_empty()
        {
            lower = rest.to_owned();
        }
        let stem = stemmer.map_or_else(|| lower.clone(), |stemmer| stemmer.stem(&lower).into_owned());
        let is_stop = stops.contains(&*lower) || lower.chars().count() < 2;
        let begins_phrase = !between.chars().all(|c| c == ' ');
        words.push(Word { text, lower, stem, is_stop, begins_phrase });
    }
    sentences.extend(finish(&sentence[start..], words));
}

fn finish<'a>(text: &'a str, words: Vec<Word<'a>>) -> Option<Sentence<'a>> {
    let text = text.trim();
    (!words.is_empty() && !text.is_empty()).then_some(Sentence { text, words })
}

/// Words and where they begin. A hyphen or an apostrophe inside of one belongs to it.
fn pieces(sentence: &str) -> impl Iterator<Item = (usize, &str)> {
    let joins = |c: char| matches!(c, '\'' | '’' | '-');
    sentence
        .split(move |c: char| !c.is_alphanumeric() && !joins(c))
        .map(move |piece| piece.trim_matches(joins))
        .filter(|piece| !piece.is_empty() && piece.len() <= MAX_WORD)
        .map(move |piece| (piece.as_ptr() as usize - sentence.as_ptr() as usize, piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_apart_into_sentences_and_words() {
        let text = Text::new("Prices are too high.\n\nThe user's e-mail failed, twice!", Some(Lang::Eng));
        let sentences: Vec<&str> = text.sentences.iter().map(|sentence| sentence.text).collect();
        assert_eq!(sentences, ["Prices are too high.", "The user's e-mail failed, twice!"]);
        let words: Vec<(&str, &str, bool)> =
            text.words().map(|word| (word.text, &*word.stem, word.is_stop)).collect();
        assert_eq!(words[0], ("Prices", "price", false));
        assert!(words[2].2);
        assert_eq!(words[5].0, "user's");
        assert_eq!(words[6].0, "e-mail");
        assert!(text.sentences[1].words[4].begins_phrase && !text.sentences[1].words[3].begins_phrase);
    }

    #[test]
    fn articles_are_taken_off_french_words() {
        let text = Text::new("J’aime l'application d'hier", Some(Lang::Fra));
        let words: Vec<&str> = text.words().map(|word| &*word.lower).collect();
        assert_eq!(words, ["aime", "application", "hier"]);
    }

    #[test]
    fn long_lines_and_long_words_stay_bounded() {
        let line = "word ".repeat(MAX_WORDS * 2 + 1);
        let text = Text::new(&line, None);
        let lengths: Vec<usize> = text.sentences.iter().map(|sentence| sentence.words.len()).collect();
        assert_eq!(lengths, [MAX_WORDS, MAX_WORDS, 1]);
        assert!(Text::new(&"x".repeat(MAX_WORD + 1), None).sentences.is_empty());
        assert_eq!(Text::new(&"A b.\n".repeat(MAX_SENTENCES + 1), None).sentences.len(), MAX_SENTENCES);
    }
}
