//! The secret that both sides prove to hold.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use posthouse::Key;

use crate::advice;
use crate::failure::{Failure, Outcome};

/// More than any key and its line end: reading stops there.
const READ_BYTES_MAX: u64 = 64 * 1024;

/// Reads a key: the file's bytes, without the white space at their end.
pub(crate) fn read(path: &Path) -> Outcome<Key> {
    let shown = path.display();
    let how = advice::make_key(&shown);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(READ_BYTES_MAX).read_to_end(&mut bytes)).map_err(
        |error| Failure::usage(format!("cannot read the key file {shown}: {error}; {how}")),
    )?;
    Key::new(bytes.trim_ascii_end()).map_err(|error| {
        let error = error.to_string();
        // What the crate advises names no command.
        let what = error.split_once("; make one").map_or(&*error, |(what, _)| what);
        Failure::usage(format!("the key file {shown}: {what}; {how}"))
    })
}
