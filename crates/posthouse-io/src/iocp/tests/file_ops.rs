//! The port reads and writes files, and the file pool does the rest with the same outcome. Only
//! these tests see which of the two performed an operation.

use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::OwnedHandle;

use tempfile::TempDir;
use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_OVERLAPPED;

use super::*;
use crate::fs::Opened;
use crate::handle::File;
use crate::iocp::file_ops::{self, FileEnd};
use crate::iocp::operation::{FreeList, Submitted};
use crate::iocp::port::{self, Event, Port};

/// Returns a file with this content, opened for overlapped operations, and the directory that holds
/// it.
pub(in crate::iocp) fn file_with(content: &[u8]) -> (TempDir, File) {
    let directory = tempfile::tempdir().expect("a new directory");
    let path = directory.path().join("file");
    std::fs::write(&path, content).expect("a file");
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).custom_flags(FILE_FLAG_OVERLAPPED);
    let handle: OwnedHandle = options.open(path).expect("it is there").into();
    (directory, File::new(Opened::from(handle)))
}

fn read(file: &File, offset: u64) -> FileOp {
    FileOp::Read { file: file.clone(), offset, bytes: 100, memory: b"left".to_vec() }
}

fn write(file: &File, offset: u64, segments: &[&[u8]]) -> FileOp {
    let mut data = Gather::default();
    for bytes in segments {
        data.push(Segment::Owned(bytes.to_vec()));
    }
    FileOp::Write { file: file.clone(), offset, data }
}

/// Returns the outcome of an operation that the port must perform itself.
#[track_caller]
fn by_port(port: &Port, op: FileOp) -> FileOutcome {
    let free_list = &mut FreeList::default();
    let submitted = file_ops::begin(port, Tag(7), Box::new(op), free_list);
    let ended = match submitted.expect("the port takes it") {
        Submitted::Ended(ended) => ended,
        Submitted::InFlight(_) => {
            let mut packet = None;
            let mut note = |event| match event {
                Event::Ended(ended) => packet = Some(ended),
                Event::Waker => panic!("nobody rings"),
            };
            assert_eq!(port.wait::<1>(Some(PATIENCE), &mut note).expect("a wait"), 1);
            packet.expect("a packet")
        }
    };
    match file_ops::end(ended, free_list) {
        FileEnd::Completed(Tag(7), outcome) => outcome,
        FileEnd::Completed(tag, _) => panic!("another's tag: {tag:?}"),
        FileEnd::Retry(_, op) => panic!("the port has failed to do {op:?}"),
    }
}

#[track_caller]
fn assert_read(outcome: FileOutcome, expected: &[u8]) {
    let FileOutcome::Read { memory } = outcome else { panic!("a read, not {outcome:?}") };
    assert_eq!(memory, expected);
}

#[test]
fn a_port_reads_files_to_their_end_and_writes_what_they_have_room_for() {
    let (port, _alarm) = port::open(1).expect("a port");
    let (_directory, file) = file_with(b"content");
    assert_read(by_port(&port, read(&file, 0)), b"content");
    assert_read(by_port(&port, read(&file, 3)), b"tent");
    for beyond in [7, 1000, 1 << 40] {
        assert_read(by_port(&port, read(&file, beyond)), b"");
    }
    for (offset, segments, after) in [
        (2, &[&b"NT"[..]][..], b"coNTent"),
        (4, &[b"END"], b"coNTEND"),
        // Each call writes one segment.
        (0, &[b"CO", b"nt"], b"CONTEND"),
    ] {
        let written = by_port(&port, write(&file, offset, segments));
        let bytes = segments[0].len();
        assert!(matches!(written, FileOutcome::Written { bytes: n, .. } if n == bytes));
        assert_read(by_port(&port, read(&file, 0)), after);
    }
}

#[test]
fn a_port_leaves_to_the_disk_what_would_hold_it_up_and_the_files_of_others() {
    let (port, _alarm) = port::open(1).expect("a port");
    let (other, _other_alarm) = port::open(1).expect("a port");
    let (_directory, file) = file_with(b"content");
    let free_list = &mut FreeList::default();
    let mut is_left = |port, op| file_ops::begin(port, Tag(7), Box::new(op), free_list).is_err();
    assert!(is_left(&port, write(&file, 7, &[b"longer"])));
    assert!(is_left(&port, write(&file, 6, &[b"t", b"longer"])));
    assert!(is_left(&port, FileOp::Sync { file: file.clone() }));
    assert_read(by_port(&port, read(&file, 0)), b"content");
    assert!(is_left(&other, read(&file, 0)), "it is the first port's");
    assert_read(by_port(&port, read(&file, 0)), b"content");
}

/// The same from a lane to its completions.
#[test]
fn reads_and_writes_of_a_lane_need_no_thread_of_the_disk() {
    for layout in [Layout::Shared, Layout::Pinned] {
        let port = open(layout, TestFaults { no_threads: true, ..TestFaults::default() });
        let (_directory, file) = file_with(b"content");
        let ops = [read(&file, 0), write(&file, 2, &[b"NT"]), read(&file, 7), read(&file, 0)];
        let mut ops = ops.into_iter();
        drop(file);
        let told = Arc::new(Mutex::new(Vec::new()));
        let told_here = told.clone();
        let mut submitted = false;
        spawn(&port, move |lane| {
            while let Some(completion) = lane.next_completion() {
                let Outcome::File(outcome) = completion.outcome else {
                    panic!("{:?}", completion.outcome)
                };
                lock(&told_here).push(*outcome);
                submitted = false;
            }
            if !std::mem::replace(&mut submitted, true) {
                match ops.next() {
                    Some(op) => lane.submit(Tag(0), Op::File(Box::new(op))),
                    None => return Turn::Done,
                }
            }
            Turn::Sleep(None)
        });
        assert_at_rest(&port);
        let mut told = std::mem::take(&mut *lock(&told)).into_iter();
        let mut next = || told.next().expect("told");
        assert_read(next(), b"content");
        assert!(matches!(next(), FileOutcome::Written { bytes: 2, .. }));
        assert_read(next(), b"");
        assert_read(next(), b"coNTent");
    }
}
