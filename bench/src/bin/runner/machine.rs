//! The machine on which the numbers were measured.

use std::fmt;
use std::fs;
use std::process::Command;

use rustix::system::uname;

/// The crates whose versions are reported.
const CRATES: &[&str] =
    &["posthouse", "tokio", "tokio-util", "compio", "compio-driver", "monoio", "io-uring"];

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) rustc: String,
    pub(crate) commit: String,
    pub(crate) crates: Vec<(&'static str, String)>,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let kernel = uname().release().to_string_lossy().into_owned();
        let commit = said("git", &["rev-parse", "--short", "HEAD"]);
        let changed = !said("git", &["status", "--porcelain"]).is_empty();
        Self {
            date: said("date", &["-u", "+%F"]),
            // The text after the version is the name of a build.
            kernel: kernel.split('-').next().unwrap_or_default().to_owned(),
            processor: processor(),
            rustc: said("rustc", &["--version"]),
            commit: if changed { format!("{commit} with changes") } else { commit },
            crates: CRATES.iter().map(|name| (*name, versions(name))).collect(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, kernel, processor, rustc, commit, crates } = self;
        writeln!(f, "{date}, Linux {kernel}, {processor}, {rustc}, commit {commit}")?;
        let crates: Vec<_> =
            crates.iter().map(|(name, version)| format!("{name} {version}")).collect();
        write!(f, "{}", crates.join(", "))
    }
}

/// The ticks for which the processors, and this process with its ended children, were busy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy {
    all: u64,
    own: u64,
}

impl Busy {
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let numbers = |line: &str| -> Vec<u64> {
            line.split(' ').filter_map(|word| word.parse().ok()).collect()
        };
        // user nice system idle iowait irq softirq, of all processors
        let all = stat.lines().next().map(numbers).unwrap_or_default();
        let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // After the name, utime, stime, cutime and cstime are the fields 14 to 17 of the line.
        let own = own.rsplit(") ").next().map(|line| numbers(&line[2..])).unwrap_or_default();
        Self {
            all: all.iter().take(7).sum::<u64>() - all.iter().skip(3).take(2).sum::<u64>(),
            own: own.iter().skip(10).take(4).sum(),
        }
    }

    /// Returns the share of other processes in the processors' work since `before`.
    pub(crate) fn share_of_others(self, before: Self) -> f64 {
        let all = self.all - before.all;
        let own = self.own - before.own;
        all.saturating_sub(own) as f64 / all.max(1) as f64
    }
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or("unknown processor", |line| line.trim_start_matches([' ', '\t', ':'])).to_owned()
}

/// Returns the versions of a package in the lock file; io-uring has two.
fn versions(package: &str) -> String {
    let lock = include_str!("../../../Cargo.lock");
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines();
    let mut found = Vec::new();
    while lines.any(|line| line == name) {
        let version = lines.next().and_then(|line| line.strip_prefix("version = "));
        found.extend(version.map(|version| version.trim_matches('"')));
    }
    found.join(" and ")
}

/// Returns the first line of a program's output, or an empty text if the program does not run.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}
