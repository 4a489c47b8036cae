//! The files beneath a path on the command line.

use std::ffi::OsStr;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use posthouse::Directory;

use crate::transfer_client::{FileJob, PARTS_DIRECTORY, parent_directory};

/// A directory that files are sent from.
pub(super) struct Root {
    directory: Directory,
    names: Names,
}

/// The rule for the names that the server gets for the files beneath a root.
enum Names {
    /// The name of a file is its path beneath the root.
    Unchanged,
    /// The name of a file is this prefix, a `/` and the file's path beneath the root.
    Under(String),
    /// The root has only one file to send, and this is its name.
    Only(String),
}

impl Root {
    pub(super) fn job(&self, path: &str) -> FileJob {
        let name = match &self.names {
            Names::Unchanged => path.into(),
            Names::Under(prefix) => format!("{prefix}/{path}").into(),
            Names::Only(name) => name.as_str().into(),
        };
        FileJob { directory: self.directory.clone(), path: path.into(), name, not_listed: None }
    }
}

/// A path on the command line: one file, or a directory with all files in it.
pub(super) enum SendPath {
    File(Root, FoundFile),
    Directory(Root, PathBuf),
}

/// A regular file to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundFile {
    /// The path beneath its root.
    pub(super) path: String,
    pub(super) bytes: u64,
    /// The time at which the file was modified; `None` if the system does not report it.
    pub(super) modified: Option<std::time::SystemTime>,
}

impl FoundFile {
    fn new(path: String, metadata: &Metadata) -> Self {
        Self { path, bytes: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl SendPath {
    /// Opens a path. A link is followed, because a user who names a link means its destination.
    ///
    /// # Errors
    ///
    /// The reason why the path cannot be sent.
    pub(super) fn open(path: &Path, sent_as: Option<&str>) -> Result<Self, String> {
        let found = fs::metadata(path).map_err(|error| error.to_string())?;
        let sent_as = sent_as.map(|name| name.replace(MAIN_SEPARATOR, "/"));
        if found.is_dir() {
            let names = match (&sent_as, own_name(path)) {
                (Some(name), _) => Names::Under(name.trim_end_matches('/').to_owned()),
                (None, Some(name)) => Names::Under(text(name)?),
                (None, None) => Names::Unchanged,
            };
            let directory = open(path)?;
            return Ok(Self::Directory(Root { directory, names }, path.to_owned()));
        }
        if !found.is_file() {
            return Err(format!(
                "{}: only regular files and directories are sent",
                kind_name(found.file_type())
            ));
        }
        // The file will be opened beneath a directory, without following links.
        let link = fs::symlink_metadata(path).is_ok_and(|named| named.is_symlink());
        let real = if link { fs::canonicalize(path) } else { Ok(path.to_owned()) };
        let real = real.map_err(|error| error.to_string())?;
        let file = text(real.file_name().unwrap_or_default())?;
        let own = || text(path.file_name().unwrap_or_default());
        let name = match sent_as {
            Some(directory) if directory.ends_with('/') => format!("{directory}{}", own()?),
            Some(name) => name,
            None => own()?,
        };
        let directory = open(parent_directory(&real))?;
        let root = Root { directory, names: Names::Only(name) };
        Ok(Self::File(root, FoundFile::new(file, &found)))
    }
}

/// Returns the name of a directory on the command line, which becomes the prefix of the names of
/// its files on the server. Returns `None` if the files get no prefix, as for `cp -r`: the path
/// ends in `.` or `..` (`dir/.`, for example), or has no last component (`/`).
fn own_name(path: &Path) -> Option<&OsStr> {
    // `Path::components` does not distinguish `dir/.` from `dir`.
    let bytes = path.as_os_str().as_encoded_bytes();
    let mut parts = bytes.rsplit(|byte| std::path::is_separator(char::from(*byte)));
    match parts.find(|part| !part.is_empty()) {
        Some(b"." | b"..") => None,
        _ => path.file_name(),
    }
}

fn open(path: &Path) -> Result<Directory, String> {
    Directory::open(path).map_err(|error| error.to_string())
}

fn text(name: &OsStr) -> Result<String, String> {
    let text = name.to_str().map(str::to_owned);
    text.ok_or_else(|| "the name is not valid Unicode".to_owned())
}

/// An entry beneath a directory, sent or not.
pub(super) enum TreeEntry<'a> {
    File(FoundFile),
    /// An entry that is skipped on purpose: its path, and the reason.
    Skipped(&'a Path, &'static str),
    /// A directory without entries.
    EmptyDirectory(&'a Path),
    /// An entry that should be sent but cannot be: its path, and the reason.
    Unsendable(&'a Path, String),
}

/// Visits everything beneath a directory, in the order of the names. Links are not followed, and
/// directories on other file systems are not entered: such a file system could be `/proc`, or be
/// endless.
pub(super) fn walk(top: &Path, visit: &mut dyn FnMut(TreeEntry<'_>)) {
    // The stack of the directories that are still to be walked. Only one is read at a time.
    let mut left = vec![String::new()];
    let file_system = fs::metadata(top).ok().as_ref().map(file_system);
    while let Some(inside) = left.pop() {
        let here = match inside.strip_suffix('/') {
            // The path may be shown, so it needs the separators of this system.
            Some(inside) => top.join(inside.split('/').collect::<PathBuf>()),
            None => top.to_owned(),
        };
        let there = fs::symlink_metadata(&here).ok().as_ref().map(self::file_system);
        if !inside.is_empty() && there.is_some() && there != file_system {
            visit(TreeEntry::Skipped(&here, "on another file system"));
            continue;
        }
        let mut entries = match entries(&here) {
            Ok(entries) => entries,
            Err(error) => {
                let why = format!("cannot read the directory: {error}");
                visit(TreeEntry::Unsendable(&here, why));
                continue;
            }
        };
        if entries.is_empty() {
            visit(TreeEntry::EmptyDirectory(&here));
        }
        entries.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let mut beneath = Vec::new();
        for (name, kind) in entries {
            let path = here.join(&name);
            if let Some(why) = skip_reason(&name, kind) {
                visit(TreeEntry::Skipped(&path, why));
                continue;
            }
            let name = match text(&name) {
                Ok(name) => format!("{inside}{name}"),
                Err(why) => {
                    visit(TreeEntry::Unsendable(&path, why));
                    continue;
                }
            };
            if kind.is_dir() {
                beneath.push(format!("{name}/"));
            } else {
                visit_file(&path, name, visit);
            }
        }
        left.extend(beneath.into_iter().rev());
    }
}

/// Returns the reason why an entry is skipped; `None` if it is not skipped.
fn skip_reason(name: &OsStr, kind: FileType) -> Option<&'static str> {
    if kind.is_dir() {
        (*name == *PARTS_DIRECTORY).then_some("the directory of unfinished files")
    } else if kind.is_file() {
        None
    } else {
        Some(kind_name(kind))
    }
}

fn visit_file(path: &Path, name: String, visit: &mut dyn FnMut(TreeEntry<'_>)) {
    match fs::symlink_metadata(path) {
        Ok(metadata) => visit(TreeEntry::File(FoundFile::new(name, &metadata))),
        // The file was removed after the directory was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => visit(TreeEntry::Unsendable(path, error.to_string())),
    }
}

fn entries(directory: &Path) -> io::Result<Vec<(std::ffi::OsString, FileType)>> {
    let entries = fs::read_dir(directory)?;
    entries
        .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))))
        .collect()
}

/// Returns the number of the file system of an entry.
#[cfg(unix)]
fn file_system(found: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::dev(found)
}

/// Returns the same number for all entries. On Windows a directory of another file system is behind
/// a junction, which is a link, and links are not followed.
#[cfg(windows)]
fn file_system(_: &Metadata) -> u64 {
    0
}

#[cfg(unix)]
fn kind_name(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;

    match kind {
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_block_device() || kind.is_char_device() => "a device",
        _ => "not a regular file",
    }
}

#[cfg(windows)]
fn kind_name(kind: FileType) -> &'static str {
    if kind.is_symlink() { "a symbolic link or a junction" } else { "not a regular file" }
}

/// Returns a path as a name for the report.
pub(super) fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn another_file_system_is_skipped_with_its_reason() {
        let top = Path::new("/dev");
        let inside = Path::new("/dev/pts");
        let number = |path| fs::symlink_metadata(path).ok().as_ref().map(file_system);
        if number(inside).is_none_or(|inside| Some(inside) == number(top)) {
            eprintln!("not tested: nothing is mounted on {}", inside.display());
            return;
        }
        let mut skipped = false;
        walk(top, &mut |seen| match seen {
            TreeEntry::Skipped(path, why) if path == inside => {
                assert_eq!(why, "on another file system");
                skipped = true;
            }
            TreeEntry::Skipped(path, _) => assert!(!path.starts_with(inside), "{}", path.display()),
            _ => {}
        });
        assert!(skipped);
    }

    #[test]
    fn a_directory_gives_its_name_to_what_is_in_it_unless_only_its_contents_are_meant() {
        for (path, name) in [
            ("build", Some("build")),
            ("build/", Some("build")),
            ("a/build//", Some("build")),
            ("/srv/build", Some("build")),
            ("build/.", None),
            ("build/./", None),
            (".", None),
            ("./", None),
            ("..", None),
            ("../..", None),
            ("/", None),
        ] {
            assert_eq!(own_name(Path::new(path)), name.map(OsStr::new), "{path}");
        }
    }

    #[cfg(windows)]
    #[test]
    fn a_drive_and_a_share_give_no_name_and_both_separators_count() {
        for (path, name) in [
            ("C:\\a\\build", Some("build")),
            ("C:\\a\\build\\", Some("build")),
            ("a/b\\build\\.", None),
            ("C:build", Some("build")),
            ("C:\\", None),
            ("C:", None),
            ("C:.", None),
            ("\\\\host\\share", None),
            ("\\\\host\\share\\build", Some("build")),
        ] {
            assert_eq!(own_name(Path::new(path)), name.map(OsStr::new), "{path}");
        }
    }
}
