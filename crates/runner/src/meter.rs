//! What a run uses and may use: pure. Fails closed: what is not known is guessed rather too high.

use hookyard_domain::task::{Usage, claim::ClaimedRun, model::Models};

use crate::executor::Tokens;

/// The meter of one attempt.
#[derive(Debug)]
pub(crate) struct Meter {
    models: Models,
    resolved: String,
    before: Usage,
    max_tokens: Option<u64>,
    max_cost_micros: Option<u64>,
}

impl Meter {
    pub(crate) fn new(models: &Models, run: &ClaimedRun) -> Self {
        Self {
            models: models.clone(),
            resolved: run.resolved.clone(),
            before: run.usage_before,
            max_tokens: run.max_tokens,
            max_cost_micros: run.max_cost_micros,
        }
    }

    /// What these tokens are, with their price.
    pub(crate) fn usage(&self, tokens: Tokens) -> Usage {
        let Tokens { input, output } = tokens;
        let cost_micros = self.models.cost_micros(&self.resolved, input, output);
        Usage { input_tokens: input, output_tokens: output, cost_micros }
    }

    /// Whether the task may not use so much.
    pub(crate) fn is_over(&self, tokens: Tokens) -> bool {
        let all = self.before.plus(self.usage(tokens));
        self.max_tokens.is_some_and(|most| all.tokens() > most)
            || self.max_cost_micros.is_some_and(|most| all.cost_micros > most)
    }

    /// How many tokens a reply may have, if what is sent has about `input`. `None`: the task sets no bound.
    pub(crate) fn room(&self, input: u64) -> Option<u64> {
        let by_tokens =
            self.max_tokens.map(|most| most.saturating_sub(self.before.tokens()).saturating_sub(input));
        let million = self.models.cost_micros(&self.resolved, 0, 1_000_000);
        let by_cost =
            self.max_cost_micros.filter(|_| million > 0).map(|most| {
                let left = most
                    .saturating_sub(self.before.cost_micros)
                    .saturating_sub(self.models.cost_micros(&self.resolved, input, 0));
                u64::try_from(u128::from(left) * 1_000_000 / u128::from(million)).unwrap_or(u64::MAX)
            });
        match (by_tokens, by_cost) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use hookyard_domain::task::model;

    use super::*;

    fn meter(max_tokens: Option<u64>, max_cost_micros: Option<u64>) -> Meter {
        Meter {
            models: Models::new(&model::Settings::default()).unwrap(),
            // Three dollars in, fifteen out.
            resolved: "anthropic:claude-sonnet-4-5".to_owned(),
            before: Usage { input_tokens: 60, output_tokens: 40, cost_micros: 780 },
            max_tokens,
            max_cost_micros,
        }
    }

    #[test]
    fn bounds_hold_for_all_attempts_together_and_to_the_last_token() {
        let tokens = |input, output| Tokens { input, output };
        let bounded = meter(Some(200), None);
        assert!(!bounded.is_over(tokens(50, 50)) && bounded.is_over(tokens(50, 51)));
        // 780 before, and ten tokens out at 15 each.
        let bounded = meter(None, Some(930));
        assert!(!bounded.is_over(tokens(0, 10)) && bounded.is_over(tokens(0, 11)));
        assert!(!meter(None, None).is_over(tokens(u64::MAX, u64::MAX)));
        assert_eq!(bounded.usage(tokens(10, 10)).cost_micros, 180);
    }

    #[test]
    fn a_reply_gets_what_is_left() {
        assert_eq!(meter(None, None).room(10), None);
        assert_eq!(meter(Some(200), None).room(10), Some(90));
        assert_eq!(meter(Some(100), None).room(10), Some(0));
        // 930 - 780 - 10 tokens in at 3 = 120, that is 8 tokens out.
        assert_eq!(meter(None, Some(930)).room(10), Some(8));
        assert_eq!(meter(Some(114), Some(930)).room(10), Some(4));
    }
}
