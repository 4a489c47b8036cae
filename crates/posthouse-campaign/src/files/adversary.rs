//! The adversaries: peers that break the protocol of transfers, at once or after some time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use posthouse_wire::{
    Chunk, ChunkSizes, DeliveryId, DiskOutcome, Entry, EntryKind, FileFacts, FileSender,
    OfferAttributes, Replace, SenderAction, SenderFrame, SenderOp, TransferFrame,
};

use super::SERVER_PLACE;
use super::disk_checker::hash;
use super::fixtures;
use super::transfer_checker::TransferChecker;
use crate::traffic::Rng;
use crate::{RAW_FRAME_BYTES, hello};
use posthouse::sim::RawStream;

const OFFER: u8 = 10;
const ACCEPT: u8 = 11;
const CHUNK: u8 = 12;
const CREDIT: u8 = 13;
const DONE: u8 = 14;
const ABORT: u8 = 15;
/// The position of the first attribute's type in the frame of an offer.
const OFFER_ATTRIBUTE_AT: usize = 5 + 4 + 4 + 19 + 2;
/// The minimum window of one file: a receiver grants it even if the file's share of the
/// connection's window is smaller.
const WINDOW_BYTES_LEAST: u64 = 128 * 1024;

/// A scripted peer of the server.
pub(super) struct Adversary {
    raw: RawStream,
    received: Vec<u8>,
    next_id: u32,
    /// True exactly when it may have sent an offer under a number that it does not know.
    spoiled_offer: bool,
    sending: BTreeMap<u32, Sending>,
    /// The files that it receives, by number: the bytes that the server may send, and has sent.
    getting: BTreeMap<u32, [u64; 2]>,
    window_bytes: u64,
    /// True exactly when it reads nothing and asks for replies without end.
    hoards: bool,
}

/// A file that an adversary offers, and may send.
struct Sending {
    name: String,
    part: String,
    content: Vec<u8>,
    sender: FileSender<Infallible>,
    delivery_id: DeliveryId,
    /// True exactly when a sent chunk differs from the hashed bytes.
    spoiled: bool,
    /// True exactly when a sent frame may make the server discard its part file. Credit that the
    /// server granted before that can still be on its way.
    disowned: bool,
    crashes: u64,
}

/// The next step of the sender of a file.
enum Move {
    Offer,
    Chunk(Vec<u8>),
    Done([u8; 32]),
}

impl Sending {
    /// Performs what the sender asks for, on a disk that answers at once, until it sends something.
    fn next_move(&mut self) -> Option<Move> {
        let Self { sender, content, .. } = self;
        let facts = FileFacts { bytes: content.len() as u64, modified_ns: 0 };
        let mut sizes = ChunkSizes { max_bytes: usize::MAX, prefers_unread: &mut |_| false };
        while let Some(action) = sender.poll(Duration::ZERO, &mut sizes) {
            let (number, op) = match action {
                SenderAction::Disk { number, op } => (number, op),
                SenderAction::Frame(SenderFrame::Offer) => return Some(Move::Offer),
                SenderAction::Frame(SenderFrame::Done(hash)) => return Some(Move::Done(hash)),
                SenderAction::Need(_) | SenderAction::NeedRest => {
                    sender.grant(Vec::new());
                    continue;
                }
                SenderAction::NeedFile => {
                    sender.grant_file();
                    continue;
                }
                SenderAction::Close
                | SenderAction::Free(_)
                | SenderAction::Notify(_)
                | SenderAction::Release => continue,
            };
            let outcome = match op {
                SenderOp::Open => DiskOutcome::Opened { facts, known: None },
                SenderOp::Reopen => DiskOutcome::Reopened { facts, same_file: true, known: None },
                SenderOp::Metadata => DiskOutcome::Metadata(facts),
                SenderOp::Read { offset, bytes, .. } => {
                    DiskOutcome::Read(content[offset as usize..][..bytes].to_vec())
                }
                SenderOp::Probe { .. } => unreachable!("no chunk is sent unread"),
            };
            sender.on_disk(number, Ok(outcome));
        }
        match sender.take_chunk()? {
            Chunk::Memory(chunk) => Some(Move::Chunk(chunk)),
            Chunk::Unread { .. } => unreachable!("no chunk is sent unread"),
        }
    }
}

/// A received frame, as far as an adversary parses it.
struct ReceivedFrame {
    kind: u8,
    payload: Vec<u8>,
}

impl ReceivedFrame {
    fn id(&self) -> u32 {
        self.payload.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn word(&self, at: usize) -> u64 {
        let bytes = self.payload.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn hash(&self, at: usize) -> [u8; 32] {
        let bytes = self.payload.get(at..).and_then(|rest| rest.first_chunk());
        bytes.copied().unwrap_or_default()
    }
}

impl Adversary {
    pub(super) fn new(raw: RawStream, window_bytes: usize, rng: &mut Rng) -> Self {
        // Some send no hello: then the server reads all of their frames as messages.
        if !rng.one_in(8) {
            raw.send(&hello(posthouse_wire::FEATURE_TRANSFERS));
        }
        Self {
            raw,
            received: Vec::new(),
            next_id: 1,
            spoiled_offer: false,
            sending: BTreeMap::new(),
            getting: BTreeMap::new(),
            window_bytes: (window_bytes as u64).max(WINDOW_BYTES_LEAST),
            hoards: rng.one_in(6),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.raw.is_refused() || self.raw.is_reset() || self.raw.is_ended()
    }

    fn new_id(&mut self) -> u32 {
        self.next_id += 2;
        self.next_id - 2
    }

    /// Raises the number of bytes that the server may send of a file, never lowers it.
    fn allow(&mut self, id: u32, limit: u64) {
        if let Some([allowed, _]) = self.getting.get_mut(&id) {
            *allowed = limit.max(*allowed);
        }
    }

    /// Notes that the next frame about a file may end or restart its transfer.
    fn disown(&mut self, id: u32) {
        if let Some(sending) = self.sending.get_mut(&id) {
            sending.disowned = true;
        }
    }

    fn send_frame(&self, frame: TransferFrame<'_>) {
        let mut bytes = Vec::new();
        if frame.encode(RAW_FRAME_BYTES, &mut bytes).is_ok() {
            self.raw.send(&bytes);
        }
    }

    /// Sends a frame with one wrong byte, which is not in its length.
    fn send_corrupted(&self, rng: &mut Rng, frame: TransferFrame<'_>) {
        let mut bytes = Vec::new();
        if frame.encode(RAW_FRAME_BYTES, &mut bytes).is_ok() {
            let at = 3 + rng.below(bytes.len() as u64 - 3) as usize;
            let kind = 9 + rng.below(31) as u8;
            // Never the kind of a message or a request: the checker verifies their payloads.
            bytes[at] = if at == 4 { kind } else { rng.next() as u8 };
            self.raw.send(&bytes);
        }
    }

    /// Handles received frames at once if a file is larger than the window, so that the check of
    /// credit sees the disk as it was when the server granted the credit.
    pub(super) fn watch_credit(&mut self, checker: &TransferChecker, rng: &mut Rng) {
        let mut sizes = self.sending.values().map(|sending| sending.content.len() as u64);
        if sizes.any(|size| size > self.window_bytes) && self.raw.received_bytes() > 0 {
            self.receive(checker, rng);
        }
    }

    fn receive(&mut self, checker: &TransferChecker, rng: &mut Rng) {
        self.received.extend(self.raw.take_received());
        while let Some(frame) = self.next_frame() {
            self.on_frame(checker, rng, &frame);
        }
    }

    /// Handles the received frames, then acts at random.
    pub(super) fn act(&mut self, checker: &TransferChecker, rng: &mut Rng) {
        if self.hoards {
            return self.hoard(rng);
        }
        self.receive(checker, rng);
        let ids: Vec<u32> = self.sending.keys().copied().collect();
        for id in ids {
            self.send_chunks(checker, rng, id);
        }
        if rng.one_in(3) {
            self.offer(checker, rng);
        } else {
            self.misbehave(rng);
        }
    }

    fn next_frame(&mut self) -> Option<ReceivedFrame> {
        let head = u32::from_le_bytes(*self.received.first_chunk()?);
        let end = 4 + (head & 0xff_ffff) as usize;
        if self.received.len() < end {
            return None;
        }
        let frame: Vec<u8> = self.received.drain(..end).collect();
        let (kind, payload) = frame[4..].split_first().expect("a frame has a kind");
        Some(ReceivedFrame { kind: *kind, payload: payload.to_vec() })
    }

    fn on_frame(&mut self, checker: &TransferChecker, rng: &mut Rng, frame: &ReceivedFrame) {
        let id = frame.id();
        match frame.kind {
            ACCEPT => {
                let offset = frame.word(4);
                let limit = frame.word(12);
                self.check_credit(checker, id, limit);
                if let Some(sending) = self.sending.get_mut(&id) {
                    // The transfer ends here if the adversary sent wrong frames before.
                    sending.sender.on_accept(offset, limit, frame.hash(20));
                }
            }
            CREDIT => {
                self.check_credit(checker, id, frame.word(4));
                if let Some(sending) = self.sending.get_mut(&id) {
                    sending.sender.on_credit(frame.word(4));
                }
            }
            OFFER => {
                let limit = rng.below(20_000);
                self.getting.insert(id, [limit, 0]);
                let offset = if rng.one_in(4) { rng.next() } else { 0 };
                let prefix = hash(b"");
                self.send_frame(TransferFrame::Accept { id, offset, limit, prefix });
            }
            CHUNK => {
                if let Some([limit, sent]) = self.getting.get_mut(&id) {
                    *sent += frame.payload.len() as u64 - 4;
                    if *sent > *limit {
                        let text = format!("C8: {sent} bytes of a file came, {limit} were allowed");
                        checker.ledger().wrong(text);
                    }
                }
            }
            DONE | ABORT => {
                if frame.kind == DONE {
                    self.check_delivery(checker, id, &frame.payload[36..]);
                }
                self.sending.remove(&id);
                self.getting.remove(&id);
            }
            _ => {}
        }
    }

    /// Checks that done returns the delivery id of the offer.
    fn check_delivery(&self, checker: &TransferChecker, id: u32, returned: &[u8]) {
        let known = self.sending.get(&id).filter(|it| !it.disowned && !self.spoiled_offer);
        if let Some(Sending { delivery_id: DeliveryId(expected), .. }) = known
            && returned != expected
        {
            checker.ledger().wrong(format!("done returns another delivery id: {returned:?}"));
        }
    }

    /// Checks that credit extends at most the window beyond the bytes that the server has written.
    fn check_credit(&self, checker: &TransferChecker, id: u32, limit: u64) {
        let known = self.sending.get(&id).filter(|it| !it.disowned && !self.spoiled_offer);
        let Some(sending) = known else { return };
        let written = checker.with_disks(|disks| {
            let crashed = disks.crashes(SERVER_PLACE) != sending.crashes;
            let part = disks.part(SERVER_PLACE, &sending.part);
            (!crashed).then(|| part.map_or(0, |bytes| bytes.len() as u64))
        });
        let size = sending.content.len() as u64;
        if let Some(written) = written
            && limit > (written + self.window_bytes).min(size)
        {
            let text = format!("C8: credit up to {limit} of {size}, {written} are written");
            checker.ledger().wrong(text);
        }
    }

    /// Offers a file, as the protocol prescribes.
    fn offer(&mut self, checker: &TransferChecker, rng: &mut Rng) {
        let name = fixtures::NAMES[rng.below(fixtures::NAMES.len() as u64) as usize];
        let content = if rng.one_in(12) {
            fixtures::content(rng.below(3), 150_000 + rng.below(200_000) as usize)
        } else {
            fixtures::some_content(rng)
        };
        let id = self.new_id();
        let size = content.len() as u64;
        let (part, crashes) = checker.with_disks(|disks| {
            let path = disks.path_of(SERVER_PLACE, name);
            let name = posthouse_wire::FileName::parse(&path).expect("a name of the fixtures");
            let part = posthouse_wire::part_file_name(&name, size, Some(0));
            (part, disks.crashes(SERVER_PLACE))
        });
        let chunk_bytes_max = 1 + rng.below(8_000) as usize;
        let sender = FileSender::new(chunk_bytes_max);
        let name = name.to_owned();
        let delivery_id = DeliveryId([rng.next() as u8; 16]);
        let sending = Sending {
            name,
            part,
            content,
            sender,
            delivery_id,
            spoiled: false,
            disowned: false,
            crashes,
        };
        self.sending.insert(id, sending);
        self.send_chunks(checker, rng, id);
    }

    fn send_offer(&self, id: u32) {
        let Sending { name, content, delivery_id, .. } = &self.sending[&id];
        let mut offer = offer_of(id, 0, content.len() as u64, name.as_bytes());
        if let TransferFrame::Offer { attributes, .. } = &mut offer {
            attributes.delivery_id = Some(*delivery_id);
        }
        self.send_frame(offer);
    }

    /// Sends some of the chunks that the server allows, now and then with one wrong byte.
    fn send_chunks(&mut self, checker: &TransferChecker, rng: &mut Rng, id: u32) {
        for _ in 0..=rng.below(30) {
            let Some(sending) = self.sending.get_mut(&id) else { return };
            match sending.next_move() {
                None => return,
                Some(Move::Offer) => self.send_offer(id),
                Some(Move::Chunk(mut chunk)) => {
                    if rng.one_in(40) {
                        chunk[0] ^= 1;
                        sending.spoiled = true;
                    }
                    self.send_frame(TransferFrame::Chunk { id, bytes: &chunk });
                }
                Some(Move::Done(hash)) => {
                    if !sending.spoiled {
                        let Sending { name, content, .. } = &*sending;
                        checker.with_disks(|disks| disks.add_version(name, content.clone()));
                    }
                    return self.send_frame(TransferFrame::Done { id, hash, delivery_id: None });
                }
            }
        }
    }

    /// Sends a frame that breaks the protocol.
    fn misbehave(&mut self, rng: &mut Rng) {
        let own: Vec<u32> = self.sending.keys().chain(self.getting.keys()).copied().collect();
        let id = own.get(rng.below(own.len() as u64) as usize).copied().unwrap_or(self.next_id);
        let id = if rng.one_in(6) { 1 + rng.below(64) as u32 } else { id };
        let name = fixtures::NAMES[rng.below(fixtures::NAMES.len() as u64) as usize].as_bytes();
        let limit = rng.below(70_000);
        let hash = [rng.next() as u8; 32];
        match rng.below(26) {
            0 => self.send_frame(TransferFrame::Chunk { id, bytes: &[7; 3000] }),
            1 => {
                self.disown(id);
                self.send_frame(TransferFrame::Done { id, hash, delivery_id: None });
            }
            2..=4 => {
                self.disown(id);
                self.send_frame(TransferFrame::Abort {
                    id,
                    code: rng.below(20) as u16,
                    text: b"!",
                });
            }
            5 => {
                self.allow(id, limit);
                self.send_frame(TransferFrame::Accept {
                    id,
                    offset: limit / 2,
                    limit,
                    prefix: hash,
                });
            }
            6 => {
                let limit = rng.next();
                self.allow(id, limit);
                self.send_frame(TransferFrame::Credit { id, limit });
            }
            7 | 8 => {
                let id = if id == self.next_id { self.new_id() } else { id };
                // A random number may be greater than all before. All numbers up to it are then
                // used.
                self.next_id = self.next_id.max((id | 1) + 2);
                self.disown(id);
                let name = if rng.one_in(2) { name } else { b"../up" };
                self.send_offer_of(id, rng.next() >> (1 + rng.below(63)), name);
            }
            9 if rng.one_in(4) => self.flood(rng, name),
            10..=14 => {
                let id = self.new_id();
                self.send_frame(TransferFrame::Get { id, name });
            }
            15 => {
                let id = self.new_id();
                self.send_frame(TransferFrame::List { id, after: b"" });
            }
            16 => self.send_corrupted_offer(rng, limit, name),
            20 => self.send_corrupted(rng, TransferFrame::Get { id, name }),
            21 => {
                self.disown(id);
                self.send_corrupted(rng, TransferFrame::Done { id, hash, delivery_id: None });
            }
            17 => self.raw.stop_reading(),
            18 => self.raw.resume_reading(),
            19 if rng.one_in(3) => self.raw.reset(),
            22 => self.send_odd_offer(rng, name),
            23 => self.send_frame(TransferFrame::Working { id }),
            _ => {}
        }
    }

    /// Offers a directory, a file that may replace another one, or one with an unknown attribute.
    fn send_odd_offer(&mut self, rng: &mut Rng, name: &[u8]) {
        let id = self.new_id();
        let TransferFrame::Offer { in_reply_to, mut entry, mut replace, mut attributes, .. } =
            offer_of(id, 0, 0, name)
        else {
            unreachable!("it is an offer")
        };
        match rng.below(3) {
            0 => {
                entry.kind = EntryKind::Directory;
                entry.name = b"made/by/an adversary";
            }
            1 => {
                replace = Replace::Permitted;
                entry.size = rng.below(3);
            }
            _ => attributes.delivery_id = Some(DeliveryId([9; 16])),
        }
        let has_attribute = attributes.delivery_id.is_some();
        let offer = TransferFrame::Offer { id, in_reply_to, entry, replace, attributes };
        let mut bytes = Vec::new();
        offer.encode(RAW_FRAME_BYTES, &mut bytes).expect("it fits");
        if has_attribute {
            bytes[OFFER_ATTRIBUTE_AT] = rng.next() as u8;
        }
        self.raw.send(&bytes);
    }

    fn send_offer_of(&self, id: u32, size: u64, name: &[u8]) {
        self.send_frame(offer_of(id, 0, size, name));
    }

    fn send_corrupted_offer(&mut self, rng: &mut Rng, size: u64, name: &[u8]) {
        let id = self.new_id();
        let in_reply_to = rng.below(4) as u32;
        self.send_corrupted(rng, offer_of(id, in_reply_to, size, name));
        // The wrong byte may have changed its number, perhaps to that of a later offer.
        self.spoiled_offer = true;
        self.next_id = self.next_id.max(257);
    }

    /// Asks for up to 300 lists, or files that do not exist, and reads no reply.
    fn hoard(&mut self, rng: &mut Rng) {
        self.raw.stop_reading();
        for _ in 0..rng.below(300) {
            let id = self.new_id();
            self.send_frame(match rng.below(4) {
                0 => TransferFrame::Get { id, name: b"missing" },
                _ => TransferFrame::List { id, after: b"" },
            });
        }
    }

    /// Offers up to 2,000 files and sends none of them.
    fn flood(&mut self, rng: &mut Rng, name: &[u8]) {
        for _ in 0..rng.below(2_000) {
            let id = self.new_id();
            self.send_offer_of(id, 1000, name);
        }
    }
}

fn offer_of(id: u32, in_reply_to: u32, size: u64, name: &[u8]) -> TransferFrame<'_> {
    TransferFrame::Offer {
        id,
        in_reply_to,
        entry: Entry { kind: EntryKind::File, size, modified_ns: Some(0), mode: Some(0o644), name },
        replace: Replace::Never,
        attributes: OfferAttributes::default(),
    }
}
