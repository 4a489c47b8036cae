//! Tests that a file arrives whole and within the credit, and that the receiver accepts no other
//! content for it. The streams of the two sessions are cut and interleaved at random, the disk
//! writes at random times, and connections break anywhere.

use std::time::Duration;

use posthouse_wire::{
    Action, CHUNK_HEAD_BYTES, FileReceiver, FileSender, Framing, Reader, ReaderConfig, Session,
    SessionConfig, SessionEvent, TransferFrame, encode_chunk_head,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

fn content(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ seed).collect()
}

/// One end of a connection.
struct Peer {
    config: SessionConfig,
    session: Session,
    reader: Reader,
    reader_config: ReaderConfig,
    /// Bytes on their way to the other end.
    out: Vec<u8>,
}

impl Peer {
    fn new(session: Session, max_payload_bytes: u32) -> Self {
        let config = SessionConfig { max_payload_bytes, ..SessionConfig::default() };
        let (framing, max_payload_bytes) = (Framing::Native, max_payload_bytes as usize);
        let reader_config = ReaderConfig { framing, max_payload_bytes };
        let (reader, mut out) = (Reader::new(), Vec::new());
        let mut session = session;
        session.start(&config, [1; 16], &mut out);
        Self { config, session, reader, reader_config, out }
    }

    fn send_frame(&mut self, frame: TransferFrame<'_>) {
        frame.encode(self.session.send_limit(&self.config), &mut self.out).expect("it fits");
    }

    /// Receives a chunk of the stream, and passes each frame of transfers to `take`.
    fn receive(&mut self, mut chunk: &[u8], mut take: impl FnMut(&mut Vec<u8>, TransferFrame<'_>)) {
        let Self { config, session, reader, reader_config, out } = self;
        while let Some(frame) = reader.next(reader_config, usize::MAX, &mut chunk).expect("a frame")
        {
            let mut nonce = || [2; 16];
            let event = session.handle_frame(config, Duration::ZERO, &mut nonce, frame, out);
            match event.expect("nothing is wrong with it") {
                SessionEvent::Transfer(frame) => take(out, frame),
                SessionEvent::Established | SessionEvent::Nothing => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The sizes of one run, in bytes.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    max_chunk: usize,
    window: u64,
    max_payload: u32,
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (1_usize..700, 1_u64..3000, 64_u32..900).prop_map(|(max_chunk, window, max_payload)| Sizes {
        max_chunk,
        window,
        max_payload,
    })
}

/// A fraction of what is there, in units of 1/65,536.
#[derive(Clone, Copy, Debug)]
struct Fraction(u16);

const WHOLE: Fraction = Fraction(u16::MAX);

impl Fraction {
    /// Returns this fraction of `max`, from 0 to `max`.
    fn of(self, max: usize) -> usize {
        ((max + 1) * usize::from(self.0)) >> 16
    }
}

/// The next step of a run.
#[derive(Clone, Copy, Debug)]
enum Step {
    ToReceiver(Fraction),
    ToSender(Fraction),
    Read(Fraction),
    Write(Fraction),
}

fn step() -> impl Strategy<Value = Step> {
    let part = || prop_oneof![Just(WHOLE), any::<u16>().prop_map(Fraction)];
    prop_oneof![
        1 => part().prop_map(Step::ToReceiver),
        1 => part().prop_map(Step::ToSender),
        2 => part().prop_map(Step::Read),
        1 => part().prop_map(Step::Write),
    ]
}

/// The receiver of one connection. The bytes on its disk outlive the connection.
struct Receiving {
    incoming: FileReceiver,
    /// The position up to which the sender may send.
    limit: u64,
    /// The received bytes that are not on the disk.
    unwritten: Vec<u8>,
    /// Whether the sender's hash was right; `None` before it arrived.
    verdict: Option<bool>,
    confirmed: bool,
}

/// One connection with one transfer on it.
struct TransferRun<'a> {
    file: &'a [u8],
    disk: &'a mut Vec<u8>,
    sizes: Sizes,
    sender: Peer,
    receiver: Peer,
    outgoing: FileSender,
    receiving: Option<Receiving>,
    /// True exactly when the receiver has confirmed the file to the sender.
    sender_confirmed: bool,
    /// The number of times that the receiver's bytes were not a prefix of the file.
    restarts: u32,
    /// Bytes of the file that were sent.
    sent: u64,
    /// The position of the byte that is corrupted on its way.
    corrupted_byte: Option<u64>,
}

impl<'a> TransferRun<'a> {
    fn new(file: &'a [u8], disk: &'a mut Vec<u8>, sizes: Sizes) -> Self {
        let mut sender = Peer::new(Session::connecting(), sizes.max_payload);
        let mut receiver = Peer::new(Session::accepted(), sizes.max_payload);
        receiver.receive(&std::mem::take(&mut sender.out), |_, _| panic!("a hello"));
        sender.receive(&std::mem::take(&mut receiver.out), |_, _| panic!("its answer"));
        let id = sender.session.first_transfer_id();
        assert!(sender.session.may_transfer() && receiver.session.may_transfer());
        let max = sender.session.send_limit(&sender.config) - CHUNK_HEAD_BYTES;
        let max_chunk = sizes.max_chunk.min(max);
        let sizes = Sizes { max_chunk, ..sizes };
        let outgoing = FileSender::new(id, file.len() as u64, max_chunk);
        let mut run = Self {
            file,
            disk,
            sizes,
            sender,
            receiver,
            outgoing,
            receiving: None,
            sender_confirmed: false,
            restarts: 0,
            sent: 0,
            corrupted_byte: None,
        };
        run.offer();
        run
    }

    fn offer(&mut self) {
        let (id, size) = (self.outgoing.id(), self.file.len() as u64);
        self.outgoing = FileSender::new(id, size, self.sizes.max_chunk);
        self.sender.send_frame(TransferFrame::Offer {
            id,
            in_reply_to: 0,
            size,
            modified_ms: None,
            executable: false,
            name: b"dir/file",
        });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::ToReceiver(fraction) => self.deliver_to_receiver(fraction),
            Step::ToSender(fraction) => self.deliver_to_sender(fraction),
            Step::Read(fraction) => self.read(fraction),
            Step::Write(fraction) => self.write(fraction),
        }
    }

    fn deliver_to_receiver(&mut self, fraction: Fraction) {
        let bytes = fraction.of(self.sender.out.len());
        let chunk: Vec<u8> = self.sender.out.drain(..bytes).collect();
        let Self { receiver, receiving, disk, sizes, .. } = self;
        receiver.receive(&chunk, |out, frame| match frame {
            TransferFrame::Offer { id, size, .. } => {
                if receiving.take().is_some() {
                    disk.clear();
                }
                let mut incoming = FileReceiver::new(id, size, sizes.window);
                incoming.held(disk);
                let (offset, limit, prefix) = incoming.accept();
                assert_eq!(incoming.resumed_from(), offset);
                let accept = TransferFrame::Accept { id, offset, limit, prefix };
                accept.encode(64, out).unwrap();
                let (unwritten, verdict, confirmed) = (Vec::new(), None, false);
                *receiving = Some(Receiving { incoming, limit, unwritten, verdict, confirmed });
            }
            TransferFrame::Chunk { bytes, .. } => {
                let receiving = receiving.as_mut().expect("offered");
                receiving.incoming.chunk(bytes).expect("within the credit");
                receiving.unwritten.extend_from_slice(bytes);
                assert!(receiving.incoming.received() <= receiving.limit);
                assert!(receiving.unwritten.len() as u64 <= sizes.window);
            }
            TransferFrame::Done { hash, .. } => {
                let receiving = receiving.as_mut().expect("offered");
                receiving.verdict = Some(receiving.incoming.done(hash).expect("all is there"));
            }
            other => panic!("{other:?}"),
        });
        self.confirm();
    }

    fn deliver_to_sender(&mut self, fraction: Fraction) {
        let bytes = fraction.of(self.receiver.out.len());
        let chunk: Vec<u8> = self.receiver.out.drain(..bytes).collect();
        let Self { sender, outgoing, sender_confirmed, .. } = self;
        sender.receive(&chunk, |_, frame| match frame {
            TransferFrame::Accept { offset, limit, prefix, .. } => {
                outgoing.accepted(offset, limit, prefix).expect("a right accept");
                assert_eq!(outgoing.resumed_from(), offset);
            }
            TransferFrame::Credit { limit, .. } => outgoing.credit(limit).expect("accepted"),
            TransferFrame::Done { hash, .. } => {
                assert_eq!(outgoing.confirmed(hash), Ok(()));
                *sender_confirmed = true;
            }
            other => panic!("{other:?}"),
        });
    }

    /// Makes the sender read at most the requested bytes, and compare or send them.
    fn read(&mut self, fraction: Fraction) {
        let id = self.outgoing.id();
        match self.outgoing.next_action() {
            Action::Wait => {}
            Action::Prefix { offset, bytes } => {
                let at = offset as usize;
                let bytes = 1 + fraction.of(bytes - 1);
                if self.outgoing.prefix(&self.file[at..at + bytes]).is_err() {
                    assert_eq!(self.outgoing.next_action(), Action::Wait);
                    self.restarts += 1;
                    self.offer();
                }
            }
            Action::Chunk { offset, bytes } => {
                assert!((1..=self.sizes.max_chunk).contains(&bytes));
                let at = offset as usize;
                let mut chunk = self.file[at..at + 1 + fraction.of(bytes - 1)].to_vec();
                self.outgoing.chunk(&chunk);
                assert_eq!(self.outgoing.sent(), offset + chunk.len() as u64);
                let wrong = self.corrupted_byte.and_then(|at| at.checked_sub(offset));
                if let Some(byte) = wrong.and_then(|at| chunk.get_mut(at as usize)) {
                    *byte ^= 0x10;
                }
                self.sent += chunk.len() as u64;
                let max = self.sender.session.send_limit(&self.sender.config);
                encode_chunk_head(id, chunk.len(), max, &mut self.sender.out).unwrap();
                self.sender.out.extend_from_slice(&chunk);
            }
            Action::Done => {
                let hash = self.outgoing.done();
                assert_eq!(self.outgoing.next_action(), Action::Wait);
                assert_eq!(hash, *blake3::hash(self.file).as_bytes());
                self.sender.send_frame(TransferFrame::Done { id, hash });
            }
        }
    }

    /// Writes some of the received bytes to the receiver's disk.
    fn write(&mut self, fraction: Fraction) {
        let Some(receiving) = &mut self.receiving else { return };
        let bytes = fraction.of(receiving.unwritten.len());
        self.disk.extend(receiving.unwritten.drain(..bytes));
        if let Some(limit) = receiving.incoming.written(bytes as u64) {
            assert!(limit > receiving.limit && limit <= receiving.incoming.size());
            receiving.limit = limit;
            self.receiver.send_frame(TransferFrame::Credit { id: receiving.incoming.id(), limit });
        }
        self.confirm();
    }

    fn confirm(&mut self) {
        let Some(receiving) = &mut self.receiving else { return };
        if receiving.verdict == Some(true) && receiving.incoming.is_written() {
            let (id, hash) = (receiving.incoming.id(), receiving.incoming.hash());
            assert_eq!(hash, *blake3::hash(self.disk).as_bytes());
            if !std::mem::replace(&mut receiving.confirmed, true) {
                self.receiver.send_frame(TransferFrame::Done { id, hash });
            }
        }
    }

    fn verdict(&self) -> Option<bool> {
        self.receiving.as_ref()?.verdict
    }

    /// Runs all steps of both sides until the transfer is over.
    fn finish(&mut self) {
        for _ in 0..100_000 {
            if self.sender_confirmed || self.verdict() == Some(false) {
                return;
            }
            for step in [Step::ToReceiver, Step::ToSender, Step::Read, Step::Write] {
                self.step(step(WHOLE));
            }
        }
        panic!("the transfer stands still");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_file_cut_anywhere_goes_on_and_arrives_whole(
        size in 0_usize..5000,
        connections in vec((sizes(), vec(step(), 0..120)), 1..5),
    ) {
        let file = content(size, 0);
        let mut disk = Vec::new();
        let last = connections.len() - 1;
        for (at, (sizes, steps)) in connections.into_iter().enumerate() {
            let held = disk.len();
            let mut run = TransferRun::new(&file, &mut disk, sizes);
            for step in steps {
                run.step(step);
            }
            if at == last {
                run.finish();
                prop_assert_eq!(run.verdict(), Some(true));
                prop_assert_eq!(run.sent, (size - held) as u64, "nothing is sent twice");
            }
            prop_assert_eq!(run.restarts, 0);
            prop_assert!(file.starts_with(&disk));
        }
        prop_assert_eq!(disk, file);
    }

    #[test]
    fn what_is_held_of_another_file_is_always_found_and_the_right_one_arrives(
        size in 1_usize..3000,
        held in 1_usize..3000,
        wrong in any::<Index>(),
        sizes in sizes(),
        steps in vec(step(), 0..120),
    ) {
        let file = content(size, 0);
        let mut disk = file[..held.min(size)].to_vec();
        let at = wrong.index(disk.len());
        disk[at] ^= 1;
        let mut run = TransferRun::new(&file, &mut disk, sizes);
        for step in steps {
            run.step(step);
        }
        run.finish();
        prop_assert_eq!((run.restarts, run.verdict()), (1, Some(true)));
        prop_assert_eq!(run.sent, size as u64);
        prop_assert_eq!(disk, file);
    }

    #[test]
    fn a_byte_that_goes_wrong_on_its_way_is_always_found(
        size in 1_usize..3000,
        held in 0_usize..3000,
        wrong in any::<Index>(),
        sizes in sizes(),
        steps in vec(step(), 0..120),
    ) {
        let file = content(size, 0);
        let held = held.min(size - 1);
        let mut disk = file[..held].to_vec();
        let mut run = TransferRun::new(&file, &mut disk, sizes);
        run.corrupted_byte = Some((held + wrong.index(size - held)) as u64);
        for step in steps {
            run.step(step);
        }
        run.finish();
        prop_assert_eq!((run.verdict(), run.sender_confirmed), (Some(false), false));
    }
}

#[test]
fn a_file_that_is_there_whole_is_confirmed_without_a_byte_sent() {
    let sizes = Sizes { max_chunk: 100, window: 1, max_payload: 64 };
    for size in [0, 1, 1000, 5000] {
        let file = content(size, 0);
        let mut disk = file.clone();
        let mut run = TransferRun::new(&file, &mut disk, sizes);
        run.finish();
        assert_eq!((run.sent, run.verdict(), run.restarts), (0, Some(true), 0));
    }
}
