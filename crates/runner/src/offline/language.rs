//! Which language a text is in, and which one its reader speaks.

use whatlang::{Detector, Lang};

/// Shortest text whose language can be told, in bytes.
const MIN_TEXT: usize = 12;
/// How much of a text is looked at: more changes nothing.
const ENOUGH: usize = 2_048;

/// Languages that are told apart. Fewer than the detector knows: short texts are else taken for rare languages.
const KNOWN: [Lang; 12] = [
    Lang::Eng,
    Lang::Fra,
    Lang::Deu,
    Lang::Spa,
    Lang::Ita,
    Lang::Por,
    Lang::Nld,
    Lang::Pol,
    Lang::Rus,
    Lang::Ukr,
    Lang::Jpn,
    Lang::Cmn,
];

/// The language of a text; `None` when it is too short or says nothing.
pub(crate) fn of(text: &str) -> Option<Lang> {
    let text = &text[..text.floor_char_boundary(ENOUGH)];
    if text.trim().len() < MIN_TEXT || !text.contains(char::is_alphabetic) {
        return None;
    }
    Detector::with_allowlist(KNOWN.to_vec()).detect_lang(text)
}

/// The two letters of ISO 639-1, as lists of stop words are named.
pub(crate) fn code(lang: Lang) -> &'static str {
    match lang {
        Lang::Fra => "fr",
        Lang::Deu => "de",
        Lang::Spa => "es",
        Lang::Ita => "it",
        Lang::Por => "pt",
        Lang::Nld => "nl",
        Lang::Pol => "pl",
        Lang::Rus => "ru",
        Lang::Ukr => "uk",
        Lang::Jpn => "ja",
        Lang::Cmn => "zh",
        _ => "en",
    }
}

/// The language of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tongue {
    English,
    French,
}

/// Short words of instructions that only one of the two languages has.
const FRENCH: [&str; 22] = [
    "le", "la", "les", "des", "du", "une", "et", "ce", "cette", "ces", "en", "pour", "avec", "quel",
    "quelle", "suivant", "suivante", "texte", "analysez", "analyse", "résumez", "résume",
];
const ENGLISH: [&str; 16] = [
    "the",
    "this",
    "and",
    "of",
    "to",
    "following",
    "please",
    "what",
    "with",
    "from",
    "for",
    "is",
    "summarize",
    "analyze",
    "extract",
    "categorize",
];

impl Tongue {
    /// That of the instruction; when it does not tell, that of the text.
    pub(crate) fn of_report(instruction: &str, text: Option<Lang>) -> Self {
        let lower = instruction.to_lowercase();
        let (mut french, mut english) = (0, 0);
        for word in lower.split(|c: char| !c.is_alphabetic()) {
            french += usize::from(FRENCH.contains(&word));
            english += usize::from(ENGLISH.contains(&word));
        }
        match french.cmp(&english) {
            std::cmp::Ordering::Greater => Self::French,
            std::cmp::Ordering::Less => Self::English,
            std::cmp::Ordering::Equal if text == Some(Lang::Fra) => Self::French,
            std::cmp::Ordering::Equal => Self::English,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_apart() {
        for (text, expected) in [
            ("The delivery was late and nobody answered my e-mail.", Some(Lang::Eng)),
            ("La livraison était en retard et personne n'a répondu à mon courriel.", Some(Lang::Fra)),
            ("Die Lieferung kam zu spät und niemand hat auf meine Nachricht geantwortet.", Some(Lang::Deu)),
            ("El pedido llegó tarde y nadie respondió a mi correo electrónico.", Some(Lang::Spa)),
            ("", None),
            ("ok", None),
            ("12345 67890 11111 22222", None),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn results_speak_the_language_of_the_instruction() {
        for (instruction, text, expected) in [
            ("Summarize the following", Some(Lang::Fra), Tongue::English),
            ("Résumez le texte", Some(Lang::Eng), Tongue::French),
            ("Support", Some(Lang::Fra), Tongue::French),
            ("Support", None, Tongue::English),
        ] {
            assert_eq!(Tongue::of_report(instruction, text), expected, "{instruction}");
        }
    }
}
