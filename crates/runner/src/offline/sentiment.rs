//! How a text sounds: English by VADER (Hutto & Gilbert 2014), French by a word list of our own with the same rules.

use std::sync::LazyLock;

use vader_sentimental::SentimentIntensityAnalyzer;
use whatlang::Lang;

use crate::offline::{
    french,
    words::{Sentence, Text},
};

/// From here on a sentence counts as positive; below the negative of it as negative (VADER's own border).
const BORDER: f64 = 0.05;
/// A sentence that is worth being quoted.
const STRONG: f64 = 0.3;

static ENGLISH: LazyLock<SentimentIntensityAnalyzer<'static>> =
    LazyLock::new(SentimentIntensityAnalyzer::new);

/// How it sounds as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Positive,
    Negative,
    Mixed,
    Neutral,
}

/// How a text sounds.
pub(crate) struct Sentiment {
    /// `None`: there is no dictionary for the language.
    pub(crate) tone: Option<Tone>,
    /// From −1 to 1: the mean of the sentences that say something.
    pub(crate) score: f64,
    pub(crate) positive: usize,
    pub(crate) negative: usize,
    pub(crate) sentences: usize,
    /// The sentences that sound best and worst.
    pub(crate) best: Option<String>,
    pub(crate) worst: Option<String>,
}

pub(crate) fn of(text: &Text<'_>) -> Sentiment {
    let score: fn(&Sentence<'_>) -> f64 = match text.language {
        Some(Lang::Fra) => |sentence| french::score(&sentence.words),
        // Texts too short for the detector are mostly English here, and harmless if not.
        None | Some(Lang::Eng) => |sentence| ENGLISH.polarity_scores(sentence.text).compound,
        Some(_) => return Sentiment { tone: None, ..judge(text, &[]) },
    };
    let scores: Vec<f64> = text.sentences.iter().map(score).collect();
    judge(text, &scores)
}

fn judge(text: &Text<'_>, scores: &[f64]) -> Sentiment {
    let telling: Vec<f64> = scores.iter().copied().filter(|score| score.abs() >= BORDER).collect();
    let score = if telling.is_empty() { 0.0 } else { telling.iter().sum::<f64>() / telling.len() as f64 };
    let extreme = |sign: f64| {
        scores
            .iter()
            .enumerate()
            .filter(|(_, score)| **score * sign >= STRONG)
            .max_by(|(i, a), (j, b)| (**a * sign).total_cmp(&(**b * sign)).then(j.cmp(i)))
            .map(|(i, _)| text.sentences[i].text.to_owned())
    };
    let (best, worst) = (extreme(1.0), extreme(-1.0));
    let tone = match score {
        _ if best.is_some() && worst.is_some() && score.abs() < STRONG => Tone::Mixed,
        score if score >= BORDER => Tone::Positive,
        score if score <= -BORDER => Tone::Negative,
        _ => Tone::Neutral,
    };
    Sentiment {
        tone: Some(tone),
        score,
        positive: telling.iter().filter(|score| **score > 0.0).count(),
        negative: telling.iter().filter(|score| **score < 0.0).count(),
        sentences: scores.len(),
        best,
        worst,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_are_heard_in_both_languages() {
        use Lang::{Deu, Eng, Fra};
        for (language, text, tone) in [
            (Eng, "I love this product. The team was very helpful!", Some(Tone::Positive)),
            (Eng, "This is terrible. The app crashes and support is useless.", Some(Tone::Negative)),
            (Eng, "I love the design. The delivery was a horrible disaster.", Some(Tone::Mixed)),
            (Eng, "The meeting is on Monday at ten.", Some(Tone::Neutral)),
            (Eng, "It is not good.", Some(Tone::Negative)),
            (Fra, "J'adore ce produit. L'équipe était très sympathique !", Some(Tone::Positive)),
            (Fra, "C'est une catastrophe. Le service est nul et je suis très déçu.", Some(Tone::Negative)),
            (Fra, "Le design est magnifique. La livraison fut un cauchemar.", Some(Tone::Mixed)),
            (Fra, "La réunion a lieu lundi à dix heures.", Some(Tone::Neutral)),
            (Fra, "Ce n'est pas satisfaisant.", Some(Tone::Negative)),
            (Fra, "Je ne suis pas content du tout.", Some(Tone::Negative)),
            (Deu, "Das ist furchtbar schlecht.", None),
        ] {
            assert_eq!(of(&Text::new(text, Some(language))).tone, tone, "{text}");
        }
    }

    #[test]
    fn the_most_telling_sentences_are_quoted() {
        let text = "Good. The support team is absolutely wonderful! The invoice was wrong. This is a horrible, awful scam.";
        let sentiment = of(&Text::new(text, Some(Lang::Eng)));
        assert_eq!(sentiment.best.as_deref(), Some("The support team is absolutely wonderful!"));
        assert_eq!(sentiment.worst.as_deref(), Some("This is a horrible, awful scam."));
        assert_eq!(sentiment.sentences, 4);
    }
}
