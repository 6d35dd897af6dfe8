//! One operation of the document as HTML: what it is for, how to call it, what it answers.

use std::fmt::Write;

use serde_json::Value;

use super::markup::{blocks, escape, inline};

/// The article of one operation.
pub(super) fn article(document: &Value, path: &str, method: &str, operation: &Value) -> String {
    let id = text(operation, "operationId");
    let mut out = String::new();
    let _ = write!(
        out,
        concat!(
            r##"<article class="operation" id="{id}" data-search="{search}">"##,
            r##"<h3><a href="#{id}"><span class="method {method}">{upper}</span> <code class="path">{path}</code></a></h3>"##,
            r##"<p class="summary">{summary}</p>{description}"##
        ),
        id = escape(id),
        search = escape(&searchable(path, method, operation)),
        method = escape(method),
        upper = escape(&method.to_uppercase()),
        path = escape(path),
        summary = inline(text(operation, "summary")),
        description = blocks(text(operation, "description")),
    );
    out.push_str(&access(operation));
    out.push_str(&parameters(operation));
    out.push_str(&request_body(document, operation));
    let _ = write!(out, "<h4>Example</h4>{}", code(&curl(path, method, operation)));
    out.push_str(&responses(operation));
    out.push_str("</article>");
    out
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// What the search looks at, in lower case.
fn searchable(path: &str, method: &str, operation: &Value) -> String {
    let mut words = vec![method, path, text(operation, "summary"), text(operation, "description")];
    let codes = operation["x-errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    words.extend(codes);
    words.extend(
        operation["parameters"].as_array().into_iter().flatten().map(|parameter| text(parameter, "name")),
    );
    words.join(" ").to_lowercase()
}

fn access(operation: &Value) -> String {
    match operation["x-scope"].as_str() {
        Some(scope) => format!(
            r#"<p class="access">Needs a credential with the scope {}.</p>"#,
            inline(&format!("`{scope}`"))
        ),
        None if operation["security"].as_array().is_some_and(Vec::is_empty) => {
            r#"<p class="access">Public: no credential needed.</p>"#.to_owned()
        }
        None => r#"<p class="access">Needs a credential, any scope.</p>"#.to_owned(),
    }
}

fn parameters(operation: &Value) -> String {
    let Some(parameters) = operation["parameters"].as_array().filter(|all| !all.is_empty()) else {
        return String::new();
    };
    let rows: String = parameters
        .iter()
        .map(|parameter| {
            let required = if parameter["required"] == true { " <em>required</em>" } else { "" };
            format!(
                "<tr><td><code>{}</code>{required}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(text(parameter, "name")),
                escape(text(parameter, "in")),
                type_of(&parameter["schema"]),
                inline(text(parameter, "description")),
            )
        })
        .collect();
    format!("<h4>Parameters</h4>{}", table("Parameters", &["Name", "In", "Type", "Meaning"], &rows))
}

/// A table that scrolls sideways by keyboard, too, when it is wider than the screen.
pub(super) fn table(label: &str, heads: &[&str], rows: &str) -> String {
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    format!(
        r#"<div class="scroll" tabindex="0" role="group" aria-label="{label}"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"#
    )
}

/// A schema in a word or two, with a link when it is one of the named ones.
pub(super) fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return format!(r##"<a href="#schema-{0}">{0}</a>"##, escape(name));
    }
    for (union, word) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if let Some(parts) = schema[union].as_array() {
            return parts.iter().map(type_of).collect::<Vec<_>>().join(word);
        }
    }
    let names: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    let mut out = names
        .iter()
        .map(|name| match *name {
            "array" => format!("array of {}", type_of(&schema["items"])),
            other => escape(other),
        })
        .collect::<Vec<_>>()
        .join(" or ");
    if out.is_empty() {
        out.push_str("any");
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values
            .iter()
            .filter_map(Value::as_str)
            .map(|value| format!("<code>{}</code>", escape(value)))
            .collect();
        let _ = write!(out, ": {}", values.join(", "));
    } else if let Some(format) = schema["format"].as_str() {
        let _ = write!(out, " ({})", escape(format));
    }
    out
}

fn request_body(document: &Value, operation: &Value) -> String {
    let body = &operation["requestBody"];
    let content = &body["content"]["application/json"];
    if content.is_null() {
        return String::new();
    }
    let fields = fields(document, &content["schema"]);
    format!(
        "<h4>Body ({})</h4>{}{fields}",
        if body["required"] == true { "JSON" } else { "JSON, optional" },
        blocks(text(body, "description")),
    )
}

/// The members of an object schema as a table, those of the schemas it is made of included.
pub(super) fn fields(document: &Value, schema: &Value) -> String {
    let mut rows = String::new();
    collect(document, schema, &mut rows);
    if rows.is_empty() { rows } else { table("Fields", &["Field", "Type", "Meaning"], &rows) }
}

fn collect(document: &Value, schema: &Value, rows: &mut String) {
    // Our schemas do not contain themselves.
    if let Some(named) =
        schema["$ref"].as_str().and_then(|reference| document.pointer(reference.strip_prefix('#')?))
    {
        return collect(document, named, rows);
    }
    // A body that may be left out is one of: nothing, or the schema.
    for parts in ["allOf", "oneOf"].iter().filter_map(|name| schema[name].as_array()) {
        parts.iter().for_each(|part| collect(document, part, rows));
    }
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let mark = if required.contains(&name.as_str()) { " <em>required</em>" } else { "" };
        let _ = write!(
            rows,
            "<tr><td><code>{}</code>{mark}</td><td>{}</td><td>{}</td></tr>",
            escape(name),
            type_of(property),
            inline(&text(property, "description").replace('\n', " ")),
        );
    }
}

fn responses(operation: &Value) -> String {
    let Some(responses) = operation["responses"].as_object() else { return String::new() };
    let mut out = "<h4>Answers</h4>".to_owned();
    for (status, response) in responses {
        let good = status.starts_with('2');
        let examples: String = examples(response)
            .iter()
            .map(|(name, example)| {
                let name = if name.is_empty() { String::new() } else { format!("<p>{}</p>", inline(name)) };
                format!("{name}{}", code(&pretty(example)))
            })
            .collect();
        let _ = write!(
            out,
            r#"<details{open}><summary><span class="status {class}">{status}</span> {description}</summary>{body}{examples}</details>"#,
            open = if good { " open" } else { "" },
            class = if good { "good" } else { "bad" },
            status = escape(status),
            description = inline(text(response, "description")),
            body = answer_type(response),
        );
    }
    out
}

fn answer_type(response: &Value) -> String {
    let schema = &response["content"]["application/json"]["schema"];
    if schema.is_null() { String::new() } else { format!("<p class=\"type\">JSON: {}</p>", type_of(schema)) }
}

/// The examples of a response with their summaries.
fn examples(response: &Value) -> Vec<(String, Value)> {
    let content = &response["content"]["application/json"];
    if let Some(named) = content["examples"].as_object() {
        let summary = |name: &String, example: &Value| match example["summary"].as_str() {
            Some(summary) => format!("`{name}`: {summary}"),
            None => format!("`{name}`"),
        };
        return named
            .iter()
            .map(|(name, example)| (summary(name, example), example["value"].clone()))
            .collect();
    }
    match &content["example"] {
        Value::Null => Vec::new(),
        example => vec![(String::new(), example.clone())],
    }
}

/// A text to copy; the button is added by the script, so that without it nothing useless is shown.
pub(super) fn code(text: &str) -> String {
    format!(r#"<div class="sample"><pre tabindex="0"><code>{}</code></pre></div>"#, escape(text))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A command that works as it stands once `HOOKYARD_URL` and `HOOKYARD_KEY` are set.
fn curl(path: &str, method: &str, operation: &Value) -> String {
    let mut url = path.to_owned();
    let mut query: Vec<String> = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = text(parameter, "name");
        let example = match &parameter["example"] {
            Value::String(example) => example.clone(),
            Value::Null => continue,
            other => other.to_string(),
        };
        match text(parameter, "in") {
            "path" => url = url.replace(&format!("{{{name}}}"), &example),
            "query" => {
                let value: String = url::form_urlencoded::byte_serialize(example.as_bytes()).collect();
                query.push(format!("{name}={value}"));
            }
            _ => {}
        }
    }
    if !query.is_empty() {
        url = format!("{url}?{}", query.join("&"));
    }
    let verb = if method == "get" { String::new() } else { format!(" -X {}", method.to_uppercase()) };
    let mut command = format!("curl{verb} \"$HOOKYARD_URL{url}\"");
    if !operation["security"].as_array().is_some_and(Vec::is_empty) {
        command.push_str(" \\\n  -H \"Authorization: Bearer $HOOKYARD_KEY\"");
    }
    let content = &operation["requestBody"]["content"]["application/json"];
    let example =
        content["examples"].as_object().and_then(|all| all.values().next()).map(|first| &first["value"]);
    if let Some(body) = example.or_else(|| content.get("example")) {
        let body = body.to_string().replace('\'', r"'\''");
        let _ = write!(command, " \\\n  -H 'Content-Type: application/json' \\\n  -d '{body}'");
    }
    command
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_command_quotes_what_the_shell_would_change() {
        let operation = json!({
            "parameters": [
                {"name": "id", "in": "path", "example": "hook_1"},
                {"name": "since", "in": "query", "example": "2025-01-01T00:00:00+01:00"},
                {"name": "limit", "in": "query"},
            ],
            "requestBody": {"content": {"application/json": {"example": {"name": "it's"}}}},
        });
        assert_eq!(
            curl("/v1/hooks/{id}/replay", "post", &operation),
            concat!(
                "curl -X POST \"$HOOKYARD_URL/v1/hooks/hook_1/replay?since=2025-01-01T00%3A00%3A00%2B01%3A00\" \\\n",
                "  -H \"Authorization: Bearer $HOOKYARD_KEY\" \\\n",
                "  -H 'Content-Type: application/json' \\\n",
                "  -d '{\"name\":\"it'\\''s\"}'"
            )
        );
        assert_eq!(curl("/livez", "get", &json!({"security": []})), "curl \"$HOOKYARD_URL/livez\"");
    }

    #[test]
    fn a_schema_is_told_in_words() {
        for (schema, words) in [
            (json!({"type": "string", "format": "date-time"}), "string (date-time)"),
            (json!({"type": ["string", "null"]}), "string or null"),
            (
                json!({"type": "array", "items": {"$ref": "#/components/schemas/Hook"}}),
                "array of <a href=\"#schema-Hook\">Hook</a>",
            ),
            (json!({"type": "string", "enum": ["a", "b"]}), "string: <code>a</code>, <code>b</code>"),
            (json!({}), "any"),
        ] {
            assert_eq!(type_of(&schema), words);
        }
    }
}
