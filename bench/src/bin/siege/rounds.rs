//! The phases of one round, and the figures of each.

use std::ffi::OsString;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::attack::Totals;
use crate::fixture::Fixture;
use crate::honest::{BIN, Bin};
use crate::memory::{self, Group, Memory};
use crate::process::{self, PEER_CORE, Process, SERVER_CORE};

const MEMORY_EVERY: Duration = Duration::from_millis(20);
/// The share of the normal goodput at which the honest peers are back to normal.
pub(crate) const NORMAL_SHARE: f64 = 0.9;
/// The time for which the memory of the server is observed before it has a peer.
const IDLE: Duration = Duration::from_secs(1);

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

/// The server, the sink and the honest peers of one backend. The fields are dropped in their order:
/// the honest peers end before the server, and the server before its group is removed.
pub(crate) struct Siege {
    honest: Process,
    server: Process,
    sink: Process,
    bins: Receiver<Bin>,
    group: Group,
    server_at: Vec<OsString>,
    sink_at: Vec<OsString>,
    plan: Plan,
    /// The memory of the server before its first peer.
    pub(crate) idle: Memory,
    pub(crate) memory_text: &'static str,
}

impl Siege {
    pub(crate) fn start(backend: &str, fixture: &Fixture, plan: Plan) -> Result<Self, String> {
        let group = Group::create();
        let root = fixture.root().as_os_str().to_owned();
        let mut arguments = vec!["server".into(), backend.into(), root.clone()];
        arguments.extend(group.path().map(|path| path.as_os_str().to_owned()));
        let mut server = Process::start(SERVER_CORE, &arguments)?;
        let server_at = texts(server.addresses()?);
        let mut sink = Process::start(SERVER_CORE, &["sink"])?;
        let sink_at = texts(sink.addresses()?);
        let begin = Instant::now();
        let mut idle = Memory::default();
        while begin.elapsed() < IDLE {
            thread::sleep(MEMORY_EVERY);
            idle = idle.max(group.read(server.id()));
        }
        let mut arguments = vec![OsString::from("honest")];
        arguments.extend_from_slice(&server_at);
        arguments.push(root);
        let mut honest = Process::start(PEER_CORE, &arguments)?;
        let lines = honest.take_output().ok_or("the honest peers have no output")?;
        let (sender, bins) = channel();
        thread::spawn(move || {
            for bin in lines.map_while(Result::ok).filter_map(|line| Bin::parse(&line)) {
                if sender.send(bin).is_err() {
                    break;
                }
            }
        });
        let memory_text = group.describe();
        Ok(Self { honest, server, sink, bins, group, server_at, sink_at, plan, idle, memory_text })
    }

    /// Runs the phases of one round: the sink is attacked first in every second round.
    pub(crate) fn round(&mut self, is_sink_first: bool) -> Result<Round, String> {
        let normal = self.observe(None, self.plan.durations.normal)?;
        let mut attacked = [Phase::default(), Phase::default()];
        let mut recovery = None;
        for is_sink in [is_sink_first, !is_sink_first] {
            let at = if is_sink { &self.sink_at } else { &self.server_at };
            let attackers = self.attackers(at)?;
            attacked[usize::from(!is_sink)] =
                self.observe(Some(attackers), self.plan.durations.attack)?;
            let pause = self.recover(normal.goodput())?;
            if !is_sink {
                recovery = pause;
            }
        }
        let [sink, server] = attacked;
        Ok(Round { normal, sink, server, recovery })
    }

    fn attackers(&self, at: &[OsString]) -> Result<Process, String> {
        let ms = self.plan.durations.attack.as_millis().to_string();
        let only = OsString::from(&self.plan.only);
        let turns = self.plan.turns_per_second.to_string();
        let [plain, keyed] = [at[0].clone(), at[1].clone()];
        let arguments = ["attack".into(), plain, keyed, ms.into(), only, turns.into()];
        Process::start(PEER_CORE, &arguments)
    }

    /// Observes the honest peers and the memory of the server.
    fn observe(&mut self, attackers: Option<Process>, duration: Duration) -> Result<Phase, String> {
        let server = self.server.id();
        memory::reset_peak(server);
        let mut phase = Phase::default();
        // What happened before this phase is not a part of it.
        self.bins.try_iter().for_each(drop);
        let ids = [Some(&self.server), Some(&self.sink), Some(&self.honest), attackers.as_ref()]
            .map(|process| process.map(Process::id));
        let busy = || ids.map(|id| id.map_or(0.0, process::busy_seconds));
        let (begin, before) = (Instant::now(), busy());
        while begin.elapsed() < duration {
            thread::sleep(MEMORY_EVERY);
            phase.memory = phase.memory.max(self.group.read(server));
            phase.bins.extend(self.bins.try_iter());
        }
        let after = busy();
        let elapsed = begin.elapsed().as_secs_f64();
        phase.cores = std::array::from_fn(|i| (after[i] - before[i]) / elapsed);
        phase.resident_peak = memory::resident_peak(server);
        phase.stats = self.server.ask()?;
        if let Some(mut attackers) = attackers {
            phase.totals = attackers.finish()?.lines().filter_map(totals).collect();
        }
        Ok(phase)
    }

    /// Waits until the goodput of one second is back to normal and returns the time until then.
    fn recover(&mut self, normal: f64) -> Result<Option<Duration>, String> {
        let per_second = (Duration::from_secs(1).as_millis() / BIN.as_millis()) as usize;
        self.bins.try_iter().for_each(drop);
        let begin = Instant::now();
        let mut second: Vec<Bin> = Vec::new();
        while begin.elapsed() < self.plan.durations.recovery {
            let bin = self.bins.recv_timeout(Duration::from_secs(5));
            second.push(bin.map_err(|_| "the honest peers do not report any more")?);
            let last = &second[second.len().saturating_sub(per_second)..];
            let bytes: u64 = last.iter().map(|bin| bin.bytes).sum();
            if last.len() == per_second && bytes as f64 >= NORMAL_SHARE * normal {
                return Ok(Some(begin.elapsed()));
            }
        }
        Ok(None)
    }
}

fn texts(addresses: [std::net::SocketAddr; 2]) -> Vec<OsString> {
    addresses.iter().map(|address| address.to_string().into()).collect()
}

/// Parses a line of the attackers.
fn totals(line: &str) -> Option<(String, Totals)> {
    let mut words = line.split(' ');
    let kind = words.next()?.to_owned();
    let mut number = || words.next()?.parse().ok();
    let (connects, ended, sent, received) = (number()?, number()?, number()?, number()?);
    Some((kind, Totals { connects, ended, sent, received }))
}
