//! The errors that mean a full disk.

use windows_sys::Win32::Foundation::ERROR_NOT_ENOUGH_QUOTA;

use crate::error::{Error, Failure};

/// Returns the meaning of an error of a call that creates or extends a file.
///
/// The system has one error number for every exhausted quota (STATUS_QUOTA_EXCEEDED, 1816). A quota
/// of memory, which limits operations on sockets, recovers by itself. A quota of a volume, which
/// its administrator sets for each user, does not. Only some file systems report the latter with a
/// number of its own (STATUS_DISK_QUOTA_EXCEEDED, 1295).
pub(super) fn to_grow(error: Error) -> Error {
    match error.code.cast_unsigned() {
        ERROR_NOT_ENOUGH_QUOTA => Error { failure: Failure::NoSpace, ..error },
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use windows_sys::Win32::Foundation::{
        STATUS_DISK_FULL, STATUS_DISK_QUOTA_EXCEEDED, STATUS_INSUFFICIENT_RESOURCES,
        STATUS_QUOTA_EXCEEDED,
    };

    use super::super::calls::Status;
    use super::super::write_error;
    use super::*;
    use crate::sys;

    #[test]
    fn a_used_up_quota_of_a_disk_does_not_pass() {
        for (status, failure) in [
            (STATUS_QUOTA_EXCEEDED, Failure::NoSpace),
            (STATUS_DISK_QUOTA_EXCEEDED, Failure::NoSpace),
            (STATUS_DISK_FULL, Failure::NoSpace),
            (STATUS_INSUFFICIENT_RESOURCES, Failure::NoBuffers),
        ] {
            let error = Error::from(Status(status));
            assert_eq!(to_grow(error).failure, failure, "{status:#x}, {error:?}");
            let written = write_error(error.code.cast_unsigned());
            assert_eq!(written, to_grow(error), "{status:#x}");
        }
        let of_a_socket = sys::error(ERROR_NOT_ENOUGH_QUOTA);
        assert!(of_a_socket.is_transient(), "{of_a_socket:?}");
    }
}
