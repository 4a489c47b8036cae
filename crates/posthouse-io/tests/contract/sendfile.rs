//! Sending files: the system's path from a file to a socket, and its failures.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};

use posthouse_io::{
    Cancel, Failure, File, FileFault, FilePart, Gather, Op, Outcome, ReceiveMode, Segment,
    WatchMode,
};

use crate::flow::{Reader, Sender};
use crate::harness::{Harness, PATIENCE, assert_ended, assert_same, pattern};
use crate::test_dir::TestDir;
use posthouse_process::is_wine;

/// More bytes than both sides of one connection hold in the system while neither side reads.
const MORE_THAN_FITS: usize = 24 << 20;

fn part(file: &File, offset: usize, bytes: usize) -> Segment {
    Segment::File(Box::new(FilePart::new(file.clone(), offset as u64, bytes)))
}

fn whole(file: &File, bytes: usize) -> Gather {
    let mut gather = Gather::default();
    gather.push(part(file, 0, bytes));
    gather
}

fn memory(bytes: &[u8]) -> Segment {
    Segment::Owned(bytes.to_vec())
}

/// Sends the gather over a new connection. Returns the received bytes and the faults of the file
/// parts.
fn sent(harness: &Harness, gather: Gather) -> (Vec<u8>, Vec<Option<FileFault>>) {
    let (near, far) = harness.pair();
    let reader = Reader::start(harness, far, 1);
    let sender = Sender::start_gather(harness, near, gather);
    assert_eq!(sender.wait(harness), Ok(()));
    harness.shutdown(near);
    let (got, end) = reader.wait(harness);
    assert_eq!(end, Ok(()));
    harness.close_all([near, far]);
    (got, sender.files())
}

pub fn files_leave_in_their_place_between_memory(harness: &Harness) {
    let dir = TestDir::new(harness);
    let one = pattern(3_000_001, 1);
    let two = pattern(70_000, 2);
    std::fs::write(dir.path("one"), &one).expect("the file can be written");
    std::fs::write(dir.path("two"), &two).expect("the file can be written");
    let (file_one, _) = dir.open("one").expect("the file exists");
    let (file_two, _) = dir.open("two").expect("the file exists");
    let mut gather = Gather::default();
    gather.push(memory(b"head"));
    gather.push(memory(b" of the first"));
    gather.push(part(&file_one, 0, one.len()));
    gather.push(part(&file_two, 0, two.len()));
    gather.push(memory(b"between"));
    gather.push(part(&file_one, 1_000_000, 5));
    gather.push(memory(b"tail"));
    drop((file_one, file_two));
    let expected = [b"head of the first", &*one, &two, b"between", &one[1_000_000..][..5], b"tail"];
    let (got, files) = sent(harness, gather);
    assert_same(&got, &expected.concat());
    assert_eq!(files, [None; 3]);
}

pub fn parts_of_a_file_begin_and_end_anywhere(harness: &Harness) {
    let dir = TestDir::new(harness);
    let content = pattern(300_001, 3);
    std::fs::write(dir.path("file"), &content).expect("the file can be written");
    let (file, _) = dir.open("file").expect("the file exists");
    let mut gather = Gather::default();
    let mut expected = Vec::new();
    for (offset, bytes) in [(0, 1), (299_999, 2), (4095, 4097), (1, 131_072), (300_000, 1)] {
        gather.push(part(&file, offset, bytes));
        expected.extend_from_slice(&content[offset..offset + bytes]);
    }
    let (got, files) = sent(harness, gather);
    assert_same(&got, &expected);
    assert_eq!(files, [None; 5]);
}

pub fn more_of_a_file_is_sent_than_31_bits_count(harness: &Harness) {
    const BYTES: usize = (1 << 31) + 70_001;
    let dir = TestDir::new(harness);
    let holes = std::fs::File::create(dir.path("holes")).expect("the file opens");
    holes.set_len(BYTES as u64 - 3).expect("a long file");
    drop(holes);
    let mut end =
        std::fs::OpenOptions::new().append(true).open(dir.path("holes")).expect("the file opens");
    std::io::Write::write_all(&mut end, b"end").expect("the file can be written");
    let (file, metadata) = dir.open("holes").expect("the file exists");
    assert_eq!(metadata.bytes, BYTES as u64);

    let listener = TcpListener::bind("127.0.0.1:0").expect("the listener opens");
    let address = listener.local_addr().expect("an address").into();
    let (near, connect) = harness.connect(harness.lane(0), address);
    let (mut far, _) = listener.accept().expect("a peer");
    assert!(matches!(harness.outcome(connect), posthouse_io::Outcome::Connected));
    let reader = std::thread::spawn(move || read_zeros(&mut far));
    let sender = Sender::start_gather(harness, near, whole(&file, BYTES));
    assert_eq!(sender.wait(harness), Ok(()));
    harness.shutdown(near);
    assert_eq!(reader.join().expect("the peer can read"), (BYTES as u64 - 3, b"end".to_vec()));
    assert_eq!(sender.files(), [None]);
    harness.close(near);
}

/// Reads to the end of the stream and returns the number of zeros at its start, and the bytes after
/// them.
fn read_zeros(from: &mut TcpStream) -> (u64, Vec<u8>) {
    from.set_read_timeout(Some(PATIENCE)).expect("the time-out can be set");
    let mut zeros = 0;
    let mut rest = Vec::new();
    let mut room = vec![0; 1 << 20];
    let only_zeros = vec![0; 1 << 20];
    loop {
        let bytes = from.read(&mut room).expect("the file can be read");
        if bytes == 0 {
            return (zeros, rest);
        }
        let some = &room[..bytes];
        let here = match rest.is_empty() {
            true if some == &only_zeros[..bytes] => bytes,
            true => some.iter().position(|byte| *byte != 0).expect("a differing byte exists"),
            false => 0,
        };
        zeros += here as u64;
        rest.extend_from_slice(&some[here..]);
    }
}

pub fn zeros_leave_in_place_of_what_a_file_does_not_have(harness: &Harness) {
    let dir = TestDir::new(harness);
    let content = pattern(10_000, 4);
    std::fs::write(dir.path("file"), &content).expect("the file can be written");
    let (file, _) = dir.open("file").expect("the file exists");
    let mut gather = Gather::default();
    gather.push(memory(b"head"));
    gather.push(part(&file, 9_000, 300_000));
    gather.push(part(&file, 20_000, 10));
    gather.push(part(&file, 0, 10));
    gather.push(memory(b"tail"));
    let (got, files) = sent(harness, gather);
    let zeros = vec![0; 299_000 + 10];
    let expected = [b"head", &content[9_000..], &zeros, &content[..10], b"tail"];
    assert_same(&got, &expected.concat());
    assert_eq!(files, [Some(FileFault::Short), Some(FileFault::Short), None]);
}

pub fn a_file_that_is_cut_while_it_is_sent_is_made_up_with_zeros(harness: &Harness) {
    let dir = TestDir::new(harness);
    let content = pattern(MORE_THAN_FITS, 5);
    std::fs::write(dir.path("file"), &content).expect("the file can be written");
    let (file, _) = dir.open("file").expect("the file exists");
    let (near, far) = harness.pair();
    let mut gather = whole(&file, MORE_THAN_FITS);
    gather.push(memory(b"tail"));
    let sender = Sender::start_gather(harness, near, gather);
    let cut =
        std::fs::OpenOptions::new().write(true).open(dir.path("file")).expect("the file opens");
    cut.set_len(1000).expect("the file can be truncated");
    let reader = Reader::start(harness, far, 1);
    assert_eq!(sender.wait(harness), Ok(()));
    harness.shutdown(near);
    let (got, end) = reader.wait(harness);
    assert_eq!((got.len(), end), (MORE_THAN_FITS + 4, Ok(())));
    assert_eq!(sender.files(), [Some(FileFault::Short)]);
    let (file, tail) = got.split_at(MORE_THAN_FITS);
    assert_eq!(tail, b"tail");
    // Bytes that the system had read before the cut are sent unchanged, or as zeros.
    let zeros = file.iter().rev().take_while(|byte| **byte == 0).count();
    assert!(zeros > 0, "the file was sent as it was before the cut");
    let wrong = file.iter().zip(&content).filter(|(a, b)| a != b && **a != 0).count();
    assert_eq!(wrong, 0, "bytes of the file, or zeros");
    harness.close_all([near, far]);
}

pub fn a_file_waits_for_a_peer_that_does_not_read(harness: &Harness) {
    let dir = TestDir::new(harness);
    let content = pattern(MORE_THAN_FITS, 6);
    std::fs::write(dir.path("file"), &content).expect("the file can be written");
    let (file, _) = dir.open("file").expect("the file exists");
    let (near, far) = harness.pair();
    let sender = Sender::start_gather(harness, near, whole(&file, content.len()));
    // Other connections are served meanwhile.
    let (other, its_peer) = harness.pair();
    harness.send_all(other, b"one word");
    assert_eq!(harness.read(its_peer, 8), b"one word");
    assert!(sender.sent() < content.len(), "the peer's window fills");
    let reader = Reader::start(harness, far, 1);
    assert_eq!(sender.wait(harness), Ok(()));
    harness.shutdown(near);
    let (got, end) = reader.wait(harness);
    assert_same(&got, &content);
    assert_eq!(end, Ok(()));
    harness.close_all([near, far, other, its_peer]);
}

pub fn a_send_of_a_file_is_cancelled_and_reset(harness: &Harness) {
    let dir = TestDir::new(harness);
    std::fs::write(dir.path("file"), pattern(MORE_THAN_FITS, 7)).expect("the file can be written");
    let (file, _) = dir.open("file").expect("the file exists");
    for reset in [false, true] {
        let (near, far) = harness.pair();
        let sender = Sender::start_gather(harness, near, whole(&file, MORE_THAN_FITS));
        let receive = harness.receive(near, ReceiveMode::Once);
        if reset {
            harness.reset(near);
            assert_eq!(sender.wait(harness), Err(Failure::Reset));
            assert_eq!(harness.failure(receive), Failure::Reset);
        } else {
            sender.cancel(harness);
            assert_eq!(harness.failure(receive), Failure::Cancelled);
        }
        harness.close_all([near, far]);
    }
}

pub fn a_reset_by_the_peer_ends_the_send_of_a_file(harness: &Harness) {
    if is_wine() && harness.real {
        // A cancel does not find the call that Wine has just woken: seen once in some 40 runs on a
        // busy machine (the cancel reports no operation, and then the call continues to wait).
        eprintln!("NOT TESTED: Wine may not cancel a TransmitFile that has just been woken");
        return;
    }
    let dir = TestDir::new(harness);
    std::fs::write(dir.path("file"), pattern(MORE_THAN_FITS, 8)).expect("the file can be written");
    let (file, _) = dir.open("file").expect("the file exists");
    for receives in [false, true] {
        let (near, far) = harness.pair();
        // The stream has no room, so the next send waits from its submission.
        Sender::start(harness, near, &pattern(MORE_THAN_FITS, 9)).cancel(harness);
        let sender = Sender::start_gather(harness, near, whole(&file, MORE_THAN_FITS));
        let receive = receives.then(|| harness.receive(near, ReceiveMode::Once));
        harness.reset(far);
        harness.close(far);
        assert_eq!(sender.wait(harness), Err(Failure::Reset));
        let receive = receive.unwrap_or_else(|| harness.receive(near, ReceiveMode::Once));
        assert_eq!(harness.failure(receive), Failure::Reset);
        harness.cancel(near);
        assert_eq!(sender.wait(harness), Err(Failure::Reset), "the reset was lost");
        let send = harness.submit(near.lane, Op::Send(near.socket, whole(&file, 10)));
        assert_eq!(harness.failure(send), Failure::Reset);
        harness.close(near);
    }
}

/// The test removes the file from the system's memory where the system offers this, so that the
/// first read of the file is still in flight when the watch sees that both streams have ended.
pub fn a_watch_beside_a_cancelled_send_of_a_file_sees_the_end(harness: &Harness) {
    const BYTES: usize = 1 << 20;
    let dir = TestDir::new(harness);
    std::fs::write(dir.path("file"), pattern(BYTES, 10)).expect("the file can be written");
    let (file, _) = dir.open("file").expect("the file exists");
    #[cfg(target_os = "linux")]
    if !can_drop_from_memory(&dir.path("probe")) {
        eprintln!("NOT TESTED: the file stays in memory, so a read of it is never in flight");
    }
    for _ in 0..20 {
        let (near, far) = harness.pair();
        harness.shutdown(far);
        #[cfg(target_os = "linux")]
        drop_from_memory(&dir.path("file"));
        let driver = harness.driver.clone();
        let gather = whole(&file, BYTES);
        let (send, watch) = harness.on(near.lane, move |lane| {
            let send = driver.submit(lane, Op::Send(near.socket, gather));
            lane.cancel(near.socket, Cancel::Everything);
            lane.shutdown(near.socket);
            (send, driver.submit(lane, Op::Watch(near.socket, WatchMode::End)))
        });
        // A system that sends the file by itself may have taken bytes before the cancel.
        match harness.outcome(send) {
            Outcome::Failed(error) => assert_eq!(error.failure, Failure::Cancelled),
            Outcome::Sent { .. } => {}
            other => panic!("a send ended in {other:?}"),
        }
        assert_ended(&harness.outcome(watch));
        harness.close_all([near, far]);
    }
}

/// Removes the content of a file from the system's memory.
#[cfg(target_os = "linux")]
fn drop_from_memory(path: &std::path::Path) {
    let file = std::fs::File::open(path).expect("the file exists");
    file.sync_all().expect("the file can be synced");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice is accepted");
}

/// Returns whether the content of files can be removed from the system's memory, tried with a file
/// at this path: a read of it must then wait. A file system in memory keeps its files, for example.
#[cfg(target_os = "linux")]
fn can_drop_from_memory(path: &std::path::Path) -> bool {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    std::fs::write(path, b"content").expect("the file can be written");
    drop_from_memory(path);
    let file = std::fs::File::open(path).expect("the file exists");
    let mut byte = [0];
    let room = &mut [std::io::IoSliceMut::new(&mut byte)];
    preadv2(&file, room, 0, ReadWriteFlags::NOWAIT) == Err(Errno::AGAIN)
}

pub fn one_file_goes_to_many_at_once(harness: &Harness) {
    let dir = TestDir::new(harness);
    let content = pattern(700_001, 9);
    std::fs::write(dir.path("file"), &content).expect("the file can be written");
    let (file, _) = dir.open("file").expect("the file exists");
    let listening = harness.listen(harness.lane(0));
    let pairs: Vec<_> = (0..30).map(|_| harness.pair_by(listening)).collect();
    let mut flows = Vec::new();
    for (near, far) in &pairs {
        let reader = Reader::start(harness, *far, 1);
        let sender = Sender::start_gather(harness, *near, whole(&file, content.len()));
        flows.push((sender, reader));
    }
    for ((near, _), (sender, reader)) in pairs.iter().zip(&flows) {
        assert_eq!(sender.wait(harness), Ok(()));
        harness.shutdown(*near);
        let (got, end) = reader.wait(harness);
        assert_same(&got, &content);
        assert_eq!(end, Ok(()));
    }
    harness.unlisten(listening);
    for (near, far) in pairs {
        harness.close_all([near, far]);
    }
}
