//! The test whether this machine supports the backend: a real receive, once, on a small ring.
//!
//! A version number would not be enough: sandboxes refuse the setup, or allow it and refuse later
//! calls.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Fd;

use super::group::GROUP;
use super::request::{Request, RequestKind};
use super::ring::{Cqe, Ring, refused};
use crate::buffer::BufferPool;
use crate::options::Options;

/// The time that a working kernel may take for requests that complete at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Receives a byte through a ring as a lane would, with a multishot receive, a provided buffer and
/// a cancel. The error names the refused step and its usual reason.
pub(crate) fn probe() -> io::Result<()> {
    let pool = BufferPool::of(&Options { buffer_bytes: 64, ..Options::default() });
    let mut ring = Ring::open(&pool)?;
    ring.enable().map_err(|error| refused("enabling a ring", &error))?;
    let (mut near, far) =
        UnixStream::pair().map_err(|error| refused("a pair of sockets", &error))?;
    let outcome = receive_one(&mut ring, &mut near, &far);
    let drained = ring.drain(0, drop);
    outcome?;
    if !drained {
        return Err(io::Error::other("a ring did not end a cancelled receive"));
    }
    Ok(())
}

fn receive_one(ring: &mut Ring, near: &mut UnixStream, far: &UnixStream) -> io::Result<()> {
    let (group, pool) = ring.buffers();
    group.fill(pool);
    let fd = Fd(far.as_raw_fd());
    near.write_all(b"x")?;
    let receive = opcode::RecvMulti::new(fd, GROUP).build();
    // SAFETY: the memory belongs to the buffer group, and the handle to the caller, who drains the
    // ring before dropping it.
    unsafe { ring.push(Request::of_lane(RequestKind::Receive), receive) };
    needs_poll(next(ring)?)?;
    let request = Request::of_lane(RequestKind::Receive).to_bits();
    let cancel = opcode::AsyncCancel::new(request).build();
    // SAFETY: a cancel names no memory.
    unsafe { ring.push(Request::of_lane(RequestKind::CancelInput), cancel) };
    for _ in 0..2 {
        let ended = next(ring)?;
        if let (RequestKind::CancelInput, Err(errno)) = (ended.request.kind, ended.result) {
            return Err(refused("a cancel", &errno.into()));
        }
    }
    Ok(())
}

/// Checks the first completion of the receive for support of multishot receives.
fn needs_poll(received: Cqe) -> io::Result<()> {
    let what = "a multishot receive";
    match received {
        Cqe { result: Err(errno), .. } => Err(refused(what, &errno.into())),
        Cqe { more: true, buffer: Some(_), .. } => Ok(()),
        _ => Err(io::Error::other(format!("{what} does not continue: Linux 6.1 is needed"))),
    }
}

fn next(ring: &mut Ring) -> io::Result<Cqe> {
    ring.try_enter(Some(PATIENCE)).map_err(|error| refused("entering a ring", &error))?;
    ring.next().ok_or_else(|| io::Error::other("a ring does not complete its requests"))
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    /// No sandbox can imitate such a kernel: a sandbox filters calls, and this is a request in the
    /// queue.
    #[test]
    fn a_kernel_without_multishot_receive_is_told_from_one_that_has_it() {
        let request = Request::of_lane(RequestKind::Receive);
        let buffer = Some(0);
        let good = Cqe { request, result: Ok(1), more: true, buffer };
        assert!(needs_poll(good).is_ok());
        for (bad, text) in [
            (Cqe { result: Err(Errno::INVAL), more: false, buffer: None, ..good }, "too old"),
            (Cqe { more: false, ..good }, "does not continue"),
            (Cqe { buffer: None, ..good }, "does not continue"),
        ] {
            let error = needs_poll(bad).expect_err("an old kernel").to_string();
            assert!(error.contains(text) && error.contains("Linux 6.1"), "{error}");
        }
    }
}
