//! The ends of operations: in the call that begins one, or with a packet to come.

use windows_sys::Win32::Foundation::{ERROR_DISK_FULL, ERROR_HANDLE_EOF};

use super::super::file_ops::{self, FileEnd};
use super::*;
use crate::error::Failure;
use crate::file_op::FileOutcome;

fn a_read(free_list: &mut FreeList) -> Box<Operation> {
    let (_, file) = crate::iocp::tests::file_ops::file_with(b"");
    let op = Box::new(FileOp::Read { file, offset: 0, bytes: 10, memory: Vec::new() });
    free_list.take(None, OperationKind::File { tag: Tag(7), op })
}

/// Fills the memory of a read, as the system does if it has the bytes already.
fn fill(raw: *mut Operation, bytes: &[u8]) {
    // SAFETY: the box is complete, and belongs to the call.
    let OperationKind::File { op, .. } = (unsafe { &mut (*raw).work }) else { unreachable!() };
    let FileOp::Read { memory, .. } = &mut **op else { unreachable!() };
    memory.reserve(10);
    // SAFETY: there is room for ten bytes; nobody else has the OVERLAPPED.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), memory.as_mut_ptr(), bytes.len());
        (*(*raw).overlapped.get()).InternalHigh = bytes.len();
    }
}

/// Windows reads cached data within the call, Wine never does.
#[test]
fn what_ends_in_its_call_has_what_the_call_has_moved() {
    let free_list = &mut FreeList::default();
    let call = |raw| {
        fill(raw, b"at once");
        0
    };
    // SAFETY: the system gets nothing.
    let submitted = unsafe { a_read(free_list).begin(true, call) };
    let Submitted::Ended(ended) = submitted else { panic!("there will be no packet") };
    assert_eq!(ended.result, Ok(7));
    let FileEnd::Completed(Tag(7), FileOutcome::Read { memory }) = file_ops::end(ended, free_list)
    else {
        panic!("a read")
    };
    assert_eq!(memory, b"at once");
}

#[test]
fn a_read_that_fails_in_its_call_is_at_the_end_or_is_tried_again() {
    let free_list = &mut FreeList::default();
    // SAFETY: the system gets nothing.
    let submitted = unsafe { a_read(free_list).begin(true, |_| ERROR_HANDLE_EOF) };
    let Submitted::Ended(ended) = submitted else { panic!("there will be no packet") };
    let told = file_ops::end(ended, free_list);
    assert!(
        matches!(told, FileEnd::Completed(_, FileOutcome::Read { memory }) if memory.is_empty())
    );

    // SAFETY: the system gets nothing.
    let submitted = unsafe { a_read(free_list).begin(true, |_| ERROR_DISK_FULL) };
    let Submitted::Ended(ended) = submitted else { panic!("there will be no packet") };
    assert_eq!(ended.result.map_err(|error| error.failure), Err(Failure::NoSpace));
    assert!(matches!(file_ops::end(ended, free_list), FileEnd::Retry(Tag(7), _)));
}

/// The first operation has ended but its packet is still to come; the second has not ended.
#[test]
fn what_has_a_packet_to_come_is_in_flight() {
    let free_list = &mut FreeList::default();
    for (at_once, code) in [(false, 0), (true, ERROR_IO_PENDING), (false, ERROR_IO_PENDING)] {
        let call = |raw| {
            fill(raw, b"later");
            code
        };
        // SAFETY: the system gets nothing.
        let submitted = unsafe { a_read(free_list).begin(at_once, call) };
        let Submitted::InFlight(id) = submitted else { panic!("in flight: {at_once}, {code}") };
        let packet = OVERLAPPED_ENTRY {
            lpOverlapped: id.0.as_ptr().cast(),
            dwNumberOfBytesTransferred: 5,
            ..Default::default()
        };
        // SAFETY: the operation is in flight, and this is its one packet.
        let ended = unsafe { Operation::dequeued(&packet) };
        assert_eq!(OverlappedId::of(&ended.operation), id);
        let end = file_ops::end(ended, free_list);
        let FileEnd::Completed(_, FileOutcome::Read { memory }) = end else {
            panic!("a read that has ended")
        };
        assert_eq!(memory, b"later");
    }
}
