//! The state of a disk: its files, their names, and the open files. Each operation here takes
//! effect at once; `work` decides when it is called.

mod operations;

use std::collections::{BTreeMap, BTreeSet};

use super::content::Content;
use super::names::{Found, Inode, Names};
use super::{FileId, FileUse, PendingFileOp, SimFile};
use crate::error::Failure;
use crate::file_op::{Metadata, PARTS_DIRECTORY};
use crate::handle::{File, Usage};
use crate::sim::random::Random;
use crate::sim::world::World;
use crate::sync::{Arc, Mutex, Weak};
use crate::token::Socket;

/// The maximum size of a file, because a simulated disk is memory.
const MAX_FILE_BYTES: u64 = 1 << 32;

/// A disk of the world.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(super) name: Box<str>,
    /// The number of the disk in its world, and the world.
    number: usize,
    world: Weak<Mutex<World>>,
    /// The number of crashes. Everything that was opened in an earlier epoch is dead.
    pub(super) epoch: u64,
    pub(super) capacity_bytes: u64,
    /// While the disk hangs, the operations that wait for it.
    pub(super) hung: Option<Vec<PendingFileOp>>,
    /// The sockets whose sends wait for the disk while it hangs.
    pub(super) hung_sends: Vec<Socket>,
    names: Names,
    files: BTreeMap<Inode, FileData>,
    open: BTreeMap<u64, OpenFile>,
    /// The number of parts that were ever removed to free space.
    pub(super) freed_parts: u64,
    /// The last number given to a file or to an open file.
    last: u64,
}

/// A file.
#[derive(Debug)]
struct FileData {
    content: Content,
    modified_ns: i64,
    executable: bool,
}

/// An open file, from its opening until a crash or the drop of its last clone.
#[derive(Debug)]
struct OpenFile {
    inode: Inode,
    is_part: bool,
    clones: Weak<()>,
    /// The number of operations whose completion has not been taken.
    in_flight: u32,
    /// The number of them that change the file: at most one.
    changing: u32,
    /// The number of them that sync it: at most one.
    syncing: u32,
}

/// The final name and attributes of a part.
pub(super) struct Publication<'a> {
    pub(super) path: &'a str,
    pub(super) modified_ns: i64,
    pub(super) executable: bool,
}

/// Returns the path of a part.
fn part_path(name: &str) -> String {
    format!("{PARTS_DIRECTORY}/{name}")
}

/// Returns the name of the part that a path leads to.
fn part_name(path: &str) -> Option<&str> {
    path.strip_prefix(PARTS_DIRECTORY)?.strip_prefix('/')
}

impl FileData {
    fn metadata(&self) -> Metadata {
        let mode = Some(if self.executable { 0o755 } else { 0o644 });
        Metadata { bytes: self.content.len() as u64, modified_ns: self.modified_ns, mode }
    }
}

impl OpenFile {
    fn count(&mut self, how: FileUse, by: i32) {
        let count = |counter: &mut u32| *counter = counter.strict_add_signed(by);
        count(&mut self.in_flight);
        match how {
            FileUse::Changes => count(&mut self.changing),
            FileUse::Syncs => count(&mut self.syncing),
            FileUse::Reads => {}
        }
    }
}

impl Volume {
    pub(super) fn new(name: &str, number: usize, world: Weak<Mutex<World>>) -> Self {
        Self {
            name: name.into(),
            number,
            world,
            epoch: 0,
            capacity_bytes: u64::MAX,
            hung: None,
            hung_sends: Vec::new(),
            names: Names::default(),
            files: BTreeMap::new(),
            open: BTreeMap::new(),
            freed_parts: 0,
            last: 0,
        }
    }

    pub(super) fn is_of(&self, world: &Weak<Mutex<World>>) -> bool {
        self.world.ptr_eq(world)
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn data(&mut self, inode: Inode) -> &mut FileData {
        self.files.get_mut(&inode).expect("a file is there while anything leads to it")
    }

    fn insert(&mut self, content: Content, now_ns: i64) -> Inode {
        let inode = Inode(self.next());
        let data = FileData { content, modified_ns: now_ns, executable: false };
        self.files.insert(inode, data);
        inode
    }

    /// Removes the files that no name and no open file leads to.
    fn collect(&mut self) {
        self.open.retain(|_, open| open.clones.strong_count() > 0);
        let mut held = self.names.reachable();
        held.extend(self.open.values().map(|open| open.inode));
        self.files.retain(|inode, _| held.contains(inode));
    }

    // ---- open files ----

    /// Opens a file under a new number, and removes closed files from the table.
    fn open_inode(&mut self, inode: Inode, is_part: bool) -> File {
        self.collect();
        let id = FileId { disk: self.number, number: self.next() };
        let clones = Arc::new(());
        let open = OpenFile {
            inode,
            is_part,
            clones: Arc::downgrade(&clones),
            in_flight: 0,
            changing: 0,
            syncing: 0,
        };
        self.open.insert(id.number, open);
        File::new(SimFile { id, is_part, clones })
    }

    /// Returns the file behind an open file, or `None` if it was opened before a crash.
    fn opened(&self, file: &SimFile) -> Option<Inode> {
        self.open.get(&file.id.number).map(|open| open.inode)
    }

    /// Returns whether the file was certainly never opened here.
    pub(super) fn is_foreign(&self, file: &SimFile) -> bool {
        let open = self.open.get(&file.id.number);
        open.is_some_and(|open| open.clones.as_ptr() != Arc::as_ptr(&file.clones))
    }

    pub(super) fn is_dead(&self, file: &SimFile) -> bool {
        self.opened(file).is_none()
    }

    /// Counts an operation on an open file. Returns false if it may not run beside those in flight.
    pub(super) fn begin(&mut self, id: FileId, how: FileUse) -> bool {
        let Some(open) = self.open.get_mut(&id.number) else { return true };
        let others = open.in_flight - open.changing - open.syncing;
        let may_begin = match how {
            FileUse::Changes => open.changing == 0 && others == 0,
            FileUse::Syncs => open.syncing == 0,
            FileUse::Reads => open.changing == 0,
        };
        if may_begin {
            open.count(how, 1);
        }
        may_begin
    }

    /// Handles the taking of the completion of one of its operations.
    pub(super) fn end(&mut self, id: FileId, how: FileUse) {
        // A crash, or the drop of its last clone, may have removed it from the table.
        if let Some(open) = self.open.get_mut(&id.number) {
            open.count(how, -1);
        }
    }

    /// Returns the number of changes that were ever made to an open file.
    pub(super) fn changes_made(&self, id: FileId) -> u64 {
        let open = self.open.get(&id.number);
        open.map_or(0, |open| self.files[&open.inode].content.made())
    }

    /// Returns whether an open file holds the lock of a part.
    fn is_locked(&self, inode: Inode) -> bool {
        let holds = |open: &OpenFile| open.is_part && open.clones.strong_count() > 0;
        self.open.values().any(|open| open.inode == inode && holds(open))
    }

    /// Returns whether the file has a final name, under which others can see it.
    pub(super) fn is_published(&self, file: &SimFile) -> bool {
        self.opened(file).is_some_and(|inode| self.has_final_name(inode))
    }

    fn has_final_name(&self, inode: Inode) -> bool {
        self.names.of(inode).any(|path| part_name(path).is_none())
    }

    /// Returns the data of an open file. A dead file fails, as if its disk had failed.
    fn opened_data(&mut self, file: &SimFile) -> Result<&mut FileData, Failure> {
        let inode = self.opened(file).ok_or(Failure::Disk)?;
        Ok(self.data(inode))
    }

    // ---- usage ----

    /// Counts names, as a walk does: a published part that is not removed yet has two.
    pub(super) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for (path, inode) in self.names.files() {
            let is_part = part_name(path).is_some();
            // A part that has its final name already is counted under that name.
            if !is_part || self.names.of(inode).count() == 1 {
                usage.bytes += self.files[&inode].content.len() as u64;
                usage.files += 1;
            }
        }
        usage.empty_directories = self.names.empty_directories();
        usage
    }

    /// Returns the number of bytes that can be added. A file takes room once, while it has a name
    /// or is open.
    fn room(&mut self) -> u64 {
        if self.capacity_bytes == u64::MAX {
            return u64::MAX;
        }
        self.collect();
        let named = self.names.files().map(|(_, inode)| inode);
        let open = self.open.values().map(|open| open.inode);
        let files: BTreeSet<Inode> = named.chain(open).collect();
        let used: u64 = files.iter().map(|inode| self.files[inode].content.len() as u64).sum();
        self.capacity_bytes.saturating_sub(used)
    }

    /// Returns the final files or the parts, by name.
    pub(super) fn contents(&self, parts: bool) -> impl Iterator<Item = (&str, &[u8])> {
        self.names.files().filter_map(move |(path, inode)| {
            let part = part_name(path);
            let name = if parts { part? } else { part.is_none().then_some(path)? };
            Some((name, self.files[&inode].content.bytes()))
        })
    }

    // ---- actions from outside ----

    pub(super) fn content(&self, path: &str) -> Option<&[u8]> {
        match self.names.look(path)? {
            Found::File(inode) => Some(self.files[&inode].content.bytes()),
            Found::Directory => None,
        }
    }

    /// Creates a synced file. Open handles of an older file keep it.
    pub(super) fn put(&mut self, path: &str, bytes: &[u8], now_ns: i64) -> Result<(), Failure> {
        self.names.make_way(path)?;
        match self.names.look(path) {
            Some(Found::Directory) => return Err(Failure::NotAFile),
            Some(Found::File(_)) => self.names.unlink(path),
            None => {}
        }
        let inode = self.insert(Content::synced(bytes), now_ns);
        self.names.link(path, inode);
        self.names.sync(path);
        self.collect();
        Ok(())
    }

    /// Returns whether a final file is open.
    pub(super) fn is_open(&self, path: &str) -> bool {
        let Some(Found::File(inode)) = self.names.look(path) else { return false };
        self.open.values().any(|open| open.inode == inode && open.clones.strong_count() > 0)
    }

    /// Returns the number of open files.
    pub(super) fn open_files(&self) -> usize {
        self.open.values().filter(|open| open.clones.strong_count() > 0).count()
    }

    /// Returns the modification time of a final file.
    pub(super) fn modified_ns(&mut self, path: &str) -> Option<i64> {
        let Some(Found::File(inode)) = self.names.look(path) else { return None };
        Some(self.data(inode).modified_ns)
    }

    /// Changes a synced file in place. Returns false if there is none.
    pub(super) fn change(
        &mut self,
        path: &str,
        now_ns: i64,
        change: impl FnOnce(&mut Content),
    ) -> bool {
        let Some(Found::File(inode)) = self.names.look(path) else { return false };
        let data = self.data(inode);
        change(&mut data.content);
        data.content.sync();
        data.modified_ns = now_ns;
        true
    }

    /// Removes a file's name from the disk. Returns false if there is none.
    pub(super) fn take_away(&mut self, path: &str) -> bool {
        let Some(Found::File(_)) = self.names.look(path) else { return false };
        self.names.unlink(path);
        self.names.sync(path);
        self.collect();
        true
    }

    pub(super) fn sync_all(&mut self) {
        self.names.sync_all();
        self.files.values_mut().for_each(|data| data.content.sync());
        self.collect();
    }

    /// Loses some of the unsynced changes, closes everything and begins a new epoch. Returns the
    /// number of changes that are lost, or kept in part.
    pub(super) fn crash(&mut self, random: &mut Random) -> u64 {
        self.epoch += 1;
        self.open.clear();
        let mut lost = self.names.crash(random);
        for data in self.files.values_mut() {
            lost += data.content.crash(random);
        }
        self.collect();
        lost
    }
}
