//! A worker that asks for work: who it says it is and what it wants, within what its token allows.

use std::time::Duration;

use hookyard_chassis::api_error::ApiError;
use hookyard_domain::{
    credential::{Credential, MAX_MODELS, Work},
    id::WorkerId,
    task::{AgentType, claim::WorkerWants, worker::NewWorker},
};

use crate::{
    handlers::fields::{Fields, invalid},
    tasks::Wish,
};

/// Runs that can be taken at a time.
const MAX_CLAIMED: i32 = 10;
/// The longest wait.
const MAX_WAIT_S: i32 = 30;
/// The longest name of a worker, in characters.
const MAX_NAME: usize = 100;
/// The longest version of a worker, in characters.
const MAX_VERSION: usize = 50;
/// What a worker is able to do, besides types and models.
const MAX_CAPABILITIES: usize = 50;
/// The longest name of a model or a capability, in characters.
const MAX_WORD: usize = 200;

/// A worker that asks for work.
#[derive(Clone, Debug)]
pub(super) struct Applicant {
    pub(super) worker: NewWorker,
    pub(super) limit: u32,
    pub(super) wait: Duration,
}

impl Applicant {
    pub(super) fn parse(body: &[u8], credential: &Credential) -> Result<Self, ApiError> {
        let fields = Fields::parse(body)?;
        let about = fields.object("worker")?.ok_or_else(|| invalid("worker", "is missing"))?;
        let name = name_of(&about)?.ok_or_else(|| invalid("name", "is missing"))?;
        let version = about.text("version")?.map(str::to_owned);
        if version.as_ref().is_some_and(|version| version.chars().nth(MAX_VERSION).is_some()) {
            return Err(invalid("version", &format!("must have at most {MAX_VERSION} characters")));
        }
        let limit = fields.integer("limit", 1..=MAX_CLAIMED)?.unwrap_or(1);
        let wait = fields.integer("wait_seconds", 0..=MAX_WAIT_S)?.unwrap_or(0);
        Ok(Self {
            worker: NewWorker {
                tenant: credential.tenant,
                credential: credential.id,
                name: name.to_owned(),
                agent_types: types(&about, &credential.work)?,
                models: models(&about, &credential.work)?,
                capabilities: words(&about, "capabilities", MAX_CAPABILITIES)?.unwrap_or_default(),
                version,
            },
            limit: limit.unsigned_abs(),
            wait: Duration::from_secs(wait.unsigned_abs().into()),
        })
    }

    pub(super) fn wants(&self, worker: WorkerId) -> WorkerWants {
        let NewWorker { tenant, agent_types, models, capabilities, .. } = self.worker.clone();
        WorkerWants { worker, tenant, agent_types, models, capabilities }
    }

    pub(super) fn wish(&self) -> Wish {
        let NewWorker { tenant, agent_types, models, capabilities, .. } = self.worker.clone();
        Wish { tenant, agent_types, models, capabilities }
    }
}

pub(super) fn name_of(fields: &Fields) -> Result<Option<&str>, ApiError> {
    let name = fields.text("name")?;
    if name.is_some_and(|name| name.trim().is_empty() || name.chars().nth(MAX_NAME).is_some()) {
        return Err(invalid("name", &format!("must have 1 to {MAX_NAME} characters")));
    }
    Ok(name)
}

/// Words in order, each once.
fn words(fields: &Fields, name: &'static str, most: usize) -> Result<Option<Vec<String>>, ApiError> {
    let Some(texts) = fields.texts(name, most)? else { return Ok(None) };
    if texts.iter().any(|text| text.is_empty() || text.chars().nth(MAX_WORD).is_some()) {
        return Err(invalid(name, &format!("must have entries of 1 to {MAX_WORD} characters")));
    }
    let mut words: Vec<String> = texts.into_iter().map(str::to_owned).collect();
    words.sort_unstable();
    words.dedup();
    Ok(Some(words))
}

/// The types that the worker asks for; without any, all that its token allows.
fn types(about: &Fields, may: &Work) -> Result<Vec<AgentType>, ApiError> {
    let allowed = |agent: AgentType| may.agent_types.as_ref().is_none_or(|types| types.contains(&agent));
    let Some(texts) = about.texts("agent_types", AgentType::ALL.len())? else {
        return Ok(AgentType::ALL.into_iter().filter(|agent| allowed(*agent)).collect());
    };
    let parse = |text: &str| {
        text.parse::<AgentType>()
            .map_err(|error| invalid("agent_types", &format!("has one that is none: it {error}")))
    };
    let mut types = texts.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    types.sort_unstable();
    types.dedup();
    if types.is_empty() {
        return Err(invalid("agent_types", "must name at least one"));
    }
    match types.iter().find(|agent| !allowed(**agent)) {
        None => Ok(types),
        Some(agent) => Err(not_allowed("agent_types", &format!("tasks of the type `{agent}`"))),
    }
}

/// The models that the worker asks for; without any, all that its token allows.
fn models(about: &Fields, may: &Work) -> Result<Option<Vec<String>>, ApiError> {
    let Some(models) = words(about, "models", MAX_MODELS)? else { return Ok(may.models.clone()) };
    if models.is_empty() {
        return Err(invalid("models", "must name at least one"));
    }
    let allowed = |model: &String| may.models.as_ref().is_none_or(|models| models.contains(model));
    match models.iter().find(|model| !allowed(model)) {
        None => Ok(Some(models)),
        Some(model) => Err(not_allowed("models", &format!("tasks with the model `{model}`"))),
    }
}

fn not_allowed(field: &'static str, what: &str) -> ApiError {
    let message = format!("this worker token does not allow {what}");
    ApiError::forbidden("WORK_NOT_ALLOWED", message.clone()).field(field).reason(message)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use hookyard_domain::{
        credential::{Kind, Limits, Scopes},
        id::{CredentialId, TenantId},
    };

    use super::*;

    fn credential(work: Work) -> Credential {
        Credential {
            id: CredentialId::new(DateTime::UNIX_EPOCH),
            tenant: TenantId::from_uuid(uuid::Uuid::from_u128(1)),
            kind: Kind::Worker,
            name: "fleet".to_owned(),
            scopes: Scopes::default(),
            event_types: None,
            work,
            limits: Limits::default(),
            expires_at: None,
        }
    }

    fn told(body: &str, work: &Work) -> Result<Applicant, (u16, &'static str)> {
        Applicant::parse(body.as_bytes(), &credential(work.clone()))
            .map_err(|error| (error.status().as_u16(), error.code()))
    }

    #[test]
    fn a_worker_gets_what_its_token_allows_unless_it_wants_less() {
        let builds = Work { agent_types: Some(vec![AgentType::Build]), models: Some(vec!["m".to_owned()]) };
        let all = told(r#"{"worker":{"name":"w"}}"#, &Work::default()).unwrap();
        assert_eq!((all.worker.agent_types.len(), all.worker.models), (4, None));
        assert_eq!((all.limit, all.wait), (1, Duration::ZERO));
        let some = told(r#"{"worker":{"name":"w"}}"#, &builds).unwrap();
        assert_eq!(
            (some.worker.agent_types, some.worker.models),
            (vec![AgentType::Build], builds.models.clone())
        );
        let less = r#"{"worker":{"name":"w","agent_types":["plan","build","plan"],"models":["b","a"]}}"#;
        let less = told(less, &Work::default()).unwrap();
        assert_eq!(less.worker.agent_types, [AgentType::Plan, AgentType::Build]);
        assert_eq!(less.worker.models, Some(vec!["a".to_owned(), "b".to_owned()]));
        for more in [r#""agent_types":["build","plan"]"#, r#""models":["m","n"]"#] {
            let body = format!(r#"{{"worker":{{"name":"w",{more}}}}}"#);
            assert_eq!(told(&body, &builds).err(), Some((403, "WORK_NOT_ALLOWED")), "{more}");
        }
    }

    #[test]
    fn every_bound_is_kept() {
        let name = |chars: usize| format!(r#"{{"worker":{{"name":"{}"}}}}"#, "é".repeat(chars));
        let with = |more: &str| format!(r#"{{"worker":{{"name":"w"}},{more}}}"#);
        let about = |more: &str| format!(r#"{{"worker":{{"name":"w",{more}}}}}"#);
        let list = |count: usize| (0..count).map(|n| format!("\"c{n}\"")).collect::<Vec<_>>().join(",");
        let capabilities = |count| about(&format!(r#""capabilities":[{}]"#, list(count)));
        let models = |count| about(&format!(r#""models":[{}]"#, list(count)));
        let version = |chars: usize| about(&format!(r#""version":"{}""#, "1".repeat(chars)));
        let word = |chars: usize| about(&format!(r#""capabilities":["{}"]"#, "c".repeat(chars)));
        for good in [
            name(1),
            name(100),
            with(r#""limit":1"#),
            with(r#""limit":10"#),
            with(r#""wait_seconds":0"#),
            with(r#""wait_seconds":30"#),
            capabilities(50),
            models(20),
            version(50),
            word(200),
        ] {
            assert!(told(&good, &Work::default()).is_ok(), "{good}");
        }
        for bad in [
            name(0),
            name(101),
            with(r#""limit":0"#),
            with(r#""limit":11"#),
            with(r#""wait_seconds":-1"#),
            with(r#""wait_seconds":31"#),
            capabilities(51),
            models(21),
            models(0),
            version(51),
            word(201),
            word(0),
            about(r#""agent_types":[]"#),
            about(r#""agent_types":["cook"]"#),
            "{}".to_owned(),
            r#"{"worker":"w"}"#.to_owned(),
            r#"{"worker":{}}"#.to_owned(),
        ] {
            assert_eq!(told(&bad, &Work::default()).err(), Some((422, "INVALID_FIELD")), "{bad}");
        }
    }
}
