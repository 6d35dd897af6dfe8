//! What a language model is told: its role, the task, and what was asked and answered before.

use hookyard_domain::task::{AgentType, claim::ClaimedRun, input::Exchange};

use crate::executor::{Question, Speaker, Turn};

const GENERAL: &str = "You carry out tasks for an automation service. Your reply is the result of the task and is passed on to \
    another program or a person as it is: give the result itself, without a preamble and without offering further help. You \
    have no tools and cannot look anything up; work with the text you are given.";

const PLAN: &str = "You make plans for an automation service. Your reply is the plan and is passed on as it is: numbered steps, \
    each with what is done, what it needs and how one sees that it is done; then risks and open points. No preamble. You have \
    no tools and cannot look anything up; work with the text you are given.";

const ASKING: &str = "If the task cannot be done without a piece of information that only a person can give, reply with exactly \
    one JSON object and nothing else: {\"needs_input\": {\"question\": \"...\"}}. You may add \"choices\", a list of short texts, \
    or \"schema\", a JSON Schema of the answer, beside \"question\". Ask only when there is no sensible way to go on.";

/// What the model is told about its role.
pub(crate) fn system(agent: AgentType) -> String {
    let role = match agent {
        AgentType::General | AgentType::Build | AgentType::Explore => GENERAL,
        AgentType::Plan => PLAN,
    };
    format!("{role}\n\n{ASKING}")
}

/// The conversation so far. It ends with the user: a question without an answer is not part of it.
pub(crate) fn turns(run: &ClaimedRun, said: &[Exchange]) -> Vec<Turn> {
    let mut turns =
        vec![Turn { speaker: Speaker::User, text: format!("{}\n\n{}", run.title, run.description) }];
    for exchange in said {
        let Some(answer) = &exchange.answer else { continue };
        turns.push(Turn { speaker: Speaker::Assistant, text: Question::turn(&exchange.question) });
        turns.push(Turn { speaker: Speaker::User, text: plain(answer) });
    }
    turns
}

/// A text without its quotation marks; everything else as JSON.
fn plain(answer: &str) -> String {
    serde_json::from_str::<String>(answer).unwrap_or_else(|_not_a_text| answer.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_said_as_a_person_says_them() {
        for (answer, said) in
            [("\"in 2026\"", "in 2026"), ("{\"a\":1}", "{\"a\":1}"), ("true", "true"), ("\"\"", "")]
        {
            assert_eq!(plain(answer), said);
        }
    }

    #[test]
    fn every_role_knows_how_to_ask() {
        for agent in AgentType::ALL {
            assert!(system(agent).contains("needs_input"));
        }
    }
}
