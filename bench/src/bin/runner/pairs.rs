//! The paired method: two servers run at once, and the load alternates between them in slices. The
//! method measures the processor time of a server per unit of work, and compares only ratios of
//! neighbouring slices.
//!
//! The absolute times of a machine change by a third from one minute to the next. They change alike
//! for both servers of a pair.

use std::time::Duration;

use posthouse_bench::statistics::{Ratio, median};

use crate::Outcome;
use crate::contender::{BASELINE, Contender};
use crate::load::{self, Load, Work};
use crate::server::{NoServer, Server};

/// The time for which the load stays on one server.
const SLICE: Duration = Duration::from_millis(50);
/// The number of pairs before those that count, so that caches, windows and memory settle.
const PAIRS_BEFORE: usize = 2;
/// The busy share of the load's core above which the load is saturated.
const BUSY: f64 = 0.97;

/// The measurements of one server in all slices of one run.
#[derive(Debug, Default)]
pub(crate) struct Side {
    /// The processor nanoseconds of the server for each unit, slice by slice.
    pub(crate) ns_per_unit: Vec<f64>,
    /// The share of each slice's time that the load and the server were on their cores.
    load_busy: Vec<f64>,
    server_busy: Vec<f64>,
    units_per_second: Vec<f64>,
    pub(crate) latencies_ns: Vec<u32>,
}

impl Side {
    fn append(&mut self, other: Self) {
        self.ns_per_unit.extend(other.ns_per_unit);
        self.load_busy.extend(other.load_busy);
        self.server_busy.extend(other.server_busy);
        self.units_per_second.extend(other.units_per_second);
        self.latencies_ns.extend(other.latencies_ns);
    }

    pub(crate) fn ns(&self) -> f64 {
        median(&self.ns_per_unit)
    }

    pub(crate) fn load_is_saturated(&self) -> bool {
        median(&self.load_busy) > BUSY
    }

    pub(crate) fn server_share(&self) -> f64 {
        median(&self.server_busy)
    }

    pub(crate) fn units_per_second(&self) -> f64 {
        median(&self.units_per_second)
    }

    fn take(&mut self, server: &Server, load: &mut dyn Load) -> Outcome {
        let before = server.cpu_ns_at_rest()?;
        let slice = load.drive(SLICE)?;
        let cpu_ns = (server.cpu_ns_at_rest()? - before) as f64;
        if slice.units == 0 {
            return Err("a slice without a single echo".into());
        }
        let wall_ns = slice.wall.as_nanos() as f64;
        self.ns_per_unit.push(cpu_ns / slice.units as f64);
        self.load_busy.push(slice.load_cpu.as_nanos() as f64 / wall_ns);
        self.server_busy.push(cpu_ns / wall_ns);
        self.units_per_second.push(slice.units as f64 * 1e9 / wall_ns);
        self.latencies_ns.extend(slice.latencies_ns);
        Ok(())
    }
}

/// The comparison of a contender with the baseline, both start orders together.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) other: Side,
    /// The ratio of contender to baseline: the geometric mean of both orders' medians.
    pub(crate) ratio: Ratio,
    /// The same ratio from sums over all slices, to check the median, which ignores rare long
    /// slices.
    pub(crate) ratio_of_sums: f64,
}

/// Runs `contender` against the baseline, `pairs` pairs of slices in each start order.
pub(crate) fn compare(
    contender: Contender,
    work: Work,
    pairs: usize,
) -> Result<Compared, NoServer> {
    let mut baseline = Side::default();
    let mut other = Side::default();
    let mut ratios = Vec::new();
    for baseline_first in [true, false] {
        let (of_baseline, of_other) = if baseline_first {
            run(BASELINE, contender, work, pairs)?
        } else {
            let (of_other, of_baseline) = run(contender, BASELINE, work, pairs)?;
            (of_baseline, of_other)
        };
        let pairs = of_other.ns_per_unit.iter().zip(&of_baseline.ns_per_unit);
        ratios
            .push(Ratio::of(&pairs.map(|(other, baseline)| other / baseline).collect::<Vec<_>>()));
        baseline.append(of_baseline);
        other.append(of_other);
    }
    let sum = |side: &Side| side.ns_per_unit.iter().sum::<f64>();
    let ratio_of_sums = sum(&other) / sum(&baseline);
    Ok(Compared { ratio: ratios[0].mean(ratios[1]), ratio_of_sums, other })
}

/// Performs one run, in which `one` is started and driven first.
fn run(one: Contender, two: Contender, work: Work, pairs: usize) -> Result<(Side, Side), NoServer> {
    let servers = [Server::start(one)?, Server::start(two)?];
    let mut sides = [Side::default(), Side::default()];
    let failed = |who: Contender, text| NoServer::Failed(format!("{}: {text}", who.name));
    let mut loads = Vec::new();
    for (server, who) in servers.iter().zip([one, two]) {
        loads.push(load::open(work, server.address).map_err(|text| failed(who, text))?);
    }
    for pair in 0..PAIRS_BEFORE + pairs {
        if pair == PAIRS_BEFORE {
            sides = [Side::default(), Side::default()];
        }
        for (at, who) in [one, two].into_iter().enumerate() {
            let taken = sides[at].take(&servers[at], &mut *loads[at]);
            taken.map_err(|text| failed(who, text))?;
        }
    }
    let [one, two] = sides;
    Ok((one, two))
}
