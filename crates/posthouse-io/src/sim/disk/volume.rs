//! What a disk holds: its files, their names, and which of them are open. Each operation here has
//! its whole effect at once; when it takes place is `work`'s to say.

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

/// The largest file: a simulated disk is memory.
const MAX_FILE_BYTES: u64 = 1 << 32;

/// A disk of the world.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(super) name: Box<str>,
    /// Which of the world's disks it is, and the world.
    number: usize,
    world: Weak<Mutex<World>>,
    /// Counts crashes. What was opened in another epoch is dead.
    pub(super) epoch: u64,
    pub(super) capacity_bytes: u64,
    /// Where it hangs: what it was asked for meanwhile.
    pub(super) hung: Option<Vec<PendingFileOp>>,
    /// Sockets whose sends wait for it then.
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
    modified_ms: i64,
    executable: bool,
}

/// An open file, from its opening until a crash or the end of its last clone.
#[derive(Debug)]
struct OpenFile {
    inode: Inode,
    is_part: bool,
    clones: Weak<()>,
    /// Operations whose completion has not been taken.
    in_flight: u32,
    /// How many of them change the file: at most one.
    changing: u32,
    /// How many of them sync it: at most one.
    syncing: u32,
}

/// The final name and attributes of a part.
pub(super) struct Publication<'a> {
    pub(super) path: &'a str,
    pub(super) modified_ms: i64,
    pub(super) executable: bool,
}

/// The path of a part.
fn part_path(name: &str) -> String {
    format!("{PARTS_DIRECTORY}/{name}")
}

/// The name of the part that a path leads to.
fn part_name(path: &str) -> Option<&str> {
    path.strip_prefix(PARTS_DIRECTORY)?.strip_prefix('/')
}

impl FileData {
    fn metadata(&self) -> Metadata {
        let Self { modified_ms, executable, .. } = *self;
        Metadata { bytes: self.content.len() as u64, modified_ms, executable }
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

    fn insert(&mut self, content: Content, now_ms: i64) -> Inode {
        let inode = Inode(self.next());
        let data = FileData { content, modified_ms: now_ms, executable: false };
        self.files.insert(inode, data);
        inode
    }

    /// Lets go of what nothing leads to any more.
    fn collect(&mut self) {
        self.open.retain(|_, open| open.clones.strong_count() > 0);
        let mut held = self.names.reachable();
        held.extend(self.open.values().map(|open| open.inode));
        self.files.retain(|inode, _| held.contains(inode));
    }

    // ---- open files ----

    /// Opens a file: a new number in the table, which loses those that are closed.
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

    /// What an open file is; none where it was opened before a crash.
    fn opened(&self, file: &SimFile) -> Option<Inode> {
        self.open.get(&file.id.number).map(|open| open.inode)
    }

    /// Whether it can be said that this was never opened here.
    pub(super) fn is_foreign(&self, file: &SimFile) -> bool {
        let open = self.open.get(&file.id.number);
        open.is_some_and(|open| open.clones.as_ptr() != Arc::as_ptr(&file.clones))
    }

    pub(super) fn is_dead(&self, file: &SimFile) -> bool {
        self.opened(file).is_none()
    }

    /// An operation on an open file begins. False: not beside those that are in flight.
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

    /// The completion of one of its operations has been taken.
    pub(super) fn end(&mut self, id: FileId, how: FileUse) {
        // A crash, or the end of its last clone, has taken it off the table.
        if let Some(open) = self.open.get_mut(&id.number) {
            open.count(how, -1);
        }
    }

    /// The number of changes that were ever made to an open file.
    pub(super) fn changes_made(&self, id: FileId) -> u64 {
        let open = self.open.get(&id.number);
        open.map_or(0, |open| self.files[&open.inode].content.made())
    }

    /// Whether somebody holds the lock of a part.
    fn is_locked(&self, inode: Inode) -> bool {
        let holds = |open: &OpenFile| open.is_part && open.clones.strong_count() > 0;
        self.open.values().any(|open| open.inode == inode && holds(open))
    }

    /// Whether others can see the file under a final name.
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

    pub(super) fn open_part(&mut self, name: &str, now_ms: i64) -> Result<FileOutcome, Failure> {
        let path = part_path(name);
        let found = match self.names.look(&path) {
            Some(Found::File(inode)) if self.is_locked(inode) => return Err(Failure::Locked),
            // Published, and not removed then: what is written to it now, others would see.
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
                let inode = self.insert(Content::default(), now_ms);
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
        now_ms: i64,
    ) -> Result<FileOutcome, Failure> {
        let data = self.opened_data(file)?;
        if bytes > MAX_FILE_BYTES {
            return Err(Failure::NoSpace);
        }
        data.content.cut(bytes as usize);
        data.modified_ms = now_ms;
        Ok(FileOutcome::Done)
    }

    /// What there is to read from the offset on.
    pub(super) fn read(&mut self, file: &SimFile, offset: u64) -> Result<&[u8], Failure> {
        Ok(self.opened_data(file)?.content.from(offset))
    }

    /// How many of the bytes there is room for.
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

    /// Writes what there is room for.
    pub(super) fn write(
        &mut self,
        file: &SimFile,
        offset: u64,
        bytes: Vec<u8>,
        now_ms: i64,
    ) -> Result<(), Failure> {
        let data = self.opened_data(file)?;
        data.content.write(offset as usize, bytes);
        data.modified_ms = now_ms;
        Ok(())
    }

    /// The content, and the name of a part: systems write a new file's name with it.
    /// Brings the first so many changes of a file to the disk.
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

    /// The state that a file is in. Its length and its time are no part of it: a change that shows
    /// in nothing else is one that file systems can miss.
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

    /// The first moment of a publication: the content is on the disk, the name is there, and could
    /// be lost. [`sync_name`](Self::sync_name) is the second.
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
        data.modified_ms = publication.modified_ms;
        data.executable = publication.executable;
        data.content.sync();
        self.names.link(publication.path, inode);
        Ok(())
    }

    pub(super) fn sync_name(&mut self, path: &str) -> FileOutcome {
        self.names.sync(path);
        FileOutcome::Done
    }

    /// Brings a file to the disk under the name under which it was found.
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

    pub(super) fn expire_parts(&mut self, age_ms: u64, now_ms: i64) -> FileOutcome {
        let before_ms = now_ms.saturating_sub_unsigned(age_ms);
        let expired = |(path, inode): (&str, Inode)| {
            let is_old = self.files[&inode].modified_ms < before_ms && !self.is_locked(inode);
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

    /// The open file; the disk that it was on has failed, where it is dead.
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
            // A part that has its final name already is counted there.
            if !is_part || self.names.of(inode).count() == 1 {
                usage.bytes += self.files[&inode].content.len() as u64;
                usage.files += 1;
            }
        }
        usage
    }

    /// Bytes that can be added: a file takes room once, and while it has a name or is open.
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

    /// Final files or parts, by their names.
    pub(super) fn contents(&self, parts: bool) -> impl Iterator<Item = (&str, &[u8])> {
        self.names.files().filter_map(move |(path, inode)| {
            let part = part_name(path);
            let name = if parts { part? } else { part.is_none().then_some(path)? };
            Some((name, self.files[&inode].content.bytes()))
        })
    }

    // ---- what happens to it from outside ----

    pub(super) fn content(&self, path: &str) -> Option<&[u8]> {
        match self.names.look(path)? {
            Found::File(inode) => Some(self.files[&inode].content.bytes()),
            Found::Directory => None,
        }
    }

    /// Puts a new file there, on the disk. Who has an older one open keeps that.
    pub(super) fn put(&mut self, path: &str, bytes: &[u8], now_ms: i64) -> Result<(), Failure> {
        self.names.make_way(path)?;
        match self.names.look(path) {
            Some(Found::Directory) => return Err(Failure::NotAFile),
            Some(Found::File(_)) => self.names.unlink(path),
            None => {}
        }
        let inode = self.insert(Content::synced(bytes), now_ms);
        self.names.link(path, inode);
        self.names.sync(path);
        self.collect();
        Ok(())
    }

    /// Whether a final file is open.
    pub(super) fn is_open(&self, path: &str) -> bool {
        let Some(Found::File(inode)) = self.names.look(path) else { return false };
        self.open.values().any(|open| open.inode == inode && open.clones.strong_count() > 0)
    }

    /// When a final file was modified.
    pub(super) fn modified_ms(&mut self, path: &str) -> Option<i64> {
        let Some(Found::File(inode)) = self.names.look(path) else { return None };
        Some(self.data(inode).modified_ms)
    }

    /// Changes a file in its place, on the disk. False: there is none.
    pub(super) fn change(
        &mut self,
        path: &str,
        now_ms: i64,
        change: impl FnOnce(&mut Content),
    ) -> bool {
        let Some(Found::File(inode)) = self.names.look(path) else { return false };
        let data = self.data(inode);
        change(&mut data.content);
        data.content.sync();
        data.modified_ms = now_ms;
        true
    }

    /// Takes a file's name away, on the disk. False: there is none.
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

    /// Loses some of what was not synced, closes everything and begins a new epoch. Gives how many
    /// changes were lost, or kept in part.
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
