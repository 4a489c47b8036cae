//! Simulated disks: files that are written, read, synced and published, and crashes that lose data
//! that was not synced.
//!
//! | file | content |
//! |---|---|
//! | `work` | operations: their checks, their duration, their faults |
//! | `volume` | a disk: its files, their names, the open files |
//! | `names`, `content` | the present state of names and contents, and the state after a crash |

mod content;
mod names;
mod volume;
mod work;

use std::fmt;
use std::io;

pub(super) use self::volume::Volume;
pub(super) use self::work::PendingFileOp;
use super::Network;
use super::log::Note;
use super::world::World;
use crate::file_op::is_beneath;
use crate::handle::{Directory, DirectoryHandle, File, FileHandle, Usage};
use crate::sync::{Arc, Mutex, MutexGuard, Weak, lock};

/// A simulated disk, from [`Network::disk`]. Clones refer to the same disk. It outlives the ports
/// that use it.
///
/// File operations reach it through [`directory`](Self::directory). The other methods act from
/// outside, as the test or another program: at once, and without faults.
#[derive(Clone)]
pub struct Disk {
    network: Network,
    number: usize,
}

impl Disk {
    /// Returns the root directory of the disk. It is valid until the disk crashes.
    pub fn directory(&self) -> Directory {
        let epoch = self.world().disks[self.number].epoch;
        let world = Arc::downgrade(&self.network.world);
        Directory::new(SimDirectory { world, disk: self.number, epoch })
    }

    // ---- final files ----

    /// Creates a synced file, and the directories on the way to it. It replaces an existing file;
    /// handles that have it open keep the old content.
    ///
    /// # Panics
    ///
    /// Panics if no file can be at this path.
    pub fn write(&self, path: &str, bytes: &[u8]) {
        assert!(is_beneath(path), "{path:?} is a path beneath a directory");
        let mut world = self.noted(0, bytes.len());
        let now_ns = world.now_ns();
        let written = world.disks[self.number].put(path, bytes, now_ns);
        assert!(written.is_ok(), "no file can be at {path}");
    }

    /// Returns the content of a file, or `None` if there is no file.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.world().disks[self.number].content(path).map(<[u8]>::to_vec)
    }

    /// Appends to an existing file, even if others read it meanwhile.
    ///
    /// # Panics
    ///
    /// Panics if there is no such file.
    pub fn append(&self, path: &str, bytes: &[u8]) {
        let mut world = self.noted(1, bytes.len());
        let now_ns = world.now_ns();
        let changed = world.disks[self.number]
            .change(path, now_ns, |content| content.write(content.len(), bytes.to_vec()));
        assert!(changed, "there is no file at {path}");
    }

    /// Truncates an existing file to this length, even if others read it meanwhile.
    ///
    /// # Panics
    ///
    /// Panics if there is no such file.
    pub fn truncate(&self, path: &str, bytes: u64) {
        let mut world = self.noted(2, bytes as usize);
        let now_ns = world.now_ns();
        let changed = world.disks[self.number]
            .change(path, now_ns, |content| content.cut(content.len().min(bytes as usize)));
        assert!(changed, "there is no file at {path}");
    }

    /// Replaces the synced content of a final file and keeps its modification time, so that the
    /// file system does not see the change. Changes through a mapping of the file, or by another
    /// machine, have the same effect.
    ///
    /// # Panics
    ///
    /// Panics if there is no such file.
    pub fn rewrite(&self, path: &str, bytes: &[u8]) {
        let mut world = self.noted(7, bytes.len());
        let disk = &mut world.disks[self.number];
        let modified_ns = disk.modified_ns(path);
        let modified_ns = modified_ns.unwrap_or_else(|| panic!("there is no file at {path}"));
        disk.change(path, modified_ns, |content| content.replace(bytes));
    }

    /// Returns whether a final file is open.
    pub fn is_open(&self, path: &str) -> bool {
        self.world().disks[self.number].is_open(path)
    }

    /// Returns the number of files that are open, parts included. A file that was opened twice
    /// counts twice.
    pub fn open_files(&self) -> usize {
        self.world().disks[self.number].open_files()
    }

    /// Returns the number of parts that operations have removed so far to free space.
    pub fn freed_parts(&self) -> u64 {
        self.world().disks[self.number].freed_parts
    }

    /// Removes a file. Returns false if there is none. Open handles keep the content.
    pub fn remove(&self, path: &str) -> bool {
        self.noted(3, 0).disks[self.number].take_away(path)
    }

    /// Returns whether there is a directory at this path.
    pub fn has_directory(&self, path: &str) -> bool {
        self.world().disks[self.number].is_directory(path)
    }

    /// Returns the paths of all files except parts, in byte order.
    pub fn files(&self) -> Vec<String> {
        let world = self.world();
        world.disks[self.number].contents(false).map(|(path, _)| path.to_owned()).collect()
    }

    /// Returns the parts and their contents, in the byte order of their names.
    pub fn parts(&self) -> Vec<(String, Vec<u8>)> {
        let world = self.world();
        let owned = |(name, bytes): (&str, &[u8])| (name.to_owned(), bytes.to_vec());
        world.disks[self.number].contents(true).map(owned).collect()
    }

    // ---- the disk ----

    /// Sets the capacity in bytes, parts included; it is unlimited at first. Beyond it, writes are
    /// short and then fail with [`Failure::NoSpace`](crate::Failure::NoSpace), and no new part can
    /// be created.
    pub fn capacity(&self, bytes: u64) {
        self.noted(4, bytes as usize).disks[self.number].capacity_bytes = bytes;
    }

    /// Syncs everything, as a system does that is left alone for a while.
    pub fn sync_all(&self) {
        self.noted(5, 0).disks[self.number].sync_all();
    }

    /// Makes the disk hang, as if a file server were gone: no operation on it ends, neither a new
    /// one nor one in flight. The methods of this type are not affected.
    pub fn hang(&self) {
        let mut world = self.noted(8, 0);
        world.disks[self.number].hung.get_or_insert_default();
        world.fault_counts.disk_hangs += 1;
    }

    /// Ends the hang, and continues the operations that were submitted before and during it.
    pub fn resume(&self) {
        self.noted(9, 0).resume_disk(self.number);
    }

    /// Simulates a power failure of the machine. Each write since the last
    /// [`FileOp::Sync`](crate::FileOp::Sync) of its file survives whole, in its first part, or not
    /// at all. Each name that was created, linked or removed since it was last synced survives or
    /// not, in any combination; a name is lost together with its directory. Locks are released.
    /// Files and directories that were opened before the crash are dead: operations on them,
    /// including those in flight, fail with [`Failure::Disk`](crate::Failure::Disk) and change
    /// nothing. Synced and published data survives.
    pub fn crash(&self) {
        let mut world = self.noted(6, 0);
        let World { disks, random, fault_counts, .. } = &mut *world;
        fault_counts.disk_lost += disks[self.number].crash(random);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.network.lock()
    }

    /// Returns the world, with a note in its log about an action from outside.
    fn noted(&self, what: u64, bytes: usize) -> MutexGuard<'_, World> {
        let mut world = self.world();
        world.note(Note::Disk, (self.number as u64) << 8 | what, bytes as u64);
        world
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.world().disks[self.number].name.clone();
        write!(f, "Disk({name} of {:?})", self.network)
    }
}

impl Network {
    /// Returns the disk of this name, which is created empty on the first call.
    pub fn disk(&self, name: &str) -> Disk {
        let disks = &mut self.lock().disks;
        let number = disks.iter().position(|disk| *disk.name == *name).unwrap_or_else(|| {
            let number = disks.len();
            disks.push(Volume::new(name, number, Arc::downgrade(&self.world)));
            number
        });
        Disk { network: self.clone(), number }
    }
}

/// The directory of a disk, in one of its epochs. It does not keep the world alive, because
/// operations in flight hold directories, and the world holds those operations.
#[derive(Clone, Debug)]
pub(crate) struct SimDirectory {
    world: Weak<Mutex<World>>,
    disk: usize,
    epoch: u64,
}

impl DirectoryHandle for SimDirectory {
    fn usage(&self) -> io::Result<Usage> {
        let world = self.world.upgrade().expect("a network outlives its directories' use");
        Ok(lock(&world).disks[self.disk].usage())
    }
}

/// The id of an open file: its disk, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    disk: usize,
    number: u64,
}

/// The use that an operation makes of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileUse {
    /// A write or a truncation: only a sync may be in flight beside it.
    Changes,
    Syncs,
    Reads,
}

/// An open file. Dropping its last clone has no effect at that moment, because the disk checks
/// later whether clones exist. So it can be dropped everywhere, even inside the world.
#[derive(Clone, Debug)]
pub(crate) struct SimFile {
    id: FileId,
    /// True exactly when it was opened for writing, and is locked.
    is_part: bool,
    clones: Arc<()>,
}

impl Directory {
    fn simulated(&self) -> Option<&SimDirectory> {
        self.downcast()
    }
}

impl FileHandle for SimFile {}

impl File {
    fn simulated(&self) -> Option<&SimFile> {
        self.downcast()
    }
}
