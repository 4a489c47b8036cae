//! What this process has of the system.

#[cfg(target_os = "linux")]
pub(super) use linux::{Holdings, memory_kib, shows_resets_as_ends};
#[cfg(windows)]
pub(super) use windows::{Holdings, memory_kib, shows_resets_as_ends};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    /// What must be the same before and after a campaign.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Holdings {
        /// Open descriptors.
        descriptors: usize,
        /// Mappings that are shared with the kernel by a ring.
        ring_mappings: usize,
    }

    impl Holdings {
        pub(crate) fn now() -> Self {
            let descriptors = fs::read_dir("/proc/self/fd").expect("a process sees them");
            let maps = fs::read_to_string("/proc/self/maps").expect("a process sees its mappings");
            Self {
                descriptors: descriptors.count(),
                ring_mappings: maps.lines().filter(|line| line.contains("io_uring")).count(),
            }
        }
    }

    /// Memory of this process that is in use (resident), in KiB.
    pub(crate) fn memory_kib() -> u64 {
        let status = fs::read_to_string("/proc/self/status").expect("a process sees its memory");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("the kernel writes a number")
    }

    /// Whether a reset of the peer may look like the end of its stream.
    pub(crate) fn shows_resets_as_ends() -> bool {
        false
    }
}

#[cfg(windows)]
mod windows {
    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};
    use windows_sys::Win32::System::ProcessStatus::{
        K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS,
    };
    use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessHandleCount};
    use windows_sys::s;

    /// What must be the same before and after a campaign.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Holdings {
        /// Open handles.
        handles: u32,
    }

    impl Holdings {
        pub(crate) fn now() -> Self {
            let mut handles = 0;
            // SAFETY: the call writes one number.
            let got = unsafe { GetProcessHandleCount(GetCurrentProcess(), &raw mut handles) };
            assert_ne!(got, 0, "a process sees its handles");
            Self { handles }
        }
    }

    /// Memory of this process that is in use (resident), in KiB.
    pub(crate) fn memory_kib() -> u64 {
        let mut told = PROCESS_MEMORY_COUNTERS::default();
        let bytes = size_of_val(&told) as u32;
        // SAFETY: the call writes at most so many bytes to a value that is as long.
        let got = unsafe { K32GetProcessMemoryInfo(GetCurrentProcess(), &raw mut told, bytes) };
        assert_ne!(got, 0, "a process sees its memory");
        told.WorkingSetSize as u64 / 1024
    }

    /// Whether a reset of the peer may look like the end of its stream: under Wine, where it comes
    /// while no receive waits.
    pub(crate) fn shows_resets_as_ends() -> bool {
        // SAFETY: the names are terminated; the library is one that every process has.
        unsafe { GetProcAddress(GetModuleHandleA(s!("ntdll.dll")), s!("wine_get_version")) }
            .is_some()
    }
}
