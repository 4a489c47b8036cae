//! The tables of the measurement.

use std::fmt::Write as _;
use std::time::Duration;

use posthouse_bench::machine::Machine;
use posthouse_bench::statistics::median;

use crate::attack::{Totals, describe};
use crate::fixture;
use crate::honest::Bin;
use crate::rounds::{Durations, NORMAL_SHARE, Phase, Plan, Round};
use crate::server::{BUDGET, Ending, budget_bytes};

const MIB: f64 = (1 << 20) as f64;
/// The limits that the measurement has to keep.
const MIN_RATIO: f64 = 0.9;
/// The longest permitted small get, and the longest visit of a newcomer.
const MAX_LATENCY: Duration = Duration::from_secs(2);
const MAX_RECOVERY: Duration = Duration::from_secs(5);

/// The figures of one backend.
#[derive(Debug)]
pub(crate) struct Measured {
    /// The backend, and the kind of attack if it is only one.
    pub(crate) name: String,
    /// The bytes of the idle server.
    pub(crate) idle: u64,
    /// The statement about the memory of the idle server.
    pub(crate) stated: String,
    pub(crate) rounds: Vec<Round>,
    pub(crate) ending: Ending,
}

impl Measured {
    /// Returns the ratio of each round: the server attacked to the sink attacked.
    fn ratios(&self, figure: impl Fn(&Phase) -> f64) -> Vec<f64> {
        self.rounds.iter().map(|round| figure(&round.server) / figure(&round.sink)).collect()
    }

    fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(&self.rounds.iter().map(figure).collect::<Vec<f64>>())
    }

    fn worst(&self, figure: impl Fn(&Round) -> u64) -> u64 {
        self.rounds.iter().map(figure).max().unwrap_or(0)
    }

    /// Returns the longest recovery, or `None` if there was none in one round.
    fn recovery(&self) -> Option<Duration> {
        let all: Option<Vec<Duration>> = self.rounds.iter().map(|round| round.recovery).collect();
        all?.into_iter().max()
    }

    fn peak(&self) -> u64 {
        self.worst(|round| round.server.memory.own)
    }

    fn bound(&self) -> u64 {
        self.idle + budget_bytes() as u64
    }

    /// Returns the numbers of newcomers that were served, that failed, and that came.
    fn newcomers(&self, phase: impl Fn(&Round) -> &Phase) -> [u64; 3] {
        let sum = |figure: fn(&Bin) -> u64| {
            self.rounds.iter().map(|round| phase(round).sum(figure)).sum()
        };
        [sum(|bin| bin.newcomers_served), sum(|bin| bin.newcomers_failed), sum(|bin| bin.newcomers)]
    }

    /// Returns the limits that were not kept.
    pub(crate) fn failures(&self) -> Vec<&'static str> {
        let worst = |figure: fn(&Bin) -> u64| {
            Duration::from_micros(self.worst(|round| round.server.worst(figure)))
        };
        let [served, failed, came] = self.newcomers(|round| &round.server);
        // A newcomer of the end of a phase may be served after it.
        let are_served = failed == 0 && served + self.rounds.len() as u64 >= came;
        let checks = [
            (median(&self.ratios(Phase::goodput)) >= MIN_RATIO, "goodput"),
            (are_served && worst(|bin| bin.newcomer_us) <= MAX_LATENCY, "newcomers"),
            (worst(|bin| bin.small_us) <= MAX_LATENCY, "small gets"),
            (self.recovery().is_some_and(|time| time <= MAX_RECOVERY), "recovery"),
            (self.peak() <= self.bound(), "memory"),
            (self.ending.is_clean, "shutdown"),
        ];
        checks.iter().filter(|(kept, _)| !kept).map(|(_, name)| *name).collect()
    }
}

/// Returns the part of the report that is stated before the measurement.
pub(crate) fn beforehand(plan: &Plan, rounds: usize, is_each_alone: bool) -> String {
    let mut text = format!("# An endpoint under attack\n\n{}\n", Machine::here());
    let Durations { normal, attack, recovery } = plan.durations;
    let _ = writeln!(
        text,
        "\n`cargo xtask bench --siege`: {rounds} rounds: {} s normal; the sink attacked for {} s; \
         the server attacked for {} s (in every second round before the sink); after each attack \
         up to {} s until the honest goodput of one second is at least {NORMAL_SHARE} of normal.\n\
         Server and sink on core 0, attackers and honest peers on core 1.\n",
        normal.as_secs(),
        attack.as_secs(),
        attack.as_secs(),
        recovery.as_secs()
    );
    if plan.turns_per_second > 0 {
        let most = plan.turns_per_second;
        let _ = writeln!(text, "An attacking connection has at most {most} turns in a second.\n");
    }
    let order = if is_each_alone { "one at a time" } else { "all at once" };
    let _ = writeln!(text, "## The attacks, {order}\n\n{}", describe(&plan.only));
    text.push_str(
        "Each kind has two source addresses of its own (127.0.1.x). A connection that ends is \
         made again, at most once in 100 ms. A flood that reads nothing and could not send for \
         0.5 s resets its connection. A4 (many addresses of one IPv6 prefix) and A9 (a hostile \
         server against a client) are not in the load; \
         crates/posthouse/tests/it/threats/addresses.rs and \
         crates/posthouse-cli/tests/program/hostile_servers.rs test them.\n\n\
         ## The memory that the configuration permits\n\n| term | bytes | MiB |\n|---|--:|--:|\n",
    );
    for term in BUDGET {
        let bytes = term.count * term.bytes;
        let _ = writeln!(text, "| {} | {bytes} | {:.1} |", term.name, bytes as f64 / MIB);
    }
    let budget = budget_bytes();
    let _ = writeln!(text, "| sum | {budget} | {:.1} |", budget as f64 / MIB);
    let _ = writeln!(
        text,
        "\nThe quota of the directory that receives: {} GiB, {} files.\n",
        fixture::QUOTA_BYTES >> 30,
        fixture::QUOTA_FILES
    );
    text
}

/// Returns the statement about the memory of one idle server.
pub(crate) fn stated(name: &str, idle: u64, memory_text: &str) -> String {
    let bound = idle + budget_bytes() as u64;
    format!(
        "- {name}: idle {:.1} MiB, so at most {:.1} MiB. Measured: {memory_text}.\n",
        idle as f64 / MIB,
        bound as f64 / MIB
    )
}

/// Returns the middle ratio, and the range of the ratios of all rounds.
fn range(ratios: &[f64]) -> String {
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.2} ({low:.2} to {high:.2})", median(ratios))
}

/// Returns the result of all backends.
pub(crate) fn table(all: &[Measured]) -> String {
    let mut text = "\n## Result\n\n\
        | backend | goodput normal | sink attacked | server attacked | ratio | operations ratio \
        | newcomers, sink | newcomers, server | worst small get, sink | worst small get, server \
        | recovery | peak / bound | not kept |\n\
        |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n"
        .to_owned();
    for measured in all {
        let mib = |figure: fn(&Round) -> f64| measured.median(figure) / MIB;
        let ms = |figure: fn(&Round) -> u64| measured.worst(figure) as f64 / 1e3;
        let newcomers = |phase: fn(&Round) -> &Phase| {
            let [served, _, came] = measured.newcomers(phase);
            format!("{served} of {came}")
        };
        let failures = measured.failures();
        let _ = writeln!(
            text,
            "| {} | {:.1} MiB/s | {:.1} MiB/s | {:.1} MiB/s | {} | {} | {} | {} | {:.0} ms \
             | {:.0} ms | {} | {:.1} / {:.1} MiB | {} |",
            measured.name,
            mib(|round| round.normal.goodput()),
            mib(|round| round.sink.goodput()),
            mib(|round| round.server.goodput()),
            range(&measured.ratios(Phase::goodput)),
            range(&measured.ratios(Phase::operations)),
            newcomers(|round| &round.sink),
            newcomers(|round| &round.server),
            ms(|round| round.sink.worst(|bin| bin.small_us)),
            ms(|round| round.server.worst(|bin| bin.small_us)),
            measured.recovery().map_or("none".to_owned(), |t| format!("{:.1} s", t.as_secs_f64())),
            measured.peak() as f64 / MIB,
            measured.bound() as f64 / MIB,
            if failures.is_empty() { "-".to_owned() } else { failures.join(", ") }
        );
    }
    let _ = writeln!(
        text,
        "\nMedians of the rounds, and the range of the ratios; for latencies, recovery and memory \
         the worst round. Limits: ratio {MIN_RATIO}, small get and newcomer {} s, recovery {} s.",
        MAX_LATENCY.as_secs(),
        MAX_RECOVERY.as_secs()
    );
    for measured in all {
        details(&mut text, measured);
    }
    text
}

/// Appends the figures of each round and the totals of the attackers.
fn details(text: &mut String, measured: &Measured) {
    let _ = writeln!(
        text,
        "\n## {}\n\n| round | phase | MiB/s | operations/s | errors | newcomers | failed \
         | worst newcomer | worst small get | memory | of the kernel | resident peak \
         | files cached | cores: server, sink, honest, attackers |\n\
         |--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        measured.name
    );
    for (number, round) in measured.rounds.iter().enumerate() {
        let phases = [("normal", &round.normal), ("sink", &round.sink), ("server", &round.server)];
        for (name, phase) in phases {
            let _ = writeln!(
                text,
                "| {} | {name} | {:.1} | {:.0} | {} | {} of {} | {} | {:.0} ms | {:.0} ms \
                 | {:.1} MiB | {:.1} MiB | {:.1} MiB | {:.1} MiB | {} |",
                number + 1,
                phase.goodput() / MIB,
                phase.operations(),
                phase.sum(|bin| bin.errors),
                phase.sum(|bin| bin.newcomers_served),
                phase.sum(|bin| bin.newcomers),
                phase.sum(|bin| bin.newcomers_failed),
                phase.worst(|bin| bin.newcomer_us) as f64 / 1e3,
                phase.worst(|bin| bin.small_us) as f64 / 1e3,
                phase.memory.own as f64 / MIB,
                phase.memory.kernel as f64 / MIB,
                phase.resident_peak as f64 / MIB,
                phase.memory.cache as f64 / MIB,
                phase.cores.map(|share| format!("{share:.2}")).join(", ")
            );
        }
    }
    attackers(text, &measured.rounds);
    let stats = measured.rounds.last().map_or("", |round| &round.server.stats);
    let _ = writeln!(
        text,
        "\nThe counters at the end of the last attack: `{stats}`\n\nAfter the shutdown: {}.",
        measured.ending.text
    );
}

/// Appends the totals of the attackers against the sink and against the server, over all rounds.
fn attackers(text: &mut String, rounds: &[Round]) {
    text.push_str(
        "\n| attack | connects to sink | ended by it | failed | MiB passed on | connects to server \
         | ended by it | failed | MiB passed on | MiB received |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let count = rounds.first().map_or(0, |round| round.sink.totals.len());
    for index in 0..count {
        let mut sink = Totals::default();
        let mut server = Totals::default();
        for round in rounds {
            round.sink.totals.get(index).into_iter().for_each(|(_, totals)| sink.add(*totals));
            round.server.totals.get(index).into_iter().for_each(|(_, totals)| server.add(*totals));
        }
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} | {} | {} | {} | {:.1} | {:.1} |",
            rounds[0].sink.totals[index].0,
            sink.connects,
            sink.ended,
            sink.failed,
            sink.sent as f64 / MIB,
            server.connects,
            server.ended,
            server.failed,
            server.sent as f64 / MIB,
            server.received as f64 / MIB
        );
    }
    text.push_str(
        "\nFailed: attempts to connect that failed at the attacker, for example without a free \
         port. MiB passed on: to the sockets, so what the other side has not read is included, \
         and the columns of sink and server do not compare.\n",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_both_ends_and_the_mean_of_both_middle_ratios() {
        assert_eq!(range(&[0.75, 1.0, 0.5, 1.25]), "0.88 (0.50 to 1.25)");
    }
}
