//! The compio contender, on one thread with its io_uring driver, written idiomatically: a task per
//! connection, owned buffers lent to each read and write, all replies of a read in one `write_all`.

#![forbid(unsafe_code)]

use std::io;

use compio::BufResult;
use compio::buf::{IntoInner as _, IoBuf as _};
use compio::driver::{DriverType, ProactorBuilder};
use compio::io::{AsyncRead as _, AsyncWriteExt as _};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::RuntimeBuilder;
use posthouse_bench::{frame, listening};

/// The maximum number of bytes per read.
const RECEIVE_BYTES: usize = 64 * 1024;

fn main() -> io::Result<()> {
    let mut driver = ProactorBuilder::new();
    driver.driver_type(DriverType::IoUring);
    driver.single_issuer(true).coop_taskrun(true).defer_taskrun(true);
    let runtime = RuntimeBuilder::new().with_proactor(driver).build()?;
    assert!(runtime.driver_type().is_iouring(), "the io_uring driver");
    runtime.block_on(serve())
}

async fn serve() -> io::Result<()> {
    let listener = TcpListener::from_std(listening::listen()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        compio::runtime::spawn(async move {
            // A failed connection is treated as an ended one.
            let _ = echo(stream).await;
        })
        .detach();
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut received = Vec::new();
    let mut reply = Vec::new();
    loop {
        received.reserve(RECEIVE_BYTES);
        let kept = received.len();
        let BufResult(result, slice) = stream.read(received.slice(kept..)).await;
        received = slice.into_inner();
        if result? == 0 {
            return Ok(());
        }
        let (whole, _) = frame::whole(&received).map_err(|_| io::ErrorKind::InvalidData)?;
        reply.clear();
        reply.extend(received.drain(..whole));
        if !reply.is_empty() {
            let BufResult(result, buffer) = stream.write_all(reply).await;
            result?;
            reply = buffer;
        }
    }
}
