//! HTML by hand: escaping, and the little Markdown that descriptions use (paragraphs, lists, `code`, **strong**). Not a
//! Markdown parser; whatever it does not know stays text.

use std::fmt::Write;

/// A text inside an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Paragraphs and lists, separated by empty lines. Lines that begin with `- ` are items; a line after an item that does
/// not begin so continues it.
pub(super) fn blocks(text: &str) -> String {
    let mut out = String::new();
    for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        if block.starts_with("- ") {
            let items: String =
                list_items(block).iter().map(|item| format!("<li>{}</li>", inline(item))).collect();
            let _ = write!(out, "<ul>{items}</ul>");
        } else {
            let _ = write!(out, "<p>{}</p>", inline(&block.replace('\n', " ")));
        }
    }
    out
}

fn list_items(block: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("- "), items.last_mut()) {
            (Some(item), _) => items.push(item.to_owned()),
            (None, Some(item)) => {
                item.push(' ');
                item.push_str(line.trim());
            }
            (None, None) => items.push(line.to_owned()),
        }
    }
    items
}

/// `code` and **strong** within a line. A mark without its partner stays as it is.
pub(super) fn inline(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('`').enumerate() {
        let last = text.matches('`').count() == at;
        match (at % 2 == 1, last) {
            (true, false) => {
                let _ = write!(out, "<code>{}</code>", escape(part));
            }
            (true, true) => {
                let _ = write!(out, "`{}", escape(part));
            }
            (false, _) => out.push_str(&strong(&escape(part))),
        }
    }
    out
}

fn strong(escaped: &str) -> String {
    let parts: Vec<&str> = escaped.split("**").collect();
    if parts.len().is_multiple_of(2) {
        return escaped.to_owned();
    }
    let wrapped = parts.iter().enumerate().map(|(at, part)| match at % 2 {
        1 => format!("<strong>{part}</strong>"),
        _ => (*part).to_owned(),
    });
    wrapped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_text_becomes_markup() {
        assert_eq!(escape(r#"<a href="x" on='y'>&"#), "&lt;a href=&quot;x&quot; on=&#39;y&#39;&gt;&amp;");
        assert_eq!(inline("`<b>` **<i>**"), "<code>&lt;b&gt;</code> <strong>&lt;i&gt;</strong>");
    }

    #[test]
    fn marks_without_a_partner_stay() {
        assert_eq!(inline("a ` b"), "a ` b");
        assert_eq!(inline("`a` and `b"), "<code>a</code> and `b");
        assert_eq!(inline("2 ** 3"), "2 ** 3");
    }

    #[test]
    fn blocks_are_paragraphs_and_lists() {
        assert_eq!(
            blocks("one\ntwo\n\n- a\n- b\n  more\n\n\nend"),
            concat!("<p>one two</p>", "<ul><li>a</li><li>b more</li></ul>", "<p>end</p>")
        );
    }
}
