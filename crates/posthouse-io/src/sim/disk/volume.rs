//! The state of a disk: its files, their names, and the open files. Each operation here takes
//! effect at once; `work` decides when it is called.

use std::collections::{BTreeMap, BTreeSet};

use super::content::Content;
use super::names::{Found, Inode, Names};
use super::{FileId, FileUse, PendingFileOp, SimFile};
use crate::error::Failure;
use crate::file_op::{FileEntry, FileOutcome, FileVersion, Metadata, PARTS_DIRECTORY};
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

    // ---- operations ----

    pub(super) fn open(&mut self, path: &str) -> Result<FileOutcome, Failure> {
        let inode = match self.names.look(path) {
            Some(Found::File(inode)) => inode,
            Some(Found::Directory) => return Err(Failure::NotAFile),
            None => return Err(Failure::NotFound),
        };
        let metadata = self.data(inode).metadata();
        let version = Some(self.version(inode));
        Ok(FileOutcome::Opened { file: self.open_inode(inode, false), metadata, version })
    }

    pub(super) fn open_part(&mut self, name: &str, now_ns: i64) -> Result<FileOutcome, Failure> {
        let path = part_path(name);
        let found = match self.names.look(&path) {
            Some(Found::File(inode)) if self.is_locked(inode) => return Err(Failure::Locked),
            // The part is published and was not removed then, so others would see a write to it.
            Some(Found::File(inode)) if self.has_final_name(inode) => {
                self.names.unlink(&path);
                None
            }
            Some(Found::File(inode)) => Some(inode),
            Some(Found::Directory) => return Err(Failure::NotAFile),
            None => None,
        };
        let inode = match found {
            Some(inode) => inode,
            None if self.room() == 0 => return Err(Failure::NoSpace),
            None => {
                self.names.make_way(&path)?;
                let inode = self.insert(Content::default(), now_ns);
                self.names.link(&path, inode);
                inode
            }
        };
        let bytes = self.data(inode).content.len() as u64;
        Ok(FileOutcome::Part { file: self.open_inode(inode, true), bytes })
    }

    pub(super) fn truncate(
        &mut self,
        file: &SimFile,
        bytes: u64,
        now_ns: i64,
    ) -> Result<FileOutcome, Failure> {
        let data = self.opened_data(file)?;
        if bytes > MAX_FILE_BYTES {
            return Err(Failure::NoSpace);
        }
        data.content.cut(bytes as usize);
        data.modified_ns = now_ns;
        Ok(FileOutcome::Done)
    }

    /// Returns the bytes from the offset on.
    pub(super) fn read(&mut self, file: &SimFile, offset: u64) -> Result<&[u8], Failure> {
        Ok(self.opened_data(file)?.content.from(offset))
    }

    /// Returns the number of the bytes for which there is room.
    pub(super) fn writable(
        &mut self,
        file: &SimFile,
        offset: u64,
        bytes: usize,
    ) -> Result<usize, Failure> {
        let room = self.room();
        let here = self.opened_data(file)?.content.len() as u64;
        let end = here.saturating_add(room).min(MAX_FILE_BYTES);
        match usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX) {
            0 => Err(Failure::NoSpace),
            most => Ok(most.min(bytes)),
        }
    }

    /// Writes bytes for which there is room.
    pub(super) fn write(
        &mut self,
        file: &SimFile,
        offset: u64,
        bytes: Vec<u8>,
        now_ns: i64,
    ) -> Result<(), Failure> {
        let data = self.opened_data(file)?;
        data.content.write(offset as usize, bytes);
        data.modified_ns = now_ns;
        Ok(())
    }

    /// Syncs the first `changes` changes of a file, and the name of a part, because systems write a
    /// new file's name with its content.
    pub(super) fn sync(&mut self, file: &SimFile, changes: u64) -> Result<FileOutcome, Failure> {
        let inode = self.opened(file).ok_or(Failure::Disk)?;
        self.data(inode).content.sync_to(changes);
        let parts = self.names.of(inode).filter(|path| part_name(path).is_some());
        for path in parts.map(str::to_owned).collect::<Vec<_>>() {
            self.names.sync(&path);
        }
        Ok(FileOutcome::Done)
    }

    pub(super) fn metadata(&mut self, file: &SimFile) -> Result<FileOutcome, Failure> {
        let metadata = self.opened_data(file)?.metadata();
        let inode = self.opened(file).ok_or(Failure::Disk)?;
        Ok(FileOutcome::Metadata { metadata, version: Some(self.version(inode)) })
    }

    /// Returns the version of a file. It leaves out the length and the time: a change that shows in
    /// nothing else is one that file systems can miss.
    fn version(&self, inode: Inode) -> FileVersion {
        let changes = self.files[&inode].content.changes();
        FileVersion {
            volume: self.number as u64,
            file: inode.0.into(),
            bytes: 0,
            modified: 0,
            changed: changes.into(),
        }
    }

    /// Performs the first half of a publication: the content is on the disk, and the name exists
    /// but could be lost. [`sync_name`](Self::sync_name) is the second half.
    pub(super) fn link(
        &mut self,
        file: &SimFile,
        publication: &Publication<'_>,
    ) -> Result<(), Failure> {
        let inode = self.opened(file).ok_or(Failure::Disk)?;
        self.names.make_way(publication.path)?;
        if self.names.look(publication.path).is_some() {
            return Err(Failure::Exists);
        }
        if self.names.of(inode).next().is_none() {
            return Err(Failure::NotFound);
        }
        let data = self.data(inode);
        data.modified_ns = publication.modified_ns;
        data.executable = publication.executable;
        data.content.sync();
        self.names.link(publication.path, inode);
        Ok(())
    }

    pub(super) fn sync_name(&mut self, path: &str) -> FileOutcome {
        self.names.sync(path);
        FileOutcome::Done
    }

    pub(super) fn look_up_directory(&mut self, path: &str) -> Result<FileOutcome, Failure> {
        match self.names.look(path) {
            Some(Found::Directory) => Ok(self.sync_name(path)),
            Some(Found::File(_)) => Err(Failure::Exists),
            None => Err(Failure::NotFound),
        }
    }

    pub(super) fn is_directory(&self, path: &str) -> bool {
        self.names.look(path) == Some(Found::Directory)
    }

    pub(super) fn make_directory(&mut self, path: &str) -> Result<FileOutcome, Failure> {
        self.names.make_way(&format!("{path}/"))?;
        Ok(self.sync_name(path))
    }

    /// Syncs a file and the name under which it was found.
    pub(super) fn sync_found(
        &mut self,
        path: &str,
        file: &SimFile,
    ) -> Result<FileOutcome, Failure> {
        let inode = self.opened(file).ok_or(Failure::Disk)?;
        if self.names.look(path) != Some(Found::File(inode)) {
            return Err(Failure::NotFound);
        }
        self.data(inode).content.sync();
        Ok(self.sync_name(path))
    }

    pub(super) fn remove_part(
        &mut self,
        name: &str,
        file: &SimFile,
    ) -> Result<FileOutcome, Failure> {
        let inode = self.opened(file).ok_or(Failure::Disk)?;
        let path = part_path(name);
        if self.names.look(&path) == Some(Found::File(inode)) {
            self.names.unlink(&path);
        }
        Ok(FileOutcome::Done)
    }

    pub(super) fn expire_parts(&mut self, age_ms: u64, now_ns: i64) -> FileOutcome {
        let before_ns = now_ns.saturating_sub_unsigned(age_ms.saturating_mul(1_000_000));
        let expired = |(path, inode): (&str, Inode)| {
            let is_old = self.files[&inode].modified_ns < before_ns && !self.is_locked(inode);
            (is_old && part_name(path).is_some()).then(|| path.to_owned())
        };
        for path in self.names.files().filter_map(expired).collect::<Vec<_>>() {
            self.names.unlink(&path);
        }
        self.collect();
        FileOutcome::Done
    }

    pub(super) fn list(&self, after: &str, max_entries: usize) -> FileOutcome {
        let mut finals =
            self.names.files_after(after).filter(|(path, _)| part_name(path).is_none());
        let entry = |(path, inode): (&str, Inode)| FileEntry {
            path: path.into(),
            metadata: self.files[&inode].metadata(),
        };
        let entries = finals.by_ref().take(max_entries).map(entry).collect();
        FileOutcome::Listed { entries, more: finals.next().is_some() }
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
