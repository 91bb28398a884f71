//! Many measurements in three numbers.

use serde::{Deserialize, Serialize};

/// Of a few rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self { median: percentile(&values, 50), min, max })
    }
}

/// Of many waits, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Waits {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Waits {
    pub(crate) fn of(nanos: &[u64]) -> Option<Self> {
        let mut millis: Vec<f64> = nanos.iter().map(|nanos| *nanos as f64 / 1e6).collect();
        millis.sort_by(f64::total_cmp);
        (!millis.is_empty()).then(|| Self {
            count: millis.len(),
            p50: percentile(&millis, 50),
            p99: percentile(&millis, 99),
        })
    }
}

/// Of sorted values, at least one: the smallest that is not below `percent` of them.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted[rank.max(1) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_a_measured_value() {
        let spread = Spread::of(vec![5.0, 1.0, 3.0]).expect("three values");
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 3.0, 5.0));
        assert_eq!(Spread::of(Vec::new()), None);
        let waits = Waits::of(&(1..=200).map(|n| n * 1_000_000).collect::<Vec<_>>()).expect("many");
        assert_eq!((waits.p50, waits.p99), (100.0, 198.0));
    }
}
