//! What this process holds, as its system tells it.
//!
//! Where the system is Windows, its calls are asked: under Wine `/proc/self` is the process of
//! Wine's own server, which holds what is open in all others.

#[cfg(target_os = "linux")]
pub(crate) use linux::{held, resident_bytes};
#[cfg(windows)]
pub(crate) use windows::{held, resident_bytes};

/// What must be as before when an endpoint has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    threads: usize,
    /// Descriptors, or handles.
    open: usize,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use super::Held;

    pub(crate) fn held() -> Held {
        let count = |place| fs::read_dir(place).expect("a process sees itself").count();
        Held { threads: count("/proc/self/task"), open: count("/proc/self/fd") }
    }

    pub(crate) fn resident_bytes() -> usize {
        let statm = fs::read_to_string("/proc/self/statm").expect("a process sees its memory");
        let pages = statm.split(' ').nth(1).expect("the resident pages");
        pages.parse::<usize>().expect("a number") * 4096
    }
}

#[cfg(windows)]
#[allow(unsafe_code, reason = "what a process holds is told by calls of the system")]
mod windows {
    use std::net::{TcpListener, TcpStream};
    use std::sync::Once;

    use windows_sys::Win32::Foundation::{CloseHandle, INVALID_HANDLE_VALUE};
    use windows_sys::Win32::System::Diagnostics::ToolHelp::{
        CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
    };
    use windows_sys::Win32::System::ProcessStatus::{
        K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS,
    };
    use windows_sys::Win32::System::Threading::{
        GetCurrentProcess, GetCurrentProcessId, GetProcessHandleCount,
    };

    use super::Held;

    pub(crate) fn held() -> Held {
        static SOCKETS: Once = Once::new();
        SOCKETS.call_once(open_what_sockets_keep);
        Held { threads: threads(), open: handles() }
    }

    /// The first sockets of a process open what it keeps until it ends.
    fn open_what_sockets_keep() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        TcpStream::connect(address).expect("somebody listens");
    }

    fn handles() -> usize {
        let mut handles = 0;
        // SAFETY: the call writes one number.
        let got = unsafe { GetProcessHandleCount(GetCurrentProcess(), &raw mut handles) };
        assert_ne!(got, 0, "a process sees its handles");
        handles as usize
    }

    fn threads() -> usize {
        // SAFETY: the call takes two numbers.
        let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
        assert_ne!(snapshot, INVALID_HANDLE_VALUE, "a process sees threads");
        let bytes = size_of::<THREADENTRY32>() as u32;
        let mut thread = THREADENTRY32 { dwSize: bytes, ..Default::default() };
        // SAFETY: the call takes nothing.
        let own = unsafe { GetCurrentProcessId() };
        let mut count = 0;
        // SAFETY: the snapshot is open, and the entry says how long it is.
        let mut more = unsafe { Thread32First(snapshot, &raw mut thread) };
        while more != 0 {
            count += usize::from(thread.th32OwnerProcessID == own);
            // SAFETY: as above.
            more = unsafe { Thread32Next(snapshot, &raw mut thread) };
        }
        // SAFETY: the snapshot is ours, and closed once.
        unsafe { CloseHandle(snapshot) };
        count
    }

    pub(crate) fn resident_bytes() -> usize {
        let mut told = PROCESS_MEMORY_COUNTERS::default();
        let bytes = size_of_val(&told) as u32;
        // SAFETY: the call writes at most so many bytes to a value that is as long.
        let got = unsafe { K32GetProcessMemoryInfo(GetCurrentProcess(), &raw mut told, bytes) };
        assert_ne!(got, 0, "a process sees its memory");
        told.WorkingSetSize
    }
}
