//! Limits of the process.

use std::os::fd::AsRawFd;

use io_uring::IoUring;
use posthouse_io::{Backend, CompletionPort, Options, Selected};
use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};
use rustix::thread::set_thread_res_uid;

use crate::harness::is_here;
use crate::own_process::in_own_process;
use crate::{fallen_back, says};
use posthouse_process::Holdings;

/// Locked memory is limited for each user, and not for root. Some kernels do not count a ring as
/// locked memory: then the ring opens, and the port reports uring.
#[test]
fn without_locked_memory() {
    if !is_here(&Backend::Uring) {
        return;
    }
    if !in_own_process("limits::without_locked_memory") {
        return;
    }
    if !getuid().is_root() {
        eprintln!("NOT TESTED: only root can become a user who may lock no memory");
        return;
    }
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Memlock, none).expect("the limit is lowered");
    let nobody = rustix::process::Uid::from_raw(65_534);
    set_thread_res_uid(nobody, nobody, nobody).expect("the process can become another user");
    if a_ring_is_refused() {
        let reason = fallen_back();
        says(&reason, &["locked memory", "ulimit -l"]);
        eprintln!("{reason}");
        return;
    }
    let (port, selected) =
        CompletionPort::open(Backend::Auto, &Options::default()).expect("the port opens");
    eprintln!("NOT TESTED: this kernel grants a ring to a user who may lock no memory");
    assert_eq!(selected.backend, "uring");
    drop(port);
}

/// Returns whether the kernel refuses a ring. The check does not use the backend.
fn a_ring_is_refused() -> bool {
    let ring: std::io::Result<IoUring> = IoUring::builder().setup_cqsize(8192).build(1024);
    ring.is_err_and(|error| error.raw_os_error() == Some(libc::ENOMEM))
}

/// With few descriptors a port opens on either backend, or reports the reason why not. Nothing is
/// left in either case.
#[test]
fn without_descriptors() {
    if !is_here(&Backend::Uring) {
        return;
    }
    if !in_own_process("limits::without_descriptors") {
        return;
    }
    let mut failed = 0;
    let mut fell_back = 0;
    let mut worked = 0;
    for (io_workers, room) in [1, 3].into_iter().flat_map(|n| (0..10).map(move |room| (n, room))) {
        for backend in [Backend::Auto, Backend::Uring] {
            let options = Options { io_workers, ..Options::default() };
            match open_with_room_for(room, backend, &options) {
                Ok(selected) if selected.backend == "uring" => worked += 1,
                Ok(selected) => {
                    says(&selected.reason, &["cannot use io_uring: ", "ulimit -n"]);
                    fell_back += 1;
                }
                Err(error) => {
                    says(&error.to_string(), &["cannot use io_uring: ", "ulimit -n"]);
                    failed += 1;
                }
            }
        }
    }
    // The probe needs three descriptors, and a lane two, on either backend.
    assert_eq!((failed, fell_back, worked), (17, 1, 22));
}

/// Opens a port while the process may open only `room` more descriptors.
fn open_with_room_for(room: u64, backend: Backend, options: &Options) -> std::io::Result<Selected> {
    let limit = getrlimit(Resource::Nofile);
    let before = Holdings::now();
    // The descriptor is closed at once, so the next file gets its number again.
    let next = std::fs::File::open("/dev/null").expect("the descriptor opens").as_raw_fd();
    let next = u64::try_from(next).expect("a number");
    let low = Rlimit { current: Some(next + room), maximum: limit.maximum };
    setrlimit(Resource::Nofile, low).expect("the limit is lowered");
    let opened = CompletionPort::open(backend, options).map(|(_, selected)| selected);
    setrlimit(Resource::Nofile, limit).expect("the limit is raised");
    assert_eq!(Holdings::now(), before, "left, with room for {room}");
    opened
}
