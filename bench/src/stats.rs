//! Medians, spreads and intervals.

use serde::{Deserialize, Serialize};

/// Resamplings of a bootstrap interval.
const RESAMPLES: usize = 4000;

/// The value below which the part `q` (0 to 1) of the values lies, by linear interpolation; NaN
/// of none.
#[must_use]
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q * last as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// The middle value.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// What repeated runs gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The middle one.
    pub median: f64,
    /// A quarter of the runs was below.
    pub low: f64,
    /// A quarter of the runs was above.
    pub high: f64,
    /// How many runs.
    pub runs: usize,
}

impl Summary {
    /// Of some runs.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let [low, median, high] = [0.25, 0.5, 0.75].map(|q| quantile(values, q));
        Self { median, low, high, runs: values.len() }
    }

    /// Width of the middle half of the runs, over the median.
    #[must_use]
    pub fn spread(&self) -> f64 {
        (self.high - self.low) / self.median.abs()
    }
}

/// A ratio with the interval that holds it with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Median of the rounds' ratios.
    pub median: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

impl Ratio {
    /// Round by round, `left` over `right`; the interval by a percentile bootstrap of the median,
    /// reproducible.
    #[must_use]
    pub fn paired(left: &[f64], right: &[f64]) -> Self {
        let ratios: Vec<f64> = left.iter().zip(right).map(|(left, right)| left / right).collect();
        let mut random = fastrand::Rng::with_seed(1);
        let mut medians = Vec::with_capacity(RESAMPLES);
        let mut sample = vec![0.0; ratios.len()];
        for _ in 0..RESAMPLES {
            sample.iter_mut().for_each(|value| *value = ratios[random.usize(..ratios.len())]);
            medians.push(median(&sample));
        }
        Self { median: median(&ratios), low: quantile(&medians, 0.025), high: quantile(&medians, 0.975) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ratio, Summary, median, quantile};

    #[test]
    fn quantiles_interpolate_and_need_no_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[0.0, 10.0], 0.25), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_spread_is_that_of_the_middle_half() {
        let summary = Summary::of(&[1.0, 9.0, 10.0, 11.0, 1000.0]);
        assert_eq!((summary.median, summary.low, summary.high), (10.0, 9.0, 11.0));
        assert_eq!(summary.spread(), 0.2);
    }

    #[test]
    fn pairs_cancel_what_met_both() {
        // The machine gets slower; the ratio does not change.
        let slow: Vec<f64> = (1..20).map(|round| f64::from(round) * 3.0).collect();
        let fast: Vec<f64> = (1..20).map(f64::from).collect();
        let ratio = Ratio::paired(&slow, &fast);
        assert_eq!((ratio.median, ratio.low, ratio.high), (3.0, 3.0, 3.0));
    }

    #[test]
    fn the_interval_is_as_wide_as_the_runs_are_apart() {
        let left: Vec<f64> = (0..40).map(|round| if round % 2 == 0 { 0.5 } else { 1.5 }).collect();
        let ratio = Ratio::paired(&left, &[1.0; 40]);
        assert!(ratio.low < 0.6 && ratio.high > 1.4, "{ratio:?}");
    }
}
