//! The world of a network: its clock, its events, its tables, and the reports of its checkers.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::IpAddr;

use super::disk::{PendingFileOp, Volume};
use super::faults::{FaultCounts, Faults};
use super::listener::LookUp;
use super::log::{Log, Note};
use super::port::PortState;
use super::random::Random;
use super::table::Table;
use super::worker::Worker;
use super::{LaneAddr, Nanos, duration};
use crate::address::Address;
use crate::error::Failure;
use crate::op::Cancel;
use crate::token::{Socket, Tag};

/// The whole state of a network, behind one lock. It calls no code outside: closures run, and
/// values whose drop locks the world are dropped, with the lock released.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) fault_counts: FaultCounts,
    pub(super) log: Log,
    pub(super) now: Nanos,
    pub(super) events: BinaryHeap<Scheduled>,
    /// The number of the last event or operation. Events of equal time happen in the order of these
    /// numbers.
    sequence: u64,
    /// The sleeping workers that have a deadline.
    pub(super) timers: BTreeSet<(Nanos, usize)>,
    pub(super) workers: Vec<Worker>,
    pub(super) runnable: Vec<usize>,
    pub(super) running: Option<usize>,
    /// The workers that are scripts and have not ended.
    pub(super) scripts: Vec<usize>,
    /// The number of steps and events since time last moved or an operation last succeeded.
    pub(super) idle: u64,
    pub(super) ports: Vec<PortState>,
    pub(super) table: Table,
    pub(super) disks: Vec<Volume>,
    pub(super) listening: BTreeMap<(IpAddr, u16), Socket>,
    pub(super) blackholes: BTreeSet<Address>,
    pub(super) names: BTreeMap<Box<str>, Vec<IpAddr>>,
    /// The hosts whose look-ups hang.
    pub(super) hung_names: BTreeSet<Box<str>>,
    /// The look-ups that hang, by port and host: each occupies a thread of its port.
    pub(super) hung_look_ups: BTreeSet<(usize, Box<str>)>,
    /// The look-ups that have not completed, by the number of their operation.
    pub(super) look_ups: BTreeMap<u64, LookUp>,
    /// Counters for the ports of connecting ends, and for those chosen for listeners.
    pub(super) ephemeral: u16,
    pub(super) chosen: u16,
    /// The report of a checker, kept so that code above that catches panics cannot hide it.
    bug: Option<String>,
    /// True exactly when a panic has ended a step. The counts are wrong then, and later checks
    /// would hide the first message.
    broken: bool,
}

/// A scheduled event.
#[derive(Debug)]
pub(super) enum Event {
    /// A piece of data reaches `to`.
    Arrive {
        to: Socket,
        from: Socket,
        bytes: usize,
    },
    /// The end of the other side's stream reaches `to`.
    End {
        to: Socket,
    },
    /// A reset reaches `to`.
    Reset {
        to: Socket,
    },
    /// A connection attempt reaches the other side.
    Syn {
        from: Socket,
        attempt: u32,
    },
    /// The answer to a connection attempt reaches its origin.
    Connected {
        to: Socket,
    },
    ConnectFailed {
        to: Socket,
        failure: Failure,
    },
    /// Pending receives of `to` complete with the data there is.
    Deliver {
        to: Socket,
    },
    /// A pending send of `from` checks the window.
    Push {
        from: Socket,
    },
    /// A pending accept checks the queue.
    AcceptReady {
        listener: Socket,
    },
    /// A cancel takes effect on operations that are older than it.
    Cancel {
        socket: Socket,
        what: Cancel,
        before: u64,
    },
    Closed {
        at: LaneAddr,
        socket: Socket,
        tag: Tag,
    },
    /// The system has the answer for a look-up, which may have been cancelled.
    Resolved {
        number: u64,
        tag: Tag,
    },
    Wake {
        worker: usize,
    },
    /// A part of a file operation takes effect.
    File(Box<PendingFileOp>),
    /// The watch of `to` sees the state of the stream.
    Look {
        to: Socket,
    },
    /// The system of `to` ends a connection whose other end has vanished.
    GiveUp {
        to: Socket,
    },
}

impl Event {
    /// Returns the event's code for the log: its kind and its subject.
    fn code(&self) -> (u64, u64) {
        let socket = |s: &Socket| u64::from(s.slot) << 32 | u64::from(s.generation);
        match self {
            Self::Arrive { to, .. } => (0, socket(to)),
            Self::End { to } => (1, socket(to)),
            Self::Reset { to } => (2, socket(to)),
            Self::Syn { from, .. } => (3, socket(from)),
            Self::Connected { to } => (4, socket(to)),
            Self::ConnectFailed { to, .. } => (5, socket(to)),
            Self::Deliver { to } => (6, socket(to)),
            Self::Push { from } => (7, socket(from)),
            Self::AcceptReady { listener } => (8, socket(listener)),
            Self::Cancel { socket: s, .. } => (9, socket(s)),
            Self::Closed { socket: s, .. } => (10, socket(s)),
            Self::Resolved { tag, .. } => (11, tag.0),
            Self::Wake { worker } => (12, *worker as u64),
            Self::File(work) => (13, work.tag().0),
            Self::Look { to } => (14, socket(to)),
            Self::GiveUp { to } => (15, socket(to)),
        }
    }
}

/// An event in the heap, in which the earliest is the greatest.
#[derive(Debug)]
pub(super) struct Scheduled {
    at: Nanos,
    sequence: u64,
    event: Event,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Scheduled {}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let localhost = IpAddr::from([127, 0, 0, 1]);
        Self {
            seed,
            random: Random::new(seed),
            faults,
            fault_counts: FaultCounts::default(),
            log: Log::default(),
            now: 0,
            events: BinaryHeap::new(),
            sequence: 0,
            timers: BTreeSet::new(),
            workers: Vec::new(),
            runnable: Vec::new(),
            running: None,
            scripts: Vec::new(),
            idle: 0,
            ports: Vec::new(),
            table: Table::default(),
            disks: Vec::new(),
            listening: BTreeMap::new(),
            blackholes: BTreeSet::new(),
            names: BTreeMap::from([("localhost".into(), vec![localhost])]),
            hung_names: BTreeSet::new(),
            hung_look_ups: BTreeSet::new(),
            look_ups: BTreeMap::new(),
            ephemeral: 0,
            chosen: 0,
            bug: None,
            broken: false,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub(super) fn schedule(&mut self, at: Nanos, event: Event) {
        let sequence = self.number();
        self.events.push(Scheduled { at, sequence, event });
    }

    /// Returns the arrival time of a piece that is sent now.
    pub(super) fn arrival(&mut self) -> Nanos {
        self.now + self.random.time(&self.faults.delay)
    }

    /// Returns the completion time of a submission that could finish now, if it does not finish at
    /// once.
    pub(super) fn later(&mut self) -> Nanos {
        self.fault_counts.delayed += 1;
        self.now + self.random.time(&self.faults.completion_delay)
    }

    /// Returns whether a submission that can finish at once does so.
    pub(super) fn at_once(&mut self) -> bool {
        let yes = self.random.chance(self.faults.immediate_ppm);
        self.fault_counts.immediate += u64::from(yes);
        yes
    }

    pub(super) fn note(&mut self, note: Note, a: u64, b: u64) {
        self.log.note(self.now, note, a, b);
    }

    /// Returns whether an event is due.
    pub(super) fn is_event_due(&self) -> bool {
        self.events.peek().is_some_and(|next| next.at <= self.now)
    }

    /// Moves time to the next event or deadline, but not beyond `limit`. Returns false if there is
    /// none up to then.
    pub(super) fn advance(&mut self, limit: Nanos) -> bool {
        let event = self.events.peek().map(|next| next.at);
        let timer = self.timers.first().map(|(at, _)| *at);
        let next = match (event, timer) {
            (Some(event), Some(timer)) => event.min(timer),
            (Some(at), None) | (None, Some(at)) => at,
            // Nothing can happen any more, so a waiter with a limit waits until then.
            (None, None) => {
                self.now = if limit == Nanos::MAX { self.now } else { self.now.max(limit) };
                return false;
            }
        };
        if next > limit {
            self.now = self.now.max(limit);
            return false;
        }
        self.move_to(next);
        true
    }

    /// Moves time forward, and wakes the workers whose deadline passes.
    pub(super) fn move_to(&mut self, now: Nanos) {
        if now > self.now {
            self.now = now;
            self.idle = 0;
        }
        while let Some((at, worker)) = self.timers.first().copied()
            && at <= self.now
        {
            self.make_runnable(worker);
        }
    }

    /// Takes the next event and performs it.
    pub(super) fn happen(&mut self) {
        let Some(Scheduled { event, .. }) = self.events.pop() else { return };
        let (kind, about) = event.code();
        self.note(Note::Event, kind, about);
        match event {
            Event::Arrive { to, from, bytes } => self.arrive(to, from, bytes),
            Event::End { to } => self.end_arrives(to),
            Event::Reset { to } => self.reset_arrives(to),
            Event::Syn { from, attempt } => self.syn_arrives(from, attempt),
            Event::Connected { to } => self.connected(to),
            Event::ConnectFailed { to, failure } => self.connect_failed(to, failure),
            Event::Deliver { to } => {
                if let Some(stream) = self.table.stream(to) {
                    stream.deliver_due = false;
                    self.deliver(to, false);
                }
            }
            Event::Push { from } => {
                if let Some(stream) = self.table.stream(from) {
                    stream.push_due = false;
                    self.push(from, false);
                }
            }
            Event::AcceptReady { listener } => self.accept_ready(listener, false),
            Event::Cancel { socket, what, before } => self.cancel_now(socket, what, before),
            Event::Closed { at, socket, tag } => self.closed(at, socket, tag, false),
            Event::Resolved { number, .. } => self.resolved(number),
            Event::Wake { worker } => self.wake_worker_now(worker),
            Event::File(work) => self.work(*work),
            Event::Look { to } => {
                if let Some(stream) = self.table.stream(to) {
                    stream.look_due = false;
                    self.look(to, false);
                }
            }
            Event::GiveUp { to } => self.give_up(to),
        }
    }

    /// Reports a bug of the framework above (or of this backend) that a checker has found. Panics.
    pub(super) fn bug(&mut self, text: &str) -> ! {
        let text = format!("simulation, seed {}, at {:?}: {text}", self.seed, duration(self.now));
        self.bug = Some(text.clone());
        panic!("{text}");
    }

    /// Records that a panic has ended a step.
    pub(super) fn break_off(&mut self) {
        self.broken = true;
    }

    /// Returns whether the counts are still expected to be right.
    pub(super) fn is_sound(&self) -> bool {
        self.bug.is_none() && !self.broken && !std::thread::panicking()
    }

    /// Repeats a report that code above has caught and ignored.
    pub(super) fn repeat_bug(&self) {
        if let Some(text) = &self.bug {
            assert!(std::thread::panicking(), "{text} (reported before, and caught)");
        }
    }
}
