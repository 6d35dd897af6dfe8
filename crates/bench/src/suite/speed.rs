//! How fast this machine is, relative to the reference machine: the processor, and Postgres, whose work does not fit into its caches
//! (docs/decisions/0065).

use super::{
    reference::{ROWS_CPU, SINK_PER_S},
    results::Results,
};
use crate::load::Report;

/// 1 = as fast as the reference machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    /// Of what is not Postgres.
    pub(crate) machine: f64,
    /// Of Postgres.
    pub(crate) postgres: f64,
}

impl Speed {
    /// Of one round; where Postgres was not measured, it is as fast as the rest.
    pub(crate) fn of_round(calibration: &Report, rows: Option<&Report>) -> Self {
        Self::new(calibration.delivered_per_s, rows.map(|rows| rows.cpu_s_per_1000))
    }

    /// Of all rounds; `None` when the calibration is missing.
    pub(crate) fn of(results: &Results) -> Option<Self> {
        Some(Self::new(results.calibrated_per_s()?, results.rows_cpu_s_per_1000()))
    }

    fn new(sink_per_s: f64, rows_cpu: Option<f64>) -> Self {
        let machine = sink_per_s / SINK_PER_S;
        Self { machine, postgres: rows_cpu.map_or(machine, |cpu| ROWS_CPU / cpu.max(f64::MIN_POSITIVE)) }
    }

    /// Of work of which this share (0 to 1) is Postgres'.
    pub(crate) fn with(self, postgres: f64) -> f64 {
        postgres * self.postgres + (1.0 - postgres) * self.machine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_is_as_fast_as_the_rest_until_it_is_measured() {
        let calibration = Report { delivered_per_s: SINK_PER_S / 2.0, ..Report::default() };
        let rows = Report { cpu_s_per_1000: 4.0 * ROWS_CPU, ..Report::default() };
        assert_eq!(Speed::of_round(&calibration, None), Speed { machine: 0.5, postgres: 0.5 });
        let speed = Speed::of_round(&calibration, Some(&rows));
        assert_eq!(speed, Speed { machine: 0.5, postgres: 0.25 });
        assert_eq!((speed.with(0.0), speed.with(1.0), speed.with(0.4)), (0.5, 0.25, 0.4));
    }
}
