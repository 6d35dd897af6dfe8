//! How a model asks: its whole reply is one JSON object with `needs_input`.

use serde::Deserialize;
use serde_json::{Map, Value};

/// What a model wants to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The question, 1 to 4,000 characters.
    pub question: String,
    /// What may be answered, up to 20 texts; `None`: anything.
    pub choices: Option<Vec<String>>,
    /// JSON Schema of the answer.
    pub schema: Option<Map<String, Value>>,
}

/// Longest question, in characters.
const MAX_QUESTION: usize = 4_000;
/// Most choices.
const MAX_CHOICES: usize = 20;
/// Longest choice, in characters.
const MAX_CHOICE: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asking {
    needs_input: Asked,
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    #[serde(default)]
    choices: Option<Vec<String>>,
    #[serde(default)]
    schema: Option<Map<String, Value>>,
}

impl Question {
    /// Reads a reply; `None`: it is an answer. Models like to put JSON into a fence, so that one is taken off. What is not
    /// exactly a question is an answer, so that a task about such objects is not mistaken for one.
    #[must_use]
    pub fn read(reply: &str) -> Option<Self> {
        let text = unfenced(reply.trim());
        if !text.starts_with('{') {
            return None;
        }
        let Asking { needs_input: Asked { question, choices, schema } } = serde_json::from_str(text).ok()?;
        let question = question.trim().to_owned();
        if question.is_empty() || question.chars().count() > MAX_QUESTION {
            return None;
        }
        let choices = choices.filter(|choices| !choices.is_empty());
        let fits = |choice: &String| !choice.trim().is_empty() && choice.chars().count() <= MAX_CHOICE;
        if choices.as_ref().is_some_and(|choices| choices.len() > MAX_CHOICES || !choices.iter().all(fits)) {
            return None;
        }
        Some(Self { question, choices, schema })
    }

    /// As the model would have said it: the turn of the conversation when the answer is there.
    #[must_use]
    pub fn turn(question: &str) -> String {
        serde_json::json!({"needs_input": {"question": question}}).to_string()
    }
}

fn unfenced(text: &str) -> &str {
    let Some(inner) = text.strip_prefix("```").and_then(|text| text.strip_suffix("```")) else { return text };
    inner.strip_prefix("json").unwrap_or(inner).trim()
}

/// Text of a reply that may become a question: it is held back until that is clear, so that nobody who watches sees a
/// piece of JSON.
#[derive(Debug, Default)]
pub(crate) struct Held {
    text: String,
    decided: bool,
}

impl Held {
    /// Text that can be shown now.
    pub(crate) fn take(&mut self, text: &str) -> Option<String> {
        if self.decided {
            return Some(text.to_owned());
        }
        self.text.push_str(text);
        let begun = self.text.trim_start();
        if begun.is_empty() || begun.starts_with('{') || begun.starts_with("```") || "```".starts_with(begun)
        {
            return None;
        }
        self.decided = true;
        Some(std::mem::take(&mut self.text))
    }

    /// What was held back to the end.
    pub(crate) fn rest(self) -> Option<String> {
        (!self.text.is_empty()).then_some(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_that_is_exactly_a_question_is_one() {
        let plain = Question { question: "Which year?".to_owned(), choices: None, schema: None };
        for text in [
            r#"{"needs_input":{"question":"Which year?"}}"#,
            "  \n{\"needs_input\": {\"question\": \" Which year? \", \"choices\": []}}\n",
            "```json\n{\"needs_input\":{\"question\":\"Which year?\"}}\n```",
            "```\n{\"needs_input\":{\"question\":\"Which year?\",\"other\":1}}\n```",
        ] {
            assert_eq!(Question::read(text).as_ref(), Some(&plain), "{text}");
        }
        let full = r#"{"needs_input":{"question":"q","choices":["a","b"],"schema":{"type":"string"}}}"#;
        let question = Question::read(full).unwrap();
        assert_eq!(question.choices, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(question.schema.unwrap()["type"], "string");
    }

    #[test]
    fn everything_else_is_an_answer() {
        let long = format!(r#"{{"needs_input":{{"question":"{}"}}}}"#, "x".repeat(MAX_QUESTION + 1));
        for text in [
            "",
            "Which year?",
            r#"{"needs_input":{"question":""}}"#,
            r#"{"needs_input":"which year?"}"#,
            r#"{"needs_input":{"question":"q"},"and":1}"#,
            r#"Sure: {"needs_input":{"question":"q"}}"#,
            r#"{"needs_input":{"question":"q"}} Thank you."#,
            r#"{"needs_input":{"question":"q","choices":[""]}}"#,
            r#"{"needs_input":{"question":"q","choices":"a"}}"#,
            r#"{"other":1}"#,
            "```",
            &long,
        ] {
            assert_eq!(Question::read(text), None, "{text}");
        }
        let most = format!(r#"{{"needs_input":{{"question":"{}"}}}}"#, "é".repeat(MAX_QUESTION));
        assert!(Question::read(&most).is_some());
    }

    #[test]
    fn what_may_be_a_question_is_held_back_and_nothing_else() {
        let mut held = Held::default();
        assert_eq!(held.take(" "), None);
        assert_eq!(held.take("He"), Some(" He".to_owned()));
        assert_eq!(held.take("{"), Some("{".to_owned()));
        assert_eq!(held.rest(), None);
        let mut held = Held::default();
        for text in ["`", "``", "json {", "}"] {
            assert_eq!(held.take(text), None);
        }
        assert_eq!(held.rest(), Some("```json {}".to_owned()));
        let mut held = Held::default();
        assert_eq!(held.take("`"), None);
        assert_eq!(held.take("code` is"), Some("`code` is".to_owned()));
    }
}
