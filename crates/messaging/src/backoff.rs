//! How long to wait before the broker is tried again. Pure; the randomness comes in.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const CEILING: Duration = Duration::from_secs(5);

/// The wait after so many failures in a row (0 = the first one): doubled each time from 100 ms to 5 s, of which `jitter`
/// (0 to 1) decides half, so that the processes of an installation do not come back in step.
pub(crate) fn delay(failures: u32, jitter: f64) -> Duration {
    let full = FIRST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(CEILING);
    full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_ceiling() {
        for (failures, jitter, millis) in [
            (0, 1.0, 100),
            (0, 0.0, 50),
            (1, 1.0, 200),
            (3, 0.5, 600),
            (6, 1.0, 5_000),
            (6, 0.0, 2_500),
            (31, 1.0, 5_000),
            (u32::MAX, 2.0, 5_000),
        ] {
            assert_eq!(delay(failures, jitter), Duration::from_millis(millis), "{failures} {jitter}");
        }
    }
}
