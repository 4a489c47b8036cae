//! Files whose reads and writes wait for the disk within the call, overlapped or not: those that
//! NTFS compresses or encrypts (Microsoft's article 156932, "Asynchronous disk I/O appears as
//! synchronous on Windows"). A thread that must not wait leaves them to other threads.

use windows_sys::Win32::Storage::FileSystem as fs;

use super::calls;
use crate::handle::File;

impl File {
    /// Returns whether a call that reads or writes the file waits for the disk, in every mode of
    /// the handle. Returns false if the system does not report it, as for most files.
    pub(crate) fn is_waited_for(&self) -> bool {
        let told = calls::ask::<fs::FILE_BASIC_INFO>(self.handle());
        told.is_ok_and(|basic| are_waited_for(basic.FileAttributes))
    }
}

fn are_waited_for(attributes: u32) -> bool {
    attributes & (fs::FILE_ATTRIBUTE_COMPRESSED | fs::FILE_ATTRIBUTE_ENCRYPTED) != 0
}

#[cfg(test)]
mod tests {
    use super::super::Opened;
    use super::*;

    #[test]
    fn what_is_compressed_or_encrypted_is_waited_for() {
        let others = fs::FILE_ATTRIBUTE_ARCHIVE | fs::FILE_ATTRIBUTE_READONLY;
        assert!(!are_waited_for(others));
        assert!(are_waited_for(others | fs::FILE_ATTRIBUTE_COMPRESSED));
        assert!(are_waited_for(others | fs::FILE_ATTRIBUTE_ENCRYPTED));
    }

    #[test]
    fn a_file_like_most_is_not_waited_for() {
        let temporary = tempfile::NamedTempFile::new().expect("a file");
        let reopened = temporary.reopen().expect("it");
        let file = File::new(Opened::from(std::os::windows::io::OwnedHandle::from(reopened)));
        assert!(!file.is_waited_for());
    }
}
