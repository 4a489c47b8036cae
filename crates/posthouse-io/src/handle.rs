//! Handles: a socket that no lane has registered yet, a directory, an open file.
//!
//! Only the side that made a handle, a system or the simulation, knows what is behind it, and takes
//! it back by its type. A handle of another side is a bug of the caller.

use std::any::Any;
use std::fmt;
use std::io;

use crate::address::Address;
use crate::sync::Arc;

/// A socket that has been accepted and is not yet registered with a lane. It can be moved to
/// another thread; dropping it closes it.
#[derive(Debug)]
pub struct NewSocket {
    /// The address of the other end.
    pub peer: Address,
    pub(crate) handle: Box<dyn SocketHandle>,
}

impl NewSocket {
    /// Closes it so that the peer sees a reset; dropping it shows the peer a clean end.
    pub fn refuse(self) {
        self.handle.refuse();
    }
}

/// A bound listener, not yet registered with a lane. Dropping it closes it.
#[derive(Debug)]
pub struct Listener {
    pub(crate) handle: Box<dyn SocketHandle>,
    pub(crate) local: Address,
}

impl Listener {
    /// The address it is bound to, with the port that the system chose where zero was asked for.
    pub fn local_address(&self) -> Address {
        self.local
    }
}

/// The handle of a socket that no lane has registered yet. Dropping it closes it.
pub(crate) trait SocketHandle: Any + fmt::Debug + Send + Sync {
    /// Closes it so that the peer sees a reset.
    fn refuse(self: Box<Self>);
}

impl dyn SocketHandle {
    /// The handle as the type that its side made it of. `None`: it is another side's.
    pub(crate) fn downcast<T: SocketHandle>(self: Box<Self>) -> Option<T> {
        let any: Box<dyn Any> = self;
        any.downcast().ok().map(|handle| *handle)
    }
}

/// A directory that was opened to work beneath it. Clones name the same one.
#[derive(Clone)]
pub struct Directory {
    handle: Arc<dyn DirectoryHandle>,
}

/// The handle of a directory.
pub(crate) trait DirectoryHandle: Any + Send + Sync {
    /// Counts what lies beneath it. It blocks.
    fn usage(&self) -> io::Result<Usage>;
}

impl Directory {
    pub(crate) fn new(handle: impl DirectoryHandle) -> Self {
        Self { handle: Arc::new(handle) }
    }

    /// The handle as the type that its side made it of. `None`: it is another side's.
    pub(crate) fn downcast<T: DirectoryHandle>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.handle;
        any.downcast_ref()
    }

    /// Counts what lies beneath it. It blocks: for the start of a program.
    pub fn usage(&self) -> io::Result<Usage> {
        self.handle.usage()
    }
}

/// An open regular file. Clones name the same one; it is closed with the last of them.
#[derive(Clone)]
pub struct File {
    handle: Arc<dyn FileHandle>,
}

/// The handle of an open file.
pub(crate) trait FileHandle: Any + Send + Sync {}

impl File {
    pub(crate) fn new(handle: impl FileHandle) -> Self {
        Self { handle: Arc::new(handle) }
    }

    /// The handle as the type that its side made it of. `None`: it is another side's.
    pub(crate) fn downcast<T: FileHandle>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.handle;
        any.downcast_ref()
    }
}

/// What lies beneath a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all regular files, parts included.
    pub bytes: u64,
    /// How many there are; a part that has its final name already is one with it.
    pub files: u64,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").finish_non_exhaustive()
    }
}

/// Returns a file that no side reads.
#[cfg(test)]
pub(crate) fn no_file() -> File {
    struct NoFile;

    impl FileHandle for NoFile {}

    File::new(NoFile)
}
