//! The system's calls on files behind a safe interface.
//!
//! Most of them are the native calls below the documented ones. Only those open a name beneath an
//! open directory, and their results are more precise (a name that is being removed is not "access
//! denied").

use std::mem::{MaybeUninit, offset_of};
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};

use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem as nt;
use windows_sys::Win32::Foundation::{
    ERROR_FILE_NOT_FOUND, ERROR_HANDLE_EOF, ERROR_IO_PENDING, ERROR_NO_MORE_FILES, GetLastError,
    NTSTATUS, OBJ_CASE_INSENSITIVE, OBJ_DONT_REPARSE, OBJECT_ATTRIBUTE_FLAGS,
    STATUS_INVALID_PARAMETER, STATUS_NAME_TOO_LONG, STATUS_PENDING, TRUE, UNICODE_STRING,
    WIN32_ERROR,
};
use windows_sys::Win32::Storage::FileSystem as fs;
use windows_sys::Win32::System::IO::{
    GetOverlappedResult, IO_STATUS_BLOCK, OVERLAPPED, OVERLAPPED_0, OVERLAPPED_0_0,
};
use windows_sys::Win32::System::Threading::CreateEventW;
use windows_sys::core::BOOL;

use crate::error::Error;
use crate::sys;

/// The maximum number of bytes that one call reads or writes: its lengths have 32 bits, and some
/// file systems reject more than 2 GiB.
const MAX_BYTES: usize = 0x7fff_f000;
/// The size of the memory for names of a directory, in words: 32 KiB, for more than fifty of the
/// longest names.
const ENTRIES_WORDS: usize = 4096;

/// The status of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) NTSTATUS);

impl Status {
    fn check(status: NTSTATUS) -> Result<(), Self> {
        if status < 0 { Err(Self(status)) } else { Ok(()) }
    }
}

/// The parameters with which a name is opened.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub(super) access: fs::FILE_ACCESS_RIGHTS,
    /// The accesses that others may have at the same time.
    pub(super) share: fs::FILE_SHARE_MODE,
    pub(super) disposition: nt::NTCREATEFILE_CREATE_DISPOSITION,
    pub(super) options: nt::NTCREATEFILE_CREATE_OPTIONS,
    /// The attributes of a new file.
    pub(super) attributes: fs::FILE_FLAGS_AND_ATTRIBUTES,
}

/// Opens a name in an open directory, or, with an empty name, the directory again. The name is one
/// component of a path. A link is not followed: the link itself is opened.
pub(super) fn open(from: &OwnedHandle, name: &[u16], how: How) -> Result<OwnedHandle, Status> {
    let how = How { options: how.options | nt::FILE_OPEN_REPARSE_POINT, ..how };
    match open_with(from, name, how, OBJ_CASE_INSENSITIVE | OBJ_DONT_REPARSE) {
        // Windows before 10 1607 does not have this attribute. It is only a second safeguard: a
        // name of one component that is opened without following links leads nowhere else.
        Err(Status(STATUS_INVALID_PARAMETER)) => open_with(from, name, how, OBJ_CASE_INSENSITIVE),
        opened => opened,
    }
}

fn open_with(
    from: &OwnedHandle,
    name: &[u16],
    how: How,
    attributes: OBJECT_ATTRIBUTE_FLAGS,
) -> Result<OwnedHandle, Status> {
    let bytes = u16::try_from(size_of_val(name)).map_err(|_| Status(STATUS_NAME_TOO_LONG))?;
    let name =
        UNICODE_STRING { Length: bytes, MaximumLength: bytes, Buffer: name.as_ptr().cast_mut() };
    let attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: from.as_raw_handle(),
        ObjectName: &raw const name,
        Attributes: attributes,
        ..OBJECT_ATTRIBUTES::default()
    };
    let mut handle = null_mut();
    let mut block = IO_STATUS_BLOCK::default();
    // SAFETY: the directory is open, and every pointer refers to a value of this function or to the
    // name. All of them outlive the call, which only reads the name.
    let status = unsafe {
        nt::NtCreateFile(
            &raw mut handle,
            how.access,
            &raw const attributes,
            &raw mut block,
            null(),
            how.attributes,
            how.share,
            how.disposition,
            how.options,
            null(),
            0,
        )
    };
    Status::check(status)?;
    // SAFETY: the call has succeeded, so this is a handle, and nobody else has it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// A structure of information that the system returns about a file.
///
/// # Safety
///
/// `CLASS` is the number of this structure in the query call, and the system writes only valid
/// values of it.
pub(super) unsafe trait FileInfo: Default {
    const CLASS: nt::FILE_INFORMATION_CLASS;
}

// SAFETY: the class has this structure, which consists of numbers.
unsafe impl FileInfo for fs::FILE_BASIC_INFO {
    const CLASS: nt::FILE_INFORMATION_CLASS = nt::FileBasicInformation;
}

// SAFETY: the class has this structure, which consists of numbers and of booleans that the system
// writes as 0 or 1.
unsafe impl FileInfo for fs::FILE_STANDARD_INFO {
    const CLASS: nt::FILE_INFORMATION_CLASS = nt::FileStandardInformation;
}

// SAFETY: the class has this structure, which consists of numbers.
unsafe impl FileInfo for fs::FILE_ID_INFO {
    const CLASS: nt::FILE_INFORMATION_CLASS = nt::FileIdInformation;
}

/// Queries information about an open file.
pub(super) fn ask<T: FileInfo>(file: &OwnedHandle) -> Result<T, Status> {
    let mut told = T::default();
    let mut block = IO_STATUS_BLOCK::default();
    // SAFETY: the handle is open, and both pointers refer to values of this function. The structure
    // is that of its class (`FileInfo`) and has the given length. The call waits for its end, in
    // every mode of the handle.
    let status = unsafe {
        nt::NtQueryInformationFile(
            file.as_raw_handle(),
            &raw mut block,
            (&raw mut told).cast(),
            size_of::<T>() as u32,
            T::CLASS,
        )
    };
    Status::check(status).map(|()| told)
}

/// Returns the number of a file and that of its volume, on file systems that have no longer form.
pub(super) fn short_identity(file: &OwnedHandle) -> Result<(u32, u64), Error> {
    let mut told = fs::BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open, and the pointer refers to a value of this function.
    if unsafe { fs::GetFileInformationByHandle(file.as_raw_handle(), &raw mut told) } == 0 {
        return Err(sys::last_error());
    }
    let index = u64::from(told.nFileIndexHigh) << 32 | u64::from(told.nFileIndexLow);
    Ok((told.dwVolumeSerialNumber, index))
}

/// Returns whether the handle refers to a file on a disk, as far as the handle shows.
pub(super) fn is_on_a_disk(file: &OwnedHandle) -> bool {
    // SAFETY: the handle is open.
    unsafe { fs::GetFileType(file.as_raw_handle()) == fs::FILE_TYPE_DISK }
}

/// Sets the time of the last write, and changes nothing else.
pub(super) fn set_modified(file: &OwnedHandle, modified: i64) -> Result<(), Status> {
    let told = fs::FILE_BASIC_INFO { LastWriteTime: modified, ..Default::default() };
    set(file, &told, nt::FileBasicInformation)
}

/// Truncates or extends a file.
pub(super) fn set_length(file: &OwnedHandle, bytes: i64) -> Result<(), Status> {
    let end = fs::FILE_END_OF_FILE_INFO { EndOfFile: bytes };
    set(file, &end, nt::FileEndOfFileInformation)
}

/// Marks for removal the name by which this handle was opened. With
/// `FILE_DISPOSITION_POSIX_SEMANTICS` in the flags, the system removes the name when this handle is
/// closed; without it, when the last handle of the file is closed.
pub(super) fn dispose(
    file: &OwnedHandle,
    flags: nt::FILE_DISPOSITION_INFORMATION_EX_FLAGS,
) -> Result<(), Status> {
    let disposition = nt::FILE_DISPOSITION_INFORMATION_EX { Flags: flags };
    set(file, &disposition, nt::FileDispositionInformationEx)
}

/// Marks for removal the name by which this handle was opened. The system removes the name when the
/// last handle of the file is closed. Every file system supports this.
pub(super) fn dispose_at_last(file: &OwnedHandle) -> Result<(), Status> {
    let disposition = nt::FILE_DISPOSITION_INFORMATION { DeleteFile: true };
    set(file, &disposition, nt::FileDispositionInformation)
}

fn set<T>(file: &OwnedHandle, to: &T, class: nt::FILE_INFORMATION_CLASS) -> Result<(), Status> {
    let mut block = IO_STATUS_BLOCK::default();
    // SAFETY: the handle is open, and the system reads at most the given number of bytes of a value
    // that outlives the call. A structure of another class would only be misinterpreted or
    // rejected. The call waits for its end, in every mode of the handle.
    let status = unsafe {
        nt::NtSetInformationFile(
            file.as_raw_handle(),
            &raw mut block,
            std::ptr::from_ref(to).cast(),
            size_of::<T>() as u32,
            class,
        )
    };
    Status::check(status)
}

/// Gives an open file an additional name. Fails if the name exists.
pub(super) fn link(file: &OwnedHandle, into: &OwnedHandle, name: &[u16]) -> Result<(), Status> {
    #[cfg(test)]
    super::tests::link_refused()?;
    set_name(file, into, name, nt::FileLinkInformation)
}

/// Renames an open file: another name replaces the one by which the file was opened. Fails if a
/// file of the new name exists.
pub(super) fn rename(file: &OwnedHandle, into: &OwnedHandle, name: &[u16]) -> Result<(), Status> {
    set_name(file, into, name, nt::FileRenameInformation)
}

fn set_name(
    file: &OwnedHandle,
    into: &OwnedHandle,
    name: &[u16],
    class: nt::FILE_INFORMATION_CLASS,
) -> Result<(), Status> {
    // Both classes have the same structure.
    use nt::FILE_LINK_INFORMATION as Structure;
    const _: () = assert!(
        size_of::<Structure>() == size_of::<nt::FILE_RENAME_INFORMATION>()
            && offset_of!(Structure, FileName) == offset_of!(nt::FILE_RENAME_INFORMATION, FileName)
    );
    const _: () = assert!(align_of::<Structure>() <= align_of::<u64>());
    let bytes = size_of_val(name);
    let length = size_of::<Structure>().max(offset_of!(Structure, FileName) + bytes);
    // Zero means that the call must not replace anything.
    let mut memory = vec![0_u64; length.div_ceil(size_of::<u64>())];
    let mut block = IO_STATUS_BLOCK::default();
    // SAFETY: the memory is as long and as aligned as the structure followed by a name of this
    // length, and all zero, so it is a valid structure. The name starts at its field and ends
    // before the memory ends. Both handles are open. The call only reads the memory, and waits for
    // its end.
    let status = unsafe {
        let structure = memory.as_mut_ptr().cast::<Structure>();
        (&raw mut (*structure).RootDirectory).write(into.as_raw_handle());
        (&raw mut (*structure).FileNameLength).write(bytes as u32);
        let to = (&raw mut (*structure).FileName).cast::<u16>();
        std::ptr::copy_nonoverlapping(name.as_ptr(), to, name.len());
        nt::NtSetInformationFile(
            file.as_raw_handle(),
            &raw mut block,
            structure.cast(),
            length as u32,
            class,
        )
    };
    Status::check(status)
}

/// Waits until everything written is on the disk.
pub(super) fn flush(file: &OwnedHandle) -> Result<(), Error> {
    // SAFETY: the handle is open.
    match unsafe { fs::FlushFileBuffers(file.as_raw_handle()) } {
        0 => Err(sys::last_error()),
        _ => Ok(()),
    }
}

/// Reads into the beginning of `room`. Returns the number of bytes, which is zero at the end of the
/// file.
pub(super) fn read(
    file: &OwnedHandle,
    offset: u64,
    room: &mut [MaybeUninit<u8>],
) -> Result<usize, WIN32_ERROR> {
    let bytes = room.len().min(MAX_BYTES) as u32;
    let read = wait(file, offset, |overlapped| {
        // SAFETY: the handle is open, and `room` has space for the given number of bytes. `wait`
        // keeps `overlapped`, and does not return before the system has finished with both.
        unsafe {
            let to = room.as_mut_ptr().cast();
            fs::ReadFile(file.as_raw_handle(), to, bytes, null_mut(), overlapped)
        }
    });
    match read {
        Err(ERROR_HANDLE_EOF) => Ok(0),
        read => read,
    }
}

/// Writes from the beginning of `from`. Returns the number of bytes written.
pub(super) fn write(file: &OwnedHandle, offset: u64, from: &[u8]) -> Result<usize, WIN32_ERROR> {
    let bytes = from.len().min(MAX_BYTES) as u32;
    wait(file, offset, |overlapped| {
        // SAFETY: the handle is open, and `from` has the given number of bytes. `wait` keeps
        // `overlapped`, and does not return before the system has finished with both.
        unsafe { fs::WriteFile(file.as_raw_handle(), from.as_ptr(), bytes, null_mut(), overlapped) }
    })
}

/// Starts an operation on a file that was opened for overlapped ones, and waits for its end. No
/// completion port gets a packet.
fn wait(
    file: &OwnedHandle,
    offset: u64,
    start: impl FnOnce(*mut OVERLAPPED) -> BOOL,
) -> Result<usize, WIN32_ERROR> {
    // SAFETY: the call gets no pointers.
    let event = unsafe { CreateEventW(null(), TRUE, 0, null()) };
    // SAFETY: the call reads a value of this thread.
    let last_error = || unsafe { GetLastError() };
    if event.is_null() {
        return Err(last_error());
    }
    // SAFETY: the call has succeeded, so this is a handle, and nobody else has it.
    let event = unsafe { OwnedHandle::from_raw_handle(event) };
    let at = OVERLAPPED_0_0 { Offset: offset as u32, OffsetHigh: (offset >> 32) as u32 };
    let mut overlapped = OVERLAPPED {
        Anonymous: OVERLAPPED_0 { Anonymous: at },
        // The low bit prevents a packet to a port that the file may belong to
        // (GetQueuedCompletionStatus, "Remarks"). No handle has this bit set otherwise.
        hEvent: event.as_raw_handle().map_addr(|handle| handle | 1),
        ..OVERLAPPED::default()
    };
    let overlapped = &raw mut overlapped;
    if start(overlapped) == 0 {
        match last_error() {
            ERROR_IO_PENDING => {}
            code => return Err(code),
        }
    }
    let mut bytes = 0;
    // SAFETY: the handle is open, both pointers refer to values of this function, and an operation
    // was started with the first.
    let ended =
        unsafe { GetOverlappedResult(file.as_raw_handle(), overlapped, &raw mut bytes, TRUE) };
    if ended != 0 {
        return Ok(bytes as usize);
    }
    let code = last_error();
    // SAFETY: this is a value of this function, which the system may be writing to.
    if unsafe { (&raw const (*overlapped).Internal).read_volatile() } == STATUS_PENDING as usize {
        // The wait failed, not the operation, which may write to this memory at any time.
        tracing::error!("cannot wait for a file operation: the process aborts (os error {code})");
        std::process::abort();
    }
    Err(code)
}

/// Calls `each` with every name in a directory, including `.` and `..`, and with the bits of its
/// file attributes. The handle must have been opened for calls that wait. The names are read from
/// the beginning.
pub(super) fn each_name(
    directory: &OwnedHandle,
    mut each: impl FnMut(&[u16], u32) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut memory = vec![0_u64; ENTRIES_WORDS];
    let mut class = fs::FileFullDirectoryRestartInfo;
    loop {
        // SAFETY: the handle is open, and the memory has the given length and is aligned for the
        // structure.
        let filled = unsafe {
            fs::GetFileInformationByHandleEx(
                directory.as_raw_handle(),
                class,
                memory.as_mut_ptr().cast(),
                size_of_val(&*memory) as u32,
            )
        };
        if filled == 0 {
            // SAFETY: the call reads a value of this thread.
            return match unsafe { GetLastError() } {
                // The second error: the empty root of a volume, which has no `.`.
                ERROR_NO_MORE_FILES | ERROR_FILE_NOT_FOUND => Ok(()),
                code => Err(sys::error(code)),
            };
        }
        class = fs::FileFullDirectoryInfo;
        // SAFETY: initialised words are initialised bytes.
        let bytes = unsafe {
            std::slice::from_raw_parts(memory.as_ptr().cast::<u8>(), size_of_val(&*memory))
        };
        each_in(bytes, &mut each)?;
    }
}

/// Calls `each` with the names in one result of the system.
fn each_in(
    mut bytes: &[u8],
    each: &mut impl FnMut(&[u16], u32) -> Result<(), Error>,
) -> Result<(), Error> {
    use fs::FILE_FULL_DIR_INFO as Structure;
    loop {
        let number = |at: usize| {
            let number = bytes[at..][..size_of::<u32>()].try_into().expect("four bytes");
            u32::from_ne_bytes(number)
        };
        let name_bytes = number(offset_of!(Structure, FileNameLength)) as usize;
        let name = &bytes[offset_of!(Structure, FileName)..][..name_bytes];
        let name: Vec<u16> =
            name.chunks_exact(2).map(|unit| u16::from_ne_bytes([unit[0], unit[1]])).collect();
        each(&name, number(offset_of!(Structure, FileAttributes)))?;
        match number(offset_of!(Structure, NextEntryOffset)) {
            0 => return Ok(()),
            next => bytes = &bytes[next as usize..],
        }
    }
}
