//! The command line of a task: words in which names in braces stand for what the task is. No shell sees it, so a title is
//! one word or a part of one, whatever stands in it.

use anyhow::Context as _;
use serde_json::Value;

/// The names that are replaced.
const NAMES: [&str; 5] = ["title", "task_id", "run_id", "agent_type", "model"];

/// A command line with names to be replaced. At least one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    program: String,
    arguments: Vec<String>,
}

impl Template {
    /// Splits a command line as a shell would.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut words = shell_words::split(text).context("a quotation mark is not closed")?.into_iter();
        let program = words.next().filter(|program| !program.is_empty()).context("there is no command")?;
        Ok(Self { program, arguments: words.collect() })
    }

    /// The program, which no task changes, and its arguments for a task.
    pub(super) fn fill(&self, task: &Value) -> (&str, Vec<String>) {
        (&self.program, self.arguments.iter().map(|word| filled(word, task)).collect())
    }
}

/// One pass: what is put in is not looked at again.
fn filled(word: &str, task: &Value) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let name =
            NAMES.iter().find(|name| after.strip_prefix(**name).is_some_and(|rest| rest.starts_with('}')));
        match name {
            Some(name) => {
                out.push_str(task[*name].as_str().unwrap_or_default());
                rest = &after[name.len() + 1..];
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_replaced_within_their_word_and_only_once() {
        let task = json!({"title": "rm -rf / ; {task_id} $(id)", "task_id": "t-1", "run_id": "r-1", "agent_type": "build"});
        for (text, expected) in [
            ("do {title}", vec!["rm -rf / ; {task_id} $(id)"]),
            ("do --name='{agent_type} of {task_id}' {run_id}", vec!["--name=build of t-1", "r-1"]),
            ("do {} {x} {title {{task_id}} }", vec!["{}", "{x}", "{title", "{t-1}", "}"]),
            ("do {model}", vec![""]),
            ("do", vec![]),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(
                template.fill(&task),
                ("do", expected.iter().map(|word| (*word).to_owned()).collect()),
                "{text}"
            );
        }
        // The program is the operator's.
        assert_eq!(Template::parse("{title} x").unwrap().fill(&task).0, "{title}");
    }

    #[test]
    fn there_has_to_be_a_command() {
        for bad in ["", "  ", "'' x", "do 'x", "do \"x"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
