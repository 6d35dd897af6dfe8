//! Which kind of request a text is, how urgent it is, who should have it, and what could be answered at first.

mod signs;

use crate::offline::{
    facts::Facts,
    sentiment::{Sentiment, Tone},
    wish::plain,
    words::Text,
};

use signs::{URGENT, WORDS};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    Billing,
    Technical,
    Account,
    Delivery,
    Cancellation,
    Feature,
    Sales,
    Praise,
    Complaint,
    General,
}

/// How soon it should be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    High,
    Normal,
    Low,
}

/// What was decided, and by what.
#[derive(Debug)]
pub(crate) struct Triage {
    pub(crate) category: Category,
    /// The runner-up, when there is much of it.
    pub(crate) second: Option<Category>,
    pub(crate) urgency: Urgency,
    /// The words that decided, as they are written.
    pub(crate) because: Vec<String>,
    /// Who wrote, if it can be told.
    pub(crate) name: Option<String>,
    /// The order or invoice it is about.
    pub(crate) reference: Option<String>,
    pub(crate) upset: bool,
}

pub(crate) fn of(text: &Text<'_>, sentiment: Option<&Sentiment>, facts: Option<&Facts>) -> Triage {
    let folded = fold(text);
    let mut counts: Vec<(Category, usize)> = Vec::new();
    let mut because: Vec<String> = Vec::new();
    for (category, words) in WORDS {
        let found: Vec<(usize, &str)> = words.iter().map(|word| (times(&folded, word), *word)).collect();
        counts.push((category, found.iter().map(|(times, _)| (*times).min(3)).sum()));
    }
    // The first of equal ones: they are in the order in which they need somebody.
    let (best, most) = counts.iter().fold((Category::General, 0), |(best, most), (category, count)| {
        if *count > most { (*category, *count) } else { (best, most) }
    });
    let second = counts
        .iter()
        .filter(|(category, count)| *category != best && *count >= 2 && *count * 2 >= most)
        .max_by_key(|(_, count)| *count)
        .map(|(category, _)| *category);
    let tone = sentiment.and_then(|sentiment| sentiment.tone);
    let upset = tone == Some(Tone::Negative) && sentiment.is_some_and(|sentiment| sentiment.score <= -0.3);
    let category = match best {
        Category::General | Category::Praise if upset => Category::Complaint,
        Category::General if tone == Some(Tone::Positive) && sentiment.is_some_and(|s| s.score > 0.5) => {
            Category::Praise
        }
        category => category,
    };
    if let Some((_, words)) = WORDS.iter().find(|(of, _)| *of == category) {
        because.extend(
            words.iter().filter(|word| times(&folded, word) > 0).take(4).map(|word| written(text, word)),
        );
    }
    let pressing: Vec<&str> = URGENT.into_iter().filter(|word| times(&folded, word) > 0).collect();
    let urgency = match category {
        _ if !pressing.is_empty() => Urgency::High,
        Category::Praise | Category::Feature if !upset => Urgency::Low,
        Category::Technical | Category::Account | Category::Billing if upset => Urgency::High,
        _ => Urgency::Normal,
    };
    because.extend(pressing.iter().take(2).map(|word| written(text, word)));
    because.dedup();
    Triage {
        category,
        second,
        urgency,
        because,
        name: name(text),
        reference: facts.and_then(|facts| facts.references.first().cloned()),
        upset,
    }
}

/// In lower case without accents, one blank between words and at both ends.
fn fold(text: &Text<'_>) -> String {
    let mut folded = String::from(" ");
    for sentence in &text.sentences {
        for c in sentence.text.chars().flat_map(char::to_lowercase).map(plain) {
            let c = if c == '’' { '\'' } else { c };
            if c.is_alphanumeric() || matches!(c, '\'' | '-') {
                folded.push(c);
            } else if !folded.ends_with(' ') {
                folded.push(' ');
            }
        }
        if !folded.ends_with(' ') {
            folded.push(' ');
        }
    }
    folded
}

fn times(folded: &str, word: &str) -> usize {
    folded.match_indices(word).filter(|(at, _)| folded[..*at].ends_with([' ', '\''])).count()
}

/// The word of the text that begins like this; for several words, these.
fn written(text: &Text<'_>, beginning: &str) -> String {
    let begins = |word: &str| word.chars().map(plain).collect::<String>().starts_with(beginning);
    text.words()
        .find(|word| begins(&word.lower))
        .map_or_else(|| beginning.to_owned(), |word| word.lower.clone())
}

/// Behind "my name is" or "From:", or in the line after a greeting at the end.
fn name(text: &Text<'_>) -> Option<String> {
    const CLOSINGS: [&str; 13] = [
        "regards",
        "best",
        "best regards",
        "kind regards",
        "thanks",
        "thank you",
        "cheers",
        "sincerely",
        "cordialement",
        "bien cordialement",
        "merci",
        "many thanks",
        "bien à vous",
    ];
    let told = text.sentences.iter().find_map(|sentence| {
        let lower = sentence.text.to_lowercase();
        ["my name is ", "name: ", "from: ", "je m'appelle ", "nom : ", "de : "].iter().find_map(|before| {
            // Lower case may be longer or shorter than the text: only where both agree.
            let at = lower.find(before)? + before.len();
            sentence.text.get(at..).filter(|_| lower.len() == sentence.text.len())
        })
    });
    let signed = || {
        let mut lines = text.sentences.iter().rev().take(3).rev().peekable();
        while let Some(line) = lines.next() {
            let closing = line.text.trim_end_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
            if CLOSINGS.contains(&&*closing) {
                return lines.peek().map(|next| next.text);
            }
        }
        None
    };
    let name: Vec<&str> = told
        .or_else(signed)?
        .split_whitespace()
        .take(2)
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .take_while(|word| word.chars().next().is_some_and(char::is_uppercase) && word.chars().count() <= 20)
        .collect();
    (!name.is_empty()).then(|| name.join(" "))
}

#[cfg(test)]
mod tests {
    use whatlang::Lang;

    use super::*;
    use crate::offline::{facts, sentiment};

    fn triage(text: &str, language: Lang) -> Triage {
        let taken = Text::new(text, Some(language));
        of(&taken, Some(&sentiment::of(&taken)), Some(&facts::of(text)))
    }

    #[test]
    fn requests_are_told_apart() {
        use Category::{
            Account, Billing, Cancellation, Complaint, Delivery, Feature, General, Praise, Sales, Technical,
        };
        for (text, language, category) in [
            ("I was charged twice on my last invoice.", Lang::Eng, Billing),
            ("The export fails with an error and the app crashes.", Lang::Eng, Technical),
            ("I forgot my password and my account is locked.", Lang::Eng, Account),
            ("Where is my package? The tracking shows nothing.", Lang::Eng, Delivery),
            ("Please cancel my subscription and refund me.", Lang::Eng, Cancellation),
            ("It would be great if you had a dark mode feature.", Lang::Eng, Feature),
            ("Can we get a demo and a quote for 50 seats?", Lang::Eng, Sales),
            ("Great job, I love the new design!", Lang::Eng, Praise),
            ("You people are horrible and rude, I am angry.", Lang::Eng, Complaint),
            ("Where are you located?", Lang::Eng, General),
            ("Ma facture est fausse, le montant du paiement aussi.", Lang::Fra, Billing),
            ("Je n'arrive pas à me connecter, mon mot de passe est refusé.", Lang::Fra, Account),
            ("Mon colis n'est pas arrivé, la livraison était prévue hier.", Lang::Fra, Delivery),
        ] {
            assert_eq!(triage(text, language).category, category, "{text}");
        }
    }

    #[test]
    fn urgency_names_and_references_are_read() {
        let text =
            "Hello,\nour production is down, please help ASAP. Ticket #4711-A.\n\nBest regards,\nJane Doe";
        let triage = triage(text, Lang::Eng);
        assert_eq!((triage.urgency, triage.name.as_deref()), (Urgency::High, Some("Jane Doe")));
        assert_eq!(triage.reference.as_deref(), Some("4711-A"));
        assert!(triage.because.iter().any(|word| word == "asap"), "{:?}", triage.because);
    }

    #[test]
    fn a_name_is_only_taken_where_one_stands() {
        for (text, expected) in [
            ("My name is Paul Martin and I need help.", Some("Paul Martin")),
            ("Je m'appelle Zoé. Aidez-moi.", Some("Zoé")),
            ("Please help. Thanks", None),
            ("Thanks,\nthe whole team", None),
            ("", None),
        ] {
            assert_eq!(name(&Text::new(text, None)).as_deref(), expected, "{text}");
        }
    }
}
