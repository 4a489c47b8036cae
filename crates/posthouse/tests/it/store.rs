//! The place of a scenario's files: a directory of this machine, or a simulated disk.

use std::fs;
use std::io::ErrorKind;
use std::path::{MAIN_SEPARATOR, Path};

use posthouse::Directory;
use posthouse::sim::{Disk, SplitMix64};
use tempfile::TempDir;

/// A place for files. Dropping this value removes a real directory.
pub enum Store {
    Real(TempDir),
    Simulated(Disk),
}

impl Store {
    pub fn real() -> Self {
        Self::Real(tempfile::tempdir().expect("a temporary directory can be created"))
    }

    pub fn directory(&self) -> Directory {
        match self {
            Self::Real(root) => Directory::open(root).expect("the directory opens"),
            Self::Simulated(disk) => disk.directory(),
        }
    }

    /// Returns the path of a real directory.
    pub fn path(&self) -> &Path {
        match self {
            Self::Real(root) => root.path(),
            Self::Simulated(_) => panic!("this scenario needs real files"),
        }
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        match self {
            Self::Real(root) => {
                let path = root.path().join(name);
                fs::create_dir_all(path.parent().expect("the path is in the root"))
                    .expect("the directory can be created");
                fs::write(path, bytes).expect("the file can be written");
            }
            Self::Simulated(disk) => disk.write(name, bytes),
        }
    }

    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        match self {
            Self::Real(root) => fs::read(root.path().join(name)).ok(),
            Self::Simulated(disk) => disk.read(name),
        }
    }

    /// Replaces the bytes of a file by the same number of other bytes, and keeps its modification
    /// time.
    pub fn rewrite(&self, name: &str, bytes: &[u8]) {
        match self {
            Self::Real(root) => {
                let path = root.path().join(name);
                let modified =
                    fs::metadata(&path).and_then(|m| m.modified()).expect("the file exists");
                fs::write(&path, bytes).expect("the file can be written");
                let file = fs::File::options().write(true).open(&path).expect("the file exists");
                file.set_modified(modified).expect("the owner may set the time");
            }
            Self::Simulated(disk) => disk.rewrite(name, bytes),
        }
    }

    /// Replaces a file by another one of the same name. On a real disk, the new file has the
    /// modification time of the old one.
    pub fn replace(&self, name: &str, bytes: &[u8]) {
        match self {
            Self::Real(root) => {
                let path = root.path().join(name);
                let new = root.path().join("replacement");
                let modified =
                    fs::metadata(&path).and_then(|m| m.modified()).expect("the file exists");
                fs::write(&new, bytes).expect("the file can be written");
                let file = fs::File::options().write(true).open(&new).expect("the file exists");
                file.set_modified(modified).expect("the owner may set the time");
                drop(file);
                fs::rename(new, path).expect("nobody has the file open");
            }
            Self::Simulated(disk) => disk.write(name, bytes),
        }
    }

    /// Returns whether this process has the file open.
    pub fn is_open(&self, name: &str) -> bool {
        match self {
            Self::Real(root) => is_open(&root.path().join(name)),
            Self::Simulated(disk) => disk.is_open(name),
        }
    }

    /// Truncates a file, or extends it with zeros.
    pub fn resize(&self, name: &str, bytes: u64) {
        match self {
            Self::Real(root) => {
                let file = fs::File::options().write(true).open(root.path().join(name));
                file.and_then(|file| file.set_len(bytes)).expect("the file exists");
            }
            Self::Simulated(disk) => {
                let len = disk.read(name).expect("the file exists").len() as u64;
                disk.append(name, &vec![0; bytes.saturating_sub(len) as usize]);
                disk.truncate(name, bytes);
            }
        }
    }

    pub fn remove(&self, name: &str) {
        match self {
            Self::Real(root) => fs::remove_file(root.path().join(name)).expect("the file exists"),
            Self::Simulated(disk) => assert!(disk.remove(name), "the file is missing"),
        }
    }

    pub fn has_directory(&self, name: &str) -> bool {
        match self {
            Self::Real(_) => self.path().join(name).is_dir(),
            Self::Simulated(disk) => disk.has_directory(name),
        }
    }

    /// Returns the names of the final files, in order.
    pub fn files(&self) -> Vec<String> {
        match self {
            Self::Real(root) => {
                let mut files = Vec::new();
                walk(root.path(), root.path(), &mut files);
                files.retain(|file| !file.starts_with(".posthouse"));
                files.sort();
                files
            }
            Self::Simulated(disk) => disk.files(),
        }
    }

    /// Returns the content of each part.
    pub fn parts(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Real(root) => {
                let Ok(parts) = fs::read_dir(root.path().join(".posthouse")) else {
                    return Vec::new();
                };
                parts
                    .filter_map(|part| part_at(&part.expect("the entry can be read").path()))
                    .collect()
            }
            Self::Simulated(disk) => disk.parts().into_iter().map(|(_, bytes)| bytes).collect(),
        }
    }
}

#[cfg(target_os = "linux")]
fn is_open(path: &Path) -> bool {
    let path = fs::canonicalize(path).expect("the file exists");
    let descriptors = fs::read_dir("/proc/self/fd").expect("the descriptors are listed");
    let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.any(|target| target == path)
}

/// Returns whether the file is open. While it is, an open without sharing fails.
#[cfg(windows)]
fn is_open(path: &Path) -> bool {
    use std::os::windows::fs::OpenOptionsExt;
    fs::File::options().read(true).share_mode(0).open(path).is_err()
}

/// Returns the content of a part, or `None` if it was removed, or is being removed, since it was
/// listed.
fn part_at(path: &Path) -> Option<Vec<u8>> {
    match fs::read(path).map_err(|error| error.kind()) {
        Ok(bytes) => Some(bytes),
        Err(ErrorKind::NotFound) => None,
        // Windows returns this error for a file that is being removed.
        Err(ErrorKind::PermissionDenied) if cfg!(windows) => None,
        Err(kind) => panic!("{}: {kind}", path.display()),
    }
}

fn walk(root: &Path, directory: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() && !path.is_symlink() {
            walk(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("the path is in the directory");
            files.push(name.to_str().expect("the path is UTF-8").replace(MAIN_SEPARATOR, "/"));
        }
    }
}

/// Returns pseudorandom bytes, which differ for each seed and do not repeat.
pub fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = SplitMix64::new(seed);
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        content.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    content.truncate(bytes);
    content
}
