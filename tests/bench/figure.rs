//! Sums samples up: median with spread, and high percentiles.

/// Samples of one thing, in one unit.
#[derive(Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn add(&mut self, sample: f64) {
        self.0.push(sample);
        self.0.sort_by(f64::total_cmp);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The sample below which `percent` of all lie.
    pub fn percentile(&self, percent: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let at = (percent / 100.0 * last as f64).ceil() as usize;
        self.0.get(at).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.percentile(50.0)
    }

    /// "median (least-most)".
    pub fn spread(&self, decimals: usize) -> String {
        let (least, most) = (self.percentile(0.0), self.percentile(100.0));
        format!("{:.decimals$} ({least:.decimals$}-{most:.decimals$})", self.median())
    }
}
