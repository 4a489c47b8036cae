//! Recursive walks of a directory.
//!
//! A walk sees the files that exist when it reaches their directory. It omits those that vanish
//! meanwhile and those that it may not read. It follows no link.

use std::collections::BinaryHeap;

use super::platform::{self, Handle};
use super::{DirHandle, EntryKind};
use crate::error::Error;
use crate::file_op::{FileEntry, FileOutcome};
use crate::handle::Usage;

/// The maximum depth of a walk; deeper directories are omitted. Each directory stays open during
/// the walk of its subdirectories.
const MAX_DEPTH: usize = 64;
/// The maximum number of names of a directory that are held and sorted at a time; a larger
/// directory is read several times.
const BATCH: usize = 4096;

impl DirHandle {
    /// Lists regular files in the byte order of their paths.
    pub(super) fn list(&self, after: &str, max_entries: usize) -> Result<FileOutcome, Error> {
        let mut list = List { after, max_entries, entries: Vec::new(), more: false };
        let root = platform::walkable(&self.root)?;
        list.directory(&root, &mut String::new(), 1)?;
        Ok(FileOutcome::Listed { entries: list.entries, more: list.more })
    }

    /// Adds all regular files to `usage`.
    pub(super) fn add_up(&self, usage: &mut Usage) -> Result<(), Error> {
        let root = platform::walkable(&self.root)?;
        add_up(&root, usage, (1, false))
    }
}

/// Adds the files of a directory to `usage`. A part that has its final name already is counted
/// under that name.
fn add_up(
    directory: &Handle,
    usage: &mut Usage,
    (depth, unfinished): (usize, bool),
) -> Result<(), Error> {
    let mut is_empty = true;
    platform::each_entry(directory, |entry| {
        is_empty = false;
        match entry.kind()? {
            EntryKind::File => {
                if let Some(found) = entry.look()?
                    && (!unfinished || found.has_one_name)
                {
                    usage.files += 1;
                    usage.bytes = usage.bytes.saturating_add(found.metadata.bytes);
                }
            }
            EntryKind::Directory if depth < MAX_DEPTH => {
                if let Some(inner) = entry.enter()? {
                    let parts =
                        depth == 1 && entry.text().is_some_and(platform::is_parts_directory);
                    add_up(&inner, usage, (depth + 1, unfinished || parts))?;
                }
            }
            EntryKind::Directory | EntryKind::Other => {}
        }
        Ok(())
    })?;
    if is_empty && depth > 1 && !unfinished {
        usage.empty_directories += 1;
    }
    Ok(())
}

/// A listing in progress.
struct List<'a> {
    after: &'a str,
    max_entries: usize,
    entries: Vec<FileEntry>,
    more: bool,
}

impl List<'_> {
    /// Lists the files beneath a directory. `path` is empty, or ends with `/`.
    fn directory(
        &mut self,
        directory: &Handle,
        path: &mut String,
        depth: usize,
    ) -> Result<(), Error> {
        let start = path.len();
        let mut last = String::new();
        loop {
            let names = self.names(directory, path, &last)?;
            let whole = names.len() < BATCH;
            for name in names {
                path.push_str(&name);
                self.name(directory, &name, path, depth)?;
                path.truncate(start);
                if self.more {
                    return Ok(());
                }
                last = name;
            }
            if whole {
                return Ok(());
            }
        }
    }

    /// Returns the first names of a directory, in order, that come after `last` and are relevant
    /// for the list. A directory's name ends with `/`, because whole paths are ordered: `a-b` comes
    /// before `a/b`.
    fn names(&self, directory: &Handle, path: &str, last: &str) -> Result<Vec<String>, Error> {
        // The rest of `after` in this directory. If it has none, everything in this directory comes
        // after it.
        let after = self.after.strip_prefix(path).unwrap_or_default();
        let mut first = BinaryHeap::new();
        platform::each_entry(directory, |entry| {
            let Some(name) = entry.text() else { return Ok(()) };
            if path.is_empty() && platform::is_parts_directory(name) {
                return Ok(());
            }
            let name = match entry.kind()? {
                EntryKind::File => name.to_owned(),
                EntryKind::Directory => format!("{name}/"),
                EntryKind::Other => return Ok(()),
            };
            let holds_what_follows = name.ends_with('/') && after.starts_with(&*name);
            if *name > *last && (*name > *after || holds_what_follows) {
                first.push(name);
                if first.len() > BATCH {
                    first.pop();
                }
            }
            Ok(())
        })?;
        Ok(first.into_sorted_vec())
    }

    /// Lists a file, or the files beneath a directory.
    fn name(
        &mut self,
        directory: &Handle,
        name: &str,
        path: &mut String,
        depth: usize,
    ) -> Result<(), Error> {
        if let Some(name) = name.strip_suffix('/') {
            if depth < MAX_DEPTH
                && let Some(inner) = platform::enter(directory, name)?
            {
                self.directory(&inner, path, depth + 1)?;
            }
            return Ok(());
        }
        if let Some(found) = platform::look(directory, name)?
            && found.kind == EntryKind::File
        {
            self.more = self.entries.len() == self.max_entries;
            if !self.more {
                let path = path.as_str().into();
                self.entries.push(FileEntry { path, metadata: found.metadata });
            }
        }
        Ok(())
    }
}
