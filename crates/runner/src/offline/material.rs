//! What is to be done, and the text it is to be done with: tasks have both in one description.

use crate::offline::wish;

/// Longest head of a description that can be an instruction, in bytes.
const MAX_INSTRUCTION: usize = 500;

/// Shortest text between quotation marks that is taken for the material, in bytes.
const MIN_QUOTED: usize = 60;

/// The two parts of a task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Material<'a> {
    /// The title, and what of the description says what to do.
    pub(crate) instruction: String,
    /// The text.
    pub(crate) text: &'a str,
}

impl<'a> Material<'a> {
    /// The text is what stands in a fence, else between quotation marks after the instruction, else after the first colon
    /// or line; but only if what stands before it asks for something. Else it is everything.
    pub(crate) fn of(title: &str, description: &'a str) -> Self {
        let description = description.trim();
        let found =
            fenced(description).or_else(|| quoted(description)).or_else(|| after_the_head(description));
        let (head, text) = found.unwrap_or(("", description));
        let mut instruction = format!("{title}\n{head}");
        // A description that is nothing but an instruction, or begins with one.
        if head.is_empty() && !wish::asks(title) {
            instruction.push_str(&description[..description.floor_char_boundary(MAX_INSTRUCTION)]);
        }
        Self { instruction, text }
    }
}

fn fenced(description: &str) -> Option<(&str, &str)> {
    let (head, rest) = description.split_once("```")?;
    let (inner, _) = rest.rsplit_once("```")?;
    // The word behind the fence names a kind of text, such as `text`.
    let inner = inner
        .split_once('\n')
        .map_or(inner, |(word, text)| if word.trim().contains(char::is_whitespace) { inner } else { text });
    let inner = inner.trim();
    (!inner.is_empty()).then_some((bounded(head)?, inner))
}

fn quoted(description: &str) -> Option<(&str, &str)> {
    const MARKS: [(char, char); 4] = [('"', '"'), ('“', '”'), ('«', '»'), ('„', '“')];
    let head_end = description.floor_char_boundary(MAX_INSTRUCTION);
    let (at, open, close) = MARKS
        .iter()
        .filter_map(|(open, close)| description[..head_end].find(*open).map(|at| (at, *open, *close)))
        .min()?;
    let inner = &description[at + open.len_utf8()..];
    let end = inner.rfind(close)?;
    let (inner, tail) = (inner[..end].trim(), &inner[end..]);
    // A quotation at the end of a longer text is part of it.
    let is_material = inner.len() >= MIN_QUOTED && tail.len() < 40 && at <= inner.len();
    let head = bounded(&description[..at])?;
    (is_material && wish::asks(head)).then_some((head, inner))
}

fn after_the_head(description: &str) -> Option<(&str, &str)> {
    let head_end = description.floor_char_boundary(MAX_INSTRUCTION);
    let cuts = description[..head_end].char_indices().filter(|(at, c)| match c {
        '\n' => true,
        // Not the colon of a URL, a time or a placeholder.
        ':' | '：' => description[at + c.len_utf8()..].starts_with(char::is_whitespace),
        _ => false,
    });
    for (at, c) in cuts {
        let (head, text) = (description[..at].trim(), description[at + c.len_utf8()..].trim());
        if text.is_empty() || head.is_empty() {
            continue;
        }
        return (wish::asks(head) && !looks_like_a_field(head)).then_some((head, text));
    }
    None
}

/// `Subject: …` begins a text.
fn looks_like_a_field(head: &str) -> bool {
    !head.contains(char::is_whitespace)
        && matches!(
            head.to_lowercase().as_str(),
            "subject" | "objet" | "from" | "de" | "to" | "re" | "fwd" | "summary" | "feedback" | "issue"
        )
}

fn bounded(head: &str) -> Option<&str> {
    (head.len() <= MAX_INSTRUCTION).then_some(head.trim())
}

#[cfg(test)]
mod tests {
    use super::Material;

    #[test]
    fn the_text_stands_after_the_instruction() {
        let long = "The new dashboard is great, but the export fails every single time I try it.";
        for (title, description, instruction, text) in [
            ("Analyze", &*format!("Summarize key points: {long}"), "Analyze\nSummarize key points", long),
            ("x", &format!("Extract topics\n\n{long}"), "x\nExtract topics", long),
            (
                "x",
                &format!("Please summarize this:\n```text\n{long}\n```\nThanks"),
                "x\nPlease summarize this:",
                long,
            ),
            ("x", &format!("Résumez «{long}»."), "x\nRésumez", long),
            ("x", &format!("Summarize \"{long}\""), "x\nSummarize", long),
            ("Summarize", long, "Summarize\n", long),
            (
                "Summarize",
                "Subject: hello\n\nMy order is late",
                "Summarize\n",
                "Subject: hello\n\nMy order is late",
            ),
            ("Summarize", "Hello team: it works", "Summarize\n", "Hello team: it works"),
            (
                "Note",
                "Summarize https://example.com",
                "Note\nSummarize https://example.com",
                "Summarize https://example.com",
            ),
            ("Note", "", "Note\n", ""),
            ("Note", "Summarize:", "Note\nSummarize:", "Summarize:"),
        ] {
            let expected = Material { instruction: instruction.to_owned(), text };
            assert_eq!(Material::of(title, description), expected);
        }
    }
}
