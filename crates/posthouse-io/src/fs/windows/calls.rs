//! The system's calls on files, made safe.
//!
//! Most are those beneath the documented ones: only they open a name beneath a directory that is
//! open, and their results say more (a name that is being removed is no "access denied").

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

/// Bytes that one call reads or writes, at most: its lengths have 32 bits, and beyond 2 GiB some
/// file systems refuse.
const MAX_BYTES: usize = 0x7fff_f000;
/// Memory for names of a directory, in words: 32 KiB, for more than fifty of the longest.
const ENTRIES_WORDS: usize = 4096;

/// What the system says where it does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) NTSTATUS);

impl Status {
    fn check(status: NTSTATUS) -> Result<(), Self> {
        if status < 0 { Err(Self(status)) } else { Ok(()) }
    }
}

/// How a name is opened.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub(super) access: fs::FILE_ACCESS_RIGHTS,
    /// What others may do with it meanwhile.
    pub(super) share: fs::FILE_SHARE_MODE,
    pub(super) disposition: nt::NTCREATEFILE_CREATE_DISPOSITION,
    pub(super) options: nt::NTCREATEFILE_CREATE_OPTIONS,
    /// Of a file that is made.
    pub(super) attributes: fs::FILE_FLAGS_AND_ATTRIBUTES,
}

/// Opens a name in a directory that is open, or with an empty name the directory once more. The
/// name is one part of a path. A link is not followed: it is opened itself.
pub(super) fn open(from: &OwnedHandle, name: &[u16], how: How) -> Result<OwnedHandle, Status> {
    let how = How { options: how.options | nt::FILE_OPEN_REPARSE_POINT, ..how };
    match open_with(from, name, how, OBJ_CASE_INSENSITIVE | OBJ_DONT_REPARSE) {
        // Before Windows 10 1607 there is no such attribute. It is one more bar only: a name of one
        // part that is opened without following leads nowhere else.
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
    // SAFETY: the directory is open, and every pointer leads to a value of this function or to the
    // name, all of which outlive the call, which only reads the name.
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

/// Something that the system tells of a file.
///
/// # Safety
///
/// `CLASS` is the number of this structure among those that a file is asked with, and the system
/// writes only valid values of it.
pub(super) unsafe trait FileInfo: Default {
    const CLASS: nt::FILE_INFORMATION_CLASS;
}

// SAFETY: this class has this structure, which consists of numbers.
unsafe impl FileInfo for fs::FILE_BASIC_INFO {
    const CLASS: nt::FILE_INFORMATION_CLASS = nt::FileBasicInformation;
}

// SAFETY: this class has this structure, of numbers and of booleans that the system writes as 0 or
// 1.
unsafe impl FileInfo for fs::FILE_STANDARD_INFO {
    const CLASS: nt::FILE_INFORMATION_CLASS = nt::FileStandardInformation;
}

// SAFETY: this class has this structure, which consists of numbers.
unsafe impl FileInfo for fs::FILE_ID_INFO {
    const CLASS: nt::FILE_INFORMATION_CLASS = nt::FileIdInformation;
}

/// Asks for something of an open file.
pub(super) fn ask<T: FileInfo>(file: &OwnedHandle) -> Result<T, Status> {
    let mut told = T::default();
    let mut block = IO_STATUS_BLOCK::default();
    // SAFETY: the handle is open, and both pointers lead to values of this function. The structure
    // is the one of its class (`Told`), and so long. The call waits for its end, whatever the
    // handle was opened for.
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

/// The number of a file and that of its volume, from file systems that know no longer one.
pub(super) fn short_identity(file: &OwnedHandle) -> Result<(u32, u64), Error> {
    let mut told = fs::BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open, and the pointer leads to a value of this function.
    if unsafe { fs::GetFileInformationByHandle(file.as_raw_handle(), &raw mut told) } == 0 {
        return Err(sys::last_error());
    }
    let index = u64::from(told.nFileIndexHigh) << 32 | u64::from(told.nFileIndexLow);
    Ok((told.dwVolumeSerialNumber, index))
}

/// Whether it is a file on a disk, as far as the handle can tell.
pub(super) fn is_on_a_disk(file: &OwnedHandle) -> bool {
    // SAFETY: the handle is open.
    unsafe { fs::GetFileType(file.as_raw_handle()) == fs::FILE_TYPE_DISK }
}

/// Sets when a file was last written; the rest of what such a call can change stays.
pub(super) fn set_modified(file: &OwnedHandle, modified: i64) -> Result<(), Status> {
    let told = fs::FILE_BASIC_INFO { LastWriteTime: modified, ..Default::default() };
    set(file, &told, nt::FileBasicInformation)
}

/// Cuts or prolongs a file.
pub(super) fn set_length(file: &OwnedHandle, bytes: i64) -> Result<(), Status> {
    let end = fs::FILE_END_OF_FILE_INFO { EndOfFile: bytes };
    set(file, &end, nt::FileEndOfFileInformation)
}

/// Has the name by which the file was opened go when this handle is closed, or when the last
/// handle is, as the flags say.
pub(super) fn dispose(
    file: &OwnedHandle,
    flags: nt::FILE_DISPOSITION_INFORMATION_EX_FLAGS,
) -> Result<(), Status> {
    let disposition = nt::FILE_DISPOSITION_INFORMATION_EX { Flags: flags };
    set(file, &disposition, nt::FileDispositionInformationEx)
}

/// Has the name by which the file was opened go when the last handle is closed: what every file
/// system can do.
pub(super) fn dispose_at_last(file: &OwnedHandle) -> Result<(), Status> {
    let disposition = nt::FILE_DISPOSITION_INFORMATION { DeleteFile: true };
    set(file, &disposition, nt::FileDispositionInformation)
}

fn set<T>(file: &OwnedHandle, to: &T, class: nt::FILE_INFORMATION_CLASS) -> Result<(), Status> {
    let mut block = IO_STATUS_BLOCK::default();
    // SAFETY: the handle is open, and the system reads at most so many bytes of a value that
    // outlives the call. Were it not the structure of its class, it would be understood wrongly or
    // refused, and nothing else. The call waits for its end, whatever the handle was opened for.
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

/// Gives an open file one more name; one that is there already is not replaced.
pub(super) fn link(file: &OwnedHandle, into: &OwnedHandle, name: &[u16]) -> Result<(), Status> {
    #[cfg(test)]
    super::tests::link_refused()?;
    set_name(file, into, name, nt::FileLinkInformation)
}

/// Gives an open file another name in the place of the one by which it was opened; one that is
/// there already is not replaced.
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
    // Zero: not to replace.
    let mut memory = vec![0_u64; length.div_ceil(size_of::<u64>())];
    let mut block = IO_STATUS_BLOCK::default();
    // SAFETY: the memory is as long and as aligned as the structure with a name of this length
    // behind it, and all zero, so it holds one; the name goes where it begins, and ends before the
    // memory does. Both handles are open. The call only reads the memory, and waits for its end.
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

/// Waits until what was written is on the disk.
pub(super) fn flush(file: &OwnedHandle) -> Result<(), Error> {
    // SAFETY: the handle is open.
    match unsafe { fs::FlushFileBuffers(file.as_raw_handle()) } {
        0 => Err(sys::last_error()),
        _ => Ok(()),
    }
}

/// Reads into the beginning of `room`; the number of bytes, zero at the end of the file.
pub(super) fn read(
    file: &OwnedHandle,
    offset: u64,
    room: &mut [MaybeUninit<u8>],
) -> Result<usize, WIN32_ERROR> {
    let bytes = room.len().min(MAX_BYTES) as u32;
    let read = wait(file, offset, |overlapped| {
        // SAFETY: the handle is open, and the room takes so many bytes. `wait` keeps `overlapped`,
        // and does not return before the system has done with both.
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

/// Writes from the beginning of `from`; the number of bytes.
pub(super) fn write(file: &OwnedHandle, offset: u64, from: &[u8]) -> Result<usize, WIN32_ERROR> {
    let bytes = from.len().min(MAX_BYTES) as u32;
    wait(file, offset, |overlapped| {
        // SAFETY: the handle is open, and there are so many bytes to be read. `wait` keeps
        // `overlapped`, and does not return before the system has done with both.
        unsafe { fs::WriteFile(file.as_raw_handle(), from.as_ptr(), bytes, null_mut(), overlapped) }
    })
}

/// Starts an operation on a file that was opened for overlapped ones, and waits for its end; no
/// completion port hears of it.
fn wait(
    file: &OwnedHandle,
    offset: u64,
    start: impl FnOnce(*mut OVERLAPPED) -> BOOL,
) -> Result<usize, WIN32_ERROR> {
    // SAFETY: it has no pointers.
    let event = unsafe { CreateEventW(null(), TRUE, 0, null()) };
    // SAFETY: it reads a value of this thread.
    let last_error = || unsafe { GetLastError() };
    if event.is_null() {
        return Err(last_error());
    }
    // SAFETY: the call has succeeded, so this is a handle, and nobody else has it.
    let event = unsafe { OwnedHandle::from_raw_handle(event) };
    let at = OVERLAPPED_0_0 { Offset: offset as u32, OffsetHigh: (offset >> 32) as u32 };
    let mut overlapped = OVERLAPPED {
        Anonymous: OVERLAPPED_0 { Anonymous: at },
        // The low bit keeps the operation from a port that the file may belong to
        // (GetQueuedCompletionStatus, "Remarks"); no handle has it otherwise.
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
    // SAFETY: the handle is open, both pointers lead to values of this function, and an operation
    // was started with the first.
    let ended =
        unsafe { GetOverlappedResult(file.as_raw_handle(), overlapped, &raw mut bytes, TRUE) };
    if ended != 0 {
        return Ok(bytes as usize);
    }
    let code = last_error();
    // SAFETY: it is a value of this function, which the system may be writing to.
    if unsafe { (&raw const (*overlapped).Internal).read_volatile() } == STATUS_PENDING as usize {
        // The wait failed, not the operation: it may write to this memory at any time.
        tracing::error!("an operation on a file cannot be waited for (os error {code})");
        std::process::abort();
    }
    Err(code)
}

/// Calls `each` with every name in a directory, `.` and `..` among them, and what it is: the bits
/// that are a file's attributes. The handle was opened for calls that wait; the names are read from
/// the beginning on.
pub(super) fn each_name(
    directory: &OwnedHandle,
    mut each: impl FnMut(&[u16], u32) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut memory = vec![0_u64; ENTRIES_WORDS];
    let mut class = fs::FileFullDirectoryRestartInfo;
    loop {
        // SAFETY: the handle is open, and the memory is so long, and aligned for the structure.
        let filled = unsafe {
            fs::GetFileInformationByHandleEx(
                directory.as_raw_handle(),
                class,
                memory.as_mut_ptr().cast(),
                size_of_val(&*memory) as u32,
            )
        };
        if filled == 0 {
            // SAFETY: it reads a value of this thread.
            return match unsafe { GetLastError() } {
                // The second: the root of a volume, which has no `.`, where it is empty.
                ERROR_NO_MORE_FILES | ERROR_FILE_NOT_FOUND => Ok(()),
                code => Err(sys::error(code)),
            };
        }
        class = fs::FileFullDirectoryInfo;
        // SAFETY: words that are initialised are bytes that are.
        let bytes = unsafe {
            std::slice::from_raw_parts(memory.as_ptr().cast::<u8>(), size_of_val(&*memory))
        };
        each_in(bytes, &mut each)?;
    }
}

/// Calls `each` with the names in an answer of the system.
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
