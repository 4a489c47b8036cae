//! What a load found, for a person, for a program, and as an exit code.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::Run;
use super::progress::Reasons;
use super::tally::{SLOTS, Shard};
use super::{Bench, Measured};
use crate::failure::{Failure, Outcome};
use crate::plot;

/// The figures. As JSON every field is there, with these names.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    address: String,
    framing: String,
    connections: u32,
    connected: u64,
    size_bytes: u32,
    depth: u32,
    seconds: f64,
    messages: u64,
    messages_per_second: f64,
    /// Payload in each direction, in millions of bytes.
    megabytes_per_second: f64,
    latency_us: Latency,
    errors: Errors,
    interrupted: bool,
    #[serde(skip)]
    measured: Shard,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Errors {
    not_connected: u64,
    not_connected_reasons: Vec<String>,
    lost: u64,
    lost_reasons: Vec<String>,
    mismatches: u64,
    mismatch_examples: Vec<String>,
    /// Connections that still waited for echoes when the time for the last ones was over.
    unanswered: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |percentile| us(histogram.value_at_percentile(percentile));
        Self {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            max: us(histogram.max()),
        }
    }
}

fn counted(reasons: &Reasons) -> Vec<String> {
    let mut lines: Vec<String> =
        reasons.texts.iter().map(|(text, count)| format!("{count} x {text}")).collect();
    let rest = reasons.total - reasons.texts.values().sum::<u64>();
    if rest > 0 {
        lines.push(format!("{rest} x other reasons"));
    }
    lines
}

impl Report {
    /// After everything has ended.
    pub(crate) fn new(bench: &Bench, run: &Run, how: Measured) -> Self {
        let measured = run.tally.merged();
        let messages = measured.latency.len();
        let seconds = how.time.as_secs_f64();
        let rate = if messages > 0 { messages as f64 / seconds } else { 0.0 };
        run.progress.look(|counts| Self {
            address: bench.target.to_string(),
            framing: bench.framing.to_string(),
            connections: bench.connections,
            connected: counts.up.len() as u64,
            size_bytes: bench.size,
            depth: bench.depth,
            seconds,
            messages,
            messages_per_second: rate,
            megabytes_per_second: rate * f64::from(bench.size) / 1e6,
            latency_us: Latency::of(&measured.latency),
            errors: Errors {
                not_connected: counts.unreachable.total,
                not_connected_reasons: counted(&counts.unreachable),
                lost: counts.lost.total,
                lost_reasons: counted(&counts.lost),
                mismatches: counts.mismatches,
                mismatch_examples: counts.examples.clone(),
                unanswered: how.unanswered,
            },
            interrupted: counts.interrupted,
            measured,
        })
    }

    /// For a person: a picture only on a terminal.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out, io::stdout().is_terminal());
        out
    }

    fn write(&self, out: &mut String, pictures: bool) -> std::fmt::Result {
        let Self { connected, connections, size_bytes, depth, .. } = self;
        writeln!(
            out,
            "{connected} of {connections} connections to {}, {} framing, {size_bytes} bytes, \
             {depth} in flight on each",
            self.address, self.framing
        )?;
        let ended = if self.interrupted { ", interrupted" } else { "" };
        writeln!(
            out,
            "messages    {} in {:.2} s{ended}, each checked",
            self.messages, self.seconds
        )?;
        writeln!(
            out,
            "rate        {:.0} messages/s, {:.2} MB/s each way",
            self.messages_per_second, self.megabytes_per_second
        )?;
        let Latency { p50, p90, p99, p99_9, max } = self.latency_us;
        writeln!(
            out,
            "latency     p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            time(p50),
            time(p90),
            time(p99),
            time(p99_9),
            time(max)
        )?;
        if pictures && self.messages > 0 {
            self.draw(out)?;
        }
        self.errors.write(out)
    }

    fn draw(&self, out: &mut String) -> std::fmt::Result {
        let slots = &self.measured.slots;
        let last = slots.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        writeln!(out, "over time   {}", plot::columns(&slots[..last.min(SLOTS)]))?;
        let rows = distribution(&self.measured.latency);
        let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1);
        for (up_to_us, count) in rows {
            let share = 100.0 * count as f64 / self.messages as f64;
            let bar = plot::bar(count, most, 40);
            writeln!(out, "  <= {:>8} {share:>6.2} % {bar}", time(up_to_us))?;
        }
        Ok(())
    }

    /// Success only if everything that was asked for was done and right.
    pub(crate) fn verdict(&self) -> Outcome {
        let errors = &self.errors;
        let address = &self.address;
        let text = if errors.mismatches > 0 {
            let count = errors.mismatches;
            format!("{address} echoed {count} messages wrongly: see the lines above")
        } else if self.connected == 0 && self.interrupted {
            "interrupted before a connection was up".to_owned()
        } else if self.connected == 0 {
            let reasons = errors.not_connected_reasons.join("; ");
            format!("no connection to {address} came up ({reasons}): is a server listening there?")
        } else if errors.not_connected + errors.lost + errors.unanswered > 0 {
            format!(
                "with {address}: {} connections did not come up, {} ended early, {} waited in vain \
                 for echoes",
                errors.not_connected, errors.lost, errors.unanswered
            )
        } else if self.messages == 0 && !self.interrupted {
            format!("{address} echoed nothing in the measured time: measure for longer")
        } else {
            return Ok(());
        };
        Err(Failure::runtime(text))
    }
}

impl Errors {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let sum = self.not_connected + self.lost + self.mismatches + self.unanswered;
        if sum == 0 {
            return writeln!(out, "errors      none");
        }
        writeln!(out, "errors      {sum}")?;
        for (count, what, lines) in [
            (self.not_connected, "connections did not come up", &self.not_connected_reasons),
            (self.lost, "connections ended early", &self.lost_reasons),
            (self.mismatches, "echoes were wrong", &self.mismatch_examples),
            (self.unanswered, "connections waited in vain for echoes at the end", &Vec::new()),
        ] {
            if count > 0 {
                writeln!(out, "  {count} {what}")?;
                lines.iter().try_for_each(|line| writeln!(out, "    {line}"))?;
            }
        }
        Ok(())
    }
}

/// Microseconds, with the unit that reads best.
fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// Messages with a latency up to each of 1, 2, 5, 10, 20, 50, .. microseconds, without the empty
/// rows before the first and after the last.
fn distribution(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let bounds = (0..9).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)));
    let mut rows = Vec::new();
    let mut below = 0;
    for us in bounds {
        let up_to = histogram.count_between(0, us * 1000);
        if up_to > below || (!rows.is_empty() && up_to < histogram.len()) {
            rows.push((us as f64, up_to - below));
        }
        below = up_to;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_counts_every_message_once_and_has_no_empty_ends() {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for us in [3, 4, 30, 31, 32, 400] {
            histogram.record(us * 1000).unwrap();
        }
        let rows = distribution(&histogram);
        let expected = [(5, 2), (10, 0), (20, 0), (50, 3), (100, 0), (200, 0), (500, 1)]
            .map(|(us, n)| (f64::from(us), n));
        assert_eq!(rows, expected);
    }

    #[test]
    fn times_are_told_in_the_unit_that_reads_best() {
        let told = [3.4, 999.0, 1_500.0, 2_345_000.0].map(time);
        assert_eq!(told, ["3 us", "999 us", "1.50 ms", "2.35 s"].map(String::from));
    }

    #[test]
    fn reasons_beyond_the_kept_ones_are_summed_up() {
        let texts = [("refused".to_owned(), 3)].into();
        assert_eq!(counted(&Reasons { total: 3, texts }), ["3 x refused"]);
        let texts = [("refused".to_owned(), 3)].into();
        let lines = counted(&Reasons { total: 5, texts });
        assert_eq!(lines, ["3 x refused", "2 x other reasons"]);
    }
}
