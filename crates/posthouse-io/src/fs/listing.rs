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
/// The maximum number of names that are held and sorted at a time. A larger directory is read
/// several times.
const MAX_NAMES: usize = 128 * 1024;
/// The number of names of one directory that may be held in any case, although those of the
/// directories above are held, too.
const MIN_BATCH: usize = 4096;

/// The bounds of a listing; see [`FileOp::List`](crate::FileOp::List).
pub(super) struct ListBounds {
    pub(super) max_entries: usize,
    pub(super) max_bytes: usize,
    pub(super) is_listed: fn(&str) -> bool,
}

impl DirHandle {
    /// Lists regular files in the byte order of their paths.
    pub(super) fn list(&self, after: &str, bounds: ListBounds) -> Result<FileOutcome, Error> {
        let (entries, bytes, more, names_held) = Default::default();
        let mut list = List { after, bounds, entries, bytes, more, names_held };
        let root = platform::walkable(&self.root)?;
        list.directory(&root, &mut String::new(), 1)?;
        list.entries.shrink_to_fit();
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
    let was_read = platform::each_entry(directory, |entry| {
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
    if was_read && is_empty && depth > 1 && !unfinished {
        usage.empty_directories += 1;
    }
    Ok(())
}

/// A listing in progress.
struct List<'a> {
    after: &'a str,
    bounds: ListBounds,
    entries: Vec<FileEntry>,
    /// The bytes of memory of the entries.
    bytes: usize,
    more: bool,
    /// The number of names that are held of the directories on the way.
    names_held: usize,
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
            let batch = MAX_NAMES.saturating_sub(self.names_held).max(MIN_BATCH);
            let names = self.names(directory, path, &last, batch)?;
            let held = names.len();
            self.names_held += held;
            for name in names {
                path.push_str(&name);
                self.name(directory, &name, path, depth)?;
                path.truncate(start);
                if self.more {
                    return Ok(());
                }
                last = name;
            }
            self.names_held -= held;
            if held < batch {
                return Ok(());
            }
        }
    }

    /// Returns the first `max_names` names of a directory, in order, that come after `last` and are
    /// relevant for the list. A directory's name ends with `/`, because whole paths are ordered:
    /// `a-b` comes before `a/b`.
    fn names(
        &self,
        directory: &Handle,
        path: &str,
        last: &str,
        max_names: usize,
    ) -> Result<Vec<String>, Error> {
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
                if first.len() > max_names {
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
        if (self.bounds.is_listed)(path)
            && let Some(found) = platform::look(directory, name)?
            && found.kind == EntryKind::File
        {
            let bytes = self.bytes.saturating_add(FileEntry::memory_bytes(path.len()));
            let is_full = self.entries.len() >= self.bounds.max_entries
                || bytes > self.bounds.max_bytes && !self.entries.is_empty();
            self.more = is_full;
            if !is_full {
                self.bytes = bytes;
                let path = path.as_str().into();
                self.entries.push(FileEntry { path, metadata: found.metadata });
            }
        }
        Ok(())
    }
}
