//! Simulated disks: files that are written, read, synced and published, and crashes that lose what
//! was not synced.
//!
//! | file | what it holds |
//! |---|---|
//! | `work` | operations: their checkers, how long they take, their faults |
//! | `volume` | a disk: its files, their names, which of them are open |
//! | `names`, `content` | each as it is now, and as a crash would leave it |

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

/// A simulated disk, made by `disk` of its world: clones name the same one. It outlives the ports
/// that use it.
///
/// Operations on files reach it through [`directory`](Self::directory). What the other methods do
/// is done from outside, at once and whatever the faults are: by the test, or by another program.
#[derive(Clone)]
pub struct Disk {
    network: Network,
    number: usize,
}

impl Disk {
    /// The directory that is all of this disk, as long as the disk does not crash.
    pub fn directory(&self) -> Directory {
        let epoch = self.world().disks[self.number].epoch;
        let world = Arc::downgrade(&self.network.world);
        Directory::new(SimDirectory { world, disk: self.number, epoch })
    }

    // ---- final files ----

    /// Puts a file there that is on the disk, with the directories on the way to it. It replaces
    /// one that is there; who has that open keeps it as it was.
    pub fn write(&self, path: &str, bytes: &[u8]) {
        assert!(is_beneath(path), "{path:?} is a path beneath a directory");
        let mut world = self.noted(0, bytes.len());
        let now_ms = world.now_ms();
        let written = world.disks[self.number].put(path, bytes, now_ms);
        assert!(written.is_ok(), "no file can be at {path}");
    }

    /// What a file holds; `None`: there is none.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.world().disks[self.number].content(path).map(<[u8]>::to_vec)
    }

    /// Adds to a file that is there, whoever reads it meanwhile.
    pub fn append(&self, path: &str, bytes: &[u8]) {
        let mut world = self.noted(1, bytes.len());
        let now_ms = world.now_ms();
        let changed = world.disks[self.number]
            .change(path, now_ms, |content| content.write(content.len(), bytes.to_vec()));
        assert!(changed, "there is no file at {path}");
    }

    /// Cuts a file that is there to this length, whoever reads it meanwhile.
    pub fn truncate(&self, path: &str, bytes: u64) {
        let mut world = self.noted(2, bytes as usize);
        let now_ms = world.now_ms();
        let changed = world.disks[self.number]
            .change(path, now_ms, |content| content.cut(content.len().min(bytes as usize)));
        assert!(changed, "there is no file at {path}");
    }

    /// Puts other bytes into a final file, on the disk, and leaves its time as it was, so that the
    /// file system does not see the change: as one that is made through a mapping of the file, or
    /// by another machine.
    ///
    /// # Panics
    ///
    /// Where there is no such file.
    pub fn rewrite(&self, path: &str, bytes: &[u8]) {
        let mut world = self.noted(7, bytes.len());
        let disk = &mut world.disks[self.number];
        let modified_ms = disk.modified_ms(path);
        let modified_ms = modified_ms.unwrap_or_else(|| panic!("there is no file at {path}"));
        disk.change(path, modified_ms, |content| content.replace(bytes));
    }

    /// Whether anybody has a final file open.
    pub fn is_open(&self, path: &str) -> bool {
        self.world().disks[self.number].is_open(path)
    }

    /// Removes a file; false: there is none. Who has it open keeps it.
    pub fn remove(&self, path: &str) -> bool {
        self.noted(3, 0).disks[self.number].take_away(path)
    }

    /// The paths of all files but parts, in the order of their bytes.
    pub fn files(&self) -> Vec<String> {
        let world = self.world();
        world.disks[self.number].contents(false).map(|(path, _)| path.to_owned()).collect()
    }

    /// The parts and what they hold, in the order of their names' bytes.
    pub fn parts(&self) -> Vec<(String, Vec<u8>)> {
        let world = self.world();
        let owned = |(name, bytes): (&str, &[u8])| (name.to_owned(), bytes.to_vec());
        world.disks[self.number].contents(true).map(owned).collect()
    }

    // ---- the disk ----

    /// How many bytes it takes from now on, parts included; any number at first. Past that writes
    /// are short and then fail with [`Failure::NoSpace`](crate::Failure::NoSpace), and no part is
    /// made any more.
    pub fn capacity(&self, bytes: u64) {
        self.noted(4, bytes as usize).disks[self.number].capacity_bytes = bytes;
    }

    /// Brings everything to the disk, as a system does that is left alone for a while.
    pub fn sync_all(&self) {
        self.noted(5, 0).disks[self.number].sync_all();
    }

    /// From now on no operation on it ends, as where a file server is gone: neither what is asked
    /// of it nor what it is at. What the methods here do is done all the same.
    pub fn hang(&self) {
        let mut world = self.noted(8, 0);
        world.disks[self.number].hung.get_or_insert_default();
        world.fault_counts.disk_hangs += 1;
    }

    /// It goes on, with what it was asked for while it hung, too.
    pub fn resume(&self) {
        self.noted(9, 0).resume_disk(self.number);
    }

    /// The machine loses its power. Each write that no [`FileOp::Sync`](crate::FileOp::Sync) has
    /// followed is there afterwards, or the first part of it, or nothing; each name that was given,
    /// made or removed since is so or is as it was: any of them, whatever came first. Locks are
    /// free. Files and directories that were opened before are dead: what is done with them, also
    /// what is in flight now, fails with [`Failure::Disk`](crate::Failure::Disk) and changes
    /// nothing. What was synced or published is as it was.
    pub fn crash(&self) {
        let mut world = self.noted(6, 0);
        let World { disks, random, fault_counts, .. } = &mut *world;
        fault_counts.disk_lost += disks[self.number].crash(random);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.network.lock()
    }

    /// The world, which has noted that somebody does something from outside.
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
    /// The disk of that name: an empty one where it is named for the first time.
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

/// A disk's directory, in one of its epochs. It does not keep the world: operations in flight hold
/// directories, and the world those.
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

/// Names an open file: its disk, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    disk: usize,
    number: u64,
}

/// What an operation does with an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileUse {
    /// A write, or a cut: nothing but a sync may be in flight beside it.
    Changes,
    Syncs,
    Reads,
}

/// An open file. Nothing happens when its last clone is dropped: the disk looks whether there are
/// any. So it can be dropped anywhere, inside of the world too.
#[derive(Clone, Debug)]
pub(crate) struct SimFile {
    id: FileId,
    /// It was opened to be written, and is locked.
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
