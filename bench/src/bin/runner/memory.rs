//! The memory cost of an idle connection: the growth of the server's resident set by many
//! connections that have each had one echo. The kernel's share (sockets and their buffers) is the
//! same for all servers and not included.

use std::thread;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::contender::Contender;
use crate::load::connect;
use crate::pattern::Pattern;
use crate::server::{NoServer, Server};

pub(crate) const CONNECTIONS: u32 = 15_000;
const PAYLOAD_BYTES: usize = 64;
/// The number of connections from one address, small enough that the search for a free port costs
/// nothing.
const FROM_ONE_ADDRESS: u32 = 50;
/// The time for work that a server does later.
const SETTLING: Duration = Duration::from_millis(300);

/// Returns the resident bytes for each of [`CONNECTIONS`] idle connections.
pub(crate) fn bytes_per_connection(contender: Contender) -> Result<f64, NoServer> {
    let server = Server::start(contender)?;
    let failed = |text| NoServer::Failed(format!("{}: {text}", contender.name));
    let pattern = Pattern::new(PAYLOAD_BYTES);
    let echo = |number: u32| -> Result<_, String> {
        let error = |error: std::io::Error| format!("connection {number}: {error}");
        let socket = connect(server.address, Some(number / FROM_ONE_ADDRESS)).map_err(error)?;
        let mut frame = vec![0; pattern.frame_bytes()];
        pattern.write(number, 0, &mut frame);
        send(&socket, &frame, SendFlags::NOSIGNAL).map_err(|e| error(e.into()))?;
        let (_, got) =
            recv(&socket, frame.as_mut_slice(), RecvFlags::WAITALL).map_err(|e| error(e.into()))?;
        if got < frame.len() || !pattern.is_at(number, 0, &frame) {
            return Err(format!("connection {number}: a wrong echo"));
        }
        Ok(socket)
    };
    // The first connection is opened and closed before the measurement, so that memory for all
    // connections together is not counted.
    drop(echo(0).map_err(failed)?);
    thread::sleep(SETTLING);
    let before = server.resident_bytes().map_err(failed)?;
    let sockets: Result<Vec<_>, _> = (1..=CONNECTIONS).map(echo).collect();
    let sockets = sockets.map_err(failed)?;
    thread::sleep(SETTLING);
    let after = server.resident_bytes().map_err(failed)?;
    drop(sockets);
    Ok(after.saturating_sub(before) as f64 / f64::from(CONNECTIONS))
}
