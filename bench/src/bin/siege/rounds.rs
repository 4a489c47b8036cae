//! The phases of one round, and the figures of each.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use posthouse_bench::processes::{PEER_CORE, SERVER_CORE};
use posthouse_bench::statistics::median;

use crate::attack::Totals;
use crate::fixture::Fixture;
use crate::honest::{BIN, Bin};
use crate::interrupt;
use crate::memory::{self, Group, Memory};
use crate::process::{self, ANSWER, Process};
use crate::server::Ending;

const MEMORY_EVERY: Duration = Duration::from_millis(20);
/// The share of the normal goodput at which the honest peers are back to normal.
pub(crate) const NORMAL_SHARE: f64 = 0.9;
/// The time for which the memory of the server is observed before it has a peer.
const IDLE: Duration = Duration::from_secs(1);
/// The duration of the phase before the first round. The server keeps no hash of a file that is
/// younger than 5 s.
const WARM_UP: Duration = Duration::from_secs(6);
/// The longest wait for a line of the honest peers, which report every [`BIN`].
const REPORT: Duration = Duration::from_secs(5);
/// The longest wait for the end of the attackers after the time of the attack.
const ATTACK_END: Duration = Duration::from_secs(10);

/// The durations of the phases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Durations {
    pub(crate) normal: Duration,
    pub(crate) attack: Duration,
    /// The longest wait until the goodput is back to normal.
    pub(crate) recovery: Duration,
}

/// The parameters of the measurement.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) durations: Durations,
    /// The names of the kinds of attack, with commas between them. An empty text means all.
    pub(crate) only: String,
    /// The maximum number of turns with frames of one attacking connection in a second. 0: no
    /// limit.
    pub(crate) turns_per_second: u64,
}

/// The figures of one phase.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phase {
    pub(crate) bins: Vec<Bin>,
    pub(crate) memory: Memory,
    pub(crate) resident_peak: u64,
    /// The shares of a core that the server, the sink, the honest peers and the attackers had.
    pub(crate) cores: [f64; 4],
    /// The totals of the attackers, one entry a kind.
    pub(crate) totals: Vec<(String, Totals)>,
    /// The counters of the endpoint at the end of the phase.
    pub(crate) stats: String,
}

impl Phase {
    fn seconds(&self) -> f64 {
        (self.bins.len() as f64 * BIN.as_secs_f64()).max(f64::MIN_POSITIVE)
    }

    /// Returns the bytes per second.
    pub(crate) fn goodput(&self) -> f64 {
        self.bins.iter().map(|bin| bin.bytes).sum::<u64>() as f64 / self.seconds()
    }

    /// Returns the operations per second.
    pub(crate) fn operations(&self) -> f64 {
        self.bins.iter().map(|bin| bin.operations).sum::<u64>() as f64 / self.seconds()
    }

    pub(crate) fn sum(&self, figure: impl Fn(&Bin) -> u64) -> u64 {
        self.bins.iter().map(figure).sum()
    }

    pub(crate) fn worst(&self, figure: impl Fn(&Bin) -> u64) -> u64 {
        self.bins.iter().map(figure).max().unwrap_or(0)
    }
}

/// The figures of one round.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) normal: Phase,
    pub(crate) sink: Phase,
    pub(crate) server: Phase,
    /// The time from the end of the attack on the server until the end of the first second with
    /// normal goodput.
    pub(crate) recovery: Option<Duration>,
}

/// The reason why a backend has no figures.
#[derive(Debug)]
pub(crate) enum NoSiege {
    /// The backend cannot run here. It is left out, with this reason.
    NotAvailable(String),
    Failed(String),
}

impl From<String> for NoSiege {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// The server, the sink and the honest peers of one backend. The fields are dropped in their order:
/// the honest peers end before the server, and the server before its group is removed.
pub(crate) struct Siege {
    honest: Process,
    server: Process,
    sink: Process,
    group: Group,
    server_at: [SocketAddr; 2],
    sink_at: [SocketAddr; 2],
    plan: Plan,
    /// The goodputs of the normal phases so far.
    normal: Vec<f64>,
    /// The memory of the server before its first peer.
    pub(crate) idle: Memory,
    pub(crate) memory_text: &'static str,
}

impl Siege {
    pub(crate) fn start(backend: &str, fixture: &Fixture, plan: Plan) -> Result<Self, NoSiege> {
        let group = Group::create();
        let root = fixture.root().as_os_str();
        let mut arguments: Vec<&OsStr> = vec![backend.as_ref(), root];
        arguments.extend(group.path().map(Path::as_os_str));
        let mut server = Process::start(SERVER_CORE, "server", &arguments)?;
        let line = server.line(ANSWER)?;
        if let Some(reason) = line.strip_prefix("not available: ") {
            return Err(NoSiege::NotAvailable(reason.to_owned()));
        }
        let server_at = addresses(&line)?;
        let mut sink = Process::start::<&str>(SERVER_CORE, "sink", &[])?;
        let sink_at = addresses(&sink.line(ANSWER)?)?;
        let begin = Instant::now();
        let mut idle = Memory::default();
        while begin.elapsed() < IDLE {
            thread::sleep(MEMORY_EVERY);
            idle = idle.max(group.read(server.id()));
        }
        let at = texts(server_at);
        let arguments: [&OsStr; 3] = [at[0].as_ref(), at[1].as_ref(), root];
        let honest = Process::start(PEER_CORE, "honest", &arguments)?;
        let memory_text = group.describe();
        let normal = Vec::new();
        Ok(Self {
            honest,
            server,
            sink,
            group,
            server_at,
            sink_at,
            plan,
            normal,
            idle,
            memory_text,
        })
    }

    /// Lets the honest peers work before the first round, so that the caches and the memory settle,
    /// and the files get old enough for the server to keep their hashes.
    pub(crate) fn warm_up(&mut self) -> Result<(), String> {
        self.observe(None, WARM_UP).map(drop)
    }

    /// Runs the phases of one round. The sink is attacked first if `is_sink_first`, else the
    /// server.
    pub(crate) fn round(&mut self, is_sink_first: bool) -> Result<Round, String> {
        let normal = self.observe(None, self.plan.durations.normal)?;
        self.normal.push(normal.goodput());
        let mut attacked = [Phase::default(), Phase::default()];
        let mut recovery = None;
        for is_sink in [is_sink_first, !is_sink_first] {
            let attackers = self.attackers(if is_sink { self.sink_at } else { self.server_at })?;
            attacked[usize::from(!is_sink)] =
                self.observe(Some(attackers), self.plan.durations.attack)?;
            let pause = self.recover(median(&self.normal))?;
            if !is_sink {
                recovery = pause;
            }
        }
        let [sink, server] = attacked;
        Ok(Round { normal, sink, server, recovery })
    }

    fn attackers(&self, at: [SocketAddr; 2]) -> Result<Process, String> {
        let ms = self.plan.durations.attack.as_millis().to_string();
        let turns = self.plan.turns_per_second.to_string();
        let [plain, keyed] = texts(at);
        Process::start(PEER_CORE, "attack", &[plain, keyed, ms, self.plan.only.clone(), turns])
    }

    /// Observes the honest peers and the memory of the server.
    fn observe(&mut self, attackers: Option<Process>, duration: Duration) -> Result<Phase, String> {
        let server = self.server.id();
        memory::reset_peak(server);
        let mut phase = Phase::default();
        // What happened before this phase is not a part of it.
        self.bins().for_each(drop);
        let ids = [Some(&self.server), Some(&self.sink), Some(&self.honest), attackers.as_ref()]
            .map(|process| process.map(Process::id));
        let busy = || ids.map(|id| id.map_or(0.0, process::busy_seconds));
        let (begin, before) = (Instant::now(), busy());
        while begin.elapsed() < duration {
            thread::sleep(MEMORY_EVERY);
            interrupt::check()?;
            phase.memory = phase.memory.max(self.group.read(server));
            phase.bins.extend(self.bins());
        }
        let after = busy();
        let elapsed = begin.elapsed().as_secs_f64();
        phase.cores = std::array::from_fn(|i| (after[i] - before[i]) / elapsed);
        phase.resident_peak = memory::resident_peak(server);
        for process in [&mut self.server, &mut self.sink, &mut self.honest] {
            process.check()?;
        }
        phase.stats = self.server.ask()?;
        if let Some(mut attackers) = attackers {
            let lines = attackers.finish(ATTACK_END)?;
            phase.totals = lines.iter().filter_map(|line| totals(line)).collect();
        }
        Ok(phase)
    }

    /// Returns the events of the honest peers since the last call.
    fn bins(&self) -> impl Iterator<Item = Bin> {
        self.honest.new_lines().filter_map(|line| Bin::parse(&line))
    }

    /// Waits until the goodput of one second is back to normal and returns the time until then.
    fn recover(&mut self, normal: f64) -> Result<Option<Duration>, String> {
        let per_second = (Duration::from_secs(1).as_millis() / BIN.as_millis()) as usize;
        self.bins().for_each(drop);
        let begin = Instant::now();
        let mut second: Vec<Bin> = Vec::new();
        while begin.elapsed() < self.plan.durations.recovery {
            let line = self.honest.line(REPORT)?;
            second.push(Bin::parse(&line).ok_or_else(|| format!("no figures: `{line}`"))?);
            let last = &second[second.len().saturating_sub(per_second)..];
            let bytes: u64 = last.iter().map(|bin| bin.bytes).sum();
            if last.len() == per_second && bytes as f64 >= NORMAL_SHARE * normal {
                return Ok(Some(begin.elapsed()));
            }
        }
        Ok(None)
    }

    /// Ends the honest peers and then the server, and returns what the server reports in the end.
    pub(crate) fn end(mut self) -> Result<Ending, String> {
        self.honest.finish(ANSWER)?;
        let lines = self.server.finish(ANSWER)?;
        let ending = lines.iter().find_map(|line| Ending::parse(line));
        ending.ok_or_else(|| format!("the server did not report its end: {lines:?}"))
    }
}

fn addresses(line: &str) -> Result<[SocketAddr; 2], String> {
    process::addresses(line)
        .ok_or_else(|| format!("a server printed `{line}` instead of its addresses"))
}

fn texts(addresses: [SocketAddr; 2]) -> [String; 2] {
    addresses.map(|address| address.to_string())
}

/// Parses a line of the attackers.
fn totals(line: &str) -> Option<(String, Totals)> {
    let mut words = line.split(' ');
    let kind = words.next()?.to_owned();
    let mut number = || words.next()?.parse().ok();
    let (connects, ended, failed) = (number()?, number()?, number()?);
    Some((kind, Totals { connects, ended, failed, sent: number()?, received: number()? }))
}
