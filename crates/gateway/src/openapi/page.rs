//! The page at `/docs`: the document as HTML that is readable without a script. The script only adds search, copying
//! and the choice of colours; nothing comes from elsewhere.

mod markup;
mod operation;

use std::fmt::Write;

use serde_json::Value;

use markup::{blocks, escape, inline};

/// The style sheet, served at `/docs/assets/docs.css`.
pub(super) const STYLE: &str = include_str!("page/docs.css");

/// The script, served at `/docs/assets/docs.js`.
pub(super) const SCRIPT: &str = include_str!("page/docs.js");

/// What the page may load: our own style sheet and our own script.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The methods in the order in which they are shown.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The whole page.
pub(super) fn render(document: &Value) -> String {
    let info = &document["info"];
    let title = info["title"].as_str().unwrap_or("API");
    let mut navigation = String::new();
    let mut sections = String::new();
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = tag["name"].as_str().unwrap_or_default();
        let anchor = format!("tag-{}", name.to_lowercase().replace(' ', "-"));
        let _ = write!(navigation, r##"<li><a href="#{anchor}">{}</a><ul>"##, escape(name));
        let _ = write!(
            sections,
            r#"<section id="{anchor}"><h2>{}</h2>{}"#,
            escape(name),
            blocks(tag["description"].as_str().unwrap_or_default())
        );
        for (path, method, operation) in operations(document, name) {
            let _ = write!(
                navigation,
                r##"<li data-for="{id}"><a href="#{id}"><span class="method {method}">{upper}</span> {summary}</a></li>"##,
                id = escape(operation["operationId"].as_str().unwrap_or_default()),
                upper = method.to_uppercase(),
                summary = inline(operation["summary"].as_str().unwrap_or_default()),
            );
            sections.push_str(&operation::article(document, path, method, operation));
        }
        navigation.push_str("</ul></li>");
        sections.push_str("</section>");
    }
    navigation.push_str(r##"<li><a href="#schemas">Schemas</a></li>"##);
    sections.push_str(&schemas(document));
    frame(title, info, &navigation, &sections)
}

fn frame(title: &str, info: &Value, navigation: &str, sections: &str) -> String {
    format!(
        concat!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
            "<meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>",
            "<link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/docs/assets/docs.css\">",
            "<script src=\"/docs/assets/docs.js\" defer></script></head><body>",
            "<a class=\"skip\" href=\"#main\">Skip to the content</a>",
            "<header><p class=\"title\"><a href=\"#main\">{title}</a> <span class=\"version\">{version}</span></p>",
            "<div class=\"tools\" hidden><label for=\"search\">Search</label>",
            "<input id=\"search\" type=\"search\" placeholder=\"path, field or error code\" autocomplete=\"off\" ",
            "spellcheck=\"false\" aria-keyshortcuts=\"/\"><button id=\"theme\" type=\"button\">Colours: system</button></div>",
            "<p id=\"found\" role=\"status\"></p><a class=\"json\" href=\"/openapi.json\">openapi.json</a></header>",
            "<div class=\"columns\"><nav aria-label=\"Operations\"><ul>{navigation}</ul></nav>",
            "<main id=\"main\"><h1>{title}</h1>{description}{sections}</main></div></body></html>"
        ),
        title = escape(title),
        version = escape(info["version"].as_str().unwrap_or_default()),
        description = blocks(info["description"].as_str().unwrap_or_default()),
        navigation = navigation,
        sections = sections,
    )
}

/// The operations with this tag, by path and method.
fn operations<'a>(
    document: &'a Value,
    tag: &'a str,
) -> impl Iterator<Item = (&'a str, &'static str, &'a Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(move |(path, item)| {
        METHODS.into_iter().filter_map(move |method| {
            let operation = item.get(method)?;
            let tagged = operation["tags"].as_array()?.iter().any(|there| there == tag);
            tagged.then_some((path.as_str(), method, operation))
        })
    })
}

fn schemas(document: &Value) -> String {
    let mut out = r#"<section id="schemas"><h2>Schemas</h2>"#.to_owned();
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let _ = write!(
            out,
            r#"<article class="schema" id="schema-{name}"><h3><code>{name}</code></h3>{description}{body}</article>"#,
            name = escape(name),
            description = blocks(schema["description"].as_str().unwrap_or_default()),
            body = match operation::fields(document, schema) {
                fields if fields.is_empty() =>
                    format!("<p class=\"type\">{}</p>", operation::type_of(schema)),
                fields => fields,
            },
        );
    }
    out.push_str("</section>");
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_operation_is_listed_and_shown_and_nothing_comes_from_elsewhere() {
        let document = json!({
            "info": {"title": "T & T", "version": "1", "description": "Hello."},
            "tags": [{"name": "Hooks", "description": "About `hooks`."}],
            "paths": {"/a/{id}": {"get": {"operationId": "show_a", "tags": ["Hooks"], "summary": "Show <a>",
                "responses": {"200": {"description": "Here.", "content": {"application/json": {"example": {"x": 1}}}}}}}},
            "components": {"schemas": {"A": {"type": "object", "properties": {"x": {"type": "integer"}}}}},
        });
        let page = render(&document);
        assert_eq!(page.matches(r##"href="#show_a""##).count(), 2, "{page}");
        assert!(
            page.contains(r#"<article class="operation" id="show_a""#) && page.contains("Show &lt;a&gt;")
        );
        assert!(page.contains("<h1>T &amp; T</h1>") && page.contains(r#"id="schema-A""#));
        for foreign in ["http://", "https://", "style=", "onclick", "<script>"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
