//! The report: lines for the terminal during the run, then a table, the numbers and a plot.

mod numbers;
mod plot;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use posthouse_bench::machine::Machine;
use posthouse_bench::statistics::{Ratio, percentile};

use crate::Outcome;
use crate::load::Work;
use crate::pairs::{Compared, Side};

/// The number of samples from which the 99.9th percentile is reported.
const SAMPLES_FOR_P999: usize = 100_000;

pub(crate) struct Report {
    machine: Machine,
    pairs: usize,
    quick: bool,
    works: Vec<WorkResult>,
    memory: Vec<Memory>,
    took: Duration,
    /// The share of the processors' work in the meantime that was not this benchmark's.
    share_of_others: f64,
}

pub(crate) struct WorkResult {
    pub(crate) work: Work,
    /// The row of the baseline against itself.
    pub(crate) baseline: Row,
    pub(crate) rows: Vec<Row>,
}

pub(crate) struct Memory {
    pub(crate) name: &'static str,
    pub(crate) bytes: Result<f64, String>,
}

pub(crate) struct Row {
    name: &'static str,
    /// The measurements, or the reason why there are none.
    measured: Result<Measured, String>,
}

struct Measured {
    /// The ratio to the baseline, divided by the ratio of the baseline to itself.
    ratio: Ratio,
    /// The ratio as measured.
    undivided: f64,
    of_sums: f64,
    ns_per_unit: f64,
    units_per_second: f64,
    server_share: f64,
    load_saturated: bool,
    latency: Option<Latency>,
}

/// Latencies in nanoseconds; the last is `None` if there are too few samples.
struct Latency {
    p50: u64,
    p99: u64,
    p999: Option<u64>,
    samples: usize,
}

impl Row {
    pub(crate) fn new(name: &'static str, compared: &Compared, baseline_over_itself: f64) -> Self {
        let side = &compared.other;
        let measured = Measured {
            ratio: compared.ratio.divided_by(baseline_over_itself),
            undivided: compared.ratio.median,
            of_sums: compared.ratio_of_sums,
            ns_per_unit: side.ns(),
            units_per_second: side.units_per_second(),
            server_share: side.server_share(),
            load_saturated: side.load_is_saturated(),
            latency: Latency::of(side),
        };
        Self { name, measured: Ok(measured) }
    }

    pub(crate) fn skipped(name: &'static str, reason: String) -> Self {
        Self { name, measured: Err(reason) }
    }

    pub(crate) fn title(work: Work) -> String {
        let name = work.name();
        let unit = work.unit();
        format!(
            "{name}\n  {:22} {:>6}  {:13} {:>10} {:>12} {:>7}",
            "",
            "ratio",
            "95 %",
            format!("us/{unit}"),
            format!("{unit}s/s"),
            "server"
        )
    }

    pub(crate) fn line(&self) -> String {
        let measured = match &self.measured {
            Ok(measured) => measured,
            Err(reason) => return format!("  {:22} left out: {reason}", self.name),
        };
        let Measured { ratio, .. } = measured;
        let mut line = format!(
            "  {:22} {:6.3}  {:5.3} - {:5.3} {:10.2} {:12.0} {:6.0}%",
            self.name,
            ratio.median,
            ratio.low,
            ratio.high,
            measured.ns_per_unit / 1e3,
            measured.units_per_second,
            measured.server_share * 100.0
        );
        match &measured.latency {
            Some(latency) => {
                line.push_str("  ");
                line.push_str(&latency.text());
            }
            None if measured.load_saturated => line.push_str("  load saturated"),
            None => {}
        }
        line
    }
}

impl Latency {
    fn of(side: &Side) -> Option<Self> {
        let mut sorted: Vec<u64> = side.latencies_ns.iter().copied().map(u64::from).collect();
        if sorted.is_empty() {
            return None;
        }
        sorted.sort_unstable();
        let samples = sorted.len();
        let p999 = (samples >= SAMPLES_FOR_P999).then(|| percentile(&sorted, 0.999));
        Some(Self { p50: percentile(&sorted, 0.5), p99: percentile(&sorted, 0.99), p999, samples })
    }

    fn text(&self) -> String {
        let us = |ns: u64| format!("{:.1}", ns as f64 / 1e3);
        let p999 = self.p999.map_or("too few samples".into(), us);
        format!("p50 {} us, p99 {}, p99.9 {p999}", us(self.p50), us(self.p99))
    }
}

impl Memory {
    pub(crate) fn line(&self) -> String {
        match &self.bytes {
            Ok(bytes) => format!("  {:22} {bytes:8.0} B a connection", self.name),
            Err(reason) => format!("  {:22} left out: {reason}", self.name),
        }
    }
}

impl Report {
    pub(crate) fn new(machine: Machine, pairs: usize, quick: bool) -> Self {
        let works = Vec::new();
        let memory = Vec::new();
        Self { machine, pairs, quick, works, memory, took: Duration::ZERO, share_of_others: 0.0 }
    }

    pub(crate) fn add_work(&mut self, result: WorkResult) {
        self.works.push(result);
    }

    pub(crate) fn add_memory(&mut self, memory: Vec<Memory>) {
        self.memory = memory;
    }

    pub(crate) fn finish(&mut self, took: Duration, share_of_others: f64) {
        self.took = took;
        self.share_of_others = share_of_others;
    }

    /// Returns the last text on the terminal: the table of ratios.
    pub(crate) fn ending(&self) -> String {
        format!(
            "\n{}\ntook {} s; {}\n",
            table::ratios(self),
            self.took.as_secs(),
            table::company(self)
        )
    }

    /// Writes the three files and returns their paths.
    pub(crate) fn write(&self, directory: &Path) -> Outcome<Vec<PathBuf>> {
        let failed = |path: &Path, error| format!("cannot write {}: {error}", path.display());
        fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
        let quick = if self.quick { "-quick" } else { "" };
        let stem = format!("{}-{}{quick}", self.machine.date, self.machine.kernel);
        let files = [
            ("md", table::document(self, &stem)),
            ("json", numbers::document(self)),
            ("svg", plot::document(self)),
        ];
        let mut paths = Vec::new();
        for (ending, text) in files {
            let path = directory.join(format!("{stem}.{ending}"));
            fs::write(&path, text).map_err(|error| failed(&path, error))?;
            paths.push(path);
        }
        Ok(paths)
    }
}
