//! Handles: a socket that no lane has registered yet, a directory, an open file.
//!
//! Each side, a real system or the simulation, defines the type behind its handles and downcasts
//! them to it. A handle of the other side is a bug of the caller.

use std::any::Any;
use std::fmt;
use std::io;

use crate::address::Address;
use crate::sync::Arc;

/// An accepted socket that is not yet registered with a lane. It can be moved to another thread.
/// Dropping it closes it, and the peer sees a clean end.
#[derive(Debug)]
pub struct NewSocket {
    /// The address of the peer.
    pub peer: Address,
    pub(crate) handle: Box<dyn SocketHandle>,
}

impl NewSocket {
    /// Closes the socket so that the peer sees a reset.
    pub fn refuse(self) {
        self.handle.refuse();
    }
}

/// A bound listener that is not yet registered with a lane. Dropping it closes it.
#[derive(Debug)]
pub struct Listener {
    pub(crate) handle: Box<dyn SocketHandle>,
    pub(crate) local: Address,
}

impl Listener {
    /// Returns the bound address, with the port that the system chose if port zero was requested.
    pub fn local_address(&self) -> Address {
        self.local
    }
}

/// The handle of a socket that no lane has registered yet. Dropping it closes it.
pub(crate) trait SocketHandle: Any + fmt::Debug + Send + Sync {
    /// Closes the socket so that the peer sees a reset.
    fn refuse(self: Box<Self>);
}

impl dyn SocketHandle {
    /// Returns the handle as this type, or `None` if another side made it.
    pub(crate) fn downcast<T: SocketHandle>(self: Box<Self>) -> Option<T> {
        let any: Box<dyn Any> = self;
        any.downcast().ok().map(|handle| *handle)
    }
}

/// A directory that was opened to work beneath it. Clones refer to the same directory.
#[derive(Clone)]
pub struct Directory {
    handle: Arc<dyn DirectoryHandle>,
}

/// The handle of a directory.
pub(crate) trait DirectoryHandle: Any + Send + Sync {
    /// Counts the files and bytes beneath the directory. It blocks.
    fn usage(&self) -> io::Result<Usage>;
}

impl Directory {
    pub(crate) fn new(handle: impl DirectoryHandle) -> Self {
        Self { handle: Arc::new(handle) }
    }

    /// Returns the handle as this type, or `None` if another side made it.
    pub(crate) fn downcast<T: DirectoryHandle>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.handle;
        any.downcast_ref()
    }

    /// Counts the files and bytes beneath the directory. It blocks, so it is for the start of a
    /// program; workers use [`FileOp::Usage`](crate::FileOp::Usage).
    pub fn usage(&self) -> io::Result<Usage> {
        self.handle.usage()
    }
}

/// An open regular file. Clones refer to the same file; dropping the last one closes it.
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

    /// Returns the handle as this type, or `None` if another side made it.
    pub(crate) fn downcast<T: FileHandle>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.handle;
        any.downcast_ref()
    }
}

/// The number of files and bytes beneath a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The bytes of all regular files, parts included.
    pub bytes: u64,
    /// The number of regular files, parts included. A part that already has its final name, too,
    /// counts once.
    pub files: u64,
    /// The number of directories without entries.
    pub empty_directories: u64,
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
