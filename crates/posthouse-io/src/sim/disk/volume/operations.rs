//! The operations of the files of a disk.

use super::{MAX_FILE_BYTES, Publication, Volume, part_name, part_path};
use crate::error::Failure;
use crate::file_op::{FileEntry, FileIdentity, FileOutcome, FileVersion};
use crate::sim::disk::SimFile;
use crate::sim::disk::content::Content;
use crate::sim::disk::names::{Found, Inode};

impl Volume {
    pub(in crate::sim::disk) fn open(&mut self, path: &str) -> Result<FileOutcome, Failure> {
        let inode = match self.names.look(path) {
            Some(Found::File(inode)) => inode,
            Some(Found::Directory) => return Err(Failure::NotAFile),
            None => return Err(Failure::NotFound),
        };
        let metadata = self.data(inode).metadata();
        let identity = Some(FileIdentity { volume: self.number as u64, file: inode.0.into() });
        let version = Some(self.version(inode));
        let file = self.open_inode(inode, false);
        Ok(FileOutcome::Opened { file, metadata, identity, version })
    }

    pub(in crate::sim::disk) fn open_part(
        &mut self,
        name: &str,
        now_ns: i64,
    ) -> Result<FileOutcome, Failure> {
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

    pub(in crate::sim::disk) fn truncate(
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
    pub(in crate::sim::disk) fn read(
        &mut self,
        file: &SimFile,
        offset: u64,
    ) -> Result<&[u8], Failure> {
        Ok(self.opened_data(file)?.content.from(offset))
    }

    /// Returns the number of the bytes for which there is room.
    pub(in crate::sim::disk) fn writable(
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
    pub(in crate::sim::disk) fn write(
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
    pub(in crate::sim::disk) fn sync(
        &mut self,
        file: &SimFile,
        changes: u64,
    ) -> Result<FileOutcome, Failure> {
        let inode = self.opened(file).ok_or(Failure::Disk)?;
        self.data(inode).content.sync_to(changes);
        let parts = self.names.of(inode).filter(|path| part_name(path).is_some());
        for path in parts.map(str::to_owned).collect::<Vec<_>>() {
            self.names.sync(&path);
        }
        Ok(FileOutcome::Done)
    }

    pub(in crate::sim::disk) fn metadata(
        &mut self,
        file: &SimFile,
    ) -> Result<FileOutcome, Failure> {
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
    pub(in crate::sim::disk) fn link(
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

    pub(in crate::sim::disk) fn sync_name(&mut self, path: &str) -> FileOutcome {
        self.names.sync(path);
        FileOutcome::Done
    }

    pub(in crate::sim::disk) fn look_up_directory(
        &mut self,
        path: &str,
    ) -> Result<FileOutcome, Failure> {
        match self.names.look(path) {
            Some(Found::Directory) => Ok(self.sync_name(path)),
            Some(Found::File(_)) => Err(Failure::Exists),
            None if self.names.is_blocked(path) => Err(Failure::Exists),
            None => Err(Failure::NotFound),
        }
    }

    pub(in crate::sim::disk) fn is_directory(&self, path: &str) -> bool {
        self.names.look(path) == Some(Found::Directory)
    }

    pub(in crate::sim::disk) fn make_directory(
        &mut self,
        path: &str,
    ) -> Result<FileOutcome, Failure> {
        self.names.make_way(&format!("{path}/"))?;
        Ok(self.sync_name(path))
    }

    /// Syncs a file and the name under which it was found.
    pub(in crate::sim::disk) fn sync_found(
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

    pub(in crate::sim::disk) fn remove_part(
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

    pub(in crate::sim::disk) fn expire_parts(&mut self, age_ms: u64, now_ns: i64) -> FileOutcome {
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

    pub(in crate::sim::disk) fn free_parts(
        &mut self,
        bytes: u64,
        files: u64,
    ) -> Result<FileOutcome, Failure> {
        let is_part = |(path, inode): &(&str, Inode)| {
            part_name(path).is_some() && !self.has_final_name(*inode)
        };
        let mut parts: Vec<_> = self.names.files().filter(is_part).collect();
        parts.sort_by_key(|(_, inode)| self.files[inode].modified_ns);
        let part_bytes = |inode: &Inode| self.files[inode].content.len() as u64;
        let all: u64 = parts.iter().map(|(_, inode)| part_bytes(inode)).sum();
        if all < bytes || (parts.len() as u64) < files {
            return Err(Failure::NoSpace);
        }
        let mut freed = (0, 0);
        let mut freed_paths = Vec::new();
        for (path, inode) in parts {
            if freed.0 >= bytes && freed.1 >= files {
                break;
            }
            if !self.is_locked(inode) {
                freed = (freed.0 + part_bytes(&inode), freed.1 + 1);
                freed_paths.push(path.to_owned());
            }
        }
        for path in freed_paths {
            self.names.unlink(&path);
            self.freed_parts += 1;
        }
        self.collect();
        if freed.0 < bytes || freed.1 < files {
            return Err(Failure::NoSpace);
        }
        Ok(FileOutcome::Usage(self.usage()))
    }

    pub(in crate::sim::disk) fn list(
        &self,
        after: &str,
        (max_entries, max_bytes): (usize, usize),
        is_listed: fn(&str) -> bool,
    ) -> FileOutcome {
        let is_listed = |path: &str| part_name(path).is_none() && is_listed(path);
        let finals = self.names.files_after(after).filter(|(path, _)| is_listed(path));
        let mut entries: Vec<FileEntry> = Vec::new();
        let mut bytes: usize = 0;
        for (path, inode) in finals {
            bytes = bytes.saturating_add(FileEntry::memory_bytes(path.len()));
            if entries.len() >= max_entries || bytes > max_bytes && !entries.is_empty() {
                return FileOutcome::Listed { entries, more: true };
            }
            entries.push(FileEntry { path: path.into(), metadata: self.files[&inode].metadata() });
        }
        FileOutcome::Listed { entries, more: false }
    }
}
