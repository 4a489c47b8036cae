//! The trait with the operations of a lane that each backend implements.

use std::time::Duration;

use crate::address::Address;
use crate::buffer::Buffer;
use crate::handle::SocketHandle;
use crate::op::{Cancel, Completion, Op};
use crate::token::{LaneId, Socket, Tag};

/// The number of bytes from which a system's file-to-socket call is worth its cost. (Measured:
/// sending 10 KiB from memory takes as much time, or a little less.)
#[cfg(any(target_os = "linux", windows))]
pub(crate) const FILE_PART_WORTH: usize = 32 * 1024;

/// The lane of one backend. [`Lane`](crate::Lane) documents the contracts of the methods. The
/// defaults suit a backend without a mechanism of its own.
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

    fn cancel_look_up(&mut self, tag: Tag);

    /// Does nothing by default, for a lane that awaits no file operation when it is dropped.
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

    /// Takes events between two steps, and waits for one if nothing else is to be done. The step
    /// requested `sleep`.
    fn wait(&mut self, sleep: Option<Duration>);
}
