//! The plot: a panel for each kind of work, and in it a bar for each contender. The bar's length is
//! the ratio, and a whisker shows the range. The line at 1 is the hand-written server.

use std::fmt::Write as _;

use super::{Report, Row, WorkResult};

const COLUMNS: usize = 2;
const PANEL_WIDTH: f64 = 560.0;
const NAMES_WIDTH: f64 = 150.0;
const NUMBERS_WIDTH: f64 = 56.0;
const ROW_HEIGHT: f64 = 20.0;
const PANEL_HEAD: f64 = 30.0;
const HEAD: f64 = 78.0;
const MARGIN: f64 = 20.0;
/// The ratio at which a bar is cut; its number shows the rest.
const RATIO_MAX: f64 = 2.5;

pub(super) fn document(report: &Report) -> String {
    let rows = report.works.first().map_or(0, |result| result.rows.len() + 1) as f64;
    let panel_height = PANEL_HEAD + rows * ROW_HEIGHT + 24.0;
    let lines = report.works.len().div_ceil(COLUMNS) as f64;
    let width = MARGIN * 2.0 + PANEL_WIDTH * COLUMNS as f64;
    let height = HEAD + lines * panel_height + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let machine = &report.machine;
    let title = "Server processor time for each unit of work, over a hand-written epoll server";
    text(&mut svg, MARGIN, 28.0, "start", "font-size=\"17\" font-weight=\"bold\"", title);
    let facts = format!(
        "{}, Linux {}, {}, {}, commit {}",
        machine.date, machine.kernel, machine.processor, machine.rustc, machine.commit
    );
    text(&mut svg, MARGIN, 46.0, "start", "fill=\"#555555\"", &facts);
    let crates: Vec<_> =
        machine.crates.iter().map(|(name, version)| format!("{name} {version}")).collect();
    text(&mut svg, MARGIN, 62.0, "start", "fill=\"#555555\"", &crates.join(", "));
    for (at, result) in report.works.iter().enumerate() {
        let x = MARGIN + (at % COLUMNS) as f64 * PANEL_WIDTH;
        let y = HEAD + (at / COLUMNS) as f64 * panel_height;
        panel(&mut svg, x, y, result);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, x: f64, y: f64, result: &WorkResult) {
    let left = x + NAMES_WIDTH;
    let scale = scale();
    let rows = std::iter::once(&result.baseline).chain(&result.rows);
    let count = result.rows.len() as f64 + 1.0;
    text(svg, x, y + 18.0, "start", "font-weight=\"bold\"", &result.work.name());
    let top = y + PANEL_HEAD - 4.0;
    let bottom = y + PANEL_HEAD + count * ROW_HEIGHT;
    for (number, tick) in [0.0, 0.5, 1.0, 1.5, 2.0, 2.5].into_iter().enumerate() {
        let at = left + tick * scale;
        let color = if number == 2 { "#222222" } else { "#dddddd" };
        let _ = writeln!(
            svg,
            "<line x1=\"{at}\" y1=\"{top}\" x2=\"{at}\" y2=\"{bottom}\" stroke=\"{color}\"/>"
        );
        let grey = "fill=\"#777777\" font-size=\"10\"";
        text(svg, at, bottom + 12.0, "middle", grey, &tick.to_string());
    }
    for (at, row) in rows.enumerate() {
        bar(svg, x, y + PANEL_HEAD + at as f64 * ROW_HEIGHT, row);
    }
}

fn bar(svg: &mut String, x: f64, y: f64, row: &Row) {
    let left = x + NAMES_WIDTH;
    let scale = scale();
    text(svg, left - 8.0, y + 13.0, "end", "", row.name);
    let Ok(measured) = &row.measured else {
        text(svg, left + 4.0, y + 13.0, "start", "fill=\"#999999\"", "left out");
        return;
    };
    let ratio = measured.ratio;
    let length = ratio.median.min(RATIO_MAX) * scale;
    let color = match row.name.split(' ').next() {
        Some("posthouse") => "#2f6fb0",
        Some("baseline") => "#9a9a9a",
        _ => "#d2a25a",
    };
    let _ = writeln!(
        svg,
        "<rect x=\"{left}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{color}\"/>",
        y + 2.0,
        ROW_HEIGHT - 6.0
    );
    if ratio.high <= RATIO_MAX {
        let low = left + ratio.low * scale;
        let high = left + ratio.high * scale;
        let middle = y + ROW_HEIGHT / 2.0 - 1.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{low:.1} {middle}H{high:.1}M{low:.1} {0}v6M{high:.1} {0}v6\" \
             stroke=\"#222222\" fill=\"none\"/>",
            middle - 3.0
        );
    }
    let number = format!("{:.2}", ratio.median);
    text(svg, left + RATIO_MAX * scale + 8.0, y + 13.0, "start", "", &number);
}

/// Returns the number of pixels for a ratio of 1.
fn scale() -> f64 {
    (PANEL_WIDTH - NAMES_WIDTH - NUMBERS_WIDTH) / RATIO_MAX
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, style: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ =
        writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" {style}>{text}</text>");
}
