//! Files under faults: a server and its clients. Their disks fail, fill and crash, their files
//! change while they are sent, and the endpoints end and restart at any moment.
//!
//! | file | content |
//! |---|---|
//! | `file_handler` | the handler of both sides |
//! | `later` | offers that are answered later |
//! | `adversary` | peers that break the protocol of transfers |
//! | `fixtures` | the files of the run |
//! | `disk_checker` | the check of the contents of the disks |
//! | `transfer_checker` | the check of the callbacks of every side |

mod adversary;
mod disk_checker;
mod file_handler;
mod fixtures;
mod later;
mod transfer_checker;

use std::sync::Arc;
use std::time::Duration;

use super::ledger::Side;
use super::traffic::Rng;
use super::{SERVER, Settings, Stream, Summary, Violation, await_end, faulty_world, settings};
use posthouse::sim::{Faults, World};
use posthouse::{Close, Endpoint};

use adversary::Adversary;
use disk_checker::DiskChecker;
use file_handler::{ConnState, End, FileHandler};
use transfer_checker::{TransferChecker, Want};

/// The place of the server's disk. The disks of the clients follow.
const SERVER_PLACE: usize = 0;
/// The virtual time within which every want must be over after the end of all faults.
const QUIESCE_TIME: Duration = Duration::from_mins(2);
/// The virtual time between two attempts at the remaining wants.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// The virtual time for the last messages to arrive.
const SETTLE_TIME: Duration = Duration::from_secs(5);
/// More bytes than one reply or message of a run has.
const REPLY_BYTES_MAX: usize = 8 * 1024;
/// The maximum number of connections of a client at the same time.
const CONNECTIONS_MAX: usize = 2;

/// Runs one seed with files.
///
/// # Errors
///
/// The first contract that was broken.
///
/// # Panics
///
/// If an assertion of the framework or a checker of the simulated port fails. This is a broken
/// contract, too, and the text of the panic names it.
pub fn run_files(seed: u64) -> Result<Summary, Violation> {
    let mut run = Run::new(seed);
    run.drive()?;
    if !run.rng.one_in(4) {
        run.quiesce()?;
    }
    run.finish()
}

/// The endpoint of a place: the current one of all that were started there.
struct Host {
    place: usize,
    side: Side,
    settings: Settings,
    endpoint: Endpoint<FileHandler>,
    /// The number of files of the disk that abandoned operations of earlier endpoints have open.
    left_open: usize,
}

impl Host {
    /// Checks that no connection has more bytes queued than its options allow. One reply or message
    /// may exceed the bound before the connection is closed.
    fn queues_few_bytes(&self) -> Result<(), Violation> {
        let Self { side, settings, endpoint, .. } = self;
        let max = settings.connection.send_queue_bytes + REPLY_BYTES_MAX;
        match endpoint.peers().into_iter().find(|info| info.queued_bytes > max) {
            Some(info) => {
                let text = format!("C8: {side:?} has more than {max} bytes queued: {info:?}");
                Err(Violation { text })
            }
            None => Ok(()),
        }
    }
}

struct Run {
    world: World,
    rng: Rng,
    checker: Arc<TransferChecker>,
    /// The server, then the clients.
    hosts: Vec<Host>,
    adversaries: Vec<Adversary>,
    quota: Option<(u64, u64)>,
    /// The last number given to an endpoint.
    last_number: u64,
}

/// Draws the options of an endpoint: chunks and windows of any size, narrow limits, short
/// time-outs.
fn files_settings(rng: &mut Rng, stream: Stream) -> Settings {
    let Settings { endpoint, connection, tuning, stream } = settings(rng, stream);
    let transfers = if rng.one_in(2) { 3 } else { 20 };
    // Two of three are small, so that most connections end in the middle of a file.
    let chunk_bytes = 1024 << if rng.one_in(3) { rng.below(9) } else { rng.below(3) };
    let tuning =
        tuning.with_chunk_bytes(chunk_bytes).with_transfer_window_bytes(1024 << rng.below(13));
    // With little memory most transfers wait for their turn.
    let file_memory_bytes = if rng.one_in(3) { 1000 << rng.below(10) } else { 256 << 20 };
    let max_rejections_per_second = [0, 20, 1_000][rng.below(3) as usize];
    let max_open_files = if rng.one_in(3) { 2 + rng.below(6) as usize } else { 0 };
    let endpoint = endpoint
        .with_file_memory_bytes(file_memory_bytes)
        .with_max_open_files(max_open_files)
        .with_max_rejections_per_second(max_rejections_per_second)
        .with_io_workers(1 + rng.below(4) as usize)
        .with_max_connections(64)
        .with_max_connections_per_address(0)
        .with_assembly_bytes(1 << 24);
    let connection = connection
        .with_max_frame_bytes(if rng.one_in(6) { 1100 << rng.below(4) } else { 1 << 20 })
        .with_max_transfers(1 + rng.below(transfers) as usize)
        .with_transfer_timeout_ms(500 + rng.below(30_000));
    Settings { endpoint, connection, tuning, stream }
}

/// Makes the disks, the files on them, and the wants of the clients.
fn setup(world: &World, rng: &mut Rng) -> (DiskChecker, Vec<Vec<Want>>) {
    let clients = 1 + rng.below(3) as usize;
    let mut disks = vec![world.disk("server")];
    disks.extend((1..=clients).map(|place| world.disk(&format!("client {place}"))));
    let mut disks =
        DiskChecker::new(world.clone(), disks, if rng.one_in(3) { "kept/" } else { "" });
    let mut wants = vec![Vec::new()];
    for place in 1..=clients {
        let mut wanted = Vec::new();
        for name in fixtures::NAMES {
            let free = !disks.is_in_the_way(place, name);
            if rng.one_in(2) && free {
                let content = fixtures::content_for_client(rng);
                disks.disk(place).write(name, &content);
                disks.add_version(name, content);
                wanted.push(Want::new(false, name));
            }
            if rng.one_in(4) {
                wanted.push(Want::new(true, disks.path_of(SERVER_PLACE, name)));
            }
        }
        for name in fixtures::POPULAR {
            if rng.one_in(2) {
                wanted.push(Want::new(true, disks.path_of(SERVER_PLACE, name)));
            }
        }
        wants.push(wanted);
    }
    for name in fixtures::POPULAR {
        let path = disks.path_of(SERVER_PLACE, name);
        let content = fixtures::some_content(rng);
        disks.disk(SERVER_PLACE).write(&path, &content);
        disks.add_version(&path, content);
    }
    for name in fixtures::NAMES {
        let path = disks.path_of(SERVER_PLACE, name);
        if rng.one_in(5) && !disks.is_in_the_way(SERVER_PLACE, &path) {
            let content = fixtures::some_content(rng);
            disks.disk(SERVER_PLACE).write(&path, &content);
            disks.add_version(&path, content);
        }
    }
    (disks, wants)
}

/// Draws a quota in one of three cases. It has room for the files on the disk, perhaps not for all
/// that the clients send.
fn quota(disks: &DiskChecker, rng: &mut Rng) -> Option<(u64, u64)> {
    let disk = disks.disk(SERVER_PLACE);
    let files = disk.files();
    let bytes: usize = files.iter().filter_map(|path| disk.read(path)).map(|it| it.len()).sum();
    let bytes_max = bytes as u64 + rng.below(150_000);
    rng.one_in(3).then(|| (bytes_max, files.len() as u64 + rng.below(8)))
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x6669_6c65);
        let world = faulty_world(seed);
        let (mut disks, wants) = setup(&world, &mut rng);
        let quota = quota(&disks, &mut rng);
        disks.set_quota(quota);
        if rng.one_in(8) {
            disks.is_tight = true;
            disks.disk(SERVER_PLACE).capacity(rng.below(120_000));
        }
        let places = wants.len();
        let checker = Arc::new(TransferChecker::new(Arc::default(), disks, wants));
        let hosts = Vec::new();
        let adversaries = Vec::new();
        let mut run = Self { world, rng, checker, hosts, adversaries, quota, last_number: 0 };
        for place in 0..places {
            let settings = files_settings(&mut run.rng, Stream::of(seed));
            let host = run.start(place, settings);
            run.hosts.push(host);
        }
        run
    }

    /// Starts the endpoint of a disk.
    fn start(&mut self, place: usize, settings: Settings) -> Host {
        self.last_number += 1;
        let directory = self.checker.with_disks(|disks| disks.disk(place).directory());
        let is_server = place == SERVER_PLACE;
        let (side, directory) = match (is_server, self.quota) {
            (true, Some((bytes, files))) => {
                let bounded = directory.with_quota(bytes, files);
                (Side::Server(self.last_number), bounded.expect("a simulated disk is counted"))
            }
            (true, None) => (Side::Server(self.last_number), directory),
            (false, _) => (Side::Client(self.last_number), directory),
        };
        self.checker.ledger().started(side, &settings.connection);
        let end = End { side, place, max_transfers: settings.connection.max_transfers };
        let handler = FileHandler::new(&self.checker, end, directory, self.rng.next());
        let left_open = self.checker.with_disks(|disks| disks.disk(place).open_files());
        let endpoint = settings.start(&self.world, handler, is_server);
        Host { place, side, settings, endpoint, left_open }
    }

    fn holds(&self) -> Result<(), Violation> {
        self.hosts.iter().try_for_each(|host| self.holds_few_files(host))?;
        self.hosts.iter().try_for_each(Host::queues_few_bytes)?;
        self.checker.check().map_err(Violation::of)
    }

    /// Checks that an endpoint has no more files open than it counts, and counts no more than its
    /// bound. It does not count a file that was offered and is not accepted. An endpoint that has
    /// ended may have abandoned operations, which keep their files.
    fn holds_few_files(&self, host: &Host) -> Result<(), Violation> {
        let Host { place, side, settings, endpoint, left_open } = host;
        let open = self.checker.with_disks(|disks| disks.disk(*place).open_files());
        let counted = endpoint.stats().open_files as usize;
        let max = settings.endpoint.max_open_files;
        let is_over = open > counted + left_open || max > 0 && counted > max;
        if is_over && !endpoint.has_ended() {
            let text = format!(
                "C8: {side:?} has {open} files open, {left_open} of them from before, \
                 counts {counted}, and may have {max}"
            );
            return Err(Violation { text });
        }
        Ok(())
    }

    // ---- with faults ----

    /// Acts from outside between the steps of the workers, and checks the disks after each action.
    fn drive(&mut self) -> Result<(), Violation> {
        for _ in 0..8 + self.rng.below(28) {
            self.step()?;
            let time = Duration::from_micros(1 << self.rng.below(20));
            let Self { world, rng, checker, adversaries, .. } = self;
            let crash = world.run_until(time, || {
                for adversary in &mut *adversaries {
                    adversary.watch_credit(checker, rng);
                }
                checker.take_crash()
            });
            if let Some(place) = crash {
                self.crash(place)?;
            }
            for adversary in &mut self.adversaries {
                adversary.act(&self.checker, &mut self.rng);
            }
            self.adversaries.retain(|adversary| !adversary.is_over());
            self.holds()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Violation> {
        let client = 1 + self.rng.below(self.hosts.len() as u64 - 1) as usize;
        match self.rng.below(26) {
            0..=7 => self.connect(client),
            8..=11 => self.tell_to_act(client),
            12..=14 => self.tell_to_act(SERVER_PLACE),
            15..=17 => self.close_one(),
            18 | 19 => self.change_file(client),
            20 => {
                let timeout = Duration::from_millis(self.rng.below(3_000));
                let place = self.rng.below(self.hosts.len() as u64) as usize;
                self.start_again(place, timeout)?;
            }
            21 => {
                let place = self.rng.below(self.hosts.len() as u64) as usize;
                let servers = self.rng.one_in(2);
                self.crash(if servers { SERVER_PLACE } else { place })?;
            }
            22 | 23 => {
                let servers = self.rng.one_in(2);
                self.rewrite_unread(if servers { SERVER_PLACE } else { client });
            }
            _ if self.adversaries.len() < 4 => {
                let window_bytes = self.hosts[0].settings.tuning.transfer_window_bytes;
                let raw = self.world.dial(SERVER);
                self.adversaries.push(Adversary::new(raw, window_bytes, &mut self.rng));
            }
            _ => self.answer_kept(),
        }
        Ok(())
    }

    fn connect(&self, client: usize) {
        let Host { endpoint, settings, .. } = &self.hosts[client];
        if endpoint.stats().connections < CONNECTIONS_MAX {
            let _ = endpoint.connect(settings.target(SERVER), ConnState::default());
        }
    }

    fn tell_to_act(&mut self, place: usize) {
        let endpoint = &self.hosts[place].endpoint;
        let peers = endpoint.peers();
        if let Some(info) = peers.get(self.rng.below(peers.len() as u64) as usize) {
            let _ = endpoint.run(info.id, |peer| peer.handler().act(peer));
        }
    }

    fn close_one(&mut self) {
        let endpoint = &self.hosts[self.rng.below(self.hosts.len() as u64) as usize].endpoint;
        let peers = endpoint.peers();
        let close = if self.rng.one_in(3) { Close::abort() } else { Close::graceful() };
        if let Some(info) = peers.get(self.rng.below(peers.len() as u64) as usize) {
            let _ = endpoint.close(info.id, close);
        }
    }

    /// Answers a kept request and a kept offer, as another thread would.
    fn answer_kept(&self) {
        let way = self.world.now().subsec_micros().into();
        self.checker.ledger().answer_kept(way);
        self.checker.answer_kept(way);
    }

    /// Changes a file of a client, by preference one that it is sending.
    fn change_file(&mut self, client: usize) {
        let mut files = self.checker.under_way(client);
        if files.is_empty() || self.rng.one_in(3) {
            files = self.checker.with_disks(|disks| disks.sources(client));
        }
        let rng = &mut self.rng;
        if let Some(path) = files.get(rng.below(files.len() as u64) as usize) {
            self.checker.with_disks(|disks| disks.change(client, path, rng));
        }
    }

    /// Gives a file that no endpoint has open other content of the same size and time. A hash that
    /// an endpoint knows of the file is then wrong.
    fn rewrite_unread(&mut self, place: usize) {
        let rng = &mut self.rng;
        self.checker.with_disks(|disks| {
            let files = disks.unread(place);
            if let Some(path) = files.get(rng.below(files.len() as u64) as usize) {
                disks.rewrite_unseen(place, path, rng);
            }
        });
    }

    /// Ends an endpoint and starts another in its place. The disk may hang meanwhile: operations of
    /// the first endpoint may then end while the second runs.
    fn start_again(&mut self, place: usize, timeout: Duration) -> Result<(), Violation> {
        let hangs = self.rng.one_in(4);
        if hangs {
            self.checker.with_disks(|disks| disks.hang(place));
        }
        self.hosts[place].endpoint.shutdown(timeout);
        self.await_host(place)?;
        if hangs {
            self.checker.with_disks(|disks| disks.disk(place).resume());
        }
        let rng = &mut self.rng;
        if place != SERVER_PLACE && rng.one_in(4) {
            self.checker.with_disks(|disks| {
                let files = disks.sources(place);
                if let Some(path) = files.get(rng.below(files.len() as u64) as usize) {
                    disks.rewrite(place, path, rng);
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
        self.checker.ended(*side, &endpoint.stats()).map_err(Violation::of)
    }

    /// Crashes a disk and restarts its endpoint, as after a loss of power.
    fn crash(&mut self, place: usize) -> Result<(), Violation> {
        self.holds()?;
        self.checker.with_disks(|disks| disks.crash(place));
        self.checker.count_crash();
        self.holds()?;
        self.world.run_for(Duration::from_micros(1 << self.rng.below(14)));
        self.start_again(place, Duration::ZERO)
    }

    // ---- after the end of all faults ----

    /// Ends all faults, and checks that every want succeeds or fails for a lasting reason.
    fn quiesce(&mut self) -> Result<(), Violation> {
        self.world.faults(Faults::none());
        self.adversaries.clear();
        self.checker.with_disks(|disks| {
            disks.disk(SERVER_PLACE).capacity(u64::MAX);
            disks.is_tight = false;
        });
        self.checker.quiesce();
        let until = self.world.now() + QUIESCE_TIME;
        while !self.checker.left().is_empty() {
            if self.world.now() > until {
                let left = self.checker.left().join(", ");
                return Err(Violation { text: format!("C4: no progress of: {left}") });
            }
            self.try_again();
            self.world.run_for(RETRY_INTERVAL);
            self.holds()?;
        }
        // The messages sent last must arrive, too, also on connections that had paused reading.
        self.world.run_for(SETTLE_TIME);
        self.checker.ledger().nothing_is_stuck().map_err(Violation::of)
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

    /// Shuts all endpoints down and checks that they end and leave nothing, and that all files that
    /// were reported as complete are on the disks, also after a crash.
    fn finish(mut self) -> Result<Summary, Violation> {
        let timeout = Duration::from_millis(self.rng.below(4_000));
        let hung: Vec<_> = (0..self.hosts.len()).filter(|_| self.rng.one_in(8)).collect();
        for place in &hung {
            self.checker.with_disks(|disks| disks.disk(*place).hang());
        }
        for host in &self.hosts {
            host.endpoint.shutdown(timeout);
        }
        if self.rng.one_in(2) {
            // The hung disks continue, at about the time at which their operations are abandoned.
            self.world.run_for(timeout + Duration::from_millis(self.rng.below(20_000)));
            for place in hung {
                self.checker.with_disks(|disks| disks.disk(place).resume());
            }
        }
        for place in 0..self.hosts.len() {
            self.await_host(place)?;
        }
        self.adversaries.clear();
        self.holds()?;
        for place in 0..self.hosts.len() {
            self.checker.with_disks(|disks| disks.crash(place));
        }
        self.holds()?;
        let mut summary = self.checker.ledger().verdict().map_err(Violation::of)?;
        summary.merge(&self.checker.summary());
        summary.faults = self.world.fault_counts().total();
        summary.fingerprint = self.world.fingerprint();
        Ok(summary)
    }
}
