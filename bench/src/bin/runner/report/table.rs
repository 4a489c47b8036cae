//! The tables, in Markdown that is also readable on a terminal.

use std::fmt::Write as _;

use super::{Measured, Report, Row, WorkResult};

/// The share of other work above which the machine is not quiet. The kernel's own work takes a few
/// percent.
const COMPANY_PERCENT: f64 = 10.0;

/// Returns the table of ratios: a line for each contender, a column for each kind of work.
pub(super) fn ratios(report: &Report) -> String {
    let Some(first) = report.works.first() else { return String::new() };
    let mut head = vec!["CPU over baseline epoll".to_owned()];
    head.extend((1..=report.works.len()).map(|number| format!("({number})")));
    let mut lines = vec![head];
    let cell = |row: &Row| match &row.measured {
        Ok(measured) => format!("{:.2}", measured.ratio.median),
        Err(_) => "-".into(),
    };
    let mut baseline = vec!["baseline epoll (A/A)".to_owned()];
    baseline.extend(report.works.iter().map(|result| cell(&result.baseline)));
    lines.push(baseline);
    for (at, row) in first.rows.iter().enumerate() {
        let mut line = vec![row.name.to_owned()];
        line.extend(report.works.iter().map(|result| cell(&result.rows[at])));
        lines.push(line);
    }
    let mut text = table(&lines);
    text.push('\n');
    for (number, result) in (1..).zip(&report.works) {
        let _ = writeln!(text, "({number}) {}  ", result.work.name());
    }
    text
}

/// Returns the whole result.
pub(super) fn document(report: &Report, stem: &str) -> String {
    let machine = &report.machine;
    let mut text = format!("# Measured {}, Linux {}\n\n", machine.date, machine.kernel);
    let _ = writeln!(text, "{}, {}, commit {}  ", machine.processor, machine.rustc, machine.commit);
    let crates: Vec<_> =
        machine.crates.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let _ = writeln!(text, "{}\n", crates.join(", "));
    let _ = writeln!(
        text,
        "{} pairs of 50 ms for each row, half of them in each start order; {} s in all; {}.{} The \
         method and how to read this: [README](../README.md).\n",
        2 * report.pairs,
        report.took.as_secs(),
        company(report),
        if report.quick { " **A quick run: for a first look only.**" } else { "" }
    );
    let _ = writeln!(text, "![ratios]({stem}.svg)\n\n## Processor time over the baseline\n");
    let _ = writeln!(
        text,
        "Server CPU for each frame (connection), divided by that of the hand-written epoll server \
         and by the ratio of that server to itself (A/A, first line, undivided).\n"
    );
    text.push_str(&ratios(report));
    for result in &report.works {
        text.push_str(&details(result));
    }
    text.push_str(&memory(report));
    text
}

/// Returns a text on the share of other work, which says whether the machine was quiet.
pub(super) fn company(report: &Report) -> String {
    let percent = report.share_of_others * 100.0;
    let told = format!("other work took {percent:.0} % of the cores' work in the meantime");
    if percent > COMPANY_PERCENT {
        format!("{told}: measure again on a quiet machine")
    } else {
        told
    }
}

fn details(result: &WorkResult) -> String {
    let unit = result.work.unit();
    let paced = rows(result).any(|(_, measured)| measured.latency.is_some());
    let mut head: Vec<String> =
        ["", "ratio", "95 %", "undivided", "by sums"].map(Into::into).into();
    head.extend([format!("us/{unit}"), format!("{unit}s/s"), "server busy".into()]);
    if paced {
        head.extend(["p50 us", "p99 us", "p99.9 us", "samples"].map(Into::into));
    } else {
        head.push("load core".into());
    }
    let mut lines = vec![head];
    for (name, measured) in rows(result) {
        let ratio = &measured.ratio;
        let mut line = vec![
            name.to_owned(),
            format!("{:.3}", ratio.median),
            format!("{:.3} - {:.3}", ratio.low, ratio.high),
            format!("{:.3}", measured.undivided),
            format!("{:.3}", measured.of_sums),
            format!("{:.2}", measured.ns_per_unit / 1e3),
            format!("{:.0}", measured.units_per_second),
            format!("{:.0} %", measured.server_share * 100.0),
        ];
        match &measured.latency {
            Some(latency) => {
                let us = |ns: u64| format!("{:.1}", ns as f64 / 1e3);
                line.extend([us(latency.p50), us(latency.p99)]);
                line.push(latency.p999.map_or("-".into(), us));
                line.push(latency.samples.to_string());
            }
            None if measured.load_saturated => line.push("saturated".into()),
            None => line.push("had time".into()),
        }
        lines.push(line);
    }
    let mut text = format!("\n## {}\n\n{}", result.work.name(), table(&lines));
    for row in &result.rows {
        if let Err(reason) = &row.measured {
            let _ = writeln!(text, "\nLeft out: {}: {reason}.", row.name);
        }
    }
    text
}

fn memory(report: &Report) -> String {
    if report.memory.is_empty() {
        return String::new();
    }
    let mut lines = vec![vec![String::new(), "bytes".into()]];
    for row in &report.memory {
        let cell = match &row.bytes {
            Ok(bytes) => format!("{bytes:.0}"),
            Err(reason) => format!("left out: {reason}"),
        };
        lines.push(vec![row.name.into(), cell]);
    }
    format!(
        "\n## Idle memory\n\nResident bytes of the server for each of {} connections that have had \
         one echo of 64 B; the kernel's share is not in it.\n\n{}",
        crate::memory::CONNECTIONS,
        table(&lines)
    )
}

fn rows(result: &WorkResult) -> impl Iterator<Item = (&'static str, &Measured)> {
    let all = std::iter::once(&result.baseline).chain(&result.rows);
    all.filter_map(|row| row.measured.as_ref().ok().map(|measured| (row.name, measured)))
}

/// Returns a table with columns of even width: the first is left-aligned, all others right-aligned.
fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(|at| width(at).max(2)).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match at {
                0 => write!(text, "| {cell:<width$} |"),
                _ => write!(text, " {cell:>width$} |"),
            };
        }
        text.push('\n');
        if number == 0 {
            for (at, width) in widths.iter().enumerate() {
                let _ = match at {
                    0 => write!(text, "|{:-<1$}|", "", width + 2),
                    _ => write!(text, "{:-<1$}:|", "", width + 1),
                };
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn a_table_has_even_columns() {
        let line = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = table(&[line(["", "ratio"]), line(["baseline", "1.0"])]);
        assert_eq!(text, "|          | ratio |\n|----------|------:|\n| baseline |   1.0 |\n");
    }
}
