//! What was measured, and what is made of several measurements.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::load::Round;

/// One measurement of one target. Times in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Calls per second.
    pub(crate) rate: f64,
    /// Processor time of the target per call; none for the tool server alone.
    pub(crate) cpu: Option<f64>,
    /// Time of a call: median, 99th percentile, 99.9th.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// The share of one processor that making the load took.
    pub(crate) load: f64,
}

impl Sample {
    pub(crate) fn new(round: &Round, cpu: Option<Duration>) -> Self {
        let calls = count(round.times.len());
        Self {
            rate: calls / round.elapsed.as_secs_f64(),
            cpu: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / calls),
            p50: quantile(&round.times, 0.5),
            p99: quantile(&round.times, 0.99),
            p999: quantile(&round.times, 0.999),
            load: round.own.as_secs_f64() / round.elapsed.as_secs_f64(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "calls_per_second": self.rate, "cpu_us_per_call": self.cpu, "p50_us": self.p50,
            "p99_us": self.p99, "p999_us": self.p999, "load_share": self.load,
        })
    }
}

/// A number of things as a factor.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 things")]
pub(crate) fn count(things: usize) -> f64 {
    things as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a vector"
)]
fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let at = (count(sorted.len().saturating_sub(1)) * share) as usize;
    sorted
        .get(at)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

/// Median and extremes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// None of no values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let middle = (values.len().checked_sub(1)? / 2, values.len() / 2);
        Some(Self {
            low: *values.first()?,
            median: values.get(middle.0)?.midpoint(*values.get(middle.1)?),
            high: *values.last()?,
        })
    }

    pub(crate) fn json(self) -> Value {
        json!({"median": self.median, "low": self.low, "high": self.high})
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} ({:.2} to {:.2})",
            self.median, self.low, self.high
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Spread::of([]), None);
    }
}
