//! What a task asks for, read from its words in English and French.

/// The parts of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) sentiment: bool,
    pub(crate) topics: bool,
    pub(crate) summary: bool,
    /// Which kind of request it is, and how urgent.
    pub(crate) triage: bool,
    /// A draft of an answer.
    pub(crate) reply: bool,
    /// Addresses, dates, amounts.
    pub(crate) facts: bool,
    /// How many sentences a summary should have, if it was said.
    pub(crate) sentences: Option<usize>,
}

impl Wishes {
    pub(crate) fn number_of_topics(self) -> usize {
        if self.triage { 5 } else { 8 }
    }

    fn any(self) -> bool {
        self.sentiment || self.topics || self.summary || self.triage || self.reply || self.facts
    }
}

/// Beginnings of words, in lower case without accents; what holds a blank is looked for anywhere.
const SENTIMENT: [&str; 12] = [
    "sentiment",
    "tone",
    "tonalite",
    "mood",
    "emotion",
    "satisf",
    "opinion",
    "humeur",
    "attitude",
    "positiv",
    "negativ",
    "ressenti",
];
const TOPICS: [&str; 9] =
    ["topic", "theme", "keyword", "key phrase", "key word", "sujet", "mots-cle", "mots cle", "subjects"];
const SUMMARY: [&str; 17] = [
    "summar",
    "resum",
    "key point",
    "main point",
    "points cle",
    "point cle",
    "tldr",
    "tl;dr",
    "condens",
    "shorten",
    "synthe",
    "digest",
    "recap",
    "highlights",
    "essentiel",
    "takeaway",
    "gist",
];
const TRIAGE: [&str; 18] = [
    "categor",
    "classif",
    "classe",
    "tri ",
    "triage",
    "priorit",
    "urgen",
    "route ",
    "routing",
    "label",
    "tag ",
    "assign",
    "ticket",
    "class ",
    "trier",
    "escalat",
    "department",
    "severity",
];
const REPLY: [&str; 12] = [
    "reply",
    "replies",
    "response",
    "respond",
    "answer",
    "draft",
    "repons",
    "repond",
    "redig",
    "suggest",
    "write back",
    "acknowledg",
];
const FACTS: [&str; 24] = [
    "extract",
    "extrai",
    "e-mail address",
    "email address",
    "adresses",
    "dates",
    "amount",
    "montant",
    "phone",
    "telephone",
    "contact detail",
    "contact info",
    "coordonnees",
    "find all",
    "list all",
    "url",
    "links",
    "liens",
    "entit",
    "invoice number",
    "order number",
    "numbers",
    "prices",
    "deadline",
];
const GENERAL: [&str; 10] =
    ["analy", "review", "examine", "assess", "evaluat", "insight", "look at", "evalue", "etudi", "read "];

/// What is asked for. Who asks for nothing that is known gets the usual: how it sounds, what it is about, what it says.
pub(crate) fn of(instruction: &str) -> Wishes {
    let folded = fold(instruction);
    let mut wishes = Wishes {
        sentiment: has(&folded, &SENTIMENT),
        topics: has(&folded, &TOPICS),
        summary: has(&folded, &SUMMARY),
        triage: has(&folded, &TRIAGE),
        reply: has(&folded, &REPLY),
        facts: has(&folded, &FACTS),
        sentences: None,
    };
    // "Extract topics" wants topics.
    if wishes.facts && (wishes.topics || wishes.summary) && !has(&folded, &FACTS[2..]) {
        wishes.facts = false;
    }
    // "Customer feedback", "analyze": the whole picture, unless something was asked for by name.
    if !wishes.any() {
        wishes = Wishes { sentiment: true, topics: true, summary: true, ..wishes };
    }
    // "Analyze the feedback and summarize key points" means both.
    if has(&folded, &["analy", "evaluat", "assess", "evalue"]) && !wishes.facts && !wishes.triage {
        (wishes.sentiment, wishes.topics) = (true, true);
    }
    wishes.sentences = number_of_sentences(&folded);
    wishes
}

/// Whether a text asks for something at all.
pub(crate) fn asks(text: &str) -> bool {
    let folded = fold(text);
    [&SENTIMENT[..], &TOPICS, &SUMMARY, &TRIAGE, &REPLY, &FACTS, &GENERAL]
        .iter()
        .any(|words| has(&folded, words))
}

/// In words with single blanks between them, one at each end.
fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len() + 2);
    folded.push(' ');
    for c in text.chars().flat_map(char::to_lowercase) {
        let c = plain(c);
        if c.is_alphanumeric() || c == '-' || c == ';' {
            folded.push(c);
        } else if !folded.ends_with(' ') {
            folded.push(' ');
        }
    }
    if !folded.ends_with(' ') {
        folded.push(' ');
    }
    folded
}

/// Without its accent.
pub(crate) fn plain(c: char) -> char {
    match c {
        'à' | 'â' | 'ä' | 'á' => 'a',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'î' | 'ï' | 'í' => 'i',
        'ô' | 'ö' | 'ó' => 'o',
        'ù' | 'û' | 'ü' | 'ú' => 'u',
        'ç' => 'c',
        c => c,
    }
}

/// A word of the text begins like this.
fn has(folded: &str, words: &[&str]) -> bool {
    words.iter().any(|word| folded.match_indices(word).any(|(at, _)| folded[..at].ends_with(' ')))
}

/// "In three sentences", "5 bullet points", "en 2 phrases".
fn number_of_sentences(folded: &str) -> Option<usize> {
    let words: Vec<&str> = folded.split_whitespace().collect();
    let unit = |word: &&str| {
        ["sentence", "phrase", "point", "bullet", "line", "ligne"].iter().any(|unit| word.starts_with(unit))
    };
    words.iter().enumerate().find_map(|(at, word)| {
        let number = match *word {
            "one" | "a" | "un" | "une" => 1,
            "two" | "deux" => 2,
            "three" | "trois" => 3,
            "four" | "quatre" => 4,
            "five" | "cinq" => 5,
            digits => digits.parse().ok()?,
        };
        // "Three short sentences", "2 phrases".
        let named = words[at + 1..].iter().take(2).any(unit);
        ((1..=20).contains(&number) && named).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_understood_in_both_languages() {
        let none = Wishes::default();
        let usual = Wishes { sentiment: true, topics: true, summary: true, ..none };
        for (instruction, expected) in [
            ("Analyze sentiment, extract topics", Wishes { sentiment: true, topics: true, ..none }),
            ("Categorize issue, suggest response", Wishes { triage: true, reply: true, ..none }),
            ("Summarize document", Wishes { summary: true, ..none }),
            ("Analyze the following customer feedback and summarize key points", usual),
            ("Résumez ce document en 2 phrases", Wishes { summary: true, sentences: Some(2), ..none }),
            ("Summarise in three short bullet points", Wishes { summary: true, sentences: Some(3), ..none }),
            ("Extract all e-mail addresses and dates", Wishes { facts: true, ..none }),
            ("Extrais les montants", Wishes { facts: true, ..none }),
            ("Quel est le ton ? Quel sentiment ?", Wishes { sentiment: true, ..none }),
            (
                "Classez cette demande par catégorie et rédigez une réponse",
                Wishes { triage: true, reply: true, ..none },
            ),
            ("Hello", usual),
            ("Analyse du retour client", usual),
            ("", usual),
        ] {
            assert_eq!(of(instruction), expected, "{instruction}");
        }
    }

    #[test]
    fn words_are_looked_for_at_their_beginning() {
        assert!(asks("Please summarize"));
        assert!(!asks("the assumary of it"));
        assert!(!asks("Hello team"));
        assert_eq!(number_of_sentences(&fold("in 21 sentences")), None);
        assert_eq!(number_of_sentences(&fold("in 20 sentences")), Some(20));
        assert_eq!(number_of_sentences(&fold("0 points")), None);
    }
}
