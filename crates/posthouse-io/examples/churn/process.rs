//! What this process has of the system.

use std::fs;

/// What must be the same before and after a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holdings {
    /// Open descriptors.
    pub(super) descriptors: usize,
    /// Mappings that are shared with the kernel by a ring.
    pub(super) ring_mappings: usize,
}

impl Holdings {
    pub(super) fn now() -> Self {
        let descriptors = fs::read_dir("/proc/self/fd").expect("a process sees its descriptors");
        let maps = fs::read_to_string("/proc/self/maps").expect("a process sees its mappings");
        Self {
            descriptors: descriptors.count(),
            ring_mappings: maps.lines().filter(|line| line.contains("io_uring")).count(),
        }
    }
}

/// Memory of this process that is in use (resident), in KiB.
pub(super) fn memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a process sees its memory");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).expect("the kernel writes a number")
}
