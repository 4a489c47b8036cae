//! The numbers in JSON, for programs.

use serde_json::{Value, json};

use super::{Report, Row};

pub(super) fn document(report: &Report) -> String {
    let machine = &report.machine;
    let crates: serde_json::Map<String, Value> = machine
        .crates
        .iter()
        .map(|(name, version)| ((*name).to_owned(), version.as_str().into()))
        .collect();
    let works: Vec<Value> = report
        .works
        .iter()
        .map(|result| {
            json!({
                "work": result.work.name(),
                "unit": result.work.unit(),
                "baseline_over_itself": row(&result.baseline),
                "contenders": result.rows.iter().map(row).collect::<Vec<_>>(),
            })
        })
        .collect();
    let memory: Vec<Value> = report
        .memory
        .iter()
        .map(|row| match &row.bytes {
            Ok(bytes) => json!({ "name": row.name, "bytes_per_connection": bytes }),
            Err(reason) => json!({ "name": row.name, "left_out": reason }),
        })
        .collect();
    let document = json!({
        "date": machine.date,
        "kernel": machine.kernel,
        "processor": machine.processor,
        "rustc": machine.rustc,
        "commit": machine.commit,
        "crates": crates,
        "quick": report.quick,
        "pairs_in_each_order": report.pairs,
        "slice_ms": 50,
        "share_of_other_work": report.share_of_others,
        "seconds": report.took.as_secs(),
        "works": works,
        "idle_memory": memory,
    });
    format!("{document:#}\n")
}

fn row(row: &Row) -> Value {
    let measured = match &row.measured {
        Ok(measured) => measured,
        Err(reason) => return json!({ "name": row.name, "left_out": reason }),
    };
    let latency = measured.latency.as_ref().map(|latency| {
        json!({
            "p50_ns": latency.p50,
            "p99_ns": latency.p99,
            "p999_ns": latency.p999,
            "samples": latency.samples,
        })
    });
    json!({
        "name": row.name,
        "ratio": measured.ratio.median,
        "ratio_low": measured.ratio.low,
        "ratio_high": measured.ratio.high,
        "ratio_undivided": measured.undivided,
        "ratio_of_sums_undivided": measured.of_sums,
        "server_ns_per_unit": measured.ns_per_unit,
        "units_per_second": measured.units_per_second,
        "server_busy": measured.server_share,
        "load_saturated": measured.load_saturated,
        "latency": latency,
    })
}
