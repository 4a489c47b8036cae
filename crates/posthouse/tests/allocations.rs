//! The steady path allocates nothing: messages come and replies go in memory that is there.
//!
//! A program of its own, because it counts with the whole process's allocator.

#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

use posthouse::{Backend, Endpoint, EndpointOptions, Handler, HandlerResult, Message, Peer};

struct Counting;

/// Allocations of I/O workers.
static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// True exactly on a thread that has run a callback.
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: everything is handed on to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(u64::from(IS_WORKER.get()), Ordering::Relaxed);
        // SAFETY: by this function's own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: by this function's own contract.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Echo;

impl Handler for Echo {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        IS_WORKER.set(true);
        peer.send(message.kind(), message.payload());
        Ok(())
    }
}

/// Returns `count` frames with a payload of `bytes` each, in one piece.
fn frames(count: usize, bytes: usize) -> Vec<u8> {
    let header = (bytes as u32 + 1).to_le_bytes();
    let frame = [&header[..], &[9], &vec![7; bytes]].concat();
    frame.repeat(count)
}

#[test]
fn a_worker_that_echoes_allocates_nothing() {
    let backends = match cfg!(windows) {
        true => &[Backend::Iocp][..],
        false => &[Backend::Uring, Backend::Readiness],
    };
    for &backend in backends {
        let options = EndpointOptions::default().with_io_workers(1).with_backend(backend);
        let builder = Endpoint::builder(Echo).listen("127.0.0.1:0").options(options);
        let endpoint = builder.start().expect("the endpoint starts");
        let address = endpoint.addresses()[0].socket_addr();
        let mut peer = TcpStream::connect(address).expect("a connection is established");
        for (count, bytes) in [(1, 64), (63, 64), (64, 64), (65, 64), (16, 1024), (4, 4000)] {
            let burst = frames(count, bytes);
            let mut echo = vec![0; burst.len()];
            let mut rounds = |count| {
                for _ in 0..count {
                    peer.write_all(&burst).expect("the bytes can be sent");
                    peer.read_exact(&mut echo).expect("the echo arrives");
                }
            };
            rounds(200);
            let before = COUNT.load(Ordering::Relaxed);
            rounds(500);
            let allocations = COUNT.load(Ordering::Relaxed) - before;
            // A burst that was cut in a new place may ask for memory that then stays.
            assert!(allocations < 10, "{backend:?}, {count} x {bytes}: {allocations}");
            assert_eq!(echo, burst);
        }
    }
}
