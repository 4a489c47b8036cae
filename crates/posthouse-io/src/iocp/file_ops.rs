//! Reads and writes of files, as operations of the port.
//!
//! The other file operations run on the file pool, as on every backend: the system has no
//! overlapped form of them.

use std::os::windows::io::AsRawHandle;

use windows_sys::Win32::Foundation::ERROR_HANDLE_EOF;

use super::operation::{self, Ended, FreeList, OperationKind, Submitted};
use super::port::Port;
use crate::file_op::{FileOp, FileOutcome};
use crate::fs;
use crate::handle::File;
use crate::token::Tag;

/// The end of an operation on a file.
pub(super) enum FileEnd {
    Completed(Tag, FileOutcome),
    /// The operation failed: the file pool repeats it and reports the disk's own error. Its memory
    /// is the same as before.
    Retry(Tag, Box<FileOp>),
}

/// Returns whether the port performs the operation: the file must belong to it, or be free to. The
/// file pool performs a write that extends a file, because the system would do so within the call.
fn is_for_port(op: &FileOp, port: &Port) -> bool {
    let file = match op {
        FileOp::Read { file, offset, bytes, .. } if fs::is_within_a_file(*offset, *bytes) => file,
        FileOp::Write { file, offset, data }
            if operation::length(file).is_ok_and(|length| {
                offset.checked_add(data.len() as u64).is_some_and(|end| end <= length)
            }) =>
        {
            file
        }
        _ => return false,
    };
    belongs(file, port)
}

/// Returns whether the file's operations end at this port. A file belongs to the first port that
/// uses it; it belongs to no port if a worker would have to wait for the disk within the call.
fn belongs(file: &File, port: &Port) -> bool {
    let mine = port.number();
    let belongs_to = file.port().get_or_init(|| {
        if file.is_waited_for() {
            return 0;
        }
        // If the system refuses the association, the file belongs to no port.
        port.associate(file.handle().as_raw_handle(), true).map_or(0, |()| mine)
    });
    *belongs_to == mine
}

/// Begins an operation, or returns it for the file pool.
pub(super) fn begin(
    port: &Port,
    tag: Tag,
    op: Box<FileOp>,
    free_list: &mut FreeList,
) -> Result<Submitted, Box<FileOp>> {
    fs::check(&op);
    if !is_for_port(&op, port) {
        return Err(op);
    }
    Ok(operation::on_file(free_list.take(None, OperationKind::File { tag, op })))
}

/// Takes the result of an ended operation.
pub(super) fn end(ended: Ended, free_list: &mut FreeList) -> FileEnd {
    let (OperationKind::File { tag, mut op }, result) = free_list.keep(ended) else {
        unreachable!("a file's")
    };
    let bytes = match result {
        Ok(bytes) => bytes,
        Err(error) if error.code.cast_unsigned() == ERROR_HANDLE_EOF => 0,
        Err(_) => return FileEnd::Retry(tag, op),
    };
    let outcome = match &mut *op {
        FileOp::Read { memory, .. } => {
            let mut memory = std::mem::take(memory);
            // SAFETY: the system has written `bytes` bytes to the beginning of the vector, and its
            // capacity was the limit of the call.
            unsafe { memory.set_len(bytes) };
            FileOutcome::Read { memory }
        }
        FileOp::Write { data, .. } => FileOutcome::Written { bytes, data: std::mem::take(data) },
        _ => unreachable!("no other is begun"),
    };
    FileEnd::Completed(tag, outcome)
}
