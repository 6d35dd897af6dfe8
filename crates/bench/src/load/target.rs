//! A system under test, described by a TOML file: where its ingest API is, how a request looks, how endpoints are made.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::http::{Conn, request};

/// Targets that need no file.
const BUILT_IN: [(&str, &str); 6] = [
    ("sink", include_str!("../../targets/sink.toml")),
    ("hookyard", include_str!("../../targets/hookyard.toml")),
    ("hookyard-limited", include_str!("../../targets/hookyard-limited.toml")),
    ("hookyard-tasks", include_str!("../../targets/hookyard-tasks.toml")),
    ("hookyard-runs", include_str!("../../targets/hookyard-runs.toml")),
    ("hookyard-batch", include_str!("../../targets/hookyard-batch.toml")),
];

/// Values of the templates' `${name}`.
pub(crate) type Vars = BTreeMap<String, String>;

/// A target file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// Name in the report.
    pub(crate) name: String,
    /// HOST:PORT of the ingest API.
    pub(crate) addr: String,
    /// Path of the ingest API.
    pub(crate) path: String,
    /// Body with `${payload}` (JSON) or `${payload_str}` (JSON escaped inside a string), and `${uuid}`.
    pub(crate) body: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Requests that can be repeated.
    repeatable: Option<Repeatable>,
    /// Events per request; `body` then holds `${items}`, a list of `item`.
    #[serde(default = "one")]
    pub(crate) batch: u64,
    /// One event of a batch.
    #[serde(default)]
    pub(crate) item: String,
    /// The deliveries that one event causes; the number of endpoints when left out.
    pub(crate) fanout: Option<u64>,
    /// Variables, overridden by `--var`.
    #[serde(default)]
    pub(crate) vars: Vars,
    #[serde(default)]
    setup: Vec<Step>,
}

/// Some requests have further headers, such as an idempotency key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repeatable {
    /// Every so manieth request.
    every: u64,
    headers: BTreeMap<String, String>,
}

fn one() -> u64 {
    1
}

/// A call made before the run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default = "post")]
    method: String,
    path: String,
    #[serde(default)]
    body: String,
    /// Repeat for each endpoint, with `${url}` and `${i}`.
    #[serde(default)]
    per_endpoint: bool,
    /// Variables to take from the answer, by JSON pointer.
    #[serde(default)]
    capture: BTreeMap<String, String>,
}

fn post() -> String {
    "POST".into()
}

/// Replaces each `${name}`.
///
/// # Errors
/// When a variable is not set or a brace is not closed.
pub(crate) fn expand(template: &str, vars: &Vars) -> Result<String> {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').context("unclosed ${")?;
        let value =
            vars.get(name).with_context(|| format!("variable {name} is not set (use --var {name}=...)"))?;
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

impl Target {
    /// Reads the file, or takes the built-in target of this name.
    ///
    /// # Errors
    /// When there is no such file or it is not a target.
    pub(crate) fn read(name: &Path) -> Result<Self> {
        let built_in = BUILT_IN.iter().find(|(known, _)| Path::new(known) == name);
        let text = match built_in {
            Some((_, text)) => (*text).into(),
            None => {
                fs::read_to_string(name).with_context(|| format!("cannot read target {}", name.display()))?
            }
        };
        toml::from_str(&text).with_context(|| format!("target {} is not valid", name.display()))
    }

    /// The headers of every request.
    ///
    /// # Errors
    /// When a variable is not set.
    pub(crate) fn headers(&self, vars: &Vars) -> Result<Vec<(String, String)>> {
        self.headers.iter().map(|(name, value)| Ok((name.clone(), expand(value, vars)?))).collect()
    }

    /// The bytes of one request to this target.
    ///
    /// # Errors
    /// When a variable is not set.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str, vars: &Vars) -> Result<Vec<u8>> {
        let headers = self.headers(vars)?;
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let (path, body) = (expand(path, vars)?, expand(body, vars)?);
        Ok(request(method, &self.addr, &path, &headers, body.as_bytes()))
    }

    /// How often a request can be repeated, and the bytes of one that can.
    ///
    /// # Errors
    /// When a variable is not set.
    pub(crate) fn repeatable(&self, vars: &Vars) -> Result<Option<(u64, Vec<u8>)>> {
        let Some(Repeatable { every, headers }) = &self.repeatable else { return Ok(None) };
        ensure!(*every > 0, "repeatable.every must be positive");
        let mut all = self.headers(vars)?;
        for (name, value) in headers {
            all.push((name.clone(), expand(value, vars)?));
        }
        let all: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let (path, body) = (expand(&self.path, vars)?, expand(&self.body, vars)?);
        Ok(Some((*every, request("POST", &self.addr, &path, &all, body.as_bytes()))))
    }

    /// Makes the calls that create the endpoints at `urls`, and puts what they capture into `vars`.
    ///
    /// # Errors
    /// When a call is not answered 2xx; the text shows the answer.
    pub(crate) async fn set_up(&self, vars: &mut Vars, urls: &[String]) -> Result<()> {
        for step in &self.setup {
            let rounds = if step.per_endpoint { urls } else { &urls[..1] };
            for (i, url) in rounds.iter().enumerate() {
                vars.insert("url".into(), url.clone());
                vars.insert("i".into(), i.to_string());
                self.call(step, vars).await?;
            }
        }
        Ok(())
    }

    async fn call(&self, step: &Step, vars: &mut Vars) -> Result<()> {
        let bytes = self.request(&step.method, &step.path, &step.body, vars)?;
        let mut conn =
            Conn::connect(&self.addr).await.with_context(|| format!("cannot connect to {}", self.addr))?;
        let response = conn.call(&bytes).await?;
        let status = response.status;
        let text = String::from_utf8_lossy(response.body);
        ensure!((200..300).contains(&status), "{} {} was answered {status}: {text}", step.method, step.path);
        for (name, pointer) in &step.capture {
            let json: Value = serde_json::from_str(&text)?;
            let value = match json.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => bail!("no {pointer} in {text}"),
            };
            vars.insert(name.clone(), value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_variables_are_refused() {
        let vars = Vars::from([("a".into(), "1".into())]);
        assert_eq!(expand("x${a}y", &vars).unwrap(), "x1y");
        assert!(expand("${b}", &vars).is_err());
        assert!(expand("${a", &vars).is_err());
    }

    #[test]
    fn every_target_that_is_shipped_can_be_read() {
        for (name, _) in BUILT_IN {
            assert_eq!(Target::read(Path::new(name)).unwrap().name, name);
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("targets");
        for entry in fs::read_dir(folder).unwrap() {
            Target::read(&entry.unwrap().path()).unwrap();
        }
    }

    #[test]
    fn a_typo_in_a_target_is_an_error() {
        let text = "name='x'\naddr='x'\npath='/'\nbody=''\nbodi=''";
        assert!(toml::from_str::<Target>(text).is_err());
    }
}
