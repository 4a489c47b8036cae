//! Medians with their uncertainty, and percentiles.

/// A ratio and its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The median.
    pub median: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

impl Ratio {
    /// Returns the median of `values` and its order-statistic confidence interval.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len() as f64;
        let half = 0.98 * count.sqrt();
        let at = |rank: f64| sorted[(rank.max(0.0) as usize).min(sorted.len() - 1)];
        Self {
            median: median_of_sorted(&sorted),
            low: at((count / 2.0 - half).floor()),
            high: at((count / 2.0 + half).ceil()),
        }
    }

    /// Returns the geometric mean of both start orders. The start order affects one server by a
    /// factor and the other by its reciprocal.
    #[must_use]
    pub fn mean(self, other: Self) -> Self {
        let mean = |one: f64, two: f64| (one * two).sqrt();
        Self {
            median: mean(self.median, other.median),
            low: mean(self.low, other.low),
            high: mean(self.high, other.high),
        }
    }

    /// Divides the median and both ends of the interval.
    #[must_use]
    pub fn divided_by(self, divisor: f64) -> Self {
        Self { median: self.median / divisor, low: self.low / divisor, high: self.high / divisor }
    }
}

/// Returns the middle value, or the mean of both middle ones.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

fn median_of_sorted(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Returns the value below which `share` of the sorted values lie.
pub fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle_and_in_its_range() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
        let values: Vec<f64> = (0..101).map(f64::from).collect();
        let ratio = Ratio::of(&values);
        assert!((ratio.median - 50.0).abs() < 1e-12);
        assert!((38.0..=42.0).contains(&ratio.low) && (58.0..=62.0).contains(&ratio.high));
    }

    #[test]
    fn opposite_effects_of_the_order_cancel_out() {
        let of = |value| Ratio { median: value, low: value, high: value };
        assert!((of(1.25).mean(of(0.8)).median - 1.0).abs() < 1e-12);
        assert!((of(1.1).divided_by(1.1).median - 1.0).abs() < 1e-12);
    }

    #[test]
    fn percentiles_count_from_the_lowest() {
        let sorted: Vec<u64> = (1..=1000).collect();
        assert_eq!(percentile(&sorted, 0.5), 500);
        assert_eq!(percentile(&sorted, 0.999), 999);
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
