//! The operations of a lane, which each backend has in its own way.

use std::time::Duration;

use crate::address::Address;
use crate::buffer::Buffer;
use crate::handle::SocketHandle;
use crate::op::{Cancel, Completion, Op};
use crate::token::{LaneId, Socket, Tag};

/// From so many bytes on a system's own way from a file to a socket is worth its calls. (Measured:
/// 10 KiB are sent from memory in as much time, or a little less.)
#[cfg(any(target_os = "linux", windows))]
pub(crate) const FILE_PART_WORTH: usize = 32 * 1024;

/// A worker's end of a lane of one backend. [`Lane`](crate::Lane) documents what the methods
/// promise; the defaults are those of a backend that has nothing to add.
pub(crate) trait LaneOps {
    fn id(&self) -> LaneId;

    fn now(&self) -> Duration;

    fn next_completion(&mut self) -> Option<Completion>;

    fn should_yield(&mut self) -> bool {
        false
    }

    fn prefers_sendfile(&mut self, _bytes: usize) -> bool {
        false
    }

    fn submit(&mut self, tag: Tag, op: Op);

    fn cancel(&mut self, socket: Socket, what: Cancel);

    /// The default is for a lane that awaits no operation on files when it is dropped.
    fn abandon(&mut self, _tag: Tag) {}

    fn shutdown(&mut self, socket: Socket);

    fn reset(&mut self, socket: Socket);

    fn socket(&mut self) -> Socket;

    fn adopt(&mut self, handle: Box<dyn SocketHandle>) -> Socket;

    fn adopt_listener(&mut self, handle: Box<dyn SocketHandle>) -> Socket {
        self.adopt(handle)
    }

    fn local_address(&mut self, socket: Socket) -> Option<Address>;

    fn recycle(&mut self, buffer: Buffer);

    /// Between two steps: takes events, and waits for one if nothing else is to be done. `sleep` is
    /// what the step asked for.
    fn wait(&mut self, sleep: Option<Duration>);
}
