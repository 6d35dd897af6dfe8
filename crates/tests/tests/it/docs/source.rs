//! The sources of the product without their tests: the literals in them, and the messages that they log.
//!
//! It knows as much Rust as that needs: strings, raw strings, characters, comments and brackets.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The crates of the product.
const CRATES: [&str; 9] =
    ["hookyard", "gateway", "registry", "runner", "delivery", "messaging", "egress", "chassis", "domain"];

/// A file without comments and tests.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A part of a file.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// The value of a string literal.
    Literal(String),
    /// Any other character, also that of a character literal.
    Other(char),
}

impl Source {
    /// Every file of every crate of the product.
    pub(super) fn of_the_product() -> Vec<Self> {
        Self::of(&CRATES)
    }

    /// Every file of these crates.
    pub(super) fn of(crates: &[&str]) -> Vec<Self> {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut folders: Vec<PathBuf> = crates.iter().map(|name| all.join(name).join("src")).collect();
        let mut sources = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let test = name == "tests" || name == "tests.rs" || name.ends_with("_tests.rs");
                if path.is_dir() && !test {
                    folders.push(path);
                } else if name.ends_with(".rs") && !test {
                    let text = fs::read_to_string(&path).unwrap();
                    // Tests stand at the end of a file.
                    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                    sources.push(Self { path, text: product.to_owned() });
                }
            }
        }
        assert!(sources.len() > crates.len(), "{crates:?}");
        sources
    }

    /// The values of all string literals.
    pub(super) fn literals(&self) -> Vec<String> {
        let literal = |token| match token {
            Token::Literal(text) => Some(text),
            Token::Other(_) => None,
        };
        tokens(&self.text).into_iter().filter_map(literal).collect()
    }

    /// The messages of all calls of a macro of tracing, such as `warn!`: the last literal that is an argument itself.
    pub(super) fn messages(&self, macro_name: &str) -> Vec<String> {
        let tokens = tokens(&self.text);
        let called: Vec<char> = format!("{macro_name}(").chars().collect();
        let mut messages = Vec::new();
        for at in 0..tokens.len() {
            let here =
                tokens[at..].iter().zip(&called).filter(|(token, c)| **token == Token::Other(**c)).count();
            let within = |token: &Token| matches!(token, Token::Other(c) if c.is_alphanumeric() || *c == '_');
            if here < called.len() || at.checked_sub(1).is_some_and(|before| within(&tokens[before])) {
                continue;
            }
            let message = last_argument(&tokens[at + called.len()..]);
            messages.push(
                message.unwrap_or_else(|| panic!("{}: a {macro_name} without text", self.path.display())),
            );
        }
        messages
    }
}

/// The last literal that stands in no bracket of its own, up to the end of the call.
fn last_argument(tokens: &[Token]) -> Option<String> {
    let mut depth = 0;
    let mut last = None;
    for token in tokens {
        match token {
            Token::Literal(text) if depth == 0 => last = Some(text.clone()),
            Token::Other('(' | '[' | '{') => depth += 1,
            Token::Other(')') if depth == 0 => break,
            Token::Other(')' | ']' | '}') => depth -= 1,
            Token::Literal(_) | Token::Other(_) => {}
        }
    }
    last
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, behind)| behind);
        } else if let Some(raw) = raw(rest) {
            tokens.push(Token::Literal(raw.0.to_owned()));
            rest = raw.1;
        } else if let Some(literal) = rest.strip_prefix('"') {
            let (value, behind) = string(literal);
            tokens.push(Token::Literal(value));
            rest = behind;
        } else if let Some(length) = character(rest) {
            tokens.push(Token::Other('\''));
            rest = &rest[length..];
        } else {
            tokens.push(Token::Other(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    tokens
}

/// The value of `r#"…"#` at the beginning, and what follows.
fn raw(text: &str) -> Option<(&str, &str)> {
    let marked = text.strip_prefix('r')?;
    let marks = marked.len() - marked.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(marks));
    marked[marks..].strip_prefix('"')?.split_once(&end)
}

/// The value up to the closing quotation mark, and what follows. A line that ends in `\` goes on at its next word.
fn string(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, '\n')) => {
                    let blank = |(_, c): &(usize, char)| c.is_whitespace();
                    let mut ahead = chars.clone();
                    while ahead.next().as_ref().is_some_and(blank) {
                        chars.next();
                    }
                }
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                // Which character it stands for does not matter to anybody here.
                Some(_) | None => value.push('\u{fffd}'),
            },
            c => value.push(c),
        }
    }
    (value, "")
}

/// The length of a character literal at the beginning; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'').or_else(|| text.strip_prefix("b'"))?;
    let before = text.len() - inner.len();
    let end = match inner.strip_prefix('\\') {
        Some(escape) => 1 + escape.char_indices().skip(1).find(|(_, c)| *c == '\'')?.0,
        None => inner.chars().next()?.len_utf8(),
    };
    inner[end..].starts_with('\'').then_some(before + end + 1)
}

#[test]
fn messages_are_found_as_they_are_logged() {
    let text = r##"
        // warn!("in a comment")
        fn f<'a>(c: char) { if c == '"' || c == '\'' { tracing::warn!(why = g("no"), n = ?h, "one \
            `two`"); } }
        my_warn!("no"); warn!(x, r#"three"#); error!("four");
    "##;
    let source = Source { path: PathBuf::new(), text: text.to_owned() };
    assert_eq!(source.messages("warn!"), ["one `two`", "three"]);
    assert_eq!(source.messages("error!"), ["four"]);
    assert_eq!(source.literals(), ["no", "one `two`", "no", "three", "four"]);
}
