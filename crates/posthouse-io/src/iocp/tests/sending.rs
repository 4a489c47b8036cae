//! Sends of memory and of files that fail.

use std::io::Read as _;

use super::*;

/// A send that is cancelled as soon as it has begun succeeds as long as the system takes it at
/// once. The first send that waits for the peer ends with the cancellation, and does not report
/// zero bytes.
#[test]
fn a_send_through_a_layered_provider_fails_in_its_own_words() {
    for layout in [Layout::Shared, Layout::Pinned] {
        let port = open(layout, TestFaults { layered: true, ..TestFaults::default() });
        let (listener, address) = std_listener();
        let mut near = None;
        spawn(&port, move |lane| {
            let near = *near.get_or_insert_with(|| {
                let socket = lane.socket();
                lane.submit(Tag(0), Op::Connect(socket, address));
                socket
            });
            while let Some(completion) = lane.next_completion() {
                match completion.outcome {
                    Outcome::Sent { bytes: 0, .. } => panic!("a failure, not a send of no bytes"),
                    Outcome::Connected | Outcome::Sent { .. } => {
                        let mut gather = Gather::default();
                        gather.push(Segment::Owned(vec![0; 256 * 1024]));
                        lane.submit(Tag(1), Op::Send(near, gather));
                        lane.cancel(near, crate::Cancel::Everything);
                    }
                    Outcome::Failed(error) => {
                        assert_eq!(error.failure, Failure::Cancelled);
                        lane.submit(Tag(2), Op::Close(near));
                    }
                    Outcome::Closed => return Turn::Done,
                    other => panic!("{other:?}"),
                }
            }
            Turn::Sleep(None)
        });
        let peer = listener.accept().expect("a peer");
        assert_at_rest(&port);
        drop(peer);
    }
}

/// If the system cannot send a file, the stream stays in step: zeros leave, and the sender learns
/// of it.
#[test]
fn a_file_that_the_system_does_not_send_is_made_up_with_zeros() {
    let refused = TestFaults { no_files: true, ..TestFaults::default() };
    everywhere(refused, |port| {
        let sent = send_a_file(port);
        assert_eq!(sent.came, [vec![0; 1000], b"tail".to_vec()].concat());
        let failed = FileFault::Failed(Error::new(Failure::Unsupported));
        assert_eq!((sent.fault, sent.failure), (Some(failed), None));
    });
}

/// The number of bytes that left is unknown, so nothing follows: neither zeros nor the next
/// segment. The file is at fault if the error number is about files.
#[test]
fn a_file_that_fails_on_its_way_ends_the_connection_and_is_told_of() {
    let told = |code| FileFault::Failed(sys::error(code));
    for (code, fault, failure) in [
        (33, Some(told(33)), Failure::Locked),
        (23, Some(told(23)), Failure::Disk),
        (1117, Some(told(1117)), Failure::Disk),
        (38, Some(FileFault::Short), Failure::Other),
        // An error of the connection, and a transient error, which is not retried.
        (64, None, Failure::Reset),
        (1450, None, Failure::Reset),
    ] {
        for layout in [Layout::Shared, Layout::Pinned] {
            let fails =
                TestFaults { file_error: Some(code), layered: true, ..TestFaults::default() };
            let sent = send_a_file(&open(layout, fails));
            assert_eq!((sent.fault, sent.failure), (fault, Some(failure)), "{code}, {layout:?}");
            assert!(sent.came.len() <= 1000, "nothing follows");
        }
    }
}

/// The result of a send of a file.
#[derive(Debug, Default)]
struct Sent {
    fault: Option<FileFault>,
    failure: Option<Failure>,
    came: Vec<u8>,
}

/// Sends 1000 bytes of a file and four more bytes, on a worker that then ends.
fn send_a_file(port: &CompletionPort) -> Sent {
    let (listener, address) = std_listener();
    let (directory, file) = file_ops::file_with(&[7; 1000]);
    let mut gather = Gather::default();
    gather.push(Segment::File(Box::new(FilePart::new(file, 0, 1000))));
    gather.push(Segment::Owned(b"tail".to_vec()));
    let mut gather = Some(gather);
    let mut near = None;
    let sent = Arc::new(Mutex::new(Sent::default()));
    let told = sent.clone();
    spawn(port, move |lane| {
        let near = *near.get_or_insert_with(|| {
            let socket = lane.socket();
            lane.submit(Tag(0), Op::Connect(socket, address));
            socket
        });
        while let Some(completion) = lane.next_completion() {
            match completion.outcome {
                Outcome::Connected => {
                    let gather = gather.take().expect("it connects once");
                    lane.submit(Tag(1), Op::Send(near, gather));
                }
                Outcome::Sent { bytes, mut gather } => {
                    gather.advance(bytes, |segment| {
                        if let Segment::File(part) = segment {
                            lock(&told).fault = part.fault();
                        }
                    });
                    let done = gather.is_empty();
                    let next = if done { Op::Close(near) } else { Op::Send(near, gather) };
                    lane.submit(Tag(2), next);
                }
                Outcome::Failed(error) => {
                    lock(&told).failure = Some(error.failure);
                    lane.submit(Tag(2), Op::Close(near));
                }
                Outcome::Closed => return Turn::Done,
                other => panic!("{other:?}"),
            }
        }
        Turn::Sleep(None)
    });
    let (mut peer, _) = listener.accept().expect("a peer");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut came = Vec::new();
    peer.read_to_end(&mut came).expect("all of it");
    assert_at_rest(port);
    drop(directory);
    Sent { came, ..std::mem::take(&mut *lock(&sent)) }
}
