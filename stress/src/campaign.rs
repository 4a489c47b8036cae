//! A stress run: many short connections over loopback, with every event that can happen to a
//! connection, and checks of the properties that must always hold.
//!
//! | file | content |
//! |---|---|
//! | `script` | the behaviour of the two sides of a connection: a function of seed and number |
//! | `conn` | one end of a connection, which follows its part of the script |
//! | `receives` | an end's receives in their order |
//! | `exchange` | the comparison of what the two ends report |
//! | `worker` | a worker: connecting, accepting, passing completions to ends |
//! | `file_source` | a file with the bytes that connections send |
//! | `slot_table` | the ends and listeners of a lane |
//! | `tags`, `pattern`, `random` | tags of operations, bytes to send, randomness |
//! | `counts` | the counted events |

mod conn;
mod counts;
mod exchange;
mod file_source;
mod pattern;
mod random;
mod receives;
mod script;
mod slot_table;
mod tags;
mod worker;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use posthouse_io::{
    Address, Backend, Buffer, CompletionPort, Counters, Drained, LaneId, Layout, ListenOptions,
    NewSocket, Notify, Options, ReadMode, Turn,
};

pub(crate) use counts::{Count, Counts};
use exchange::{ConnSummary, Exchanges, lock};
use file_source::FileSource;
use posthouse_process::Holdings;
pub(crate) use script::Plan;
use script::{Script, Side, Target};
use slot_table::{ListenerSlot, SlotTable};
use worker::Worker;

/// The settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The number of connections, at most [`MAX_CONNECTIONS`].
    pub(crate) connections: u32,
    pub(crate) backend: Backend,
    pub(crate) layout: Layout,
    pub(crate) read_mode: ReadMode,
    pub(crate) plan: Plan,
    pub(crate) guarded: bool,
    /// True exactly when a quarter of the sends are of a file.
    pub(crate) files: bool,
    pub(crate) workers: u16,
    /// The number of simultaneous connecting ends. As many accepting ends come with them, and each
    /// end has a descriptor.
    pub(crate) at_once: u16,
    /// The time after which no connection begins.
    pub(crate) max_time: Option<Duration>,
}

/// The maximum number of connections. Each connection uses an address of its own in 127.0.0.0/8.
/// The accepting end identifies the connection by it, and local ports do not run out.
pub(crate) const MAX_CONNECTIONS: u32 = 16_000_000;
const FIRST_ADDRESS: u32 = 0x7f01_0000;

/// The interval of the checks of the campaign's progress.
const LOOK: Duration = Duration::from_millis(100);
/// The maximum number of consecutive checks without a completion: half a minute. Checks are counted
/// and not time, because a machine that was suspended has not stood still.
const MAX_LOOKS_IN_VAIN: u32 = 300;
/// The maximum time for the workers to end.
const MAX_DRAIN: Duration = Duration::from_secs(30);
/// The number of slots for ends, more than the descriptors of a process on the machines that run
/// this.
const MAX_CONNS: u32 = 20_000;
/// The number of buffers that are collected before another thread drops them.
const DISCARDS: usize = 32;

/// The fixed part of the permitted growth of memory between the first tenth and the end, for late
/// warm-up; the other part is a quarter.
const MAX_GROWTH_KIB: usize = 32 * 1024;

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) counts: Counts,
    pub(crate) took: Duration,
    /// The memory in use, in KiB, when a tenth, a half and all of the connections were over.
    pub(crate) memory_kib: [usize; 3],
    /// The system resources that the process had before the run and has again after it.
    pub(crate) holdings: Holdings,
}

/// The state that all workers share.
struct Campaign {
    settings: Settings,
    file_source: FileSource,
    port: CompletionPort,
    notify: Notify,
    exchanges: Exchanges,
    tables: Vec<Arc<SlotTable>>,
    /// The ports where peers are served, by lane; those where they are turned away; one without a
    /// listener.
    serving: Vec<u16>,
    turning_away: Vec<u16>,
    nobody: u16,
    /// The number of the next connection.
    next: AtomicU32,
    /// One more than the number of the last connection, unless the time is over before.
    last: AtomicU32,
    /// The number of ends of connections that are not over, including peers on their way to another
    /// lane.
    live: AtomicUsize,
    clients_over: AtomicU32,
    listeners_open: AtomicUsize,
    workers: AtomicUsize,
    failed: AtomicBool,
    faults: Mutex<Vec<String>>,
    counts: Mutex<Counts>,
    discards: Mutex<Vec<Buffer>>,
    /// True exactly when no more buffers will be passed to the thread that drops them.
    discards_end: AtomicBool,
}

/// Runs a campaign. The error describes the violation.
pub(crate) fn run(settings: Settings) -> Result<Report, String> {
    assert!(
        (1..=MAX_CONNECTIONS).contains(&settings.connections),
        "every connection has an address of its own"
    );
    let before = Holdings::now();
    let started = Instant::now();
    let campaign = Campaign::open(settings).map_err(|error| error.to_string())?;
    campaign.start().map_err(|error| error.to_string())?;
    let memory_kib = campaign.watch()?;
    campaign.check_end()?;
    let took = started.elapsed();
    let counts = lock(&campaign.counts).clone();
    campaign.check_counts(&counts)?;
    drop(campaign);
    let after = Holdings::now();
    if after != before {
        return Err(format!(
            "system resources leaked: {before:?} before the run, {after:?} after it"
        ));
    }
    let [early, _, late] = memory_kib;
    if late > early + early / 4 + MAX_GROWTH_KIB {
        return Err(format!("memory grows with the connections, KiB: {memory_kib:?}"));
    }
    Ok(Report { counts, took, memory_kib, holdings: after })
}

impl Settings {
    /// Returns whether one worker takes all completions of a socket.
    fn is_ordered(&self) -> bool {
        self.layout == Layout::Pinned
    }

    /// Returns whether a failed or cancelled send may have left in part.
    fn failed_sends_are_doubtful(&self) -> bool {
        matches!(self.backend, Backend::Iocp)
    }
}

/// The beginning and the end.
impl Campaign {
    fn open(settings: Settings) -> std::io::Result<Arc<Self>> {
        let options = Options {
            layout: Some(settings.layout),
            io_workers: settings.workers.into(),
            buffer_bytes: 16 * 1024,
            guard_buffers: settings.guarded,
            read_mode: settings.read_mode,
            ..Options::default()
        };
        let file_source = FileSource::new(settings.plan.seed, settings.backend.clone(), &options)?;
        let (port, _) = CompletionPort::open(settings.backend.clone(), &options)?;
        let listen = || port.listen(any_port(), ListenOptions::default());
        let mut tables = Vec::new();
        let mut serving = Vec::new();
        let mut turning_away = Vec::new();
        for lane in 0..port.lanes() {
            let serves = listen()?;
            let turns_away = listen()?;
            serving.push(serves.local_address().port());
            turning_away.push(turns_away.local_address().port());
            let listeners =
                vec![ListenerSlot::new(serves, true), ListenerSlot::new(turns_away, false)];
            tables.push(Arc::new(SlotTable::new(LaneId(lane as u16), MAX_CONNS, listeners)));
        }
        // The port of a closed listener.
        let nobody = listen()?.local_address().port();
        let connections = settings.connections;
        Ok(Arc::new(Self {
            notify: port.notify(),
            exchanges: Exchanges::new(settings.plan, settings.connections),
            listeners_open: AtomicUsize::new(2 * tables.len()),
            workers: AtomicUsize::new(settings.workers.into()),
            settings,
            file_source,
            port,
            tables,
            serving,
            turning_away,
            nobody,
            next: AtomicU32::new(0),
            last: AtomicU32::new(connections),
            live: AtomicUsize::new(0),
            clients_over: AtomicU32::new(0),
            failed: AtomicBool::new(false),
            faults: Mutex::default(),
            counts: Mutex::default(),
            discards: Mutex::default(),
            discards_end: AtomicBool::new(false),
        }))
    }

    fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let background = self.clone();
        self.port.spawn_background("discards", move |_| background.drop_discards())?;
        for number in 0..usize::from(self.settings.workers) {
            let table = self.tables[number % self.tables.len()].clone();
            let lane = table.lane;
            let mut worker = Worker::new(self.clone(), table, number as u64);
            self.port.spawn(lane, &format!("stress-{number}"), move |lane| worker.step(lane))?;
        }
        Ok(())
    }

    /// Waits for the workers and prints their progress. Returns the memory at a tenth, a half and
    /// the end.
    fn watch(&self) -> Result<[usize; 3], String> {
        let started = Instant::now();
        let mut tenths = 0;
        let mut memory_kib = [0; 3];
        let mut completed = 0;
        let mut looks_in_vain = 0;
        loop {
            let ended = || (self.workers.load(Ordering::Acquire) == 0).then_some(());
            let ended = self.notify.wait_until(Some(LOOK), ended).is_some();
            let now = self.port.counters().completed;
            while tenths < if ended { 10 } else { self.tenths(started.elapsed()) } {
                tenths += 1;
                let over = self.clients_over.load(Ordering::Relaxed);
                let kib = posthouse_process::memory_bytes() >> 10;
                let seconds = started.elapsed().as_secs();
                println!(
                    "{tenths}0 %: {over} connections, {now} operations, {kib} KiB, {seconds} s"
                );
                match tenths {
                    1 => memory_kib = [kib; 3],
                    5 => memory_kib[1..].fill(kib),
                    _ => memory_kib[2] = kib,
                }
            }
            if ended {
                break;
            }
            looks_in_vain = if now == completed { looks_in_vain + 1 } else { 0 };
            completed = now;
            if looks_in_vain > MAX_LOOKS_IN_VAIN {
                return Err(format!("no operation completes any more\n{}", self.describe()));
            }
        }
        let faults = lock(&self.faults);
        if faults.is_empty() { Ok(memory_kib) } else { Err(faults.join("\n")) }
    }

    /// Returns the elapsed tenths of the connections or of the time, whichever are more. Stops the
    /// beginning of connections when the time is over.
    fn tenths(&self, elapsed: Duration) -> u32 {
        let over = self.clients_over.load(Ordering::Relaxed);
        let of_connections = 10 * u64::from(over) / u64::from(self.settings.connections);
        let of_time = self.settings.max_time.map_or(0, |max| {
            if elapsed >= max {
                self.last.fetch_min(self.next.load(Ordering::Acquire), Ordering::AcqRel);
                self.wake_all();
            }
            10 * elapsed.as_millis() / max.as_millis()
        });
        of_connections.max(of_time as u64).min(9) as u32
    }

    /// Checks that nothing is left after the end.
    fn check_end(&self) -> Result<(), String> {
        self.discards_end.store(true, Ordering::Release);
        self.port.wake_background();
        let drained = self.port.drain(MAX_DRAIN);
        if drained != Drained::default() {
            return Err(format!("workers or operations left after the end: {drained:?}"));
        }
        let counters = self.port.counters();
        let Counters { submitted, completed, sockets, buffers_used, .. } = counters;
        if submitted != completed || sockets > 0 || buffers_used > 0 {
            return Err(format!("operations, sockets or buffers left after the end: {counters:?}"));
        }
        self.exchanges.finish()
    }

    /// Checks that the campaign's own counts equal the port's.
    fn check_counts(&self, counts: &Counts) -> Result<(), String> {
        let counters = self.port.counters();
        let own = [Count::Submitted, Count::Completed].map(|count_of| counts.get(count_of));
        if own != [counters.submitted, counters.completed] {
            return Err(format!(
                "submitted and completed: {own:?} by the campaign's count, but {counters:?}"
            ));
        }
        let last = self.last.load(Ordering::Acquire);
        if counts.get(Count::Clients) < last.into() {
            return Err(format!("only {} of {last} connections began", counts.get(Count::Clients)));
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let mut text = format!("{:?}\n", self.port.counters());
        let load = |number: &AtomicUsize| number.load(Ordering::Relaxed);
        let live = load(&self.live);
        let listeners = load(&self.listeners_open);
        let next = self.next.load(Ordering::Relaxed);
        let _ = writeln!(text, "{next} begun, {live} ends open, {listeners} listeners open");
        self.tables.iter().for_each(|table| table.describe(&mut text));
        text
    }
}

/// The methods that workers call.
impl Campaign {
    fn next_number(&self) -> Option<u32> {
        // The end is counted before it is passed on, so that no worker sees the end of the campaign
        // between the two steps.
        self.conn_begins();
        let number = self.next.fetch_add(1, Ordering::AcqRel);
        if number < self.last.load(Ordering::Acquire) {
            return Some(number);
        }
        self.next.fetch_sub(1, Ordering::AcqRel);
        self.conn_goes();
        None
    }

    fn clients_of_lane(&self) -> usize {
        if self.have_all_begun() {
            return 0;
        }
        usize::from(self.settings.at_once) / self.tables.len()
    }

    fn conn_begins(&self) {
        self.live.fetch_add(1, Ordering::AcqRel);
    }

    fn conn_goes(&self) {
        if self.live.fetch_sub(1, Ordering::AcqRel) == 1 && self.is_at_its_end() {
            self.wake_all();
        }
    }

    fn conn_is_over(&self, number: u32, side: Side, summary: ConnSummary) -> Result<(), String> {
        self.exchanges.end(number, side, summary)?;
        if side == Side::Client {
            self.clients_over.fetch_add(1, Ordering::Relaxed);
        }
        self.conn_goes();
        Ok(())
    }

    /// Returns whether there is no end, and none will come except from the queues of listeners.
    fn is_at_its_end(&self) -> bool {
        self.have_all_begun() && self.live.load(Ordering::Acquire) == 0
    }

    fn have_all_begun(&self) -> bool {
        self.next.load(Ordering::Acquire) >= self.last.load(Ordering::Acquire)
    }

    fn is_over(&self) -> bool {
        let closed = self.listeners_open.load(Ordering::Acquire) == 0 && self.is_at_its_end();
        closed || self.failed.load(Ordering::Acquire)
    }

    fn listener_ends(&self) {
        if self.listeners_open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wake_all();
        }
    }

    fn worker_ends(&self, counts: &Counts) {
        lock(&self.counts).merge(counts);
        self.workers.fetch_sub(1, Ordering::AcqRel);
        // In the shared layout a wake-up reaches one worker, so each worker wakes the next.
        self.wake_all();
        self.notify.notify_all();
    }

    fn fault(&self, what: String) {
        lock(&self.faults).push(what);
        self.failed.store(true, Ordering::Release);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.tables.iter().for_each(|table| self.port.wake(table.lane));
    }

    /// Passes a peer to a random lane.
    fn move_peer(&self, new: NewSocket, random: u64) {
        let table = &self.tables[(random % self.tables.len() as u64) as usize];
        lock(&table.moved).push(new);
        self.port.wake(table.lane);
    }

    /// Passes a buffer to another thread, which drops it.
    fn discard(&self, buffer: Buffer) {
        let mut discards = lock(&self.discards);
        discards.push(buffer);
        if discards.len() == DISCARDS {
            self.port.wake_background();
        }
    }

    fn drop_discards(&self) -> Turn {
        let end = self.discards_end.load(Ordering::Acquire);
        drop(std::mem::take(&mut *lock(&self.discards)));
        if end { Turn::Done } else { Turn::Sleep(None) }
    }

    fn address_of(&self, number: u32) -> Address {
        let lane = number as usize % self.tables.len();
        let port = match Script::of(self.settings.plan, number).target {
            Target::Serving => self.serving[lane],
            Target::TurningAway => self.turning_away[lane],
            Target::Nobody => self.nobody,
        };
        SocketAddr::from((Ipv4Addr::from(FIRST_ADDRESS + number), port)).into()
    }

    fn number_of(address: Address) -> Result<u32, String> {
        let number = match address.ip() {
            IpAddr::V4(ip) => u32::from(ip).checked_sub(FIRST_ADDRESS),
            IpAddr::V6(_) => None,
        };
        number.ok_or_else(|| format!("a peer was accepted at {address}"))
    }
}

/// Returns the address of any port at every address of this machine.
fn any_port() -> Address {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()
}
