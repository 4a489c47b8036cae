//! The handler of the server and the clients: it offers, accepts, gets, lists and cancels files at
//! random, sends messages meanwhile, and ends connections at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::SERVER_PLACE;
use super::later::KeptOffer;
use super::transfer_checker::{Actor, Offered, TransferChecker};
use crate::ledger::Side;
use crate::traffic::{Common, HasLine, Rng, STREAM, SimulatedLine};
use posthouse::{
    Close, Destination, Directory, DisconnectReason, FinishedTransfer, Handler, HandlerResult,
    Message, Offer, OfferResponder, Peer, Reject, Responder, Source, TransferHandle,
};

/// The bits of a line's number that hold the client's place.
const PLACE_SHIFT: u32 = 48;
/// The maximum number of messages that one side of a connection sends.
const MESSAGES_MAX: u64 = 40;

/// The time after which a kept offer is accepted after the end of all faults.
const CALM_DELAY: Duration = Duration::from_millis(100);

/// The state of one connection.
#[derive(Debug, Default)]
pub(crate) struct ConnState {
    line: SimulatedLine,
    /// The transfers that this side has begun and whose end was not reported yet.
    begun: Vec<TransferHandle>,
}

/// The action to take when a part of a file was transferred.
#[derive(Clone, Copy, Debug)]
enum Plan {
    Cancel,
    /// Change the file, if this side sends it.
    Change,
    /// Crash one of the two disks.
    Crash,
    Close,
}

/// A plan that waits for the transfer of a part of a file.
struct Watch {
    progress: TransferHandle,
    plan: Plan,
    /// The bytes to be transferred before the plan is carried out.
    from: u64,
    every: Duration,
    /// The number of remaining checks.
    looks: u32,
}

impl HasLine for ConnState {
    fn line(&mut self) -> &mut SimulatedLine {
        &mut self.line
    }
}

/// The endpoint of a handler.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) side: Side,
    pub(super) place: usize,
    pub(super) max_transfers: usize,
}

/// The handler of an endpoint.
pub(super) struct FileHandler {
    common: Common,
    checker: Arc<TransferChecker>,
    place: usize,
    max_transfers: usize,
    directory: Directory,
    /// The number of connections of this endpoint so far.
    lines: AtomicU64,
}

type ConnPeer<'a, 'b> = &'a mut Peer<'b, FileHandler>;

impl FileHandler {
    pub(super) fn new(
        checker: &Arc<TransferChecker>,
        end: End,
        directory: Directory,
        seed: u64,
    ) -> Self {
        let End { side, place, max_transfers } = end;
        let common = Common { ledger: checker.ledger().clone(), side, seed };
        let lines = AtomicU64::default();
        Self { common, checker: checker.clone(), place, max_transfers, directory, lines }
    }

    pub(super) fn checker(&self) -> &TransferChecker {
        &self.checker
    }

    fn is_server(&self) -> bool {
        self.place == SERVER_PLACE
    }

    fn actor(&self, peer: &Peer<'_, Self>) -> Actor {
        let line = peer.state().line.number;
        let other = if self.is_server() {
            (line != 0).then_some((line >> PLACE_SHIFT) as usize)
        } else {
            Some(SERVER_PLACE)
        };
        let Self { place, max_transfers, .. } = *self;
        Actor { side: self.common.side, id: peer.id(), place, other, max_transfers }
    }

    fn rng(peer: &Peer<'_, Self>) -> Rng {
        let seed = peer.random();
        Rng::new(seed)
    }

    /// Begins the wants of its client that are not under way. Unless all faults have ended, it
    /// leaves out each with a chance of one in three.
    pub(super) fn begin_wanted(&self, peer: ConnPeer<'_, '_>, all: bool) {
        let mut rng = Self::rng(peer);
        for (want, get, name) in self.checker.open_wants(self.place, all) {
            if self.checker.is_quiescent() || !rng.one_in(3) {
                self.begin(peer, get, &name, Some(want));
            }
        }
    }

    fn begin(&self, peer: ConnPeer<'_, '_>, get: bool, name: &str, want: Option<usize>) {
        if !peer.is_open() {
            return;
        }
        let progress = if get {
            let keep_as = self.checker.with_disks(|disks| disks.path_of(self.place, name));
            peer.fetch_file(name, Destination::new(&self.directory).named(keep_as))
        } else {
            peer.offer_file(Source::new(&self.directory, name))
        };
        self.checker.begun(self.actor(peer), &progress, want);
        peer.state_mut().begun.push(progress.clone());
        if !self.checker.is_quiescent() {
            Self::watch(peer, progress);
        }
    }

    /// Draws a plan for a transfer, in 5 of 16 cases.
    fn watch(peer: ConnPeer<'_, '_>, progress: TransferHandle) {
        let mut rng = Self::rng(peer);
        let plan = match rng.below(16) {
            0 => Plan::Cancel,
            1 => Plan::Change,
            2 => Plan::Crash,
            3 | 4 => Plan::Close,
            _ => return,
        };
        let every = Duration::from_micros(32 << rng.below(10));
        let watch = Watch { progress, plan, from: rng.below(20_000), every, looks: 100 };
        Self::look_again(peer, watch);
    }

    fn look_again(peer: ConnPeer<'_, '_>, mut watch: Watch) {
        peer.after(watch.every, move |peer| {
            let handler = peer.handler();
            let open = peer.state().begun.contains(&watch.progress);
            if !open || watch.looks == 0 || handler.checker.is_quiescent() {
                return Ok(());
            }
            if watch.progress.transferred_bytes() >= watch.from {
                return handler.carry_out(peer, &watch);
            }
            watch.looks -= 1;
            Self::look_again(peer, watch);
            Ok(())
        })
        .expect("a peer has few timers");
    }

    fn carry_out(&self, peer: ConnPeer<'_, '_>, watch: &Watch) -> HandlerResult {
        let mut rng = Self::rng(peer);
        match watch.plan {
            Plan::Cancel => peer.cancel_transfer(&watch.progress),
            Plan::Close => return Err(Self::close(&mut rng)),
            Plan::Crash => {
                let other = self.actor(peer).other.filter(|_| rng.one_in(2));
                self.checker.want_crash(other.unwrap_or(self.place));
            }
            Plan::Change if self.is_server() || watch.progress.is_incoming() => {}
            Plan::Change => {
                let name = watch.progress.name();
                self.checker.with_disks(|disks| disks.change(self.place, name, &mut rng));
            }
        }
        Ok(())
    }

    fn close(rng: &mut Rng) -> Close {
        match rng.below(4) {
            0 => Close::abort(),
            1 => Close::with_code(1000, "enough"),
            _ => Close::graceful(),
        }
    }

    /// Does something with files, at random. After the end of all faults it does nothing, even if
    /// it was posted before: the checker would not know the reason of a cancel or a close.
    pub(super) fn act(&self, peer: ConnPeer<'_, '_>) -> HandlerResult {
        if self.checker.is_quiescent() {
            return Ok(());
        }
        let mut rng = Self::rng(peer);
        match rng.below(16) {
            0..=4 if !self.is_server() => self.begin_wanted(peer, false),
            0..=3 => self.begin_any(peer, &mut rng),
            4 | 5 => self.list(peer, &mut rng),
            6 if rng.one_in(2) => {
                let begun = peer.state().begun.clone();
                if let Some(progress) = begun.get(rng.below(begun.len() as u64) as usize) {
                    peer.cancel_transfer(progress);
                }
            }
            7 if !self.is_server() => self.begin_any(peer, &mut rng),
            8 => {
                let micros = 1 << rng.below(20);
                self.common.ask(peer, (micros > 8).then_some(Duration::from_micros(micros)));
            }
            9 => Common::pause(peer, Duration::from_micros(1 << rng.below(20))),
            10 => return Self::end(&mut rng),
            _ => self.talk(peer, &mut rng),
        }
        Ok(())
    }

    /// Ends the connection in 3 of 16 cases.
    fn end(rng: &mut Rng) -> HandlerResult {
        match rng.below(16) {
            0 | 1 => Err(Self::close(rng)),
            // Resumes an unwinding, which does not run the hook that prints: this panic is
            // intended.
            2 => std::panic::resume_unwind(Box::new("meant")),
            _ => Ok(()),
        }
    }

    fn talk(&self, peer: ConnPeer<'_, '_>, rng: &mut Rng) {
        for _ in 0..rng.below(4) {
            if peer.state().line.sent < MESSAGES_MAX {
                self.common.send(peer, rng.below(800) as usize);
            }
        }
    }

    /// Begins the transfer of any file of the two ends, wanted or not.
    fn begin_any(&self, peer: ConnPeer<'_, '_>, rng: &mut Rng) {
        let Some(other) = self.actor(peer).other else { return };
        let get = rng.one_in(2);
        let from = if get { other } else { self.place };
        // A client does not send back the files that it got: each name has one direction.
        let own = |path: &String| !path.starts_with("got/");
        let mut files = self.checker.with_disks(|disks| disks.disk(from).files());
        files.retain(own);
        if let Some(name) = files.get(rng.below(files.len() as u64) as usize) {
            self.begin(peer, get, name, None);
        }
    }

    /// Rejects one in 16 requests of the peer, until the end of all faults.
    fn reject_some(&self, peer: &Peer<'_, Self>) -> Result<(), Reject> {
        if !self.checker.is_quiescent() && peer.random().is_multiple_of(16) {
            Err("not now".into())
        } else {
            Ok(())
        }
    }

    fn list(&self, peer: ConnPeer<'_, '_>, rng: &mut Rng) {
        if !peer.is_open() {
            return;
        }
        let after = ["", "", "b", "deep/down/c"][rng.below(4) as usize];
        let actor = self.actor(peer);
        let must = self.checker.asked_for_list(actor, after);
        let checker = self.checker.clone();
        peer.list_files(after, move |_, listed| {
            checker.listed(actor, after, &must, listed);
            Ok(())
        });
    }
}

impl Handler for FileHandler {
    type State = ConnState;

    fn connected(&self, peer: ConnPeer<'_, '_>) -> HandlerResult {
        self.common.begin(peer);
        peer.admit();
        if self.is_server() {
            return Ok(());
        }
        let number = self.lines.fetch_add(1, Ordering::Relaxed);
        let line = (self.place as u64) << PLACE_SHIFT | self.common.side.number() << 16 | number;
        peer.state_mut().line.number = line;
        self.common.ledger.line(self.common.side, peer.id(), line);
        for bytes in [0, 300] {
            self.common.send(peer, bytes);
        }
        self.begin_wanted(peer, true);
        Ok(())
    }

    fn received(&self, peer: ConnPeer<'_, '_>, message: Message<'_>) -> HandlerResult {
        self.common.take(peer, &message);
        if message.kind() == STREAM && peer.state().line.sent < MESSAGES_MAX {
            self.common.send(peer, message.payload().len() / 2);
        }
        self.act(peer)
    }

    fn requested(
        &self,
        peer: ConnPeer<'_, '_>,
        message: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult {
        self.common.take(peer, &message);
        self.common.answer(peer, &message, responder);
        self.act(peer)
    }

    fn offered(
        &self,
        peer: ConnPeer<'_, '_>,
        offer: &Offer<'_>,
        responder: &mut OfferResponder<'_>,
    ) -> Result<Option<Destination>, Reject> {
        let actor = self.actor(peer);
        let offered = Offered::from(offer);
        let name = self.checker.with_disks(|disks| disks.path_of(self.place, offer.name()));
        let destination = Destination::new(&self.directory).named(name);
        if self.checker.is_quiescent() {
            if peer.now().subsec_micros().is_multiple_of(4) {
                let kept = KeptOffer::take(responder, actor, offered, destination);
                kept.accept_after(peer, CALM_DELAY);
                return Ok(None);
            }
        } else {
            let chance = peer.random();
            let mut kept =
                || KeptOffer::take(responder, actor, offered.clone(), destination.clone());
            match chance % 16 {
                0 => return Err("not now".into()),
                1 => {
                    kept().answer_after(peer, chance / 16);
                    return Ok(None);
                }
                2 => {
                    self.checker.keep(kept(), chance / 16);
                    return Ok(None);
                }
                3 if chance.is_multiple_of(32) => return Ok(None),
                // The result of the callback counts, not the responder that it took.
                3 if chance.is_multiple_of(3) => {
                    kept().rejected().answer_after(peer, chance / 32);
                    return Err("not now".into());
                }
                3 => drop(kept()),
                4 => self.checker.answer_kept(chance / 16),
                _ => {}
            }
        }
        self.checker.takes(actor, &offered, false);
        Ok(Some(destination))
    }

    fn download_requested(&self, peer: ConnPeer<'_, '_>, name: &str) -> Result<Source, Reject> {
        self.reject_some(peer)?;
        self.checker.gives(self.actor(peer), name);
        Ok(Source::new(&self.directory, name))
    }

    fn list_requested(&self, peer: ConnPeer<'_, '_>, _: &str) -> Result<Directory, Reject> {
        self.reject_some(peer)?;
        Ok(self.directory.clone())
    }

    fn transferred(&self, peer: ConnPeer<'_, '_>, transfer: &FinishedTransfer) -> HandlerResult {
        let actor = self.actor(peer);
        self.checker.told(actor, transfer);
        if transfer.result().is_ok()
            && !self.checker.is_quiescent()
            && peer.random().is_multiple_of(16)
        {
            // The receiver's disk crashes at the moment at which the file was just reported.
            let receiver = if transfer.is_incoming() { Some(self.place) } else { actor.other };
            if let Some(place) = receiver {
                self.checker.want_crash(place);
            }
        }
        peer.state_mut().begun.retain(|progress| progress != transfer.handle());
        if peer.is_open() { self.act(peer) } else { Ok(()) }
    }

    fn disconnected(&self, peer: ConnPeer<'_, '_>, why: &DisconnectReason) {
        let actor = self.actor(peer);
        let line = peer.state().line.number;
        self.checker.disconnected(actor, line, why);
    }
}
