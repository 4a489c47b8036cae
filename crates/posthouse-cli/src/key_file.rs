//! The key file: the secret that both sides must have.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use posthouse::Key;

use crate::failure::{CommandResult, Failure};
use crate::term::hints;

/// The number of bytes after which reading stops. It is larger than any key with its line end.
const MAX_READ_BYTES: u64 = 64 * 1024;

/// Reads the key: the bytes of the file without the white space at their end.
pub(crate) fn read(path: &Path) -> CommandResult<Key> {
    let shown = path.display();
    let how = hints::make_key(&shown);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_READ_BYTES).read_to_end(&mut bytes)).map_err(
        |error| Failure::usage(format!("cannot read the key file {shown}: {error}; {how}")),
    )?;
    Key::new(bytes.trim_ascii_end()).map_err(|error| {
        let error = error.to_string();
        // The hint of the library does not name a command.
        let what = error.split_once("; make one").map_or(&*error, |(what, _)| what);
        Failure::usage(format!("the key file {shown}: {what}; {how}"))
    })
}
