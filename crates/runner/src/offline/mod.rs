//! Text work without a language model: the same text gives the same result, at once, for nothing.
//!
//! What is done follows from what the title and the instruction ask for ([`wish`]): how the text sounds, what it is about,
//! what it says in short, which kind of request it is and what could be answered, which addresses, dates and amounts stand in
//! it. English and French are understood in full; of other languages the parts that need no dictionary work. The result says
//! in its first line what it is: no language model has read the text.

mod facts;
mod french;
mod language;
mod material;
mod phrases;
mod report;
mod sentiment;
mod summary;
mod triage;
mod wish;
mod words;

use hookyard_domain::task::AgentType;

use crate::offline::{language::Tongue, material::Material, report::Report, words::Text};

/// Longest text that is looked at, in bytes: what is longer is looked at up to here, and the result says so.
const MAX_TEXT: usize = 128 << 10;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// The result, for people: some lines of text.
    pub result: String,
    /// One line of it.
    pub summary: String,
    tongue: Tongue,
}

/// The model that was asked for, when this is done instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instead {
    /// As the task names it.
    pub model: String,
    /// Whose it is, and for whom there is no key.
    pub provider: String,
}

impl Analysis {
    /// With a note behind the first line of what was asked for and could not be had.
    #[must_use]
    pub fn noting(mut self, agent: AgentType, instead: Option<&Instead>) -> Self {
        let notes = report::notes(self.tongue, agent, instead);
        if let Some(end) = self.result.find('\n').filter(|_| !notes.is_empty()) {
            self.result.insert_str(end, &notes);
        }
        self
    }
}

/// Does what a task asks for, as far as it can be done without understanding. Takes well below a millisecond for a page.
#[must_use]
pub fn analyse(title: &str, description: &str) -> Analysis {
    let material = Material::of(title, description);
    let cut = material.text.len() > MAX_TEXT;
    let body = &material.text[..material.text.floor_char_boundary(MAX_TEXT)];
    let wishes = wish::of(&material.instruction);
    let language = language::of(body);
    let tongue = Tongue::of_report(&material.instruction, language);
    let text = Text::new(body, language);
    let phrases = (wishes.topics || wishes.summary).then(|| phrases::of(&text, wishes.number_of_topics()));
    let sentiment = (wishes.sentiment || wishes.triage || wishes.reply).then(|| sentiment::of(&text));
    let facts = (wishes.facts || wishes.triage || wishes.reply).then(|| facts::of(body));
    let triage =
        (wishes.triage || wishes.reply).then(|| triage::of(&text, sentiment.as_ref(), facts.as_ref()));
    let summary = wishes.summary.then(|| summary::of(&text, wishes.sentences));
    report::write(
        tongue,
        &Report {
            language,
            sentiment: sentiment.filter(|_| wishes.sentiment || wishes.triage),
            topics: phrases.filter(|_| wishes.topics),
            summary,
            triage: triage.as_ref().filter(|_| wishes.triage),
            reply: triage.as_ref().filter(|_| wishes.reply),
            facts: facts.filter(|_| wishes.facts),
            cut,
        },
    )
}

#[cfg(test)]
mod tests;
