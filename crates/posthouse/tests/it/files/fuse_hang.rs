//! A FUSE file system that leaves the requests of one kind unanswered, so that a system call hangs.
//!
//! Any user can mount it in a new namespace. A test that needs it therefore runs in a process with
//! its own namespace.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::store::Store;

/// The kinds of requests, such as `FUSE_LOOKUP` in `linux/fuse.h`.
pub const LOOKUP: u32 = 1;
pub const READ: u32 = 15;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// The length of the only file of the file system.
const FILE_BYTES: u64 = 1 << 20;
const ROOT: u64 = 1;
const REQUEST_BYTES_MAX: usize = 256 * 1024;
const NO_SUCH_CALL: i32 = -38;

/// The environment variables of the process that serves the file system: the kind of the requests
/// that it does not answer, and the mount point.
const SERVES: &str = "POSTHOUSE_TEST_MUTE";
const PLACE: &str = "POSTHOUSE_TEST_MUTE_AT";
/// The lines that the serving process prints.
const MOUNTED: &str = "mounted";
const UNANSWERED: &str = "unanswered";

/// Runs the rest of the test of this name in a process that can mount; see
/// [`is_inside`](crate::namespace::is_inside).
pub fn can_mount(test: &str) -> bool {
    let has_fuse = || File::options().read(true).write(true).open("/dev/fuse").is_ok();
    crate::namespace::is_inside(test, &["--mount"], has_fuse)
}

/// A mounted file system with one file. Dropping this value ends the file system, and all requests
/// that wait for it fail.
///
/// Another process serves the file system. A process that waits for its own file system could not
/// even be killed.
pub struct FuseHang {
    place: Store,
    server: Child,
    /// The number of requests that the file system has left unanswered.
    unanswered: Arc<AtomicUsize>,
}

impl FuseHang {
    /// Mounts a file system that does not answer requests of this kind.
    pub fn at(kind: u32) -> Self {
        let place = Store::real();
        let program = std::env::current_exe().expect("the path of this program is known");
        let mut server = Command::new(program)
            .args(["--exact", "files::fuse_hang::serves", "--nocapture"])
            .env(SERVES, kind.to_string())
            .env(PLACE, place.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the serving process can be started");
        let mut lines = BufReader::new(server.stdout.take().expect("the output is a pipe")).lines();
        let mounted = lines.by_ref().any(|line| line.is_ok_and(|line| line == MOUNTED));
        assert!(mounted, "the file system was not mounted");
        let unanswered = Arc::<AtomicUsize>::default();
        let count = unanswered.clone();
        thread::spawn(move || {
            for _ in lines.map_while(Result::ok).filter(|line| line == UNANSWERED) {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { place, server, unanswered }
    }

    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Returns whether the file system has left a request unanswered.
    pub fn is_waited_for(&self) -> bool {
        self.unanswered.load(Ordering::SeqCst) > 0
    }
}

impl Drop for FuseHang {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
        let _ = unmount(self.place.path(), UnmountFlags::DETACH);
    }
}

/// The serving process, which the test runner sees as a test. It ends with the process that started
/// it. Then every request that waits for the file system fails.
#[test]
fn serves() {
    let Ok(kind) = std::env::var(SERVES) else { return };
    let kind = kind.parse().expect("the kind is a number");
    let place = PathBuf::from(std::env::var_os(PLACE).expect("the mount point is set"));
    let device = File::options().read(true).write(true).open("/dev/fuse").expect("FUSE opens");
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let options = CString::new(options).expect("the text has no zero byte");
    mount("posthouse-test", &place, "fuse", MountFlags::NODEV, Some(&*options))
        .expect("FUSE can be mounted here");
    thread::spawn(move || answer(&device, kind));
    println!("\n{MOUNTED}");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0);
}

/// Answers all requests, except those of the kind `fuse_hang`, until the file system ends.
fn answer(mut device: &File, fuse_hang: u32) {
    let mut request = vec![0; REQUEST_BYTES_MAX];
    while let Ok(count) = device.read(&mut request) {
        let word =
            |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"));
        let unique = u64::from_ne_bytes(request[8..16].try_into().expect("eight bytes"));
        let node = u64::from_ne_bytes(request[16..24].try_into().expect("eight bytes"));
        assert!(count >= 40, "a request is shorter than its header");
        let kind = word(4);
        if kind == fuse_hang {
            println!("{UNANSWERED}");
            continue;
        }
        let (error, body) = match kind {
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            INIT => (0, started(word(48))),
            LOOKUP => (0, entry()),
            GETATTR => (0, [vec![0; 16], attributes(node)].concat()),
            OPEN => (0, vec![0; 16]),
            _ => (NO_SUCH_CALL, Vec::new()),
        };
        let bytes = u32::try_from(16 + body.len()).expect("the reply is short");
        let mut reply = bytes.to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(unique.to_ne_bytes());
        reply.extend(body);
        // The process that made the request may have ended.
        let _ = device.write(&reply);
    }
}

/// Returns the answer to the first request: version 7.31 with asynchronous reads, as is usual.
/// Without this flag, the kernel blocks the thread that starts a read, even if it starts the read
/// through io_uring.
fn started(max_readahead: u32) -> Vec<u8> {
    const ASYNC_READ: u32 = 1;
    let mut body = Vec::new();
    for word in [7, 31, max_readahead, ASYNC_READ, 0, 128 * 1024, 1] {
        body.extend(u32::to_ne_bytes(word));
    }
    body.resize(64, 0);
    body
}

/// Returns the answer to a lookup. Every name is a name of the one file.
fn entry() -> Vec<u8> {
    let mut body = (ROOT + 1).to_ne_bytes().to_vec();
    body.resize(40, 0);
    body.extend(attributes(ROOT + 1));
    body
}

fn attributes(node: u64) -> Vec<u8> {
    let (mode, bytes) = if node == ROOT { (0o40755, 0) } else { (0o100_644, FILE_BYTES) };
    let mut body = Vec::new();
    for word in [node, bytes, bytes / 512, 0, 0, 0] {
        body.extend(word.to_ne_bytes());
    }
    for word in [0_u32, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        body.extend(word.to_ne_bytes());
    }
    body
}
