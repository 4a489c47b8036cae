//! The key file: the secret that both sides must have.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use posthouse::{Escaped, Key};

use crate::failure::{CommandResult, Failure};
use crate::term::hints;

/// The number of bytes after which reading stops. It is larger than any key with its line end.
const MAX_READ_BYTES: u64 = 64 * 1024;

/// Reads the key: the bytes of the file without the white space at their end. Warns if others than
/// this user can read or change the file.
pub(crate) fn read(path: &Path) -> CommandResult<Key> {
    let shown = Escaped(path);
    let how = hints::make_key(shown);
    let (bytes, metadata) = read_file(path).map_err(|error| {
        Failure::usage(format!("cannot read the key file {shown}: {error}; {how}"))
    })?;
    let key = Key::new(bytes.trim_ascii_end()).map_err(|error| {
        let error = error.to_string();
        // The hint of the library does not name a command.
        let what = error.split_once("; make one").map_or(&*error, |(what, _)| what);
        Failure::usage(format!("the key file {shown}: {what}; {how}"))
    })?;
    if let Some(exposure) = exposure(&metadata, shown) {
        // If stderr is closed, the warning is lost.
        let _ = writeln!(io::stderr(), "warning: the key file {shown} {exposure}");
    }
    Ok(key)
}

fn read_file(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(MAX_READ_BYTES).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// Returns how others can read or change the file, and the remedy. A pipe or a device is for the
/// shell that made it to protect. Root can read every file, so a file of root is not exposed by
/// that.
#[cfg(unix)]
fn exposure(metadata: &Metadata, shown: Escaped<&Path>) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;

    let mode = metadata.mode() & 0o7777;
    let user = metadata.uid();
    let is_foreign = user != 0 && user != rustix::process::geteuid().as_raw();
    if !metadata.is_file() {
        None
    } else if is_foreign {
        Some(format!(
            "belongs to another user (uid {user}), who can read and change it; use a copy of \
             your own with a new secret"
        ))
    } else if mode & 0o077 != 0 {
        Some(format!(
            "is open to other users (mode {mode:04o}); close it: chmod 600 {shown}, and if others \
             may have read it, replace the secret"
        ))
    } else {
        None
    }
}

/// Returns nothing: on Windows a list decides who may read a file, and most lists name other
/// accounts that may, such as administrators.
#[cfg(not(unix))]
fn exposure(_: &Metadata, _: Escaped<&Path>) -> Option<String> {
    None
}
