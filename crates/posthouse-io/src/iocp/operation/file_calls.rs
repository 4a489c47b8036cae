//! The calls that begin an operation on a file.

use std::os::windows::io::AsRawHandle;
use std::ptr;

use windows_sys::Win32::Foundation::GetLastError;
use windows_sys::Win32::Storage::FileSystem as fs;

use super::{Operation, OperationKind, Submitted, code, overlapped, place};
use crate::error::Error;
use crate::file_op::FileOp;
use crate::handle::File;
use crate::sys;

/// The maximum number of bytes of a file that one operation moves: data that is in memory already
/// is copied within the call.
const MAX_FILE_BYTES: usize = 4 << 20;

/// Begins the read or write of a file.
pub(in crate::iocp) fn on_file(operation: Box<Operation>) -> Submitted {
    let call = |raw: *mut Operation| {
        // SAFETY: the box is complete, and belongs to this function until the call takes it.
        let OperationKind::File { op, .. } = (unsafe { &mut (*raw).work }) else { unreachable!() };
        let at = |offset: u64| {
            // SAFETY: no call has the OVERLAPPED yet.
            unsafe { (*(*raw).overlapped.get()).Anonymous.Anonymous = place(offset) };
            overlapped(raw)
        };
        // SAFETY: the operation owns the handle. The operation in the box also owns the memory,
        // which is on the heap, and the OVERLAPPED is in the box. The memory has room for all bytes
        // that are read, and contains all bytes that are written.
        let submitted = unsafe {
            match &mut **op {
                FileOp::Read { file, offset, bytes, memory } => {
                    memory.clear();
                    memory.reserve(*bytes);
                    let bytes = (*bytes).min(MAX_FILE_BYTES) as u32;
                    let handle = file.handle().as_raw_handle();
                    let room = memory.as_mut_ptr();
                    fs::ReadFile(handle, room, bytes, ptr::null_mut(), at(*offset))
                }
                // The system gathers only whole pages, so one call writes one segment.
                FileOp::Write { file, offset, data } => {
                    let first = data.slices().next().unwrap_or_default();
                    let bytes = first.len().min(MAX_FILE_BYTES) as u32;
                    let handle = file.handle().as_raw_handle();
                    let from = first.as_ptr();
                    fs::WriteFile(handle, from, bytes, ptr::null_mut(), at(*offset))
                }
                _ => unreachable!("no other operation is given to the port"),
            }
        };
        code(i32::from(submitted == 0))
    };
    // SAFETY: as argued in the call. Files are associated in the mode in which success in the call
    // has no packet.
    unsafe { operation.begin(true, call) }
}

/// Returns the present length of a file.
pub(in crate::iocp) fn length(file: &File) -> Result<u64, Error> {
    let mut length = 0;
    // SAFETY: the call writes only one number.
    let told = unsafe { fs::GetFileSizeEx(file.handle().as_raw_handle(), &raw mut length) };
    if told == 0 {
        // SAFETY: the call reads a value of this thread.
        return Err(sys::error(unsafe { GetLastError() }));
    }
    Ok(length.cast_unsigned())
}
