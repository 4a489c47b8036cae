//! A scripted peer: the behaviour of attackers and foreign clients.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::log::Note;
use super::stream::Phase;
use super::table::Owner;
use super::world::World;
use super::{Network, listener};
use crate::address::Address;
use crate::token::Socket;
use crate::turn::Turn;

/// The script's state of a stream.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// The bytes to send for which there is no room yet.
    outbox: VecDeque<u8>,
    /// The bytes received and not taken by the test yet.
    received: Vec<u8>,
    stopped: bool,
    /// True exactly when the stream must end as soon as the outbox is empty.
    finish: bool,
}

impl Script {
    /// Returns whether the script waits for room.
    pub(super) fn is_busy(&self) -> bool {
        !self.outbox.is_empty()
    }
}

impl World {
    fn script(&mut self, socket: Socket) -> Option<&mut Script> {
        self.table.stream(socket)?.script.as_deref_mut()
    }

    /// Receives the bytes that have arrived, unless the script has stopped reading.
    pub(super) fn script_receives(&mut self, socket: Socket) {
        let Some(stream) = self.table.stream(socket) else { return };
        let count = stream.arrived;
        let Some(script) = stream.script.as_mut().filter(|script| !script.stopped) else { return };
        if count > 0 {
            let from = script.received.len();
            script.received.extend(stream.bytes.iter().take(count));
            self.log.bytes(self.now, &script.received[from..]);
            self.consumed(socket, count);
            self.wake_scripts(socket);
        }
    }

    /// Sends as much as there is room for, and then the end of the stream, if it was requested.
    pub(super) fn script_sends(&mut self, socket: Socket) {
        let Some(stream) = self.table.stream(socket) else { return };
        let peer = stream.peer;
        let Some(mut script) = stream.script.take() else { return };
        if stream.phase == Phase::Open && !stream.shut {
            let count = script.outbox.len().min(self.room(socket));
            if count > 0 {
                self.put(peer, &script.outbox.make_contiguous()[..count]);
                script.outbox.drain(..count);
                self.carry(socket, peer, count);
            }
            if script.outbox.is_empty() && script.finish {
                self.end_stream(socket);
            }
        }
        if let Some(stream) = self.table.stream(socket) {
            stream.script = Some(script);
        }
    }
}

/// A scripted peer outside of every port: it sends any bytes at any moment, reads or does not, and
/// ends its connection in any way. Dropping it closes it as a system closes the sockets of a
/// process.
pub struct RawStream {
    network: Network,
    socket: Socket,
}

impl RawStream {
    pub(super) fn dial(network: &Network, source: Option<IpAddr>, address: Address) -> Self {
        let mut world = network.lock();
        let socket = world.new_stream(Owner::Script, Phase::Fresh);
        if let Some(stream) = world.table.stream(socket) {
            stream.script = Some(Box::default());
        }
        // Host 0 belongs to the scripts: ports count from 1.
        let source = source.unwrap_or_else(|| listener::host(0, address.ip()));
        world.start_connecting(socket, source, address);
        drop(world);
        Self { network: network.clone(), socket }
    }

    pub(super) fn accepted(network: &Network, socket: Socket) -> Self {
        let mut world = network.lock();
        if let Some(entry) = world.table.entry(socket) {
            entry.owner = Owner::Script;
        }
        if let Some(stream) = world.table.stream(socket) {
            stream.queue = None;
            stream.script = Some(Box::default());
        }
        world.script_receives(socket);
        drop(world);
        Self { network: network.clone(), socket }
    }

    /// Sends bytes. They leave once the connection is established, as the other side makes room.
    ///
    /// # Panics
    ///
    /// Panics after [`finish`](Self::finish).
    pub fn send(&self, bytes: &[u8]) {
        let mut world = self.network.lock();
        world.note(Note::Raw, 0, bytes.len() as u64);
        if let Some(script) = world.script(self.socket) {
            assert!(!script.finish, "the script has ended its stream");
            script.outbox.extend(bytes);
        }
        world.script_sends(self.socket);
    }

    /// Returns the bytes received since the last call.
    pub fn take_received(&self) -> Vec<u8> {
        let mut world = self.network.lock();
        world
            .script(self.socket)
            .map(|script| std::mem::take(&mut script.received))
            .unwrap_or_default()
    }

    /// Returns the number of bytes received since the last [`take_received`](Self::take_received).
    pub fn received_bytes(&self) -> usize {
        self.network.lock().script(self.socket).map_or(0, |script| script.received.len())
    }

    /// Returns the number of bytes that wait for the connection or for room.
    pub fn unsent_bytes(&self) -> usize {
        self.network.lock().script(self.socket).map_or(0, |script| script.outbox.len())
    }

    /// Ends this side's stream after everything that has been sent. The other direction continues.
    pub fn finish(&self) {
        let mut world = self.network.lock();
        world.note(Note::Raw, 1, 0);
        if let Some(script) = world.script(self.socket) {
            script.finish = true;
        }
        world.script_sends(self.socket);
    }

    /// Resets the connection.
    pub fn reset(&self) {
        let mut world = self.network.lock();
        world.note(Note::Raw, 2, 0);
        world.reset_now(self.socket);
    }

    /// Cuts the link, as if the peer's machine lost its power: bytes on their way still arrive, and
    /// nothing else passes in either direction. The other side's system ends the connection after
    /// 25 s, as its keep-alive does, with [`TimedOut`](crate::Failure::TimedOut).
    pub fn vanish(&self) {
        let mut world = self.network.lock();
        world.note(Note::Raw, 4, 0);
        world.vanish(self.socket);
    }

    /// Stops reading: the other side's sends fill the window and then wait.
    pub fn stop_reading(&self) {
        if let Some(script) = self.network.lock().script(self.socket) {
            script.stopped = true;
        }
    }

    /// Starts reading again.
    pub fn resume_reading(&self) {
        let mut world = self.network.lock();
        if let Some(script) = world.script(self.socket) {
            script.stopped = false;
        }
        world.script_receives(self.socket);
    }

    /// Returns whether the connection is or was established.
    pub fn is_connected(&self) -> bool {
        self.phase().is_some_and(|phase| !matches!(phase, Phase::Connecting | Phase::Failed))
    }

    /// Returns whether the connection attempt failed.
    pub fn is_refused(&self) -> bool {
        self.phase() == Some(Phase::Failed)
    }

    /// Returns whether either side has reset the connection.
    pub fn is_reset(&self) -> bool {
        self.phase() == Some(Phase::Reset)
    }

    /// Returns whether the other side has ended its stream, and everything before the end is
    /// received.
    pub fn is_ended(&self) -> bool {
        let mut world = self.network.lock();
        world.table.stream(self.socket).is_some_and(|stream| stream.ended && stream.arrived == 0)
    }

    /// Returns the local address, which the other side sees as its peer's.
    pub fn local_address(&self) -> Address {
        let mut world = self.network.lock();
        let stream =
            world.table.stream(self.socket).expect("a script's stream lives as long as it");
        stream.local.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)).into())
    }

    /// Returns whether the other side awaits nothing more.
    fn is_over(&self) -> bool {
        self.is_reset() || self.is_ended() && self.unsent_bytes() == 0
    }

    fn phase(&self) -> Option<Phase> {
        self.network.lock().table.stream(self.socket).map(|stream| stream.phase)
    }
}

impl Drop for RawStream {
    fn drop(&mut self) {
        let mut world = self.network.lock();
        world.note(Note::Raw, 3, 0);
        world.close_unowned(self.socket);
    }
}

impl fmt::Debug for RawStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawStream({:?})", self.socket)
    }
}

/// Ends the scripts of a network when it is dropped, except on a worker or while the thread is
/// panicking.
#[derive(Debug)]
pub struct ScriptsGuard(Network);

impl ScriptsGuard {
    /// Makes a guard of the scripts of this network.
    pub fn new(network: &Network) -> Self {
        Self(network.clone())
    }
}

impl Drop for ScriptsGuard {
    fn drop(&mut self) {
        if !crate::turn::on_worker() && !std::thread::panicking() {
            self.0.end_scripts();
        }
    }
}

/// A scripted listener outside of every port: a foreign server. Dropping it closes it.
#[derive(Debug)]
pub struct RawListener {
    network: Network,
    socket: Socket,
    address: Address,
}

impl RawListener {
    pub(super) fn new(network: Network, socket: Socket, address: Address) -> Self {
        Self { network, socket, address }
    }

    /// Returns the bound address.
    pub fn local_address(&self) -> Address {
        self.address
    }

    /// Returns the next peer, if one has come.
    pub fn accept(&self) -> Option<RawStream> {
        let mut world = self.network.lock();
        let socket = world.table.listener(self.socket)?.queue.pop_front()?;
        drop(world);
        Some(RawStream::accepted(&self.network, socket))
    }

    /// Serves all peers in a script ([`Network::script`]): calls `step` with each accepted stream,
    /// at first and again whenever something has happened to a scripted peer. A stream that the
    /// other side has reset, or has ended when nothing is left to send, is dropped after that call.
    pub fn answer(self, mut step: impl FnMut(&RawStream) + Send + 'static) {
        let network = self.network.clone();
        let mut streams = Vec::new();
        network.script(&format!("server at {}", self.address), move |_| {
            streams.extend(std::iter::from_fn(|| self.accept()));
            streams.iter().for_each(&mut step);
            streams.retain(|stream| !stream.is_over());
            Turn::Sleep(None)
        });
    }
}

impl Drop for RawListener {
    fn drop(&mut self) {
        self.network.lock().close_unowned(self.socket);
    }
}
