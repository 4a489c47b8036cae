//! This machine and its limits, with one file for each system.

#[cfg(not(windows))]
mod linux;
#[cfg(windows)]
mod windows;

use super::{Finding, Verdict};
#[cfg(not(windows))]
pub(super) use linux::findings;
#[cfg(windows)]
pub(super) use windows::findings;

fn processors() -> Finding {
    let Ok(cores) = std::thread::available_parallelism() else { return unknown("cores") };
    let advice = format!("io_workers = 0 means {} I/O workers here", cores.get().min(8));
    finding("cores", cores.to_string(), Verdict::Good, advice)
}

fn finding(
    what: &'static str,
    value: impl Into<String>,
    verdict: Verdict,
    advice: impl Into<String>,
) -> Finding {
    Finding { what, value: value.into(), verdict, advice: advice.into() }
}

fn unknown(what: &'static str) -> Finding {
    finding(what, "not reported by this system", Verdict::Unknown, "")
}
