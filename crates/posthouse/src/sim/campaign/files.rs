//! Files under faults: a server and its clients, whose disks fail, fill and crash, whose files
//! change while they are sent, and who end and come back at any moment.
//!
//! | file | what it holds |
//! |---|---|
//! | `courier` | the handler of both sides: what they do with files |
//! | `later` | offers that are answered later |
//! | `liar` | peers that break the protocol of transfers |
//! | `stock` | the files that there are to be sent |
//! | `shelves` | what may and must lie on the disks |
//! | `book` | what every side was told, and whether it fits together |

mod book;
mod courier;
mod later;
mod liar;
mod shelves;
mod stock;

use std::sync::Arc;
use std::time::Duration;

use super::ledger::Side;
use super::traffic::Dice;
use super::{SERVER, Settings, Summary, Violation, await_end, faulty_world, settings};
use crate::sim::{Faults, World};
use crate::{Close, Endpoint};

use book::{Book, Want};
use courier::{Courier, Desk, End};
use liar::Liar;
use shelves::Shelves;

/// Which disk is the server's. Those of the clients follow.
const SERVER_PLACE: usize = 0;
/// Once nothing fails any more everything that is wanted is over within this much virtual time,
/// tried again so often.
const CALM: Duration = Duration::from_mins(2);
const CALM_LOOK: Duration = Duration::from_millis(500);
const CALM_END: Duration = Duration::from_secs(5);
/// Connections of a client at the same time.
const CONNECTIONS_MAX: usize = 2;

/// Runs one seed with files.
///
/// # Errors
///
/// The first contract that was broken.
///
/// # Panics
///
/// Where an assertion of the framework, or a checker of the simulated port, fires: that is a
/// broken contract, too, and the panic's text says which.
pub fn run_files(seed: u64) -> Result<Summary, Violation> {
    let mut run = Run::new(seed);
    run.drive()?;
    if !run.dice.one_in(4) {
        run.calm()?;
    }
    run.finish()
}

/// An endpoint, as often as it is started again.
struct Host {
    place: usize,
    side: Side,
    settings: Settings,
    endpoint: Endpoint<Courier>,
}

struct Run {
    world: World,
    dice: Dice,
    book: Arc<Book>,
    /// The server first, then the clients.
    hosts: Vec<Host>,
    liars: Vec<Liar>,
    quota: Option<(u64, u64)>,
    /// The last number given to an endpoint.
    last_number: u64,
}

/// Chunks and windows of any size, little room, short patience.
fn files_settings(dice: &mut Dice) -> Settings {
    let Settings { endpoint, connection, tuning } = settings(dice);
    let transfers = if dice.one_in(2) { 3 } else { 20 };
    // Small ones, more often than not: so that most ends come in the middle of a file.
    let chunk_bytes = 1024 << if dice.one_in(3) { dice.below(9) } else { dice.below(3) };
    let tuning =
        tuning.with_chunk_bytes(chunk_bytes).with_transfer_window_bytes(1024 << dice.below(13));
    let endpoint = endpoint
        .with_io_workers(1 + dice.below(4) as usize)
        .with_max_connections(64)
        .with_max_connections_per_address(0)
        .with_assembly_bytes(1 << 24);
    let connection = connection
        .with_max_frame_bytes(if dice.one_in(6) { 1100 << dice.below(4) } else { 1 << 20 })
        .with_max_transfers(1 + dice.below(transfers) as usize)
        .with_transfer_timeout_ms(500 + dice.below(30_000));
    Settings { endpoint, connection, tuning }
}

/// Which disks there are, what is on them, and what clients want.
fn furnish(world: &World, dice: &mut Dice) -> (Shelves, Vec<Vec<Want>>) {
    let clients = 1 + dice.below(3) as usize;
    let mut disks = vec![world.disk("server")];
    disks.extend((1..=clients).map(|place| world.disk(&format!("client {place}"))));
    let network = world.network.clone();
    let mut shelves = Shelves::new(network, disks, if dice.one_in(3) { "kept/" } else { "" });
    let mut wants = vec![Vec::new()];
    for place in 1..=clients {
        let mut wanted = Vec::new();
        for name in stock::NAMES {
            let free = !shelves.is_in_the_way(place, name);
            if dice.one_in(2) && free {
                let content = stock::content_for_client(dice);
                shelves.disk(place).write(name, &content);
                shelves.add_version(name, content);
                wanted.push(Want::new(false, name));
            }
            if dice.one_in(4) {
                wanted.push(Want::new(true, shelves.path_of(SERVER_PLACE, name)));
            }
        }
        for name in stock::POPULAR {
            if dice.one_in(2) {
                wanted.push(Want::new(true, shelves.path_of(SERVER_PLACE, name)));
            }
        }
        wants.push(wanted);
    }
    for name in stock::POPULAR {
        let (path, content) = (shelves.path_of(SERVER_PLACE, name), stock::some_content(dice));
        shelves.disk(SERVER_PLACE).write(&path, &content);
        shelves.add_version(&path, content);
    }
    for name in stock::NAMES {
        let path = shelves.path_of(SERVER_PLACE, name);
        if dice.one_in(5) && !shelves.is_in_the_way(SERVER_PLACE, &path) {
            let content = stock::some_content(dice);
            shelves.disk(SERVER_PLACE).write(&path, &content);
            shelves.add_version(&path, content);
        }
    }
    (shelves, wants)
}

/// More than is there, and perhaps less than comes.
fn quota(shelves: &Shelves, dice: &mut Dice) -> Option<(u64, u64)> {
    let disk = shelves.disk(SERVER_PLACE);
    let files = disk.files();
    let bytes: usize = files.iter().filter_map(|path| disk.read(path)).map(|it| it.len()).sum();
    let bytes_max = bytes as u64 + dice.below(150_000);
    dice.one_in(3).then(|| (bytes_max, files.len() as u64 + dice.below(8)))
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x6669_6c65);
        let world = faulty_world(seed);
        let (mut shelves, wants) = furnish(&world, &mut dice);
        let quota = quota(&shelves, &mut dice);
        shelves.set_quota(quota);
        if dice.one_in(8) {
            shelves.is_tight = true;
            shelves.disk(SERVER_PLACE).capacity(dice.below(120_000));
        }
        let places = wants.len();
        let book = Arc::new(Book::new(Arc::default(), shelves, wants));
        let (hosts, liars) = (Vec::new(), Vec::new());
        let mut run = Self { world, dice, book, hosts, liars, quota, last_number: 0 };
        for place in 0..places {
            let settings = files_settings(&mut run.dice);
            let host = run.start(place, settings);
            run.hosts.push(host);
        }
        run
    }

    /// Starts the endpoint of a disk.
    fn start(&mut self, place: usize, settings: Settings) -> Host {
        self.last_number += 1;
        let directory = self.book.shelves(|shelves| shelves.disk(place).directory());
        let is_server = place == SERVER_PLACE;
        let (side, directory) = match (is_server, self.quota) {
            (true, Some((bytes, files))) => {
                let bounded = directory.with_quota(bytes, files);
                (Side::Server(self.last_number), bounded.expect("a simulated disk is counted"))
            }
            (true, None) => (Side::Server(self.last_number), directory),
            (false, _) => (Side::Client(self.last_number), directory),
        };
        let end = End { side, place, max_transfers: settings.connection.max_transfers };
        let courier = Courier::new(&self.book, end, directory, self.dice.next());
        let endpoint = settings.start(&self.world, courier, is_server);
        Host { place, side, settings, endpoint }
    }

    fn holds(&self) -> Result<(), Violation> {
        self.book.look().map_err(Violation::of)
    }

    // ---- while things go wrong ----

    /// Does, between the workers' steps, what comes from outside.
    fn drive(&mut self) -> Result<(), Violation> {
        for _ in 0..8 + self.dice.below(28) {
            self.step()?;
            let time = Duration::from_micros(1 << self.dice.below(20));
            let Self { world, dice, book, liars, .. } = self;
            let crash = world.run_until(time, || {
                for liar in &mut *liars {
                    liar.watch_credit(book, dice);
                }
                book.take_crash()
            });
            if let Some(place) = crash {
                self.crash(place)?;
            }
            for liar in &mut self.liars {
                liar.act(&self.book, &mut self.dice);
            }
            self.liars.retain(|liar| !liar.is_over());
            self.holds()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Violation> {
        let client = 1 + self.dice.below(self.hosts.len() as u64 - 1) as usize;
        match self.dice.below(26) {
            0..=7 => self.connect(client),
            8..=11 => self.tell_to_act(client),
            12..=14 => self.tell_to_act(SERVER_PLACE),
            15..=17 => self.close_one(),
            18 | 19 => self.change_file(client),
            20 => {
                let timeout = Duration::from_millis(self.dice.below(3_000));
                let place = self.dice.below(self.hosts.len() as u64) as usize;
                self.start_again(place, timeout)?;
            }
            21 => {
                let place = self.dice.below(self.hosts.len() as u64) as usize;
                let servers = self.dice.one_in(2);
                self.crash(if servers { SERVER_PLACE } else { place })?;
            }
            22 | 23 => {
                let servers = self.dice.one_in(2);
                self.rewrite_unread(if servers { SERVER_PLACE } else { client });
            }
            _ if self.liars.len() < 4 => {
                let window_bytes = self.hosts[0].settings.tuning.transfer_window_bytes;
                let raw = self.world.dial(SERVER);
                self.liars.push(Liar::new(raw, window_bytes, &mut self.dice));
            }
            _ => self.answer_kept(),
        }
        Ok(())
    }

    fn connect(&self, client: usize) {
        let Host { endpoint, settings, .. } = &self.hosts[client];
        if endpoint.stats().connections < CONNECTIONS_MAX {
            let _ = endpoint.connect(settings.target(), Desk::default());
        }
    }

    fn tell_to_act(&mut self, place: usize) {
        let endpoint = &self.hosts[place].endpoint;
        let peers = endpoint.peers();
        if let Some(info) = peers.get(self.dice.below(peers.len() as u64) as usize) {
            let _ = endpoint.run(info.id, |peer| peer.handler().act(peer));
        }
    }

    fn close_one(&mut self) {
        let endpoint = &self.hosts[self.dice.below(self.hosts.len() as u64) as usize].endpoint;
        let peers = endpoint.peers();
        let close = if self.dice.one_in(3) { Close::abort() } else { Close::graceful() };
        if let Some(info) = peers.get(self.dice.below(peers.len() as u64) as usize) {
            let _ = endpoint.close(info.id, close);
        }
    }

    /// Another thread answers a request and an offer that were kept.
    fn answer_kept(&self) {
        let way = self.world.now().subsec_micros().into();
        self.book.ledger().answer_kept(way);
        self.book.answer_kept(way);
    }

    /// A file of a client's changes, by preference one that is being sent.
    fn change_file(&mut self, client: usize) {
        let mut files = self.book.under_way(client);
        if files.is_empty() || self.dice.one_in(3) {
            files = self.book.shelves(|shelves| shelves.sources(client));
        }
        let dice = &mut self.dice;
        if let Some(path) = files.get(dice.below(files.len() as u64) as usize) {
            self.book.shelves(|shelves| shelves.change(client, path, dice));
        }
    }

    /// A file that nobody reads just now gets other content, and its disk does not see it: what was
    /// known of it is wrong.
    fn rewrite_unread(&mut self, place: usize) {
        let dice = &mut self.dice;
        self.book.shelves(|shelves| {
            let files = shelves.unread(place);
            if let Some(path) = files.get(dice.below(files.len() as u64) as usize) {
                shelves.rewrite_unseen(place, path, dice);
            }
        });
    }

    /// The endpoint ends and another takes its place. Its disk may hang meanwhile: what it was
    /// asked for may still end when the other is there.
    fn start_again(&mut self, place: usize, timeout: Duration) -> Result<(), Violation> {
        let hangs = self.dice.one_in(4);
        if hangs {
            self.book.shelves(|shelves| shelves.hang(place));
        }
        self.hosts[place].endpoint.shutdown(timeout);
        self.await_host(place)?;
        if hangs {
            self.book.shelves(|shelves| shelves.disk(place).resume());
        }
        let dice = &mut self.dice;
        if place != SERVER_PLACE && dice.one_in(4) {
            self.book.shelves(|shelves| {
                let files = shelves.sources(place);
                if let Some(path) = files.get(dice.below(files.len() as u64) as usize) {
                    shelves.rewrite(place, path, dice);
                }
            });
        }
        let settings = self.hosts[place].settings.clone();
        self.hosts[place] = self.start(place, settings);
        Ok(())
    }

    fn await_host(&self, place: usize) -> Result<(), Violation> {
        let Host { endpoint, side, .. } = &self.hosts[place];
        await_end(&self.world, std::slice::from_ref(endpoint))?;
        self.book.ended(*side, &endpoint.stats()).map_err(Violation::of)
    }

    /// A machine loses its power, and comes back.
    fn crash(&mut self, place: usize) -> Result<(), Violation> {
        self.holds()?;
        self.book.shelves(|shelves| shelves.crash(place));
        self.book.count_crash();
        self.holds()?;
        self.world.run_for(Duration::from_micros(1 << self.dice.below(14)));
        self.start_again(place, Duration::ZERO)
    }

    // ---- when nothing goes wrong any more ----

    /// Whatever is wanted arrives, or fails for a reason that lasts.
    fn calm(&mut self) -> Result<(), Violation> {
        self.world.faults(Faults::none());
        self.liars.clear();
        self.book.shelves(|shelves| {
            shelves.disk(SERVER_PLACE).capacity(u64::MAX);
            shelves.is_tight = false;
        });
        self.book.calm();
        let until = self.world.now() + CALM;
        while !self.book.left().is_empty() {
            if self.world.now() > until {
                let left = self.book.left().join(", ");
                return Err(Violation { text: format!("C4: it does not go on: {left}") });
            }
            self.try_again();
            self.world.run_for(CALM_LOOK);
            self.holds()?;
        }
        // What is sent at the very end arrives, too, also where reading was paused.
        self.world.run_for(CALM_END);
        self.book.ledger().nothing_is_stuck().map_err(Violation::of)
    }

    fn try_again(&self) {
        for Host { place, endpoint, .. } in &self.hosts[1..] {
            let peers = endpoint.peers();
            if peers.is_empty() {
                self.connect(*place);
            }
            for info in peers {
                let _ = endpoint.run(info.id, |peer| {
                    peer.handler().begin_wanted(peer, true);
                    Ok(())
                });
            }
        }
    }

    // ---- the end ----

    /// Everything is told to end: it must, nothing may be left, and what was told whole is on the
    /// disks, also when they crash now.
    fn finish(mut self) -> Result<Summary, Violation> {
        let timeout = Duration::from_millis(self.dice.below(4_000));
        let hung: Vec<_> = (0..self.hosts.len()).filter(|_| self.dice.one_in(8)).collect();
        for place in &hung {
            self.book.shelves(|shelves| shelves.disk(*place).hang());
        }
        for host in &self.hosts {
            host.endpoint.shutdown(timeout);
        }
        if self.dice.one_in(2) {
            // Some come back, about when they are given up.
            self.world.run_for(timeout + Duration::from_millis(self.dice.below(20_000)));
            for place in hung {
                self.book.shelves(|shelves| shelves.disk(place).resume());
            }
        }
        for place in 0..self.hosts.len() {
            self.await_host(place)?;
        }
        self.liars.clear();
        self.holds()?;
        for place in 0..self.hosts.len() {
            self.book.shelves(|shelves| shelves.crash(place));
        }
        self.holds()?;
        let mut summary = self.book.ledger().verdict().map_err(Violation::of)?;
        summary.merge(&self.book.summary());
        summary.faults = self.world.network.fault_counts().total();
        summary.fingerprint = self.world.network.fingerprint();
        Ok(summary)
    }
}
