//! As much Markdown as the tests of the documents need: rows of tables, links and headings. Blocks of code are no text.

use std::collections::BTreeSet;

/// The lines outside of blocks of code.
fn lines(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            inside ^= fence;
            !inside && !fence
        })
        .collect()
}

/// The cells of every row of every table, trimmed. `\|` is a bar.
pub(super) fn rows(text: &str) -> Vec<Vec<String>> {
    let rows = lines(text).into_iter().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| {
        let row = row.replace("\\|", "\u{0}");
        row.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
    })
    .collect()
}

/// The text of a cell that is nothing but code, in one or two backticks.
pub(super) fn code(cell: &str) -> Option<&str> {
    let within = |marks: &str| cell.strip_prefix(marks)?.strip_suffix(marks);
    within("``").or_else(|| within("`").filter(|text| !text.contains('`')))
}

/// The targets of `[text](target)`.
pub(super) fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in lines(text) {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, behind)) = after.split_once(')') else { break };
            links.push(target.to_owned());
            rest = behind;
        }
    }
    links
}

/// The anchors of the headings, as GitHub makes them: a heading that comes again gets a number.
pub(super) fn headings(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in lines(text).into_iter().filter(|line| line.starts_with('#')) {
        let kept = line.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let again = (1..).map(|n| format!("{anchor}-{n}"));
        let free = std::iter::once(anchor.clone()).chain(again).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

#[test]
fn tables_links_and_headings_are_found() {
    let text = "# A b!\n```\n| `x` | no |\n[a](b)\n```\n| `k.l` | a \\| b |\n|---|---|\nsee [x](y.md#z) and [w](v)\n# A b!\n";
    assert_eq!(rows(text), [vec!["`k.l`", "a | b"], vec!["---", "---"]]);
    assert_eq!(links(text), ["y.md#z", "v"]);
    assert_eq!(headings(text).into_iter().collect::<Vec<_>>(), ["a-b", "a-b-1"]);
    for (cell, expected) in
        [("`a`", Some("a")), ("``a `b` c``", Some("a `b` c")), ("a `b`", None), ("`a` `b`", None)]
    {
        assert_eq!(code(cell), expected, "{cell}");
    }
}
