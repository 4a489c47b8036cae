//! The resources of the system that a process holds: descriptors, ring mappings, threads, memory.
//! Tests compare them before and after.

#![allow(unsafe_code, reason = "Windows says what a process holds by its calls")]

#[cfg(target_os = "linux")]
pub use linux::{memory_bytes, opened, ring_mappings, threads};
#[cfg(windows)]
pub use windows::{memory_bytes, opened, ring_mappings, threads};

/// The resources of which a process must hold as many at the end of a test as before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// The number of open descriptors (Linux) or handles (Windows).
    pub opened: usize,
    /// The number of memory mappings that io_uring rings share with the kernel; 0 on Windows.
    pub ring_mappings: usize,
}

impl Holdings {
    /// Counts the resources that the process holds now.
    pub fn now() -> Self {
        Self { opened: opened(), ring_mappings: ring_mappings() }
    }
}

/// Returns whether this system is Wine. Wine does not support all of Windows; the tests that ask
/// say which parts are missing.
pub fn is_wine() -> bool {
    cfg!(windows) && std::path::Path::new(r"C:\windows\system32\winecfg.exe").exists()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    /// Returns the number of open descriptors.
    pub fn opened() -> usize {
        fs::read_dir("/proc/self/fd").expect("a process sees its descriptors").count()
    }

    /// Returns the number of memory mappings that io_uring rings share with the kernel.
    pub fn ring_mappings() -> usize {
        let maps = fs::read_to_string("/proc/self/maps").expect("a process sees its mappings");
        maps.lines().filter(|line| line.contains("io_uring")).count()
    }

    /// Returns the number of threads that run or have just ended.
    pub fn threads() -> usize {
        fs::read_dir("/proc/self/task").expect("a process sees its threads").count()
    }

    /// Returns the resident memory of this process in bytes.
    pub fn memory_bytes() -> usize {
        let status = fs::read_to_string("/proc/self/status").expect("a process sees its memory");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        let kib: usize = number.expect("a line of it").parse().expect("the kernel writes a number");
        kib << 10
    }
}

/// Under Wine the files of `/proc/self` describe Wine's own server, which holds the handles of all
/// processes.
#[cfg(windows)]
mod windows {
    use std::net::UdpSocket;
    use std::sync::Once;

    use windows_sys::Wdk::System::SystemInformation::NtQuerySystemInformation;
    use windows_sys::Win32::Foundation::{
        CloseHandle, INVALID_HANDLE_VALUE, STATUS_INFO_LENGTH_MISMATCH, STATUS_SUCCESS,
    };
    use windows_sys::Win32::System::Diagnostics::ToolHelp::{
        CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
    };
    use windows_sys::Win32::System::ProcessStatus::{
        K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS,
    };
    use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetCurrentProcessId};

    /// `SystemExtendedHandleInformation`, which the headers do not name: two words, the first of
    /// them a count, then five words for each handle of the system, the second its process.
    const ALL_HANDLES: i32 = 64;

    /// Returns the number of open handles. It counts them one by one, because Wine reports 0 as
    /// their number.
    pub fn opened() -> usize {
        static SOCKETS: Once = Once::new();
        // The first socket of a process opens what it keeps until it ends.
        SOCKETS.call_once(|| drop(UdpSocket::bind("127.0.0.1:0").expect("a free port")));
        handles()
    }

    fn handles() -> usize {
        const { assert!(size_of::<usize>() == 8, "the words of a 64-bit system") };
        let mut words = vec![0_usize; 1 << 16];
        loop {
            let bytes = u32::try_from(words.len() * 8).expect("not so many handles");
            let place = words.as_mut_ptr().cast();
            // SAFETY: the call writes at most so many bytes, to memory that is as long.
            match unsafe { NtQuerySystemInformation(ALL_HANDLES, place, bytes, &mut 0) } {
                STATUS_SUCCESS => break,
                STATUS_INFO_LENGTH_MISMATCH => words.resize(words.len() * 2, 0),
                status => panic!("a process sees handles: {status:#x}"),
            }
        }
        let [count, _, handles @ ..] = words.as_slice() else { unreachable!("it is long") };
        // SAFETY: the call takes nothing.
        let own = unsafe { GetCurrentProcessId() } as usize;
        let (handles, _) = handles.as_chunks::<5>();
        handles[..*count].iter().filter(|[_, process, ..]| *process == own).count()
    }

    /// Returns 0: Windows has no rings.
    pub fn ring_mappings() -> usize {
        0
    }

    /// Returns the number of threads that run.
    pub fn threads() -> usize {
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

    /// Returns the resident memory of this process in bytes.
    pub fn memory_bytes() -> usize {
        let mut told = PROCESS_MEMORY_COUNTERS::default();
        let bytes = size_of_val(&told) as u32;
        // SAFETY: the call writes at most so many bytes to a value that is as long.
        let got = unsafe { K32GetProcessMemoryInfo(GetCurrentProcess(), &raw mut told, bytes) };
        assert_ne!(got, 0, "a process sees its memory");
        told.WorkingSetSize
    }
}
