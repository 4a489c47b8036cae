//! The machine on which the numbers were measured.

use std::fmt;
use std::fs;
use std::process::Command;

use rustix::system::uname;

use crate::processes::Ticks;

/// The crates whose versions are reported.
const CRATES: &[&str] =
    &["posthouse", "tokio", "tokio-util", "compio", "compio-driver", "monoio", "io-uring"];

/// The machine, its system, and the versions of what is measured.
#[derive(Debug)]
pub struct Machine {
    /// The date in UTC.
    pub date: String,
    /// The version of Linux.
    pub kernel: String,
    /// The name of the processor.
    pub processor: String,
    /// The version of the compiler.
    pub rustc: String,
    /// The commit of the source, and whether the source has changes.
    pub commit: String,
    /// The versions of some packages.
    pub crates: Vec<(&'static str, String)>,
}

impl Machine {
    /// Asks the system and its programs.
    pub fn here() -> Self {
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
pub struct Busy {
    all: u64,
    own: u64,
}

impl Busy {
    /// Returns the ticks until now.
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let numbers = |line: &str| -> Vec<u64> {
            line.split(' ').filter_map(|word| word.parse().ok()).collect()
        };
        // user nice system idle iowait irq softirq, of all processors
        let all = stat.lines().next().map(numbers).unwrap_or_default();
        let own = Ticks::of(std::process::id());
        Self {
            all: all.iter().take(7).sum::<u64>() - all.iter().skip(3).take(2).sum::<u64>(),
            own: own.own + own.children,
        }
    }

    /// Returns the share of other processes in the processors' work since `before`.
    pub fn share_of_others(self, before: Self) -> f64 {
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
    let lock = include_str!("../Cargo.lock");
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
