//! The meaning of the errors of Windows.

use windows_sys::Win32::Foundation as base;
use windows_sys::Win32::Foundation::{GetLastError, NTSTATUS, RtlNtStatusToDosError, WIN32_ERROR};
use windows_sys::Win32::Networking::WinSock as net;
use windows_sys::Win32::Networking::WinSock::WSA_ERROR;

use crate::error::{Error, Failure};

/// Returns the error of the last call of this thread.
pub(crate) fn last_error() -> Error {
    // SAFETY: the call reads a value of this thread.
    error(unsafe { GetLastError() })
}

/// Returns the result of an operation that ended later.
pub(crate) fn of_status(status: NTSTATUS) -> Result<(), Error> {
    if status >= 0 {
        return Ok(());
    }
    // SAFETY: the call looks up a number.
    Err(error(unsafe { RtlNtStatusToDosError(status) }))
}

/// Returns the meaning of an error number. Numbers of sockets and of files share one range, and an
/// operation on a socket can end with either: a reset is 10054 if a call fails at once, and 64 or
/// 1236 if the operation fails later.
pub(crate) fn error(code: WIN32_ERROR) -> Error {
    let failure = socket_failure(code).or_else(|| file_failure(code)).unwrap_or(Failure::Other);
    Error { failure, code: code.cast_signed() }
}

fn socket_failure(code: WIN32_ERROR) -> Option<Failure> {
    Some(match code.cast_signed() as WSA_ERROR {
        net::WSAECONNRESET => Failure::Reset,
        net::WSAECONNABORTED => Failure::Aborted,
        net::WSAECONNREFUSED => Failure::Refused,
        net::WSAENETUNREACH | net::WSAEHOSTUNREACH | net::WSAENETDOWN | net::WSAEHOSTDOWN => {
            Failure::Unreachable
        }
        // NETRESET: keep-alive probes were not answered.
        net::WSAETIMEDOUT | net::WSAENETRESET => Failure::TimedOut,
        net::WSAENOTCONN | net::WSAESHUTDOWN | net::WSAEDISCON => Failure::NotConnected,
        net::WSAEMFILE => Failure::NoDescriptors,
        // WOULDBLOCK: too many overlapped calls are in flight.
        net::WSAENOBUFS | net::WSAEWOULDBLOCK => Failure::NoBuffers,
        net::WSAEADDRINUSE => Failure::AddressInUse,
        net::WSAEADDRNOTAVAIL => Failure::AddressNotAvailable,
        net::WSAEACCES => Failure::Denied,
        net::WSAEAFNOSUPPORT
        | net::WSAEPROTONOSUPPORT
        | net::WSAEOPNOTSUPP
        | net::WSAENOPROTOOPT => Failure::Unsupported,
        _ => match code {
            base::ERROR_NETNAME_DELETED | base::ERROR_VC_DISCONNECTED => Failure::Reset,
            base::ERROR_CONNECTION_ABORTED => Failure::Aborted,
            base::ERROR_CONNECTION_REFUSED | base::ERROR_REM_NOT_LIST => Failure::Refused,
            base::ERROR_BAD_NETPATH
            | base::ERROR_NETWORK_UNREACHABLE
            | base::ERROR_HOST_UNREACHABLE
            | base::ERROR_HOST_DOWN
            | base::ERROR_PROTOCOL_UNREACHABLE
            | base::ERROR_PORT_UNREACHABLE => Failure::Unreachable,
            base::ERROR_CONNECTION_INVALID
            | base::ERROR_GRACEFUL_DISCONNECT
            | base::ERROR_PIPE_NOT_CONNECTED => Failure::NotConnected,
            base::ERROR_DUP_NAME | base::ERROR_TOO_MANY_NAMES => Failure::AddressInUse,
            base::ERROR_INVALID_NETNAME => Failure::AddressNotAvailable,
            base::ERROR_NOT_ENOUGH_QUOTA | base::ERROR_PAGEFILE_QUOTA => Failure::NoBuffers,
            base::ERROR_SEM_TIMEOUT => Failure::TimedOut,
            // Winsock reports both as interrupted calls.
            base::ERROR_OPERATION_ABORTED | base::ERROR_REQUEST_ABORTED => Failure::Cancelled,
            _ => return None,
        },
    })
}

fn file_failure(code: WIN32_ERROR) -> Option<Failure> {
    Some(match code {
        base::ERROR_TOO_MANY_OPEN_FILES => Failure::NoDescriptors,
        base::ERROR_NOT_ENOUGH_MEMORY
        | base::ERROR_OUTOFMEMORY
        | base::ERROR_NO_SYSTEM_RESOURCES
        | base::ERROR_NONPAGED_SYSTEM_RESOURCES
        | base::ERROR_PAGED_SYSTEM_RESOURCES
        | base::ERROR_COMMITMENT_LIMIT
        | base::ERROR_WORKING_SET_QUOTA => Failure::NoBuffers,
        // A scanner that finds something in a file denies all access to it.
        base::ERROR_ACCESS_DENIED
        | base::ERROR_WRITE_PROTECT
        | base::ERROR_PRIVILEGE_NOT_HELD
        | base::ERROR_VIRUS_INFECTED => Failure::Denied,
        base::ERROR_FILE_NOT_FOUND
        | base::ERROR_PATH_NOT_FOUND
        | base::ERROR_DELETE_PENDING
        | base::ERROR_INVALID_NAME
        | base::ERROR_FILENAME_EXCED_RANGE
        | base::ERROR_VIRUS_DELETED => Failure::NotFound,
        base::ERROR_FILE_EXISTS | base::ERROR_ALREADY_EXISTS => Failure::Exists,
        base::ERROR_CANT_ACCESS_FILE
        | base::ERROR_STOPPED_ON_SYMLINK
        | base::ERROR_REPARSE_POINT_ENCOUNTERED => Failure::NotAFile,
        // The third: a process has mapped the file, which cannot be truncated then.
        base::ERROR_SHARING_VIOLATION
        | base::ERROR_LOCK_VIOLATION
        | base::ERROR_USER_MAPPED_FILE => Failure::Locked,
        base::ERROR_DISK_FULL
        | base::ERROR_HANDLE_DISK_FULL
        | base::ERROR_DISK_QUOTA_EXCEEDED
        | base::ERROR_FILE_TOO_LARGE
        | base::ERROR_FILE_SYSTEM_LIMITATION
        | base::ERROR_TOO_MANY_LINKS
        // The root of a FAT volume has room for a fixed number of names.
        | base::ERROR_CANNOT_MAKE => Failure::NoSpace,
        base::ERROR_CRC
        | base::ERROR_NOT_READY
        | base::ERROR_SEEK
        | base::ERROR_SECTOR_NOT_FOUND
        | base::ERROR_READ_FAULT
        | base::ERROR_WRITE_FAULT
        | base::ERROR_IO_DEVICE
        | base::ERROR_DEVICE_HARDWARE_ERROR
        | base::ERROR_DEVICE_NOT_CONNECTED
        | base::ERROR_DISK_OPERATION_FAILED
        | base::ERROR_FILE_CORRUPT
        | base::ERROR_DISK_CORRUPT
        | base::ERROR_GEN_FAILURE => Failure::Disk,
        base::ERROR_NOT_SUPPORTED
        | base::ERROR_INVALID_FUNCTION
        | base::ERROR_CALL_NOT_IMPLEMENTED
        // A link from one volume to another.
        | base::ERROR_NOT_SAME_DEVICE => Failure::Unsupported,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of one event: from a call that fails at once, from an operation that fails
    /// later, and the system's own.
    #[test]
    fn an_event_means_the_same_whichever_number_it_comes_with() {
        use base::*;
        let cases: [(&[WIN32_ERROR], &[NTSTATUS], Failure); 12] = [
            (&[10_054, 64], &[STATUS_CONNECTION_RESET], Failure::Reset),
            (&[10_053, 1236], &[STATUS_CONNECTION_ABORTED], Failure::Aborted),
            (&[10_061, 1225], &[STATUS_CONNECTION_REFUSED], Failure::Refused),
            (
                &[10_051, 10_065, 1231, 1232, 1233, 1234],
                &[STATUS_NETWORK_UNREACHABLE, STATUS_HOST_UNREACHABLE],
                Failure::Unreachable,
            ),
            (&[10_060, 10_052, 121], &[STATUS_IO_TIMEOUT], Failure::TimedOut),
            (&[10_057, 1229], &[STATUS_CONNECTION_INVALID], Failure::NotConnected),
            (&[10_048, 52], &[], Failure::AddressInUse),
            (&[10_049, 1214], &[], Failure::AddressNotAvailable),
            (
                &[10_055, 8, 14, 1450, 1451, 1452, 1453, 1455, 1816],
                &[STATUS_NO_MEMORY, STATUS_INSUFFICIENT_RESOURCES, STATUS_QUOTA_EXCEEDED],
                Failure::NoBuffers,
            ),
            (&[10_024, 4], &[STATUS_TOO_MANY_OPENED_FILES], Failure::NoDescriptors),
            (
                &[10_013, 5, 19],
                &[STATUS_ACCESS_DENIED, STATUS_MEDIA_WRITE_PROTECTED],
                Failure::Denied,
            ),
            (&[995], &[STATUS_CANCELLED], Failure::Cancelled),
        ];
        check(&cases);
    }

    #[test]
    fn what_happens_to_files_means_the_same_whichever_number_it_comes_with() {
        use base::*;
        let cases: [(&[WIN32_ERROR], &[NTSTATUS], Failure); 8] = [
            (
                &[112, 39, 1295, 223, 665],
                &[STATUS_DISK_FULL, STATUS_DISK_QUOTA_EXCEEDED],
                Failure::NoSpace,
            ),
            (
                &[23, 1117, 21, 31],
                &[STATUS_CRC_ERROR, STATUS_IO_DEVICE_ERROR, STATUS_DEVICE_NOT_READY],
                Failure::Disk,
            ),
            (
                &[2, 3, 123, 206],
                &[STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_NAME_INVALID],
                Failure::NotFound,
            ),
            (&[80, 183], &[STATUS_OBJECT_NAME_COLLISION], Failure::Exists),
            (&[1920, 681, 4395], &[], Failure::NotAFile),
            (
                &[32, 33, 1224],
                &[STATUS_SHARING_VIOLATION, STATUS_FILE_LOCK_CONFLICT, STATUS_USER_MAPPED_FILE],
                Failure::Locked,
            ),
            (&[50, 1, 120, 17], &[STATUS_NOT_SUPPORTED], Failure::Unsupported),
            (&[87, 0xffff], &[STATUS_INVALID_PARAMETER], Failure::Other),
        ];
        check(&cases);
    }

    fn check(cases: &[(&[WIN32_ERROR], &[NTSTATUS], Failure)]) {
        for (codes, statuses, failure) in cases {
            for code in *codes {
                assert_eq!(error(*code).failure, *failure, "{code}");
                assert_eq!(error(*code).code.cast_unsigned(), *code, "the number is kept");
            }
            for status in *statuses {
                let later = of_status(*status).expect_err("a failure");
                assert_eq!(later.failure, *failure, "{status:#x}, {later:?}");
            }
        }
        assert_eq!(of_status(base::STATUS_SUCCESS), Ok(()));
        assert_eq!(of_status(base::STATUS_PENDING), Ok(()), "no failure");
    }

    /// The status of the TCP provider, the number in the packet, and the number that Winsock
    /// returns if it is queried instead of the packet.
    #[test]
    fn a_status_means_what_winsock_makes_of_it() {
        for (status, code, winsock) in [
            (base::STATUS_REMOTE_NOT_LISTENING, 51, net::WSAECONNREFUSED),
            (base::STATUS_BAD_NETWORK_PATH, 53, net::WSAENETUNREACH),
            (base::STATUS_TOO_MANY_ADDRESSES, 68, net::WSAEADDRINUSE),
            (base::STATUS_PIPE_DISCONNECTED, 233, net::WSAESHUTDOWN),
            (base::STATUS_VIRTUAL_CIRCUIT_CLOSED, 240, net::WSAECONNRESET),
            (base::STATUS_GRACEFUL_DISCONNECT, 1226, net::WSAEDISCON),
            (base::STATUS_HOST_DOWN, 1256, net::WSAEHOSTDOWN),
        ] {
            let told = of_status(status).expect_err("a failure");
            assert_eq!(told.code, code, "{status:#x}");
            let winsock = error(winsock.cast_unsigned());
            assert_eq!(told.failure, winsock.failure, "{status:#x}, {code}");
        }
        let aborted = of_status(base::STATUS_REQUEST_ABORTED).expect_err("a failure");
        assert_eq!((aborted.code, aborted.failure), (1235, Failure::Cancelled));
    }
}
