//! The workers of the world: the runnable and the sleeping ones, and the run of one step.

use super::lane::SimLane;
use super::log::Note;
use super::port::SimPort;
use super::world::{Event, World};
use super::{LaneAddr, Nanos, Network, duration, nanos};
use crate::lane::IoStep;
use crate::lane::{Lane, LaneKind};
use crate::options::Layout;
use crate::sync::{Arc, MutexGuard};
use crate::token::Socket;
use crate::turn::{BackgroundStep, Turn, run_step};

/// The maximum number of completions per step: that of a real batch, and at random less, so that
/// workers interleave at every completion.
const MAX_BATCH_PINNED: usize = 256;
const MAX_BATCH_SHARED: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Runnable,
    Running,
    /// The worker sleeps. If it has a deadline, `World::timers` has an entry for it at this time.
    Sleeping(Option<Nanos>),
    Ended,
}

pub(super) enum Step {
    Io(IoStep),
    Background(BackgroundStep),
    /// The step of a script, which has no port.
    Script(BackgroundStep),
}

/// The step of a worker, with its port. It leaves the world while a step runs, and is dropped
/// outside of it.
pub(super) struct WorkerBody {
    step: Step,
    /// The worker's port; `None` for a script.
    port: Option<Arc<SimPort>>,
}

pub(super) struct Worker {
    name: Box<str>,
    /// The number of the worker's port; `None` for a script.
    port: Option<usize>,
    at: Option<LaneAddr>,
    state: State,
    body: Option<WorkerBody>,
    /// For background workers and scripts, true exactly when a wake-up came while it ran.
    woken: bool,
}

impl World {
    pub(super) fn start(
        &mut self,
        port: Arc<SimPort>,
        at: Option<LaneAddr>,
        name: &str,
        step: Step,
    ) {
        let worker = self.workers.len();
        let number = port.number();
        self.ports[number].workers += 1;
        match at {
            Some(at) => self.lane(at).started += 1,
            None => self.ports[number].background.push(worker),
        }
        let body = WorkerBody { step, port: Some(port) };
        self.add_worker(name, Some(number), at, body);
    }

    pub(super) fn start_script(&mut self, name: &str, step: BackgroundStep) {
        self.scripts.push(self.workers.len());
        let body = WorkerBody { step: Step::Script(step), port: None };
        self.add_worker(name, None, None, body);
    }

    fn add_worker(
        &mut self,
        name: &str,
        port: Option<usize>,
        at: Option<LaneAddr>,
        body: WorkerBody,
    ) {
        self.runnable.push(self.workers.len());
        self.workers.push(Worker {
            name: name.into(),
            port,
            at,
            state: State::Runnable,
            body: Some(body),
            woken: false,
        });
    }

    /// Ends all scripts, none of which may run. The result must be dropped outside of the world.
    pub(super) fn end_scripts(&mut self) -> Vec<WorkerBody> {
        let scripts = std::mem::take(&mut self.scripts);
        self.runnable.retain(|worker| !scripts.contains(worker));
        self.timers.retain(|(_, worker)| !scripts.contains(worker));
        let end = |worker: usize| {
            self.workers[worker].state = State::Ended;
            self.workers[worker].body.take()
        };
        scripts.into_iter().filter_map(end).collect()
    }

    // ---- waking ----

    /// Makes a worker runnable if it sleeps.
    pub(super) fn make_runnable(&mut self, worker: usize) {
        let State::Sleeping(deadline) = self.workers[worker].state else { return };
        if let Some(at) = deadline {
            self.timers.remove(&(at, worker));
        }
        if let Some(at) = self.workers[worker].at {
            self.lane(at).sleeping.retain(|sleeping| *sleeping != worker);
        }
        self.workers[worker].state = State::Runnable;
        self.runnable.push(worker);
        self.note(Note::Woken, worker as u64, 0);
    }

    /// Wakes a sleeping worker of the lane for a completion that has been queued.
    pub(super) fn call_for(&mut self, at: LaneAddr) {
        if let Some(worker) = self.any_sleeping(at) {
            self.make_runnable(worker);
        }
    }

    fn any_sleeping(&mut self, at: LaneAddr) -> Option<usize> {
        let sleeping = &self.ports[at.port].lanes[at.lane].sleeping;
        match sleeping.len() {
            0 => None,
            1 => Some(sleeping[0]),
            many => Some(sleeping[self.random.below(many)]),
        }
    }

    pub(super) fn wake_lane(&mut self, at: LaneAddr) {
        if let Some(worker) = self.any_sleeping(at) {
            return self.wake_soon(worker);
        }
        let running = self.running.is_some_and(|worker| self.workers[worker].at == Some(at));
        let lane = self.lane(at);
        // A worker that is about to run will see the reason of the wake-up.
        let about_to_run = lane.started - lane.ended - usize::from(running);
        lane.woken |= about_to_run == 0;
    }

    pub(super) fn wake_background(&mut self, port: usize) {
        for i in 0..self.ports[port].background.len() {
            let worker = self.ports[port].background[i];
            match self.workers[worker].state {
                State::Sleeping(_) => self.wake_soon(worker),
                State::Running => self.workers[worker].woken = true,
                State::Runnable | State::Ended => {}
            }
        }
    }

    /// Wakes all scripts if something happened to a socket that no lane has, so that any of them
    /// may wait for it.
    pub(super) fn wake_scripts(&mut self, socket: Socket) {
        if self.scripts.is_empty() || self.table.lane(socket).is_some() {
            return;
        }
        for i in 0..self.scripts.len() {
            let worker = self.scripts[i];
            match self.workers[worker].state {
                State::Sleeping(_) => self.make_runnable(worker),
                State::Running => self.workers[worker].woken = true,
                State::Runnable | State::Ended => {}
            }
        }
    }

    /// Wakes a sleeping worker, now or late.
    fn wake_soon(&mut self, worker: usize) {
        if self.random.chance(self.faults.wake_late_ppm) {
            self.fault_counts.wake_late += 1;
            let when = self.now + self.random.time(&self.faults.wake_delay);
            self.schedule(when, Event::Wake { worker });
        } else {
            self.make_runnable(worker);
        }
    }

    pub(super) fn wake_worker_now(&mut self, worker: usize) {
        self.make_runnable(worker);
    }

    // ---- running ----

    pub(super) fn maybe_jump(&mut self) {
        if self.random.chance(self.faults.clock_jump_ppm) {
            self.fault_counts.clock_jump += 1;
            let jump = self.random.time(&self.faults.clock_jump);
            self.note(Note::Jump, jump, 0);
            self.move_to(self.now + jump);
        }
    }

    /// Takes a random runnable worker to run a step.
    fn begin(&mut self) -> Option<(usize, WorkerBody)> {
        if self.runnable.is_empty() {
            return None;
        }
        let chosen = self.random.below(self.runnable.len());
        let worker = self.runnable.swap_remove(chosen);
        let this = &mut self.workers[worker];
        this.state = State::Running;
        let body = this.body.take().expect("a runnable worker has its step");
        self.running = Some(worker);
        self.note(Note::Step, worker as u64, 0);
        Some((worker, body))
    }

    /// Returns a worker to the world after its step. The result must be dropped outside of the
    /// world.
    fn finish(&mut self, worker: usize, turn: Turn, body: WorkerBody) -> Option<WorkerBody> {
        self.running = None;
        let since = self.now;
        if turn == Turn::Done {
            self.end(worker);
            return Some(body);
        }
        self.workers[worker].body = Some(body);
        let deadline = match turn {
            Turn::Sleep(None) => Some(None),
            // A deadline past the end of time counts as none.
            Turn::Sleep(Some(time)) => {
                Some(since.checked_add(nanos(time)).filter(|at| *at < Nanos::MAX))
            }
            Turn::Again | Turn::Done => None,
        };
        match deadline {
            Some(deadline) if deadline != Some(since) && !self.is_called(worker) => {
                self.sleep(worker, deadline);
            }
            _ => {
                self.workers[worker].state = State::Runnable;
                self.runnable.push(worker);
            }
        }
        None
    }

    /// Returns whether the worker must not sleep: a wake-up came meanwhile, or there are
    /// completions.
    fn is_called(&mut self, worker: usize) -> bool {
        let this = &mut self.workers[worker];
        let woken = std::mem::take(&mut this.woken);
        let Some(at) = this.at else { return woken };
        let lane = self.lane(at);
        std::mem::take(&mut lane.woken) || !lane.is_empty()
    }

    fn sleep(&mut self, worker: usize, deadline: Option<Nanos>) {
        self.note(Note::Asleep, worker as u64, deadline.unwrap_or(Nanos::MAX));
        self.workers[worker].state = State::Sleeping(deadline);
        if let Some(at) = deadline {
            self.timers.insert((at, worker));
        }
        if let Some(at) = self.workers[worker].at {
            self.lane(at).sleeping.push(worker);
        }
        if self.random.chance(self.faults.wake_spurious_ppm) {
            self.fault_counts.wake_spurious += 1;
            let when = self.now + self.random.time(&self.faults.wake_delay);
            self.schedule(when, Event::Wake { worker });
        }
    }

    fn end(&mut self, worker: usize) {
        self.note(Note::Ended, worker as u64, 0);
        self.workers[worker].state = State::Ended;
        match self.workers[worker].port {
            Some(port) => self.ports[port].workers -= 1,
            None => self.scripts.retain(|script| *script != worker),
        }
        let at = self.workers[worker].at;
        let Some(at) = at else { return };
        let lane = self.lane(at);
        lane.ended += 1;
        if lane.has_no_worker_left() {
            self.discard_left(at);
        }
        let lane = self.lane(at);
        if lane.has_no_worker_left() && !lane.is_empty() {
            let name = self.workers[worker].name.clone();
            self.bug(&format!("a lost completion: worker {name} ends and leaves it in its lane"));
        }
        // Another worker of the lane takes over the work that this one was woken for.
        if lane.woken || !lane.is_empty() {
            self.call_for(at);
        }
    }

    /// Returns whether the running step should end early.
    pub(super) fn should_yield(&mut self) -> bool {
        let yes = self.random.chance(self.faults.yield_ppm);
        self.fault_counts.yields += u64::from(yes);
        yes
    }

    /// Draws the maximum number of completions for the next step of a worker, from 1 to the largest
    /// batch of the layout.
    fn batch(&mut self, layout: Layout) -> usize {
        let most = match layout {
            Layout::Pinned => MAX_BATCH_PINNED,
            Layout::Shared => MAX_BATCH_SHARED,
        };
        1 + self.random.below(most)
    }
}

/// A guard that is dropped only if a step panics.
struct Unwinding<'a>(&'a Network);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        self.0.lock().break_off();
    }
}

impl Network {
    /// Runs one step of one worker, with the world's lock released. Returns false if no worker is
    /// runnable.
    pub(super) fn run_worker(&self, mut world: MutexGuard<'_, World>) -> bool {
        let Some((worker, mut body)) = world.begin() else { return false };
        let opened = body.port.as_ref().map_or(0, |port| port.opened());
        let now = duration(world.now - opened);
        let at = world.workers[worker].at;
        let batch = body.port.as_ref().map_or(0, |port| world.batch(port.layout()));
        drop(world);
        let unwinding = Unwinding(self);
        let turn = match (&mut body.step, at) {
            (Step::Io(step), Some(at)) => {
                let kind = SimLane::new(self.clone(), worker, at, now, batch);
                let mut lane = Lane { kind: LaneKind::Simulated(kind) };
                run_step(|| step(&mut lane))
            }
            (Step::Background(step) | Step::Script(step), _) => run_step(|| step(now)),
            (Step::Io(_), None) => unreachable!("an I/O worker has a lane"),
        };
        std::mem::forget(unwinding);
        let ended = self.lock().finish(worker, turn, body);
        drop(ended);
        true
    }
}
