//! The memory of the server: its control group of its own, or without one its resident set.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use posthouse_bench::processes::{remove_leftovers, status_bytes};

use crate::fixture::PREFIX;

/// The memory of a process at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Everything that is charged to the group, without the cache of files and without the buffers
    /// of sockets: what the process allocates, and what the kernel allocates for it.
    pub(crate) own: u64,
    /// The part of `own` that the kernel allocates.
    pub(crate) kernel: u64,
    /// The cache of files. Files in memory (tmpfs) are a part of it.
    pub(crate) cache: u64,
}

impl Memory {
    /// Returns the maximum of each figure.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            own: self.own.max(other.own),
            kernel: self.kernel.max(other.kernel),
            cache: self.cache.max(other.cache),
        }
    }
}

/// The control group of one server, which is removed in the end.
#[derive(Debug)]
pub(crate) enum Group {
    V1(PathBuf),
    V2(PathBuf),
    /// There is none: the resident set counts.
    Absent,
}

impl Group {
    /// Makes a group below the group of this process, or else below the root.
    pub(crate) fn create() -> Self {
        let name = format!("{PREFIX}{}", std::process::id());
        for (root, is_v2) in mounts() {
            let own = own_path(is_v2).map(|own| root.join(own.trim_start_matches('/')));
            let parents: Vec<PathBuf> = own.into_iter().chain([root]).collect();
            for parent in &parents {
                remove_leftovers(parent, PREFIX, |path| drop(fs::remove_dir(path)));
            }
            for parent in parents {
                let path = parent.join(&name);
                if fs::create_dir(&path).is_err() {
                    continue;
                }
                let figure = if is_v2 { "memory.current" } else { "memory.usage_in_bytes" };
                if path.join(figure).exists() && can_be_joined(&path) {
                    return if is_v2 { Self::V2(path) } else { Self::V1(path) };
                }
                let _ = fs::remove_dir(path);
            }
        }
        Self::Absent
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::V1(path) | Self::V2(path) => Some(path),
            Self::Absent => None,
        }
    }

    /// Returns a text that says what is measured.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::V1(_) => {
                "a memory control group of its own, version 1: `memory.usage_in_bytes` less \
                 `cache` (page cache and tmpfs) of `memory.stat`, so anonymous and kernel memory; \
                 the buffers of sockets are not charged in version 1"
            }
            Self::V2(_) => {
                "a memory control group of its own, version 2: `memory.current` less `file` (page \
                 cache and tmpfs) and `sock` of `memory.stat`, so anonymous and kernel memory"
            }
            Self::Absent => "no memory control group is available: `VmRSS` of the process",
        }
    }

    /// Returns the memory of the server now.
    pub(crate) fn read(&self, process: u32) -> Memory {
        match self {
            Self::V1(path) => {
                let stat = read(&path.join("memory.stat"));
                let cache = field(&stat, "cache");
                let usage = whole(&path.join("memory.usage_in_bytes"));
                let kernel = whole(&path.join("memory.kmem.usage_in_bytes"));
                Memory { own: usage.saturating_sub(cache), kernel, cache }
            }
            Self::V2(path) => {
                let stat = read(&path.join("memory.stat"));
                let (cache, sock) = (field(&stat, "file"), field(&stat, "sock"));
                let current = whole(&path.join("memory.current"));
                let own = current.saturating_sub(cache + sock);
                Memory { own, kernel: field(&stat, "kernel"), cache }
            }
            Self::Absent => {
                Memory { own: status_bytes(process, "VmRSS").unwrap_or(0), ..Memory::default() }
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The server has ended before, so the group is empty.
        if let Some(path) = self.path() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Makes the peak of the resident set begin again.
pub(crate) fn reset_peak(process: u32) {
    // Without this permission the peak is that of the whole life of the process.
    let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
}

/// Returns the peak of the resident set, which the kernel keeps without gaps.
pub(crate) fn resident_peak(process: u32) -> u64 {
    status_bytes(process, "VmHWM").unwrap_or(0)
}

/// Returns whether a process can be moved to the group `path`, by an attempt with a child.
fn can_be_joined(path: &Path) -> bool {
    let child = std::env::current_exe()
        .and_then(|program| Command::new(program).arg("wait").stdin(Stdio::piped()).spawn());
    let Ok(mut child) = child else { return false };
    let is_joined = fs::write(path.join("cgroup.procs"), child.id().to_string()).is_ok();
    // This closes the input of the child, which ends it.
    let _ = child.wait();
    is_joined
}

/// Returns where the hierarchies with the memory controller are mounted, and whether each is of
/// version 2.
fn mounts() -> Vec<(PathBuf, bool)> {
    let text = read(Path::new("/proc/mounts"));
    let lines = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, path, kind, options, ..] = words[..] else { return None };
        let has_memory = options.split(',').any(|option| option == "memory");
        let is_v2 = kind == "cgroup2";
        (is_v2 || kind == "cgroup" && has_memory).then(|| (PathBuf::from(path), is_v2))
    });
    lines.collect()
}

/// Returns the path of the group of this process in its hierarchy.
fn own_path(is_v2: bool) -> Option<String> {
    let text = read(Path::new("/proc/self/cgroup"));
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let has_memory = controllers.split(',').any(|name| name == "memory");
        let is_wanted = if is_v2 { controllers.is_empty() } else { has_memory };
        is_wanted.then(|| path.to_owned())
    })
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn whole(path: &Path) -> u64 {
    read(path).trim().parse().unwrap_or(0)
}

/// Returns the number that follows `name` at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let mut words = text.lines().map(str::split_whitespace);
    let found = words.find_map(|mut words| (words.next()? == name).then(|| words.next())?);
    found.and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_names() {
        let stat = "total_cache 9\ncache 5\nrss 7\n";
        assert_eq!((field(stat, "cache"), field(stat, "rss")), (5, 7));
        assert_eq!(field(stat, "absent"), 0);
    }
}
