//! The report of a load, as text, as JSON, and as an exit code.

use std::fmt;
use std::io::{self, IsTerminal as _};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::connection_counts::Reasons;
use super::load::LoadTest;
use super::measurements::{SLOTS, Shard};
use super::{Bench, LoadResult};
use crate::failure::{CommandResult, Failure};
use crate::term::plot;

/// The results. The JSON object has every field under its name here.
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
    /// The payload in each direction, in millions of bytes.
    megabytes_per_second: f64,
    latency_us: Latency,
    errors: Errors,
    interrupted: bool,
    /// The measurements to draw, if stdout is a terminal.
    #[serde(skip)]
    diagrams: Option<Shard>,
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
    /// The number of lost connections that the server ended, or on which it broke the protocol.
    lost_by_peer: u64,
    mismatches: u64,
    mismatch_examples: Vec<String>,
    /// The number of connections that did not get all echoes in time.
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

    fn all(&self) -> [f64; 5] {
        [self.p50, self.p90, self.p99, self.p99_9, self.max]
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
    /// Makes the report of a load whose connections have all ended.
    pub(crate) fn new(bench: &Bench, test: &LoadTest, result: LoadResult) -> Self {
        let measured = test.measurements.merged();
        let messages = measured.latency.len();
        let seconds = result.time.as_secs_f64();
        let rate = if messages > 0 { messages as f64 / seconds } else { 0.0 };
        test.connections.read(|counts| Self {
            address: bench.target.to_string(),
            framing: bench.framing.to_string(),
            connections: bench.connections,
            connected: counts.connected.len() as u64,
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
                lost_by_peer: counts.lost_by_peer,
                mismatches: counts.mismatches,
                mismatch_examples: counts.examples.clone(),
                unanswered: result.unanswered,
            },
            interrupted: counts.interrupted,
            diagrams: io::stdout().is_terminal().then_some(measured),
        })
    }

    fn draw(&self, measured: &Shard, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = &measured.slots;
        let last = slots.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        writeln!(f, "over time   {}", plot::columns(&slots[..last.min(SLOTS)]))?;
        let rows = distribution(&measured.latency);
        let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1);
        for (up_to_us, count) in rows {
            let share = 100.0 * count as f64 / self.messages as f64;
            let bar = plot::bar(count, most, 40);
            let row = format!("  <= {:>8} {share:>6.2} % {bar}", time(up_to_us));
            writeln!(f, "{}", row.trim_end())?;
        }
        Ok(())
    }

    /// Returns an error if a connection or an echo was wrong.
    pub(crate) fn verdict(&self) -> CommandResult {
        let errors = &self.errors;
        let address = &self.address;
        let text = if let Some(first) = errors.mismatch_examples.first() {
            format!("{address} sent {} wrong echoes, first: {first}", errors.mismatches)
        } else if self.connected == 0 && self.interrupted {
            "interrupted before a connection was established".to_owned()
        } else if self.connected == 0 {
            let reasons = errors.not_connected_reasons.join("; ");
            format!("no connection to {address} was established: {reasons}")
        } else if let Some(parts) = errors.of_connections() {
            let hint = if self.messages == 0 && errors.lost_by_peer > 0 {
                format!("; does it echo messages in the framing {}?", self.framing)
            } else {
                String::new()
            };
            format!("of {} connections to {address}, {parts}{hint}", self.connections)
        } else if self.messages == 0 && !self.interrupted {
            format!("{address} echoed nothing in the measured time; use a larger --seconds")
        } else {
            return Ok(());
        };
        Err(Failure::runtime(text))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connected, connections, size_bytes, depth, .. } = self;
        writeln!(
            f,
            "{connected} of {connections} connections to {}, {} framing, {size_bytes} bytes, \
             {depth} in flight on each",
            self.address, self.framing
        )?;
        let ended = if self.interrupted { ", interrupted" } else { "" };
        if self.messages == 0 {
            writeln!(f, "messages    none{ended}")?;
            return self.errors.fmt(f);
        }
        writeln!(f, "messages    {} in {:.2} s{ended}, each checked", self.messages, self.seconds)?;
        writeln!(
            f,
            "rate        {:.0} messages/s, {:.2} MB/s each way",
            self.messages_per_second, self.megabytes_per_second
        )?;
        let [p50, p90, p99, p99_9, max] = self.latency_us.all().map(time);
        writeln!(f, "latency     p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p99_9}  max {max}")?;
        if let Some(measured) = &self.diagrams {
            self.draw(measured, f)?;
        }
        self.errors.fmt(f)
    }
}

impl Errors {
    /// Describes the failed connections. Returns `None` if there are none.
    fn of_connections(&self) -> Option<String> {
        let parts: Vec<String> = [
            (self.not_connected, "were not established", &self.not_connected_reasons),
            (self.lost, "ended early", &self.lost_reasons),
            (self.unanswered, "did not get all echoes", &Vec::new()),
        ]
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, what, reasons)| match reasons.first() {
            Some(reason) => format!("{count} {what} ({reason})"),
            None => format!("{count} {what}"),
        })
        .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self.not_connected + self.lost + self.mismatches + self.unanswered;
        if sum == 0 {
            return writeln!(f, "errors      none");
        }
        writeln!(f, "errors      {sum}")?;
        for (count, what, lines) in [
            (self.not_connected, "connections were not established", &self.not_connected_reasons),
            (self.lost, "connections ended early", &self.lost_reasons),
            (self.mismatches, "echoes were wrong", &self.mismatch_examples),
            (self.unanswered, "connections did not get all echoes", &Vec::new()),
        ] {
            if count > 0 {
                writeln!(f, "  {count} {what}")?;
                lines.iter().try_for_each(|line| writeln!(f, "    {line}"))?;
            }
        }
        Ok(())
    }
}

/// Formats microseconds in the unit that reads best.
fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// Counts the messages with a latency up to each of 1, 1.5, 2, 3, 5, 7, 10, 15, .. microseconds.
/// Empty rows before the first message and after the last are left out.
fn distribution(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let bounds_ns =
        (2..10).flat_map(|power| [10, 15, 20, 30, 50, 70].map(|digits| digits * 10_u64.pow(power)));
    let mut rows = Vec::new();
    let mut below = 0;
    for ns in bounds_ns {
        let up_to = histogram.count_between(0, ns);
        if up_to > below || (!rows.is_empty() && up_to < histogram.len()) {
            rows.push((ns as f64 / 1000.0, up_to - below));
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
        let nonempty: Vec<_> = rows.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(nonempty, [(3.0, 1), (5.0, 1), (30.0, 1), (50.0, 2), (500.0, 1)]);
        assert_eq!((rows[0], rows[rows.len() - 1]), (nonempty[0], nonempty[4]));
    }

    #[test]
    fn times_are_shown_in_the_unit_that_reads_best() {
        let shown = [3.4, 999.0, 1_500.0, 2_345_000.0].map(time);
        assert_eq!(shown, ["3 us", "999 us", "1.50 ms", "2.35 s"].map(String::from));
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
