use super::*;
use crate::transfer::harness::{End, failure_of, take_operation};
use crate::transfer::prefix_hasher::PREFIX_READ_BYTES;
use crate::transfer::{abort_code, file_hash};

/// A sender. The harness performs its actions, except those on the disk.
#[expect(clippy::struct_excessive_bools, reason = "what the harness has seen")]
struct Harness {
    sender: FileSender<&'static str>,
    operations: Vec<(OpNumber, SenderOp)>,
    frames: Vec<SenderFrame>,
    /// Whether the sender gets the place of an open file at once.
    grants_files: bool,
    /// Whether the file is open.
    is_open: bool,
    /// The hash of the file, if it is known.
    known: Option<[u8; 32]>,
    end: Option<(End, Tell)>,
    lent: usize,
    is_released: bool,
    prefers_unread: bool,
    now: Duration,
}

const CONTENT: &[u8] = b"0123456789";
const FACTS: FileFacts = FileFacts { bytes: 10, modified_ns: 3 };

impl Harness {
    fn new() -> Self {
        let mut harness = Self {
            sender: FileSender::new(4),
            operations: Vec::new(),
            frames: Vec::new(),
            grants_files: true,
            is_open: false,
            known: None,
            end: None,
            lent: 0,
            is_released: false,
            prefers_unread: false,
            now: Duration::ZERO,
        };
        harness.run();
        harness
    }

    fn run(&mut self) {
        let prefers_unread = self.prefers_unread;
        let mut prefers_unread = |_| prefers_unread;
        let mut sizes = ChunkSizes { max_bytes: 100, prefers_unread: &mut prefers_unread };
        while let Some(action) = self.sender.poll(self.now, &mut sizes) {
            assert!(!self.is_released, "{action:?} after the last action");
            match action {
                SenderAction::Disk { number, op } => self.operations.push((number, op)),
                SenderAction::Frame(frame) => self.frames.push(frame),
                SenderAction::NeedFile => {
                    assert_eq!(self.sender.open_files(), 0, "it waits for a place and has one");
                    if self.grants_files {
                        self.sender.grant_file();
                    }
                }
                SenderAction::Close => {
                    assert_eq!(self.sender.open_files(), 0);
                    assert!(std::mem::take(&mut self.is_open) && self.operations.is_empty());
                }
                SenderAction::Need(bytes) => {
                    assert!((1..=PREFIX_READ_BYTES).contains(&bytes));
                    self.lent += 1;
                    self.sender.grant(Vec::new());
                }
                SenderAction::NeedRest => {
                    self.lent += 1;
                    self.sender.grant(Vec::new());
                }
                SenderAction::Free(_) => self.lent -= 1,
                SenderAction::Notify(SenderEvent::Ended { result, tell }) => {
                    assert!(self.end.replace((result, tell)).is_none(), "told once");
                }
                SenderAction::Notify(SenderEvent::ResumedFrom(_)) => {}
                SenderAction::Release => self.is_released = true,
            }
        }
    }

    fn answer(&mut self, op: &SenderOp, result: Result<DiskOutcome, ()>) -> &mut Self {
        let (number, op) = take_operation(&mut self.operations, op);
        if let (SenderOp::Read { .. }, Err(())) = (&op, &result) {
            self.lent -= 1; // it failed with its memory
        }
        if let Ok(DiskOutcome::Opened { .. } | DiskOutcome::Reopened { .. }) = &result {
            assert_eq!(self.sender.open_files(), 1);
            self.is_open = true;
        }
        let failure = DiskFailure::Other;
        self.sender.on_disk(number, result.map_err(|()| DiskError { failure, error: "disk" }));
        self.run();
        self
    }

    fn opened(known: Option<[u8; 32]>) -> Self {
        let mut harness = Self::new();
        harness.answer(&SenderOp::Open, Ok(DiskOutcome::Opened { facts: FACTS, known }));
        assert_eq!(harness.frames.pop(), Some(SenderFrame::Offer));
        assert!(!harness.is_open, "it is open while an accept is awaited");
        harness.known = known;
        harness
    }

    /// Accepts, and opens the offered file again.
    fn accept(&mut self, offset: u64, limit: u64, prefix: &[u8]) -> &mut Self {
        self.accept_only(offset, limit, prefix);
        self.reopened(FACTS, true)
    }

    fn accept_only(&mut self, offset: u64, limit: u64, prefix: &[u8]) -> &mut Self {
        self.sender.on_accept(offset, limit, file_hash(prefix));
        self.run();
        self
    }

    fn reopened(&mut self, facts: FileFacts, same_file: bool) -> &mut Self {
        let known = self.known;
        self.answer(&SenderOp::Reopen, Ok(DiskOutcome::Reopened { facts, same_file, known }))
    }

    fn credit(&mut self, limit: u64) -> &mut Self {
        self.sender.on_credit(limit);
        self.run();
        self
    }

    /// Answers a read with this number of bytes of the file.
    fn read(&mut self, offset: usize, asked: usize, bytes: usize) -> &mut Self {
        let memory = CONTENT[offset..][..bytes].to_vec();
        self.answer(&read(offset, asked), Ok(DiskOutcome::Read(memory)))
    }

    fn chunk(&mut self) -> Option<Vec<u8>> {
        let chunk = self.sender.take_chunk();
        self.run();
        match chunk? {
            Chunk::Memory(memory) => {
                self.lent -= 1;
                Some(memory)
            }
            Chunk::Unread { offset, bytes } => Some(CONTENT[offset as usize..][..bytes].to_vec()),
        }
    }

    fn checked(&mut self) -> &mut Self {
        self.answer(&SenderOp::Metadata, Ok(DiskOutcome::Metadata(FACTS)))
    }

    fn confirm(&mut self, hash: [u8; 32]) -> &mut Self {
        self.sender.on_done(hash);
        self.run();
        self
    }

    fn failed(&self) -> &TransferFailure<&'static str> {
        failure_of(self.end.as_ref())
    }

    fn assert_over(&self) {
        assert!(self.is_released && self.operations.is_empty(), "{:?}", self.operations);
        assert_eq!((self.lent, self.sender.operations().count()), (0, 0));
        assert!(self.end.is_some() && self.sender.is_ended());
    }
}

fn read(offset: usize, bytes: usize) -> SenderOp {
    SenderOp::Read { offset: offset as u64, bytes, memory: Vec::new() }
}

#[test]
fn a_file_is_read_ahead_sent_in_order_checked_and_confirmed() {
    let mut it = Harness::opened(None);
    it.accept(0, u64::MAX, b"");
    assert_eq!(it.operations.len(), 2, "reads run ahead");
    it.read(4, 4, 4);
    assert!(!it.sender.has_chunk() && it.chunk().is_none(), "the first comes first");
    it.read(0, 4, 4);
    assert_eq!((it.chunk().as_deref(), it.sender.sent()), (Some(&b"0123"[..]), 4));
    it.read(8, 2, 2);
    assert_eq!(it.chunk().as_deref(), Some(&b"4567"[..]));
    assert_eq!(it.chunk().as_deref(), Some(&b"89"[..]));
    it.checked();
    assert_eq!(it.frames, [SenderFrame::Done(file_hash(CONTENT))]);
    assert!(it.end.is_none() && !it.is_open, "it is open while done is awaited");
    it.confirm(file_hash(CONTENT));
    assert_eq!(it.end, Some((Ok(file_hash(CONTENT)), Tell::Nobody)));
    it.assert_over();
}

#[test]
fn nothing_is_read_or_sent_beyond_the_credit_and_short_reads_are_filled() {
    let mut it = Harness::opened(None);
    assert!(it.operations.is_empty());
    it.accept(0, 5, b"").read(4, 1, 1).read(0, 4, 3);
    assert_eq!(it.chunk().as_deref(), Some(&b"012"[..]));
    assert!(it.chunk().is_none());
    it.read(3, 1, 1);
    assert_eq!(it.chunk().as_deref(), Some(&b"3"[..]));
    assert_eq!(it.chunk().as_deref(), Some(&b"4"[..]));
    it.credit(4);
    assert!(it.operations.is_empty(), "less than before means nothing");
    it.credit(6).read(5, 1, 1);
    assert_eq!(it.chunk().as_deref(), Some(&b"5"[..]));
    it.credit(u64::MAX).read(6, 4, 4);
    assert_eq!(it.chunk().as_deref(), Some(&b"6789"[..]));
    it.credit(u64::MAX).checked();
    assert_eq!(it.frames, [SenderFrame::Done(file_hash(CONTENT))]);
}

#[test]
fn what_the_receiver_holds_is_compared_and_part_of_the_hash() {
    let mut it = Harness::opened(None);
    it.accept(6, 6, &CONTENT[..6]);
    assert!(it.sender.is_sending());
    it.credit(u64::MAX).read(0, 6, 1).read(1, 5, 5);
    it.read(6, 4, 4);
    assert_eq!(it.chunk().as_deref(), Some(&b"6789"[..]));
    it.checked();
    assert_eq!(it.frames, [SenderFrame::Done(file_hash(CONTENT))]);

    let mut it = Harness::opened(None);
    it.accept(10, 10, CONTENT).read(0, 10, 10).checked();
    assert_eq!(it.frames, [SenderFrame::Done(file_hash(CONTENT))], "it is there already");
}

#[test]
fn the_reads_of_a_prefix_are_as_large_with_small_frames() {
    let size = 2 * PREFIX_READ_BYTES as u64 + 5;
    let mut it = Harness::new();
    let facts = FileFacts { bytes: size, modified_ns: 3 };
    it.answer(&SenderOp::Open, Ok(DiskOutcome::Opened { facts, known: None }));
    it.accept_only(size, size, b"anything").reopened(facts, true);
    let reads = [0, PREFIX_READ_BYTES].map(|offset| read(offset, PREFIX_READ_BYTES));
    let operations: Vec<_> = it.operations.drain(..).collect();
    assert_eq!(operations.iter().map(|(_, op)| op).collect::<Vec<_>>(), [&reads[0], &reads[1]]);
    assert_eq!(it.sender.read_bytes(), 2 * PREFIX_READ_BYTES as u64);
    // The reads in flight count until they end.
    it.sender.end("given", Tell::Peer);
    it.run();
    for (left, (number, _)) in [PREFIX_READ_BYTES as u64, 0].into_iter().zip(operations) {
        it.sender.on_disk(number, Ok(DiskOutcome::Read(Vec::new())));
        it.run();
        assert_eq!(it.sender.read_bytes(), left);
    }
    it.assert_over();
}

#[test]
fn a_prefix_that_differs_is_offered_again_once() {
    let mut it = Harness::opened(None);
    it.accept(2, 10, b"xx").read(0, 2, 2);
    assert_eq!(it.frames.pop(), Some(SenderFrame::Offer));
    it.credit(9);
    assert!(it.end.is_none(), "credit crossed the offer");
    it.accept(2, 10, b"xx").read(0, 2, 2);
    assert_eq!(it.end, Some((Err(TransferFailure::PrefixDiffers), Tell::Peer)));
    it.assert_over();

    let mut it = Harness::opened(None);
    it.accept(2, 10, b"xx").read(0, 2, 2).accept(0, 3, b"").read(0, 3, 3);
    assert_eq!(it.chunk().as_deref(), Some(&b"012"[..]));
}

#[test]
fn an_empty_file_is_done_at_once() {
    let mut it = Harness::new();
    let facts = FileFacts { bytes: 0, modified_ns: 0 };
    it.answer(&SenderOp::Open, Ok(DiskOutcome::Opened { facts, known: None }));
    it.accept_only(0, 0, b"").reopened(facts, true);
    it.answer(&SenderOp::Metadata, Ok(DiskOutcome::Metadata(facts)));
    assert_eq!(it.frames[1..], [SenderFrame::Done(file_hash(b""))]);
}

#[test]
fn of_a_file_whose_hash_is_known_only_the_prefix_is_seen() {
    let whole = file_hash(CONTENT);
    let mut it = Harness::opened(Some(whole));
    it.prefers_unread = true;
    it.accept(2, u64::MAX, b"01").read(0, 2, 2);
    for offset in [2, 6] {
        assert_eq!(it.operations.len(), 1, "it does not run ahead");
        let byte = CONTENT[offset as usize];
        it.answer(&SenderOp::Probe { offset }, Ok(DiskOutcome::Read(vec![byte])));
        assert_eq!(it.sender.take_chunk(), Some(Chunk::Unread { offset, bytes: 4 }));
        it.run();
    }
    assert!(it.operations.is_empty(), "only when it has left is it known to be the file's");
    it.sender.chunk_left();
    it.run();
    it.checked();
    assert_eq!(it.frames, [SenderFrame::Done(whole)]);

    // Bytes that are read into memory are not hashed either.
    let mut it = Harness::opened(Some([7; 32]));
    it.accept(0, u64::MAX, b"").read(0, 4, 4).read(4, 4, 4);
    assert!(it.chunk().is_some() && it.chunk().is_some());
    it.read(8, 2, 2);
    assert!(it.chunk().is_some());
    it.checked();
    assert_eq!(it.frames, [SenderFrame::Done([7; 32])]);
}

#[test]
fn a_file_that_changes_is_given_up() {
    let shorter = TransferFailure::Changed("it became shorter");
    let mut it = Harness::opened(None);
    it.accept(0, u64::MAX, b"").answer(&read(0, 4), Ok(DiskOutcome::Read(Vec::new())));
    assert!(it.chunk().is_none());
    assert_eq!(it.failed(), &shorter);
    it.read(4, 4, 4).assert_over();

    let mut it = Harness::opened(None);
    it.accept(10, 10, CONTENT).answer(&read(0, 10), Ok(DiskOutcome::Read(Vec::new())));
    assert_eq!(it.failed(), &shorter);
    it.assert_over();

    let mut it = Harness::opened(Some([0; 32]));
    it.prefers_unread = true;
    it.accept(0, 4, b"").answer(&SenderOp::Probe { offset: 0 }, Ok(DiskOutcome::Read(b"0".into())));
    assert!(it.chunk().is_some());
    it.sender.chunk_cut();
    it.run();
    assert_eq!(it.failed(), &shorter);
    it.assert_over();

    for facts in [FileFacts { bytes: 11, ..FACTS }, FileFacts { modified_ns: 4, ..FACTS }] {
        let mut it = Harness::opened(None);
        it.accept(10, 10, CONTENT).read(0, 10, 10);
        it.answer(&SenderOp::Metadata, Ok(DiskOutcome::Metadata(facts)));
        assert!(it.frames.is_empty() && matches!(it.failed(), TransferFailure::Changed(_)));
        it.assert_over();
    }
}

#[test]
fn a_file_is_opened_again_for_an_accept_and_must_be_the_offered_one() {
    let mut it = Harness::opened(None);
    it.accept_only(0, 2, b"");
    assert!(!it.sender.is_sending() && it.sender.is_awaited());
    assert_eq!(it.sender.expires_at(Duration::ZERO, Duration::from_secs(30)), None);
    it.credit(5).reopened(FACTS, true);
    assert!(it.is_open);
    it.read(4, 1, 1).read(0, 4, 4);
    assert!(it.chunk().is_some() && it.chunk().is_some(), "credit counted meanwhile");

    let other_size = FileFacts { bytes: 11, ..FACTS };
    let other_time = FileFacts { modified_ns: 4, ..FACTS };
    for (facts, same_file) in
        [(FACTS, false), (other_size, true), (other_time, true), (other_time, false)]
    {
        for (offset, held) in [(0, &b""[..]), (4, &CONTENT[..4])] {
            let mut it = Harness::opened(None);
            it.accept_only(offset, 10, held).reopened(facts, same_file);
            // The receiver keeps its bytes of a file of the same size and time.
            let code = if facts == FACTS { abort_code::REPLACED } else { abort_code::CHANGED };
            assert_eq!(it.failed().code(), Some(code), "{facts:?}");
            assert_eq!(it.end.as_ref().map(|(_, tell)| *tell), Some(Tell::Peer));
            it.assert_over();
        }
    }

    for failure in [DiskFailure::NotFound, DiskFailure::Other] {
        let mut it = Harness::opened(None);
        it.accept_only(0, 10, b"");
        let (number, _) = take_operation(&mut it.operations, &SenderOp::Reopen);
        it.sender.on_disk(number, Err(DiskError { failure, error: "disk" }));
        it.run();
        let is_changed = matches!(it.failed(), TransferFailure::Changed(_));
        assert_eq!(is_changed, failure == DiskFailure::NotFound, "{:?}", it.failed());
        it.assert_over();
    }

    // The hash of the file that was opened last counts.
    let mut it = Harness::opened(None);
    it.known = Some([7; 32]);
    it.accept(10, 10, CONTENT).read(0, 10, 10).checked();
    assert_eq!(it.frames, [SenderFrame::Done([7; 32])]);

    // An end while the file is being opened again waits for it.
    let mut it = Harness::opened(None);
    it.accept_only(0, 10, b"");
    it.sender.end("given", Tell::Peer);
    it.run();
    assert!(!it.is_released);
    it.reopened(FACTS, true).assert_over();
}

#[test]
fn a_file_waits_for_its_place_and_its_receiver_is_told_that_it_is_awaited() {
    let mut it = Harness::opened(None);
    it.grants_files = false;
    it.accept_only(0, 10, b"");
    assert!(it.operations.is_empty() && it.sender.is_awaited());
    assert_eq!(it.sender.expires_at(Duration::ZERO, Duration::from_secs(30)), None);
    it.sender.grant_file();
    it.run();
    it.sender.grant_file();
    it.run();
    assert_eq!(it.operations.len(), 1, "a second place is not used");
    it.reopened(FACTS, true).read(0, 4, 4);
    assert!(it.chunk().is_some());

    let mut it = Harness::opened(None);
    it.grants_files = false;
    it.accept_only(0, 10, b"");
    it.sender.end("given", Tell::Peer);
    it.run();
    it.sender.grant_file();
    it.run();
    assert_eq!(it.sender.open_files(), 0, "it does not need a place any more");
    it.assert_over();
}

#[test]
fn an_idle_file_is_closed_and_opened_again_for_credit() {
    for known in [None, Some([7; 32])] {
        let mut it = Harness::opened(known);
        it.accept(0, 4, b"");
        assert_eq!(it.sender.idle_since(), None, "it is read");
        it.now = Duration::from_secs(3);
        it.read(0, 4, 4);
        it.sender.close_idle();
        it.run();
        assert!(it.is_open, "a chunk waits");
        it.chunk();
        assert_eq!(it.sender.idle_since(), Some(Duration::from_secs(3)));
        it.sender.close_idle();
        it.run();
        assert!(!it.is_open && it.sender.open_files() == 0 && it.operations.is_empty());
        assert_eq!(it.sender.idle_since(), None);
        it.credit(10);
        assert!(it.sender.is_awaited() && it.operations.len() == 1);
        // The hash is computed, or not, as from the beginning.
        it.known = if known.is_none() { Some([8; 32]) } else { None };
        it.reopened(FACTS, true).read(4, 4, 4).read(8, 2, 2);
        assert!(it.chunk().is_some() && it.chunk().is_some());
        it.checked();
        let hash = known.unwrap_or_else(|| file_hash(CONTENT));
        assert_eq!(it.frames, [SenderFrame::Done(hash)]);
    }
    let mut it = Harness::opened(None);
    it.accept(0, 4, b"").read(0, 4, 4).chunk();
    it.sender.close_idle();
    it.run();
    it.credit(10).reopened(FACTS, false);
    assert_eq!(it.failed(), &TransferFailure::Replaced);
    it.assert_over();
}

#[test]
fn a_receiver_that_breaks_the_rules_is_told_how() {
    type Input = fn(&mut FileSender<&'static str>);
    let early = |kind| TransferViolation::OutOfTurn { kind };
    let accept_twice: Input = |it| (0..2).for_each(|_| it.on_accept(0, 4, file_hash(b"")));
    let table: [(Input, TransferViolation); 7] = [
        (|it| it.on_credit(5), early(kind::CREDIT)),
        (|it| it.on_done([0; 32]), early(kind::DONE)),
        (
            |it| it.on_accept(11, u64::MAX, [0; 32]),
            TransferViolation::OffsetBeyondSize { offset: 11, size: 10 },
        ),
        (
            |it| it.on_accept(5, 4, [0; 32]),
            TransferViolation::LimitBelowOffset { limit: 4, offset: 5 },
        ),
        (|it| it.on_accept(0, 10, file_hash(b"x")), TransferViolation::PrefixOfNothing),
        (accept_twice, TransferViolation::AcceptedTwice),
        (
            |it| {
                it.on_accept(0, 4, file_hash(b""));
                it.on_done([0; 32]);
            },
            early(kind::DONE),
        ),
    ];
    for (input, violation) in table {
        let mut it = Harness::opened(None);
        input(&mut it.sender);
        it.run();
        assert_eq!(it.end, Some((Err(TransferFailure::Violation(violation)), Tell::Peer)));
    }
    let mut it = Harness::opened(None);
    it.accept(10, 10, CONTENT).read(0, 10, 10).checked();
    it.confirm([0; 32]);
    assert_eq!(it.failed(), &TransferFailure::Violation(TransferViolation::OtherHash));
    it.assert_over();
}

#[test]
fn an_end_or_a_failure_waits_for_what_is_in_flight() {
    let mut it = Harness::new();
    it.answer(&SenderOp::Open, Err(()));
    assert_eq!(it.end, Some((Err(TransferFailure::Given("disk")), Tell::Peer)));
    it.assert_over();

    let mut it = Harness::new();
    it.sender.end("given", Tell::Nobody);
    it.run();
    assert!(!it.is_released);
    it.answer(&SenderOp::Open, Ok(DiskOutcome::Opened { facts: FACTS, known: None }));
    assert_eq!(it.end, Some((Err(TransferFailure::Given("given")), Tell::Nobody)));
    it.assert_over();

    let mut it = Harness::opened(None);
    it.accept(0, u64::MAX, b"").read(4, 4, 4).answer(&read(0, 4), Err(()));
    assert_eq!(it.failed(), &TransferFailure::Given("disk"));
    it.credit(9).confirm([0; 32]).assert_over();

    let mut it = Harness::opened(None);
    it.accept(0, u64::MAX, b"");
    it.sender.end("given", Tell::Peer);
    it.run();
    it.read(4, 4, 4);
    assert!(!it.is_released && it.chunk().is_none());
    it.read(0, 4, 4).assert_over();
}

#[test]
fn it_expires_while_it_is_the_receivers_turn() {
    let idle = Duration::from_secs(30);
    let at = |it: &Harness| it.sender.expires_at(Duration::from_secs(5), idle);
    let mut it = Harness::new();
    assert_eq!(at(&it), None);
    it.now = Duration::from_secs(9);
    it.answer(&SenderOp::Open, Ok(DiskOutcome::Opened { facts: FACTS, known: None }));
    assert_eq!(at(&it), Some(Duration::from_secs(129)));
    it.accept(0, 4, b"");
    assert_eq!(at(&it), None, "it is read");
    it.now = Duration::from_secs(20);
    it.read(0, 4, 4);
    assert_eq!(at(&it), None, "a chunk can be sent");
    it.chunk();
    assert_eq!(at(&it), Some(Duration::from_secs(140)), "credit is awaited");
}

#[test]
fn sizes_beyond_four_gibibytes_and_the_largest_do_not_overflow() {
    for size in [9 << 30, u64::MAX] {
        let mut it = Harness::new();
        let facts = FileFacts { bytes: size, modified_ns: i64::MIN };
        it.answer(&SenderOp::Open, Ok(DiskOutcome::Opened { facts, known: Some([1; 32]) }));
        it.sender.on_accept(size, size, [0; 32]);
        it.run();
        it.reopened(facts, true);
        assert_eq!(it.operations.len(), 2);
        let sending = Sending::new(size - 5, size, Hasher::new());
        let mut it = Harness::new();
        it.answer(&SenderOp::Open, Ok(DiskOutcome::Opened { facts, known: Some([1; 32]) }));
        it.sender.state = State::Sending(Box::new(sending));
        it.sender.place = FilePlace::Held;
        it.run();
        let offsets = [size - 5, size - 1].map(|offset| SenderOp::Read {
            offset,
            bytes: if offset == size - 5 { 4 } else { 1 },
            memory: Vec::new(),
        });
        let operations: Vec<_> = it.operations.into_iter().map(|(_, op)| op).collect();
        assert_eq!(operations, offsets);
    }
}
