//! A lane that ends with reads and writes of files in flight: the port does not free their memory
//! while the system can still access it.
//!
//! The memory of such an operation belongs to its submitter, so its pages cannot be protected as
//! those of receive buffers are. Here an allocator fills every freed piece of `PIECE` bytes with a
//! pattern and keeps it: a late write changes the pattern, and a late read leaves the pattern in a
//! file.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]
#![allow(unreachable_pub, reason = "a test program has no interface; `pub` is between its files")]

#[allow(dead_code, reason = "the harness of the contract, which uses all of it")]
#[path = "contract/driver.rs"]
mod driver;
#[allow(dead_code, reason = "the harness of the contract, which uses all of it")]
#[path = "contract/harness.rs"]
mod harness;
#[allow(dead_code, reason = "the places of the contract, which uses all of it")]
#[path = "contract/test_dir.rs"]
mod test_dir;

use std::alloc::{GlobalAlloc, Layout as Room, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use posthouse_io::{Backend, File, FileOp, Layout, Op};
use rustix::fs::{Advice, fadvise};

use harness::{Harness, PATIENCE, is_here, lock, pattern};
use test_dir::{TestDir, gather_of};

/// Bytes of each operation. The allocator keeps freed memory of exactly this size.
const PIECE: usize = 1 << 20;
const PIECES: usize = 24;
/// The byte with which the allocator fills freed memory.
const FREED: u8 = 0xdb;

/// An allocator that keeps freed memory of [`PIECE`] bytes.
struct Keeping;

/// The addresses of the freed pieces.
static KEPT: Mutex<[usize; 4096]> = Mutex::new([0; 4096]);
/// The number of the freed pieces; it changes under the lock of [`KEPT`].
static COUNT: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Keeping = Keeping;

// SAFETY: it hands out what the system's allocator does, and takes back all of it or less.
unsafe impl GlobalAlloc for Keeping {
    unsafe fn alloc(&self, room: Room) -> *mut u8 {
        // SAFETY: by this function's own contract.
        unsafe { System.alloc(room) }
    }

    unsafe fn dealloc(&self, start: *mut u8, room: Room) {
        if room.size() != PIECE {
            // SAFETY: by this function's own contract.
            return unsafe { System.dealloc(start, room) };
        }
        // SAFETY: it was allocated with this size and nobody uses it any more.
        unsafe { start.write_bytes(FREED, PIECE) };
        let mut kept = lock(&KEPT);
        let count = COUNT.load(Ordering::SeqCst);
        kept[count] = start.expose_provenance();
        COUNT.store(count + 1, Ordering::SeqCst);
    }
}

/// Returns the number of freed pieces that were written to after they were freed.
fn freed_and_touched() -> usize {
    let kept = lock(&KEPT);
    let count = COUNT.load(Ordering::SeqCst);
    let touched = |start: &&usize| {
        let start = std::ptr::with_exposed_provenance::<u8>(**start);
        // SAFETY: it is kept, for ever, and its bytes were written when it was.
        let bytes = unsafe { std::slice::from_raw_parts(start, PIECE) };
        bytes.iter().any(|byte| *byte != FREED)
    };
    kept[..count].iter().filter(touched).count()
}

/// The ways in which the lane ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Before the kernel has seen any of the operations.
    AtOnce,
    /// After a step that has submitted all operations to the kernel.
    InAStepOfItsOwn,
    ByAPanic,
}

const ENDINGS: [Ending; 3] = [Ending::AtOnce, Ending::InAStepOfItsOwn, Ending::ByAPanic];

/// Ends the only lane of a harness with an operation in flight for each piece of a file.
fn leave(harness: Harness, ending: Ending, op: impl Fn(usize) -> FileOp + Send + 'static) {
    let driver = harness.driver.clone();
    let stop = harness.driver.clone();
    let lane = harness.lane(0);
    // The worker takes no completion meanwhile.
    harness.driver.take_at_most(0);
    harness.on(lane, move |lane| {
        for piece in 0..PIECES {
            driver.submit(lane, Op::File(Box::new(op(piece))));
        }
        if let Ending::AtOnce = ending {
            stop.stop();
        }
    });
    match ending {
        Ending::AtOnce => {}
        Ending::InAStepOfItsOwn => {
            harness.driver.stop();
            harness.port.wake(lane);
        }
        Ending::ByAPanic => harness.post(lane, |_| panic!("a panic that this test is about")),
    }
    let drained = harness.port.drain(PATIENCE);
    assert_eq!(drained.workers, 0);
    eprintln!("{} of {PIECES} in flight", drained.leaked);
    assert!(drained.leaked > 0 || !matches!(ending, Ending::AtOnce), "nothing was in flight");
    harness.driver.forget();
    // With what was completed and not taken.
    drop(harness);
}

/// Runs a test on every backend, and for every way of ending.
fn each(test: impl Fn(Harness, Ending)) {
    let backends = [
        (Backend::Readiness, Layout::Pinned),
        (Backend::Readiness, Layout::Shared),
        (Backend::Uring, Layout::Pinned),
    ];
    for (backend, layout) in backends.into_iter().filter(|(backend, _)| is_here(backend)) {
        for ending in ENDINGS {
            eprintln!("on {backend:?}, {layout}, {ending:?}");
            test(Harness::new(backend.clone(), layout, 1), ending);
        }
    }
}

/// Waits until `over` is true.
fn until(what: &str, over: impl Fn() -> bool) {
    let limit = std::time::Instant::now() + PATIENCE;
    while !over() {
        assert!(std::time::Instant::now() < limit, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// Waits until the file is open nowhere: its operations are over.
fn is_let_go(file: File, path: &std::path::Path) {
    drop(file);
    until("the file to be closed", || {
        let names =
            std::fs::read_dir("/proc/self/fd").expect("the descriptors are listed").flatten();
        !names.filter_map(|name| std::fs::read_link(name.path()).ok()).any(|open| open == path)
    });
}

#[test]
fn a_lane_that_goes_frees_no_memory_that_is_read_into() {
    let content = pattern(PIECES * PIECE + 1, 1);
    each(|harness, ending| {
        let before = COUNT.load(Ordering::SeqCst);
        let outer = Harness::new(Backend::Readiness, Layout::Pinned, 1);
        let dir = TestDir::new(&outer);
        let path = dir.path("file");
        std::fs::write(&path, &content).expect("the file can be written");
        let plain = std::fs::File::open(&path).expect("the file opens");
        plain.sync_all().expect("the file can be synced");
        // Out of the system's memory, so that reading takes its time.
        fadvise(&plain, 0, None, Advice::DontNeed).expect("the kernel takes the advice");
        drop(plain);
        let (file, _) = dir.open("file").expect("the file opens");
        let reading = file.clone();
        leave(harness, ending, move |piece| FileOp::Read {
            file: reading.clone(),
            offset: (piece * PIECE) as u64,
            bytes: PIECE,
            memory: Vec::with_capacity(PIECE),
        });
        is_let_go(file, &path);
        until("the memory to be freed", || COUNT.load(Ordering::SeqCst) >= before + PIECES);
        assert_eq!(freed_and_touched(), 0, "memory was written to after it was freed");
        drop(dir);
        outer.finish();
    });
}

#[test]
fn a_lane_that_goes_frees_no_memory_that_is_written_from() {
    let content = pattern(PIECES * PIECE, 2);
    each(|harness, ending| {
        let outer = Harness::new(Backend::Readiness, Layout::Pinned, 1);
        let dir = TestDir::new(&outer);
        let (file, _) = dir.part("part").expect("the part opens");
        let path = dir.path(".posthouse/part");
        let writing = file.clone();
        let bytes = content.clone();
        leave(harness, ending, move |piece| FileOp::Write {
            file: writing.clone(),
            offset: (piece * PIECE) as u64,
            data: gather_of(&[&bytes[piece * PIECE..][..PIECE]]),
        });
        is_let_go(file, &path);
        let written = std::fs::read(&path).expect("the part can be opened");
        // Each piece is there or is not.
        let wrong = |(written, right): (&[u8], &[u8])| {
            written.iter().zip(right).any(|(got, right)| got != right && *got != 0)
        };
        let pieces = written.chunks(PIECE).zip(content.chunks(PIECE));
        assert_eq!(pieces.filter(|pair| wrong(*pair)).count(), 0, "of {} bytes", written.len());
        assert_eq!(freed_and_touched(), 0);
        drop(dir);
        outer.finish();
    });
}
