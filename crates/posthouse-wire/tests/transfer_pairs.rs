//! One side sends a file and the other receives it, over two sessions whose streams are cut and
//! interleaved at random, with disks whose operations end in any order and do less than they were
//! asked for, and connections that break anywhere: the file arrives whole, never beyond the credit,
//! nothing else passes for it, and what the receiver's disk holds is always a beginning of it.

use std::collections::VecDeque;
use std::time::Duration;

use posthouse_wire::{
    CHUNK_HEAD_BYTES, Chunk, ChunkSizes, DiskError, DiskFailure, DiskOutcome, EndCause, Entry,
    EntryKind, FileFacts, FileReceiver, FileSender, Framing, OfferAttributes, OpNumber, Reader,
    ReaderConfig, ReceiverAction, ReceiverConfig, ReceiverEvent, ReceiverOp, Replace, Room,
    SenderAction, SenderEvent, SenderFrame, SenderOp, Session, SessionConfig, SessionEvent, Tell,
    TransferFailure, TransferFrame, encode_chunk_head, file_hash,
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
        let framing = Framing::Native;
        let max_payload_bytes = max_payload_bytes as usize;
        let reader_config = ReaderConfig { framing, max_payload_bytes };
        let reader = Reader::new();
        let mut out = Vec::new();
        let mut session = session;
        session.start(&config, [1; 16], &mut out);
        Self { config, session, reader, reader_config, out }
    }

    fn send_frame(&mut self, frame: TransferFrame<'_>) {
        frame.encode(self.session.send_limit(&self.config), &mut self.out).expect("it fits");
    }

    /// Takes a chunk off the wire; what frames of transfers do is up to `take`.
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
    sync: u64,
    max_payload: u32,
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (1_usize..700, 1_u64..3000, 1_u64..3000, 64_u32..900).prop_map(
        |(max_chunk, window, sync, max_payload)| Sizes { max_chunk, window, sync, max_payload },
    )
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

/// The next event of a run.
#[derive(Clone, Copy, Debug)]
enum Step {
    ToReceiver(Fraction),
    ToSender(Fraction),
    /// The sender's connection has room for a chunk.
    Send,
    /// One of the operations in flight ends: the first number chooses it, the second is the part of
    /// its bytes that it has read or written.
    SenderDisk(Fraction, Fraction),
    ReceiverDisk(Fraction, Fraction),
}

fn step() -> impl Strategy<Value = Step> {
    let part = || prop_oneof![Just(WHOLE), any::<u16>().prop_map(Fraction)];
    let which = || any::<u16>().prop_map(Fraction);
    prop_oneof![
        1 => part().prop_map(Step::ToReceiver),
        1 => part().prop_map(Step::ToSender),
        2 => Just(Step::Send),
        2 => (which(), part()).prop_map(|(which, part)| Step::SenderDisk(which, part)),
        2 => (which(), part()).prop_map(|(which, part)| Step::ReceiverDisk(which, part)),
    ]
}

/// The receiver's disk, which outlives the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Disk {
    part: Option<Vec<u8>>,
    file: Option<Vec<u8>>,
}

impl Disk {
    fn held(bytes: &[u8]) -> Self {
        Self { part: Some(bytes.to_vec()), file: None }
    }

    fn opened(&mut self) -> &mut Vec<u8> {
        self.file.as_mut().or(self.part.as_mut()).expect("a file that is open")
    }
}

type End = Result<[u8; 32], TransferFailure<&'static str>>;

/// A receiver with its disk operations in flight.
struct Receiving {
    receiver: FileReceiver<&'static str>,
    queue: VecDeque<u8>,
    in_flight: Vec<(OpNumber, ReceiverOp)>,
    /// The offset up to which the receiver allows the sender to send.
    limit: u64,
    received: u64,
    end: Option<End>,
    is_released: bool,
}

/// One connection with one transfer on it.
struct TransferRun<'a> {
    file: &'a [u8],
    disk: &'a mut Disk,
    sizes: Sizes,
    id: u32,
    sender: Peer,
    receiver: Peer,
    outgoing: FileSender<&'static str>,
    in_flight: Vec<(OpNumber, SenderOp)>,
    receiving: Option<Receiving>,
    sender_end: Option<End>,
    /// The number of offers of the file.
    offers: u32,
    /// Bytes of the file that were sent.
    sent: u64,
    /// The offset of a byte that is corrupted on its way, if any.
    corrupted_byte: Option<u64>,
}

impl<'a> TransferRun<'a> {
    fn new(file: &'a [u8], disk: &'a mut Disk, sizes: Sizes) -> Self {
        let mut sender = Peer::new(Session::connecting(), sizes.max_payload);
        let mut receiver = Peer::new(Session::accepted(), sizes.max_payload);
        receiver.receive(&std::mem::take(&mut sender.out), |_, _| panic!("a hello"));
        sender.receive(&std::mem::take(&mut receiver.out), |_, _| panic!("its answer"));
        let id = sender.session.first_transfer_id();
        assert!(sender.session.may_transfer() && receiver.session.may_transfer());
        let max = sender.session.send_limit(&sender.config) - CHUNK_HEAD_BYTES;
        let mut run = Self {
            file,
            disk,
            sizes,
            id,
            sender,
            receiver,
            outgoing: FileSender::new(sizes.max_chunk.min(max)),
            in_flight: Vec::new(),
            receiving: None,
            sender_end: None,
            offers: 0,
            sent: 0,
            corrupted_byte: None,
        };
        run.run_sender();
        run
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::ToReceiver(fraction) => self.deliver_to_receiver(fraction),
            Step::ToSender(fraction) => self.deliver_to_sender(fraction),
            Step::Send => self.send_chunk(),
            Step::SenderDisk(which, part) => self.sender_disk(which, part),
            Step::ReceiverDisk(which, part) => self.receiver_disk(which, part),
        }
    }

    // ---- the sender ----

    fn run_sender(&mut self) {
        let id = self.id;
        let size = self.file.len() as u64;
        let mut sizes = ChunkSizes { max_bytes: usize::MAX, prefers_unread: &mut |_| false };
        while let Some(action) = self.outgoing.poll(Duration::ZERO, &mut sizes) {
            match action {
                SenderAction::Disk { number, op } => self.in_flight.push((number, op)),
                SenderAction::Frame(SenderFrame::Offer) => {
                    self.offers += 1;
                    self.sender.send_frame(TransferFrame::Offer {
                        id,
                        in_reply_to: 0,
                        entry: Entry {
                            kind: EntryKind::File,
                            size,
                            modified_ns: None,
                            mode: None,
                            name: b"dir/file",
                        },
                        replace: Replace::Never,
                        attributes: OfferAttributes::default(),
                    });
                }
                SenderAction::Frame(SenderFrame::Done(hash)) => {
                    assert_eq!(hash, file_hash(self.file));
                    self.sender.send_frame(TransferFrame::Done { id, hash, delivery_id: None });
                }
                SenderAction::Need(_) | SenderAction::NeedRest => self.outgoing.grant(Vec::new()),
                SenderAction::Notify(SenderEvent::Ended { result, .. }) => {
                    assert!(self.sender_end.replace(result).is_none(), "told once");
                }
                SenderAction::NeedFile => self.outgoing.grant_file(),
                SenderAction::Close
                | SenderAction::Free(_)
                | SenderAction::Notify(_)
                | SenderAction::Release => {}
            }
        }
    }

    /// An operation of the sender ends: a read brings as much as was asked for, or less.
    fn sender_disk(&mut self, which: Fraction, part: Fraction) {
        let Some(last) = self.in_flight.len().checked_sub(1) else { return };
        let (number, op) = self.in_flight.remove(which.of(last));
        let facts = FileFacts { bytes: self.file.len() as u64, modified_ns: 0 };
        let outcome = match op {
            SenderOp::Open => DiskOutcome::Opened { facts, known: None },
            SenderOp::Reopen => DiskOutcome::Reopened { facts, same_file: true, known: None },
            SenderOp::Metadata => DiskOutcome::Metadata(facts),
            SenderOp::Read { offset, bytes, .. } => {
                let bytes = 1 + part.of(bytes - 1);
                DiskOutcome::Read(self.file[offset as usize..][..bytes].to_vec())
            }
            SenderOp::Probe { .. } => unreachable!("nothing is sent unread"),
        };
        self.outgoing.on_disk(number, Ok(outcome));
        self.run_sender();
    }

    fn send_chunk(&mut self) {
        let Some(Chunk::Memory(mut chunk)) = self.outgoing.take_chunk() else { return };
        let offset = self.outgoing.sent() - chunk.len() as u64;
        assert!((1..=self.sizes.max_chunk).contains(&chunk.len()));
        assert!(self.file[offset as usize..].starts_with(&chunk));
        let wrong = self.corrupted_byte.and_then(|at| at.checked_sub(offset));
        if let Some(byte) = wrong.and_then(|at| chunk.get_mut(at as usize)) {
            *byte ^= 0x10;
        }
        self.sent += chunk.len() as u64;
        let max = self.sender.session.send_limit(&self.sender.config);
        encode_chunk_head(self.id, chunk.len(), max, &mut self.sender.out).unwrap();
        self.sender.out.extend_from_slice(&chunk);
        self.run_sender();
    }

    fn deliver_to_sender(&mut self, fraction: Fraction) {
        let bytes = fraction.of(self.receiver.out.len());
        let chunk: Vec<u8> = self.receiver.out.drain(..bytes).collect();
        let Self { sender, outgoing, .. } = self;
        sender.receive(&chunk, |_, frame| match frame {
            TransferFrame::Accept { offset, limit, prefix, .. } => {
                outgoing.on_accept(offset, limit, prefix);
            }
            TransferFrame::Credit { limit, .. } => outgoing.on_credit(limit),
            TransferFrame::Done { hash, .. } => outgoing.on_done(hash),
            TransferFrame::Abort { .. } => outgoing.end("aborted", Tell::Nobody),
            other => panic!("{other:?}"),
        });
        self.run_sender();
    }

    // ---- the receiver ----

    fn deliver_to_receiver(&mut self, fraction: Fraction) {
        let bytes = fraction.of(self.sender.out.len());
        let chunk: Vec<u8> = self.sender.out.drain(..bytes).collect();
        let Self { receiver, receiving, sizes, .. } = self;
        receiver.receive(&chunk, |_, frame| match (frame, &mut *receiving) {
            (TransferFrame::Offer { .. }, Some(receiving)) => {
                receiving.receiver.offered_again().expect("something is held");
            }
            (TransferFrame::Offer { id, entry, attributes, .. }, none) => {
                let Sizes { window: window_bytes, sync: sync_bytes, .. } = *sizes;
                let config = ReceiverConfig {
                    id,
                    kind: entry.kind,
                    size: entry.size,
                    delivery_id: attributes.delivery_id,
                    window_bytes,
                    sync_bytes,
                };
                *none = Some(Receiving::new(config));
            }
            (TransferFrame::Chunk { bytes, .. }, Some(receiving)) => {
                receiving.receiver.on_chunk(bytes).expect("within the credit");
                receiving.queue.extend(bytes);
                receiving.received += bytes.len() as u64;
                assert!(receiving.received <= receiving.limit);
                assert!(receiving.queue.len() as u64 <= sizes.window);
            }
            (TransferFrame::Done { hash, .. }, Some(receiving)) => receiving.receiver.on_done(hash),
            (other, _) => panic!("{other:?}"),
        });
        self.run_receiver();
    }

    fn run_receiver(&mut self) {
        let Some(receiving) = &mut self.receiving else { return };
        while let Some(action) = receiving.receiver.poll(Duration::ZERO) {
            match action {
                ReceiverAction::Disk { number, op } => receiving.in_flight.push((number, op)),
                ReceiverAction::Frame(frame) => {
                    receiving.said(&frame);
                    self.receiver.send_frame(frame);
                }
                ReceiverAction::NeedFile => receiving.receiver.grant_file(),
                ReceiverAction::Need(_) | ReceiverAction::NeedRest => {
                    receiving.receiver.grant(Vec::new());
                }
                ReceiverAction::Window(_) => receiving.receiver.extend(),
                ReceiverAction::Room(Room::Reserve { .. }) => receiving.receiver.on_room(true),
                ReceiverAction::Notify(ReceiverEvent::Ended { result, tell }) => {
                    if tell == Tell::Peer {
                        let abort = TransferFrame::Abort { id: self.id, code: 4, text: b"" };
                        self.receiver.send_frame(abort);
                    }
                    assert!(receiving.end.replace(result).is_none(), "told once");
                }
                ReceiverAction::Release => receiving.is_released = true,
                ReceiverAction::Discard => {
                    // The disk does not fail, so only bytes of a wrong file are dropped.
                    assert_eq!(receiving.end, Some(Err(TransferFailure::HashDiffers)));
                    receiving.queue.clear();
                }
                ReceiverAction::Room(_) | ReceiverAction::Notify(_) | ReceiverAction::Free(_) => {}
            }
        }
        receiving.check_in_flight();
    }

    /// An operation of the receiver ends: it reads or writes as much as was asked for, or less.
    fn receiver_disk(&mut self, which: Fraction, part: Fraction) {
        let Some(receiving) = &mut self.receiving else { return };
        let Some(last) = receiving.in_flight.len().checked_sub(1) else { return };
        let (number, op) = receiving.in_flight.remove(which.of(last));
        let result = receiving.perform(&op, self.disk, part);
        receiving.receiver.on_disk(number, result);
        self.run_receiver();
    }

    // ---- the end ----

    fn verdict(&self) -> Option<&End> {
        self.receiving.as_ref()?.end.as_ref()
    }

    /// Everybody does all there is to do, until it is over.
    fn finish(&mut self) {
        for _ in 0..100_000 {
            if self.sender_end.is_some() && self.receiving.as_ref().is_some_and(|it| it.is_released)
            {
                return;
            }
            self.step(Step::ToReceiver(WHOLE));
            self.step(Step::ToSender(WHOLE));
            self.step(Step::Send);
            self.step(Step::SenderDisk(WHOLE, WHOLE));
            self.step(Step::ReceiverDisk(WHOLE, WHOLE));
        }
        panic!("the transfer stands still");
    }

    /// The connection breaks: what was in flight ends, what has come is written.
    fn break_off(&mut self) {
        if let Some(receiving) = &mut self.receiving {
            receiving.receiver.end("gone", EndCause::Connection);
        }
        self.run_receiver();
        while self.receiving.as_ref().is_some_and(|it| !it.in_flight.is_empty()) {
            self.receiver_disk(WHOLE, WHOLE);
        }
        assert!(self.receiving.as_ref().is_none_or(|it| it.is_released));
        self.outgoing.end("gone", Tell::Nobody);
        self.run_sender();
        while !self.in_flight.is_empty() {
            self.sender_disk(WHOLE, WHOLE);
        }
        assert!(self.outgoing.is_ended());
    }
}

impl Receiving {
    fn new(config: ReceiverConfig) -> Self {
        Self {
            receiver: FileReceiver::new(config),
            queue: VecDeque::new(),
            in_flight: Vec::new(),
            limit: 0,
            received: 0,
            end: None,
            is_released: false,
        }
    }

    fn said(&mut self, frame: &TransferFrame<'_>) {
        match *frame {
            TransferFrame::Accept { offset, limit, .. } => {
                self.received = offset;
                self.limit = limit;
            }
            TransferFrame::Credit { limit, .. } => {
                assert!(limit > self.limit);
                self.limit = limit;
            }
            TransferFrame::Done { .. } => {}
            ref other => panic!("{other:?}"),
        }
    }

    /// Beside a write or a truncation only a sync is in flight; a publication is alone.
    fn check_in_flight(&self) {
        let count = |is_it: fn(&ReceiverOp) -> bool| {
            self.in_flight.iter().filter(|(_, op)| is_it(op)).count()
        };
        let writes = count(|op| matches!(op, ReceiverOp::Write { .. }));
        let syncs = count(|op| matches!(op, ReceiverOp::Sync));
        let reads = count(|op| matches!(op, ReceiverOp::Read { .. }));
        assert!(writes <= 1 && syncs <= 1, "{:?}", self.in_flight);
        let others = self.in_flight.len() - writes - syncs - reads;
        assert!(others + usize::from(reads + writes + syncs > 0) <= 1, "{:?}", self.in_flight);
        assert!(reads == 0 || writes + syncs == 0, "{:?}", self.in_flight);
    }

    fn perform(
        &mut self,
        op: &ReceiverOp,
        disk: &mut Disk,
        fraction: Fraction,
    ) -> Result<DiskOutcome, DiskError<&'static str>> {
        Ok(match *op {
            ReceiverOp::LookUpDirectory | ReceiverOp::MakeDirectory => {
                unreachable!("a file is offered")
            }
            ReceiverOp::LookUp => {
                let not_found = DiskError { failure: DiskFailure::NotFound, error: "not found" };
                let file = disk.file.as_ref().ok_or(not_found)?;
                DiskOutcome::Found { bytes: file.len() as u64 }
            }
            ReceiverOp::OpenPart => {
                let part = disk.part.get_or_insert_default();
                DiskOutcome::Part { bytes: part.len() as u64 }
            }
            ReceiverOp::Read { offset, bytes, .. } => {
                let bytes = 1 + fraction.of(bytes - 1);
                DiskOutcome::Read(disk.opened()[offset as usize..][..bytes].to_vec())
            }
            ReceiverOp::Truncate => {
                disk.opened().clear();
                DiskOutcome::Done
            }
            ReceiverOp::Write { offset, .. } => {
                assert_eq!(offset, disk.opened().len() as u64, "in order, without gaps");
                let bytes = 1 + fraction.of(self.queue.len() - 1);
                disk.opened().extend(self.queue.drain(..bytes));
                DiskOutcome::Written(bytes)
            }
            ReceiverOp::Publish => {
                assert!(disk.file.is_none());
                disk.file.clone_from(&disk.part);
                DiskOutcome::Done
            }
            ReceiverOp::RemovePart => {
                disk.part = None;
                DiskOutcome::Done
            }
            ReceiverOp::Sync
            | ReceiverOp::SyncName
            | ReceiverOp::Count
            | ReceiverOp::MakeRoom { .. } => DiskOutcome::Done,
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_file_cut_anywhere_goes_on_and_arrives_whole(
        size in 0_usize..5000,
        connections in vec((sizes(), vec(step(), 0..200)), 1..5),
    ) {
        let file = content(size, 0);
        let mut disk = Disk::default();
        for (sizes, steps) in connections {
            let mut run = TransferRun::new(&file, &mut disk, sizes);
            for step in steps {
                run.step(step);
            }
            run.break_off();
            prop_assert!(run.offers <= 1);
            for held in [&disk.part, &disk.file].into_iter().flatten() {
                prop_assert!(file.starts_with(held), "a beginning of the file at every moment");
            }
        }
        let held = [&disk.part, &disk.file].into_iter().flatten().map(Vec::len).max();
        let sizes = Sizes { max_chunk: 100, window: 300, sync: 500, max_payload: 900 };
        let mut run = TransferRun::new(&file, &mut disk, sizes);
        run.finish();
        prop_assert_eq!(run.verdict(), Some(&Ok(file_hash(&file))));
        prop_assert_eq!(run.sender_end, Some(Ok(file_hash(&file))));
        prop_assert_eq!(run.sent, (size - held.unwrap_or(0)) as u64, "nothing is sent twice");
        prop_assert_eq!(disk, Disk { part: None, file: Some(file) });
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
        let mut held = file[..held.min(size)].to_vec();
        let at = wrong.index(held.len());
        held[at] ^= 1;
        let mut disk = Disk::held(&held);
        let mut run = TransferRun::new(&file, &mut disk, sizes);
        for step in steps {
            run.step(step);
        }
        run.finish();
        prop_assert_eq!((run.offers, run.sent), (2, size as u64));
        prop_assert_eq!(run.verdict(), Some(&Ok(file_hash(&file))));
        prop_assert_eq!(disk, Disk { part: None, file: Some(file) });
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
        let mut disk = Disk::held(&file[..held]);
        let mut run = TransferRun::new(&file, &mut disk, sizes);
        run.corrupted_byte = Some((held + wrong.index(size - held)) as u64);
        for step in steps {
            run.step(step);
        }
        run.finish();
        prop_assert_eq!(run.verdict(), Some(&Err(TransferFailure::HashDiffers)));
        prop_assert_eq!(run.sender_end, Some(Err(TransferFailure::Given("aborted"))));
        prop_assert_eq!(disk, Disk::default(), "nothing of it is kept");
    }
}

#[test]
fn a_file_that_is_there_whole_is_confirmed_without_a_byte_sent() {
    let sizes = Sizes { max_chunk: 100, window: 1, sync: 1, max_payload: 64 };
    for size in [0, 1, 1000, 5000] {
        let file = content(size, 0);
        for disk in [Disk::held(&file), Disk { part: None, file: Some(file.clone()) }] {
            let mut disk = disk;
            let mut run = TransferRun::new(&file, &mut disk, sizes);
            run.finish();
            assert_eq!((run.sent, run.verdict()), (0, Some(&Ok(file_hash(&file)))));
            assert_eq!((run.offers, disk.file), (1, Some(file.clone())));
        }
    }
}
