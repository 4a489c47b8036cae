//! The processes of a measurement: their cores, their priority, their limits, and the figures that
//! the system keeps of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::{Resource, getrlimit, setpriority_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The core of the servers.
pub const SERVER_CORE: usize = 0;
/// The core of the load, and of this process as soon as it has started a server.
pub const PEER_CORE: usize = 1;
const NICEST: i32 = -20;

/// Starts a program on one core.
pub fn spawn_on(core: usize, command: &mut Command) -> Result<Child, String> {
    // A child inherits the core on which it is started.
    run_on(core)?;
    let child = command.spawn();
    run_on(PEER_CORE)?;
    child.map_err(|error| format!("{command:?}: {error}"))
}

fn run_on(core: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)
        .map_err(|error| format!("cannot run on core {core}: {error}; two cores are needed"))
}

/// Gives this process and those that it starts the highest priority, if that is permitted: within
/// its session, and for its session among all.
pub fn come_first() {
    let _ = setpriority_process(None, NICEST);
    let _ = fs::write("/proc/self/autogroup", NICEST.to_string());
}

/// Raises the number of file descriptors that this process and those that it starts may have to the
/// hard limit. Fails if that is less than `needed`.
pub fn raise_descriptor_limit(needed: u64) -> Result<(), String> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A failure leaves the limit as it was.
    let _ = setrlimit(Resource::Nofile, limit);
    // No limit is shown as `None`.
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if current < needed {
        return Err(format!("{needed} file descriptors are needed, {current} are permitted"));
    }
    Ok(())
}

/// Returns a field of the status of a process that is given in KiB, in bytes. There is none if the
/// process has ended.
pub fn status_bytes(process: u32, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The clock ticks for which the threads of a process were on a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// The ticks of the process itself, of threads that have ended as well.
    pub own: u64,
    /// The ticks of its children that have ended.
    pub children: u64,
}

impl Ticks {
    /// Returns the ticks of a process until now. They are 0 if the process has ended.
    pub fn of(process: u32) -> Self {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default())
    }

    fn parse(stat: &str) -> Self {
        // The name may contain blanks. After it, utime, stime, cutime and cstime are the fields 12
        // to 15.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks: Vec<u64> =
            fields.skip(11).take(4).map(|word| word.parse().unwrap_or(0)).collect();
        let [user, system, children_user, children_system] = ticks[..] else {
            return Self::default();
        };
        Self { own: user + system, children: children_user + children_system }
    }
}

/// Calls `remove` for each entry of `directory` that an earlier process left behind: its name is
/// `prefix` and the id of a process that no longer exists, or of this one.
pub fn remove_leftovers(directory: &Path, prefix: &str, remove: impl Fn(PathBuf)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse::<u32>().ok());
        let is_left = |id| id == std::process::id() || !Path::new(&format!("/proc/{id}")).exists();
        if id.is_some_and(is_left) {
            remove(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_after_any_name_and_without_a_terminal() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 10 0 0 0 3 4 50 60 20 0 1 0";
        assert_eq!(Ticks::parse(stat), Ticks { own: 7, children: 110 });
        assert_eq!(Ticks::parse(""), Ticks::default());
    }

    #[test]
    fn a_status_field_is_found_by_its_whole_name() {
        let own = std::process::id();
        assert!(status_bytes(own, "VmRSS").is_some_and(|bytes| bytes > 0));
        assert_eq!(status_bytes(own, "VmRS"), None);
    }

    #[test]
    fn only_the_leftovers_of_ended_processes_are_removed() {
        let own = std::process::id();
        let directory = std::env::temp_dir().join(format!("posthouse-leftovers-test-{own}"));
        // A process id is at most 2^22, and process 1 always runs.
        for name in ["left-4294967295", "left-1", "left-x", "other-4294967295"] {
            fs::create_dir_all(directory.join(name)).expect("a directory");
        }
        remove_leftovers(&directory, "left-", |path| fs::remove_dir(path).expect("removed"));
        let is_there = |name: &str| directory.join(name).exists();
        assert!(!is_there("left-4294967295"));
        assert!(is_there("left-1") && is_there("left-x") && is_there("other-4294967295"));
        fs::remove_dir_all(&directory).expect("removed");
    }
}
